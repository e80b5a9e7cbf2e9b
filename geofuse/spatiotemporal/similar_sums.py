"""Sums of many maps over the similar pixels of the window around each pixel.

    similar(i, j) = 1 where |g_b(i) - g_b(j)| <= 1 for all guides b, else 0
    plain_k(i)    = sum_j similar(i, j) m_k(j)
    weighted_k(i) = sum_j similar(i, j) near(i - j) m_k(j)

Means, slopes and correlations over similar pixels are all made of such sums. To find the
similar pixels costs as much as a dozen sums, so it is done once for all of them:

    one row of pixels ┌─────────────┐   1. compare, column by column of the window:
    at a time, up to  │ side x side │      similar(i, j) of the whole window as 0 and 1,
    128 of them       │  of 0 and 1 │      which stays in the CPU's cache
                      └─────────────┘   2. add, row by row of the window: every map times
                                           these numbers, with the columns unrolled

Neighbors are added in reading order, one after the other, so the result at a pixel is the
same bits wherever in a tile, and in whatever tile, it lies.
"""

from collections.abc import Sequence
from functools import reduce
from itertools import pairwise
from operator import add
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from geofuse.spatiotemporal.kernels import UNROLLED

#: Pixels of a row that are worked on at once: what they are compared to stays in cache.
_LANES = 128
#: Their number is a multiple of this, so that all are worked on by the same instructions.
_VECTOR = 16


class SimilarSums(NamedTuple):
    """Sums over the similar pixels.

    Attributes:
        plain: The sums of each stack of maps.
        weighted: The sums of maps times nearness.
    """

    plain: tuple[Float[Array, "map y x"], ...]
    weighted: Float[Array, "map y x"]


def similar_sums(
    guide: Float[Array, "guide rows columns"],
    candidate: Bool[Array, "rows columns"],
    plain: Sequence[Float[Array, "_ rows columns"]],
    weighted: Float[Array, "map rows columns"],
    nearness: Float[np.ndarray, "side side"],
) -> SimilarSums:
    """Sum maps over the similar pixels around each pixel.

    Args:
        guide: What pixels are similar by, in units of the tolerance; finite where
            `candidate`. A guide that is invalid (NaN) at the center is left out there.
        candidate: Which neighbors may take part.
        plain: Stacks of maps to sum, finite. A stack of which nobody uses the sums costs
            nothing, under `jax.jit`.
        weighted: Maps to sum with the weight `nearness`, finite.
        nearness: Weight of a neighbor by its place in the window.

    Returns:
        The sums, without half a window on each side.
    """
    side = nearness.shape[0]
    radius = side // 2
    rows, columns = (size - 2 * radius for size in candidate.shape)
    lanes = min(-(-columns // _VECTOR) * _VECTOR, _LANES)
    strips = -(-columns // lanes)
    width = lanes + 2 * radius

    def widened(maps: Any, value: float) -> Any:
        spare = [(0, 0)] * (maps.ndim - 1) + [(0, strips * lanes - columns)]
        return jnp.pad(maps, spare, constant_values=value)

    guides = list(widened(guide, jnp.nan))
    barred = widened(jnp.where(candidate, 0.0, jnp.inf), jnp.inf)
    stacks = [widened(maps, 0.0) for maps in (*plain, weighted)]
    near = jnp.asarray(nearness, jnp.float32)

    def strip_sums(place: Any) -> tuple[Any, ...]:
        y, x = place // strips, place % strips * lanes
        similar = _similar(
            [lax.dynamic_slice(image, (y, x), (side, width)) for image in guides],
            lax.dynamic_slice(barred, (y, x), (side, width)),
        )

        def add_row(dy: Any, sums: tuple[Any, ...]) -> tuple[Any, ...]:
            one = lax.dynamic_index_in_dim(similar, dy, axis=1, keepdims=False)
            weight = one * lax.dynamic_slice(near, (dy, 0), (1, side)).T
            factors = [one] * len(plain) + [weight]
            return tuple(
                _added(total, factor, lax.dynamic_slice(maps, (0, y + dy, x), shape))
                for total, factor, maps, shape in zip(
                    sums,
                    factors,
                    stacks,
                    [(len(maps), 1, width) for maps in stacks],
                    strict=True,
                )
            )

        zeros = tuple(jnp.zeros((len(maps), lanes), jnp.float32) for maps in stacks)
        return lax.fori_loop(0, side, add_row, zeros)

    *first, last = (
        jnp.moveaxis(parts, 1, 0).reshape(parts.shape[1], rows, strips * lanes)[
            ..., :columns
        ]
        for parts in lax.map(strip_sums, jnp.arange(rows * strips))
    )
    return SimilarSums(tuple(first), last)


def _similar(strips: list[Any], barred: Any) -> Any:
    """1 where similar, else 0: by column and row of the window (not row and column)."""
    side = barred.shape[0]
    radius = side // 2
    lanes = barred.shape[1] - 2 * radius
    centers = [strip[radius, radius : radius + lanes] for strip in strips]

    def column(dx: Any, similar: Any) -> Any:
        worst = lax.dynamic_slice_in_dim(barred, dx, lanes, axis=1)
        # Guides one by one: slices of one array of all of them would not vectorize.
        for strip, center in zip(strips, centers, strict=True):
            off = lax.dynamic_slice_in_dim(strip, dx, lanes, axis=1) - center[None]
            # A comparison with NaN is false: an invalid guide changes nothing.
            worst = jnp.where(jnp.abs(off) > worst, jnp.abs(off), worst)
        one = jnp.where(worst <= 1.0, 1.0, 0.0)
        return lax.dynamic_update_slice(similar, one[None], (dx, 0, 0))

    return lax.fori_loop(0, side, column, jnp.zeros((side, side, lanes), jnp.float32))


def _added(total: Any, factor: Any, maps: Any) -> Any:
    """A sum and a row of the window: total + sum_dx factor[dx] * maps[:, x + dx]."""
    side, lanes = factor.shape
    count = -(-side // UNROLLED)
    bounds = [side * part // count for part in range(count + 1)]
    for start, stop in pairwise(bounds):
        terms = [
            factor[dx][None] * maps[:, 0, dx : dx + lanes] for dx in range(start, stop)
        ]
        total = reduce(add, terms, total)
    return total
