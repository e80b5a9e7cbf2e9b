"""Save and load methods and classifiers, fitted or not: `geofuse.save`, `geofuse.load`."""

import os
from pathlib import Path
from typing import Any

from geofuse.errors import ParameterError
from geofuse.landcover import CLASSIFIERS
from geofuse.landcover.classifier import LandCoverClassifier
from geofuse.landcover.hand_made import EXTRACTORS
from geofuse.spatiotemporal import ALL_METHODS
from geofuse.spatiotemporal.method import FusionMethod
from geofuse.training.card import Card
from geofuse.training.checkpoint import load_method, save_method


def save(
    method: FusionMethod | LandCoverClassifier,
    folder: str | os.PathLike[str],
    *,
    card: Card | None = None,
) -> Path:
    """Save a method to a folder: its fields as JSON, what it learned as safetensors.

    Args:
        method: A method or classifier of geofuse, fitted or not.
        folder: Where to; an older model there is replaced in the end, in one step.
        card: What to tell about it: data, seed, scores.

    Returns:
        The folder.

    Raises:
        ParameterError: The method is not one of geofuse's.
        WriteError: The folder cannot be written, or holds other files.
    """
    name = name_of(method)
    return save_method(method, name, folder, card=card, known=known_by_name())


def load(folder: str | os.PathLike[str]) -> Any:
    """Load a method that `save` or `geofuse train` has written. Nothing is executed.

    Args:
        folder: A model folder.

    Returns:
        A `FusionMethod` or a `LandCoverClassifier`, as it was saved.

    Raises:
        ModelReadError: It is no model folder, damaged, of a newer format, or of a method or
            field that this version does not know.
        ParameterError: A field is out of range.
    """
    return load_method(folder, known_by_name())


def name_of(method: FusionMethod | LandCoverClassifier) -> str:
    """The name of a method on the command line.

    Args:
        method: A method or classifier of geofuse.

    Raises:
        ParameterError: It is not one of geofuse's.
    """
    for name, kind in known_by_name().items():
        if type(method) is kind:
            return name
    raise ParameterError(
        f"expected a method of geofuse, found {method!r}; one of your own is saved with "
        "geofuse.training.checkpoint.save_method, under a name of your own"
    )


def known_by_name() -> dict[str, type]:
    """All that can be saved, by its name on the command line.

    Extractors of features are saved with the classifier that takes them.
    """
    return {**ALL_METHODS, **CLASSIFIERS, **EXTRACTORS}
