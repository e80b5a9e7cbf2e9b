"""List the fusion methods there are, with their fields and defaults."""

import argparse
import dataclasses
import json
import os
import re
import types
import typing
from collections.abc import Mapping
from typing import Any

HELP = "list the fusion methods, with their fields and defaults"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Print the methods."""
    from geofuse.spatiotemporal import ALL_METHODS, LEARNED, SERIES_METHODS
    from geofuse.spatiotemporal.series_method import SeriesMethod

    every: dict[str, Any] = {**ALL_METHODS, **SERIES_METHODS}
    if options.json:
        print(json.dumps({name: _fields(method) for name, method in every.items()}))
        return 0
    for name, method in every.items():
        needs = ""
        if issubclass(method, SeriesMethod):
            needs = " For geofuse series."
        elif name in LEARNED:
            needs = " Must be trained: geofuse train fusion."
        elif method.pairs_needed > 1:
            needs = f" Needs {method.pairs_needed} pairs."
        print(f"{name:<16} {_first_line(method)}{needs}")
        kinds = _kinds_of_fields(method)
        for field, default in _fields(method).items():
            print(f"{'':<16}   --set {field}={default}    {_kind(kinds[field])}")
    return 0


def method_from(
    name: str, settings: list[str], methods: Mapping[str, type] | None = None
) -> Any:
    """Make the method of that name, with `field=value` settings.

    Args:
        name: Its name on the command line.
        settings: `field=value` each.
        methods: The methods there are, by name; by default those for one date.

    Raises:
        UnknownNameError: There is no method or field of that name.
        ParameterError: A value is of the wrong kind or out of range.
    """
    from geofuse.errors import UnknownNameError, did_you_mean
    from geofuse.spatiotemporal import ALL_METHODS

    methods = ALL_METHODS if methods is None else methods
    if name not in methods:
        raise UnknownNameError(
            f"expected a method, found {name!r}; {did_you_mean(name, methods)}"
        )
    return method_with(methods[name](), settings, name)


def method_or_model(
    name: str, settings: list[str], methods: Mapping[str, type] | None = None
) -> Any:
    """The method of that name, or the model in the folder of that name.

    Args:
        name: Name of a method, or a model folder.
        settings: `field=value` each.
        methods: The methods there are, by name; by default those for one date.

    Raises:
        UnknownNameError: There is no method, model or field of that name.
        ModelReadError: A model is damaged, or of another version.
        ParameterError: A value is of the wrong kind or out of range.
    """
    from geofuse.saved import load
    from geofuse.spatiotemporal import ALL_METHODS

    known = ALL_METHODS if methods is None else methods
    is_folder = os.path.isdir(name) or os.path.basename(name) != name
    if name in known or not is_folder:
        return method_from(name, settings, methods)
    return method_with(load(name), settings, name)


def method_with(method: Any, settings: list[str], name: str) -> Any:
    """A method with some fields set.

    Args:
        method: The method.
        settings: `field=value` each; `field.inner=value` for settings within a field.
        name: What the method is called in messages.

    Raises:
        UnknownNameError: There is no field of that name.
        ParameterError: A value is of the wrong kind or out of range.
    """
    from geofuse.errors import ParameterError, UnknownNameError, did_you_mean

    kinds = _kinds_of_fields(type(method))
    values: dict[str, Any] = {}
    inner: dict[str, dict[str, Any]] = {}
    for setting in settings:
        field, equals, text = setting.partition("=")
        if not equals:
            raise ParameterError(
                f"expected --set field=value, found {setting!r}; for example --set "
                "radius=15"
            )
        if field not in kinds:
            raise UnknownNameError(
                f"expected a field of {name}, found {field!r}; "
                f"{did_you_mean(field, kinds)}"
            )
        value = _value(text.strip(), kinds[field], field)
        outer, dot, rest = field.partition(".")
        if dot:
            inner.setdefault(outer, {})[rest] = value
        else:
            values[field] = value
    for outer, changed in inner.items():
        values[outer] = dataclasses.replace(getattr(method, outer), **changed)
    return dataclasses.replace(method, **values) if values else method


def methods_from(text: str) -> tuple[Any, ...]:
    """Make methods of a list such as `starfm(radius=10),fit-fc`.

    Raises:
        UnknownNameError: There is no method or field of that name.
        ParameterError: The list is not one, or a value is not as declared.
    """
    from geofuse.errors import ParameterError

    # Commas separate methods; those within brackets separate fields.
    parts = re.findall(r"\s*([^,()]+)(?:\(([^()]*)\))?\s*(?:,|$)", text)
    rebuilt = [f"{name}({fields})" if fields else name for name, fields in parts]
    if not parts or re.sub(r"\s|\(\)", "", text) != re.sub(
        r"\s", "", ",".join(rebuilt)
    ):
        raise ParameterError(
            f"expected methods separated by commas, found {text!r}; for example "
            "starfm(radius=10),fit-fc"
        )
    return tuple(
        method_from(name.strip(), [f.strip() for f in fields.split(",") if f.strip()])
        for name, fields in parts
    )


def _value(text: str, kind: Any, field: str) -> Any:
    """A field's value from text, by the type that the dataclass declares."""
    from geofuse.errors import ParameterError, did_you_mean

    kinds = _alternatives(kind)
    if any(typing.get_origin(one) is tuple for one in kinds):
        return methods_from(text)
    words = [word for one in kinds for word in _words(one)]
    if text in words:
        return text
    if words and len(kinds) == 1:
        raise ParameterError(
            f"expected {_kind(kind)} for {field}, found {text!r}; "
            f"{did_you_mean(text, words)}"
        )
    if type(None) in kinds and text.lower() in ("none", ""):
        return None
    if bool in kinds and text.lower() in ("true", "false"):
        return text.lower() == "true"
    for number in (int, float):
        if number in kinds:
            try:
                return number(text)
            except ValueError:
                continue
    if str in kinds:
        return text
    raise ParameterError(
        f"expected {_kind(kind)} for {field}, found {text!r}; see geofuse methods"
    )


def _kind(kind: Any) -> str:
    """A type in words; of what no words can give, nothing is said."""
    if typing.get_origin(kind) is tuple:
        return "methods, with their fields in brackets"
    words = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text",
        type(None): "none",
    }
    told = []
    for one in _alternatives(kind):
        told += _words(one) or ([words[one]] if one in words else [])
    return " or ".join(told) or "see the documentation"


def _alternatives(kind: Any) -> tuple[Any, ...]:
    """The types of a union; a single one otherwise."""
    union = isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union
    return typing.get_args(kind) if union else (kind,)


def _words(kind: Any) -> list[str]:
    """The words that a type allows."""
    literal = typing.get_origin(kind) is typing.Literal
    return [str(word) for word in typing.get_args(kind)] if literal else []


def _kinds_of_fields(method: Any) -> dict[str, Any]:
    """The types of the fields by name; of settings within a field, `field.inner`."""
    hints = typing.get_type_hints(method)
    kinds: dict[str, Any] = {}
    for field in dataclasses.fields(method):
        hint = hints[field.name]
        if _is_settings(hint):
            inner = _kinds_of_fields(hint)
            kinds |= {f"{field.name}.{name}": kind for name, kind in inner.items()}
        else:
            kinds[field.name] = hint
    return kinds


def _is_settings(kind: Any) -> bool:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def _fields(method: Any) -> dict[str, Any]:
    """The defaults of the fields by name; of settings within a field, `field.inner`."""
    hints = typing.get_type_hints(method)
    defaults = {}
    for field in dataclasses.fields(method):
        value = _default_of(field)
        if _is_settings(hints[field.name]):
            for inner in dataclasses.fields(value):
                defaults[f"{field.name}.{inner.name}"] = getattr(value, inner.name)
        else:
            defaults[field.name] = _default_in_words(value)
    return defaults


def _default_of(field: Any) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _default_in_words(value: Any) -> Any:
    """A default as `--set` takes it: methods by name, with what is not their default."""
    from geofuse.spatiotemporal import ALL_METHODS

    if not isinstance(value, tuple):
        return value
    names = {kind: name for name, kind in ALL_METHODS.items()}
    words = []
    for method in value:
        settings = [
            f"{field.name}={getattr(method, field.name)}"
            for field in dataclasses.fields(method)
            if getattr(method, field.name) != field.default
        ]
        fields = f"({','.join(settings)})" if settings else ""
        words.append(names[type(method)] + fields)
    return ",".join(words)


def _first_line(method: Any) -> str:
    return str(method.__doc__).strip().splitlines()[0]
