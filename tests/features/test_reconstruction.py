import numpy as np
import pytest
from skimage.morphology import disk
from skimage.morphology import erosion as skimage_erosion
from skimage.morphology import reconstruction as skimage_reconstruction

from geofuse.errors import GridMismatchError, ParameterError
from geofuse.features.disk import erode
from geofuse.features.levels import decode, encode, flipped
from geofuse.features.reconstruction import reconstruct
from tests.oracles import connected
from tests.oracles.grounds import grounds

FOOTPRINTS = {4: disk(1), 8: np.ones((3, 3))}
IMAGES = grounds(61, 83)
WHOLE = [name for name in IMAGES if name != "holes float32"]


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("name", WHOLE)
def test_reconstruction_equals_scikit_image(name, connectivity):
    mask = IMAGES[name]
    marker = skimage_erosion(mask, disk(4))
    for method, start, bound in (
        ("dilation", marker, mask),
        ("erosion", mask, marker),
    ):
        found = reconstruct(start, bound, method=method, connectivity=connectivity)
        expected = skimage_reconstruction(
            start, bound, method=method, footprint=FOOTPRINTS[connectivity]
        )
        assert found.dtype == mask.dtype
        np.testing.assert_array_equal(found, expected)


def test_reconstruction_follows_a_path_through_the_whole_image():
    mask = IMAGES["spiral uint8"]
    marker = np.zeros_like(mask)
    marker[0, 0] = 150
    found = reconstruct(marker, mask, connectivity=4)
    np.testing.assert_array_equal(found, np.where(mask > 0, 150, 0))


@pytest.mark.parametrize("connectivity", [4, 8])
def test_invalid_pixels_are_walls(connectivity):
    mask = IMAGES["holes float32"][:14, :12]
    marker = np.where(np.random.default_rng(0).random(mask.shape) < 0.1, mask, -1)
    found = reconstruct(marker.astype(np.float32), mask, connectivity=connectivity)
    expected = connected.reconstruction(marker, mask.astype(float), connectivity)
    np.testing.assert_array_equal(found, expected)


def test_the_inputs_are_left_as_they_are():
    mask = IMAGES["natural float32"].copy()
    marker = mask - np.float32(0.1)
    before = marker.copy()
    reconstruct(marker, mask)
    np.testing.assert_array_equal(mask, IMAGES["natural float32"])
    np.testing.assert_array_equal(marker, before)


def test_what_cannot_be_reconstructed_is_refused():
    image = np.zeros((3, 3), np.uint8)
    with pytest.raises(GridMismatchError, match="one shape"):
        reconstruct(image[:2], image)
    with pytest.raises(ParameterError, match="int64"):
        reconstruct(image.astype(np.int64), image.astype(np.int64))
    with pytest.raises(ParameterError, match="9 pixels that are; cut it first"):
        reconstruct(image + np.uint8(1), image)
    with pytest.raises(ParameterError, match="nowhere below"):
        reconstruct(image, image + np.uint8(1), method="erosion")
    with pytest.raises(ParameterError, match="did you mean 'erosion'"):
        reconstruct(image, image, method="erosoin")
    with pytest.raises(ParameterError, match="4 or 8"):
        reconstruct(image, image, connectivity=6)


@pytest.mark.parametrize("name", WHOLE)
def test_levels_keep_order_and_values(name):
    image = IMAGES[name]
    levels = encode(image, np.ones(image.shape, bool))
    assert levels.dtype == np.uint32
    assert levels.min() > 0
    order = np.argsort(image, axis=None)
    assert (np.diff(levels.ravel()[order].astype(np.int64)) >= 0).all()
    np.testing.assert_array_equal(decode(levels, image.dtype), image)
    back = flipped(flipped(levels, image.dtype), image.dtype)
    np.testing.assert_array_equal(back, levels)


def test_both_zeros_are_one_level_and_what_is_not_finite_a_wall():
    image = np.array([[-0.0, 0.0, np.nan, np.inf, -np.inf]], np.float32)
    levels = encode(image, np.ones(image.shape, bool))
    assert levels[0, 0] == levels[0, 1] > 0
    assert not levels[0, 2:].any()
    assert np.isnan(decode(levels, image.dtype)[0, 2:]).all()


@pytest.mark.parametrize("radius", [1, 2, 3, 7, 12, 60])
@pytest.mark.parametrize("name", ["natural uint8", "natural float32"])
def test_erosion_by_a_disk_equals_scikit_image(name, radius):
    image = IMAGES[name]
    found = erode(encode(image, np.ones(image.shape, bool)), radius)
    expected = skimage_erosion(image, disk(radius))
    np.testing.assert_array_equal(decode(found, image.dtype), expected)


def test_erosion_leaves_invalid_pixels_out():
    image = IMAGES["holes float32"][:20, :15]
    found = erode(encode(image, np.ones(image.shape, bool)), 3)
    expected = connected.erosion(image.astype(float), 3)
    np.testing.assert_array_equal(decode(found, image.dtype), expected)
