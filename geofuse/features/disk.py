"""Erosion by digital disks, exact, at a few operations a pixel and row of the disk.

A disk of radius r is a stack of 2 r + 1 chords. The least of a chord of any length is
the lesser of two chords whose length is a power of two:

        ██████          |-- 8 --|
      ██████████      11 = 8 and 8, overlapping: the least does not mind
      ██████████           |-- 8 --|
        ██████

So each row is looked at log2(2 r + 1) times to tabulate those, whatever the disk, and
each chord takes two looks at the table, in long runs that the processor does many at a
time.

Reference:
    Urbach, E. R., Wilkinson, M. H. F. (2008). Efficient 2-D grayscale morphological
    transformations with arbitrary flat structuring elements. IEEE Transactions on Image
    Processing 17(1), 1-8.
"""

import math

import numpy as np
from numba import njit


def erode(levels: np.ndarray, radius: int) -> np.ndarray:
    """Least level within a distance; walls and what is outside are left out.

    Args:
        levels: (y, x) uint32; 0 is a wall.
        radius: Of the disk dx^2 + dy^2 <= radius^2, in pixels.

    Returns:
        (y, x) uint32; 0 at walls.
    """
    half_widths = np.array(
        [math.isqrt(radius**2 - dy**2) for dy in range(-radius, radius + 1)]
    )
    # Walls wrap around to the highest level, so that nothing is higher.
    eroded = _erode(levels - np.uint32(1), half_widths) + np.uint32(1)
    return np.where(levels == 0, np.uint32(0), eroded)


@njit(cache=True, nogil=True)
def _erode(levels: np.ndarray, half_widths: np.ndarray) -> np.ndarray:
    height, width = levels.shape
    radius = half_widths.size // 2
    powers = 1
    while 1 << powers <= 2 * radius + 1:
        powers += 1
    highest = np.uint32(0xFFFFFFFF)
    padded = width + 2 * radius
    # Row y of the image lies in row y % rows of the table.
    rows = 2 * radius + 1
    table = np.full((rows, powers, padded), highest, np.uint32)
    result = np.full((height, width), highest, np.uint32)
    for y in range(height + radius):
        if y < height:
            line = table[y % rows]
            line[0, radius : radius + width] = levels[y]
            for p in range(1, powers):
                half = 1 << (p - 1)
                _least(line[p, : padded - half], line[p - 1], line[p - 1, half:])
        center = y - radius
        if center < 0:
            continue
        out = result[center]
        for k in range(rows):
            row = center + k - radius
            if row < 0 or row >= height:
                continue
            length = 2 * half_widths[k] + 1
            power = 0
            while 2 << power <= length:
                power += 1
            start = radius - half_widths[k]
            chords = table[row % rows, power]
            _least_of_three(
                out, chords[start:], chords[start + length - (1 << power) :]
            )
    return result


@njit(cache=True, nogil=True)
def _least(out: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    for x in range(out.size):
        out[x] = min(a[x], b[x])


@njit(cache=True, nogil=True)
def _least_of_three(out: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    for x in range(out.size):
        out[x] = min(out[x], min(a[x], b[x]))
