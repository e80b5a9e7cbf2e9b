"""A prediction between two base dates: what ESTARFM and ubESTARFM share.

    p_k                      prediction from base k, k = 1, 3
    m_k                      mean of C_p - C_k over the valid pixels of the window
    T_k ~ 1 / |m_k|          p = T_1 p_1 + T_3 p_3

The base date whose coarse image looks most like that of the prediction date, around the
pixel, has the most weight (Zhu et al. 2010).

With more than two pairs, each two that follow each other in time make a *couple*. The one
around the prediction date predicts: a couple that does not reach the date continues a change
that may have stopped, and does worse than none. Others stand in, the nearest first, at
pixels where both of its pairs are invalid; without such pixels they cost nothing.
"""

from collections.abc import Callable
from functools import reduce
from operator import add
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from geofuse.errors import ParameterError
from geofuse.spatiotemporal.coarse_grid import product
from geofuse.spatiotemporal.method import FusionPrediction, FusionTile, trimmed

#: Least change of the window's mean that tells two dates apart, in std of the band.
STILL = 1e-5


class Couple(NamedTuple):
    """A prediction from two pairs.

    Attributes:
        reflectance: The prediction; NaN where neither pair is valid at the pixel.
        variance: Its variance, squared units; NaN likewise.
        share: T of the two pairs; 0 where a pair is invalid at the pixel.
        similar: Number of similar pixels.
    """

    reflectance: Float[Array, "*band y x"]
    variance: Float[Array, "*band y x"]
    share: Float[Array, "... y x"]
    similar: Int[Array, "*band y x"]


def predict_couples(
    predict: Callable[[Any, Any, Any], Couple],
    tile: FusionTile,
    std: Float[Array, "pair band"],
    halo: int,
) -> FusionPrediction:
    """Predict from the two pairs around the date; others stand in where both are invalid.

    Args:
        predict: Takes fine and coarse images (2, band, rows, columns) and standard
            deviations (2, band) of two pairs; `share` of its answer is (2, band, y, x) and
            `similar` (y, x).
        tile: The inputs, two pairs or more.
        std: Standard deviation of each pair's fine image.
        halo: How much smaller than the tile the prediction is on each side.
    """

    def from_couple(first: Any) -> FusionPrediction:
        couple = (
            lax.dynamic_slice_in_dim(images, first, 2)
            for images in (tile.fine, tile.coarse_base, std)
        )
        found = predict(*couple)
        shares = reduce(add, list(jnp.moveaxis(found.share, 1, 0)))
        later = (shares[1] > shares[0]).astype(jnp.int32)
        known = jnp.isfinite(found.reflectance)
        return FusionPrediction(
            reflectance=found.reflectance,
            aleatoric=found.variance,
            epistemic=jnp.where(known, 0.0, jnp.nan),
            pair=jnp.where(known.any(axis=0), first + 1 + later, 0),
            similar=found.similar,
        )

    count = len(tile.fine) - 1
    if count == 1:
        return from_couple(jnp.int32(0))
    reach = jnp.abs(tile.lags[1:]) + jnp.abs(tile.lags[:-1])
    around = (tile.lags[1:] > 0) != (tile.lags[:-1] > 0)
    # The couple around the date first, then the nearest; `lexsort` takes its last key first.
    order = jnp.lexsort((reach, ~around))
    hopeful = valid_somewhere(tile, halo)

    def fill(step: Any, found: FusionPrediction) -> FusionPrediction:
        missing = jnp.isnan(found.reflectance)

        def filled() -> FusionPrediction:
            more = from_couple(order[step].astype(jnp.int32))
            none = missing.all(axis=0)
            return FusionPrediction(
                *(
                    jnp.where(missing if new.ndim == 3 else none, new, old)
                    for new, old in zip(more, found, strict=True)
                )
            )

        return lax.cond((missing & hopeful).any(), filled, lambda: found)

    found = from_couple(order[0].astype(jnp.int32))
    return lax.fori_loop(1, count, fill, found)


def valid_somewhere(tile: FusionTile, halo: int) -> Bool[Array, "band y x"]:
    """Where a pair is valid in the band, so that there may be a prediction."""
    valid = jnp.isfinite(tile.fine) & jnp.isfinite(tile.coarse_base)
    return trimmed(valid.any(axis=0) & jnp.isfinite(tile.coarse), halo)


def pairs_valid(
    fine: Float[Array, "2 band rows columns"],
    base: Float[Array, "2 band rows columns"],
    coarse: Float[Array, "band rows columns"],
) -> Bool[Array, "2 rows columns"]:
    """Where a pair takes part: all of its bands and of the coarse image are valid."""
    valid = jnp.isfinite(fine) & jnp.isfinite(base) & jnp.isfinite(coarse)[None]
    return valid.all(axis=1)


class InStd(NamedTuple):
    """Images in standard deviations of their band, about its mean; 0 where invalid.

    So thresholds are numbers without a unit, and nothing cancels in kelvin.
    """

    fine: Float[Array, "2 band rows columns"]
    base: Float[Array, "2 band rows columns"]
    coarse: Float[Array, "band rows columns"]


def in_std(
    fine: Float[Array, "2 band rows columns"],
    base: Float[Array, "2 band rows columns"],
    coarse: Float[Array, "band rows columns"],
    valid: Bool[Array, "2 rows columns"],
    spread: Float[Array, " band"],
    location: Float[Array, " band"],
) -> InStd:
    """Bring the images of two pairs to one scale, that of their bands' spread."""
    bands = len(coarse)
    planes = (
        jnp.concatenate([*fine, *base, coarse]),
        jnp.repeat(
            jnp.stack([*valid, *valid, valid.any(axis=0)]),
            bands,
            axis=0,
            total_repeat_length=5 * bands,
        ),
        jnp.tile(location, 5),
        jnp.tile(spread, 5),
    )
    # A loop, so that no compiler makes one operation of a quotient here and a difference
    # later on, or does not, as suits the width of the tile.
    scaled = lax.map(
        lambda plane: jnp.where(plane[1], (plane[0] - plane[2]) / plane[3], 0.0), planes
    )
    shape = (2, bands, *coarse.shape[1:])
    return InStd(
        scaled[: 2 * bands].reshape(shape),
        scaled[2 * bands : 4 * bands].reshape(shape),
        scaled[4 * bands :],
    )


def window_means(
    images: Float[Array, "2 band rows columns"],
    valid: Bool[Array, "2 rows columns"],
    radius: int,
) -> Float[Array, "2 band y x"]:
    """Mean over the valid pixels of the window around each pixel; 0 where none is."""
    total = _box(jnp.where(valid[:, None], images, 0.0), radius)
    count = _box(valid.astype(images.dtype), radius)[:, None]
    return total / jnp.maximum(count, 1.0)


def temporal_share(
    drift: Float[Array, "2 band y x"], valid: Bool[Array, "2 y x"]
) -> Float[Array, "2 band y x"]:
    """T: the weights of the two base dates, from the mean coarse change to each.

    Args:
        drift: Mean of C_p - C_k in the window, in std of the band.
        valid: Whether the pair is valid at the pixel.

    Returns:
        Sums to 1, or 0 where neither pair is valid.
    """
    # Zhu et al. (2010), eq. on T_k. Floored, so that two dates without change share alike.
    near = jnp.where(valid[:, None], 1.0 / jnp.maximum(jnp.abs(drift), STILL), 0.0)
    total = near[0] + near[1]
    return near / jnp.where(total > 0, total, 1.0)[None]


def mixed(
    ends: Float[Array, "2 *band y x"], share: Float[Array, "2 *band y x"]
) -> Float[Array, "*band y x"]:
    """Weighted mean of two predictions, both finite."""
    first, second = product(share, ends)
    return first + second


def nearness_of(radius: int) -> Float[np.ndarray, "side side"]:
    """1 / D, D = 1 + d / (w / 2): d and w are in fine pixels (Zhu et al. 2010)."""
    reach = np.arange(-radius, radius + 1)
    distance = np.hypot(reach[:, None], reach[None, :])
    return (1.0 / (1.0 + distance / radius)).astype(np.float32)


def check_window(radius: int, classes: float, least_similar: int) -> None:
    """Refuse a window, a number of classes or of similar pixels that is none.

    Raises:
        ParameterError: One of them is out of range.
    """
    if not 1 <= radius <= 60 or radius != int(radius):
        raise ParameterError(
            f"expected a radius of 1 to 60 whole fine pixels, found {radius}; 25 spans a "
            "window of 51x51"
        )
    if not 1 <= classes < np.inf:
        raise ParameterError(
            f"expected at least 1 class, found classes={classes}; 4 is usual"
        )
    if not 1 <= least_similar < np.inf or least_similar != int(least_similar):
        raise ParameterError(
            "expected a whole number of similar pixels from 1 on, found least_similar="
            f"{least_similar}; 6 is usual"
        )


def _box(image: Any, radius: int) -> Any:
    """Sum over the window: its rows, then its columns, by doubling.

    Sums of 2, 4, 8, … neighbors are made of two halves each: always the same tree.
    """
    for axis in (-2, -1):
        image = _run(image, 2 * radius + 1, axis)
    return image


def _run(image: Any, length: int, axis: int) -> Any:
    """Sum of `length` pixels in a row, from each pixel on."""
    size = image.shape[axis] - length + 1
    place = jnp.moveaxis(image, axis, 0)
    parts, start, reach = [], 0, 1
    while length:
        if length & 1:
            parts.append(place[start : start + size])
            start += reach
        length >>= 1
        if length:
            place = place[reach:] + place[:-reach]
            reach *= 2
    return jnp.moveaxis(reduce(add, parts), 0, axis)
