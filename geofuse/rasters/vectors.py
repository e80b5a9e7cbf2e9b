"""Polygons and points with an attribute, from GeoPackage, shapefile or GeoJSON.

A vector file is not to be trusted either. GDAL has drivers that follow what a file says
about other files and hosts, and pyogrio opens with all of them. So a file is opened with
it only where its first bytes are those of a GeoPackage or a shapefile: such a header has
a zero byte within 16, where a search for the text of those drivers ends. GeoJSON is read
without GDAL.
"""

import importlib
import json
import os
import threading
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError

from geofuse.errors import (
    CRSMismatchError,
    GeofuseError,
    MissingExtraError,
    RasterReadError,
    UnknownNameError,
    did_you_mean,
)
from geofuse.rasters.grid import crs_name
from geofuse.rasters.source import is_text

#: Endings of the formats that are read, their GDAL driver, and their first bytes.
FORMATS = {
    ".gpkg": ("GPKG", b"SQLite format 3\x00"),
    ".shp": ("ESRI Shapefile", b"\x00\x00\x27\x0a"),
    ".geojson": (None, b""),
    ".json": (None, b""),
}

#: A file is held in memory, so that this bounds it. Parsed GeoJSON takes ten times more.
MAX_VECTOR_BYTES = 2 * 2**30
MAX_GEOJSON_BYTES = 256 * 2**20

#: Warning filters belong to the process, so that only one thread may change them.
_READING = threading.Lock()

#: What can be burned into a grid.
_KINDS = ("Point", "Polygon", "MultiPoint", "MultiPolygon")


class Shapes(NamedTuple):
    """Polygons and points, and what one attribute says of each.

    Attributes:
        geometries: Polygons and points (shapely), in the order of the file.
        values: The attribute of each, strings or numbers; None where there is none.
        crs: Their CRS; None if the file states none.
        path: Absolute path of the file.
        column: Name of the attribute.
    """

    geometries: np.ndarray
    values: list[Any]
    crs: CRS | None
    path: str
    column: str


def is_vector(path: str | os.PathLike[str]) -> bool:
    """Whether a path ends as those of vector files do."""
    return Path(path).suffix.lower() in FORMATS


def read_shapes(
    path: str | os.PathLike[str],
    column: str | None,
    *,
    layer: str | None = None,
    near: GeoBox | None = None,
) -> Shapes:
    """Read polygons and points, and one attribute of each.

    Args:
        path: A local GeoPackage, shapefile or GeoJSON file.
        column: The attribute wanted.
        layer: Which layer of a GeoPackage; it may be left out where there is one.
        near: Only what may meet this grid is read; None for all.

    Raises:
        MissingExtraError: The packages pyogrio and shapely are not there.
        RasterReadError: The file is missing, damaged, or not of these formats, or holds
            lines or curves.
        UnknownNameError: There is no such column or layer, or none was named.
        CRSMismatchError: The CRS of the file makes no sense.
    """
    shapely = package("shapely")
    local = _checked(path)
    driver, _ = FORMATS[Path(local).suffix.lower()]
    if driver is None:
        geometries, values, crs = _read_geojson(local, column, shapely)
    else:
        geometries, values, crs = _read_with_gdal(local, driver, column, layer, near)
    there = ~(shapely.is_missing(geometries) | shapely.is_empty(geometries))
    geometries = shapely.force_2d(geometries[there])
    values = [value for value, kept in zip(values, there, strict=True) if kept]
    kinds = sorted({str(geometry.geom_type) for geometry in geometries})
    other = [kind for kind in kinds if kind not in _KINDS]
    if other:
        raise RasterReadError(
            f"expected polygons and points, found {', '.join(other)} in {local}; make "
            "polygons of lines with a buffer, and take collections apart"
        )
    return Shapes(geometries, values, crs, local, str(column))


def onto_crs(shapes: Shapes, grid: GeoBox) -> np.ndarray:
    """The geometries in the CRS of a grid. Edges stay straight from corner to corner.

    Raises:
        CRSMismatchError: One of both has no CRS, or a corner has no place in the other.
    """
    if shapes.crs is None or grid.crs is None:
        stated = "no CRS" if shapes.crs is None else shapes.crs.name
        raise CRSMismatchError(
            f"expected a CRS of {shapes.path} and of the image, found {stated} and "
            f"{crs_name(grid)}; a shapefile states it in its .prj, a GeoTIFF gets one "
            "with gdal_edit -a_srs"
        )
    if shapes.crs == grid.crs.proj:
        return shapes.geometries
    shapely = package("shapely")
    transformer = Transformer.from_crs(shapes.crs, grid.crs.proj, always_xy=True)

    def moved(corners: np.ndarray) -> np.ndarray:
        return np.column_stack(transformer.transform(corners[:, 0], corners[:, 1]))

    geometries = np.asarray(shapely.transform(shapes.geometries, moved))
    if not np.isfinite(shapely.get_coordinates(geometries)).all():
        raise CRSMismatchError(
            f"expected corners with a place in {crs_name(grid)}, found some in "
            f"{shapes.path} without one; cut the file to the area of the image"
        )
    return geometries


def package(name: str) -> Any:
    """A package that the extra `vector` brings.

    Raises:
        MissingExtraError: It is not there.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingExtraError(
            f"expected the package {name} for vector files, found none; install it with "
            "pip install 'geofuse[vector]', or burn the file with gdal_rasterize"
        ) from None


def _checked(path: str | os.PathLike[str]) -> str:
    """The absolute path of a local file that is what its name says, by its first bytes."""
    local = os.path.abspath(os.fspath(path))
    if not os.path.isfile(local):
        raise RasterReadError(
            f"expected a vector file, found nothing or a folder at {local}; name the "
            "file itself, .gpkg, .shp or .geojson"
        )
    ending = Path(local).suffix.lower()
    if not is_text(local) or ending not in FORMATS:
        raise RasterReadError(
            f"expected a GeoPackage, shapefile or GeoJSON file by its name, found "
            f"{local!r}; convert it: ogr2ogr labels.gpkg INPUT"
        )
    driver, magic = FORMATS[ending]
    size = os.path.getsize(local)
    most = MAX_GEOJSON_BYTES if driver is None else MAX_VECTOR_BYTES
    if size > most:
        raise RasterReadError(
            f"expected at most {most / 2**20:.0f} MB, found {size / 2**20:.0f} MB in "
            f"{local}; cut it to the area of the image: ogr2ogr -spat … labels.gpkg INPUT"
        )
    with open(local, "rb") as file:
        start = file.read(72)
    # Bytes 68 to 71 say that SQLite holds a GeoPackage.
    if not start.startswith(magic) or (ending == ".gpkg" and start[68:70] != b"GP"):
        raise RasterReadError(
            f"expected the first bytes of a {ending} file, found others in {local}; it "
            "is damaged or of another format: fetch it again, or convert it with ogr2ogr"
        )
    return local


def _read_geojson(
    path: str, column: str | None, shapely: Any
) -> tuple[np.ndarray, list[Any], CRS | None]:
    try:
        with open(path, encoding="utf-8-sig") as file:
            content = json.load(file, parse_constant=_no_number)
        kind = content["type"]
        features = content["features"] if kind == "FeatureCollection" else [content]
        properties = [feature.get("properties") or {} for feature in features]
        texts = [
            json.dumps(feature["geometry"]) if feature["geometry"] else None
            for feature in features
        ]
        known = list(dict.fromkeys(name for entry in properties for name in entry))
        chosen = _column(column, known, path)
        values = [entry.get(chosen) for entry in properties]
        geometries = np.asarray(shapely.from_geojson(texts), object)
        crs = _geojson_crs(content, path)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        if isinstance(error, GeofuseError):
            raise
        raise _damaged(path, error) from error
    except shapely.errors.ShapelyError as error:
        raise _damaged(path, error) from error
    return geometries, values, crs


def _geojson_crs(content: dict[str, Any], path: str) -> CRS | None:
    """The CRS of GeoJSON: longitude and latitude, unless it has the entry of 2008."""
    if "crs" not in content:
        return CRS.from_user_input("OGC:CRS84")
    if content["crs"] is None:
        return None
    return _crs_of(content["crs"]["properties"]["name"], path)


def _read_with_gdal(
    path: str,
    driver: str,
    column: str | None,
    layer: str | None,
    near: GeoBox | None,
) -> tuple[np.ndarray, list[Any], CRS | None]:
    shapely = package("shapely")
    try:
        # What GDAL warns of is told by pyogrio in a place where an error would be lost.
        with _READING, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _layer_of(path, driver, column, layer, near)
    except (RuntimeError, ValueError, shapely.errors.ShapelyError) as error:
        if isinstance(error, GeofuseError):
            raise
        raise _damaged(path, error) from error


def _layer_of(
    path: str,
    driver: str,
    column: str | None,
    layer: str | None,
    near: GeoBox | None,
) -> tuple[np.ndarray, list[Any], CRS | None]:
    pyogrio, shapely = package("pyogrio"), package("shapely")
    layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind]
    chosen = _layer(layer, layers, path)
    info = pyogrio.read_info(path, layer=chosen)
    if info["driver"] != driver:
        raise RasterReadError(
            f"expected a file that GDAL reads as {driver}, found {info['driver']} at "
            f"{path}; convert it: ogr2ogr labels.gpkg INPUT"
        )
    name = _column(column, list(info["fields"]), path)
    crs = _crs_of(info["crs"], path) if info["crs"] else None
    _, _, geometries, fields = pyogrio.raw.read(
        path, layer=chosen, columns=[name], bbox=_box_in(crs, near)
    )
    found = np.asarray(shapely.from_wkb(geometries), object)
    return found, fields[0].tolist(), crs


def _box_in(crs: CRS | None, grid: GeoBox | None) -> tuple[float, ...] | None:
    """The bounding box of a grid in another CRS; None if it has none there."""
    if crs is None or grid is None or grid.crs is None:
        return None
    box = grid.boundingbox
    try:
        transformer = Transformer.from_crs(grid.crs.proj, crs, always_xy=True)
        found = transformer.transform_bounds(box.left, box.bottom, box.right, box.top)
    except ProjError:
        return None
    # Where the box goes around the antimeridian its left is right of its right.
    return found if np.isfinite(found).all() and found[0] <= found[2] else None


def _layer(wanted: str | None, known: list[str], path: str) -> str:
    if wanted is None and len(known) == 1:
        return known[0]
    if wanted in known:
        return str(wanted)
    found = "none named" if wanted is None else repr(wanted)
    raise UnknownNameError(
        f"expected layer= one of the layers of {path}, found {found}; "
        f"{did_you_mean(wanted or '', known)}"
    )


def _column(wanted: str | None, known: list[str], path: str) -> str:
    names = [str(name) for name in known]
    if wanted in names:
        return str(wanted)
    found = "none named" if wanted is None else repr(wanted)
    raise UnknownNameError(
        f"expected column= the attribute of {path} that holds the class, found {found}; "
        f"{did_you_mean(wanted or '', names)}"
    )


def _crs_of(text: str, path: str) -> CRS:
    try:
        return CRS.from_user_input(text)
    except CRSError:
        raise CRSMismatchError(
            f"expected a CRS that makes sense, found {str(text)[:80]!r} in {path}; state "
            "it anew: ogr2ogr -a_srs EPSG:… labels.gpkg INPUT"
        ) from None


def _no_number(text: str) -> float:
    raise ValueError(f"{text} where a number is expected")


def _damaged(path: str, error: Exception) -> RasterReadError:
    said = (str(error).strip().splitlines() or [repr(error)])[0]
    return RasterReadError(
        f"expected polygons or points that can be read, found {path}, which is damaged "
        f"({said}); fetch it again, or convert it: ogr2ogr labels.gpkg INPUT"
    )
