"""Object-level Fit-FC: segments instead of windows of similar pixels.

    segments of F1     pixels of one cover that lie together (`segments.py`)
    coarse grid        C2 ~ a C1 + b in a small window; residual R = C2 - (a C1 + b)
    each segment       a, b and R, averaged over its pixels
    fine grid          F2 = a F1 + b + R

A window filter takes a mean over the similar pixels around each pixel, and with it the
detail; one line for a whole segment keeps the detail of F1 inside it, follows its outline,
and needs no search at all.

It takes one pair; with several, each gives a prediction and `merge_bases` merges them.

Reference: D. Guo, W. Shi, H. Zhang, M. Hao (2022): A flexible object-level processing
strategy to enhance the weight function-based spatiotemporal fusion method. IEEE
Transactions on Geoscience and Remote Sensing 60. Departures from the authors' program
(OL-Fit-FC): segments come from a local segmentation that obeys the law of tiles, not from
an outside program; they are smaller than a few coarse pixels, so that all take their line
from the window, weighted by the coarse pixels that they touch; and the residual is that of
the coarse line, as in Fit-FC. Theirs, C2 minus the aggregated prediction, would put every
difference between the sensors into the result: it does not return a scene that did not
change, and errs more on most simulated scenes.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from dask.delayed import Delayed
from jaxtyping import Array, Float
from typing_extensions import override

from geofuse.errors import ParameterError
from geofuse.pairs import FusionInputs
from geofuse.spatiotemporal.coarse_grid import painted, product
from geofuse.spatiotemporal.fitfc import check_coarse_radius, fit_lines
from geofuse.spatiotemporal.method import (
    FixedMethod,
    FusionPrediction,
    FusionTile,
    needed_scale,
    scale_of,
    trimmed,
)
from geofuse.spatiotemporal.scene import Moments, fine_moments, images_of, merged
from geofuse.spatiotemporal.segments import cell_side, reach, segment
from geofuse.spatiotemporal.temporal import FromBase, each_base, merged_prediction
from geofuse.tiling import reduce_tiles


class ObjectSummary(NamedTuple):
    """Level and spread of the fine images; finite, the spread not zero, float32."""

    location: Float[np.ndarray, "pair band"]
    spread: Float[np.ndarray, "pair band"]


@dataclass(frozen=True)
class ObjectFitFC(FixedMethod):
    """One line and one residual for each segment of the fine image (Guo 2022).

    Args:
        segment: About the side of a segment, in fine pixels; 2 to 64. The nearest divisor
            of the scale is taken, so that seeds lie alike in all coarse pixels.
        steps: How often pixels join a seed; 1 to 10.
        compactness: How much the place counts against color: a difference of one side of a
            segment counts like this many standard deviations in every band; above 0, up
            to 100.
        coarse_radius: Half the side of the regression window, center excluded, in coarse
            pixels; 1 to 15.

    Raises:
        ParameterError: A field is out of range.

    It needs the scale. The aleatoric variance is that of the coarse image about its line
    plus the mean square of the residual in the segment, not calibrated; the epistemic one
    is 0. A pixel takes part in a band where its fine image and both coarse ones are valid.

    >>> ObjectFitFC(segment=5)
    ObjectFitFC(segment=5, steps=3, compactness=0.5, coarse_radius=3)
    """

    states_uncertainty: ClassVar[bool] = True

    segment: int = 8
    steps: int = 3
    compactness: float = 0.5
    coarse_radius: int = 3

    def __post_init__(self) -> None:
        if not 2 <= self.segment <= 64 or self.segment != int(self.segment):
            raise ParameterError(
                f"expected segments of 2 to 64 whole fine pixels a side, found "
                f"segment={self.segment}; half a coarse pixel is usual"
            )
        if not 1 <= self.steps <= 10 or self.steps != int(self.steps):
            raise ParameterError(
                f"expected 1 to 10 steps of segmentation, found {self.steps}; each widens "
                "the halo, and 3 are usual"
            )
        if not 0 < self.compactness <= 100:
            raise ParameterError(
                f"expected a compactness above 0, up to 100 standard deviations, found "
                f"{self.compactness}; 0.5 is usual"
            )
        check_coarse_radius(self.coarse_radius)

    @property
    @override
    def halo(self) -> int:
        return reach(self.steps) * self.segment

    @property
    @override
    def coarse_halo(self) -> int | None:
        # The residual is interpolated from two coarse pixels beyond, each with a window.
        return self.coarse_radius + 2

    @override
    def trim(self, scale: int | None) -> int:
        """Halo in fine pixels: as in the base class, but for the true side of a cell."""
        scale = needed_scale(scale, str(self))
        reached = reach(self.steps) * cell_side(scale, self.segment)
        return (math.ceil(reached / scale) + self.coarse_radius + 2) * scale

    @override
    def summarize(self, inputs: FusionInputs) -> Delayed:
        images = images_of(inputs, "fine")
        return reduce_tiles(fine_moments, images, _summary, token="ObjectFitFC")

    @override
    def predict_tile(
        self, tile: FusionTile, summary: ObjectSummary
    ) -> FusionPrediction:
        scale = scale_of(tile)
        bases = each_base(
            lambda base: self._from_base(
                base[0], base[1], base[2], base[3], tile.coarse, scale
            ),
            (
                tile.fine,
                tile.coarse_base,
                jnp.asarray(summary.location),
                jnp.asarray(summary.spread),
            ),
        )
        halo = self.trim(scale) - (self.coarse_radius + 2) * scale
        bases = FromBase(*(trimmed(image, halo) for image in bases))
        pixels = bases.similar.max(axis=0).min(axis=0)
        return merged_prediction(bases, pixels.astype(jnp.int32))

    def _from_base(
        self,
        fine: Float[Array, "band y x"],
        coarse_base: Float[Array, "band y x"],
        location: Float[Array, " band"],
        spread: Float[Array, " band"],
        coarse: Float[Array, "band y x"],
        scale: int,
    ) -> FromBase:
        """Predict from one pair; wrong at the edge of the window, which is cut later."""
        margin = (self.coarse_radius + 2) * scale
        fitted = fit_lines(coarse_base, coarse, scale, radius=self.coarse_radius)
        slope, base, mean, variance, change = (
            painted(image, scale) for image in fitted[:5]
        )
        fine, coarse_base, coarse = (
            trimmed(image, margin) for image in (fine, coarse_base, coarse)
        )
        valid = jnp.isfinite(fine) & jnp.isfinite(coarse_base) & jnp.isfinite(coarse)
        fine = jnp.where(valid, fine, jnp.nan)
        segments = segment(
            (fine - location[:, None, None]) / spread[:, None, None],
            cell=cell_side(scale, self.segment),
            steps=self.steps,
            compactness=self.compactness,
        )
        # The line as a change of F1, so that temperatures in kelvin lose no digits:
        # each pixel's own, averaged over the segment, and tilted by the mean slope.
        level = segments.mean(fine)
        own = (mean - base) + product(slope - 1.0, level - base)
        slope = segments.mean(jnp.where(valid, slope, jnp.nan))
        line = segments.mean(jnp.where(valid, own, jnp.nan))
        line = line + product(slope - 1.0, fine - level)
        residual = jnp.where(valid, fitted.residual, jnp.nan)
        square = segments.mean(product(residual, residual))
        return FromBase(
            reflectance=fine + (line + segments.mean(residual)),
            variance=variance + square,
            change=change,
            similar=segments.count(valid),
        )


def _summary(parts: list[Moments]) -> ObjectSummary:
    """Level and spread from the moments of the scene's tiles; 1 where a band is constant."""
    scene = merged(parts)
    std = np.sqrt(np.where(scene.pixels > 0, scene.variance_x(), 0.0))
    varied = std > 1e-6 * np.abs(scene.mean_x)
    return ObjectSummary(
        scene.mean_x.astype(np.float32), np.where(varied, std, 1.0).astype(np.float32)
    )
