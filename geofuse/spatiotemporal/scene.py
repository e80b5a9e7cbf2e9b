"""Numbers of a whole scene: mean, spread, and the line between two images.

Means and second moments are kept per tile in float64 and merged by Chan, Golub and
LeVeque (1983), so that neither the tiling nor a large mean (temperatures in kelvin) costs
digits.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import Float

from geofuse.pairs import FusionInputs


class Moments(NamedTuple):
    """Joint moments of two variables x and y over their common valid pixels.

    All arrays have one shape, for instance (pair, band).
    """

    pixels: np.ndarray
    mean_x: np.ndarray
    mean_y: np.ndarray
    xx: np.ndarray
    xy: np.ndarray
    yy: np.ndarray

    def variance_x(self) -> np.ndarray:
        """Population variance of x; NaN where there is no valid pixel."""
        return self.xx / np.where(self.pixels > 0, self.pixels, np.nan)

    def correlation(self) -> np.ndarray:
        """Correlation of x and y; 0 where either is constant."""
        power = self.xx * self.yy
        return np.where(power > 0, self.xy / np.sqrt(np.where(power > 0, power, 1)), 0)

    def mean_of(self, total: np.ndarray) -> np.ndarray:
        """A sum over the valid pixels, such as `xx`, as a mean; 0 where there is none."""
        return total / np.maximum(self.pixels, 1.0)

    def difference_power(self) -> np.ndarray:
        """Mean square of y - x."""
        about = np.maximum(self.xx - 2.0 * self.xy + self.yy, 0.0)
        return self.mean_of(about) + (self.mean_y - self.mean_x) ** 2

    def about_line(self) -> np.ndarray:
        """Mean square of what the line of y on x leaves."""
        slope = self.xy / np.where(self.xx > 0, self.xx, 1.0)
        return self.mean_of(np.maximum(self.yy - slope * self.xy, 0.0))

    def line(self) -> tuple[np.ndarray, np.ndarray]:
        """Slope and intercept of y on x by least squares.

        Where x is constant the slope is 1: then only the level can be told.
        """
        flat = self.xx <= 1e-12 * np.maximum(self.pixels * self.mean_x**2, 1e-300)
        slope = np.where(flat, 1.0, self.xy / np.where(flat, 1.0, self.xx))
        return slope, self.mean_y - slope * self.mean_x


def moments(x: np.ndarray, y: np.ndarray) -> Moments:
    """Moments over the last two axes, of pixels where both x and y are valid.

    Args:
        x: (…, y, x), NaN where invalid.
        y: The same shape; may be `x` itself.

    Returns:
        Moments of shape (…), float64. Planes are taken one at a time, so that the
        temporaries are those of one plane.
    """
    lead = x.shape[:-2]
    planes = [_plane_moments(x[place], y[place]) for place in np.ndindex(lead)]
    return Moments(*(np.reshape(field, lead) for field in zip(*planes, strict=True)))


def _plane_moments(x: np.ndarray, y: np.ndarray) -> tuple[float, ...]:
    valid = np.isfinite(x) & np.isfinite(y)
    count = int(valid.sum())
    if count == 0:
        return (0.0,) * len(Moments._fields)
    dx = x[valid].astype(np.float64)
    mean_x = float(dx.mean())
    dx -= mean_x
    if y is x:
        xx = float((dx * dx).sum())
        return count, mean_x, mean_x, xx, xx, xx
    dy = y[valid].astype(np.float64)
    mean_y = float(dy.mean())
    dy -= mean_y
    xx, xy, yy = (float((a * b).sum()) for a, b in ((dx, dx), (dx, dy), (dy, dy)))
    return count, mean_x, mean_y, xx, xy, yy


def merged(parts: list[Moments]) -> Moments:
    """Moments of a whole from the moments of its parts, in their order."""
    total = parts[0]
    for part in parts[1:]:
        count = total.pixels + part.pixels
        share = part.pixels / np.maximum(count, 1.0)
        dx, dy = part.mean_x - total.mean_x, part.mean_y - total.mean_y
        between = total.pixels * share
        total = Moments(
            count,
            total.mean_x + dx * share,
            total.mean_y + dy * share,
            total.xx + part.xx + dx * dx * between,
            total.xy + part.xy + dx * dy * between,
            total.yy + part.yy + dy * dy * between,
        )
    return total


def images_of(inputs: FusionInputs, kind: str) -> dict[str, xr.DataArray]:
    """The images by name, for a scan of the `fine` or of the `coarse` ones alone."""
    return {k: v for k, v in inputs.rasters().items() if k.startswith(kind)}


# Functions of a scan stand in a module, so that they travel to other processes by name.
def fine_moments(arrays: Mapping[str, Any], _: Any) -> Moments:
    """Moments (pair, band) of the pairs' fine images in a window."""
    fine = stacked(arrays, "fine")
    return moments(fine, fine)


def change_moments(arrays: Mapping[str, Any], _: Any) -> Moments:
    """Joint moments (pair, band) of the coarse base images and the coarse image."""
    base = stacked(arrays, "coarse")
    return moments(base, np.broadcast_to(arrays["coarse"], base.shape))


def stacked(arrays: Mapping[str, Any], kind: str) -> np.ndarray:
    """The windows of all pairs' images of one kind, as (pair, band, y, x)."""
    count = sum(name.startswith(f"{kind}_") for name in arrays)
    return np.stack([arrays[f"{kind}_{number}"] for number in range(count)])


class SceneSpread(NamedTuple):
    """Spread and level of a scene's fine images; finite and not zero, float32.

    What thresholds are measured in, so that any unit works.

    Attributes:
        std: Standard deviation of each pair's fine image, by band.
        spread: Its mean over the pairs: what the noise of a band is measured in.
        location: Mean of the fine images of a band.
    """

    std: Float[np.ndarray, "pair band"]
    spread: Float[np.ndarray, " band"]
    location: Float[np.ndarray, " band"]


def scene_spread(parts: list[Moments]) -> SceneSpread:
    """Spread and level from the moments of the scene's tiles (see `fine_moments`).

    A band that is constant or has no valid pixel has no spread to measure thresholds
    in, and needs none: its level stands in, or 1.
    """
    scene = merged(parts)
    std = np.sqrt(scene.variance_x())
    level = np.abs(scene.mean_x)
    varied = std > 1e-6 * level
    counted = scene.pixels.sum(axis=0)
    location = (scene.pixels * scene.mean_x).sum(axis=0) / np.maximum(counted, 1.0)
    spread = np.where(varied, std, 0.0).sum(axis=0) / np.maximum(varied.sum(axis=0), 1)
    instead = np.where(np.abs(location) > 0, np.abs(location), 1.0)
    spread = np.where(spread > 0, spread, instead)
    std = np.where(varied, std, spread)
    return SceneSpread(*(v.astype(np.float32) for v in (std, spread, location)))
