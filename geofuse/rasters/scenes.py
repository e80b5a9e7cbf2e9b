"""Scenes of a catalog as a lazy cube: each in its own units, then all on one grid.

    DN of an item ──its gain, offset, nodata──> reflectance ──valid──> align ──> the grid
    items of one day ──first valid pixel──> image of the day ──> cube (time, band, y, x)

A file is fetched when its pixels are first read. One that is missing, damaged, or not on
the grid that its item states is an error, never NaN.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from odc.geo.geobox import GeoBox
from pyproj import CRS

from geofuse.errors import (
    CRSMismatchError,
    GridMismatchError,
    NothingFoundError,
    ParameterError,
    RasterReadError,
    RemoteError,
)
from geofuse.rasters.align import align
from geofuse.rasters.cube import stack_dates
from geofuse.rasters.fetch import Fetcher
from geofuse.rasters.grid import TOLERANCE, describe, grid_of, place, shift_between
from geofuse.rasters.sensors import Sensor, sensor_of
from geofuse.rasters.source import RasterFile, RasterSource, inspect
from geofuse.rasters.stac_items import Asset, SceneItem

#: Takes the DN (y, x) of a quality file and tells where pixels are usable.
ValidFrom = Callable[[xr.DataArray], xr.DataArray]

_CHUNK = 1024


def open_items(
    items: Sequence[Any],
    *,
    bands: Sequence[str],
    like: xr.DataArray | GeoBox,
    sensor: Sensor | str | None = None,
    offset: str | float = "auto",
    quality: tuple[str, ValidFrom] | None = None,
    resampling: str | None = None,
    fetcher: Fetcher | None = None,
) -> xr.DataArray:
    """Open scenes as a lazy cube on one grid.

    Args:
        items: What `find_items` found, items of pystac, or items as mappings (from a
            search of your own, with signed addresses for example).
        bands: Common names, or keys of assets.
        like: The grid to put all scenes on.
        sensor: Gain, offset and nodata to take in place of those of the items.
        offset: auto, applied, none, or a number.
        quality: Name of the quality asset, and a function from its DN to True where pixels
            are usable.
        resampling: See `align`.
        fetcher: How remote files are fetched.

    Raises:
        NothingFoundError: There is no item, or none meets the grid.
        ParameterError: There is no band.
        BandMismatchError: A scene lacks a band.
        RasterReadError: An item or a local file is damaged.
        RemoteError: A file cannot be fetched, or is not of an allowed host.
        GridMismatchError: A file is not on the grid that its item states, or is rotated.
        CRSMismatchError: Scenes or the grid have no CRS.
        UnknownNameError: There is no such sensor, offset or resampling.
    """
    if isinstance(bands, str) or not bands:
        raise ParameterError(f"expected names of bands, found {bands!r}; give a list")
    target = _grid_image(like)
    known = None if sensor is None else sensor_of(sensor)
    scenes: list[tuple[SceneItem, xr.DataArray]] = []
    items = [_as_item(item) for item in items]
    for item in sorted(items, key=lambda item: (item.time, item.id)):
        layers = []
        for band in bands:
            asset = item.asset(band, known, offset)
            opened = _opened(asset, item, fetcher)
            if quality is not None:
                valid = _valid(item, quality, fetcher)
                opened = opened.where(_onto(valid, opened))
            try:
                layers.append(align(opened, like=target, resampling=resampling))
            except GridMismatchError as error:
                if "do not meet" not in str(error):
                    raise
                break  # the box of the item meets the place, its pixels do not
        if len(layers) == len(bands):
            image = xr.concat(layers, dim="band", coords="minimal", compat="override")
            scenes.append((item, image))
    if not scenes:
        raise NothingFoundError(
            f"expected scenes on the grid {describe(grid_of(target))}, found none among "
            f"{len(items)} items; check that the grid lies in the place"
        )
    days: dict[np.datetime64, xr.DataArray] = {}
    for item, image in scenes:
        day = item.time.astype("datetime64[D]")
        # The first valid pixel of a day counts: by time, then by name.
        days[day] = _first_valid(days[day], image) if day in days else image
    cube = stack_dates(
        [
            image.assign_coords(time=day.astype("datetime64[ns]"))
            for day, image in days.items()
        ]
    )
    cube.name = "reflectance"
    cube.attrs = {
        "long_name": f"scenes of {items[0].collection}",
        "items": ", ".join(item.id for item, _ in scenes),
        "grid_mapping": "spatial_ref",
    }
    return cube


def _first_valid(one: xr.DataArray, other: xr.DataArray) -> xr.DataArray:
    return one.copy(data=da.where(da.isnan(one.data), other.data, one.data))


def _as_item(item: Any) -> SceneItem:
    if isinstance(item, SceneItem):
        return item
    return SceneItem.from_dict(item if isinstance(item, Mapping) else item.to_dict())


def _grid_image(like: xr.DataArray | GeoBox) -> xr.DataArray:
    """Any image on the wanted grid."""
    if isinstance(like, xr.DataArray):
        image = like
    else:
        empty = da.zeros((1, *like.shape), dtype=np.float32, chunks=(1, 4096, 4096))
        image = place(empty, like, coords={"band": ["b1"]})
    crs_of(grid_of(image))
    return image


def crs_of(grid: GeoBox) -> CRS:
    """The CRS of a grid, which it must have."""
    if grid.crs is None:
        raise CRSMismatchError(
            f"expected a grid with a CRS, found {describe(grid)}; assign it with "
            "image.rio.write_crs"
        )
    return grid.crs.proj


def needed(fetcher: Fetcher | None, address: str) -> Fetcher:
    """What fetches remote files, which must be given."""
    if fetcher is None:
        raise RemoteError(
            f"expected local files, found {address.split('?')[0]}; to fetch, give "
            "fetcher=geofuse.Fetcher(folder), which names where to keep files"
        )
    return fetcher


def _opened(asset: Asset, item: SceneItem, fetcher: Fetcher | None) -> xr.DataArray:
    """One band of one scene, lazily, on its own grid."""
    remote = asset.remote
    if remote:
        needed(fetcher, asset.address).check(asset.address)
    grid = asset.grid
    if not remote or grid is None:
        grid = _north_up(_file_of(asset, fetcher), asset.grid)
    crs_of(grid)
    size = (int(grid.shape[0]), int(grid.shape[1]))
    source = _AssetSource(asset, fetcher if remote else None, size)
    data = da.from_array(
        source,
        chunks=(1, _CHUNK, _CHUNK),
        name=f"asset-{tokenize(asset, size)}",
        asarray=False,
        meta=np.empty((0, 0, 0), np.float32),
    )
    day = item.time.astype("datetime64[D]").astype("datetime64[ns]")
    return place(data, grid, coords={"band": [asset.band], "time": day})


def _valid(
    item: SceneItem, quality: tuple[str, ValidFrom], fetcher: Fetcher | None
) -> xr.DataArray:
    """Where the quality file of a scene calls pixels usable, on its own grid."""
    name, valid_from = quality
    asset = item.asset(name, Sensor("quality", gain=1.0, offset=0.0), 0.0)
    file = _file_of(asset, fetcher)
    dtype = np.dtype(file.dtype)
    if dtype.kind not in "ui" or dtype.itemsize > 2:
        raise RasterReadError(
            f"expected quality as whole numbers of 8 or 16 bits, found {dtype} in "
            f"{asset.key} of item {item.id}; name another asset"
        )
    image = _opened(_without_nodata(asset), item, fetcher)
    dn = image.isel(band=0, drop=True).astype(dtype)
    return valid_from(dn)


def _onto(valid: xr.DataArray, image: xr.DataArray) -> xr.DataArray:
    """A mask on the grid of a band: pixels are repeated or picked, never mixed."""
    shown = valid.astype(np.float32).expand_dims(band=["valid"])
    moved = align(shown, like=image, resampling="nearest")
    return moved.isel(band=0, drop=True) == 1


def _without_nodata(asset: Asset) -> Asset:
    return replace(asset, gain=1.0, offset=0.0, nodata=None, band="quality")


@dataclass(frozen=True)
class _AssetSource:
    """One band of a scene as an array; its file is fetched when it is first read."""

    asset: Asset
    fetcher: Fetcher | None
    size: tuple[int, int]

    dtype = np.dtype(np.float32)
    ndim = 3

    @property
    def shape(self) -> tuple[int, int, int]:
        return (1, *self.size)

    def __getitem__(self, key: Any) -> np.ndarray:
        file = _file_of(self.asset, self.fetcher)
        _north_up(file, self.asset.grid)
        index = self.asset.index
        gain, offset = self.asset.gain, self.asset.offset
        quality = self.asset.band == "quality"
        stated = () if quality else (self.asset.nodata, file.nodata[index])
        numbers = {float(n) for n in stated if n is not None and not np.isnan(n)}
        return RasterSource(
            file=file,
            indexes=(index,),
            rows=(0, self.size[0]),
            columns=(0, self.size[1]),
            gain=(file.scales[index] if gain is None else gain,),
            offset=(file.offsets[index] if offset is None else offset,),
            nodata=(tuple(sorted(numbers)),),
        )[key]


def _file_of(asset: Asset, fetcher: Fetcher | None) -> RasterFile:
    if not asset.remote:
        if not os.path.exists(asset.address):
            return inspect(asset.address)  # says so
        return _inspected(asset.address, os.stat(asset.address).st_mtime_ns)
    path = needed(fetcher, asset.address).file(
        asset.address,
        ending=".jp2" if asset.address.split("?")[0].endswith(".jp2") else ".tif",
        size=asset.size,
        sha256=asset.sha256,
        verify=inspect,
    )
    return _inspected(str(path), path.stat().st_mtime_ns)


@lru_cache(maxsize=1024)
def _inspected(path: str, changed: int) -> RasterFile:
    return inspect(path)


def _north_up(file: RasterFile, stated: GeoBox | None) -> GeoBox:
    """Grid of a file, if it is the one stated and is read as it lies."""
    grid = GeoBox(file.shape[1:], file.transform, file.crs_wkt)
    transform = file.transform
    if transform.b or transform.d or transform.e > 0:
        raise GridMismatchError(
            f"expected a grid along the axes of its CRS, north up, found another in "
            f"{file.path}; open the file with geofuse.open_optical, or straighten it"
        )
    if stated is not None:
        shift = shift_between(grid, stated)
        if grid.crs != stated.crs or shift >= TOLERANCE:
            raise GridMismatchError(
                f"expected {describe(stated)}, as the item states, found {describe(grid)} in "
                f"{file.path}; the item or the file is wrong: leave it out"
            )
    return grid
