"""Several base dates for a method that takes one pair: predict from each, then merge.

    p_k, v_k    prediction from base k and its variance
    m_k         mean square of the local coarse change C_p - C_k

    w_k ~ 1 / (v_k + m_k)       prediction = sum_k w_k p_k

The coarse images tell, place by place, which base date looks most like the prediction
date: what has not changed is best taken from there. So does ESTARFM weight its two dates
(Zhu et al. 2010), by the sum of the change in the window; the square makes it a variance,
to which the method's own one is added. Nothing here knows a unit or a truth.

The merged variance is that of a mixture, sum_k w_k (v_k + (p_k - p)^2): it grows where
the bases disagree, and never claims that they are independent.
"""

from collections.abc import Callable
from functools import reduce
from operator import add
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from geofuse.spatiotemporal.coarse_grid import product
from geofuse.spatiotemporal.method import FusionPrediction


class FromBase(NamedTuple):
    """A prediction from one pair, or from each.

    Attributes:
        reflectance: The prediction; NaN where the pair is invalid at the pixel.
        variance: Its variance, squared units.
        change: Mean square of the coarse change near the pixel, squared units.
        similar: Number of similar pixels, if the method counts them: (y, x), or of each
            band.
    """

    reflectance: Float[Array, "*pair band y x"]
    variance: Float[Array, "*pair band y x"]
    change: Float[Array, "*pair band y x"]
    similar: Any = None


class MergedBases(NamedTuple):
    """One prediction from those of several bases.

    Attributes:
        reflectance: Weighted mean; NaN where no base has a prediction.
        variance: Variance of the mixture, squared units; NaN likewise.
        weight: Weight of each base; sums to 1, or 0 where no base has a prediction.
        pair: Number, from 1, of the pair with the most weight, the bands counting alike;
            0 where none has any.
    """

    reflectance: Float[Array, "band y x"]
    variance: Float[Array, "band y x"]
    weight: Float[Array, "pair band y x"]
    pair: Int[Array, "y x"]


def merged_prediction(bases: FromBase, similar: Int[Array, "y x"]) -> FusionPrediction:
    """The prediction of a method that takes one pair and learns nothing, from each pair.

    Args:
        bases: Predictions from each pair.
        similar: Number of similar pixels, over all pairs.
    """
    merged = merge_bases(bases.reflectance, bases.variance, bases.change)
    return FusionPrediction(
        reflectance=merged.reflectance,
        aleatoric=merged.variance,
        epistemic=jnp.where(jnp.isfinite(merged.reflectance), 0.0, jnp.nan),
        pair=merged.pair,
        similar=similar,
    )


def merge_bases(
    predictions: Float[Array, "pair band y x"],
    variances: Float[Array, "pair band y x"],
    change_power: Float[Array, "pair band y x"],
) -> MergedBases:
    """Merge the predictions from several bases, pixel by pixel.

    Args:
        predictions: Prediction from each base; NaN where it has none.
        variances: Their variances, squared units; NaN counts as 0 (not stated).
        change_power: Mean square of the coarse change from each base date to the
            prediction date near the pixel (see `change_power`); NaN counts as 0.

    Returns:
        The merged prediction. With one base it is that base's prediction, bit for bit.
    """
    valid = jnp.isfinite(predictions)
    if predictions.shape[0] == 1:  # nothing to weigh, so variances need not be known
        weight = valid.astype(predictions.dtype)
        spread = jnp.where(valid[0], variances[0], jnp.nan)
        return MergedBases(predictions[0], spread, weight, heaviest(weight))
    spread = jnp.where(jnp.isfinite(variances), variances, 0.0)
    power = jnp.where(jnp.isfinite(change_power), change_power, 0.0)
    doubt = jnp.where(valid, spread + power, jnp.inf)
    least = doubt.min(axis=0, keepdims=True)
    # Relative to the best base: the largest weight is 1, also where nothing changed.
    raw = jnp.where(doubt > least, least / jnp.where(doubt > least, doubt, 1.0), 1.0)
    return mixture(predictions, spread, raw)


def mixture(
    predictions: Float[Array, "pair band y x"],
    variances: Float[Array, "pair band y x"],
    raw: Float[Array, "pair band y x"],
) -> MergedBases:
    """Weighted mean of predictions, and the variance of their mixture.

    Args:
        predictions: Predictions from each base (or by each method); NaN where it has none.
        variances: Their variances, squared units.
        raw: Their weights, at least 0, of any sum; where there is no prediction they count
            as 0.
    """
    valid = jnp.isfinite(predictions)
    raw = jnp.where(valid, raw, 0.0)
    total = reduce(add, list(raw))
    weight = raw / jnp.where(total > 0, total, 1.0)[None]

    # Differences from the first valid base: temperatures in kelvin lose no digits.
    first = reduce(
        lambda found, other: jnp.where(jnp.isfinite(found), found, other),
        list(predictions),
    )
    safe = jnp.where(valid, predictions, first[None])
    shift = jnp.where(valid, product(weight, safe - first[None]), 0.0)
    merged = first + reduce(add, list(shift))
    off = jnp.where(valid, safe - merged[None], 0.0)
    terms = jnp.where(valid, product(weight, variances + product(off, off)), 0.0)
    some = total > 0
    return MergedBases(
        reflectance=jnp.where(some, merged, jnp.nan),
        variance=jnp.where(some, reduce(add, list(terms)), jnp.nan),
        weight=weight,
        pair=heaviest(weight),
    )


def each_base(predict: Callable[[Any], Any], bases: Any) -> Any:
    """Predict from one base after the other.

    Args:
        predict: Takes one base's arrays, gives a pytree of arrays.
        bases: Arrays whose first axis is the pair.

    Returns:
        What `predict` gave, with the pair as first axis. A single base is not looped over:
        then what nobody asks for is not computed, under `jax.jit`.
    """
    if jax.tree.leaves(bases)[0].shape[0] > 1:
        return lax.map(predict, bases)
    only = predict(jax.tree.map(lambda array: array[0], bases))
    return jax.tree.map(lambda array: array[None], only)


def change_power(
    change: Float[Array, "*lead rows columns"], *, radius: int
) -> Float[Array, "*lead y x"]:
    """Mean square of the coarse change in the window around each pixel.

    Args:
        change: C_p - C_k on any grid; NaN where invalid.
        radius: Half the side of the window, center excluded, in pixels of that grid.

    Returns:
        Squared units, without `radius` pixels on each side; NaN where the window has no
        valid pixel.
    """
    valid = jnp.isfinite(change)
    square = jnp.where(valid, change * change, 0.0)
    total, count = _box(square, radius), _box(valid.astype(change.dtype), radius)
    return jnp.where(count > 0, total / jnp.maximum(count, 1.0), jnp.nan)


def _box(
    image: Float[Array, "*lead rows columns"], radius: int
) -> Float[Array, "*lead y x"]:
    """Sum over the window: its rows, then its columns, each in reading order."""
    rows, columns = (size - 2 * radius for size in image.shape[-2:])
    side = range(2 * radius + 1)
    tall = reduce(add, [image[..., i : i + rows, :] for i in side])
    return reduce(add, [tall[..., j : j + columns] for j in side])


def heaviest(weight: Float[Array, "pair band y x"]) -> Int[Array, "y x"]:
    """Number, from 1, of the pair with the most weight over all bands."""
    share = reduce(add, list(jnp.moveaxis(weight, 1, 0)))
    number = jnp.argmax(share, axis=0).astype(jnp.int32) + 1
    return jnp.where(share.max(axis=0) > 0, number, 0)
