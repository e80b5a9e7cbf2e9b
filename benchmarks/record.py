"""How a benchmark tells its result: a table to read, a CSV to keep, a last line of JSON.

Every row of a CSV says from what commit, with which versions and on what class of machine
it comes, so that a figure in the README can be traced and repeated.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from geofuse.evaluation.origin import origin

RESULTS = Path(__file__).parent / "results"


def arguments(description: str | None) -> argparse.Namespace:
    """Parse what all benchmarks take: `--quick`."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="smaller, within three minutes on two cores",
    )
    return parser.parse_args()


def save(name: str, rows: Sequence[Mapping[str, Any]] | pd.DataFrame) -> Path:
    """Write rows, with their origin, to `benchmarks/results/NAME.csv`."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.csv"
    pd.DataFrame(rows).assign(**origin()).to_csv(path, index=False)
    return path


def emit(result: Mapping[str, Any]) -> None:
    """Print the result as the last line of stdout: one JSON object."""
    print(json.dumps(dict(result)), flush=True)


def measured(module: str, *, quick: bool) -> dict[str, Any]:
    """Run another benchmark in a process of its own; what its last line says."""
    command = [sys.executable, "-m", module, *(["--quick"] if quick else [])]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    print(found.stdout, end="", flush=True)
    result: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
    return result
