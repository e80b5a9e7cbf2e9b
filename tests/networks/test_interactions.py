"""How features of modalities meet: masks, weights, and what a formula can represent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geofuse.networks.blocks import Draws
from geofuse.networks.interactions import INTERACTIONS
from geofuse.networks.parameters import arrays_of, network_of

STATE_WEIGHTS = ("add", "gated", "attention", "precision")


def made(name, modalities=3, width=4, outputs=3, rank=3):
    return INTERACTIONS[name](modalities, width, outputs, rank=rank, draws=Draws(1))


def inputs(modalities=3, width=4, seed=0):
    """Features and presence in which all, some and none of the modalities are there."""
    rng = np.random.default_rng(seed)
    features = [
        jnp.asarray(rng.normal(size=(2, 3, 4, width)), jnp.float32)
        for _ in range(modalities)
    ]
    present = [jnp.asarray(rng.random((2, 3, 4)) < 0.6) for _ in range(modalities)]
    present = [there.at[0, 0, 0].set(False).at[1, 0, 0].set(True) for there in present]
    return features, present


def hidden(features, present, value):
    return [
        jnp.where(there[..., None], values, value)
        for values, there in zip(features, present, strict=True)
    ]


@pytest.mark.parametrize("name", INTERACTIONS)
def test_what_hides_where_a_modality_is_missing_does_not_matter(name):
    features, present = inputs()
    run = jax.jit(made(name))
    found = run(features, present)
    for value in (jnp.nan, 1e6):
        other = run(hidden(features, present, value), present)
        np.testing.assert_array_equal(found.features, other.features)
        np.testing.assert_array_equal(found.weight, other.weight)
    assert np.isfinite(found.features).all()


@pytest.mark.parametrize("name", INTERACTIONS)
def test_gradients_are_finite_also_where_all_are_missing(name):
    features, present = inputs()
    features = hidden(features, present, jnp.nan)
    arrays = arrays_of(made(name))

    def loss(arrays):
        fused = network_of(lambda: made(name), arrays)(features, present)
        return jnp.square(fused.features).sum()

    gradients = jax.jit(jax.grad(loss))(arrays)
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())
    assert any(np.abs(gradient).max() > 0 for gradient in gradients.values())


@pytest.mark.parametrize("name", INTERACTIONS)
def test_weights_are_shares_of_the_modalities_that_are_there(name):
    features, present = inputs()
    weight = np.asarray(made(name)(features, present).weight)
    if name not in STATE_WEIGHTS:
        assert np.isnan(weight).all()
        return
    there = np.stack(present, axis=-1)
    assert (weight[~there] == 0).all()
    assert (weight[there] > 0).all()
    np.testing.assert_allclose(weight.sum(-1), there.any(-1), atol=1e-6)


@pytest.mark.parametrize("name", ["add", "gated", "low-rank", "bilinear", "precision"])
@pytest.mark.parametrize("count", [2, 4])
def test_a_missing_modality_leaves_what_the_others_say(name, count):
    """With one modality there, its features alone tell the result."""
    features, _ = inputs(count)
    nowhere = jnp.zeros(features[0].shape[:3], bool)
    present = [~nowhere] + [nowhere] * (count - 1)
    interaction = made(name, count)
    found = interaction(features, present).features
    others = [features[0], *(values * 7 + 1 for values in features[1:])]
    np.testing.assert_array_equal(found, interaction(others, present).features)
    moved = [features[0] + 1, *features[1:]]
    assert np.abs(found - interaction(moved, present).features).max() > 1e-3


def fitted_error(name):
    """Share of the variance of a product that an interaction cannot represent."""
    rng = np.random.default_rng(3)
    x, z = (jnp.asarray(rng.normal(size=(1, 16, 32, 2)), jnp.float32) for _ in "xz")
    truth = x[..., :1] * z[..., :1]
    present = [jnp.ones(x.shape[:3], bool)] * 2

    def loss(arrays):
        network = network_of(lambda: made(name, 2, 2, 1, 2), arrays)
        error = network([x, z], present).features - truth
        return jnp.square(error).mean() / truth.var()

    step = jax.jit(jax.value_and_grad(loss))
    arrays = arrays_of(made(name, 2, 2, 1, 2))
    speed = {key: jnp.zeros_like(array) for key, array in arrays.items()}
    for _ in range(300):
        error, gradient = step(arrays)
        speed = {key: 0.9 * speed[key] - 0.02 * gradient[key] for key in arrays}
        arrays = {key: arrays[key] + speed[key] for key in arrays}
    return float(error)


@pytest.mark.parametrize("name", ["add", "concatenate"])
def test_what_is_additive_cannot_represent_a_product(name):
    assert fitted_error(name) > 0.9


@pytest.mark.parametrize("name", ["bilinear", "low-rank", "tensor"])
def test_what_multiplies_represents_a_product(name):
    assert fitted_error(name) < 0.02
