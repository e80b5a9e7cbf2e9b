"""Tables of cases to learn from: which images are given, and which one was truly there.

    fine_base, coarse_base, base_date, coarse, fine, date       a row a case; also: site
    kind, path, date                                            the files of a series

Rows of one fine image are one case of several pairs. From a series every fine image is
learned from the pair before it and from the pair after it.
"""

import os
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from geofuse.errors import DateMismatchError, RasterReadError, TooFewPairsError
from geofuse.rasters.dated_files import files_of_table, rows_of_table
from geofuse.rasters.optical import parse_date

#: Columns of a table of cases.
COLUMNS = ("fine_base", "coarse_base", "base_date", "coarse", "fine", "date")


class PairFiles(NamedTuple):
    """Files of a pair, and their day, ISO."""

    fine: str
    coarse: str
    date: str


class CaseFiles(NamedTuple):
    """Files of a case: the pairs by date, the coarse and the true fine file of `date`.

    `site` is the name of the ground, empty where the table tells none.
    """

    pairs: tuple[PairFiles, ...]
    coarse: str
    fine: str
    date: str
    site: str = ""


def cases_of_table(path: str | os.PathLike[str]) -> list[CaseFiles]:
    """The cases that a table names: CSV, see above; paths are relative to the table.

    Args:
        path: The table. It is one of a series if it has a column `kind`.

    Raises:
        RasterReadError: The table cannot be read, lacks a column, or names no case.
        DateMismatchError: A date is not ISO, or two pairs of a case have one date.
        TooFewPairsError: A series has fewer than two dates with both files.
        UnknownNameError: A kind in a series is neither fine nor coarse.
    """
    rows = rows_of_table(path, ())
    if not rows:
        raise RasterReadError(
            f"expected a table of cases at {path}, found no row; the columns are "
            f"{', '.join(COLUMNS)}"
        )
    if "kind" in rows[0][1]:
        return _cases_of_series(path)
    found: dict[tuple[str, str, str, str], list[PairFiles]] = {}
    for number, row in rows_of_table(path, COLUMNS):
        told = {column: row[column].strip() for column in COLUMNS}
        missing = [column for column, text in told.items() if not text]
        if missing:
            raise RasterReadError(
                f"expected {', '.join(COLUMNS)} in line {number} of {path}, found no "
                f"{', '.join(missing)}; fill the line or remove it"
            )
        file = {
            column: str(Path(path).parent / told[column])
            for column in ("fine_base", "coarse_base", "coarse", "fine")
        }
        base, day = (str(parse_date(told[c]))[:10] for c in ("base_date", "date"))
        pair = PairFiles(file["fine_base"], file["coarse_base"], base)
        key = (file["coarse"], file["fine"], day, (row.get("site") or "").strip())
        found.setdefault(key, []).append(pair)
    cases = []
    for (coarse, fine, day, site), pairs in found.items():
        pairs.sort(key=lambda pair: pair.date)
        if any(a.date == b.date for a, b in pairwise(pairs)):
            raise DateMismatchError(
                f"expected one pair a date for {fine} in {path}, found two; leave one out"
            )
        cases.append(CaseFiles(tuple(pairs), coarse, fine, day, site))
    return cases


def _cases_of_series(path: str | os.PathLike[str]) -> list[CaseFiles]:
    """Of every date with both files: the case from the date before, and from that after."""
    files = files_of_table(path)
    fine, coarse = ({file.date: file.path for file in kind} for kind in files)
    for kind, by_date in zip(files, (fine, coarse), strict=True):
        if len(kind) > len(by_date):
            raise DateMismatchError(
                f"expected one file of a kind a date in {path}, found several; leave out "
                "all but one, or write a table of cases"
            )
    dates = sorted(fine.keys() & coarse.keys())
    if len(dates) < 2:
        raise TooFewPairsError(
            f"expected two dates or more with a fine and a coarse file in {path}, found "
            f"{len(dates)}; learning needs a pair, and the fine image of another date"
        )
    cases = []
    for before, after in pairwise(dates):
        for base, day in ((before, after), (after, before)):
            pair = PairFiles(fine[base], coarse[base], base)
            cases.append(CaseFiles((pair,), coarse[day], fine[day], day))
    return cases
