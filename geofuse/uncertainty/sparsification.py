"""Does the uncertainty rank the errors? Leave out what is least sure, and look at the rest.

    RMSE of the rest      ── by random: stays as it is      the less area between the
    1 ─────────────        ╲  by uncertainty                curve and the oracle, the
      ╲ ‾‾╲__               ╲ by the error itself           better (AUSE); the more below
        ‾‾╲__ ‾‾‾╲            (the oracle)                  the random line, the better
    0 ───────‾‾‾‾‾─> share left out                         (AURG)

It says nothing of the size of the uncertainty: any growing function of it gives the same.

References:
    Curve and AUSE: E. Ilg et al. (2018): Uncertainty estimates and multi-hypotheses networks
        for optical flow. European Conference on Computer Vision.
    AURG: M. Poggi, F. Aleotti, F. Tosi, S. Mattoccia (2020): On the uncertainty of
        self-supervised monocular depth estimation. Computer Vision and Pattern Recognition.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

from geofuse.errors import ParameterError

#: Shares that are left out: 0, 0.01, …, 0.99.
SHARES = np.arange(100) / 100


class Sparsification(NamedTuple):
    """RMSE of what is left, over the RMSE of all pixels; unitless, 1 at the start.

    Attributes:
        shares: Share of the pixels that is left out, 0 to 0.99.
        curve: Of what is left where the least sure pixels are left out first.
        oracle: Where those with the largest error are.
        ause: Area between the two: 0 is a perfect ranking.
        aurg: Area between 1, a random ranking, and the curve: 0 is no better than that.
    """

    shares: Float[np.ndarray, " share"]
    curve: Float[np.ndarray, " share"]
    oracle: Float[np.ndarray, " share"]
    ause: float
    aurg: float


def sparsification(
    error: Float[np.ndarray, "..."], std: Float[np.ndarray, "..."]
) -> Sparsification:
    """Leave out the least sure pixels, and see how the RMSE of the others falls.

    Args:
        error: Errors, NaN where invalid.
        std: Standard deviations, or any other measure of doubt, of the same shape. Pixels
            of one value are left out in random order: what is expected of it is computed.

    Returns:
        All NaN where no pixel is valid or none has an error.

    Raises:
        ParameterError: Shapes differ.

    >>> error = np.array([3.0, -1.0, 2.0, 0.5])
    >>> sparsification(error, np.abs(error)).ause
    0.0
    """
    wrong, doubt = _both(error, std)
    squares = wrong**2
    if not squares.any():
        nothing = np.full(SHARES.shape, np.nan)
        return Sparsification(SHARES, nothing, nothing, math.nan, math.nan)
    curve, oracle = (_left(squares, by) for by in (doubt, np.abs(wrong)))
    return Sparsification(
        SHARES,
        curve,
        oracle,
        float(np.trapezoid(curve - oracle, SHARES)),
        float(np.trapezoid(1.0 - curve, SHARES)),
    )


def rank_correlation(
    error: Float[np.ndarray, "..."], std: Float[np.ndarray, "..."]
) -> float:
    """Spearman's correlation of |error| with the standard deviation, -1 to 1, unitless.

    NaN where fewer than two pixels are valid, or one of the two is the same everywhere.

    Raises:
        ParameterError: Shapes differ.
    """
    ranks = [rankdata(values) for values in _both(np.abs(error), std)]
    if ranks[0].size < 2 or any(np.ptp(rank) == 0 for rank in ranks):
        return math.nan
    return float(np.corrcoef(*ranks)[0, 1])


def _left(squares: np.ndarray, doubt: np.ndarray) -> np.ndarray:
    """Root mean square of what is left, for each share left out, over that of all."""
    _, group, counts = np.unique(doubt, return_inverse=True, return_counts=True)
    means = np.bincount(group, weights=squares) / counts
    # From the surest on, each pixel with the mean of those that are as sure.
    sums = np.cumsum(np.repeat(means, counts))
    kept = np.maximum(np.ceil((1.0 - SHARES) * squares.size - 1e-9).astype(int), 1)
    return np.sqrt(sums[kept - 1] / kept) / math.sqrt(sums[-1] / squares.size)


def _both(error: np.ndarray, std: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if error.shape != std.shape:
        raise ParameterError(
            f"expected errors and standard deviations of one shape, found {error.shape} "
            f"and {std.shape}; select the same bands and pixels of both"
        )
    valid = np.isfinite(error) & np.isfinite(std)
    return error[valid].astype(np.float64), std[valid].astype(np.float64)
