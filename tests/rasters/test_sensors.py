import math

import pytest

from geofuse.errors import (
    BandMismatchError,
    GeofuseError,
    ParameterError,
    UnknownNameError,
)
from geofuse.rasters.sensors import (
    GENERIC,
    LANDSAT_C2L2,
    MODIS_MCD43A4,
    SENSORS,
    SENTINEL2_L2A,
    Sensor,
    select_bands,
    sensor_of,
)


def chosen(sensor, descriptions, wanted=None):
    return select_bands(sensor, descriptions, wanted, path="scene.tif")


def unnamed(count):
    return (None,) * count


def test_every_sensor_is_found_by_its_name_and_has_each_band_once():
    for name, sensor in SENSORS.items():
        assert sensor_of(name) is sensor
        assert len(set(sensor.band_names)) == len(sensor.bands)
        assert len({band.code for band in sensor.bands}) == len(sensor.bands)


def test_wavelengths_agree_between_sensors_that_share_a_name():
    visible = {"blue": (440, 500), "green": (540, 580), "red": (620, 680)}
    visible |= {"nir": (820, 880), "swir1": (1560, 1680), "swir2": (2080, 2260)}
    for sensor in SENSORS.values():
        for band in sensor.bands:
            low, high = visible.get(band.name, (0, math.inf))
            assert low < band.center_nm < high, (sensor.name, band)


def test_an_unknown_sensor_is_told_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match="did you mean 'landsat-c2l2'"):
        sensor_of("landsat-c2l1")


def test_gain_offset_and_nodata_make_a_generic_sensor():
    sensor = sensor_of("gain=1e-4, offset=-0.1,nodata=-9999")
    assert (sensor.gain, sensor.offset, sensor.nodata) == (1e-4, -0.1, -9999)
    assert sensor.bands == ()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("gian=1e-4", UnknownNameError),
        ("gain=1e-4,nodata", ParameterError),
        ("gain=much", ParameterError),
        ("gain=0", ParameterError),
        ("gain=nan", ParameterError),
        ("gain=1,offset=inf", ParameterError),
        ("", UnknownNameError),
        ("gain=1,", UnknownNameError),
    ],
)
def test_parameters_that_make_no_sensor_are_refused(text, error):
    with pytest.raises(error, match=r"expected .*found"):
        sensor_of(text)


def test_bands_of_a_generic_file_are_numbered_whatever_the_file_calls_them():
    assert chosen(GENERIC, ("red", None)) == [("b1", 0), ("b2", 1)]


def test_generic_bands_are_chosen_by_number_by_description_or_named_in_order():
    assert chosen(GENERIC, ("red", "nir"), ["b2"]) == [("b2", 1)]
    assert chosen(GENERIC, ("red", "nir"), ["nir", "red"]) == [("nir", 1), ("red", 0)]
    assert chosen(GENERIC, unnamed(2), ["ndvi", "lst"]) == [("ndvi", 0), ("lst", 1)]


def test_a_generic_band_that_is_not_there_is_refused():
    with pytest.raises(BandMismatchError, match=r"found 2 in scene.tif"):
        chosen(GENERIC, ("red", "nir"), ["swir1"])


def test_descriptions_by_common_name_or_code_tell_the_bands_in_any_order():
    by_name = chosen(LANDSAT_C2L2, ("nir", "RED", "other"), ["red", "nir"])
    assert by_name == [("red", 1), ("nir", 0)]
    by_code = chosen(SENTINEL2_L2A, ("B8A", "B04"))
    assert by_code == [("nir08", 0), ("red", 1)]
    mcd43 = chosen(MODIS_MCD43A4, ("Nadir_Reflectance_Band2",))
    assert mcd43 == [("nir", 0)]


def test_a_file_with_exactly_the_bands_of_the_sensor_has_them_in_its_order():
    bands = chosen(LANDSAT_C2L2, unnamed(7), ["nir", "red"])
    assert bands == [("nir", 4), ("red", 3)]


def test_wanted_names_serve_where_their_number_is_that_of_the_file():
    bands = chosen(LANDSAT_C2L2, unnamed(2), ["red", "nir"])
    assert bands == [("red", 0), ("nir", 1)]


@pytest.mark.parametrize("wanted", [None, ["red"]])
def test_an_unknown_order_of_bands_is_refused_and_never_guessed(wanted):
    with pytest.raises(BandMismatchError, match="without known names"):
        chosen(LANDSAT_C2L2, unnamed(3), wanted)


def test_names_of_stac_and_both_near_infrared_bands_are_synonyms():
    landsat = ("nir", "swir1")
    bands = chosen(LANDSAT_C2L2, landsat, ["nir08", "swir16"])
    assert bands == [("nir08", 0), ("swir16", 1)]
    # Where a sensor has both, each name is its own band.
    msi = chosen(SENTINEL2_L2A, ("B8A", "B08"), ["nir", "nir08"])
    assert msi == [("nir", 1), ("nir08", 0)]


@pytest.mark.parametrize("wanted", [["red", "red"], []])
def test_a_band_named_twice_and_no_band_at_all_are_refused(wanted):
    with pytest.raises(BandMismatchError, match="each band once"):
        chosen(LANDSAT_C2L2, unnamed(7), wanted)


def test_a_misspelled_band_is_told_with_the_nearest_name():
    with pytest.raises(BandMismatchError, match="did you mean 'swir1'"):
        chosen(LANDSAT_C2L2, unnamed(7), ["swri1"])


def test_errors_of_values_are_also_value_errors():
    with pytest.raises(ValueError, match="finite gain"):
        Sensor("mine", gain=math.inf)
    assert issubclass(ParameterError, GeofuseError)
