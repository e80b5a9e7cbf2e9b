"""FSDAF and unmixing against their papers written as loops, and what must hold beside it."""

import jax
import numpy as np
import pytest

from geofuse.errors import MissingScaleError, ParameterError
from geofuse.pairs import FusionInputs
from geofuse.spatiotemporal.fsdaf import FSDAF, homogeneity
from geofuse.spatiotemporal.thin_plate import REACH
from geofuse.spatiotemporal.unmixing import Unmixing
from tests.oracles import unmixing as oracle
from tests.spatiotemporal.test_classes import covered, inputs_of
from tests.spatiotemporal.test_fitfc import SCALE, scene
from tests.spatiotemporal.test_fitfc import inputs_of as fusion_inputs

SMALL = FSDAF(radius=3, similar=6, classes=3)
PLAIN = Unmixing(classes=3, coarse_radius=1, detail=False, ridge=0.5)
DETAIL = Unmixing(classes=3, coarse_radius=1, ridge=0.5)


def predicted(method, images, *, tile=None, outputs=("reflectance",)):
    inputs = images if isinstance(images, FusionInputs) else fusion_inputs(*images)
    product = method.predict(inputs, tile=tile, outputs=outputs).compute()
    return {name: product[name].values for name in outputs}


def assert_agree(found, expected):
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=3e-5)


@pytest.mark.parametrize("holes", [0.0, 0.2])
def test_fsdaf_matches_the_paper_written_as_loops(holes):
    images = scene(bands=2, holes=holes)
    summary = SMALL.summarize(fusion_inputs(*images)).compute()
    expected = oracle.fsdaf(
        images, SCALE, summary, classes=3, radius=3, similar=6, reach=REACH
    )
    assert_agree(predicted(SMALL, images)["reflectance"], expected)


@pytest.mark.parametrize("method", [PLAIN, DETAIL], ids=["plain", "detail"])
@pytest.mark.parametrize("holes", [0.0, 0.2])
def test_unmixing_matches_the_paper_written_as_loops(method, holes):
    images = scene(bands=2, holes=holes)
    summary = method.summarize(fusion_inputs(*images)).compute()
    expected = oracle.unmixing(
        images,
        SCALE,
        summary,
        classes=3,
        coarse_radius=1,
        detail=method.detail,
        ridge=0.5,
    )
    assert_agree(predicted(method, images)["reflectance"], expected)


@pytest.mark.parametrize("method", [SMALL, DETAIL], ids=["fsdaf", "unmixing"])
def test_tile_size_changes_no_bit(method):
    images = scene(bands=2, size=40, holes=0.1)
    outputs = ("reflectance", "aleatoric", "epistemic", "pair", "similar")
    whole, tiled = (
        predicted(method, images, tile=side, outputs=outputs) for side in (None, 12)
    )
    for name, values in whole.items():
        np.testing.assert_array_equal(values, tiled[name], name)


@pytest.mark.parametrize(
    "method", [SMALL, DETAIL, PLAIN], ids=["fsdaf", "detail", "plain"]
)
def test_temperatures_in_kelvin_fuse_like_reflectances(method):
    images = tuple(np.round(image * 4096) / 4096 for image in scene(bands=1))
    plain = predicted(method, tuple(np.float32(image) for image in images))
    kelvin = predicted(method, tuple(np.float32(image * 64 + 288) for image in images))
    np.testing.assert_allclose(
        kelvin["reflectance"], plain["reflectance"] * 64 + 288, atol=5e-3
    )


@pytest.mark.parametrize(
    "method", [FSDAF(radius=4, similar=5, classes=3), Unmixing(classes=3)]
)
def test_covers_that_change_each_in_their_way_are_predicted(method):
    cover = covered()
    inputs = inputs_of(cover)
    found = predicted(method, inputs)["reflectance"]
    before = inputs.pairs[0].fine.values
    for band in range(2):
        for k in range(3):
            mean = (found[band] - before[band])[cover == k].mean()
            expected = [[0.1, 0.0], [-0.05, 0.1], [0.02, -0.1]][k][band]
            assert mean == pytest.approx(expected, abs=0.012)


def test_a_given_class_map_is_used_and_pixels_without_a_class_change_like_the_coarse():
    cover = covered()
    labels = (cover + 1).astype(np.uint8)
    labels[:8, :8] = 0
    inputs = inputs_of(cover, labels)
    # No two pixels are alike, so that the most similar one is the pixel itself.
    rng = np.random.default_rng(1)
    inputs.pairs[0].fine.values += rng.normal(0, 1e-3, inputs.coarse.shape).astype("f4")
    own = predicted(FSDAF(radius=1, similar=1, classes=3), inputs)["reflectance"]
    coarse = inputs.coarse.values - inputs.pairs[0].coarse.values
    np.testing.assert_allclose(
        own[:, :8, :8], (inputs.pairs[0].fine.values + coarse)[:, :8, :8], atol=1e-5
    )
    unmixed = predicted(Unmixing(classes=3), inputs)["reflectance"]
    assert np.isnan(unmixed[:, :8, :8]).all()
    assert np.isfinite(unmixed[:, 8:, 8:]).all()


@pytest.mark.parametrize("method", [SMALL, DETAIL], ids=["fsdaf", "unmixing"])
def test_more_classes_than_coarse_pixels_still_predict(method):
    images = scene(bands=1, size=8)
    many = type(method)(classes=12)
    assert np.isfinite(predicted(many, images)["reflectance"]).all()


def test_a_constant_band_and_an_invalid_scene():
    fine, base, coarse = scene(bands=2)
    fine[1], base[1], coarse[1] = 0.3, 0.3, 0.4
    for method in (SMALL, DETAIL):
        found = predicted(method, (fine, base, coarse))["reflectance"]
        np.testing.assert_allclose(found[1], 0.4, atol=1e-5)
        nothing = predicted(method, (fine * np.float32(np.nan), base, coarse))
        assert np.isnan(nothing["reflectance"]).all()


def test_homogeneity_is_a_share():
    label = np.array([[0, 0, 1], [0, -1, 1], [0, 0, 0]], np.int32)
    found = np.asarray(
        jax.jit(homogeneity, static_argnums=1, static_argnames="radius")(
            label, 2, radius=1
        )
    )
    expected = oracle.homogeneity(label, 1)
    known = label >= 0
    np.testing.assert_allclose(found[known], expected[known], rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        (FSDAF, {"radius": 0}, "radius of 1 to 60"),
        (FSDAF, {"similar": 0}, "similar pixels"),
        (FSDAF, {"classes": 21}, "1 to 20 classes"),
        (Unmixing, {"classes": 0}, "1 to 20 classes"),
        (Unmixing, {"coarse_radius": 0}, "coarse_radius"),
        (Unmixing, {"ridge": 0}, "ridge above 0"),
    ],
)
def test_fields_out_of_range_are_refused(kind, options, words):
    with pytest.raises(ParameterError, match=words):
        kind(**options)


def test_the_scale_is_needed():
    inputs = fusion_inputs(*scene())
    with pytest.raises(MissingScaleError, match="--scale"):
        SMALL.predict(FusionInputs(inputs.pairs, inputs.coarse))
