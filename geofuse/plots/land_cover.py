"""Figures of land cover: a map in the colors of its legend, its doubt, and its scores."""

import math
from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from geofuse.errors import ParameterError
from geofuse.plots.canvas import COLUMNS, draw, figure_of, in_words, say, scale_bar
from geofuse.plots.pictures import composite, decimated
from geofuse.rasters.labels import legend_in
from geofuse.rasters.legend import Legend
from geofuse.uncertainty.classes import Reliability

#: Colors of doubt and of weights: dark is little.
DOUBT_COLORS, WEIGHT_COLORS = "magma", "viridis"

#: Classes that are named beneath a map; the smallest are left out.
_MOST_CLASSES = 16
#: Squares of an error matrix up to this many classes hold their numbers.
_MOST_NUMBERS = 16
_INCHES = 4.2


def land_cover_map(
    product: xr.Dataset,
    legend: Legend | None = None,
    *,
    image: xr.DataArray | None = None,
) -> Figure:
    """Draw a map of classes beside its epistemic uncertainty and the weights of modalities.

    Args:
        product: What a classifier predicted; drawn are `land_cover`, and `epistemic` and
            `weight` where it has them.
        legend: Names and colors; None takes what `land_cover` carries.
        image: An image (band, y, x) to draw first, on the same grid.

    Raises:
        ParameterError: There is no `land_cover`, or it has no legend.
    """
    if "land_cover" not in product:
        raise ParameterError(
            f"expected land_cover in the product, found {sorted(map(str, product))}; name "
            "it in outputs= of predict"
        )
    classes = legend_in(product.land_cover) if legend is None else legend
    view = decimated(product.land_cover)
    weights = []
    if "weight" in product:
        shares = decimated(product.weight)
        weights = [
            (f"weight of {name}", shares.sel(modality=name).values)
            for name in product.weight["modality"].values.tolist()
        ]
    doubt = [("epistemic uncertainty, nats", "epistemic")]
    doubt = [(title, name) for title, name in doubt if name in product]
    panels = int(image is not None) + 1 + len(doubt) + len(weights)
    columns = min(COLUMNS // 2, panels)
    figure, axes = figure_of(math.ceil(panels / columns), columns)
    figure.set_size_inches(columns * 3.0 + 0.4, math.ceil(panels / columns) * 3.7 + 0.5)
    if image is not None:
        axis, shown = next(axes), decimated(image)
        drawn = composite({"image": shown})
        draw(axis, drawn.pictures["image"], ", ".join(drawn.bands))
        scale_bar(axis, shown)
    axis = next(axes)
    draw(axis, class_picture(view.values, classes), "land cover")
    scale_bar(axis, view)
    _name_classes(axis, view.values, classes)
    for title, name in doubt:
        values = decimated(product[name]).values
        _draw_values(figure, next(axes), values, title, DOUBT_COLORS, _upper(values))
    for title, values in weights:
        _draw_values(figure, next(axes), values, title, WEIGHT_COLORS, 1.0)
    say(figure, in_words(view, ()).replace("invalid", "no class"))
    return figure


def class_picture(numbers: np.ndarray, legend: Legend) -> UInt8[np.ndarray, "y x 4"]:
    """Class numbers (y, x) in the colors of the legend; -1 is transparent."""
    colors = np.array([(*to_rgb(color), 1.0) for color in legend.colors] + [(0.0,) * 4])
    table = (colors * 255).round().astype(np.uint8)
    inside = (numbers >= 0) & (numbers < len(legend))
    return np.asarray(table[np.where(inside, numbers, len(legend))])


def confusion_plot(matrix: pd.DataFrame, *, title: str = "") -> Figure:
    """Draw an error matrix: color is the share of a label's pixels, numbers are pixels.

    Args:
        matrix: Pixels, map classes down and classes of labels across:
            `confusion(…).table()`.
        title: Above the figure.

    Raises:
        ParameterError: It is not square, or empty.
    """
    counts = matrix.to_numpy(float)
    count = len(counts)
    if counts.ndim != 2 or counts.shape != (count, count) or not count:
        raise ParameterError(
            f"expected a square error matrix, found {counts.shape}; give "
            "geofuse.evaluation.accuracy.confusion(…).table()"
        )
    columns = counts.sum(axis=0)
    shares = np.where(columns > 0, counts / np.where(columns > 0, columns, 1), np.nan)
    inches = max(_INCHES, 0.55 * count + 1.8)
    names = [_printable(str(name)) for name in matrix.columns]
    room = 0.07 * max(map(len, names))
    figure, axis = _alone(inches + 0.8 + room, inches + 0.7 * room)
    axis.patch.set(facecolor="0.86")
    drawn = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axis.set_xticks(range(count), names, rotation=45, ha="right", parse_math=False)
    axis.set_yticks(range(count), names, parse_math=False)
    axis.set_xlabel("class of the label", fontsize=9)
    axis.set_ylabel("class of the map", fontsize=9)
    axis.tick_params(length=0, labelsize=8)
    if count <= _MOST_NUMBERS:
        for row in range(count):
            for column in range(count):
                if counts[row, column]:
                    axis.text(
                        column,
                        row,
                        _short(counts[row, column]),
                        ha="center",
                        va="center",
                        fontsize=7,
                        color="white" if shares[row, column] > 0.55 else "0.15",
                    )
    bar = figure.colorbar(drawn, ax=axis, fraction=0.046, pad=0.03)
    bar.set_label("share of the label's pixels", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    right = np.trace(counts) / counts.sum() if counts.sum() else math.nan
    head = f"{title}\n" if title else ""
    say(
        figure,
        f"{head}overall accuracy {right:.3f}; the color of the diagonal is producer's accuracy",
    )
    return figure


def reliability_plot(curves: Mapping[str, Reliability], *, title: str = "") -> Figure:
    """Draw how often predictions are right against how sure they were.

    Points below the diagonal were too sure. Their area goes with the number of pixels.

    Args:
        curves: What `reliability` found, by the name to show.
        title: Above the figure.

    Raises:
        ParameterError: There is no curve.
    """
    if not curves:
        raise ParameterError(
            "expected at least one curve, found none; give a name and one"
        )
    figure, axis = _alone(_INCHES + 0.3, _INCHES + 0.3)
    axis.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--", zorder=1)
    axis.fill_between([0, 1], [0, 1], color="0.95", zorder=0)
    axis.text(0.97, 0.03, "too sure", ha="right", color="0.5", fontsize=8)
    axis.text(0.03, 0.95, "not sure enough", color="0.5", fontsize=8)
    colors = matplotlib.colormaps["tab10"]
    for number, (name, curve) in enumerate(curves.items()):
        color = colors(number % 10)
        total = max(int(curve.pixels.sum()), 1)
        axis.plot(curve.confidence, curve.accuracy, color=color, linewidth=1.2)
        axis.scatter(
            curve.confidence,
            curve.accuracy,
            s=8 + 300 * curve.pixels / total,
            color=color,
            alpha=0.75,
            linewidths=0,
            clip_on=False,
            zorder=3,
            label=f"{_printable(name)}: calibration error {curve.error:.3f}",
        )
    axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axis.set_xlabel("stated probability", fontsize=9)
    axis.set_ylabel("share that is right", fontsize=9)
    axis.tick_params(labelsize=8)
    legend = figure.legend(
        loc="outside lower center", fontsize=8, frameon=False, ncols=1
    )
    for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
        text.set_parse_math(False)
        if handle is not None:
            handle.set(sizes=[30])
    if title:
        say(figure, title)
    return figure


def _alone(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure without a window, with one pair of axes."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _draw_values(
    figure: Figure, axis: Axes, values: np.ndarray, title: str, colors: str, high: float
) -> None:
    """A picture of one variable from 0 on, and its colors beneath."""
    norm = Normalize(0, high)
    shown = np.where(np.isfinite(values), values, 0)
    picture = matplotlib.colormaps[colors](norm(shown), bytes=True)
    picture[..., 3] = np.where(np.isfinite(values), 255, 0)
    draw(axis, picture, title)
    place: Any = axis.inset_axes((0.05, -0.09, 0.9, 0.045))
    above = bool((shown > high).any())
    bar = figure.colorbar(
        ScalarMappable(norm, colors),
        cax=place,
        orientation="horizontal",
        extend="max" if above else "neither",
    )
    ticks = [0, high / 2, high]
    bar.set_ticks(ticks, labels=[f"{tick:.2g}" for tick in ticks])
    bar.ax.tick_params(labelsize=7)


def _upper(values: np.ndarray) -> float:
    """Where the colors end: the 98th percentile, or a little above 0."""
    finite = values[np.isfinite(values)]
    high = float(np.percentile(finite, 98)) if finite.size else 0.0
    return high if high > 0 else 1e-3


def _name_classes(axis: Axes, numbers: np.ndarray, legend: Legend) -> None:
    """The classes beneath a map, the largest first, with their share of it."""
    known = numbers[(numbers >= 0) & (numbers < len(legend))]
    pixels = np.bincount(known.ravel(), minlength=len(legend))
    order = [n for n in np.argsort(-pixels, kind="stable") if pixels[n]]
    handles = []
    for number in order[:_MOST_CLASSES]:
        share = 100 * pixels[number] / max(known.size, 1)
        text = f"{share:.0f} %" if share >= 1 else "< 1 %"
        name = _printable(legend.names[number])
        name = name if len(name) <= 18 else f"{name[:17]}…"
        handles.append(Patch(color=legend.colors[number], label=f"{name} {text}"))
    if not handles:
        return
    shown = axis.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.02),
        ncols=2,
        fontsize=7,
        frameon=False,
        handlelength=1.0,
        handleheight=1.0,
        columnspacing=1.0,
    )
    for text_ in shown.get_texts():
        text_.set_parse_math(False)


def _printable(name: str) -> str:
    """A name on one line, without control characters."""
    return "".join(letter if letter.isprintable() else " " for letter in name)


def _short(count: float) -> str:
    """A number of pixels in at most five letters."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if count >= unit:
            scale = 1e3 if letter == "k" else unit
            return f"{count / scale:.3g}{letter}"
    return f"{count:.0f}"
