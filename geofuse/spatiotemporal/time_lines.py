"""Straight lines in time between a pixel's valid images.

value    x           x        x      each pixel has its own valid dates
         o  .  .  .  o  .  .  o      between two of them: on the line
                                     before the first, after the last: the nearest one
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float


class Neighbors(NamedTuple):
    """The nearest valid image on one side of each date: its value and its day."""

    value: Float[Array, "date ..."]
    day: Float[Array, "date ..."]


def between_valid(
    images: Float[Array, "date ..."], days: Sequence[int], wanted: Sequence[int]
) -> Float[Array, "wanted ..."]:
    """Interpolate each pixel linearly in time between its valid images.

    Args:
        images: By date, NaN where invalid.
        days: Their days, ascending.
        wanted: Days wanted.

    Returns:
        The image of each wanted day; a valid image's own on its day; the nearest valid one
        outside of all; NaN where none is valid.
    """
    since = [day - days[0] for day in days]
    before = _last_valid(images, since)
    after = Neighbors(*(x[::-1] for x in _last_valid(images[::-1], since[::-1])))
    # The images up to a wanted day and from it on: its own counts on both sides. There is
    # nothing before the first one (a last row of NaN) and nothing after the last one.
    low, low_day = (
        _row(x, [bisect_right(days, day) - 1 for day in wanted]) for x in before
    )
    high, high_day = (
        _row(x, [bisect_left(days, day) for day in wanted]) for x in after
    )
    at = jnp.asarray([day - days[0] for day in wanted], images.dtype)
    length = high_day - low_day
    at = at.reshape(-1, *(1 for _ in images.shape[1:]))
    share = (at - low_day) / jnp.where(length > 0, length, 1.0)
    line = low + apart((high - low) * share)
    nearest = jnp.where(jnp.isfinite(low), low, high)
    return jnp.where(length > 0, line, nearest)


def mean_of_valid(images: Float[Array, "date ..."]) -> tuple[Any, Any]:
    """Mean over the valid dates of each pixel, 0 for none, and whether there is one."""

    def add(carry: Any, image: Any) -> tuple[Any, None]:
        total, count = carry
        valid = jnp.isfinite(image)
        total = total + jnp.where(valid, image, 0.0)
        return (total, count + valid.astype(image.dtype)), None

    zeros = jnp.zeros(images.shape[1:], images.dtype)
    (total, count), _ = lax.scan(add, (zeros, zeros), images)
    return total / jnp.maximum(count, 1.0), count > 0


def apart(product: Any) -> Any:
    """A product, kept apart from the sum that it goes into.

    Compilers round the two once or twice, as the tile's width suits; the `where` is in
    their way.
    """
    return jnp.where(jnp.isfinite(product), product, jnp.nan)


def _row(images: Any, numbers: list[int]) -> Any:
    """Images by number; NaN for -1 and for the number after the last."""
    nothing = jnp.full((1, *images.shape[1:]), jnp.nan, images.dtype)
    return jnp.concatenate([images, nothing])[np.asarray(numbers)]


def _last_valid(images: Any, days: Sequence[int]) -> Neighbors:
    """The last valid image up to each date, and its day."""

    def step(carry: Any, now: Any) -> tuple[Any, Any]:
        image, day = now
        valid = jnp.isfinite(image)
        carry = Neighbors(
            jnp.where(valid, image, carry.value), jnp.where(valid, day, carry.day)
        )
        return carry, carry

    nothing = jnp.full(images.shape[1:], jnp.nan, images.dtype)
    return lax.scan(
        step, Neighbors(nothing, nothing), (images, jnp.asarray(days, images.dtype))
    )[1]
