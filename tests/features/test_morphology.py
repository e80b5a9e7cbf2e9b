import math

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.morphology import (
    area_closing,
    area_opening,
    diameter_closing,
    diameter_opening,
    dilation,
    disk,
    erosion,
)
from skimage.morphology import reconstruction as skimage_reconstruction

from geofuse.errors import ParameterError, UnknownNameError
from geofuse.features.components import PrincipalComponents
from geofuse.features.morphology import AttributeProfile, MorphologicalProfile
from tests.oracles import connected
from tests.oracles.grounds import grounds

IMAGES = grounds(83, 118)
WHOLE = [name for name in IMAGES if name != "holes float32"]
FOOTPRINTS = {4: disk(1), 8: np.ones((3, 3))}


def raster(*planes, chunks=None):
    data = np.stack(planes)
    names = ["red", "nir", "swir1"][: len(planes)]
    return xr.DataArray(
        data if chunks is None else da.from_array(data, chunks=(1, *chunks)),
        dims=("band", "y", "x"),
        coords={
            "band": names,
            "y": np.arange(data.shape[1]) * -10.0,
            "x": np.arange(data.shape[2]) * 10.0,
            "time": np.datetime64("2021-05-01", "ns"),
            "spatial_ref": 0,
        },
    )


def profiles(image):
    """One of every kind, with thresholds in the unit of the image."""
    unit = float(np.nanstd(image)) / 3
    return [
        MorphologicalProfile((1, 2, 5)),
        MorphologicalProfile((1, 2, 3, 4, 9), connectivity=4),
        MorphologicalProfile((2, 6), differential=True),
        AttributeProfile("area", (4, 40, 700)),
        AttributeProfile("area", (4, 40, 700), connectivity=4, self_dual=True),
        AttributeProfile("diameter", (3, 12), connectivity=4),
        AttributeProfile("diagonal", (3, 20.5), differential=True),
        AttributeProfile("std", (unit / 2, unit)),
        AttributeProfile("inertia", (0.2, 0.4)),
    ]


@pytest.mark.parametrize("name", IMAGES)
def test_tile_size_never_changes_the_result(name):
    image = raster(IMAGES[name])
    for profile in profiles(IMAGES[name]):
        whole = profile.extract(image, tile=None).values
        for tile in (32, 64, 100, 150):
            found = profile.extract(image, tile=tile).values
            np.testing.assert_array_equal(found, whole, err_msg=f"{profile} {tile}")


@given(
    height=st.integers(4, 18),
    width=st.integers(4, 18),
    tile=st.integers(2, 13),
    levels=st.integers(1, 6),
    walls=st.floats(0, 0.6),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=20, deadline=None)
def test_results_survive_any_tiling(height, width, tile, levels, walls, seed):
    rng = np.random.default_rng(seed)
    plane = rng.integers(0, levels, (height, width)).astype(np.float32)
    plane[rng.random(plane.shape) < walls] = np.nan
    image = raster(plane)
    for profile in (
        MorphologicalProfile((1, 3), connectivity=8),
        MorphologicalProfile((1,), connectivity=4),
        AttributeProfile("area", (2, 9), connectivity=8),
        AttributeProfile("diameter", (2, 5), connectivity=4),
        AttributeProfile("std", (0.3, 1.0)),
    ):
        with dask.config.set(scheduler="synchronous"):
            whole = profile.extract(image, tile=None).values
            found = profile.extract(image, tile=tile).values
        np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("name", WHOLE)
def test_openings_by_reconstruction_equal_scikit_image(name, connectivity):
    plane, radii = IMAGES[name], (1, 3, 8)
    profile = MorphologicalProfile(radii, connectivity=connectivity)
    found = profile.extract(raster(plane), tile=50).values
    footprint = FOOTPRINTS[connectivity]
    opened = [
        skimage_reconstruction(erosion(plane, disk(r)), plane, footprint=footprint)
        for r in radii
    ]
    closed = [
        skimage_reconstruction(
            dilation(plane, disk(r)), plane, method="erosion", footprint=footprint
        )
        for r in radii
    ]
    np.testing.assert_array_equal(found, np.stack(opened + closed))


@pytest.mark.parametrize(
    ("attribute", "opening", "closing"),
    [
        ("area", area_opening, area_closing),
        ("diameter", diameter_opening, diameter_closing),
    ],
)
@pytest.mark.parametrize("name", WHOLE)
def test_attribute_profiles_equal_scikit_image(name, attribute, opening, closing):
    plane, thresholds = IMAGES[name], (3, 20, 90)
    found = AttributeProfile(attribute, thresholds).extract(raster(plane), tile=50)
    opened = [opening(plane, t, connectivity=2) for t in thresholds]
    if plane.dtype.kind == "f":
        # Its closing takes 1 - image, which rounds; the negative image does not.
        closed = [-opening(-plane, t, connectivity=2) for t in thresholds]
    else:
        closed = [closing(plane, t, connectivity=2) for t in thresholds]
    np.testing.assert_array_equal(found.values, np.stack(opened + closed))


@pytest.mark.parametrize("connectivity", [4, 8])
def test_invalid_pixels_are_walls(connectivity):
    plane = IMAGES["holes float32"][:14, :13]
    image, exact = raster(plane), plane.astype(float)
    opened = MorphologicalProfile((1, 2), connectivity=connectivity).extract(
        image, tile=5
    )
    for k, radius in enumerate((1, 2)):
        above = connected.opening_by_reconstruction(exact, radius, connectivity)
        below = -connected.opening_by_reconstruction(-exact, radius, connectivity)
        np.testing.assert_array_equal(opened[k], above)
        np.testing.assert_array_equal(opened[2 + k], below)
    for attribute, threshold in (("area", 7), ("std", 0.04), ("inertia", 0.17)):
        profile = AttributeProfile(attribute, (threshold,), connectivity=connectivity)
        found = profile.extract(image, tile=5)
        for plane_found, sign in zip(found, (1, -1), strict=True):
            expected = sign * connected.attribute_opening(
                sign * exact, attribute, threshold, connectivity
            )
            np.testing.assert_array_equal(plane_found, expected)


def test_what_lies_under_an_invalid_pixel_changes_nothing():
    plane = IMAGES["holes float32"]
    other = np.where(np.isnan(plane), np.inf, plane).astype(np.float32)
    for profile in profiles(plane):
        np.testing.assert_array_equal(
            profile.extract(raster(plane), tile=50),
            profile.extract(raster(other), tile=50),
        )


def test_a_path_through_all_tiles_is_followed():
    plane = IMAGES["spiral uint8"].copy()
    plane[40:44, 60:64] = 200  # a disk of radius 1 fits in here only
    profile = MorphologicalProfile((1,), ("opening",), connectivity=4)
    found = profile.extract(raster(plane), tile=16)[0]
    assert (found.values[IMAGES["spiral uint8"] > 0] == 200).all()


def test_all_invalid_stays_all_invalid():
    image = raster(np.full((40, 50), np.nan, np.float32))
    for profile in (MorphologicalProfile((1, 2)), AttributeProfile("std", (0.1,))):
        assert profile.extract(image, tile=16).isnull().all()


def test_differences_add_up_to_the_profile():
    plane = IMAGES["natural uint8"]
    image = raster(plane)
    members = MorphologicalProfile((1, 2, 5)).extract(image)
    steps = MorphologicalProfile((1, 2, 5), differential=True).extract(image)
    names = ["red_opening_r0_to_r1", "red_opening_r1_to_r2"]
    assert steps.feature.values[:2].tolist() == names
    assert (steps >= 0).all()
    np.testing.assert_array_equal(plane - steps[:3].sum("feature"), members[2])
    np.testing.assert_array_equal(plane + steps[3:].sum("feature"), members[5])


def test_a_self_dual_filter_treats_bright_and_dark_alike():
    plane = IMAGES["natural float32"]
    profile = AttributeProfile("area", (30, 200), self_dual=True)
    found = profile.extract(raster(plane), tile=50)
    negative = profile.extract(raster(-plane), tile=64)
    np.testing.assert_array_equal(found, -negative)
    assert (found != raster(plane)[0]).any()


def test_bands_operators_and_sizes_stand_in_the_names():
    image = raster(IMAGES["natural uint8"], IMAGES["plateaus uint8"])
    found = MorphologicalProfile((1, 4), ("closing", "opening")).extract(image)
    assert found.feature.values.tolist() == [
        f"{band}_{operator}_r{radius}"
        for band in ("red", "nir")
        for operator in ("closing", "opening")
        for radius in (1, 4)
    ]
    alone = MorphologicalProfile((4,), "opening").extract(image.sel(band=["nir"]))
    np.testing.assert_array_equal(found.sel(feature="nir_opening_r4"), alone[0])
    thinned = AttributeProfile("std", (0.5,)).extract(image)
    assert thinned.feature.values[:2].tolist() == [
        "red_std_thinning_t0.5",
        "red_std_thickening_t0.5",
    ]


def test_nothing_is_computed_before_it_is_asked_for():
    def refuse(block):
        raise AssertionError("computed")

    image = raster(IMAGES["natural float32"], chunks=(40, 40))
    image = image.copy(data=image.data.map_blocks(refuse, dtype=np.float32))
    for profile in profiles(IMAGES["natural float32"]):
        result = profile.extract(image, tile=32)
        assert isinstance(result.data, da.Array)
        assert result.dtype == np.float32
        assert result.dims == ("feature", "y", "x")
        assert result.attrs["extractor"] == repr(profile)
        assert {"time", "spatial_ref"} <= set(result.coords)
        xr.testing.assert_equal(result.x, image.x)


def test_lazy_and_loaded_images_give_one_result():
    plane = IMAGES["natural float32"]
    for profile in profiles(plane)[:4]:
        np.testing.assert_array_equal(
            profile.extract(raster(plane, chunks=(37, 51)), tile=40),
            profile.extract(raster(plane), tile=40),
        )


def test_the_extended_profile_is_that_of_the_components():
    image = raster(*(IMAGES[name].astype(np.float32) for name in WHOLE[:3]))
    found = MorphologicalProfile((1, 3), components=2).extract(image, tile=40)
    names = found.feature.values
    assert names[[0, 4]].tolist() == ["pc1_opening_r1", "pc2_opening_r1"]
    scene = PrincipalComponents(2).extract(image).compute()
    scene = scene.rename(feature="band")
    expected = MorphologicalProfile((1, 3)).extract(scene, tile=None)
    np.testing.assert_array_equal(found, expected)


def test_many_small_tiles_are_no_cause_for_a_warning():
    image = raster(IMAGES["natural uint8"])
    # A warning is an error in the tests.
    profile = MorphologicalProfile((1,), "opening").extract(image, tile=3)
    assert len(profile.chunks[-1]) == math.ceil(image.sizes["x"] / 3)


def test_other_types_are_rounded_to_float32_first():
    plane = IMAGES["natural float32"].astype(np.float64) + 1e-12
    profile = MorphologicalProfile((2,))
    np.testing.assert_array_equal(
        profile.extract(raster(plane)),
        profile.extract(raster(plane.astype(np.float32))),
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MorphologicalProfile(()), "radii as one or more positive whole"),
        (lambda: MorphologicalProfile((2, 1)), r"ascending order, found \(2, 1\)"),
        (lambda: MorphologicalProfile((1, 1)), "ascending"),
        (lambda: MorphologicalProfile((-1, 2)), "positive"),
        (lambda: MorphologicalProfile((0,)), "positive"),
        (lambda: MorphologicalProfile((1.5,)), "whole numbers"),
        (lambda: MorphologicalProfile((True,)), "whole numbers"),
        (lambda: MorphologicalProfile(3), "radii as one or more"),
        (lambda: MorphologicalProfile(("1",)), "radii as one or more"),
        (lambda: MorphologicalProfile((1,), ()), "name each once"),
        (lambda: MorphologicalProfile((1,), ("opening", "opening")), "name each once"),
        (lambda: MorphologicalProfile((1,), connectivity=6), "4 or 8"),
        (lambda: MorphologicalProfile((1,), components=0), "at least 1"),
        (lambda: AttributeProfile("area", (100, 25)), "thresholds as one or more"),
        (lambda: AttributeProfile("area", (np.nan,)), "thresholds as one or more"),
        (lambda: AttributeProfile("area", ()), "thresholds as one or more"),
        (lambda: AttributeProfile("std", (-0.1, 0.2)), "positive numbers"),
        (
            lambda: AttributeProfile("area", (9,), "opening", self_dual=True),
            "self_dual with both operators",
        ),
    ],
)
def test_values_out_of_range_are_refused(make, message):
    with pytest.raises(ParameterError, match=message):
        make()


def test_unknown_names_come_with_the_nearest_one():
    with pytest.raises(UnknownNameError, match="did you mean 'opening'"):
        MorphologicalProfile((1,), ("openning",))
    with pytest.raises(UnknownNameError, match="did you mean 'diagonal'"):
        AttributeProfile("diagonall")


def test_what_does_not_fit_the_image_is_refused():
    image = raster(IMAGES["natural uint8"][:20, :30])
    with pytest.raises(ParameterError, match="shorter side of the image, 20 pixels"):
        MorphologicalProfile((1, 20)).extract(image)
    MorphologicalProfile((19,)).extract(image).compute()
    with pytest.raises(ParameterError, match="up to the 600 pixels"):
        AttributeProfile("area", (601,)).extract(image)
    with pytest.raises(ParameterError, match="complex"):
        MorphologicalProfile((1,)).extract(image.astype(complex))
    with pytest.raises(ParameterError, match="dimensions"):
        AttributeProfile("area").extract(image[0])
    with pytest.raises(ParameterError, match="choose larger ones"):
        AttributeProfile("std", (1e-9,)).extract(image).compute()
    with pytest.raises(ParameterError, match="at least 1 pixel"):
        MorphologicalProfile((1,)).extract(image, tile=0)
