import numpy as np
import pytest
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from geofuse.errors import (
    BandMismatchError,
    CRSMismatchError,
    DateMismatchError,
    GridMismatchError,
    ParameterError,
    TooFewPairsError,
)
from geofuse.pairs import FusionCase, FusionInputs, Pair
from geofuse.rasters.grid import place

GRID = Affine(30.0, 0.0, 500010.0, 0.0, -30.0, 5100030.0)


def image(
    day="2021-05-01",
    *,
    bands=("red", "nir"),
    shape=(6, 8),
    transform=GRID,
    crs="EPSG:32633",
    **attrs,
):
    values = np.stack([np.full(shape, number, "f4") for number in range(len(bands))])
    coords = {"band": list(bands), "time": np.datetime64(day, "ns")}
    placed = place(values, GeoBox(shape, transform, crs), coords=coords)
    return placed.assign_attrs(attrs)


def pair(day="2021-05-01", **options):
    return Pair(image(day, **options), image(day, **options))


# --- pairs
# ------------------------------------------------------------------------------


def test_a_pair_is_of_one_day_whatever_the_hour():
    coarse = image().assign_coords(time=np.datetime64("2021-05-01T10:30", "ns"))
    assert Pair(image(), coarse).date == np.datetime64("2021-05-01", "D")


def test_bands_are_put_in_the_order_of_the_fine_image():
    turned = image().isel(band=[1, 0])
    assert list(Pair(image(), turned).coarse["band"].values) == ["red", "nir"]
    np.testing.assert_array_equal(Pair(image(), turned).coarse.values, image().values)


def test_grids_that_differ_by_less_than_a_hundredth_of_a_pixel_are_snapped_and_said():
    moved = GRID * Affine.translation(0.004, 0)
    found = Pair(image(), image(transform=moved)).coarse
    assert found.attrs["snapped"] == "0.004 pixels"
    np.testing.assert_array_equal(found["x"], image()["x"])
    # Without that xarray would find no pixel in common.
    assert (found - image()).shape == image().shape
    billionth = Pair(image(), image(transform=GRID * Affine.translation(1e-9, 0)))
    assert "snapped" not in billionth.coarse.attrs
    assert (billionth.coarse - image()).shape == image().shape
    inputs = FusionInputs(
        [pair(), pair("2021-09-01", transform=moved)], image("2021-07-01")
    )
    later = inputs.pairs[1]
    np.testing.assert_array_equal(later.fine["x"], image()["x"])
    np.testing.assert_array_equal(later.coarse["x"], image()["x"])


def test_bands_of_a_later_pair_are_put_in_the_order_of_the_first():
    turned = image("2021-09-01").isel(band=[1, 0])
    inputs = FusionInputs([pair(), Pair(turned, turned)], image("2021-07-01"))
    for images in (inputs.pairs[1].fine, inputs.pairs[1].coarse):
        assert list(images["band"].values) == ["red", "nir"]
        np.testing.assert_array_equal(images.values, image().values)


def test_images_become_float32_with_bands_named_by_text():
    double = image().astype("f8").assign_coords(band=[1, 2])
    found = Pair(double, double).fine
    assert found.dtype == np.float32
    assert FusionInputs([Pair(double, double)], double).bands == ("1", "2")


@pytest.mark.parametrize(
    ("coarse", "error", "words"),
    [
        (image("2021-05-02"), DateMismatchError, "2021-05-01 and coarse on 2021-05-02"),
        (image(shape=(6, 7)), GridMismatchError, "coarse with 7x6 .*geofuse.align"),
        (image(transform=GRID * Affine.scale(16)), GridMismatchError, "pixels of 480"),
        (image(crs="EPSG:32632"), CRSMismatchError, "EPSG:32632 .* EPSG:32633"),
        (image(crs=None), CRSMismatchError, "no CRS"),
        (image(bands=("red", "swir1")), BandMismatchError, "'swir1'.* open both"),
        (image(bands=("red",)), BandMismatchError, "found .'red'. in coarse"),
        (image(bands=("red", "red")), BandMismatchError, "each band of coarse once"),
        (image().drop_vars("band"), BandMismatchError, "assign_coords.band="),
        (image().drop_vars("time"), DateMismatchError, "scalar 'time'"),
        (image().expand_dims("time", 1), GridMismatchError, r"\(band, y, x\)"),
        (image()[0], GridMismatchError, "expand_dims"),
        (image().transpose("y", "x", "band"), GridMismatchError, "transpose"),
        (image().astype("int16"), ParameterError, "floats with NaN .*open_optical"),
        (image().drop_vars("x"), GridMismatchError, "coordinates 'y' and 'x'"),
    ],
)  # fmt: skip
def test_a_pair_that_does_not_agree_is_refused(coarse, error, words):
    with pytest.raises(error, match=words) as caught:
        Pair(image(), coarse)
    assert "expected" in str(caught.value)
    assert "found" in str(caught.value)


def test_a_date_that_is_none_is_refused():
    undated = image().assign_coords(time=np.datetime64("NaT", "ns"))
    with pytest.raises(DateMismatchError, match="found NaT"):
        Pair(undated, undated)


# --- inputs
# -----------------------------------------------------------------------------


def test_pairs_are_sorted_by_date():
    inputs = FusionInputs([pair("2021-09-01"), pair("2021-05-01")], image("2021-07-01"))
    assert [str(one.date) for one in inputs.pairs] == ["2021-05-01", "2021-09-01"]
    assert inputs.lags == (61.0, -62.0)
    assert str(inputs.date) == "2021-07-01"


def test_rasters_are_named_for_the_tiler():
    inputs = FusionInputs([pair("2021-09-01"), pair("2021-05-01")], image("2021-07-01"))
    names = ["coarse", "fine_0", "coarse_0", "fine_1", "coarse_1"]
    assert list(inputs.rasters()) == names
    assert inputs.rasters()["fine_0"]["time"].values == np.datetime64(
        "2021-05-01", "ns"
    )


def test_the_scale_and_offset_are_what_align_noted():
    noted = image("2021-07-01", scale=16, coarse_offset=(3, 5))
    for scale in (None, 16):
        inputs = FusionInputs([pair()], noted, scale=scale)
        assert (inputs.scale, inputs.offset) == (16, (3, 5))


def test_a_scale_and_offset_that_are_given_go_before_the_noted_ones():
    noted = image("2021-07-01", scale=16, coarse_offset=(3, 5))
    inputs = FusionInputs([pair()], noted, scale=16, offset=(1, 2))
    assert (inputs.scale, inputs.offset) == (16, (1, 2))
    inputs = FusionInputs([pair()], noted, scale=8)
    assert (inputs.scale, inputs.offset) == (8, (0, 0))


def test_smooth_coarse_images_have_no_scale():
    inputs = FusionInputs([pair()], image("2021-07-01"))
    assert (inputs.scale, inputs.offset) == (None, (0, 0))


@pytest.mark.parametrize(
    ("pairs", "coarse", "error", "words"),
    [
        ([], image(), TooFewPairsError, "a list of geofuse.Pair"),
        ([pair(), pair()], image(), DateMismatchError, "found two on 2021-05-01"),
        ([pair(), pair("2021-06-01", shape=(6, 7))], image(), GridMismatchError, "06"),
        ([pair()], image(crs="EPSG:32632"), CRSMismatchError, "expected one CRS"),
        ([pair()], image(bands=("red", "blue")), BandMismatchError, "same bands"),
        ([pair()], image().drop_vars("time"), DateMismatchError, "scalar 'time'"),
    ],
)  # fmt: skip
def test_inputs_that_do_not_agree_are_refused(pairs, coarse, error, words):
    with pytest.raises(error, match=words):
        FusionInputs(pairs, coarse)


@pytest.mark.parametrize("scale", [1, 0, -2, 2.5])
def test_a_scale_that_is_no_whole_number_above_one_is_refused(scale):
    with pytest.raises(Exception, match="scale"):
        FusionInputs([pair()], image("2021-07-01"), scale=scale)


@pytest.mark.parametrize("offset", [(16, 0), (-1, 0)])
def test_an_offset_outside_of_a_coarse_pixel_is_refused(offset):
    with pytest.raises(GridMismatchError, match=r"in \[0, 16\)"):
        FusionInputs([pair()], image("2021-07-01"), scale=16, offset=offset)


def test_coarse_images_that_nest_differently_are_refused():
    fine = image()
    nested = Pair(fine, image(scale=16, coarse_offset=(0, 0)))
    later = image("2021-07-01", scale=16, coarse_offset=(0, 3))
    for scale in (None, 16):
        with pytest.raises(GridMismatchError, match="the same pixels on the fine grid"):
            FusionInputs([nested], later, scale=scale)


# --- cases
# ------------------------------------------------------------------------------


def test_a_case_adds_the_reference_with_its_bands_in_order():
    inputs = FusionInputs([pair()], image("2021-07-01"))
    case = FusionCase(inputs, image("2021-07-01").isel(band=[1, 0]))
    assert list(case.reference["band"].values) == ["red", "nir"]


@pytest.mark.parametrize(
    ("reference", "error"),
    [
        (image("2021-07-02"), DateMismatchError),
        (image("2021-07-01", shape=(5, 8)), GridMismatchError),
        (image("2021-07-01", bands=("red",)), BandMismatchError),
        (image("2021-07-01", crs=None), CRSMismatchError),
    ],
)
def test_a_reference_that_does_not_fit_the_inputs_is_refused(reference, error):
    inputs = FusionInputs([pair()], image("2021-07-01"))
    with pytest.raises(error):
        FusionCase(inputs, reference)


def test_grids_that_xarray_would_join_to_nothing_are_told():
    shifted = image().assign_coords(x=image()["x"].values + 1e-3)
    assert xr.align(image(), shifted, join="inner")[0].sizes["x"] == 0
    assert Pair(image(), shifted).date  # a thirtieth of a thousandth of a pixel
