"""One grid for all: put a coarse image on the fine grid, exactly, and lazily.

Coarse pixels that nest in the fine grid are repeated, which changes no value. Others
(MODIS in its sinusoidal grid, 463 m, on a UTM grid of 30 m) pass through a *nested*
coarse grid of `scale` fine pixels first:

    sinusoidal 463 m  --area mean-->  480 m on the fine grid's CRS  --repeat-->  30 m

so that a coarse pixel is always a whole number of fine ones. The nested grid is
anchored to the CRS, not to the image: clipping an image does not move it. Area means
are those of `area_mean`, which average every pixel where it lies; other resamplings are
GDAL's with its approximate transformer off (by default that misplaces MODIS by 14 m).
Both work in blocks that are fixed by the grid: lazy and eager results are equal bit for
bit.
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
import rasterio
import xarray as xr
from affine import Affine
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.enums import Resampling
from rasterio.io import MemoryFile
from rasterio.vrt import WarpedVRT

from geofuse.errors import (
    CRSMismatchError,
    GridMismatchError,
    ParameterError,
    UnknownNameError,
    did_you_mean,
)
from geofuse.rasters.area_mean import area_mean, corners_in, points_for
from geofuse.rasters.grid import (
    TOLERANCE,
    coordinates,
    describe,
    grid_of,
    note_snap,
    same_crs,
    shift_between,
)

#: Side of the blocks that are resampled at once, in pixels of the result.
BLOCK = 512

#: Largest error of GDAL's approximate transformer, in source pixels: half a millimeter
#: for MODIS. (rasterio 1.4 takes an exact 0 for an error of its own.)
TRANSFORM_ERROR = 1e-6

RESAMPLINGS = ("nearest", "bilinear", "cubic", "average", "mode")


class Nesting(NamedTuple):
    """How coarse pixels lie on a fine grid.

    Attributes:
        scale: Coarse GSD / fine GSD.
        offset: Row and column of the first corner of a coarse pixel, in [0, scale).
    """

    scale: int
    offset: tuple[int, int]


def align(
    image: xr.DataArray,
    *,
    like: xr.DataArray,
    scale: int | None = None,
    resampling: str | None = None,
) -> xr.DataArray:
    """Put an image on the grid of another, lazily.

    Args:
        image: The image to move, lazy or not.
        like: An image on the wanted grid.
        scale: Coarse GSD / fine GSD of the result: the image passes through a grid
            whose pixels are `scale` fine pixels. None where the image has the same
            pixels or nests in the fine grid already, or to resample straight onto it.
        resampling: nearest, bilinear, cubic, average or mode. By default `average`
            where pixels become larger, else `bilinear`.

    Returns:
        The image (band, y, x) on the grid of `like`, NaN outside its own extent. Its
        `time` and bands are kept. Attributes `scale` and `coarse_offset` say how coarse
        pixels lie on the fine grid, where they do, and `snapped` by how much of a pixel
        an image was moved that was meant to be on the grid of `like`.

    Raises:
        CRSMismatchError: One image has a CRS and the other none.
        GridMismatchError: The images do not overlap, or have no CRS and do not nest.
        ParameterError: `scale` is not a whole number above 1.
        UnknownNameError: There is no such resampling.
    """
    if scale is not None and (scale != int(scale) or scale < 2):
        raise ParameterError(
            "expected scale = coarse GSD / fine GSD, a whole number above 1, found "
            f"{scale}; MODIS on Landsat is 16"
        )
    if resampling is not None and resampling not in RESAMPLINGS:
        raise UnknownNameError(
            f"expected a resampling, found {resampling!r}; "
            f"{did_you_mean(resampling, RESAMPLINGS)}"
        )
    source, target = grid_of(image), grid_of(like)
    if (source.crs is None) != (target.crs is None):
        raise CRSMismatchError(
            f"expected a CRS on both or neither, found {describe(source)} and "
            f"{describe(target)}; assign the missing one with image.rio.write_crs or "
            "gdal_edit"
        )
    data = image.data if isinstance(image.data, da.Array) else da.from_array(image.data)
    if same_crs(source, target) and shift_between(target, source) < TOLERANCE:
        nesting = None if scale is None else Nesting(int(scale), (0, 0))
        snapped = _placed(data, image, target, nesting)
        note_snap(snapped, shift_between(target, source))
        return snapped
    if scale is None and on_one_lattice(source, target):
        _check_overlap(source, target, image)
        return _placed(_window(data, source, target), image, target, None)
    nesting = nesting_of(source, target)
    if nesting is None and source.crs is None:
        raise GridMismatchError(
            "expected images without CRS on one grid, or nested, found "
            f"{describe(source)} and {describe(target)}; give both a CRS, or cut them "
            "to one grid"
        )
    repeats = scale is not None or resampling in (None, "nearest")
    if nesting is not None and scale in (None, nesting.scale) and repeats:
        coarse = _coarse_grid(source, target, nesting)
        _check_overlap(source, target, image)
        return _placed(
            _repeat(_window(data, source, coarse), nesting, target),
            image,
            target,
            nesting,
        )
    _check_overlap(source, target, image)
    if scale is None:
        moved = _resample(data, source, target, resampling, BLOCK)
        return _placed(moved, image, target, None)
    nesting = Nesting(int(scale), _anchor(target, int(scale)))
    coarse = _coarse_grid(None, target, nesting)
    block = max(1, BLOCK // nesting.scale)
    moved = _resample(data, source, coarse, resampling, block)
    return _placed(_repeat(moved, nesting, target), image, target, nesting)


def scale_between(coarse: xr.DataArray, fine: xr.DataArray) -> int | None:
    """Coarse GSD / fine GSD from the grids of two images, as a whole number.

    Rounded up where the GSD are no multiples: a nested pixel is never smaller than the
    one that was measured (463 m on 30 m gives 16). None where the coarse image is on
    the fine grid, or is not coarser.
    """
    source, target = grid_of(coarse), grid_of(fine)
    nesting = nesting_of(source, target) if same_crs(source, target) else None
    if nesting is not None:
        return nesting.scale
    ratio = math.sqrt(_pixel_area(source, target) / abs(target.affine.determinant))
    scale = math.ceil(ratio - 0.05)
    return scale if scale >= 2 else None


def nesting_of(source: GeoBox, target: GeoBox) -> Nesting | None:
    """How the pixels of `source` nest in `target`, if they do; both in one CRS."""
    if not same_crs(source, target):
        return None
    fine, coarse = target.affine, source.affine
    ratios = (coarse.a / fine.a, coarse.e / fine.e)
    scale = round(ratios[0])
    size = max(*source.shape, *target.shape)
    if scale < 2 or any(abs(r - scale) * size > TOLERANCE * scale for r in ratios):
        return None
    column, row = ~fine * (coarse.c, coarse.f)
    if abs(column - round(column)) > TOLERANCE or abs(row - round(row)) > TOLERANCE:
        return None
    return Nesting(scale, (round(row) % scale, round(column) % scale))


def on_one_lattice(source: GeoBox, target: GeoBox) -> bool:
    """Whether two grids in one CRS have the same pixels and differ only in extent."""
    if not same_crs(source, target):
        return False
    fine, other = target.affine, source.affine
    size = max(*source.shape, *target.shape)
    ratios = (other.a / fine.a, other.e / fine.e)
    if any(abs(ratio - 1) * size > TOLERANCE for ratio in ratios):
        return False
    return all(
        abs(place - round(place)) < TOLERANCE for place in ~fine * (other.c, other.f)
    )


def find_replication(image: xr.DataArray, *, sample: int = 1024) -> Nesting | None:
    """Find the scale of a coarse image that lies on the fine grid as repeated pixels.

    Looks at a square in the middle of the image. None where values change from pixel to
    pixel (the image was interpolated), or hardly at all.

    Args:
        image: Image (band, y, x); a part of it is read.
        sample: Side of the square, in pixels.
    """
    rows, columns = image.shape[-2:]
    top, left = max(0, (rows - sample) // 2), max(0, (columns - sample) // 2)
    values = np.asarray(
        image[..., top : top + sample, left : left + sample]
        .transpose(..., "y", "x")
        .data
    )
    found = []
    for axis, start in ((-2, top), (-1, left)):
        ahead, behind = (
            np.take(values, range(first, values.shape[axis] + last), axis)
            for first, last in ((1, 0), (0, -1))
        )
        equal = (ahead == behind) | (np.isnan(ahead) & np.isnan(behind))
        others = tuple(a for a in range(values.ndim) if a != values.ndim + axis)
        edges = np.flatnonzero(~equal.all(axis=others)) + 1 + start
        step = int(np.gcd.reduce(np.diff(edges))) if len(edges) > 1 else 0
        if step < 2:
            return None
        found.append((step, int(edges[0] % step)))
    (rows_step, row), (columns_step, column) = found
    if rows_step != columns_step:
        return None
    return Nesting(rows_step, (row, column))


def _placed(
    data: da.Array, image: xr.DataArray, grid: GeoBox, nesting: Nesting | None
) -> xr.DataArray:
    """The moved pixels on the target's grid, with the image's own date and bands."""
    kept = {
        name: coordinate
        for name, coordinate in image.coords.items()
        if name not in ("y", "x", "spatial_ref")
        and not {"y", "x"} & set(coordinate.dims)
    }
    moved = xr.DataArray(
        data,
        dims=image.dims,
        coords={**kept, **coordinates(grid)},
        attrs=dict(image.attrs),
        name=image.name,
    )
    for name in ("scale", "coarse_offset"):
        moved.attrs.pop(name, None)
    if nesting is not None:
        moved.attrs.update(scale=nesting.scale, coarse_offset=nesting.offset)
    return moved


def _anchor(grid: GeoBox, scale: int) -> tuple[int, int]:
    """Offset of the coarse grid whose corners are multiples of its pixel in the CRS."""
    transform = grid.affine
    row = round(transform.f / transform.e)
    column = round(transform.c / transform.a)
    return (-row % scale, -column % scale)


def _coarse_grid(source: GeoBox | None, target: GeoBox, nesting: Nesting) -> GeoBox:
    """The nested coarse pixels that cover the target, cut pixels included."""
    scale = nesting.scale
    top, left = (start - scale if start else 0 for start in nesting.offset)
    rows, columns = (
        math.ceil((size - first) / scale)
        for size, first in zip(target.shape, (top, left), strict=True)
    )
    transform = target.affine * Affine.translation(left, top) * Affine.scale(scale)
    return GeoBox((rows, columns), transform, target.crs)


def _window(data: da.Array, source: GeoBox, wanted: GeoBox) -> da.Array:
    """The pixels of `wanted` from an image with the same pixels; NaN outside."""
    left, top = (round(v) for v in ~source.affine * (wanted.affine.c, wanted.affine.f))
    for axis, first, count in ((-2, top, wanted.shape[0]), (-1, left, wanted.shape[1])):
        size = data.shape[axis]
        start, stop = max(first, 0), max(0, min(first + count, size))
        part: list[Any] = [slice(None)] * data.ndim
        part[axis] = slice(start, stop)
        data = data[tuple(part)]
        before, after = start - first, first + count - stop
        if before or after:
            pad = [(0, 0)] * data.ndim
            pad[axis] = (before, after)
            data = da.pad(data, pad, constant_values=np.nan)
    return data


def _repeat(coarse: da.Array, nesting: Nesting, target: GeoBox) -> da.Array:
    """Repeat coarse pixels onto the fine grid."""
    scale = nesting.scale
    block = max(1, BLOCK // scale)
    coarse = coarse.rechunk({-1: block, -2: block})
    lead = coarse.chunks[:-2]
    fine = da.map_blocks(
        _repeat_block,
        coarse,
        scale,
        dtype=coarse.dtype,
        chunks=(
            *lead,
            *(tuple(n * scale for n in sizes) for sizes in coarse.chunks[-2:]),
        ),
    )
    top, left = ((scale - start) % scale for start in nesting.offset)
    rows, columns = target.shape
    return fine[..., top : top + rows, left : left + columns]


def _repeat_block(block: Any, scale: int) -> Any:
    return block.repeat(scale, axis=-2).repeat(scale, axis=-1)


def _pixel_area(source: GeoBox, target: GeoBox) -> float:
    """Area of a pixel of `source` at its center, in the CRS of `target`."""
    if source.crs is None or same_crs(source, target):
        return float(abs(source.affine.determinant))
    rows, columns = source.shape
    middle = (columns // 2, rows // 2)
    corners = [
        source.affine * (middle[0] + dx, middle[1] + dy)
        for dx, dy in ((0, 0), (1, 0), (0, 1))
    ]
    transformer = _transformer(source.crs, target.crs)
    (x0, y0), (x1, y1), (x2, y2) = (
        transformer.transform(*corner) for corner in corners
    )
    return float(abs((x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)))


def _transformer(source: Any, target: Any) -> Transformer:
    return Transformer.from_crs(source.proj, target.proj, always_xy=True)


@lru_cache(maxsize=16)
def _transformer_of(source: str, target: str) -> Transformer:
    """A transformer from WKT; making one takes longer than a block."""
    return Transformer.from_crs(source, target, always_xy=True)


def _check_overlap(source: GeoBox, target: GeoBox, image: xr.DataArray) -> None:
    if _source_window(source, target, margin=0) is None:
        raise GridMismatchError(
            f"expected images of one place, found {describe(source)} and "
            f"{describe(target)}, which do not meet; check that both files are of the "
            "same area"
        )


def _source_window(
    source: GeoBox, target: GeoBox, margin: int
) -> tuple[slice, slice] | None:
    """Rows and columns of `source` that meet `target`, and a margin around them."""
    rows, columns = target.shape
    steps = np.linspace(0.0, 1.0, 21)
    x, y = np.meshgrid(steps * columns, steps * rows)
    a = target.affine
    points = (a.c + x * a.a + y * a.b, a.f + x * a.d + y * a.e)
    if source.crs is not None and not same_crs(source, target):
        points = _transformer(target.crs, source.crs).transform(*points)
    inverse = ~source.affine
    column = inverse.c + points[0] * inverse.a + points[1] * inverse.b
    row = inverse.f + points[0] * inverse.d + points[1] * inverse.e
    known = np.isfinite(column) & np.isfinite(row)
    if not known.any():
        return None
    window = []
    for values, size in (
        (row[known], source.shape[0]),
        (column[known], source.shape[1]),
    ):
        start = max(0, math.floor(values.min()) - margin)
        stop = min(size, math.ceil(values.max()) + margin)
        if start >= stop:
            return None
        window.append(slice(start, stop))
    return window[0], window[1]


def _resample(
    data: da.Array, source: GeoBox, target: GeoBox, resampling: str | None, block: int
) -> da.Array:
    """Resample onto another grid, one task a block of the result."""
    ratio = math.sqrt(abs(target.affine.determinant) / _pixel_area(source, target))
    if resampling is None:
        resampling = "average" if ratio > 1 else "bilinear"
    # Cubic looks two source pixels away; where pixels become larger, kernels do too.
    margin = math.ceil(3 * max(ratio, 1.0)) + 2
    name = f"align-{tokenize(data.name, source, target, resampling, block)}"
    lead = data.shape[:-2]
    starts = [range(0, size, block) for size in target.shape]
    layer: dict[Any, Any] = {}
    parts: list[Any] = []
    for i, top in enumerate(starts[0]):
        for j, left in enumerate(starts[1]):
            piece = target[
                top : min(top + block, target.shape[0]),
                left : min(left + block, target.shape[1]),
            ]
            key = (name, *(0 for _ in lead), i, j)
            window = _source_window(source, piece, margin)
            if window is None:
                layer[key] = (_empty_block, (*lead, *piece.shape))
                continue
            part = data[(..., *window)].rechunk(-1)
            parts.append(part)
            block_key = (part.name, *(0 for _ in part.shape))
            if resampling == "average":
                origin = (window[0].start, window[1].start)
                layer[key] = (
                    _average_block,
                    block_key,
                    origin,
                    _warp(source),
                    _warp(piece),
                    points_for(ratio),
                )
                continue
            layer[key] = (
                _resample_block,
                block_key,
                _warp(source[window]),
                _warp(piece),
                resampling,
            )
    chunks = (
        *((size,) for size in lead),
        *(
            tuple(min(block, size - start) for start in first)
            for size, first in zip(target.shape, starts, strict=True)
        ),
    )
    graph = HighLevelGraph.from_collections(name, layer, dependencies=parts)
    return da.Array(graph, name, chunks=chunks, dtype=np.float32)


def _warp(grid: GeoBox) -> str:
    """A grid as plain text, cheap to carry in a graph."""
    wkt = grid.crs.to_wkt() if grid.crs is not None else ""
    return "\n".join((*(repr(v) for v in grid.affine[:6]), *map(str, grid.shape), wkt))


def _unwarp(text: str) -> tuple[Affine, tuple[int, int], str]:
    *numbers, rows, columns, wkt = text.split("\n", 8)
    return Affine(*map(float, numbers)), (int(rows), int(columns)), wkt


def _average_block(
    block: np.ndarray, origin: tuple[int, int], source: str, target: str, points: int
) -> np.ndarray:
    source_transform, _, source_crs = _unwarp(source)
    target_transform, target_shape, target_crs = _unwarp(target)
    transformer = None
    if source_crs != target_crs:
        transformer = _transformer_of(target_crs, source_crs)
    # Places are those in the whole source, and only then those in the block.
    corners = corners_in(source_transform, target_transform, target_shape, transformer)
    corners -= np.array(origin)[:, None, None]
    lead = block.shape[:-2]
    means = area_mean(
        block.reshape(-1, *block.shape[-2:]).astype(np.float32, copy=False),
        corners,
        points=points,
    )
    return means.reshape(*lead, *target_shape)


def _resample_block(
    block: np.ndarray, source: str, target: str, resampling: str
) -> np.ndarray:
    source_transform, source_shape, source_crs = _unwarp(source)
    target_transform, target_shape, target_crs = _unwarp(target)
    # WarpedVRT, since rasterio 1.4's `reproject` cannot turn GDAL's approximation off.
    profile = {
        "driver": "GTiff",
        "count": block.shape[0],
        "height": source_shape[0],
        "width": source_shape[1],
        "dtype": "float32",
        "transform": source_transform,
        "crs": source_crs or None,
        "nodata": np.nan,
    }
    options = {
        "crs": target_crs or None,
        "transform": target_transform,
        "height": target_shape[0],
        "width": target_shape[1],
        "nodata": np.nan,
        "resampling": Resampling[resampling],
        "tolerance": TRANSFORM_ERROR,
        "UNIFIED_SRC_NODATA": "NO",
    }
    with rasterio.Env(), MemoryFile() as memory:
        with memory.open(**profile) as written:
            written.write(np.asarray(block, np.float32))
        with memory.open() as stored, WarpedVRT(stored, **options) as warped:
            return warped.read()


def _empty_block(shape: tuple[int, ...]) -> np.ndarray:
    return np.full(shape, np.nan, np.float32)
