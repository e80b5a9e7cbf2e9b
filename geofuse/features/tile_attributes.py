"""Attribute filters of one tile, in two visits.

First visit: build the tile's max-tree and report the regions that reach an edge with
what they have of the attribute. When all have reported, they are joined to regions of
the whole image and decided on (`geofuse.features.seams`). Second visit: build the tree
again, decide on the regions that lie within the tile, and take the decision on the
others.

What is reported is bounded. Where the attribute increases, a region that already has
the largest threshold is kept whatever joins it, and so are those around it: of every
way down from an edge pixel only the part below the largest threshold is told. On a
natural image of 32 bits that is a region for each 1 % of the pixels of a tile of 1024
(area up to 1000). For an attribute that does not increase it is all regions that reach
an edge, which can be half of all regions.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from geofuse.features.attributes import ATTRIBUTES, Attribute, Pixels, rounding_unit
from geofuse.features.levels import decode, flipped
from geofuse.features.max_tree import (
    MaxTree,
    add_to_parents,
    keep_regions,
    max_tree,
    region_sums,
)
from geofuse.features.seams import (
    OpenRegions,
    edge_pixels,
    find_seams,
    join_regions,
)
from geofuse.features.tile_windows import core_of, place_of, window_levels
from geofuse.tiling import Lattice

#: What a tile reports for a band and an operator, by number.
Report = dict[tuple[int, int], OpenRegions]
#: (threshold, open region) uint32: filtered levels of a tile, by band and operator.
RegionLevels = dict[tuple[int, int], np.ndarray]


class _Measured(NamedTuple):
    """The regions of a tile, and which of them go on beyond it."""

    tree: MaxTree
    attribute: np.ndarray  # (node,) float64, of the part within the tile
    reported: np.ndarray  # numbers of the nodes that are reported
    report: OpenRegions


@dataclass(frozen=True)
class TileAttributes:
    """Attribute openings and closings, or thinnings and thickenings, over tiles.

    Attributes:
        tiles: How tiles lie on the image.
        attribute: A name of `geofuse.features.attributes.ATTRIBUTES`.
        thresholds: Ascending; regions with less of the attribute are flattened.
        operators: `opening` and `closing`, in the order of the result.
        connectivity: 4 or 8 neighbors.
    """

    tiles: Lattice
    attribute: str
    thresholds: tuple[float, ...]
    operators: tuple[str, ...]
    connectivity: int

    @property
    def _kind(self) -> Attribute:
        return ATTRIBUTES[self.attribute]

    @property
    def _unit(self) -> float:
        return rounding_unit(self.thresholds)

    def report(self, arrays: Mapping[str, np.ndarray], shared: Any) -> Report:
        """First visit: what the others must know of this tile.

        Args:
            arrays: Windows `image` (band, y, x) and `number` (y, x), without a halo.
            shared: Not used.
        """
        place = place_of(arrays["number"], 0, self.tiles)
        return {
            (band, operator): self._measured(levels, values, place).report
            for band, operator, levels, values in self._cores(arrays, place)
        }

    def join(self, reports: list[Report]) -> list[RegionLevels]:
        """The filtered levels of all regions that were reported."""
        seams = find_seams(self.tiles, self.connectivity)
        filtered: list[RegionLevels] = [{} for _ in reports]
        for key in list(reports[0]):
            parts = [report.pop(key) for report in reports]
            joined = join_regions(seams, parts, largest=self._kind.largest)
            attribute = self._kind.measure(joined.totals, self._unit)
            levels = self._decided(joined.level, joined.parent, attribute, None)
            for tile, number in zip(filtered, joined.number, strict=True):
                tile[key] = levels[:, number]
        return filtered

    def finish(
        self, arrays: Mapping[str, np.ndarray], filtered: list[RegionLevels] | None
    ) -> np.ndarray:
        """Second visit: the tile of the result.

        Args:
            arrays: Windows `image` (band, y, x) and `number` (y, x), without a halo.
            filtered: What `join` gave; None where there is only one tile.

        Returns:
            (band * operator * threshold, y, x) float32, unit of the image, NaN where
            invalid.
        """
        place = place_of(arrays["number"], 0, self.tiles)
        dtype = arrays["image"].dtype
        planes = []
        for band, operator, levels, values in self._cores(arrays, place):
            measured = self._measured(levels, values, place)
            tree = measured.tree
            known = np.zeros((len(self.thresholds), tree.level.size), np.uint32)
            if filtered is not None:
                tile = filtered[place[0] * self.tiles.columns + place[1]]
                known[:, measured.reported] = tile[band, operator]
            for one in self._decided(
                tree.level, tree.parent, measured.attribute, known
            ):
                # At walls the node is -1, whose level below is that of a wall.
                plane = np.append(one, np.uint32(0))[tree.node]
                if self.operators[operator] == "closing":
                    plane = flipped(plane, dtype)
                planes.append(decode(plane, dtype))
        return np.stack(planes)

    def _cores(
        self, arrays: Mapping[str, np.ndarray], place: tuple[int, int]
    ) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
        """Levels and values of each band, for each operator: the closing flips."""
        number = core_of(arrays["number"], 0, self.tiles, place)
        for band, window in enumerate(arrays["image"]):
            values = core_of(window, 0, self.tiles, place)
            levels = window_levels(values, number)
            for operator, name in enumerate(self.operators):
                turned = flipped(levels, values.dtype) if name == "closing" else levels
                yield band, operator, turned, values

    def _measured(
        self, levels: np.ndarray, values: np.ndarray, place: tuple[int, int]
    ) -> _Measured:
        tree = max_tree(levels, connectivity=self.connectivity)
        node, nodes, largest = tree.node.ravel(), tree.level.size, self._kind.largest
        y, x = self.tiles.core(*place)
        rows, columns = np.mgrid[y, x].reshape(2, -1)
        finite = np.where(levels > 0, values, 0).astype(np.float64)
        pixels = Pixels(finite.ravel(), rows, columns)
        contributions = self._kind.contributions(pixels, self._unit)
        own = region_sums(node, nodes, contributions, largest)

        edge = edge_pixels(self.tiles, *place)
        at_edge = np.zeros(nodes, np.bool_)
        at_edge[node[edge][node[edge] >= 0]] = True
        is_open = _with_ancestors(at_edge, tree.parent)
        totals = own.copy()
        add_to_parents(totals, tree.parent, np.zeros(nodes, np.bool_), largest)
        attribute = self._kind.measure(totals, self._unit)
        # A region that has the largest threshold already is decided. It is reported
        # where something may touch it, with all that it has, and its larger ones are
        # not.
        decided = is_open & (attribute >= self.thresholds[-1])
        if not self._kind.increasing:
            decided[:] = False
        reported = is_open & ~decided
        parents = tree.parent[reported]
        reported[parents[parents >= 0]] = True
        reported |= at_edge
        add_to_parents(own, tree.parent, is_open, largest)
        own = np.where(decided[:, None], totals, own)

        number = np.append(np.cumsum(reported) - 1, -1)  # of a wall and no parent: -1
        up = np.where(decided, -1, tree.parent)[reported]
        report = OpenRegions(
            tree.level[reported],
            number[up].astype(np.int32),
            own[reported],
            number[node[edge]].astype(np.int32),
        )
        return _Measured(tree, attribute, np.flatnonzero(reported), report)

    def _decided(
        self,
        level: np.ndarray,
        parent: np.ndarray,
        attribute: np.ndarray,
        known: np.ndarray | None,
    ) -> np.ndarray:
        """(threshold, node) uint32: level of each node's own pixels, filtered."""
        if known is None:
            known = np.zeros((len(self.thresholds), level.size), np.uint32)
        return np.stack(
            [
                keep_regions(level, parent, attribute >= threshold, known[k])
                for k, threshold in enumerate(self.thresholds)
            ]
        )


def _with_ancestors(chosen: np.ndarray, parent: np.ndarray) -> np.ndarray:
    """The chosen nodes and all larger regions that hold them."""
    marks = chosen.astype(np.int64)[:, None]
    add_to_parents(marks, parent, np.zeros(chosen.size, np.bool_), True)
    return marks[:, 0] > 0
