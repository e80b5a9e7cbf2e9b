"""A map of classes written and read back, by geofuse and by GDAL."""

import numpy as np
import pytest
import rasterio
from odc.geo.geobox import GeoBox

from geofuse.errors import GridMismatchError, NothingValidWarning, ParameterError
from geofuse.rasters.grid import place
from geofuse.rasters.labels import legend_in, open_labels
from geofuse.rasters.legend import Legend
from geofuse.rasters.map_file import stored_as, write_map
from tests.conftest import GRID

LEGEND = Legend(
    ("water", "wood & <heath>", "crops"), (10, 0, 40), ("#0000ff", "#00ff00", "#ff8000")
)


def numbers(values):
    values = np.asarray(values, "int16")
    return place(values, GeoBox(values.shape, GRID, "EPSG:32633"))


VALUES = np.random.default_rng(0).integers(-1, 3, (70, 90))


@pytest.mark.parametrize("chunks", [None, 32])
def test_a_map_and_its_legend_are_read_back_as_written(tmp_path, chunks):
    land_cover = numbers(VALUES)
    if chunks:
        land_cover = land_cover.chunk({"y": chunks, "x": chunks})
    path = write_map(land_cover, LEGEND, tmp_path / "map.tif")
    labels = open_labels(path)
    assert (labels.values == VALUES).all()
    assert legend_in(labels) == LEGEND
    assert labels.x.values.tolist() == land_cover.x.values.tolist()


def test_gdal_finds_codes_nodata_palette_and_names(tmp_path):
    path = write_map(numbers(VALUES), LEGEND, tmp_path / "map.tif")
    with rasterio.open(path) as dataset:
        assert dataset.dtypes == ("uint8",)
        assert dataset.nodata == 255
        assert dataset.colormap(1)[40] == (255, 128, 0, 255)
        stored = dataset.read(1)
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    for number, code in ((-1, 255), (0, 10), (1, 0), (2, 40)):
        assert (stored[number == VALUES] == code).all()


def test_names_are_found_without_the_tags_too(tmp_path, raster):
    path = write_map(numbers(VALUES), LEGEND, tmp_path / "map.tif")
    plain = raster("plain.tif", np.array([[[10, 0, 40]]], "uint8"))
    side = path.with_name("map.tif.aux.xml")
    plain.with_name("plain.tif.aux.xml").write_bytes(side.read_bytes())
    assert legend_in(open_labels(plain)).names == ("wood & <heath>", "water", "crops")
    assert sorted(p.name for p in tmp_path.iterdir() if "map" in p.name) == [
        "map.tif",
        "map.tif.aux.xml",
    ]


def test_the_legend_may_be_that_of_the_map(tmp_path):
    land_cover = numbers(VALUES).assign_attrs(LEGEND.attributes())
    path = write_map(land_cover, None, tmp_path / "map.tif")
    assert legend_in(open_labels(path)) == LEGEND


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ((0, 254), ("uint8", 255)),
        ((0, 255), ("uint8", 1)),
        (tuple(range(256)), ("uint16", 65535)),
        ((0, 70_000), ("int32", 2**31 - 1)),
    ],
)
def test_nodata_is_never_the_code_of_a_class(codes, expected):
    names = tuple(f"class {code}" for code in codes)
    dtype, nodata = stored_as(Legend(names, codes))
    assert (dtype.name, nodata) == expected


def test_large_codes_are_written_without_a_palette(tmp_path):
    legend = Legend(("a", "b"), (1, 70_000))
    path = write_map(numbers([[0, 1], [-1, 0]]), legend, tmp_path / "map.tif")
    labels = open_labels(path)
    assert labels.values.tolist() == [[0, 1], [-1, 0]]
    assert legend_in(labels) == legend


def test_a_map_without_a_class_is_told(tmp_path):
    with pytest.warns(NothingValidWarning, match=r"map\.tif"):
        write_map(numbers([[-1, -1]]), LEGEND, tmp_path / "map.tif")


@pytest.mark.parametrize(
    ("land_cover", "error", "message"),
    [
        (numbers([[0, 3]]), ParameterError, "found 3"),
        (numbers([[0, 1]]).astype("float32"), ParameterError, "found float32"),
        (numbers([[0, 1]]).expand_dims("band"), GridMismatchError, "band"),
    ],
)
def test_what_is_no_map_is_refused_and_nothing_is_left(
    tmp_path, land_cover, error, message
):
    with pytest.raises(error, match=message):
        write_map(land_cover, LEGEND, tmp_path / "map.tif")
    assert not [p for p in tmp_path.iterdir() if not p.name.startswith(".")]
