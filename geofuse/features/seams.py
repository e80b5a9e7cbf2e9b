"""How regions go on beyond the tile in which they were seen.

    ┌─────────┬─────────┐   A tile alone knows its regions up to its edge. What it must
    │   ▄▄▄▄▄▄│▄▄▄      │   tell the others is small: how its pixels at the edge hang
    │   ▀▀▀▀▀▀│▀▀▀      │   together inside. Put together, that says what comes in
    ├─────────┼─────────┤   at each edge, and every tile can be finished by itself:
    │         │   ▄▄    │   exactly, in two visits, however far a region winds from tile
    │         │   ▀▀    │   to tile. (A halo, of whatever width, is wrong for some.)
    └─────────┴─────────┘

For a reconstruction, two pixels hang together at the lowest level that must be crossed
on the best way from one to the other. Per tile these are the edges of a maximum
spanning tree: one less than there are edge pixels. For attributes, it takes the regions
that reach the edge, as a part of the tile's max-tree. See `geofuse.features.max_tree`.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from geofuse.features.max_tree import add_to_parents, region_sums
from geofuse.tiling import Lattice

_STEPS = {4: ((0, 1), (1, 0)), 8: ((0, 1), (1, 0), (1, 1), (1, -1))}


def edge_pixels(tiles: Lattice, row: int, column: int) -> np.ndarray:
    """Positions in a tile, raveled and ascending, of its pixels that face other tiles.

    Args:
        tiles: How tiles lie on the image.
        row: Row of the tile.
        column: Column of the tile.
    """
    height, width = (s.stop - s.start for s in tiles.core(row, column))
    faces = np.zeros((height, width), np.bool_)
    faces[0] |= row > 0
    faces[-1] |= row < tiles.rows - 1
    faces[:, 0] |= column > 0
    faces[:, -1] |= column < tiles.columns - 1
    return np.flatnonzero(faces)


class Seams(NamedTuple):
    """Which edge pixels, numbered tile by tile, touch in different tiles.

    Attributes:
        starts: (tile + 1,) number of the first edge pixel of each tile, row by row.
        first: (contact,) numbers of edge pixels, …
        second: (contact,) … and of those that touch them in another tile.
    """

    starts: np.ndarray
    first: np.ndarray
    second: np.ndarray


def find_seams(tiles: Lattice, connectivity: int) -> Seams:
    """Pair the edge pixels of neighboring tiles.

    Args:
        tiles: How tiles lie on the image.
        connectivity: 4 or 8 neighbors.
    """
    rows, columns, owners, counts = [], [], [], [0]
    for row in range(tiles.rows):
        for column in range(tiles.columns):
            y, x = tiles.core(row, column)
            inside = edge_pixels(tiles, row, column)
            rows.append(y.start + inside // (x.stop - x.start))
            columns.append(x.start + inside % (x.stop - x.start))
            owners.append(np.full(inside.size, row * tiles.columns + column))
            counts.append(inside.size)
    y_all, x_all = np.concatenate(rows), np.concatenate(columns)
    owner = np.concatenate(owners)
    place = y_all * tiles.width + x_all
    order = np.argsort(place)
    ordered = place[order]
    first, second = [], []
    for dy, dx in _STEPS[connectivity]:
        inside_image = (x_all + dx >= 0) & (x_all + dx < tiles.width)
        here = np.flatnonzero(inside_image)
        wanted = place[here] + dy * tiles.width + dx
        found = np.minimum(np.searchsorted(ordered, wanted), max(ordered.size - 1, 0))
        there = order[found]
        touch = (ordered[found] == wanted) & (owner[there] != owner[here])
        first.append(here[touch])
        second.append(there[touch])
    return Seams(np.cumsum(counts), np.concatenate(first), np.concatenate(second))


class EdgeTies(NamedTuple):
    """How the edge pixels of a tile hang together inside it.

    Attributes:
        level: (edge pixel,) uint32, level of each; 0 at walls.
        first: (tie,) int32, an edge pixel by its number in the tile, …
        second: (tie,) int32, … another one, …
        height: (tie,) uint32, … and the lowest level on the best way between them.
    """

    level: np.ndarray
    first: np.ndarray
    second: np.ndarray
    height: np.ndarray


@njit(cache=True, nogil=True)
def edge_ties(
    node: np.ndarray, level: np.ndarray, parent: np.ndarray, edge: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the ties of a tile, as `first`, `second`, `height` of `EdgeTies`.

    Args:
        node: (pixel,) of the tile's `MaxTree`, raveled.
        level: (node,) of it.
        parent: (node,) of it.
        edge: Positions of the edge pixels.
    """
    member = np.full(level.size, -1, np.int32)  # an edge pixel of each region
    first = np.empty(edge.size, np.int32)
    second = np.empty(edge.size, np.int32)
    height = np.empty(edge.size, np.uint32)
    ties = 0
    for k in range(edge.size):
        n = node[edge[k]]
        if n >= 0:
            if member[n] < 0:
                member[n] = k
            else:
                first[ties], second[ties], height[ties] = member[n], k, level[n]
                ties += 1
    for n in range(level.size - 1, -1, -1):
        up = parent[n]
        if up >= 0 and member[n] >= 0:
            if member[up] < 0:
                member[up] = member[n]
            else:
                first[ties], second[ties] = member[up], member[n]
                height[ties] = level[up]
                ties += 1
    return first[:ties].copy(), second[:ties].copy(), height[:ties].copy()


def spread_over_seams(
    seams: Seams, ties: list[EdgeTies], markers: list[np.ndarray]
) -> list[np.ndarray]:
    """Final levels at all edge pixels, from those that each tile found by itself.

    Args:
        seams: Which edge pixels touch.
        ties: Per tile, how its edge pixels hang together.
        markers: Per tile, (radius, edge pixel) uint32: levels reconstructed within it.

    Returns:
        Per tile, (radius, edge pixel) uint32: levels of the reconstruction of the whole
        image.
    """
    level = np.concatenate([tie.level for tie in ties])
    starts = seams.starts[:-1]
    crossing = np.minimum(level[seams.first], level[seams.second])
    first = np.concatenate([t.first + s for t, s in zip(ties, starts, strict=True)])
    second = np.concatenate([t.second + s for t, s in zip(ties, starts, strict=True)])
    first, second = (
        np.concatenate(ends) for ends in ((first, seams.first), (second, seams.second))
    )
    height = np.concatenate([*(tie.height for tie in ties), crossing])
    order = np.argsort(height, kind="stable")[::-1]
    order = order[: np.count_nonzero(height)]  # nothing passes a wall
    parent, passing = _join(level.size, first[order], second[order], height[order])
    final = np.concatenate(markers, axis=1)
    for one in final:
        one[:] = _flow(parent, passing, one)
    return np.split(final, seams.starts[1:-1], axis=1)


@njit(cache=True, nogil=True)
def _join(
    points: int, first: np.ndarray, second: np.ndarray, height: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Kruskal: join points by descending height; a join is a node above its parts."""
    parent = np.full(2 * points, -1, np.int32)
    passing = np.zeros(2 * points, np.uint32)
    ancestor = np.arange(2 * points).astype(np.int32)
    made = points
    for e in range(first.size):
        a, b = first[e], second[e]
        while ancestor[a] != a:
            ancestor[a] = ancestor[ancestor[a]]
            a = ancestor[a]
        while ancestor[b] != b:
            ancestor[b] = ancestor[ancestor[b]]
            b = ancestor[b]
        if a != b:
            parent[a], parent[b], passing[made] = made, made, height[e]
            ancestor[a], ancestor[b] = made, made
            made += 1
    return parent[:made].copy(), passing[:made].copy()


@njit(cache=True, nogil=True)
def _flow(parent: np.ndarray, passing: np.ndarray, marker: np.ndarray) -> np.ndarray:
    """Highest marker that reaches each point, cut to what lets it pass on the way."""
    highest = np.zeros(parent.size, np.uint32)
    highest[: marker.size] = marker
    for n in range(parent.size):
        if parent[n] >= 0:
            highest[parent[n]] = max(highest[parent[n]], highest[n])
    for n in range(parent.size - 1, -1, -1):
        if n >= marker.size:
            highest[n] = min(highest[n], passing[n])
        if parent[n] >= 0:
            highest[n] = max(highest[n], highest[parent[n]])
    return highest[: marker.size].copy()


class OpenRegions(NamedTuple):
    """The regions of a tile that may go on beyond it: part of its max-tree.

    Attributes:
        level: (region,) uint32, from low to high.
        parent: (region,) int32, the next larger of them; -1 for none.
        totals: (region, column) int64: what they have within the tile, without the
            smaller open regions in them.
        region: (edge pixel,) int32, the region of each; -1 at walls.
    """

    level: np.ndarray
    parent: np.ndarray
    totals: np.ndarray
    region: np.ndarray


class JoinedRegions(NamedTuple):
    """The open regions of all tiles, as regions of the whole image.

    Attributes:
        level: (region,) uint32, from low to high.
        parent: (region,) int64, the next larger of them; -1 for none.
        totals: (region, column) int64: all that they have.
        number: Per tile, (open region of the tile,) int64: which of these it is.
    """

    level: np.ndarray
    parent: np.ndarray
    totals: np.ndarray
    number: list[np.ndarray]


def join_regions(
    seams: Seams, parts: list[OpenRegions], *, largest: bool
) -> JoinedRegions:
    """Join the open regions of all tiles to those of the whole image.

    Args:
        seams: Which edge pixels touch.
        parts: Per tile, its open regions.
        largest: Whether totals are largest contributions instead of sums.

    Returns:
        The open regions of the whole image, with all that they have.
    """
    sizes = np.cumsum([0, *(part.level.size for part in parts)])
    shifted = list(zip(parts, sizes[:-1], strict=True))
    level = np.concatenate([part.level for part in parts])
    parent = np.concatenate([_shift(part.parent, start) for part, start in shifted])
    region = np.concatenate([_shift(part.region, start) for part, start in shifted])
    ends = np.flatnonzero(parent >= 0)
    contacts = (region[seams.first] >= 0) & (region[seams.second] >= 0)
    first = np.concatenate([ends, region[seams.first][contacts]])
    second = np.concatenate([parent[ends], region[seams.second][contacts]])
    order = np.argsort(level, kind="stable")
    number, up = _joined(level, order, *_by_lower_end(order, first, second))
    joined_level = np.empty(up.size, np.uint32)
    joined_level[number] = level
    totals = np.concatenate([part.totals for part in parts])
    totals = region_sums(number, up.size, totals.T, largest)
    add_to_parents(totals, up, np.zeros(up.size, np.bool_), largest)
    return JoinedRegions(joined_level, up, totals, np.split(number, sizes[1:-1]))


def _shift(numbers: np.ndarray, start: int) -> np.ndarray:
    return np.where(numbers >= 0, numbers + np.int64(start), np.int64(-1))


def _by_lower_end(
    order: np.ndarray, first: np.ndarray, second: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Links grouped by their lower end, along `order`: starts, and higher ends."""
    rank = np.empty(order.size, np.int64)
    rank[order] = np.arange(order.size)
    swap = rank[first] > rank[second]
    lower, higher = np.where(swap, second, first), np.where(swap, first, second)
    grouped = np.argsort(rank[lower], kind="stable")
    counts = np.bincount(rank[lower], minlength=order.size)
    return np.append(0, np.cumsum(counts)), higher[grouped]


@njit(cache=True, nogil=True)
def _joined(
    level: np.ndarray, order: np.ndarray, starts: np.ndarray, higher: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Join linked regions from high to low: as in a max-tree, but over any graph.

    (Merging the ways down from every contact would walk the same long ways many times.)
    """
    parent = np.full(order.size, -1, np.int64)
    ancestor = np.arange(order.size)
    for k in range(order.size - 1, -1, -1):
        here = order[k]
        for e in range(starts[k], starts[k + 1]):
            root = higher[e]
            while ancestor[root] != root:
                ancestor[root] = ancestor[ancestor[root]]
                root = ancestor[root]
            if root != here:
                parent[root] = here
                ancestor[root] = here
    number = np.empty(order.size, np.int64)
    up = np.empty(order.size, np.int64)
    made = 0
    for here in order:
        below = parent[here]
        if below >= 0 and level[below] == level[here]:
            number[here] = number[below]
        else:
            number[here] = made
            up[made] = number[below] if below >= 0 else -1
            made += 1
    return number, up[:made].copy()
