"""Write a map of classes to a file that other programs show in its colors.

    numbers -1, 0, 1, …  ->  codes of the legend, nodata where there is no class
    colors               ->  the palette of the GeoTIFF
    names                ->  tags, and OUT.tif.aux.xml, where GDAL and QGIS look for them

`geofuse.open_labels` finds the legend in the tags again.
"""

import os
import secrets
from collections.abc import Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from xml.etree import ElementTree

import dask.array as da
import numpy as np
import xarray as xr

from geofuse.errors import GridMismatchError, ParameterError
from geofuse.rasters.labels import legend_in
from geofuse.rasters.legend import Legend
from geofuse.rasters.write import Progress, silent, write_cog, writing

#: Columns of an attribute table as GDAL numbers them: title, type and usage.
_COLUMNS = (
    ("Value", "0", "5"),
    ("Class", "2", "2"),
    ("Red", "0", "6"),
    ("Green", "0", "7"),
    ("Blue", "0", "8"),
)


def write_map(
    land_cover: xr.DataArray,
    legend: Legend | None,
    path: str | os.PathLike[str],
    *,
    tags: Mapping[str, str] | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> Path:
    """Write a map of class numbers to a Cloud-Optimized GeoTIFF of codes with a palette.

    Args:
        land_cover: Numbers of classes (y, x), integers, -1 where there is none; lazy or
            not.
        legend: Their codes, names and colors; None takes what `land_cover` carries.
        path: Where to; an existing file, and its `.aux.xml`, are replaced.
        tags: Metadata to store beside what the attributes say.
        workers: Threads; see `write_cog`.
        progress: Called with the tiles done and in all.

    Returns:
        The path. The file is uint8 where the codes and a nodata fit in it, else uint16 or
        int32, the last without a palette.

    Raises:
        GridMismatchError: It is no map (y, x).
        ParameterError: Numbers are no integers; or, while computing, are not in the
            legend. A code has more than 31 bits.
        WriteError: See `write_cog`.
        LockedError: Another process is writing this file.

    Warns:
        NothingValidWarning: No pixel has a class.
    """
    classes = legend_in(land_cover) if legend is None else legend
    image = map_image(land_cover, classes)
    target = write_cog(image, path, tags=tags, workers=workers, progress=progress)
    write_names(classes, target)
    return target


def map_image(land_cover: xr.DataArray, legend: Legend) -> xr.DataArray:
    """A map of class numbers as an image of codes, lazy: what `write_cogs` takes.

    `write_names` goes with it when it is written.

    Args:
        land_cover: Numbers of classes (y, x), integers, -1 where there is none.
        legend: Their codes, names and colors.

    Raises:
        GridMismatchError: It is no map (y, x).
        ParameterError: As `write_map`.
    """
    check_map(land_cover)
    dtype, nodata = stored_as(legend)
    table = np.array([*legend.codes, nodata], dtype)
    numbers = land_cover.data
    if not isinstance(numbers, da.Array):
        numbers = da.from_array(numbers, chunks=512)
    codes = land_cover.copy(
        data=numbers.map_blocks(
            partial(_codes, table), dtype=dtype, meta=np.empty((0, 0), dtype)
        )
    )
    codes.attrs = {
        **land_cover.attrs,
        **legend.attributes(),
        "flag_values": list(legend.codes),
        "long_name": "code of the class",
        "_FillValue": nodata,
    }
    codes.name = "land_cover"
    return codes


def check_map(land_cover: xr.DataArray) -> None:
    """Refuse what is no map of class numbers.

    Raises:
        GridMismatchError: It is not (y, x).
        ParameterError: Numbers are no integers.
    """
    if land_cover.dims != ("y", "x"):
        raise GridMismatchError(
            f"expected a map of class numbers (y, x), found {land_cover.dims}; take "
            "product.land_cover"
        )
    if land_cover.dtype.kind not in "iu":
        raise ParameterError(
            f"expected integers, -1 where there is no class, found {land_cover.dtype}; "
            "take product.land_cover"
        )


def stored_as(legend: Legend) -> tuple[np.dtype, int]:
    """Type of a file for the codes of a legend, and a nodata that is none of them.

    >>> stored_as(Legend(("water", "crops"), codes=(1, 255)))
    (dtype('uint8'), 0)
    >>> stored_as(Legend(("water", "crops"), codes=(1, 256)))
    (dtype('uint16'), 65535)
    """
    largest = max(legend.codes)
    for name in ("uint8", "uint16", "int32"):
        most = int(np.iinfo(name).max)
        if largest <= most and len(legend) <= most:
            free = (c for c in chain([most], range(most)) if c not in legend.codes)
            return np.dtype(name), next(free)
    raise ParameterError(
        f"expected codes of at most 31 bits, found {largest}; give the legend smaller ones"
    )


def _codes(table: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    count = len(table) - 1
    if numbers.size and numbers.max() >= count:
        raise ParameterError(
            f"expected numbers of {count} classes, found {numbers.max()}; give the legend "
            "that the map was made with"
        )
    return table[np.where(numbers < 0, count, numbers)]


def write_names(legend: Legend, target: Path) -> None:
    """An attribute table beside a map, as GDAL writes it, in one step."""
    root = ElementTree.Element("PAMDataset")
    band = ElementTree.SubElement(root, "PAMRasterBand", band="1")
    table = ElementTree.SubElement(
        band, "GDALRasterAttributeTable", tableType="thematic"
    )
    for index, (title, kind, usage) in enumerate(_COLUMNS):
        column = ElementTree.SubElement(table, "FieldDefn", index=str(index))
        for tag, text in (("Name", title), ("Type", kind), ("Usage", usage)):
            ElementTree.SubElement(column, tag).text = text
    rows = zip(legend.codes, legend.names, legend.colors, strict=True)
    for index, (code, name, color) in enumerate(rows):
        row = ElementTree.SubElement(table, "Row", index=str(index))
        shades = (str(int(color[i : i + 2], 16)) for i in (1, 3, 5))
        for text in (str(code), _printable(name), *shades):
            ElementTree.SubElement(row, "F").text = text
    ElementTree.indent(root)
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    side = target.with_name(f"{target.name}.aux.xml")
    with writing(side):
        try:
            part.write_bytes(ElementTree.tostring(root, encoding="utf-8"))
            os.replace(part, side)
        finally:
            part.unlink(missing_ok=True)


def _printable(name: str) -> str:
    """A name without control characters, which XML cannot hold."""
    return "".join(letter if letter.isprintable() else " " for letter in name)
