"""Images of several dates as one cube (time, band, y, x), lazily.

    2021-05-01  (band, y, x) ─┐
    2021-07-01  (band, y, x) ─┼──>  (time, band, y, x)     one grid, dates in order
    2021-09-01  (band, y, x) ─┘

`zarr_store` writes and reads such cubes.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from geofuse.errors import (
    BandMismatchError,
    DateMismatchError,
    GridMismatchError,
    ParameterError,
)
from geofuse.rasters.grid import check_same_grid, coordinates, grid_of


def stack_dates(images: Sequence[xr.DataArray]) -> xr.DataArray:
    """Stack dated images into a cube (time, band, y, x), lazily.

    Args:
        images: Images (band, y, x) on one grid, each with a scalar `time` and the same
            bands, in any order.

    Returns:
        The cube, dates in order, bands in the order of the earliest image, one date a
        chunk. Attributes that all images share are kept.

    Raises:
        ParameterError: There is no image.
        DateMismatchError: An image has no date, or two have the same one.
        GridMismatchError: Grids differ, or an image is not (band, y, x).
        CRSMismatchError: CRS differ.
        BandMismatchError: Bands differ.
    """
    if not images:
        raise ParameterError("expected at least one image, found none; give a list")
    times = [_time_of(image) for image in images]
    order = np.argsort(np.array(times), kind="stable")
    images = [images[i] for i in order]
    times = [times[i] for i in order]
    for earlier, later in pairwise(times):
        if earlier == later:
            raise DateMismatchError(
                f"expected one image a date, found two of {earlier}; put them together "
                "first, or leave one out"
            )
    first = images[0]
    bands = [str(band) for band in first["band"].values]
    layers = []
    for image, time in zip(images, times, strict=True):
        name = f"the image of {str(time)[:10]}"
        check_same_grid(image, first, names=(name, "the first one"))
        found = [str(band) for band in image["band"].values]
        if sorted(found) != sorted(bands) or len(set(found)) != len(found):
            raise BandMismatchError(
                f"expected the same bands at every date, found {found} in {name} and "
                f"{bands} in the first one; open all with the same bands=[…]"
            )
        image = image.isel(band=[found.index(band) for band in bands])
        data = image.data
        if not isinstance(data, da.Array):
            data = da.from_array(np.asarray(data), chunks=(-1, 1024, 1024))
        layers.append(data)
    chunks = {-1: layers[0].chunks[-1], -2: layers[0].chunks[-2], 0: -1}
    cube = da.stack([layer.rechunk(chunks) for layer in layers])
    shared = {
        name: value
        for name, value in first.attrs.items()
        if all(
            name in image.attrs and _same(image.attrs[name], value) for image in images
        )
    }
    return xr.DataArray(
        cube,
        dims=("time", "band", "y", "x"),
        coords={
            "time": np.array(times, "datetime64[ns]"),
            "band": bands,
            **coordinates(grid_of(first)),
        },
        attrs=shared,
        name=first.name,
    )


def _time_of(image: xr.DataArray) -> np.datetime64:
    if image.dims != ("band", "y", "x"):
        raise GridMismatchError(
            f"expected images (band, y, x), found {image.dims}; use "
            "image.transpose('band', 'y', 'x') or image.expand_dims('band')"
        )
    if (
        "time" not in image.coords
        or image["time"].ndim
        or np.isnat(image["time"].values)
    ):
        raise DateMismatchError(
            "expected images with a scalar 'time', found one without; open it with "
            "date='2021-07-01', or use image.assign_coords(time=…)"
        )
    time: Any = image["time"].values.astype("datetime64[ns]")
    return np.datetime64(time)


def _same(one: object, other: object) -> bool:
    return bool(np.array_equal(np.asarray(one), np.asarray(other)))
