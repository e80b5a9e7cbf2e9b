"""ubESTARFM: unbiased ESTARFM, for temperature and other products of one band.

    b_k(i) = mean over the similar pixels j of C_k(j) - F_k(j)                 k = 1, 3
    p_k(i) = F_k(i) + b_k(i) + sum_j W(i, j) (C_p(j) - C_k(j))
    p(i)   = T_1 p_1 + T_3 p_3        T_k ~ 1 / |mean of C_p - C_k in the window|

Land surface temperature changes by many kelvin within hours, so the fine and the coarse
image of one day differ by more than their sensors do: by the time of the overpass. Each
fine image is therefore shifted, place by place, to the level of its coarse one before the
coarse change is added. The level of the product is that of the coarse images: where these
are biased, so is the product, and where their pixels mix covers, it has less contrast than
the ground. It is no method for reflectance: on simulated scenes and on a real one its error
there was up to four times that of ESTARFM. The slope V of ESTARFM is 1. The weights are

    W ~ 1 / ((1 - R) D)     1 - R = mean over both dates of |F_k(j) + b_k(i) - C_k(j)|

with D as in ESTARFM. The similar pixels are those within 2 / m standard deviations at both
dates, band by band: an image of several bands is so many products of one band.

Reference: Y. Yu, L. J. Renzullo, T. R. McVicar, B. P. Malone, S. Tian (2023): Generating
daily 100 m resolution land surface temperature estimates continentally using an unbiased
spatiotemporal fusion approach. Remote Sensing of Environment 297, 113784. Departures:
standard deviations are those of the scene, not of a piece of it; 1 - R is not divided by
F + b + C, which depends on where the unit has its zero; it is floored at 1e-6 standard
deviations.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from dask.delayed import Delayed
from jax import lax
from jaxtyping import Array, Float
from typing_extensions import override

from geofuse.pairs import FusionInputs
from geofuse.spatiotemporal.coarse_grid import product
from geofuse.spatiotemporal.kernels import Offset, Weight, kernel_regression
from geofuse.spatiotemporal.method import (
    FixedMethod,
    FusionPrediction,
    FusionTile,
    trimmed,
)
from geofuse.spatiotemporal.scene import (
    SceneSpread,
    fine_moments,
    images_of,
    scene_spread,
)
from geofuse.spatiotemporal.two_pairs import (
    STILL,
    Couple,
    check_window,
    in_std,
    mixed,
    nearness_of,
    pairs_valid,
    predict_couples,
    temporal_share,
    window_means,
)
from geofuse.tiling import reduce_tiles

#: Least 1 - R, in std of the band.
_FLOOR = 1e-6


@dataclass(frozen=True)
class UbESTARFM(FixedMethod):
    """Fine image shifted to the coarse level, plus the coarse change (Yu et al. 2023).

    Args:
        radius: Half the side of the search window, center excluded, in fine pixels; 1 to
            60. 15 spans a window of 31x31; the authors' program has 25.
        classes: Number of classes m that the scene is thought to have: similar pixels
            differ by at most 2 / m standard deviations. At least 1. 2 is that of the
            authors' program.
        least_similar: Fewest similar pixels, the center among them, to predict from;
            where there are fewer, all pixels of the window stand in. 6 in the authors'
            program. At least 1.

    Raises:
        ParameterError: A field is out of range.

    It needs two pairs. With more, the two around the prediction date predict; others stand
    in where both of these are invalid. Bands are independent: a pair takes part at a pixel
    of a band where that band and the coarse image of the prediction date are valid; a
    neighbor takes part where both pairs do. Where one pair is invalid at the pixel the other
    one predicts alone.

    The aleatoric variance is that of ESTARFM with e^2 the variance of (F3 - F1) - (C3 - C1)
    over the similar pixels, not calibrated. It is one about the coarse level, and knows
    nothing of the bias of that. The epistemic one is 0, because nothing was learned.

    >>> UbESTARFM(radius=10)
    UbESTARFM(radius=10, classes=2, least_similar=6)
    """

    pairs_needed: ClassVar[int] = 2
    states_uncertainty: ClassVar[bool] = True

    radius: int = 15
    classes: float = 2
    least_similar: int = 6

    def __post_init__(self) -> None:
        check_window(self.radius, self.classes, self.least_similar)

    @property
    @override
    def halo(self) -> int:
        return self.radius

    @override
    def summarize(self, inputs: FusionInputs) -> Delayed:
        images = images_of(inputs, "fine")
        return reduce_tiles(fine_moments, images, scene_spread, token="UbESTARFM")

    @override
    def predict_tile(self, tile: FusionTile, summary: SceneSpread) -> FusionPrediction:
        def between(fine: Any, base: Any, std: Any) -> Couple:
            bands = lax.map(
                lambda band: self._between(*band),
                (
                    jnp.moveaxis(fine, 1, 0),
                    jnp.moveaxis(base, 1, 0),
                    tile.coarse,
                    std.T,
                    jnp.asarray(summary.spread),
                    jnp.asarray(summary.location),
                ),
            )
            return bands._replace(
                share=jnp.moveaxis(bands.share, 0, 1), similar=bands.similar.min(axis=0)
            )

        return predict_couples(between, tile, jnp.asarray(summary.std), self.radius)

    def _between(
        self,
        fine: Float[Array, "2 rows columns"],
        base: Float[Array, "2 rows columns"],
        coarse: Float[Array, "rows columns"],
        std: Float[Array, "2"],
        spread: Float[Array, ""],
        location: Float[Array, ""],
    ) -> Couple:
        """Predict one band from two pairs."""
        valid = pairs_valid(fine[:, None], base[:, None], coarse[None])
        both = valid.all(axis=0)
        images = in_std(
            fine[:, None],
            base[:, None],
            coarse[None],
            valid,
            spread[None],
            location[None],
        )
        f, c, now = (image[..., 0, :, :] for image in images)
        moved, gap = now[None] - c, c - f
        maps = _Maps(
            fine=f,
            # A pair that is invalid at the center finds all pixels similar.
            tolerance=jnp.where(
                valid, (2.0 / self.classes) * (std / spread)[:, None, None], jnp.inf
            ),
            barred=jnp.where(both, 0.0, jnp.inf),
            gap=gap,
            bias=jnp.zeros_like(f),
        )

        def over_similar(weight: Weight, maps: _Maps, candidates: Any) -> Any:
            return kernel_regression(
                weight,
                _Maps(*(image[None] for image in maps)),
                jnp.where(both, candidates, jnp.nan)[None],
                radius=self.radius,
                shift=jnp.zeros(()),
            )

        similar = [over_similar(_similar, maps, one) for one in gap]
        count = similar[0].neighbors
        enough = count >= self.least_similar
        in_window = window_means(jnp.stack([moved, gap], axis=1), valid, self.radius)
        drift = in_window[:, 0]
        bias = jnp.where(
            enough[None], jnp.stack([one.mean for one in similar]), in_window[:, 1]
        )
        margin = [(0, 0), (self.radius,) * 2, (self.radius,) * 2]
        shifted = maps._replace(bias=jnp.pad(bias, margin))
        weight = self._weight()
        change = jnp.stack([over_similar(weight, shifted, one).mean for one in moved])

        share = temporal_share(drift[:, None], trimmed(valid, self.radius))[:, 0]
        rise = jnp.where(enough[None], change, drift)
        ends = trimmed(f, self.radius) + bias + rise
        predicted = mixed(ends, share)

        wrong = over_similar(_similar, maps, gap[0] - gap[1]).variance
        path = jnp.maximum(jnp.abs(drift), STILL)
        part = path / (path[0] + path[1])[None]
        doubt = jnp.where(enough[None], part * wrong[None], drift * drift)
        off = ends - predicted[None]
        usable = trimmed(valid.any(axis=0), self.radius)
        variance = mixed(doubt + product(off, off), share) * spread * spread
        return Couple(
            reflectance=jnp.where(
                usable, location + product(predicted, spread), jnp.nan
            ),
            variance=jnp.where(usable, variance, jnp.nan),
            share=share,
            similar=count,
        )

    def _weight(self) -> Weight:
        """The weight of a neighbor: similar(i, j) / ((1 - R) D)."""
        nearness = jnp.asarray(nearness_of(self.radius))

        def weight(center: "_Maps", neighbor: "_Maps", offset: Offset) -> Any:
            off = jnp.abs(neighbor.gap - center.bias)
            unlike = jnp.maximum((off[0] + off[1]) / 2.0, _FLOOR)
            near = nearness[offset.dy + self.radius, offset.dx + self.radius]
            return _similar(center, neighbor, offset) * (near / unlike)

        return weight


class _Maps(NamedTuple):
    """What the weight looks at: without NaN, in std of the band.

    Attributes:
        fine: Fine image of each pair.
        tolerance: How far from the center's value a similar pixel may be.
        barred: 0 where a neighbor may take part, else infinite.
        gap: C_k - F_k of each pair.
        bias: b_k, as seen from the center.
    """

    fine: Float[Array, "..."]
    tolerance: Float[Array, "..."]
    barred: Float[Array, "..."]
    gap: Float[Array, "..."]
    bias: Float[Array, "..."]


def _similar(center: _Maps, neighbor: _Maps, offset: Offset) -> Any:
    """1 where the neighbor is similar at both dates, else 0."""
    off = jnp.abs(neighbor.fine - center.fine)
    near = (off <= center.tolerance).all(axis=0)
    return jnp.where(near & (neighbor.barred == 0), 1.0, 0.0)
