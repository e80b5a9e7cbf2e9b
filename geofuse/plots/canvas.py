"""Figures of several pictures: their places, titles, scale bars and color bars."""

import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from geofuse.plots.pictures import ERROR_COLORS, ErrorMaps, in_meters
from geofuse.rasters.grid import grid_of

#: Pictures side by side in a panel.
COLUMNS = 6

_HATCHED = {"facecolor": "0.86", "edgecolor": "0.6", "hatch": "////", "linewidth": 0}
_INCHES = 2.4  # side of a picture in a panel


def figure_of(rows: int, columns: int) -> tuple[Figure, Iterator[Axes]]:
    """A figure without a window, and places for pictures in reading order."""
    # One or two pictures alone may be larger than many.
    inches = max(_INCHES, 7 / columns - 1) if rows == 1 else _INCHES
    size = (columns * inches, rows * (inches + 0.28) + 0.6)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    return figure, iter(axes.flat)


def draw(axis: Axes, picture: np.ndarray, name: str) -> None:
    """A picture over a hatched ground, which is seen where it is transparent."""
    axis.set_axis_on()
    axis.set(xticks=[], yticks=[])
    axis.patch.set(**_HATCHED)
    for spine in axis.spines.values():
        spine.set(color="0.6", linewidth=0.5)
    axis.imshow(picture, interpolation="nearest")
    axis.set_title(_plain(name), fontsize=9, parse_math=False)


def scale_bar(axis: Axes, image: xr.DataArray) -> None:
    """A bar of a round length in the lower left corner, for grids in meters."""
    grid = grid_of(image)
    if not in_meters(image):
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


def color_bar(
    figure: Figure, axis: Axes, drawn: ErrorMaps, *, alone: bool = False
) -> None:
    """The colors of errors beside a picture, or in a place of their own."""
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


def say(figure: Figure, text: str) -> None:
    """A title in lines that are no wider than the figure."""
    letters = int(13 * figure.get_figwidth())  # of 10 points, 5.5 points wide
    lines = [
        part
        for line in text.splitlines()
        for part in textwrap.wrap(_plain(line), letters)
    ]
    figure.suptitle("\n".join(lines), fontsize=10, parse_math=False)


def in_words(view: xr.DataArray, bands: Sequence[str]) -> str:
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


def _plain(text: str) -> str:
    """A name on one line, without control characters."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
