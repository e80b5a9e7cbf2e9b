"""Quality layers as valid masks: bits and classes become True where a pixel is usable.

    valid = open_quality("scene_SCL.tif", "sentinel2-scl", like=image, dilate=3)
    image = image.where(valid)

A quality layer is no quantity: a DN between two others means something else, or nothing.
So it is read as stored, and never interpolated. Onto an image of the same pixels, or of
smaller ones that nest in its own, it goes unchanged; anything else is refused.
"""

import os
from collections.abc import Iterable
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from odc.geo.geobox import GeoBox
from scipy.ndimage import distance_transform_edt

from geofuse.errors import (
    BandMismatchError,
    CRSMismatchError,
    GridMismatchError,
    ParameterError,
)
from geofuse.rasters.align import nesting_of, on_one_lattice
from geofuse.rasters.grid import (
    coordinates,
    describe,
    grid_of,
    place,
    same_crs,
    shift_between,
)
from geofuse.rasters.placement import chunk_sides, file_grid
from geofuse.rasters.quality_layers import Flag, QualityLayer, quality_layer_of
from geofuse.rasters.scene_folder import files_by_code
from geofuse.rasters.source import RasterFile, RasterSource, inspect, name_of
from geofuse.tiling import map_tiles


def valid_from(
    quality: xr.DataArray,
    layer: QualityLayer | str,
    *,
    drop: Iterable[str] | None = None,
    dilate: int = 0,
) -> xr.DataArray:
    """Where a quality layer calls a pixel usable, lazily.

    Args:
        quality: DN (y, x) or (band, y, x) with one band, whole numbers as stored.
        layer: What the DN mean: a `QualityLayer`, its name, or the name of the sensor
            that it comes with: landsat-qa-pixel, sentinel2-scl, hls-fmask,
            modis-state-1km, omnicloudmask, …
        drop: Flags that make a pixel invalid; by default those of the layer.
        dilate: Pixels within this distance of a dropped one, in pixels of the layer, are
            invalid too. Pixels without a measurement are invalid but do not spread.

    Returns:
        (y, x), True where usable. A class that the layer does not know is not usable.

    Raises:
        UnknownNameError: There is no such layer or flag.
        ParameterError: The DN are no whole numbers, or `dilate` is negative.
        BandMismatchError: There are several bands.
    """
    layer = quality_layer_of(layer)
    flags = layer.flags_of(drop)
    if dilate != int(dilate) or dilate < 0:
        raise ParameterError(
            f"expected dilate as a whole number of pixels, found {dilate}; 0 is none"
        )
    if "band" in quality.dims:
        if quality.sizes["band"] != 1:
            raise BandMismatchError(
                f"expected one band of {layer.name}, found {quality.sizes['band']}; "
                "choose it with quality.isel(band=[0])"
            )
        quality = quality.isel(band=0, drop=True)
    if quality.dtype.kind not in "iub":
        raise ParameterError(
            f"expected {layer.name} as whole numbers, found {quality.dtype}; bits do not "
            "survive a conversion: open the file with geofuse.open_quality"
        )
    dn = quality.data
    if not isinstance(dn, da.Array):
        dn = da.from_array(np.asarray(dn), chunks=1024)
    spreading = tuple(flag for flag in flags if flag.name != "fill")
    dropped = dn.map_blocks(_holds, spreading, dtype=bool)
    if dilate:
        dropped = _dilated(quality.copy(data=dropped), int(dilate))
    unknown = dn.map_blocks(_is_unknown, layer, dtype=bool)
    valid = quality.copy(data=~(dropped | unknown))
    valid.name = "valid"
    valid.attrs = {
        "quality": layer.name,
        "dropped": ", ".join(dict.fromkeys(flag.name for flag in flags)),
        "dilate": int(dilate),
        "grid_mapping": "spatial_ref",
    }
    return valid


def open_quality(
    path: str | os.PathLike[str],
    layer: QualityLayer | str,
    *,
    like: xr.DataArray | None = None,
    drop: Iterable[str] | None = None,
    dilate: int = 0,
) -> xr.DataArray:
    """Open a quality file as a valid mask, lazily.

    Args:
        path: A local GeoTIFF, COG, JPEG 2000 or ENVI file, of several bands the one that
            has the layer's name; or the folder of a product that holds such a file.
        layer: See `valid_from`.
        like: An image. The mask comes onto its grid, which must have the same pixels, or
            smaller ones that nest in those of the layer, and lie within it.
        drop: See `valid_from`.
        dilate: See `valid_from`.

    Returns:
        (y, x), True where usable; the grid is that of `like`, or of the file.

    Raises:
        RasterReadError: The file is missing, damaged, not a raster, or not safe.
        UnknownNameError: There is no such layer or flag.
        BandMismatchError: None of several bands has the layer's name.
        ParameterError: The file holds no whole numbers, or `dilate` is negative.
        CRSMismatchError: The file and `like` have different CRS.
        GridMismatchError: The file does not cover `like`, or its pixels do not fit.
    """
    layer = quality_layer_of(layer)
    file = inspect(_layer_file(path, layer) if os.path.isdir(path) else path)
    grid, south_up = file_grid(file)
    source = RasterSource(
        file=file,
        indexes=(_index(file, layer),),
        rows=(0, file.shape[1]),
        columns=(0, file.shape[2]),
        gain=(1.0,),
        offset=(0.0,),
        nodata=((),),
        south_up=south_up,
        as_stored=True,
    )
    data = da.from_array(
        source,
        chunks=(-1, *chunk_sides(file.block)),
        name=f"open-{tokenize(source)}",
        asarray=False,
        meta=np.empty((0, 0, 0), source.dtype),
    )
    valid = valid_from(place(data[0], grid), layer, drop=drop, dilate=dilate)
    valid.attrs["source"] = name_of(file.path)
    return valid if like is None else onto_grid(valid, like, name=file.path)


def onto_grid(valid: xr.DataArray, like: xr.DataArray, *, name: str) -> xr.DataArray:
    """Put a mask on the grid of an image, where no pixel of the image is cut.

    Args:
        valid: Mask (y, x).
        like: An image of the same pixels, or of smaller ones that nest in those of the
            mask, within the mask.
        name: What the mask is called in messages.

    Raises:
        CRSMismatchError: The CRS differ.
        GridMismatchError: The mask does not cover the image, or pixels do not fit.
    """
    source, target = grid_of(valid), grid_of(like)
    found = f"{name} with {describe(source)} and an image with {describe(target)}"
    if not same_crs(source, target):
        raise CRSMismatchError(
            f"expected a quality layer in the CRS of the image, found {found}; take the "
            "layer that comes with the image, or warp it with gdalwarp -r near"
        )
    nesting = nesting_of(source, target)
    if nesting is None and not on_one_lattice(source, target):
        shift = shift_between(target, source)
        apart = f", {shift:.3g} pixels apart" if np.isfinite(shift) else ""
        raise GridMismatchError(
            "expected a quality layer with the pixels of the image, or with whole "
            f"numbers of them, found {found}{apart}; quality is never interpolated: "
            "take the layer that comes with the image"
        )
    scale = 1 if nesting is None else nesting.scale
    windows = [
        _covering(axis, source, target, scale, found) for axis in ("row", "column")
    ]
    data = valid.data
    for axis, (first, stop, start, size) in enumerate(windows):
        part = [slice(None), slice(None)]
        part[axis] = slice(first, stop)
        data = data[tuple(part)]
        if scale > 1:
            data = _repeated(data, axis, scale)
        part[axis] = slice(start, start + size)
        data = data[tuple(part)]
    if isinstance(like.data, da.Array):
        data = data.rechunk(like.data.chunks[-2:])
    moved = xr.DataArray(
        data,
        dims=("y", "x"),
        coords=coordinates(target),
        attrs=valid.attrs,
        name="valid",
    )
    # To the bit: xarray would join coordinates that differ by a billionth to nothing.
    return moved.assign_coords(y=like["y"].values, x=like["x"].values)


def _layer_file(folder: str | os.PathLike[str], layer: QualityLayer) -> str:
    """The file of the layer in the folder of a product, the finest of several."""
    place = os.path.abspath(folder)
    files = files_by_code(place, [layer.code]) if layer.code else {}
    if not files:
        raise BandMismatchError(
            f"expected a file of {layer.name} whose name ends with {layer.code or '…'} in "
            f"{place}, found none; name the file itself"
        )
    return files[layer.code][0].path


def _index(file: RasterFile, layer: QualityLayer) -> int:
    """The band of a file that holds the layer."""
    names = [(text or "").strip().lower() for text in file.descriptions]
    if len(names) == 1:
        return 0
    if layer.code and names.count(layer.code.lower()) == 1:
        return names.index(layer.code.lower())
    raise BandMismatchError(
        f"expected one band of {layer.name}, or one called {layer.code or layer.name!r}, "
        f"found {len(names)} bands in {file.path}; cut it out: gdal_translate -b N"
    )


def _holds(dn: np.ndarray, flags: tuple[Flag, ...]) -> np.ndarray:
    """Where any of some flags holds."""
    if dn.dtype.kind == "b":
        dn = dn.astype(np.uint8)
    holds = np.zeros(dn.shape, bool)
    for flag in flags:
        field = dn
        if flag.width:
            field = (dn >> dn.dtype.type(flag.shift)) & dn.dtype.type(2**flag.width - 1)
        holds |= np.isin(field, _of_type(flag.values, dn.dtype))
    return holds


def _is_unknown(dn: np.ndarray, layer: QualityLayer) -> np.ndarray:
    """Where there is no measurement: fill values, and classes that nobody listed."""
    fill = np.isin(dn, _of_type(layer.fill, dn.dtype))
    fill |= _holds(dn, tuple(flag for flag in layer.flags if flag.name == "fill"))
    return fill | ~_holds(dn, layer.flags) if layer.is_classes else fill


def _of_type(values: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Values as the type of the DN, without those that it cannot hold."""
    if dtype.kind == "b":
        return np.array([bool(value) for value in values if value in (0, 1)], bool)
    limits = np.iinfo(dtype)
    return np.array([v for v in values if limits.min <= v <= limits.max], dtype)


def _dilated(dropped: xr.DataArray, radius: int) -> Any:
    """Pixels within `radius` of a dropped one, exact over tiles."""
    template = xr.Dataset({"dropped": dropped})
    result = map_tiles(
        partial(_dilated_tile, radius=radius),
        {"dropped": dropped},
        template,
        halo=radius,
    )
    return result["dropped"].data


def _dilated_tile(
    arrays: dict[str, np.ndarray], shared: None, *, radius: int
) -> dict[str, np.ndarray]:
    window = arrays["dropped"]
    core = tuple(slice(radius, size - radius) for size in window.shape)
    if not window.any():
        return {"dropped": window[core]}
    # The root of a whole number is not above the radius where its square is not.
    return {"dropped": distance_transform_edt(~window)[core] <= radius}


def _covering(
    axis: str, source: GeoBox, target: GeoBox, scale: int, found: str
) -> tuple[int, int, int, int]:
    """Pixels of `source` over `target`: first, stop, and where `target` starts in them."""
    inverse = ~source.affine
    number = 1 if axis == "row" else 0
    corner = (inverse * (target.affine.c, target.affine.f))[number]
    start = round(corner * scale)  # in pixels of the target
    size = target.shape[0 if axis == "row" else 1]
    first, stop = start // scale, -(-(start + size) // scale)
    limit = source.shape[0 if axis == "row" else 1]
    if first < 0 or stop > limit:
        raise GridMismatchError(
            f"expected a quality layer that covers the image, found {found}; is it of "
            "another tile or scene? Take the layer that comes with the image"
        )
    return first, stop, start - first * scale, size


def _repeated(data: da.Array, axis: int, scale: int) -> da.Array:
    data = data.rechunk({axis: max(1, 512 // scale)})
    chunks = list(data.chunks)
    chunks[axis] = tuple(size * scale for size in chunks[axis])
    return da.map_blocks(
        _repeated_block, data, scale, axis, dtype=data.dtype, chunks=tuple(chunks)
    )


def _repeated_block(block: np.ndarray, scale: int, axis: int) -> np.ndarray:
    return block.repeat(scale, axis)
