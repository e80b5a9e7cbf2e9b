"""Pictures as arrays: colors that may be compared, and how they become a file.

Pictures that are to be compared share one stretch of colors. Invalid pixels are
transparent. Only every n-th pixel is kept, so that a picture of a raster of any size takes
the same memory.
"""

import io
import math
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
import xarray as xr
from dask.base import compute
from jaxtyping import Float, UInt8
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

#: Most pixels of a picture on a side.
VIEW = 800
#: Colors of errors: from negative (blue) over 0 (white) to positive (red).
ERROR_COLORS = "RdBu_r"

_COMPOSITES = (
    ("red", "green", "blue"),
    ("nir", "red", "green"),
    ("swir1", "nir", "red"),
)
# As many as the eye tells apart; more would be noise that doubles the size of a file.
_LEVELS = 63
_ERROR_LEVELS = 64  # even, so that an error of 0 is white


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


def pixel_in_words(image: xr.DataArray) -> str:
    """The side of a pixel with its unit, such as `30 m`."""
    grid = grid_of(image)
    size = f"{abs(grid.affine.a):.4g}"
    if in_meters(image):
        return f"{size} m"
    if grid.crs is not None and grid.crs.geographic:
        return f"{size} degrees"
    return f"{size} map units"


def in_meters(image: xr.DataArray) -> bool:
    """Whether the grid of an image is in meters."""
    crs = grid_of(image).crs
    return crs is not None and crs.projected and crs.units[0] in ("metre", "meter", "m")


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
