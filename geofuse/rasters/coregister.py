"""How far a coarse image lies off a fine one: estimated, with its uncertainty.

    fine ──mean over a coarse pixel, at every shift──> B(p + d)
    coarse ────────────────────────────────────────> C(p)        where does B fit C best?

The correlation of C with B is looked at on a lattice of shifts a quarter of a coarse
pixel apart, and between them by splines. A blur that is the same to all sides, a gain
and an offset move no maximum. Invalid pixels are left out on both sides, which filling
them would not do. (Phase correlation, the usual way, weighs all frequencies alike: on
images as smooth as coarse ones it finds the noise.) Bands are put together by their
likelihoods as lines: L(d) = -1/2 sum over bands of n log(1 - r(d)^2). When the shift is
known about, the blur that fits best (`psf`) is put into B, and the shift looked for again.

References:
    Padfield (2012), Masked object registration in the Fourier domain, IEEE TIP 21(5).
    Guizar-Sicairos et al. (2008), Efficient subpixel image registration, Opt. Lett. 33(2).
"""

import math
from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float64
from scipy.interpolate import RectBivariateSpline

from geofuse.errors import ParameterError
from geofuse.rasters.matching import (
    correlations,
    halo_of,
    likelihood,
    quadratic,
    sums_at,
)
from geofuse.rasters.patches import Overlay, Patch, overlay
from geofuse.rasters.psf import fit_blur

#: Shifts tried per coarse pixel, and places between two of them that are looked at.
STEPS = 4
_FINER = 20

#: Groups of patches that are left out in turn.
_GROUPS = 16

#: `confidence` is the probability of being nearer than this, in coarse pixels.
NEAR = 0.25


class Shift(NamedTuple):
    """How far what a coarse image shows lies off what a fine one shows.

    Attributes:
        dy: Rows of fine pixels, positive down; NaN where nothing can be told.
        dx: Columns of fine pixels, positive to the right.
        std_y: Standard error of `dy`, in fine pixels.
        std_x: Standard error of `dx`.
        scale: Fine pixels in a coarse one, on a side.
        correlation: Of the coarse image with the shifted mean of the fine one, over the
            bands.
        pixels: Coarse pixels compared.
        confidence: Probability, 0 to 1, that `dy` and `dx` are both true to a quarter of
            a coarse pixel, as the standard errors tell; 0 where the best shift is the
            largest one tried.
    """

    dy: float
    dx: float
    std_y: float
    std_x: float
    scale: int
    correlation: float
    pixels: int
    confidence: float


def estimate_shift(
    fine: xr.DataArray,
    coarse: xr.DataArray,
    *,
    scale: int | None = None,
    reach: float = 2.0,
) -> Shift:
    """Estimate how far a coarse image lies off a fine one, to parts of a pixel.

    Both should be of one day, or show the same pattern. At most 64 patches of the scene
    are read, one at a time.

    Args:
        fine: Fine image (band, y, x), NaN where invalid, lazy or not.
        coarse: Coarse image, on its own grid or on the fine one; bands by the same names.
        scale: Coarse GSD / fine GSD; by default what `align` noted, or found.
        reach: Largest shift looked for, in coarse pixels, from 1 on.

    Returns:
        The shift, with its standard error: the larger of what the curvature of the
        likelihood and what the differences between patches (jackknife) tell. To undo it:
        `shift(coarse, -found.dy, -found.dx)`.

    Raises:
        MissingScaleError: The scale is not known.
        BandMismatchError: There is no band that both have.
        GridMismatchError: The images do not meet, or hold no whole coarse pixel.
        CRSMismatchError: One image has a CRS and the other none.
        ParameterError: `reach` is less than 1.
    """
    pair = overlay(fine, coarse, scale=scale)
    lattice = shifts_to_try(pair.nesting.scale, reach)
    _, sums = scan_shifts(pair, lattice)
    return best_shift(sums, lattice, pair.nesting.scale)


def shifts_to_try(scale: int, reach: float) -> Float64[np.ndarray, " node"]:
    """Shifts to try along one axis, in fine pixels."""
    if not 1 <= reach <= 16:
        raise ParameterError(
            f"expected a reach of 1 to 16 coarse pixels, found {reach}; 2 is usual"
        )
    step = max(1, scale // STEPS)
    most = math.ceil(reach * scale / step)
    return np.arange(-most, most + 1, dtype=np.float64) * step


def scan_shifts(
    pair: Overlay, lattice: Float64[np.ndarray, " node"]
) -> tuple[list[Patch], Float64[np.ndarray, "patch band node node 6"]]:
    """Sums over each patch at each shift, one patch in memory at a time.

    First for plain means of the fine image; these find about where the coarse image lies,
    and so how it is blurred; then for means of the fine image blurred like it.
    """
    patches = pair.patches()
    steps = [int(d) for d in lattice]

    def sums_of(patch: Patch, blur: int) -> np.ndarray:
        coarse = pair.read_coarse(patch)
        fine = pair.read_fine(patch, halo_of((steps, steps), blur))
        return sums_at(coarse, fine, pair.nesting.scale, (steps, steps), blur=blur)

    sums = np.stack([sums_of(patch, 1) for patch in patches])
    found = _peak(*correlations(sums.sum(axis=0)), lattice)
    if found is None:
        return patches, sums
    place = (round(found[0][0]), round(found[0][1]))
    _, blur = fit_blur(pair, patches, place)
    if blur == 1:
        return patches, sums
    return patches, np.stack([sums_of(patch, blur) for patch in patches])


def best_shift(
    sums: Float64[np.ndarray, "patch band node node 6"],
    lattice: Float64[np.ndarray, " node"],
    scale: int,
) -> Shift:
    """The shift that fits best, from the sums over patches."""
    total = sums.sum(axis=0)
    count, r = correlations(total)
    pixels = int(count.max())
    nothing = Shift(
        math.nan, math.nan, math.inf, math.inf, scale, math.nan, pixels, 0.0
    )
    found = _peak(count, r, lattice)
    if found is None:
        return nothing
    place, variance, node = found
    if len(sums) > 1:
        variance = np.maximum(variance, _jackknife(sums, total, lattice))
    std = np.sqrt(variance)
    inside = all(0 < n < len(lattice) - 1 for n in node)
    near = [math.erf(NEAR * scale / (math.sqrt(2) * max(s, 1e-9))) for s in std]
    best = r[:, node[0], node[1]]
    weights = count[:, node[0], node[1]] * (best > 0)
    return Shift(
        dy=-float(place[0]),
        dx=-float(place[1]),
        std_y=float(std[0]),
        std_x=float(std[1]),
        scale=scale,
        correlation=float(np.average(best, weights=weights)),
        pixels=pixels,
        confidence=near[0] * near[1] if inside else 0.0,
    )


def _peak(
    count: Float64[np.ndarray, "band node node"],
    r: Float64[np.ndarray, "band node node"],
    lattice: Float64[np.ndarray, " node"],
) -> (
    tuple[Float64[np.ndarray, " 2"], Float64[np.ndarray, " 2"], tuple[int, int]] | None
):
    """Best shift of the fine image, its variance by the curvature, and the nearest node."""
    unexplained = 1.0 - r**2
    surface = likelihood(count, unexplained)
    if not surface.max() > 0:
        return None
    i, j = np.unravel_index(int(np.argmax(surface)), surface.shape)
    node = (int(i), int(j))
    spans = [slice(max(0, n - 3), min(len(lattice), n + 4)) for n in node]
    step = lattice[1] - lattice[0]
    fine = [
        np.linspace(
            max(lattice[0], lattice[n] - step),
            min(lattice[-1], lattice[n] + step),
            2 * _FINER + 1,
        )
        for n in node
    ]
    between = np.stack(
        [
            RectBivariateSpline(lattice[spans[0]], lattice[spans[1]], band)(*fine)
            for band in unexplained[:, spans[0], spans[1]]
        ]
    )
    # The number of pixels changes with the shift only where there are clouds.
    number = count[:, node[0], node[1]][:, None, None]
    values = likelihood(np.broadcast_to(number, between.shape), between)
    inner = values[1:-1, 1:-1]  # a quadratic needs its neighbors
    y, x = (int(k) + 1 for k in np.unravel_index(int(np.argmax(inner)), inner.shape))
    spacing = (fine[0][1] - fine[0][0], fine[1][1] - fine[1][0])
    gradient, hessian = quadratic(values[y - 1 : y + 2, x - 1 : x + 2], spacing)
    place = np.array([fine[0][y], fine[1][x]])
    curvature = np.linalg.eigvalsh(hessian)
    if curvature.max() >= 0:  # flat or a saddle: no maximum to tell
        return place, np.full(2, np.inf), node
    move = -np.linalg.solve(hessian, gradient)
    place = place + np.clip(move, -np.array(spacing), spacing)
    return place, np.diag(np.linalg.inv(-hessian)).copy(), node


def _jackknife(
    sums: Float64[np.ndarray, "patch band node node 6"],
    total: Float64[np.ndarray, "band node node 6"],
    lattice: Float64[np.ndarray, " node"],
) -> Float64[np.ndarray, " 2"]:
    """Variance of the shift, from leaving out one group of patches at a time."""
    starts = np.unique(np.arange(_GROUPS) * len(sums) // _GROUPS)
    places = []
    for one in np.add.reduceat(sums, starts):
        if not one[..., 0].any():
            continue  # all cloud
        found = _peak(*correlations(total - one), lattice)
        if found is None:
            return np.full(2, np.inf)
        places.append(found[0])
    if len(places) < 2:
        return np.full(2, np.inf)
    deviations = np.array(places) - np.mean(places, axis=0)
    return np.asarray((len(places) - 1) / len(places) * (deviations**2).sum(axis=0))
