import dataclasses

import numpy as np
import pytest
import xarray as xr

from geofuse.errors import (
    MissingClassWarning,
    MissingExtraError,
    NotFittedError,
    ParameterError,
    UnknownNameError,
)
from geofuse.features.local import LocalStatistics
from geofuse.features.modalities import On
from geofuse.features.stack import FeatureStack
from geofuse.features.texture import GLCM
from geofuse.landcover import early, tree_fitting
from geofuse.landcover.case import LandCoverCase
from geofuse.landcover.early import EarlyFusion
from geofuse.landcover.hand_made import EXTRACTORS
from geofuse.rasters.legend import Legend
from geofuse.training.fields import method_as_json, method_from_json

LEGEND = Legend(("water", "trees", "built"))
#: Small and quick; what it is made of is the same.
QUICK = EarlyFusion(classes=LEGEND, trees="forest", members=2, rounds=20)


def image(values, bands, **attributes):
    values = np.asarray(values, np.float32)
    return xr.DataArray(
        values,
        dims=("band", "y", "x"),
        coords={
            "band": list(bands),
            "y": -10.0 * np.arange(values.shape[1]),
            "x": 10.0 * np.arange(values.shape[2]),
        },
        attrs=attributes,
    )


def case(seed=0, size=72):
    """Water is dark, trees are green; only SAR tells built from trees."""
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(0, 3, (size // 8, size // 8)), np.ones((8, 8), int))
    noise = rng.normal(size=(6, size, size))
    red, nir = (
        0.05 + 0.02 * noise[0],
        np.where(labels == 0, 0.02, 0.4) + 0.05 * noise[1],
    )
    vv = np.where(labels == 2, 0.0, -12.0) + 2 * noise[2]
    images = {
        "s2": image([red, nir], ("red", "nir")),
        "s1": image([vv, vv - 7 + noise[3]], ("vv", "vh"), units="dB"),
        "dem": image([50 + noise[4]], ("elevation",)),
    }
    first = images["dem"]
    truth = xr.DataArray(
        labels.astype(np.int16), dims=("y", "x"), coords={"y": first.y, "x": first.x}
    )
    return LandCoverCase(images, truth)


@pytest.fixture(scope="module")
def fitted():
    return QUICK.fit([case(0), case(1)])


def accuracy(classifier, images, labels):
    found = classifier.predict(images, outputs=("land_cover",)).land_cover
    return float((found.values == labels.values).mean())


@pytest.mark.parametrize("kind", ["forest", "histogram", "lightgbm"])
def test_each_kind_of_trees_maps_another_scene(kind):
    if kind == "lightgbm":
        pytest.importorskip("lightgbm")
    classifier = dataclasses.replace(QUICK, trees=kind).fit([case(0), case(1)])
    other = case(7)
    assert classifier.trees == kind
    assert accuracy(classifier, other.images, other.labels) > 0.9
    alone = {"s2": other.images["s2"]}
    assert (
        accuracy(classifier, alone, other.labels) > 0.55
    )  # water, and half of the rest
    assert 0.2 < classifier.temperature < 5


def test_tile_size_never_changes_the_map(fitted):
    images = case(3).images
    whole = fitted.predict(images, tile=None).compute()
    for tile in (16, 50):
        xr.testing.assert_identical(fitted.predict(images, tile=tile).compute(), whole)


def test_what_is_predicted_is_a_distribution_with_two_uncertainties(fitted):
    found = fitted.predict(case(3).images).compute()
    np.testing.assert_allclose(found.probability.sum("class"), 1, atol=1e-5)
    total = -(found.probability * np.log(found.probability.clip(1e-12))).sum("class")
    np.testing.assert_allclose(found.aleatoric + found.epistemic, total, atol=1e-4)
    assert float(found.epistemic.mean()) > 0


def test_a_modality_that_is_missing_in_a_stripe_leaves_a_whole_map(fitted):
    images = dict(case(3).images)
    images["s2"] = images["s2"].copy()
    images["s2"][:, 20:40] = np.nan
    found = fitted.predict(images).compute()
    assert np.isfinite(found.probability).all()
    assert (found.land_cover >= 0).all()
    assert found.aleatoric[22:38].mean() > found.aleatoric[50:].mean()


def test_without_any_modality_there_is_no_class(fitted):
    images = {name: each.copy() for name, each in case(3).images.items()}
    for each in images.values():
        each[:, 20:40] = np.nan
    found = fitted.predict(images).compute()
    assert np.isnan(found.probability[:, 20:40]).all()
    assert (found.land_cover[20:40] == -1).all()
    assert np.isfinite(found.probability[:, 40:]).all()


def test_a_missing_modality_is_as_good_as_one_of_nan(fitted):
    images = dict(case(3).images)
    without = {name: each for name, each in images.items() if name != "s1"}
    images["s1"] = xr.full_like(images["s1"], np.nan)
    xr.testing.assert_identical(
        fitted.predict(without).compute(), fitted.predict(images).compute()
    )


def test_features_of_a_missing_modality_are_not_computed(fitted, monkeypatch):
    asked = []
    honest = early.features_of

    def watched(image, modality, *arguments, **options):
        asked.append(modality.name)
        return honest(image, modality, *arguments, **options)

    monkeypatch.setattr("geofuse.landcover.early.features_of", watched)
    fitted.predict({"dem": case(3).images["dem"]}, outputs=("land_cover",)).compute()
    assert asked == ["dem"]


def test_a_case_may_lack_a_modality():
    full, other = case(0), case(1)
    part = LandCoverCase({"s1": other.images["s1"]}, other.labels)
    classifier = QUICK.fit([part, full])
    assert [each.name for each in classifier.modalities] == ["s1", "s2", "dem"]
    assert accuracy(classifier, case(2).images, case(2).labels) > 0.9


def test_components_and_levels_are_those_of_the_training():
    features = FeatureStack(
        bands=True,
        texture=On("s1", GLCM(window=5, levels=8, features=("mean",))),
        local=On("s2", LocalStatistics(5, ("mean",)), components=1),
    )
    classifier = dataclasses.replace(QUICK, features=features).fit([case(0)])
    scene = case(3).images
    half = {name: each[:, :, :32] for name, each in scene.items()}
    whole, part = classifier.channels(scene), classifier.channels(half)
    for name in scene:
        ours, theirs = part[name].values[..., :28], whole[name].values[..., :28]
        np.testing.assert_array_equal(ours, theirs)


def test_the_same_seed_gives_the_same_classifier(fitted):
    assert QUICK.fit([case(0), case(1)]) == fitted
    assert QUICK.fit([case(0), case(1)], seed=1) != fitted
    assert QUICK.modalities is None


def test_a_classifier_is_saved_as_plain_values_and_arrays(fitted):
    known = {"early": EarlyFusion, **EXTRACTORS}
    arrays = {}
    document = method_as_json(fitted, {v: k for k, v in known.items()}, arrays)
    loaded = method_from_json(document, known, arrays)
    assert loaded == fitted
    images = case(3).images
    xr.testing.assert_identical(
        loaded.predict(images).compute(), fitted.predict(images).compute()
    )


def test_few_pixels_are_drawn_and_rare_classes_survive():
    whole = case(0, size=96)
    labels = whole.labels.where(whole.labels != 2, -1).astype(np.int16)
    labels[:4, :4] = 2
    some = LandCoverCase(whole.images, labels)
    classifier = dataclasses.replace(QUICK, most_pixels=400).fit([some])
    assert classifier.shares[2] == pytest.approx(16 / (labels >= 0).sum(), rel=0.5)
    assert classifier.shares[2] > 0


def test_balanced_classes_and_another_prior_make_a_rare_class_likelier(fitted):
    images = case(3).images
    likelier = dataclasses.replace(fitted, prior=(0.8, 0.1, 0.1))
    ours, theirs = (
        float(each.predict(images).probability[0].mean()) for each in (likelier, fitted)
    )
    assert ours > theirs
    balanced = dataclasses.replace(QUICK, class_weight="balanced").fit([case(0)])
    np.testing.assert_allclose(balanced.shares, 1 / 3)


def test_a_class_without_pixels_is_told_and_never_mapped():
    classifier = dataclasses.replace(
        QUICK, classes=Legend(("water", "trees", "built", "snow"))
    )
    with pytest.warns(MissingClassWarning, match="none of snow"):
        fitted = classifier.fit([case(0)])
    assert not fitted.predict(case(1).images).probability[3].any()


def test_hyperspectral_and_lidar_are_mapped():
    whole = case(0)
    rng = np.random.default_rng(0)
    spectra = rng.normal(size=(3, 60))
    cube = np.moveaxis(spectra[whole.labels.values], -1, 0)
    cube = cube + 0.3 * rng.normal(size=cube.shape)
    height = 10.0 * (whole.labels.values == 2) + rng.normal(size=whole.labels.shape)
    images = {
        "cube": image(cube, [f"b{n}" for n in range(60)]),
        "lidar": image([height], ("height",)),
    }
    classifier = QUICK.fit([LandCoverCase(images, whole.labels)])
    assert accuracy(classifier, images, whole.labels) > 0.95
    assert accuracy(classifier, {"cube": images["cube"]}, whole.labels) > 0.9
    assert max(map(len, classifier.names)) < 60


def test_classes_are_taken_from_the_labels_where_none_are_given():
    one = case(0)
    plain = dataclasses.replace(QUICK, classes=None)
    assert plain.fit([one]).classes.names == ("class 0", "class 1", "class 2")
    told = one.labels.assign_attrs(
        Legend(("a", "b", "c"), codes=(1, 4, 9)).attributes()
    )
    named = plain.fit([LandCoverCase(one.images, told)])
    assert named.classes.codes == (1, 4, 9)


def test_what_cannot_work_is_refused_at_the_door(fitted, monkeypatch):
    with pytest.raises(NotFittedError):
        QUICK.predict(case(0).images)
    with pytest.raises(UnknownNameError, match="modalities that were learned"):
        fitted.predict({"s3": case(0).images["s2"]})
    with pytest.raises(ParameterError, match="at least one case"):
        QUICK.fit([])
    one = case(0)
    with pytest.raises(ParameterError, match="at least two classes"):
        QUICK.fit([one.only(one.labels == 1)])
    impossible = EarlyFusion()
    # Around the constructor: the tests' type checker would refuse the word before us.
    object.__setattr__(impossible, "trees", "oak")
    with pytest.raises(ParameterError, match="trees out of"):
        impossible.__post_init__()
    with pytest.raises(ParameterError, match="members of at least 1"):
        EarlyFusion(members=0)
    with pytest.raises(ParameterError, match="a share for each of 3"):
        EarlyFusion(classes=LEGEND, prior=(0.5, 0.5))
    with pytest.raises(UnknownNameError, match="'s7'"):
        dataclasses.replace(
            QUICK, features=FeatureStack(local=On("s7", LocalStatistics(5)))
        ).fit([one])
    monkeypatch.setattr(tree_fitting, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"geofuse\[ml\]"):
        dataclasses.replace(QUICK, trees="lightgbm").fit([one])
    assert tree_fitting.kind_of_trees("auto") == "histogram"
