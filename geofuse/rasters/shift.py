"""Move an image by parts of a pixel, lazily, or say that its pixels lie elsewhere.

    shift(image, dy, dx)      same grid, other values: interpolated (Keys' cubic)
    relocate(image, dy, dx)   same values, other grid: nothing is interpolated

An image of nested coarse pixels, each repeated over `scale` fine ones, is interpolated
between coarse pixels and stays nested. Where a file is still on its own grid, relocate it
and then `align` it: it is resampled once instead of twice.
"""

import math

import numpy as np
import xarray as xr
from affine import Affine
from jaxtyping import Float32
from odc.geo.geobox import GeoBox

from geofuse.errors import ParameterError
from geofuse.rasters.grid import coordinates, grid_of
from geofuse.tiling import map_tiles


def shift(
    image: xr.DataArray, dy: float, dx: float, *, tile: int = 512
) -> xr.DataArray:
    """Move what an image shows by `dy` rows down and `dx` columns to the right.

    Each axis in turn by cubic convolution (Keys 1981, a = -1/2), exact for whole pixels
    and for straight lines. To undo a misregistration that `estimate_shift` found, move
    the coarse image by `-dy, -dx`.

    Args:
        image: Image (band, y, x); NaN where invalid. With an attribute `scale` its pixels
            are nested coarse ones (see `align`), which stay whole.
        dy: Rows, in pixels of the image's grid; positive is down.
        dx: Columns; positive is to the right.
        tile: Side of the tiles in pixels; changes no value.

    Returns:
        The image on its grid, lazy; NaN where the pixel that comes to lie there is
        invalid or outside. Invalid neighbors of a valid pixel count as equal to it.

    Raises:
        ParameterError: A shift is not finite.
    """
    _check_shift(dy, dx)
    stride = int(image.attrs.get("scale", 1))
    taps = [_taps(-float(d) / stride) for d in (dy, dx)]
    halo = stride * max(abs(place) for places, _ in taps for place in places)

    def move(arrays: dict[str, np.ndarray], _: object) -> dict[str, np.ndarray]:
        values = arrays["image"]
        for axis, (places, weights) in zip((-2, -1), taps, strict=True):
            values = _moved(values, axis, [p * stride for p in places], weights, halo)
        return {"image": values}

    source = (
        image if np.issubdtype(image.dtype, np.float32) else image.astype("float32")
    )
    return map_tiles(
        move,
        {"image": source},
        xr.Dataset({"image": source}),
        halo=halo,
        tile=tile,
        token=f"shift {dy!r} {dx!r} {stride}",
    )["image"].rename(image.name)


def relocate(image: xr.DataArray, dy: float, dx: float) -> xr.DataArray:
    """Say that an image lies `dy` rows further down and `dx` columns further right.

    Its pixels stay what they are; only their places change, so the image is on another
    grid afterwards: `align` brings it back, resampling once.

    Args:
        image: Any raster with y and x.
        dy: Rows, in pixels of the image; positive is down.
        dx: Columns; positive is to the right.

    Raises:
        ParameterError: A shift is not finite.
        GridMismatchError: The image is not on a regular grid.
    """
    _check_shift(dy, dx)
    grid = grid_of(image)
    moved = GeoBox(grid.shape, grid.affine * Affine.translation(dx, dy), grid.crs)
    relocated = image.assign_coords(coordinates(moved))
    for name in ("scale", "coarse_offset"):
        relocated.attrs.pop(name, None)
    return relocated


def _check_shift(dy: float, dx: float) -> None:
    if not (math.isfinite(dy) and math.isfinite(dx)):
        raise ParameterError(
            f"expected a shift in pixels, found {dy}, {dx}; an estimate without "
            "confidence has none: leave the image as it is"
        )


def _taps(place: float) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Pixels around a place, and their weights; the one that it lies in comes first."""
    first = math.floor(place)
    t = place - first
    if t == 0.0:
        return (first,), (1.0,)
    # Keys (1981), eq. 15.
    weights = (
        -0.5 * t + t**2 - 0.5 * t**3,
        1 - 2.5 * t**2 + 1.5 * t**3,
        0.5 * t + 2 * t**2 - 1.5 * t**3,
        -0.5 * t**2 + 0.5 * t**3,
    )
    order = (1, 2, 0, 3) if t < 0.5 else (2, 1, 0, 3)
    return (
        tuple(first - 1 + i for i in order),
        tuple(weights[i] for i in order),
    )


def _moved(
    values: Float32[np.ndarray, "*lead y x"],
    axis: int,
    places: list[int],
    weights: tuple[float, ...],
    halo: int,
) -> np.ndarray:
    """One axis moved; `halo` pixels of that axis are used up on each side."""
    size = values.shape[axis] - 2 * halo
    pieces = [
        np.take(values, range(halo + place, halo + place + size), axis)
        for place in places
    ]
    nearest = pieces[0].astype(np.float64)
    total = nearest * weights[0]
    for piece, weight in zip(pieces[1:], weights[1:], strict=True):
        total = total + weight * np.where(np.isnan(piece), nearest, piece)
    return np.asarray(total, np.float32)
