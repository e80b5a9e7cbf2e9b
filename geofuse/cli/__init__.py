"""The command line: `geofuse COMMAND`, one thin file a command.

Nothing heavy is imported before a command runs, so that `--help` is instant. A mistake
of the user ends in one line on stderr and exit code 2, a failing disk in 1, another run
at the same product in 75, Ctrl-C in 130.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

import geofuse
from geofuse.cli import (
    accuracy,
    benchmark,
    classify,
    demo,
    despeckle,
    features,
    fuse,
    info,
    methods,
    register,
    score,
    series,
    train,
)
from geofuse.cli.options import add_command
from geofuse.errors import GeofuseError, UnknownNameError, did_you_mean

COMMANDS = {
    "fuse": fuse,
    "series": series,
    "train": train,
    "classify": classify,
    "accuracy": accuracy,
    "score": score,
    "benchmark": benchmark,
    "features": features,
    "despeckle": despeckle,
    "register": register,
    "info": info,
    "methods": methods,
    "demo": demo,
}

# Drivers that follow what a file says about other files and hosts. In a process of our
# own they are not even registered; reading a raster names the drivers it allows all the
# same.
_UNUSED_DRIVERS = (
    "VRT GTI WMS WMTS WCS OGCAPI STACIT STACTA HTTP PLMOSAIC PLSCENES DAAS EEDA EEDAI "
    "NGW netCDF HDF4 HDF4Image HDF5 HDF5Image BAG Zarr PDF GPKG MBTiles Rasterlite "
    "PostGISRaster DERIVED SENTINEL2 KMLSUPEROVERLAY"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    os.environ.setdefault("GDAL_SKIP", _UNUSED_DRIVERS.replace(" ", ","))
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _check_command(words)
        options = _parser().parse_args(words)
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            code = int(options.run(options))
        sys.stdout.flush()
        return code
    except GeofuseError as error:
        _say(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _say("stopped; give the same command again to continue")
        return 130
    except BrokenPipeError:
        # What is left to print goes nowhere, or Python would complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except MemoryError:
        _say(
            "expected enough memory, found too little; choose smaller tiles with --tile"
        )
        return 1


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        _say(f"{message}; see {self.prog} --help")
        sys.exit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="geofuse",
        description="Remote-sensing data fusion: fine images of the dates in between.",
        epilog="geofuse COMMAND --help tells more.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=geofuse.__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, module in COMMANDS.items():
        add_command(commands, name, module).set_defaults(run=module.run)
    return parser


def _check_command(words: Sequence[str]) -> None:
    command = next((word for word in words if not word.startswith("-")), None)
    if command is not None and command not in COMMANDS:
        raise UnknownNameError(
            f"expected a command, found {command!r}; {did_you_mean(command, COMMANDS)}"
        )


def _say(message: str) -> None:
    print(f"geofuse: {' '.join(message.split())}", file=sys.stderr)


def _show_warning(
    message: Warning | str, category: type[Warning], *details: Any, **more: Any
) -> None:
    """Warnings of geofuse in one line; those of other packages are not for users."""
    if (
        isinstance(message, UserWarning)
        and type(message).__module__ == "geofuse.errors"
    ):
        _say(f"warning: {message}")
