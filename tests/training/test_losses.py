"""Losses against loops, and their gradients beside invalid pixels."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geofuse.training import losses
from tests.oracles import losses as oracles

SHAPE = (3, 2, 8, 8)


def images(count):
    """Images with NaN at random, and a patch where one is NaN throughout."""
    rng = np.random.default_rng(1)
    found = rng.normal(size=(count, *SHAPE)).astype(np.float32)
    found[rng.random(found.shape) < 0.15] = np.nan
    found[-1, 1] = np.nan
    return [jnp.asarray(image) for image in found]


LOSSES = {
    "charbonnier": (losses.charbonnier, 2),
    "beta_nll": (losses.beta_nll, 3),
    "spectral_angle": (losses.spectral_angle, 2),
    "physical_consistency": (
        partial(losses.physical_consistency, scale=4, noise=0.1),
        2,
    ),
}
every_loss = pytest.mark.parametrize("name", LOSSES)


def test_charbonnier_is_what_it_says():
    predicted, truth = images(2)
    expected = oracles.charbonnier(predicted, truth, 0.05)
    found = losses.charbonnier(predicted, truth, width=0.05)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_beta_nll_is_what_it_says(beta):
    predicted, log_variance, truth = images(3)
    log_variance = 8 * log_variance  # beyond the limits, too
    expected = oracles.beta_nll(
        predicted, log_variance, truth, beta, losses.LOG_VARIANCES
    )
    found = losses.beta_nll(predicted, log_variance, truth, beta=beta)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_with_beta_1_the_mean_learns_as_from_the_squared_error():
    predicted, log_variance, truth = images(3)
    valid = jnp.isfinite(predicted + log_variance + truth)
    gradient = jax.grad(partial(losses.beta_nll, beta=1.0))(
        predicted, log_variance, truth
    )
    counts = np.maximum(valid.sum(axis=(1, 2, 3), keepdims=True), 1) * len(truth)
    expected = np.where(valid, predicted - truth, 0) / counts
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-7)


def test_spectral_angle_is_what_it_says():
    predicted, truth = images(2)
    expected = oracles.spectral_angle(np.asarray(predicted), np.asarray(truth))
    found = losses.spectral_angle(predicted, truth)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_equal_and_dark_spectra_have_finite_gradients():
    image = jnp.ones(SHAPE).at[0, :, 0, 0].set(0.0)
    assert losses.spectral_angle(image, image) < 1e-5
    assert jnp.isfinite(jax.grad(losses.spectral_angle)(image, image)).all()


def test_physical_consistency_is_what_it_says():
    predicted, coarse = images(2)
    expected = oracles.physical_consistency(predicted, coarse, 4, 0.1)
    found = losses.physical_consistency(predicted, coarse, scale=4, noise=0.1)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_noise_of_the_sensor_costs_nothing():
    coarse = jnp.zeros(SHAPE)
    rng = np.random.default_rng(0)
    detail = rng.normal(size=SHAPE).astype(np.float32)
    cells = detail.reshape(3, 2, 2, 4, 2, 4)
    detail = (cells - cells.mean(axis=(3, 5), keepdims=True)).reshape(SHAPE)
    noise = jnp.full((3, 2, 1, 1), 0.2)
    within = partial(losses.physical_consistency, scale=4, noise=noise)
    assert within(jnp.asarray(detail) + 0.19, coarse) == 0
    np.testing.assert_allclose(
        within(jnp.asarray(detail) - 0.3, coarse), 0.01, rtol=1e-4
    )


@every_loss
def test_what_lies_under_an_invalid_pixel_changes_nothing(name):
    loss, count = LOSSES[name]
    given = images(count)
    hidden = [
        jnp.where(jnp.isfinite(sum(given)), image, value)
        for image, value in zip(given, (jnp.inf, jnp.nan, -jnp.inf), strict=False)
    ]
    # A pixel of the prediction alone: cells and spectra see what else is valid.
    whole = [jnp.where(jnp.isfinite(sum(given)), image, jnp.nan) for image in given]
    np.testing.assert_array_equal(loss(*hidden), loss(*whole))


@every_loss
def test_gradients_are_finite_and_zero_where_invalid(name):
    loss, count = LOSSES[name]
    given = images(count)
    valid = jnp.isfinite(sum(given))
    gradients = jax.grad(loss, argnums=tuple(range(count)))(*given)
    for gradient in gradients:
        assert jnp.isfinite(gradient).all()
        assert (gradient[~valid] == 0).all()
        assert (gradient[valid] != 0).any()


@every_loss
def test_parts_of_a_batch_average_to_the_whole(name):
    loss, count = LOSSES[name]
    given = images(count)
    parts = [loss(*(image[n : n + 1] for image in given)) for n in range(3)]
    np.testing.assert_allclose(np.mean(parts), loss(*given), rtol=1e-5)
