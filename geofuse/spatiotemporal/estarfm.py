r"""ESTARFM: enhanced STARFM, from a pair before and a pair after.

    F1, C1      Cp      F3, C3          two pairs, the prediction date between them
        \         │        /
    p_k(i) = F_k(i) + V(i) sum_j W(i, j) (C_p(j) - C_k(j))                 k = 1, 3
    p(i)   = T_1 p_1 + T_3 p_3          T_k ~ 1 / |mean of C_p - C_k in the window|

j are the *similar pixels* of i: those of the window whose fine reflectance differs by at
most 2 / m standard deviations in every band at both dates. Their weight and their slope are

    W ~ 1 / ((1 - R) D)     R: correlation of the fine with the coarse spectrum, both dates
                            and all bands together; D = 1 + d / (w / 2)
    V                       slope of the fine on the coarse values of the similar pixels at
                            both dates: how much more than the coarse pixel its part changes

V is noise where little changed, so it is used only where the *gate* is open, and is 1
elsewhere. Programs differ there more than anywhere else:

    zhu           |mean C1 - mean C3| of the similar pixels >= `change` std of the band
                  (Zhu's program: 0.02 of the range of the DN, which for reflectance is
                  about 0.4 std)
    imagefusion   std of their coarse values, both dates together, > 0.057 std of the band
                  (0.002 sqrt(2) of the range, likewise): open nearly everywhere
    never         V = 1

and both programs ask for 0 < V <= 5 and a significant slope (F-test, p <= 0.05).

Reference: X. Zhu, J. Chen, F. Gao, X. Chen, J. G. Masek (2010): An enhanced spatial and
temporal adaptive reflectance fusion model for complex heterogeneous regions. Remote Sensing
of Environment 114(11), 2610-2623. Departures, shared by all programs: one V a window; the
paper regresses the similar pixels of each coarse pixel. Departures of this one: thresholds
scale with the spread of the band, so any unit works; nothing is clipped to a range of DN
unless `valid_range` is given; 1 - R is floored at 1e-6; and with one band, where a
correlation of two numbers says nothing, 1 - R is the mean of |F_k - C_k| over both dates in
std of the band. Zhu's program divides by F_k + C_k instead, which depends on where the unit
has its zero.
"""

from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import add
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
import numpy as np
from dask.delayed import Delayed
from jaxtyping import Array, Bool, Float
from scipy import stats
from typing_extensions import override

from geofuse.errors import ParameterError
from geofuse.pairs import FusionInputs
from geofuse.spatiotemporal.coarse_grid import product
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
from geofuse.spatiotemporal.similar_sums import similar_sums
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

#: Least 1 - R: float32 knows a correlation no better.
_FLOOR = 1e-6
#: The gate of imagefusion, in std of the band: 20 DN at two dates, 500 DN to the std.
_NOISE = 0.04 * 2**0.5
#: Largest slope that is believed.
_STEEPEST = 5.0


@dataclass(frozen=True)
class ESTARFM(FixedMethod):
    """Change of the similar pixels, in proportion to their slope (Zhu et al. 2010).

    Args:
        radius: Half the side of the search window, center excluded, in fine pixels; 1 to
            60. 15 spans a window of 31x31; the authors' program has 25.
        classes: Number of classes m that the scene is thought to have: similar pixels
            differ by at most 2 / m standard deviations. At least 1. The programs have 4,
            which did as well as 3 on simulated scenes.
        gate: When the slope V is used, `zhu`, `imagefusion` or `never`; the table in this
            file says how they differ.
        change: For `gate="zhu"`: least change of the similar pixels' coarse mean between
            the base dates, in standard deviations of the band. Not negative.
        least_similar: Fewest similar pixels, the center among them, to predict from; 6 in
            Zhu's program. At least 1.
        otherwise: What stands in where there are fewer: `window` adds the mean coarse
            change of the whole window, as Zhu's program does; `none` adds nothing, as
            imagefusion does, so that p = T_1 F_1 + T_3 F_3.
        valid_range: Least and largest value that a prediction may have; beyond, the
            weighted mean of the similar pixels' fine values stands in, as in both
            programs. None for no limit.

    Raises:
        ParameterError: A field is out of range.

    It needs two pairs. With more, the two around the prediction date predict; others stand
    in where both of these are invalid. A pair takes part at a pixel where all its bands and
    those of the coarse image of the prediction date are valid; a neighbor takes part where
    both pairs do. Where one pair is invalid at the pixel the other one predicts alone. The
    unit of the bands should be one and the same: R compares spectra.

    The aleatoric variance is not calibrated: sum_k T_k (s_k e^2 + (p_k - p)^2), where e^2 is
    the mean square of (F3 - F1) - V (C3 - C1) over the similar pixels (how wrong V was from
    one base date to the other) and s_k the part of that change that lies between base k and
    the prediction date. The epistemic one is 0, because nothing was learned.

    >>> ESTARFM(radius=15).gate
    'zhu'
    """

    pairs_needed: ClassVar[int] = 2
    states_uncertainty: ClassVar[bool] = True

    radius: int = 15
    classes: float = 3
    gate: Literal["zhu", "imagefusion", "never"] = "zhu"
    change: float = 0.4
    least_similar: int = 6
    otherwise: Literal["window", "none"] = "window"
    valid_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check_window(self.radius, self.classes, self.least_similar)
        if self.gate not in ("zhu", "imagefusion", "never"):
            raise ParameterError(
                f"expected gate 'zhu', 'imagefusion' or 'never', found {self.gate!r}; "
                "'zhu' is the authors' program"
            )
        if not 0 <= self.change < np.inf:
            raise ParameterError(
                f"expected change from 0 standard deviations on, found {self.change}; "
                "0.4 is 0.02 of reflectance in a usual scene"
            )
        if self.otherwise not in ("window", "none"):
            raise ParameterError(
                f"expected otherwise 'window' or 'none', found {self.otherwise!r}; "
                "'window' is the authors' program"
            )
        if self.valid_range is not None and not (
            self.valid_range[0] < self.valid_range[1]
        ):
            raise ParameterError(
                "expected valid_range as (least, largest) or None, found "
                f"{self.valid_range}; (0.0, 1.0) is usual for reflectance"
            )

    @property
    @override
    def halo(self) -> int:
        return self.radius

    @override
    def summarize(self, inputs: FusionInputs) -> Delayed:
        images = images_of(inputs, "fine")
        return reduce_tiles(fine_moments, images, scene_spread, token="ESTARFM")

    @override
    def predict_tile(self, tile: FusionTile, summary: SceneSpread) -> FusionPrediction:
        return predict_couples(
            lambda fine, base, std: self._between(
                fine, base, std, tile.coarse, summary
            ),
            tile,
            jnp.asarray(summary.std),
            self.radius,
        )

    def _between(
        self,
        fine: Float[Array, "2 band rows columns"],
        base: Float[Array, "2 band rows columns"],
        std: Float[Array, "2 band"],
        coarse: Float[Array, "band rows columns"],
        summary: SceneSpread,
    ) -> Couple:
        """Predict from two pairs."""
        valid = pairs_valid(fine, base, coarse)
        both = valid.all(axis=0)
        scale = jnp.asarray(summary.spread), jnp.asarray(summary.location)
        f, c, now = in_std(fine, base, coarse, valid, *scale)
        spread, location = (of_band[:, None, None] for of_band in scale)
        moved = now[None] - c
        close = 1.0 / jnp.maximum(unlikeness(f, c, summary), _FLOOR)
        weigh = [moved] if self.valid_range is None else [moved, f]
        # std of the band against std of the image: the tolerance is 2 / m of the latter.
        ratio = jnp.asarray(summary.spread)[None] / std * (self.classes / 2.0)
        guide = jnp.where(valid[:, None], f * ratio[..., None, None], jnp.nan)
        sums = similar_sums(
            _maps_of(guide),
            both,
            (_line_maps(f, c), _change_maps(f, c)),
            jnp.concatenate(
                [close[None], *(_maps_of(close[None, None] * x) for x in weigh)]
            ),
            nearness_of(self.radius),
        )

        bands = len(coarse)
        count = sums.plain[0][0]
        some = jnp.maximum(count, 1.0)[None]
        enough = (count >= self.least_similar)[None]
        slope = self._slope(sums.plain[0][1:] / some, count, bands)
        total = jnp.where(sums.weighted[0] > 0, sums.weighted[0], 1.0)
        means = (sums.weighted[1:] / total[None]).reshape(-1, 2, bands, *count.shape)
        drift = window_means(moved, valid, self.radius)
        share = temporal_share(drift, trimmed(valid, self.radius))
        instead = drift if self.otherwise == "window" else jnp.zeros_like(drift)
        rise = jnp.where(enough[None], slope[None] * means[0], instead)
        ends = trimmed(f, self.radius) + rise
        predicted = mixed(ends, share)
        if self.valid_range is not None:
            low, high = ((v - location) / spread for v in self.valid_range)
            beyond = enough & ((predicted < low) | (predicted > high))
            ends = jnp.where(beyond[None], means[1], ends)
            predicted = mixed(ends, share)

        path = jnp.maximum(jnp.abs(drift), STILL)
        part = path / (path[0] + path[1])[None]
        wrong = _misfit(sums.plain[1] / some, slope)
        doubt = jnp.where(enough[None], part * wrong[None], drift * drift)
        off = ends - predicted[None]
        usable = trimmed(valid.any(axis=0), self.radius)[None]
        variance = mixed(doubt + product(off, off), share) * spread * spread
        return Couple(
            reflectance=jnp.where(
                usable, location + product(predicted, spread), jnp.nan
            ),
            variance=jnp.where(usable, variance, jnp.nan),
            share=share,
            similar=count.astype(jnp.int32),
        )

    def _slope(self, means: Any, count: Any, bands: int) -> Any:
        """V of each band; 1 where the gate is closed."""
        ones = jnp.ones_like(means[:bands])
        if self.gate == "never":
            return ones
        between, x, y, xx, xy, yy = means.reshape(6, bands, *count.shape)
        spread_x, spread_y = xx - product(x, x), yy - product(y, y)
        slope = (xy - product(x, y)) / jnp.where(spread_x > 0, spread_x, 1.0)
        sound = (spread_x > 0) & (slope > 0) & (slope <= _STEEPEST)
        # The F-test of a line through n points, as the least r^2 that passes it.
        table = jnp.asarray(least_r2((2 * self.radius + 1) ** 2))
        least = table[count.astype(jnp.int32)][None]
        certain = slope * slope * spread_x >= least * spread_y
        if self.gate == "zhu":
            opened = jnp.abs(between) >= self.change
        else:
            samples = 2.0 * jnp.maximum(count, 1.0)
            opened = spread_x * (samples / (samples - 1.0))[None] > _NOISE**2
        return jnp.where(opened & sound & certain, slope, ones)


def _maps_of(images: Any) -> Any:
    """Images (2, band, …) as a stack of maps, the first date's first."""
    return images.reshape(-1, *images.shape[2:])


def unlikeness(
    f: Float[Array, "2 band rows columns"],
    c: Float[Array, "2 band rows columns"],
    summary: SceneSpread,
) -> Float[Array, "rows columns"]:
    """1 - R of the fine and the coarse spectrum of both dates, in [0, 2]."""
    if f.shape[1] == 1:
        return (jnp.abs(f[0, 0] - c[0, 0]) + jnp.abs(f[1, 0] - c[1, 0])) / 2.0
    # R is that of the values as they are, so back from std to the unit of the data, but
    # about one level for all bands.
    spread, level = jnp.asarray(summary.spread), jnp.asarray(summary.location)
    level = level - level.mean()
    fine, coarse = (
        _maps_of(product(x, spread[None, :, None, None]) + level[None, :, None, None])
        for x in (f, c)
    )
    flat = (1e-6 * spread.max()) ** 2
    (fine, fine_varies), (coarse, coarse_varies) = (
        _unit_vector(x, flat) for x in (fine, coarse)
    )
    off = fine - coarse
    # R = 1 - |u - v|^2 / 2 of unit vectors: no digits are lost where R is nearly 1. A
    # constant spectrum is correlated with none.
    return jnp.where(
        fine_varies & coarse_varies, reduce(add, list(product(off, off))) / 2.0, 1.0
    )


def _unit_vector(
    x: Float[Array, "value rows columns"], flat: Any
) -> tuple[Float[Array, "value rows columns"], Bool[Array, "rows columns"]]:
    """Each pixel's values about their mean, scaled to length 1; and whether they vary."""
    about = x - (reduce(add, list(x)) / len(x))[None]
    square = reduce(add, list(product(about, about)))
    varies = square > flat
    return about / jnp.sqrt(jnp.where(varies, square, 1.0))[None], varies


def _line_maps(
    f: Float[Array, "2 band rows columns"], c: Float[Array, "2 band rows columns"]
) -> Float[Array, "map rows columns"]:
    """1, and what the line of fine on coarse over both dates is made of, by band."""
    one = jnp.ones_like(f[0, :1])
    means = [
        (first + second) / 2.0
        for first, second in (c, f, product(c, c), product(c, f), product(f, f))
    ]
    return jnp.concatenate([one, c[0] - c[1], *means])


def _change_maps(
    f: Float[Array, "2 band rows columns"], c: Float[Array, "2 band rows columns"]
) -> Float[Array, "map rows columns"]:
    """Second moments of the fine and the coarse change between the base dates."""
    fine, coarse = f[1] - f[0], c[1] - c[0]
    return jnp.concatenate([fine * fine, fine * coarse, coarse * coarse])


def _misfit(means: Any, slope: Any) -> Any:
    """Mean square of (F3 - F1) - V (C3 - C1) over the similar pixels."""
    fine, both, coarse = means.reshape(3, *slope.shape)
    cross = product(slope, both)
    return jnp.maximum(fine - (cross + cross) + product(slope * slope, coarse), 0.0)


@lru_cache(maxsize=8)
def least_r2(most: int) -> Float[np.ndarray, " count"]:
    """Least r^2 of a slope that differs from 0 (p <= 0.05), by number of similar pixels.

    Each gives two points of the line. With fewer than two of them there is no test.
    """
    freedom = 2.0 * np.arange(most + 1) - 2.0
    table = np.full(most + 1, np.inf, np.float32)
    critical = stats.f.ppf(0.95, 1, freedom[2:])
    table[2:] = critical / (critical + freedom[2:])
    return table
