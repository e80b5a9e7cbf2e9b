"""Blocks of a case held out, lazily: to calibrate on, or to know when to stop."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import dask.array as da
import numpy as np
import xarray as xr

from geofuse.landcover.case import LandCoverCase
from geofuse.rasters.legend import UNLABELED
from geofuse.splits import fold_of, inside_block

#: Labels of one in so many blocks are held out.
FOLDS = 5


class HeldOut(NamedTuple):
    """Cases with the labels of some blocks, and with those of the others.

    Attributes:
        learning: Labels of all folds but one.
        validation: Labels of that fold, without pixels at the edge of a block.
    """

    learning: list[LandCoverCase]
    validation: list[LandCoverCase]


def held_out(
    cases: Sequence[LandCoverCase], *, fold: int = 0, folds: int = FOLDS, seed: int = 0
) -> HeldOut:
    """Hold the labels of one fold of blocks out.

    Args:
        cases: The cases; the number of each is its scene.
        fold: Which fold.
        folds: How many there are.
        seed: Of the folds.
    """
    found = HeldOut([], [])
    for scene, case in enumerate(cases):
        for part, kept in zip(found, (False, True), strict=True):
            keep = partial(
                _labels_of, scene=scene, fold=fold, folds=folds, seed=seed, held=kept
            )
            part.append(LandCoverCase(case.images, _mapped(keep, case.labels)))
    return found


def _mapped(keep: "partial[np.ndarray]", labels: xr.DataArray) -> xr.DataArray:
    data = da.asarray(labels.data)

    def block(values: np.ndarray, block_info: dict) -> np.ndarray:
        (top, _), (left, _) = block_info[0]["array-location"]
        return keep(values, top, left)

    return labels.copy(data=data.map_blocks(block, dtype=labels.dtype, meta=data._meta))


def _labels_of(
    values: np.ndarray,
    top: int,
    left: int,
    *,
    scene: int,
    fold: int,
    folds: int,
    seed: int,
    held: bool,
) -> np.ndarray:
    """Labels of a piece of a raster: only those of the fold, or all others."""
    rows, columns = np.meshgrid(
        *(
            np.arange(start, start + size)
            for start, size in zip((top, left), values.shape, strict=True)
        ),
        indexing="ij",
    )
    inside = fold_of(rows, columns, scene=scene, folds=folds, seed=seed) == fold
    keep = inside & inside_block(rows, columns) if held else ~inside
    return np.where(keep, values, UNLABELED).astype(values.dtype)
