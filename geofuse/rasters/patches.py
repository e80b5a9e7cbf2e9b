"""Squares spread over a pair of images: enough of a scene to estimate a few numbers from.

┌───────────────────────┐   A scene of any size is looked at in at most 8 x 8 patches
│ ▫   ▫   ▫   ▫   ▫   ▫ │   of whole coarse pixels, read one at a time. So neither
│ ▫   ▫   ▫   ▫   ▫   ▫ │   memory nor time grow with the raster, and the differences
│ ▫   ▫   ▫   ▫   ▫   ▫ │   between patches tell how far an estimate is to be trusted.
└───────────────────────┘
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import xarray as xr
from dask.base import compute
from jaxtyping import Float32, Float64

from geofuse.errors import BandMismatchError, GridMismatchError, MissingScaleError
from geofuse.rasters.align import (
    Nesting,
    align,
    find_replication,
    on_one_lattice,
    scale_between,
)
from geofuse.rasters.grid import TOLERANCE, grid_of, shift_between

#: Most patches on a side of the scene, and coarse pixels on a side of a patch.
PATCHES = 8
LEAST_CELLS, MOST_CELLS = 3, 32

#: Share of the fine pixels of a coarse pixel that must be valid for it to count.
LEAST_VALID = 0.75
#: Likewise of the weight of a blur, which reaches under clouds and beyond the edge.
LEAST_BLURRED = 0.25


class Patch(NamedTuple):
    """Whole coarse pixels of a scene.

    Attributes:
        top: First row of fine pixels.
        left: First column of fine pixels.
        rows: Rows of coarse pixels.
        columns: Columns of coarse pixels.
    """

    top: int
    left: int
    rows: int
    columns: int


@dataclass(frozen=True)
class Overlay:
    """A fine and a coarse image on the fine grid, with the bands that both have.

    Attributes:
        fine: Fine image (band, y, x).
        coarse: Coarse image (band, y, x) on the same grid.
        nesting: How coarse pixels lie on the fine ones.
    """

    fine: xr.DataArray
    coarse: xr.DataArray
    nesting: Nesting

    def patches(self) -> list[Patch]:
        """Patches in reading order, spread evenly; side by side where they fill the scene."""
        scale = self.nesting.scale
        spans = []
        for size, start in zip(self.fine.shape[-2:], self.nesting.offset, strict=True):
            cells = (size - start) // scale
            if cells < 1:
                raise GridMismatchError(
                    f"expected at least one whole coarse pixel of {scale} fine ones, found "
                    f"an image of {size} pixels; give a larger one"
                )
            count = min(max(cells // LEAST_CELLS, 1), PATCHES)
            if cells <= PATCHES * MOST_CELLS:  # side by side, all of the scene
                edges = [i * cells // count for i in range(count + 1)]
            else:
                last = cells - MOST_CELLS
                edges = [i * last // (PATCHES - 1) for i in range(PATCHES)]
            ends = edges[1:] if len(edges) > count else [e + MOST_CELLS for e in edges]
            spans.append(
                [
                    (start + first * scale, end - first)
                    for first, end in zip(edges, ends, strict=False)
                ]
            )
        return [
            Patch(top, left, rows, columns)
            for top, rows in spans[0]
            for left, columns in spans[1]
        ]

    def read_coarse(self, patch: Patch) -> Float64[np.ndarray, "band y x"]:
        """The coarse pixels of a patch."""
        scale = self.nesting.scale
        size = (patch.rows * scale, patch.columns * scale)
        return block_means(window_of(self.coarse, patch.top, patch.left, size), scale)

    def read_fine(self, patch: Patch, halo: int) -> Float32[np.ndarray, "band y x"]:
        """The fine pixels of a patch and around it; NaN outside of the image."""
        scale = self.nesting.scale
        size = (patch.rows * scale + 2 * halo, patch.columns * scale + 2 * halo)
        return window_of(self.fine, patch.top - halo, patch.left - halo, size)


def overlay(
    fine: xr.DataArray, coarse: xr.DataArray, *, scale: int | None = None
) -> Overlay:
    """Put a coarse image over a fine one, lazily.

    Args:
        fine: Fine image (band, y, x).
        coarse: Coarse image, on its own grid or on the fine one.
        scale: Coarse GSD / fine GSD; by default what `align` noted, else found from the
            grids or from replication.

    Raises:
        MissingScaleError: The scale is not known.
        BandMismatchError: There is no band that both have.
        GridMismatchError: The images do not meet.
        CRSMismatchError: One image has a CRS and the other none.
    """
    bands = [str(band) for band in fine["band"].values]
    others = [str(band) for band in coarse["band"].values]
    common = [band for band in bands if band in others]
    if not common:
        raise BandMismatchError(
            f"expected a band that both images have, found {bands} and {others}; name "
            "the same bands when opening them"
        )
    fine = fine.isel(band=[bands.index(band) for band in common])
    coarse = coarse.isel(band=[others.index(band) for band in common])
    source, target = grid_of(coarse), grid_of(fine)
    noted = coarse.attrs.get("scale")
    if on_one_lattice(source, target):
        same = shift_between(source, target) < TOLERANCE
        if noted is not None and scale in (None, noted) and same:
            row, column = coarse.attrs.get("coarse_offset", (0, 0))
            return Overlay(fine, coarse, Nesting(int(noted), (int(row), int(column))))
        coarse = align(coarse, like=fine)
        found = find_replication(coarse)
        if found is not None and scale in (None, found.scale):
            return Overlay(fine, coarse, found)
        if scale is None:
            raise MissingScaleError(
                "expected to find the scale (coarse GSD / fine GSD), found a coarse image "
                "that lies smoothly on the fine grid; give scale=16, or --scale 16"
            )
        return Overlay(fine, coarse, Nesting(int(scale), (0, 0)))
    scale = scale_between(coarse, fine) if scale is None else scale
    if scale is None:
        raise MissingScaleError(
            "expected a coarse image with larger pixels than the fine one, found "
            "pixels that are not; give the images in the order fine, coarse"
        )
    aligned = align(coarse, like=fine, scale=scale)
    row, column = aligned.attrs["coarse_offset"]
    return Overlay(fine, aligned, Nesting(int(scale), (row, column)))


def window_of(
    image: xr.DataArray, top: int, left: int, size: tuple[int, int]
) -> Float32[np.ndarray, "band y x"]:
    """Read a window that may reach beyond the image; NaN there."""
    rows, columns = image.shape[-2:]
    y = slice(max(top, 0), min(top + size[0], rows))
    x = slice(max(left, 0), min(left + size[1], columns))
    window = np.full((image.shape[0], *size), np.nan, np.float32)
    (part,) = compute(image.data[:, y, x], scheduler="threads")
    inside_y = slice(y.start - top, y.start - top + part.shape[-2])
    inside_x = slice(x.start - left, x.start - left + part.shape[-1])
    window[:, inside_y, inside_x] = part
    return window


def block_means(
    values: Float32[np.ndarray, "band y x"], side: int
) -> Float64[np.ndarray, "band y//{side} x//{side}"]:
    """Means of squares; NaN where fewer than `LEAST_VALID` of a square are valid."""
    bands, rows, columns = values.shape
    squares = values.reshape(bands, rows // side, side, columns // side, side)
    valid = np.isfinite(squares)
    count = valid.sum(axis=(2, 4))
    total = np.where(valid, squares, 0).sum(axis=(2, 4), dtype=np.float64)
    enough = count >= max(1, LEAST_VALID * side * side)
    return np.where(enough, total / np.maximum(count, 1), np.nan)


def sliding_means(
    values: Float32[np.ndarray, "band y x"], side: int, *, blur: int = 1
) -> Float64[np.ndarray, "band rows columns"]:
    """Means of all squares, of the image or of a blurred one.

    The blur is four running means of `blur` pixels, one after another: near a Gaussian of
    `blur_sigma(blur)` pixels, at the cost of four additions.

    Args:
        values: Image, NaN where invalid.
        side: Side of the squares.
        blur: Pixels of a running mean; 1 for none.

    Returns:
        At (y, x) the mean of the square whose upper left pixel is (y + 2 blur - 2,
        x + 2 blur - 2); NaN where fewer than `LEAST_VALID` of its own pixels are valid.
    """
    valid = np.isfinite(values)
    total = _sliding_sums(np.where(valid, values, 0).astype(np.float64), side) / side**2
    weight = _sliding_sums(valid.astype(np.float64), side) / side**2
    reach = 2 * (blur - 1)
    rows, columns = (size - reach for size in weight.shape[-2:])
    enough = weight[:, reach:rows, reach:columns] >= LEAST_VALID
    for _ in range(4 if blur > 1 else 0):
        total, weight = (_sliding_sums(s, blur) / blur**2 for s in (total, weight))
    enough &= weight >= LEAST_BLURRED
    return np.where(enough, total / np.where(enough, weight, 1.0), np.nan)


def blur_sigma(blur: int) -> float:
    """Standard deviation, in pixels, of four running means of `blur` pixels."""
    return math.sqrt((blur**2 - 1) / 3)


def lattice_means(
    values: Float32[np.ndarray, "band y x"],
    side: int,
    *,
    start: tuple[int, int],
    shape: tuple[int, int],
    blur: int,
) -> Float64[np.ndarray, "band rows columns"]:
    """What `sliding_means` gives, for squares side by side only: quicker for one shift.

    Args:
        values: Image, NaN where invalid; `2 blur - 2` pixels around the squares are used.
        side: Side of the squares.
        start: Row and column of the upper left pixel of the first square.
        shape: Rows and columns of squares.
        blur: See `sliding_means`.
    """
    valid = np.isfinite(values)
    known = np.where(valid, values, 0).astype(np.float64)
    share = valid.astype(np.float64)

    def means(of: np.ndarray, blur: int) -> np.ndarray:
        down, along = (
            _weights(size, side, first, count, blur)
            for size, first, count in zip(of.shape[1:], start, shape, strict=True)
        )
        return np.asarray(down @ of @ along.T)

    enough = means(share, 1) >= LEAST_VALID - 1e-9
    weight = means(share, blur)
    enough &= weight >= LEAST_BLURRED
    return np.where(enough, means(known, blur) / np.where(enough, weight, 1.0), np.nan)


def _weights(
    size: int, side: int, start: int, count: int, blur: int
) -> Float64[np.ndarray, "count size"]:
    """Along one axis, the weights of pixels in the blurred mean of each square."""
    kernel = np.ones(side) / side
    for _ in range(4 if blur > 1 else 0):
        kernel = np.convolve(kernel, np.ones(blur) / blur)
    weights = np.zeros((count, size))
    for number in range(count):
        first = start + number * side - 2 * (blur - 1)
        weights[number, first : first + len(kernel)] = kernel
    return weights


def _sliding_sums(values: np.ndarray, side: int) -> np.ndarray:
    """Sums of `side` neighbors along both axes."""
    for axis in (-2, -1):
        ends = np.cumsum(values, axis=axis)
        size = values.shape[axis]
        values = np.take(ends, range(side - 1, size), axis)
        later = [slice(None)] * values.ndim
        later[axis] = slice(1, None)
        values[tuple(later)] -= np.take(ends, range(size - side), axis)
    return values
