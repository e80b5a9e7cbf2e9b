"""Quality layers against integers written by hand from the product documents."""

import dask
import numpy as np
import pytest
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from geofuse.errors import (
    BandMismatchError,
    CRSMismatchError,
    GridMismatchError,
    ParameterError,
    UnknownNameError,
)
from geofuse.rasters.grid import place
from geofuse.rasters.optical import open_optical
from geofuse.rasters.quality import open_quality, valid_from
from geofuse.rasters.quality_layers import QUALITY_LAYERS, quality_layer_of
from tests.conftest import GRID

DAY = "2021-07-01"


def layer_of(values, dtype="uint16", chunks=None):
    values = np.atleast_2d(np.array(values, dtype))
    image = place(values, GeoBox(values.shape, GRID, "EPSG:32633"))
    return image.chunk({"y": chunks, "x": chunks}) if chunks else image


def usable(layer, *values, dtype="uint16", **options):
    return valid_from(layer_of([values], dtype), layer, **options).values[0].tolist()


# --- bits and classes
# ---------------------------------------------------------------------

#: Layer, type of the file, and for each DN the flags that hold, by hand: from USGS
#: LSDS-1619 table 6-2 and 6-3, the HLS 2.0 guide, the Sentinel-2 L2A ATBD, the MOD09
#: user guide, the VIIRS surface reflectance guide.
BY_HAND = [
    ("landsat-qa-pixel", "uint16", 0b0101_0101_0100_0000, {"clear"}),  # 21824, land
    ("landsat-qa-pixel", "uint16", 21952, {"clear", "water"}),
    ("landsat-qa-pixel", "uint16", 22280, {"cloud", "cloud_medium"}),
    ("landsat-qa-pixel", "uint16", 23888, {"clear", "shadow"}),
    ("landsat-qa-pixel", "uint16", 30048, {"clear", "snow"}),
    ("landsat-qa-pixel", "uint16", 54596, {"cirrus", "clear"}),
    ("landsat-qa-pixel", "uint16", 1, {"fill"}),
    ("landsat-qa-pixel", "uint16", 21762, {"dilated_cloud"}),
    ("landsat-qa-radsat", "uint16", 0b1000_0000_0000, {"terrain_occlusion"}),
    ("landsat-qa-radsat", "uint16", 0b10_0000_0000, {"dropped"}),
    ("landsat-qa-radsat", "uint16", 0b1000, {"saturated", "saturated_4"}),
    ("hls-fmask", "uint8", 0b0000_0010, {"cloud"}),
    ("hls-fmask", "uint8", 0b0100_1100, {"adjacent", "shadow"}),
    ("hls-fmask", "uint8", 0b1110_0000, {"water", "aerosol_moderate", "aerosol_high"}),
    ("hls-fmask", "uint8", 0b1001_0000, {"snow", "aerosol_moderate"}),
    ("sentinel2-scl", "uint8", 3, {"shadow"}),
    ("sentinel2-scl", "uint8", 8, {"cloud", "cloud_medium"}),
    ("sentinel2-scl", "uint8", 9, {"cloud", "cloud_high"}),
    ("sentinel2-scl", "uint8", 10, {"cirrus"}),
    ("sentinel2-scl", "uint8", 11, {"snow"}),
    ("modis-state-1km", "uint16", 0b0000_0000_0000_1000, set()),  # clear land
    ("modis-state-1km", "uint16", 0b0000_0000_0000_1001, {"cloud"}),
    ("modis-state-1km", "uint16", 0b0000_0100_0000_1000, {"cloud"}),
    ("modis-state-1km", "uint16", 0b0000_0000_0000_1010, {"mixed"}),
    ("modis-state-1km", "uint16", 0b0000_0000_0000_1011, set()),  # assumed clear
    ("modis-state-1km", "uint16", 0b0000_0000_0000_1100, {"shadow"}),
    ("modis-state-1km", "uint16", 0b0000_0011_1100_1000, {"aerosol_high", "cirrus"}),
    ("modis-state-1km", "uint16", 0b0010_0001_0010_1000, {"adjacent", "cirrus_small",
                                                          "water"}),
    ("modis-state-1km", "uint16", 0b1000_1000_0001_0000, {"snow", "fire", "coast"}),
    ("modis-state-1km", "uint16", 0b0001_0000_0000_0000, {"snow", "water"}),
    ("modis-qc-500m", "uint32", 0b01 << 30, set()),  # 30: atmosphere corrected
    ("modis-qc-500m", "uint32", 0b01 << 30 | 0b10, {"not_produced"}),
    ("modis-qc-500m", "uint32", 0b1000 << 2 | 1, {"red", "not_ideal"}),
    ("modis-qc-500m", "uint32", 0b1011 << 18, {"nir1240"}),
    ("modis-qc-500m", "uint32", 0b0111 << 26, {"swir2"}),
    ("viirs-qf1", "uint8", 0b0000_1100, {"cloud"}),
    ("viirs-qf1", "uint8", 0b0101_1000, {"cloud_medium", "night", "sun_glint"}),
    ("viirs-qf2", "uint8", 0b0100_1011, {"water", "shadow", "cirrus"}),
    ("fmask", "uint8", 4, {"cloud"}),
    ("omnicloudmask", "uint8", 2, {"cloud", "cloud_thin"}),
    ("omnicloudmask", "uint8", 3, {"shadow"}),
    ("s2cloudless", "uint8", 1, {"cloud"}),
    ("s2cloudless-probability", "uint8", 39, {"clear", "cloud_20"}),
    ("s2cloudless-probability", "uint8", 40, {"cloud", "cloud_20"}),
    ("modis-mcd43a4-quality", "uint8", 1, {"magnitude"}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "dtype", "dn", "flags"), BY_HAND)
def test_each_dn_has_the_flags_that_its_document_says(name, dtype, dn, flags):
    layer = quality_layer_of(name)
    holding = {
        flag
        for flag in layer.flag_names
        if usable(layer, dn, dtype=dtype, drop=[flag]) == [False]
    }
    # A pixel without a measurement is invalid whichever flag is asked for.
    assert holding == (set(layer.flag_names) if flags == {"fill"} else flags)


def test_every_layer_is_checked_by_hand():
    assert {name for name, *_ in BY_HAND} == set(QUALITY_LAYERS)


def test_what_is_dropped_by_default_is_cloud_shadow_and_their_like():
    assert usable("landsat-c2l2", 21824, 22280, 23888, 21952, 30048, 1) == [
        True, False, False, True, True, False]  # fmt: skip
    assert usable("sentinel2-l2a", 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11) == [
        False, False, True, False, True, True, True, True, False, False, False, True,
    ]  # fmt: skip
    assert usable("sentinel2-scl", 8, 6, drop=["water"]) == [True, False]


def test_no_measurement_is_invalid_whatever_is_dropped():
    assert usable("hls-fmask", 255, 0, drop=[], dtype="uint8") == [False, True]
    assert usable("sentinel2-scl", 0, 12, 99, 4, drop=[]) == [False, False, False, True]
    assert usable("landsat-qa-pixel", 1, 21824, drop=[]) == [False, True]


def test_bits_are_read_from_signed_types_and_from_masks_of_truth():
    qa = np.array([54596], "uint16").view("int16")  # Landsat as GDAL's Int16
    assert qa[0] < 0
    assert usable("landsat-qa-pixel", *qa, dtype="int16", drop=["cirrus"]) == [False]
    assert usable("s2cloudless", True, False, dtype="bool") == [False, True]


@pytest.mark.parametrize("chunks", [5, 13, 64])
def test_dilation_is_a_disk_and_does_not_see_chunks(chunks):
    rng = np.random.default_rng(3)
    scl = np.where(rng.random((41, 53)) < 0.01, 9, 4)
    scl[:, :3] = 0  # no measurement, which does not spread
    radius = 4
    y, x = np.indices(scl.shape)
    near = np.zeros(scl.shape, bool)
    for row, column in np.argwhere(scl == 9):
        near |= (y - row) ** 2 + (x - column) ** 2 <= radius**2
    valid = valid_from(
        layer_of(scl, "uint8", chunks=chunks), "sentinel2-scl", dilate=radius
    )
    np.testing.assert_array_equal(valid.values, ~near & (scl != 0))


def test_dilation_over_small_tiles_is_that_over_one(monkeypatch):
    from functools import partial

    from geofuse.tiling import map_tiles

    rng = np.random.default_rng(4)
    qa = layer_of(np.where(rng.random((37, 50)) < 0.02, 22280, 21824))
    whole = valid_from(qa, "landsat-c2l2", dilate=3).values
    monkeypatch.setattr("geofuse.rasters.quality.map_tiles", partial(map_tiles, tile=7))
    np.testing.assert_array_equal(
        valid_from(qa, "landsat-c2l2", dilate=3).values, whole
    )
    assert 0 < whole.mean() < 1


def test_a_mask_is_lazy_and_says_how_it_was_made():
    qa = layer_of([[21824, 22280]], chunks=1)
    valid = valid_from(qa, "landsat-c2l2", drop=("cloud",), dilate=1)
    assert dask.is_dask_collection(valid.data)
    assert valid.dtype == bool
    assert valid.attrs["quality"] == "landsat-qa-pixel"
    assert valid.attrs["dropped"] == "cloud"
    assert valid.attrs["dilate"] == 1


# --- bad input
# ---------------------------------------------------------------------------


def test_unknown_names_are_told_with_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'sentinel2-scl'"):
        usable("sentinel2-slc", 4)
    with pytest.raises(UnknownNameError, match="did you mean 'shadow'"):
        usable("sentinel2-scl", 4, drop=["shadows"])
    with pytest.raises(UnknownNameError, match="a sensor that has one"):
        usable("generic", 4)


def test_what_is_no_layer_of_whole_numbers_is_refused():
    with pytest.raises(ParameterError, match="whole numbers, found float32"):
        usable("sentinel2-scl", 4, dtype="float32")
    with pytest.raises(ParameterError, match="dilate"):
        usable("sentinel2-scl", 4, dilate=-1)
    two = xr.concat([layer_of([[4]])] * 2, dim="band")
    with pytest.raises(BandMismatchError, match="found 2"):
        valid_from(two, "sentinel2-scl")


# --- files
# -------------------------------------------------------------------------------

TEN = GRID * Affine.scale(1 / 3)  # 10 m
TWENTY = GRID * Affine.scale(2 / 3)  # 20 m


@pytest.fixture
def image(raster):
    dn = np.random.default_rng(1).integers(1, 9000, (2, 24, 30)).astype("uint16")
    return open_optical(raster("image.tif", dn, transform=TEN), date=DAY)


def test_a_coarser_layer_is_repeated_exactly_onto_the_image(raster, image):
    scl = np.random.default_rng(2).integers(0, 12, (1, 14, 17)).astype("uint8")
    path = raster("scl.tif", scl, transform=TWENTY)
    # An image that starts in the middle of a pixel of the layer.
    part = image[:, 3:, 1:].chunk({"y": 7, "x": 11})
    valid = open_quality(path, "sentinel2-scl", like=part)
    dropped = np.isin(scl[0], [0, 1, 3, 8, 9, 10])
    expected = ~dropped.repeat(2, 0).repeat(2, 1)[3:24, 1:30]
    np.testing.assert_array_equal(valid.values, expected)
    masked = part.where(valid)
    assert masked.shape == part.shape
    np.testing.assert_array_equal(np.isnan(masked.values[0]), ~expected)
    np.testing.assert_array_equal(masked.values[:, expected], part.values[:, expected])
    assert "time" in masked.coords


def test_dilation_reaches_the_image_from_beyond_its_edge(raster, image):
    scl = np.full((1, 12, 15), 4, "uint8")
    scl[0, 0, 0] = 9
    path = raster("scl.tif", scl, transform=TWENTY)
    part = image[:, 4:, 4:]  # starts two pixels of the layer beyond the cloud
    one = open_quality(path, "sentinel2-scl", like=part, dilate=2).values
    assert one.all()
    three = open_quality(path, "sentinel2-scl", like=part, dilate=3).values
    assert not three[:2, :2].any()
    assert three[2:].all()


def test_large_bit_fields_survive_reading(raster):
    # Beyond 2^24, where float32 would lose the lowest bits.
    qc = np.array([[[0b01 << 30, 0b01 << 30 | 0b10]]], "uint32")
    valid = open_quality(raster("qc.tif", qc), "modis-qc-500m")
    np.testing.assert_array_equal(valid.values, [[True, False]])


def test_a_south_up_layer_is_turned(raster):
    scl = np.array([[[4], [9]]], "uint8")
    south_up = Affine(30, 0, GRID.c, 0, 30, GRID.f - 60)
    valid = open_quality(raster("scl.tif", scl, transform=south_up), "sentinel2-scl")
    np.testing.assert_array_equal(valid.values, [[False], [True]])


def test_a_layer_among_other_bands_is_found_by_its_name(raster):
    values = np.array([[[7]], [[9]], [[4]]], "uint8")
    path = raster("l2a.tif", values, bands=("B04", "SCL", "B08"))
    assert not open_quality(path, "sentinel2-scl").values.any()
    with pytest.raises(BandMismatchError, match="'Fmask', found 3 bands"):
        open_quality(path, "hls-fmask")


@pytest.mark.parametrize(
    ("transform", "error", "words"),
    [
        (TWENTY * Affine.translation(-5, 0), GridMismatchError, "of another tile"),
        (TWENTY * Affine.translation(0, 3), GridMismatchError, "of another tile"),
        (TWENTY * Affine.translation(0.25, 0), GridMismatchError, "never interpolated"),
        (GRID * Affine.scale(0.5), GridMismatchError, "never interpolated"),
        (TEN * Affine.translation(0.3, 0), GridMismatchError, "0.3 pixels apart"),
    ],
)
def test_a_layer_of_another_tile_or_grid_is_refused(
    raster, image, transform, error, words
):
    size = (1, 24, 30) if transform.a == TEN.a else (1, 12, 15)
    path = raster("scl.tif", np.full(size, 4, "uint8"), transform=transform)
    with pytest.raises(error, match=words):
        open_quality(path, "sentinel2-scl", like=image)


def test_a_layer_in_another_crs_is_refused(raster, image):
    path = raster(
        "scl.tif", np.full((1, 24, 30), 4, "uint8"), transform=TEN, crs="EPSG:32632"
    )
    with pytest.raises(CRSMismatchError, match="EPSG:32632"):
        open_quality(path, "sentinel2-scl", like=image)


def test_a_layer_stored_as_floats_is_refused(raster):
    path = raster("scl.tif", np.full((1, 2, 2), 4, "float32"))
    with pytest.raises(ParameterError, match="whole numbers, found float32"):
        open_quality(path, "sentinel2-scl")


# --- an image and its quality in one call
# ----------------------------------------------------------------------


def test_an_image_opens_with_the_quality_file_of_its_sensor(raster):
    dn = np.full((1, 2, 3), 12_000, "uint16")
    qa = np.array([[[21824, 22280, 1], [23888, 21824, 30048]]], "uint16")
    image = open_optical(
        raster("sr.tif", dn),
        "landsat-c2l2",
        date=DAY,
        bands=["red"],
        quality=raster("qa.tif", qa),
    )
    np.testing.assert_array_equal(
        np.isfinite(image.values[0]), [[True, False, False], [False, True, True]]
    )
    assert "qa.tif landsat-qa-pixel" in image.attrs["quality"]
    assert image.dtype == np.float32


def test_an_image_takes_a_mask_with_other_flags_but_no_quality_as_such(raster):
    dn = np.full((1, 2, 2), 1000, "uint16")
    qa = raster("mask.tif", np.array([[[0, 1], [2, 3]]], "uint8"))
    mask = open_quality(qa, "omnicloudmask", drop=["cloud_thick"])
    image = open_optical(raster("image.tif", dn), date=DAY, quality=mask)
    np.testing.assert_array_equal(np.isnan(image.values[0]), ~mask.values)
    with pytest.raises(ParameterError, match="make one with"):
        open_optical(
            raster("image.tif", dn), date=DAY, quality=layer_of([[0, 1], [2, 3]])
        )
    with pytest.raises(UnknownNameError, match="'generic'"):
        open_optical(raster("image.tif", dn), date=DAY, quality=qa)
