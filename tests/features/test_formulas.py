"""Formulas are read without trusting them: arithmetic passes, nothing else does."""

import numpy as np
import pytest

from geofuse.errors import ParameterError
from geofuse.features import fused
from geofuse.features.formulas import (
    Name,
    Number,
    Operation,
    names_in,
    parse,
    substitute,
)

ATTACKS = [
    "__import__('os').system('true')",
    "open('/etc/passwd').read()",
    "eval('1')",
    "exec(nir)",
    "compile(nir)",
    "getattr(nir, red)",
    "nir.__class__",
    "().__class__.__bases__",
    "nir[0]",
    "[nir, red]",
    "{nir: red}",
    "{nir}",
    "(nir, red)",
    "nir,",
    "lambda: nir",
    "(lambda x: x)(nir)",
    "[x for x in nir]",
    "max(x for x in nir)",
    "(yield nir)",
    "await nir",
    "(nir := red)",
    "nir = red",
    "nir == red",
    "nir < red",
    "nir if red else blue",
    "nir and red",
    "not nir",
    "nir in red",
    "nir is red",
    "~nir",
    "nir @ red",
    "nir // red",
    "nir % red",
    "nir << 2",
    "nir | red",
    "nir & red",
    "nir ^ red",
    "max(*nir)",
    "max(nir, red, key=abs)",
    "sqrt(x=nir)",
    "sqrt()",
    "sqrt(nir, red)",
    "print(nir)",
    "breakpoint()",
    "f'{nir}'",
    "'nir'",
    "b'nir'",
    "None",
    "True",
    "...",
    "1j",
    "nir; red",
    "nir\\\nred",
    "nir # red",
    "import os",
    "nir\x00",
    "\uff4e\uff49\uff52",
    "nïr",
    "",
    "   ",
    "(",
    ")",
    "nir +",
    "1nir",
    "1if nir else 2",
    "9**9**9**9",
    "9.0**9**9",
    "1e999",
    "9" * 400,
    "1 / 0",
    "0 ** -1",
    "(-8) ** (1 / 3)",
    "sqrt(-1)",
    "log(0)",
    "exp(1000)",
    "(" * 300 + "nir" + ")" * 300,
    "-" * 900 + "nir",
    "nir" + "+nir" * 200,
    "nir + " * 300 + "nir",
]


@pytest.mark.parametrize("text", ATTACKS)
def test_anything_but_arithmetic_is_refused(text):
    with pytest.raises(ParameterError, match=r"expected .*found .*; "):
        parse(text)


def test_a_name_reaches_nothing():
    # It must be a band or a constant, and is looked up nowhere else.
    assert parse("__import__") == Name("__import__")
    assert parse("sqrt") == Name("sqrt")


@pytest.mark.parametrize("text", [None, 1, b"nir", ["nir"], object()])
def test_only_text_is_read(text):
    with pytest.raises(ParameterError, match="as text"):
        parse(text)


def test_a_formula_becomes_a_tree():
    assert parse("nir - 2 * L") == Operation(
        "-", (Name("nir"), Operation("*", (Number(2.0), Name("L"))))
    )
    assert parse("+nir") == Name("nir")
    assert parse("-2 ** 2") == Number(-4.0)
    assert parse("1 / 3\n + 0") == Number(1 / 3)
    assert names_in(parse("max(nir, red) / nir")) == ["nir", "red"]
    assert substitute(parse("L * nir"), {"L": Number(2.0)}) == parse("2 * nir")


def computed(text, *, dtype=np.float64, **bands):
    image = np.array([np.atleast_2d(v) for v in bands.values()], dtype)
    order = {name: position for position, name in enumerate(bands)}
    return fused.run(fused.fuse([parse(text)], order), image, dtype=dtype)[0]


SOME = np.random.default_rng(0).uniform(0.1, 0.9, (2, 5, 700))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a - b - a / b / a", lambda a, b: a - b - a / b / a),
        ("a - (b - a)", lambda a, b: a - (b - a)),
        ("-a ** 2", lambda a, b: -(a**2)),
        ("a ** -b", lambda a, b: a**-b),
        ("2 ** a ** b", lambda a, b: 2 ** (a**b)),
        ("a ** 3 + a ** 4 + a ** 1", lambda a, b: a**3 + a**4 + a),
        ("a ** 0.5 + b ** (1/3)", lambda a, b: np.sqrt(a) + np.cbrt(b)),
        ("sqrt(a) * exp(b)", lambda a, b: np.sqrt(a) * np.exp(b)),
        ("log(a) - log10(b)", lambda a, b: np.log(a) - np.log10(b)),
        ("tanh(a) + abs(b - a)", lambda a, b: np.tanh(a) + abs(b - a)),
        ("min(a, b) / max(a, 0.5)", lambda a, b: np.minimum(a, b) / np.maximum(a, 0.5)),
        ("b", lambda a, b: b),
    ],
)
def test_arithmetic_is_that_of_numpy(text, expected):
    a, b = SOME
    np.testing.assert_allclose(
        computed(text, a=a, b=b), expected(a, b), rtol=1e-14, atol=1e-15
    )


@pytest.mark.parametrize(
    ("text", "a"),
    [
        ("1 / a", 0.0),
        ("1 / a", -0.0),
        ("a / a", 0.0),
        ("1 / (1 / a)", 0.0),  # a denominator of 0 inside, a finite number outside
        ("exp(-1 / a ** 2)", 0.0),
        ("a ** -1", 0.0),
        ("1 / a ** -2", 0.0),
        ("sqrt(a)", -1.0),
        ("a ** 0.3", -1.0),
        ("log(a)", 0.0),
        ("exp(log10(a))", 0.0),
        ("exp(a)", 1e5),
        ("a ** 0", np.nan),
        ("1 ** a", np.nan),
        ("min(a, 1)", np.nan),
        ("max(1, a)", np.nan),
        ("1 / a", np.inf),
        ("tanh(a)", np.inf),
        ("a", -np.inf),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_not_defined_is_nan(text, a, dtype):
    assert np.isnan(computed(text, a=a, dtype=dtype)).all()


def test_an_invalid_band_spoils_only_what_names_it():
    image = np.array([[[1.0, np.nan, np.inf]], [[2.0, 2.0, 2.0]]], np.float32)
    program = fused.fuse([parse("a + b"), parse("2 * b")], {"a": 0, "b": 1})
    one, other = fused.run(program, image)
    np.testing.assert_array_equal(one, [[3, np.nan, np.nan]])
    np.testing.assert_array_equal(other, [[4, 4, 4]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_compiled_and_interpreted_are_equal_to_the_last_bit(monkeypatch, dtype):
    texts = [
        "(a - b) / (a + b)",
        "sqrt(a) * exp(b) - tanh(a) + abs(b - 1)",
        "a ** b + b ** (1/3) - log(a - 0.2) + log10(b)",
        "min(a, b) / max(a, 0.5) - -b / 3",
    ]
    image = np.concatenate([SOME, np.zeros((1, 5, 700))]).astype(dtype)
    image[:, 0, :3] = [[np.nan, 0, np.inf]] * 3
    program = fused.fuse([parse(text) for text in texts], {"a": 0, "b": 1})
    slow = fused.run(program, image)
    monkeypatch.setattr(fused, "COMPILED_FROM", 0)
    fast = fused.run(program, image)
    np.testing.assert_array_equal(slow, fast)
    assert np.isfinite(slow).any(axis=(1, 2)).all()


def test_what_formulas_share_is_computed_once():
    texts = ["(a - b) / (a + b)", "(a - b) * 2", "(a - b) / (a + b)"]
    program = fused.fuse([parse(text) for text in texts], {"a": 0, "b": 1})
    kinds = [step[0] for step in program.steps]
    assert kinds.count(fused.SUB) == kinds.count(fused.DIV) == 1
    assert kinds.count(fused.STORE) == 3
