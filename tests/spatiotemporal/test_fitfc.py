"""Fit-FC against its paper written as loops, and what must hold beside it."""

import jax
import numpy as np
import pytest
import xarray as xr

from geofuse.errors import MissingScaleError, ParameterError
from geofuse.pairs import FusionInputs, Pair
from geofuse.spatiotemporal.fitfc import FitFC
from geofuse.spatiotemporal.most_similar import similar_mean
from geofuse.synthetic import simulate_case
from tests.oracles import fitfc as oracle

SCALE = 4
SMALL = FitFC(radius=3, similar=6, coarse_radius=1)


def scene(*, bands=2, size=24, seed=0, holes=0.0):
    """Fine, coarse base and coarse images of one pair, coarse pixels repeated."""
    rng = np.random.default_rng(seed)
    fine = rng.uniform(0.05, 0.4, (bands, size, size)).astype(np.float32)
    shape = (bands, size // SCALE, size // SCALE)
    base = rng.uniform(0.05, 0.4, shape)
    wanted = 1.2 * base + rng.normal(0, 0.03, shape)
    fine[rng.random(fine.shape) < holes] = np.nan
    base[rng.random(shape) < holes / 2] = np.nan
    return fine, *(
        np.float32(np.kron(image, np.ones((1, SCALE, SCALE))))
        for image in (base, wanted)
    )


def inputs_of(fine, coarse_base, coarse, scale=SCALE):
    def image(values, day):
        axes = {
            "y": np.arange(values.shape[1]) + 0.5,
            "x": np.arange(values.shape[2]) + 0.5,
        }
        coords = {"band": [f"b{k}" for k in range(len(values))], **axes}
        coords["time"] = np.datetime64(f"2021-07-{day:02}", "ns")
        return xr.DataArray(values, dims=("band", "y", "x"), coords=coords)

    pairs = [Pair(image(fine, 1), image(coarse_base, 1))]
    return FusionInputs(pairs, image(coarse, 9), scale)


def predicted(method, *images, tile=None):
    outputs = ("reflectance", "aleatoric", "epistemic", "pair", "similar")
    product = method.predict(inputs_of(*images), tile=tile, outputs=outputs).compute()
    return {name: product[name].values for name in outputs}


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("holes", [0.0, 0.2])
def test_fitfc_matches_the_paper_written_as_loops(bands, holes):
    images = scene(bands=bands, holes=holes)
    found = predicted(SMALL, *images)["reflectance"]
    expected = oracle.fitfc(*images, SCALE, radius=3, similar=6, coarse_radius=1)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    # float32 against float64; slopes of nine points, of values that differ by chance.
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("tile", [8, 12, 20])
def test_tile_size_changes_no_bit(tile):
    images = scene(bands=3, size=40, holes=0.1)
    whole, tiled = (predicted(SMALL, *images, tile=side) for side in (None, tile))
    for name, values in whole.items():
        np.testing.assert_array_equal(values, tiled[name], name)


def test_temperatures_in_kelvin_fuse_like_reflectances():
    images = tuple(np.round(image * 4096) / 4096 for image in scene(bands=1))
    plain = predicted(SMALL, *(np.float32(image) for image in images))
    kelvin = predicted(SMALL, *(np.float32(image * 64 + 288) for image in images))
    # float32 holds 300 K to 3e-5 K, and slopes of up to about 5 multiply that.
    np.testing.assert_allclose(
        kelvin["reflectance"], plain["reflectance"] * 64 + 288, atol=2e-3
    )
    np.testing.assert_allclose(
        kelvin["aleatoric"], plain["aleatoric"] * 64**2, rtol=2e-2, atol=2e-3
    )
    np.testing.assert_array_equal(kelvin["similar"], plain["similar"])


def test_a_constant_scene_gets_the_coarse_change():
    fine = np.full((2, 24, 24), 300.0, np.float32)
    found = predicted(SMALL, fine, fine, fine + 2)
    np.testing.assert_array_equal(found["reflectance"], 302.0)
    np.testing.assert_array_equal(found["aleatoric"], 0.0)
    assert (found["similar"] == 6).all()


def test_a_scene_without_a_valid_pixel_is_nan():
    images = (np.full((2, 24, 24), np.nan, np.float32),) * 3
    found = predicted(SMALL, *images)
    assert np.isnan(found["reflectance"]).all()
    assert (found["pair"] == 0).all()


def test_a_value_under_a_hole_influences_nothing():
    fine, base, coarse = scene(bands=2)
    fine[:, 5:9, 5:9] = np.nan
    found = predicted(SMALL, fine, base, coarse)
    for values in (found["reflectance"], found["aleatoric"]):
        assert np.isnan(values[:, 5:9, 5:9]).all()
        assert np.isfinite(values[:, :5]).all()
    assert (found["pair"][5:9, 5:9] == 0).all()


def test_two_pairs_are_at_least_as_good_as_the_worse_of_them():
    case = simulate_case(64, pairs=2, seed=3)
    method = FitFC(radius=5, similar=10)
    both = method.predict(case.inputs).reflectance
    ones = [
        method.predict(FusionInputs([pair], case.inputs.coarse, case.inputs.scale))
        for pair in case.inputs.pairs
    ]

    def rmse(image):
        return float(np.sqrt(((image - case.reference) ** 2).mean()))

    assert rmse(both) <= max(rmse(one.reflectance) for one in ones)


def test_an_image_that_knows_no_scale_is_refused():
    images = scene()
    inputs = inputs_of(*images, scale=None)
    with pytest.raises(MissingScaleError, match="expected the scale"):
        SMALL.predict(inputs)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"radius": 0}, "expected a radius of 1 to 60"),
        ({"radius": 61}, "expected a radius of 1 to 60"),
        ({"similar": 0}, "expected 1 to 1681 similar pixels"),
        ({"similar": 50, "radius": 3}, "expected 1 to 49 similar pixels"),
        ({"coarse_radius": 0}, "expected a coarse_radius of 1 to 15"),
    ],
)
def test_a_field_out_of_range_is_refused(fields, message):
    with pytest.raises(ParameterError, match=message):
        FitFC(**fields)


@pytest.mark.parametrize(
    ("similar", "digits", "holes"),
    [(1, 7, 0.0), (7, 0, 0.3), (7, 1, 0.97), (20, 1, 0.3), (49, 0, 0.0)],
)
def test_the_most_similar_pixels_are_those_of_a_stable_sort(similar, digits, holes):
    rng = np.random.default_rng(similar + digits)
    # Few digits make many ties: of whole numbers, whose squares are exact.
    guide = np.round(rng.normal(size=(2, 12, 16)) * 10**digits).astype(np.float32)
    guide[rng.random(guide.shape) < holes] = np.nan
    values = np.float32(
        np.where(np.isfinite(guide), rng.normal(size=guide.shape), np.nan)
    )
    reach = np.hypot(*np.mgrid[-3:4, -3:4])
    nearness = np.float32(1 / (1 + reach / 3.5))
    average = jax.jit(lambda a, b: similar_mean(a, b, nearness, similar=similar).mean)
    found = np.asarray(average(guide, values))
    safe = np.where(np.isfinite(values), values, 0.0)
    expected = oracle.filtered(guide.astype(float), safe.astype(float), 3, similar)
    expected = expected[:, 3:-3, 3:-3]
    some = np.isfinite(expected)
    assert some.any()
    np.testing.assert_allclose(found[some], expected[some], atol=2e-6)
