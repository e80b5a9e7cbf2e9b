"""Networks that map land cover: tiles, missing modalities, weights, seeds, files."""

import json
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from geofuse.errors import NotFittedError, ParameterError, UnknownNameError
from geofuse.features.local import LocalStatistics
from geofuse.features.stack import FeatureStack
from geofuse.landcover.case import LandCoverCase
from geofuse.landcover.early_network import EarlyNetwork
from geofuse.landcover.intermediate import IntermediateFusion
from geofuse.training.fields import method_as_json, method_from_json
from geofuse.training.loop import Training

CLASSES = ("water", "crops", "trees")
TRAINING = Training(
    steps=80,
    batch=4,
    patch=12,
    learning_rate=2e-2,
    warmup=5,
    average=0.9,
    validate_every=20,
)
#: Tiny networks; dropout leaves some of their few channels.
SMALL = {"width": 8, "rank": 2, "dropout": 0.05, "training": TRAINING}
#: Tiles of all tests: what one has compiled, the others need not.
TILE = 48
SIDE = 72
BANDS = {"s2": ["red", "nir"], "s1": ["vv", "vh"]}


def scene(seed=0):
    """Three classes in squares of 12 pixels; each modality alone tells two apart."""
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(0, 3, (6, 6)), np.ones((12, 12), int))
    coords = {"y": -10.0 * np.arange(SIDE), "x": 10.0 * np.arange(SIDE)}
    red = np.choose(labels, [0.03, 0.2, 0.2]) * np.exp(0.1 * noise(rng))
    nir = np.choose(labels, [0.02, 0.3, 0.3]) * np.exp(0.1 * noise(rng))
    vv = np.choose(labels, [-14.0, -14.0, -8.0]) + noise(rng)
    vh = np.choose(labels, [-20.0, -20.0, -14.0]) + noise(rng)
    images = {
        name: xr.DataArray(
            np.stack(bands).astype("float32"),
            dims=("band", "y", "x"),
            coords={**coords, "band": BANDS[name]},
            attrs={"units": "dB"} if name == "s1" else {},
        )
        for name, bands in {"s2": (red, nir), "s1": (vv, vh)}.items()
    }
    return LandCoverCase(
        images,
        xr.DataArray(labels.astype("int16"), dims=("y", "x"), coords=coords),
    )


def noise(rng):
    return rng.normal(size=(SIDE, SIDE))


@pytest.fixture(scope="module")
def case():
    return scene()


@pytest.fixture(scope="module")
def fitted(case):
    return IntermediateFusion(CLASSES, interaction="gated", members=2, **SMALL).fit(
        [case]
    )


@pytest.fixture(scope="module")
def barely(case):
    """A classifier after one step."""
    few = replace(TRAINING, steps=1)
    return EarlyNetwork(CLASSES, width=3, members=1, training=few).fit([case], seed=3)


def predict(classifier, images, tile=TILE, outputs=("probability", "weight")):
    return classifier.predict(images, tile=tile, outputs=outputs).compute()


def same(first, other, atol=1e-6):
    for name in first.data_vars:
        np.testing.assert_allclose(first[name], other[name], atol=atol)


def accuracy(classifier, case, images=None):
    found = classifier.predict(
        images or case.images, tile=TILE, outputs=("land_cover",)
    )
    return float((found.land_cover.values == case.labels.values).mean())


def test_it_learns_what_only_both_modalities_tell(fitted):
    other = scene(7)
    both = accuracy(fitted, other)
    assert both > 0.9
    for name in BANDS:
        assert 0.5 < accuracy(fitted, other, {name: other.images[name]}) < both


def test_tile_size_never_changes_the_result(fitted, case):
    gappy = dict(case.images)
    gappy["s2"] = gappy["s2"].where(gappy["s2"].x < 400)
    sampled = replace(fitted, samples=2)
    outputs = ("probability", "aleatoric", "epistemic", "weight")
    whole = predict(sampled, gappy, TILE, outputs)
    same(whole, predict(sampled, gappy, 31, outputs))


def test_a_modality_that_lacks_one_band_is_not_used(fitted, case):
    alone = predict(fitted, {"s1": case.images["s1"]})
    # Half a modality is as good as none: a pixel with one band is not present.
    one_band = case.images["s2"].copy()
    one_band[0] = np.nan
    one_band[1] *= 1.5
    same(alone, predict(fitted, {"s2": one_band, "s1": case.images["s1"]}))


def test_weights_are_shares_and_zero_where_a_modality_is_missing(fitted, case):
    gappy = dict(case.images)
    gappy["s2"] = gappy["s2"].where(gappy["s2"].x < 400)
    gappy["s1"] = gappy["s1"].where(gappy["s1"].y > -300)
    found = predict(fitted, gappy)
    there = np.stack([np.isfinite(image).all("band") for image in gappy.values()])
    somewhere = there.any(axis=0)
    assert (found.weight.values[:, somewhere][~there[:, somewhere]] == 0).all()
    sums = found.weight.sum("modality", skipna=False).values
    np.testing.assert_allclose(sums[somewhere], 1, atol=1e-6)
    # NaN where none is present, and only there.
    np.testing.assert_array_equal(np.isnan(found.probability[0]), ~somewhere)
    np.testing.assert_array_equal(np.isnan(found.weight[0]), ~somewhere)


def test_members_and_passes_split_the_entropy_in_two_parts(fitted, case):
    outputs = ("probability", "aleatoric", "epistemic")
    found = predict(replace(fitted, samples=2), case.images, TILE, outputs)
    p = found.probability.values
    total = -(p * np.log(np.maximum(p, 1e-30))).sum(axis=0)
    np.testing.assert_allclose(found.aleatoric + found.epistemic, total, atol=1e-5)
    assert float(found.epistemic.mean()) > 0
    one = predict(replace(fitted, members=1), case.images, TILE, outputs)
    np.testing.assert_allclose(one.epistemic, 0, atol=1e-6)


def test_passes_with_dropout_have_one_mask_for_all_pixels(fitted, case):
    """Where a scene is the same everywhere, so is every pass."""
    flat = {
        name: xr.zeros_like(image) + image.median(("y", "x"))
        for name, image in case.images.items()
    }
    found = predict(replace(fitted, samples=2), flat)
    inside = found.probability.values[:, 8:-8, 8:-8]
    middle = np.broadcast_to(inside[:, :1, :1], inside.shape)
    np.testing.assert_allclose(inside, middle, atol=1e-6)


@pytest.mark.parametrize("name", ["fitted", "barely"])
def test_a_saved_classifier_predicts_the_same(name, case, request):
    classifier = request.getfixturevalue(name)
    kind, arrays = type(classifier), {}
    text = json.dumps(method_as_json(classifier, {kind: "it"}, arrays))
    loaded = method_from_json(json.loads(text), {"it": kind}, arrays)
    assert loaded == classifier
    same(predict(classifier, case.images), predict(loaded, case.images), atol=0)


def test_the_same_seed_gives_the_same_weights(barely, case):
    start = replace(barely, classes=CLASSES, modalities=None, shares=None, weights=None)
    start = replace(start, temperature=1.0)
    assert start.fit([case], seed=3) == barely
    assert start.weights is None
    assert start.fit([case], seed=4) != barely


def test_features_beside_the_bands_are_those_of_the_training(case):
    stack = FeatureStack(
        indices=("ndvi",),
        local=LocalStatistics(window=3, statistics=("mean",)),
        components=1,
    )
    few = replace(TRAINING, steps=1)
    classifier = IntermediateFusion(
        CLASSES, width=3, members=1, features=stack, training=few
    ).fit([case])
    channels = classifier.channels(case.images)
    # Two bands, NDVI and the mean of one component; two bands and their means in dB.
    assert {n: c.shape[0] for n, c in channels.items()} == {"s2": 4, "s1": 4}
    darker = {**case.images, "s2": case.images["s2"] * 0.9}
    projected = classifier.channels(darker)["s2"][3] - channels["s2"][3]
    assert float(abs(projected).max()) > 0
    alone = predict(classifier, {"s1": case.images["s1"]})
    assert np.isfinite(alone.probability).all()


def test_a_class_of_few_pixels_counts_as_much_if_balanced(case):
    classifier = IntermediateFusion(CLASSES, class_weight="balanced")
    weight = classifier._class_weights(np.array([10, 0, 30]))
    np.testing.assert_allclose(weight * np.array([10, 0, 30]), [20, 0, 20])


def test_the_prior_of_the_scenes_takes_the_place_of_that_of_the_training(fitted, case):
    one = replace(fitted, members=1)
    known = predict(one, case.images).probability.values
    found = predict(replace(one, prior=(0.0, 1.0, 3.0)), case.images).probability
    np.testing.assert_array_equal(found[0], 0)
    np.testing.assert_allclose(found.sum("class"), 1, atol=1e-6)
    usual = (known[1] > 0.01) & (known[2] > 0.01)
    ratio = (found[2] / found[1] / (known[2] / known[1])).values[usual]
    expected = 3.0 * fitted.shares[1] / fitted.shares[2]
    np.testing.assert_allclose(ratio, expected, rtol=1e-3)


def test_settings_that_cannot_be_are_refused(case, fitted):
    with pytest.raises(UnknownNameError, match="did you mean"):
        IntermediateFusion(CLASSES, interaction="low-ranks")
    for wrong in ({"members": 0}, {"dropout": 1.0}, {"rank": 0}, {"noise": -1.0}):
        with pytest.raises(ParameterError):
            IntermediateFusion(CLASSES, **wrong)
    with pytest.raises(ParameterError, match="2 members"):
        replace(fitted, members=3)
    with pytest.raises(NotFittedError):
        IntermediateFusion(CLASSES).predict(case.images)
