"""Save and load methods, fitted or not: `geofuse.save`, `geofuse.load`."""

import os
from pathlib import Path

from geofuse.errors import ParameterError
from geofuse.spatiotemporal import ALL_METHODS
from geofuse.spatiotemporal.method import FusionMethod
from geofuse.training.card import Card
from geofuse.training.checkpoint import load_method, save_method


def save(
    method: FusionMethod, folder: str | os.PathLike[str], *, card: Card | None = None
) -> Path:
    """Save a method to a folder: its fields as JSON, what it learned as safetensors.

    Args:
        method: A method of geofuse, fitted or not.
        folder: Where to; an older model there is replaced in the end, in one step.
        card: What to tell about it: data, seed, scores.

    Returns:
        The folder.

    Raises:
        ParameterError: The method is not one of geofuse's.
        WriteError: The folder cannot be written, or holds other files.
    """
    name = name_of(method)
    return save_method(method, name, folder, card=card, known=ALL_METHODS)


def load(folder: str | os.PathLike[str]) -> FusionMethod:
    """Load a method that `save` or `geofuse train` has written. Nothing is executed.

    Args:
        folder: A model folder.

    Raises:
        ModelReadError: It is no model folder, damaged, of a newer format, or of a method or
            field that this version does not know.
        ParameterError: A field is out of range.
    """
    method: FusionMethod = load_method(folder, ALL_METHODS)
    return method


def name_of(method: FusionMethod) -> str:
    """The name of a method on the command line.

    Args:
        method: A method of geofuse.

    Raises:
        ParameterError: It is not one of geofuse's.
    """
    for name, kind in ALL_METHODS.items():
        if type(method) is kind:
            return name
    raise ParameterError(
        f"expected a method of geofuse, found {method!r}; one of your own is saved with "
        "geofuse.training.checkpoint.save_method, under a name of your own"
    )
