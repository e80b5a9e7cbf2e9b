"""Polygons and points burned into a grid, window by window, when asked.

A polygon covers the pixels whose centers lie in it, a point the pixel that it lies in.
Where several lie over each other the smallest wins (a pond in a forest), of equals the
last of the file, and points over polygons.
"""

import threading
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import dask.array as da
import numpy as np
import rasterio.features
from affine import Affine
from dask.base import tokenize
from odc.geo.geobox import GeoBox

from geofuse.rasters.legend import UNLABELED
from geofuse.rasters.vectors import package

#: Side of the squares that are burned at once. They lie on the grid, whatever is asked
#: for: an edge through a center must not fall to either side with the window.
BLOCK = 512

_BURNING = threading.Lock()


class BurnedShapes:
    """An array (y, x) of int16 that burns what is indexed, for dask.

    Args:
        geometries: Polygons and points (shapely) in the CRS of the grid.
        numbers: What to burn for each, from 0 on.
        grid: Where the pixels lie.
    """

    ndim = 2
    dtype = np.dtype(np.int16)

    def __init__(
        self, geometries: np.ndarray, numbers: Sequence[int], grid: GeoBox
    ) -> None:
        """Sort polygons by area, and find the pixels of points."""
        shapely = package("shapely")

        burned = np.asarray(numbers, np.int16)
        is_area = shapely.get_dimensions(geometries) == 2
        areas = geometries[is_area]
        order = np.argsort(-shapely.area(areas), kind="stable")
        self.shape = (int(grid.shape[0]), int(grid.shape[1]))
        self.transform = tuple(grid.affine)[:6]
        self.areas = areas[order]
        self.area_numbers = burned[is_area][order]
        places, owner = shapely.get_coordinates(geometries[~is_area], return_index=True)
        columns, rows = (
            np.floor(v).astype(np.int64)
            for v in ~grid.affine * (places.T[0], places.T[1])
        )
        inside = (rows >= 0) & (rows < self.shape[0])
        inside &= (columns >= 0) & (columns < self.shape[1])
        self.rows, self.columns = rows[inside], columns[inside]
        self.point_numbers = burned[~is_area][owner][inside]

    @cached_property
    def _tree(self) -> Any:
        shapely = package("shapely")

        return shapely.STRtree(self.areas)

    @property
    def any(self) -> bool:
        """Whether anything may lie on the grid."""
        rows, columns = self.shape
        return bool(self.rows.size or self._near(0, 0, rows, columns).size)

    def lazy(self, token: str) -> da.Array:
        """The array, lazily.

        Args:
            token: Names what is burned.
        """
        return da.from_array(
            self,
            chunks=(BLOCK, BLOCK),
            name=f"burned-{tokenize(token, self.shape, self.transform)}",
            asarray=False,
            meta=np.empty((0, 0), self.dtype),
        )

    def __getitem__(self, key: Any) -> np.ndarray:
        """Burn a window."""
        wanted = [
            np.arange(size)[part] for size, part in zip(self.shape, key, strict=True)
        ]
        if not all(index.size for index in wanted):
            return np.empty([n for i in wanted for n in i.shape], self.dtype)
        (top, bottom), (left, right) = (
            (int(index.min()), int(index.max()) + 1) for index in wanted
        )
        values = np.empty((bottom - top, right - left), self.dtype)
        for row in range(top // BLOCK * BLOCK, bottom, BLOCK):
            for column in range(left // BLOCK * BLOCK, right, BLOCK):
                block = self._block(row, column)
                first, start = max(row, top), max(column, left)
                part = block[
                    first - row : bottom - row, start - column : right - column
                ]
                values[
                    first - top : first - top + part.shape[0],
                    start - left : start - left + part.shape[1],
                ] = part
        picked = values[np.ix_(*(np.ravel(i - i.min()) for i in wanted))]
        return picked.reshape([n for i in wanted for n in i.shape])

    def _block(self, row: int, column: int) -> np.ndarray:
        height = min(BLOCK, self.shape[0] - row)
        width = min(BLOCK, self.shape[1] - column)
        values = np.full((height, width), UNLABELED, np.int16)
        near = self._near(row, column, row + height, column + width)
        if near.size:
            # rasterio silences a warning of its own, but not safely between threads.
            with _BURNING:
                rasterio.features.rasterize(
                    zip(
                        self.areas[near], self.area_numbers[near].tolist(), strict=True
                    ),
                    out=values,
                    transform=Affine(*self.transform) * Affine.translation(column, row),
                )
        rows, columns = self.rows - row, self.columns - column
        here = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        values[rows[here], columns[here]] = self.point_numbers[here]
        return values

    def _near(self, top: int, left: int, bottom: int, right: int) -> np.ndarray:
        """Which polygons may lie in a window, in the order in which they are burned."""
        shapely = package("shapely")

        if not len(self.areas):
            return np.empty(0, np.int64)
        transform = Affine(*self.transform)
        (x0, y0), (x1, y1) = transform * (left, top), transform * (right, bottom)
        window = shapely.box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
        return np.sort(self._tree.query(window, predicate="intersects"))

    def __getstate__(self) -> dict[str, Any]:
        """Without the tree, which another process makes for itself."""
        return {k: v for k, v in self.__dict__.items() if k != "_tree"}
