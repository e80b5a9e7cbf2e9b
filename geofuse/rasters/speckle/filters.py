"""Take speckle out of radar images, by name, over any size of raster.

    boxcar       mean of the window
    lee          toward the mean, by how much the window varies beyond speckle
    kuan         the same without Lee's linearization
    refined-lee  statistics of the half window along an edge
    frost        weights by distance, steeper where the window varies
    gamma-map    the most probable backscatter, if scene and speckle are gamma
    quegan       over dates: each has the speckle of all

All work in linear power, never in dB: the mean of dB is that of a geometric mean. All
look at the window alone; nothing of the scene enters but the number of looks, so that
the tile size never changes the result.

Of invalid pixels: a window's statistics are those of its valid pixels; a pixel that is
itself invalid stays so. Beyond the edge of the image nothing is valid.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
import xarray as xr

from geofuse.errors import ParameterError, UnknownNameError, did_you_mean
from geofuse.rasters.speckle import refined_lee as refined
from geofuse.rasters.speckle.boxcar import boxcar
from geofuse.rasters.speckle.frost import frost
from geofuse.rasters.speckle.gamma_map import gamma_map
from geofuse.rasters.speckle.kuan import kuan
from geofuse.rasters.speckle.lee import lee
from geofuse.rasters.speckle.looks import scan_looks
from geofuse.rasters.speckle.quegan import quegan
from geofuse.tiling import Arrays, map_tiles, share


class SpeckleFilter(NamedTuple):
    """A filter of the table.

    Attributes:
        run: Takes a tile (y, x) with its halo, window, looks and damping; a filter over
            dates takes (date, y, x) and the window.
        needs_looks: Whether the number of looks enters.
        over_dates: Whether it takes all dates of a band at once.
    """

    run: Callable[..., np.ndarray]
    needs_looks: bool = True
    over_dates: bool = False


#: Every speckle filter by its name.
FILTERS: dict[str, SpeckleFilter] = {
    "boxcar": SpeckleFilter(boxcar, needs_looks=False),
    "lee": SpeckleFilter(lee),
    "kuan": SpeckleFilter(kuan),
    "refined-lee": SpeckleFilter(refined.refined_lee),
    "frost": SpeckleFilter(frost, needs_looks=False),
    "gamma-map": SpeckleFilter(gamma_map),
    "quegan": SpeckleFilter(quegan, needs_looks=False, over_dates=True),
}


def despeckle(
    image: xr.DataArray,
    filter: str,
    *,
    window: int = 7,
    looks: float | None = None,
    damping: float = 2.0,
    tile: int | None = 512,
) -> xr.DataArray:
    """Lower the speckle of backscatter, lazily.

    Args:
        image: Backscatter (band, y, x) or (time, band, y, x) in linear power, NaN where
            invalid.
        filter: boxcar, lee, kuan, refined-lee, frost, gamma-map, or quegan, which takes
            all dates of a stack together; the others take each date by itself.
        window: Side of the window in pixels, odd, 3 to 63; 7 for refined-lee.
        looks: Equivalent number of looks (4.4 for Sentinel-1 GRD IW); estimated for each
            band and date if not given. Does not enter boxcar, frost and quegan.
        damping: How fast Frost's weights fall, above 0; the others do not look at it.
        tile: Side of a tile in pixels, None for one; it never changes the result.

    Returns:
        Image like the one given, float32; NaN where a pixel is invalid, and nowhere
        else. Its attribute `speckle` says what was done.

    Raises:
        UnknownNameError: There is no such filter.
        ParameterError: The image is in dB, complex, or has other dimensions; a value is
            out of range; one date where several are needed. When computed: nine of ten
            pixels of a tile are below 0, as in dB; no looks can be estimated.
    """
    _check(image, filter, window, looks, damping)
    image = image.astype(np.float32)
    chosen = FILTERS[filter]
    said = f"{filter} window={window}"
    shared = None
    if chosen.needs_looks:
        said += f" looks={looks:g}" if looks is not None else " looks=estimated"
        shared = (
            scan_looks(image)
            if looks is None
            else share(np.full(image.shape[:-2], float(looks)))
        )
    if filter == "frost":
        said += f" damping={damping:g}"
    result = map_tiles(
        functools.partial(_run, filter, int(window), float(damping)),
        {"image": image},
        xr.Dataset({"image": _template(image)}),
        halo=int(window) // 2,
        tile=tile,
        shared=shared,
        token=f"despeckle {filter} {window} {damping!r}",
    )["image"].rename(image.name)
    return result.assign_attrs(image.attrs, speckle=said)


def _template(image: xr.DataArray) -> xr.DataArray:
    return image.copy(data=da.empty(image.shape, dtype=np.float32, chunks=-1))


def _run(
    name: str, window: int, damping: float, arrays: Arrays, looks: Any
) -> dict[str, np.ndarray]:
    image = arrays["image"]
    if (image < 0).sum() > 0.9 * np.isfinite(image).sum():
        raise ParameterError(
            "expected backscatter in linear power, found values below 0 at nine of ten "
            "pixels, as in dB; pass geofuse.from_db(image)"
        )
    radius, chosen = window // 2, FILTERS[name]
    height, width = (size - 2 * radius for size in image.shape[-2:])
    result = np.empty((*image.shape[:-2], height, width), np.float32)
    if chosen.over_dates:
        for band in range(image.shape[1]):
            result[:, band] = chosen.run(np.ascontiguousarray(image[:, band]), window)
        return {"image": result}
    for plane in np.ndindex(image.shape[:-2]):
        number = 1.0 if looks is None else float(looks[plane])
        result[plane] = chosen.run(image[plane], window, number, damping)
    return {"image": result}


def _check(
    image: xr.DataArray, name: str, window: int, looks: float | None, damping: float
) -> None:
    if name not in FILTERS:
        raise UnknownNameError(
            f"expected a speckle filter, found {name!r}; {did_you_mean(name, FILTERS)}"
        )
    if image.dims not in (("band", "y", "x"), ("time", "band", "y", "x")):
        raise ParameterError(
            f"expected backscatter (band, y, x) or (time, band, y, x), found dimensions "
            f"{image.dims}; for a single band use image.expand_dims('band')"
        )
    if FILTERS[name].over_dates and (image.ndim < 4 or image.sizes["time"] < 2):
        raise ParameterError(
            f"expected several dates for {name!r}, found one; stack them with "
            "xarray.concat(images, 'time'), or choose another filter"
        )
    if image.dtype.kind not in "fiu":
        raise ParameterError(
            f"expected backscatter in linear power, found {image.dtype} numbers; of "
            "complex ones take the power first: abs(image) ** 2"
        )
    if str(image.attrs.get("units", "")).lower() == "db":
        raise ParameterError(
            "expected backscatter in linear power, found dB; pass geofuse.from_db(image)"
        )
    if window not in range(3, 64, 2):
        raise ParameterError(
            f"expected an odd window of 3 to 63 pixels, found {window}; for example 7"
        )
    if name == "refined-lee" and window != refined.WINDOW:
        raise ParameterError(
            f"expected a window of 7 for refined-lee, which is defined for no other, "
            f"found {window}; leave it at 7, or choose another filter"
        )
    for what, value in (("looks", looks), ("damping", damping)):
        if value is not None and not 0 < value < np.inf:
            raise ParameterError(
                f"expected {what} above 0, found {value}; for Sentinel-1 GRD IW looks "
                "are 4.4, and damping is about 2"
            )
