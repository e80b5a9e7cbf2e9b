"""Keep a training in one file, so that it goes on to the bit where it was stopped.

The file is a safetensors file: arrays, and the plain numbers as JSON in its header. It is
written beside its place and renamed, so that it is there whole or as it was before.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as save_arrays

from geofuse.errors import TrainingError
from geofuse.training.settings import Training

#: A NamedTuple of trees of arrays and of plain numbers.
Run = TypeVar("Run", bound=Any)

_ARRAYS = ("state", "good", "best")
_FORMAT = 1


def identity(training: Training, seed: int, parameters: Mapping[str, Any]) -> str:
    """What must be the same for a training to go on."""
    shapes = {name: list(np.shape(array)) for name, array in parameters.items()}
    return json.dumps(
        {
            "format": _FORMAT,
            **dataclasses.asdict(training),
            "seed": seed,
            "arrays": shapes,
        },
        sort_keys=True,
    )


def save(path: Path, run: Any, identity: str) -> None:
    """Keep a run in a file, whole or not at all.

    Raises:
        TrainingError: The file cannot be written.
    """
    plain = {k: v for k, v in run._asdict().items() if k not in _ARRAYS}
    arrays = {}
    for name in _ARRAYS:
        for number, leaf in enumerate(jax.tree.leaves(getattr(run, name))):
            arrays[f"{name}.{number}"] = np.array(jax.device_get(leaf), order="C")
    blob = save_arrays(arrays, {"run": json.dumps(plain), "identity": identity})
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(beside, "wb") as file:
            file.write(blob)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise TrainingError(
            f"expected to keep the training in {path}, found that it cannot be written "
            f"({error}); free the disk or choose another place, the one kept before stands"
        ) from error


def load(path: Path, run: Run, identity: str) -> Run:
    """The run kept in a file; `run` itself where there is no file.

    Args:
        path: The file.
        run: A run of the same training at its start.
        identity: As `identity` gives it.

    Raises:
        TrainingError: The file is damaged, or of another training.
    """
    if not Path(path).exists():
        return run
    try:
        with safe_open(path, framework="numpy") as file:
            notes = file.metadata() or {}
            if notes.get("identity") != identity:
                raise TrainingError(
                    f"expected a checkpoint of this training at {path}, found one of other "
                    "settings, another seed or another network; give another path, or "
                    "remove the file to start anew"
                )
            trees = {}
            for name in _ARRAYS:
                leaves, structure = jax.tree.flatten(getattr(run, name))
                found = [file.get_tensor(f"{name}.{n}") for n in range(len(leaves))]
                trees[name] = jax.tree.unflatten(structure, found)
            plain = json.loads(notes["run"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise TrainingError(
            f"expected a checkpoint at {path}, found a file that is damaged ({error}); "
            "remove it to start anew"
        ) from error
    plain["losses"] = tuple(plain["losses"])
    plain["validations"] = tuple((int(s), float(v)) for s, v in plain["validations"])
    return run._replace(**trees, **plain)
