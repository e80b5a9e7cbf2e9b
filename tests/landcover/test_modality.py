"""What a classifier knows of a modality, and how it refuses what is unlike it."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from geofuse.errors import BandMismatchError, CalibrationError, ParameterError
from geofuse.landcover.case import LandCoverCase
from geofuse.landcover.modality import check_images, checked_ranges, modalities_of
from geofuse.synthetic import simulate_land_cover


@pytest.fixture(scope="module")
def scene():
    return simulate_land_cover(48, seed=2)


@pytest.fixture(scope="module")
def known(scene):
    return modalities_of([LandCoverCase(scene.images, scene.labels)])


def test_levels_and_spreads_are_those_of_the_pixels(scene, known):
    optical = known[0]
    values = scene.images["optical"].values.reshape(5, -1)
    np.testing.assert_allclose(optical.level, np.median(values, axis=1), rtol=1e-6)
    left, right = np.percentile(values, (16, 84), axis=1)
    np.testing.assert_allclose(optical.spread, (right - left) / 2, rtol=1e-5)


def test_bands_are_put_in_the_order_that_was_learned(scene, known):
    turned = {"optical": scene.images["optical"][::-1]}
    images = check_images(turned, known)
    assert images["optical"].band.values.tolist() == list(known[0].bands)
    xr.testing.assert_equal(images["optical"], scene.images["optical"])


def test_a_missing_modality_is_lazy_nan_on_the_grid_of_the_others(scene, known):
    images = check_images({"sar": scene.images["sar"]}, known)
    assert isinstance(images["optical"].data, da.Array)
    assert np.isnan(images["optical"]).all()
    np.testing.assert_array_equal(images["optical"].y, scene.labels.y)


def test_cases_of_different_bands_are_refused(scene):
    other = {**scene.images, "sar": scene.images["sar"].sel(band=["vv"])}
    cases = [LandCoverCase(images, scene.labels) for images in (scene.images, other)]
    with pytest.raises(BandMismatchError, match="in all cases"):
        modalities_of(cases)


@pytest.mark.parametrize(
    ("modality", "change", "words"),
    [
        ("optical", lambda image: image * 10_000, "digital numbers"),
        ("sar", lambda image: 10 ** (image / 10), "to_db"),
        ("elevation", lambda image: image + 9000, "in the unit of the training"),
    ],
)
def test_another_unit_is_refused_in_words(scene, known, modality, change, words):
    images = {modality: change(scene.images[modality])}
    with pytest.raises(CalibrationError, match=words):
        checked_ranges(images, known).compute()


def test_another_season_is_let_through(scene, known):
    darker = {"optical": scene.images["optical"] * 0.6, "sar": scene.images["sar"] - 2}
    assert checked_ranges(darker, known).compute() is None


def test_labels_must_be_whole_numbers(scene):
    with pytest.raises(ParameterError, match="open_labels"):
        LandCoverCase(scene.images, scene.labels.astype(float))
