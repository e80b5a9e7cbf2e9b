"""Numbers of a whole scene for a learned kernel: its spread, and how alike images are."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from geofuse.spatiotemporal.scene import (
    Moments,
    change_moments,
    fine_moments,
    merged,
    moments,
    scene_spread,
    stacked,
)


class KernelScene(NamedTuple):
    """What the scene tells; finite, float32.

    Attributes:
        std: Standard deviation of each pair's fine image, by band.
        spread: Its mean over the pairs: the unit of all that is learned.
        location: Mean of the fine images of a band.
        numbers: Of each pair and band: spread of C_k, correlations of F_k with C_k and of
            C_k with C_p, root mean square and mean of C_p - C_k, mean of F_k - C_k, all in
            units of the spread, and the scale.
    """

    std: Float[np.ndarray, "pair band"]
    spread: Float[np.ndarray, " band"]
    location: Float[np.ndarray, " band"]
    numbers: Float[np.ndarray, "pair band scene"]


def scan_scene(arrays: Mapping[str, Any], shared: Any) -> list[Moments]:
    """Moments of a window: of the fine images, of the sensors, of the dates."""
    return [
        fine_moments(arrays, shared),
        moments(stacked(arrays, "fine"), stacked(arrays, "coarse")),
        change_moments(arrays, shared),
    ]


def kernel_scene(parts: list[list[Moments]], *, scale: int | None) -> KernelScene:
    """Numbers of a scene from the moments of its windows."""
    known = scene_spread([part[0] for part in parts])
    sensors, dates = (merged([part[n] for part in parts]) for n in (1, 2))
    spread = known.spread[None].astype(np.float64)
    size = math.log2(scale or 1) / 4
    numbers = [
        np.sqrt(np.maximum(sensors.mean_of(sensors.yy), 0.0)) / spread,
        sensors.correlation(),
        dates.correlation(),
        np.sqrt(dates.difference_power()) / spread,
        (dates.mean_y - dates.mean_x) / spread,
        (sensors.mean_x - sensors.mean_y) / spread,
        np.full(spread.shape, size) + np.zeros_like(sensors.xx),
    ]
    stacked = np.stack(numbers, axis=-1)
    finite = np.where(np.isfinite(stacked), stacked, 0.0)
    return KernelScene(*known, numbers=finite.astype(np.float32))
