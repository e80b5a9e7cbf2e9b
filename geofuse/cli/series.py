r"""Predict the fine image of every coarse date, or fill the gaps of fine images.

  geofuse series kalman --fine-folder landsat/ --coarse-folder modis/ \
      --fine-sensor landsat-c2l2 --coarse-sensor modis-mod09ga -o fused/

  geofuse series starfm --only-gaps --table files.csv -o filled/

Writes one file a date, OUT/2021-07-01.tif. Measured pixels stay as they are; their gaps
and all other dates are predicted. METHOD is one for a single date, which takes for each
date the best pairs, or one over the whole series: kalman, time-interpolation, harmonic,
whittaker. A run that was stopped continues when the same command is given again: dates
whose files are whole are kept.
"""

import argparse
import os
import sys
import warnings
from typing import Any

from geofuse.cli import series_files
from geofuse.cli.fuse import add_reading_arguments, add_running_arguments
from geofuse.cli.options import check_running, listed

HELP = "predict the fine image of every coarse date, or fill gaps"

#: Dates that a method over the whole series writes in one pass: each has open files.
DATES_AT_ONCE = 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("method", metavar="METHOD", help="see geofuse methods")
    series_files.add_arguments(parser)
    parser.add_argument(
        "-o", "--out", required=True, metavar="FOLDER", help="where the products go"
    )
    parser.add_argument(
        "--only-gaps",
        action="store_true",
        help="the dates of the fine files alone, with their gaps filled",
    )
    add_reading_arguments(parser)
    add_running_arguments(parser)
    parser.set_defaults(tile=None)
    parser.add_argument(
        "--most-pairs",
        type=int,
        default=4,
        metavar="N",
        help="most pairs for a date, for methods of a single date (4)",
    )
    parser.add_argument(
        "--uncertainty",
        action="store_true",
        help="also write DATE_std.tif, the standard deviation of each band",
    )
    parser.add_argument(
        "--quality",
        action="store_true",
        help="also write DATE_quality.tif: 0 missing, 1 measured, 2 predicted",
    )


def run(options: argparse.Namespace) -> int:
    """Predict the series, and write what is not there yet."""
    from geofuse.cli.fuse import check_scale
    from geofuse.cli.methods import method_or_model
    from geofuse.errors import ParameterError
    from geofuse.spatiotemporal import METHODS, SERIES_METHODS
    from geofuse.spatiotemporal.method import FusionMethod
    from geofuse.spatiotemporal.series import predict_series, valid_shares

    check_running(options)
    check_scale(options.scale)
    known = {**METHODS, **SERIES_METHODS}
    method = method_or_model(options.method, options.set, known)
    if options.uncertainty and not method.states_uncertainty:
        raise ParameterError(
            f"expected a method that states its uncertainty, found {options.method}; "
            "leave out --uncertainty, or choose another method"
        )
    files = series_files.files_of(options)
    pairs, coarse, fine = open_series(options, files)
    one_date = isinstance(method, FusionMethod)
    product = predict_series(
        pairs,
        coarse,
        method=method,
        fine=fine,
        only_gaps=options.only_gaps,
        valid_shares=valid_shares(pairs) if one_date else None,
        most_pairs=options.most_pairs,
        tile=options.tile,
    )
    wanted = [
        images_of(product, number, options) for number in range(len(product.time))
    ]
    _check_outputs(wanted, [file.path for of_kind in files for file in of_kind])
    _write(wanted, 1 if one_date else DATES_AT_ONCE, options)
    return 0


def open_series(options: argparse.Namespace, files: Any) -> tuple[Any, Any, Any]:
    """Pairs, coarse images and the other fine images, on the earliest fine file's grid."""
    from geofuse.cli.fuse import on_fine_grid
    from geofuse.errors import TooFewPairsError
    from geofuse.pairs import Pair
    from geofuse.rasters.align import align
    from geofuse.rasters.optical import open_optical

    bands = listed(options.bands)
    fine: dict[str, Any] = {}
    first = None
    for path, date in files.fine:
        image = open_optical(
            path,
            options.fine_sensor,
            date=date,
            bands=bands,
            bbox=options.bbox if first is None else None,
            bbox_crs=options.bbox_crs if first is None else None,
        )
        # Scenes of one path and row share their pixels but not always their extent.
        fine[date] = image if first is None else align(image, like=first)
        first = image if first is None else first
    coarse = {}
    for path, date in files.coarse:
        image = open_optical(path, options.coarse_sensor, date=date, bands=bands)
        coarse[date] = on_fine_grid(image, first, options.scale)
    pairs = [Pair(fine[date], coarse[date]) for date in fine if date in coarse]
    if not pairs:
        raise TooFewPairsError(
            "expected at least one date with a fine and a coarse file, found none: fine "
            f"{', '.join(fine)}, coarse {', '.join(coarse)}; add the coarse file of the "
            "day of a fine one"
        )
    others = [image for date, image in fine.items() if date not in coarse]
    return pairs, list(coarse.values()), others


def images_of(product: Any, number: int, options: argparse.Namespace) -> dict[str, Any]:
    """The images of one date to write, by path; each knows what work it is of."""
    import numpy as np
    from dask.base import tokenize

    import geofuse

    date = str(product.time.values[number])[:10]
    of_date = product.isel(time=number)
    reflectance = of_date["reflectance"]
    images = {f"{date}.tif": reflectance}
    if options.uncertainty:
        names = [f"{band}_std" for band in product["band"].values]
        spread = np.sqrt(of_date["variance"]).assign_coords(band=names)
        spread.attrs = {"long_name": "standard deviation of what is predicted"}
        images[f"{date}_std.tif"] = spread
    if options.quality:
        images[f"{date}_quality.tif"] = of_date["quality"]
    for name, image in images.items():
        tags = {
            **image.attrs,
            "geofuse_version": geofuse.__version__,
            "method": product.attrs["method"],
            "prediction_date": date,
            "base_dates": str(of_date["base_dates"].values),
            "note": str(of_date["note"].values),
        }
        # Of the files' names, sizes and times, too: they are in the name of the data.
        images[name] = image.drop_vars(["base_dates", "note"], errors="ignore")
        images[name].attrs = {
            **tags,
            "job": tokenize(image.data.name, sorted(tags.items())),
        }
    return {os.path.join(options.out, name): image for name, image in images.items()}


def _write(
    wanted: list[dict[str, Any]], at_once: int, options: argparse.Namespace
) -> None:
    """Write the dates that are not whole yet, some at a time, and say where."""
    from geofuse.cli.progress import progress_bar
    from geofuse.errors import NothingValidWarning, WriteError
    from geofuse.rasters.write import write_cogs

    try:
        os.makedirs(options.out, exist_ok=True)
    except OSError as error:
        raise WriteError(
            f"expected a folder for the products at {options.out}, found that there can "
            f"be none ({error}); choose another one"
        ) from error
    missing = []
    for images in wanted:
        if all(_is_whole(path, image) for path, image in images.items()):
            print(*images, sep="\n")
        else:
            missing.append(images)
    kept = len(wanted) - len(missing)
    for start in range(0, len(missing), at_once):
        batch = missing[start : start + at_once]
        every: dict[str | os.PathLike[str], Any] = {
            path: image for of_date in batch for path, image in of_date.items()
        }
        until = kept + min(start + at_once, len(missing))
        title = f"{options.method} {until}/{len(wanted)} dates"
        with progress_bar(title) as progress, warnings.catch_warnings():
            # Nothing is predicted, and so nothing uncertain, where all was measured.
            only_spread = r".*found none in (\S+_std\.tif(, )?)+;"
            warnings.filterwarnings("ignore", only_spread, NothingValidWarning)
            write_cogs(every, workers=options.workers, progress=progress)
        print(*every, sep="\n")
        sys.stdout.flush()


def _is_whole(path: str, image: Any) -> bool:
    """Whether a product is there, whole, and of the same work."""
    from geofuse.errors import RasterReadError
    from geofuse.rasters.source import inspect
    from geofuse.rasters.write import stage_of

    if stage_of(path).exists():  # a run that was killed, or is at it: writing finds out
        return False
    try:
        return inspect(path).tags.get("job") == image.attrs["job"]
    except RasterReadError:
        return False


def _check_outputs(wanted: list[dict[str, Any]], read: list[str]) -> None:
    """Refuse to write over an input."""
    from geofuse.errors import ParameterError

    inputs = set(map(os.path.realpath, read))
    for path in (path for images in wanted for path in images):
        if os.path.realpath(path) in inputs:
            raise ParameterError(
                f"expected a folder for the products that holds no input, found {path}; "
                "choose another one"
            )
