r"""Train a method on data of your own, and save it as a model.

  geofuse train fusion --pairs cases.csv --out my-model ...
  geofuse train landcover --modality s2=S2.tif --modality s1=S1.tif --labels L.tif --out M

A run of networks that was stopped continues when the same command is given again.
"""

import argparse

from geofuse.cli import train_fusion, train_landcover
from geofuse.cli.options import add_command

HELP = "train a learned method on data of your own"

TASKS = {"fusion": train_fusion, "landcover": train_landcover}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare a command for each task."""
    tasks = parser.add_subparsers(dest="task", metavar="TASK", required=True)
    for name, module in TASKS.items():
        add_command(tasks, name, module).set_defaults(run_task=module.run)


def run(options: argparse.Namespace) -> int:
    """Train for the task that was named."""
    return int(options.run_task(options))
