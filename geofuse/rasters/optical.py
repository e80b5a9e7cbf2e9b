"""Open optical files as images: DN become reflectance, nodata becomes NaN."""

import datetime
import os
from collections.abc import Mapping, Sequence
from typing import Any

import dask.array as da
import numpy as np
import rasterio.features
import xarray as xr
from affine import Affine

from geofuse.errors import ParameterError
from geofuse.rasters.acquired import checked_day
from geofuse.rasters.acquired import parse_date as parse_date
from geofuse.rasters.calibration import warn_of_assumed_offset
from geofuse.rasters.grid import place
from geofuse.rasters.opened import Part, open_file, open_folder
from geofuse.rasters.quality import onto_grid, open_quality
from geofuse.rasters.sensors import Sensor, sensor_of
from geofuse.rasters.source import (
    inspect,
    name_of,
)


def open_optical(
    path: str | os.PathLike[str],
    sensor: Sensor | str = "generic",
    *,
    date: str | datetime.date | np.datetime64 | None = None,
    bands: Sequence[str] | None = None,
    bbox: Sequence[float] | None = None,
    bbox_crs: str | None = None,
    geometry: Any = None,
    chunks: int | None = None,
    offset: str | float = "auto",
    gsd: float | None = None,
    resampling: str | None = None,
    quality: str | os.PathLike[str] | xr.DataArray | None = None,
) -> xr.DataArray:
    """Open a raster file, or a folder of them, as an image, lazily.

    Pixels are read when they are computed. Of a named sensor's file some few are read at
    once, to see whether its gain and offset make sense.

    Args:
        path: A local GeoTIFF, COG, JPEG 2000 or ENVI file; or the folder of a product
            with a file a band: Sentinel-2 SAFE, Landsat, HLS.
        sensor: A `Sensor`, its name, or `gain=…,offset=…,nodata=…`. The generic sensor
            takes gain and offset that the file states, else 1 and 0.
        date: Day of the image, ISO: `2021-07-01`. None takes what the file's metadata or
            its product's name tell; where they tell none, the image has no `time`.
        bands: Common names of the bands wanted, in the order wanted; None for all. For
            the generic sensor, names for the file's bands, otherwise b1, b2, …
        bbox: Part to open: left, bottom, right, top. Pixels that it touches are kept.
        bbox_crs: CRS of `bbox`; by default that of the file.
        geometry: Part to open: a GeoJSON-like mapping or an object with
            `__geo_interface__` (shapely), in the CRS of the file. Pixels whose centers
            lie outside are NaN.
        chunks: Side of the dask chunks in pixels; by default whole blocks of the file, of
            256 to 1024 pixels.
        offset: Reflectance at DN 0 of Sentinel-2 files: `auto` looks at the metadata and
            at dark pixels, `applied` says that it was taken out before, `none` that it was
            never there. A number is taken as it is, for any sensor. The choice is noted in
            the attribute `offset`.
        gsd: GSD in meters of the image where bands of a folder have several: 10, 20 or 60
            for Sentinel-2.
        resampling: How bands come to it: nearest, bilinear, cubic, average or mode. By
            default larger pixels are repeated and smaller ones averaged.
        quality: Where the image is usable: the quality file that comes with the sensor's
            product (see `open_quality`), or a mask (y, x), True where usable, from
            `open_quality` or `valid_from` where other flags or a dilation are wanted.

    Returns:
        Image (band, y, x), float32, NaN where the file has its nodata; a scalar `time`;
        the CRS in `spatial_ref`. A south-up file is turned north up.

    Raises:
        RasterReadError: The file is missing, damaged, not a raster, or not safe.
        BandMismatchError: A band is not there, or the order of bands is unknown.
        DateMismatchError: `date` is not an ISO date, or not that of the file's metadata.
        GridMismatchError: The grid is rotated, `bbox` or `geometry` lie outside, or bands
            of several GSD are wanted without `gsd`.
        CalibrationError: Reflectance looks scaled twice, or not at all.
        UnknownNameError: There is no such sensor, resampling or offset.
        ParameterError: A value is out of range.
    """
    sensor = sensor_of(sensor)
    day = None if date is None else parse_date(date)
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
    if geometry is not None:
        geometry = getattr(geometry, "__geo_interface__", geometry)
        around = rasterio.features.bounds(geometry)
        bbox = around if bbox is None else bbox
    part = Part(bbox, bbox_crs, chunks)
    if os.path.isdir(path):
        opened = open_folder(
            os.path.abspath(path), sensor, bands, part, offset, gsd, resampling
        )
    elif gsd is None and resampling is None:
        opened = open_file(inspect(path), sensor, bands, part, offset)
    else:
        raise ParameterError(
            "expected gsd and resampling with the folder of a product, found the file "
            f"{name_of(path)}; put it on another grid with geofuse.align"
        )
    day = checked_day(day, opened.period, opened.path)
    warn_of_assumed_offset(opened.offset, day, opened.path)
    data, grid = opened.data, opened.grid
    if geometry is not None:
        data = da.map_blocks(
            _mask_outside,
            data,
            geometry,
            grid.affine,
            dtype=np.float32,
            meta=data._meta,
        )
    coords = {"band": opened.bands} | ({} if day is None else {"time": day})
    image = place(data, grid, coords=coords)
    image.attrs = {
        "sensor": sensor.name,
        "source": name_of(opened.path),
        "long_name": sensor.title or sensor.name,
        "grid_mapping": "spatial_ref",
    }
    if sensor.quantity == "temperature":
        image.attrs["units"] = "K"
    if opened.offset is not None:
        image.attrs["offset"] = opened.offset.reason
    image.name = sensor.quantity
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
