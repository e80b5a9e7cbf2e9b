"""Frost: a mean in which nearby pixels weigh more, the more so where the window varies.

    R = sum(w I) / sum(w),   w = exp(-K Ci^2 d)

d is the distance from the pixel in pixels (not a difference of values), K the damping.
Pixels at one distance have one weight, so that they are summed as rings and there is one
exponential a ring.

References:
    Frost, Stiles, Shanmugan, Holtzman (1982), A model for radar images and its
    application to adaptive digital filtering of multiplicative noise, IEEE Transactions
    on Pattern Analysis and Machine Intelligence 4(2), 157-166; with the exponent as in
    Lopes, Touzi, Nezry (1990), IEEE Transactions on Geoscience and Remote Sensing 28(6).
"""

from typing import no_type_check

import numpy as np

from geofuse.rasters.speckle.compiled import compiled
from geofuse.rasters.speckle.windows import advance, start

_LOG2_E = 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 0.693147180369123816490, 1.90821492927058770002e-10


@compiled
@no_type_check
def frost(image, window, looks, damping):
    """Frost filter of a tile (y, x) with its halo, float32."""
    radius = window // 2
    height, width = image.shape[0] - 2 * radius, image.shape[1] - 2 * radius
    result = np.empty((height, width), np.float32)
    known = np.empty(image.shape)
    here = np.empty(image.shape)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            value = np.float64(image[y, x])
            valid = abs(value) < np.inf
            known[y, x] = value if valid else 0.0
            here[y, x] = 1.0 if valid else 0.0
    distances, rings = _rings(radius)
    decay, ring, count = np.empty(width), np.empty(width), np.empty(width)
    total, weights = np.empty(width), np.empty(width)
    sums = start(image, window)
    for y in range(height):
        advance(image, y, window, sums)
        for x in range(width):
            mean = sums.mean[x]
            square = mean * mean
            decay[x] = damping * sums.variance[x] / (square if square > 0.0 else 1.0)
            total[x] = known[y + radius, x + radius]
            weights[x] = here[y + radius, x + radius]
        for index in range(1, distances.size):
            ring[:] = 0.0
            count[:] = 0.0
            for place in range(rings[index - 1, 2], rings[index, 2]):
                down, right = rings[place, 0], rings[place, 1]
                _add(ring, known[y + down, right : right + width])
                _add(count, here[y + down, right : right + width])
            distance = distances[index]
            for x in range(width):
                weight = _exponential(decay[x] * distance)
                total[x] += weight * ring[x]
                weights[x] += weight * count[x]
        for x in range(width):
            valid = here[y + radius, x + radius] > 0.0
            result[y, x] = total[x] / weights[x] if valid else np.nan
    return result


@compiled
@no_type_check
def _add(total, values):
    for x in range(total.size):
        total[x] += values[x]


@compiled
@no_type_check
def _rings(radius):
    """Distances, and (row, column, end) of the pixels at them, by distance.

    Row and column count from the window's corner. `end` in row i is where the pixels at
    the i-th distance end; those of one distance stand in reading order.
    """
    side = 2 * radius + 1
    numbers = np.zeros(2 * radius * radius + 1, np.int64)
    for y in range(side):
        for x in range(side):
            numbers[(y - radius) ** 2 + (x - radius) ** 2] += 1
    rings = np.zeros((side * side, 3), np.int64)
    distances = np.empty(side * side)
    known = place = 0
    for squared in range(numbers.size):
        if numbers[squared] == 0:
            continue
        for y in range(side):
            for x in range(side):
                if (y - radius) ** 2 + (x - radius) ** 2 == squared:
                    rings[place, 0], rings[place, 1] = y, x
                    place += 1
        distances[known] = np.sqrt(squared)
        rings[known, 2] = place
        known += 1
    return distances[:known], rings


@compiled
@no_type_check
def _exponential(decay):
    """exp(-decay) for decay >= 0, to 1e-9: additions and products in a fixed order.

    The system's function may have another last digit for eight pixels at once than for
    one, and so for another tile.
    """
    decay = min(decay, 700.0)
    whole = np.floor(decay * _LOG2_E + 0.5)
    rest = (whole * _LN2_HIGH - decay) + whole * _LN2_LOW  # within half of ln 2
    series = 1.0 / 362880.0
    series = series * rest + 1.0 / 40320.0
    series = series * rest + 1.0 / 5040.0
    series = series * rest + 1.0 / 720.0
    series = series * rest + 1.0 / 120.0
    series = series * rest + 1.0 / 24.0
    series = series * rest + 1.0 / 6.0
    series = series * rest + 0.5
    series = series * rest + 1.0
    series = series * rest + 1.0
    power = (np.int64(1023) - np.int64(whole)) << np.int64(52)  # 2^-whole
    return series * np.int64(power).view(np.float64)
