"""Place pixels of the radar's geometry on a map by ground control points alone.

The points say for some lines and pixels where on the ellipsoid they lie, at the height of
the ground there. Between them the ground is taken to be smooth: this is no terrain
correction, and where it is not smooth, pixels lie off by its height over the tangent of
the incidence angle: 100 m of height are 120 m on the map.

From the map back to lines and pixels runs a thin-plate spline through the points,
evaluated every 64 pixels of the map, counted from its corner, and linear between (off by
millimeters). So a pixel's source does not depend on the tile or the part that is opened.
The nearest pixel is taken: nothing is mixed, and speckle keeps its looks.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer
from scipy.interpolate import RBFInterpolator, RegularGridInterpolator

#: Pixels of the map from node to node of the way back.
STEP = 64


@dataclass(frozen=True)
class GroundControl:
    """Ground control points on lines and pixels of a product.

    Attributes:
        lines: Lines of the points, increasing.
        pixels: Pixels of the points, increasing.
        longitude: Degrees, (line, pixel).
        latitude: Degrees, (line, pixel).
        angle: Incidence angle in degrees, (line, pixel).
    """

    lines: np.ndarray
    pixels: np.ndarray
    longitude: np.ndarray
    latitude: np.ndarray
    angle: np.ndarray

    def grid(self, gsd: float) -> GeoBox:
        """A grid in UTM (polar stereographic near the poles) around all points."""
        crs = _crs_at(self.longitude, self.latitude)
        x, y = self._projected(crs)
        left, right = (
            f(v / gsd) for f, v in ((math.floor, x.min()), (math.ceil, x.max()))
        )
        low, high = (
            f(v / gsd) for f, v in ((math.floor, y.min()), (math.ceil, y.max()))
        )
        return GeoBox.from_bbox(
            (left * gsd, low * gsd, right * gsd, high * gsd), crs, resolution=gsd
        )

    def back(self, grid: GeoBox) -> np.ndarray:
        """Line and pixel (2, node, node) of every `STEP`th pixel of a grid, and beyond."""
        x, y = self._projected(str(grid.crs))
        middle = np.array([x.mean(), y.mean()])
        size = max(np.ptp(x), np.ptp(y))
        points = (np.column_stack([x.ravel(), y.ravel()]) - middle) / size
        lines, pixels = np.meshgrid(self.lines, self.pixels, indexing="ij")
        spline = RBFInterpolator(
            points,
            np.column_stack([lines.ravel(), pixels.ravel()]),
            kernel="thin_plate_spline",
        )
        rows, columns = (np.arange(0, side + STEP, STEP) + 0.5 for side in grid.shape)
        j, i = np.meshgrid(columns, rows)
        place = np.column_stack(grid.affine * (j.ravel(), i.ravel()))
        found = spline((place - middle) / size)
        return np.moveaxis(found.reshape(len(rows), len(columns), 2), -1, 0)

    def angle_at(self, lines: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        """Incidence angle in degrees at lines and pixels, linear between the points."""
        known = RegularGridInterpolator(
            (self.lines, self.pixels), self.angle, bounds_error=False, fill_value=None
        )
        return np.asarray(known((lines, pixels)))

    def _projected(self, crs: str) -> tuple[np.ndarray, np.ndarray]:
        transformer = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
        x, y = transformer.transform(self.longitude, self.latitude)
        return np.asarray(x), np.asarray(y)


@dataclass(frozen=True)
class GeocodedSource:
    """Radar pixels on a map, as an array that reads what is indexed.

    Attributes:
        read: For each band, reads a window (rows, columns) as float64; none for the
            incidence angle instead.
        size: Lines and pixels of the product.
        control: Its ground control points.
        grid: The whole map.
        rows: First row of the map and number of rows.
        columns: First column and number of columns.
    """

    read: tuple[Callable[[slice, slice], np.ndarray], ...]
    size: tuple[int, int]
    control: GroundControl
    grid: GeoBox
    rows: tuple[int, int]
    columns: tuple[int, int]

    dtype = np.dtype(np.float32)
    ndim = 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """Bands, rows and columns."""
        return (max(len(self.read), 1), self.rows[1], self.columns[1])

    @cached_property
    def _nodes(self) -> np.ndarray:
        return self.control.back(self.grid)

    def __getitem__(self, key: Any) -> np.ndarray:
        """Read a window, as float32 with NaN where invalid or outside the product."""
        wanted = [
            np.arange(size)[part] for size, part in zip(self.shape, key, strict=True)
        ]
        # dask may ask for one band by its number, and wants no axis for it then.
        values = self._window(*(np.atleast_1d(index) for index in wanted))
        return values.reshape([size for index in wanted for size in index.shape])

    def _window(self, band: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        result = np.full((len(band), len(y), len(x)), np.nan, np.float32)
        if not result.size:
            return result
        lines, pixels = self._back(y + self.rows[0], x + self.columns[0])
        rows, columns = np.rint(lines).astype(int), np.rint(pixels).astype(int)
        inside = (rows >= 0) & (rows < self.size[0])
        inside &= (columns >= 0) & (columns < self.size[1])
        if not inside.any():
            return result
        if not self.read:
            result[:, inside] = self.control.angle_at(lines[inside], pixels[inside])
            return result
        rows, columns = rows[inside], columns[inside]
        top, left = int(rows.min()), int(columns.min())
        window = slice(top, int(rows.max()) + 1), slice(left, int(columns.max()) + 1)
        for place, index in enumerate(band):
            power = self.read[index](*window)
            result[place, inside] = power[rows - top, columns - left]
        return result

    def _back(self, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Line and pixel of rows and columns of the map, linear between nodes."""
        i, j = y // STEP, x // STEP
        down, right = (y % STEP / STEP)[:, None], (x % STEP / STEP)[None, :]
        found = []
        for nodes in self._nodes:
            rows = nodes[i] + down * (nodes[i + 1] - nodes[i])
            before, after = rows[:, j], rows[:, j + 1]
            found.append(before + right * (after - before))
        return found[0], found[1]


def _crs_at(longitude: np.ndarray, latitude: np.ndarray) -> str:
    """The UTM zone of the middle, or universal polar stereographic beyond 80 degrees."""
    turns = np.exp(1j * np.radians(longitude))
    east = float(np.degrees(np.angle(turns.mean())))
    north = float(latitude.mean())
    south = north < 0
    if abs(north) > 80:
        return "EPSG:32761" if south else "EPSG:32661"
    zone = int((east + 180) // 6) % 60 + 1
    return CRS.from_epsg((32700 if south else 32600) + zone).to_string()
