"""Has anything that a method is scored on reached its training, or its choice?

Published tables often come from the images that the best checkpoint was chosen on. So a
comparison looks at the images themselves, not at what they are called:

    copied        a piece of a test reference is among the images learned from
    seen ground   a fine image learned from is of a test date, within the halo of the ground
                  that is scored: the same scene in other units, resampled, or a neighbor
    selection     either of the two in the validation cases, which end a training
    no hold-out   a validation reference in training: then nothing is validated
    own input     a piece of the reference is among the inputs of its own case

What a model was trained on elsewhere, before it came here, nobody can tell from images.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import dask.array as da
import xarray as xr
from odc.geo.geobox import GeoBox
from rasterio.warp import transform_bounds

from geofuse.errors import LeakError, ParameterError
from geofuse.evaluation.fingerprints import (
    LEAST,
    Fingerprint,
    fingerprint,
    runs_in_common,
)
from geofuse.pairs import FusionCase, day_of
from geofuse.rasters.grid import grid_of, same_crs

#: A message tells so many leaks, and how many more there are.
_TOLD = 5


class Leak(NamedTuple):
    """One way in which what is scored was seen before.

    Attributes:
        kind: `copied`, `seen ground`, `selection`, `no hold-out` or `own input`.
        image: Which image has seen it.
        of: Which reference it has seen.
        how: In words.
    """

    kind: str
    image: str
    of: str
    how: str


def check_leaks(
    train: Mapping[str, FusionCase],
    validation: Mapping[str, FusionCase],
    test: Mapping[str, FusionCase],
    halo: int,
    *,
    sites: Mapping[str, str] | None = None,
) -> None:
    """Refuse cases that leak; see `find_leaks`, which takes the same.

    Raises:
        LeakError: There is a leak; the message says which.
        ParameterError: The halo is negative.
    """
    leaks = find_leaks(train, validation, test, halo, sites=sites)
    if not leaks:
        return
    told = [f"{leak.kind}: {leak.image} {leak.how} {leak.of}" for leak in leaks[:_TOLD]]
    if len(leaks) > _TOLD:
        told.append(f"and {len(leaks) - _TOLD} more")
    raise LeakError(
        f"expected test references that nothing has seen, found {'; '.join(told)}; leave "
        "these cases out of what is learned from, or split by date, site or strip: "
        "geofuse.evaluation.protocols"
    )


def find_leaks(
    train: Mapping[str, FusionCase],
    validation: Mapping[str, FusionCase],
    test: Mapping[str, FusionCase],
    halo: int,
    *,
    sites: Mapping[str, str] | None = None,
) -> list[Leak]:
    """Find all leaks, by values, dates and ground.

    Args:
        train: Cases that methods learn from, by name.
        validation: Cases by which a training ends.
        test: Cases that methods are scored on.
        halo: How far methods look, in fine pixels: nothing within it of a test reference
            may be learned from on its date.
        sites: Name of a case -> name of its ground. Two cases of different sites have
            different ground, whatever their coordinates say: so for simulated scenes. By
            default coordinates alone tell.

    Raises:
        ParameterError: The halo is negative.
    """
    if halo < 0:
        raise ParameterError(f"expected a halo of at least 0 pixels, found {halo}")
    places, prints = sites or {}, _Prints()
    learned = list(_images("train", train, places))
    chosen = list(_images("validation", validation, places))
    leaks: list[Leak] = []
    for name, case in test.items():
        reference = _reference("test", name, case, places)
        own = [i for i in _images("test", {name: case}, places) if not i.reference]
        leaks += _found(own, reference, None, ("own input", "own input"), prints)
        leaks += _found(learned, reference, halo, ("copied", "seen ground"), prints)
        leaks += _found(chosen, reference, halo, ("selection", "selection"), prints)
    for name, case in validation.items():
        reference = _reference("validation", name, case, places)
        kinds = ("no hold-out", "no hold-out")
        leaks += _found(learned, reference, halo, kinds, prints)
    return leaks


@dataclass(frozen=True, eq=False)
class _Image:
    """An image of a case: what it is called, and whether it is fine and the truth."""

    title: str
    image: xr.DataArray
    site: str | None
    fine: bool
    reference: bool = False


class _Prints:
    """Fingerprints, each image read once however many cases it is in."""

    def __init__(self) -> None:
        # With the arrays: a number that names one must not come to name another.
        self._known: dict[Any, tuple[Any, Fingerprint]] = {}

    def of(self, image: xr.DataArray) -> Fingerprint:
        data = image.data
        key = data.name if isinstance(data, da.Array) else id(data)
        if key not in self._known:
            self._known[key] = data, fingerprint(image)
        return self._known[key][1]


def _images(
    part: str, cases: Mapping[str, FusionCase], sites: Mapping[str, str]
) -> Iterator[_Image]:
    """All images of cases; the reference first."""
    for name, case in cases.items():
        site = sites.get(name)
        yield _reference(part, name, case, sites)
        for pair in case.inputs.pairs:
            day = str(pair.date)
            title = f"fine image of {day} of {part} case {name!r}"
            yield _Image(title, pair.fine, site, fine=True)
            title = f"coarse image of {day} of {part} case {name!r}"
            yield _Image(title, pair.coarse, site, fine=False)
        title = f"coarse image of {case.inputs.date} of {part} case {name!r}"
        yield _Image(title, case.inputs.coarse, site, fine=False)


def _reference(
    part: str, name: str, case: FusionCase, sites: Mapping[str, str]
) -> _Image:
    title = f"reference of {part} case {name!r}"
    return _Image(title, case.reference, sites.get(name), fine=True, reference=True)


def _found(
    images: list[_Image],
    reference: _Image,
    halo: int | None,
    kinds: tuple[str, str],
    prints: _Prints,
) -> Iterator[Leak]:
    """The leaks of one reference into some images; by ground only with a halo.

    Of the kinds, the first is that of values, the second that of ground.
    """
    copied, seen = kinds
    own = prints.of(reference.image)
    for image in images:
        if runs_in_common(prints.of(image.image), own) >= LEAST:
            how = "holds pixels of the"
            yield Leak(copied, image.title, reference.title, how)
        elif (
            halo is not None
            and image.fine
            and day_of(image.image) == day_of(reference.image)
            and _may_be_one_site(image, reference)
            and near(grid_of(image.image), grid_of(reference.image), halo)
        ):
            how = f"is of the same date and within {halo} pixels of the"
            yield Leak(seen, image.title, reference.title, how)


def _may_be_one_site(first: _Image, second: _Image) -> bool:
    return None in (first.site, second.site) or first.site == second.site


def near(first: GeoBox, second: GeoBox, halo: int) -> bool:
    """Whether two grids share ground once the second is widened by a halo.

    Args:
        first: A grid.
        second: Another, of any CRS. Without a CRS, coordinates are compared where the
            first has none either.
        halo: Pixels of the second.
    """
    wide = second.pad(halo) if halo else second
    if same_crs(first, second):
        slack = 1e-6 * max(abs(second.affine.a), abs(second.affine.e))
        return _overlap(_bounds(first), _bounds(wide), slack)
    if first.crs is None or second.crs is None:
        return False
    # Seen from both: the frame around ground that lies askew is too wide from one.
    return _overlap(_bounds(first), _bounds(wide, first), 0.0) and _overlap(
        _bounds(first, second), _bounds(wide), 0.0
    )


def _bounds(grid: GeoBox, seen_from: GeoBox | None = None) -> tuple[float, ...]:
    """Left, bottom, right and top of a grid, in its own CRS or in that of another."""
    box = grid.boundingbox
    bounds = (box.left, box.bottom, box.right, box.top)
    if seen_from is None:
        return bounds
    crs = [str(one.crs.to_wkt()) for one in (grid, seen_from) if one.crs]
    found: tuple[float, ...] = transform_bounds(*crs, *bounds)
    return found


def _overlap(first: tuple[float, ...], second: tuple[float, ...], slack: float) -> bool:
    """Whether two frames share ground; rounding of coordinates is none."""
    return all(
        one[low] + slack < other[high]
        for one, other in ((first, second), (second, first))
        for low, high in ((0, 2), (1, 3))
    )
