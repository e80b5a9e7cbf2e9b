"""ubESTARFM against its formulas written as loops, and what must hold beside it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geofuse.errors import ParameterError, TooFewPairsError
from geofuse.spatiotemporal.method import FusionTile
from geofuse.spatiotemporal.scene import moments, scene_spread
from geofuse.spatiotemporal.ubestarfm import UbESTARFM
from geofuse.synthetic import simulate_case
from tests.oracles import estarfm as oracle

SIZE, RADIUS = 16, 3
SMALL = UbESTARFM(radius=RADIUS)


def temperatures(*, bands=1, holes=0.0, seed=0):
    """Fine and coarse images of two dates in kelvin, the coarse of another hour."""
    rng = np.random.default_rng(seed)
    cover = rng.random((bands, SIZE, SIZE)) > 0.6
    days = np.array([0.0, 15.0])[:, None, None, None]
    fine = 290 + 4 * cover + days + rng.normal(0, 0.5, (2, bands, SIZE, SIZE))
    base = 296 + 2 * cover + days + rng.normal(0, 0.5, (2, bands, SIZE, SIZE))
    coarse = 302 + 2 * cover + rng.normal(0, 0.5, (bands, SIZE, SIZE))
    fine[rng.random(fine.shape) < holes] = np.nan
    coarse[rng.random(coarse.shape) < holes / 4] = np.nan
    return tuple(np.float32(image) for image in (fine, base, coarse))


def fuse(method, fine, base, coarse):
    """Predict the whole scene as one tile; outside it everything is NaN."""
    margin = [(method.halo, method.halo)] * 2
    outside = [
        np.pad(image, [(0, 0)] * (image.ndim - 2) + margin, constant_values=np.nan)
        for image in (fine, base, coarse)
    ]
    summary = scene_spread([moments(fine, fine)])
    tile = FusionTile(*map(jnp.asarray, outside), jnp.asarray([5.0, -5.0]))
    return predict_tile(method, tile, summary), summary


@functools.partial(jax.jit, static_argnums=0)
def predict_tile(method, tile, summary):
    return method.predict_tile(tile, summary)


@pytest.mark.parametrize("holes", [0.0, 0.4])
def test_ubestarfm_matches_its_formulas_written_as_loops(holes):
    images = temperatures(bands=2, holes=holes)
    found, summary = fuse(SMALL, *images)
    counts = []
    for band in range(2):
        fine, base, coarse = (image[..., band, :, :].astype(float) for image in images)
        mean, similar = oracle.ubestarfm(
            fine,
            base,
            coarse,
            std=summary.std[:, band].astype(float),
            spread=float(summary.spread[band]),
            radius=RADIUS,
            classes=2,
        )
        np.testing.assert_array_equal(np.isnan(found.reflectance[band]), np.isnan(mean))
        # float32 holds 300 K to 3e-5 K.
        np.testing.assert_allclose(found.reflectance[band], mean, atol=1e-3)
        counts.append(similar)
    known = np.isfinite(found.reflectance).all(axis=0)
    least = np.minimum(*counts)
    np.testing.assert_array_equal(np.asarray(found.similar)[known], least[known])
    # What stands in there is tried, too.
    assert (least[known] < 6).any()
    assert (least[known] >= 6).any()


def test_a_constant_bias_of_the_fine_images_changes_nothing():
    fine, base, coarse = temperatures(bands=2)
    plain, _ = fuse(SMALL, fine, base, coarse)
    bias = np.float32([[[[4.0]]], [[[-8.0]]]])
    biased, _ = fuse(SMALL, fine + bias, base, coarse)
    np.testing.assert_allclose(biased.reflectance, plain.reflectance, atol=2e-3)


def test_bands_do_not_mix():
    fine, base, coarse = temperatures(bands=2)
    other = fine.copy()
    other[:, 1, 3:9, 3:9] = np.nan
    first, second = (
        np.asarray(fuse(SMALL, image, base, coarse)[0].reflectance[0])
        for image in (fine, other)
    )
    np.testing.assert_array_equal(first, second)


def test_the_level_of_the_product_is_that_of_the_coarse_image():
    fine, base, coarse = temperatures(bands=2)
    found, _ = fuse(SMALL, fine, base, coarse)
    level = np.asarray(found.reflectance).mean(axis=(1, 2))
    # The fine images are some 5 K below the coarse ones.
    assert (np.abs(level - coarse.mean(axis=(1, 2))) < 0.5).all()
    assert (np.asarray(found.aleatoric) > 0).all()


def test_one_pair_is_refused():
    with pytest.raises(TooFewPairsError, match="at least 2 pairs"):
        SMALL.predict(simulate_case(32, pairs=1).inputs)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"radius": 61}, "expected a radius of 1 to 60"),
        ({"classes": 0}, "expected at least 1 class"),
        ({"least_similar": 0}, "expected a whole number of similar pixels"),
    ],
)
def test_a_field_out_of_range_is_refused(fields, message):
    with pytest.raises(ParameterError, match=message):
        UbESTARFM(**fields)
