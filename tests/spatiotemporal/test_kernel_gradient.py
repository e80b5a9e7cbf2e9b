"""The gradient of kernel regression is that of the same sums, written out."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geofuse.spatiotemporal.kernels import kernel_regression
from geofuse.spatiotemporal.starfm import STARFM

SHIFT = jnp.float32(0.1)


class Maps(NamedTuple):
    """A fixed map, learned ones, and a number."""

    fixed: jax.Array
    place: jax.Array
    scale: jax.Array
    tolerance: jax.Array


def weight(center, neighbor, offset):
    far = jnp.asarray(offset.dy * offset.dy + offset.dx * offset.dx, jnp.float32)
    near = 1.0 / (1.0 + far)
    off = neighbor.place - center.place
    similar = jnp.abs(neighbor.fixed - center.fixed) <= center.tolerance
    return jnp.where(similar, near * jnp.exp(-center.scale * off * off), 0.0)


def inputs(pairs=2, size=13, seed=0):
    rng = np.random.default_rng(seed)

    def image():
        return jnp.asarray(rng.normal(size=(pairs, size, size)), jnp.float32)

    maps = Maps(image(), image(), jnp.abs(image()), jnp.full(pairs, 1.0, jnp.float32))
    return maps, image()


def written_out(maps, candidates, radius):
    """The same as one sum over shifted images, which JAX differentiates as it stands."""
    rows, columns = (size - 2 * radius for size in candidates.shape[1:])

    def cut(tree, y, x):
        return jax.tree.map(
            lambda a: a if a.ndim < 2 else a[y : y + rows, x : x + columns], tree
        )

    total = first = second = 0.0
    for pair in range(len(candidates)):
        here, values = jax.tree.map(lambda a, k=pair: a[k], (maps, candidates))
        for y in range(2 * radius + 1):
            for x in range(2 * radius + 1):
                offset = type("Offset", (), {"dy": y - radius, "dx": x - radius})
                w = weight(cut(here, radius, radius), cut(here, y, x), offset)
                c = cut(values, y, x)
                total, first, second = total + w, first + w * c, second + w * c * c
    mean = first / total
    return mean, second / total - mean**2


@pytest.mark.parametrize("radius", [1, 4])
@pytest.mark.parametrize("moment", [0, 1])
def test_gradients_are_those_of_the_sums_written_out(radius, moment):
    maps, candidates = inputs()

    def ours(maps, candidates):
        found = kernel_regression(
            weight, maps, candidates, radius=radius, shift=SHIFT, unrolled=26
        )
        return jnp.sum(jnp.sin((found.mean, found.variance)[moment]))

    def theirs(maps, candidates):
        return jnp.sum(jnp.sin(written_out(maps, candidates, radius)[moment]))

    value, found = jax.value_and_grad(ours, argnums=(0, 1))(maps, candidates)
    expected_value, expected = jax.value_and_grad(theirs, argnums=(0, 1))(
        maps, candidates
    )
    np.testing.assert_allclose(value, expected_value, rtol=1e-5)
    for name in ("place", "scale"):
        # float32, 81 neighbors, twice over.
        np.testing.assert_allclose(
            getattr(found[0], name), getattr(expected[0], name), atol=2e-5
        )
    np.testing.assert_allclose(found[1], expected[1], atol=2e-5)
    assert not np.any(found[0].tolerance)


def test_the_gradient_reaches_through_starfm_and_stays_finite_beside_holes():
    rng = np.random.default_rng(0)
    method = STARFM(radius=2)
    fine, base = (
        jnp.asarray(rng.uniform(0.1, 0.4, (1, 9, 9)), jnp.float32) for _ in range(2)
    )
    coarse = jnp.asarray(rng.uniform(0.1, 0.4, (9, 9)), jnp.float32)
    holes = fine.at[0, 3:5, 4].set(jnp.nan)
    spread = jnp.full(1, 0.1, jnp.float32)

    def predicted(fine):
        fused = method._fuse_band(fine, base, coarse, spread, spread[0], SHIFT)
        return jnp.nansum(fused.mean)

    whole = jax.grad(predicted)(fine)
    assert np.isfinite(whole).all()
    assert np.abs(whole).max() > 0.1
    pierced = jax.grad(predicted)(holes)
    assert np.isfinite(pierced).all()
    assert not np.any(pierced[0, 3:5, 4])


def test_memory_of_the_gradient_does_not_grow_with_the_window():
    def needed(radius):
        maps, candidates = inputs(pairs=1, size=64 + 2 * radius)

        def loss(place):
            found = kernel_regression(
                weight,
                maps._replace(place=place),
                candidates,
                radius=radius,
                shift=SHIFT,
            )
            return found.mean.sum()

        compiled = jax.jit(jax.grad(loss)).lower(maps.place).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert needed(9) < 4 * needed(3)


def test_a_kernel_that_learns_nothing_has_a_gradient_of_its_candidates_alone():
    maps, candidates = inputs()
    regression = partial(kernel_regression, weight, maps, radius=1, shift=SHIFT)
    found = jax.grad(lambda c: regression(c).mean.sum())(candidates)
    # A weighted mean of candidates: moving all of them moves it as much.
    np.testing.assert_allclose(found.sum(), 11 * 11, rtol=1e-5)
