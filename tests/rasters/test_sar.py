import numpy as np
import pytest
import rasterio
import xarray as xr
from rasterio.control import GroundControlPoint

from geofuse.errors import (
    BandMismatchError,
    DateMismatchError,
    GridMismatchError,
    ParameterError,
    RasterReadError,
    UnknownNameError,
)
from geofuse.rasters.backscatter import from_db, to_db
from geofuse.rasters.grid import grid_of
from geofuse.rasters.sar import open_sar
from geofuse.rasters.write import write_cog
from tests.conftest import GRID

DAY = "2021-07-02"


def power_of(shape=(2, 40, 50), seed=0):
    return np.random.default_rng(seed).gamma(4, 0.02, shape).astype("f4")


@pytest.fixture
def stored(raster):
    """A function that writes power in a unit, with a border of 0."""

    def write(unit, name="scene.tif", bands=("VV", "VH"), **profile):
        power = power_of()
        values = {
            "power": power,
            "amplitude": np.sqrt(power),
            "db": 10 * np.log10(power),
        }[unit]
        values[:, :5] = 0
        power[:, :5] = np.nan
        return raster(name, values, bands=bands, **profile), power

    return write


@pytest.mark.parametrize("unit", ["power", "amplitude", "db"])
def test_every_unit_becomes_linear_power_and_borders_become_invalid(stored, unit):
    path, power = stored(unit)
    image = open_sar(path, date=DAY, unit=unit, quantity="gamma0")
    assert image.dtype == np.float32
    assert list(image["band"].values) == ["vv", "vh"]
    assert image.name == image.attrs["quantity"] == "gamma0"
    assert str(image["time"].values)[:10] == DAY
    assert grid_of(image).affine == GRID
    # A dB of float32 is good to 1e-6 dB, which is 2e-7 of power, ten times.
    np.testing.assert_allclose(image.values, power, rtol=2e-6)


@pytest.mark.parametrize(
    ("name", "bands", "unit", "quantity"),
    [
        ("scene.tif", ("Sigma0_VV_db", "Sigma0_VH_db"), "db", "sigma0"),
        ("scene.tif", ("gamma0 VV, power", "gamma0 VH, power"), "power", "gamma0"),
        ("scene.tif", ("Beta0_VV_amplitude", "Beta0_VH"), "amplitude", "beta0"),
        (
            "S1A_IW_20210702T051234_DVP_RTC10_G_gduned_1A2B.tif",
            ("VV", "VH"),
            "db",
            "gamma0",
        ),
        (
            "S1A_IW_20210702T051234_DVP_RTC10_G_spuned_1A2B.tif",
            ("VV", "VH"),
            "power",
            "sigma0",
        ),
    ],
)
def test_what_the_file_says_is_taken(stored, name, bands, unit, quantity):
    path, power = stored(unit, name, bands)
    date = None if "RTC10" in name else DAY
    image = open_sar(path, date=date)
    assert image.attrs["quantity"] == quantity
    assert str(image["time"].values)[:10] == DAY
    np.testing.assert_allclose(image.values, power, rtol=2e-6)
    other = "sigma0" if quantity != "sigma0" else "gamma0"
    with pytest.raises(ParameterError, match=f"states, {quantity}, found"):
        open_sar(path, date=date, quantity=other)
    with pytest.raises(ParameterError, match=f"states, {unit}, found"):
        open_sar(path, date=date, unit="db" if unit != "db" else "power")


def test_what_was_written_is_read_back(stored, tmp_path):
    path, power = stored("power")
    image = open_sar(path, date=DAY, unit="power", quantity="sigma0")
    for written in (image, to_db(image)):
        again = open_sar(write_cog(written, tmp_path / "out.tif"), date=DAY)
        assert again.attrs["quantity"] == "sigma0"
        np.testing.assert_allclose(again.values, power, rtol=2e-6)


def test_scaled_integers_and_nodata_are_understood(raster):
    db = np.array([[[-1000, -2000, 0, -32768, -950]]], "int16")
    path = raster("s.tif", db, bands=("VV",), scales=(0.01,), nodata=-32768)
    image = open_sar(path, date=DAY, unit="db")
    expected = [0.1, 0.01, np.nan, np.nan, 10**-0.95]
    np.testing.assert_allclose(image.values[0, 0], expected, rtol=1e-6)


def test_polarizations_are_taken_by_name_in_the_order_wanted(stored):
    path, power = stored("power", bands=("VH", "VV"))
    image = open_sar(path, date=DAY, unit="power", polarizations=["VV", "vh"])
    assert list(image["band"].values) == ["vv", "vh"]
    np.testing.assert_array_equal(image.values, power[::-1])
    one = open_sar(path, date=DAY, unit="power", polarizations=["vv"])
    np.testing.assert_array_equal(one.values, power[1:])


def test_bands_without_names_are_named_in_the_order_of_the_file(stored):
    path, power = stored("power", bands=None)
    with pytest.raises(BandMismatchError, match="polarizations="):
        open_sar(path, date=DAY, unit="power")
    image = open_sar(path, date=DAY, unit="power", polarizations=["hh", "hv"])
    np.testing.assert_array_equal(image.sel(band="hv").values, power[1])


def test_a_file_of_one_band_is_named_by_its_file_name(raster):
    path = raster("S1A_IW_20210702T051234_DVP_RTC10_G_gpuned_1_VH.tif", power_of()[:1])
    image = open_sar(path)
    assert list(image["band"].values) == ["vh"]


@pytest.mark.parametrize("name", ["angle", "localIncidenceAngle", "LIA"])
def test_the_incidence_angle_is_carried_along(raster, name):
    values = power_of((3, 40, 50))
    values[1] = np.linspace(30, 45, 50)
    path = raster("scene.tif", values, bands=("VV", name, "VH"))
    image = open_sar(path, date=DAY, unit="power", chunks=16)
    assert list(image["band"].values) == ["vv", "vh"]
    assert image["incidence_angle"].dims == ("y", "x")
    assert image["incidence_angle"].attrs["units"] == "degree"
    np.testing.assert_array_equal(image["incidence_angle"].values, values[1])


@pytest.mark.parametrize("unit", ["power", "db"])
def test_chunks_and_a_box_change_nothing(stored, unit):
    path, _ = stored(unit)
    whole = open_sar(path, date=DAY, unit=unit)
    tiled = open_sar(path, date=DAY, unit=unit, chunks=7)
    np.testing.assert_array_equal(tiled.values, whole.values)
    box = (GRID.c + 310, GRID.f - 900, GRID.c + 900, GRID.f - 190)
    part = open_sar(path, date=DAY, unit=unit, bbox=box)
    np.testing.assert_array_equal(part.values, whole.values[:, 6:30, 10:30])


def test_a_south_up_file_is_turned(raster):
    values = power_of()
    transform = rasterio.Affine(30, 0, GRID.c, 0, 30, GRID.f - 40 * 30)
    path = raster("scene.tif", values, bands=("VV", "VH"), transform=transform)
    image = open_sar(path, date=DAY, unit="power")
    np.testing.assert_array_equal(image.values, values[:, ::-1])


def test_db_where_power_was_said_and_the_reverse_are_refused(stored):
    decibels, _ = stored("db", "db.tif")
    linear, _ = stored("power", "linear.tif")
    for unit in ("power", "amplitude"):
        with pytest.raises(ParameterError, match="look like dB: give unit='db'"):
            open_sar(decibels, date=DAY, unit=unit)
    with pytest.raises(ParameterError, match="look linear: give unit='power'"):
        open_sar(linear, date=DAY, unit="db")


def test_values_that_no_backscatter_has_are_refused(raster):
    dn = raster("dn.tif", np.full((1, 9, 9), 350, "uint16"), bands=("VV",))
    for unit in ("power", "amplitude"):
        with pytest.raises(ParameterError, match="not calibrated"):
            open_sar(dn, date=DAY, unit=unit)
    scaled = raster("db.tif", np.full((1, 9, 9), -1234, "int16"), bands=("VV",))
    with pytest.raises(ParameterError, match="does not state its scale"):
        open_sar(scaled, date=DAY, unit="db")


def test_a_unit_that_nobody_states_is_asked_for(stored):
    for unit, guess in (("db", "'db'"), ("power", "'power'")):
        path, _ = stored(unit, f"{unit}.tif")
        with pytest.raises(ParameterError, match=f"they look like {guess}"):
            open_sar(path, date=DAY)


def test_complex_numbers_are_refused_with_what_to_do(raster):
    path = raster("slc.tif", np.ones((1, 4, 4), "complex64"))
    with pytest.raises(RasterReadError, match="take the squared magnitude"):
        open_sar(path, date=DAY, unit="power")


def test_what_does_not_fit_is_refused(stored, tmp_path):
    path, _ = stored("power", "S1A_IW_20210702T051234_scene.tif")
    with pytest.raises(DateMismatchError, match="2021-07-02, found 2021-07-03"):
        open_sar(path, date="2021-07-03", unit="power")
    with pytest.raises(UnknownNameError, match="polarization"):
        open_sar(path, unit="power", polarizations=["vw"])
    with pytest.raises(BandMismatchError, match="expected polarization 'hh'"):
        open_sar(path, unit="power", polarizations=["hh"])
    with pytest.raises(BandMismatchError, match="each polarization once"):
        open_sar(path, unit="power", polarizations=["vv", "vv"])
    with pytest.raises(ParameterError, match="expected a unit"):
        open_sar(path, unit="dbm")
    with pytest.raises(ParameterError, match="expected a quantity"):
        open_sar(path, unit="power", quantity="sigma")
    with pytest.raises(ParameterError, match="chunks"):
        open_sar(path, unit="power", chunks=0)
    with pytest.raises(ParameterError, match="box beside its CRS"):
        open_sar(path, unit="power", bbox_crs="EPSG:4326")
    with pytest.raises(ParameterError, match="thermal_noise"):
        open_sar(path, unit="power", thermal_noise="gone")
    with pytest.raises(ParameterError, match="SAFE folder to subtract"):
        open_sar(path, unit="power", thermal_noise="subtracted")
    other, _ = stored("power", "scene.tif")
    with pytest.raises(DateMismatchError, match="none given"):
        open_sar(other, unit="power")
    with pytest.raises(RasterReadError, match="found nothing"):
        open_sar(tmp_path / "missing.tif")


def test_a_measurement_outside_its_folder_is_refused(raster):
    name = "s1a-iw-grd-vv-20210702t051234-20210702t051259-1-2-001.tiff"
    dn = np.full((1, 9, 9), 350, "uint16")
    points = [GroundControlPoint(r, c, 15 + c, 45 - r) for r in (0, 8) for c in (0, 8)]
    path = raster(name, dn, transform=None, gcps=points)
    with pytest.raises(GridMismatchError, match="without terrain correction"):
        open_sar(path)


def test_decibels_and_power_undo_each_other_lazily():
    power = xr.DataArray(power_of(), dims=("band", "y", "x"), name="sigma0").chunk()
    decibels = to_db(power)
    assert (decibels.dtype, decibels.attrs["units"]) == (np.float32, "dB")
    assert decibels.chunks is not None
    np.testing.assert_allclose(from_db(decibels), power, rtol=2e-6)
    assert from_db(decibels).attrs["units"] == "1"
    assert from_db(decibels).name == "sigma0"
    assert np.isnan(to_db(power * 0 - 1)).all()
    with pytest.raises(ParameterError, match="converted already"):
        to_db(decibels)
    with pytest.raises(ParameterError, match="converted already"):
        from_db(from_db(decibels))


def test_terramind_opens_with_the_values_of_the_file(real_data):
    path = real_data / "landcover/terramind/S1RTC/282D_485L_3_3.tif"
    image = open_sar(path, polarizations=["vv", "vh"], unit="db", quantity="gamma0")
    with rasterio.open(path) as dataset:
        stored, transform, crs = dataset.read(), dataset.transform, dataset.crs
    assert grid_of(image).affine == transform
    assert grid_of(image).crs == crs
    assert str(image["time"].values)[:10] == "2021-07-21"
    np.testing.assert_allclose(image.values, 10 ** (stored / 10), rtol=1e-6)


def test_sen1floods11_opens_with_the_values_of_the_file(real_data):
    path = real_data / "landcover/sen1floods11/S1/Spain_7370579_S1Hand.tif"
    image = open_sar(path, date="2018-09-17", unit="db")
    assert list(image["band"].values) == ["vv", "vh"]
    with rasterio.open(path) as dataset:
        stored = dataset.read()
    assert np.isfinite(image.values).all()
    np.testing.assert_allclose(to_db(image).values, stored, atol=1e-5)
