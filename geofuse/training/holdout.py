"""Set cases aside that training does not see, to know when to stop.

Of several prediction dates the last ones: the question is always that of another date. Of
one date a strip of the scene, beyond a guard that nothing is learned from:

    ┌─────────────┬──┬─────┐
    │ learned     │  │ held│
    │ from        │  │ out │
    └─────────────┴──┴─────┘
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from geofuse.errors import ParameterError
from geofuse.pairs import FusionCase, FusionInputs, Pair
from geofuse.training.watching import watched

#: Share of the dates, or of the scene, that is held out.
_SHARE = 0.2
#: Width of the guard in coarse pixels, or in tens of fine ones where there are none; and
#: the least that must be left on each side of it, likewise.
_GUARD, _LEAST = 2, 2


class HeldOut(NamedTuple):
    """Cases to learn from, and others to see how well that went.

    Attributes:
        learning: Cases to learn from; never empty.
        validation: Cases of other dates, or of other places.
    """

    learning: list[FusionCase]
    validation: list[FusionCase]


def held_out(cases: Sequence[FusionCase]) -> HeldOut:
    """Set the last dates aside, or a strip of each scene where there is one date.

    Cases of the dates set aside are left out of the learning altogether, also where such a
    date is only a base date. Where `watching` tells of cases that are held out already, it
    is those.

    Args:
        cases: One case or more.

    Raises:
        ParameterError: There is no case, or a scene is too small for a strip.
    """
    if not cases:
        raise ParameterError(
            "expected at least one case, found none; give a list of them"
        )
    given = list(watched().validation)
    if given:
        return HeldOut(list(cases), given)
    dates = sorted({case.inputs.date for case in cases})
    for count in range(max(round(_SHARE * len(dates)), 1), 0, -1):
        last = set(dates[-count:])
        learning = [case for case in cases if not last & _dates_of(case)]
        validation = [case for case in cases if case.inputs.date in last]
        if learning and len(dates) > 1:
            return HeldOut(learning, validation)
    strips = [_strips(case) for case in cases]
    return HeldOut([a for a, _ in strips], [b for _, b in strips])


def part_of(case: FusionCase, y: slice, x: slice) -> FusionCase:
    """A part of a case, with the coarse grid where it was.

    Args:
        case: The case.
        y: Rows, from a start that is told.
        x: Columns, likewise.
    """

    def part(image: xr.DataArray) -> xr.DataArray:
        return image.isel(y=y, x=x)

    inputs = case.inputs
    offset = None
    if inputs.scale is not None:
        starts = zip(inputs.offset, (y.start or 0, x.start or 0), strict=True)
        first = [(offset - start) % inputs.scale for offset, start in starts]
        offset = (first[0], first[1])
    pairs = [Pair(part(pair.fine), part(pair.coarse)) for pair in inputs.pairs]
    classes = None if inputs.classes is None else part(inputs.classes)
    cut = FusionInputs(pairs, part(inputs.coarse), inputs.scale, offset, classes)
    return FusionCase(cut, part(case.reference))


def _dates_of(case: FusionCase) -> set[np.datetime64]:
    return {case.inputs.date, *(pair.date for pair in case.inputs.pairs)}


def _strips(case: FusionCase) -> tuple[FusionCase, FusionCase]:
    """The two parts of a scene along its longer side, cut at corners of coarse pixels."""
    scale = case.inputs.scale
    step = scale or 10
    rows, columns = case.reference.shape[1:]
    along = int(columns > rows)
    size, first = (rows, columns)[along], case.inputs.offset[along] if scale else 0
    cells = (size - first) // step
    held = max(round(_SHARE * cells), _LEAST)
    kept = cells - held - _GUARD
    if kept < _LEAST:
        raise ParameterError(
            f"expected a scene from which a strip can be held out, at least "
            f"{2 * _LEAST + _GUARD} coarse pixels long, found {rows} x {columns} pixels at "
            f"scale {scale}; give a larger scene or cases of several dates"
        )
    whole = slice(0, None)
    near = slice(0, first + kept * step)
    far = slice(first + (kept + _GUARD) * step, None)
    parts = [(cut, whole) if along == 0 else (whole, cut) for cut in (near, far)]
    return part_of(case, *parts[0]), part_of(case, *parts[1])
