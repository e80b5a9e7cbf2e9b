"""Intervals that cover as they say, whatever the errors are distributed like.

Held-out errors are measured in stated standard deviations, and the quantile of those scores
is the factor that replaces the Gaussian one:

    score = |error| / std             split conformal     mean ± q std
    score = max(l - y, y - u) / h     CQR                 l - q h … u + q h

That works if a new score is exchangeable with the held-out ones. Pixels of one image are
not: its haze, its misregistration and its season are in all of them. So the *units* are
scenes, dates or sites, and a million pixels of three dates are three units. With K units of
N_k pixels the quantile is that of

    sum_k sum_i 1 / ((K + 1) N_k) at score_ki   and   1 / (K + 1) at infinity

the last for the new unit, of which nothing is known. So a pixel drawn from a new unit is
covered with at least the wanted probability, over the draw of all units; the coverage within
a single unit may still be less. For a level of 90 % it takes 9 units, for 95 % it takes 19.

References:
    Units: Y. Lee, R. F. Barber, R. Willett (2023): Distribution-free inference with
        hierarchical data. arXiv 2306.06342.
    CQR: Y. Romano, E. Patterson, E. J. Candès (2019): Conformalized quantile regression.
        Advances in Neural Information Processing Systems 32. Here its scores are in units
        of half the interval's width h, so that one number serves small and large errors.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from geofuse.errors import ParameterError
from geofuse.uncertainty.calibration import valid_pixels
from geofuse.uncertainty.intervals import check_level

Image = Float[np.ndarray, "..."]
Scores = Float[np.ndarray, "_"]


def units_needed(level: float) -> int:
    """Fewest scenes, dates or sites that support intervals of that level.

    Raises:
        ParameterError: The level is not between 0 and 1.

    >>> [units_needed(level) for level in (0.5, 0.8, 0.9, 0.95)]
    [1, 4, 9, 19]
    """
    check_level(level)
    return math.ceil(level / (1.0 - level) - 1e-9)


def conformal_quantile(scores: Sequence[Scores], level: float) -> float:
    """The factor that scores of held-out units ask for.

    Args:
        scores: Scores of each unit (a scene, a date, a site): `split_scores` or
            `cqr_scores`. Units count alike; those without a finite score do not count.
        level: Share of new pixels to be covered, between 0 and 1.

    Returns:
        The factor q. From `cqr_scores` it may be negative: the intervals were too wide.

    Raises:
        ParameterError: There are too few units for the level, or it is not between 0 and
            1.

    >>> rng = np.random.default_rng(0)
    >>> scores = [np.abs(rng.normal(size=4000)) for _ in range(40)]
    >>> 1.6 < conformal_quantile(scores, 0.9) < 1.9
    True
    """
    units = [unit[~np.isnan(unit)].astype(np.float64) for unit in scores]
    units = [unit for unit in units if unit.size]
    needed, found = units_needed(level), len(units)
    if found < needed:
        best = found / (found + 1)
        help_ = f"ask for a level of {best:.3g} at most, or " if found else ""
        raise ParameterError(
            f"expected at least {needed} scenes, dates or sites for a level of {level:g}, "
            f"found {found} with a valid pixel; {help_}add some (pixels of one image share "
            "their errors and count as one), or take gaussian_factor"
        )
    pooled = np.concatenate(units)
    sizes = np.array([unit.size for unit in units])
    weight = np.repeat(1.0 / ((found + 1) * sizes), sizes)
    order = np.argsort(pooled, kind="stable")
    reached = np.cumsum(weight[order])
    place = np.searchsorted(reached, level * (1.0 - 1e-12), side="left")
    return float(pooled[order][min(int(place), pooled.size - 1)])


def split_scores(reference: Image, mean: Image, std: Image) -> Scores:
    """|error| in standard deviations, of the valid pixels of one unit.

    Infinite where there is an error and `std` is 0.

    Raises:
        ParameterError: Shapes differ.
    """
    truth, center, spread = valid_pixels(reference, mean, std)
    return _in_units(np.abs(truth - center), spread)


def cqr_scores(reference: Image, lower: Image, upper: Image) -> Scores:
    """How far the truth is outside the interval, in half its width; negative inside.

    Raises:
        ParameterError: Shapes differ.
    """
    truth, low, high = valid_pixels(reference, lower, upper)
    return _in_units(np.maximum(low - truth, truth - high), (high - low) / 2)


def widened(lower: Image, upper: Image, factor: float) -> tuple[Image, Image]:
    """Intervals with `factor` times half their width added on each side.

    Args:
        lower: Lower bounds, NaN where invalid.
        upper: Upper bounds.
        factor: What `conformal_quantile` found from `cqr_scores`; -1 or less leaves the
            middle of the interval, and nothing else.
    """
    half = max(factor, -1.0) * (upper - lower) / 2
    return lower - half, upper + half


def _in_units(size: np.ndarray, unit: np.ndarray) -> np.ndarray:
    none = unit == 0
    ratio = size / np.where(none, 1.0, unit)
    return np.where(none & (size != 0), np.copysign(np.inf, size), ratio)
