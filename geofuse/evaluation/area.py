"""Accuracy and area of classes, adjusted by what the map says of their areas.

Counting mapped pixels is not an estimate of area: a map that finds every tenth pixel of
forest to be cleared, wrongly, has too much clearing. And where labels were drawn by class,
their error matrix says little of the whole map. With W the share of each map class of the
area, and n the labels (map class, class of the label) of which n_i. lie in class i:

    share of the area  p_ij = W_i n_ij / n_i.      area of class j  sum_i p_ij

That is right if the labels are a random sample within each map class, drawn after the map
was made; labels that were clicked where it was easy are not, and intervals are then too
narrow. Pixels of one polygon are no independent draws either: take one of each.

Reference: P. Olofsson, G. M. Foody, M. Herold, S. V. Stehman, C. E. Woodcock, M. A. Wulder
(2014): Good practices for estimating area and assessing accuracy of land change. Remote
Sensing of Environment 148, 42-57. Equations are numbered as there.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped
from scipy.special import ndtri

from geofuse.errors import ParameterError
from geofuse.evaluation.accuracy import Confusion
from geofuse.uncertainty.intervals import check_level


@dataclass(frozen=True, eq=False)
class AreaAdjusted:
    """Stratified estimates for the whole map, each with its standard error.

    Attributes:
        names: Names of the classes.
        overall: Overall accuracy, 0 to 1, and its standard error.
        users: User's accuracy of each class, and standard errors; NaN for a class that is
            not mapped.
        producers: Producer's accuracy, likewise; NaN for a class without a label.
        shares: Share of each class of the mapped area, likewise.
        pixels: Mapped pixels in all.
    """

    names: tuple[str, ...]
    overall: tuple[float, float]
    users: tuple[Float[np.ndarray, " class"], Float[np.ndarray, " class"]]
    producers: tuple[Float[np.ndarray, " class"], Float[np.ndarray, " class"]]
    shares: tuple[Float[np.ndarray, " class"], Float[np.ndarray, " class"]]
    pixels: int

    def table(
        self, *, level: float = 0.95, pixel_area: float | None = None
    ) -> pd.DataFrame:
        """All estimates: `class`, `metric`, `value`, `standard_error`, `low`, `high`.

        Args:
            level: Of the intervals, which are those of a Gaussian and are not cut at 0 or
                1.
            pixel_area: Area of a pixel, in any unit: adds rows `area` in that unit.

        Raises:
            ParameterError: The level is not between 0 and 1.
        """
        check_level(level)
        rows: list[tuple[str, str, float, float]] = [("all", "overall", *self.overall)]
        listed = [("users", self.users), ("producers", self.producers)]
        listed.append(("share", self.shares))
        if pixel_area is not None:
            whole = pixel_area * self.pixels
            listed.append(("area", (self.shares[0] * whole, self.shares[1] * whole)))
        rows += [
            (name, metric, float(value[number]), float(error[number]))
            for number, name in enumerate(self.names)
            for metric, (value, error) in listed
        ]
        table = pd.DataFrame(
            rows, columns=["class", "metric", "value", "standard_error"]
        )
        half = float(ndtri(0.5 + level / 2)) * table["standard_error"]
        return table.assign(low=table["value"] - half, high=table["value"] + half)


def area_adjusted(matrix: Confusion) -> AreaAdjusted:
    """Accuracy and area of the whole map from labels within its classes.

    Args:
        matrix: Of `confusion` over the whole map: it counts mapped pixels without a label
            too, which give the areas.

    Raises:
        ParameterError: As `stratified`.
    """
    return stratified(matrix.names, matrix.counts, matrix.mapped)


def stratified(
    names: tuple[str, ...],
    counts: Shaped[np.ndarray, "class class"],
    mapped: Shaped[np.ndarray, " class"],
) -> AreaAdjusted:
    """Accuracy and area from a sample that is random within each map class.

    Args:
        names: Names of the classes.
        counts: Labels (map class, class of the label).
        mapped: Pixels of each map class in the whole map.

    Raises:
        ParameterError: A class that is mapped has fewer than two labels in it.
    """
    sample = counts.sum(axis=1).astype(np.float64)
    used = mapped > 0
    few = [
        name for name, has, n in zip(names, used, sample, strict=True) if has and n < 2
    ]
    if few or not used.any():
        raise ParameterError(
            "expected at least two labels within each class of the map, found fewer in "
            f"{', '.join(few) or 'all'}; label some pixels mapped so, or merge the class "
            "with another"
        )
    total = float(mapped.sum())
    weight = mapped / total
    # Classes that are not mapped have no weight; any number of labels does for them.
    labels = np.where(used, sample, 2.0)
    within = np.where(used[:, None], counts, 0) / labels[:, None]
    spread = within * (1 - within) / (labels - 1)[:, None]
    users = np.where(used, np.diag(within), np.nan)
    users_error = np.where(used, np.sqrt(np.diag(spread)), np.nan)  # eq. 6
    proportions = weight[:, None] * within  # eq. 4
    overall = float(np.trace(proportions))  # eq. 1
    overall_error = float(np.sqrt((weight**2 * np.diag(spread)).sum()))  # eq. 5
    shares = proportions.sum(axis=0)  # eq. 9
    shares_error = np.sqrt((weight[:, None] ** 2 * spread).sum(axis=0))  # eq. 10
    known = shares > 0
    area = np.where(known, shares, 1.0)
    producers = np.diag(proportions) / area  # eq. 3
    own = (1 - producers) ** 2 * weight**2 * np.diag(spread)
    others = (weight[:, None] ** 2 * spread).sum(axis=0) - weight**2 * np.diag(spread)
    # eq. 7, with shares in place of pixels
    producers_error = np.sqrt(own + producers**2 * np.maximum(others, 0)) / area
    return AreaAdjusted(
        tuple(names),
        (overall, overall_error),
        (users, users_error),
        (
            np.where(known, producers, np.nan),
            np.where(known, producers_error, np.nan),
        ),
        (shares, shares_error),
        int(total),
    )
