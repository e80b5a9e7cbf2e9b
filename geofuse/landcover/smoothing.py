"""Take single pixels out of a map of classes: each becomes what most of its window is.

It is never done unless asked for: it hides narrow things, roads and brooks, and a smoothed
map no longer goes with its probabilities.
"""

from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from scipy.ndimage import correlate1d

from geofuse.errors import ParameterError
from geofuse.rasters.legend import UNLABELED
from geofuse.rasters.map_file import check_map
from geofuse.tiling import map_tiles


def smoothed(
    land_cover: xr.DataArray, *, window: int = 3, tile: int | None = 512
) -> xr.DataArray:
    """Give each pixel the class that most pixels of a square around it have, lazily.

    A pixel keeps its class where no other has more pixels; of several others that have
    equally many it gets that of the lowest number. Pixels without a class have no vote,
    and stay so.

    Args:
        land_cover: Numbers of classes (y, x), integers, -1 where there is none.
        window: Side of the square in pixels, odd; 1 changes nothing.
        tile: Side of the tiles in pixels; the result does not depend on it.

    Returns:
        The map, of the same type, with a note in the attribute `smoothed`.

    Raises:
        GridMismatchError: It is no map (y, x).
        ParameterError: The window is not odd, or numbers are no integers.
    """
    check_map(land_cover)
    if window < 1 or window % 2 == 0:
        raise ParameterError(
            f"expected an odd window of 1 pixel or more, found {window}; 3 or 5 are usual"
        )
    template = xr.Dataset({"land_cover": land_cover})
    result = map_tiles(
        partial(_most_frequent, window=window, dtype=land_cover.dtype),
        # Outside the raster tiles hold 0: classes are counted from 1 here.
        {"land_cover": land_cover.astype(np.int32) - np.int32(UNLABELED)},
        template,
        halo=window // 2,
        tile=tile,
    ).land_cover
    note = f"majority of {window} x {window} pixels"
    return result.assign_attrs(land_cover.attrs, smoothed=note)


def _most_frequent(
    arrays: dict[str, np.ndarray], _: Any, *, window: int, dtype: np.dtype
) -> dict[str, np.ndarray]:
    numbers = arrays["land_cover"]
    radius = window // 2
    core = tuple(slice(radius, size - radius) for size in numbers.shape)
    own = numbers[core]
    best, most = own.copy(), np.zeros(own.shape, np.int32)
    ones = np.ones(window, np.int32)
    # First how often a pixel's own class is there, so that it wins over its equals.
    counts = {
        number: _sums(numbers == number, ones)[core]
        for number in np.unique(numbers[numbers > 0]).tolist()
    }
    for number, count in counts.items():
        most = np.where(own == number, count, most)
    for number, count in counts.items():
        more = (count > most) & (own > 0)
        best, most = np.where(more, number, best), np.where(more, count, most)
    return {"land_cover": (best - 1).astype(dtype)}


def _sums(there: np.ndarray, ones: np.ndarray) -> np.ndarray:
    """How many of the window around each pixel are there; none outside."""
    counts = there.astype(np.int32)
    for axis in (0, 1):
        counts = correlate1d(counts, ones, axis=axis, mode="constant")
    return counts
