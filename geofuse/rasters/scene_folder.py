"""Products that are a folder with a file a band: Sentinel-2 SAFE, Landsat, HLS.

    S2A_MSIL2A_…_N0509_….SAFE/           LC08_L2SP_…/                 HLS.S30.…/
      MTD_MSIL2A.xml                       LC08_…_SR_B4.TIF             HLS.S30.….B04.tif
      GRANULE/…/IMG_DATA/R10m/             LC08_…_QA_PIXEL.TIF          HLS.S30.….Fmask.tif
        T33UUU_20230601T…_B04_10m.jp2

A band is found by its code at the end of a file's name, and the GSD behind it where there
is one. What the metadata of a SAFE folder state (day, gain, offset of each band) goes
before what a sensor has on average. The XML comes from outside: it may not name entities,
and is not read beyond a bound.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np

from geofuse.errors import BandMismatchError, RasterReadError
from geofuse.rasters.acquired import Period, stated_period
from geofuse.rasters.calibration import Offset
from geofuse.rasters.product_xml import read_xml
from geofuse.rasters.sensors import Sensor

MAX_FILES = 10_000
_ENDINGS = (".jp2", ".tif", ".tiff")

#: Bands in the order of their numbers in the metadata of Sentinel-2.
_SAFE_BANDS = (
    *(f"B{number:02d}" for number in range(1, 9)),
    "B8A",
    *(f"B{number:02d}" for number in range(9, 13)),
)


class BandFile(NamedTuple):
    """A file with one band.

    Attributes:
        path: Its path.
        gsd: GSD in meters that its name tells, or None.
    """

    path: str
    gsd: int | None


class SafeMetadata(NamedTuple):
    """What the XML of a Sentinel-2 product states.

    Attributes:
        period: Day of acquisition.
        baseline: Processing baseline.
        gain: Reflectance per DN.
        offsets: Reflectance at DN 0 by code of the band.
    """

    period: Period | None
    baseline: str
    gain: float
    offsets: Mapping[str, Offset]


def band_files(folder: str, sensor: Sensor) -> dict[str, list[BandFile]]:
    """Files of a folder by the common name of their band, the finest first.

    Raises:
        BandMismatchError: There is none, or two files could be one band.
        RasterReadError: The folder has too many files to look through.
    """
    codes = {band.code: band.name for band in sensor.bands}
    found = {codes[code]: files for code, files in files_by_code(folder, codes).items()}
    if not found:
        raise BandMismatchError(
            f"expected a file a band of {sensor.name} ({', '.join(codes)}) in {folder}, "
            "found none; name the sensor that the folder is of, or the file itself"
        )
    return {name: found[name] for name in codes.values() if name in found}


def files_by_code(folder: str, codes: Iterable[str]) -> dict[str, list[BandFile]]:
    """Raster files of a folder whose name ends with a code, the finest first.

    Raises:
        BandMismatchError: Two files could be the same.
        RasterReadError: The folder has too many files to look through.
    """
    plain = {code.lower(): code for code in codes}
    any_code = "|".join(sorted(map(re.escape, plain), key=len, reverse=True))
    ending = re.compile(rf"(?:^|[_.])({any_code})(?:_(\d+)m)?$", re.IGNORECASE)
    found: dict[str, list[BandFile]] = {}
    for path in _rasters(folder):
        match = ending.search(os.path.splitext(os.path.basename(path))[0])
        if match is None:
            continue
        files = found.setdefault(plain[match[1].lower()], [])
        gsd = int(match[2]) if match[2] else None
        twin = next((file for file in files if file.gsd == gsd), None)
        if twin is not None:
            raise BandMismatchError(
                f"expected one file of {match[1]} in {folder}, found {twin.path} and "
                f"{path}; name the folder of one scene"
            )
        files.append(BandFile(path, gsd))
    return {
        code: sorted(files, key=lambda file: file.gsd or 0)
        for code, files in found.items()
    }


def safe_metadata(folder: str, sensor: Sensor) -> SafeMetadata | None:
    """What a SAFE folder states of itself; None where it has no metadata.

    Raises:
        RasterReadError: The XML is damaged, too large, or not safe to read.
    """
    for level in ("MSIL2A", "MSIL1C"):
        path = os.path.join(folder, f"MTD_{level}.xml")
        if os.path.isfile(path):
            return _safe_metadata(path, sensor)
    return None


def _safe_metadata(path: str, sensor: Sensor) -> SafeMetadata:
    root = read_xml(path, partial(_nonsense, path))
    texts: dict[str, str] = {}
    offsets: dict[str, float] = {}
    for element in root.iter():
        name, text = element.tag.rpartition("}")[2], (element.text or "").strip()
        texts.setdefault(name, text)
        if name in ("BOA_ADD_OFFSET", "RADIO_ADD_OFFSET"):
            number = element.get("band_id", "")
            if not number.isdigit() or int(number) >= len(_SAFE_BANDS):
                raise _nonsense(path, f"{name} of band {number!r}")
            offsets[_SAFE_BANDS[int(number)]] = _number(path, name, text)
    gain_name = next(
        (
            n
            for n in ("BOA_QUANTIFICATION_VALUE", "QUANTIFICATION_VALUE")
            if texts.get(n)
        ),
        None,
    )
    divisor = 1 / (sensor.gain or 1e-4)
    if gain_name is not None:
        divisor = _number(path, gain_name, texts[gain_name])
        if divisor <= 0:
            raise _nonsense(path, f"{gain_name} {divisor:g}")
    baseline = texts.get("PROCESSING_BASELINE", "")
    tags = {name: texts[name] for name in ("PRODUCT_START_TIME",) if texts.get(name)}
    stated = {}
    for band in sensor.bands:
        value = offsets.get(band.code, 0.0) / divisor
        reason = f"{value:g}, by the metadata: baseline {baseline or 'unknown'}"
        stated[band.name] = Offset(value, reason)
    return SafeMetadata(stated_period(tags, path), baseline, 1 / divisor, stated)


def _number(path: str, name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise _nonsense(path, f"{name} {text!r}")
    return value


def _nonsense(path: str, found: str) -> RasterReadError:
    return RasterReadError(
        f"expected the metadata of a Sentinel-2 product in {path}, found {found}; fetch "
        "the product again"
    )


def _rasters(folder: str) -> Iterator[str]:
    """Raster files of a folder and the folders in it, in the order of their names."""
    count = 0
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            count += 1
            if count > MAX_FILES:
                raise RasterReadError(
                    f"expected the folder of one scene, found more than {MAX_FILES} files "
                    f"in {folder}; name the folder of one product"
                )
            if name.lower().endswith(_ENDINGS):
                yield os.path.join(place, name)
