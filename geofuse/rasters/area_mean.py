"""Area means on another grid: every pixel of the result is averaged where it lies.

    ┌────┬────┬────┐    A pixel of the result lies slanted over pixels of the source and
    │    │·  ·│    │    is covered with n x n points. The source is taken to slope from
    │   ·│ ·  ·    │    pixel to pixel, as the neighbors say, and the points are averaged:
    ├──·─┼·──·┼─·──┤
    │    · ·  ·    │        mean of  v + dv/dy (y - y0) + dv/dx (x - x0)
    │    │   ·│    │
    └────┴────┴────┘    with v the pixel that the point (y, x) lies in, (y0, x0) its center.

A mean of whole source pixels would be the mean of their centers, which lie up to a tenth
of a pixel off. With the slopes a linear ramp comes out exact, the mean of each source
pixel is kept, and no pixel is left out (second-order conservative remapping: Jones 1999,
Monthly Weather Review 127, 2204-2210). Beside a sharp edge, values may leave the range
of the source by up to an eighth of the step, as with cubic resampling.
"""

import math
from typing import no_type_check

import numpy as np
from affine import Affine
from jaxtyping import Float32, Float64
from numba import njit
from pyproj import Transformer

#: Points of a pixel of the result on a side, at least.
POINTS = 8

#: Places are rounded to this part of a source pixel (half a millimeter for MODIS), so
#: that the same pixel is the same to the bit, whatever block it is computed in.
_GRAIN = 2.0**20


def area_mean(
    block: Float32[np.ndarray, "band y x"],
    corners: Float64[np.ndarray, "2 edges_y edges_x"],
    *,
    points: int,
) -> Float32[np.ndarray, "band edges_y-1 edges_x-1"]:
    """Average an image over quadrilaterals.

    Args:
        block: Values, NaN where invalid.
        corners: Row and column, in pixels of `block` from its upper left corner, of the
            corners of the pixels of the result.
        points: Points on a side of each pixel of the result.

    Returns:
        Means over the points that lie on valid pixels; NaN where none does.
    """
    block = np.ascontiguousarray(block, np.float32)
    result = np.empty(
        (block.shape[0], corners.shape[1] - 1, corners.shape[2] - 1), np.float32
    )
    _average(block, np.ascontiguousarray(corners), points, result)
    return result


def corners_in(
    source: Affine,
    target: Affine,
    shape: tuple[int, int],
    transformer: Transformer | None,
) -> Float64[np.ndarray, "2 edges_y edges_x"]:
    """Rows and columns, in pixels of the source, of the corners of target pixels.

    Args:
        source: Transform of the source.
        target: Transform of the target.
        shape: Rows and columns of the target.
        transformer: From the CRS of the target to that of the source; None for one CRS.
    """
    column, row = np.meshgrid(np.arange(shape[1] + 1.0), np.arange(shape[0] + 1.0))
    x = target.c + column * target.a + row * target.b
    y = target.f + column * target.d + row * target.e
    if transformer is not None:
        x, y = transformer.transform(x, y)
    inverse = ~source
    places = np.stack(
        (
            inverse.f + x * inverse.d + y * inverse.e,
            inverse.c + x * inverse.a + y * inverse.b,
        )
    )
    return np.round(places * _GRAIN) / _GRAIN


def points_for(ratio: float) -> int:
    """Points on a side: several on each source pixel, however many there are.

    On pixels that nest, the same number on each: their mean is the plain mean.

    Args:
        ratio: Side of a pixel of the result in source pixels.
    """
    across = max(1, round(ratio))
    if abs(ratio - across) < 1e-3:
        return across * max(2, math.ceil(POINTS / across))
    return max(POINTS, math.ceil(2.0 * ratio))


@njit(cache=True, nogil=True)
@no_type_check  # a checker around it would come between it and Numba
def _average(
    block: np.ndarray, corners: np.ndarray, points: int, result: np.ndarray
) -> None:
    bands, height, width = block.shape
    for i in range(result.shape[1]):
        for j in range(result.shape[2]):
            top_left, top_right = corners[:, i, j], corners[:, i, j + 1]
            low_left, low_right = corners[:, i + 1, j], corners[:, i + 1, j + 1]
            for band in range(bands):
                total, count = 0.0, 0
                for m in range(points):
                    down = (m + 0.5) / points
                    left_y = top_left[0] + down * (low_left[0] - top_left[0])
                    left_x = top_left[1] + down * (low_left[1] - top_left[1])
                    right_y = top_right[0] + down * (low_right[0] - top_right[0])
                    right_x = top_right[1] + down * (low_right[1] - top_right[1])
                    for n in range(points):
                        along = (n + 0.5) / points
                        y = left_y + along * (right_y - left_y)
                        x = left_x + along * (right_x - left_x)
                        if not (0.0 <= y < height and 0.0 <= x < width):
                            continue  # also where the place is not finite
                        row, column = int(y), int(x)
                        value = block[band, row, column]
                        if math.isnan(value):
                            continue
                        slope_y = slope_x = 0.0
                        if 0 < row < height - 1:
                            slope_y = 0.5 * (
                                np.float64(block[band, row + 1, column])
                                - block[band, row - 1, column]
                            )
                        if 0 < column < width - 1:
                            slope_x = 0.5 * (
                                np.float64(block[band, row, column + 1])
                                - block[band, row, column - 1]
                            )
                        # No slope is known beside an invalid pixel.
                        if math.isnan(slope_y):
                            slope_y = 0.0
                        if math.isnan(slope_x):
                            slope_x = 0.0
                        total += (
                            value
                            + slope_y * (y - row - 0.5)
                            + slope_x * (x - column - 0.5)
                        )
                        count += 1
                result[band, i, j] = total / count if count else np.nan
