"""Parcels of any size: Voronoi cells, and rectangles cut along a direction of their own.

Each function numbers the pixels of a plane, 0 to KINDS - 1; a number is drawn by hashing,
so two parcels far apart may share one.
"""

import numpy as np
from jaxtyping import Float32, Int32

from geofuse.synthetic.noise import Noise

KINDS = 4096  # tables of the properties of parcels have this many rows


def draw_parcels(
    rng: np.random.Generator, shape: tuple[int, int], spacing: float
) -> Int32[np.ndarray, "y x"]:
    """Parcels of one of three shapes: cells, strips, or strips within cells.

    Args:
        rng: Where all is drawn from.
        shape: Rows and columns.
        spacing: How wide a parcel is, in pixels; strips are 1 to 4 times as long.
    """
    y, x = np.indices(shape, np.float32)
    bend = np.float32(rng.choice((0.0, 0.15, 0.4)) * spacing)
    if bend:
        y += bend * smooth_field(rng, shape, 1.5 * spacing, 2)
        x += bend * smooth_field(rng, shape, 1.5 * spacing, 2)
    form = rng.choice(("cells", "strips", "both"), p=(0.3, 0.3, 0.4))
    if form == "cells":
        return _cells(rng, y, x, spacing)
    if form == "strips":
        return _strips(rng, y, x, np.zeros(shape, np.int32), spacing)
    return _strips(rng, y, x, _cells(rng, y, x, 5 * spacing), spacing)


def smooth_field(
    rng: np.random.Generator, shape: tuple[int, int], wavelength: float, octaves: int
) -> Float32[np.ndarray, "y x"]:
    """Smooth noise of mean 0 and variance 1 over the plane; wavelength in pixels."""
    seed = int(rng.integers(2**31))
    return Noise(seed, "field", shape, wavelength, octaves).rows(slice(0, shape[0]))


def _cells(
    rng: np.random.Generator,
    y: Float32[np.ndarray, "y x"],
    x: Float32[np.ndarray, "y x"],
    spacing: float,
) -> Int32[np.ndarray, "y x"]:
    """Voronoi cells of a jittered lattice."""
    spacing = max(spacing, 2.0)
    y, x = y / np.float32(spacing), x / np.float32(spacing)
    row, column = np.floor(y).astype(np.int32), np.floor(x).astype(np.int32)
    row_first, column_first = int(row.min()) - 1, int(column.min()) - 1
    rows = int(row.max()) - row_first + 2
    columns = int(column.max()) - column_first + 2
    site_y, site_x = rng.uniform(0.05, 0.95, (2, rows * columns)).astype(np.float32)
    numbers = rng.integers(0, KINDS, rows * columns).astype(np.int32)
    home = (row - row_first) * columns + (column - column_first)
    y -= row
    x -= column
    nearest = np.full(y.shape, np.inf, np.float32)
    cell = home.copy()
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            site = home + np.int32(down * columns + right)
            away_y = site_y[site] + np.float32(down) - y
            away_x = site_x[site] + np.float32(right) - x
            distance = away_y * away_y + away_x * away_x
            closer = distance < nearest
            np.copyto(nearest, distance, where=closer)
            np.copyto(cell, site, where=closer)
    return numbers[cell]


def _strips(
    rng: np.random.Generator,
    y: Float32[np.ndarray, "y x"],
    x: Float32[np.ndarray, "y x"],
    region: Int32[np.ndarray, "y x"],
    spacing: float,
) -> Int32[np.ndarray, "y x"]:
    """Rectangles along the direction of their region, in rows like bricks."""
    angle = rng.uniform(0, np.pi, KINDS)
    cosine, sine = (f(angle).astype(np.float32) for f in (np.cos, np.sin))
    width = (spacing * rng.uniform(0.7, 1.4, KINDS)).astype(np.float32)
    length = width * rng.uniform(1, 4, KINDS).astype(np.float32)
    phase = rng.uniform(0, 1, KINDS).astype(np.float32)
    numbers = rng.integers(0, KINDS, KINDS).astype(np.int32)
    along = x * cosine[region] + y * sine[region]
    across = y * cosine[region] - x * sine[region]
    row = np.floor(across / length[region]).astype(np.int32)
    brick = (region + 61 * row) % KINDS
    number = np.floor(along / width[region] + phase[brick]).astype(np.int32)
    return numbers[(numbers[brick] + 7 * number) % KINDS]
