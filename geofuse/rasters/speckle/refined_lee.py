"""Refined Lee: statistics from the half of the window that lies along an edge.

The window of 7 by 7 holds nine means of 3 by 3 pixels. Their largest gradient, of four
directions, says how an edge would run; of the two halves along it, that one is taken
whose outer mean is nearer to the middle one. In it

    R = mean + k (I - mean),   k = var(x) / var(I), at least 0
    var(x) = (var(I) - mean^2 Cu^2) / (1 + Cu^2)

so that edges stay sharp and are smoothed along themselves. The directions: an edge that
runs up and down, left and right, and along the two diagonals.

References:
    Lee (1981), Refined filtering of image noise using local statistics, Computer
    Graphics and Image Processing 15(4), 380-389; with the masks and the half windows as
    in Lee, Grunes, de Grandi (1999), Polarimetric SAR speckle filtering and its
    implication for classification, IEEE Transactions on Geoscience and Remote Sensing
    37(5), 2363-2373. Differs: the half window is always used, as in most programs.
"""

from typing import no_type_check

import numpy as np

from geofuse.rasters.speckle.compiled import compiled
from geofuse.rasters.speckle.windows import FLAT

#: The only window of this filter: nine overlapping means of 3 by 3 fill it.
WINDOW = 7


@compiled
@no_type_check
def refined_lee(image, window, looks, damping):
    """Refined Lee filter of a tile (y, x) with a halo of 3 pixels, float32."""
    rows, columns = image.shape
    height, width = rows - 6, columns - 6
    known, here = np.empty((rows, columns)), np.empty((rows, columns))
    missing = 0
    for y in range(rows):
        for x in range(columns):
            value = np.float64(image[y, x])
            valid = abs(value) < np.inf
            known[y, x] = value if valid else 0.0
            here[y, x] = 1.0 if valid else 0.0
            missing += not valid
    means = _means(known, here)
    halves = _halves(columns)
    flat, flat_here = known.ravel(), here.ravel()
    result = np.empty((height, width), np.float32)
    speckle = 1.0 / looks
    for y in range(height):
        for x in range(width):
            if here[y + 3, x + 3] == 0.0:
                result[y, x] = np.nan
                continue
            half = halves[_side(means, y, x)]
            corner = np.uint64(y * columns + x)
            count = 28.0
            if missing:
                count = 0.0
                for place in range(28):
                    count += flat_here[corner + half[place]]
            total, squares = _sums(flat, corner, half)
            mean = total / count
            variance = (squares - total * mean) / max(count - 1.0, 1.0)
            weight = 0.0
            if variance > FLAT * mean * mean:
                scene = (variance - mean * mean * speckle) / (1.0 + speckle)
                weight = max(scene / variance, 0.0)
            result[y, x] = mean + weight * (known[y + 3, x + 3] - mean)
    return result


@compiled
@no_type_check
def _halves(columns):
    """The 28 pixels of each of eight half windows, as places from the window's corner.

    Sides: right, left; above, below; upper right, lower left; upper left, lower right.
    An unsigned place needs no look at whether it counts from the end.
    """
    halves = np.empty((8, 28), np.uint64)
    for side in range(8):
        place = 0
        for y in range(-3, 4):
            for x in range(-3, 4):
                ahead = (x, -y, x - y, -x - y)[side // 2]
                if (ahead >= 0) if side % 2 == 0 else (ahead <= 0):
                    halves[side, place] = (y + 3) * columns + x + 3
                    place += 1
    return halves


@compiled
@no_type_check
def _sums(flat, corner, half):
    """Sum of the values and of their squares: four sums at once, none waits for another."""
    a = b = c = d = 0.0
    aa = bb = cc = dd = 0.0
    for place in range(0, 28, 4):
        value = flat[corner + half[place]]
        a, aa = a + value, aa + value * value
        value = flat[corner + half[place + 1]]
        b, bb = b + value, bb + value * value
        value = flat[corner + half[place + 2]]
        c, cc = c + value, cc + value * value
        value = flat[corner + half[place + 3]]
        d, dd = d + value, dd + value * value
    return (a + b) + (c + d), (aa + bb) + (cc + dd)


@compiled
@no_type_check
def _means(known, here):
    """Mean of 3 by 3 pixels by their upper left one; NaN where none is valid."""
    height, width = known.shape[0] - 2, known.shape[1] - 2
    means = np.empty((height, width))
    total, count = np.empty(width), np.empty(width)
    for y in range(height):
        total[:] = 0.0
        count[:] = 0.0
        for down in range(3):
            for right in range(3):
                for x in range(width):
                    total[x] += known[y + down, x + right]
                    count[x] += here[y + down, x + right]
        for x in range(width):
            means[y, x] = total[x] / count[x] if count[x] > 0.0 else np.nan
    return means


@compiled
@no_type_check
def _side(means, y, x):
    """Number of the half window to use, of eight, by the nine means in the window."""
    middle = means[y + 2, x + 2]
    a, b, c = means[y, x], means[y, x + 2], means[y, x + 4]
    d, e, f = means[y + 2, x], middle, means[y + 2, x + 4]
    g, h, i = means[y + 4, x], means[y + 4, x + 2], means[y + 4, x + 4]
    # Where nothing is valid, nothing differs from the middle.
    a, b, c = _or(a, middle), _or(b, middle), _or(c, middle)
    d, f = _or(d, middle), _or(f, middle)
    g, h, i = _or(g, middle), _or(h, middle), _or(i, middle)
    across = abs((c + f + i) - (a + d + g))
    down = abs((g + h + i) - (a + b + c))
    falling = abs((b + c + f) - (d + g + h))
    rising = abs((a + b + d) - (f + h + i))
    side, best = 0, across
    first, second = f, d
    if down > best:
        side, best, first, second = 2, down, b, h
    if falling > best:
        side, best, first, second = 4, falling, c, g
    if rising > best:
        side, best, first, second = 6, rising, a, i
    if abs(second - e) < abs(first - e):
        side += 1
    return side


@compiled
@no_type_check
def _or(value, instead):
    return instead if np.isnan(value) else value
