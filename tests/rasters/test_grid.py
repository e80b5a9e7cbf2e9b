import math

import numpy as np
import pytest
import rasterio.crs
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from geofuse.errors import CRSMismatchError, GridMismatchError
from geofuse.rasters.grid import (
    check_same_grid,
    coordinates,
    crs_name,
    describe,
    grid_of,
    place,
    shift_between,
)

UTM = Affine(30.0, 0.0, 500010.0, 0.0, -30.0, 5100030.0)
SIN = "+proj=sinu +R=6371007.181"


def image(transform=UTM, shape=(5, 7), crs="EPSG:32633"):
    return place(np.zeros((1, *shape), np.float32), GeoBox(shape, transform, crs))


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326", SIN, None])
@pytest.mark.parametrize("shape", [(5, 7), (1, 1), (1, 9)])
@pytest.mark.parametrize(
    "transform",
    [
        UTM,
        Affine(463.312716528, 0, 1111950.5196, 0, -463.312716528, 5559752.598),
        Affine(0.1, 0, 12.3, 0, 0.1, 45.6),
    ],
)
def test_a_grid_survives_being_put_on_an_image(crs, shape, transform):
    grid = GeoBox(shape, transform, crs)
    found = grid_of(place(np.zeros(shape), grid))
    assert tuple(found.shape) == shape
    assert shift_between(grid, found) < 1e-6
    assert found.crs == grid.crs


def test_a_local_crs_that_is_neither_projected_nor_geographic_is_kept():
    wkt = rasterio.crs.CRS.from_wkt('LOCAL_CS["camera",UNIT["metre",1]]').to_wkt()
    grid = GeoBox((5, 7), UTM, wkt)
    found = grid_of(place(np.zeros((5, 7)), grid))
    assert found.crs == grid.crs
    assert crs_name(found) == "camera"


def test_coordinates_are_pixel_centers():
    found = coordinates(GeoBox((2, 2), UTM, "EPSG:32633"))
    np.testing.assert_array_equal(found["x"][1], [500025.0, 500055.0])
    np.testing.assert_array_equal(found["y"][1], [5100015.0, 5099985.0])


def test_a_raster_of_rioxarray_style_has_its_grid():
    attrs = {"crs_wkt": rasterio.crs.CRS.from_epsg(32633).to_wkt()}
    raster = xr.DataArray(
        np.zeros((3, 4)),
        dims=("y", "x"),
        coords={
            "y": [75.0, 45.0, 15.0],
            "x": [15.0, 45.0, 75.0, 105.0],
            "spatial_ref": ((), 0, attrs),
        },
    )
    grid = grid_of(raster)
    assert grid.affine == Affine(30, 0, 0, 0, -30, 90)
    assert grid.crs.to_epsg() == 32633


def test_an_image_without_coordinates_is_refused():
    with pytest.raises(GridMismatchError, match="expected coordinates 'y' and 'x'"):
        grid_of(xr.DataArray(np.zeros((3, 4)), dims=("y", "x")))


def test_uneven_pixel_centers_are_refused():
    uneven = image().assign_coords(x=[0.0, 30, 60, 95, 120, 150, 180])
    with pytest.raises(GridMismatchError, match="evenly spaced"):
        grid_of(uneven)


@pytest.mark.parametrize("shift", [1e-6, 0.2])
def test_grids_less_than_a_hundredth_of_a_pixel_apart_are_one(shift):
    moved = image(UTM * Affine.translation(shift / 30, 0))
    check_same_grid(image(), moved, names=("first", "second"))


def test_grids_a_fiftieth_of_a_pixel_apart_are_two():
    moved = image(UTM * Affine.translation(0, 0.02))
    with pytest.raises(GridMismatchError, match=r"0.02 pixels apart"):
        check_same_grid(image(), moved, names=("first", "second"))


def test_a_pixel_size_that_drifts_over_the_image_is_another_grid():
    wide = (2, 1000)
    drifting = image(UTM * Affine.scale(1.0001, 1), wide)
    with pytest.raises(GridMismatchError, match=r"0.1 pixels apart"):
        check_same_grid(image(shape=wide), drifting, names=("first", "second"))


def test_other_shapes_are_infinitely_far_apart():
    assert math.isinf(
        shift_between(GeoBox((5, 7), UTM, None), GeoBox((5, 8), UTM, None))
    )
    with pytest.raises(GridMismatchError, match="found first with 7x5 pixels"):
        check_same_grid(image(), image(shape=(5, 8)), names=("first", "second"))


@pytest.mark.parametrize("other", ["EPSG:32632", None])
def test_another_crs_and_none_are_refused(other):
    with pytest.raises(CRSMismatchError, match="expected one CRS"):
        check_same_grid(image(), image(crs=other), names=("first", "second"))


def test_a_grid_is_told_in_words():
    grid = GeoBox((5, 7), UTM, "EPSG:32633")
    expected = "7x5 pixels of 30 from (500010, 5100030) in EPSG:32633"
    assert describe(grid) == expected
    assert crs_name(GeoBox((5, 7), UTM, None)) == "no CRS"
