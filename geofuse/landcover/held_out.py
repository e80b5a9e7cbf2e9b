"""Blocks of a case held out, lazily: to calibrate on, or to know when to stop."""

from collections.abc import Sequence
from typing import NamedTuple

import dask.array as da
import numpy as np
import xarray as xr

from geofuse.landcover.case import LandCoverCase
from geofuse.training.label_patches import Fold

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
    learned = Fold(fold, folds, seed)
    return HeldOut(
        *(
            [
                case.only(_mask(case.labels, part, scene))
                for scene, case in enumerate(cases)
            ]
            for part in (learned, learned.others)
        )
    )


def _mask(labels: xr.DataArray, fold: Fold, scene: int) -> xr.DataArray:
    """Where labels count, (y, x), lazily."""

    def block(values: np.ndarray, block_info: dict) -> np.ndarray:
        (top, _), (left, _) = block_info[0]["array-location"]
        rows, columns = np.indices(values.shape)
        return fold.keeps(rows + top, columns + left, scene)

    data = da.asarray(labels.data)
    mask = data.map_blocks(block, dtype=bool, meta=np.empty((0, 0), bool))
    return xr.DataArray(mask, dims=("y", "x"))
