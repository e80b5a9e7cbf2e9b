"""Open optical files as images: DN become reflectance, nodata becomes NaN."""

import datetime
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import dask.array as da
import numpy as np
import rasterio.features
import xarray as xr
from affine import Affine
from dask.base import tokenize
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError

from geofuse.errors import (
    CRSMismatchError,
    DateMismatchError,
    GridMismatchError,
    ParameterError,
)
from geofuse.rasters.grid import crs_name, place
from geofuse.rasters.sensors import Sensor, select_bands, sensor_of
from geofuse.rasters.source import (
    CHUNK,
    WIDEST_CHUNK,
    RasterFile,
    RasterSource,
    inspect,
    name_of,
)


def open_optical(
    path: str | os.PathLike[str],
    sensor: Sensor | str = "generic",
    *,
    date: str | datetime.date | np.datetime64,
    bands: Sequence[str] | None = None,
    bbox: Sequence[float] | None = None,
    bbox_crs: str | None = None,
    geometry: Any = None,
    chunks: int | None = None,
) -> xr.DataArray:
    """Open a raster file as an image, lazily: nothing is read until it is computed.

    Args:
        path: A local GeoTIFF, COG, JPEG 2000 or ENVI file.
        sensor: A `Sensor`, its name, or `gain=…,offset=…,nodata=…`. The generic sensor
            takes gain and offset that the file states, else 1 and 0.
        date: Day of the image, ISO: `2021-07-01`.
        bands: Common names of the bands wanted, in the order wanted; None for all. For
            the generic sensor, names for the file's bands, otherwise b1, b2, …
        bbox: Part to open: left, bottom, right, top. Pixels that it touches are kept.
        bbox_crs: CRS of `bbox`; by default that of the file.
        geometry: Part to open: a GeoJSON-like mapping or an object with
            `__geo_interface__` (shapely), in the CRS of the file. Pixels whose centers
            lie outside are NaN.
        chunks: Side of the dask chunks in pixels; by default whole blocks of the file, of
            256 to 1024 pixels.

    Returns:
        Image (band, y, x), float32, NaN where the file has its nodata; a scalar `time`;
        the CRS in `spatial_ref`. A south-up file is turned north up.

    Raises:
        RasterReadError: The file is missing, damaged, not a raster, or not safe.
        BandMismatchError: A band is not there, or the order of bands is unknown.
        DateMismatchError: `date` is not an ISO date.
        GridMismatchError: The grid is rotated, or `bbox` or `geometry` lie outside.
        UnknownNameError: There is no such sensor.
        ParameterError: A value is out of range.
    """
    sensor = sensor_of(sensor)
    day = parse_date(date)
    if chunks is not None and chunks < 1:
        raise ParameterError(
            f"expected chunks of at least 1 pixel, found {chunks}; leave it"
            " out for whole blocks of the file"
        )
    if bbox_crs is not None and bbox is None:
        raise ParameterError(
            f"expected a box beside its CRS {bbox_crs}, found none; give bbox as left, "
            "bottom, right, top"
        )
    file = inspect(path)
    chosen = select_bands(sensor, file.descriptions, bands, path=file.path)
    grid, south_up = _grid(file)
    if geometry is not None:
        geometry = getattr(geometry, "__geo_interface__", geometry)
        around = rasterio.features.bounds(geometry)
        bbox = around if bbox is None else bbox
    rows, columns = _clip(grid, bbox, bbox_crs, file)
    grid = grid[rows, columns]
    indexes = tuple(index for _, index in chosen)
    source = RasterSource(
        file=file,
        indexes=indexes,
        rows=_file_rows(rows, file.shape[1], south_up),
        columns=(columns.start, columns.stop - columns.start),
        gain=tuple(_pick(sensor.gain, file.scales[index]) for index in indexes),
        offset=tuple(_pick(sensor.offset, file.offsets[index]) for index in indexes),
        nodata=tuple(_nodata(sensor, file.nodata[index]) for index in indexes),
        south_up=south_up,
    )
    data = da.from_array(
        source,
        chunks=(-1, *((chunks, chunks) if chunks else _chunk_sides(file.block))),
        name=f"open-{tokenize(source)}",
        asarray=False,
        meta=np.empty((0, 0, 0), np.float32),
    )
    if geometry is not None:
        data = data.map_blocks(
            _mask_outside, geometry, grid.affine, dtype=np.float32, meta=data._meta
        )
    names = [name for name, _ in chosen]
    image = place(data, grid, coords={"band": names, "time": day})
    image.attrs = {
        "sensor": sensor.name,
        "source": name_of(file.path),
        "long_name": sensor.title or sensor.name,
        "grid_mapping": "spatial_ref",
    }
    image.name = "reflectance"
    return image


def _chunk_sides(block: tuple[int, int]) -> list[int]:
    """Sides of chunks that are whole blocks where these are small enough."""
    return [
        math.ceil(CHUNK / side) * side if side <= WIDEST_CHUNK else WIDEST_CHUNK // 2
        for side in block
    ]


def parse_date(date: str | datetime.date | np.datetime64) -> np.datetime64:
    """A day from an ISO date.

    >>> str(parse_date("2021-07-01"))[:10]
    '2021-07-01'

    Raises:
        DateMismatchError: It is not an ISO date of a day.
    """
    day: Any
    try:
        if isinstance(date, str):
            day = np.datetime64(datetime.date.fromisoformat(date.strip()[:10]))
            if len(date.strip()) > 10:
                datetime.datetime.fromisoformat(date.strip())
            if "-" not in date:
                raise ValueError
        else:
            day = np.asarray(date, "datetime64[D]")[()]
    except (ValueError, TypeError):
        day = np.datetime64("NaT", "D")
    if np.isnat(day):
        raise DateMismatchError(
            f"expected an ISO date like 2021-07-01, found {date!r}; year, month, day"
        )
    return day.astype("datetime64[ns]")


def _grid(file: RasterFile) -> tuple[GeoBox, bool]:
    """Grid of a file, north up, and whether the file is south up."""
    transform = file.transform
    if transform.b or transform.d:
        raise GridMismatchError(
            f"expected a grid along the axes of its CRS, found a rotated one in "
            f"{file.path}; straighten it first: gdalwarp INPUT OUTPUT"
        )
    if not (transform.a and transform.e and all(map(math.isfinite, transform))):
        raise GridMismatchError(
            f"expected pixels with a size, found {transform.a:g} by {transform.e:g} in "
            f"{file.path}; correct it with gdal_edit -a_ullr"
        )
    south_up = file.georeferenced and transform.e > 0
    if south_up:
        transform = transform * Affine(1, 0, 0, 0, -1, file.shape[1])
    return GeoBox(file.shape[1:], transform, file.crs_wkt), south_up


def _clip(
    grid: GeoBox,
    bbox: Sequence[float] | None,
    bbox_crs: str | None,
    file: RasterFile,
) -> tuple[slice, slice]:
    """Rows and columns that a bounding box touches."""
    height, width = grid.shape
    if bbox is None:
        return slice(0, height), slice(0, width)
    left, bottom, right, top = _box(bbox)
    if bbox_crs is not None:
        if grid.crs is None:
            raise CRSMismatchError(
                f"expected a file with a CRS to clip in {bbox_crs}, found none in "
                f"{file.path}; give the box in pixels of the file, without its CRS"
            )
        try:
            transformer = Transformer.from_crs(
                CRS.from_user_input(bbox_crs), grid.crs.proj, always_xy=True
            )
        except CRSError:
            raise CRSMismatchError(
                f"expected a CRS for the box, found {bbox_crs!r}; for example EPSG:4326"
            ) from None
        box = transformer.transform_bounds(left, bottom, right, top)
        left, bottom, right, top = box
    to_pixels = ~grid.affine
    corners = [to_pixels * corner for corner in ((left, top), (right, bottom))]
    spans = []
    for axis, size in ((1, height), (0, width)):
        low, high = sorted(corner[axis] for corner in corners)
        first = last = 0
        if math.isfinite(low) and math.isfinite(high):
            first = max(math.floor(low + 1e-6), 0)
            last = min(math.ceil(high - 1e-6), size)
        if first >= last:
            bounds = grid.boundingbox
            raise GridMismatchError(
                f"expected a box that meets {file.path}, which reaches from "
                f"({bounds.left:.10g}, {bounds.bottom:.10g}) to ({bounds.right:.10g}, "
                f"{bounds.top:.10g}) in {crs_name(grid)}, found {tuple(bbox)}; give "
                "left bottom right top, and its CRS if it is another one"
            )
        spans.append(slice(first, last))
    return spans[0], spans[1]


def _box(bbox: Sequence[float]) -> tuple[float, float, float, float]:
    values = [float(value) for value in bbox]
    if len(values) != 4 or not (values[0] < values[2] and values[1] < values[3]):
        raise ParameterError(
            f"expected a box as left, bottom, right, top, found {tuple(bbox)}; left "
            "must be less than right, and bottom less than top"
        )
    return values[0], values[1], values[2], values[3]


def _file_rows(rows: slice, height: int, south_up: bool) -> tuple[int, int]:
    first = height - rows.stop if south_up else rows.start
    return first, rows.stop - rows.start


def _pick(given: float | None, stated: float) -> float:
    return stated if given is None else given


def _nodata(sensor: Sensor, stated: float | None) -> tuple[float, ...]:
    numbers = (sensor.nodata, stated)
    return tuple(
        sorted({float(n) for n in numbers if n is not None and not math.isnan(n)})
    )


def _mask_outside(
    block: np.ndarray,
    geometry: Mapping[str, Any],
    transform: Affine,
    block_info: Any = None,
) -> np.ndarray:
    """NaN where a pixel's center lies outside the geometry."""
    (top, bottom), (left, right) = block_info[0]["array-location"][-2:]
    inside = rasterio.features.geometry_mask(
        [geometry],
        (bottom - top, right - left),
        transform * Affine.translation(left, top),
        invert=True,
    )
    return np.where(inside, block, np.float32(np.nan))
