"""List the fusion methods there are, with their fields and defaults."""

import argparse
import dataclasses
import json
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
    from geofuse.spatiotemporal import METHODS, SERIES_METHODS
    from geofuse.spatiotemporal.series_method import SeriesMethod

    every: dict[str, Any] = {**METHODS, **SERIES_METHODS}
    if options.json:
        print(json.dumps({name: _fields(method) for name, method in every.items()}))
        return 0
    for name, method in every.items():
        needs = ""
        if issubclass(method, SeriesMethod):
            needs = " For geofuse series."
        elif method.pairs_needed > 1:
            needs = f" Needs {method.pairs_needed} pairs."
        print(f"{name:<16} {_first_line(method)}{needs}")
        for field, default in _fields(method).items():
            kind = typing.get_type_hints(method)[field]
            print(f"{'':<16}   --set {field}={default}    {_kind(kind)}")
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
    from geofuse.errors import ParameterError, UnknownNameError, did_you_mean
    from geofuse.spatiotemporal import METHODS

    methods = METHODS if methods is None else methods
    if name not in methods:
        raise UnknownNameError(
            f"expected a method, found {name!r}; {did_you_mean(name, methods)}"
        )
    method = methods[name]
    known = _fields(method)
    kinds = typing.get_type_hints(method)
    values = {}
    for setting in settings:
        field, equals, text = setting.partition("=")
        if not equals:
            raise ParameterError(
                f"expected --set field=value, found {setting!r}; for example --set "
                "radius=15"
            )
        if field not in known:
            raise UnknownNameError(
                f"expected a field of {name}, found {field!r}; "
                f"{did_you_mean(field, known)}"
            )
        values[field] = _value(text.strip(), kinds[field], field)
    return method(**values)


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

    if typing.get_origin(kind) is tuple:
        return methods_from(text)

    if typing.get_origin(kind) is typing.Literal:
        words = typing.get_args(kind)
        if text not in words:
            raise ParameterError(
                f"expected {_kind(kind)} for {field}, found {text!r}; "
                f"{did_you_mean(text, words)}"
            )
        return text
    kinds = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
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
    """A type in words."""
    if typing.get_origin(kind) is tuple:
        return "methods, with their fields in brackets"
    if typing.get_origin(kind) is typing.Literal:
        return " or ".join(typing.get_args(kind))
    words = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text",
    }
    kinds = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    return " or ".join(words.get(k, "none") for k in kinds)


def _fields(method: Any) -> dict[str, Any]:
    return {
        field.name: _default_in_words(field.default)
        for field in dataclasses.fields(method)
    }


def _default_in_words(value: Any) -> Any:
    """A default as `--set` takes it: methods by name, with what is not their default."""
    from geofuse.spatiotemporal import METHODS

    if not isinstance(value, tuple):
        return value
    names = {kind: name for name, kind in METHODS.items()}
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
