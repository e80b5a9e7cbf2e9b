"""Training, validation and test parts that do not touch.

Neighboring pixels are alike, so that a score on pixels drawn at random is a score on the
training data. Here whole blocks of ground are held out, and pixels near the edge of a block
are not scored:

    ┌────────┬────────┐
    │ train  │ test   │     which part a block is in depends on the ground, the seed and
    ├────────┼────────┤     the labels in all blocks; a place seen by several cases is in
    │ train  │ train  │     one part
    └────────┴────────┘

Units may also be polygons that hang together, or whole scenes. They are shared out so that
each class, the rarest first, comes into each part by its share, as far as it has units
enough (iterative stratification).

    split_by_block, split_by_polygon, split_by_scene    cases -> Split
    fold_of, inside_block                               folds of pixels within a training

Reference: K. Sechidis, G. Tsoumakas, I. Vlahavas (2011): On the stratification of
multi-label data. ECML PKDD.
"""

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import dask.array as da
import numpy as np
import xarray as xr
from jaxtyping import Bool, Int
from odc.geo.geobox import GeoBox
from scipy.ndimage import distance_transform_edt, label

from geofuse.errors import ParameterError
from geofuse.rasters.grid import grid_of
from geofuse.tiling import reduce_tiles

#: Side of a block within which a classifier holds pixels out for itself, in pixels.
BLOCK = 32
#: Pixels so near the edge of a block are not scored.
GUARD = 2

#: Meters in a degree of latitude.
_DEGREE = 111_320.0


@runtime_checkable
class HasTruth(Protocol):
    """What can be split: a case of fusion or of land cover."""

    @property
    def truth(self) -> xr.DataArray:
        """Labels (y, x), -1 where there is none, or an image, NaN where invalid."""
        ...

    def only(self, where: xr.DataArray) -> "HasTruth":
        """The case with its truth only where the mask (y, x) is True."""
        ...


Case = TypeVar("Case", bound=HasTruth)


class Split(NamedTuple):
    """Cases with the truth of one part each; a case without any is left out.

    Attributes:
        train: To learn from.
        validation: To choose and to calibrate by.
        test: To score, once.
    """

    train: list[Any]
    validation: list[Any]
    test: list[Any]


def split_by_block(
    cases: Sequence[Case],
    *,
    block_m: float,
    guard_m: float = 0.0,
    shares: Sequence[float] = (0.6, 0.2, 0.2),
    seed: int = 0,
) -> Split:
    """Split cases by square blocks of ground; reads the truth once.

    Blocks lie on a lattice of the CRS, so that cases in one CRS share them.

    Args:
        cases: Cases of fusion or of land cover.
        block_m: Side of a block in meters; more than the distance over which the ground
            is alike, some hundred to some thousand.
        guard_m: Pixels whose centers are nearer than this to a block of another part are
            in no part, in meters; at most `block_m`. Give what a classifier sees around a
            pixel, at least.
        shares: Of training, validation and test, of the truth of each class. They need
            not sum to 1; 0 leaves a part empty.
        seed: Of the choice.

    Returns:
        Parts of which no two pixels are nearer than `guard_m`.

    Raises:
        ParameterError: There is no case or no truth, a number is out of range, or the
            guard is wider than a block.
    """
    if not (block_m > 0 and 0 <= guard_m <= block_m):
        raise ParameterError(
            f"expected blocks of more than 0 m and a guard from 0 m to their side, found "
            f"{block_m:g} m and {guard_m:g} m; 1000 m and some pixels are usual"
        )
    lattices = [_lattice(grid_of(case.truth), block_m) for case in cases]
    counts: dict[Hashable, Counter] = {}
    for case, lattice in zip(cases, lattices, strict=True):
        for unit, found in _counted(case.truth, lattice.units()).items():
            counts.setdefault(lattice.key(unit), Counter()).update(found)
    parts = _shared_out(counts, shares, seed)
    masks = [partial(lattice.mask, parts=parts, guard=guard_m) for lattice in lattices]
    present = [
        {parts[key] for key in lattice.touched() if key in parts}
        for lattice in lattices
    ]
    return _split(cases, masks, present)


def split_by_polygon(
    cases: Sequence[Case],
    *,
    guard_m: float = 0.0,
    shares: Sequence[float] = (0.6, 0.2, 0.2),
    seed: int = 0,
) -> Split:
    """Split cases by patches of labeled pixels that hang together.

    Patches nearer than `guard_m`, and those that touch, whatever their classes, stay
    together. Each case is taken for itself: where cases overlap, split by block. The truth
    is held in memory.

    Args:
        cases: Cases of fusion or of land cover.
        guard_m: As in `split_by_block`.
        shares: As in `split_by_block`.
        seed: As in `split_by_block`.

    Raises:
        ParameterError: There is no case or no truth, or a number is out of range.
    """
    if not (guard_m >= 0 and math.isfinite(guard_m)):
        raise ParameterError(
            f"expected a guard of 0 m or more, found {guard_m:g} m; some pixels are usual"
        )
    counts: dict[Hashable, Counter] = {}
    numbered = []
    for number, case in enumerate(cases):
        groups = _patches(case.truth, guard_m)
        numbered.append(groups)
        for unit, found in _counted(case.truth, da.from_array(groups)).items():
            counts[number, unit] = found
    parts = _shared_out(counts, shares, seed)
    masks, present = [], []
    for number, groups in enumerate(numbered):
        table = np.full(groups.max(initial=0) + 1, -1)
        for (owner, unit), part in parts.items():
            if owner == number:
                table[unit] = part
        masks.append(partial(_where_part, table[groups]))
        present.append(set(table.tolist()))
    return _split(cases, masks, present)


def split_by_scene(
    cases: Sequence[Case],
    *,
    shares: Sequence[float] = (0.6, 0.2, 0.2),
    seed: int = 0,
) -> Split:
    """Split cases, each as a whole; the strictest, where scenes do not overlap.

    Args:
        cases: Cases of fusion or of land cover.
        shares: As in `split_by_block`.
        seed: As in `split_by_block`.

    Raises:
        ParameterError: There is no case or no truth, or a number is out of range.
    """
    counts: dict[Hashable, Counter] = {}
    for number, case in enumerate(cases):
        everywhere = da.ones(case.truth.shape[-2:], dtype=np.int64, chunks=1024)
        for found in _counted(case.truth, everywhere).values():
            counts[number] = found
    parts = _shared_out(counts, shares, seed)
    return Split(
        *(
            [case for number, case in enumerate(cases) if parts.get(number) == part]
            for part in range(3)
        )
    )


def fold_of(
    rows: Int[np.ndarray, "*pixel"],
    columns: Int[np.ndarray, "*pixel"],
    *,
    scene: int = 0,
    folds: int = 5,
    block: int = BLOCK,
    seed: int = 0,
) -> Int[np.ndarray, "*pixel"]:
    """The fold of pixels, from 0: that of the block they lie in.

    Args:
        rows: Rows of pixels.
        columns: Their columns.
        scene: Number of the scene; each has its own folds.
        folds: Number of folds.
        block: Side of a block in pixels.
        seed: Of the folds.

    Folds follow one another along rows and columns of blocks, as on a Latin square, so
    that each has its share in any small scene.

    >>> fold_of(np.array([0, 31, 32]), np.array([0, 31, 0])).tolist()
    [4, 4, 2]
    """
    first, step = np.random.default_rng([seed, scene]).integers(folds, size=2)
    step = 2 + step % (folds - 3) if folds > 3 else 1
    return (first + step * (rows // block) + columns // block) % folds


def inside_block(
    rows: Int[np.ndarray, "*pixel"],
    columns: Int[np.ndarray, "*pixel"],
    *,
    block: int = BLOCK,
    guard: int = GUARD,
) -> Bool[np.ndarray, "*pixel"]:
    """Whether pixels are at least `guard` pixels from the edge of their block."""
    near = [np.minimum(p % block, block - 1 - p % block) for p in (rows, columns)]
    return np.minimum(*near) >= guard


class _Lattice(NamedTuple):
    """Blocks over a grid: for each row and column which, and how far to both its edges.

    Distances are in meters, from the center of a pixel.
    """

    crs: str
    block: float
    rows: np.ndarray
    columns: np.ndarray
    above: np.ndarray
    left: np.ndarray

    def units(self) -> da.Array:
        """Numbers of blocks (y, x) from 1 on, lazily."""
        first = (self.rows - self.rows.min())[:, None] * self._across
        return da.from_array(first, 1024) + da.from_array(
            (self.columns - self.columns.min())[None] + 1, 1024
        )

    def key(self, unit: int) -> Hashable:
        """The block of a number, in all cases of one CRS."""
        row, column = divmod(unit - 1, self._across)
        return (
            self.crs,
            int(row + self.rows.min()),
            int(column + self.columns.min()),
        )

    def touched(self) -> list[Hashable]:
        """All blocks that the grid touches."""
        rows, columns = np.unique(self.rows), np.unique(self.columns)
        return [(self.crs, int(r), int(c)) for r in rows for c in columns]

    def mask(
        self, part: int, *, parts: Mapping[Hashable, int], guard: float
    ) -> da.Array:
        """Where pixels (y, x) are in a part, and not within the guard of another."""
        top, start = int(self.rows.min()) - 1, int(self.columns.min()) - 1
        shape = (int(np.ptp(self.rows)) + 3, int(np.ptp(self.columns)) + 3)
        table = np.full(shape, -1)
        for row in range(shape[0]):
            for column in range(shape[1]):
                key = (self.crs, row + top, column + start)
                table[row, column] = parts.get(key, -1)
        lines = (self.rows - top, self.columns - start, self.above, self.left)
        places = [
            part_
            for line, axis in zip(lines, "yxyx", strict=True)
            for part_ in (da.from_array(line, 1024), axis)
        ]
        return da.blockwise(
            partial(_in_part, table=table, part=part, block=self.block, guard=guard),
            "yx",
            *places,
            dtype=bool,
            meta=np.empty((0, 0), bool),
        )

    @property
    def _across(self) -> int:
        return int(np.ptp(self.columns)) + 1


def _in_part(
    rows: np.ndarray,
    columns: np.ndarray,
    above: np.ndarray,
    left: np.ndarray,
    *,
    table: np.ndarray,
    part: int,
    block: float,
    guard: float,
) -> np.ndarray:
    """Where pixels are in a part, and no block of another part is within the guard."""
    rows, columns, above, left = (
        rows[:, None],
        columns[None],
        above[:, None],
        left[None],
    )
    kept = table[rows, columns] == part
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            neighbor = table[rows + down, columns + right]
            dy = (above, np.zeros(()), block - above)[down + 1]
            dx = (left, np.zeros(()), block - left)[right + 1]
            other = (neighbor >= 0) & (neighbor != part)
            kept &= ~(other & (np.hypot(dy, dx) < guard))
    return kept


def _lattice(grid: GeoBox, block: float) -> _Lattice:
    height, width = grid.shape
    transform = grid.affine
    in_meters = _meters(grid)
    found, distances = [], []
    for start, step, count, meters in (
        (transform.f, transform.e, height, in_meters[0]),
        (transform.c, transform.a, width, in_meters[1]),
    ):
        centers = (start + (np.arange(count) + 0.5) * step) * meters
        number = np.floor(centers / block)
        inside = centers - number * block
        # Blocks are counted in the direction of the pixels.
        forward = step > 0
        found.append((number if forward else -number).astype(np.int64))
        distances.append(inside if forward else block - inside)
    crs = "" if grid.crs is None else grid.crs.to_wkt()
    return _Lattice(crs, block, *found, *distances)


def _meters(grid: GeoBox) -> tuple[float, float]:
    """Meters in a unit of y and of x; of degrees at the nearest whole latitude."""
    if grid.crs is None:
        return 1.0, 1.0
    if not grid.crs.geographic:
        factor = grid.crs.proj.axis_info[0].unit_conversion_factor
        return factor, factor
    latitude = round(grid.boundingbox.bottom / 2 + grid.boundingbox.top / 2)
    return _DEGREE, _DEGREE * max(math.cos(math.radians(latitude)), 0.01)


def _patches(truth: xr.DataArray, guard: float) -> np.ndarray:
    """Numbers (y, x) from 1 on of labeled pixels that hang together; 0 elsewhere."""
    there = _is_there(np.asarray(truth.data))
    grid = grid_of(truth)
    sides = [
        abs(step) * meters
        for step, meters in zip(
            (grid.affine.e, grid.affine.a), _meters(grid), strict=True
        )
    ]
    near = there
    if guard and there.any():
        # Half a guard around each of two, and half a pixel, for their edge is rough.
        reach = guard / 2 + math.hypot(*sides) / 2
        near = distance_transform_edt(~there, sampling=sides) <= reach
    groups, _ = label(near, structure=np.ones((3, 3)))
    return np.where(there, groups, 0)


def _is_there(truth: np.ndarray) -> np.ndarray:
    """Where (y, x) there is truth: a class, or a valid value in any band."""
    if truth.dtype.kind == "f":
        known = np.isfinite(truth)
        return known.any(axis=0) if truth.ndim == 3 else known
    return truth >= 0


def _counted(truth: xr.DataArray, units: da.Array) -> dict[int, Counter]:
    """Pixels by class of each unit; the truth is read once, tile by tile."""
    # Outside the raster units are 0, as everywhere where there is none.
    raster = xr.DataArray(units, dims=("y", "x"))
    counted: dict[int, Counter] = reduce_tiles(
        _count_tile, {"truth": truth, "units": raster}, _sum_counts
    ).compute()
    return counted


def _count_tile(arrays: Mapping[str, np.ndarray], _: Any) -> dict[int, Counter]:
    truth, units = arrays["truth"], arrays["units"]
    there = _is_there(truth) & (units > 0)
    classes = truth[there] if truth.dtype.kind in "iu" else np.zeros(there.sum(), int)
    # One number for both sorts many times faster than pairs; labels have 16 bits.
    pairs, times = np.unique(
        units[there].astype(np.int64) * 2**16 + classes, return_counts=True
    )
    found: dict[int, Counter] = {}
    for pair, count in zip(pairs.tolist(), times.tolist(), strict=True):
        unit, number = divmod(pair, 2**16)
        found.setdefault(unit, Counter())[number] += count
    return found


def _sum_counts(parts: Sequence[dict[int, Counter]]) -> dict[int, Counter]:
    total: dict[int, Counter] = {}
    for found in parts:
        for unit, counts in found.items():
            total.setdefault(unit, Counter()).update(counts)
    return total


def _shared_out(
    counts: Mapping[Hashable, Counter], shares: Sequence[float], seed: int
) -> dict[Any, int]:
    """The part of each unit, so that all classes come into all parts by their shares."""
    wanted = np.array(shares, float)
    if wanted.shape != (3,) or not (wanted >= 0).all() or not 0 < wanted.sum() < np.inf:
        raise ParameterError(
            f"expected shares of training, validation and test, found {tuple(shares)}; "
            "for instance (0.6, 0.2, 0.2)"
        )
    if not counts:
        raise ParameterError(
            "expected cases with a labeled or valid pixel, found none; check that the "
            "labels overlap the images"
        )
    wanted /= wanted.sum()
    units = sorted(counts, key=repr)
    np.random.default_rng(seed).shuffle(units)
    totals: Counter = sum(counts.values(), Counter())
    missing = {number: wanted * total for number, total in totals.items()}
    parts: dict[Any, int] = {}
    while len(parts) < len(units):
        left = [unit for unit in units if unit not in parts]
        rest: Counter = sum((counts[unit] for unit in left), Counter())
        rarest = min(rest, key=lambda number: (rest[number], number))
        holders = [unit for unit in left if counts[unit][rarest]]
        for unit in sorted(holders, key=lambda unit: -counts[unit][rarest]):
            overall = np.sum([missing[number] for number in counts[unit]], axis=0)
            order = np.lexsort((-overall, -missing[rarest], wanted == 0))
            parts[unit] = int(order[0])
            for number, count in counts[unit].items():
                missing[number][parts[unit]] -= count
    return parts


def _where_part(parts: np.ndarray, part: int) -> np.ndarray:
    return parts == part


def _split(
    cases: Sequence[Case], masks: Sequence[Any], present: Sequence[set[int]]
) -> Split:
    return Split(
        *(
            [
                case.only(xr.DataArray(mask(part), dims=("y", "x")))
                for case, mask, known in zip(cases, masks, present, strict=True)
                if part in known
            ]
            for part in range(3)
        )
    )
