"""How well the mean of a fine image over coarse pixels fits a coarse image, at any shift.

Sums over pixels are all that is kept of a patch: they add up over patches, so that a
scene of any size, and a scene less one patch, are judged alike. For each band a line
from one image to the other is fitted, so gain and offset do not matter.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Float64

from geofuse.rasters.patches import sliding_means

#: A correlation is of this many coarse pixels at least.
LEAST_PIXELS = 16


def sums_at(
    coarse: Float64[np.ndarray, "band y x"],
    fine: Float32[np.ndarray, "band rows columns"],
    scale: int,
    shifts: tuple[Sequence[int], Sequence[int]],
    *,
    blur: int = 1,
) -> Float64[np.ndarray, "band row column 6"]:
    """Sums over a patch of the coarse image c and the mean b of the fine one.

    Args:
        coarse: Coarse pixels.
        fine: Fine pixels, and `halo_of` as many around them.
        scale: Coarse GSD / fine GSD.
        shifts: Rows and columns by which to move the squares that b is the mean of, in
            whole fine pixels.
        blur: See `sliding_means`.

    Returns:
        For every shift n, sum c, sum b, sum cc, sum bb, sum cb of the pixels valid in both.
    """
    rows, columns = shifts
    reach = halo_of(shifts, 1)
    means = sliding_means(fine, scale, blur=blur)
    squares = scale * np.arange(coarse.shape[2])[:, None] + reach + np.array(columns)
    sums = []
    for dy in rows:
        y = slice(reach + dy, reach + dy + scale * (coarse.shape[1] - 1) + 1, scale)
        mean = means[:, y][:, :, squares]  # band, row, column, shift of columns
        sums.append(sums_of(coarse[..., None], mean))
    return np.stack(sums, axis=1)


def sums_of(coarse: np.ndarray, fine: np.ndarray) -> Float64[np.ndarray, "... 6"]:
    """n, sum c, sum b, sum cc, sum bb, sum cb of the pixels valid in both.

    Args:
        coarse: c, as (band, y, x, 1).
        fine: b, as (band, y, x, shift).
    """
    valid = np.isfinite(coarse) & np.isfinite(fine)
    c, b = np.where(valid, coarse, 0.0), np.where(valid, fine, 0.0)
    terms = (valid.astype(np.float64), c, b, c * c, b * b, c * b)
    return np.stack([term.sum(axis=(1, 2)) for term in terms], axis=-1)


def halo_of(shifts: tuple[Sequence[int], Sequence[int]], blur: int) -> int:
    """Fine pixels around a patch that `sums_at` looks at."""
    return max(map(abs, (*shifts[0], *shifts[1]))) + 2 * (blur - 1)


def correlations(
    sums: Float64[np.ndarray, "*at 6"],
) -> tuple[Float64[np.ndarray, " *at"], Float64[np.ndarray, " *at"]]:
    """Number of pixels and correlation; 0 where there is too little to correlate."""
    n, c, b, cc, bb, cb = np.moveaxis(sums, -1, 0)
    safe = np.maximum(n, 1.0)
    variance = (cc - c * c / safe) * (bb - b * b / safe)
    # A constant image has rounding in place of variance.
    known = (n >= LEAST_PIXELS) & (variance > 1e-20 * cc * bb) & (variance > 0)
    r = (cb - c * b / safe) / np.sqrt(np.where(known, variance, 1.0))
    return n, np.where(known, np.clip(r, 0.0, 1.0), 0.0)


def likelihood(count: np.ndarray, unexplained: np.ndarray) -> np.ndarray:
    """Log likelihood of one line a band, summed over bands, which come first.

    Args:
        count: Number of pixels.
        unexplained: 1 - r^2.
    """
    terms = -0.5 * count * np.log(np.clip(unexplained, 1e-6, 1.0))
    return np.asarray(terms.sum(axis=0))


def quadratic(
    values: Float64[np.ndarray, "3 3"], spacing: Sequence[float]
) -> tuple[Float64[np.ndarray, " 2"], Float64[np.ndarray, "2 2"]]:
    """Gradient and Hessian in the middle of 3 x 3 values."""
    h, w = spacing
    gradient = np.array(
        [
            (values[2, 1] - values[0, 1]) / (2 * h),
            (values[1, 2] - values[1, 0]) / (2 * w),
        ]
    )
    mixed = (values[2, 2] - values[2, 0] - values[0, 2] + values[0, 0]) / (4 * h * w)
    down = (values[2, 1] - 2 * values[1, 1] + values[0, 1]) / h**2
    along = (values[1, 2] - 2 * values[1, 1] + values[1, 0]) / w**2
    return gradient, np.array([[down, mixed], [mixed, along]])
