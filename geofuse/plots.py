"""Pictures of images: xarray in, matplotlib out.

    true_or_false_color(images)        three bands as red, green and blue
    error_map(predicted, reference)    predicted minus true, of one band
    panel(inputs, products, truth)     a whole case: inputs, products, errors
    feature_panel(features)            each feature in gray, in a stretch of its own
    misregistration_map(report, fine)  arrows: how far the coarse image lies off

Pictures that are to be compared share one stretch of colors. Invalid pixels are
hatched: they are neither dark ground nor a small error. Only every n-th pixel is kept,
so that a picture of a raster of any size takes the same memory. Nothing is shown on a
screen: functions return a figure, and `png` makes it a file.

Errors are blue, white and red (ColorBrewer's RdBu), which color-blind readers can tell
apart.
"""

import io
import math
import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import xarray as xr
from dask.base import compute
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import imsave

from geofuse.errors import (
    BandMismatchError,
    ParameterError,
    UnknownNameError,
    WriteError,
    did_you_mean,
)
from geofuse.rasters.grid import check_same_grid, grid_of
from geofuse.rasters.misregistration import Misregistration

#: Most pixels of a picture on a side.
VIEW = 800
#: Colors of errors: from negative (blue) over 0 (white) to positive (red).
ERROR_COLORS = "RdBu_r"

_COMPOSITES = (
    ("red", "green", "blue"),
    ("nir", "red", "green"),
    ("swir1", "nir", "red"),
)
_HATCHED = {"facecolor": "0.86", "edgecolor": "0.6", "hatch": "////", "linewidth": 0}
# As many as the eye tells apart; more would be noise that doubles the size of a file.
_LEVELS = 63
_ERROR_LEVELS = 64  # even, so that an error of 0 is white
_COLUMNS = 6  # pictures side by side in a panel
_INCHES = 2.4  # side of a picture in a panel


class Composite(NamedTuple):
    """Pictures of several images in one stretch of colors.

    Attributes:
        pictures: By the name of the image; red, green, blue and opacity, which is 0
            where a shown band is invalid.
        bands: The bands shown as red, green and blue; one band is shown in gray.
        low: Value of each band that is shown black; as red, green, blue.
        high: Value that is shown at full brightness.
    """

    pictures: dict[str, UInt8[np.ndarray, "y x 4"]]
    bands: tuple[str, ...]
    low: Float[np.ndarray, " band"]
    high: Float[np.ndarray, " band"]


class ErrorMaps(NamedTuple):
    """Pictures of the errors of several products, in one range of colors.

    Attributes:
        pictures: By the name of the product; opacity is 0 where the error is NaN.
        band: The band.
        limit: The error, in the unit of the images, at which the colors end.
    """

    pictures: dict[str, UInt8[np.ndarray, "y x 4"]]
    band: str
    limit: float


def true_or_false_color(
    images: Mapping[str, xr.DataArray], *, bands: Sequence[str] | None = None
) -> Figure:
    """Draw images side by side, in one stretch of colors.

    Args:
        images: Images (band, y, x) by the name to show; lazy or not, NaN where invalid.
        bands: Three bands to show as red, green and blue, or one; by default true color
            where the images have it, else nir, red, green, else the first ones.

    Raises:
        ParameterError: There is no image, or neither one nor three bands are asked for.
        UnknownNameError: An image has no such band.
        BandMismatchError: The images have no band in common.
    """
    views = {name: decimated(image) for name, image in images.items()}
    drawn = composite(views, bands=bands)
    columns = min(_COLUMNS, len(views))
    figure, axes = _figure(math.ceil(len(views) / columns), columns)
    for (name, view), axis in zip(views.items(), axes, strict=False):
        _draw(axis, drawn.pictures[name], name)
        _scale_bar(axis, view)
    _say(figure, _in_words(next(iter(views.values())), drawn.bands))
    return figure


def error_map(
    predicted: xr.DataArray, reference: xr.DataArray, *, band: str | None = None
) -> Figure:
    """Draw the error of one band, predicted minus true: blue too low, red too high.

    Args:
        predicted: Image (band, y, x), NaN where invalid.
        reference: The true image, on the same grid.
        band: The band; by default the one with the largest error.

    Raises:
        GridMismatchError: The grids differ.
        CRSMismatchError: The CRS differ.
        UnknownNameError: An image has no such band.
        BandMismatchError: The images have no band in common.
    """
    check_same_grid(
        predicted, reference, names=("the predicted image", "the reference")
    )
    view = decimated(predicted)
    drawn = errors({"predicted": view}, decimated(reference), band=band)
    figure, axes = _figure(1, 1)
    axis = next(axes)
    _draw(axis, drawn.pictures["predicted"], f"predicted - true, {drawn.band}")
    _scale_bar(axis, view)
    _color_bar(figure, axis, drawn)
    _say(figure, _in_words(view, ()))
    return figure


def misregistration_map(report: Misregistration, fine: xr.DataArray) -> Figure:
    """Draw how far the coarse image lies off, over the fine image.

    An arrow leads from where a place is to where the coarse image shows it, ten times as
    long as it is; the thick one is that of the whole scene. Patches that tell no shift of
    their own, with a confidence of less than a half, have none.

    Args:
        report: What `geofuse.rasters.misregistration.misregistration` found.
        fine: The fine image (band, y, x) that it was given.

    Raises:
        GridMismatchError: The image is not on a regular grid.
    """
    view = decimated(fine)
    every = view.attrs["every"]
    drawn = composite({"fine": view})
    figure, axes = _figure(1, 1)
    axis = next(axes)
    _draw(axis, drawn.pictures["fine"], "ten times as far as the coarse image lies off")
    height, width = view.shape[-2:]
    local, whole = report.local, report.shift
    known = [
        (x, y, found)
        for y, x, found in zip(local.y, local.x, local.shifts, strict=True)
        if found.confidence > 0.5
    ]
    arrows: dict[str, Any] = {"angles": "xy", "scale_units": "xy", "scale": every / 10}
    if known:
        axis.quiver(
            [x / every for x, _, _ in known],
            [y / every for _, y, _ in known],
            [found.dx for _, _, found in known],
            [found.dy for _, _, found in known],
            color="yellow",
            edgecolor="black",
            linewidth=0.5,
            width=0.006,
            **arrows,
        )
    if math.isfinite(whole.dx):
        axis.quiver(
            [width / 2],
            [height / 2],
            [whole.dx],
            [whole.dy],
            color="red",
            edgecolor="white",
            linewidth=0.8,
            width=0.014,
            **arrows,
        )
    axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    _scale_bar(axis, view)
    _say(figure, report.in_words().splitlines()[0])
    return figure


def panel(
    inputs: Mapping[str, xr.DataArray],
    products: Mapping[str, xr.DataArray],
    reference: xr.DataArray,
    *,
    title: str = "",
    band: str | None = None,
) -> Figure:
    """Draw a whole case: the inputs, the truth beside the products, and their errors.

    Args:
        inputs: Images (band, y, x) that the methods saw, by the name to show.
        products: Predicted images by the name of their method.
        reference: The true image, on the grid of the products.
        title: First line of the title.
        band: Band of the errors; by default the one with the largest.

    Raises:
        ParameterError: There is no input or no product.
        GridMismatchError: The grids of products and reference differ.
        CRSMismatchError: Their CRS differ.
        UnknownNameError: An image has no such band.
        BandMismatchError: The images have no band in common.
    """
    if not inputs or not products:
        raise ParameterError(
            f"expected at least one input and one product, found {len(inputs)} and "
            f"{len(products)}; give mappings of names to images"
        )
    views = {("input", name): decimated(image) for name, image in inputs.items()}
    views |= {("product", name): decimated(image) for name, image in products.items()}
    views["truth", ""] = decimated(reference)
    keys = {str(number): key for number, key in enumerate(views)}
    colors = composite({number: views[key] for number, key in keys.items()})
    pictures = {key: colors.pictures[number] for number, key in keys.items()}
    wrong = errors(
        {name: views["product", name] for name in products},
        views["truth", ""],
        band=band,
    )

    columns = min(_COLUMNS, max(len(inputs), len(products) + 1, 2))
    groups = [
        list(products)[start : start + columns - 1]
        for start in range(0, len(products), columns - 1)
    ]
    input_rows = math.ceil(len(inputs) / columns)
    figure, axes = _figure(input_rows + 2 * len(groups), columns)
    for number in range(input_rows * columns):
        axis = next(axes)
        if number < len(inputs):
            name = list(inputs)[number]
            _draw(axis, pictures["input", name], name)
            if number == 0:
                _scale_bar(axis, views["input", name])
    for number, group in enumerate(groups):
        upper = [next(axes) for _ in range(columns)]
        lower = [next(axes) for _ in range(columns)]
        if number == 0:
            _draw(upper[0], pictures["truth", ""], "truth")
            _color_bar(figure, lower[0], wrong, alone=True)
        for name, above, below in zip(group, upper[1:], lower[1:], strict=False):
            _draw(above, pictures["product", name], name)
            _draw(below, wrong.pictures[name], f"error of {name}")
    words = _in_words(views["truth", ""], colors.bands)
    _say(figure, f"{title}\n{words}" if title else words)
    return figure


def feature_panel(features: xr.DataArray, *, most: int = 300) -> Figure:
    """Draw every feature in gray, each stretched from its 2nd to its 98th percentile.

    Args:
        features: Image (feature, y, x), lazy or not, NaN where invalid.
        most: Most pixels of a picture on a side.

    Raises:
        ParameterError: There is no feature.
    """
    if features.ndim != 3 or 0 in features.shape:
        raise ParameterError(
            f"expected features (feature, y, x), at least one, found {features.dims} of "
            f"sizes {features.shape}; see FeatureStack.extract"
        )
    view = decimated(features.rename({features.dims[0]: "band"}), most=most)
    columns = min(_COLUMNS, len(view))
    figure, axes = _figure(math.ceil(len(view) / columns), columns)
    for number, (one, axis) in enumerate(zip(view, axes, strict=False)):
        name = str(one["band"].item())
        picture = composite({name: view[number : number + 1]}, most=most)
        _draw(axis, picture.pictures[name], name)
        if number == 0:
            _scale_bar(axis, view)
    _say(figure, _in_words(view, ()) + "; dark: low, bright: high")
    return figure


def composite(
    images: Mapping[str, xr.DataArray],
    *,
    bands: Sequence[str] | None = None,
    most: int = VIEW,
) -> Composite:
    """Make pictures of three bands, stretched from the 2nd to the 98th percentile.

    Args:
        images: Images (band, y, x) by name.
        bands: See `true_or_false_color`.
        most: Most pixels of a picture on a side.

    Raises:
        ParameterError: See `true_or_false_color`, here and below.
        UnknownNameError: An image has no such band.
        BandMismatchError: The images have no band in common.
    """
    if not images:
        raise ParameterError(
            "expected at least one image, found none; give a name and one"
        )
    views = {name: decimated(image, most=most) for name, image in images.items()}
    shown = _chosen(views, bands)
    values = {name: _of_bands(view, shown) for name, view in views.items()}
    low, high = np.zeros(len(shown)), np.ones(len(shown))
    for number in range(len(shown)):
        every = np.concatenate([array[number].ravel() for array in values.values()])
        finite = every[np.isfinite(every)]
        if finite.size:
            low[number], high[number] = np.percentile(finite, [2, 98])
        if not high[number] > low[number]:  # a constant image is a middle gray
            low[number], high[number] = low[number] - 0.5, low[number] + 0.5
    pictures = {}
    for name, array in values.items():
        unit = (array - low[:, None, None]) / (high - low)[:, None, None]
        valid = np.isfinite(array).all(axis=0)
        level = np.where(valid, np.clip(unit, 0, 1) * _LEVELS, 0).round()
        byte = (level * (255 / _LEVELS)).round().astype(np.uint8)
        opacity = np.where(valid, 255, 0).astype(np.uint8)
        red_green_blue = byte if len(shown) == 3 else byte.repeat(3, axis=0)
        pictures[name] = np.stack([*red_green_blue, opacity], axis=-1)
    return Composite(pictures, shown, low, high)


def errors(
    products: Mapping[str, xr.DataArray],
    reference: xr.DataArray,
    *,
    band: str | None = None,
    most: int = VIEW,
) -> ErrorMaps:
    """Make pictures of the errors of products, in one symmetric range of colors.

    The colors end at the 98th percentile of all absolute errors shown.

    Args:
        products: Images (band, y, x) by name.
        reference: The true image, on the same grid.
        band: The band; by default the one with the largest error.
        most: Most pixels of a picture on a side.

    Raises:
        ParameterError: There is no product.
        GridMismatchError: Grids differ.
        CRSMismatchError: CRS differ.
        UnknownNameError: An image has no such band.
        BandMismatchError: The images have no band in common.
    """
    if not products:
        raise ParameterError(
            "expected at least one product, found none; give a name and one"
        )
    for name, image in products.items():
        check_same_grid(image, reference, names=(name, "the reference"))
    truth = decimated(reference, most=most)
    views = {name: decimated(image, most=most) for name, image in products.items()}
    common = _common({**views, "the reference": truth})
    if band is not None and band not in common:
        raise UnknownNameError(
            f"expected a band of all images, found {band!r}; "
            f"{did_you_mean(band, common)}"
        )
    looked_at = common if band is None else [band]
    true = _of_bands(truth, looked_at)
    wrong = {name: _of_bands(view, looked_at) - true for name, view in views.items()}
    every = [
        _finite([error[number] for error in wrong.values()])
        for number in range(len(looked_at))
    ]
    sizes = [np.mean(values**2) if values.size else 0.0 for values in every]
    chosen = int(np.argmax(sizes))
    size = np.abs(every[chosen])
    # Where fewer than one pixel in fifty is wrong at all, the colors end at the worst.
    limit = float(np.percentile(size, 98) or size.max()) if size.size else 0.0
    limit = _rounded_up(limit) if limit > 0 else 1.0
    colors = matplotlib.colormaps[ERROR_COLORS]
    pictures = {}
    for name, error in wrong.items():
        unit = 0.5 + 0.5 * error[chosen] / limit
        level = np.round(np.clip(unit, 0, 1) * _ERROR_LEVELS)
        picture = colors(level / _ERROR_LEVELS, bytes=True)
        picture[..., 3] = np.where(np.isfinite(unit), 255, 0)
        picture[~np.isfinite(unit), :3] = 0
        pictures[name] = picture
    return ErrorMaps(pictures, looked_at[chosen], limit)


def decimated(image: xr.DataArray, *, most: int = VIEW) -> xr.DataArray:
    """Every n-th pixel of an image, in memory, at most `most` on a side.

    Tiles are read, thinned and forgotten, whatever the size of the raster. Attributes
    keep what the view no longer tells: `full_shape` in pixels, `gsd` with its unit, and
    `every`, the n of every n-th.

    Args:
        image: Image with the last axes y and x, lazy or not.
        most: Most pixels on a side, at least 1.

    Raises:
        ParameterError: `most` is not positive.
        GridMismatchError: The image is not on a regular grid.
    """
    if most < 1:
        raise ParameterError(
            f"expected a view of at least 1 pixel, found {most}; 800 is usual"
        )
    grid = grid_of(image)
    step = max(1, math.ceil(max(grid.shape) / most))
    told = {
        "full_shape": image.attrs.get("full_shape", tuple(grid.shape)),
        "gsd": image.attrs.get("gsd", pixel_in_words(image)),
        "every": image.attrs.get("every", 1) * step,
    }
    view = image[..., ::step, ::step]
    if view.chunks is not None:
        (view,) = compute(view, scheduler="threads")
    return view.assign_attrs(told)


def png(drawn: Figure | UInt8[np.ndarray, "y x 4"]) -> bytes:
    """A figure, or a picture of `composite` or `errors`, as the content of a PNG."""
    content = io.BytesIO()
    if isinstance(drawn, Figure):
        drawn.savefig(content, format="png", dpi=150, metadata={"Software": None})
    else:
        imsave(content, drawn, format="png", metadata={"Software": ""})
    return content.getvalue()


def save_picture(drawn: Figure | UInt8[np.ndarray, "y x 4"], path: str) -> None:
    """Write a figure or a picture as a PNG file, whole or not at all.

    Raises:
        WriteError: The folder is missing or not writable, or the disk is full.
    """
    content, part = png(drawn), f"{path}.part"
    try:
        with open(part, "wb") as file:
            file.write(content)
        os.replace(part, path)
    except OSError as error:
        raise WriteError(
            f"expected to write {path}, found that it cannot be done ({error}); choose a "
            "folder that exists and is writable"
        ) from error


def _chosen(
    views: Mapping[str, xr.DataArray], bands: Sequence[str] | None
) -> tuple[str, ...]:
    """Bands to show as red, green and blue, or one to show in gray."""
    common = _common(views)
    if bands is not None:
        if len(bands) not in (1, 3):
            raise ParameterError(
                "expected three bands for red, green and blue, or one, found "
                f"{list(bands)}; name three"
            )
        for band in bands:
            if band not in common:
                raise UnknownNameError(
                    f"expected a band of all images, found {band!r}; "
                    f"{did_you_mean(band, common)}"
                )
        return tuple(bands)
    for known in _COMPOSITES:
        if set(known) <= set(common):
            return known
    return tuple(common[:3]) if len(common) >= 3 else (common[0],)


def _common(views: Mapping[str, xr.DataArray]) -> list[str]:
    """Names of the bands that all images have, in the order of the first."""
    names = [[str(band) for band in view["band"].values] for view in views.values()]
    common = [band for band in names[0] if all(band in others for others in names)]
    if not common:
        raise BandMismatchError(
            f"expected a band that all images have, found {names}; rename bands with "
            "image.assign_coords(band=[…])"
        )
    return common


def _of_bands(view: xr.DataArray, bands: Sequence[str]) -> np.ndarray:
    names = [str(band) for band in view["band"].values]
    return view.values[[names.index(band) for band in bands]].astype(np.float64)


def _finite(arrays: Sequence[np.ndarray]) -> np.ndarray:
    every = np.concatenate([array.ravel() for array in arrays])
    return np.asarray(every[np.isfinite(every)])


def _rounded_up(value: float) -> float:
    """The next number with two digits, so that the color bar is easy to read."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / unit - 1e-9) * unit:.2g}")


def _figure(rows: int, columns: int) -> tuple[Figure, Iterator[Axes]]:
    # One or two pictures alone may be larger than many.
    inches = max(_INCHES, 7 / columns - 1) if rows == 1 else _INCHES
    size = (columns * inches, rows * (inches + 0.28) + 0.6)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    return figure, iter(axes.flat)


def _draw(axis: Axes, picture: np.ndarray, name: str) -> None:
    """A picture over a hatched ground, which is seen where it is transparent."""
    axis.set_axis_on()
    axis.set(xticks=[], yticks=[])
    axis.patch.set(**_HATCHED)
    for spine in axis.spines.values():
        spine.set(color="0.6", linewidth=0.5)
    axis.imshow(picture, interpolation="nearest")
    axis.set_title(_plain(name), fontsize=9, parse_math=False)


def _scale_bar(axis: Axes, image: xr.DataArray) -> None:
    """A bar of a round length in the lower left corner, for grids in meters."""
    grid = grid_of(image)
    if not _in_meters(image):
        return
    height, width = grid.shape
    pixel = abs(grid.affine.a)
    rough = width * pixel / 3
    magnitude = 10.0 ** math.floor(math.log10(rough))
    length = max(d for d in (1, 2, 5) if d * magnitude <= rough) * magnitude
    text = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    left, right = 0.05 * width, 0.05 * width + length / pixel
    low = 0.93 * height
    for color, thickness in (("white", 4.5), ("black", 2.0)):
        axis.plot([left, right], [low, low], color=color, lw=thickness)
    axis.text(
        (left + right) / 2,
        low - 0.03 * height,
        text,
        ha="center",
        va="bottom",
        fontsize=7,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.2, "alpha": 0.8},
    )
    axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def _color_bar(
    figure: Figure, axis: Axes, drawn: ErrorMaps, *, alone: bool = False
) -> None:
    norm = Normalize(-drawn.limit, drawn.limit)
    colors = matplotlib.cm.ScalarMappable(norm, ERROR_COLORS)
    ticks = [-drawn.limit, -drawn.limit / 2, 0, drawn.limit / 2, drawn.limit]
    if alone:
        place: Any = {"cax": axis.inset_axes((0.45, 0.06, 0.09, 0.88))}
        axis.text(
            0.3,
            0.5,
            _plain(f"predicted - true, {drawn.band}"),
            rotation=90,
            ha="center",
            va="center",
            fontsize=8,
            transform=axis.transAxes,
            parse_math=False,
        )
    else:
        place = {"cax": axis.inset_axes((1.05, 0, 0.06, 1))}
    bar = figure.colorbar(colors, extend="both", ticks=ticks, **place)
    bar.ax.tick_params(labelsize=7)
    bar.ax.set_yticks(ticks, [f"{tick:+.3g}" if tick else "0" for tick in ticks])


def _say(figure: Figure, text: str) -> None:
    """A title in lines that are no wider than the figure."""
    letters = int(13 * figure.get_figwidth())  # of 10 points, 5.5 points wide
    lines = [
        part
        for line in text.splitlines()
        for part in textwrap.wrap(_plain(line), letters)
    ]
    figure.suptitle("\n".join(lines), fontsize=10, parse_math=False)


def _plain(text: str) -> str:
    """A name on one line, without control characters."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _in_words(view: xr.DataArray, bands: Sequence[str]) -> str:
    """Size, GSD and bands of a view, and what hatching means."""
    height, width = view.attrs["full_shape"]
    words = [f"{width} x {height} pixels of {view.attrs['gsd']}"]
    every = view.attrs["every"]
    if every > 1:
        nth = {2: "second", 3: "third"}.get(every, f"{every}th")
        words[0] += f", every {nth} one drawn"
    if len(bands) == 3:
        words.append(f"{', '.join(bands)} as red, green, blue")
    words += [*bands[:1]] if len(bands) == 1 else []
    return "; ".join([*words, "hatched: invalid"])


def pixel_in_words(image: xr.DataArray) -> str:
    """The side of a pixel with its unit, such as `30 m`."""
    grid = grid_of(image)
    size = f"{abs(grid.affine.a):.4g}"
    if _in_meters(image):
        return f"{size} m"
    if grid.crs is not None and grid.crs.geographic:
        return f"{size} degrees"
    return f"{size} map units"


def _in_meters(image: xr.DataArray) -> bool:
    crs = grid_of(image).crs
    return crs is not None and crs.projected and crs.units[0] in ("metre", "meter", "m")
