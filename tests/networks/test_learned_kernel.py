"""The per-pixel networks of a learned kernel: they start at nothing, and see one pixel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from geofuse.networks.learned_kernel import CHUNK, LearnedKernel, by_chunks
from geofuse.networks.parameters import arrays_of, network_of


def network(seed=0, width=8, heads=3):
    return LearnedKernel(5, 2, 2, width=width, heads=heads, rngs=nnx.Rngs(seed))


def stirred(seed=1):
    """A network all of whose parameters are random."""
    rng = np.random.default_rng(seed)
    arrays = {
        name: 0.3 * rng.normal(size=array.shape).astype(np.float32)
        for name, array in arrays_of(network()).items()
    }
    return network_of(network, arrays)


def image(channels, *shape, seed=0):
    values = np.random.default_rng(seed).normal(size=(channels, *shape))
    return jnp.asarray(values, jnp.float32)


def test_an_untrained_network_corrects_nothing():
    said = network().describe(image(5, 6, 7))
    for part in (said.scale, said.reach, said.trust, said.gain):
        assert not np.any(part)
    # Without differences, a scale of differences could not be learned.
    assert np.std(said.embedding) > 0.05
    end = network().finish(said.hidden, image(2, 6, 7))
    for part in end:
        assert not np.any(part)


def test_a_pixel_is_described_from_itself_alone_wherever_it_lies():
    net, wide = stirred(), image(5, 80, 70)
    assert CHUNK < 80 * 70
    whole = jax.jit(net.describe)(wide)
    part = jax.jit(net.describe)(wide[:, 11:40, 5:29])
    for a, b in zip(whole, part, strict=True):
        np.testing.assert_allclose(a[..., 11:40, 5:29], b, rtol=0, atol=2e-6)


def test_corrections_stay_within_bounds_however_odd_a_pixel_is():
    net = stirred()
    said = net.describe(1e6 * image(5, 40))
    assert np.abs(said.trust).max() <= 3
    assert np.abs(said.gain).max() <= 1.5
    end = net.finish(1e3 * said.hidden, 1e6 * image(2, 40))
    assert np.abs(end.own).max() <= 1
    assert np.abs(end.residual).max() <= 2


def test_each_head_looks_at_its_own_units():
    net = stirred()
    hidden, after = image(8, 9), image(2, 9)
    before = net.finish(hidden, after)
    kernel = jnp.asarray(net.residual.kernel[...])
    net.residual.kernel[...] = kernel.at[1].add(1.0)
    changed = net.finish(hidden, after).residual - before.residual
    assert np.abs(changed[1]).max() > 0
    assert not np.any(changed[jnp.array([0, 2])])


@pytest.mark.parametrize("pixels", [1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 5])
def test_chunks_change_nothing(pixels):
    x = image(3, pixels)
    np.testing.assert_array_equal(by_chunks(lambda a: a[:2] * 2, x), x[:2] * 2)


def test_parameters_travel_by_name():
    arrays = arrays_of(network(seed=4))
    again = network_of(network, arrays)
    x = image(5, 12)
    for a, b in zip(network(seed=4).describe(x), again.describe(x), strict=True):
        np.testing.assert_array_equal(a, b)
