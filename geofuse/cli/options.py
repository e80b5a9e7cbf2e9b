"""Options that commands share, and what is refused in all of them alike."""

import argparse
import os
from collections.abc import Iterable
from typing import Any


def add_command(commands: Any, name: str, module: Any) -> argparse.ArgumentParser:
    """Add a command from its module: its words of help and its arguments.

    Args:
        commands: What `add_subparsers` gave.
        name: The command.
        module: With `HELP`, a docstring and `add_arguments`.
    """
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=module.HELP,
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(command)
    return command


def add_tile_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare tiles and threads."""
    parser.add_argument(
        "--tile", type=int, default=512, metavar="N", help="side of a tile (512)"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="threads to use")


def add_set_argument(parser: argparse.ArgumentParser) -> None:
    """Declare the fields of a method."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="field=value",
        help="a field of the method; see geofuse methods",
    )


def check_running(options: argparse.Namespace) -> None:
    """Refuse tiles and threads that are none.

    Raises:
        ParameterError: `--tile` or `--workers` is below 1.
    """
    from geofuse.errors import ParameterError

    for name in ("tile", "workers"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ParameterError(f"expected --{name} of at least 1, found {value}")


def check_no_input(written: Iterable[str], read: Iterable[str]) -> None:
    """Refuse to write over an input.

    Raises:
        ParameterError: A file is to be read and written.
    """
    from geofuse.errors import ParameterError

    inputs = set(map(os.path.realpath, read))
    for path in written:
        if os.path.realpath(path) in inputs:
            raise ParameterError(
                f"expected an output that is no input, found {path}; choose another "
                "name"
            )


def listed(text: str | None) -> list[str] | None:
    """The names of a list with commas; None where none was given."""
    return [name.strip() for name in text.split(",")] if text is not None else None
