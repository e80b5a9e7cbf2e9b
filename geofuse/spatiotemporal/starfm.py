"""STARFM: the spatial and temporal adaptive reflectance fusion model.

Each pixel is predicted from its *similar pixels*, those of nearly the same fine
reflectance on the base date. Every neighbor j of pair k has its own prediction, the
*candidate* c = F_k(j) + C_p(j) - C_k(j), and they are averaged with weights

    w = 1 / (S T D)     S = |F_k(j) - C_k(j)|   spectral: is the coarse pixel pure?
                        T = |C_k(j) - C_p(j)|   temporal: did it change?
                        D = 1 + d(i, j) / A     spatial: is it near?

F is a fine image, C a coarse one, p the prediction date, d the distance in fine pixels.
The average is `kernel_regression`; this file is its weight. No threshold is a number in
reflectance: all scale with the spread of the band itself, so temperatures in kelvin or
an index work as they are. There are three sets of rules (sigma: noise of a difference):

                     paper                   usda                    robust
    neighbor passes  S and T below the       S or T below the        as usda
                     greatest of the pairs   least of the pairs
    weight           1 / (S T D)             1 / ((S+1) (T+1) D),    1 / ((S+sigma)
                                             in DN                   (T+sigma) D)
    with one pair                            T is left out           T is left out
    S T below noise  floored at the noise    weight 1                as any other

`robust`, the default, is the C program's answer to a weakness of the paper: with one
pair, T in filter and weight favors the pixels that did not change, and so the prediction
that nothing did. Its noise is in the unit of the data.

Reference: F. Gao, J. Masek, M. Schwaller, F. Hall (2006): On the blending of the Landsat
and MODIS surface reflectance: predicting daily Landsat surface reflectance. IEEE
Transactions on Geoscience and Remote Sensing 44(8), 2207-2218. `usda` are the rules of
the authors' C program (StarFM 1.2, USDA).
"""

import math
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, ClassVar, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from dask.delayed import Delayed
from jax import lax
from jaxtyping import Array, Bool, Float
from typing_extensions import override

from geofuse.errors import ParameterError
from geofuse.pairs import FusionInputs
from geofuse.spatiotemporal.kernels import (
    KernelRegression,
    Offset,
    Weight,
    kernel_regression,
)
from geofuse.spatiotemporal.method import (
    FixedMethod,
    FusionPrediction,
    FusionTile,
)
from geofuse.spatiotemporal.scene import (
    SceneSpread,
    fine_moments,
    images_of,
    scene_spread,
)
from geofuse.tiling import reduce_tiles

#: One digital number of the C program, 1e-4 of reflectance, as a fraction of the band's
#: standard deviation: 0.05 of reflectance is usual for a scene, and 500 DN.
DN = 1 / 500


@dataclass(frozen=True)
class STARFM(FixedMethod):
    """Weighted mean of the similar pixels' own predictions (Gao et al. 2006).

    Args:
        radius: Half the side of the search window, center excluded, in fine pixels;
            1 to 250.
        classes: Number of classes m that the scene is thought to have: similar pixels
            differ by at most 2 / m standard deviations. At least 1. The paper's
            examples have 4, the C program's 40.
        decay: The distance A, in fine pixels, at which a neighbor weighs half of what
            the center weighs; None for the radius.
        noise: Noise of both sensors, as a fraction of the standard deviation of the
            band over the scene; 1e-6 to 1.
        rules: `robust`, `paper`, or `usda` for those of the authors' C program; the
            table in this file says how they differ.

    Raises:
        ParameterError: A field is out of range.

    The aleatoric variance is the weighted variance of the candidates, not calibrated;
    the epistemic one is 0, because nothing was learned. A pair takes part at a pixel
    only where it is valid at that pixel; where none is, the prediction is NaN.

    >>> STARFM(radius=10)
    STARFM(radius=10, classes=20, decay=None, noise=0.1, rules='robust')
    """

    states_uncertainty: ClassVar[bool] = True

    radius: int = 15
    classes: int = 20
    decay: float | None = None
    noise: float = 0.1
    rules: Literal["robust", "paper", "usda"] = "robust"

    def __post_init__(self) -> None:
        if not 1 <= self.radius <= 250 or self.radius != int(self.radius):
            raise ParameterError(
                f"expected a radius of 1 to 250 whole fine pixels, found "
                f"{self.radius}; 15 spans a window of 31x31"
            )
        if not 1 <= self.classes < math.inf:
            raise ParameterError(
                f"expected at least 1 class, found classes={self.classes}; 20 is usual"
            )
        if self.decay is not None and not 0 < self.decay < math.inf:
            raise ParameterError(
                f"expected a decay above 0 fine pixels, found {self.decay}; leave it "
                "out for the radius"
            )
        if not 1e-6 <= self.noise <= 1:
            raise ParameterError(
                f"expected noise from 1e-6 to 1 standard deviation of the band, found "
                f"{self.noise}; 0.1 is usual"
            )
        if self.rules not in ("robust", "paper", "usda"):
            raise ParameterError(
                f"expected rules 'robust', 'paper' or 'usda', found {self.rules!r}; "
                "'paper' is Gao et al. (2006), 'usda' the authors' C program"
            )

    @property
    @override
    def halo(self) -> int:
        return self.radius

    @override
    def summarize(self, inputs: FusionInputs) -> Delayed:
        images = images_of(inputs, "fine")
        return reduce_tiles(fine_moments, images, scene_spread, token="STARFM")

    @override
    def predict_tile(self, tile: FusionTile, summary: SceneSpread) -> FusionPrediction:
        # One band at a time: it is as fast as all at once, in a fraction of the memory.
        fused = lax.map(
            lambda band: self._fuse_band(*band),
            (
                jnp.moveaxis(tile.fine, 1, 0),
                jnp.moveaxis(tile.coarse_base, 1, 0),
                tile.coarse,
                jnp.asarray(summary.std).T,
                jnp.asarray(summary.spread),
                jnp.asarray(summary.location),
            ),
        )
        return FusionPrediction(
            reflectance=fused.mean,
            aleatoric=fused.variance,
            epistemic=jnp.where(jnp.isfinite(fused.mean), 0.0, jnp.nan),
            pair=heaviest(fused.weight),
            similar=fused.neighbors.min(axis=0),
        )

    def _fuse_band(
        self,
        fine: Float[Array, "pair rows columns"],
        coarse_base: Float[Array, "pair rows columns"],
        coarse: Float[Array, "rows columns"],
        std: Float[Array, " pair"],
        spread: Float[Array, ""],
        location: Float[Array, ""],
    ) -> KernelRegression:
        """Fuse one band of a tile."""
        return kernel_regression(
            self.weight(),
            self.maps_of(fine, coarse_base, coarse, std, spread),
            fine + (coarse[None] - coarse_base),
            radius=self.radius,
            shift=location,
        )

    def maps_of(
        self,
        fine: Float[Array, "pair rows columns"],
        coarse_base: Float[Array, "pair rows columns"],
        coarse: Float[Array, "rows columns"],
        std: Float[Array, " pair"],
        spread: Float[Array, ""],
    ) -> "StarfmMaps":
        """What `weight` looks at, for one band of a tile."""
        valid = (
            jnp.isfinite(fine) & jnp.isfinite(coarse_base) & jnp.isfinite(coarse)[None]
        )
        spectral = jnp.where(valid, jnp.abs(fine - coarse_base), jnp.inf)
        temporal = jnp.where(valid, jnp.abs(coarse_base - coarse[None]), jnp.inf)
        return StarfmMaps(
            fine=jnp.where(valid, fine, 0.0),
            tolerance=2.0 / self.classes * std,
            spectral=spectral,
            temporal=temporal,
            spectral_limit=self._limit(spectral, valid, spread),
            temporal_limit=self._limit(temporal, valid, spread),
            closeness=self._closeness(spectral, temporal, spread),
        )

    def _limit(
        self,
        distance: Float[Array, "pair rows columns"],
        valid: Bool[Array, "pair rows columns"],
        spread: Float[Array, ""],
    ) -> Float[Array, "pair rows columns"]:
        """Largest S (or T) of a neighbor; -inf where the pair takes no part."""
        # Gao et al. (2006), eq. 15 and 16: a neighbor may not be farther than the
        # center, in the pair where that is farthest, give or take the noise of the
        # difference (sigma_fc and sigma_cc are the same here: the sensors share one
        # noise). The C program compares with the pair where it is nearest.
        if self.rules == "paper":
            center = jnp.where(valid, distance, -jnp.inf).max(axis=0, keepdims=True)
        else:
            center = distance.min(axis=0, keepdims=True)
        # The maximum keeps `a + b * c` apart: compilers round that once or twice, as
        # suits the tile's width.
        noise = jnp.maximum(math.sqrt(2.0) * self.noise * spread, 0.0)
        return jnp.where(valid, center + noise, -jnp.inf)

    def _closeness(
        self,
        spectral: Float[Array, "pair rows columns"],
        temporal: Float[Array, "pair rows columns"],
        spread: Float[Array, ""],
    ) -> Float[Array, "pair rows columns"]:
        """1 / (S T), up to a constant: at most 1, and 0 where invalid."""
        if self.rules == "paper":
            # Departure from the paper: S and T are floored at the noise, so that one
            # perfect neighbor cannot take all the weight.
            sigma = self.noise * spread
            return (sigma / jnp.maximum(spectral, sigma)) * (
                sigma / jnp.maximum(temporal, sigma)
            )
        # The C program adds 1 DN to each, and leaves T out where there is one pair.
        # Departure of the robust rules: the noise of a difference is added instead, for
        # S and T are not known any better.
        robust = self.rules == "robust"
        unit = (math.sqrt(2.0) * self.noise if robust else DN) * spread
        combined = 1.0 / (spectral / unit + 1.0)
        if spectral.shape[0] > 1:
            combined = combined * (1.0 / (temporal / unit + 1.0))
        return combined

    def weight(self) -> Weight:
        """The weight of a neighbor: similar(i, j) passes(i, j) / (S T D)."""
        reach = np.arange(-self.radius, self.radius + 1)
        distance = np.hypot(reach[:, None], reach[None, :])
        decay = self.radius if self.decay is None else self.decay
        nearness = (1.0 / (1.0 + distance / decay)).astype(np.float32)
        # The C program's combined noise, in DN: two differences of two sensors each.
        certain = 1.0 / (2.0 * self.noise / DN)

        def near(offset: Offset) -> Float[Array, ""]:
            place = (offset.dy + self.radius, offset.dx + self.radius)
            return jnp.asarray(nearness)[place]

        def paper(
            center: StarfmMaps, neighbor: StarfmMaps, offset: Offset
        ) -> Float[Array, "y x"]:
            similar = jnp.abs(neighbor.fine - center.fine) <= center.tolerance
            pure = neighbor.spectral <= center.spectral_limit
            steady = neighbor.temporal <= center.temporal_limit
            return jnp.where(
                similar & pure & steady, neighbor.closeness * near(offset), 0.0
            )

        def robust(
            center: StarfmMaps, neighbor: StarfmMaps, offset: Offset
        ) -> Float[Array, "y x"]:
            similar = jnp.abs(neighbor.fine - center.fine) <= center.tolerance
            # Rejected only where it fails both tests.
            passes = (neighbor.spectral <= center.spectral_limit) | (
                neighbor.temporal <= center.temporal_limit
            )
            return jnp.where(similar & passes, neighbor.closeness * near(offset), 0.0)

        def usda(
            center: StarfmMaps, neighbor: StarfmMaps, offset: Offset
        ) -> Float[Array, "y x"]:
            weight = robust(center, neighbor, offset)
            # A neighbor that is closer than the noise weighs 1 at any distance.
            close = (weight > 0) & (neighbor.closeness > certain)
            return jnp.where(close, 1.0, weight)

        return {"paper": paper, "robust": robust, "usda": usda}[self.rules]


class StarfmMaps(NamedTuple):
    """What the weight looks at, for one pair: (y x), without NaN, and one number.

    An invalid neighbor is infinitely far (`spectral`, `temporal`), so it passes no
    limit; where a pair takes no part at the center, the limits are minus infinity.
    """

    fine: Float[Array, "..."]
    tolerance: Float[Array, ""]
    spectral: Float[Array, "..."]
    temporal: Float[Array, "..."]
    spectral_limit: Float[Array, "..."]
    temporal_limit: Float[Array, "..."]
    closeness: Float[Array, "..."]


def heaviest(weight: Float[Array, "band pair y x"]) -> Any:
    """Number, from 1, of the pair with the most weight, the bands counting alike."""
    # Sums written out, so that their order, and so every bit, is the same in all tiles.
    total = reduce(add, jnp.moveaxis(weight, 1, 0))[:, None]
    share = reduce(add, weight / jnp.where(total > 0, total, 1.0))
    number = jnp.argmax(share, axis=0).astype(jnp.int32) + 1
    return jnp.where(share.max(axis=0) > 0, number, 0)
