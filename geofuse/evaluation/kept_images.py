"""Predictions kept in files while they are compared, so that memory does not grow with them.

All methods are scored on the pixels that are valid in all of them, so that every prediction
is needed twice: once to find these pixels and once to be scored. Each is computed once, tile
by tile, into a file of plain numbers that is gone when its case is done.
"""

import uuid
from pathlib import Path

import dask.array as da
import numpy as np
import xarray as xr

from geofuse.tiling import stream_tiles

#: Side of the chunks in which a kept image is read again, in pixels.
_CHUNK = 1024


def kept(image: xr.DataArray, folder: Path) -> xr.DataArray:
    """Compute an image tile by tile into a file, and open it lazily.

    Args:
        image: Image whose last two dimensions are y and x, lazy or not.
        folder: Where to; the image can be read as long as it is there.

    Returns:
        The same values, coordinates and attributes.
    """
    path = folder / f"{uuid.uuid4().hex}.npy"
    np.lib.format.open_memmap(path, "w+", dtype=image.dtype, shape=image.shape)
    for tile in stream_tiles({"image": image}):
        # Opened for each tile: mapped pages count as memory until they are let go.
        file = np.load(path, mmap_mode="r+", allow_pickle=False)
        file[(..., *tile.window)] = tile.arrays["image"]
        file.flush()
        del file
    file = np.load(path, mmap_mode="r", allow_pickle=False)
    chunks = (*image.shape[:-2], _CHUNK, _CHUNK)
    return image.copy(data=da.from_array(file, chunks=chunks, name=path.stem))
