"""Weights that ship with geofuse: models in the package, in the format of any other.

geofuse/spatiotemporal/pretrained/NAME/    model.json  weights.safetensors  README.md
"""

from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Literal

from geofuse.errors import NotFittedError
from geofuse.training.card import Card, card_from
from geofuse.training.model_folder import FIELDS, read_model
from geofuse.training.weights import Weights

_START = "weights."

#: What a method's field of weights holds: its own, those that ship by its name, or none.
Learned = Weights | Literal["pretrained"] | None


def known_weights(weights: Learned, name: str, *, fit: str) -> Weights:
    """The weights that a method's field stands for.

    Args:
        weights: The field.
        name: Name of the method whose weights ship, for example kernel-net.
        fit: How to fit it, in one line of Python.

    Raises:
        NotFittedError: There are none, or none ship for this method.
        ModelReadError: Those that ship are damaged.
    """
    if isinstance(weights, Weights):
        return weights
    if weights == "pretrained":
        return pretrained_weights(name)
    raise NotFittedError(
        f"expected a fitted method, found {name} without weights; write {fit}, or load "
        "one: geofuse.load(folder)"
    )


def deviation_factor(weights: Learned, name: str) -> float:
    """What intervals are widened by, as found with the weights that ship; else 1."""
    return pretrained_card(name).deviation_factor if weights == "pretrained" else 1.0


def warn_of_scale(weights: Learned, name: str, scale: int | None) -> None:
    """Warn where weights that ship are asked for a scale that they were not trained on.

    Args:
        weights: The method's field; nothing is known of weights of one's own.
        name: Name of the method whose weights ship.
        scale: Coarse GSD / fine GSD of the scene; None where it is unknown.

    Warns:
        OutOfRangeWarning: The scale lies outside those on their card.
    """
    if weights == "pretrained":
        pretrained_card(name).warn_of_scale(scale)


@cache
def pretrained_weights(name: str) -> Weights:
    """The weights of a method that ship with geofuse; read once, and checked.

    Args:
        name: Name of the method, for example kernel-net.

    Raises:
        NotFittedError: None ship for this method.
        ModelReadError: They are damaged.
    """
    arrays = read_model(_folder(name)).arrays
    own = {n[len(_START) :]: a for n, a in arrays.items() if n.startswith(_START)}
    return Weights(own)


@cache
def pretrained_card(name: str) -> Card:
    """What is told about them: data, seed, command, scores.

    Args:
        name: Name of the method.

    Raises:
        NotFittedError: As `pretrained_weights`.
        ModelReadError: Likewise.
    """
    return card_from(read_model(_folder(name)).document.get("card") or {})


def _folder(name: str) -> Traversable:
    shipped = files("geofuse") / "spatiotemporal" / "pretrained"
    folder = shipped / name
    if not (folder / FIELDS).is_file():
        raise NotFittedError(
            f"expected weights of {name} in the package, found none; fit the method first: "
            "fitted = method.fit(cases), or geofuse train fusion --method "
            f"{name} --pairs TABLE --out MODEL"
        )
    return folder
