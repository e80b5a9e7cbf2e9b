"""What every land-cover classifier promises, checked for all of them.

A new classifier is one line in `CLASSIFIERS_UNDER_CONTRACT`.
"""

import functools

import dask
import numpy as np
import pytest
import xarray as xr

import geofuse as gf
from geofuse.errors import (
    BandMismatchError,
    CalibrationError,
    GridMismatchError,
    NotFittedError,
    ParameterError,
    UnknownNameError,
)
from geofuse.landcover.case import LandCoverCase
from geofuse.landcover.classifier import OUTPUTS
from geofuse.rasters.grid import grid_of
from geofuse.synthetic import simulate_land_cover
from geofuse.training.loop import Training

SHORT = Training(steps=3, batch=2, patch=16, warmup=0, average=0.0, validate_every=3)
BANDS = gf.FeatureStack(bands=True)
TREES = gf.EarlyFusion(trees="histogram", features=BANDS, members=2, rounds=4)
STUMPS = gf.EarlyFusion(trees="histogram", features=BANDS, members=1, rounds=2)

#: One small configuration or more of every classifier.
CLASSIFIERS_UNDER_CONTRACT = (
    TREES,
    gf.EarlyFusion(trees="forest", features=BANDS, members=4),
    gf.EarlyNetwork(width=4, members=1, samples=2, features=BANDS, training=SHORT),
    gf.IntermediateFusion(
        width=4, members=1, samples=2, features=BANDS, training=SHORT
    ),
    gf.LateFusion(expert=STUMPS),
    gf.LateFusion(expert=STUMPS, rule="stacking"),
)
classifiers = pytest.mark.parametrize(
    "classifier",
    CLASSIFIERS_UNDER_CONTRACT,
    ids=lambda c: f"{type(c).__name__}-{getattr(c, 'trees', getattr(c, 'rule', ''))}",
)


@functools.cache
def scene():
    found = simulate_land_cover(64, seed=3, parcel=6)
    images = dict(found.images)
    images["sar"] = images["sar"].copy()
    images["sar"][:, 10:30, 35:60] = np.nan
    return LandCoverCase(images, found.labels)


@functools.cache
def fitted(classifier):
    labels = scene().labels.where(scene().labels.x > scene().labels.x[8], -1)
    case = LandCoverCase(scene().images, labels.astype(np.int16))
    return classifier.fit([case], seed=1)


def predicted(classifier, images, **how):
    how = {"outputs": tuple(OUTPUTS), **how}
    return fitted(classifier).predict(images, **how).compute(scheduler="sync")


@classifiers
def test_tile_size_never_changes_the_result(classifier):
    whole = predicted(classifier, scene().images, tile=None)
    tiled = predicted(classifier, scene().images, tile=27)
    for name in OUTPUTS:
        # Networks sum products in an order that suits the tile.
        np.testing.assert_allclose(tiled[name], whole[name], atol=2e-5, err_msg=name)


@classifiers
def test_probabilities_and_weights_are_shares(classifier):
    product = predicted(classifier, scene().images)
    probability = product["probability"]
    np.testing.assert_allclose(probability.sum("class"), 1, atol=1e-5)
    assert (probability >= 0).all()
    weight = product["weight"]
    if weight.notnull().any():
        np.testing.assert_allclose(weight.sum("modality"), 1, atol=1e-5)
        assert (weight.sel(modality="sar")[10:30, 35:60] < 1e-6).all()
    for part in ("aleatoric", "epistemic"):
        entropy = product[part]
        assert (entropy >= -1e-6).all()
        assert (entropy <= np.log(len(probability)) + 1e-6).all()


@classifiers
def test_the_map_is_the_most_probable_class(classifier):
    product = predicted(classifier, scene().images)
    np.testing.assert_array_equal(
        product["land_cover"], product["probability"].argmax("class")
    )
    assert product["land_cover"].dtype == np.int16


@classifiers
def test_grid_and_legend_are_kept_and_nothing_is_computed_unasked(classifier):
    lazy = {name: image.chunk() for name, image in scene().images.items()}

    def refuse(*args, **kwargs):
        raise AssertionError("computed before it was asked for")

    with dask.config.set(scheduler=refuse):
        product = fitted(classifier).predict(lazy)
    assert grid_of(product) == grid_of(scene().labels)
    assert product["class"].values.tolist() == list(fitted(classifier).classes.names)
    assert "flag_meanings" in product["land_cover"].attrs


@classifiers
@pytest.mark.parametrize("name", ["optical", "sar", "elevation"])
def test_a_modality_left_out_is_one_of_nan(classifier, name):
    images = dict(scene().images)
    gone = {**images, name: xr.full_like(images.pop(name), np.nan)}
    left_out, empty = (predicted(classifier, scene) for scene in (images, gone))
    for output in OUTPUTS:
        np.testing.assert_array_equal(left_out[output], empty[output], err_msg=output)
    assert np.isfinite(left_out["probability"]).all()


@classifiers
def test_where_nothing_is_present_there_is_no_class(classifier):
    holes = {name: image.copy() for name, image in scene().images.items()}
    for image in holes.values():
        image[:, 40:50, 5:20] = np.nan
    product = predicted(classifier, holes)
    inside = {"y": slice(40, 50), "x": slice(5, 20)}
    assert (product["land_cover"].isel(inside) == -1).all()
    assert product["probability"].isel(inside).isnull().all()
    assert product["probability"].isel(y=slice(56, 64)).notnull().all()


@classifiers
def test_a_saved_and_loaded_classifier_predicts_the_same(classifier, tmp_path):
    gf.save(fitted(classifier), tmp_path / "model")
    loaded = gf.load(tmp_path / "model")
    assert loaded == fitted(classifier)
    images = scene().images
    again = loaded.predict(images).compute(scheduler="sync")
    before = fitted(classifier).predict(images).compute(scheduler="sync")
    xr.testing.assert_identical(again, before)


@classifiers
def test_fit_leaves_its_classifier_unchanged_and_follows_its_seed(classifier):
    record = repr(classifier)
    first, again = fitted(classifier), fitted.__wrapped__(classifier)
    assert repr(classifier) == record
    assert first == again


@classifiers
def test_it_learns(classifier):
    if isinstance(classifier, gf.EarlyNetwork | gf.IntermediateFusion):
        pytest.skip("three steps teach a network nothing")
    product = predicted(classifier, scene().images)
    right = (product["land_cover"] == scene().labels).mean()
    assert right > 0.6


@classifiers
def test_bad_input_is_refused_at_the_door(classifier):
    model, images = fitted(classifier), dict(scene().images)
    with pytest.raises(NotFittedError, match="fit"):
        classifier.predict(images)
    with pytest.raises(UnknownNameError, match="'lidar'"):
        model.predict({"lidar": images["elevation"]})
    with pytest.raises(UnknownNameError, match="did you mean 'epistemic'"):
        model.predict(images, outputs=("epistemc",))
    fewer = images["optical"].sel(band=["blue", "green", "red", "swir1"])
    with pytest.raises(BandMismatchError, match="without \\['nir'\\]"):
        model.predict({"optical": fewer})
    with pytest.raises(GridMismatchError, match="align"):
        model.predict({**images, "sar": images["sar"][:, :60]})
    digital = {**images, "optical": images["optical"] * 10_000}
    with pytest.raises(CalibrationError, match="digital numbers"):
        model.predict(digital).compute(scheduler="sync")
    power = {**images, "sar": 10 ** (images["sar"] / 10)}
    with pytest.raises(CalibrationError, match="to_db"):
        model.predict(power).compute(scheduler="sync")


@classifiers
def test_labels_that_teach_nothing_are_refused(classifier):
    images, labels = scene().images, scene().labels
    with pytest.raises(ParameterError, match="at least one case"):
        classifier.fit([])
    one = LandCoverCase(images, labels.where(labels == 2, -1).astype(np.int16))
    with pytest.raises(ParameterError, match="at least two classes"):
        classifier.fit([one])
    beyond = LandCoverCase(images, labels + 3)
    with pytest.raises(ParameterError, match="below 6"):
        classifier.fit([beyond])
    void = {**images, "sar": xr.full_like(images["sar"], np.nan)}
    with pytest.raises(ParameterError, match="expected valid pixels in band vv of sar"):
        classifier.fit([LandCoverCase(void, labels)])
