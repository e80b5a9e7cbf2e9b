"""The gradient of kernel regression, as two more sums over windows.

    S(i) = sum_j w(m_i, m_j) t(j)          m: the maps, i a center, j a neighbor

    center    dL/dm_i = sum_j  A(i, j) dw/dm_i      gathered from the neighbors of i
    neighbor  dL/dm_j = sum_i  A(i, j) dw/dm_j      gathered from the centers around j

A(i, j) is dL/dw, from the gradients of the sums at i and the candidate at j. Differentiated
as it stands, each shifted view of a map would become an addition into an image of zeros,
one for each neighbor. Gathered from both sides, nothing is scattered, the weights are
computed anew, memory does not grow with the radius, and it takes a third of the time.
"""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int


class Offset(NamedTuple):
    """Where a neighbor lies, seen from the center.

    Attributes:
        dy: Rows down, from -radius to radius; known only inside the loop (an array).
        dx: Columns to the right, from -radius to radius; known when tracing.
    """

    dy: Int[Array, ""]
    dx: int


#: (maps at the center, maps at the neighbor, offset) -> weight (y x), not negative.
Weight = Callable[[Any, Any, Offset], Float[Array, "y x"]]

#: Neighbors in one loop step: XLA makes vectors of them from 16 to 26.
UNROLLED = 26


def gathered_gradient(
    moments: Callable[..., Any], weight: Weight, radius: int
) -> Callable[[Any, Any], Any]:
    """Sums over windows that are differentiated by sums over windows.

    Args:
        moments: `moments(weight, maps, candidates, radius)` gives (sum w c) + i (sum w)
            and (sum w c c) + i (neighbors) for each center.
        weight: The kernel. It may close over NumPy arrays, not over traced ones.
        radius: Half the side of the window.

    Returns:
        The same as a function of (maps, candidates) alone. Its gradient goes to the
        candidates and to those maps that are images, and is 0 for numbers.
    """

    def sums(maps: Any, candidates: Any) -> Any:
        return moments(weight, maps, candidates, radius)

    def forward(maps: Any, candidates: Any) -> Any:
        # Which maps anything is learned of: the others need no gradient.
        leaves, tree = jax.tree.flatten(
            maps, is_leaf=lambda leaf: hasattr(leaf, "perturbed")
        )
        values = [leaf.value for leaf in leaves]
        learned = [
            None if leaf.perturbed and leaf.value.ndim >= 2 else () for leaf in leaves
        ]
        maps = jax.tree.unflatten(tree, values)
        return sums(maps, candidates.value), (maps, candidates.value, learned)

    def backward(residuals: Any, cotangents: Any) -> Any:
        maps, candidates, learned = residuals
        places = [place for place, mark in enumerate(learned) if mark is None]
        return _gradient(weight, radius, maps, candidates, places, cotangents)

    function = jax.custom_vjp(sums)
    function.defvjp(forward, backward, symbolic_zeros=True)
    return function


def _gradient(
    weight: Weight,
    radius: int,
    maps: Any,
    candidates: Float[Array, "rows columns"],
    places: list[int],
    cotangents: tuple[Any, Any],
) -> tuple[Any, Any]:
    """Gradients of the maps (of the leaves at `places`; 0 elsewhere) and candidates."""
    on_sums = _real(cotangents, candidates, radius)
    shape = on_sums[0].shape
    leaves, tree = jax.tree.flatten(maps)
    inner = _windows(leaves, radius, radius, shape)

    def with_learned(base: list[Any], at: list[int], values: list[Any]) -> Any:
        base = list(base)
        for place, value in zip(at, values, strict=True):
            base[place] = value
        return jax.tree.unflatten(tree, base)

    def of_center(at: list[int], others: Any, offset: Offset, values: list[Any]) -> Any:
        there = jax.tree.unflatten(tree, others)
        return weight(with_learned(inner, at, values), there, offset)

    def of_neighbor(
        at: list[int], others: Any, offset: Offset, values: list[Any]
    ) -> Any:
        there = jax.tree.unflatten(tree, others)
        return weight(there, with_learned(leaves, at, values), offset)

    here = Offset(jnp.int32(0), 0)
    as_center = _used(partial(of_center, places, inner, here), inner, places)
    as_neighbor = _used(partial(of_neighbor, places, leaves, here), leaves, places)

    def at_center(neighbor: Any, offset: Offset) -> list[Any]:
        """What neighbor j adds to the gradient of center i."""
        others, candidate = neighbor
        function = partial(of_center, as_center, others, offset)
        _, pull = jax.vjp(function, [inner[place] for place in as_center])
        return list(pull(_on_weight(on_sums, candidate))[0])

    def at_neighbor(center: Any, offset: Offset) -> list[Any]:
        """What center i adds to the gradient of neighbor j, seen from j."""
        others, sums = center
        function = partial(
            of_neighbor, as_neighbor, others, Offset(-offset.dy, -offset.dx)
        )
        w, pull = jax.vjp(function, [leaves[place] for place in as_neighbor])
        return [
            *pull(_on_weight(sums, candidates))[0],
            w * _on_candidate(sums, candidates),
        ]

    centers = _gathered(at_center, (leaves, candidates), radius, shape, len(as_center))
    # Centers beyond the edge have a gradient of 0: what they are given does not matter.
    framed = jax.tree.map(partial(_framed, width=2 * radius), (inner, on_sums))
    *neighbors, of_candidates = _gathered(
        at_neighbor, framed, radius, candidates.shape, len(as_neighbor) + 1
    )
    gradients = [jnp.zeros_like(leaf) for leaf in leaves]
    for place, center in zip(as_center, centers, strict=True):
        gradients[place] = _framed(center, width=radius)
    for place, neighbor in zip(as_neighbor, neighbors, strict=True):
        gradients[place] = gradients[place] + neighbor
    return jax.tree.unflatten(tree, gradients), of_candidates


def _used(
    function: Callable[[list[Any]], Any], leaves: list[Any], places: list[int]
) -> list[int]:
    """Those of the places at which the kernel looks at all, from this side."""
    traced = jax.make_jaxpr(function)([leaves[place] for place in places]).jaxpr
    read = {id(v) for equation in traced.eqns for v in equation.invars}
    return [
        place
        for place, variable in zip(places, traced.invars, strict=True)
        if id(variable) in read
    ]


def _on_weight(on_sums: tuple[Any, ...], candidate: Any) -> Any:
    """The gradient of a weight, from those of the sums that it is part of."""
    on_first, on_weight, *on_second = on_sums
    slope = on_first * candidate + on_weight
    return slope + on_second[0] * candidate * candidate if on_second else slope


def _on_candidate(on_sums: tuple[Any, ...], candidate: Any) -> Any:
    """The gradient of a candidate, over its weight."""
    on_first, _, *on_second = on_sums
    return on_first + 2.0 * on_second[0] * candidate if on_second else on_first


def _gathered(
    term: Callable[[Any, Offset], list[Any]],
    maps: Any,
    radius: int,
    shape: tuple[int, ...],
    count: int,
) -> list[Any]:
    """Sum `count` terms over the window around each pixel, two to a complex number."""
    if count == 0:
        return []
    side = 2 * radius + 1
    parts = math.ceil(side / UNROLLED)
    bounds = [side * part // parts for part in range(parts + 1)]

    def terms(strip: Any, column: int, offset: Offset) -> list[Any]:
        """The terms of one neighbor, all of them images (y, x)."""
        found = term(_windows(strip, 0, column, shape), offset)
        return [image for one in found for image in one.reshape(-1, *shape)]

    example = jax.eval_shape(
        lambda tree: term(_windows(tree, 0, 0, shape), Offset(jnp.int32(0), 0)), maps
    )
    leads = [one.shape[:-2] for one in example]
    images = sum(math.prod(lead) for lead in leads)
    sums = [jnp.zeros(shape, jnp.complex64) for _ in range(-(-images // 2))]
    for start, stop in pairwise(bounds):

        def add_row(
            row: Any, sums: list[Any], start: int = start, stop: int = stop
        ) -> list[Any]:
            strip = jax.tree.map(
                lambda a: (
                    lax.dynamic_slice_in_dim(a, row, shape[0], -2) if a.ndim >= 2 else a
                ),
                maps,
            )
            for column in range(start, stop):
                found = terms(strip, column, Offset(row - radius, column - radius))
                found += [jnp.zeros_like(found[0])] * (len(found) % 2)
                sums = [
                    total + lax.complex(real, imaginary)
                    for total, real, imaginary in zip(
                        sums, found[::2], found[1::2], strict=True
                    )
                ]
            return sums

        sums = lax.fori_loop(0, side, add_row, sums)
    flat = iter([part for total in sums for part in (total.real, total.imag)])
    return [
        jnp.stack([next(flat) for _ in range(math.prod(lead))]).reshape(*lead, *shape)
        for lead in leads
    ]


def _windows(tree: Any, row: int, column: int, shape: tuple[int, ...]) -> Any:
    """The part of each image that starts at (row, column); numbers stay."""
    place = (..., slice(row, row + shape[0]), slice(column, column + shape[1]))
    return jax.tree.map(lambda a: a if a.ndim < 2 else a[place], tree)


def _framed(array: Any, *, width: int) -> Any:
    """An image with zeros around it; numbers stay."""
    if array.ndim < 2:
        return array
    frame = [(0, 0)] * (array.ndim - 2) + [(width, width)] * 2
    return jnp.pad(array, frame)


def _real(cotangents: tuple[Any, Any], candidates: Any, radius: int) -> tuple[Any, ...]:
    """Gradients of sum w c and sum w, and of sum w c c where that is used."""
    symbol = jax.custom_derivatives.SymbolicZero
    first, second = cotangents
    if isinstance(first, symbol):
        rows, columns = (size - 2 * radius for size in candidates.shape)
        first = jnp.zeros((rows, columns), jnp.complex64)
    # JAX pairs complex cotangents without conjugation: the imaginary part turns sign.
    real = (first.real, -first.imag)
    return real if isinstance(second, symbol) else (*real, second.real)
