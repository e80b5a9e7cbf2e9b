"""Exact order statistics of rasters of any size, in two scans.

The bits of a float32, read as a whole number, sort as the float does (once negative
numbers are turned around). So a rank can be found like a word in a dictionary:

    first scan    count pixels by the upper 16 bits   -> the page that holds the rank
    second scan   count the lower 16 bits on that page -> the value itself

No value is rounded and nothing depends on the tiles. A tile keeps only the counts that
occur: some 10 to 50 kB a band, where the tile itself has 1 MB.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from geofuse.tiling import reduce_tiles, share

#: Named windows of a tile -> values (series, y, x), float32, NaN where not counted.
Series = Callable[[dict[str, np.ndarray]], np.ndarray]
#: Number of values -> ranks wanted, from 0; empty where there is no value.
Ranks = Callable[[int], Sequence[int]]


class Counts(NamedTuple):
    """How many pixels have each key; keys ascend."""

    keys: np.ndarray
    counts: np.ndarray


class Ordered(NamedTuple):
    """The values at the wanted ranks, float64, and how many values there are."""

    total: int
    values: np.ndarray


def order_statistics(
    series: Series,
    ranks: Sequence[Ranks],
    rasters: Mapping[str, xr.DataArray],
    *,
    halo: int,
    tile: int,
) -> list[Ordered]:
    """Find values by their rank among all pixels; scans the rasters twice.

    Each scan is computed by itself, so that no chunk waits in memory for the second.

    Args:
        series: Makes the values to rank from the windows of a tile, without the halo.
        ranks: For each series the ranks that are wanted.
        rasters: Named images on one grid.
        halo: How far `series` looks around a pixel, in pixels.
        tile: Side of the tiles in pixels; changes nothing but memory and time.

    Returns:
        The values at the wanted ranks, for each series.
    """
    upper = reduce_tiles(
        partial(_count_upper, series), rasters, merged, halo=halo, tile=tile
    ).compute()
    lower = reduce_tiles(
        partial(_count_lower, series, tuple(ranks)),
        rasters,
        merged,
        halo=halo,
        tile=tile,
        shared=share(upper),
    ).compute()
    return _at_ranks(ranks, upper, lower)


def merged(parts: Sequence[Sequence[Counts]]) -> list[Counts]:
    """Counts of a whole from the counts of its parts, series by series."""
    total = []
    for counts in zip(*parts, strict=True):
        keys, index = np.unique(
            np.concatenate([part.keys for part in counts]), return_inverse=True
        )
        sums = np.zeros(len(keys), np.int64)
        np.add.at(sums, index, np.concatenate([part.counts for part in counts]))
        total.append(Counts(keys, sums))
    return total


def _count_upper(
    series: Series, arrays: dict[str, np.ndarray], shared: Any
) -> list[Counts]:
    """Count the upper 16 bits of the keys in a tile."""
    total = []
    for values in series(arrays):
        counts = np.bincount(_keys(values) >> np.uint32(16), minlength=1)
        present = np.flatnonzero(counts)
        total.append(
            Counts(present.astype(np.uint16), counts[present].astype(np.int32))
        )
    return total


def _count_lower(
    series: Series,
    ranks: Sequence[Ranks],
    arrays: dict[str, np.ndarray],
    upper: Sequence[Counts],
) -> list[Counts]:
    """Count the whole keys in a tile, of the pages that hold a wanted rank."""
    total = []
    for values, wanted, pages in zip(series(arrays), ranks, upper, strict=True):
        keys = _keys(values)
        here = np.isin(
            keys >> np.uint32(16), [page for page, _ in _find(pages, wanted)]
        )
        present, counts = np.unique(keys[here], return_counts=True)
        total.append(Counts(present, counts.astype(np.int32)))
    return total


def _at_ranks(
    ranks: Sequence[Ranks], upper: Sequence[Counts], lower: Sequence[Counts]
) -> list[Ordered]:
    """The values at the ranks, from the counts of both scans."""
    ordered = []
    for wanted, pages, words in zip(ranks, upper, lower, strict=True):
        found = []
        for page, rank in _find(pages, wanted):
            here = np.flatnonzero(words.keys >> np.uint32(16) == page)
            place = np.searchsorted(np.cumsum(words.counts[here]), rank, side="right")
            found.append(words.keys[here[place]])
        values = _values(np.array(found, np.uint32)).astype(np.float64)
        ordered.append(Ordered(int(pages.counts.sum()), values))
    return ordered


def _find(pages: Counts, ranks: Ranks) -> list[tuple[int, int]]:
    """For each wanted rank the page that holds it, and its rank on that page."""
    last = np.cumsum(pages.counts, dtype=np.int64)
    found = []
    for rank in ranks(int(last[-1]) if len(last) else 0):
        place = int(np.searchsorted(last, rank, side="right"))
        below = int(last[place - 1]) if place else 0
        found.append((int(pages.keys[place]), rank - below))
    return found


def _keys(values: np.ndarray) -> np.ndarray:
    """Whole numbers that sort as the valid ones of the floats do."""
    floats = values[np.isfinite(values)].astype(np.float32) + np.float32(0)  # no -0
    bits = floats.view(np.uint32)
    sign = np.uint32(1 << 31)
    return np.where(bits & sign, ~bits, bits | sign)


def _values(keys: np.ndarray) -> np.ndarray:
    """The floats of keys."""
    sign = np.uint32(1 << 31)
    return np.where(keys & sign, keys ^ sign, ~keys).view(np.float32)
