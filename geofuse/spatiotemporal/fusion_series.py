"""The images of a series, checked when put together.

    fine    F1          F2       F3        some with a coarse image of their day (a pair)
    coarse  C C C C C C C C C C C C        often

All lie on one grid; dates are told apart to the day.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr

from geofuse.errors import DateMismatchError, TooFewPairsError
from geofuse.pairs import FusionInputs, Pair, agreeing, check_image, day_of


@dataclass(frozen=True, eq=False)
class FusionSeries:
    """Fine and coarse images of many dates, on one grid.

    Args:
        pairs: One or more pairs, in any order.
        coarse: Coarse images on the same grid: a stack (time, band, y, x), or images with
            a scalar `time`; in any order. May hold those of the pairs again.
        fine: More fine images, of days without a coarse image.
        scale: Coarse GSD / fine GSD; by default what `align` noted on the coarse images.
        offset: Row and column of the first corner of a coarse pixel, likewise.

    Attributes:
        pairs: By date.
        coarse: Images of the stack by date; of a pair's day, the pair's own.
        fine: All fine images by date, those of the pairs among them.
        scale: As given or found, or None.
        offset: Likewise.

    Raises:
        TooFewPairsError: There is no pair.
        DateMismatchError: The stack has no dates or none at all, or one date comes twice.
        GridMismatchError: Grids differ.
        CRSMismatchError: CRS differ.
        BandMismatchError: Bands differ.
        ParameterError: `scale` is not a whole number above 1.
    """

    pairs: tuple[Pair, ...]
    coarse: tuple[xr.DataArray, ...]
    fine: tuple[xr.DataArray, ...]
    scale: int | None
    offset: tuple[int, int]

    def __init__(
        self,
        pairs: Sequence[Pair],
        coarse: xr.DataArray | Sequence[xr.DataArray],
        fine: Sequence[xr.DataArray] = (),
        scale: int | None = None,
        offset: tuple[int, int] | None = None,
    ) -> None:
        """Check that all agree."""
        images = _by_date(_images_of(coarse), "coarse")
        if not pairs:
            raise TooFewPairsError(
                "expected at least one day with a fine and a coarse image, found none; "
                "add the coarse image of the day of a fine one"
            )
        whole = FusionInputs(pairs, images[0], scale, offset)
        first, own = whole.pairs[0], {pair.date: pair for pair in whole.pairs}
        checked = []
        for image in images:
            pair = own.get(day_of(image))
            inputs = FusionInputs([first], image, scale, offset)
            checked.append(inputs.coarse if pair is None else pair.coarse)
        more = [
            agreeing(
                check_image(image, "fine image"), first.fine, ("fine", "the pairs")
            )
            for image in fine
        ]
        every = [*(pair.fine for pair in whole.pairs), *more]
        object.__setattr__(self, "pairs", whole.pairs)
        object.__setattr__(self, "coarse", tuple(checked))
        object.__setattr__(self, "fine", tuple(_by_date(every, "fine")))
        object.__setattr__(self, "scale", whole.scale)
        object.__setattr__(self, "offset", whole.offset)

    @property
    def dates(self) -> tuple[np.datetime64, ...]:
        """Days of the coarse images of the stack, in order."""
        return tuple(map(day_of, self.coarse))

    @property
    def fine_dates(self) -> tuple[np.datetime64, ...]:
        """Days of the fine images, in order."""
        return tuple(map(day_of, self.fine))

    def every_coarse(self) -> tuple[xr.DataArray, ...]:
        """All coarse images by date: those of the stack and of pairs outside of it."""
        images = {day_of(pair.coarse): pair.coarse for pair in self.pairs}
        images.update(zip(self.dates, self.coarse, strict=True))
        return tuple(images[day] for day in sorted(images))


def _images_of(coarse: Any) -> list[xr.DataArray]:
    """The images of a stack, one a date."""
    if not isinstance(coarse, xr.DataArray):
        return list(coarse)
    if coarse.ndim == 3 and "time" in coarse.coords and not coarse["time"].ndim:
        return [coarse]
    if "time" not in coarse.dims or "time" not in coarse.coords:
        raise DateMismatchError(
            "expected coarse images with dates, dimensions (time, band, y, x) and a "
            f"coordinate 'time', found {coarse.dims} with "
            f"{sorted(map(str, coarse.coords))}; use xarray.concat(images, 'time')"
        )
    return [coarse.isel(time=number) for number in range(coarse.sizes["time"])]


def _by_date(images: Sequence[xr.DataArray], kind: str) -> list[xr.DataArray]:
    """Images in order of their days, one a day."""
    if not images:
        raise DateMismatchError(
            f"expected at least one {kind} image, found none; give one for each date"
        )
    ordered = sorted(images, key=day_of)
    for earlier, later in pairwise(map(day_of, ordered)):
        if earlier == later:
            raise DateMismatchError(
                f"expected one {kind} image a day, found two on {later}; leave one out, "
                "or merge them"
            )
    return ordered
