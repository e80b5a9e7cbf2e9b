"""Open radar images as backscatter in linear power, whatever the file holds.

    RTC   a GeoTIFF on a map: what it holds becomes power
    GRD   a SAFE folder: calibrated by its own tables, and, if asked, placed by its
          ground control points, without terrain correction

Complex images (SLC) are refused: they need debursting and multilooking first.
"""

import datetime
import os
from collections.abc import Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from odc.geo.geobox import GeoBox

from geofuse.errors import GridMismatchError, ParameterError, did_you_mean
from geofuse.rasters.acquired import parse_date
from geofuse.rasters.backscatter import checked_unit, sample_of, to_power
from geofuse.rasters.grd import Product, is_safe, open_product
from geofuse.rasters.grid import place
from geofuse.rasters.ground_control import GeocodedSource
from geofuse.rasters.placement import chunk_sides, clip, file_grid, file_rows
from geofuse.rasters.radar_file import (
    agreed_day,
    agreed_quantity,
    day_of,
    layout_of,
    quantity_of,
    unit_of,
)
from geofuse.rasters.source import CHUNK, RasterFile, RasterSource, inspect, name_of


def open_sar(
    path: str | os.PathLike[str],
    *,
    date: str | datetime.date | np.datetime64 | None = None,
    polarizations: Sequence[str] | None = None,
    unit: str | None = None,
    quantity: str | None = None,
    bbox: Sequence[float] | None = None,
    bbox_crs: str | None = None,
    chunks: int | None = None,
    terrain_correction: str = "required",
    thermal_noise: str = "kept",
) -> xr.DataArray:
    """Open a radar image as linear power, lazily.

    Args:
        path: A local GeoTIFF or COG of a terrain-corrected product (RTC), or the SAFE
            folder of a Sentinel-1 GRD product, which is calibrated by its own tables.
        date: Day of the image, ISO; None for the day that the file states.
        polarizations: vv, vh, hh, hv in the order wanted; None for all. If the file does
            not name its bands, their names in the order of the file.
        unit: What the file holds: power, amplitude or db; None as the file states.
        quantity: sigma0, gamma0 or beta0; None as the file states. Recorded, not
            converted; of a SAFE folder the one wanted, sigma0 by default.
        bbox: Part to open: left, bottom, right, top. Pixels that it touches are kept.
        bbox_crs: CRS of `bbox`; by default that of the file.
        chunks: Side of the dask chunks in pixels; by default whole blocks of the file, of
            256 to 1024 pixels.
        terrain_correction: "required" refuses a GRD product, which has none; "none"
            places it by its ground control points: in UTM, the nearest pixel, off by
            about the height of the ground over what the points know.
        thermal_noise: "kept" or, of a SAFE folder, "subtracted" by its own tables; power
            then may be below 0 where there is little else.

    Returns:
        Backscatter (band, y, x), linear power, float32, NaN where the file has its nodata
        or exactly 0; bands vv, vh, hh, hv; a scalar `time`; the CRS in `spatial_ref`;
        where the file has it, the incidence angle (y, x) in degrees as coordinate
        `incidence_angle`. Attributes `quantity` and `units` say what it is.

    Raises:
        RasterReadError: The file is missing, damaged, not a raster, not safe, or of
            complex numbers.
        BandMismatchError: A polarization is not there, or the order of bands is unknown.
        UnknownNameError: There is no such polarization.
        DateMismatchError: No date is known, or the file states another one.
        ParameterError: No unit is known, the values do not look like it (dB where power
            was said, or the reverse), or the file states another one.
        GridMismatchError: The grid is rotated, `bbox` lies outside, or the product is
            without terrain correction, which was required.
    """
    _check_words(terrain_correction, thermal_noise)
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
    wanted = None if polarizations is None else [name.lower() for name in polarizations]
    unit = unit and unit.lower()
    if is_safe(path):
        if terrain_correction == "required":
            raise _not_corrected(os.fspath(path))
        if unit not in (None, "power"):
            raise ParameterError(
                f"expected no unit of a SAFE folder, found {unit!r}; its DN become power "
                "by its own tables: leave it out"
            )
        product = open_product(
            path,
            polarizations=wanted,
            quantity=agreed_quantity(quantity) or "sigma0",
            subtract_noise=thermal_noise == "subtracted",
        )
        return _placed(product, quantity or "sigma0", date, bbox, bbox_crs, chunks)
    file = inspect(path)
    _check_terrain(file, thermal_noise)
    layout = layout_of(file, wanted)
    day = day_of(file, date)
    first = layout.bands[0][1]
    measure = quantity_of(file, first, quantity)
    stated = unit_of(file, first, unit)
    grid, south_up = file_grid(file)
    rows, columns = clip(grid, bbox, bbox_crs, file)
    grid = grid[rows, columns]

    def source(*indexes: int) -> RasterSource:
        nodata = [file.nodata[index] for index in indexes]
        return RasterSource(
            file=file,
            indexes=indexes,
            rows=file_rows(rows, file.shape[1], south_up),
            columns=(columns.start, columns.stop - columns.start),
            gain=tuple(file.scales[index] for index in indexes),
            offset=tuple(file.offsets[index] for index in indexes),
            nodata=tuple(() if n is None else (n,) for n in nodata),
            south_up=south_up,
        )

    backscatter = source(*(index for _, index in layout.bands))
    known = checked_unit(sample_of(backscatter), stated, file.path)
    sides = [chunks, chunks] if chunks else chunk_sides(file.block)
    data: Any = _lazily(backscatter, sides, tokenize(backscatter))
    data = data.map_blocks(
        to_power, known, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32)
    )
    names = [name for name, _ in layout.bands]
    image = place(data, grid, coords={"band": names, "time": day})
    if layout.angle is not None:
        angle = source(layout.angle)
        degrees = _lazily(angle, sides, tokenize(angle))[0]
        image = image.assign_coords(incidence_angle=_angle(degrees, grid))
    return _described(image, measure, name_of(file.path))


def _placed(
    product: Product,
    quantity: str,
    date: Any,
    bbox: Sequence[float] | None,
    bbox_crs: str | None,
    chunks: int | None,
) -> xr.DataArray:
    """A GRD product on a map, by its ground control points."""
    file = product.measurements[0].file
    whole = product.control.grid(product.gsd)
    rows, columns = clip(whole, bbox, bbox_crs, file)
    grid = whole[rows, columns]
    day = agreed_day(date, parse_date(product.start), product.path)
    powers = tuple(measurement.power for measurement in product.measurements)
    # Without a band to read, the same array gives the incidence angle.
    power, angle = (
        GeocodedSource(
            read=read,
            size=file.shape[1:],
            control=product.control,
            grid=whole,
            rows=(rows.start, rows.stop - rows.start),
            columns=(columns.start, columns.stop - columns.start),
        )
        for read in (powers, ())
    )
    token = tokenize(product, whole.affine, bbox, bbox_crs)
    sides = [chunks or 2 * CHUNK] * 2
    names = [measurement.polarization for measurement in product.measurements]
    data = _lazily(power, sides, token)
    image = place(data, grid, coords={"band": names, "time": day})
    degrees = _lazily(angle, sides, f"angle-{token}")[0]
    image = image.assign_coords(incidence_angle=_angle(degrees, grid))
    image = _described(image, quantity, name_of(product.path))
    noise = "kept" if product.measurements[0].noise is None else "subtracted"
    return image.assign_attrs(terrain_correction="none", thermal_noise=noise)


def _described(image: xr.DataArray, quantity: str | None, source: str) -> xr.DataArray:
    image.name = quantity or "backscatter"
    image.attrs = {
        "quantity": quantity or "not stated",
        "units": "1",
        "source": source,
        "long_name": "backscatter, linear power",
        "grid_mapping": "spatial_ref",
    }
    return image


def _lazily(
    source: RasterSource | GeocodedSource, sides: Sequence[int], token: str
) -> da.Array:
    return da.from_array(
        source,
        chunks=(-1, *sides),
        name=f"open-{token}",
        asarray=False,
        meta=np.empty((0, 0, 0), np.float32),
    )


def _angle(degrees: da.Array, grid: GeoBox) -> xr.DataArray:
    attributes = {"units": "degree", "long_name": "incidence angle"}
    return place(degrees, grid).assign_attrs(attributes).drop_vars("spatial_ref")


def _check_words(terrain_correction: str, thermal_noise: str) -> None:
    for name, value, known in (
        ("terrain_correction", terrain_correction, ("required", "none")),
        ("thermal_noise", thermal_noise, ("kept", "subtracted")),
    ):
        if value not in known:
            raise ParameterError(
                f"expected {name} to be {known[0]!r} or {known[1]!r}, found {value!r}"
                f"; {did_you_mean(value, known)}"
            )


def _check_terrain(file: RasterFile, thermal_noise: str) -> None:
    if not file.georeferenced and "-grd-" in name_of(file.path).lower():
        raise _not_corrected(file.path)
    if thermal_noise != "kept":
        raise ParameterError(
            f"expected a SAFE folder to subtract thermal noise, found {file.path}; "
            "leave out thermal_noise"
        )


def _not_corrected(path: str) -> GridMismatchError:
    return GridMismatchError(
        f"expected terrain-corrected pixels, found a GRD product without terrain "
        f"correction, {path}; take an RTC product, or open its SAFE folder with "
        "terrain_correction='none', which puts mountains hundreds of meters off"
    )
