"""Formulas as text, read without trusting it: text -> checked tree of operations.

    "(nir - red) / (nir + red)"   ──parse──>   Operation("/", (…, …))

A formula may come from a user, a file or another package, so it is never evaluated as
Python. The text is parsed into a syntax tree, every node of the tree is looked up in
the short list below, and anything else is refused. What is left can only do arithmetic:
`geofuse.features.fused` runs it over an image.

Allowed are numbers, names, `+ - * / **`, parentheses and the functions of `FUNCTIONS`.
"""

import ast
import math
import operator
import re
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

from geofuse.errors import ParameterError, did_you_mean

#: Functions of a formula, and how many arguments each takes.
FUNCTIONS = {
    "sqrt": 1,
    "exp": 1,
    "log": 1,
    "log10": 1,
    "tanh": 1,
    "abs": 1,
    "min": 2,
    "max": 2,
}

#: Longest formula in characters; the longest of the spyndex catalogue has about 200.
LONGEST = 1000
#: Deepest nesting of operations.
DEEPEST = 60

_CHARACTERS = re.compile(r"[A-Za-z0-9_.,+\-*/()\s]*", re.ASCII)
_OPERATORS: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.Pow: "**",
}
_ARITHMETIC: dict[str, Callable[..., float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": operator.pow,
    "negative": operator.neg,
    "sqrt": math.sqrt,
    "exp": math.exp,
    "log": math.log,
    "log10": math.log10,
    "tanh": math.tanh,
    "abs": abs,
    "min": min,
    "max": max,
}


class Number(NamedTuple):
    """A number of a formula."""

    value: float


class Name(NamedTuple):
    """A band or a constant of a formula."""

    name: str


class Operation(NamedTuple):
    """An operator or a function and what it is applied to.

    Attributes:
        kind: One of `+ - * / **`, 'negative', or a name of `FUNCTIONS`.
        operands: One or two trees.
    """

    kind: str
    operands: tuple["Tree", ...]


Tree = Number | Name | Operation


def parse(text: str) -> Tree:
    """Read a formula.

    Parts without names are computed at once: `1/3` is a number.

    Args:
        text: Numbers, names, `+ - * / **`, parentheses, and the functions sqrt, exp,
            log, log10, tanh, abs, min and max.

    Raises:
        ParameterError: The text holds anything else, is no formula, is too long or too
            deeply nested, or divides numbers by 0.

    >>> parse("nir / (1 + 2)")
    Operation(kind='/', operands=(Name(name='nir'), Number(value=3.0)))
    >>> parse("open('file')")
    Traceback (most recent call last):
    geofuse.errors.ParameterError: expected numbers, names, + - * / ** and parentheses \
in a formula, found "'" in "open('file')"; write it like '(nir - red) / (nir + red)'
    """
    if not isinstance(text, str):
        raise ParameterError(
            f"expected a formula as text, found {type(text).__name__}; {_EXAMPLE}"
        )
    if len(text) > LONGEST:
        raise ParameterError(
            f"expected a formula of at most {LONGEST} characters, found {len(text)}; "
            "split it into several"
        )
    allowed = _CHARACTERS.match(text)
    if allowed is None or allowed.end() < len(text):
        strange = text[allowed.end() if allowed else 0]
        raise _refusal(repr(strange), text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the style of what is refused anyway
            root = ast.parse(" ".join(text.split()), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _refusal("something else", text) from None
    return _tree(root, text, DEEPEST)


def names_in(tree: Tree) -> list[str]:
    """Names of bands and constants in a formula, each once, in order of appearance.

    >>> names_in(parse("(nir - L * red) / nir"))
    ['nir', 'L', 'red']
    """
    return list(dict.fromkeys(_names(tree)))


def substitute(tree: Tree, values: dict[str, Tree]) -> Tree:
    """Put other trees in the place of names; names without a value stay."""
    if isinstance(tree, Name):
        return values.get(tree.name, tree)
    if isinstance(tree, Operation):
        operands = tuple(substitute(operand, values) for operand in tree.operands)
        return Operation(tree.kind, operands)
    return tree


_EXAMPLE = "write it like '(nir - red) / (nir + red)'"


def _names(tree: Tree) -> Iterator[str]:
    if isinstance(tree, Name):
        yield tree.name
    elif isinstance(tree, Operation):
        for operand in tree.operands:
            yield from _names(operand)


def _tree(node: ast.expr, text: str, depth: int) -> Tree:
    """Turn a syntax node into a tree, if it is one of those that are allowed."""
    if depth == 0:
        raise ParameterError(
            f"expected a formula nested at most {DEEPEST} deep, found {_short(text)} "
            "nested deeper; split it into several"
        )
    match node:
        case ast.Constant(value=int(v) | float(v)) if not isinstance(v, bool):
            return _finite(lambda: float(v), text)
        case ast.Name(id=name):
            return Name(name)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _tree(operand, text, depth - 1)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _operation("negative", [operand], text, depth)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _operation(_OPERATORS[type(op)], [left, right], text, depth)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            if name not in FUNCTIONS:
                raise ParameterError(
                    f"expected a function of formulas, found {name!r} in "
                    f"{_short(text)}; {did_you_mean(name, FUNCTIONS)}"
                )
            if len(arguments) != FUNCTIONS[name]:
                raise ParameterError(
                    f"expected {FUNCTIONS[name]} argument(s) of {name}, found "
                    f"{len(arguments)} in {_short(text)}; separate them by commas"
                )
            return _operation(name, arguments, text, depth)
    raise _refusal(type(node).__name__, text)


def _operation(kind: str, nodes: list[ast.expr], text: str, depth: int) -> Tree:
    operands = tuple(_tree(node, text, depth - 1) for node in nodes)
    numbers = [o.value for o in operands if isinstance(o, Number)]
    if len(numbers) == len(operands):
        return _finite(lambda: _ARITHMETIC[kind](*numbers), text)
    return Operation(kind, operands)


def _finite(compute: Callable[[], float], text: str) -> Number:
    """Compute a number of a formula; refuse what is no finite real number."""
    try:
        value = compute()
    except (ArithmeticError, ValueError):
        value = math.nan
    if isinstance(value, complex) or not math.isfinite(value):
        raise ParameterError(
            f"expected finite numbers in a formula, found {_short(text)}, which "
            "divides by 0 or leaves the range of floats; mend the numbers"
        )
    return Number(value)


def _refusal(found: str, text: str) -> ParameterError:
    return ParameterError(
        "expected numbers, names, + - * / ** and parentheses in a formula, found "
        f"{found} in {_short(text)}; {_EXAMPLE}"
    )


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
