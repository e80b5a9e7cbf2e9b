"""Report how far a coarse image lies off a fine one, and how that differs over the scene.

    report = misregistration(fine, coarse)
    print(report.in_words())
    plots.misregistration_map(report, fine)     arrows over the fine image

A shift that is the same everywhere is one of the georeference; one that turns or grows over
the scene is one of the model of the sensor or of the terrain, and no one shift undoes it.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float64

from geofuse.rasters.coregister import (
    NEAR,
    Shift,
    best_shift,
    scan_shifts,
    shifts_to_try,
)
from geofuse.rasters.patches import Patch, overlay

#: A patch of the map has this many coarse pixels on a side, where the scene has them.
LOCAL_CELLS = 8


class LocalShifts(NamedTuple):
    """Shifts of the patches of a scene, for a map.

    Attributes:
        y: Center row of each patch, in fine pixels.
        x: Center column of each patch.
        shifts: The shift of each; without confidence where a patch has too little.
    """

    y: Float64[np.ndarray, " patch"]
    x: Float64[np.ndarray, " patch"]
    shifts: tuple[Shift, ...]


@dataclass(frozen=True)
class Misregistration:
    """What `misregistration` found.

    Attributes:
        shift: The shift of the whole scene.
        local: The shifts of its patches.
        gsd: Fine pixel in units of the CRS.
    """

    shift: Shift
    local: LocalShifts
    gsd: float

    @property
    def coarse_pixels(self) -> float:
        """Length of the shift in coarse pixels."""
        return math.hypot(self.shift.dy, self.shift.dx) / self.shift.scale

    def in_words(self) -> str:
        """The report as a few lines."""
        shift = self.shift
        if not math.isfinite(shift.dy):
            return (
                f"shift unknown: {shift.pixels} coarse pixels can be compared, "
                "or nothing in them tells places apart"
            )
        lines = [
            f"the coarse image lies {shift.dy:+.2f} rows and {shift.dx:+.2f} columns of "
            "fine pixels off (down and right are positive)",
            f"that is {self.coarse_pixels:.3f} coarse pixels, or "
            f"{math.hypot(shift.dy, shift.dx) * self.gsd:.4g} units of the CRS",
            f"standard error {shift.std_y:.2f} and {shift.std_x:.2f}, correlation "
            f"{shift.correlation:.3f} over {shift.pixels} coarse pixels",
            f"confidence {shift.confidence:.2f}: the probability of being nearer than "
            f"{NEAR:g} coarse pixels",
        ]
        known = [s for s in self.local.shifts if s.confidence > 0.5]
        if len(known) > 1:
            spread = [np.std([s[axis] for s in known]) for axis in (0, 1)]
            lines.append(
                f"{len(known)} of {len(self.local.shifts)} patches tell their own shift; "
                f"they differ by {spread[0]:.2f} rows and {spread[1]:.2f} columns"
            )
        return "\n".join(lines)


def misregistration(
    fine: xr.DataArray,
    coarse: xr.DataArray,
    *,
    scale: int | None = None,
    reach: float = 2.0,
) -> Misregistration:
    """Report the shift of a pair, and how it differs over the scene.

    Draw it with `geofuse.plots.misregistration_map`.

    Args:
        fine: See `estimate_shift`.
        coarse: See `estimate_shift`.
        scale: See `estimate_shift`.
        reach: See `estimate_shift`.

    Raises:
        MissingScaleError: See `estimate_shift`, here and below.
        BandMismatchError: There is no band that both have.
        GridMismatchError: The images do not meet, or hold no whole coarse pixel.
        CRSMismatchError: One image has a CRS and the other none.
        ParameterError: `reach` is less than 1.
    """
    pair = overlay(fine, coarse, scale=scale)
    side = pair.nesting.scale
    lattice = shifts_to_try(side, reach)
    patches, sums = scan_shifts(pair, lattice)
    whole = best_shift(sums, lattice, side)
    patches, sums = _merged(patches, sums)
    local = LocalShifts(
        y=np.array([p.top + p.rows * side / 2 for p in patches], np.float64),
        x=np.array([p.left + p.columns * side / 2 for p in patches], np.float64),
        shifts=tuple(best_shift(one[None], lattice, side) for one in sums),
    )
    step = (
        float(np.mean(np.abs(np.diff(fine["x"].values))))
        if fine.sizes["x"] > 1
        else 1.0
    )
    return Misregistration(whole, local, step)


def _merged(
    patches: list[Patch], sums: Float64[np.ndarray, "patch band node node 6"]
) -> tuple[list[Patch], Float64[np.ndarray, "larger band node node 6"]]:
    """Neighboring patches put together until they are large enough to tell a shift."""
    tops = sorted({patch.top for patch in patches})
    lefts = sorted({patch.left for patch in patches})
    sizes = patches[0].rows, patches[0].columns
    together = [max(1, math.ceil(LOCAL_CELLS / size)) for size in sizes]
    groups: dict[tuple[int, int], list[int]] = {}
    for number, patch in enumerate(patches):
        i = min(
            tops.index(patch.top) // together[0], max(len(tops) // together[0] - 1, 0)
        )
        j = min(
            lefts.index(patch.left) // together[1],
            max(len(lefts) // together[1] - 1, 0),
        )
        groups.setdefault((i, j), []).append(number)
    larger, added = [], []
    for members in groups.values():
        first = patches[members[0]]
        rows = sum(patches[m].rows for m in members if patches[m].left == first.left)
        columns = sum(
            patches[m].columns for m in members if patches[m].top == first.top
        )
        larger.append(first._replace(rows=rows, columns=columns))
        added.append(sums[members].sum(axis=0))
    return larger, np.stack(added)
