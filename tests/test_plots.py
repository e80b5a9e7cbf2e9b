import io

import dask.array as da
import matplotlib.image
import matplotlib.pyplot
import numpy as np
import pytest
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from geofuse import plots
from geofuse.errors import (
    BandMismatchError,
    GridMismatchError,
    ParameterError,
    UnknownNameError,
)
from geofuse.rasters.grid import place

HOSTILE = r"<script>$\frac{1$ %s \x {0}" + "\n\x07"


def image(values, bands=None, *, gsd=30.0, crs="EPSG:32633"):
    values = values if isinstance(values, da.Array) else np.asarray(values, np.float32)
    grid = GeoBox(values.shape[1:], Affine(gsd, 0, 5e5, 0, -gsd, 5e6), crs)
    names = bands or [f"b{number + 1}" for number in range(values.shape[0])]
    return place(values, grid, coords={"band": names})


def noise(size=24, bands=("green", "red", "nir"), seed=0, level=0.3):
    generator = np.random.default_rng(seed)
    values = level + 0.05 * generator.standard_normal((len(bands), size, size))
    return image(values, list(bands))


def pixels(content):
    return matplotlib.image.imread(io.BytesIO(content), format="png")


def test_one_value_has_one_color_in_all_pictures():
    first, second = noise(seed=1), noise(seed=2, level=0.6)
    first[:, 3, 4] = second[:, 7, 8] = 0.45
    drawn = plots.composite({"first": first, "second": second})
    assert (drawn.pictures["first"][3, 4] == drawn.pictures["second"][7, 8]).all()


def test_brighter_is_brighter():
    ramp = image(np.broadcast_to(np.linspace(0, 1, 64), (1, 64, 64)).copy())
    gray = plots.composite({"ramp": ramp}).pictures["ramp"][0, :, 0].astype(int)
    assert (np.diff(gray) >= 0).all()
    assert gray[0] == 0
    assert gray[-1] == 255


def test_an_invalid_pixel_is_transparent_and_a_dark_one_is_not():
    one = noise()
    one[1, 2, 3] = np.nan
    one[:, 5, 5] = -1.0
    picture = plots.composite({"one": one}).pictures["one"]
    assert picture[2, 3, 3] == 0
    assert (picture[5, 5] == [0, 0, 0, 255]).all()
    assert (picture[..., 3] == 0).sum() == 1


def test_bands_are_true_color_where_there_is_blue_else_false_color():
    def shown(*bands):
        return plots.composite({"one": noise(bands=bands)}).bands

    assert shown("blue", "green", "red", "nir") == ("red", "green", "blue")
    assert shown("green", "red", "nir", "swir1") == ("nir", "red", "green")
    assert shown("red", "nir", "swir1") == ("swir1", "nir", "red")
    assert shown("b1", "b2", "b3", "b4") == ("b1", "b2", "b3")
    assert shown("ndvi") == ("ndvi",)


def test_a_constant_image_and_one_without_a_valid_pixel_can_be_drawn():
    constant = image(np.full((3, 8, 8), 287.0))
    nothing = image(np.full((3, 8, 8), np.nan))
    drawn = plots.composite({"constant": constant, "nothing": nothing})
    assert np.unique(drawn.pictures["constant"][..., :3]).tolist() in (
        [127],
        [128],
        [130],
    )
    assert (drawn.pictures["nothing"][..., 3] == 0).all()
    wrong = plots.errors({"nothing": nothing}, constant)
    assert (wrong.pictures["nothing"][..., 3] == 0).all()
    assert wrong.limit > 0


def test_no_error_is_white_too_high_is_red_too_low_is_blue():
    true = noise()
    wrong = true.copy()
    wrong[0, 1, 1] += 0.1
    wrong[0, 2, 2] -= 0.1
    wrong[0, 3, 3] = np.nan
    drawn = plots.errors({"product": wrong}, true, band="green")
    picture = drawn.pictures["product"].astype(int)
    red, green, blue, opacity = np.moveaxis(picture, -1, 0)
    assert min(red[0, 0], green[0, 0], blue[0, 0]) > 240
    assert red[1, 1] > blue[1, 1] + 50
    assert blue[2, 2] > red[2, 2] + 50
    assert opacity[3, 3] == 0
    assert (opacity == 0).sum() == 1


def test_errors_are_of_the_band_with_the_largest_and_in_one_range():
    true = noise()
    good, bad = true.copy(), true.copy()
    good[2] += 0.01
    bad[1] += 0.2
    drawn = plots.errors({"good": good, "bad": bad}, true)
    assert drawn.band == "red"
    assert 0.19 < drawn.limit < 0.22


def test_a_view_is_every_nth_pixel_and_tells_what_is_lost():
    values = np.arange(2 * 50 * 70, dtype=np.float32).reshape(2, 50, 70)
    lazy = image(da.from_array(values, chunks=(-1, 16, 16)))
    view = plots.decimated(lazy, most=20)
    np.testing.assert_array_equal(view.values, values[:, ::4, ::4])
    assert max(view.shape) <= 20
    assert view.attrs["full_shape"] == (50, 70)
    assert view.attrs["gsd"] == "30 m"
    assert view.attrs["every"] == 4
    again = plots.decimated(view, most=10)
    np.testing.assert_array_equal(again.values, values[:, ::8, ::8])
    assert again.attrs["full_shape"] == (50, 70)
    assert again.attrs["every"] == 8


def test_a_small_image_is_seen_whole():
    one = noise()
    xr.testing.assert_equal(plots.decimated(one), one)


def test_a_view_holds_no_more_of_a_large_raster_than_it_shows():
    largest = []

    def block(block_info=None):
        shape = block_info[None]["chunk-shape"]
        largest.append(np.prod(shape))
        return np.zeros(shape, np.float32)

    lazy = da.map_blocks(block, chunks=((1,), (256,) * 16, (256,) * 16), dtype="f4")
    view = plots.decimated(image(lazy), most=100)
    assert view.values.base is None or view.values.base.size <= view.size
    assert view.shape == (1, 100, 100)
    assert max(largest) == 256 * 256


@pytest.mark.parametrize("name", [HOSTILE, "$", "$$", "a_b^c", "x" * 300])
def test_names_are_drawn_as_they_are(name):
    one = noise()
    figure = plots.panel({name: one}, {name: one}, one, title=name)
    assert pixels(plots.png(figure)).ndim == 3
    assert pixels(plots.png(plots.true_or_false_color({name: one}))).ndim == 3


def test_invalid_pixels_are_hatched_in_a_figure():
    whole, broken = noise(), noise()
    broken[:] = np.nan
    figure = plots.true_or_false_color({"whole": whole, "broken": broken})
    left, right = (axis.patch for axis in figure.axes)
    assert left.get_hatch() == right.get_hatch() == "////"
    drawn = pixels(plots.png(figure))
    middle = drawn[drawn.shape[0] // 2, -drawn.shape[1] // 3 :, :3]
    assert len(np.unique(middle, axis=0)) > 1  # neither one gray nor black
    assert middle.max(axis=0).min() > 0.5


def test_a_panel_has_all_inputs_products_and_errors():
    one = noise()
    inputs = {f"input {number}": one for number in range(8)}
    products = {f"method {number}": one + 0.01 * number for number in range(7)}
    figure = plots.panel(inputs, products, one, title="all", band="nir")
    titles = {axis.get_title() for axis in figure.axes}
    assert {*inputs, *products, "truth"} <= titles
    assert {f"error of {name}" for name in products} <= titles
    assert "24 x 24 pixels of 30 m" in figure.get_suptitle()
    assert pixels(plots.png(figure)).shape[1] < 2400


def test_figures_are_left_to_the_caller():
    one = noise()
    plots.error_map(one, one)
    plots.true_or_false_color({"one": one})
    plots.panel({"one": one}, {"one": one}, one)
    assert matplotlib.pyplot.get_fignums() == []


@pytest.mark.parametrize("crs", ["EPSG:4326", None])
def test_grids_in_degrees_or_without_crs_are_drawn_without_a_scale_bar(crs):
    one = image(np.random.default_rng(0).random((3, 9, 9)), gsd=0.001, crs=crs)
    figure = plots.true_or_false_color({"one": one})
    assert not figure.axes[0].lines
    assert plots.true_or_false_color({"one": noise()}).axes[0].lines
    assert "0.001 degrees" in figure.get_suptitle() or crs is None


def test_a_picture_becomes_the_same_pixels_in_a_png():
    drawn = plots.composite({"one": noise()})
    read = pixels(plots.png(drawn.pictures["one"]))
    expected = drawn.pictures["one"] / 255
    np.testing.assert_allclose(read, expected, atol=1e-6)  # float32 of a byte


def test_images_on_two_grids_have_no_error():
    with pytest.raises(GridMismatchError, match="expected one grid"):
        plots.error_map(noise(24), noise(25))


def test_mistakes_are_refused():
    one = noise()
    with pytest.raises(ParameterError, match="at least one image"):
        plots.true_or_false_color({})
    with pytest.raises(ParameterError, match="at least one input and one product"):
        plots.panel({}, {"one": one}, one)
    with pytest.raises(ParameterError, match="at least one product"):
        plots.errors({}, one)
    with pytest.raises(ParameterError, match="three bands"):
        plots.true_or_false_color({"one": one}, bands=["red", "nir"])
    with pytest.raises(ParameterError, match="at least 1 pixel"):
        plots.decimated(one, most=0)
    with pytest.raises(UnknownNameError, match="did you mean 'red'"):
        plots.true_or_false_color({"one": one}, bands=["rad", "nir", "green"])
    with pytest.raises(UnknownNameError, match="did you mean 'nir'"):
        plots.error_map(one, one, band="nirr")
    with pytest.raises(BandMismatchError, match="a band that all images have"):
        plots.composite({"one": one, "other": noise(bands=("vv",))})


def kernel(size=5, **weights):
    """A kernel (band, dy, dx) of red, with weights at places such as `right`."""
    reach = np.arange(-(size // 2), size // 2 + 1)
    places = {"own": (0, 0), "right": (0, 1), "below": (1, 0)}
    values = xr.DataArray(
        np.zeros((3, size, size)),
        {"band": ["green", "red", "nir"], "dy": reach, "dx": reach},
        ("band", "dy", "dx"),
        attrs={"predicted_band": "red"},
    )
    for name, weight in weights.items():
        dy, dx = places[name]
        values.loc[{"band": "red", "dy": dy, "dx": dx}] = weight
    return values


def test_kernels_lie_over_the_ground_around_the_pixel():
    fine = noise(size=24)
    kernels = {"one": kernel(own=0.5, right=0.4, below=0.1), "other": kernel(9, own=1)}
    figure = plots.kernel_panel(kernels, fine, y=12, x=7, title="all")
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[:3] == ["fine image", "one", "other"]
    assert "9 x 9 pixels of 30 m" in figure.get_suptitle()
    assert figure.get_suptitle().startswith("all\nweight of each pixel")
    view, one = (
        figure.axes[0].images[0].get_array(),
        figure.axes[1].images[1].get_array(),
    )
    whole = plots.composite({"part": fine[:, 8:17, 3:12]}).pictures["part"]
    np.testing.assert_array_equal(view, whole)
    red, _, blue, opacity = one[
        4, 5
    ]  # the right neighbor has the most: it ends the scale
    assert (red > blue, opacity) == (True, 1)
    assert 0 < one[5, 4, 3] < 1
    assert np.count_nonzero(one[..., 3]) == 3
    assert pixels(plots.png(figure)).ndim == 3


def test_a_weight_below_zero_is_blue_and_ground_beyond_the_edge_is_hatched():
    kernels = {"one": kernel(own=1.2, right=-0.2)}
    figure = plots.kernel_panel(kernels, noise(size=24), y=0, x=23, radius=3)
    red, _, blue, _ = figure.axes[1].images[1].get_array()[3, 4]
    assert blue > red
    ground = figure.axes[0].images[0].get_array()
    assert (ground[:3, :, 3] == 0).all()
    assert (ground[3:, :4, 3] == 255).all()
    assert (ground[:, 4:, 3] == 0).all()
    assert pixels(plots.png(figure)).ndim == 3


def test_kernels_that_cannot_be_drawn_are_refused():
    fine, one = noise(size=24), kernel(own=1)
    with pytest.raises(ParameterError, match="at least one kernel"):
        plots.kernel_panel({}, fine, y=3, x=3)
    with pytest.raises(ParameterError, match="found row 3, column 24"):
        plots.kernel_panel({"one": one}, fine, y=3, x=24)
    with pytest.raises(ParameterError, match="radius of 1 pixel or more"):
        plots.kernel_panel({"one": one}, fine, y=3, x=3, radius=0)
    with pytest.raises(ParameterError, match="select a band or a pixel"):
        plots.kernel_panel({"one": one.expand_dims("pixel")}, fine, y=3, x=3)
    with pytest.raises(UnknownNameError, match="did you mean 'red'"):
        plots.kernel_panel({"one": one}, fine, y=3, x=3, bands=["rad"])
