"""What a tile of a global operator needs to know: its place, and its levels.

A tile that only looks at pixels near it does not care where it is. One that must be
told what comes in at its edges does: so a raster of tile numbers goes with the image,
0 outside it.
"""

from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize

from geofuse.features.levels import encode
from geofuse.tiling import Lattice


def number_tiles(tiles: Lattice) -> xr.DataArray:
    """A lazy raster (y, x), int32: the number of the tile of each pixel, from 1.

    Args:
        tiles: How tiles lie on the image; they start at its corner.
    """
    number = da.map_blocks(
        _block_of_numbers,
        columns=tiles.columns,
        chunks=tiles.chunks(),
        dtype=np.int32,
        name=f"tile-numbers-{tokenize(tiles)}",
    )
    return xr.DataArray(number, dims=("y", "x"))


def _block_of_numbers(columns: int, block_info: Any = None) -> np.ndarray:
    row, column = block_info[None]["chunk-location"]
    number = np.int32(row * columns + column + 1)
    return np.broadcast_to(number, block_info[None]["chunk-shape"])


def place_of(number: np.ndarray, halo: int, tiles: Lattice) -> tuple[int, int]:
    """Row and column of a tile, from the numbers in its window.

    Args:
        number: (y, x) window of `number_tiles`.
        halo: Pixels on each side of the tile, outside it.
        tiles: How tiles lie on the image.
    """
    row, column = divmod(int(number[halo, halo]) - 1, tiles.columns)
    return row, column


def core_of(
    window: np.ndarray, halo: int, tiles: Lattice, place: tuple[int, int]
) -> np.ndarray:
    """The tile in a window (…, y, x), cut at the edges of the image."""
    height, width = (s.stop - s.start for s in tiles.core(*place))
    return window[..., halo : halo + height, halo : halo + width]


def window_levels(band: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Levels of a band in a window, uint32: walls where invalid or outside it."""
    return encode(band, number > 0)
