"""Encoders: how far they look, and dropout that is the same at all pixels."""

import jax
import jax.numpy as jnp
import numpy as np

from geofuse.networks.blocks import Draws
from geofuse.networks.encoders import Dropout, Encoder, reach

SIDE = 23


def scene(seed=0):
    rng = np.random.default_rng(seed)
    values = jnp.asarray(rng.normal(size=(1, SIDE, SIDE, 2)), jnp.float32)
    return values, jnp.ones((1, SIDE, SIDE), bool)


def test_an_encoder_looks_as_far_as_it_says():
    run = jax.jit(lambda v, p: Encoder(2, 4, draws=Draws(0))(v, p, Dropout(0.0)))
    values, present = scene()
    found = run(values, present)
    assert found.shape == (1, SIDE - 2 * reach(), SIDE - 2 * reach(), 4)
    # Each pixel at the rim of the window reaches one row of the result, at its rim.
    changed = np.abs(run(values.at[0, 0].add(3.0), present) - found).max(axis=(0, 2, 3))
    assert changed[0] > 0
    np.testing.assert_array_equal(changed[1:], 0)


def test_features_are_zero_where_the_modality_is_missing():
    values, present = scene()
    present = present.at[0, 11, 9:13].set(False)
    values = values.at[0, 11, 9:13].set(jnp.nan)
    found = Encoder(2, 4, draws=Draws(0))(values, present, Dropout(0.0))
    np.testing.assert_array_equal(found[0, 11 - reach(), 9 - reach() : 13 - reach()], 0)
    assert np.isfinite(found).all()


def test_a_channel_is_dropped_at_all_pixels_or_at_none():
    dropped = Dropout(0.5, jax.random.key(2))(jnp.ones((3, 5, 6, 16)))
    mean = np.asarray(dropped).mean(axis=(1, 2))
    assert set(np.unique(mean)) == {0.0, 2.0}
    # Patches of a batch and layers have masks of their own.
    assert (mean[0] != mean[1]).any()


def test_layers_have_masks_of_their_own():
    dropout = Dropout(0.5, jax.random.key(2))
    ones = jnp.ones((1, 2, 2, 32))
    assert (np.asarray(dropout(ones)) != np.asarray(dropout(ones))).any()
