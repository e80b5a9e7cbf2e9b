"""The one place that maps a function over the tiles of a raster.

    ┌───────────────┐   A *window* is a tile and the halo around it. The function sees
    │ halo          │   the window and returns the tile: whatever it looks at beyond the
    │   ┌───────┐   │   halo does not exist for it. So the result at a pixel depends on
    │   │ tile  │   │   nothing but the pixels within the halo of it, and on `shared`:
    │   └───────┘   │
    └───────────────┘   *tile size never changes the result.*

All windows of a run have one shape, so that a jitted function compiles once. Outside
the raster floats are NaN and masks False; nothing is reflected or repeated. Where a
method looks at coarse pixels, `step` and `offset` place the tiles on the coarse grid, so
that no coarse pixel is ever cut.

Nothing is computed here until somebody asks: `map_tiles` gives lazy arrays, `reduce_tiles`
a lazy value, and `stream_tiles` computes a few tiles at a time, so that memory does not
grow with the raster.
"""

import ctypes
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from dask.base import get_scheduler, tokenize
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph
from dask.optimization import cull
from dask.system import CPU_COUNT

from geofuse.errors import GridMismatchError, ParameterError

Arrays = dict[str, np.ndarray]
TileFunction = Callable[[Arrays, Any], Mapping[str, Any]]

#: Side of the tiles of a scan (`reduce_tiles`): fixed, so that scene statistics do not
#: depend on how the prediction is tiled.
SCAN_TILE = 512

_SHARED = "geofuse-shared-"

_M_MMAP_THRESHOLD = -3  # malloc.h


@dataclass(frozen=True)
class Lattice:
    """How tiles lie on a raster of `height` by `width` pixels.

    The first tile starts at `top`, `left`, which are zero or negative: a tile may reach
    beyond the raster on every side.
    """

    height: int
    width: int
    top: int
    left: int
    tile_height: int
    tile_width: int

    @property
    def rows(self) -> int:
        """Number of rows of tiles."""
        return math.ceil((self.height - self.top) / self.tile_height)

    @property
    def columns(self) -> int:
        """Number of columns of tiles."""
        return math.ceil((self.width - self.left) / self.tile_width)

    def core(self, row: int, column: int) -> tuple[slice, slice]:
        """The pixels of the raster that a tile covers."""
        y = self.top + row * self.tile_height
        x = self.left + column * self.tile_width
        return (
            slice(max(y, 0), min(y + self.tile_height, self.height)),
            slice(max(x, 0), min(x + self.tile_width, self.width)),
        )

    def chunks(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Heights and widths of the tiles, cut at the edges of the raster."""
        heights = [self.core(row, 0)[0] for row in range(self.rows)]
        widths = [self.core(0, column)[1] for column in range(self.columns)]
        return (
            tuple(s.stop - s.start for s in heights),
            tuple(s.stop - s.start for s in widths),
        )


def lattice(
    height: int,
    width: int,
    *,
    tile: int | None,
    step: int = 1,
    offset: tuple[int, int] = (0, 0),
) -> Lattice:
    """Lay tiles over a raster.

    Args:
        height: Rows of the raster.
        width: Columns of the raster.
        tile: Side of a tile in pixels, rounded up to a multiple of `step`; None for one
            tile over the whole raster.
        step: Tiles start at multiples of this many pixels (the scale, where coarse
            pixels must not be cut).
        offset: Row and column, in `[0, step)`, of the first coarse pixel's corner.

    Raises:
        ParameterError: `tile` or `step` is not a positive whole number.
    """
    if step < 1 or (tile is not None and tile < 1):
        raise ParameterError(
            f"expected a tile of at least 1 pixel, found tile={tile}, step={step}; "
            "the default of 512 suits most machines"
        )
    top, left = (-(-start % step) for start in offset)
    side = math.inf if tile is None else math.ceil(tile / step) * step
    tall, wide = (
        min(side, math.ceil(size / step) * step)
        for size in (height - top, width - left)
    )
    return Lattice(height, width, top, left, int(tall), int(wide))


def map_tiles(
    function: TileFunction,
    rasters: Mapping[str, xr.DataArray],
    template: xr.Dataset,
    *,
    halo: int,
    tile: int | None = 512,
    step: int = 1,
    offset: tuple[int, int] = (0, 0),
    shared: Delayed | None = None,
    token: str | None = None,
) -> xr.Dataset:
    """Apply `function` to every tile of `rasters` and mosaic what it returns, lazily.

    Args:
        function: Takes the windows of all rasters by name (NumPy arrays whose last two
            axes are the tile and `halo` pixels on each side of it) and the value of
            `shared`; returns the tile of every variable of `template` by name, without
            the halo. Must be pure.
        rasters: Named images on one grid; their last two dimensions are y and x.
        template: Names, dimensions, types and coordinates of the result.
        halo: How far `function` looks around a pixel, in pixels.
        tile: Side of a tile in pixels; None for one tile over the whole raster.
        step: See `lattice`.
        offset: See `lattice`.
        shared: A lazy value that all tiles need; computed once.
        token: Names what `function` does, so that the same work has the same name in
            another process. By default derived from `function`.

    Returns:
        A dataset like `template`, one dask chunk a tile.

    Raises:
        GridMismatchError: The rasters do not have one size.
        ParameterError: `tile` is not a positive number of pixels.
    """
    height, width = _common_size(rasters)
    tiles = lattice(height, width, tile=tile, step=step, offset=offset)
    sources = {name: _source(raster) for name, raster in rasters.items()}
    token = tokenize(
        token or function,
        {name: source.name for name, source in sources.items()},
        (tiles, halo, shared.key if shared is not None else None),
        {
            name: (v.dims, v.shape, str(v.dtype))
            for name, v in template.data_vars.items()
        },
    )
    name = f"tile-{token}"
    layer = _window_tasks(
        name, _run_tile, function, sources, tiles, halo, shared, _sample(tiles, None)
    )
    graph = _graph(name, layer, sources, shared)

    heights, widths = tiles.chunks()
    result = {}
    for variable, described in template.data_vars.items():
        lead = described.shape[:-2]
        key = f"{variable}-{token}"
        picks = {
            (key, *(0 for _ in lead), row, column): (
                _pick,
                (name, row, column),
                variable,
                (*lead, heights[row], widths[column]),
                described.dtype,
            )
            for row in range(tiles.rows)
            for column in range(tiles.columns)
        }
        data = da.Array(
            HighLevelGraph(
                {**graph.layers, key: picks},  # type: ignore[dict-item]
                {**graph.dependencies, key: {name}},
            ),
            key,
            chunks=(*((size,) for size in lead), heights, widths),
            dtype=described.dtype,
        )
        result[variable] = described.copy(data=data)
    return xr.Dataset(result, attrs=template.attrs)


def reduce_tiles(
    function: Callable[[Arrays, Any], Any],
    rasters: Mapping[str, xr.DataArray],
    combine: Callable[[list[Any]], Any],
    *,
    halo: int = 0,
    tile: int = SCAN_TILE,
    step: int = 1,
    offset: tuple[int, int] = (0, 0),
    shared: Delayed | None = None,
    token: str | None = None,
    most: int | None = None,
) -> Delayed:
    """Reduce a raster to a few numbers in one scan, lazily.

    Args:
        function: Takes the windows of all rasters by name and the value of `shared`;
            returns something small. Outside the raster the windows hold NaN or False.
        rasters: Named images on one grid; their last two dimensions are y and x.
        combine: Makes one value of the tiles' results, listed row by row.
        halo: How far `function` looks around a pixel, in pixels.
        tile: Side of a tile; leave it alone where results must not depend on it.
        step: See `lattice`.
        offset: See `lattice`.
        shared: A lazy value that all tiles need; computed once.
        token: See `map_tiles`.
        most: Scan at most this many tiles, spread over the raster by chance; which ones
            depends on its size alone. None for all.

    Returns:
        A lazy value; `.compute()` scans the rasters once.
    """
    height, width = _common_size(rasters)
    tiles = lattice(height, width, tile=tile, step=step, offset=offset)
    sources = {name: _source(raster) for name, raster in rasters.items()}
    token = tokenize(
        token or (function, combine),
        {name: source.name for name, source in sources.items()},
        (tiles, halo, shared.key if shared is not None else None, most),
    )
    name = f"scan-{token}"
    places = _sample(tiles, most)
    layer = _window_tasks(
        name, _run_scan, function, sources, tiles, halo, shared, places
    )
    partials = [(name, row, column) for row, column in places]
    graph = _graph(name, layer, sources, shared)
    key = f"{_SHARED}{token}"
    return Delayed(
        key,
        HighLevelGraph(
            {**graph.layers, key: {key: (combine, partials)}},
            {**graph.dependencies, key: {name}},
        ),
    )


def share(value: Any, *, token: str | None = None) -> Delayed:
    """Wrap a value for `map_tiles`: what `reduce_tiles` gives, without a scan."""
    key = f"{_SHARED}{tokenize(token if token is not None else value)}"
    return Delayed(
        key, HighLevelGraph.from_collections(key, {key: (_value, _Constant(value))})
    )


def gathered(
    make: Callable[[list[Any]], Any], values: Sequence[Delayed], *, token: str
) -> Delayed:
    """Make one lazy value of several, for `shared`.

    Args:
        make: Takes the list of the values.
        values: What `reduce_tiles`, `share` or `gathered` gave.
        token: See `map_tiles`.
    """
    keys = [value.key for value in values]
    key = f"{_SHARED}{tokenize(token, keys)}"
    dependencies: list[Any] = list(values)
    graph = HighLevelGraph.from_collections(
        key, {key: (_gather, _Constant(make), keys)}, dependencies=dependencies
    )
    return Delayed(key, graph)


@dataclass(frozen=True)
class StreamedTile:
    """One computed tile: where it lies, and its arrays by name."""

    row: int
    column: int
    window: tuple[slice, slice]
    arrays: Arrays


def stream_tiles(
    variables: Mapping[str, xr.DataArray],
    *,
    skip: Callable[[int, int], bool] = lambda row, column: False,
    workers: int | None = None,
    budget: int = 256 * 2**20,
) -> Iterator[StreamedTile]:
    """Compute lazy images a few tiles at a time, in reading order of small squares.

    Values that all tiles share are computed first, once. A dask cluster that the caller
    has connected to is used; otherwise threads. Neighbors are computed together because
    they read the same chunks; two tiles a thread, so that memory depends on the threads
    and not on the raster.

    Args:
        variables: Named lazy images with the same chunks in y and x.
        skip: Tells for a tile's row and column whether it is not wanted.
        workers: Number of threads; by default what dask is configured for.
        budget: About how many bytes of results to hold at a time.
    """
    arrays = {name: _source(image) for name, image in variables.items()}
    heights, widths = next(iter(arrays.values())).chunks[-2:]
    for name, array in arrays.items():
        if array.chunks[-2:] != (heights, widths):
            arrays[name] = array.rechunk({-2: heights, -1: widths})
    tops, lefts = np.cumsum((0, *heights)), np.cumsum((0, *widths))
    tile_bytes = sum(
        array.dtype.itemsize * math.prod(array.shape[:-2]) for array in arrays.values()
    ) * (max(heights) * max(widths))
    side = min(
        math.isqrt(2 * _threads(workers) - 1) + 1, math.isqrt(budget // tile_bytes)
    )
    side = max(side, 1)
    release_memory()
    compute = _computer(arrays, workers)
    places = [
        [
            (i, j)
            for i in range(row, min(row + side, len(heights)))
            for j in range(column, min(column + side, len(widths)))
            if not skip(i, j)
        ]
        for row in range(0, len(heights), side)
        for column in range(0, len(widths), side)
    ]
    squares = [square for square in places if square]
    # The first tile alone: a function that has to be compiled is compiled once, and not
    # by every thread at the same time.
    batches = [squares[0][:1], squares[0][1:], *squares[1:]] if squares else []
    for batch in batches:
        for (i, j), block in zip(batch, compute(batch), strict=True):
            window = (
                slice(int(tops[i]), int(tops[i + 1])),
                slice(int(lefts[j]), int(lefts[j + 1])),
            )
            yield StreamedTile(i, j, window, block)


def release_memory() -> None:
    """Give memory that is no longer used back to the system, where that needs asking.

    The allocator of most Linux systems (glibc) keeps what each thread has freed, up to
    arrays of 32 MB, and more of it with every batch of tiles: memory would grow with the
    raster. Arrays of 128 kB and more then come from the system and go back when freed.
    """
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _common_size(rasters: Mapping[str, xr.DataArray]) -> tuple[int, int]:
    sizes = {name: raster.shape[-2:] for name, raster in rasters.items()}
    if len(set(sizes.values())) != 1 or any(r.ndim < 2 for r in rasters.values()):
        raise GridMismatchError(
            f"expected rasters of one size, found {sizes}; put them on one grid with "
            "geofuse.align(raster, like=reference)"
        )
    height, width = next(iter(sizes.values()))
    return height, width


def _source(raster: xr.DataArray) -> da.Array:
    data = raster.data
    if not isinstance(data, da.Array):
        lead = (-1,) * (raster.ndim - 2)
        return da.from_array(np.asarray(data), chunks=(*lead, 1024, 1024))
    if any(len(chunks) > 1 for chunks in data.chunks[:-2]):
        return data.rechunk(dict.fromkeys(range(raster.ndim - 2), -1))
    return data


@dataclass(frozen=True)
class _Piece:
    """Part of a chunk that falls into a window."""

    chunk: tuple[slice, slice]
    window: tuple[slice, slice]


@dataclass(frozen=True)
class _Window:
    """How one raster's window is put together."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    pieces: tuple[_Piece, ...]


def _window_tasks(
    name: str,
    run: Callable[..., Any],
    function: Callable[..., Any],
    sources: Mapping[str, da.Array],
    tiles: Lattice,
    halo: int,
    shared: Delayed | None,
    places: Sequence[tuple[int, int]],
) -> dict[Any, Any]:
    """One task a tile: assemble the windows, call the function."""
    function_key = f"function-{name}"
    # A constant, not a task: a task at the bottom of the scheduler's stack would make all
    # tiles of the source wait for it in memory.
    layer: dict[Any, Any] = {function_key: _Constant(function)}
    shared_key = shared.key if shared is not None else None
    for row, column in places:
        windows, keys = [], []
        top = tiles.top + row * tiles.tile_height
        left = tiles.left + column * tiles.tile_width
        span = (
            (top - halo, top + tiles.tile_height + halo),
            (left - halo, left + tiles.tile_width + halo),
        )
        for raster, source in sources.items():
            pieces = []
            for y in overlaps(source.chunks[-2], *span[0]):
                for x in overlaps(source.chunks[-1], *span[1]):
                    pieces.append(_Piece((y[1], x[1]), (y[2], x[2])))
                    lead = (0,) * (source.ndim - 2)
                    keys.append((source.name, *lead, y[0], x[0]))
            shape = (*source.shape[:-2], *(stop - start for start, stop in span))
            windows.append(_Window(raster, shape, source.dtype, tuple(pieces)))
        core = tiles.core(row, column)
        crop = tuple(
            slice(s.start - start - halo, s.stop - start - halo)
            for s, (start, _) in zip(core, span, strict=True)
        )
        size = (tiles.tile_height, tiles.tile_width)
        layer[(name, row, column)] = (
            run,
            function_key,
            shared_key,
            _Constant((windows, size, crop)),
            keys,
        )
    return layer


def _sample(tiles: Lattice, most: int | None) -> list[tuple[int, int]]:
    """Rows and columns of tiles in reading order: all, or one of each of `most` runs."""
    places = [
        (row, column) for row in range(tiles.rows) for column in range(tiles.columns)
    ]
    if most is None or len(places) <= most:
        return places
    edges = np.linspace(0, len(places), most + 1).astype(int)
    drawn = np.random.default_rng(0).integers(edges[:-1], edges[1:])
    return [places[number] for number in drawn]


def overlaps(
    chunks: Sequence[int], start: int, stop: int
) -> list[tuple[int, slice, slice]]:
    """Chunks that meet [start, stop): index, slice of the chunk, slice of the span."""
    bounds = np.cumsum((0, *chunks))
    first, last = max(start, 0), min(stop, int(bounds[-1]))
    found = []
    if first < last:
        index = int(np.searchsorted(bounds, first, side="right")) - 1
        while index < len(chunks) and bounds[index] < last:
            low, high = (
                max(first, int(bounds[index])),
                min(last, int(bounds[index + 1])),
            )
            origin = int(bounds[index])
            found.append(
                (
                    index,
                    slice(low - origin, high - origin),
                    slice(low - start, high - start),
                )
            )
            index += 1
    return found


class _Constant:
    """Carries a value through a dask graph without being searched for keys."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _assemble(windows: Sequence[_Window], blocks: Sequence[np.ndarray]) -> Arrays:
    arrays = {}
    remaining = iter(blocks)
    for window in windows:
        outside = np.nan if np.issubdtype(window.dtype, np.inexact) else 0
        array = np.full(window.shape, outside, window.dtype)
        for piece in window.pieces:
            array[(..., *piece.window)] = next(remaining)[(..., *piece.chunk)]
        arrays[window.name] = array
    return arrays


def _run_tile(
    function: _Constant,
    shared: Any,
    plan: _Constant,
    blocks: Sequence[np.ndarray],
) -> Arrays:
    windows, size, crop = plan.value
    tile = {}
    arrays = _assemble(windows, blocks)
    for name, value in function.value(arrays, _plain(shared)).items():
        array = np.asarray(value)
        if array.shape[-2:] != size:
            raise GridMismatchError(
                f"expected a tile of {size[0]}x{size[1]} pixels without its halo for "
                f"{name!r}, found {array.shape[-2]}x{array.shape[-1]}; the function must "
                "trim exactly the halo that it declared"
            )
        tile[name] = array[(..., *crop)]
    return tile


def _run_scan(
    function: _Constant,
    shared: Any,
    plan: _Constant,
    blocks: Sequence[np.ndarray],
) -> Any:
    return function.value(_assemble(plan.value[0], blocks), _plain(shared))


def _pick(
    tile: Arrays, name: str, shape: tuple[int, ...], dtype: np.dtype
) -> np.ndarray:
    array = tile[name]
    if array.shape != tuple(shape):
        raise GridMismatchError(
            f"expected {name!r} of shape {tuple(shape)} in a tile, found {array.shape}; "
            "the template and the function must agree"
        )
    return array.astype(dtype, copy=False)


def _value(constant: _Constant) -> Any:
    return constant.value


def _gather(make: _Constant, values: list[Any]) -> Any:
    return make.value([_plain(value) for value in values])


def _plain(shared: Any) -> Any:
    """A shared value, whether it was just computed or lies in the graph."""
    return shared.value if isinstance(shared, _Constant) else shared


def _graph(
    name: str,
    layer: dict[Any, Any],
    sources: Mapping[str, da.Array],
    shared: Delayed | None,
) -> Any:
    dependencies: list[Any] = list(sources.values())
    if shared is not None:
        dependencies.append(shared)
    return HighLevelGraph.from_collections(name, layer, dependencies=dependencies)


def _computer(
    arrays: Mapping[str, da.Array], workers: int | None
) -> Callable[[list[tuple[int, int]]], list[Arrays]]:
    """A function that computes the arrays of some tiles, given their rows and columns.

    The graph is walked once for all tiles, not once a call: for each call only what its
    tiles need is looked at.
    """
    whole = HighLevelGraph.merge(*(array.__dask_graph__() for array in arrays.values()))
    graph = whole.to_dict()
    schedule = get_scheduler(collections=list(arrays.values()))
    options = {} if workers is None else {"num_workers": workers}

    def run(keys: list[Any]) -> Any:
        needed, _ = cull(graph, keys)
        return schedule(needed, keys, **options)

    # One depth after the other: a scan that needs the numbers of an earlier one would
    # otherwise keep every chunk in memory that both of them read.
    for names in _shared_by_depth(whole):
        for name, value in zip(names, run(names), strict=True):
            graph[name] = _Constant(value)
        release_memory()

    def compute(places: list[tuple[int, int]]) -> list[Arrays]:
        if not places:
            return []
        keys = [
            [
                (array.name, *(0,) * (array.ndim - 2), *place)
                for array in arrays.values()
            ]
            for place in places
        ]
        values = iter(run([key for tile in keys for key in tile]))
        release_memory()
        return [{name: next(values) for name in arrays} for _ in places]

    return compute


def _shared_by_depth(graph: Any) -> list[list[str]]:
    """Keys of shared values; those of a list need only values of the lists before."""
    depths: dict[str, int] = {}

    def depth(layer: str) -> int:
        """How many shared values, one needing the other, the layer ends."""
        if layer not in depths:
            above = max(map(depth, graph.dependencies[layer]), default=0)
            depths[layer] = above + layer.startswith(_SHARED)
        return depths[layer]

    levels: dict[int, list[str]] = {}
    for name in graph.layers:
        if name.startswith(_SHARED):
            levels.setdefault(depth(name), []).append(name)
    return [levels[number] for number in sorted(levels)]


def _threads(workers: int | None) -> int:
    """How many tiles are computed at once."""
    if workers is not None:
        return workers
    client: Any = getattr(get_scheduler(), "__self__", None)
    if client is not None and hasattr(client, "nthreads"):  # a dask cluster
        return max(sum(client.nthreads().values()), 1)
    return int(dask.config.get("num_workers", None) or CPU_COUNT)


@cache
def _glibc() -> Any:
    """The C library, told to keep no large arrays; None where it is another one."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        library = ctypes.CDLL(None)
        if "MALLOC_MMAP_THRESHOLD_" not in os.environ:
            library.mallopt(_M_MMAP_THRESHOLD, 128 * 2**10)
        library.malloc_trim(0)
    except (OSError, AttributeError):
        return None
    return library
