"""Scenes of a place and a period from a STAC catalog, as a lazy cube on a given grid.

    place, period, collection ──> items ──> each band of each item:
        DN ──gain, offset, nodata of this item──> reflectance ──valid──> align ──> one grid
    items of one day ──first valid pixel──> image of the day ──> cube (time, band, y, x)

Units are applied per item, before anything is put together: scenes of one collection
differ in their offsets, and a mosaic of DN would be wrong by 0.1 on one side of a seam.
Items of several UTM zones are each aligned to the one grid that is asked for. A file is
fetched when its pixels are; one that is missing or damaged is an error, never NaN.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode, urljoin

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer

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
from geofuse.rasters.stac_items import Asset, SceneItem, local_items, period_of

#: Takes the DN (y, x) of a quality file and tells where pixels are usable.
ValidFrom = Callable[[xr.DataArray], xr.DataArray]

_CHUNK = 1024
_PAGE = 100


def search(
    place: Sequence[float] | xr.DataArray,
    period: str | Sequence[str],
    collection: str,
    *,
    catalog: str | os.PathLike[str],
    bands: Sequence[str],
    like: xr.DataArray | GeoBox,
    sensor: Sensor | str | None = None,
    offset: str | float = "auto",
    quality: tuple[str, ValidFrom] | None = None,
    resampling: str | None = None,
    fetcher: Fetcher | None = None,
    most_items: int = 500,
) -> xr.DataArray:
    """Find the scenes of a place and a period, and open them as a lazy cube.

    Args:
        place: Left, bottom, right, top in degrees, left larger than right across 180
            degrees; or an image, whose extent is meant.
        period: `2021-07`, `2021-07-01/2021-07-15`, or a pair of dates, ends included.
        collection: Its name in the catalog.
        catalog: Address of a STAC API, or path of a local catalog, of items, or of a folder
            of these.
        bands: Common names, or keys of assets.
        like: The grid to put all scenes on.
        sensor: Gain, offset and nodata to take in place of those of the items.
        offset: `auto`, as the items say; `applied` or `none` where DN have no offset; or
            reflectance at DN 0.
        quality: Name of the quality asset, and a function from its DN to True where pixels
            are usable; invalid pixels take no part in anything.
        resampling: See `align`.
        fetcher: How remote files are fetched, and from which hosts; needed where the
            catalog is remote, or has remote assets.
        most_items: More are refused.

    Returns:
        Cube (time, band, y, x), one time a day (UTC), NaN where no scene is valid.

    Raises:
        NothingFoundError: No scene answers.
        ParameterError: Place or period are none, or more than `most_items` answer.
        BandMismatchError: A scene lacks a band.
        RasterReadError: An item or a local file is damaged.
        RemoteError: The catalog, or later a file, is missing, late, damaged or not allowed.
        GridMismatchError: A file is not on the grid that its item states, or is rotated.
        CRSMismatchError: Scenes or the grid have no CRS.
        UnknownNameError: There is no such sensor, offset or resampling.
    """
    items = find_items(
        place,
        period,
        collection,
        catalog=catalog,
        fetcher=fetcher,
        most_items=most_items,
    )
    return open_items(
        items,
        bands=bands,
        like=like,
        sensor=sensor,
        offset=offset,
        quality=quality,
        resampling=resampling,
        fetcher=fetcher,
    )


def find_items(
    place: Sequence[float] | xr.DataArray,
    period: str | Sequence[str],
    collection: str,
    *,
    catalog: str | os.PathLike[str],
    fetcher: Fetcher | None = None,
    most_items: int = 500,
) -> list[SceneItem]:
    """Find the scenes of a place and a period, in order of time.

    Args:
        place: See `search`, here and below.
        period: A period, or a pair of dates.
        collection: Its name in the catalog.
        catalog: Address of a STAC API, or a local path.
        fetcher: How remote files are fetched.
        most_items: More are refused.

    Raises:
        NothingFoundError: No scene answers.
        ParameterError: Place or period are none, or too many scenes answer.
        RasterReadError: An item is damaged.
        RemoteError: The catalog cannot be reached, or is not allowed.
    """
    boxes = boxes_of(place)
    first, last = period_of(period)
    address = os.fspath(catalog)
    if address.startswith(("https://", "http://")):
        items = _ask(address, boxes, (first, last), collection, fetcher, most_items)
    else:
        items = local_items(address)
    found = {
        item.id: item
        for item in items
        if item.collection == collection
        and first <= item.time <= last
        and any(_meet(own, box) for own in _split(item.bbox) for box in boxes)
    }
    if not found:
        known = sorted({item.collection for item in items})
        raise NothingFoundError(
            f"expected scenes of {collection} in {_words(boxes)} from {str(first)[:10]} to "
            f"{str(last)[:10]}, found none in {address}"
            + (f", which has {', '.join(known)}" if known else "")
            + "; widen the place or the period, or check the collection's name"
        )
    if len(found) > most_items:
        raise ParameterError(
            f"expected at most {most_items} scenes, found {len(found)}; shorten the period, "
            "or give most_items"
        )
    return sorted(found.values(), key=lambda item: (item.time, item.id))


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
        bands: See `search`, here and below.
        like: The grid to put all scenes on.
        sensor: Gain, offset and nodata to take in place of those of the items.
        offset: auto, applied, none, or a number.
        quality: Name of the quality asset, and a function from its DN to usable pixels.
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


def boxes_of(
    place: Sequence[float] | xr.DataArray,
) -> list[tuple[float, float, float, float]]:
    """One box in degrees, or two where a place reaches across 180 degrees.

    >>> boxes_of((170, -20, -170, -10))
    [(170.0, -20.0, 180.0, -10.0), (-180.0, -20.0, -170.0, -10.0)]

    Raises:
        ParameterError: It is no box.
        CRSMismatchError: An image has no CRS.
    """
    if isinstance(place, xr.DataArray):
        grid = grid_of(place)
        crs = _check_crs(grid)
        to_degrees = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
        values = list(to_degrees.transform_bounds(*grid.boundingbox.bbox))
    else:
        values = [float(value) for value in place]
    degrees = len(values) == 4 and all(np.isfinite(values)) and values[1] < values[3]
    if (
        not degrees
        or max(map(abs, values[::2])) > 180
        or max(map(abs, values[1::2])) > 90
    ):
        raise ParameterError(
            f"expected a place as left, bottom, right, top in degrees, found {values}; "
            "across 180 degrees left is larger than right"
        )
    return _split((values[0], values[1], values[2], values[3]))


def _split(
    box: tuple[float, float, float, float],
) -> list[tuple[float, float, float, float]]:
    left, bottom, right, top = box
    if left <= right:
        return [(left, bottom, right, top)]
    return [(left, bottom, 180.0, top), (-180.0, bottom, right, top)]


def _meet(one: Sequence[float], other: Sequence[float]) -> bool:
    return (
        one[0] <= other[2]
        and other[0] <= one[2]
        and one[1] <= other[3]
        and other[1] <= one[3]
    )


def _words(boxes: Sequence[Sequence[float]]) -> str:
    return " and ".join(str(tuple(box)) for box in boxes)


def _ask(
    address: str,
    boxes: Sequence[tuple[float, float, float, float]],
    period: tuple[np.datetime64, np.datetime64],
    collection: str,
    fetcher: Fetcher | None,
    most_items: int,
) -> list[SceneItem]:
    """Search a STAC API, page by page."""
    fetcher = _needed(fetcher, address)
    items: list[SceneItem] = []
    for box in boxes:
        query = {
            "collections": collection,
            "bbox": ",".join(f"{value:.10g}" for value in box),
            "datetime": "/".join(f"{str(end)[:19]}Z" for end in period),
            "limit": str(_PAGE),
        }
        page: str | None = f"{address.rstrip('/')}/search?{urlencode(query)}"
        asked: set[str] = set()
        while page is not None and page not in asked and len(items) <= 2 * most_items:
            asked.add(page)
            answer = _answer(fetcher, page)
            items += [
                SceneItem.from_dict(item, base=page)
                for item in answer.get("features", [])
            ]
            page = _next(answer, page)
    return items


def _answer(fetcher: Fetcher, page: str) -> dict[str, Any]:
    try:
        answer = json.loads(fetcher.text(page))
    except (ValueError, RecursionError) as error:
        raise RemoteError(
            f"expected JSON from {page.split('?')[0]}, found something else ({error}); check "
            "that it is the address of a STAC API"
        ) from error
    if not isinstance(answer, dict) or not isinstance(answer.get("features"), list):
        raise RemoteError(
            f"expected a collection of items from {page.split('?')[0]}, found something "
            "else; check that it is the address of a STAC API"
        )
    return answer


def _next(answer: Mapping[str, Any], page: str) -> str | None:
    for link in answer.get("links") or []:
        if link.get("rel") == "next":
            if str(link.get("method", "GET")).upper() != "GET":
                raise RemoteError(
                    "expected an API whose further pages are asked for with GET, found "
                    "POST; search it with pystac-client and give its items to open_items"
                )
            return urljoin(page, str(link["href"]))
    return None


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
    _check_crs(grid_of(image))
    return image


def _check_crs(grid: GeoBox) -> CRS:
    if grid.crs is None:
        raise CRSMismatchError(
            f"expected a grid with a CRS, found {describe(grid)}; assign it with "
            "image.rio.write_crs"
        )
    return grid.crs.proj


def _needed(fetcher: Fetcher | None, address: str) -> Fetcher:
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
        _needed(fetcher, asset.address).check(asset.address)
    grid = asset.grid
    if not remote or grid is None:
        grid = _north_up(_file_of(asset, fetcher), asset.grid)
    _check_crs(grid)
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
    path = _needed(fetcher, asset.address).file(
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
