"""How wide a coarse sensor sees: the Gaussian that makes the fine image most like its own.

    coarse(p) = gain * mean over the coarse pixel p of (fine blurred by a Gaussian) + offset

The width is that of the blur beyond the plain mean over a coarse pixel, as in
`simulate_case(psf=…)`: 0 is the plain mean; 0.4 to 0.6 coarse pixels is usual for MODIS.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float64
from scipy.interpolate import make_interp_spline

from geofuse.errors import ParameterError
from geofuse.rasters.matching import correlations, likelihood, sums_of
from geofuse.rasters.patches import (
    Overlay,
    Patch,
    blur_sigma,
    lattice_means,
    overlay,
)

#: Widest Gaussian looked for, and widths tried, in coarse pixels.
WIDEST = 1.5
_WIDTHS = 12

#: Patches that the width is estimated from.
_PATCHES = 16


class PSF(NamedTuple):
    """The point spread of a coarse sensor beyond its own pixel, as a Gaussian.

    Attributes:
        sigma: Standard deviation, in coarse pixels; 0 for the plain mean over a pixel,
            NaN where nothing can be told.
        std: Standard error of `sigma`, from leaving out one patch at a time; infinite
            where there is only one.
        correlation: Of the coarse image with the blurred mean of the fine one.
        pixels: Coarse pixels compared.
    """

    sigma: float
    std: float
    correlation: float
    pixels: int

    @property
    def fwhm(self) -> float:
        """Full width at half maximum, in coarse pixels."""
        return 2.0 * math.sqrt(2.0 * math.log(2.0)) * self.sigma


def estimate_psf(
    fine: xr.DataArray,
    coarse: xr.DataArray,
    *,
    scale: int | None = None,
    shift: tuple[float, float] = (0.0, 0.0),
) -> PSF:
    """Estimate the width of a coarse sensor's point spread.

    Both images should be of one day. At most 16 patches of the scene are read.

    Args:
        fine: Fine image (band, y, x), NaN where invalid, lazy or not.
        coarse: Coarse image, on its own grid or on the fine one; bands by the same names.
        scale: Coarse GSD / fine GSD; by default what `align` noted, or found.
        shift: How far the coarse image lies off: `dy` and `dx` of `estimate_shift`, in
            fine pixels. A shift that is left out looks like a wider point spread.

    Raises:
        MissingScaleError: The scale is not known.
        BandMismatchError: There is no band that both have.
        GridMismatchError: The images do not meet, or hold no whole coarse pixel.
        CRSMismatchError: One image has a CRS and the other none.
        ParameterError: `shift` is not finite.
    """
    if not all(map(math.isfinite, shift)):
        raise ParameterError(
            f"expected a finite shift in fine pixels, found {shift}; (0, 0) where it is "
            "not known"
        )
    pair = overlay(fine, coarse, scale=scale)
    place = (-round(shift[0]), -round(shift[1]))
    return fit_blur(pair, pair.patches(), place)[0]


def fit_blur(
    pair: Overlay, patches: Sequence[Patch], place: tuple[int, int]
) -> tuple[PSF, int]:
    """Find the blur of the fine image that fits best.

    Args:
        pair: The two images.
        patches: Where to look; a part of them is taken.
        place: Rows and columns of fine pixels by which to move the fine image's squares.

    Returns:
        The width, and the `blur` of `sliding_means` that comes nearest to it.
    """
    scale = pair.nesting.scale
    blurs = _blurs(scale)
    chosen = patches[:: math.ceil(len(patches) / _PATCHES)]
    sums = np.stack([_sums(pair, patch, place, blurs) for patch in chosen])
    widths = np.array([blur_sigma(blur) / scale for blur in blurs])
    total = sums.sum(axis=0)
    count, r = correlations(total)
    pixels = int(count.max())
    sigma = _best_width(count, r, widths)
    if sigma is None:
        return PSF(math.nan, math.inf, math.nan, pixels), 1
    others = [_best_width(*correlations(total - one), widths) for one in sums]
    known = [other for other in others if other is not None]
    std = math.inf
    if len(known) > 1:
        std = math.sqrt((len(known) - 1) * float(np.var(known)))
    nearest = int(np.argmin(np.abs(widths - sigma)))
    best = r[:, nearest]
    correlation = float(np.average(best, weights=count[:, nearest] * (best > 0)))
    return PSF(sigma, std, correlation, pixels), blurs[nearest]


def _sums(
    pair: Overlay, patch: Patch, place: tuple[int, int], blurs: Sequence[int]
) -> Float64[np.ndarray, "band blur 6"]:
    """Sums of a patch for each blur; it is read once."""
    halo = max(map(abs, place)) + 2 * (max(blurs) - 1)
    coarse, fine = pair.read_coarse(patch), pair.read_fine(patch, halo)
    start = (halo + place[0], halo + place[1])
    found = []
    for blur in blurs:
        mean = lattice_means(
            fine,
            pair.nesting.scale,
            start=start,
            shape=(patch.rows, patch.columns),
            blur=blur,
        )
        found.append(sums_of(coarse[..., None], mean[..., None])[:, 0])
    return np.stack(found, axis=1)


def _blurs(scale: int) -> list[int]:
    """Lengths of running means, from none to the widest."""
    longest = math.sqrt(3 * (WIDEST * scale) ** 2 + 1)
    lengths = np.linspace(1, max(longest, 4), _WIDTHS)
    return sorted({round(float(length)) for length in lengths})


def _best_width(
    count: Float64[np.ndarray, "band width"],
    r: Float64[np.ndarray, "band width"],
    widths: Float64[np.ndarray, " width"],
) -> float | None:
    if not likelihood(count, 1.0 - r**2).max() > 0:
        return None
    # The misfit is even in the width: smooth as a function of its square.
    looked_at = np.linspace(0.0, widths[-1], 401)
    between = make_interp_spline(widths**2, 1.0 - r**2, k=3, axis=1)(looked_at**2)
    number = np.broadcast_to(count.max(axis=1, keepdims=True), between.shape)
    return float(looked_at[int(np.argmax(likelihood(number, between)))])
