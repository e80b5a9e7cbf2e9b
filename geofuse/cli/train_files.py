"""From the files of a table to cases in Python, and to what tells a training from another."""

import argparse
import os
from typing import Any

#: Side of the part that is scored, in fine pixels: enough of a scene to tell.
_SCORED = 1024


def open_cases(options: argparse.Namespace, files: list[Any]) -> list[Any]:
    """Open the files of a table as cases, each on the grid of its earliest fine file.

    Args:
        options: How files are read.
        files: `CaseFiles`.

    Raises:
        DateMismatchError: A mask is of a date that no case has.
    """
    _check_masks(options, files)
    return [_open_case(options, case) for case in files]


def job_of(options: argparse.Namespace, files: list[Any], method: Any) -> str:
    """What a training is of: it goes on only where all of this is the same.

    Args:
        options: The command.
        files: `CaseFiles`.
        method: The method before the training.
    """
    from dask.base import tokenize

    paths = sorted(
        {path for case in files for path in (case.coarse, case.fine)}
        | {path for case in files for pair in case.pairs for path in pair[:2]}
    )
    marks = [(p, os.stat(p).st_size, os.stat(p).st_mtime_ns) for p in paths]
    told = {
        k: v for k, v in vars(options).items() if k not in ("run", "out", "command")
    }
    return str(
        tokenize(repr(method), marks, repr(files), sorted(map(str, told.items())))
    )


def middle_of(case: Any) -> Any:
    """The middle of a large case, in whole coarse pixels; a small one as it is.

    Args:
        case: A `FusionCase`.
    """
    from geofuse.training.holdout import part_of

    step = case.inputs.scale or 1
    parts = []
    for size, first in zip(case.reference.shape[1:], case.inputs.offset, strict=True):
        if size <= _SCORED:
            parts.append(slice(0, None))
            continue
        start = first + (size - first - _SCORED) // 2 // step * step
        parts.append(slice(start, start + _SCORED // step * step))
    return part_of(case, *parts)


def _open_case(options: argparse.Namespace, files: Any) -> Any:
    from geofuse.cli.fuse import open_inputs
    from geofuse.cli.masks import mask_of
    from geofuse.pairs import FusionCase
    from geofuse.rasters.align import align
    from geofuse.rasters.optical import open_optical

    bases = {pair.date for pair in files.pairs}
    own = argparse.Namespace(**vars(options))
    own.pair = [list(pair) for pair in files.pairs]
    own.at = [files.coarse, files.date]
    own.classes = None
    own.fine_mask = _of_dates(options.fine_mask, bases)
    own.coarse_mask = _of_dates(options.coarse_mask, {*bases, files.date})
    inputs = open_inputs(own)
    reference = open_optical(
        files.fine,
        options.fine_sensor,
        date=files.date,
        bands=[str(band) for band in inputs.bands] if options.bands else None,
        quality=mask_of(options, "fine", options.fine_sensor, files.date),
        gsd=options.gsd,
    )
    return FusionCase(inputs, align(reference, like=inputs.pairs[0].fine))


def _of_dates(masks: list[Any], dates: set[str]) -> list[Any]:
    from geofuse.rasters.optical import parse_date

    return [mask for mask in masks if str(parse_date(mask[1]))[:10] in dates]


def _check_masks(options: argparse.Namespace, files: list[Any]) -> None:
    """Refuse masks that no case would use."""
    from geofuse.errors import DateMismatchError

    dates = {case.date for case in files}
    dates |= {pair.date for case in files for pair in case.pairs}
    for side in ("fine", "coarse"):
        masks = getattr(options, f"{side}_mask")
        for path, date in masks:
            if not _of_dates([(path, date)], dates):
                raise DateMismatchError(
                    f"expected one --{side}-mask for a date of a {side} image, found "
                    f"{path} of {date}; give the date of its image, each once"
                )
