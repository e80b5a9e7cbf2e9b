"""Which images of two archives make the pairs for a prediction date, and which do not.

    fine    F     F         F      each fine image needs a coarse one of its day; the
    coarse  C  C  C  *  C   C      nearest in time to *, the prediction date, come first

What is left out is told with its reason, in a table: nothing disappears.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from dask.base import compute
from dask.delayed import delayed

from geofuse.errors import DateMismatchError, GeofuseError, ParameterError
from geofuse.pairs import FusionInputs, Pair, day_of
from geofuse.rasters.acquired import parse_date
from geofuse.rasters.harmonize import adjust_line, fit_line
from geofuse.tiling import reduce_tiles

_DAY = np.timedelta64(1, "D")


class Pairing(NamedTuple):
    """The pairs for a prediction date.

    Attributes:
        pairs: Usable pairs, the best first.
        coarse: Coarse image of the prediction date.
        table: One row a fine image: `date`, `coarse_date`, `lag` in days (prediction date
            minus base date), `valid` (share of pixels valid in both), `rank` from 1, and
            `dropped`, the reason why it is not used, or empty.
    """

    pairs: tuple[Pair, ...]
    coarse: xr.DataArray
    table: pd.DataFrame


def find_pairs(
    fine: xr.DataArray | Sequence[xr.DataArray],
    coarse: xr.DataArray | Sequence[xr.DataArray],
    at: Any,
    *,
    max_lag: float = 90,
    tolerance: int = 0,
    least_valid: float = 0.1,
) -> Pairing:
    """Find the usable pairs for a prediction date, ranked by lag and valid share.

    The images are scanned once, for the share of valid pixels; no pixel is kept.

    Args:
        fine: Fine images (band, y, x) with a scalar `time`, or one (time, band, y, x).
        coarse: Coarse images on the same grid, likewise.
        at: Prediction date; a coarse image must be of it.
        max_lag: Days that a base date may lie from the prediction date.
        tolerance: Days that the coarse image may lie from the fine one of its pair.
        least_valid: Share of pixels that must be valid in both images, 0 to 1.

    Returns:
        The pairs, those of least lag first, of equal lag those of more valid pixels;
        the coarse image of the prediction date; and the table.

    Raises:
        DateMismatchError: There is no coarse image of the prediction date, or there are
            two of one day, or an image has no date.
        ParameterError: A value is out of range.
    """
    if max_lag < 0 or tolerance < 0 or not 0 <= least_valid <= 1:
        raise ParameterError(
            "expected max_lag and tolerance in days, not negative, and least_valid from 0 "
            f"to 1, found {max_lag}, {tolerance} and {least_valid}"
        )
    day = parse_date(at).astype("datetime64[D]")
    coarse_images = _by_day(coarse)
    coarse_by_day = {day_of(image): image for image in coarse_images}
    if len(coarse_by_day) < len(coarse_images):
        raise DateMismatchError(
            f"expected one coarse image a day, found {len(coarse_images)} of "
            f"{len(coarse_by_day)} days; mosaic those of one day first"
        )
    if day not in coarse_by_day:
        known = ", ".join(map(str, sorted(coarse_by_day)))
        raise DateMismatchError(
            f"expected a coarse image of the prediction date {day}, found those of "
            f"{known or 'no day'}; choose one of these days"
        )
    rows: list[dict[str, Any]] = []
    candidates: list[Pair | None] = []
    for image in _by_day(fine):
        base = day_of(image)
        row: dict[str, Any] = {"date": base, "coarse_date": np.datetime64("NaT", "D")}
        row |= {"lag": float((day - base) / _DAY), "valid": np.nan, "rank": 0}
        partner = _nearest(coarse_by_day, base, tolerance)
        pair = None
        row["dropped"] = _reason(base, day, partner, max_lag, tolerance)
        if partner is not None:
            row["coarse_date"] = partner
        if not row["dropped"] and partner is not None:
            try:
                moved = coarse_by_day[partner].assign_coords(time=image["time"].values)
                pair = Pair(image, moved)
                FusionInputs([pair], coarse_by_day[day])
            except GeofuseError as error:
                pair, row["dropped"] = None, str(error)
        rows.append(row)
        candidates.append(pair)
    found = [number for number, pair in enumerate(candidates) if pair is not None]
    shares = compute(*(_valid_share(candidates[number]) for number in found))
    for number, share in zip(found, shares, strict=True):
        rows[number]["valid"] = share
        if share < least_valid:
            rows[number]["dropped"] = (
                f"{share:.0%} of the pixels are valid in both images, less than "
                f"least_valid={least_valid:g}"
            )
    ranked: dict[np.datetime64, int] = {}
    used = [number for number in found if not rows[number]["dropped"]]
    used.sort(key=lambda n: (abs(rows[n]["lag"]), -rows[n]["valid"], rows[n]["date"]))
    for number in used:
        if rows[number]["date"] in ranked:
            rows[number]["dropped"] = "another pair of that day has more valid pixels"
        else:
            ranked[rows[number]["date"]] = number
    for rank, number in enumerate(ranked.values(), start=1):
        rows[number]["rank"] = rank
    columns = ["date", "coarse_date", "lag", "valid", "rank", "dropped"]
    table = pd.DataFrame(rows, columns=columns)
    pairs = [pair for n in ranked.values() if (pair := candidates[n]) is not None]
    return Pairing(tuple(pairs), coarse_by_day[day], table)


def harmonized(inputs: FusionInputs) -> FusionInputs:
    """Inputs whose coarse images are put on a line to the fine ones, lazily.

    One line a band, fitted robustly on all pairs together (see `fit_line`), is applied to
    every coarse image, that of the prediction date too: a line of its own for each date
    would be taken for change. It pays where bands or units differ; where the coarse
    image is merely blurred, the slope is above 1 and magnifies noise with the change.

    Args:
        inputs: Pairs and the coarse image of the prediction date.

    Returns:
        The same with adjusted coarse images. Computing them scans the pairs once more.

    Raises:
        ParameterError: When computed: too few blocks of pixels are valid to fit a line.
    """
    fine = [pair.fine for pair in inputs.pairs]
    coarse = [
        pair.coarse.assign_attrs(scale=inputs.scale, coarse_offset=inputs.offset)
        for pair in inputs.pairs
    ]
    line = fit_line(coarse, fine)
    note = "the pairs of " + ", ".join(str(pair.date) for pair in inputs.pairs)
    pairs = [Pair(p.fine, adjust_line(p.coarse, line, note)) for p in inputs.pairs]
    adjusted = adjust_line(inputs.coarse, line, note)
    return FusionInputs(pairs, adjusted, inputs.scale, inputs.offset, inputs.classes)


def _by_day(images: xr.DataArray | Iterable[xr.DataArray]) -> list[xr.DataArray]:
    """Images of a stack, the earliest first."""
    if isinstance(images, xr.DataArray):
        if "time" not in images.dims:
            images = [images]
        else:
            images = [
                images.isel(time=number) for number in range(images.sizes["time"])
            ]
    return sorted(images, key=day_of)


def _nearest(
    days: Iterable[np.datetime64], base: np.datetime64, tolerance: int
) -> np.datetime64 | None:
    """The day nearest to a base date, the earlier of two, if within the tolerance."""
    near = sorted(days, key=lambda day: (abs(day - base), day))
    return near[0] if near and abs(near[0] - base) <= tolerance * _DAY else None


def _reason(
    base: np.datetime64,
    day: np.datetime64,
    partner: np.datetime64 | None,
    max_lag: float,
    tolerance: int,
) -> str:
    """Why a fine image makes no pair, as far as days tell; empty where it does."""
    if base == day:
        return "it is of the prediction date itself"
    if abs(day - base) / _DAY > max_lag:
        return f"its lag is more than max_lag={max_lag:g} days"
    if partner is None:
        return f"there is no coarse image within tolerance={tolerance} days"
    return ""


def _valid_share(pair: Pair | None) -> Any:
    """Share of the pixels that are valid in all bands of both images, lazily."""
    if pair is None:
        return None
    rasters = {"fine": pair.fine, "coarse": pair.coarse}
    size = float(np.prod(pair.fine.shape[-2:]))
    counted = reduce_tiles(_count_valid, rasters, sum)
    return delayed(lambda count: float(count) / size)(counted)


def _count_valid(arrays: dict[str, np.ndarray], shared: None) -> int:
    valid = [np.isfinite(image).all(axis=0) for image in arrays.values()]
    return int(np.count_nonzero(np.logical_and.reduce(valid)))
