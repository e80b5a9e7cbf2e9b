"""One factor a band that puts stated variances right on average: the temperature.

    s = mean of error² / variance       over held-out pixels

Of all factors it has the least negative log-likelihood: d/ds [z²/(2 s) + ln(s)/2] = 0 at
s = mean z², z = error / standard deviation. It leaves the ranking of the pixels as it is,
and is told by the largest errors; `conformal.py` asks for coverage instead.

Reference: D. Levi, L. Gispan, N. Giladi, E. Fetaya (2022): Evaluating and calibrating
uncertainty prediction in regression tasks. Sensors 22, 5540 (their scaling of the standard
deviation by one factor).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from geofuse.errors import ParameterError


def variance_factors(
    errors: Sequence[Float[np.ndarray, "band ..."]],
    variances: Sequence[Float[np.ndarray, "band ..."]],
) -> Float[np.ndarray, " band"]:
    """The factor by which the variances of each band are to be multiplied.

    Args:
        errors: Predicted minus true, of each held-out scene (or date, or site), NaN where
            invalid. Scenes count alike, whatever their size.
        variances: Stated variances, squared units, of the same shapes. Pixels of variance 0
            take no part: no factor helps them.

    Returns:
        1 where the variances were right, more where they were too small; NaN for a band
        without a valid pixel.

    Raises:
        ParameterError: There is no scene, or their shapes differ.

    >>> error = np.random.default_rng(0).normal(scale=2.0, size=(1, 100_000))
    >>> variance_factors([error], [np.ones_like(error)]).round(1)
    array([4.])
    """
    shapes = [error.shape for error in errors], [each.shape for each in variances]
    if not errors or shapes[0] != shapes[1]:
        raise ParameterError(
            "expected errors and variances of at least one scene, of the same shapes, "
            f"found {shapes[0]} and {shapes[1]}; select the same bands and pixels of both"
        )
    if len({shape[0] for shape in shapes[0]}) > 1:
        raise ParameterError(
            f"expected scenes of the same bands, found shapes {shapes[0]}; select bands"
        )
    means = []
    for error, variance in zip(errors, variances, strict=True):
        valid = np.isfinite(error) & np.isfinite(variance) & (variance > 0)
        wide = np.where(valid, error, 0.0).astype(np.float64)
        ratio = wide**2 / np.where(valid, variance, 1.0)
        axes = tuple(range(1, error.ndim))
        count = valid.sum(axis=axes)
        means.append(ratio.sum(axis=axes) / np.where(count > 0, count, np.nan))
    scenes = np.stack(means)
    known = np.isfinite(scenes)
    count = known.sum(axis=0)
    total = np.where(known, scenes, 0.0).sum(axis=0)
    return total / np.where(count > 0, count, np.nan)
