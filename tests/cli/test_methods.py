import json
from dataclasses import dataclass
from typing import Literal

import pytest

from geofuse.cli.methods import _value, method_from
from geofuse.errors import ParameterError, UnknownNameError
from geofuse.spatiotemporal import ALL_METHODS, SERIES_METHODS
from geofuse.spatiotemporal.baselines import CoarseChange, Persistence


def test_every_method_is_listed_with_its_fields_and_defaults(geofuse_command):
    code, out, err = geofuse_command("methods")
    assert (code, err) == (0, "")
    for name in (*ALL_METHODS, *SERIES_METHODS):
        assert f"\n{name} " in f"\n{out}"
    assert "--set upsample=block    block or bicubic" in out
    assert "Needs 2 pairs." in out
    assert "For geofuse series." in out


def test_the_list_is_json_too(geofuse_command):
    code, out, _ = geofuse_command("methods", "--json")
    listed = json.loads(out)
    assert code == 0
    assert list(listed) == [*ALL_METHODS, *SERIES_METHODS]
    assert listed["coarse-change"] == {"upsample": "block"}


def test_every_method_is_made_from_its_own_defaults():
    for name, method in ALL_METHODS.items():
        assert method_from(name, []) == method()


def test_a_method_is_made_with_its_fields():
    assert method_from("persistence", []) == Persistence()
    made = method_from("coarse-change", ["upsample=bicubic"])
    assert made == CoarseChange(upsample="bicubic")


@pytest.mark.parametrize(
    ("name", "settings", "error", "words"),
    [
        ("persistance", [], UnknownNameError, "did you mean 'persistence'"),
        (
            "coarse-change",
            ["upsampel=block"],
            UnknownNameError,
            "did you mean 'upsample'",
        ),
        (
            "coarse-change",
            ["upsample=cubic"],
            ParameterError,
            "block or bicubic .*did you mean 'bicubic'",
        ),
        ("coarse-change", ["upsample"], ParameterError, "--set field=value"),
        ("persistence", ["radius=3"], UnknownNameError, "a field of persistence"),
    ],
)
def test_what_makes_no_method_is_refused(name, settings, error, words):
    with pytest.raises(error, match=words):
        method_from(name, settings)


@dataclass(frozen=True)
class Fields:
    kind: Literal["a", "b"] = "a"


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("3", int, 3),
        ("1e-3", float, 1e-3),
        ("3", float, 3.0),
        ("none", int | None, None),
        ("", float | None, None),
        ("4", int | None, 4),
        ("2.5", int | float, 2.5),
        ("True", bool, True),
        ("false", bool, False),
        ("word", str, "word"),
        ("b", Literal["a", "b"], "b"),
    ],
)
def test_text_becomes_the_declared_type(text, kind, value):
    found = _value(text, kind, "field")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "kind"), [("many", int), ("1.5", int), ("yes", bool), ("x", float | None)]
)
def test_text_of_another_type_is_refused(text, kind):
    with pytest.raises(ParameterError, match=r"expected .* for field, found"):
        _value(text, kind, "field")
