"""Every error and warning that geofuse raises on purpose.

A message says what was expected, what was found, and what to do. The command line
prints it as one line and exits with `exit_code`; Python users catch `GeofuseError` or
one of its kinds.
"""

import difflib
from collections.abc import Iterable

#: A message lists no more names than this.
_MOST_NAMES = 80


class GeofuseError(Exception):
    """What all errors of geofuse have in common."""

    exit_code = 2


class RasterReadError(GeofuseError):
    """A file is missing, damaged, not a raster, or not safe to open."""


class TileReadError(RasterReadError):
    """One window of a raster could not be read."""


class RemoteError(RasterReadError):
    """A file of another host is missing, late, damaged, or of a host not allowed."""

    exit_code = 1


class NothingFoundError(GeofuseError):
    """A search has no answer."""


class GridMismatchError(GeofuseError):
    """Two images that must share a grid do not."""


class CRSMismatchError(GridMismatchError):
    """Two images that must share a coordinate reference system do not."""


class BandMismatchError(GeofuseError):
    """Images have other bands, or an image lacks a band that was asked for."""


class CalibrationError(GeofuseError):
    """Values are not what the gain and offset of their sensor would give."""


class DateMismatchError(GeofuseError):
    """Dates are missing, not ISO, or do not fit together."""


class UnknownNameError(GeofuseError):
    """A method, sensor, field or metric of that name does not exist."""


class ParameterError(GeofuseError, ValueError):
    """A value is out of range or of the wrong kind."""


class MissingScaleError(GeofuseError):
    """A method needs the scale (coarse GSD / fine GSD), and it is not known."""


class TooFewPairsError(GeofuseError):
    """A method needs more pairs than it was given."""


class LeakError(GeofuseError):
    """What a method is scored on has reached its training, or its choice."""


class NotFittedError(GeofuseError):
    """A learned method was asked to predict before it was fitted."""


class ProgramError(GeofuseError):
    """Another program could not be run, failed, or wrote nothing."""

    exit_code = 1


class TrainingError(GeofuseError):
    """A network could not be trained."""

    exit_code = 1


class ModelReadError(GeofuseError):
    """A saved model is missing, damaged, or of another version."""


class MissingExtraError(GeofuseError):
    """A package is not installed that an extra of geofuse brings."""


class WriteError(GeofuseError):
    """A product could not be written; what stood at its path before still stands."""

    exit_code = 1


class LockedError(WriteError):
    """Another process is writing the same product."""

    exit_code = 75


class CalibrationWarning(UserWarning):
    """Values look as if another gain or offset were right."""


class NothingValidWarning(UserWarning):
    """A product has no valid pixel."""


class OutOfRangeWarning(UserWarning):
    """A learned method is asked for what it was not trained on."""


class MissingClassWarning(UserWarning):
    """A class of the legend has no labeled pixel to learn from."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error message that helps with a misspelled name.

    >>> did_you_mean("starfn", ["starfm", "persistence"])
    "did you mean 'starfm'? known: persistence, starfm"
    >>> did_you_mean("zzz", ["starfm", "persistence"])
    'known: persistence, starfm'
    """
    names = sorted(known, key=str.casefold)
    shown = names if len(names) <= _MOST_NAMES else names[: _MOST_NAMES // 2]
    rest = f" and {len(names) - len(shown)} more" if len(shown) < len(names) else ""
    listing = "known: " + ", ".join(shown) + rest
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}? {listing}" if near else listing
