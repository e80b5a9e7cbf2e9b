"""Many formulas over an image in one pass, without ever making code from text.

    formulas ──fuse──> program: LOAD, SUB, ADD, DIV, …, STORE
    image    ──run───> results

NumPy computes `(nir - red) / (nir + red)` as three passes over memory, and nine indices
as thirty. Here pixels are loaded once, all formulas are computed on them, and only
results go back. What formulas share (`nir - red`) is computed once.

A program is a list of whole numbers. At first a small machine runs it, block by block
of pixels that stay in cache: any formula works at once. When a program has run over so
many pixels that a second for the compiler pays, it is compiled to one loop (up to four
times as fast). Both do the same arithmetic in the same order, so that the results are
equal to the last bit.

Missing values: a result is NaN where a band that its formula names is NaN or infinite,
where anything is divided by 0, where a root or a logarithm does not exist, and where a
result is too large for its type. It is never infinite.
"""

import functools
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from geofuse.features.formulas import Name, Number, Operation, Tree

#: Pixels that the machine handles at once: its registers then lie in cache.
BLOCK = 1024

#: A program that has run over more results (pixels times formulas) than this is
#: compiled: by then the machine has worked for about as long as the compiler takes.
COMPILED_FROM = 500_000_000

# Steps of a program. The machine compares with these names, which Numba freezes.
LOAD, STORE, ADD, SUB, MUL, DIV, POW = 0, 1, 2, 3, 4, 5, 6
NEG, SQRT, EXP, LOG, LOG10, TANH, ABS, MIN, MAX = 7, 8, 9, 10, 11, 12, 13, 14, 15

_STEPS = {
    "+": ADD,
    "-": SUB,
    "*": MUL,
    "/": DIV,
    "**": POW,
    "negative": NEG,
    "sqrt": SQRT,
    "exp": EXP,
    "log": LOG,
    "log10": LOG10,
    "tanh": TANH,
    "abs": ABS,
    "min": MIN,
    "max": MAX,
}


@dataclass(frozen=True)
class Program:
    """Formulas as steps of the machine.

    Attributes:
        steps: (step, 4): what to do, into which register, from which one or two. LOAD
            takes the number of a band, STORE goes to the number of a formula.
        numbers: Values of the first registers, which never change.
        registers: How many registers the steps use.
    """

    steps: tuple[tuple[int, int, int, int], ...]
    numbers: tuple[float, ...]
    registers: int


def fuse(formulas: Sequence[Tree], bands: Mapping[str, int]) -> Program:
    """Make one program of formulas.

    Args:
        formulas: Trees whose names are all bands; constants are numbers already.
        bands: Name of a band -> its position in the image.
    """
    nodes: dict[tuple, int] = {}  # what is computed -> its number: equal parts are one
    results = [_number(_simple(formula), bands, nodes) for formula in formulas]
    order = list(nodes)
    last_use = {number: index for index, number in enumerate(range(len(order)))}
    for number, (_, *operands) in enumerate(order):
        if order[number][0] in (LOAD, "number"):
            continue
        for operand in operands:
            last_use[operand] = number
    numbers = tuple(key[1] for key in order if key[0] == "number")

    stores: dict[int, list[int]] = {}
    for position, number in enumerate(results):
        stores.setdefault(number, []).append(position)
    place: dict[int, int] = {}
    for number, key in enumerate(order):
        if key[0] == "number":
            place[number] = len(place)
    free: list[int] = []
    registers = len(numbers)
    steps: list[tuple[int, int, int, int]] = []
    for number, (kind, *operands) in enumerate(order):
        if kind != "number":
            # Taken before the operands are given back: no step reads what it writes.
            if not free:
                free.append(registers)
                registers += 1
            place[number] = free.pop()
            if kind == LOAD:
                steps.append((LOAD, place[number], operands[0], 0))
            else:
                first, second = place[operands[0]], place[operands[-1]]
                steps.append((kind, place[number], first, second))
                free += [
                    place[operand]
                    for operand in dict.fromkeys(operands)
                    if last_use[operand] == number and order[operand][0] != "number"
                ]
        steps += [(STORE, p, place[number], 0) for p in stores.get(number, ())]
        if kind != "number" and last_use[number] == number:
            free.append(place[number])
    return Program(tuple(steps), numbers, registers)


def run(program: Program, image: np.ndarray, *, dtype: type = np.float32) -> np.ndarray:
    """Compute all formulas of a program.

    Args:
        program: What `fuse` made.
        image: (band, y, x), float32 or float64, in which the arithmetic is done.
        dtype: Type of the result.

    Returns:
        (formula, y, x); NaN by the rule of this module, never infinite.
    """
    count = sum(step[0] == STORE for step in program.steps)
    out = np.empty((count, *image.shape[1:]), dtype)
    flat = np.ascontiguousarray(image).reshape(image.shape[0], -1)
    results = out.reshape(count, -1)
    numbers = np.array(program.numbers, image.dtype)
    with _LOCK:
        _HEAT[program] = _HEAT.get(program, 0) + results.size
        hot = _HEAT[program] > COMPILED_FROM
    if hot:
        compiled(program)(flat, numbers, results)
    else:
        steps = np.array(program.steps, np.int64)
        _interpret(steps, numbers, program.registers, flat, results)
    return out


def compiled(program: Program) -> Callable[[np.ndarray, np.ndarray, np.ndarray], None]:
    """The program as one compiled loop: (image, numbers, out) with pixels on one axis.

    Its source is written from the steps, which are whole numbers between known limits:
    nothing of the text of a formula gets into it.
    """
    with _LOCK:
        return _compiled(program)


_LOCK = threading.RLock()
_HEAT: dict[Program, int] = {}


@functools.lru_cache(maxsize=256)
def _compiled(program: Program) -> Callable[[np.ndarray, np.ndarray, np.ndarray], None]:
    lines = ["def loop(image, numbers, out):"]
    lines += [f"    r{k} = numbers[{k}]" for k in range(len(program.numbers))]
    for kind, d, a, _ in program.steps:
        if kind == LOAD:
            lines.append(f"    band{a} = image[{a}]")
        elif kind == STORE:
            lines.append(f"    out{d} = out[{d}]")
    lines.append("    for i in range(image.shape[1]):")
    for kind, d, a, b in program.steps:
        line = _SOURCE.get(kind, "r{d} = rare({kind}, r{a}, r{b})")
        lines.append(
            "        " + line.format(kind=int(kind), d=int(d), a=int(a), b=int(b))
        )
    namespace: dict[str, Any] = {"rare": _rare, "sqrt": math.sqrt}
    exec("\n".join(lines), namespace)
    return njit(nogil=True, error_model="numpy")(namespace["loop"])


# x + (x - x) is x where x is finite, and NaN where it is infinite.
_SOURCE = {
    LOAD: "x = band{a}[i]; r{d} = x + (x - x)",
    STORE: "out{d}[i] = r{a} + (r{a} - r{a})",
    ADD: "r{d} = r{a} + r{b}",
    SUB: "r{d} = r{a} - r{b}",
    MUL: "r{d} = r{a} * r{b}",
    DIV: "x = r{a} / r{b}; r{d} = x + (x - x)",
    NEG: "r{d} = -r{a}",
    ABS: "r{d} = abs(r{a})",
    SQRT: "r{d} = sqrt(r{a})",
}


def _number(tree: Tree, bands: Mapping[str, int], nodes: dict[tuple, int]) -> int:
    """Number of a part of a formula; parts that are equal get one number."""
    key: tuple
    if isinstance(tree, Number):
        key = ("number", tree.value)
    elif isinstance(tree, Name):
        key = (LOAD, bands[tree.name])
    else:
        operands = [_number(operand, bands, nodes) for operand in tree.operands]
        key = (_STEPS[tree.kind], *operands)
    return nodes.setdefault(key, len(nodes))


def _simple(tree: Tree) -> Tree:
    """Write small powers as products and roots, which are faster and exact."""
    if not isinstance(tree, Operation):
        return tree
    operands = tuple(_simple(operand) for operand in tree.operands)
    if tree.kind == "**" and isinstance(operands[1], Number):
        base, exponent = operands[0], operands[1].value
        square = Operation("*", (base, base))
        simpler: dict[float, Tree] = {
            0.5: Operation("sqrt", (base,)),
            1.0: base,
            2.0: square,
            3.0: Operation("*", (square, base)),
            4.0: Operation("*", (square, square)),
        }
        if exponent in simpler:
            return simpler[exponent]
    return Operation(tree.kind, operands)


@njit(cache=True, nogil=True, error_model="numpy")
def _interpret(
    steps: np.ndarray,
    numbers: np.ndarray,
    registers: int,
    image: np.ndarray,
    out: np.ndarray,
) -> None:
    """Run a program over (band, pixel) into (formula, pixel), block by block."""
    pixels = image.shape[1]
    work = np.empty((registers, BLOCK), image.dtype)
    for register in range(len(numbers)):
        work[register, :] = numbers[register]
    for start in range(0, pixels, BLOCK):
        size = min(BLOCK, pixels - start)
        for step in range(len(steps)):
            kind = steps[step, 0]
            d, a, b = steps[step, 1], steps[step, 2], steps[step, 3]
            if kind == LOAD:
                source = image[a, start : start + size]
                for i in range(size):
                    value = source[i]
                    work[d, i] = value + (value - value)
            elif kind == STORE:
                target = out[d, start : start + size]
                for i in range(size):
                    value = work[a, i]
                    target[i] = value + (value - value)
            elif kind == ADD:
                for i in range(size):
                    work[d, i] = work[a, i] + work[b, i]
            elif kind == SUB:
                for i in range(size):
                    work[d, i] = work[a, i] - work[b, i]
            elif kind == MUL:
                for i in range(size):
                    work[d, i] = work[a, i] * work[b, i]
            elif kind == DIV:
                for i in range(size):
                    value = work[a, i] / work[b, i]
                    work[d, i] = value + (value - value)
            elif kind == NEG:
                for i in range(size):
                    work[d, i] = -work[a, i]
            elif kind == ABS:
                for i in range(size):
                    work[d, i] = abs(work[a, i])
            elif kind == SQRT:
                for i in range(size):
                    work[d, i] = math.sqrt(work[a, i])
            else:
                for i in range(size):
                    work[d, i] = _rare(kind, work[a, i], work[b, i])


@njit(cache=True, nogil=True, error_model="numpy")
def _rare(kind: int, a: float, b: float) -> float:
    """Steps that are slow by themselves; NaN where the result is not a finite number.

    All branches have the type of `a`: a float64 here would make one of what follows.
    """
    if a != a:
        return a
    if b != b:
        return b
    if kind == POW:
        value = a**b
    elif kind == MIN:
        value = min(a, b)
    elif kind == MAX:
        value = max(a, b)
    elif kind == EXP:
        value = math.exp(a)
    elif kind == TANH:
        value = math.tanh(a)
    elif a <= 0:
        value = (a - a) / (a - a)
    elif kind == LOG:
        value = math.log(a)
    else:
        value = math.log10(a)
    return value + (value - value)
