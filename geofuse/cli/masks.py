"""Options of commands that mask their files by quality layers: a file and its date.

--fine-mask LC08_QA_PIXEL.tif 2021-05-01 --fine-drop cloud,shadow --fine-dilate 3
"""

import argparse
from typing import Any

from geofuse.cli.options import listed

SIDES = ("fine", "coarse")


def add_mask_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options, for fine and for coarse files."""
    for side in SIDES:
        parser.add_argument(
            f"--{side}-mask",
            nargs=2,
            action="append",
            default=[],
            metavar=("FILE", "DATE"),
            help=f"quality file of the {side} image of a date: its clouds become invalid",
        )
        parser.add_argument(
            f"--{side}-mask-layer",
            metavar="LAYER",
            help="what that file is, where it is not the sensor's own: omnicloudmask, …",
        )
        parser.add_argument(
            f"--{side}-drop",
            metavar="cloud,shadow,…",
            help="what makes a pixel invalid, by name",
        )
        parser.add_argument(
            f"--{side}-dilate",
            type=int,
            default=0,
            metavar="N",
            help="and so many pixels of the quality file around it",
        )


def mask_files(options: argparse.Namespace) -> list[str]:
    """All quality files that a command reads."""
    return [path for side in SIDES for path, _ in getattr(options, f"{side}_mask", [])]


def check_mask_dates(options: argparse.Namespace) -> None:
    """Refuse masks of dates that no image has, and two of one date.

    Raises:
        DateMismatchError: There is no image of that date, or two masks.
    """
    from geofuse.errors import DateMismatchError
    from geofuse.rasters.optical import parse_date

    base_dates = [date for *_, date in options.pair]
    for side, dates in (("fine", base_dates), ("coarse", [*base_dates, options.at[1]])):
        known = set(map(parse_date, dates))
        for path, date in getattr(options, f"{side}_mask"):
            if parse_date(date) not in known:
                raise DateMismatchError(
                    f"expected one --{side}-mask for a date of a {side} image, found "
                    f"{path} of {date}; give the date of its image, each once"
                )
            known.remove(parse_date(date))


def mask_of(options: argparse.Namespace, side: str, sensor: Any, date: str) -> Any:
    """The valid mask of a side's image of a date, or None where none was given."""
    from geofuse.rasters.optical import parse_date
    from geofuse.rasters.quality import open_quality
    from geofuse.rasters.sensors import sensor_of

    drop = getattr(options, f"{side}_drop")
    for path, day in getattr(options, f"{side}_mask"):
        if parse_date(day) == parse_date(date):
            return open_quality(
                path,
                getattr(options, f"{side}_mask_layer") or sensor_of(sensor).name,
                drop=listed(drop),
                dilate=getattr(options, f"{side}_dilate"),
            )
    return None
