import jax.numpy as jnp
import numpy as np
import pytest

from geofuse.pairs import FusionInputs, Pair
from geofuse.spatiotemporal.agreement import SIGNED, log_size, scene_agreement
from geofuse.spatiotemporal.gate_inputs import (
    MARGIN,
    all_inputs,
    gate_inputs,
    signed_inputs,
)
from geofuse.synthetic import simulate_case

SCALE = 4
EXPERTS = 3


def case_of(**options):
    given = {"bands": ("red", "nir"), "scale": SCALE, "gain": 1.1, "offset": 0.01}
    return simulate_case(48, seed=5, **given, **options)


def turned(inputs, gain):
    pairs = [Pair(gain * p.fine, gain * p.coarse) for p in inputs.pairs]
    return FusionInputs(pairs, gain * inputs.coarse, inputs.scale)


def known_of(inputs, predictions):
    """What is known in the middle of a scene that is all margin around it."""
    scene = scene_agreement(inputs).compute()
    pair = inputs.pairs[0]
    images = (jnp.asarray(i.values) for i in (pair.fine, pair.coarse, inputs.coarse))
    return gate_inputs(
        *images,
        jnp.asarray(predictions),
        jnp.asarray(scene.spread),
        jnp.asarray(scene.numbers[0]),
        SCALE,
    )


def predictions_for(inputs, gain=1.0):
    rng = np.random.default_rng(0)
    fine = inputs.pairs[0].fine.values
    noise = 0.02 * gain * rng.standard_normal((len(fine), EXPERTS, *fine.shape[1:]))
    return (fine[:, None] + noise).astype(np.float32)


def test_there_are_as_many_numbers_as_it_says():
    inputs = case_of().inputs
    known = known_of(inputs, predictions_for(inputs)).known
    side = 48 - 2 * MARGIN * SCALE
    assert known.shape == (2, all_inputs(EXPERTS), side, side)
    assert np.isfinite(known).all()


@pytest.mark.parametrize("gain", [-1.0, 1000.0])
def test_a_unit_changes_nothing_but_the_sign_of_signed_numbers(gain):
    inputs = case_of().inputs
    one = known_of(inputs, predictions_for(inputs)).known
    other = turned(inputs, gain)
    two = known_of(other, predictions_for(other, gain)).known
    signed = signed_inputs(EXPERTS)
    np.testing.assert_allclose(
        two[:, :signed], np.sign(gain) * one[:, :signed], atol=2e-3
    )
    np.testing.assert_allclose(two[:, signed:], one[:, signed:], atol=2e-3)


def test_an_expert_that_agrees_with_the_coarse_change_has_no_residual():
    inputs = case_of(noise=0.0).inputs
    pair = inputs.pairs[0]
    change = inputs.coarse.values - pair.coarse.values
    predictions = predictions_for(inputs)
    predictions[:, 1] = pair.fine.values + change
    residuals = known_of(inputs, predictions).residuals
    assert np.abs(residuals[:, 1]).max() < 1e-6
    assert np.abs(residuals[:, 0]).max() > 1e-4


def test_gaps_leave_no_nan_in_what_is_known():
    inputs = case_of(clouds=0.3, coarse_clouds=0.2).inputs
    predictions = predictions_for(inputs)
    predictions[:, 2] = np.nan
    found = known_of(inputs, predictions)
    assert np.isfinite(found.known).all()
    assert np.isfinite(found.residuals).all()
    assert np.isfinite(found.guess).all()


def test_agreement_is_that_of_aggregated_images():
    inputs = case_of(noise=0.005).inputs
    found = scene_agreement(inputs).compute()
    fine, base, coarse = (
        image.values.reshape(2, 12, SCALE, 12, SCALE).mean(axis=(2, 4)).reshape(2, -1)
        for image in (inputs.pairs[0].fine, inputs.pairs[0].coarse, inputs.coarse)
    )
    spread = inputs.pairs[0].fine.values.reshape(2, -1).std(axis=1)
    np.testing.assert_allclose(found.spread, spread, rtol=1e-5)
    for band in range(2):
        numbers = found.numbers[0, band]
        change = (coarse[band] - base[band]) / spread[band]
        assert numbers[0] == pytest.approx(np.arcsinh(5 * change.mean()) / 3, abs=1e-5)
        assert numbers[SIGNED + 1] == pytest.approx(
            log_size(np.sqrt((change**2).mean())), abs=1e-4
        )
        assert numbers[SIGNED + 5] == pytest.approx(
            np.corrcoef(fine[band], base[band])[0, 1], abs=1e-4
        )
        assert numbers[SIGNED + 6] == pytest.approx(
            np.corrcoef(base[band], coarse[band])[0, 1], abs=1e-4
        )
