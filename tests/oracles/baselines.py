"""The trivial lines as plain loops over pixels, for one band, in float64."""

import math

import numpy as np


def nearest_valid(fine, coarse_base, coarse, lags):
    """Index of the pair that serves each pixel, or -1: (y x)."""
    pairs, rows, columns = fine.shape
    chosen = np.full((rows, columns), -1)
    for y in range(rows):
        for x in range(columns):
            for k in sorted(range(pairs), key=lambda k: (abs(lags[k]), k)):
                values = fine[k, y, x], coarse_base[k, y, x], coarse[y, x]
                if all(math.isfinite(value) for value in values):
                    chosen[y, x] = k
                    break
    return chosen


def bicubic_change(change, scale, offset):
    """Keys' interpolation (a = -1/2) of the block means of `change`, pixel by pixel."""
    rows, columns = change.shape
    top, left = ((-(-start % scale)) for start in offset)
    result = np.full((rows, columns), np.nan)

    def block(i, j):
        y, x = top + i * scale, left + j * scale
        part = change[max(y, 0) : max(y + scale, 0), max(x, 0) : max(x + scale, 0)]
        valid = part[np.isfinite(part)]
        return valid.mean() if valid.size else math.nan

    def weight(distance):
        t = abs(distance)
        if t <= 1:
            return 1.5 * t**3 - 2.5 * t**2 + 1
        if t < 2:
            return -0.5 * (t**3 - 5 * t**2 + 8 * t - 4)
        return 0.0

    for y in range(rows):
        for x in range(columns):
            i, j = (y - top) // scale, (x - left) // scale
            own = block(i, j)
            place = (y - top + 0.5) / scale - 0.5, (x - left + 0.5) / scale - 0.5
            total = 0.0
            for u in range(i - 2, i + 3):
                for v in range(j - 2, j + 3):
                    value = block(u, v)
                    value = own if math.isnan(value) else value
                    total += weight(place[0] - u) * weight(place[1] - v) * value
            result[y, x] = total
    return result
