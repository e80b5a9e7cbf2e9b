"""What scores must know about the whole reference: its range, and what is an edge.

These numbers are properties of the reference alone, over its pixels that are valid in
all its bands. So they are the same for every method that is scored against it, do not
depend on tiles, and a lazy prediction is not computed to find them.
"""

import math
from typing import NamedTuple

import numpy as np
import xarray as xr

from geofuse.evaluation.apa import edge_strength
from geofuse.evaluation.quantiles import Ordered, order_statistics


class Summary(NamedTuple):
    """What a score depends on beyond the pixels of a window.

    Attributes:
        scale: Coarse GSD / fine GSD; None where it is not known.
        middle: Middle of the data range, per band; any number near the values.
        data_range: 99.9th minus 0.1th percentile of the reference, per band.
        edge_threshold: 90th percentile of the reference's edge strength, per band.

    The arrays are float64 (band,), NaN where they were not needed or nothing is valid.
    """

    scale: float | None
    middle: np.ndarray
    data_range: np.ndarray
    edge_threshold: np.ndarray


def summarize(reference: xr.DataArray, *, scale: float | None, tile: int) -> Summary:
    """Find the numbers of a reference; scans it twice.

    Percentiles of the range are NumPy's (linear between two ranks), that of the edges
    is the value at rank ceil(0.9 n) as in the APA authors' program; both are exact for
    float32.

    Args:
        reference: True fine image (band, y, x), float32, NaN where invalid.
        scale: Coarse GSD / fine GSD, handed through.
        tile: Side of the tiles in pixels; changes nothing but memory and time.
    """
    bands = reference.sizes["band"]
    ordered = order_statistics(
        _levels_and_edges,
        (_range_ranks,) * bands + (_edge_rank,) * bands,
        {"reference": reference},
        halo=1,
        tile=tile,
    )
    return _summary(scale, ordered)


def without_scan(reference: xr.DataArray, *, scale: float | None) -> Summary:
    """Return the summary where no score needs a number of the whole reference."""
    unknown = np.full(reference.sizes["band"], np.nan)
    return Summary(scale, unknown, unknown, unknown)


def _levels_and_edges(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """The reference and its edge strength, (2 band, y, x), without the halo."""
    image = arrays["reference"].astype(np.float64)
    image[:, ~np.isfinite(image).all(axis=0)] = np.nan
    levels = image[:, 1:-1, 1:-1]
    return np.concatenate([levels, edge_strength(image)]).astype(np.float32)


def _range_ranks(count: int) -> tuple[int, ...]:
    """Ranks below and above the 0.1th and the 99.9th percentile."""
    if not count:
        return ()
    low, high = _position(0.001, count), _position(0.999, count)
    return (math.floor(low), math.ceil(low), math.floor(high), math.ceil(high))


def _edge_rank(count: int) -> tuple[int, ...]:
    """First rank that leaves nine tenths below it."""
    return (min(-(-9 * count // 10), count - 1),) if count else ()


def _position(share: float, count: int) -> float:
    return share * (count - 1)


def _summary(scale: float | None, ordered: list[Ordered]) -> Summary:
    bands = len(ordered) // 2
    middle, data_range, edge_threshold = (np.full(bands, np.nan) for _ in range(3))
    for band in range(bands):
        levels, edges = ordered[band], ordered[bands + band]
        if levels.total:
            low, high = (
                below + (_position(share, levels.total) % 1) * (above - below)
                for share, below, above in (
                    (0.001, *levels.values[:2]),
                    (0.999, *levels.values[2:]),
                )
            )
            middle[band], data_range[band] = (low + high) / 2, high - low
        if edges.total:
            edge_threshold[band] = edges.values[0]
    return Summary(scale, middle, data_range, edge_threshold)
