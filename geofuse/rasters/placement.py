"""Where the pixels of a file lie: its grid, north up, and the part of it that is wanted."""

import math
from collections.abc import Sequence

from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError

from geofuse.errors import CRSMismatchError, GridMismatchError, ParameterError
from geofuse.rasters.grid import crs_name
from geofuse.rasters.source import CHUNK, WIDEST_CHUNK, RasterFile


def file_grid(file: RasterFile) -> tuple[GeoBox, bool]:
    """Grid of a file, north up, and whether the file is south up."""
    transform = file.transform
    if transform.b or transform.d:
        raise GridMismatchError(
            f"expected a grid along the axes of its CRS, found a rotated one in "
            f"{file.path}; straighten it first: gdalwarp INPUT OUTPUT"
        )
    if not (transform.a and transform.e and all(map(math.isfinite, transform))):
        raise GridMismatchError(
            f"expected pixels with a size, found {transform.a:g} by {transform.e:g} in "
            f"{file.path}; correct it with gdal_edit -a_ullr"
        )
    south_up = file.georeferenced and transform.e > 0
    if south_up:
        transform = transform * Affine(1, 0, 0, 0, -1, file.shape[1])
    return GeoBox(file.shape[1:], transform, file.crs_wkt), south_up


def clip(
    grid: GeoBox,
    bbox: Sequence[float] | None,
    bbox_crs: str | None,
    file: RasterFile,
) -> tuple[slice, slice]:
    """Rows and columns that a bounding box touches."""
    height, width = grid.shape
    if bbox is None:
        return slice(0, height), slice(0, width)
    left, bottom, right, top = _box(bbox)
    if bbox_crs is not None:
        if grid.crs is None:
            raise CRSMismatchError(
                f"expected a file with a CRS to clip in {bbox_crs}, found none in "
                f"{file.path}; give the box in pixels of the file, without its CRS"
            )
        try:
            transformer = Transformer.from_crs(
                CRS.from_user_input(bbox_crs), grid.crs.proj, always_xy=True
            )
        except CRSError:
            raise CRSMismatchError(
                f"expected a CRS for the box, found {bbox_crs!r}; for example EPSG:4326"
            ) from None
        box = transformer.transform_bounds(left, bottom, right, top)
        left, bottom, right, top = box
    to_pixels = ~grid.affine
    corners = [to_pixels * corner for corner in ((left, top), (right, bottom))]
    spans = []
    for axis, size in ((1, height), (0, width)):
        low, high = sorted(corner[axis] for corner in corners)
        first = last = 0
        if math.isfinite(low) and math.isfinite(high):
            first = max(math.floor(low + 1e-6), 0)
            last = min(math.ceil(high - 1e-6), size)
        if first >= last:
            bounds = grid.boundingbox
            raise GridMismatchError(
                f"expected a box that meets {file.path}, which reaches from "
                f"({bounds.left:.10g}, {bounds.bottom:.10g}) to ({bounds.right:.10g}, "
                f"{bounds.top:.10g}) in {crs_name(grid)}, found {tuple(bbox)}; give "
                "left bottom right top, and its CRS if it is another one"
            )
        spans.append(slice(first, last))
    return spans[0], spans[1]


def file_rows(rows: slice, height: int, south_up: bool) -> tuple[int, int]:
    """First row in the file, and number of rows, of rows counted from the north."""
    first = height - rows.stop if south_up else rows.start
    return first, rows.stop - rows.start


def chunk_sides(block: tuple[int, int]) -> list[int]:
    """Sides of chunks that are whole blocks where these are small enough."""
    return [
        math.ceil(CHUNK / side) * side if side <= WIDEST_CHUNK else WIDEST_CHUNK // 2
        for side in block
    ]


def _box(bbox: Sequence[float]) -> tuple[float, float, float, float]:
    values = [float(value) for value in bbox]
    if len(values) != 4 or not (values[0] < values[2] and values[1] < values[3]):
        raise ParameterError(
            f"expected a box as left, bottom, right, top, found {tuple(bbox)}; left "
            "must be less than right, and bottom less than top"
        )
    return values[0], values[1], values[2], values[3]
