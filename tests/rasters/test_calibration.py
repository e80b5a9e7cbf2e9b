"""Which offset a file needs, and values that make no sense with their sensor."""

import numpy as np
import pytest
import rasterio

from geofuse.errors import (
    CalibrationError,
    CalibrationWarning,
    ParameterError,
    UnknownNameError,
)
from geofuse.rasters.calibration import warn_of_scales
from geofuse.rasters.optical import open_optical
from tests.conftest import GRID

DAY = "2023-06-01"
NAME = "S2A_MSIL2A_20230601T101031_{}_R022_T33UUU_20230601T160000_B04.tif"


def scene(dark, bright=4000, bands=1):
    """DN of which every tenth pixel is dark, as water and shadows are."""
    dn = np.random.default_rng(0).integers(1500, bright, (bands, 40, 50))
    dn[:, ::10] = dark
    dn[:, 0, 0] = 0
    return dn.astype("uint16")


def opened(path, sensor="sentinel2-l2a", **options):
    return open_optical(path, sensor, **{"date": DAY, "bands": ["red"], **options})


# --- the offset of Sentinel-2
# --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dark", "offset"), [(1150, -0.1), (750, -0.1), (690, 0.0), (120, 0.0)]
)
def test_dark_pixels_tell_whether_the_offset_is_in_the_dn(raster, dark, offset):
    dn = scene(dark)
    image = opened(raster("scene.tif", dn))
    expected = np.where(dn == 0, np.nan, dn * 1e-4 + offset)
    np.testing.assert_allclose(image.values, expected, atol=2e-7)
    assert image.attrs["offset"].startswith(f"{offset:g}")
    assert ("darkest hundredth" in image.attrs["offset"]) == (offset == 0)


def test_the_darkest_band_is_looked_at_not_the_first(raster):
    dn = np.concatenate([scene(2000), scene(200)])  # nir, swir2
    path = raster("scene.tif", dn, bands=("B08", "B12"))
    image = opened(path, bands=None)
    np.testing.assert_allclose(image.values[0, 1, 1], dn[0, 1, 1] * 1e-4, rtol=1e-6)


def test_every_part_of_a_file_has_the_offset_of_the_whole(raster):
    dn = np.full((1, 100, 100), 3000, "uint16")
    dn[:, :60] = 200  # water in the north, none in the south
    path = raster("scene.tif", dn)
    south = (GRID.c, GRID.f - 3000, GRID.c + 3000, GRID.f - 1900)
    part = opened(path, bbox=south)
    assert part.shape == (1, 37, 100)
    np.testing.assert_array_equal(part.values, opened(path).values[:, 63:])
    np.testing.assert_allclose(part.values, 0.3, rtol=1e-6)


@pytest.mark.parametrize(
    ("wanted", "offset"), [("applied", 0), ("none", 0), (-0.1, -0.1), (0.05, 0.05)]
)
def test_what_is_asked_for_is_done_and_noted(raster, wanted, offset):
    image = opened(raster("scene.tif", scene(1150)), offset=wanted)
    assert image.values[0, 0, 1] == pytest.approx(0.115 + offset)
    assert "as asked for" in image.attrs["offset"]


@pytest.mark.parametrize(("baseline", "offset"), [("N0301", 0.0), ("N0509", -0.1)])
def test_the_baseline_in_a_products_name_tells(raster, baseline, offset):
    # Dark pixels alone would say otherwise, or nothing.
    image = opened(raster(NAME.format(baseline), scene(1800)))
    assert image.values[0, 0, 1] == pytest.approx(0.18 + offset)
    assert f"baseline {baseline[1:3]}.{baseline[3:]}" in image.attrs["offset"]


def test_metadata_at_odds_with_dark_pixels_are_followed_with_a_warning(raster):
    path = raster(NAME.format("N0509"), scene(120))
    with pytest.warns(CalibrationWarning, match="say offset='applied'"):
        image = opened(path)
    assert image.attrs["offset"].startswith("-0.1")


def test_an_old_image_that_tells_nothing_is_taken_with_a_warning(raster):
    path = raster("scene.tif", scene(1800))
    with pytest.warns(CalibrationWarning, match="say offset='none'"):
        opened(path, date="2019-06-01")
    assert opened(path).attrs["offset"].startswith("-0.1")


def test_an_offset_that_makes_no_sense_is_refused(raster):
    path = raster("scene.tif", scene(1150))
    with pytest.raises(UnknownNameError, match="did you mean 'applied'"):
        opened(path, offset="aplied")
    with pytest.raises(ParameterError, match="for a Sentinel-2 sensor"):
        opened(path, "hls-s30", offset="none")
    with pytest.raises(ParameterError, match="finite"):
        opened(path, offset=float("nan"))


# --- scaled twice, or not at all
# -----------------------------------------------------------------


def test_reflectance_that_is_scaled_already_is_not_scaled_again(raster):
    values = np.random.default_rng(0).uniform(0, 0.6, (1, 30, 40)).astype("float32")
    path = raster("scene.tif", values)
    for sensor in ("landsat-c2l2", "hls-l30"):
        with pytest.raises(CalibrationError, match="scaled twice"):
            opened(path, sensor)
    opened(path, "gain=1e-4")  # who says so himself is not asked


def test_reflectance_that_is_not_scaled_at_all_is_refused(raster):
    values = scene(300).astype("float32")
    path = raster("scene.tif", values, nodata=0)
    with pytest.raises(CalibrationError, match=r"not scaled at all.* gain=1e-4"):
        opened(path, "sentinel3-syn")
    image = opened(raster("scaled.tif", scene(300), scales=(1e-4,)), "sentinel3-syn")
    assert image.values[0, 0, 1] == pytest.approx(0.03)


def test_an_offset_taken_off_twice_is_warned_of(raster):
    dn = np.random.default_rng(0).integers(200, 3000, (1, 40, 50)).astype("uint16")
    with pytest.warns(CalibrationWarning, match="median of -0.1"):
        opened(raster("scene.tif", dn), "landsat-c2l2")


def test_snow_and_dark_water_are_nothing_to_be_refused(raster):
    snow = np.full((1, 30, 40), 11_500, "uint16")
    water = np.full((1, 30, 40), 12, "int16")
    snow, water = (
        opened(raster("snow.tif", snow), "hls-s30"),
        opened(raster("water.tif", water), "modis-mod09ga"),
    )
    assert float(snow.max()) == pytest.approx(1.15)
    assert float(water.max()) == pytest.approx(0.0012)


def test_a_temperature_is_no_reflectance(raster):
    dn = np.full((1, 30, 40), 44_177, "uint16")
    image = opened(raster("st.tif", dn), "landsat-c2l2-st", bands=None)
    assert image.name == "temperature"
    assert image.attrs["units"] == "K"
    assert list(image["band"].values) == ["thermal"]
    assert image.values[0, 0, 0] == pytest.approx(300.0, abs=0.01)


def test_looking_at_values_reads_little_and_fails_on_nothing(raster, monkeypatch):
    from geofuse.rasters.source import RasterSource

    dn = np.concatenate([scene(900, bands=1)] * 3)
    dn = np.tile(dn, (1, 20, 20))
    path = raster("scene.tif", dn, tiled=True, blockxsize=64, blockysize=64)
    seen = []
    original = RasterSource._read
    monkeypatch.setattr(
        RasterSource,
        "_read",
        lambda self, band, window: (
            seen.append(window.height * window.width) or original(self, band, window)
        ),
    )
    opened(path, bands=["red", "nir", "swir1"])
    assert 0 < sum(seen) <= 3 * 5 * 64 * 64
    # A block in the middle is damaged: opening says nothing, reading does.
    with open(path, "r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\0" * 100)
    opened(path, bands=["red", "nir", "swir1"])


def test_fine_and_coarse_of_two_units_are_warned_of(raster):
    dn = scene(1000)
    fine = open_optical(raster("fine.tif", dn), date=DAY)
    coarse = open_optical(raster("coarse.tif", dn * 1e-4), date=DAY)
    with pytest.warns(CalibrationWarning, match="fine.tif"):
        warn_of_scales(fine, coarse)
    warn_of_scales(coarse, fine * 1e-4)
    warn_of_scales(coarse, coarse * np.nan)


# --- real files
# --------------------------------------------------------------------------


def by_hand(path):
    with rasterio.open(path) as dataset:
        return dataset.read().astype("f8")


def test_terramind_is_opened_without_an_offset_that_is_not_there(real_data):
    folder = real_data / "landcover/terramind"
    for level, sensor in (("S2L2A", "sentinel2-l2a"), ("S2L1C", "sentinel2-l1c")):
        path = folder / level / "637U_59R_1_3.tif"
        dn = by_hand(path)
        image = open_optical(path, sensor, date=DAY)
        assert list(image["band"].values)[:4] == ["coastal", "blue", "green", "red"]
        assert list(image["band"].values)[-1] == "swir2"
        assert len(image["band"]) == len(dn)
        expected = np.where(dn == 0, np.nan, dn * 1e-4)
        np.testing.assert_allclose(image.values, expected, rtol=1e-6)
        assert "never there" in image.attrs["offset"]


def test_all_of_terramind_opens_as_reflectance(real_data):
    for path in sorted((real_data / "landcover/terramind").glob("S2L2A/*.tif")):
        image = open_optical(path, "sentinel2-l2a-before-2022", date=DAY)
        assert image.shape == (12, 224, 224)
        assert 0 < float(image.mean()) < 1.2


def test_kranj_has_two_units_and_says_so(real_data):
    folder = real_data / "fusion/kranj_imagefusion"
    names = ["blue", "green", "red", "nir", "swir1", "swir2"]
    path = folder / "landsat/unfilled/2020068_191-28_kranj.tif"
    fine = open_optical(path, date="2020-03-08", bands=names)
    coarse_path = folder / "modis/filled/2020068_18-04_kranj.tif"
    coarse = open_optical(coarse_path, date="2020-03-08", bands=names)
    with pytest.warns(CalibrationWarning, match="of one unit"):
        warn_of_scales(fine, coarse)
    stored = by_hand(path)
    expected = np.where(stored < -1e38, np.nan, stored * 1e-4)
    scaled = open_optical(path, "gain=1e-4", date="2020-03-08", bands=names)
    np.testing.assert_allclose(scaled.values, expected, rtol=1e-6)
    np.testing.assert_allclose(coarse.values, by_hand(coarse_path), rtol=1e-6)
    warn_of_scales(scaled, coarse)
