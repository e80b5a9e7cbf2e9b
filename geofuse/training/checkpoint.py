"""Save a fitted method, and load it: JSON fields and arrays, never pickle.

Which methods there are, the caller tells: a dictionary of types by name. So a file can name
a method, but not bring one with it.
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from geofuse import __version__
from geofuse.errors import ModelReadError
from geofuse.training.card import Card, card_from
from geofuse.training.fields import method_as_json, method_from_json
from geofuse.training.model_folder import read_model, write_model

_NONE_KNOWN: Mapping[str, type] = MappingProxyType({})


def save_method(
    method: Any,
    name: str,
    folder: str | os.PathLike[str],
    *,
    card: Card | None = None,
    known: Mapping[str, type] = _NONE_KNOWN,
) -> Path:
    """Save a method to a folder, whole or not at all; an older model there is replaced.

    Args:
        method: A method: a dataclass whose fields are plain values, weights, settings,
            methods and tuples of these.
        name: Its name.
        folder: Where to.
        card: What to tell about it.
        known: Types by name of the methods that may stand in its fields.

    Returns:
        The folder.

    Raises:
        ParameterError: A field holds what cannot be saved.
        WriteError: The folder cannot be written, or holds other files.
    """
    arrays: dict[str, Any] = {}
    names = {**{kind: word for word, kind in known.items()}, type(method): name}
    document = method_as_json(method, names, arrays)
    card = card or Card()
    document["card"] = dataclasses.asdict(card)
    facts = {"Method": f"`{method!r}`", "geofuse": __version__}
    return write_model(folder, document, arrays, card.page(name, facts))


def load_method(folder: str | os.PathLike[str], known: Mapping[str, type]) -> Any:
    """Load the method that `save_method` has written.

    Args:
        folder: A model folder.
        known: Types of methods by name; no other method can be loaded.

    Raises:
        ModelReadError: It is no model folder, damaged, of a newer format, or of a method or
            field that this version does not know.
        ParameterError: A field is out of range.
    """
    model = read_model(Path(folder))
    return method_from_json(model.document, known, model.arrays)


def read_card(folder: str | os.PathLike[str]) -> Card:
    """What a model folder tells about its model.

    Args:
        folder: A model folder.

    Raises:
        ModelReadError: As `load_method`.
    """
    try:
        return card_from(dict(read_model(Path(folder)).document.get("card") or {}))
    except (ValueError, TypeError) as error:
        raise ModelReadError(
            f"expected a model card in {folder}, found one that is damaged ({error}); "
            "copy the model again or train it anew"
        ) from error
