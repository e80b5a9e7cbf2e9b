"""Openings and closings by reconstruction of one tile, in two visits.

First visit: erode, reconstruct within the tile, and report what the tile's edge pixels
got and how they hang together. When all have reported, it is known what their levels
are in the whole image (`geofuse.features.seams`). Second visit: start from the same
eroded tile and those levels at its edge; what comes out is the tile of the whole
result.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from geofuse.features.disk import erode
from geofuse.features.levels import decode, flipped
from geofuse.features.max_tree import max_tree, reconstruct_nodes
from geofuse.features.reconstruction import reconstruct_levels
from geofuse.features.seams import (
    EdgeTies,
    edge_pixels,
    edge_ties,
    find_seams,
    spread_over_seams,
)
from geofuse.features.tile_windows import core_of, place_of, window_levels
from geofuse.tiling import Lattice

#: Up to so many radii, reconstructing each is faster than building a tree for all.
_FEW_RADII = 4

#: What a tile reports for a band and an operator, by number.
Report = dict[tuple[int, int], tuple[EdgeTies, np.ndarray]]
#: Final levels (radius, edge pixel) of a tile for a band and an operator.
EdgeLevels = dict[tuple[int, int], np.ndarray]


@dataclass(frozen=True)
class TileOpenings:
    """Openings (and closings) by reconstruction, in the tiles of an image.

    Attributes:
        tiles: How tiles lie on the image.
        radii: Radii of the disks in pixels.
        operators: `opening` and `closing`, in the order of the result.
        connectivity: 4 or 8 neighbors.
    """

    tiles: Lattice
    radii: tuple[int, ...]
    operators: tuple[str, ...]
    connectivity: int

    @property
    def halo(self) -> int:
        """Pixels around a tile that an erosion looks at."""
        return self.radii[-1]

    def report(self, arrays: Mapping[str, np.ndarray], shared: Any) -> Report:
        """First visit: what the others must know of this tile.

        Args:
            arrays: Windows `image` (band, y, x) and `number` (y, x).
            shared: Not used.
        """
        place = place_of(arrays["number"], self.halo, self.tiles)
        edge = edge_pixels(self.tiles, *place)
        nothing = np.empty(0, np.uint32)
        report: Report = {}
        for band, operator, window in self._windows(arrays):
            levels = core_of(window, self.halo, self.tiles, place)
            tree = max_tree(levels, connectivity=self.connectivity)
            node = tree.node.ravel()
            reached = np.zeros((len(self.radii), edge.size), np.uint32)
            inside = node[edge] >= 0
            for k, radius in enumerate(self.radii):
                marker = core_of(erode(window, radius), self.halo, self.tiles, place)
                rebuilt = reconstruct_nodes(
                    node, tree.level, tree.parent, marker.ravel(), edge[:0], nothing
                )
                reached[k, inside] = rebuilt[node[edge[inside]]]
            ties = EdgeTies(
                levels.ravel()[edge], *edge_ties(node, tree.level, tree.parent, edge)
            )
            report[band, operator] = (ties, reached)
        return report

    def join(self, reports: list[Report]) -> list[EdgeLevels]:
        """What comes in at the edges of every tile, from the reports of all."""
        seams = find_seams(self.tiles, self.connectivity)
        joined: list[EdgeLevels] = [{} for _ in reports]
        for key in reports[0]:
            ties = [report[key][0] for report in reports]
            reached = [report[key][1] for report in reports]
            for tile, levels in zip(
                joined, spread_over_seams(seams, ties, reached), strict=True
            ):
                tile[key] = levels
        return joined

    def finish(
        self, arrays: Mapping[str, np.ndarray], joined: list[EdgeLevels] | None
    ) -> np.ndarray:
        """Second visit: the tile of the result.

        Args:
            arrays: Windows `image` (band, y, x) and `number` (y, x).
            joined: What `join` gave; None where there is only one tile.

        Returns:
            (band * operator * radius, y, x) float32, unit of the image, NaN where
            invalid.
        """
        place = place_of(arrays["number"], self.halo, self.tiles)
        edge = edge_pixels(self.tiles, *place)
        dtype = arrays["image"].dtype
        planes = []
        for band, operator, window in self._windows(arrays):
            key = (band, operator)
            mask = core_of(window, self.halo, self.tiles, place)
            incoming = np.zeros((len(self.radii), edge.size), np.uint32)
            if joined is not None:
                incoming = joined[place[0] * self.tiles.columns + place[1]][key]
            markers = [
                core_of(erode(window, radius), self.halo, self.tiles, place)
                for radius in self.radii
            ]
            for levels in self._rebuilt(mask, markers, edge, incoming):
                closing = self.operators[operator] == "closing"
                planes.append(
                    decode(flipped(levels, dtype) if closing else levels, dtype)
                )
        return np.stack(planes)

    def _windows(self, arrays: Mapping[str, np.ndarray]) -> Any:
        """Levels of each band for each operator: the closing flips levels."""
        for band, values in enumerate(arrays["image"]):
            levels = window_levels(values, arrays["number"])
            for operator, name in enumerate(self.operators):
                turned = flipped(levels, values.dtype) if name == "closing" else levels
                yield band, operator, turned

    def _rebuilt(
        self,
        mask: np.ndarray,
        markers: list[np.ndarray],
        edge: np.ndarray,
        incoming: np.ndarray,
    ) -> Any:
        """The reconstruction of each marker, helped by what comes in at the edge."""
        if len(markers) <= _FEW_RADII:
            for marker, levels in zip(markers, incoming, strict=True):
                raised = marker.copy()
                raised.ravel()[edge] = np.maximum(raised.ravel()[edge], levels)
                yield reconstruct_levels(raised, mask, self.connectivity == 8)
            return
        tree = max_tree(mask, connectivity=self.connectivity)
        node = tree.node.ravel()
        for marker, levels in zip(markers, incoming, strict=True):
            rebuilt = reconstruct_nodes(
                node, tree.level, tree.parent, marker.ravel(), edge, levels
            )
            # At walls the node is -1, whose level below is that of a wall.
            rebuilt = np.append(rebuilt, np.uint32(0))
            yield rebuilt[tree.node]
