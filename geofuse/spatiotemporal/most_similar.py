"""The weighted mean over the n most similar pixels of the window around each pixel.

    d(i, j) = sum_b (F_b(i) - F_b(j))^2        how similar j is to i, over all bands
    mean(i) = sum_j w(i, j) c(j) / sum_j w(i, j)     over the n least d(i, j)

Fit-FC, FSDAF and fast ESTARFM all filter so. Sorting 1,681 distances a pixel would take
nearly all of the time, and only their n-th smallest is needed. It is found for a whole row
of pixels at once, with comparisons and sums alone, which CPUs and GPUs do for many pixels
in one instruction:

    1. bound    The window falls into groups of a few pixels each. The n-th smallest of
                the groups' least distances is at least the n-th smallest distance, and
                mostly is one of the next few. Bisection over the bits of a float finds it.
    2. trim     The largest distances below the bound are struck out, two in each pass,
                until n are left.
    3. ties     Where several pixels have the n-th smallest distance itself, the first
                ones in reading order fill the places that are left.

The result is exact: that of a stable sort. It does not depend on where in a tile, and in
whatever tile, a pixel lies.
"""

from collections.abc import Callable
from functools import reduce
from operator import add, or_
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from geofuse.errors import ParameterError

#: About how many pixels of the window make a group, for the bound.
_GROUP = 6
#: Bits of the bound that are found by bisection: the exponent and 7 bits of the rest.
_BITS = 15
#: More distances than this within the bound are not trimmed two by two.
_TRIM = 32
#: Pixels of a row that are worked on at once: their distances stay in the CPU's cache.
_LANES = 128
#: The bits of the largest finite float.
_LARGEST = np.finfo(np.float32).max.view(np.int32)


class SimilarMean(NamedTuple):
    """Weighted moments over the most similar pixels.

    Attributes:
        mean: Weighted mean of the candidates; NaN where no neighbor is valid.
        variance: Their weighted variance, squared units; NaN likewise.
        neighbors: Number of similar pixels that were averaged.
    """

    mean: Float[Array, "band y x"]
    variance: Float[Array, "band y x"]
    neighbors: Int[Array, "y x"]


def similar_mean(
    guide: Float[Array, "guide rows columns"],
    candidates: Float[Array, "band rows columns"],
    nearness: Float[np.ndarray, "side side"],
    *,
    similar: int,
) -> SimilarMean:
    """Average the candidates of the most similar pixels around each pixel.

    Args:
        guide: Bands by which pixels are similar. A band that is invalid (NaN) at the
            center is left out there; a neighbor that is invalid in a band of the rest
            takes no part.
        candidates: What each neighbor would predict. It must be finite where `guide` is.
        nearness: Weight of a neighbor by its place in the window, positive.
        similar: How many pixels to average, the center among them.

    Returns:
        The moments, without half a window on each side.
    """
    side = nearness.shape[0]
    radius = side // 2
    rows, columns = (size - 2 * radius for size in guide.shape[1:])

    lanes = min(columns, _LANES)
    strips = -(-columns // lanes)
    spare = ((0, 0), (0, 0), (0, strips * lanes - columns))
    guide, candidates = (
        jnp.pad(image, spare, constant_values=jnp.nan) for image in (guide, candidates)
    )

    def some(place: Any) -> SimilarMean:
        y, x = place // strips, place % strips * lanes

        def around(image: Any) -> list[Any]:
            size = (side, lanes + 2 * radius)
            return [lax.dynamic_slice(band, (y, x), size) for band in image]

        chosen = _chosen(_distances(around(guide), radius, lanes), similar)
        return _moments(chosen, around(candidates), nearness)

    found = lax.map(some, jnp.arange(rows * strips))

    def whole(parts: Any) -> Any:
        bands = jnp.moveaxis(parts, 0, -2)
        return bands.reshape(*bands.shape[:-2], rows, strips * lanes)[..., :columns]

    return SimilarMean(*(whole(parts) for parts in found))


def nearness(radius: int) -> Float[np.ndarray, "side side"]:
    """Weight of a neighbor by its place: 1 / D, D = 1 + d / (w / 2), d and w in pixels."""
    reach = np.arange(-radius, radius + 1)
    distance = np.hypot(reach[:, None], reach[None, :])
    return (1.0 / (1.0 + distance / (radius + 0.5))).astype(np.float32)


def check_search(radius: int, similar: int) -> None:
    """Refuse a search that is none.

    Raises:
        ParameterError: The radius is not 1 to 60 whole pixels, or there are not as many
            pixels in the window as shall be similar.
    """
    if not 1 <= radius <= 60 or radius != int(radius):
        raise ParameterError(
            f"expected a radius of 1 to 60 whole fine pixels, found {radius}; "
            "20 spans a window of 41x41"
        )
    pixels = (2 * radius + 1) ** 2
    if not 1 <= similar <= pixels or similar != int(similar):
        raise ParameterError(
            f"expected 1 to {pixels} similar pixels (all of the window), found "
            f"similar={similar}; 20 is usual"
        )


class _Chosen(NamedTuple):
    """The most similar pixels: those whose distance is not more than the limit.

    Attributes:
        distance: Distances by column and row of the window (not row and column), then by
            pixel; infinite for ties that found no place.
        limit: The n-th smallest distance; the largest finite number where fewer than n
            neighbors are valid.
        neighbors: How many neighbors lie within the limit.
    """

    distance: Float[Array, "side side x"]
    limit: Float[Array, " x"]
    neighbors: Float[Array, " x"]


def _distances(strips: list[Any], radius: int, columns: int) -> Any:
    """Squared distance of each pixel of a row to its neighbors: (side, side, x).

    Infinite where the neighbor is invalid in a band that is valid at the center.
    """
    side = 2 * radius + 1
    centers = [strip[radius, radius : radius + columns] for strip in strips]
    neighbors = [jnp.where(jnp.isfinite(strip), strip, jnp.inf) for strip in strips]
    # A center without any valid band is like no neighbor.
    usable = reduce(or_, [jnp.isfinite(center) for center in centers])
    start = jnp.where(usable, 0.0, jnp.inf)[None]

    def column(dx: Any, distance: Any) -> Any:
        squares = []
        # Bands one by one: slices of one array of all of them would not vectorize.
        for neighbor, center in zip(neighbors, centers, strict=True):
            off = lax.dynamic_slice_in_dim(neighbor, dx, columns, axis=1) - center[None]
            # An invalid center makes NaN, and so 0. The `where` also keeps the square
            # apart from the sum: compilers round the two once or twice, as it suits.
            squares.append(jnp.where(off * off > 0, off * off, 0.0))
        return lax.dynamic_update_slice(
            distance, reduce(add, squares, start)[None], (dx, 0, 0)
        )

    return lax.fori_loop(
        0, side, column, jnp.zeros((side, side, columns), centers[0].dtype)
    )


def _fold(distance: Any, step: Callable[[Any, Any, Any, int], Any], start: Any) -> Any:
    """Go over the window: `step(result, distances, column, row)`, column by column."""

    def column(dx: Any, result: Any) -> Any:
        slab = lax.dynamic_index_in_dim(distance, dx, axis=0, keepdims=False)
        for dy in range(distance.shape[0]):
            result = step(result, slab[dy], dx, dy)
        return result

    return lax.fori_loop(0, distance.shape[0], column, start)


def _count(distance: Any, limit: Any) -> Any:
    """How many distances of each pixel are not more than its limit."""

    def step(total: Any, value: Any, dx: Any, dy: int) -> Any:
        return total + jnp.where(value <= limit, 1.0, 0.0)

    return _fold(distance, step, jnp.zeros_like(limit))


def _chosen(distance: Any, similar: int) -> _Chosen:
    """Find the n-th smallest distance, and strike out ties that find no place."""
    bound = _bound(distance, similar)
    within = _count(distance, bound)
    neighbors = jnp.minimum(within, float(similar))

    def largest_two(limit: Any) -> tuple[Any, Any]:
        """The two largest distances below the limit; 0 where there is none."""

        # Two numbers ride in a complex one, as in kernels.py: one pass gives both.
        def step(found: Any, value: Any, dx: Any, dy: int) -> Any:
            value = jnp.where(value < limit, value, 0.0)
            second = jnp.maximum(found.imag, jnp.minimum(found.real, value))
            return lax.complex(jnp.maximum(found.real, value), second)

        zero = jnp.zeros_like(limit)
        found = _fold(distance, step, lax.complex(zero, zero))
        return found.real, found.imag

    def trim(state: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        # The n-th smallest distance is the `rank`-th largest below `ceiling`.
        ceiling, rank, limit = state
        first, second = largest_two(ceiling)
        limit = jnp.where(rank == 1, first, jnp.where(rank == 2, second, limit))
        return second, rank - 2, limit

    # Where very many lie within the bound (a constant image), they are ties, or nearly so.
    rank = within - similar + 1
    state = (_next_up(bound), jnp.where(rank > _TRIM, 0.0, rank), bound)
    limit = lax.while_loop(lambda s: (s[1] > 0).any(), trim, state)[2]
    limit = jnp.where(within > similar, limit, bound)

    # Distances that occur more than once may have been miscounted, or be too many.
    def settle(state: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        distance, _, tied = state
        limit, place = _last_place(distance, jnp.where(tied, bound, 0.0), similar)
        limit = jnp.where(tied, limit, state[1])
        place = jnp.where(tied, place, float(distance.shape[0] ** 2))
        late = (distance == limit[None, None]) & (_places(distance) > place[None, None])
        return jnp.where(late, jnp.inf, distance), limit, jnp.zeros_like(tied)

    # A loop of one step at most: a branch would copy the distances.
    tied = _count(distance, limit) != neighbors
    distance, limit, _ = lax.while_loop(
        lambda state: state[2].any(), settle, (distance, limit, tied)
    )
    return _Chosen(distance, limit, neighbors)


def _next_up(value: Any) -> Any:
    """The next larger float; the argument is not negative."""
    return lax.bitcast_convert_type(
        lax.bitcast_convert_type(value, jnp.int32) + 1, jnp.float32
    )


def _bound(distance: Any, similar: int) -> Any:
    """A finite upper bound of the n-th smallest distance, close to it."""
    side = distance.shape[0]
    groups = min(side, max(-(-side // _GROUP), -(-4 * similar // side)))
    # Columns of a group are drawn by lot, but always the same: neighbors look alike, and
    # so do the rows of a field.
    order = np.random.default_rng(0).permutation(side)
    least = [
        reduce(jnp.minimum, [distance[dx] for dx in order[group::groups]])
        for group in range(groups)
    ]
    # Floats that are not negative sort as the integers of the same bits.
    bits = lax.bitcast_convert_type(jnp.stack(least), jnp.int32)

    def count(limit: Any) -> Any:
        def add_group(group: Any, total: Any) -> Any:
            slab = lax.dynamic_index_in_dim(bits, group, axis=0, keepdims=False)
            return reduce(add, [jnp.where(row <= limit, 1, 0) for row in slab], total)

        return lax.fori_loop(0, groups, add_group, jnp.zeros_like(limit))

    def halve(step: Any, found: Any) -> Any:
        bit = jnp.int32(1) << (30 - step)
        return jnp.where(count(found + (bit - 1)) < similar, found + bit, found)

    found = lax.fori_loop(0, _BITS, halve, jnp.zeros_like(bits[0, 0]))
    found = jnp.minimum(found + ((1 << (31 - _BITS)) - 1), _LARGEST)
    return lax.bitcast_convert_type(found, jnp.float32)


def _last_place(distance: Any, bound: Any, similar: int) -> tuple[Any, Any]:
    """The n-th smallest distance, and the last place in reading order that counts there.

    Slow and exact, for pixels with ties.
    """

    def below(limit: Any) -> tuple[Any, Any]:
        """How many distances are less than the limit, and the largest of those."""

        def step(found: Any, value: Any, dx: Any, dy: int) -> Any:
            less = value < limit
            return lax.complex(
                found.real + jnp.where(less, 1.0, 0.0),
                jnp.maximum(found.imag, jnp.where(less, value, 0.0)),
            )

        zero = jnp.zeros_like(limit)
        found = _fold(distance, step, lax.complex(zero, zero))
        return found.real, found.imag

    def trim(state: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        limit, count, largest = state
        limit = jnp.where(count >= similar, largest, limit)
        return limit, *below(limit)

    limit, count, _ = lax.while_loop(
        lambda state: (state[1] >= similar).any(), trim, (bound, *below(bound))
    )
    places = similar - count

    def halve(state: tuple[Any, Any]) -> tuple[Any, Any]:
        low, high = state
        middle = jnp.floor((low + high) / 2)

        def step(total: Any, value: Any, dx: Any, dy: int) -> Any:
            place = (dy * distance.shape[0] + dx).astype(jnp.float32)
            counts = (value == limit) & (place <= middle)
            return total + jnp.where(counts, 1.0, 0.0)

        enough = _fold(distance, step, jnp.zeros_like(limit)) >= places
        return jnp.where(enough, low, middle + 1), jnp.where(enough, middle, high)

    last = jnp.full_like(limit, distance.shape[0] ** 2)
    low, _ = lax.while_loop(
        lambda state: (state[0] < state[1]).any(), halve, (jnp.zeros_like(last), last)
    )
    return limit, low


def _places(distance: Any) -> Any:
    """The place of each neighbor in reading order, rows first: (side, side, 1)."""
    side = distance.shape[0]
    places = np.arange(side)[None, :] * side + np.arange(side)[:, None]
    return jnp.asarray(places[:, :, None], jnp.float32)


def _moments(chosen: _Chosen, values: list[Any], nearness: np.ndarray) -> SimilarMean:
    """Weighted moments of the candidates of the most similar pixels."""
    side, columns = nearness.shape[0], chosen.limit.shape[0]
    radius = side // 2
    near = jnp.asarray(nearness.T, jnp.float32)  # by column of the window, then row
    zero = jnp.zeros_like(chosen.limit)
    # Differences from the candidate of the center, so that nothing cancels in kelvin.
    centers = [value[radius, radius : radius + columns] for value in values]
    levels = [jnp.where(jnp.isfinite(center), center, 0.0) for center in centers]
    safe = [jnp.where(jnp.isfinite(value), value, 0.0) for value in values]

    def weighted(terms: tuple[_Term, ...]) -> tuple[Any, ...]:
        """Sums over the window of weight times one or two terms, in one pass."""

        def column(dx: Any, sums: Any) -> Any:
            slab = lax.dynamic_index_in_dim(chosen.distance, dx, axis=0, keepdims=False)
            strips = {
                term.band: lax.dynamic_slice_in_dim(
                    safe[term.band], dx, columns, axis=1
                )
                for term in terms
                if term.power
            }
            for dy in range(side):
                inside = slab[dy] <= chosen.limit
                parts = []
                for term in terms:
                    part = near[dx, dy]
                    for _ in range(term.power):
                        part = part * (strips[term.band][dy] - levels[term.band])
                    # Behind a `where`, so that no compiler joins product and sum.
                    parts.append(jnp.where(inside, part, 0.0))
                sums = sums + lax.complex(parts[0], parts[-1])
            return sums

        total = lax.fori_loop(0, side, column, lax.complex(zero, zero))
        return (total.real, total.imag)[: len(terms)]

    bands = range(len(values))
    first = [_Term(0, 0), *(_Term(band, 1) for band in bands)]
    second = [_Term(band, 2) for band in bands]
    total, *sums = _by_twos(weighted, first)
    squares = _by_twos(weighted, second)
    some = total > 0
    safe_total = jnp.where(some, total, 1.0)
    mean, variance = [], []
    for level, linear, square in zip(levels, sums, squares, strict=True):
        shift = linear / safe_total
        mean.append(jnp.where(some, level + shift, jnp.nan))
        # Not `a - shift * shift`, for the same reason.
        root = jnp.sqrt(jnp.maximum(square / safe_total, 0.0))
        spread = (root - jnp.abs(shift)) * (root + jnp.abs(shift))
        variance.append(jnp.where(some, jnp.maximum(spread, 0.0), jnp.nan))
    neighbors = chosen.neighbors.astype(jnp.int32)
    return SimilarMean(jnp.stack(mean), jnp.stack(variance), neighbors)


class _Term(NamedTuple):
    """(candidate - that of the center) ** power of a band; 1 where power is 0."""

    band: int
    power: int


def _by_twos(
    weighted: Callable[[tuple[_Term, ...]], tuple[Any, ...]], terms: list[_Term]
) -> list[Any]:
    """Sums of all terms, two of them in each pass."""
    return [
        total
        for start in range(0, len(terms), 2)
        for total in weighted(tuple(terms[start : start + 2]))
    ]
