"""How far to trust each of several predictions of one image, without its truth.

What is known are the predictions p_i, the coarse image C2, and the pairs:

    D_ij   mean square difference of two predictions
    R_i    (C2 - C_k) - (p_i - F_k), aggregated: what p_i adds up to wrongly
    N      noise power of such a residual, from how C_k and F_k differ on the base dates

An error has a part that shows when the prediction is aggregated and one that does not.

The first shows in R_i, which holds the noise of C2 as well. A prediction that follows the
coarse change by a share g of it, C2 - C_k = change + noise, has the residual (1 - g)(change
+ noise) and the coarse error g noise - (1 - g) change. Where g = 1 (all noise is in), where
g = 0 (none), and where g is the best there is, the power of that error is | R^2 - N |.

Of the second the predictions tell each other, by triple collocation: if the covariance of
two errors, S_ij = (v_i + v_j - D_ij) / 2, is one and the same c for all pairs of methods,
then D_ij = u_i + u_j with u_i = v_i - c, what a method has of its own; three methods are
enough to know them all. So

    v_i = | mean R_i^2 - N | + u_i      weight ~ 1 / (v_i + mean of v / 4)

The quarter shrinks towards equal weights, for no v_i is known that well. No inverse of S is
taken: on simulated scenes weights by it (BLUE, also shrunk and not negative) were worse.

References: A. Stoffelen (1998): Toward the true near-surface wind speed: error modeling and
calibration using triple collocation. Journal of Geophysical Research 103, 7755-7766.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

#: Fewest coarse pixels from which the noise of the coarse images is told.
FEWEST_CELLS = 12

#: Share of the mean variance that is added to each, against chance.
SHRINK = 0.25


class Sums(NamedTuple):
    """Sums of products of images (…, y, x) over valid pixels, and how many there were."""

    total: Float[np.ndarray, "..."]
    pixels: Float[np.ndarray, "..."]

    def mean(self) -> Float[np.ndarray, "..."]:
        """The mean product; NaN where there was no valid pixel."""
        return self.total / np.where(self.pixels > 0, self.pixels, np.nan)


def added(parts: list[Sums]) -> Sums:
    """Sums of a whole from those of its parts, in their order."""
    return Sums(*(np.sum(field, axis=0) for field in zip(*parts, strict=True)))


def powers(images: Float[np.ndarray, "*lead y x"]) -> Sums:
    """Squares, summed over the last two axes."""
    square = images.astype(np.float64) ** 2
    valid = np.isfinite(square)
    return Sums(
        np.where(valid, square, 0.0).sum(axis=(-2, -1)),
        valid.sum(axis=(-2, -1)).astype(np.float64),
    )


def cell_means(
    images: Float[np.ndarray, "*lead y x"], scale: int
) -> Float[np.ndarray, "*lead row column"]:
    """Means of coarse pixels of which half is valid or more; NaN elsewhere."""
    *lead, rows, columns = images.shape
    shape = (*lead, rows // scale, scale, columns // scale, scale)
    blocks = images.astype(np.float64).reshape(shape)
    valid = np.isfinite(blocks)
    total = np.where(valid, blocks, 0.0).sum(axis=(-3, -1))
    count = valid.sum(axis=(-3, -1))
    enough = 2 * count >= scale**2
    return np.where(enough, total / np.maximum(count, 1), np.nan)


def differences(predictions: Float[np.ndarray, "method band y x"]) -> Sums:
    """Squared differences of all pairs of predictions: (band, method, method)."""
    return _of_pairs(predictions, lambda one, other: (one - other) ** 2)


def products(residuals: Float[np.ndarray, "method band row column"]) -> Sums:
    """Products of all pairs of residuals: (band, method, method)."""
    return _of_pairs(residuals, lambda one, other: one * other)


def collocation(
    difference: Float[np.ndarray, "*band method method"],
) -> Float[np.ndarray, "*band method"]:
    """The error power that each method has of its own.

    Args:
        difference: Mean square differences D_ij; NaN where two were nowhere valid together.

    Returns:
        u_i of D_ij = u_i + u_j by least squares, not negative, in squared units. Two
        methods share their difference alike; one has 0; NaN for a method that meets no
        other.
    """
    methods = difference.shape[-1]
    off = np.where(np.eye(methods, dtype=bool), np.nan, difference)
    known = np.isfinite(off)
    found = np.full(difference.shape[:-1], np.nan)
    for place in np.ndindex(*difference.shape[:-2]):
        use = np.flatnonzero(known[place].any(axis=1))
        if len(use) == 0:
            found[place] = np.where(
                np.isfinite(np.diagonal(difference[place])), 0, np.nan
            )
            continue
        i, j = (use[side] for side in np.triu_indices(len(use), k=1))
        met = known[place][i, j]
        i, j = i[met], j[met]
        # The normal equations of u_i + u_j = D_ij; pinv, for two methods cannot be told.
        design = np.zeros((len(i), methods))
        design[np.arange(len(i)), i] = design[np.arange(len(i)), j] = 1.0
        own = np.linalg.pinv(design[:, use]) @ off[place][i, j]
        found[place][use] = np.maximum(own, 0.0)
    return found


def weights(
    variance: Float[np.ndarray, "band method"],
) -> Float[np.ndarray, "band method"]:
    """Weights by precision: they sum to 1 in each band.

    A quarter of the mean variance is added to each, so that no method takes all by chance;
    NaN counts as no precision at all. Where nothing is known, all weigh alike.
    """
    known = np.isfinite(variance)
    mean = np.where(known, variance, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    shrink = np.where(mean > 0, SHRINK * mean, 1.0)[:, None]
    precision = np.where(known, shrink / (np.where(known, variance, 0.0) + shrink), 0.0)
    precision = np.where(known.any(axis=1, keepdims=True), precision, 1.0)
    return precision / precision.sum(axis=1, keepdims=True)


def coarse_noise(
    coarse: Float[np.ndarray, " cell"], fine: Float[np.ndarray, "cell near"]
) -> float:
    """Noise power of the coarse image of one base date, of one band.

    It is fitted by the aggregated fine image and its neighbors, which takes in gain, offset
    and a point spread wider than the pixel. What is left over is noise or misregistration.

    Args:
        coarse: C_k of coarse pixels, NaN where invalid.
        fine: F_k aggregated in that coarse pixel, and the means over its neighbors at its
            sides and at its corners.

    Returns:
        Squared units; infinite where fewer than 12 coarse pixels are known.
    """
    valid = np.isfinite(coarse) & np.isfinite(fine).all(axis=1)
    if valid.sum() < FEWEST_CELLS:
        return np.inf
    level = fine[valid].mean(axis=0)
    design = np.column_stack([fine[valid] - level, np.ones(valid.sum())])
    wanted = coarse[valid] - coarse[valid].mean()
    left = wanted - design @ np.linalg.lstsq(design, wanted, rcond=None)[0]
    return float(left @ left / (valid.sum() - design.shape[1]))


def error_powers(
    difference: Float[np.ndarray, "band method method"],
    residual: Float[np.ndarray, "band method method"],
    noise: Float[np.ndarray, " band"],
) -> Float[np.ndarray, "band method"]:
    """Error power of each method: what shows when aggregated, and what does not.

    Args:
        difference: Mean square differences D_ij of the predictions.
        residual: Mean products of the coarse residuals R_i and R_j.
        noise: Noise power N of such a residual; where it is infinite, not known, a
            residual counts as it is.
    """
    shows = np.diagonal(residual, axis1=1, axis2=2)
    known = np.where(np.isfinite(noise), noise, 0.0)
    return np.abs(shows - known[:, None]) + collocation(difference)


def gate(
    weight: Float[np.ndarray, "band method"],
    residual: Float[np.ndarray, "band method method"],
    noise: Float[np.ndarray, " band"],
) -> Float[np.ndarray, " band"]:
    """Share of the mixture's coarse residual that is no noise: max(0, 1 - N / power).

    Args:
        weight: Weights of the methods.
        residual: Mean products of their residuals; NaN where two never met.
        noise: Noise power of a residual.
    """
    # A method that nobody has met has no weight, and takes no part.
    met = np.where(np.isfinite(residual), residual, 0.0)
    power = np.einsum("bi,bij,bj->b", weight, met, weight)
    share = np.where(power > 0, noise / np.where(power > 0, power, 1.0), np.inf)
    return np.maximum(0.0, 1.0 - share)


def _of_pairs(
    images: Float[np.ndarray, "method band y x"],
    term: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Sums:
    methods, bands = images.shape[:2]
    total, count = (np.zeros((bands, methods, methods)) for _ in range(2))
    wide = images.astype(np.float64)
    for i in range(methods):
        for j in range(i, methods):
            terms = term(wide[i], wide[j])
            valid = np.isfinite(terms)
            total[:, i, j] = np.where(valid, terms, 0.0).sum(axis=(-2, -1))
            count[:, i, j] = valid.sum(axis=(-2, -1))
            total[:, j, i], count[:, j, i] = total[:, i, j], count[:, i, j]
    return Sums(total, count)
