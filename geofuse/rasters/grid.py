"""The grid of an image as one value: CRS, transform and shape (`odc.geo.GeoBox`).

Grids are compared here and only here, with a tolerance in pixels, and never as float
coordinates: xarray would silently join two images that differ by a billionth of a pixel
into an empty one.
"""

import math
from typing import Any

import numpy as np
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from geofuse.errors import CRSMismatchError, GridMismatchError

#: Grids whose corners differ by less than this many pixels are one grid.
TOLERANCE = 0.01


def grid_of(image: xr.DataArray | xr.Dataset) -> GeoBox:
    """Return the grid of an image, from its coordinates and its `spatial_ref`.

    Args:
        image: Any raster with y and x coordinates of pixel centers.

    Raises:
        GridMismatchError: y or x is missing or not evenly spaced.
    """
    for dimension in ("y", "x"):
        if dimension not in image.coords or image.sizes.get(dimension, 0) < 1:
            raise GridMismatchError(
                f"expected coordinates 'y' and 'x' of pixel centers, found "
                f"{sorted(map(str, image.coords))} on dimensions {tuple(image.dims)}; "
                "open the raster with geofuse.open_optical"
            )
    attributes = image.coords["spatial_ref"].attrs if _has_crs(image) else {}
    stored = attributes.get("GeoTransform")
    transform = Affine.from_gdal(*map(float, stored.split())) if stored else None
    (x0, width), (y0, height) = (
        _axis(image, "x", None if transform is None else transform.a),
        _axis(image, "y", None if transform is None else transform.e),
    )
    crs = attributes.get("crs_wkt") or attributes.get("spatial_ref") or None
    return GeoBox(
        (image.sizes["y"], image.sizes["x"]),
        Affine(width, 0.0, x0 - width / 2, 0.0, height, y0 - height / 2),
        crs,
    )


def place(data: Any, grid: GeoBox, *, coords: dict[str, Any] | None = None) -> Any:
    """Make a DataArray of an array (y, x) or (band, y, x) on a grid."""
    dims = ("band", "y", "x")[-data.ndim :]
    return xr.DataArray(data, dims=dims, coords={**(coords or {}), **coordinates(grid)})


def coordinates(grid: GeoBox) -> dict[str, Any]:
    """Pixel-center coordinates and `spatial_ref` of a grid, as in CF and rioxarray.

    A grid without a CRS keeps its transform in `spatial_ref` all the same.
    """
    transform = grid.affine
    rows, columns = grid.shape
    attributes: dict[str, Any] = {}
    if grid.crs is not None:
        attributes = {"spatial_ref": grid.crs.wkt, **grid.crs.proj.to_cf()}
    attributes["GeoTransform"] = " ".join(f"{v:.17g}" for v in transform.to_gdal())
    return {
        "y": ("y", transform.f + (np.arange(rows) + 0.5) * transform.e),
        "x": ("x", transform.c + (np.arange(columns) + 0.5) * transform.a),
        "spatial_ref": ((), 0, attributes),
    }


def describe(grid: GeoBox) -> str:
    """A grid in words, for messages: size, pixel, corner and CRS."""
    transform = grid.affine
    return (
        f"{grid.shape[1]}x{grid.shape[0]} pixels of {transform.a:g} "
        f"from ({transform.c:.10g}, {transform.f:.10g}) in {crs_name(grid)}"
    )


def crs_name(grid: GeoBox) -> str:
    """EPSG code, else the name in the WKT, else the projection, else 'no CRS'."""
    if grid.crs is None:
        return "no CRS"
    epsg = grid.crs.to_epsg()
    if epsg:
        return f"EPSG:{epsg}"
    crs = grid.crs.proj
    if crs.name.lower() not in ("unknown", "unnamed", "undefined"):
        return str(crs.name)
    projection = crs.coordinate_operation
    return f"a CRS without a name ({projection.method_name if projection else crs.type_name})"


def shift_between(first: GeoBox, second: GeoBox) -> float:
    """Largest distance between the same corners of two grids, in pixels of the first.

    Infinite where shapes differ. The CRS is not looked at.
    """
    if tuple(first.shape) != tuple(second.shape):
        return math.inf
    rows, columns = first.shape
    to_pixels = ~first.affine
    distances = [0.0]
    for corner in ((0, 0), (columns, 0), (0, rows), (columns, rows)):
        x, y = to_pixels * (second.affine * corner)
        distances.append(math.hypot(x - corner[0], y - corner[1]))
    return max(distances)


def same_crs(first: GeoBox, second: GeoBox) -> bool:
    """Whether two grids have the same CRS, or both have none."""
    if first.crs is None or second.crs is None:
        return first.crs is None and second.crs is None
    return bool(first.crs == second.crs)


def check_same_grid(
    first: xr.DataArray, second: xr.DataArray, *, names: tuple[str, str]
) -> None:
    """Refuse two images that do not share a grid.

    Args:
        first: An image.
        second: Another one.
        names: What the two are called in the message.

    Raises:
        CRSMismatchError: Their CRS differ.
        GridMismatchError: Their shapes or transforms differ by 0.01 pixels or more.
    """
    one, other = grid_of(first), grid_of(second)
    found = f"{names[0]} with {describe(one)} and {names[1]} with {describe(other)}"
    todo = "put both on one grid with geofuse.align(raster, like=reference)"
    if not same_crs(one, other):
        raise CRSMismatchError(f"expected one CRS, found {found}; {todo}")
    shift = shift_between(one, other)
    if shift >= TOLERANCE:
        by = "" if math.isinf(shift) else f", {shift:.3g} pixels apart"
        raise GridMismatchError(f"expected one grid, found {found}{by}; {todo}")


def note_snap(image: xr.DataArray, shift: float) -> None:
    """Note on an image that it was moved by a little of a pixel onto another grid.

    Less than a millionth is the rounding of a file format, and not worth a word.
    """
    if shift > 1e-6:
        image.attrs["snapped"] = f"{shift:.2g} pixels"


def snapped_to(image: xr.DataArray, like: xr.DataArray) -> xr.DataArray:
    """An image with the coordinates of another that is on the same grid but for a little.

    xarray joins by equal coordinates: two grids that differ by a billionth of a pixel
    have none in common, and their difference is empty.
    """
    if all(np.array_equal(image[name], like[name]) for name in ("y", "x")):
        return image
    shift = shift_between(grid_of(like), grid_of(image))
    snapped = image.assign_coords(
        {name: (name, like[name].values) for name in ("y", "x")}
    )
    note_snap(snapped, shift)
    return snapped


def _has_crs(image: xr.DataArray | xr.Dataset) -> bool:
    return "spatial_ref" in image.coords


def _axis(
    image: xr.DataArray | xr.Dataset, name: str, stored: float | None
) -> tuple[float, float]:
    """First pixel center and signed pixel size along one axis."""
    values = np.asarray(image.coords[name].values, dtype=np.float64)
    if len(values) == 1:
        return float(values[0]), stored if stored is not None else 1.0
    step = (values[-1] - values[0]) / (len(values) - 1)
    if step == 0 or np.abs(np.diff(values) - step).max() > TOLERANCE * abs(step):
        raise GridMismatchError(
            f"expected evenly spaced pixel centers along {name!r}, found steps from "
            f"{np.diff(values).min():g} to {np.diff(values).max():g}; put the image on "
            "a regular grid first"
        )
    if stored is not None and abs(stored - step) * len(values) < TOLERANCE * abs(step):
        step = stored
    return float(values[0]), float(step)
