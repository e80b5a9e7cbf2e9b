"""Write products to Cloud-Optimized GeoTIFF: tile by tile, whole or not at all.

    tiles ──> .OUT.tif.geofuse/  one file a tile, named by its digest   (resumable)
          ──> assembled.tif ──> product.tif (COG, with overviews), read back, compared
          ──> OUT.tif          one atomic rename

GDAL writes in place, says nothing of a full disk in some cases, leaves a file that
opens and reads as zeros when it is killed, and may delete what a hostile file at the
target points at. So it never sees the target: a product appears there complete and
verified, or what stood there before still stands. A run that was stopped continues from
its tiles when the same work is asked for again.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
import xarray as xr
from affine import Affine
from dask.base import tokenize
from rasterio._err import CPLE_BaseError
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from geofuse.errors import (
    GeofuseError,
    GridMismatchError,
    LockedError,
    NothingValidWarning,
    ParameterError,
    WriteError,
)
from geofuse.rasters.grid import check_same_grid, grid_of
from geofuse.rasters.source import bound_cache, is_text
from geofuse.tiling import overlaps, release_memory, stream_tiles

#: Side of a block of the written file, in pixels.
BLOCK = 512

#: What a full or failing disk can end in; rasterio lets some of GDAL's errors through.
DISK_FAILURES = (OSError, RasterioError, CPLE_BaseError)


#: What is told that so many tiles are stored, of so many in all.
Progress = Callable[[int, int], None]


def silent(done: int, total: int) -> None:
    """Tell nobody."""


def write_cog(
    image: xr.DataArray,
    path: str | os.PathLike[str],
    *,
    tags: Mapping[str, str] | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> Path:
    """Write an image to a Cloud-Optimized GeoTIFF, computing it tile by tile.

    Args:
        image: Image (band, y, x) or (y, x), lazy or not; floats get nodata = NaN,
            integers the attribute `_FillValue`, and a palette where it has one band of 8
            or 16 bits without sign and the attributes `flag_values` and `flag_colors`.
        path: Where to; an existing file is replaced in the end, in one step.
        tags: Metadata to store beside what the image's attributes say.
        workers: Threads; by default what dask is configured for. A connected dask
            cluster is used instead, if there is one.
        progress: Called with the tiles done and in all.

    Returns:
        The path.

    Raises:
        WriteError: The folder is missing or not writable, or the disk is full. Nothing
            is left at `path` but what was there before.
        LockedError: Another process is writing this file.
        GridMismatchError: The image is not (band, y, x) or (y, x).

    Warns:
        NothingValidWarning: The image has no valid pixel; it is written all the same.
    """
    return write_cogs({path: image}, tags=tags, workers=workers, progress=progress)[0]


def write_cogs(
    images: Mapping[str | os.PathLike[str], xr.DataArray],
    *,
    tags: Mapping[str, str] | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> list[Path]:
    """Write several images of one grid, computing each tile once for all of them.

    All are computed and verified before the first is put in place; see `write_cog`.

    Args:
        images: Images by path, all on one grid.
        tags: Metadata to store in all of them.
        workers: As `write_cog`.
        progress: As `write_cog`.

    Returns:
        The paths.

    Raises:
        WriteError: As `write_cog`.
        LockedError: As `write_cog`.
        GridMismatchError: The images do not share a grid.
        ParameterError: Two images have one path, or there is none.

    Warns:
        NothingValidWarning: As `write_cog`.
    """
    targets = {Path(os.path.abspath(path)): image for path, image in images.items()}
    if not targets or len(targets) != len(images):
        raise ParameterError(
            "expected one path for each image, found "
            f"{[str(path) for path in images]}; give each its own"
        )
    first = next(iter(targets.values()))
    for path, image in targets.items():
        _check_target(path, image)
        check_same_grid(image, first, names=("an image", "the first one"))
    with contextlib.ExitStack() as stack:
        stages = [
            stack.enter_context(_Stage.open(path, image, tags or {}))
            for path, image in targets.items()
        ]
        _compute(stages, workers, progress)
        products = [stage.assemble() for stage in stages]
        for stage, product in zip(stages, products, strict=True):
            stage.publish(product)
    empty = [stage.target.name for stage in stages if not stage.any_valid]
    if empty:
        warnings.warn(
            f"expected valid pixels, found none in {', '.join(empty)}; check that the "
            "inputs overlap outside their nodata",
            NothingValidWarning,
            stacklevel=2,
        )
    return list(targets)


def stage_of(path: str | os.PathLike[str]) -> Path:
    """The hidden folder beside a product in which it comes to be."""
    target = Path(os.path.abspath(path))
    return target.parent / f".{target.name}.geofuse"


def _check_target(path: Path, image: xr.DataArray) -> None:
    if tuple(image.dims)[-2:] != ("y", "x") or image.ndim > 3:
        raise GridMismatchError(
            f"expected an image (band, y, x) or (y, x), found {image.dims}; select one "
            "date, or transpose"
        )
    if not is_text(str(path)):
        raise WriteError(
            f"expected a path in UTF-8, found {str(path)!r}; choose another name"
        )
    if path.is_dir():
        raise WriteError(
            f"expected a file name for the product, found the folder {path}; add a "
            "name such as fused.tif"
        )


def _compute(stages: list["_Stage"], workers: int | None, progress: Progress) -> None:
    """Compute and keep the tiles that are not kept yet."""
    missing = [set(stage.tiles()) - set(stage.kept) for stage in stages]
    wanted = set().union(*missing)
    total = len(stages[0].tiles())
    done = total - len(wanted)
    progress(done, total)
    if not wanted:
        return
    variables = {str(number): stage.image for number, stage in enumerate(stages)}
    stream = stream_tiles(
        variables, skip=lambda row, column: (row, column) not in wanted, workers=workers
    )
    for tile in stream:
        for number, stage in enumerate(stages):
            stage.keep(tile.row, tile.column, tile.arrays[str(number)])
        done += 1
        progress(done, total)


class _Stage:
    """The hidden folder beside a target, in which its product comes to be."""

    def __init__(
        self, target: Path, image: xr.DataArray, tags: Mapping[str, str]
    ) -> None:
        if image.ndim == 2:
            image = image.expand_dims(
                band=["b1" if image.name is None else str(image.name)]
            )
        if image.chunks is None:
            image = image.chunk({"band": -1, "y": BLOCK, "x": BLOCK})
        self.target = target
        self.image = image.chunk({"band": -1})
        self.sizes: tuple[tuple[int, ...], ...] = self.image.data.chunks[-2:]
        self.folder = stage_of(target)
        self.tags = {**_tags_of(image), **tags}
        self.job = tokenize(self.image.data.name, self.image.dtype.str, self.tags)
        self.kept: dict[tuple[int, int], str] = {}
        self.any_valid = False
        floats = np.issubdtype(self.image.dtype, np.floating)
        self.nodata = np.nan if floats else self.image.attrs.get("_FillValue")

    @classmethod
    @contextlib.contextmanager
    def open(
        cls, target: Path, image: xr.DataArray, tags: Mapping[str, str]
    ) -> Iterator["_Stage"]:
        """Make or continue the folder, alone; remove it when nothing can continue."""
        stage = cls(target, image, tags)
        with writing(target), alone(stage.folder, target):
            try:
                stage._continue()
                yield stage
            except (GeofuseError, *DISK_FAILURES):
                # What was asked cannot be done: nothing stays behind. After a kill,
                # Ctrl-C or an error of ours the tiles stay, and the same work
                # continues.
                shutil.rmtree(stage.folder, ignore_errors=True)
                raise
            shutil.rmtree(stage.folder, ignore_errors=True)

    def tiles(self) -> list[tuple[int, int]]:
        """Rows and columns of all tiles, in reading order."""
        rows, columns = map(len, self.sizes)
        return [(row, column) for row in range(rows) for column in range(columns)]

    def keep(self, row: int, column: int, values: np.ndarray) -> None:
        """Store a tile, whole or not at all."""
        values = np.ascontiguousarray(values)
        digest = digest_of(values)
        part = self.folder / f"{row}_{column}.part"
        with part.open("wb") as file:
            np.save(file, values, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self._path(row, column, digest))
        self.kept[row, column] = digest

    def assemble(self) -> Path:
        """Make the COG from the tiles, read it back, and compare."""
        release_memory()
        assembled, product = self.folder / "assembled.tif", self.folder / "product.tif"
        for path in (assembled, product):
            path.unlink(missing_ok=True)
        grid = grid_of(self.image)
        count, height, width = self.image.shape
        # Overviews are made of whole rows of blocks: low ones take less memory.
        block = min(BLOCK // 4, math.ceil(max(height, width) / 16) * 16)
        floats = np.issubdtype(self.image.dtype, np.floating)
        colors = _palette(self.image)
        profile: dict[str, Any] = {
            "driver": "GTiff",
            "count": count,
            "height": height,
            "width": width,
            "dtype": self.image.dtype.name,
            "crs": None if grid.crs is None else grid.crs.to_wkt(),
            "nodata": self.nodata,
            "tiled": True,
            "blockxsize": block,
            "blockysize": block,
            "interleave": "band",
            "bigtiff": "if_safer",
        }
        if grid.affine != Affine.identity():
            profile["transform"] = grid.affine
        with _gdal(), rasterio.open(assembled, "w", **profile) as dataset:
            dataset.descriptions = tuple(str(b) for b in self.image["band"].values)
            dataset.update_tags(**self.tags)
            if colors:
                dataset.write_colormap(1, colors)
            for top in range(0, height, BLOCK):
                for left in range(0, width, BLOCK):
                    rows = slice(top, min(top + BLOCK, height))
                    columns = slice(left, min(left + BLOCK, width))
                    window = Window.from_slices(rows, columns)
                    dataset.write(self._read(rows, columns), window=window)
        with _gdal():
            # Here and not by the COG driver, whose threads take more memory for it the
            # larger the raster, and no less time.
            with rasterio.open(assembled, "r+", driver="GTiff") as dataset:
                dataset.build_overviews(
                    _overview_factors(height, width),
                    Resampling.average if floats else Resampling.nearest,
                )
            rasterio.shutil.copy(
                assembled,
                product,
                driver="COG",
                blocksize=BLOCK,
                compress="DEFLATE",
                predictor="YES",
                overviews="FORCE_USE_EXISTING",
                bigtiff="IF_SAFER",
                num_threads=str(os.cpu_count() or 1),
            )
        self._verify(product)
        assembled.unlink()
        return product

    def publish(self, product: Path) -> None:
        """Put the finished product in place, in one step."""
        with product.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(product, self.target)
        _sync_folder(self.target.parent)

    def _continue(self) -> None:
        """Take over the tiles of an earlier run of the same work, if they are whole."""
        record = self.folder / "job.json"
        try:
            same = json.loads(record.read_text())["job"] == self.job
        except (OSError, ValueError, KeyError, TypeError):
            same = False
        for path in self.folder.iterdir():
            if path == record and same:
                continue
            place = _tile_name(path) if same else None
            if place is None or not _is_whole(path, place[1]):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            else:
                self.kept[place[0]] = place[1]
        if not same:
            record.write_text(json.dumps({"job": self.job, "target": self.target.name}))

    def _path(self, row: int, column: int, digest: str) -> Path:
        return self.folder / f"{row}_{column}_{digest}.npy"

    def _read(self, rows: slice, columns: slice) -> np.ndarray:
        """A window of the product, from the tiles."""
        values = np.empty(
            (self.image.shape[0], rows.stop - rows.start, columns.stop - columns.start),
            self.image.dtype,
        )
        spans = [
            overlaps(chunks, span.start, span.stop)
            for chunks, span in zip(self.sizes, (rows, columns), strict=True)
        ]
        for row, from_rows, to_rows in spans[0]:
            for column, from_columns, to_columns in spans[1]:
                path = self._path(row, column, self.kept[row, column])
                tile = np.load(path, mmap_mode="r", allow_pickle=False)
                values[:, to_rows, to_columns] = tile[:, from_rows, from_columns]
        return values

    def _verify(self, product: Path) -> None:
        """Compare every pixel of the written file with what was computed."""
        heights, widths = self.sizes
        with _gdal(), rasterio.open(product, driver="GTiff") as dataset:
            if max(dataset.shape) > BLOCK and not dataset.overviews(1):
                raise WriteError(
                    f"expected overviews in the product of {self.target}, found none; "
                    "this build of GDAL cannot write COG: install rasterio from its "
                    "wheels"
                )
            for (row, column), digest in self.kept.items():
                window = Window(
                    sum(widths[:column]),
                    sum(heights[:row]),
                    widths[column],
                    heights[row],
                )
                values = dataset.read(window=window)
                self.any_valid = self.any_valid or bool(
                    (np.isfinite(values) & (values != self.nodata)).any()
                )
                if digest_of(values) != digest:
                    raise WriteError(
                        f"expected the product of {self.target} to read back as "
                        f"computed, found tile {row},{column} different; the disk is "
                        "full or failing: free space and try again"
                    )


@contextlib.contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turn failures of the disk into an error that says what to do."""
    try:
        yield
    except GeofuseError:
        raise
    except DISK_FAILURES as error:
        full = getattr(error, "errno", None) in (
            errno.ENOSPC,
            errno.EDQUOT,
            errno.EFBIG,
        )
        todo = "choose a folder that exists and is writable"
        if full:
            todo = "free some space"
        elif not isinstance(error, OSError):  # GDAL does not tell the two apart
            todo = f"free some space, or {todo}"
        raise WriteError(
            f"expected to write {target}, found that it cannot be done ({error}); "
            f"{todo}"
        ) from error


@contextlib.contextmanager
def alone(folder: Path, target: Path) -> Iterator[None]:
    """Make the folder and hold it; the lock goes with the process, however it ends."""
    while True:
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
        try:
            handle = _lock(folder, target)
        except FileNotFoundError:  # a run that has just ended removed it
            continue
        if handle is None:
            yield
            return
        try:
            # The run that held it before may have removed it in the meantime.
            if folder.exists() and os.path.samestat(os.fstat(handle), folder.stat()):
                yield
                return
        finally:
            os.close(handle)


def _lock(folder: Path, target: Path) -> int | None:
    try:
        import fcntl
    except ImportError:  # Windows: no lock, as everywhere in the GDAL world
        return None
    # Never through a link: what lies in the folder will be removed.
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise LockedError(
            f"expected to be alone in writing {target}, found another run at it; wait "
            "for it to end, or choose another output"
        ) from None
    return handle


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every file system can
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def _gdal() -> Iterator[None]:
    bound_cache()
    with rasterio.Env(GDAL_PAM_ENABLED="NO"), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def _overview_factors(height: int, width: int) -> list[int]:
    """Factors of overviews, until the smallest fits into one block."""
    factors: list[int] = []
    while math.ceil(max(height, width) / 2 ** len(factors)) > BLOCK:
        factors.append(2 ** (len(factors) + 1))
    return factors


def _palette(image: xr.DataArray) -> dict[int, tuple[int, int, int]]:
    """Red, green and blue by value, as the attributes of a map of classes state them."""
    values = image.attrs.get("flag_values")
    colors = str(image.attrs.get("flag_colors", "")).split()
    if image.shape[0] != 1 or image.dtype not in (np.uint8, np.uint16):
        return {}
    if values is None or len(values) != len(colors):
        return {}
    return {
        int(value): (int(c[1:3], 16), int(c[3:5], 16), int(c[5:7], 16))
        for value, c in zip(values, colors, strict=True)
    }


def _tags_of(image: xr.DataArray) -> dict[str, str]:
    """What an image says of itself, as tags of a file."""
    own = {
        name: str(value)
        for name, value in image.attrs.items()
        if name not in ("grid_mapping",) and isinstance(value, str | int | float)
    }
    if "time" in image.coords and image["time"].ndim == 0:
        day = str(image["time"].values)[:10]
        own["time"] = day
        own["TIFFTAG_DATETIME"] = f"{day.replace('-', ':')} 00:00:00"
    return own


def digest_of(values: np.ndarray) -> str:
    """A short digest of the values of an array."""
    return hashlib.blake2b(
        np.ascontiguousarray(values).data, digest_size=16
    ).hexdigest()


def _tile_name(path: Path) -> tuple[tuple[int, int], str] | None:
    """Row, column and digest from the name of a kept tile."""
    if path.suffix != ".npy":
        return None
    with contextlib.suppress(ValueError):
        row, column, digest = path.stem.split("_")
        return (int(row), int(column)), digest
    return None


def _is_whole(path: Path, digest: str) -> bool:
    with contextlib.suppress(OSError, ValueError, EOFError):
        return digest_of(np.load(path, allow_pickle=False)) == digest
    return False
