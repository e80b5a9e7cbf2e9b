"""Figures of land cover: colors, hatching, names that are hostile."""

import numpy as np
import pytest
import xarray as xr
from odc.geo.geobox import GeoBox

from geofuse import plots
from geofuse.errors import ParameterError
from geofuse.evaluation.accuracy import Confusion
from geofuse.plots.land_cover import class_picture
from geofuse.rasters.grid import place
from geofuse.rasters.legend import Legend
from geofuse.uncertainty.classes import reliability
from tests.conftest import GRID

HOSTILE = r"<script>$\frac{1$ %s \x {0}" + "\n\x07"
LEGEND = Legend(("water", HOSTILE, "crops"), colors=("#0000ff", "#00ff00", "#ff8000"))


def product(size=20, *, chunks=None):
    rng = np.random.default_rng(0)
    grid = GeoBox((size, size), GRID, "EPSG:32633")
    numbers = rng.integers(-1, 3, (size, size)).astype("int16")
    made = xr.Dataset({"land_cover": place(numbers, grid)})
    made["epistemic"] = place(
        np.where(numbers < 0, np.nan, 0.1).astype("float32"), grid
    )
    weights = rng.random((2, size, size)).astype("float32")
    made["weight"] = (("modality", "y", "x"), weights)
    made = made.assign_coords(modality=["s2", HOSTILE])
    made.land_cover.attrs = LEGEND.attributes()
    return made.chunk({"y": chunks, "x": chunks}) if chunks else made


def titles(figure):
    return [axis.get_title() for axis in figure.axes if axis.get_title()]


def test_classes_have_the_colors_of_the_legend_and_others_none():
    picture = class_picture(np.array([[0, 2, -1, 7]]), LEGEND)
    assert picture.tolist() == [
        [[0, 0, 255, 255], [255, 128, 0, 255], [0, 0, 0, 0], [0, 0, 0, 0]]
    ]


@pytest.mark.parametrize("chunks", [None, 7])
def test_a_map_is_drawn_with_what_the_product_has(chunks):
    whole = product(chunks=chunks)
    figure = plots.land_cover_map(whole, LEGEND)
    assert titles(figure)[:3] == [
        "land cover",
        "epistemic uncertainty, nats",
        "weight of s2",
    ]
    assert len(titles(figure)) == 4
    alone = plots.land_cover_map(whole[["land_cover"]], LEGEND)
    assert titles(alone) == ["land cover"]
    for drawn in (figure, alone):
        assert plots.png(drawn).startswith(b"\x89PNG")


def test_the_image_is_drawn_first():
    whole = product()
    values = np.random.default_rng(0).random((3, 20, 20)).astype("float32")
    image = place(values, GeoBox((20, 20), GRID, "EPSG:32633"))
    image = image.assign_coords(band=["red", "green", "blue"])
    figure = plots.land_cover_map(whole, LEGEND, image=image)
    assert titles(figure)[:2] == ["red, green, blue", "land cover"]


def test_a_map_without_a_class_is_drawn_all_the_same():
    empty = product()[["land_cover", "epistemic"]]
    empty["land_cover"] = xr.full_like(empty.land_cover, -1)
    empty["epistemic"] = xr.full_like(empty.epistemic, np.nan)
    assert plots.png(plots.land_cover_map(empty, LEGEND))


def test_without_land_cover_that_is_said():
    with pytest.raises(ParameterError, match="outputs="):
        plots.land_cover_map(product()[["epistemic"]])


def test_an_error_matrix_shows_its_pixels():
    none = np.zeros(3, np.int64)
    counts = np.array([[9, 1, 0], [2, 12_345, 0], [0, 0, 0]])
    matrix = Confusion(LEGEND.names, counts, none, none)
    figure = plots.confusion_plot(matrix.table(), title=HOSTILE)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["9", "1", "2", "12.3k"]
    assert plots.png(figure)
    with pytest.raises(ParameterError, match="square"):
        plots.confusion_plot(matrix.table().iloc[:2])


def test_reliability_is_drawn_with_its_error():
    chances = np.random.default_rng(0).dirichlet([1, 1], 100).T
    labels = np.zeros(100, int)
    curves = {
        "net": reliability(chances, labels),
        HOSTILE: reliability(chances, labels),
    }
    figure = plots.reliability_plot(curves, title=HOSTILE)
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert said[0] == f"net: calibration error {curves['net'].error:.3f}"
    assert plots.png(figure)
    assert plots.png(
        plots.reliability_plot({"none": reliability(chances, np.full(100, -1))})
    )
    with pytest.raises(ParameterError, match="at least one"):
        plots.reliability_plot({})
