"""Structural similarity (SSIM) and its forerunner, the universal quality index (UIQI).

Both compare small windows of two images by mean, spread and correlation:

            2 m_p m_r + C1        2 s_pr + C2
    SSIM = ----------------- * ------------------,  C1 = (0.01 L)^2,  C2 = (0.03 L)^2
           m_p^2 + m_r^2 + C1   s_p^2 + s_r^2 + C2

UIQI has C1 = C2 = 0 and square windows of 8 x 8 pixels; SSIM weights 11 x 11 pixels by
a Gaussian of 1.5 pixels. The data range L decides much of the number: a blurred image
can score 0.6 with the true range and 0.9 with L = 1. So it is always stated.

A window that reaches an invalid pixel or beyond the image gives no value.

References:
    Wang et al. (2004), Image quality assessment: from error visibility to structural
    similarity, IEEE Transactions on Image Processing 13, 600-612, eq. 13.
    Wang and Bovik (2002), A universal image quality index, IEEE Signal Processing
    Letters 9, 81-84, eq. 1.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import ndimage

#: How far a window of SSIM and of UIQI reaches from its pixel (UIQI: up and left).
SSIM_HALO = 5
UIQI_HALO = 4

_SIGMA = 1.5
_SIDE = 8


def ssim_map(
    predicted: Float[np.ndarray, "band y x"],
    reference: Float[np.ndarray, "band y x"],
    *,
    data_range: Float[np.ndarray, " band"],
) -> Float[np.ndarray, "band y-10 x-10"]:
    """SSIM of the window around each pixel, without the 5 outermost pixels.

    Args:
        predicted: Predicted reflectance, NaN where invalid.
        reference: True reflectance, NaN where invalid.
        data_range: L of each band, in the unit of the images.

    Returns:
        At most 1, no unit; NaN where the window reaches an invalid pixel, and in a band
        whose data range is 0 or NaN.
    """
    complete = _complete(predicted, reference, 2 * SSIM_HALO + 1)
    result = np.full(predicted.shape, np.nan)
    for band, span in enumerate(data_range):
        if not span > 0:
            continue
        m = _moments(predicted[band], reference[band], _gaussian_mean)
        c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
        similarity = (2 * m.mean_p * m.mean_r + c1) * (2 * m.pr + c2)
        similarity /= (m.mean_p**2 + m.mean_r**2 + c1) * (m.pp + m.rr + c2)
        result[band] = np.where(complete, similarity, np.nan)
    return result[:, SSIM_HALO:-SSIM_HALO, SSIM_HALO:-SSIM_HALO]


def uiqi_map(
    predicted: Float[np.ndarray, "band y x"],
    reference: Float[np.ndarray, "band y x"],
) -> Float[np.ndarray, "band y-8 x-8"]:
    """UIQI of the window of each pixel, without the 4 outermost pixels.

    The window of 8 x 8 pixels reaches 4 pixels up and left, 3 down and right. Where
    both images are flat, only their means are compared, as in the authors' program.

    Args:
        predicted: Predicted reflectance, NaN where invalid.
        reference: True reflectance, NaN where invalid.

    Returns:
        -1 to 1, no unit; NaN where the window reaches an invalid pixel.
    """
    complete = _complete(predicted, reference, _SIDE)
    result = np.full(predicted.shape, np.nan)
    for band in range(len(predicted)):
        m = _moments(predicted[band], reference[band], _square_mean)
        spread, level = m.pp + m.rr, m.mean_p**2 + m.mean_r**2
        # Variances below this are rounding.
        flat = spread <= 1e-12 * level
        dark = level == 0
        likeness = np.where(flat, 1.0, 2 * m.pr / np.where(flat, 1.0, spread))
        likeness *= 2 * m.mean_p * m.mean_r / np.where(dark, 1.0, level)
        result[band] = np.where(complete, np.where(dark, 1.0, likeness), np.nan)
    return result[:, UIQI_HALO:-UIQI_HALO, UIQI_HALO:-UIQI_HALO]


class _Moments(NamedTuple):
    """Means, variances and covariance in the window around each pixel."""

    mean_p: np.ndarray
    mean_r: np.ndarray
    pp: np.ndarray
    pr: np.ndarray
    rr: np.ndarray


def _moments(
    predicted: np.ndarray,
    reference: np.ndarray,
    mean: Callable[[np.ndarray], np.ndarray],
) -> _Moments:
    """Local moments of population, not of sample; invalid pixels count as 0 here."""
    valid = np.isfinite(predicted) & np.isfinite(reference)
    p, r = np.where(valid, predicted, 0.0), np.where(valid, reference, 0.0)
    mean_p, mean_r = mean(p), mean(r)
    return _Moments(
        mean_p,
        mean_r,
        mean(p * p) - mean_p**2,
        mean(p * r) - mean_p * mean_r,
        mean(r * r) - mean_r**2,
    )


def _gaussian_mean(values: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(values, _SIGMA, radius=SSIM_HALO)


def _square_mean(values: np.ndarray) -> np.ndarray:
    # No running sum (`uniform_filter`): its rounding would depend on the tile.
    weights = np.full(_SIDE, 1 / _SIDE)
    return ndimage.correlate1d(
        ndimage.correlate1d(values, weights, axis=0), weights, axis=1
    )


def _complete(predicted: np.ndarray, reference: np.ndarray, side: int) -> np.ndarray:
    """Where all pixels of the window are valid in all bands of both images."""
    valid = (np.isfinite(predicted) & np.isfinite(reference)).all(axis=0)
    return ndimage.minimum_filter(valid, size=side)
