"""One line for all bands together: the change of a band from the colors of the base date.

    dC_b ~ c_b + sum_j a_bj (C1_j - mean C1_j)      over the scene, by ridge regression
    F_b  = F1_b + c_b + sum_j a_bj (F1_j - mean C1_j)

What changed from one date to another is mostly told by what stood there: fields that were
green turn brown, bare ones turn green, and the colors of the base date tell them apart.
`BandLine` is the same with the band alone. Nothing local is known, so that an event, or two
crops of one color, are missed; where images are misregistered, the slopes are too small.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from dask.delayed import Delayed
from jaxtyping import Float
from typing_extensions import override

from geofuse.errors import ParameterError
from geofuse.pairs import FusionInputs
from geofuse.spatiotemporal.baselines import TrivialLine, of_nearest_pair
from geofuse.spatiotemporal.coarse_grid import product
from geofuse.spatiotemporal.method import FusionPrediction, FusionTile
from geofuse.spatiotemporal.scene import images_of
from geofuse.tiling import reduce_tiles


class SpectralLines(NamedTuple):
    """The regression of each pair; float32.

    Attributes:
        slope: Change of a band for one unit of each band of the base date.
        center: Mean of the coarse base image by band.
        change: Mean coarse change by band.
    """

    slope: Float[np.ndarray, "pair band guide"]
    center: Float[np.ndarray, "pair guide"]
    change: Float[np.ndarray, "pair band"]


@dataclass(frozen=True)
class SpectralLine(TrivialLine):
    """Ridge regression of the coarse change on all bands of the base date, applied to F1.

    Args:
        ridge: What is added to the variance of each band of the base date, as a share of
            it: 0.001 to 10. It keeps bands that say the same from fighting.

    Raises:
        ParameterError: `ridge` is out of range.

    The nearest base date that is valid at the pixel serves; valid is what is so in all
    bands. It states no uncertainty: variances are NaN.
    """

    ridge: float = 0.02

    def __post_init__(self) -> None:
        if not 1e-3 <= self.ridge <= 10:
            raise ParameterError(
                f"expected a ridge from 0.001 to 10 times the variance of a band, found "
                f"{self.ridge}; 0.02 is usual"
            )

    @override
    def summarize(self, inputs: FusionInputs) -> Delayed:
        images = images_of(inputs, "coarse")
        return reduce_tiles(
            _joint_sums,
            images,
            _Fit(self.ridge),
            token=f"SpectralLine {self.ridge}",
        )

    @override
    def predict_tile(
        self, tile: FusionTile, summary: SpectralLines
    ) -> FusionPrediction:
        slope, center, change = (jnp.asarray(field) for field in summary)
        bands = tile.fine.shape[1]
        off = tile.fine - center[:, :, None, None]
        lines = []
        for band in range(bands):
            terms = [
                product(slope[:, band, j, None, None], off[:, j]) for j in range(bands)
            ]
            rise = reduce(add, terms) + change[:, band, None, None]
            lines.append(tile.fine[:, band] + rise)
        return of_nearest_pair(tile, jnp.stack(lines, axis=1))


class _Sums(NamedTuple):
    """Sums over valid pixels of the base image's bands and of the coarse change's."""

    pixels: np.ndarray
    total: np.ndarray
    products: np.ndarray


# Functions of a scan stand in a module, so that they travel to other processes by name.
def _joint_sums(arrays: Mapping[str, Any], _: Any) -> _Sums:
    coarse = arrays["coarse"]
    count = sum(name.startswith("coarse_") for name in arrays)
    pixels, totals, squares = [], [], []
    for number in range(count):
        base = arrays[f"coarse_{number}"]
        joint = np.concatenate([base, coarse - base]).reshape(2 * len(base), -1)
        joint = joint[:, np.isfinite(joint).all(axis=0)].astype(np.float64)
        pixels.append(joint.shape[1])
        totals.append(joint.sum(axis=1))
        squares.append(joint @ joint.T)
    return _Sums(np.array(pixels, np.float64), np.array(totals), np.array(squares))


@dataclass(frozen=True)
class _Fit:
    """Regression from the sums of all tiles."""

    ridge: float

    def __call__(self, parts: list[_Sums]) -> SpectralLines:
        sums = _Sums(*(np.sum(field, axis=0) for field in zip(*parts, strict=True)))
        bands = sums.total.shape[1] // 2
        fits = []
        for pixels, total, products in zip(*sums, strict=True):
            mean = total / max(pixels, 1.0)
            joint = products / max(pixels, 1.0) - np.outer(mean, mean)
            spread = np.sqrt(np.maximum(np.diag(joint)[:bands], 0.0))
            varied = spread > 1e-6 * np.maximum(np.abs(mean[:bands]), 1e-30)
            unit = np.where(varied, spread, 1.0)
            alike = joint[:bands, :bands] / np.outer(unit, unit)
            alike = np.where(np.outer(varied, varied), alike, 0.0)
            wanted = np.where(varied[:, None], joint[:bands, bands:] / unit[:, None], 0)
            share = alike + (self.ridge + 1.0 * ~varied) * np.eye(bands)
            slope = np.linalg.solve(share, wanted) / unit[:, None]
            fits.append((slope.T, mean[:bands], mean[bands:]))
        return SpectralLines(
            *(np.stack(field).astype(np.float32) for field in zip(*fits, strict=True))
        )
