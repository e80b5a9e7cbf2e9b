"""Pixels with labels, gathered tile by tile: the rows that trees learn from.

Only tiles with a label are computed, and of them only pixels that were drawn are kept, so
that memory grows with the number of rows and not with the scenes. Where there are more
labels than rows wanted, each class keeps at least an even part of its share, and rows carry
weights, so that rare classes survive and the shares stay what they are.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from geofuse.landcover.case import LandCoverCase
from geofuse.splits import fold_of
from geofuse.tiling import stream_tiles

#: Side of the tiles that are computed at once, in pixels.
GATHER_TILE = 512
#: A draw is a whole number below this.
_DRAWS = 2**30
#: This part of the rows is shared out evenly among classes.
_EVEN = 0.5

Channels = Callable[[LandCoverCase, int], Mapping[str, xr.DataArray]]


class LabeledPixels(NamedTuple):
    """Rows to learn from.

    Attributes:
        features: (pixel, feature), float32, NaN where missing.
        labels: Numbers of classes, (pixel,).
        weights: How many labeled pixels each stands for, (pixel,).
        scene: Number of the case.
        rows: Row in it.
        columns: Column in it.
    """

    features: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    scene: np.ndarray
    rows: np.ndarray
    columns: np.ndarray


def labeled_pixels(
    cases: Sequence[LandCoverCase],
    channels: Channels,
    counts: np.ndarray,
    *,
    most: int,
    seed: int = 0,
) -> LabeledPixels:
    """Gather rows of labeled pixels of which at least one feature is known.

    Args:
        cases: Images with labels.
        channels: Gives the features of a case by modality, in the order of the columns,
            lazily, in tiles of a side.
        counts: How many labels of each class there are.
        most: About how many rows to take.
        seed: Of the draw.
    """
    rates = np.minimum(rows_by_class(counts, most) / np.maximum(counts, 1), 1.0)
    parts = [
        part
        for number, case in enumerate(cases)
        for part in _of_case(number, case, channels(case, GATHER_TILE), rates, seed)
    ]
    if not parts:
        empty = np.empty(0, np.int64)
        return LabeledPixels(np.empty((0, 0)), empty, empty, empty, empty, empty)
    return LabeledPixels(*map(np.concatenate, zip(*parts, strict=True)))


def rows_by_class(counts: np.ndarray, most: int) -> np.ndarray:
    """How many rows each class gets: half of them by its share, half of them evenly.

    >>> rows_by_class(np.array([10_000, 90]), 1000)
    array([910.,  90.])
    """
    if counts.sum() <= most:
        return counts.astype(np.float64)
    wanted = np.zeros(len(counts))
    left, open_ = float(most), counts > 0
    # What a class cannot use, others get.
    while left >= 1 and open_.any():
        even = _EVEN / open_.sum()
        share = (1 - _EVEN) * counts / counts[open_].sum()
        wanted = np.where(open_, wanted + left * (even + share), wanted)
        wanted = np.minimum(wanted, counts)
        left, open_ = most - wanted.sum(), wanted < counts
    return wanted


def _of_case(
    number: int,
    case: LandCoverCase,
    channels: Mapping[str, xr.DataArray],
    rates: np.ndarray,
    seed: int,
) -> list[LabeledPixels]:
    height, width = case.labels.shape
    chosen: dict[tuple[int, int], tuple[np.ndarray, ...]] = {}
    for row, top in enumerate(range(0, height, GATHER_TILE)):
        for column, left in enumerate(range(0, width, GATHER_TILE)):
            window = (slice(top, top + GATHER_TILE), slice(left, left + GATHER_TILE))
            labels = np.asarray(case.labels[window])
            rows, columns = np.nonzero(labels >= 0)
            numbers = labels[rows, columns].astype(np.int64)
            rows, columns = rows + top, columns + left
            drawn = fold_of(
                rows, columns, scene=number, folds=_DRAWS, block=1, seed=seed
            )
            kept = drawn < rates[numbers] * _DRAWS
            if kept.any():
                chosen[row, column] = rows[kept], columns[kept], numbers[kept]
    tiles = stream_tiles(channels, skip=lambda row, column: (row, column) not in chosen)
    parts = []
    for tile in tiles:
        rows, columns, numbers = chosen[tile.row, tile.column]
        inside = rows - tile.window[0].start, columns - tile.window[1].start
        features = np.concatenate(
            [tile.arrays[name][:, inside[0], inside[1]] for name in channels]
        ).T
        known = np.isfinite(features).any(axis=1)
        weights = 1 / rates[numbers]
        scene = np.full(len(rows), number)
        whole = LabeledPixels(features, numbers, weights, scene, rows, columns)
        parts.append(LabeledPixels(*(values[known] for values in whole)))
    return parts
