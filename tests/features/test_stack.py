"""The feature stack: what it looks at, its names, the law of tiles, summaries, errors."""

import numpy as np
import pytest
import xarray as xr

from geofuse.errors import (
    BandMismatchError,
    GridMismatchError,
    ParameterError,
    UnknownNameError,
)
from geofuse.features.components import PrincipalComponents
from geofuse.features.indices import indices
from geofuse.features.local import Gradient
from geofuse.features.modalities import On
from geofuse.features.morphology import AttributeProfile, MorphologicalProfile
from geofuse.features.stack import FeatureStack
from geofuse.features.texture import GLCM
from geofuse.synthetic import simulate_case

TEXTURE = GLCM(window=5, levels=8, features=("contrast", "entropy"))


@pytest.fixture(scope="module")
def optical():
    case = simulate_case(64, bands=("green", "red", "nir", "swir1"), clouds=0.1)
    return case.inputs.pairs[0].fine


@pytest.fixture(scope="module")
def radar(optical):
    rng = np.random.default_rng(1)
    power = rng.gamma(4, 0.05, (2, *optical.shape[1:])).astype(np.float32)
    power[:, :5, :5] = np.nan
    image = optical[:2].copy(data=power).assign_coords(band=["vv", "vh"])
    return image.assign_attrs(units="1")


@pytest.fixture(scope="module")
def elevation(optical):
    y, x = np.mgrid[: optical.shape[1], : optical.shape[2]].astype(np.float32)
    return optical[:1].copy(data=(y + 2 * x)[None]).assign_coords(band=["height"])


def values(features, name):
    return features.sel(feature=name).values


def test_names_tell_modality_source_feature_and_size(optical, radar, elevation):
    stack = FeatureStack(
        indices=("ndvi", "rvi"),
        texture=GLCM(window=5, features=("contrast",)),
        profiles=On("dem", MorphologicalProfile(radii=(2,), operators=("opening",))),
        local=On("s1", Gradient(), bands=("vh",)),
        bands=True,
        components=1,
    )
    features = stack.extract({"s2": optical, "s1": radar, "dem": elevation})
    assert features.feature.values.tolist() == [
        *["s2_green", "s2_red", "s2_nir", "s2_swir1", "s1_vv", "s1_vh", "dem_height"],
        *["s2_ndvi", "s1_rvi", "s2_pc1_glcm_contrast_w5", "s1_vv_glcm_contrast_w5"],
        *["s1_vh_glcm_contrast_w5", "dem_height_glcm_contrast_w5"],
        *["dem_height_opening_r2", "s1_vh_gradient_scharr"],
    ]
    assert features.dtype == np.float32
    assert features.chunks is not None
    assert "spatial_ref" in features.coords


def test_a_feature_of_the_stack_is_the_extractors_own(optical, radar):
    stack = FeatureStack(indices=("ndvi", "rvi"), texture=TEXTURE, components=1)
    features = stack.extract({"s2": optical, "s1": radar})
    np.testing.assert_array_equal(
        values(features, "s2_ndvi"), indices(optical, "ndvi")[0].values
    )
    np.testing.assert_array_equal(
        values(features, "s1_rvi"), indices(radar, "rvi")[0].values
    )
    first = PrincipalComponents(1).extract(optical).rename(feature="band")
    np.testing.assert_array_equal(
        values(features, "s2_pc1_glcm_entropy_w5"), TEXTURE.extract(first)[1].values
    )
    db = radar.copy(data=10 * np.log10(radar.values))
    np.testing.assert_array_equal(
        values(features, "s1_vh_glcm_contrast_w5"), TEXTURE.extract(db)[2].values
    )


def test_sar_in_db_and_in_power_give_the_same(radar):
    stack = FeatureStack(indices=("rvi",), texture=TEXTURE)
    db = radar.copy(data=10 * np.log10(radar.values)).assign_attrs(units="dB")
    power, decibels = (stack.extract({"s1": image}) for image in (radar, db))
    np.testing.assert_allclose(
        values(power, "s1_rvi"), values(decibels, "s1_rvi"), 1e-5
    )
    np.testing.assert_array_equal(
        values(power, "s1_vv_glcm_entropy_w5"),
        values(decibels, "s1_vv_glcm_entropy_w5"),
    )


def test_tile_size_changes_no_bit(optical, radar):
    stack = FeatureStack(
        indices=("ndvi",),
        texture=TEXTURE,
        profiles=(
            MorphologicalProfile(radii=(1, 3)),
            On("s2", AttributeProfile(thresholds=(10, 50)), components=2),
        ),
        local=On("s2", Gradient(), bands=("nir",)),
        bands=True,
    )
    images = {"s2": optical, "s1": radar}
    untiled = stack.extract(images, tile=None).compute()
    for tile in (16, 37):
        tiled = stack.extract(images, tile=tile)
        np.testing.assert_array_equal(tiled.values, untiled.values)


def test_a_summary_of_one_scene_serves_another(optical):
    stack = FeatureStack(texture=TEXTURE, components=1)
    summary = stack.summarize(optical).compute()
    assert all(isinstance(array, np.ndarray) for array in summary.values())
    whole = stack.extract(optical).values
    np.testing.assert_array_equal(stack.extract(optical, summary=summary).values, whole)
    # A part of the scene has another range of gray levels of its own; not with this.
    part = optical[:, :40, :40]
    own = stack.extract(part).values
    borrowed = stack.extract(part, summary=summary).values
    inner = (slice(None), slice(2, 38), slice(2, 38))
    np.testing.assert_array_equal(borrowed[inner], whole[inner])
    assert not np.array_equal(own[inner], whole[inner], equal_nan=True)


def test_an_invalid_image_gives_invalid_features(optical):
    stack = FeatureStack(
        indices=("ndvi",), texture=TEXTURE, profiles=MorphologicalProfile(radii=(2,))
    )
    features = stack.extract(optical.where(False))
    assert features.isnull().all()


def test_dates_of_modalities_that_differ_are_left_out(optical, elevation):
    stack = FeatureStack(bands=True)
    later = elevation.assign_coords(time=np.datetime64("2024-01-01", "ns"))
    undated = elevation.drop_vars("time")
    assert "time" in stack.extract({"a": optical, "b": elevation}).coords
    assert "time" not in stack.extract({"a": optical, "b": later}).coords
    assert "time" not in stack.extract({"a": optical, "b": undated}).coords


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({}, ParameterError, "at least one feature"),
        ({"indices": ("ndvii",)}, UnknownNameError, "did you mean 'ndvi'"),
        ({"texture": "glcm"}, ParameterError, "texture as extractors"),
        ({"bands": True, "components": 0}, ParameterError, "at least 1 component"),
    ],
)
def test_a_stack_that_cannot_work_is_refused(options, error, words):
    with pytest.raises(error, match=words):
        FeatureStack(**options)


@pytest.mark.parametrize(
    ("stack", "error", "words"),
    [
        (FeatureStack(texture=On("s3", TEXTURE)), UnknownNameError, "found 's3'"),
        (FeatureStack(indices=("ndre",)), BandMismatchError, "rededge1.*for ndre"),
        (
            FeatureStack(texture=On("s2", TEXTURE, bands=("nira",))),
            BandMismatchError,
            "did you mean 'nir'",
        ),
        (FeatureStack(texture=(TEXTURE, TEXTURE)), ParameterError, "more than once"),
        (FeatureStack(texture=GLCM(window=65)), ParameterError, "at least 65x65"),
        (
            FeatureStack(profiles=MorphologicalProfile(radii=(64,))),
            ParameterError,
            "less than the shorter side",
        ),
    ],
)
def test_images_that_do_not_fit_a_stack_are_refused(optical, stack, error, words):
    with pytest.raises(error, match=words):
        stack.extract({"s2": optical})


def test_modalities_of_other_grids_are_refused(optical, elevation):
    with pytest.raises(GridMismatchError, match="align"):
        FeatureStack(bands=True).extract({"s2": optical, "dem": elevation[:, 1:]})


def test_sar_without_a_unit_and_complex_sar_are_refused(radar):
    stack = FeatureStack(texture=TEXTURE)
    with pytest.raises(ParameterError, match="tell its unit"):
        stack.extract({"s1": radar.drop_attrs(deep=False)})
    with pytest.raises(ParameterError, match="complex"):
        stack.extract({"s1": radar.astype(np.complex64)})


def test_a_summary_of_another_stack_is_refused(optical):
    other = FeatureStack(texture=GLCM(window=3)).summarize(optical).compute()
    with pytest.raises(ParameterError, match="summary of this stack"):
        FeatureStack(texture=TEXTURE).extract(optical, summary=other)
    with pytest.raises(ParameterError, match="at least one image"):
        FeatureStack(bands=True).extract({})


def test_a_stack_is_hashable_and_its_repr_makes_it_again():
    stack = FeatureStack(indices="ndvi", texture=TEXTURE, profiles=On("s1", TEXTURE))
    assert eval(repr(stack)) == stack
    assert hash(stack) == hash(eval(repr(stack)))
    assert isinstance(stack.texture, tuple)


def test_one_image_has_no_prefix(optical):
    features = FeatureStack(bands=True).extract(optical)
    assert features.feature.values.tolist() == optical.band.values.tolist()
    xr.testing.assert_equal(
        features.drop_vars("feature"),
        optical.rename(band="feature").drop_vars("feature").rename("features"),
    )
