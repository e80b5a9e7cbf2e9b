"""Figures of images: side by side, their errors, a whole case, features, arrows."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from geofuse.errors import ParameterError
from geofuse.plots.canvas import (
    COLUMNS,
    color_bar,
    draw,
    figure_of,
    in_words,
    say,
    scale_bar,
)
from geofuse.plots.pictures import composite, decimated, errors
from geofuse.rasters.grid import check_same_grid
from geofuse.rasters.misregistration import Misregistration


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
    columns = min(COLUMNS, len(views))
    figure, axes = figure_of(math.ceil(len(views) / columns), columns)
    for (name, view), axis in zip(views.items(), axes, strict=False):
        draw(axis, drawn.pictures[name], name)
        scale_bar(axis, view)
    say(figure, in_words(next(iter(views.values())), drawn.bands))
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
    figure, axes = figure_of(1, 1)
    axis = next(axes)
    draw(axis, drawn.pictures["predicted"], f"predicted - true, {drawn.band}")
    scale_bar(axis, view)
    color_bar(figure, axis, drawn)
    say(figure, in_words(view, ()))
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
    figure, axes = figure_of(1, 1)
    axis = next(axes)
    draw(axis, drawn.pictures["fine"], "ten times as far as the coarse image lies off")
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
    scale_bar(axis, view)
    say(figure, report.in_words().splitlines()[0])
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

    columns = min(COLUMNS, max(len(inputs), len(products) + 1, 2))
    groups = [
        list(products)[start : start + columns - 1]
        for start in range(0, len(products), columns - 1)
    ]
    input_rows = math.ceil(len(inputs) / columns)
    figure, axes = figure_of(input_rows + 2 * len(groups), columns)
    for number in range(input_rows * columns):
        axis = next(axes)
        if number < len(inputs):
            name = list(inputs)[number]
            draw(axis, pictures["input", name], name)
            if number == 0:
                scale_bar(axis, views["input", name])
    for number, group in enumerate(groups):
        upper = [next(axes) for _ in range(columns)]
        lower = [next(axes) for _ in range(columns)]
        if number == 0:
            draw(upper[0], pictures["truth", ""], "truth")
            color_bar(figure, lower[0], wrong, alone=True)
        for name, above, below in zip(group, upper[1:], lower[1:], strict=False):
            draw(above, pictures["product", name], name)
            draw(below, wrong.pictures[name], f"error of {name}")
    words = in_words(views["truth", ""], colors.bands)
    say(figure, f"{title}\n{words}" if title else words)
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
    columns = min(COLUMNS, len(view))
    figure, axes = figure_of(math.ceil(len(view) / columns), columns)
    for number, (one, axis) in enumerate(zip(view, axes, strict=False)):
        name = str(one["band"].item())
        picture = composite({name: view[number : number + 1]}, most=most)
        draw(axis, picture.pictures[name], name)
        if number == 0:
            scale_bar(axis, view)
    say(figure, in_words(view, ()) + "; dark: low, bright: high")
    return figure
