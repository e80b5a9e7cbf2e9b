"""Every kind of leak is planted, and found; honest splits are left alone."""

import numpy as np
import pytest
import xarray as xr
from odc.geo.geobox import GeoBox
from rasterio.warp import transform_bounds

from geofuse.errors import LeakError, ParameterError
from geofuse.evaluation import fingerprints
from geofuse.evaluation.fingerprints import LEAST, fingerprint, runs_in_common
from geofuse.evaluation.leaks import check_leaks, find_leaks, near
from geofuse.pairs import FusionCase, FusionInputs, Pair
from geofuse.rasters.grid import grid_of
from geofuse.synthetic import simulate_case
from geofuse.training.holdout import part_of

DAY = np.timedelta64(1, "D")


def case_of(seed, size=48):
    return simulate_case(size, bands=("red", "nir"), scale=8, seed=seed)


def dated(image, days):
    """The image as of another day."""
    return image.assign_coords(time=image.time.values + days * DAY)


def moved(image, pixels):
    """The image as of other ground."""
    step = float(image.x[1] - image.x[0])
    away = image.assign_coords(x=image.x.values + pixels * step)
    return away.assign_coords(spatial_ref=image.spatial_ref.drop_attrs())


def case_with(reference, like):
    """A case that has another reference, of its own date."""
    pair = like.inputs.pairs[0]
    coarse = like.inputs.coarse.assign_coords(time=reference.time.values)
    inputs = FusionInputs([pair], coarse, like.inputs.scale)
    return FusionCase(inputs, reference)


def with_base(case, fine):
    """The case with another fine base image."""
    coarse = case.inputs.pairs[0].coarse.assign_coords(time=fine.time.values)
    inputs = FusionInputs([Pair(fine, coarse)], case.inputs.coarse, case.inputs.scale)
    return FusionCase(inputs, case.reference)


def kinds(train=None, validation=None, test=None, halo=8, sites=None):
    found = find_leaks(train or {}, validation or {}, test, halo, sites=sites)
    return {leak.kind for leak in found}


@pytest.fixture(scope="module")
def test_case():
    return case_of(0)


@pytest.fixture(scope="module")
def other():
    """A case of other ground, whatever its coordinates say: 100 km away."""
    case = case_of(1)
    far = {"x": case.reference.x.values + 100_000}

    def away(image):
        return moved(image, 0).assign_coords(far)

    pairs = [Pair(away(p.fine), away(p.coarse)) for p in case.inputs.pairs]
    inputs = FusionInputs(pairs, away(case.inputs.coarse), case.inputs.scale)
    return FusionCase(inputs, away(case.reference))


def test_an_honest_split_has_no_leak(test_case, other):
    third = {"third": case_of(2)}
    assert not kinds({"a": other}, {}, {"t": test_case})
    sites = {"a": "one", "t": "two", "third": "three"}
    assert not kinds({"a": other}, third, {"t": test_case}, sites=sites)
    check_leaks({"a": other}, {}, {"t": test_case}, 8)


# Planted leaks: each must be found, by the kind that it is.


def test_a_test_case_in_training_is_found(test_case):
    found = kinds({"renamed": test_case}, {}, {"t": test_case}, sites={"t": "x"})
    assert found == {"copied"}


def test_a_test_reference_as_a_base_image_in_training_is_found(test_case, other):
    fine = other.inputs.pairs[0].fine.copy(data=test_case.reference.values)
    assert kinds({"a": with_base(other, fine)}, {}, {"t": test_case}) == {"copied"}


def test_a_window_of_a_test_reference_under_another_date_and_place_is_found(
    test_case, other
):
    values = other.reference.values.copy()
    values[:, 20:36, 5:25] = test_case.reference.values[:, 11:27, 27:47]
    planted = dated(other.reference.copy(data=values), 3)
    train = {"a": case_with(planted, other)}
    sites = {"a": "one", "t": "two"}
    assert kinds(train, {}, {"t": test_case}, sites=sites) == {"copied"}


def test_bands_in_another_order_do_not_hide_a_copy(test_case, other):
    values = test_case.reference.values[::-1]
    train = {"a": case_with(other.reference.copy(data=values), other)}
    assert kinds(train, {}, {"t": test_case}) == {"copied"}


def test_a_refit_on_the_test_date_in_other_units_is_found(test_case):
    # The scene of the test date as another product has it: no value is the same.
    again = test_case.reference * np.float32(1.01) + np.float32(0.003)
    assert kinds({"a": case_with(again, case_of(3))}, {}, {"t": test_case}) == {
        "seen ground"
    }
    # Also where it is only a base image.
    base = again.copy()
    late = dated(case_of(3).reference, 16)
    train = {"a": with_base(case_with(late, case_of(3)), base)}
    assert kinds(train, {}, {"t": test_case}) == {"seen ground"}


def test_pixels_within_the_halo_of_a_test_reference_are_found(test_case):
    left = part_of(test_case, slice(0, None), slice(0, 16))
    right = part_of(test_case, slice(0, None), slice(24, 48))
    assert not kinds({"a": left}, {}, {"t": right}, halo=8)
    assert kinds({"a": left}, {}, {"t": right}, halo=9) == {"seen ground"}
    assert kinds({"a": right}, {}, {"t": left}, halo=9) == {"seen ground"}


def test_selection_on_the_test_is_found(test_case, other):
    found = kinds({"a": other}, {"v": test_case}, {"t": test_case})
    assert found == {"selection"}
    again = case_with(test_case.reference * np.float32(1.01), case_of(3))
    assert kinds({"a": other}, {"v": again}, {"t": test_case}) == {"selection"}


def test_a_validation_that_is_learned_from_is_found(test_case, other):
    assert kinds({"a": other}, {"v": other}, {"t": test_case}) == {"no hold-out"}


@pytest.mark.parametrize("as_coarse", [False, True])
def test_a_reference_among_its_own_inputs_is_found(test_case, as_coarse):
    if as_coarse:
        inputs = FusionInputs(test_case.inputs.pairs, test_case.reference)
        planted = FusionCase(inputs, test_case.reference)
    else:
        fine = dated(test_case.reference, -5)
        planted = with_base(test_case, fine)
    assert kinds(test={"t": planted}) == {"own input"}


def test_a_site_of_another_name_is_other_ground_but_a_copy_stays_a_copy(test_case):
    other = case_of(4)
    assert kinds({"a": other}, {}, {"t": test_case}) == {"seen ground"}
    sites = {"a": "one", "t": "two"}
    assert not kinds({"a": other}, {}, {"t": test_case}, sites=sites)
    assert kinds({"a": test_case}, {}, {"t": test_case}, sites=sites) == {"copied"}


def test_the_error_says_which_leaks(test_case):
    with pytest.raises(LeakError, match=r"copied: reference of train case 'a' holds"):
        check_leaks({"a": test_case}, {}, {"t": test_case}, 8)
    with pytest.raises(ParameterError, match="halo of at least 0"):
        find_leaks({}, {}, {"t": test_case}, -1)


def test_ground_is_told_across_coordinate_systems(test_case):
    grid = grid_of(test_case.reference)
    bounds = transform_bounds("EPSG:32633", "EPSG:4326", *grid.boundingbox.bbox)
    globe = GeoBox.from_bbox(bounds, "EPSG:4326", shape=(50, 50))
    assert near(globe, grid, 0)
    nowhere = GeoBox(grid.shape, grid.affine, None)
    assert not near(nowhere, grid, 0)
    assert near(nowhere, nowhere, 0)
    far = grid.translate_pix(1000, 0)
    assert not near(globe, far, 0)
    assert near(globe, far, 980)
    assert not near(far, grid, 900)


def image_of(values):
    return xr.DataArray(np.float32(values), dims=("band", "y", "x"))


def test_constant_ground_and_nothing_are_no_copies():
    rng = np.random.default_rng(0)
    flat = np.full((1, 60, 60), 0.25)
    first, second = flat.copy(), flat.copy()
    first[:, :20] = rng.random((1, 20, 60))
    second[:, 20:40] = rng.random((1, 20, 60))
    assert runs_in_common(*(fingerprint(image_of(i)) for i in (first, second))) == 0
    empty = fingerprint(image_of(flat * np.nan))
    assert runs_in_common(empty, empty) == 0
    assert len(fingerprint(image_of(flat[..., :5])).numbers) == 0


def test_large_images_keep_few_numbers_and_copies_are_still_found(monkeypatch):
    monkeypatch.setattr(fingerprints, "_MOST", 64)
    rng = np.random.default_rng(0)
    whole = rng.random((1, 300, 200))
    first, second = fingerprint(image_of(whole)), fingerprint(image_of(whole[:, 90:]))
    assert len(first.numbers) <= 64
    assert runs_in_common(first, second) >= LEAST
    other = fingerprint(image_of(rng.random((1, 300, 200))))
    assert runs_in_common(first, other) == 0
