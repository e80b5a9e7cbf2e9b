"""KernelNet: STARFM at step 0, and what it learns departs from there."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geofuse.errors import (
    MissingScaleError,
    NotFittedError,
    OutOfRangeWarning,
    ParameterError,
)
from geofuse.networks.parameters import arrays_of
from geofuse.pairs import FusionInputs
from geofuse.spatiotemporal.kernel_inputs import CHANNELS, channels_of, evidence_of
from geofuse.spatiotemporal.kernel_net import KernelNet
from geofuse.spatiotemporal.kernel_training import (
    Drawing,
    described,
)
from geofuse.spatiotemporal.method import OUTPUTS
from geofuse.spatiotemporal.starfm import STARFM
from geofuse.synthetic import simulate_case
from geofuse.training.loop import Training
from geofuse.training.weights import Weights

RADIUS = 3
TRAINING = Training(steps=6, batch=2, patch=16, warmup=1, learning_rate=3e-3)


def at_step_0(**fields):
    net = KernelNet(radius=RADIUS, classes=6, weights=None, **fields)
    return dataclasses.replace(net, weights=Weights(arrays_of(net.network())))


def stirred(size=0.1, **fields):
    """A network that corrects at random."""
    net = at_step_0(**fields)
    rng = np.random.default_rng(0)
    arrays = {
        name: array + size * rng.normal(size=array.shape)
        for name, array in net.weights.arrays.items()
    }
    return dataclasses.replace(net, weights=Weights(arrays))


def case_of(size=48, **options):
    options = {"bands": ("red", "nir"), "scale": 8, "clouds": 0.1} | options
    return simulate_case(size, **options)


def everything(method, inputs, tile=None):
    return method.predict(inputs, tile=tile, outputs=tuple(OUTPUTS)).compute()


@pytest.mark.parametrize("pairs", [1, 2])
def test_untrained_it_is_starfm(pairs):
    inputs = case_of(pairs=pairs).inputs
    ours = everything(at_step_0(), inputs)
    starfm = everything(STARFM(radius=RADIUS, classes=6, decay=16), inputs)
    spread = inputs.pairs[0].fine.std(("y", "x"))
    for name in ("pair", "similar", "filled"):
        np.testing.assert_array_equal(ours[name], starfm[name])
    off = abs(ours.reflectance - starfm.reflectance) / spread
    assert off.max() <= 1e-5
    np.testing.assert_array_equal(
        np.isnan(ours.reflectance), np.isnan(starfm.reflectance)
    )
    assert ours.epistemic.max() == 0


def test_each_part_includes_those_before_it():
    inputs = case_of(pairs=1).inputs
    found = {
        learned: stirred(learned=learned).predict(inputs, tile=None).compute()
        for learned in ("fixed", "gain", "kernel", "residual")
    }
    starfm = everything(STARFM(radius=RADIUS, classes=6, decay=16), inputs)
    spread = inputs.pairs[0].fine.std(("y", "x"))
    fixed = found["fixed"].reflectance
    assert (abs(fixed - starfm.reflectance) / spread).max() <= 1e-5
    for one, other in (("fixed", "gain"), ("gain", "kernel"), ("kernel", "residual")):
        off = abs(found[one].reflectance - found[other].reflectance) / spread
        assert off.max() > 0.01
    assert found["gain"].epistemic.max() == 0
    assert found["kernel"].epistemic.max() > 0


def test_tiles_agree_to_rounding():
    inputs = case_of(90, pairs=2).inputs
    net = stirred()
    whole = everything(net, inputs)
    # Products of matrices and of a + b c are rounded once or twice, as suits their size.
    reach = float(inputs.coarse.max() - inputs.coarse.min())
    for tile in (24, 40):
        product = everything(net, inputs, tile)
        for name in ("pair", "similar", "filled"):
            np.testing.assert_array_equal(product[name], whole[name])
        for name in ("reflectance", "aleatoric", "epistemic"):
            np.testing.assert_allclose(
                product[name], whole[name], rtol=1e-5, atol=1e-6 * reach
            )


def test_any_linear_unit_gives_the_same_in_that_unit():
    case = case_of(pairs=1)
    net = stirred()

    def kelvin(image):
        return image * np.float32(32) + np.float32(256)

    pair = case.inputs.pairs[0]
    warm = FusionInputs(
        [dataclasses.replace(pair, fine=kelvin(pair.fine), coarse=kelvin(pair.coarse))],
        kelvin(case.inputs.coarse),
        scale=8,
    )
    here, there = (net.predict(i, tile=None).compute() for i in (case.inputs, warm))
    off = abs(there.reflectance - kelvin(here.reflectance))
    # A float32 near 256 is known to 3e-5; a pixel on a threshold may fall aside.
    assert float((off < 5e-3).where(off.notnull()).mean()) > 0.99
    ratio = there.aleatoric / here.aleatoric
    np.testing.assert_allclose(ratio.median(), 32**2, rtol=1e-3)


def test_one_band_or_many_and_scales_from_4_to_30_will_do():
    net = stirred()
    for bands, scale in ((("red",), 4), (("blue", "green", "red", "nir"), 30)):
        product = net.predict(case_of(60, bands=bands, scale=scale, clouds=0).inputs)
        assert np.isfinite(product.reflectance).all()


def test_variances_grow_with_what_changed():
    case = case_of(pairs=1, clouds=0.0)
    still = FusionInputs(
        case.inputs.pairs,
        case.inputs.pairs[0].coarse.assign_coords(time=case.inputs.coarse.time),
        scale=8,
    )
    changed, same = (
        at_step_0().predict(i, tile=None).aleatoric.mean() for i in (case.inputs, still)
    )
    assert changed > 2 * same


def test_fitting_learns_and_repeats_to_the_bit():
    cases = [case_of(seed=seed, clouds=0.05) for seed in range(2)]
    net = KernelNet(radius=RADIUS, weights=None, width=8, heads=2, training=TRAINING)
    first, again = (net.fit(cases, seed=1) for _ in range(2))
    assert net.weights is None
    assert first == again
    assert first != net.fit(cases, seed=2)
    on = first.fit(cases[:1], seed=3)
    assert on.weights != first.weights
    assert np.isfinite(on.predict(cases[0].inputs).reflectance).mean() > 0.8


def test_the_loss_and_its_gradient_are_finite_beside_holes():
    case = case_of(pairs=2, clouds=0.4, coarse_clouds=0.2)
    net = stirred(width=8, heads=2, training=TRAINING)
    squares = list(described(case, RADIUS, 0))
    batch = Drawing(squares, TRAINING, RADIUS, 0)(0)
    loss = jax.value_and_grad(net.settings().loss)
    value, slopes = loss(dict(net.weights.arrays), batch, jax.random.key(0))
    assert np.isfinite(value)
    assert all(np.isfinite(slope).all() for slope in slopes.values())
    assert any(np.abs(slope).max() > 0 for slope in slopes.values())


def test_what_the_network_is_told_is_finite_and_0_where_invalid():
    rng = np.random.default_rng(0)
    shape = (1, 2, 6 * 16, 6 * 16 + 16)
    fine, base, coarse = (
        jnp.asarray(rng.normal(size=shape), jnp.float32) for _ in range(3)
    )
    fine = fine.at[:, 0, 40:60, 40:60].set(jnp.nan)
    base = base.at[:, :, 48:, 50:].set(jnp.nan)
    scale, spare = 8, 3
    known = evidence_of(fine, base, coarse, scale, spare)
    of_band = known._replace(
        coarse=jax.tree.map(lambda a: a[0, 0], known.coarse), guide=known.guide[0]
    )
    images = (fine[0, 0], base[0, 0], coarse[0, 0])
    channels = channels_of(*images, of_band, jnp.zeros(7), scale, spare)
    margin = 5 * scale + spare
    inner = (slice(margin, -margin),) * 2
    valid = np.isfinite(fine[0, 0][inner] + base[0, 0][inner])
    assert channels.shape == (CHANNELS, *valid.shape)
    assert np.isfinite(channels).all()
    assert not np.any(np.asarray(channels)[:, ~valid])
    assert np.abs(np.asarray(channels)[:, valid]).max(axis=1)[:15].min() > 0


def test_without_weights_it_says_what_to_do():
    inputs = case_of().inputs
    with pytest.raises(NotFittedError, match=r"fit\(cases\)"):
        KernelNet(weights=None).predict(inputs)


def test_weights_of_other_settings_are_refused():
    net = dataclasses.replace(at_step_0(), width=16)
    with pytest.raises(ParameterError, match="belong to other settings"):
        net.predict(case_of().inputs)


def test_it_needs_the_scale():
    inputs = case_of().inputs
    unknown = FusionInputs(inputs.pairs, inputs.coarse.assign_attrs(scale=None))
    if unknown.scale is None:
        with pytest.raises(MissingScaleError):
            at_step_0().predict(unknown)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"radius": 0}, "radius of 1 to 250"),
        ({"classes": 0}, "at least 1 class"),
        ({"width": 0}, "width of 1 to 256"),
        ({"heads": 17}, "heads of 1 to 16"),
    ],
)
def test_fields_out_of_range_are_refused(fields, words):
    with pytest.raises(ParameterError, match=words):
        KernelNet(**{"weights": None} | fields)


def test_no_case_is_refused():
    with pytest.raises(ParameterError, match="at least one case"):
        KernelNet(weights=None).fit([])


def test_the_network_is_small():
    net = KernelNet(weights=None).network()
    arrays = arrays_of(net)
    products = sum(a.size for a in arrays.values() if a.ndim == 2)
    assert products < 25_000


def test_shipped_weights_warn_of_a_scale_that_they_were_not_trained_on():
    inputs = simulate_case(80, bands=("red",), scale=40).inputs
    with pytest.warns(OutOfRangeWarning, match="4 to 30, found 40"):
        KernelNet().predict(inputs)
    KernelNet().check(case_of().inputs)
    at_step_0().check(inputs)  # nothing is known of weights of one's own
