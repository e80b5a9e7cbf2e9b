"""Coverage by parts of the scene: is an interval honest where it matters?

The mean over a scene hides that intervals are too wide where nothing changed and too narrow
where everything did. Strata are whole numbers per pixel: the tenth of the coarse change that
a pixel is in, its class, edge or not, its date.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from geofuse.errors import ParameterError
from geofuse.uncertainty.calibration import valid_pixels


class Strata(NamedTuple):
    """Coverage of each stratum.

    Attributes:
        stratum: The strata that have a valid pixel, in order.
        coverage: Share of the truth inside the interval, unitless.
        width: Mean width of the interval, in the unit of the images.
        pixels: Number of valid pixels.
    """

    stratum: Int[np.ndarray, " stratum"]
    coverage: Float[np.ndarray, " stratum"]
    width: Float[np.ndarray, " stratum"]
    pixels: Int[np.ndarray, " stratum"]


def coverage_by(
    strata: Int[np.ndarray, "..."],
    reference: Float[np.ndarray, "..."],
    lower: Float[np.ndarray, "..."],
    upper: Float[np.ndarray, "..."],
) -> Strata:
    """Coverage and width of intervals in each stratum.

    Args:
        strata: Stratum of each pixel, 1, 2, …; those of 0 or less do not count.
        reference: The truth, NaN where invalid.
        lower: Lower bounds.
        upper: Upper bounds.

    Raises:
        ParameterError: Shapes differ.

    >>> truth, bound = np.array([0.0, 2.0, 0.5]), np.ones(3)
    >>> coverage_by(np.array([1, 1, 2]), truth, -bound, bound).coverage
    array([0.5, 1. ])
    """
    given = np.where(strata > 0, strata.astype(np.float64), np.nan)
    number, truth, low, high = valid_pixels(given, reference, lower, upper)
    found, group, pixels = np.unique(
        number.astype(np.int64), return_inverse=True, return_counts=True
    )
    inside = (low <= truth) & (truth <= high)
    shares, widths = (
        np.bincount(group, weights=values, minlength=found.size) / pixels
        for values in (inside.astype(np.float64), high - low)
    )
    return Strata(found, shares, widths, pixels.astype(np.int64))


def quantile_groups(
    values: Float[np.ndarray, "..."], groups: int = 10
) -> Int[np.ndarray, "..."]:
    """The tenth that each pixel is in by its value, 1 to 10; 0 where it is NaN.

    Args:
        values: For example the absolute coarse change.
        groups: How many groups of about equal size. Equal values share a group, so that
            one may be larger, and others empty.

    Raises:
        ParameterError: There is no group.

    >>> quantile_groups(np.array([0.1, 0.4, np.nan, 0.2, 0.3]), groups=2)
    array([1, 2, 0, 1, 2])
    """
    if groups < 1:
        raise ParameterError(f"expected at least 1 group, found {groups}; 10 is usual")
    valid = np.isfinite(values)
    found = np.zeros(values.shape, np.int64)
    if valid.any():
        edges = np.quantile(values[valid], np.arange(1, groups) / groups)
        found[valid] = 1 + np.searchsorted(edges, values[valid], side="left")
    return found
