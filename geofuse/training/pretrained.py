"""Weights that ship with geofuse: models in the package, in the format of any other.

geofuse/spatiotemporal/pretrained/NAME/    model.json  weights.safetensors  README.md
"""

from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from geofuse.errors import NotFittedError
from geofuse.training.card import Card, card_from
from geofuse.training.model_folder import FIELDS, read_model
from geofuse.training.weights import Weights

_START = "weights."


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
