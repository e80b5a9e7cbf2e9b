"""Losses that ignore invalid pixels, each a mean over patches of means over their pixels.

Where the truth or the prediction is NaN, a pixel counts neither in the loss nor in its
gradient: it is replaced before the formula (no NaN enters) and after it (none leaves). A
patch without any valid pixel counts as 0. As each patch weighs the same, the losses of the
parts of a batch average to that of the whole.

All arrays are (batch, band, y, x), in any one unit; that of the scene's spread is usual.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

#: Least and greatest log variance that counts, in squared units of the scene's spread.
LOG_VARIANCES = (-12.0, 6.0)


def charbonnier(
    predicted: Float[Array, "batch band y x"],
    truth: Float[Array, "batch band y x"],
    *,
    width: float = 1e-2,
) -> Float[Array, ""]:
    """Mean of sqrt(error^2 + width^2) - width: absolute error, smooth near 0.

    Args:
        predicted: Prediction.
        truth: What it should be.
        width: Errors below it count by their squares.

    Charbonnier et al. (1994). Beside the squared error it is slow to punish the few large
    errors, which are mostly clouds and shifts that nobody could predict.
    """
    valid = jnp.isfinite(predicted) & jnp.isfinite(truth)
    error = jnp.where(valid, predicted, 0.0) - jnp.where(valid, truth, 0.0)
    return _mean(jnp.sqrt(error**2 + width**2) - width, valid)


def beta_nll(
    predicted: Float[Array, "batch band y x"],
    log_variance: Float[Array, "batch band y x"],
    truth: Float[Array, "batch band y x"],
    *,
    beta: float = 0.5,
) -> Float[Array, ""]:
    """Negative log likelihood of a Gaussian, weighted by its variance to the power of beta.

    Args:
        predicted: Mean of the Gaussian.
        log_variance: Natural logarithm of its variance; held within `LOG_VARIANCES`.
        truth: What was there.
        beta: 0 for the likelihood itself, 1 for gradients of the mean like those of the
            squared error.

    Seitzer et al. (2022), eq. 3: sg(s^(2 beta)) (log s^2 + (y - m)^2 / s^2) / 2, where sg
    stops the gradient. Without the weight, pixels that are hard to predict are soon given
    a large variance and then no more learned.
    """
    valid = jnp.isfinite(predicted) & jnp.isfinite(truth) & jnp.isfinite(log_variance)
    error = jnp.where(valid, predicted, 0.0) - jnp.where(valid, truth, 0.0)
    log_variance = jnp.clip(jnp.where(valid, log_variance, 0.0), *LOG_VARIANCES)
    likelihood = 0.5 * (log_variance + error**2 * jnp.exp(-log_variance))
    weight = jax.lax.stop_gradient(jnp.exp(beta * log_variance))
    return _mean(weight * likelihood, valid)


def spectral_angle(
    predicted: Float[Array, "batch band y x"], truth: Float[Array, "batch band y x"]
) -> Float[Array, ""]:
    """Mean angle between spectra, in radians; of pixels that are valid in all bands.

    Args:
        predicted: Prediction, in a unit in which 0 means dark: reflectance, not its change.
        truth: What it should be.

    Kahan's formula, 2 atan2(|u - v|, |u + v|) of unit spectra: its gradient stays finite
    where that of an arc cosine does not. A pixel that is 0 in all bands has no angle.
    """
    valid = (jnp.isfinite(predicted) & jnp.isfinite(truth)).all(axis=1, keepdims=True)
    units = []
    for spectrum in (predicted, truth):
        power = jnp.sum(jnp.where(valid, spectrum, 0.0) ** 2, axis=1, keepdims=True)
        valid = valid & (power > _TINY)
        units.append((spectrum, power))
    first, second = (
        jnp.where(valid, spectrum, 0.0) / jnp.sqrt(jnp.where(valid, power, 1.0))
        for spectrum, power in units
    )
    apart, together = (
        jnp.sqrt(jnp.sum(both**2, axis=1, keepdims=True) + _TINY)
        for both in (first - second, first + second)
    )
    return _mean(2 * jnp.arctan2(apart, together), valid)


def physical_consistency(
    predicted: Float[Array, "batch band y x"],
    coarse: Float[Array, "batch band y x"],
    *,
    scale: int,
    noise: Any,
) -> Float[Array, ""]:
    """Mean square of what the prediction adds up to wrongly, beyond the sensor's noise.

    Args:
        predicted: Prediction; its sides are whole coarse pixels, from a corner of one.
        coarse: What it must add up to, on the fine grid: the coarse image, or where the
            sensors differ, the mean of the fine base image and the coarse change.
        scale: Coarse GSD / fine GSD.
        noise: Standard deviation of a coarse pixel, in the unit of the images; a number,
            or an array that broadcasts with (batch, band, 1, 1). Up to it, a difference
            costs nothing.

    A coarse pixel counts where half of its fine pixels are valid.
    """
    valid = jnp.isfinite(predicted) & jnp.isfinite(coarse)
    error = jnp.where(valid, predicted, 0.0) - jnp.where(valid, coarse, 0.0)
    share = _cells(valid.astype(error.dtype), scale)
    enough = share >= 0.5
    residual = _cells(error, scale) / jnp.where(enough, share, 1.0)
    beyond = jnp.maximum(jnp.abs(residual) - jnp.asarray(noise, error.dtype), 0.0)
    return _mean(beyond**2, enough)


def cross_entropy(
    logits: Float[Array, "batch y x outcome"],
    labels: Int[Array, "batch y x"],
    class_weight: Float[Array, " outcome"],
) -> Float[Array, ""]:
    """Mean of -log of the probability of the label, times the weight of its class.

    Args:
        logits: Log-probabilities of the classes, up to a constant.
        labels: Numbers of classes; pixels below 0 do not count.
        class_weight: How much a pixel of each class counts; 1 for all is the natural
            prior, 1 / its share among the labels makes all classes count alike.
    """
    valid = labels >= 0
    known = jnp.where(valid, labels, 0)
    safe = jnp.where(valid[..., None], logits, 0.0)
    chosen = jnp.take_along_axis(jax.nn.log_softmax(safe), known[..., None], axis=-1)
    return _mean(-class_weight[known] * chosen[..., 0], valid)


#: Less than any power of a spectrum that has an angle, and than any angle that matters.
_TINY = 1e-12


def _mean(values: Any, valid: Any) -> Float[Array, ""]:
    """Mean over patches of the mean over the valid pixels of each."""
    axes = tuple(range(1, values.ndim))
    total = jnp.where(valid, values, 0.0).sum(axes)
    return jnp.mean(total / jnp.maximum(valid.sum(axes).astype(total.dtype), 1.0))


def _cells(image: Any, scale: int) -> Any:
    """Means of blocks of scale x scale pixels."""
    *front, rows, columns = image.shape
    blocks = image.reshape(
        math.prod(front), rows // scale, scale, columns // scale, scale
    )
    return blocks.mean(axis=(2, 4)).reshape(*front, rows // scale, columns // scale)
