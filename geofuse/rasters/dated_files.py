"""Files of many dates: told one by one, in a table, or by the dates in their names.

    2020-03-08   20200308   2020068   A2020068        in a name: the first that is a day

Products name the day of acquisition before that of processing, so the first one is taken.
"""

import csv
import datetime
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from geofuse.errors import DateMismatchError, RasterReadError, UnknownNameError
from geofuse.rasters.optical import parse_date

#: Endings of files that are looked for in a folder.
ENDINGS = (".tif", ".tiff", ".jp2")

_DATES = re.compile(
    r"(?<!\d)(?:(?P<dashed>\d{4}-\d{2}-\d{2})|(?P<plain>\d{8})|(?P<ordinal>\d{7}))(?!\d)"
)
_YEARS = range(1960, 2100)


class DatedFile(NamedTuple):
    """A file and the day of its image, ISO."""

    path: str
    date: str


class SeriesFiles(NamedTuple):
    """The files of a series, each list by date."""

    fine: tuple[DatedFile, ...]
    coarse: tuple[DatedFile, ...]


def date_in_name(name: str) -> str:
    """The day in a file's name, ISO.

    Raises:
        DateMismatchError: There is none.

    >>> date_in_name("LC08_L2SP_190028_20200317_20200822_02_T1_SR.tif")
    '2020-03-17'
    >>> date_in_name("MOD09GA.A2020068.h18v04.061.2020345123456.tif")
    '2020-03-08'
    """
    for found in _DATES.finditer(os.path.basename(name)):
        kind, text = str(found.lastgroup), found.group()
        form = {"dashed": "%Y-%m-%d", "plain": "%Y%m%d", "ordinal": "%Y%j"}[kind]
        try:
            day = datetime.datetime.strptime(text, form).date()
        except ValueError:
            continue
        if day.year in _YEARS:
            return day.isoformat()
    raise DateMismatchError(
        f"expected a date in the name of {name}, such as 2020-03-08, 20200308 or 2020068, "
        "found none; rename the file, or give its date in a table"
    )


def files_in(folder: str | os.PathLike[str]) -> tuple[DatedFile, ...]:
    """The rasters of a folder, not of those in it, by the dates in their names.

    Raises:
        RasterReadError: There is no such folder, or no raster in it.
        DateMismatchError: A raster has no date in its name.
    """
    place = Path(folder)
    if not place.is_dir():
        raise RasterReadError(
            f"expected a folder of rasters, found none at {folder}; check the path"
        )
    names = sorted(
        entry.name
        for entry in place.iterdir()
        if entry.is_file()
        and entry.suffix.lower() in ENDINGS
        and not entry.name.startswith(".")
    )
    if not names:
        raise RasterReadError(
            f"expected rasters ({', '.join(ENDINGS)}) in {folder}, found none; give the "
            "folder that holds them"
        )
    return tuple(
        DatedFile(str(place / name), date_in_name(str(place / name))) for name in names
    )


def files_of_table(path: str | os.PathLike[str]) -> SeriesFiles:
    """The files that a table names: CSV with the columns kind, path and date.

    `kind` is fine or coarse; paths are relative to the table. Where `date` is empty or not
    there, it is that in the file's name.

    Raises:
        RasterReadError: The table cannot be read, or lacks a column.
        UnknownNameError: A kind is neither fine nor coarse.
        DateMismatchError: A date is not ISO, and none is in a name.
    """
    found: dict[str, list[DatedFile]] = {"fine": [], "coarse": []}
    for number, row in rows_of_table(path, ("kind", "path")):
        kind = row["kind"].strip().lower()
        if kind not in found:
            raise UnknownNameError(
                f"expected fine or coarse as kind in line {number} of {path}, found "
                f"{row['kind']!r}; known: coarse, fine"
            )
        file = str(Path(path).parent / row["path"].strip())
        text = (row.get("date") or "").strip()
        date = str(parse_date(text))[:10] if text else date_in_name(file)
        found[kind].append(DatedFile(file, date))
    return SeriesFiles(tuple(found["fine"]), tuple(found["coarse"]))


def rows_of_table(
    path: str | os.PathLike[str], needed: Sequence[str]
) -> list[tuple[int, dict[str, str]]]:
    """Rows of a table (CSV) by their line numbers; empty ones are left out.

    Args:
        path: The table; its first line names the columns.
        needed: Columns that it must have.

    Raises:
        RasterReadError: The table cannot be read, or lacks a column.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True, restval="")
            names = [name.strip().lower() for name in reader.fieldnames or ()]
            if not set(needed) <= set(names):
                wanted = (
                    "kind, path and date" if "kind" in needed else ", ".join(needed)
                )
                raise RasterReadError(
                    f"expected the columns {wanted} in {path}, found "
                    f"{', '.join(names) or 'none'}; the first line names them"
                )
            reader.fieldnames = names
            return [
                (reader.line_num, row)
                for row in reader
                if any(text.strip() for text in row.values() if isinstance(text, str))
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RasterReadError(
            f"expected a table (CSV) at {path}, found that it cannot be read ({error}); "
            "check the path"
        ) from error
