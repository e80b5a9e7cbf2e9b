"""A saved model on disk: three files, there whole or not at all.

    model.json             format, version, method and its fields, card, digest of the weights
    weights.safetensors    the arrays
    README.md              the card, to be read

Nothing in them is executed. A model is written beside its place and renamed.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as arrays_from
from safetensors.numpy import save as bytes_of

from geofuse import __version__
from geofuse.errors import ModelReadError, WriteError

#: The newest format that this version reads; it writes no other.
FORMAT = 1
#: The files of a model.
FIELDS, WEIGHTS, PAGE = "model.json", "weights.safetensors", "README.md"


class Model(NamedTuple):
    """What a model folder holds: plain values, and arrays by name."""

    document: dict[str, Any]
    arrays: dict[str, np.ndarray]


def is_model(folder: str | os.PathLike[str]) -> bool:
    """Whether there is a model folder."""
    return (Path(folder) / FIELDS).is_file()


def check_place(folder: str | os.PathLike[str]) -> Path:
    """The absolute path of a folder where a model may be written.

    Raises:
        WriteError: Something else than a model is there.
    """
    target = Path(os.path.abspath(folder))
    if target.is_file() or (
        target.exists() and not is_model(target) and any(target.iterdir())
    ):
        there = "a file" if target.is_file() else "a folder of other files"
        raise WriteError(
            f"expected a new folder or an older model at {folder}, found {there}; "
            "choose another name"
        )
    return target


def write_model(
    folder: str | os.PathLike[str],
    document: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    page: str,
) -> Path:
    """Write a model folder; an older model there is replaced in the end.

    Args:
        folder: Where to; it must not be there, or be a model folder or empty.
        document: Plain values; format, version and digest are added.
        arrays: Arrays by name.
        page: The README.

    Raises:
        WriteError: It cannot be written, or something else is there.
    """
    target = check_place(folder)
    weights = bytes_of({n: np.array(array, order="C") for n, array in arrays.items()})
    digest = hashlib.sha256(weights).hexdigest()
    text = json.dumps(
        {
            "format": FORMAT,
            "geofuse": __version__,
            **document,
            "weights": {"file": WEIGHTS, "sha256": digest},
        },
        indent=2,
        allow_nan=False,
    )
    files = {FIELDS: f"{text}\n".encode(), WEIGHTS: weights, PAGE: page.encode()}
    beside, older = (
        target.with_name(f".{target.name}.{os.getpid()}.{word}")
        for word in ("new", "old")
    )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside.mkdir()
        for name, content in files.items():
            with open(beside / name, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        if target.exists():
            os.rename(target, older)
        try:
            os.rename(beside, target)
        except OSError:
            if older.exists():
                os.rename(older, target)
            raise
    except OSError as error:
        raise WriteError(
            f"expected to write a model to {folder}, found that it cannot be ({error}); "
            "free the disk or choose another place"
        ) from error
    finally:
        for left in (beside, older):
            with contextlib.suppress(OSError):
                shutil.rmtree(left)
    return target


def read_model(folder: Traversable) -> Model:
    """Read a model folder, and check that it is whole.

    Args:
        folder: A path, or a folder of a package.

    Raises:
        ModelReadError: It is no model folder, damaged, or of a newer format.
    """
    try:
        text = (folder / FIELDS).read_bytes()
    except OSError as error:
        raise ModelReadError(
            f"expected a model folder with a file {FIELDS} at {folder}, found none; give "
            "the folder that geofuse train or geofuse.save has written"
        ) from error
    try:
        document = json.loads(text)
        newest = document["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(folder, FIELDS, f"cannot be read: {error}") from error
    if not isinstance(newest, int) or newest > FORMAT:
        raise ModelReadError(
            f"expected a model of format {FORMAT} or older at {folder}, found format "
            f"{newest}, written by geofuse {document.get('geofuse')}; this is geofuse "
            f"{__version__}, install a newer one"
        )
    try:
        expected = document["weights"]["sha256"]
        weights = (folder / WEIGHTS).read_bytes()
    except (OSError, KeyError, TypeError) as error:
        raise _damaged(folder, WEIGHTS, "is missing") from error
    digest = hashlib.sha256(weights).hexdigest()
    if digest != expected:
        words = f"has the digest {digest[:12]}… and not {str(expected)[:12]}…"
        raise _damaged(folder, WEIGHTS, words)
    try:
        return Model(document, arrays_from(weights))
    except (SafetensorError, KeyError, ValueError) as error:
        raise _damaged(folder, WEIGHTS, f"cannot be read: {error}") from error


def _damaged(folder: Traversable, file: str, words: str) -> ModelReadError:
    return ModelReadError(
        f"expected a whole model at {folder}, found that {file} {words}; the model is "
        "damaged, copy it again or train it anew"
    )
