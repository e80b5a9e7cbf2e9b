"""Cubes in Zarr: written region by region, whole or not at all, and checked when read.

    regions ──> .OUT.zarr.geofuse/store   one chunk a region, with checksums  (resumable)
                                 /journal one line a region: place and digest
            ──> all read back and compared ──> OUT.zarr, one rename

Zarr reads a chunk that is missing as fill values and a flipped bit as another number, both
in silence. So every chunk carries the checksum of Zstandard and a CRC32C, all chunks are
written, empty ones too, and reading checks that they are there. Coordinates, grid mapping
and dimension names are those of CF and GeoZarr, so xarray, GDAL and others read the cube.
Needs the extra `zarr`.
"""

import contextlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize

from geofuse.errors import (
    GeofuseError,
    GridMismatchError,
    MissingExtraError,
    ParameterError,
    RasterReadError,
    TileReadError,
    WriteError,
)
from geofuse.rasters.grid import grid_of
from geofuse.rasters.write import (
    DISK_FAILURES,
    Progress,
    alone,
    digest_of,
    silent,
    writing,
)
from geofuse.tiling import stream_tiles

#: Side of a chunk in pixels.
CHUNK = 512

#: Codecs that a store may be read with: others may run past their buffers or run code.
CODECS = {
    "bytes",
    "zstd",
    "crc32c",
    "gzip",
    "transpose",
    "sharding_indexed",
    "vlen-utf8",
}

_COMPLETE = "geofuse_complete"


def write_zarr(
    cube: xr.DataArray,
    path: str | os.PathLike[str],
    *,
    chunk: int = CHUNK,
    workers: int | None = None,
    progress: Progress = silent,
) -> Path:
    """Write a cube to a Zarr store: whole or not at all, continuing where it was stopped.

    Args:
        cube: Cube (time, band, y, x) or image (band, y, x), lazy or not, on a regular grid.
        path: The store to make. A Zarr store that is there already is replaced when the
            new one is complete, and not before.
        chunk: Side of the chunks in pixels; a chunk holds one date and all bands.
        workers: Number of threads; by default what dask is configured for.
        progress: Called with the numbers of regions that are stored, and of all.

    Returns:
        The path.

    Raises:
        WriteError: The disk is full or failing, or something else stands at the path.
        LockedError: Another run writes the same store.
        GridMismatchError: Dimensions are others, or the grid is not regular.
        ParameterError: `chunk` is not positive.
        MissingExtraError: The package zarr is not there.
    """
    _zarr()
    if chunk < 1:
        raise ParameterError(f"expected chunks of at least 1 pixel, found {chunk}")
    target = Path(os.path.abspath(os.fspath(path)))
    dims = tuple(map(str, cube.dims))
    if dims not in (("time", "band", "y", "x"), ("band", "y", "x")):
        raise GridMismatchError(
            f"expected a cube (time, band, y, x) or an image (band, y, x), found {dims}; "
            "stack images with geofuse.stack_dates"
        )
    if cube.name is not None and not re.fullmatch(r"[\w-][\w.-]*", str(cube.name)):
        raise ParameterError(
            f"expected a name of letters, digits, _ and -, found {cube.name!r}; use "
            "cube.rename('reflectance')"
        )
    grid_of(cube)  # refuses what is not regular
    if target.exists() and not (target / "zarr.json").is_file():
        raise WriteError(
            f"expected no file and no folder but a Zarr store at {target}, found another; "
            "choose another name"
        )
    folder = target.parent / f".{target.name}.geofuse"
    with writing(target), alone(folder, target):
        try:
            stage = _Stage(cube, folder, target, chunk)
            stage.prepare()
            stage.compute(workers, progress)
            stage.verify()
            stage.publish()
        except (GeofuseError, *DISK_FAILURES):
            # What was asked cannot be done: nothing stays behind. After a kill, Ctrl-C or
            # an error of ours the regions stay, and the same work continues.
            shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)
    return target


def open_zarr(path: str | os.PathLike[str], name: str | None = None) -> xr.DataArray:
    """Open a cube of a Zarr store, lazily.

    Args:
        path: A local folder.
        name: Which variable; by default the only one with y and x.

    Returns:
        The cube as it was written: values, coordinates, attributes.

    Raises:
        RasterReadError: It is no Zarr store, parts are missing, or its codecs are not
            among those that are safe. Reading a damaged chunk is a `TileReadError`.
        MissingExtraError: The package zarr is not there.
    """
    zarr = _zarr()
    folder = Path(os.path.abspath(os.fspath(path)))
    if not (folder / "zarr.json").is_file():
        raise RasterReadError(
            f"expected a Zarr store (format 3), found none at {folder}; check the path"
        )
    try:
        _check_codecs(folder)
        dataset = xr.open_zarr(
            str(folder), consolidated=False, chunks=None, decode_coords="all"
        )
        named = [v for v in dataset.data_vars if {"y", "x"} <= set(dataset[v].dims)]
        if name is None and len(named) == 1:
            name = str(named[0])
        if name is None or name not in dataset.data_vars:
            raise RasterReadError(
                f"expected one variable with y and x, found {sorted(map(str, named))} in "
                f"{folder}; name it"
            )
        cube = dataset[name]
        array = zarr.open_array(str(folder), path=name, mode="r")
    except (ValueError, KeyError, TypeError, OSError, RuntimeError) as error:
        raise RasterReadError(
            f"expected a Zarr store that can be read, found {folder}, whose description "
            f"is damaged ({error}); fetch or write it again"
        ) from error
    source = _Source(
        str(folder / name),
        array.shape,
        array.dtype,
        array.chunks,
        bool(dataset.attrs.get(_COMPLETE)),
    )
    source.check_chunks(tuple(slice(0, size) for size in array.shape))
    data = da.from_array(
        source,
        chunks=array.chunks,
        name=f"zarr-{tokenize(source, os.stat(folder / 'zarr.json').st_mtime_ns)}",
        asarray=False,
        meta=np.empty((0,) * array.ndim, array.dtype),
    )
    opened = cube.copy(data=data)
    opened.encoding = {}
    offset = opened.attrs.get("coarse_offset")
    if offset is not None:  # JSON knows no tuples
        opened.attrs["coarse_offset"] = tuple(int(start) for start in offset)
    return opened


@dataclass(frozen=True)
class _Source:
    """A variable of a store, as an array that reads what is indexed."""

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype
    chunks: tuple[int, ...]
    complete: bool

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, key: Any) -> np.ndarray:
        zarr = _zarr()
        spans = tuple(
            part if isinstance(part, slice) else slice(int(part), int(part) + 1)
            for part in key
        )
        self.check_chunks(spans)
        try:
            return np.asarray(zarr.open_array(self.path, mode="r")[key])
        except (RuntimeError, ValueError, TypeError, OSError, KeyError) as error:
            raise TileReadError(
                f"expected {_in_words(spans)} of {self.path}, found that they cannot be "
                f"read ({error}); the store is damaged: fetch or write it again"
            ) from error

    def check_chunks(self, spans: tuple[slice, ...]) -> None:
        """Refuse chunks that are not there, where the store was written in full."""
        if not self.complete:
            return
        ranges = []
        for part, size, side in zip(spans, self.shape, self.chunks, strict=True):
            start, stop, _ = part.indices(size)
            ranges.append(range(start // side, math.ceil(stop / side)))
        for place in np.ndindex(*(len(r) for r in ranges)):
            numbers = [str(r[i]) for r, i in zip(ranges, place, strict=True)]
            if not os.path.isfile(os.path.join(self.path, "c", *numbers)):
                raise TileReadError(
                    f"expected all chunks of {self.path}, found {'/'.join(numbers)} "
                    "missing; fetch or write the store again"
                )


class _Stage:
    """The hidden folder beside a target, in which its store comes to be."""

    def __init__(
        self, cube: xr.DataArray, folder: Path, target: Path, chunk: int
    ) -> None:
        self.target, self.folder = target, folder
        self.store, self.journal = folder / "store", folder / "journal"
        self.name = "reflectance" if cube.name is None else str(cube.name)
        sides = {"band": -1, "y": chunk, "x": chunk}
        if "time" in cube.dims:
            sides["time"] = 1
        self.cube = cube.chunk(sides).drop_encoding()
        self.chunk = chunk
        self.job = tokenize(
            self.cube.data.name,
            self.cube.data.chunks,
            self.cube.dtype.str,
            {name: str(value.values) for name, value in cube.coords.items()},
            _plain(cube.attrs),
        )
        self.done: dict[tuple[int, int, int], str] = {}

    def prepare(self) -> None:
        """Take over the regions of an earlier run of the same work, if they are whole."""
        old = self.folder / "replaced"
        if old.exists() and not self.target.exists():  # killed between two renames
            os.replace(old, self.target)
        shutil.rmtree(old, ignore_errors=True)
        lines = []
        with contextlib.suppress(OSError):
            lines = self.journal.read_text().split("\n")[:-1]
        if (
            not lines
            or lines[0] != self.job
            or not (self.store / "zarr.json").is_file()
        ):
            shutil.rmtree(self.store, ignore_errors=True)
            self.journal.unlink(missing_ok=True)
            self._describe()
            self._note(self.job)
            return
        array = self._array()
        for line in lines[1:]:
            with contextlib.suppress(ValueError):
                *numbers, digest = line.split()
                time, row, column = map(int, numbers)
                region = (time, row, column)
                if self._digest(array, region) == digest:
                    self.done[region] = digest

    def compute(self, workers: int | None, progress: Progress) -> None:
        """Compute and store the regions that are not there yet."""
        array = self._array()
        heights, widths = self.cube.data.chunks[-2:]
        layers = self._layers()
        total = len(layers) * len(heights) * len(widths)
        progress(len(self.done), total)
        for time, layer in enumerate(layers):
            kept = {(row, column) for t, row, column in self.done if t == time}
            if len(kept) == len(heights) * len(widths):
                continue
            stream = stream_tiles(
                {"layer": layer},
                skip=lambda row, column, kept=kept: (row, column) in kept,  # type: ignore[misc]
                workers=workers,
            )
            for tile in stream:
                values = np.ascontiguousarray(tile.arrays["layer"])
                region = (time, tile.row, tile.column)
                array[self._place(region)] = values
                self.done[region] = digest_of(values)
                # After the chunk, which Zarr renames into place.
                self._note(f"{time} {tile.row} {tile.column} {self.done[region]}")
                progress(len(self.done), total)

    def verify(self) -> None:
        """Compare every region of the store with what was computed."""
        array = self._array()
        for region, digest in self.done.items():
            if self._digest(array, region) != digest:
                raise WriteError(
                    f"expected the store of {self.target} to read back as computed, found "
                    f"region {region} different; the disk is full or failing: free space "
                    "and try again"
                )
        _zarr().open_group(str(self.store), mode="r+").attrs[_COMPLETE] = True

    def publish(self) -> None:
        """Put the finished store in place."""
        for path in self.store.rglob("*"):
            if path.is_file():
                _sync(path)
        if self.target.exists():
            os.replace(self.target, self.folder / "replaced")
        os.replace(self.store, self.target)
        _sync(self.target.parent)

    def _describe(self) -> None:
        """Write all but the values: coordinates, grid mapping, attributes."""
        codecs = _zarr().codecs
        cube = self.cube.copy()
        cube.attrs = _plain(
            {k: v for k, v in cube.attrs.items() if k != "grid_mapping"}
        )
        axes = _axes(cube)
        cube = cube.assign_coords(
            {name: cube[name].assign_attrs(axes[name]) for name in ("y", "x")}
        )
        band = np.array([str(b) for b in cube["band"].values], dtype=object)
        cube = cube.assign_coords(band=("band", band, cube["band"].attrs))
        dataset = cube.to_dataset(name=self.name)
        dataset.attrs = {"Conventions": "CF-1.11"}
        encoding: dict[str, dict[str, Any]] = {
            self.name: {
                "chunks": tuple(sizes[0] for sizes in cube.data.chunks),
                "compressors": (
                    codecs.ZstdCodec(level=3, checksum=True),
                    codecs.Crc32cCodec(),
                ),
            }
        }
        if "spatial_ref" in cube.coords:
            encoding[self.name]["grid_mapping"] = "spatial_ref"
        if "time" in cube.coords:
            encoding["time"] = {
                "units": "nanoseconds since 1970-01-01",
                "dtype": "int64",
            }
        dataset.to_zarr(
            str(self.store),
            mode="w",
            compute=False,
            consolidated=False,
            zarr_format=3,
            encoding=encoding,
        )

    def _layers(self) -> list[xr.DataArray]:
        if "time" not in self.cube.dims:
            return [self.cube]
        return [self.cube[number] for number in range(self.cube.sizes["time"])]

    def _array(self) -> Any:
        return _zarr().open_array(
            str(self.store),
            path=self.name,
            mode="r+",
            config={"write_empty_chunks": True},
        )

    def _place(self, region: tuple[int, int, int]) -> tuple[Any, ...]:
        time, row, column = region
        spans = [
            slice(number * self.chunk, min((number + 1) * self.chunk, size))
            for number, size in zip((row, column), self.cube.shape[-2:], strict=True)
        ]
        inside = (slice(None), *spans)
        return (time, *inside) if "time" in self.cube.dims else inside

    def _digest(self, array: Any, region: tuple[int, int, int]) -> str | None:
        """Digest of a stored region, None where it cannot be read."""
        with contextlib.suppress(
            RuntimeError, ValueError, TypeError, OSError, KeyError
        ):
            return digest_of(np.asarray(array[self._place(region)]))
        return None

    def _note(self, line: str) -> None:
        with self.journal.open("a") as file:
            file.write(f"{line}\n")
            file.flush()
            os.fsync(file.fileno())


def _axes(cube: xr.DataArray) -> dict[str, dict[str, str]]:
    """What CF says of y and x."""
    crs = grid_of(cube).crs
    if crs is None:
        return {"y": {"axis": "Y"}, "x": {"axis": "X"}}
    if crs.geographic:
        return {
            "y": {"axis": "Y", "standard_name": "latitude", "units": "degrees_north"},
            "x": {"axis": "X", "standard_name": "longitude", "units": "degrees_east"},
        }
    unit = crs.units[0] or "m"
    unit = "m" if unit in ("metre", "meter") else unit
    return {
        "y": {"axis": "Y", "standard_name": "projection_y_coordinate", "units": unit},
        "x": {"axis": "X", "standard_name": "projection_x_coordinate", "units": unit},
    }


def _plain(attributes: dict[Any, Any]) -> dict[str, Any]:
    """Attributes as JSON has them; what it cannot hold, as text."""

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray | np.generic):
            value = value.tolist()
        if isinstance(value, list | tuple):
            return [plain(entry) for entry in value]
        return value if isinstance(value, str | int | float | bool) else str(value)

    return {str(name): plain(value) for name, value in attributes.items()}


def _check_codecs(folder: Path) -> None:
    for description in sorted(folder.glob("**/zarr.json")):
        facts = json.loads(description.read_text())
        for codec in _codecs_in(facts):
            if codec not in CODECS:
                raise RasterReadError(
                    f"expected codecs out of {', '.join(sorted(CODECS))}, found {codec!r} "
                    f"in {description}; write the store again with one of these"
                )


def _codecs_in(facts: Any) -> Iterator[str]:
    """Names of all codecs of an array, those within others too."""
    if isinstance(facts, dict):
        for key, value in facts.items():
            if key in ("codecs", "index_codecs"):
                yield from (str(codec.get("name")) for codec in value)
            yield from _codecs_in(value)
    elif isinstance(facts, list):
        for value in facts:
            yield from _codecs_in(value)


def _in_words(spans: tuple[slice, ...]) -> str:
    return ", ".join(f"{part.start}:{part.stop}" for part in spans)


def _sync(path: Path) -> None:
    with contextlib.suppress(OSError):  # not every file system can
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _zarr() -> Any:
    try:
        import zarr
        import zarr.codecs
    except ImportError:
        raise MissingExtraError(
            "expected the package zarr for Zarr stores, found none; install it with "
            "pip install 'geofuse[zarr]'"
        ) from None
    return zarr
