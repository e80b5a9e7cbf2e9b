"""Does a stated uncertainty match the error? Scores of Gaussians and of intervals.

    coverage, width      share of the truth inside an interval, and how wide that is
    interval_score       both in one number: width, and a fine for each miss
    crps, nll            of the whole Gaussian: is it near the truth, and as sharp as it may be
    calibration_error    are all quantiles right, on average over the pixels
    ence                 is the standard deviation right where it is small and where large
    ause, aurg, spearman does it rank the errors (`sparsification.py`)

Coverage alone is not enough: an interval that is too wide in half of the scene and too
narrow in the other half covers as it should. Score by strata too (`strata.py`).

Arrays may have any shape; only pixels count that are finite in all of them, and without
one every score is NaN. Smaller is better for all but coverage, AURG and Spearman. Scores are
in the unit of the images unless said.

References:
    crps, interval_score: T. Gneiting, A. E. Raftery (2007): Strictly proper scoring rules,
        prediction, and estimation. Journal of the American Statistical Association 102,
        359-378.
    ence: D. Levi, L. Gispan, N. Giladi, E. Fetaya (2022): Evaluating and calibrating
        uncertainty prediction in regression tasks. Sensors 22, 5540.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr

from geofuse.errors import ParameterError
from geofuse.uncertainty.intervals import check_level, gaussian_factor, in_percent
from geofuse.uncertainty.sparsification import rank_correlation, sparsification

Image = Float[np.ndarray, "..."]

#: Levels at which intervals are scored.
LEVELS = (0.5, 0.8, 0.9, 0.95)


def gaussian_scores(
    reference: Image, mean: Image, std: Image, *, levels: Sequence[float] = LEVELS
) -> dict[str, float]:
    """All scores of predictions that are a Gaussian per pixel.

    Args:
        reference: The truth, NaN where invalid.
        mean: The predictions.
        std: Their standard deviations, not negative, in the same unit.
        levels: Levels of the intervals, each between 0 and 1.

    Returns:
        By name: `pixels`, the number that counted; `rmse`; `std`, the root mean square of
        the stated ones; `coverage_90`, `width_90`, `interval_score_90` and so on of each
        level; `crps`, `nll`, `calibration_error`, `ence`, `ause`, `aurg`, `spearman`.

    Raises:
        ParameterError: Shapes differ, a standard deviation is negative, or a level is not
            between 0 and 1.

    >>> truth = np.random.default_rng(0).normal(size=10_000)
    >>> found = gaussian_scores(truth, np.zeros(10_000), np.ones(10_000))
    >>> round(found["coverage_90"], 2), round(found["crps"], 2)
    (0.9, 0.56)
    """
    truth, center, spread = _gaussians(reference, mean, std)
    ranked = sparsification(truth - center, spread)
    scores = {
        "pixels": float(truth.size),
        "rmse": _root_mean_square(truth - center),
        "std": _root_mean_square(spread),
    }
    for level in levels:
        half = gaussian_factor(level) * spread
        lower, upper, name = center - half, center + half, in_percent(level)
        scores[f"coverage_{name}"] = coverage(truth, lower, upper)
        scores[f"width_{name}"] = _mean(upper - lower)
        scores[f"interval_score_{name}"] = interval_score(truth, lower, upper, level)
    return scores | {
        "crps": crps(truth, center, spread),
        "nll": nll(truth, center, spread),
        "calibration_error": calibration_error(pit(truth, center, spread)),
        "ence": ence(truth, center, spread),
        "ause": ranked.ause,
        "aurg": ranked.aurg,
        "spearman": rank_correlation(truth - center, spread),
    }


def coverage(reference: Image, lower: Image, upper: Image) -> float:
    """Share of the truth that lies inside the interval, bounds included, unitless.

    Raises:
        ParameterError: Shapes differ.
    """
    truth, low, high = valid_pixels(reference, lower, upper)
    return _mean((low <= truth) & (truth <= high))


def interval_score(reference: Image, lower: Image, upper: Image, level: float) -> float:
    """Mean width of the intervals plus 2 / (1 - level) times how far the truth is outside.

    Gneiting & Raftery (2007), eq. 43. The central interval of that level has the least
    that can be expected.

    Raises:
        ParameterError: Shapes differ, or the level is not between 0 and 1.
    """
    check_level(level)
    truth, low, high = valid_pixels(reference, lower, upper)
    outside = np.maximum(low - truth, 0.0) + np.maximum(truth - high, 0.0)
    return _mean((high - low) + 2.0 / (1.0 - level) * outside)


def crps(reference: Image, mean: Image, std: Image) -> float:
    """Mean continuous ranked probability score: the integral of (F(x) - [x >= truth])².

    In closed form, Gneiting & Raftery (2007), eq. 21, with the sign turned. Where `std` is
    0 it is the absolute error.

    Raises:
        ParameterError: Shapes differ, or a standard deviation is negative.
    """
    truth, center, spread = _gaussians(reference, mean, std)
    sharp = spread == 0
    safe = np.where(sharp, 1.0, spread)
    z = (truth - center) / safe
    density = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    score = safe * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / math.sqrt(math.pi))
    return _mean(np.where(sharp, np.abs(truth - center), score))


def nll(reference: Image, mean: Image, std: Image) -> float:
    """Mean negative logarithm of the density at the truth, in nats; the unit shifts it.

    Infinite where any `std` is 0: such a Gaussian has no density.

    Raises:
        ParameterError: Shapes differ, or a standard deviation is negative.
    """
    truth, center, spread = _gaussians(reference, mean, std)
    if (spread == 0).any():
        return math.inf
    z = (truth - center) / spread
    return _mean(0.5 * z * z + np.log(spread) + 0.5 * math.log(2 * math.pi))


def pit(reference: Image, mean: Image, std: Image) -> Float[np.ndarray, " pixel"]:
    """Probability that each Gaussian gives to less than the truth, 0 to 1.

    The probability integral transform: uniform where the Gaussians are right. Pixels that
    do not count are left out. Where `std` is 0 it is 0, 1, or 0.5 if there is no error.

    Raises:
        ParameterError: Shapes differ, or a standard deviation is negative.
    """
    truth, center, spread = _gaussians(reference, mean, std)
    error = truth - center
    sharp = spread == 0
    side = 0.5 + 0.5 * np.sign(error)
    return np.where(sharp, side, ndtr(error / np.where(sharp, 1.0, spread)))


def calibration_error(probabilities: Float[np.ndarray, " pixel"]) -> float:
    """Area between the distribution of `pit` and the uniform one, 0 to 0.5, unitless.

    It is the mean distance of the sorted values from where they would lie if they were
    spread evenly. 0.5: all truth above, or all below, what was thought possible.
    """
    values = np.sort(probabilities[np.isfinite(probabilities)])
    if values.size == 0:
        return math.nan
    edges = np.arange(values.size + 1) / values.size

    # Value i stands for the shares from i / n to (i + 1) / n: the integral of |value - t|.
    def signed_square(distance: np.ndarray) -> np.ndarray:
        return distance * np.abs(distance)

    ends = signed_square(edges[1:] - values), signed_square(edges[:-1] - values)
    return float((ends[0] - ends[1]).sum() / 2)


def ence(reference: Image, mean: Image, std: Image, *, bins: int = 20) -> float:
    """Expected normalized calibration error, unitless (Levi et al. 2022).

    Pixels are put in `bins` of equal number by `std`; the mean over the bins of
    |RMV - RMSE| / RMV, where RMV is the root of the mean variance. A small number of pixels
    a bin leaves some of it to chance; fewer pixels than bins have a bin each.

    Raises:
        ParameterError: Shapes differ, a standard deviation is negative, or there is no bin.
    """
    if bins < 1:
        raise ParameterError(f"expected at least 1 bin, found {bins}; 20 is usual")
    truth, center, spread = _gaussians(reference, mean, std)
    if truth.size == 0:
        return math.nan
    order = np.argsort(spread, kind="stable")
    squares = np.stack([spread[order], (truth - center)[order]]) ** 2
    starts = np.unique(np.linspace(0, truth.size, bins, endpoint=False).astype(int))
    counts = np.diff(np.append(starts, truth.size))
    stated, found = np.sqrt(np.add.reduceat(squares, starts, axis=1) / counts)
    wrong = np.abs(stated - found)
    if (wrong[stated == 0] > 0).any():
        return math.inf
    return _mean(wrong / np.where(stated == 0, 1.0, stated))


def valid_pixels(*images: Image) -> list[Float[np.ndarray, " pixel"]]:
    """The pixels that are finite in all images, as float64.

    Raises:
        ParameterError: Shapes differ.
    """
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        raise ParameterError(
            f"expected arrays of one shape, found {sorted(shapes)}; select the same bands "
            "and pixels of all of them"
        )
    valid = np.logical_and.reduce([np.isfinite(image) for image in images])
    return [image[valid].astype(np.float64) for image in images]


def _gaussians(reference: Image, mean: Image, std: Image) -> list[np.ndarray]:
    pixels = valid_pixels(reference, mean, std)
    if (pixels[2] < 0).any():
        raise ParameterError(
            f"expected standard deviations of 0 or more, found {pixels[2].min():g}; take "
            "the square root of aleatoric + epistemic"
        )
    return pixels


def _root_mean_square(values: np.ndarray) -> float:
    return math.sqrt(_mean(values**2)) if values.size else math.nan


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else math.nan
