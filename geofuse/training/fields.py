"""The fields of a method as JSON and arrays, and back: nothing in them can run.

STARFM(radius=10)        {"method": "starfm", "fields": {"radius": 10, …}}
Training(steps=100)      {"fields": {"steps": 100, …}}       its type stands in the method
Weights({"bias": …})     {"weights": "members.0.weights"}    where its arrays are
("red", "nir")           ["red", "nir"]
"""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

import numpy as np

from geofuse.errors import ModelReadError, ParameterError, did_you_mean
from geofuse.training.weights import Weights


def method_as_json(
    method: Any,
    names: Mapping[type, str],
    arrays: dict[str, np.ndarray],
    place: str = "",
) -> dict[str, Any]:
    """A method as plain values; its arrays are added to `arrays` by their place.

    Args:
        method: A dataclass.
        names: Names of methods by type.
        arrays: What is learned, by place; added to.
        place: Where the method stands within another one, with a dot at the end.

    Raises:
        ParameterError: A method has no name, or a field holds what cannot be saved.
    """
    if type(method) not in names:
        raise ParameterError(
            f"expected a method that geofuse knows by a name, found {method!r}; known: "
            f"{', '.join(sorted(names.values()))}"
        )
    return {"method": names[type(method)], **_fields(method, names, arrays, place)}


def method_from_json(
    document: Mapping[str, Any],
    known: Mapping[str, type],
    arrays: Mapping[str, np.ndarray],
) -> Any:
    """The method that `method_as_json` has written.

    Args:
        document: Plain values.
        known: Types of methods by name.
        arrays: What is learned, by place.

    Raises:
        ModelReadError: A method or field is unknown, or a value is not of its kind.
    """
    name = str(document.get("method"))
    if name not in known:
        raise ModelReadError(
            f"expected a method that this geofuse knows, found {name!r}; "
            f"{did_you_mean(name, known)}; a newer geofuse may know it"
        )
    return _built(known[name], name, document, known, arrays)


def _fields(
    thing: Any, names: Mapping[type, str], arrays: dict[str, np.ndarray], place: str
) -> dict[str, Any]:
    hints = typing.get_type_hints(type(thing))
    fields = {
        field.name: _as_json(
            getattr(thing, field.name),
            hints[field.name],
            names,
            arrays,
            f"{place}{field.name}",
        )
        for field in dataclasses.fields(thing)
        if field.init
    }
    return {"fields": fields}


def _as_json(
    value: Any,
    hint: Any,
    names: Mapping[type, str],
    arrays: dict[str, np.ndarray],
    place: str,
) -> Any:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating) and math.isfinite(value):
        return float(value)
    if isinstance(value, Weights):
        arrays |= {f"{place}.{name}": array for name, array in value.arrays.items()}
        return {"weights": place}
    if isinstance(value, tuple | list):
        inner = _of_tuple(hint, len(value)) or (Any,) * len(value)
        return [
            _as_json(part, own, names, arrays, f"{place}.{number}")
            for number, (part, own) in enumerate(zip(value, inner, strict=True))
        ]
    if type(value) in _alternatives(hint) and dataclasses.is_dataclass(value):
        return _fields(value, names, arrays, f"{place}.")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return method_as_json(value, names, arrays, f"{place}.")
    raise ParameterError(
        f"expected numbers, words, tuples, methods and settings as fields, found "
        f"{value!r} at {place}; it cannot be saved"
    )


def _built(
    kind: type,
    name: str,
    document: Mapping[str, Any],
    known: Mapping[str, type],
    arrays: Mapping[str, np.ndarray],
) -> Any:
    """A dataclass of its fields; those that are not told keep their defaults."""
    told = document.get("fields")
    if not isinstance(told, dict):
        raise ModelReadError(
            f"expected the fields of {name}, found {told!r}; the model is damaged"
        )
    fields = [field.name for field in dataclasses.fields(kind) if field.init]
    hints = typing.get_type_hints(kind)
    values = {}
    for field, value in told.items():
        if field not in fields:
            raise ModelReadError(
                f"expected fields of {name}, found {field!r}; "
                f"{did_you_mean(field, fields)}; a newer geofuse may know it"
            )
        values[field] = _value(value, hints[field], f"{name}.{field}", known, arrays)
    try:
        return kind(**values)
    except TypeError as error:
        raise ModelReadError(
            f"expected fields that make up {name}, found {error}; the model is damaged"
        ) from error


def _value(
    value: Any,
    hint: Any,
    place: str,
    known: Mapping[str, type],
    arrays: Mapping[str, np.ndarray],
) -> Any:
    """A field's value, of a kind that the field is declared to hold."""
    kinds = _alternatives(hint)
    if isinstance(value, dict):
        if "weights" in value:
            start = f"{value['weights']}."
            own = {n[len(start) :]: a for n, a in arrays.items() if n.startswith(start)}
            return Weights(own)
        if "method" in value:
            return method_from_json(value, known, arrays)
        settings = [kind for kind in kinds if dataclasses.is_dataclass(kind)]
        if len(settings) == 1 and isinstance(settings[0], type):
            return _built(settings[0], place, value, known, arrays)
    elif isinstance(value, list):
        inner = _of_tuple(hint, len(value))
        if inner is not None:
            return tuple(
                _value(part, own, f"{place}.{number}", known, arrays)
                for number, (part, own) in enumerate(zip(value, inner, strict=True))
            )
    elif any(_fits(value, kind) for kind in kinds):
        return value
    raise ModelReadError(
        f"expected {hint} for {place}, found {value!r}; the model is damaged, or of a "
        "newer geofuse"
    )


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """The types of a union; a single one otherwise."""
    union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    return typing.get_args(hint) if union else (hint,)


def _of_tuple(hint: Any, count: int) -> tuple[Any, ...] | None:
    """The types of a tuple of that length; None where the hint allows no such tuple."""
    for kind in _alternatives(hint):
        if typing.get_origin(kind) is tuple:
            inner = typing.get_args(kind)
            if inner and inner[-1] is ...:
                return (inner[0],) * count
            if len(inner) == count:
                return inner
    return None


def _fits(value: Any, kind: Any) -> bool:
    """Whether a plain value is of a plain type."""
    if typing.get_origin(kind) is typing.Literal:
        return value in typing.get_args(kind)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return kind is Any or (isinstance(kind, type) and isinstance(value, kind))
