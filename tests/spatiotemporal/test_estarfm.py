"""ESTARFM against its paper and programs written as loops, and what must hold beside it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from geofuse.errors import ParameterError, TooFewPairsError
from geofuse.pairs import FusionInputs
from geofuse.spatiotemporal.estarfm import ESTARFM
from geofuse.spatiotemporal.method import FusionTile
from geofuse.spatiotemporal.scene import moments, scene_spread
from geofuse.spatiotemporal.similar_sums import similar_sums
from geofuse.synthetic import simulate_case
from tests.oracles import estarfm as oracle

SIZE, RADIUS = 16, 3
SMALL = ESTARFM(radius=RADIUS, classes=2)


def scene(*, bands=3, pairs=2, seed=0, holes=0.0):
    """Fine and coarse images of a little scene of two covers, whose fields change."""
    rng = np.random.default_rng(seed)
    cover = rng.random((SIZE, SIZE)) > 0.5
    level = np.linspace(0.1, 0.4, bands)[:, None, None]
    noise = functools.partial(rng.normal, size=(bands, SIZE, SIZE))

    def images(day):
        truth = level + cover * (0.1 + 0.15 * day) + 0.01 * noise()
        coarse = level + 0.6 * cover * (0.1 + 0.15 * day) + 0.03 * day + 0.02 * noise()
        return truth, coarse

    days = np.linspace(0, 1, pairs)
    fine, base = (np.stack(x) for x in zip(*map(images, days), strict=True))
    coarse = images(0.4)[1]
    for image in (fine, base):
        gone = rng.random((pairs, SIZE, SIZE)) < holes
        image[np.broadcast_to(gone[:, None], image.shape)] = np.nan
    coarse[:, rng.random((SIZE, SIZE)) < holes / 4] = np.nan
    return tuple(np.float32(image) for image in (fine, base, coarse))


def fuse(method, fine, base, coarse):
    """Predict the whole scene as one tile; outside it everything is NaN."""
    halo = method.halo
    margin = [(halo, halo), (halo, halo)]
    outside = [
        np.pad(
            image,
            [(0, 0)] * (image.ndim - 2) + margin,
            constant_values=np.float32(np.nan),
        )
        for image in (fine, base, coarse)
    ]
    lags = jnp.linspace(5.0, -5.0, len(fine))
    tile = FusionTile(*(jnp.asarray(image) for image in outside), lags)
    summary = scene_spread([moments(fine, fine)])
    return predict_tile(method, tile, summary), summary


@functools.partial(jax.jit, static_argnums=0)
def predict_tile(method, tile, summary):
    return method.predict_tile(tile, summary)


def by_loops(images, summary, **options):
    """The oracle's prediction, variance and number of similar pixels."""
    return oracle.estarfm(
        *(image.astype(float) for image in images),
        std=summary.std.astype(float),
        spread=summary.spread.astype(float),
        radius=RADIUS,
        classes=2,
        **options,
    )


@pytest.mark.parametrize(
    ("gate", "bands", "holes"),
    [("zhu", 3, 0.2), ("zhu", 1, 0.1), ("imagefusion", 3, 0.0), ("never", 3, 0.0)],
)
def test_estarfm_matches_the_paper_written_as_loops(gate, bands, holes):
    images = scene(bands=bands, holes=holes, seed=bands)
    found, summary = fuse(dataclasses.replace(SMALL, gate=gate), *images)
    mean, variance, similar = by_loops(images, summary, gate=gate)
    np.testing.assert_array_equal(np.isnan(found.reflectance), np.isnan(mean))
    np.testing.assert_array_equal(found.similar, similar)
    assert (similar < 6).any() == (holes > 0)  # what stands in there is tried, too
    # float32: slopes from sums of up to 49 squares, about the mean of the scene.
    np.testing.assert_allclose(found.reflectance, mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.aleatoric, variance, rtol=2e-3, atol=1e-7)


def test_where_the_gate_is_closed_the_slope_is_one():
    images = scene()
    opened = np.asarray(fuse(SMALL, *images)[0].reflectance)
    closed, never = (
        np.asarray(fuse(dataclasses.replace(SMALL, **field), *images)[0].reflectance)
        for field in ({"change": 1e6}, {"gate": "never"})
    )
    np.testing.assert_array_equal(closed, never)
    assert (opened != never).mean() > 0.2


def test_a_line_between_fine_and_coarse_is_recovered():
    base = np.random.default_rng(3).normal(0.3, 0.05, (2, 3, SIZE, SIZE))
    base[1] = base[0] + 0.2
    coarse = base[0] + 0.07
    images = (np.float32(image) for image in (1.8 * base - 0.1, base, coarse))
    found, _ = fuse(SMALL, *images)
    some = np.asarray(found.similar) >= 6
    assert some.mean() > 0.3
    expected = (1.8 * coarse - 0.1)[:, some]
    np.testing.assert_allclose(found.reflectance[:, some], expected, atol=2e-5)
    # What the line explains is certain, but for the two bases, which agree.
    assert np.asarray(found.aleatoric)[:, some].max() < 1e-6


def test_too_few_similar_pixels_fall_back_as_told():
    images = scene()
    fields = {"least_similar": 50, "otherwise": "none"}
    found, summary = fuse(dataclasses.replace(SMALL, **fields), *images)
    mean, variance, _ = by_loops(images, summary, **fields)
    np.testing.assert_allclose(found.reflectance, mean, rtol=1e-5)
    np.testing.assert_allclose(found.aleatoric, variance, rtol=1e-4, atol=1e-9)


def test_beyond_the_valid_range_similar_pixels_stand_in():
    images = scene()
    limits = (0.12, 0.5)
    found, summary = fuse(dataclasses.replace(SMALL, valid_range=limits), *images)
    limited = by_loops(images, summary, valid_range=limits)[0]
    assert (limited != by_loops(images, summary)[0]).any()
    np.testing.assert_allclose(found.reflectance, limited, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bands", [1, 3])
def test_temperatures_in_kelvin_fuse_like_reflectances(bands):
    images = tuple(np.round(image * 4096) / 4096 for image in scene(bands=bands))
    plain, _ = fuse(SMALL, *images)
    kelvin, _ = fuse(SMALL, *(np.float32(image * 64 + 288) for image in images))
    # A pixel on a threshold may fall on its other side.
    near = np.isclose(kelvin.reflectance, plain.reflectance * 64 + 288, atol=2e-3)
    assert near.mean() > 0.98


def test_where_one_pair_is_invalid_the_other_one_predicts():
    fine, base, coarse = scene()
    fine[0, :, 4:7, 4:7] = np.nan
    found, _ = fuse(SMALL, fine, base, coarse)
    assert np.isfinite(found.reflectance).all()
    assert (np.asarray(found.pair)[4:7, 4:7] == 2).all()
    fine[1, 1, 5, 5] = np.nan  # one band is enough
    found, _ = fuse(SMALL, fine, base, coarse)
    assert np.isnan(found.reflectance[:, 5, 5]).all()
    assert found.pair[5, 5] == 0


def test_a_third_pair_stands_in_where_the_two_around_the_date_are_invalid():
    case = simulate_case(48, pairs=3, seed=4, bands=("red", "nir"))
    first, *around = case.inputs.pairs
    hole = np.zeros((48, 48), bool)
    hole[10:20, 30:40] = True
    cloudy = [
        dataclasses.replace(
            pair, fine=pair.fine.where(~xr.DataArray(hole, dims=("y", "x")))
        )
        for pair in around
    ]

    def predicted(*pairs):
        inputs = FusionInputs(pairs, case.inputs.coarse, case.inputs.scale)
        outputs = ("reflectance", "aleatoric", "pair", "similar")
        return SMALL.predict(inputs, outputs=outputs).compute()

    two, three = predicted(*cloudy), predicted(first, *cloudy)
    assert np.isnan(two.reflectance.values[:, hole]).all()
    assert np.isfinite(three.reflectance).all()
    # The spread of the scene, over all pairs, is another one: a threshold moves a little.
    np.testing.assert_allclose(
        three.reflectance.values[:, ~hole], two.reflectance.values[:, ~hole], atol=5e-3
    )
    assert (three.pair.values[hole] == 1).all()
    assert (three.pair.values[~hole] == two.pair.values[~hole] + 1).all()
    assert np.isfinite(three.aleatoric).all()


def test_the_stated_variance_tells_where_the_error_is_large():
    case = simulate_case(96, pairs=2, seed=2, bands=("red", "nir"))
    product = SMALL.predict(case.inputs).compute()
    square = ((product.reflectance - case.reference) ** 2).values
    stated = product.aleatoric.values
    for band in range(2):
        order = np.argsort(stated[band], axis=None)
        calm, wild = np.split(square[band].ravel()[order], 2)
        assert wild.mean() > 1.5 * calm.mean()


@pytest.mark.parametrize("width", [3, 150])
def test_similar_sums_are_those_of_loops_at_any_width(width):
    rng = np.random.default_rng(width)
    radius = 2
    shape = (7, width + 2 * radius)
    guide = rng.normal(0, 0.6, (2, *shape)).astype(np.float32)
    guide[0, 3, 2 + width // 2] = np.nan
    candidate = (rng.random(shape) > 0.2) & np.isfinite(guide).all(axis=0)
    plain = rng.normal(size=(2, *shape)).astype(np.float32)
    weighted = rng.normal(size=(3, *shape)).astype(np.float32)
    nearness = rng.random((5, 5)).astype(np.float32)
    found = similar_sums(
        jnp.asarray(guide),
        jnp.asarray(candidate),
        (jnp.asarray(plain),),
        jnp.asarray(weighted),
        nearness,
    )
    for y, x in np.ndindex(3, width):
        here = np.isfinite(guide[:, y + 2, x + 2])
        near = (slice(None), slice(y, y + 5), slice(x, x + 5))
        off = np.abs(guide[near][here] - guide[here, y + 2, x + 2][:, None, None])
        similar = (off <= 1).all(axis=0) & candidate[near[1:]]
        np.testing.assert_allclose(
            found.plain[0][:, y, x], (plain[near] * similar).sum((1, 2)), atol=1e-5
        )
        np.testing.assert_allclose(
            found.weighted[:, y, x],
            (weighted[near] * nearness * similar).sum((1, 2)),
            atol=1e-5,
        )


def test_one_pair_is_refused():
    case = simulate_case(32, pairs=1)
    with pytest.raises(TooFewPairsError, match="at least 2 pairs"):
        ESTARFM().predict(case.inputs)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"radius": 0}, "expected a radius of 1 to 60"),
        ({"classes": 0.5}, "expected at least 1 class"),
        ({"change": -0.1}, "expected change from 0"),
        ({"least_similar": 0}, "expected a whole number of similar pixels"),
        ({"valid_range": (1.0, 0.0)}, "expected valid_range as"),
    ],
)
def test_a_field_out_of_range_is_refused(fields, message):
    with pytest.raises(ParameterError, match=message):
        ESTARFM(**fields)


@pytest.mark.parametrize("field", ["gate", "otherwise"])
def test_an_unknown_name_is_refused(field):
    method = ESTARFM()
    # Around the constructor: the tests' type checker would refuse the name before us.
    object.__setattr__(method, field, "always")
    with pytest.raises(ParameterError, match=f"expected {field} '"):
        method.__post_init__()
