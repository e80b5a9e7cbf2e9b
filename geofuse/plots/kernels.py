"""Figures of kernels: what several methods make of the ground around one pixel.

    kernel_panel(kernels, fine, y=…, x=…)

The fine image lies beneath in gray, and a weight is the stronger in color the larger it is:
red adds, blue subtracts. All kernels share one scale, on which colors grow with the root of
the weight; else the pixel itself would be all there is to see.
"""

import math
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import xarray as xr
from affine import Affine
from dask.base import compute
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.colors import FuncNorm, ListedColormap
from matplotlib.figure import Figure
from odc.geo.geobox import GeoBox

from geofuse.errors import ParameterError
from geofuse.plots.canvas import COLUMNS, draw, figure_of, in_words, say, scale_bar
from geofuse.plots.pictures import ERROR_COLORS, composite, decimated
from geofuse.rasters.grid import grid_of, place

#: Share of the limit below which a negative weight is hardly seen.
_FAINT = 0.01


def kernel_panel(
    kernels: Mapping[str, xr.DataArray],
    fine: xr.DataArray,
    *,
    y: int,
    x: int,
    radius: int | None = None,
    bands: Sequence[str] | None = None,
    title: str = "",
) -> Figure:
    """Draw the kernels of several methods at one pixel, over the fine image.

    Args:
        kernels: Kernels (dy, dx) by the name to show; of (band, dy, dx), as
            `geofuse.spatiotemporal.explain.implicit_kernel` gives them, the predicted band
            is drawn.
        fine: The fine base image (band, y, x), lazy or not, NaN where invalid.
        y: Row of the pixel in it, from 0.
        x: Column of the pixel in it, from 0.
        radius: Half the side of the ground that is shown, in pixels; by default as far as
            the largest kernel reaches.
        bands: Three bands of the first picture, or one; see `true_or_false_color`.
        title: First line of the title.

    Raises:
        ParameterError: There is no kernel, one has more dimensions than that, the pixel lies
            outside, or the radius is not positive.
        UnknownNameError: The image has no such band.
        GridMismatchError: The image is not on a regular grid.
    """
    if not kernels:
        raise ParameterError(
            "expected at least one kernel, found none; give a name and one"
        )
    height, width = fine.shape[-2:]
    if not (0 <= y < height and 0 <= x < width):
        raise ParameterError(
            f"expected a pixel in rows 0 to {height - 1} and columns 0 to {width - 1}, "
            f"found row {y}, column {x}"
        )
    own = {name: _own_band(kernel) for name, kernel in kernels.items()}
    if radius is None:
        radius = max(1, *(int(abs(kernel["dy"]).max()) for kernel in own.values()))
    if radius < 1:
        raise ParameterError(f"expected a radius of 1 pixel or more, found {radius}")
    weights = {name: _window_of(kernel, radius) for name, kernel in own.items()}
    limit = _limit(list(weights.values()), radius)
    view = decimated(_ground(fine, y, x, radius))
    colors = composite({"fine": view}, bands=bands)
    told = [str(kernel.attrs.get("predicted_band")) for kernel in own.values()]
    known = [band for band in told if band in view["band"].values]
    gray = composite({"fine": view}, bands=known[:1] or colors.bands[:1])
    beneath = _faded(gray.pictures["fine"])

    count = len(weights) + 1
    columns = min(COLUMNS, count)
    figure, axes = figure_of(math.ceil(count / columns), columns)
    first = next(axes)
    draw(first, colors.pictures["fine"], "fine image")
    scale_bar(first, view)
    _mark(first, radius)
    for (name, weight), axis in zip(weights.items(), axes, strict=False):
        draw(axis, beneath, name)
        axis.imshow(_colored(weight, limit), interpolation="nearest")
        _mark(axis, radius)
    signed = any((weight < -_FAINT * limit).any() for weight in weights.values())
    _weight_bar(figure, axis, limit, signed=signed)
    words = f"weight of each pixel in the predicted one; {in_words(view, colors.bands)}"
    say(figure, f"{title}\n{words}" if title else words)
    return figure


def _own_band(kernel: xr.DataArray) -> xr.DataArray:
    """The kernel (dy, dx) of the predicted band in itself."""
    band = kernel.attrs.get("predicted_band")
    if "band" in kernel.dims and band in kernel["band"].values:
        kernel = kernel.sel(band=band)
    if set(kernel.dims) != {"dy", "dx"}:
        raise ParameterError(
            f"expected a kernel (dy, dx), found {kernel.dims}; select a band or a pixel"
        )
    return kernel.transpose("dy", "dx")


def _window_of(kernel: xr.DataArray, radius: int) -> Float[np.ndarray, "y x"]:
    """The kernel within the radius, 0 where it does not reach."""
    reach = np.arange(-radius, radius + 1)
    return kernel.reindex(dy=reach, dx=reach, fill_value=0).values.astype(np.float64)


def _limit(weights: Sequence[np.ndarray], radius: int) -> float:
    """The weight at which colors end: the largest of all but the pixel itself."""
    sizes = np.abs(np.stack(weights))
    sizes = np.where(np.isfinite(sizes), sizes, 0.0)
    center = sizes[:, radius, radius].copy()
    sizes[:, radius, radius] = 0.0
    return float(sizes.max() or center.max() or 1.0)


def _ground(fine: xr.DataArray, y: int, x: int, radius: int) -> xr.DataArray:
    """The image around a pixel, NaN beyond its edge."""
    grid, side = grid_of(fine), 2 * radius + 1
    starts = [
        (start - radius, size)
        for start, size in ((y, grid.shape[0]), (x, grid.shape[1]))
    ]
    rows, columns = (
        slice(max(start, 0), min(start + side, size)) for start, size in starts
    )
    (part,) = compute(fine[..., rows, columns].data)
    pad = [
        (cut.start - start, start + side - cut.stop)
        for cut, (start, _) in zip((rows, columns), starts, strict=True)
    ]
    values = np.pad(part, [(0, 0), *pad], constant_values=np.nan)
    moved = grid.affine @ Affine.translation(x - radius, y - radius)
    window = GeoBox((side, side), moved, grid.crs)
    return place(values, window, coords={"band": fine["band"].values})


def _faded(picture: UInt8[np.ndarray, "y x 4"]) -> UInt8[np.ndarray, "y x 4"]:
    """A picture in its brighter half, so that colors stand out on it."""
    faded = picture.copy()
    faded[..., :3] = 110 + picture[..., :3] // 2
    return faded


def _colored(
    weight: Float[np.ndarray, "y x"], limit: float
) -> Float[np.ndarray, "y x 4"]:
    """Colors of weights, the more opaque the larger they are."""
    unit = _rooted(np.where(np.isfinite(weight), weight, 0.0) / limit).clip(-1, 1)
    picture = np.asarray(matplotlib.colormaps[ERROR_COLORS](0.5 + 0.5 * unit))
    picture[..., 3] = np.minimum(1.0, 1.5 * np.abs(unit))
    return picture


def _rooted(values: np.ndarray) -> np.ndarray:
    return np.sign(values) * np.sqrt(np.abs(values))


def _squared(values: np.ndarray) -> np.ndarray:
    return np.sign(values) * np.square(values)


def _mark(axis: Axes, center: int) -> None:
    """A frame around the predicted pixel, seen on dark and on bright ground."""
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)])
    for color, thickness in (("white", 2.2), ("black", 1.0)):
        axis.plot(*(center + 0.9 * corners.T), color=color, lw=thickness)


def _weight_bar(figure: Figure, axis: Axes, limit: float, *, signed: bool) -> None:
    low = -limit if signed else 0.0
    norm = FuncNorm((_rooted, _squared), vmin=low, vmax=limit)
    every = matplotlib.colormaps[ERROR_COLORS](
        np.linspace(0.0 if signed else 0.5, 1, 256)
    )
    colors = matplotlib.cm.ScalarMappable(norm, ListedColormap(every))
    ticks = [
        value for value in (-limit, -limit / 4, 0, limit / 4, limit) if value >= low
    ]
    bar = figure.colorbar(
        colors,
        extend="both" if signed else "max",
        cax=axis.inset_axes((1.05, 0, 0.06, 1)),
    )
    bar.ax.tick_params(labelsize=7)
    bar.ax.set_yticks(ticks, [f"{tick:.2g}" if tick else "0" for tick in ticks])
    bar.ax.minorticks_off()
