"""Open labels: codes of a raster, or polygons and points, become numbers of classes.

    a raster         codes -> numbers by the legend -> nearest onto the grid of an image
    a vector file    names or codes -> numbers -> burned on the grid of an image

Labels are int16 (y, x): 0, 1, … as in the legend, and -1 where there is none. They carry
their legend in their attributes; `legend_in` reads it. Without a legend it is that of the
file, or made of what the file holds.
"""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize

from geofuse.errors import (
    BandMismatchError,
    GridMismatchError,
    ParameterError,
    RasterReadError,
    UnknownNameError,
    did_you_mean,
)
from geofuse.rasters.align import align, on_one_lattice
from geofuse.rasters.burned import BurnedShapes
from geofuse.rasters.grid import describe, grid_of, place
from geofuse.rasters.legend import UNLABELED, Legend, legend_of, stored_legend
from geofuse.rasters.placement import chunk_sides, file_grid
from geofuse.rasters.product_xml import read_xml
from geofuse.rasters.source import (
    RasterFile,
    RasterSource,
    inspect,
    name_of,
    palette,
)
from geofuse.rasters.vectors import Shapes, is_vector, onto_crs, read_shapes
from geofuse.tiling import reduce_tiles

#: A raster with more codes than this is no map of classes.
MAX_CLASSES = 1000

#: What is done with a code or name that is not in the legend.
UNKNOWN = ("error", "unlabeled")

_RESAMPLINGS = ("nearest", "mode")


def open_labels(
    path: str | os.PathLike[str],
    *,
    like: xr.DataArray | None = None,
    legend: Legend | Sequence[str] | None = None,
    column: str | None = None,
    layer: str | None = None,
    nodata: Sequence[int] = (),
    unknown: str = "error",
    resampling: str = "nearest",
) -> xr.DataArray:
    """Open labels as numbers of classes, lazily.

    Args:
        path: A raster of one band with codes; or polygons and points as GeoPackage,
            shapefile or GeoJSON, for which the extra `vector` is needed.
        like: An image on the wanted grid; vector files need one. A raster on another grid
            is resampled.
        legend: Classes with their codes, or names alone, of codes 0, 1, …. None takes
            the legend that `write_map` stored; else a raster is read once to find its
            codes, called as in its `.aux.xml` or "class 1", …, and the values that a
            vector file has are the classes, sorted.
        column: Attribute of a vector file with the names or codes of classes.
        layer: Layer of a GeoPackage, where it has several.
        nodata: Codes that mean "no label", beside the nodata that a raster states.
            Negative codes always do.
        unknown: What to do with a code or name that is not in the legend: `error`, or
            `unlabeled`.
        resampling: How a raster comes onto another grid: `nearest`, or `mode` where its
            pixels are smaller.

    Returns:
        Labels (y, x), int16, -1 where unlabeled, on the grid of `like` if it is given.
        A polygon labels the pixels whose centers lie in it, a point its pixel; where
        several meet the smallest wins, of equals the last one.

    Raises:
        RasterReadError: The file is missing, damaged, not safe, or holds lines.
        MissingExtraError: A vector file, and the extra `vector` is not installed.
        BandMismatchError: The raster has several bands.
        UnknownNameError: There is no such column, layer, or name of a class.
        GridMismatchError: Labels and image do not meet.
        CRSMismatchError: One of them has no CRS.
        ParameterError: A code is not in the legend (for a raster: while computing), the
            raster holds no whole numbers, or too many of them.
    """
    for wanted, known in ((unknown, UNKNOWN), (resampling, _RESAMPLINGS)):
        if wanted not in known:
            raise UnknownNameError(
                f"expected one of {', '.join(known)}, found {wanted!r}; "
                f"{did_you_mean(wanted, known)}"
            )
    classes = None if legend is None else legend_of(legend)
    ignored = tuple(int(code) for code in nodata)
    if is_vector(path):
        if like is None:
            raise ParameterError(
                f"expected like= an image on whose grid {name_of(path)} is burned, found "
                "none; polygons have no pixels of their own"
            )
        return _burned(path, like, classes, column, layer, ignored, unknown == "error")
    file = inspect(path)
    if column is not None or layer is not None:
        raise ParameterError(
            f"expected column and layer for a vector file, found the raster "
            f"{name_of(path)}; leave them out"
        )
    return _coded(file, like, classes, ignored, unknown == "error", resampling)


def legend_in(labels: xr.DataArray) -> Legend:
    """The legend that labels, or a map of classes, carry in their attributes.

    Args:
        labels: What `open_labels` gave, or a classifier predicted.

    Raises:
        ParameterError: They carry none, or one that makes no sense.

    >>> legend = Legend(("water", "crops"), codes=(1, 4))
    >>> legend_in(xr.DataArray([[0]], attrs=legend.attributes())) == legend
    True
    """
    legend = stored_legend(labels.attrs)
    if legend is None:
        raise ParameterError(
            f"expected a legend in the attributes of labels, found {sorted(labels.attrs)}"
            "; open them with geofuse.open_labels"
        )
    return legend


def _placed(
    data: Any, like: xr.DataArray, legend: Legend, attributes: dict[str, Any]
) -> xr.DataArray:
    labels = place(data, grid_of(like))
    # To the bit: xarray would join coordinates that differ by a billionth to nothing.
    labels = labels.assign_coords(y=like["y"].values, x=like["x"].values)
    labels.attrs = {
        "long_name": "number of the class, -1 where there is none",
        "grid_mapping": "spatial_ref",
        "_FillValue": UNLABELED,
        **attributes,
        **legend.attributes(),
    }
    labels.name = "labels"
    return labels


# --- rasters


def _coded(
    file: RasterFile,
    like: xr.DataArray | None,
    legend: Legend | None,
    nodata: tuple[int, ...],
    strict: bool,
    resampling: str,
) -> xr.DataArray:
    """Labels of a raster with codes."""
    if file.shape[0] != 1:
        raise BandMismatchError(
            f"expected one band with codes of classes, found {file.shape[0]} in "
            f"{file.path}; cut it out: gdal_translate -b N"
        )
    grid, south_up = file_grid(file)
    stated = () if file.nodata[0] is None else (file.nodata[0],)
    source = RasterSource(
        file=file,
        indexes=(0,),
        rows=(0, file.shape[1]),
        columns=(0, file.shape[2]),
        gain=(1.0,),
        offset=(0.0,),
        nodata=(stated,),
        south_up=south_up,
        as_stored=True,
    )
    codes = da.from_array(
        source,
        chunks=(-1, *chunk_sides(file.block)),
        name=f"open-{tokenize(source)}",
        asarray=False,
        meta=np.empty((0, 0, 0), source.dtype),
    )
    unlabeled = tuple(float(code) for code in (*stated, *nodata))
    if legend is None:
        legend = stored_legend(file.tags) or _found_legend(file, codes, unlabeled)
    numbers = codes.map_blocks(
        _numbers,
        legend.codes,
        unlabeled,
        strict,
        file.path,
        dtype=np.float32,
        meta=np.empty((0, 0, 0), np.float32),
    )
    image = place(numbers, grid, coords={"band": ["labels"]})
    notes = {"source": name_of(file.path)}
    if like is not None:
        target = grid_of(like)
        if not on_one_lattice(grid, target):
            notes["resampling"] = f"{resampling}, from {describe(grid)}"
        image = align(image, like=like, resampling=resampling)
        if "snapped" in image.attrs:
            notes["snapped"] = image.attrs["snapped"]
    labels = image.data[0].map_blocks(
        _whole, dtype=np.int16, meta=np.empty((0, 0), np.int16)
    )
    return _placed(labels, image if like is None else like, legend, notes)


def _numbers(
    dn: np.ndarray,
    codes: tuple[int, ...],
    unlabeled: tuple[float, ...],
    strict: bool,
    path: str,
) -> np.ndarray:
    """Numbers of classes as floats, NaN where unlabeled."""
    values = dn.astype(np.float64)
    order = np.argsort(codes)
    known = np.asarray(codes, np.float64)[order]
    place_ = np.minimum(np.searchsorted(known, values), len(known) - 1)
    hit = known[place_] == values
    none = ~np.isfinite(values) | (values < 0) | np.isin(values, unlabeled)
    strange = ~hit & ~none
    if strict and strange.any():
        found = np.unique(values[strange])
        raise ParameterError(
            f"expected codes of the legend, {_some(sorted(codes))}, found "
            f"{_some(found)} in {path}; add their classes to the legend, name them in "
            "nodata=, or open with unknown='unlabeled'"
        )
    return np.where(hit & ~none, order[place_], np.nan).astype(np.float32)


def _whole(numbers: np.ndarray) -> np.ndarray:
    """Numbers as int16, -1 where they are NaN."""
    return np.where(np.isnan(numbers), UNLABELED, numbers).astype(np.int16)


def _found_legend(
    file: RasterFile, codes: da.Array, unlabeled: tuple[float, ...]
) -> Legend:
    """The codes that a raster holds, with the names and colors that it states."""
    floats = xr.DataArray(codes[0].astype(np.float64), dims=("y", "x"))
    found = reduce_tiles(
        partial(_codes_in, unlabeled=unlabeled, path=file.path),
        {"codes": floats},
        _union,
    ).compute()
    if not found.size or found.size > MAX_CLASSES:
        raise ParameterError(
            f"expected from 1 to {MAX_CLASSES} codes of classes, found "
            f"{found.size or 'none'}{' or more' * (found.size > MAX_CLASSES)} in "
            f"{file.path}; is it a map of classes? Codes that mean no label are named "
            "in nodata="
        )
    stated, colors = _category_names(file.path), palette(file)
    numbers = tuple(int(code) for code in found)
    names = [stated.get(code) or f"class {code}" for code in numbers]
    names = [
        f"{name} {code}" if names.count(name) > 1 else name
        for name, code in zip(names, numbers, strict=True)
    ]
    drawn = tuple(
        "#{:02x}{:02x}{:02x}".format(*colors[code])
        for code in numbers
        if code in colors
    )
    # A palette of zeros says nothing.
    usable = len(drawn) == len(numbers) and (len(set(drawn)) > 1 or len(numbers) == 1)
    return Legend(tuple(names), numbers, drawn if usable else ())


def _codes_in(
    arrays: dict[str, np.ndarray], _: Any, *, unlabeled: tuple[float, ...], path: str
) -> np.ndarray:
    values = arrays["codes"]
    values = values[np.isfinite(values) & (values >= 0)]
    codes = np.setdiff1d(values, unlabeled)
    broken = codes[codes != np.floor(codes)]
    if broken.size:
        raise ParameterError(
            f"expected whole numbers as codes of classes, found {broken[0]:g} in {path}; "
            "is it a map of classes?"
        )
    return codes[: MAX_CLASSES + 1]


def _union(parts: list[np.ndarray]) -> np.ndarray:
    return np.unique(np.concatenate(parts))


def _category_names(path: str) -> dict[int, str]:
    """Names by code that the `.aux.xml` beside a raster states, as GDAL and QGIS write it.

    Nothing else of such a file is read: it could move the raster, or scale it.
    """
    side = f"{path}.aux.xml"
    if not os.path.isfile(side):
        return {}
    root = read_xml(side, partial(_refused_side_file, side))
    names = {
        number: (entry.text or "").strip()
        for number, entry in enumerate(root.findall(".//CategoryNames/Category"))
    }
    return {code: name for code, name in names.items() if name} or _table_names(root)


def _table_names(root: ElementTree.Element) -> dict[int, str]:
    """Names by code of a raster attribute table: columns of usage MinMax (5) and Name (2)."""
    usages = [
        (column.findtext("Usage") or "").strip()
        for column in root.findall(".//GDALRasterAttributeTable/FieldDefn")
    ]
    if "5" not in usages or "2" not in usages:
        return {}
    value, name = usages.index("5"), usages.index("2")
    names = {}
    for row in root.findall(".//GDALRasterAttributeTable/Row"):
        cells = [(cell.text or "").strip() for cell in row.findall("F")]
        if len(cells) == len(usages) and cells[value].isdecimal() and cells[name]:
            names[int(cells[value])] = cells[name]
    return names


def _refused_side_file(path: str, found: str) -> RasterReadError:
    return RasterReadError(
        f"expected names of classes in {path}, found {found}; remove the file, or give "
        "the legend"
    )


# --- vector files


def _burned(
    path: str | os.PathLike[str],
    like: xr.DataArray,
    legend: Legend | None,
    column: str | None,
    layer: str | None,
    nodata: tuple[int, ...],
    strict: bool,
) -> xr.DataArray:
    """Labels of polygons and points."""
    grid = grid_of(like)
    shapes = read_shapes(path, column, layer=layer, near=grid)
    values = [_plain(value, nodata) for value in shapes.values]
    legend = legend or _legend_of_values(values, shapes)
    numbers = _numbers_of(values, legend, shapes, strict)
    kept = np.array([number >= 0 for number in numbers], bool)
    geometries = onto_crs(shapes, grid)[kept]
    burned = BurnedShapes(geometries, [n for n in numbers if n >= 0], grid)
    if not burned.any:
        raise GridMismatchError(
            f"expected polygons or points on the image, {describe(grid)}, found none "
            f"with a class there in {shapes.path}; check that both are of one area, and "
            "the CRS that the file states"
        )
    facts = os.stat(shapes.path)
    data = burned.lazy(
        tokenize(
            shapes.path,
            (facts.st_size, facts.st_mtime_ns),
            (shapes.column, layer, legend, nodata),
        )
    )
    if isinstance(like.data, da.Array):
        data = data.rechunk(like.data.chunks[-2:])
    notes = {"source": name_of(shapes.path), "column": shapes.column}
    return _placed(data, like, legend, notes)


def _plain(value: Any, nodata: tuple[int, ...]) -> str | int | float | None:
    """An attribute as a name or a code; None where there is no label."""
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return None
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, bool | int | float) and value == int(value):
        code = int(value)
        return None if code < 0 or code in nodata else code
    return value if isinstance(value, float) else str(value)


def _legend_of_values(values: list[Any], shapes: Shapes) -> Legend:
    found = {value for value in values if value is not None}
    names = sorted(value for value in found if isinstance(value, str))
    codes = sorted(value for value in found if isinstance(value, int))
    if not found or len(found) > MAX_CLASSES or (len(names), len(codes)).count(0) != 1:
        raise ParameterError(
            f"expected from 1 to {MAX_CLASSES} names or codes of classes, found "
            f"{_some(sorted(found, key=str)) or 'none'} in column {shapes.column!r} of "
            f"{Path(shapes.path).name}; name another column, or give the legend"
        )
    if names:
        return Legend(tuple(names))
    return Legend(tuple(f"class {code}" for code in codes), tuple(codes))


def _numbers_of(
    values: list[Any], legend: Legend, shapes: Shapes, strict: bool
) -> list[int]:
    known: dict[Any, int] = {name: n for n, name in enumerate(legend.names)}
    known |= {code: number for number, code in enumerate(legend.codes)}
    # Codes may be stored as text.
    for number, code in enumerate(legend.codes):
        known.setdefault(str(code), number)
    strange = {v for v in values if v is not None and v not in known}
    if strict and strange:
        first = sorted(strange, key=str)[0]
        raise UnknownNameError(
            f"expected classes of the legend, found {_some(sorted(strange, key=str))} in "
            f"column {shapes.column!r} of {Path(shapes.path).name}; "
            f"{did_you_mean(str(first), legend.names)}; name all classes, or open with "
            "unknown='unlabeled'"
        )
    return [known.get(value, UNLABELED) for value in values]


def _some(values: Any) -> str:
    """The first of some values, in words."""
    shown = [f"{v:g}" if isinstance(v, float) else str(v) for v in list(values)[:12]]
    return ", ".join(shown) + (", …" if len(values) > 12 else "")
