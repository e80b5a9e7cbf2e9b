"""Scenes on the command line: files by modality, of one scene or of a table of them.

s2,s1,dem,labels                      a row a scene; a modality that is missing is empty
a_s2.tif,a_s1.tif,a_dem.tif,a.gpkg
b_s2.tif,,b_dem.tif,b.gpkg
"""

import argparse
from pathlib import Path
from typing import NamedTuple

from geofuse.cli.modality_files import add_modality_arguments, modality_files


class SceneFiles(NamedTuple):
    """Files of a scene by modality, and the one that goes with it: labels, or a map."""

    images: dict[str, str]
    other: str


def add_scene_arguments(parser: argparse.ArgumentParser, other: str) -> None:
    """Declare the files of scenes.

    Args:
        parser: The command's parser.
        other: The column of a table that is no modality.
    """
    parser.add_argument(
        "--modality",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="the image of a modality; give one for each, the first tells the grid",
    )
    parser.add_argument(
        "--scenes",
        metavar="TABLE.csv",
        help=f"several scenes: a column a modality, and one {other}; a row a scene",
    )
    add_modality_arguments(parser)


def scenes_of(
    options: argparse.Namespace, other: str, given: str | None, option: str
) -> list[SceneFiles]:
    """The scenes of a command: one by its options, or those of its table.

    Args:
        options: With what `add_scene_arguments` declares.
        other: The column of a table that is no modality.
        given: What goes with the one scene.
        option: How it is given.

    Raises:
        ParameterError: There is no scene, or scenes are given in two ways.
        RasterReadError: The table cannot be read, lacks a column, or has an empty row.
    """
    from geofuse.errors import ParameterError

    if options.scenes and (options.modality or given):
        raise ParameterError(
            f"expected scenes of a table, or one by --modality and {option}, found both; "
            "leave one out"
        )
    if options.scenes:
        return _of_table(options.scenes, other)
    if not options.modality or not given:
        raise ParameterError(
            f"expected --modality NAME=FILE and {option}, or --scenes TABLE.csv, found "
            f"{'no ' + option if options.modality else 'no modality'}; for example "
            f"--modality s2=S2.tif --modality s1=S1.tif {option} FILE"
        )
    return [SceneFiles(modality_files(options.modality), given)]


def _of_table(table: str, other: str) -> list[SceneFiles]:
    from geofuse.errors import RasterReadError
    from geofuse.rasters.dated_files import rows_of_table

    folder = Path(table).parent
    scenes = []
    for number, row in rows_of_table(table, (other,)):
        told = {name: text.strip() for name, text in row.items() if text and name}
        files = {name: str(folder / text) for name, text in told.items() if text}
        beside = files.pop(other, None)
        if beside is None or not files:
            raise RasterReadError(
                f"expected {other} and at least one modality in line {number} of "
                f"{table}, found {', '.join(told) or 'nothing'}; fill the line"
            )
        scenes.append(SceneFiles(files, beside))
    if not scenes:
        raise RasterReadError(
            f"expected scenes in {table}, found no row; the columns are modalities and "
            f"{other}"
        )
    return scenes
