"""STARFM against the paper written as loops, and what must hold of it in any case."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geofuse.errors import ParameterError
from geofuse.spatiotemporal.kernels import Offset, kernel_regression
from geofuse.spatiotemporal.method import FusionTile
from geofuse.spatiotemporal.scene import SceneSpread, moments, scene_spread
from geofuse.spatiotemporal.starfm import DN, STARFM
from tests.oracles.starfm import starfm_paper, starfm_robust, starfm_usda

SIZE, RADIUS = 12, 3
ORACLES = {"paper": starfm_paper, "robust": starfm_robust, "usda": starfm_usda}


def scene(*, pairs=1, bands=1, seed=0, holes=0.0):
    """Fine and coarse images of a little scene of two covers, float32."""
    rng = np.random.default_rng(seed)
    cover = 0.1 + 0.2 * (rng.random((bands, SIZE, SIZE)) > 0.5)
    noise = functools.partial(rng.normal, size=(pairs, bands, SIZE, SIZE))
    fine = cover + 0.03 * noise()
    coarse_base = cover + 0.04 * noise()
    coarse = coarse_base.mean(axis=0) + 0.05 * noise()[0]
    for image in (fine, coarse_base, coarse):
        image[rng.random(image.shape) < holes] = np.nan
    return tuple(np.float32(image) for image in (fine, coarse_base, coarse))


def summarized(fine):
    return scene_spread([moments(fine, fine)])


def fuse(method, fine, coarse_base, coarse, summary=None):
    """Predict the whole scene as one tile; outside it everything is NaN."""

    def padded(image):
        lead = [(0, 0)] * (image.ndim - 2)
        return jnp.asarray(
            np.pad(image, [*lead, *[(method.halo,) * 2] * 2], constant_values=np.nan)
        )

    tile = FusionTile(
        padded(fine), padded(coarse_base), padded(coarse), jnp.ones(len(fine))
    )
    predict = jax.jit(STARFM.predict_tile, static_argnums=0)
    summary = summarized(fine) if summary is None else summary
    return jax.tree.map(np.asarray, predict(method, tile, summary))


@pytest.mark.parametrize("holes", [0.0, 0.2])
@pytest.mark.parametrize("pairs", [1, 2])
@pytest.mark.parametrize("rules", ["robust", "paper", "usda"])
def test_starfm_matches_the_rules_written_as_loops(rules, pairs, holes):
    images = scene(pairs=pairs, bands=2, holes=holes, seed=pairs)
    method = STARFM(radius=RADIUS, classes=4, decay=2.0, noise=0.05, rules=rules)
    summary = summarized(images[0])
    found = fuse(method, *images)
    counts = []
    for band in range(2):
        fine, coarse_base, coarse = (
            np.float64(image[..., band, :, :]) for image in images
        )
        spread = np.float64(summary.spread[band])
        known = {"radius": RADIUS, "classes": 4, "decay": 2.0}
        known |= {"std": summary.std[:, band], "sigma": 0.05 * spread}
        if rules == "usda":
            known["dn"] = DN * spread
        mean, variance, similar = ORACLES[rules](fine, coarse_base, coarse, **known)
        # float32, 98 additions at most, about the scene's mean.
        np.testing.assert_allclose(
            found.reflectance[band], mean, rtol=5e-6, atol=1e-6 * spread
        )
        np.testing.assert_allclose(
            found.aleatoric[band], variance, rtol=1e-4, atol=1e-6 * spread**2
        )
        counts.append(similar)
        assert np.isfinite(mean).mean() > 0.4
    np.testing.assert_array_equal(found.similar, np.min(counts, axis=0))
    assert found.similar.max() > 5


def test_doubling_reflectance_doubles_the_prediction():
    images = scene(pairs=2)
    once, twice = (
        fuse(STARFM(radius=RADIUS), *(np.float32(factor) * image for image in images))
        for factor in (1, 2)
    )
    # A power of two changes no rounding.
    np.testing.assert_array_equal(twice.reflectance, 2 * once.reflectance)
    np.testing.assert_array_equal(twice.aleatoric, 4 * once.aleatoric)


@pytest.mark.parametrize("rules", ["robust", "paper", "usda"])
def test_adding_a_constant_to_all_images_adds_it_to_the_prediction(rules):
    # Steps of 2^-12 and a constant of 8: differences of float32 pixels stay exact.
    images = tuple(np.round(image * 4096) / 4096 for image in scene(pairs=2, holes=0.1))
    method = STARFM(radius=RADIUS, rules=rules)
    plain = fuse(method, *images)
    raised = fuse(method, *(np.float32(image + 8) for image in images))
    np.testing.assert_allclose(raised.reflectance, plain.reflectance + 8, rtol=1e-6)
    np.testing.assert_allclose(raised.aleatoric, plain.aleatoric, rtol=1e-3, atol=1e-7)
    np.testing.assert_array_equal(raised.similar, plain.similar)


@pytest.mark.parametrize("rules", ["robust", "paper", "usda"])
def test_temperatures_in_kelvin_fuse_like_reflectances(rules):
    images = tuple(np.round(image * 4096) / 4096 for image in scene(pairs=1))
    method = STARFM(radius=RADIUS, rules=rules)
    plain = fuse(method, *images)
    kelvin = fuse(method, *(np.float32(image * 64 + 288) for image in images))
    # float32 holds 300 K to 3e-5 K; the spread of this scene is 6 K.
    np.testing.assert_allclose(
        kelvin.reflectance, plain.reflectance * 64 + 288, rtol=2e-7
    )
    np.testing.assert_allclose(
        kelvin.aleatoric, plain.aleatoric * 64**2, rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("rules", ["robust", "paper", "usda"])
def test_an_unchanged_scene_is_returned_within_its_noise(rules):
    rng = np.random.default_rng(3)
    cover = 0.1 + 0.2 * (np.add.outer(np.arange(SIZE), np.arange(SIZE)) % 5 > 2)
    fine = np.float32(cover + rng.uniform(-0.01, 0.01, cover.shape))[None, None]
    coarse = np.full_like(fine, fine.mean())
    found = fuse(STARFM(radius=RADIUS, rules=rules), fine, coarse, coarse[0])
    assert np.abs(found.reflectance - fine[0]).max() < 0.02
    assert found.aleatoric.max() < 0.01**2


def test_a_change_of_all_coarse_pixels_is_added():
    fine, coarse_base, _ = scene()
    method = STARFM(radius=RADIUS)
    same, brighter = (
        fuse(method, fine, coarse_base, coarse_base[0] + np.float32(change))
        for change in (0.25, 0.5)
    )
    np.testing.assert_allclose(brighter.reflectance, same.reflectance + 0.25, rtol=1e-5)


def test_nan_in_nan_out_and_nothing_beside_it():
    fine, coarse_base, coarse = scene(pairs=1)
    whole = fuse(STARFM(radius=1), fine, coarse_base, coarse)
    fine[:, :, 2:9, 2:9] = np.nan
    found = fuse(STARFM(radius=1), fine, coarse_base, coarse, summarized(scene()[0]))
    hole = np.isnan(fine[0])
    for values in (found.reflectance, found.aleatoric, found.epistemic):
        np.testing.assert_array_equal(np.isnan(values), hole)
    np.testing.assert_array_equal(found.pair == 0, hole[0])
    np.testing.assert_array_equal(found.similar == 0, hole[0])
    far = np.s_[:, 10:, 10:]
    np.testing.assert_array_equal(found.reflectance[far], whole.reflectance[far])


@pytest.mark.parametrize("rules", ["robust", "paper", "usda"])
def test_a_pair_invalid_at_the_pixel_takes_no_part_there(rules):
    fine, coarse_base, coarse = scene(pairs=2, seed=5)
    summary = summarized(fine)
    fine[1, :, 4, 4] = np.nan
    method = STARFM(radius=RADIUS, rules=rules)
    both = fuse(method, fine, coarse_base, coarse, summary)
    fine[1] = np.nan
    first = fuse(method, fine, coarse_base, coarse, summary)
    assert both.reflectance[0, 4, 4] == first.reflectance[0, 4, 4]
    assert both.pair[4, 4] == 1
    assert set(np.unique(first.pair)) == {1}
    assert set(np.unique(both.pair)) == {1, 2}


def test_a_scene_without_a_valid_pixel_is_nan():
    images = tuple(np.full_like(image, np.nan) for image in scene(pairs=2))
    summary = summarized(images[0])
    assert all(np.isfinite(values).all() for values in summary)
    found = fuse(STARFM(radius=RADIUS), *images)
    assert np.isnan(found.reflectance).all()
    assert np.isnan(found.aleatoric).all()
    assert (found.similar == 0).all()


@pytest.mark.parametrize("rules", ["robust", "paper", "usda"])
@pytest.mark.parametrize("level", [0.0, 0.3, 300.0])
def test_a_constant_scene_gets_the_coarse_change(rules, level):
    fine = np.full((1, 1, SIZE, SIZE), level, np.float32)
    found = fuse(STARFM(radius=RADIUS, rules=rules), fine, fine, fine[0] + 1)
    np.testing.assert_allclose(found.reflectance, level + 1, rtol=1e-6)
    assert (found.similar >= (RADIUS + 1) ** 2).all()


def test_where_a_pixel_lies_in_a_tile_changes_no_bit():
    fine, coarse_base, coarse = (
        np.tile(image, (3, 4)) for image in scene(pairs=2, bands=2, holes=0.1)
    )
    method, summary = STARFM(radius=RADIUS), summarized(fine)
    whole = fuse(method, fine, coarse_base, coarse, summary)
    for top, left, rows, columns in [(0, 0, 36, 17), (3, 5, 20, 31), (10, 9, 7, 39)]:
        window = np.s_[..., top : top + rows, left : left + columns]
        part = fuse(method, fine[window], coarse_base[window], coarse[window], summary)
        inner = np.s_[..., RADIUS:-RADIUS, RADIUS:-RADIUS]
        for name in ("reflectance", "aleatoric", "pair", "similar"):
            np.testing.assert_array_equal(
                getattr(part, name)[inner], getattr(whole, name)[window][inner], name
            )


def test_the_summary_does_not_depend_on_how_the_scene_is_cut():
    fine = scene(pairs=2, bands=2, holes=0.1)[0] + np.float32(300)
    parts = [moments(part, part) for part in (fine[..., :5], fine[..., 5:])]
    cut, whole = scene_spread(parts), summarized(fine)
    for found, expected in zip(cut, whole, strict=True):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(
        whole.std, np.nanstd(fine.astype(float), axis=(2, 3)), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"radius": 0}, "expected a radius of 1 to 250"),
        ({"radius": 251}, "expected a radius of 1 to 250"),
        ({"classes": 0}, "expected at least 1 class"),
        ({"decay": 0.0}, "expected a decay above 0"),
        ({"decay": float("nan")}, "expected a decay above 0"),
        ({"noise": 0.0}, "expected noise from 1e-6 to 1"),
        ({"noise": float("nan")}, "expected noise from 1e-6 to 1"),
        ({"noise": 1.5}, "expected noise from 1e-6 to 1"),
    ],
)
def test_a_field_out_of_range_is_refused(fields, message):
    with pytest.raises(ParameterError, match=message):
        STARFM(**fields)


def test_unknown_rules_are_refused():
    method = STARFM()
    # Around the constructor: the tests' type checker would refuse the name before us.
    object.__setattr__(method, "rules", "c")
    with pytest.raises(ParameterError, match="expected rules 'robust'"):
        method.__post_init__()


def attention(center, neighbor, offset):
    """A kernel as a network would learn it: exp(query . key), for the test below."""
    query, _, _ = center
    _, key, bias = neighbor
    return jnp.exp((query * key).sum(axis=0) + bias - 0.1 * abs(offset.dx))


def test_a_learned_kernel_is_another_weight_and_has_finite_gradients():
    rng = np.random.default_rng(0)
    query, key = jnp.asarray(rng.normal(size=(2, 1, 3, 9, 9)), jnp.float32)
    candidates = rng.normal(size=(1, 9, 9)).astype(np.float32)
    candidates[0, 4, 4] = np.nan
    bias = jnp.where(jnp.isfinite(candidates), 0.0, -jnp.inf)

    def loss(query):
        fused = kernel_regression(
            attention,
            (query, key, bias),
            jnp.asarray(candidates),
            radius=2,
            shift=jnp.float32(0),
        )
        return fused.mean.sum() + fused.variance.sum(), fused

    (_, fused), gradient = jax.value_and_grad(loss, has_aux=True)(query)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0
    window = np.s_[0, 0:5, 0:5]
    weight = np.exp(
        np.einsum("c,cyx->yx", query[0, :, 2, 2], key[0, :, 0:5, 0:5])
        - 0.1 * np.abs(np.arange(-2, 3))
    )
    weight[4, 4] = 0
    expected = (weight * np.nan_to_num(candidates[window])).sum() / weight.sum()
    np.testing.assert_allclose(fused.mean[0, 0], expected, rtol=1e-5)
    assert fused.neighbors[0, 0] == 24


def test_no_weight_is_nan_and_not_zero():
    fused = kernel_regression(
        lambda center, neighbor, offset: 0.0 * neighbor,
        jnp.ones((1, 5, 5)),
        jnp.ones((1, 5, 5)),
        radius=1,
        shift=jnp.float32(0),
    )
    assert np.isnan(fused.mean).all()
    assert np.isnan(fused.variance).all()
    assert (np.asarray(fused.weight) == 0).all()
    assert isinstance(Offset(jnp.int32(0), 0).dx, int)
    assert SceneSpread._fields == ("std", "spread", "location")
