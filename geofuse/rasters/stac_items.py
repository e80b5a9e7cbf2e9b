"""What a STAC item says of a scene: where its bands are, on which grid, in which units.

Items are data from elsewhere. Only plain values are taken from them, each checked for its
kind; local files that they name must lie in the folder of the catalog, and remote ones at
an allowed origin (`fetch`). Both ways of telling bands and units are read: `eo:bands` and
`raster:bands` of STAC 1.0, and `bands` of STAC 1.1.
"""

import datetime
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from geofuse.errors import (
    BandMismatchError,
    CRSMismatchError,
    ParameterError,
    RasterReadError,
    UnknownNameError,
    did_you_mean,
)
from geofuse.rasters.sensors import SYNONYMS, Sensor

#: Largest JSON file, and most files of a local catalog.
MOST_BYTES = 64 * 2**20
MOST_FILES = 100_000

OFFSETS = ("auto", "applied", "none")

_IMAGES = ("image/tiff", "image/jp2", "image/vnd.stac.geotiff")


@dataclass(frozen=True)
class Asset:
    """One band in one file of a scene.

    Attributes:
        band: Common name that it was asked for by.
        key: What the item calls the file.
        address: Path of a local file, or address of a remote one.
        index: Number of the band in the file, from 0.
        gain: Physical value per DN, None where the item does not say.
        offset: Physical value at DN 0, likewise.
        nodata: DN of "no measurement", likewise.
        grid: Grid of the file as the item states it, None where it does not.
        size: Bytes of the file, where stated.
        sha256: Digest of the file, where stated.
    """

    band: str
    key: str
    address: str
    index: int = 0
    gain: float | None = None
    offset: float | None = None
    nodata: float | None = None
    grid: GeoBox | None = None
    size: int | None = None
    sha256: str | None = None

    @property
    def remote(self) -> bool:
        """Whether it is to be fetched."""
        return urlsplit(self.address).scheme in ("http", "https")


@dataclass(frozen=True)
class SceneItem:
    """A STAC item.

    Attributes:
        id: Its name in the collection.
        collection: Its collection.
        time: When it was taken, UTC.
        bbox: Left, bottom, right, top in degrees; left exceeds right across 180 degrees.
        properties: What else it says.
        assets: Its files, as it has them.
        base: Address or path of the item, for relative addresses.
        root: Folder that its local files must lie in; None for a remote item.
    """

    id: str
    collection: str
    time: np.datetime64
    bbox: tuple[float, float, float, float]
    properties: Mapping[str, Any] = field(repr=False)
    assets: Mapping[str, Mapping[str, Any]] = field(repr=False)
    base: str = field(default="", repr=False)
    root: str | None = field(default=None, repr=False)

    @classmethod
    def from_dict(
        cls, item: Mapping[str, Any], *, base: str = "", root: str | None = None
    ) -> "SceneItem":
        """Read an item.

        Raises:
            RasterReadError: It is no item, or lacks an id, a time, a place or files.
        """
        try:
            properties = dict(item.get("properties") or {})
            stated = properties.get("datetime") or properties.get("start_datetime")
            bbox = [float(v) for v in item["bbox"]]
            bbox = bbox[:2] + bbox[3:5] if len(bbox) == 6 else bbox
            left, bottom, right, top = bbox
            if not all(map(math.isfinite, bbox)):
                raise ValueError("its box is not finite")
            return cls(
                id=str(item["id"]),
                collection=str(item.get("collection") or ""),
                time=time_of(stated),
                bbox=(left, bottom, right, top),
                properties=properties,
                assets={
                    str(key): dict(asset) for key, asset in dict(item["assets"]).items()
                },
                base=base or _own_address(item),
                root=root,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RasterReadError(
                f"expected a STAC item with id, bbox, datetime and assets, found "
                f"{str(item)[:80]} ({error}); correct or leave it out"
            ) from error

    def asset(self, band: str, sensor: Sensor | None, offset: str | float) -> Asset:
        """The file that holds a band, and its units.

        Args:
            band: Common name, or the key of an asset.
            sensor: Gain, offset and nodata to take in place of the item's; its bands'
                codes are known, too.
            offset: `auto` as the item says; `applied` or `none` where DN have no offset;
                or the reflectance at DN 0.

        Raises:
            BandMismatchError: There is no such band.
            RasterReadError: The address is not one that may be read.
        """
        key, index = self._find(band, sensor)
        asset = self.assets[key]
        described = _of_band(asset, "raster:bands", index) | _of_band(
            asset, "bands", index
        )
        gain, nodata = (
            _number(_first(described, asset, *names))
            for names in (("scale", "raster:scale"), ("nodata",))
        )
        stated = _number(_first(described, asset, "offset", "raster:offset"))
        if sensor is not None:
            gain = gain if sensor.gain is None else sensor.gain
            nodata = nodata if sensor.nodata is None else sensor.nodata
        return Asset(
            band=band,
            key=key,
            address=self._address(asset),
            index=index,
            gain=gain,
            offset=self._offset(stated, sensor, offset),
            nodata=nodata,
            grid=self._grid(asset),
            size=_whole(asset.get("file:size")),
            sha256=_sha256(asset.get("file:checksum")),
        )

    def _find(self, band: str, sensor: Sensor | None) -> tuple[str, int]:
        codes = {band, SYNONYMS.get(band, band)}
        if sensor is not None:
            codes |= {b.code for b in sensor.bands if b.name == band}
        wanted = {code.lower() for code in codes}
        found = []
        names: set[str] = set()
        for key, asset in self.assets.items():
            if not _is_image(asset):
                continue
            bands = asset.get("eo:bands") or asset.get("bands") or [{}]
            for index, entry in enumerate(bands):
                called = {
                    str(entry[name])
                    for name in ("common_name", "eo:common_name", "name")
                    if entry.get(name)
                }
                called |= {key} if len(bands) == 1 else set()
                names |= called
                plain = {name.lower() for name in called}
                if plain & wanted:
                    # The very key first, then single bands, then what GDAL reads best.
                    rank = (
                        key != band,
                        band.lower() not in plain,
                        len(bands),
                        "tiff" not in str(asset.get("type")),
                        key,
                    )
                    found.append((rank, key, index))
        if not found:
            raise BandMismatchError(
                f"expected band {band!r} in item {self.id}, found {', '.join(sorted(names))}"
                f"; {did_you_mean(band, names)}"
            )
        _, key, index = min(found)
        return key, index

    def _offset(
        self, stated: float | None, sensor: Sensor | None, wanted: str | float
    ) -> float | None:
        if not isinstance(wanted, str):
            return float(wanted)
        if wanted not in OFFSETS:
            raise UnknownNameError(
                f"expected offset as auto, applied, none, or a number, found {wanted!r}; "
                f"{did_you_mean(wanted, OFFSETS)}"
            )
        if wanted != "auto" or self.properties.get("earthsearch:boa_offset_applied"):
            return 0.0
        if sensor is not None and sensor.offset is not None:
            return sensor.offset
        if stated is None and self._has_sentinel2_offset():
            return -0.1
        return stated

    def _has_sentinel2_offset(self) -> bool:
        """Whether it is of processing baseline 04.00 or later."""
        baseline = self.properties.get("s2:processing_baseline") or self.properties.get(
            "processing:version"
        )
        if "sentinel-2" not in self.collection.lower():
            return False
        try:
            return float(str(baseline)) >= 4.0
        except ValueError:
            return False

    def _grid(self, asset: Mapping[str, Any]) -> GeoBox | None:
        """The grid, where the item tells CRS, transform and shape."""

        def told(*names: str) -> Any:
            for place in (asset, self.properties):
                for name in names:
                    if place.get(name) is not None:
                        return place[name]
            return None

        transform, shape = told("proj:transform"), told("proj:shape")
        code = told("proj:code", "proj:epsg", "proj:wkt2")
        if transform is None or shape is None or code is None:
            return None
        try:
            rows, columns = (int(n) for n in shape)
            affine = Affine(*(float(v) for v in list(transform)[:6]))
            crs = f"EPSG:{code}" if isinstance(code, int) else str(code)
            return GeoBox((rows, columns), affine, crs)
        except (TypeError, ValueError, CRSMismatchError) as error:
            raise RasterReadError(
                f"expected a grid that makes sense in item {self.id}, found {code}, "
                f"{transform}, {shape} ({error}); correct or leave it out"
            ) from error

    def _address(self, asset: Mapping[str, Any]) -> str:
        """Where a file is: a path within the catalog's folder, or a remote address."""
        href = asset.get("href")
        if not isinstance(href, str) or not href:
            raise RasterReadError(
                f"expected an address of every asset, found {href!r} in item {self.id}; "
                "correct or leave it out"
            )
        if urlsplit(href).scheme in ("http", "https"):
            return href
        if urlsplit(self.base).scheme in ("http", "https"):
            joined = urljoin(self.base, href)
            if urlsplit(joined).scheme in ("http", "https"):
                return joined
        elif self.root is not None and urlsplit(href).scheme in ("", "file"):
            path = unquote(href[7:]) if href.startswith("file://") else href
            local = os.path.realpath(os.path.join(os.path.dirname(self.base), path))
            if os.path.commonpath(
                [local, os.path.realpath(self.root)]
            ) == os.path.realpath(self.root):
                return local
        raise RasterReadError(
            f"expected an asset at https or in the folder of its catalog, found {href!r} in "
            f"item {self.id}; nothing else is read"
        )


def local_items(path: str | os.PathLike[str]) -> list[SceneItem]:
    """All items of a local catalog, item collection, item, or folder of these.

    Links to children are followed within the folder, never to another host.

    Raises:
        RasterReadError: There is nothing, too much, or a file is not JSON.
    """
    start = Path(os.path.realpath(os.fspath(path)))
    if not start.exists():
        raise RasterReadError(
            f"expected a STAC catalog or items, found nothing at {start}; check the path"
        )
    root = start if start.is_dir() else start.parent
    pending = sorted(start.rglob("*.json")) if start.is_dir() else [start]
    seen: set[Path] = set()
    items: dict[tuple[str, str], SceneItem] = {}
    while pending:
        file = pending.pop()
        if file in seen:
            continue
        seen.add(file)
        if len(seen) > MOST_FILES:
            raise RasterReadError(
                f"expected at most {MOST_FILES} files, found more in {root}; name a part"
            )
        content = _json(file)
        kind = content.get("type")
        features = content.get("features") or []
        for item in features if kind == "FeatureCollection" else [content]:
            if item.get("type") == "Feature" and "assets" in item:
                made = SceneItem.from_dict(item, base=str(file), root=str(root))
                items[made.collection, made.id] = made
        for link in content.get("links") or []:
            href = link.get("href")
            follow = link.get("rel") in ("child", "item") and isinstance(href, str)
            if not follow or urlsplit(href).scheme not in ("", "file"):
                continue
            linked = Path(os.path.realpath(os.path.join(file.parent, unquote(href))))
            if linked.is_relative_to(root) and linked.is_file():
                pending.append(linked)
    return [items[key] for key in sorted(items)]


def time_of(text: Any) -> np.datetime64:
    """An instant in UTC from RFC 3339.

    >>> str(time_of("2021-07-01T10:30:00+02:00"))[:16]
    '2021-07-01T08:30'
    """
    moment = datetime.datetime.fromisoformat(str(text))
    if moment.tzinfo is not None:
        moment = moment.astimezone(datetime.UTC).replace(tzinfo=None)
    return np.datetime64(moment, "ns")


def period_of(
    period: str | Sequence[str],
) -> tuple[np.datetime64, np.datetime64]:
    """First and last instant of a period: `2021-07`, `2021-07-01/2021-07-15`, or a pair.

    >>> first, last = period_of("2021-02")
    >>> str(first)[:10], str(last)[:10]
    ('2021-02-01', '2021-02-28')

    Raises:
        ParameterError: It is none, or ends before it starts.
    """
    texts = period.split("/") if isinstance(period, str) else list(period)
    try:
        # Words that NumPy takes for no time have no unit, and a unit is needed below.
        if len(texts) not in (1, 2) or not all(
            text.strip()[:1].isdigit() for text in texts
        ):
            raise ValueError
        ends = [np.datetime64(text.strip().rstrip("Z")) for text in texts]
        # The end of a month or a day is its last instant.
        first = ends[0].astype("datetime64[ns]")
        unit: Any = np.datetime_data(ends[-1].dtype)[0]
        one = np.timedelta64(1, unit)
        last = (ends[-1] + one).astype("datetime64[ns]") - np.timedelta64(1, "ns")
        if len(texts[-1].strip()) > 10:
            last = ends[-1].astype("datetime64[ns]")
        if last < first:
            raise ValueError
    except (ValueError, AttributeError, TypeError):
        raise ParameterError(
            f"expected a period such as 2021-07, 2021-07-01/2021-07-15, or a pair of dates, "
            f"found {period!r}; the first date must not be after the last"
        ) from None
    return first, last


def _json(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > MOST_BYTES:
            raise ValueError(f"larger than {MOST_BYTES} bytes")
        content = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise RasterReadError(
            f"expected JSON, found {file}, which is none ({error}); correct or remove it"
        ) from error
    return content if isinstance(content, dict) else {}


def _own_address(item: Mapping[str, Any]) -> str:
    for link in item.get("links") or []:
        if link.get("rel") == "self" and isinstance(link.get("href"), str):
            return str(link["href"])
    return ""


def _is_image(asset: Mapping[str, Any]) -> bool:
    kind = str(asset.get("type") or "image/tiff").lower()
    roles = asset.get("roles") or ["data"]
    shown = {"thumbnail", "overview", "visual", "metadata"} & set(map(str, roles))
    return kind.split(";")[0].strip() in _IMAGES and not shown


def _of_band(asset: Mapping[str, Any], name: str, index: int) -> dict[str, Any]:
    bands = asset.get(name)
    if (
        isinstance(bands, list)
        and index < len(bands)
        and isinstance(bands[index], dict)
    ):
        return bands[index]
    return {}


def _first(described: Mapping[str, Any], asset: Mapping[str, Any], *names: str) -> Any:
    for place in (described, asset):
        for name in names:
            if place.get(name) is not None:
                return place[name]
    return None


def _number(value: Any) -> float | None:
    """A number, None where it is none; `nan` is no DN."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


def _sha256(value: Any) -> str | None:
    """SHA-256 out of a multihash (its kind 0x12, its length 0x20)."""
    text = str(value or "").lower()
    return text[4:] if text.startswith("1220") and len(text) == 68 else None
