"""Scenes of a place and a period from a STAC catalog: an API, or local files.

    place, period, collection ──> items ──> `scenes`: lazy cube (time, band, y, x)

A search asks an API page by page, or looks through local items, which needs no network. A
place across 180 degrees is looked for on both sides. Items of several UTM zones are each
aligned to the one grid that is asked for. Units are applied per item, before anything is
put together: scenes of one collection differ in their offsets, and a mosaic of DN would be
wrong by 0.1 on one side of a seam.
"""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode, urljoin

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from geofuse.errors import NothingFoundError, ParameterError, RemoteError
from geofuse.rasters.fetch import Fetcher
from geofuse.rasters.grid import grid_of
from geofuse.rasters.scenes import ValidFrom, crs_of, needed, open_items
from geofuse.rasters.sensors import Sensor
from geofuse.rasters.stac_items import SceneItem, local_items, period_of

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
        crs = crs_of(grid)
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
    fetcher = needed(fetcher, address)
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
