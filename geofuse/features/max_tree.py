"""The component tree of an image: its bright regions, nested.

Cut an image at a level: what is at least as high falls into connected regions. Lower
the level, and regions grow and join, never split. So all regions of all levels form a
tree. A node is one region, its parent the next larger one, the root everything:

    level 5    ▁▁▁█▁▁▁▁▁▁▁▁       a
    level 3    ▁▁███▁▁▁▁██▁       b     c        a lies in b; b and c lie in d
    level 1    ████████████       └──d──┘

A connected filter only decides which nodes stay. From one tree, openings of all sizes
and reconstructions of all markers follow by a walk up and a walk down the nodes, which
is why profiles are made from it. (The min-tree, of the dark regions, is the max-tree of
the flipped levels.)

Pixels are sorted by level in digits of eleven bits and joined from high to low by a
union-find. Walls belong to no node, so that an image with walls has several roots.

References:
    Salembier, P., Oliveras, A., Garrido, L. (1998). Antiextensive connected operators
    for image and sequence processing. IEEE Transactions on Image Processing 7(4).
    Berger, C. et al. (2007). Effective component tree computation with application to
    pattern recognition in astronomical imaging. ICIP, vol. 4.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

_DIGIT = 11


class MaxTree(NamedTuple):
    """Nodes are numbered from low to high levels: a parent comes before its children.

    Attributes:
        node: (y, x) int32, the smallest region that each pixel belongs to; -1 at walls.
        level: (node,) uint32, level of each region: the lowest of its pixels.
        parent: (node,) int32, the next larger region; -1 at roots.
    """

    node: np.ndarray
    level: np.ndarray
    parent: np.ndarray


def max_tree(levels: np.ndarray, *, connectivity: int = 8) -> MaxTree:
    """Build the component tree.

    Args:
        levels: (y, x) uint32; 0 is a wall.
        connectivity: 4 or 8 neighbors.
    """
    bounded = np.pad(levels, 1)
    node, level, parent = _build(
        bounded.ravel(),
        sorted_pixels(bounded.ravel()),
        bounded.shape[1],
        connectivity == 8,
    )
    return MaxTree(node.reshape(bounded.shape)[1:-1, 1:-1].copy(), level, parent)


@njit(cache=True, nogil=True)
def sorted_pixels(levels: np.ndarray) -> np.ndarray:
    """Positions of all pixels but walls from the lowest to the highest level, stable.

    Args:
        levels: (pixel,) uint32; 0 is a wall.

    Returns:
        int32 positions.
    """
    lowest, highest, count = np.uint32(0xFFFFFFFF), np.uint32(0), 0
    for level in levels:
        if level > 0:
            lowest, highest, count = min(lowest, level), max(highest, level), count + 1
    order = np.empty(count, np.int32)
    keys = np.empty(count, np.uint32)
    k = 0
    for i in range(levels.size):
        if levels[i] > 0:
            order[k], keys[k] = i, levels[i] - lowest
            k += 1
    other, other_keys = np.empty_like(order), np.empty_like(keys)
    span = np.int64(highest) - np.int64(lowest) if count else 0
    digits = 1 << _DIGIT
    shift = 0
    while span >> shift > 0:
        starts = np.zeros(digits + 1, np.int64)
        for key in keys:
            starts[((key >> np.uint32(shift)) & np.uint32(digits - 1)) + 1] += 1
        for d in range(digits):
            starts[d + 1] += starts[d]
        for i in range(count):
            digit = (keys[i] >> np.uint32(shift)) & np.uint32(digits - 1)
            place = starts[digit]
            starts[digit] += 1
            other[place], other_keys[place] = order[i], keys[i]
        order, other = other, order
        keys, other_keys = other_keys, keys
        shift += _DIGIT
    return order


@njit(cache=True, nogil=True)
def _build(
    levels: np.ndarray, order: np.ndarray, width: int, corners: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Join pixels from high to low; then number the regions from low to high."""
    steps = np.array(
        [-1, 1, -width, width, -width - 1, -width + 1, width - 1, width + 1]
    )
    count = 8 if corners else 4
    parent = np.empty(levels.size, np.int32)
    ancestor = np.full(levels.size, -1, np.int32)
    for k in range(order.size - 1, -1, -1):
        here = order[k]
        parent[here] = here
        ancestor[here] = here
        for s in range(count):
            there = here + steps[s]
            if ancestor[there] >= 0:
                root = _find(ancestor, there)
                if root != here:
                    parent[root] = here
                    ancestor[root] = here
    node = ancestor  # no longer needed as such
    nodes = 0
    # From low to high: a pixel whose parent is on its level is of the parent's region.
    for here in order:
        up = parent[here]
        if up == here or levels[up] != levels[here]:
            node[here] = nodes
            nodes += 1
        else:
            node[here] = node[up]
    level = np.empty(nodes, np.uint32)
    above = np.empty(nodes, np.int32)
    made = 0
    for here in order:
        if node[here] == made:
            up = parent[here]
            level[made] = levels[here]
            above[made] = -1 if up == here else node[up]
            made += 1
    return node, level, above


@njit(cache=True, nogil=True)
def _find(ancestor: np.ndarray, at: int) -> int:
    """Root of a union-find, halving the path."""
    while ancestor[at] != at:
        ancestor[at] = ancestor[ancestor[at]]
        at = ancestor[at]
    return at


@njit(cache=True, nogil=True)
def reconstruct_nodes(
    node: np.ndarray,
    level: np.ndarray,
    parent: np.ndarray,
    marker: np.ndarray,
    edge: np.ndarray,
    edge_marker: np.ndarray,
) -> np.ndarray:
    """Reconstruct a marker under the image that a tree was built from.

    The highest marker in a region lifts it, as far as the region reaches.

    Args:
        node: (pixel,) of a `MaxTree`, raveled.
        level: (node,) of it.
        parent: (node,) of it.
        marker: (pixel,) uint32 levels, nowhere above the image; 0 for none.
        edge: Positions of pixels where something comes in from outside, …
        edge_marker: … and the level that it has there.

    Returns:
        (node,) uint32: the reconstructed level of each region's own pixels.
    """
    highest = np.zeros(level.size, np.uint32)
    for i in range(node.size):
        n = node[i]
        if n >= 0 and marker[i] > highest[n]:
            highest[n] = marker[i]
    for k in range(edge.size):
        n = node[edge[k]]
        if n >= 0 and edge_marker[k] > highest[n]:
            highest[n] = edge_marker[k]
    for n in range(level.size - 1, -1, -1):
        up = parent[n]
        if up >= 0 and highest[n] > highest[up]:
            highest[up] = highest[n]
    for n in range(level.size):
        if highest[n] >= level[n]:
            highest[n] = level[n]
        elif parent[n] >= 0 and highest[parent[n]] > highest[n]:
            highest[n] = highest[parent[n]]
    return highest


@njit(cache=True, nogil=True)
def region_sums(
    node: np.ndarray, nodes: int, contributions: np.ndarray, largest: bool
) -> np.ndarray:
    """Add up what the own pixels of each region contribute (smaller regions left out).

    Args:
        node: (pixel,) of a `MaxTree`, raveled.
        nodes: Number of nodes.
        contributions: (column, pixel) int64.
        largest: Whether to take the largest instead of the sum.

    Returns:
        (node, column) int64; where nothing contributes 0, or the least number there is.
    """
    columns = contributions.shape[0]
    nothing = np.iinfo(np.int64).min if largest else 0
    sums = np.full((nodes, columns), nothing, np.int64)
    for i in range(node.size):
        n = node[i]
        if n >= 0:
            for c in range(columns):
                if largest:
                    sums[n, c] = max(sums[n, c], contributions[c, i])
                else:
                    sums[n, c] += contributions[c, i]
    return sums


@njit(cache=True, nogil=True)
def add_to_parents(
    sums: np.ndarray, parent: np.ndarray, held_back: np.ndarray, largest: bool
) -> None:
    """Pass what each region has on to the next larger one, in place, from high to low.

    Args:
        sums: (node, column) of `region_sums`.
        parent: (node,) of a `MaxTree`.
        held_back: (node,) bool; these pass nothing on.
        largest: Whether to take the largest instead of the sum.
    """
    for n in range(parent.size - 1, -1, -1):
        up = parent[n]
        if up >= 0 and not held_back[n]:
            for c in range(sums.shape[1]):
                if largest:
                    sums[up, c] = max(sums[up, c], sums[n, c])
                else:
                    sums[up, c] += sums[n, c]


@njit(cache=True, nogil=True)
def keep_regions(
    level: np.ndarray, parent: np.ndarray, kept: np.ndarray, known: np.ndarray
) -> np.ndarray:
    """Flatten regions that are not kept to the next larger region that is.

    Args:
        level: (node,) of a `MaxTree`.
        parent: (node,) of it.
        kept: (node,) bool; roots are always kept.
        known: (node,) uint32: where not 0, the result is this.

    Returns:
        (node,) uint32: level of each region's own pixels in the filtered image.
    """
    result = np.empty_like(level)
    for n in range(level.size):
        if known[n] > 0:
            result[n] = known[n]
        elif kept[n] or parent[n] < 0:
            result[n] = level[n]
        else:
            result[n] = result[parent[n]]
    return result
