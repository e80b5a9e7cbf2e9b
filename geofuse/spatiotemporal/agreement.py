"""How well the images of a scene tell each other, in a few numbers.

Coarse pixels of the whole scene are compared: the coarse image of the base date with the
aggregated fine one (noise, gain, offset of the sensors), and the two coarse images with each
other (how much changed, and whether by one rule). A learned method is given these numbers
to know what kind of scene it is in.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from dask.delayed import Delayed
from jaxtyping import Float

from geofuse.pairs import FusionInputs
from geofuse.spatiotemporal.precision import cell_means
from geofuse.spatiotemporal.scene import (
    Moments,
    SceneSpread,
    fine_moments,
    merged,
    moments,
    scene_spread,
    stacked,
)
from geofuse.tiling import reduce_tiles

#: Numbers of a scene whose sign is that of the band, and others.
SIGNED = 2
UNSIGNED = 9


class Agreement(NamedTuple):
    """How the images of a scene agree, of each base and band; finite, float32.

    Attributes:
        spread: Spread of the fine images of a band, in its unit.
        numbers: First those whose sign is that of the band: mean coarse change and mean of
            C1 - F1, in spreads. Then logarithms of the noise of C1 beside F1, of the coarse
            change, of what a line from C1 to C2 leaves, of F1 between coarse pixels, of C1
            within them (all as standard deviations in spreads); the correlations of F1 with
            C1 and of C1 with C2, and the slopes of those two lines.
    """

    spread: Float[np.ndarray, " band"]
    numbers: Float[np.ndarray, "pair band number"]


class _Parts(NamedTuple):
    """Moments of one tile."""

    fine: Moments
    base: Moments
    change: Moments
    within: Moments


def scene_agreement(inputs: FusionInputs) -> Delayed:
    """A lazy `Agreement`; one scan of all images. The scale must be known."""
    scale = inputs.scale or 1
    return reduce_tiles(
        partial(_compare, scale),
        inputs.rasters(),
        _agreement,
        step=scale,
        offset=inputs.offset,
        token=f"agreement {scale}",
    )


# Functions of a scan stand in a module, so that they travel to other processes by name.
def _compare(scale: int, arrays: Mapping[str, Any], _: Any) -> _Parts:
    fine, base = (stacked(arrays, kind) for kind in ("fine", "coarse"))
    coarse = np.broadcast_to(arrays["coarse"], base.shape)
    valid = np.isfinite(fine) & np.isfinite(base)
    fine_cells, base_cells = (
        cell_means(np.where(valid, image, np.nan), scale) for image in (fine, base)
    )
    wanted = cell_means(coarse, scale)
    whole = cell_means(base, scale)
    painted = np.repeat(np.repeat(whole, scale, axis=-2), scale, axis=-1)
    off = base - painted
    return _Parts(
        fine_moments(arrays, None),
        moments(fine_cells, base_cells),
        moments(whole, wanted),
        moments(off, off),
    )


def _agreement(parts: list[_Parts]) -> Agreement:
    fine, base, change, within = (
        merged(list(field)) for field in zip(*parts, strict=True)
    )
    scene: SceneSpread = scene_spread([fine])
    spread = scene.spread.astype(np.float64)

    def size(power: np.ndarray) -> np.ndarray:
        return log_size(np.sqrt(np.maximum(power, 0.0)) / spread)

    shift = (change.mean_y - change.mean_x) / spread
    bias = (base.mean_y - base.mean_x) / spread
    numbers = [
        np.arcsinh(5.0 * shift) / 3.0,
        np.arcsinh(5.0 * bias) / 3.0,
        size(base.about_line()),
        size(change.difference_power()),
        size(change.about_line()),
        size(base.mean_of(base.xx)),
        size(within.mean_of(within.xx)),
        base.correlation(),
        change.correlation(),
        np.arcsinh(base.line()[0]),
        np.arcsinh(change.line()[0]),
    ]
    stacked = np.stack(np.broadcast_arrays(*numbers), axis=-1)
    return Agreement(
        scene.spread, np.where(np.isfinite(stacked), stacked, 0.0).astype(np.float32)
    )


def log_size(size: Any) -> Any:
    """Logarithm of a size in spreads, from a thousandth on, divided by three."""
    return np.log(np.maximum(size, 1e-3)) / 3.0
