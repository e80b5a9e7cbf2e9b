"""Sums over the windows around the pixels of a row, of valid pixels only.

A window of 7 by 7 around each of the pixels of a row is 7 sums along x, one of each row,
added along y. The sums along x of a row are kept while it is within reach:

    rows of the image      sums along x (a ring of 7 rows)     sums over the window
    ─────────────────  ──>  ─────────────────────────────  ──>  ────────────────────
      each row once              added in order from top            one row of pixels

No running sum is moved along: what rounding has left in it would depend on where it
started, and so on the tile. Here each sum has its own additions in a fixed order, which
the compiler does for many pixels at once.
"""

from typing import NamedTuple, no_type_check

import numpy as np

from geofuse.rasters.speckle.compiled import compiled

#: Below this part of the squared mean, a variance is what rounding leaves of equal pixels.
FLAT = 1e-12


class Sums(NamedTuple):
    """Sums along x of the rows within reach, and room for one row of statistics.

    Attributes:
        known: Value, 0 where invalid, of the row last added; with the halo.
        here: 1 where valid, else 0; likewise.
        values: Sums of the values of each row in the ring.
        squares: Sums of their squares.
        counts: Numbers of valid pixels.
        mean: Mean over the window of each pixel of a row, 0 if no pixel is valid.
        variance: Sample variance (divided by n - 1), 0 where it is rounding or n < 2.
    """

    known: np.ndarray
    here: np.ndarray
    values: np.ndarray
    squares: np.ndarray
    counts: np.ndarray
    mean: np.ndarray
    variance: np.ndarray


@compiled
@no_type_check
def start(image, window):
    """Room for the sums of an image (y, x) with a halo, and its first rows in it."""
    wide = image.shape[1]
    width = wide - window + 1
    sums = Sums(
        np.empty(wide),
        np.empty(wide),
        np.empty((window, width)),
        np.empty((window, width)),
        np.empty((window, width)),
        np.empty(width),
        np.empty(width),
    )
    for row in range(window - 1):
        _add_row(image, row, window, sums)
    return sums


@compiled
@no_type_check
def advance(image, row, window, sums):
    """Mean and variance around the pixels of a row of the tile, into `sums`."""
    _add_row(image, row + window - 1, window, sums)
    width = sums.mean.size
    total, squares = sums.mean, sums.variance
    counts = sums.known[:width]  # no longer needed
    slot = row % window
    for x in range(width):
        total[x] = sums.values[slot, x]
        squares[x] = sums.squares[slot, x]
        counts[x] = sums.counts[slot, x]
    for step in range(1, window):
        slot = (row + step) % window
        for x in range(width):
            total[x] += sums.values[slot, x]
            squares[x] += sums.squares[slot, x]
            counts[x] += sums.counts[slot, x]
    for x in range(width):
        mean = total[x] / max(counts[x], 1.0)
        variance = (squares[x] - total[x] * mean) / max(counts[x] - 1.0, 1.0)
        sums.variance[x] = variance if variance > FLAT * mean * mean else 0.0
        sums.mean[x] = mean


@compiled
@no_type_check
def _add_row(image, row, window, sums):
    """Put the sums along x of a row into the ring."""
    width = sums.mean.size
    known, here = sums.known, sums.here
    for x in range(known.size):
        value = np.float64(image[row, x])
        valid = abs(value) < np.inf
        known[x] = value if valid else 0.0
        here[x] = 1.0 if valid else 0.0
    slot = row % window
    values, squares, counts = sums.values, sums.squares, sums.counts
    for x in range(width):
        values[slot, x] = known[x]
        squares[slot, x] = known[x] * known[x]
        counts[slot, x] = here[x]
    for step in range(1, window):
        for x in range(width):
            values[slot, x] += known[x + step]
            squares[slot, x] += known[x + step] * known[x + step]
            counts[slot, x] += here[x + step]
