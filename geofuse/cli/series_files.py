"""Where the files of a series come from: the command line, a table, folders.

Each source adds to the same two lists of files and dates; what follows does not ask where
a file came from. Another source, such as a catalog, is one more function here.
"""

import argparse
import os
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # nothing heavy before a command runs
    from geofuse.rasters.dated_files import DatedFile, SeriesFiles


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that name files."""
    for kind in ("fine", "coarse"):
        parser.add_argument(
            f"--{kind}",
            nargs=2,
            action="append",
            default=[],
            metavar=("FILE", "DATE"),
            help=f"a {kind} file and its date; may be given several times",
        )
        parser.add_argument(
            f"--{kind}-folder",
            action="append",
            default=[],
            metavar="FOLDER",
            help=f"{kind} files with dates in their names",
        )
    parser.add_argument(
        "--table",
        action="append",
        default=[],
        metavar="TABLE.csv",
        help="files by the columns kind (fine, coarse), path, date",
    )


def files_of(options: argparse.Namespace) -> "SeriesFiles":
    """All files of the command, by date.

    Raises:
        DateMismatchError: A date is not ISO or not there, or has two files of a kind.
        ParameterError: There is no fine or no coarse file.
        RasterReadError: A folder or table cannot be read.
    """
    from geofuse.errors import DateMismatchError, ParameterError
    from geofuse.rasters.dated_files import SeriesFiles

    found: dict[str, list[DatedFile]] = {"fine": [], "coarse": []}
    for source in SOURCES:
        for kind, files in source(options)._asdict().items():
            found[kind] += files
    for kind, files in found.items():
        if not files:
            raise ParameterError(
                f"expected at least one {kind} file, found none; give --{kind} FILE DATE, "
                f"--{kind}-folder FOLDER or --table TABLE.csv"
            )
        day, count = Counter(file.date for file in files).most_common(1)[0]
        if count > 1:
            names = [os.path.basename(file.path) for file in files if file.date == day]
            raise DateMismatchError(
                f"expected one {kind} file a date, found {count} on {day}: "
                f"{', '.join(names)}; leave out all but one, or merge them"
            )
        found[kind] = sorted(files, key=lambda file: file.date)
    return SeriesFiles(tuple(found["fine"]), tuple(found["coarse"]))


def _named(options: argparse.Namespace) -> "SeriesFiles":
    """Files given one by one."""
    from geofuse.rasters.dated_files import DatedFile, SeriesFiles
    from geofuse.rasters.optical import parse_date

    return SeriesFiles(
        *(
            tuple(DatedFile(path, str(parse_date(date))[:10]) for path, date in files)
            for files in (options.fine, options.coarse)
        )
    )


def _in_folders(options: argparse.Namespace) -> "SeriesFiles":
    from geofuse.rasters.dated_files import SeriesFiles, files_in

    return SeriesFiles(
        *(
            tuple(file for folder in folders for file in files_in(folder))
            for folders in (options.fine_folder, options.coarse_folder)
        )
    )


def _in_tables(options: argparse.Namespace) -> "SeriesFiles":
    from geofuse.rasters.dated_files import SeriesFiles, files_of_table

    tables: list[SeriesFiles] = [files_of_table(path) for path in options.table]
    return SeriesFiles(
        tuple(file for table in tables for file in table.fine),
        tuple(file for table in tables for file in table.coarse),
    )


#: Every source of files.
SOURCES: tuple[Callable[[argparse.Namespace], "SeriesFiles"], ...] = (
    _named,
    _in_folders,
    _in_tables,
)
