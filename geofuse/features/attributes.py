"""What connected filters measure of a region: size, extent, spread, shape.

Each attribute is a few integers a pixel that are added up (or whose largest is taken)
over a region, and a formula of the totals. Integers, because their sums do not depend
on the order in which pixels are added: regions are put together from several tiles, and
the decision about them must be the same bits however the image was cut.

    area       number of pixels
    diameter   longer side of the bounding box, pixels
    diagonal   diagonal of the bounding box, pixels
    std        standard deviation of the gray values, their unit
    inertia    first moment invariant of Hu: spread in space / area; 1/(2 pi) = 0.159
               for a disk, more for long and ragged regions

The first three *increase*: a region has no less of them than the regions within it.

References:
    Dalla Mura, M. et al. (2010). Morphological attribute profiles for the analysis of
    very high resolution images. IEEE TGRS 48(10), 3747-3762.
    Hu, M.-K. (1962). Visual pattern recognition by moment invariants. IRE Trans. IT 8.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from geofuse.errors import ParameterError

#: Half of the bits of a squared gray value: squares are added in two parts.
_HALF = 31


@dataclass(frozen=True)
class Pixels:
    """What attributes may look at, raveled.

    Attributes:
        values: (pixel,) float64, gray values, 0 where invalid.
        rows: (pixel,) int64, row in the image.
        columns: (pixel,) int64, column in the image.
    """

    values: np.ndarray
    rows: np.ndarray
    columns: np.ndarray


@dataclass(frozen=True)
class Attribute:
    """How to measure regions.

    Attributes:
        contributions: (pixels, unit) -> (column, pixel) int64, what each pixel adds.
        measure: ((region, column) int64 totals, unit) -> (region,) float64.
        increasing: Whether a region has no less of it than the regions within it.
        largest: Whether totals are largest contributions instead of sums.
        unit_of: Word for the unit of the thresholds.
    """

    contributions: Callable[[Pixels, float], np.ndarray]
    measure: Callable[[np.ndarray, float], np.ndarray]
    increasing: bool
    largest: bool
    unit_of: str


def rounding_unit(thresholds: tuple[float, ...]) -> float:
    """What gray values are rounded to before their spread is measured.

    The largest power of two that is at most 1 and at most a 1024th of the smallest
    threshold: whole numbers are never rounded, and the spread is off by less than a
    3000th of the threshold.

    Args:
        thresholds: Positive, in the unit of the gray values.
    """
    return float(2.0 ** np.floor(np.log2(min(1.0, min(thresholds) / 1024))))


def _ones(pixels: Pixels, unit: float) -> np.ndarray:
    return np.ones((1, pixels.rows.size), np.int64)


def _count(totals: np.ndarray, unit: float) -> np.ndarray:
    return totals[:, 0].astype(np.float64)


def _box(pixels: Pixels, unit: float) -> np.ndarray:
    return np.stack([-pixels.rows, pixels.rows, -pixels.columns, pixels.columns])


def _sides(totals: np.ndarray) -> np.ndarray:
    """(side, region) float64: height and width in pixels."""
    return (totals[:, 0::2] + totals[:, 1::2] + 1).T.astype(np.float64)


def _longer_side(totals: np.ndarray, unit: float) -> np.ndarray:
    return _sides(totals).max(axis=0)


def _diagonal(totals: np.ndarray, unit: float) -> np.ndarray:
    height, width = _sides(totals)
    return np.sqrt(height**2 + width**2)


def _powers(pixels: Pixels, unit: float) -> np.ndarray:
    rounded = np.rint(pixels.values / unit)
    largest = np.abs(rounded).max(initial=0.0)
    if largest >= 2.0**_HALF:
        raise ParameterError(
            f"expected thresholds of `std` in the unit of the gray values, which reach "
            f"{largest * unit:g}; found one so small that values would be rounded to "
            f"{unit:g}: choose larger ones, or subtract what all values share"
        )
    whole = rounded.astype(np.int64)
    square = whole**2
    return np.stack(
        [np.ones_like(whole), whole, square >> _HALF, square & (2**_HALF - 1)]
    )


def _deviation(totals: np.ndarray, unit: float) -> np.ndarray:
    count, total, upper, lower = totals.T.astype(np.float64)
    variance = (upper * 2.0**_HALF + lower) / count - (total / count) ** 2
    return unit * np.sqrt(np.maximum(variance, 0.0))


def _moments(pixels: Pixels, unit: float) -> np.ndarray:
    rows, columns = pixels.rows, pixels.columns
    return np.stack([np.ones_like(rows), rows, columns, rows**2 + columns**2])


def _inertia(totals: np.ndarray, unit: float) -> np.ndarray:
    count, rows, columns, squares = totals.T.astype(np.float64)
    spread = squares / count - (rows / count) ** 2 - (columns / count) ** 2
    return np.maximum(spread, 0.0) / count


ATTRIBUTES = {
    "area": Attribute(_ones, _count, True, False, "pixels"),
    "diameter": Attribute(_box, _longer_side, True, True, "pixels"),
    "diagonal": Attribute(_box, _diagonal, True, True, "pixels"),
    "std": Attribute(_powers, _deviation, False, False, "the unit of the image"),
    "inertia": Attribute(_moments, _inertia, False, False, "no unit"),
}
