"""c-factor normalization against its equations, angle by angle."""

import math

import dask
import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from geofuse.errors import BandMismatchError, GridMismatchError, ParameterError
from geofuse.rasters.brdf import PARAMETERS, li_sparse, ross_thick, to_nadir
from geofuse.rasters.grid import place
from tests.conftest import GRID
from tests.oracles.brdf import c_factor, kernels

SHAPE = (5, 6)


def placed(values, transform=GRID, **coords):
    grid = GeoBox(values.shape[-2:], transform, "EPSG:32633")
    return place(np.asarray(values, "f4"), grid, coords=coords)


def image(bands=("red", "nir")):
    values = np.random.default_rng(0).uniform(0.05, 0.5, (len(bands), *SHAPE))
    return placed(values, band=list(bands))


def angles(**given):
    rng = np.random.default_rng(1)
    return {
        "sun_zenith": placed(rng.uniform(20, 70, SHAPE)),
        "sun_azimuth": placed(rng.uniform(0, 360, SHAPE)),
        "view_zenith": placed(rng.uniform(0, 60, SHAPE)),
        "view_azimuth": placed(rng.uniform(-180, 180, SHAPE)),
        **given,
    }


def test_kernels_are_known_where_they_can_be_worked_out_by_hand():
    for kernel in (ross_thick, li_sparse):
        assert kernel(0.0, 0.0, 0.0) == pytest.approx(0, abs=1e-15)
    # Sun behind the sensor at 45 degrees: no phase angle, full overlap of shadows.
    slant = math.pi / 4
    hot_spot = math.pi / 2 / math.sqrt(2) - math.pi / 4
    assert ross_thick(slant, slant, 0.0) == pytest.approx(hot_spot)
    assert li_sparse(slant, slant, 0.0) == pytest.approx(2 - math.sqrt(2))


def test_kernels_match_their_equations_at_every_angle():
    for sun in (0.0, 30.0, 62.5):
        for view in (0.0, 15.0, 55.0):
            for azimuth in (0.0, 47.0, 180.0, 271.0):
                radians = np.radians((sun, view, azimuth))
                expected = kernels(sun, view, azimuth)
                found = ross_thick(*radians), li_sparse(*radians)
                np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("nadir_sun", [None, 45.0])
def test_every_pixel_is_multiplied_by_its_c_factor(nadir_sun):
    reflectance, seen = image(), angles()
    found = to_nadir(reflectance, **seen, nadir_sun_zenith=nadir_sun).values
    for b, band in enumerate(("red", "nir")):
        for y, x in np.ndindex(SHAPE):
            sun, sun_azimuth, view, view_azimuth = (
                float(angle.values[y, x]) for angle in seen.values()
            )
            factor = c_factor(
                PARAMETERS[band],
                sun,
                view,
                view_azimuth - sun_azimuth,
                sun if nadir_sun is None else nadir_sun,
            )
            expected = reflectance.values[b, y, x] * factor
            assert found[b, y, x] == pytest.approx(expected, rel=1e-6)


def test_a_view_from_above_is_left_alone_and_numbers_serve_for_all_pixels():
    numbers = {"sun_zenith": 40, "sun_azimuth": 150, "view_azimuth": 90}
    same = to_nadir(image(), **numbers, view_zenith=0)
    np.testing.assert_allclose(same.values, image().values, rtol=1e-6)
    assert "Roy et al. 2016" in same.attrs["brdf"]
    layers = {name: placed(np.full(SHAPE, v)) for name, v in numbers.items()}
    np.testing.assert_array_equal(
        to_nadir(image(), **numbers, view_zenith=30).values,
        to_nadir(image(), **layers, view_zenith=30).values,
    )


def test_it_is_lazy_and_chunks_change_nothing():
    seen = angles()
    whole = to_nadir(image(), **seen).values
    chunked = {name: angle.chunk({"y": 2, "x": 5}) for name, angle in seen.items()}
    lazy = to_nadir(image().chunk({"band": 1, "y": 3, "x": 4}), **chunked)
    assert dask.is_dask_collection(lazy.data)
    np.testing.assert_array_equal(lazy.values, whole)
    assert lazy.dtype == np.float32


def test_an_angle_that_is_missing_or_below_the_horizon_gives_no_value():
    zenith = np.full(SHAPE, 30.0)
    zenith[0, 0], zenith[1, 1], zenith[2, 2] = np.nan, 90.0, -1.0
    found = to_nadir(image(), **angles(view_zenith=placed(zenith))).values
    invalid = ~((zenith >= 0) & (zenith < 90))
    np.testing.assert_array_equal(np.isnan(found[0]), invalid)


def test_bands_angles_and_grids_that_make_no_sense_are_refused():
    with pytest.raises(BandMismatchError, match="found thermal"):
        to_nadir(image(("red", "thermal")), **angles())
    with pytest.raises(ParameterError, match=r"sun_zenith in degrees.*found 4500"):
        to_nadir(image(), **angles(sun_zenith=4500))
    elsewhere = placed(np.zeros(SHAPE), GRID * Affine.translation(1, 0))
    with pytest.raises(GridMismatchError, match="view_zenith"):
        to_nadir(image(), **angles(view_zenith=elsewhere))
