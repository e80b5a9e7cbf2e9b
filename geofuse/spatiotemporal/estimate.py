"""What a prediction will cost, before it is begun: time, memory and disk."""

import math
import os
import time
from dataclasses import dataclass

import numpy as np
import xarray as xr

from geofuse.pairs import FusionInputs, Pair
from geofuse.spatiotemporal.method import FusionMethod

#: Copies of a window that are held at once: read, assembled, stacked, and inside XLA.
_COPIES = 6

#: Tiles, and two files that are a third larger; deflate may save a part of one.
_FILES_OF_A_PRODUCT = 4


@dataclass(frozen=True)
class Estimate:
    """The cost of a prediction.

    Attributes:
        tiles: Number of tiles.
        seconds: Time to compute them, without reading and writing.
        memory: Bytes of memory beside what the program itself takes.
        disk: Most bytes of disk at a time: the tiles, the file that is assembled of them
            and the product, the last two with their overviews.
    """

    tiles: int
    seconds: float
    memory: int
    disk: int

    def __str__(self) -> str:
        minutes = self.seconds / 60
        length = f"{self.seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min"
        return (
            f"{self.tiles} tiles: about {length}, {self.memory / 2**30:.1f} GB of memory, "
            f"{self.disk / 2**30:.1f} GB of disk"
        )


def estimate(
    method: FusionMethod,
    inputs: FusionInputs,
    product: xr.Dataset,
    workers: int | None = None,
) -> Estimate:
    """Estimate the cost of computing a product, by timing one tile of random numbers.

    Nothing of the inputs is read.

    Args:
        method: The method.
        inputs: Its inputs.
        product: What `method.predict(inputs)` gave.
        workers: Threads; by default one a processor.
    """
    image = next(iter(product.data_vars.values()))
    heights, widths = image.chunks[-2:]  # type: ignore[index]
    tiles = len(heights) * len(widths)
    side = max(max(heights), max(widths))
    trial = method.predict(
        _noise(inputs, side), tile=side, outputs=tuple(map(str, product.data_vars))
    )
    trial.compute()  # compiles, and is not timed
    begin = time.perf_counter()
    trial.compute()
    seconds = (time.perf_counter() - begin) * tiles
    window = side + 2 * method.trim(inputs.scale)
    images = 2 * len(inputs.pairs) + 1
    threads = workers or os.cpu_count() or 1
    bands = len(inputs.bands)
    held = window**2 * images * bands * 4 * _COPIES * threads
    disk = sum(
        math.prod(v.shape) * v.dtype.itemsize for v in product.data_vars.values()
    )
    return Estimate(tiles, seconds, held, disk * _FILES_OF_A_PRODUCT)


def _noise(inputs: FusionInputs, side: int) -> FusionInputs:
    """Inputs of one tile, like the given ones but of random numbers."""
    generator = np.random.default_rng(0)
    axes = {"y": np.arange(side) + 0.5, "x": np.arange(side) + 0.5}

    def like(image: xr.DataArray) -> xr.DataArray:
        values = generator.random((image.sizes["band"], side, side), np.float32)
        coords = {"band": image["band"].values, "time": image["time"].values, **axes}
        return xr.DataArray(values, dims=("band", "y", "x"), coords=coords)

    pairs = [Pair(like(pair.fine), like(pair.coarse)) for pair in inputs.pairs]
    return FusionInputs(pairs, like(inputs.coarse), inputs.scale, inputs.offset)
