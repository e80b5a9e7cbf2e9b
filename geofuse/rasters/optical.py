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

from geofuse.errors import (
    DateMismatchError,
    ParameterError,
)
from geofuse.rasters.grid import place
from geofuse.rasters.placement import chunk_sides, clip, file_grid, file_rows
from geofuse.rasters.quality import onto_grid, open_quality
from geofuse.rasters.sensors import Sensor, select_bands, sensor_of
from geofuse.rasters.source import (
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
    quality: str | os.PathLike[str] | xr.DataArray | None = None,
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
        quality: Where the image is usable: the quality file that comes with the sensor's
            product (see `open_quality`), or a mask (y, x), True where usable, from
            `open_quality` or `valid_from` where other flags or a dilation are wanted.

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
    grid, south_up = file_grid(file)
    if geometry is not None:
        geometry = getattr(geometry, "__geo_interface__", geometry)
        around = rasterio.features.bounds(geometry)
        bbox = around if bbox is None else bbox
    rows, columns = clip(grid, bbox, bbox_crs, file)
    grid = grid[rows, columns]
    indexes = tuple(index for _, index in chosen)
    source = RasterSource(
        file=file,
        indexes=indexes,
        rows=file_rows(rows, file.shape[1], south_up),
        columns=(columns.start, columns.stop - columns.start),
        gain=tuple(_pick(sensor.gain, file.scales[index]) for index in indexes),
        offset=tuple(_pick(sensor.offset, file.offsets[index]) for index in indexes),
        nodata=tuple(_nodata(sensor, file.nodata[index]) for index in indexes),
        south_up=south_up,
    )
    data = da.from_array(
        source,
        chunks=(-1, *((chunks, chunks) if chunks else chunk_sides(file.block))),
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
    return image if quality is None else _masked(image, quality, sensor)


def _masked(
    image: xr.DataArray, quality: str | os.PathLike[str] | xr.DataArray, sensor: Sensor
) -> xr.DataArray:
    """The image with NaN where its quality says that it is not usable."""
    if isinstance(quality, xr.DataArray):
        if quality.dtype != bool:
            raise ParameterError(
                f"expected a mask, True where usable, found {quality.dtype}; make one "
                "with geofuse.valid_from(quality, layer)"
            )
        valid = onto_grid(quality, image, name="the mask")
    else:
        valid = open_quality(quality, sensor.name, like=image)
    masked = image.where(valid)
    masked.attrs["quality"] = " ".join(
        str(valid.attrs.get(name, "")) for name in ("source", "quality", "dropped")
    ).strip()
    return masked


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
