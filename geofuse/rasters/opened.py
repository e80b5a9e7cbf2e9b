"""The pixels of a file, or of a folder with a file a band, as one lazy array.

    inspect → which band is which → grid, north up → gain, offset, nodata → dask

The bands of a folder may have several GSD. They come onto the grid of one of them:
larger pixels are repeated, which changes no value, smaller ones are averaged.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

import dask.array as da
import numpy as np
from dask.base import tokenize
from odc.geo.geobox import GeoBox

from geofuse.errors import GridMismatchError, RasterReadError
from geofuse.rasters.acquired import Period, stated_period
from geofuse.rasters.align import align
from geofuse.rasters.calibration import (
    Offset,
    check_reflectance,
    darkest_band,
    offset_by_name,
    offset_of,
)
from geofuse.rasters.grid import place, shift_between
from geofuse.rasters.placement import chunk_sides, clip, file_grid, file_rows
from geofuse.rasters.scene_folder import BandFile, band_files, safe_metadata
from geofuse.rasters.sensors import Sensor, select_bands
from geofuse.rasters.source import RasterFile, RasterSource, inspect


class Part(NamedTuple):
    """What is wanted of a file.

    Attributes:
        bbox: Left, bottom, right, top; None for all of it.
        bbox_crs: CRS of `bbox`; None for that of the file.
        chunks: Side of the dask chunks; None for whole blocks of the file.
    """

    bbox: Sequence[float] | None = None
    bbox_crs: str | None = None
    chunks: int | None = None


class Opened(NamedTuple):
    """An image before it is labeled.

    Attributes:
        data: Physical values (band, y, x), float32, NaN where invalid, lazy.
        bands: Names of the bands.
        grid: Where it lies, north up.
        offset: Reflectance at DN 0, where it was in question.
        period: When it was acquired, as the file tells; None if it does not.
        path: Of the file or folder.
    """

    data: da.Array
    bands: list[str]
    grid: GeoBox
    offset: Offset | None
    period: Period | None
    path: str


def open_file(
    file: RasterFile,
    sensor: Sensor,
    bands: Sequence[str] | None,
    part: Part,
    offset: str | float,
) -> Opened:
    """Open the wanted bands of one file; arguments as of `open_optical`."""
    chosen = select_bands(sensor, file.descriptions, bands, path=file.path)
    indexes = [index for _, index in chosen]
    source, grid = _source(file, sensor, indexes, part)
    names = [name for name, _ in chosen]
    # Judged on the whole file: two parts of it must not have two offsets.
    whole, _ = _source(file, sensor, indexes, Part())
    stated = offset_by_name(file.path, sensor)
    settled = offset_of(sensor, whole, names, offset, stated)
    if settled is not None:
        values = (settled.value,) * len(names)
        source, whole = replace(source, offset=values), replace(whole, offset=values)
    check_reflectance(whole, sensor)
    period = stated_period(file.tags, file.path)
    return Opened(_lazy(source, part), names, grid, settled, period, file.path)


def open_folder(
    folder: str,
    sensor: Sensor,
    bands: Sequence[str] | None,
    part: Part,
    offset: str | float,
    gsd: float | None,
    resampling: str | None,
) -> Opened:
    """Open the wanted bands of a folder on one grid; arguments as of `open_optical`."""
    if not sensor.bands:
        raise RasterReadError(
            f"expected a raster file, or the sensor of a product's folder, found a folder "
            f"at {folder} and {sensor.name}; name the file itself, or a sensor with bands"
        )
    files = band_files(folder, sensor)
    known = list(files)
    chosen = select_bands(sensor, known, bands, path=folder)
    names = [name for name, _ in chosen]
    sources, grids = [], []
    for _, index in chosen:
        file = inspect(_nearest(files[known[index]], gsd))
        source, grid = _source(file, sensor, [0], Part())
        sources.append(source)
        grids.append(grid)
    target = _target(folder, files, grids, names, gsd)
    metadata = safe_metadata(folder, sensor)
    stated = [
        offset_by_name(source.file.path, sensor)
        if metadata is None
        else metadata.offsets[known[index]]
        for source, (_, index) in zip(sources, chosen, strict=True)
    ]
    if metadata is not None:
        sources = [replace(source, gain=(metadata.gain,)) for source in sources]
    dark = darkest_band(names)
    settled = offset_of(sensor, sources[dark], [names[dark]], offset, stated[dark])
    if settled is not None:
        by_band = settled == stated[dark]
        sources = [
            replace(source, offset=((own if by_band and own else settled).value,))
            for source, own in zip(sources, stated, strict=True)
        ]
    check_reflectance(sources[dark], sensor)
    data = []
    for source, grid in zip(sources, grids, strict=True):
        pixels = _lazy(source, part)
        if shift_between(target, grid):
            image, like = place(pixels, grid), place(_nothing(target), target)
            pixels = align(image, like=like, resampling=resampling).data
        data.append(pixels)
    sides = [part.chunks] * 2 if part.chunks else data[dark].chunks[-2:]
    rows, columns = clip(target, part.bbox, part.bbox_crs, sources[0].file)
    file = sources[0].file
    return Opened(
        da.concatenate(data).rechunk((-1, *sides))[:, rows, columns],
        names,
        target[rows, columns],
        settled,
        (metadata and metadata.period) or stated_period(file.tags, file.path),
        folder,
    )


def _source(
    file: RasterFile, sensor: Sensor, indexes: Sequence[int], part: Part
) -> tuple[RasterSource, GeoBox]:
    """The part of a file that is wanted, with the sensor's gain, offset and nodata."""
    grid, south_up = file_grid(file)
    rows, columns = clip(grid, part.bbox, part.bbox_crs, file)
    source = RasterSource(
        file=file,
        indexes=tuple(indexes),
        rows=file_rows(rows, file.shape[1], south_up),
        columns=(columns.start, columns.stop - columns.start),
        gain=tuple(_pick(sensor.gain, file.scales[index]) for index in indexes),
        offset=tuple(_pick(sensor.offset, file.offsets[index]) for index in indexes),
        nodata=tuple(_nodata(sensor, file.nodata[index]) for index in indexes),
        south_up=south_up,
    )
    return source, grid[rows, columns]


def _lazy(source: RasterSource, part: Part) -> da.Array:
    sides = [part.chunks] * 2 if part.chunks else chunk_sides(source.file.block)
    return da.from_array(
        source,
        chunks=(-1, *sides),
        name=f"open-{tokenize(source)}",
        asarray=False,
        meta=np.empty((0, 0, 0), np.float32),
    )


def _nearest(files: list[BandFile], gsd: float | None) -> str:
    """The file of the GSD that is wanted, else the finest."""
    return next((file.path for file in files if file.gsd == gsd), files[0].path)


def _target(
    folder: str,
    files: dict[str, list[BandFile]],
    grids: Sequence[GeoBox],
    names: Sequence[str],
    gsd: float | None,
) -> GeoBox:
    """The grid on which all bands come."""
    if gsd is None:
        sizes = {
            name: abs(grid.affine.a) for name, grid in zip(names, grids, strict=True)
        }
        if any(shift_between(grids[0], grid) for grid in grids):
            told = ", ".join(f"{name} {size:g} m" for name, size in sizes.items())
            raise GridMismatchError(
                f"expected bands of one GSD, found {told} in {folder}; choose one with "
                f"gsd={min(sizes.values()):g}"
            )
        return grids[0]
    paths = [file.path for band in files.values() for file in band]
    found = set()
    # Other bands are only looked at where none of the wanted ones has that GSD.
    others = (file_grid(inspect(path))[0] for path in paths)
    for grid in chain(grids, others):
        size = abs(grid.affine.a)
        found.add(size)
        if math.isclose(size, gsd, rel_tol=1e-6):
            return grid
    raise GridMismatchError(
        f"expected gsd of one of the bands of {folder}, found {gsd:g} among "
        f"{', '.join(f'{size:g}' for size in sorted(found))} m; put the image on another "
        "grid with geofuse.align"
    )


def _nothing(grid: GeoBox) -> np.ndarray:
    """An array of the grid's shape that takes no memory."""
    return np.broadcast_to(np.float32(0), grid.shape)


def _pick(given: float | None, stated: float) -> float:
    return stated if given is None else given


def _nodata(sensor: Sensor, stated: float | None) -> tuple[float, ...]:
    numbers = (sensor.nodata, stated)
    return tuple(
        sorted({float(n) for n in numbers if n is not None and not math.isnan(n)})
    )
