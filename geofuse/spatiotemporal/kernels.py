"""Kernel regression over a neighborhood: what STARFM and attention share.

    mean(i) = sum_k sum_j w_k(i, j) c_k(j) / sum_k sum_j w_k(i, j)

c_k(j) is what neighbor j of pair k would predict, w its weight at the center i. STARFM
writes the weight down; a network learns it: exp(query_i . key_j) is local attention.
Swapping one function for the other is the whole difference.

      columns unrolled         One loop step is one row of the window. Its columns are
    ┌─┬─┬─┬─┬─┐                views of the same rows, shifted by one pixel each, which
    ├─┼─┼─┼─┼─┤ <- rows: one   XLA fuses into one pass over the image. Windows are
    ├─┼─┼i┼─┼─┤    loop step   never gathered: memory does not grow with the radius.
    ├─┼─┼─┼─┼─┤    each
    └─┴─┴─┴─┴─┘

Neighbors are added one after the other, in reading order, each by `sum + w * c`: the
result at a pixel is the same bits wherever in a tile, and in whatever tile, it lies.

The gradient, for kernels that are learned, is such a sum as well: `kernel_gradient.py`.
"""

import math
from collections.abc import Callable
from functools import partial, reduce
from itertools import pairwise, product
from operator import add
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Complex, Float, Int

from geofuse.spatiotemporal.kernel_gradient import Offset as Offset
from geofuse.spatiotemporal.kernel_gradient import Weight as Weight
from geofuse.spatiotemporal.kernel_gradient import gathered_gradient


class KernelRegression(NamedTuple):
    """Weighted moments of the candidates around each pixel.

    Attributes:
        mean: Weighted mean of the candidates; NaN where no neighbor has weight.
        variance: Their weighted variance, squared units; NaN likewise.
        neighbors: Number of neighbors, over all pairs, with positive weight.
        weight: Sum of the weights of each pair; 0 where it has none.
    """

    mean: Float[Array, "y x"]
    variance: Float[Array, "y x"]
    neighbors: Int[Array, "y x"]
    weight: Float[Array, "pair y x"]


#: Two real sums in one complex number: see `_moments`.
Sums = Complex[Array, "y x"]

#: Most neighbors to unroll in one loop step, and at least half as many: with more of
#: them LLVM no longer vectorizes; with 15 uses or fewer XLA fuses the slice of the row
#: too, whose moving start has the same effect. Either is 6 times slower.
UNROLLED = 31


def kernel_regression(
    weight: Weight,
    maps: Any,
    candidates: Float[Array, "pair rows columns"],
    *,
    radius: int,
    shift: Float[Array, ""],
    unrolled: int = UNROLLED,
) -> KernelRegression:
    """Weighted mean and variance of the candidates in the window around each pixel.

    Args:
        weight: The kernel. It is given the maps at the centers and at the neighbors
            (for one pair, both without the halo) and the offset between them. It must
            be finite, and exactly 0 where the neighbor is invalid: keep that in a map,
            as an infinite distance or a bias of minus infinity, and it costs nothing.
        maps: Whatever the kernel looks at: a pytree of arrays (pair, …, rows, columns)
            without NaN, and of numbers of a whole pair (pair,), which stay as they are.
        candidates: What each neighbor would predict; where it is invalid, anything.
        radius: Half the side of the window, center excluded, in pixels. The result has
            `radius` pixels less than the candidates on each side.
        shift: A typical candidate, such as the scene's mean. Sums are taken about it,
            so that the variance does not cancel in float32 (temperatures in kelvin).
        unrolled: Most neighbors in one loop step; fewer for a kernel of many operations.

    Gradients reach the candidates and the maps that are images, not the numbers.

    Returns:
        The moments, in the unit of the candidates. What is not used is not computed,
        under `jax.jit`.
    """
    # The double where, first half: no NaN enters the sums. A weight of 0 is the second.
    safe = jnp.where(jnp.isfinite(candidates), candidates - shift, 0.0)
    sums = gathered_gradient(partial(_moments, unrolled=unrolled), weight, radius)
    moments = lax.map(lambda pair: sums(*pair), (maps, safe))
    # The pairs' sums are added in their order, for the same bits at every tile size.
    first, second = (reduce(add, moment) for moment in moments)
    weight_sum, neighbors = first.imag, second.imag
    some = weight_sum > 0
    total = jnp.where(some, weight_sum, 1.0)
    mean = first.real / total
    # Not `a - mean * mean`: compilers round that once or twice, as suits the width of
    # the tile.
    square = second.real / total
    root = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
    variance = jnp.maximum((root - jnp.abs(mean)) * (root + jnp.abs(mean)), 0.0)
    return KernelRegression(
        mean=jnp.where(some, mean + shift, jnp.nan),
        variance=jnp.where(some, variance, jnp.nan),
        neighbors=neighbors.astype(jnp.int32),
        weight=moments[0].imag,
    )


def _moments(
    weight: Weight,
    maps: Any,
    candidates: Float[Array, "rows columns"],
    radius: int,
    *,
    unrolled: int,
) -> tuple[Sums, Sums]:
    """Sums over the window of one pair: (sum w c, sum w) and (sum w c c, neighbors).

    Two real sums ride in one complex number: XLA for CPU fuses a loop into one result,
    and would compute the weights again for each further one.
    """
    rows, columns = (size - 2 * radius for size in candidates.shape)
    side = 2 * radius + 1

    def rows_from(row: Any, count: int, tree: Any) -> Any:
        return _windowed(lambda a: lax.dynamic_slice_in_dim(a, row, count, -2), tree)

    def window(row: int, column: int, tree: Any) -> Any:
        place = (..., slice(row, row + rows), slice(column, column + columns))
        return _windowed(lambda a: a[place], tree)

    center = window(radius, radius, maps)

    def add_rows(
        count: int, part: range, step: Int[Array, ""], sums: tuple[Sums, Sums]
    ) -> tuple[Sums, Sums]:
        first, second = sums
        top = step * count
        strip = rows_from(top, rows + count - 1, (maps, candidates))
        for row, column in product(range(count), part):
            neighbor, candidate = window(row, column, strip)
            offset = Offset(top + (row - radius), column - radius)
            w = weight(center, neighbor, offset)
            first = first + lax.complex(w * candidate, w)
            one = (w > 0).astype(w.dtype)
            second = second + lax.complex(w * candidate * candidate, one)
        return first, second

    zero = jnp.zeros((rows, columns), jnp.complex64)
    sums = (zero, zero)
    # A narrow window takes several of its rows in a step, a wide one part of a row.
    count = max(unrolled // side, 1)
    count = side if count >= side else min(count, side // 2)
    steps, left = divmod(side, count)
    for part in _parts(side, unrolled):
        sums = lax.fori_loop(0, steps, partial(add_rows, count, part), sums)
        for row in range(side - left, side):
            sums = add_rows(1, part, jnp.int32(row), sums)
    return sums


def _parts(columns: int, most: int) -> list[range]:
    """The columns of a window in equal parts of at most `most`."""
    count = math.ceil(columns / most)
    bounds = [columns * part // count for part in range(count + 1)]
    return [range(start, stop) for start, stop in pairwise(bounds)]


def _windowed(window: Callable[[Any], Any], tree: Any) -> Any:
    """Apply a window to the images of a pytree and leave its numbers alone."""
    return jax.tree.map(lambda array: array if array.ndim < 2 else window(array), tree)
