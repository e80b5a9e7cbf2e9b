"""How often is a map of classes right? The error matrix and what is computed from it.

                 reference          producer's accuracy   of the pixels that are water, how
             water  crops  grass                          many are mapped so (down a column)
    map
      water    95      1      0     user's accuracy       of the pixels mapped as water, how
      crops     3     80      9                           many are water (along a row)
      grass     0      5     60

Only pixels with a label and a mapped class count; how many lack one of both is told beside.
If labels were drawn so that some classes have more of them than their area, these numbers
are of the sample and not of the map: `geofuse.evaluation.area` puts that right.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float, Int

from geofuse.errors import GridMismatchError, ParameterError
from geofuse.rasters.grid import check_same_grid
from geofuse.rasters.labels import legend_in
from geofuse.rasters.legend import Legend, legend_of
from geofuse.tiling import reduce_tiles

#: Scores of the whole map and of one class, as the table names them.
WHOLE = ("overall", "average", "kappa", "mean_f1", "mean_iou")
BY_CLASS = ("producers", "users", "f1", "iou")


@dataclass(frozen=True, eq=False)
class Confusion:
    """The error matrix of a map, and the pixels that are not in it.

    Attributes:
        names: Names of the classes.
        counts: Pixels (map class, class of the label).
        unmapped: Labeled pixels without a mapped class, by class of the label.
        unlabeled: Mapped pixels without a label, by map class.
    """

    names: tuple[str, ...]
    counts: Int[np.ndarray, "class class"]
    unmapped: Int[np.ndarray, " class"]
    unlabeled: Int[np.ndarray, " class"]

    @property
    def mapped(self) -> Int[np.ndarray, " class"]:
        """All pixels of each map class, labeled or not: its area."""
        return self.counts.sum(axis=1) + self.unlabeled

    def accuracy(self) -> "Accuracy":
        """The scores of the matrix."""
        return _accuracy(self)

    def table(self) -> pd.DataFrame:
        """The matrix with names: map classes down, classes of labels across."""
        return pd.DataFrame(
            self.counts,
            index=pd.Index(self.names, name="map"),
            columns=pd.Index(self.names, name="label"),
        )


@dataclass(frozen=True, eq=False)
class Accuracy:
    """Scores of a map; NaN where a class has no pixel to tell it by.

    Attributes:
        names: Names of the classes.
        overall: Share of the pixels that is right, 0 to 1.
        average: Mean producer's accuracy over the classes that have labels.
        kappa: Cohen's kappa, agreement beyond chance, at most 1.
        mean_f1: Mean F1 over the classes that have labels.
        mean_iou: Mean intersection over union, likewise.
        producers: Of the pixels of a class, the share that is mapped so (recall).
        users: Of the pixels mapped as a class, the share that is it (precision).
        f1: Harmonic mean of both.
        iou: Intersection over union.
        support: Pixels of each class that count.
        unmapped: Labeled pixels without a mapped class, which do not count.
        unlabeled: Mapped pixels without a label, likewise.
    """

    names: tuple[str, ...]
    overall: float
    average: float
    kappa: float
    mean_f1: float
    mean_iou: float
    producers: Float[np.ndarray, " class"]
    users: Float[np.ndarray, " class"]
    f1: Float[np.ndarray, " class"]
    iou: Float[np.ndarray, " class"]
    support: Int[np.ndarray, " class"]
    unmapped: int
    unlabeled: int

    def table(self) -> pd.DataFrame:
        """All scores as a tidy table: `class`, `metric`, `value`.

        The class of scores of the whole map is "all".
        """
        rows: list[tuple[str, str, float]] = [
            ("all", name, float(getattr(self, name))) for name in WHOLE
        ]
        rows += [
            ("all", "support", float(self.support.sum())),
            ("all", "unmapped", float(self.unmapped)),
            ("all", "unlabeled", float(self.unlabeled)),
        ]
        rows += [
            (name, metric, float(getattr(self, metric)[number]))
            for number, name in enumerate(self.names)
            for metric in (*BY_CLASS, "support")
        ]
        return pd.DataFrame(rows, columns=["class", "metric", "value"])


def confusion(
    land_cover: xr.DataArray,
    labels: xr.DataArray,
    legend: Legend | Sequence[str] | None = None,
) -> Confusion:
    """The error matrix of a map, exact, read tile by tile.

    Args:
        land_cover: Numbers of classes (y, x), -1 where there is none; lazy or not.
        labels: The true ones on the same grid, -1 where unlabeled.
        legend: The classes; None takes what the labels carry.

    Raises:
        GridMismatchError: They are not on one grid, or not (y, x).
        ParameterError: They are no integers, a number is not in the legend, or there is
            no legend.

    >>> from geofuse.rasters.grid import place
    >>> from odc.geo.geobox import GeoBox
    >>> grid = GeoBox((1, 4), GeoBox.from_bbox((0, 0, 40, 10), resolution=10).affine, None)
    >>> truth, found = np.array([[0, 0, 1, -1]]), np.array([[0, 1, 1, 1]])
    >>> matrix = confusion(place(found, grid), place(truth, grid), ["water", "land"])
    >>> matrix.counts.tolist(), matrix.unlabeled.tolist()
    ([[1, 0], [1, 1]], [0, 1])
    """
    classes = legend_in(labels) if legend is None else legend_of(legend)
    for raster, name in ((land_cover, "the map"), (labels, "labels")):
        if raster.dims != ("y", "x"):
            raise GridMismatchError(
                f"expected {name} (y, x), found {raster.dims}; select a band"
            )
        if raster.dtype.kind not in "iu":
            raise ParameterError(
                f"expected {name} as integers, -1 where there is no class, found "
                f"{raster.dtype}; open them with geofuse.open_labels"
            )
    check_same_grid(land_cover, labels, names=("the map", "labels"))
    # Outside the raster tiles hold 0, which after a shift by one is "no class" too.
    rasters = {
        name: raster.astype(np.int32) + np.int32(1)
        for name, raster in (("map", land_cover), ("labels", labels))
    }
    count = len(classes)
    full = reduce_tiles(partial(_count_pairs, count=count), rasters, _total).compute()
    return Confusion(classes.names, full[1:, 1:], full[0, 1:], full[1:, 0])


def merged(matrices: Sequence[Confusion]) -> Confusion:
    """One error matrix of several maps with one legend.

    Raises:
        ParameterError: There is none, or the legends differ.
    """
    if not matrices or len({matrix.names for matrix in matrices}) != 1:
        raise ParameterError(
            "expected error matrices of one legend, found "
            f"{sorted({matrix.names for matrix in matrices})}; compute them with the same"
        )
    return Confusion(
        matrices[0].names,
        *(
            np.sum([getattr(matrix, name) for matrix in matrices], axis=0)
            for name in ("counts", "unmapped", "unlabeled")
        ),
    )


def _count_pairs(arrays: Mapping[str, np.ndarray], _: Any, *, count: int) -> np.ndarray:
    pairs = [np.maximum(arrays[name], 0).astype(np.int64) for name in ("map", "labels")]
    largest = max(int(values.max(initial=0)) for values in pairs)
    if largest > count:
        raise ParameterError(
            f"expected numbers of {count} classes, found {largest - 1}; give the legend "
            "that map and labels share"
        )
    # A row and a column for pixels without a class come first.
    side = count + 1
    both = (pairs[0] * side + pairs[1]).ravel()
    return np.bincount(both, minlength=side * side).reshape(side, side)


def _total(parts: Sequence[np.ndarray]) -> np.ndarray:
    total = np.asarray(np.sum(parts, axis=0, dtype=np.int64))
    total[0, 0] = 0  # has neither, or is outside
    return total


def _accuracy(matrix: Confusion) -> Accuracy:
    counts = matrix.counts.astype(np.float64)
    hits, mapped, true = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    total = counts.sum()
    producers, users = _ratio(hits, true), _ratio(hits, mapped)
    f1, iou = _ratio(2 * hits, mapped + true), _ratio(hits, mapped + true - hits)
    present = true > 0
    overall = float(hits.sum() / total) if total else math.nan
    chance = float((mapped * true).sum() / total**2) if total else math.nan
    kappa = (overall - chance) / (1 - chance) if chance < 1 else math.nan
    return Accuracy(
        matrix.names,
        overall,
        _mean(producers[present]),
        kappa,
        _mean(f1[present]),
        _mean(iou[present]),
        producers,
        users,
        f1,
        iou,
        true.astype(np.int64),
        int(matrix.unmapped.sum()),
        int(matrix.unlabeled.sum()),
    )


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else math.nan
