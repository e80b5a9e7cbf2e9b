"""Windows of a raster file, read when asked: the only place that opens one for reading.

A raster file is not to be trusted. GDAL, left to itself, follows what a file says about
other files and hosts; so only plain local files are opened, with the drivers named
here, without side files, and with the block size checked before the first read. A block
that is missing or cut off would read as zeros or fail hours later: it is refused at the
door.
"""

import math
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.env import set_gdal_config
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from geofuse.errors import RasterReadError, TileReadError
from geofuse.rasters.whole import check_whole

#: GDAL drivers that may read a file. ENVI is tried where a header lies beside the file.
DRIVERS = ("GTiff", "JP2OpenJPEG")

#: First bytes of files that hold many rasters, and what they are.
_CONTAINERS = {
    b"\x0e\x03\x13\x01": "HDF4",
    b"\x89HDF\r\n\x1a\n": "HDF5 or netCDF-4",
    b"CDF\x01": "netCDF",
    b"CDF\x02": "netCDF",
    b"CDF\x05": "netCDF",
}

#: A block is decoded at once, so this bounds the memory of one read.
MAX_BLOCK_BYTES = 512 * 2**20
MAX_BANDS = 10_000

#: Least and widest side of a chunk, in pixels, where the reader may choose.
CHUNK = 256
WIDEST_CHUNK = 1024
_HANDLES_PER_THREAD = 16
_LOCAL = threading.local()
_OPENING = threading.Lock()
_ROOM: list[int] = []

_OPTIONS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": "<none>",
    "GDAL_HTTP_TIMEOUT": "30",
}

#: Bytes of decoded blocks that GDAL keeps for a process, unless `GDAL_CACHEMAX` is set in
#: the environment: chunks are whole blocks, each read about once. Files in strips as wide
#: as the raster get more, up to `MAX_CACHE_BYTES`: see `_make_room`.
CACHE_BYTES = 4 * 2**20
MAX_CACHE_BYTES = 256 * 2**20


@dataclass(frozen=True)
class RasterFile:
    """What a raster file says about itself.

    Attributes:
        path: Absolute path.
        driver: GDAL driver that reads it.
        signature: Size and time of last change.
        shape: Bands, rows and columns.
        dtype: NumPy type of its DN.
        crs_wkt: CRS as WKT, or None.
        transform: Affine transform, as stored; the identity where there is none.
        descriptions: Names of the bands in the file.
        nodata: Stated DN of "no measurement", per band.
        scales: Stated gain per band.
        offsets: Stated offset per band.
        units: Stated unit per band.
        tags: Metadata of the file.
        block: Rows and columns of a block.
        compression: Name of the compression, or None.
    """

    path: str
    driver: str
    signature: tuple[int, int]
    shape: tuple[int, int, int]
    dtype: str
    crs_wkt: str | None
    transform: Affine
    descriptions: tuple[str | None, ...]
    nodata: tuple[float | None, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    units: tuple[str | None, ...]
    tags: dict[str, str]
    block: tuple[int, int]
    compression: str | None

    @property
    def georeferenced(self) -> bool:
        """Whether the file says where it lies."""
        return self.transform != Affine.identity() or self.crs_wkt is not None


def inspect(path: str | os.PathLike[str]) -> RasterFile:
    """Open a file, check that it is safe and whole, and tell what it says of itself.

    Raises:
        RasterReadError: Missing, not a local raster, damaged, or not safe to read.
    """
    local = _local_file(path)
    driver = _driver_of(local)
    try:
        with _opened(local, driver) as dataset:
            _check_pixels(dataset, local)
            check_whole(dataset, local)
            _check_overview_tag(dataset, local)
            return _described(dataset, local, driver)
    except (RasterioError, ValueError) as error:  # a CRS or a text that makes no sense
        raise RasterReadError(
            f"expected a raster that can be read, found {local}, which says what makes "
            f"no sense ({_first_line(error)}); fetch it again"
        ) from error


def palette(file: RasterFile) -> dict[int, tuple[int, int, int]]:
    """Red, green and blue, 0 to 255, of each DN of the first band; empty if none."""
    with _opened(file.path, file.driver) as dataset:
        try:
            colors = dataset.colormap(1)
        except ValueError:
            return {}
    return {int(dn): tuple(color[:3]) for dn, color in colors.items()}


@dataclass(frozen=True)
class RasterSource:
    """Physical values of a part of a file, as an array that reads what is indexed.

    dask slices it like a NumPy array; each slice reads only its own window. One handle
    per thread; a process that receives it opens the file anew.

    Attributes:
        file: The file.
        indexes: Bands of the file, from 0.
        rows: First row and number of rows.
        columns: First column and number of columns.
        gain: Physical value per DN, per band.
        offset: Physical value at DN 0, per band.
        nodata: DN that mean "no measurement", per band.
        south_up: Whether the file's first row is the southernmost: it is turned over.
        as_stored: Whether DN are wanted, in the type of the file: bit fields are no
            numbers to be scaled.
    """

    file: RasterFile
    indexes: tuple[int, ...]
    rows: tuple[int, int]
    columns: tuple[int, int]
    gain: tuple[float, ...]
    offset: tuple[float, ...]
    nodata: tuple[tuple[float, ...], ...]
    south_up: bool = False
    as_stored: bool = False

    ndim = 3

    @property
    def dtype(self) -> np.dtype:
        """Type of what is read: float32, or that of the file where DN are wanted."""
        return np.dtype(self.file.dtype if self.as_stored else np.float32)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Bands, rows and columns."""
        return (len(self.indexes), self.rows[1], self.columns[1])

    def __getitem__(self, key: Any) -> np.ndarray:
        """Read a window, as float32 with NaN where invalid, or DN as stored.

        Raises:
            TileReadError: The window cannot be read, or the file has changed.
        """
        wanted = [
            np.arange(size)[part] for size, part in zip(self.shape, key, strict=True)
        ]
        if not all(index.size for index in wanted):
            return np.empty([n for i in wanted for n in i.shape], self.dtype)
        spans = [(int(index.min()), int(index.max()) + 1) for index in wanted]
        values = self._window(*spans)
        for axis in (2, 1, 0):
            index = wanted[axis] - spans[axis][0]
            if not np.array_equal(index, np.arange(values.shape[axis])):
                values = np.take(values, index, axis)
        return np.asarray(values)

    def _window(
        self, bands: tuple[int, int], rows: tuple[int, int], columns: tuple[int, int]
    ) -> np.ndarray:
        top, bottom = rows
        if self.south_up:
            top, bottom = self.rows[1] - bottom, self.rows[1] - top
        window = Window(
            self.columns[0] + columns[0],
            self.rows[0] + top,
            columns[1] - columns[0],
            bottom - top,
        )
        values = np.stack([self._read(band, window) for band in range(*bands)])
        return values[:, ::-1] if self.south_up else values

    def _read(self, band: int, window: Window) -> np.ndarray:
        try:
            if _signature(self.file.path) != self.file.signature:
                raise TileReadError(
                    f"expected {self.file.path} as it was when opened, found it "
                    "changed; open it again"
                )
            with _environment(self.file.driver):
                dn = _handle(self.file).read(self.indexes[band] + 1, window=window)
        except (RasterioError, OSError) as error:
            raise TileReadError(
                f"expected rows {window.row_off} to {window.row_off + window.height} "
                f"and columns {window.col_off} to {window.col_off + window.width} of "
                f"{self.file.path}, found that they cannot be read "
                f"({_first_line(error)}); the file is damaged: fetch it again"
            ) from error
        if self.as_stored:
            return np.asarray(dn, self.dtype)
        units = (self.gain[band], self.offset[band], self.nodata[band])
        if dn.dtype.kind in "ui" and dn.dtype.itemsize <= 2:
            # There are no more than 65536 DN: each is calibrated once, not each pixel.
            table = _calibration_table(dn.dtype.str, *units)
            return table[dn.view(f"u{dn.dtype.itemsize}")]
        return calibrated(dn, *units)


def calibrated(
    dn: np.ndarray, gain: float, offset: float, nodata: tuple[float, ...]
) -> np.ndarray:
    """Physical values of DN: gain * DN + offset in float32, NaN where invalid.

    The arithmetic is done in float64, so that no integer wraps and no digit is lost.
    """
    # Beyond the range of float32 is infinite, and so invalid.
    with np.errstate(over="ignore", invalid="ignore"):
        if gain == 1.0 and offset == 0.0:
            values = dn.astype(np.float32)
        else:
            values = (dn * np.float64(gain) + np.float64(offset)).astype(np.float32)
        for number in nodata:
            # A float file stores its nodata in its own precision.
            own = (
                np.asarray(number).astype(dn.dtype) if dn.dtype.kind == "f" else number
            )
            values[dn == own] = np.nan
    values[~np.isfinite(values)] = np.nan
    return values


@lru_cache(maxsize=128)
def _calibration_table(
    dtype: str, gain: float, offset: float, nodata: tuple[float, ...]
) -> np.ndarray:
    """Physical values of every DN of a type of 8 or 16 bits, by its bits."""
    bits = 8 * np.dtype(dtype).itemsize
    every = np.arange(2**bits, dtype=f"u{bits // 8}").view(dtype)
    table = calibrated(every, gain, offset, nodata)
    table.flags.writeable = False
    return table


def _described(dataset: Any, path: str, driver: str) -> RasterFile:
    return RasterFile(
        path=path,
        driver=driver,
        signature=_signature(path),
        shape=(dataset.count, dataset.height, dataset.width),
        dtype=dataset.dtypes[0],
        crs_wkt=dataset.crs.to_wkt() if dataset.crs else None,
        transform=dataset.transform,
        descriptions=dataset.descriptions,
        nodata=dataset.nodatavals,
        scales=dataset.scales,
        offsets=dataset.offsets,
        units=dataset.units,
        tags={k: v for k, v in dataset.tags().items() if k != "AREA_OR_POINT"},
        block=dataset.block_shapes[0],
        compression=dataset.compression.name if dataset.compression else None,
    )


def _local_file(path: str | os.PathLike[str]) -> str:
    local = os.path.abspath(os.fspath(path))
    if not os.path.exists(local):
        raise RasterReadError(
            f"expected a raster file, found nothing at {local}; check the path"
        )
    if not os.path.isfile(local):
        found = "a folder" if os.path.isdir(local) else "something else"
        raise RasterReadError(
            f"expected a raster file, found {found} at {local}; name the file itself"
        )
    if not is_text(local):
        raise RasterReadError(
            f"expected a path in UTF-8, found {local!r}; rename the file or its folder"
        )
    return local


def _driver_of(path: str) -> str:
    failure: Exception | None = None
    header = any(
        os.path.isfile(stem + ending)
        for stem in {path, os.path.splitext(path)[0]}
        for ending in (".hdr", ".HDR")
    )
    for driver in (*DRIVERS, *(("ENVI",) if header else ())):
        try:
            with _opened(path, driver):
                return driver
        except RasterReadError as error:
            failure = failure or error
    container = _container(path)
    if container:
        raise RasterReadError(
            f"expected one raster, found {path}, which is {container}: a container that "
            "may name other files, so it is not opened; list its layers with gdalinfo and "
            "convert the wanted ones: gdal_translate LAYER OUT.tif"
        )
    raise RasterReadError(
        f"expected a raster that {', '.join(DRIVERS)} or ENVI (with its .hdr) can "
        f"read, found {path}, which is none or is damaged ({_first_line(failure)}); "
        "convert it to GeoTIFF, or fetch it again"
    )


def _container(path: str) -> str:
    """What kind of container of rasters a file is, by its first bytes; or nothing."""
    with open(path, "rb") as file:
        start = file.read(8)
    for magic, name in _CONTAINERS.items():
        if start.startswith(magic):
            return name
    return ""


@cache
def bound_cache() -> None:
    """Bound GDAL's block cache, once in a process.

    Not an option of `rasterio.Env`: each `Env` puts back what it found, so that one
    thread leaving its own would lift the bound (to 5 % of the memory) for all others.
    """
    if "GDAL_CACHEMAX" not in os.environ:
        set_gdal_config("GDAL_CACHEMAX", CACHE_BYTES)


@contextmanager
def _environment(driver: str) -> Iterator[None]:
    bound_cache()
    options: dict[str, Any] = dict(_OPTIONS)
    if driver == "ENVI":
        # The header must be found; side files still are not looked at.
        options["GDAL_DISABLE_READDIR_ON_OPEN"] = "TRUE"
    with rasterio.Env(**options):
        yield


def _open(path: str, driver: str) -> Any:
    # Warning filters belong to the process, so that only one thread may change them.
    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path, driver=driver)


@contextmanager
def _opened(path: str, driver: str) -> Iterator[Any]:
    with _environment(driver):
        try:
            dataset = _open(path, driver)
        except RasterioError as error:
            raise RasterReadError(_first_line(error)) from error
        with dataset:
            yield dataset


def _handle(file: RasterFile) -> Any:
    """This thread's open dataset of a file."""
    handles = getattr(_LOCAL, "handles", None)
    if handles is None or getattr(_LOCAL, "process", None) != os.getpid():
        handles = _LOCAL.handles = {}
        _LOCAL.process = os.getpid()
    key = (file.path, file.signature)
    if key not in handles:
        while len(handles) >= _HANDLES_PER_THREAD:
            handles.pop(next(iter(handles))).close()
        handles[key] = _open(file.path, file.driver)
        _make_room(file)
    return handles[key]


def _make_room(file: RasterFile) -> None:
    """Let the block cache hold a row of chunks of a file in wide strips.

    A strip holds a line of every chunk of that row, and would be decoded again for each.
    """
    bands, rows, columns = file.shape
    height, width = file.block
    if width <= WIDEST_CHUNK or "GDAL_CACHEMAX" in os.environ:
        return
    lines = min(math.ceil(CHUNK / height) * height + height, rows)
    itemsize = np.dtype(_real_type(file.dtype)).itemsize
    with _OPENING:
        _ROOM.append(lines * columns * bands * itemsize)
        wanted = CACHE_BYTES + sum(_ROOM)
        set_gdal_config("GDAL_CACHEMAX", min(wanted, MAX_CACHE_BYTES))


def _check_pixels(dataset: Any, path: str) -> None:
    """Refuse blocks that are huge, too many bands, and complex numbers."""
    rows, columns = dataset.block_shapes[0]
    interleaving = dataset.interleaving
    one_plane = interleaving is not None and interleaving.name == "pixel"
    samples = dataset.count if one_plane else 1
    size = rows * columns * np.dtype(_real_type(dataset.dtypes[0])).itemsize * samples
    if size > MAX_BLOCK_BYTES or dataset.count > MAX_BANDS:
        raise RasterReadError(
            f"expected blocks of at most {MAX_BLOCK_BYTES // 2**20} MB and {MAX_BANDS} "
            f"bands, found blocks of {columns}x{rows} pixels with {size / 2**20:.0f} "
            f"MB and {dataset.count} bands in {path}; tile the file: gdal_translate "
            "-co TILED=YES"
        )
    if any(dtype.startswith("complex") for dtype in dataset.dtypes):
        raise RasterReadError(
            f"expected real numbers, found {dataset.dtypes[0]} in {path}; take the "
            "squared magnitude first"
        )


def _check_overview_tag(dataset: Any, path: str) -> None:
    if dataset.tags(ns="OVERVIEWS"):
        raise RasterReadError(
            f"expected a raster that holds its own pixels, found {path}, which names "
            "another file for its overviews; copy it with gdal_translate -co "
            "COPY_SRC_OVERVIEWS=NO"
        )


def _real_type(dtype: str) -> str:
    return {"complex_int16": "complex64"}.get(dtype, dtype)


def _signature(path: str) -> tuple[int, int]:
    facts = os.stat(path)
    return (facts.st_size, facts.st_mtime_ns)


def _first_line(error: Exception | None) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else repr(error)


def is_text(path: str) -> bool:
    """Whether a path is text, which GDAL wants: on Linux it may be any bytes."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def name_of(path: str | os.PathLike[str]) -> str:
    """The file's name without its folder, for messages and tags."""
    return Path(path).name
