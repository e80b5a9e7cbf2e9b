"""A Kalman smoother over a series: per pixel, with a variance.

Two things move in time at a pixel: f, what the fine sensor would see, and c, what the
coarse sensor sees there. Both are random walks, and they move together:

    (f, c)(t + d) = (f, c)(t) + w        w ~ N(0, d [s² q + u, s q; s q, q])
    fine image    F = f + e              e ~ N(0, fine_noise²)      where valid
    coarse image  C = c + e              e ~ N(0, r)                where valid

In words: where the coarse image moves by x, the pixel moves by s x, give or take what the
coarse image cannot tell, u a day. Each image updates the state by its precision; a cloud
skips its update and the variance grows until the next one. The forward filter knows the
past; the backward pass of the smoother (fixed-interval: what Rauch, Tung and Striebel's
gives) adds the future. Where nothing is known of a pixel's own slope this is the line in
time between fine - coarse of the dates around, plus the coarse image.

What is estimated, per band, in one scan of the series:

    q, r   from the coarse series itself, by its variogram in time, up to three images
           apart: mean (C(t + d) - C(t))² = q d + 2 r
    s      slope of the change of F on that of C from one fine image to the next; a pixel's
           own is drawn from N(s, `slope_spread`²) and shrunk to s by what it has shown
    u      what the line in time misses: F - s C at a fine date against the line between
           the dates before and after it, over the variance d1 d2 / (d1 + d2) that a random
           walk has there. A pixel's own has the weight of its dates against `prior` dates.

With two fine images there is no date between two others: u is then from their difference.
With one there is nothing to learn s and u from: s = 1 and u = q. `notes` says so.

References: R. E. Kalman (1960), J. Basic Eng. 82, 35-45, eqs. of the filter; H. E. Rauch, F.
Tung, C. T. Striebel (1965), AIAA J. 3, 1445-1450; J. Durbin, S. J. Koopman (2012): Time
Series Analysis by State Space Methods, 2nd ed., 4.4 (the smoother in the form used here,
which inverts no matrix) and 6.4 (one scalar observation at a time); A. C. Harvey (1989):
Forecasting, Structural Time Series Models and the Kalman Filter, 8.2 (series that move
together). Fine and coarse images in one filter: A. Moreno-Martínez et al. (2020), Remote
Sensing of Environment 247, 111901 (HISTARFM), whose prior is a climatology of years; here a
single season must do, and the coarse series takes that place.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from dask.delayed import Delayed
from jax import lax
from jaxtyping import Array, Float
from typing_extensions import override

from geofuse.errors import ParameterError
from geofuse.spatiotemporal.coarse_grid import ROUNDING, bicubic, block_mean
from geofuse.spatiotemporal.fusion_series import FusionSeries
from geofuse.spatiotemporal.kalman_noise import MotionSummary, summarize_motion
from geofuse.spatiotemporal.method import trimmed
from geofuse.spatiotemporal.series_method import (
    SeriesMethod,
    SeriesPrediction,
    SeriesTile,
)
from geofuse.spatiotemporal.time_lines import apart, between_valid, mean_of_valid

#: Variance of the state before the first image, in units of a day's motion: vague, and
#: not so vague that float32 loses the digits of what is learned later.
VAGUE = 1e4


@dataclass(frozen=True)
class Kalman(SeriesMethod):
    """Kalman smoother of fine and coarse images, per pixel, with a variance.

    Args:
        fine_noise: Standard deviation of the noise of the fine images, in their unit, 0 or
            more; 0 takes them as exact. A pixel that was measured is given as measured
            whatever this says.
        slope_spread: Standard deviation over the pixels of the slope of fine on coarse
            change, 0 to 10; 0 gives all pixels of a band one slope.
        prior: Number of dates that the scene's u counts for against a pixel's own, 0.5 to
            1000.

    Raises:
        ParameterError: A field is out of range.

    It predicts wherever a pixel has one valid fine image, also where the coarse image of
    the date is invalid. Where the scale is known, the coarse images are interpolated
    between the centers of their pixels; otherwise they are taken as they lie.

    >>> Kalman(slope_spread=0.0)
    Kalman(fine_noise=0.0, slope_spread=0.0, prior=4.0)
    """

    states_uncertainty: ClassVar[bool] = True
    uses_coarse: ClassVar[bool] = True
    # The coarse images are interpolated from two coarse pixels beyond.
    coarse_halo: ClassVar[int] = 2

    fine_noise: float = 0.0
    slope_spread: float = 0.5
    prior: float = 4.0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("fine_noise", 0.0, np.inf),
            ("slope_spread", 0.0, 10.0),
            ("prior", 0.5, 1000.0),
        ):
            value = getattr(self, name)
            if not (low <= value <= high and np.isfinite(value)):
                raise ParameterError(
                    f"expected {name} from {low:g} to {high:g}, found {value}; the "
                    "default suits most series"
                )

    @override
    def summarize(self, series: FusionSeries) -> Delayed:
        return summarize_motion(series)

    @override
    def notes(self, series: FusionSeries) -> str:
        return {
            1: "one fine image: slope 1, and its own motion taken from the coarse images",
            2: "two fine images: their own motion taken from their difference",
        }.get(len(series.fine), "")

    @override
    def predict_tile(
        self, tile: SeriesTile, summary: MotionSummary
    ) -> SeriesPrediction:
        days = sorted(
            {*tile.timeline.fine, *tile.timeline.coarse, *tile.timeline.wanted}
        )
        places = [
            np.array([days.index(day) for day in of])
            for of in (tile.timeline.fine, tile.timeline.coarse, tile.timeline.wanted)
        ]
        steps = np.diff(days, prepend=days[0]).astype(np.float32)

        def one_band(arrays: Any) -> tuple[Any, Any]:
            fine, coarse, motion = arrays
            if tile.scale is not None:
                scale = tile.scale.value
                fine = trimmed(fine, self.coarse_halo * scale)
                coarse = bicubic(block_mean(coarse, scale), scale)
            # In units of a day's motion, about a level: no unit is large or small here.
            fine, coarse = ((x - motion.level) / motion.unit for x in (fine, coarse))
            moves = self._moves(fine, coarse, tile, motion)
            noise = jnp.float32(self.fine_noise) / motion.unit
            seen = Seen(
                _on(days, fine, places[0]),
                _on(days, coarse, places[1]),
                jnp.square(noise),
                motion.coarse_noise,
            )
            value, variance = smooth(seen, moves, jnp.asarray(steps))
            known = jnp.isfinite(fine).any(axis=0)
            value, variance = value[places[2]], variance[places[2]]
            value = jnp.where(known, value * motion.unit, jnp.nan)
            scaled = jnp.where(known, variance * jnp.square(motion.unit), jnp.nan)
            return value + motion.level, scaled

        by_band = (
            jnp.moveaxis(tile.fine, 1, 0),
            jnp.moveaxis(tile.coarse, 1, 0),
            jax.tree.map(jnp.asarray, summary),
        )
        value, variance = lax.map(one_band, by_band)
        return SeriesPrediction(jnp.moveaxis(value, 0, 1), jnp.moveaxis(variance, 0, 1))

    def _moves(self, fine: Any, coarse: Any, tile: SeriesTile, motion: Any) -> "Moves":
        """A pixel's own slope and motion, shrunk to the scene's by what it has shown."""
        days = tile.timeline.fine
        seen = between_valid(coarse, tile.timeline.coarse, days)
        scene_u = jnp.maximum(motion.own_motion, ROUNDING)
        slope = jnp.full(fine.shape[1:], motion.slope)
        spread = jnp.float32(self.slope_spread**2)

        # Posterior of the slope: prior N(scene's, spread), changes with variance u d.
        def learn(sums: Any, now: Any) -> tuple[Any, None]:
            x, y, length = now
            off = y - apart(slope * x)
            weight = spread / (scene_u * length)
            gain = jnp.where(jnp.isfinite(off), weight * x * off, 0.0)
            precision = jnp.where(jnp.isfinite(off), weight * x * x, 0.0)
            return (sums[0] + gain, sums[1] + precision), None

        lengths = np.diff(np.asarray(days, np.float32))
        zeros = jnp.zeros(fine.shape[1:], fine.dtype)
        changes = (seen[1:] - seen[:-1], fine[1:] - fine[:-1], jnp.asarray(lengths))
        (gain, precision), _ = lax.scan(learn, (zeros, zeros), changes)
        slope = slope + apart(gain / (1.0 + precision))

        def miss(sums: Any, now: Any) -> tuple[Any, None]:
            (first, second, third), share, variance = now
            missed = (second - first) - apart((third - first) * share)
            valid = jnp.isfinite(missed)
            square = jnp.where(valid, missed * missed / variance, 0.0)
            return (sums[0] + square, sums[1] + valid.astype(fine.dtype)), None

        own = fine - apart(slope[None] * seen)
        before, after = lengths[:-1], lengths[1:]
        lines = (
            (own[:-2], own[1:-1], own[2:]),
            jnp.asarray(before / (before + after)),
            jnp.asarray(before * after / (before + after)),
        )
        start = (zeros + self.prior * scene_u, zeros + jnp.float32(self.prior))
        (total, count), _ = lax.scan(miss, start, lines)
        return Moves(slope, motion.coarse_motion, total / count)


class Moves(NamedTuple):
    """How fine and coarse values move in a day: [s² q + u, s q; s q, q]."""

    slope: Float[Array, "y x"]
    coarse: Float[Array, ""]
    own: Float[Array, "y x"]


class Seen(NamedTuple):
    """What was measured, on every day of the timeline; NaN where it was not.

    Attributes:
        fine: Fine values.
        coarse: Coarse values.
        fine_noise: Variance of the noise of the fine values.
        coarse_noise: That of the coarse ones.
    """

    fine: Float[Array, "day y x"]
    coarse: Float[Array, "day y x"]
    fine_noise: Float[Array, ""]
    coarse_noise: Float[Array, ""]


class State(NamedTuple):
    """A normal distribution of two values: means, variances and covariance.

    `a` is the one that is measured, `b` the other one.
    """

    a: Any
    b: Any
    aa: Any
    ab: Any
    bb: Any

    def turned(self) -> "State":
        """The same with the two exchanged."""
        return State(self.b, self.a, self.bb, self.ab, self.aa)


def smooth(
    seen: Seen, moves: Moves, steps: Float[Array, " day"]
) -> tuple[Float[Array, "day y x"], Float[Array, "day y x"]]:
    """Mean and variance of f on every day, given all that was measured.

    Args:
        seen: What was measured, in units of a day's motion.
        moves: How the two move in a day.
        steps: Days since the day before in the timeline; 0 for the first.
    """
    start = State(
        mean_of_valid(seen.fine)[0],
        mean_of_valid(seen.coarse)[0],
        aa=jnp.full(seen.fine.shape[1:], VAGUE),
        ab=jnp.zeros(seen.fine.shape[1:]),
        bb=jnp.full(seen.fine.shape[1:], VAGUE),
    )
    together = moves.slope * moves.coarse
    together = apart(together)
    fine_alone = apart(moves.slope * together) + moves.own

    def forward(state: State, now: Any) -> tuple[State, State]:
        step, fine, coarse = now
        before = state._replace(
            aa=state.aa + apart(fine_alone * step),
            ab=state.ab + apart(together * step),
            bb=state.bb + apart(moves.coarse * step),
        )
        after = _measured(before.turned(), coarse, seen.coarse_noise).turned()
        return _measured(after, fine, seen.fine_noise), before

    days = (steps, seen.fine, seen.coarse)
    _, predicted = lax.scan(forward, start, days)

    def backward(later: State, now: Any) -> tuple[State, tuple[Any, Any]]:
        before, fine, coarse = now
        after = _measured(before.turned(), coarse, seen.coarse_noise).turned()
        later = _told(later, after, fine, seen.fine_noise)
        turned = _told(later.turned(), before.turned(), coarse, seen.coarse_noise)
        later = turned.turned()
        mean = before.a + (apart(before.aa * later.a) + apart(before.ab * later.b))
        spread = (
            apart(before.aa * before.aa * later.aa)
            + apart(before.ab * before.ab * later.bb)
        ) + apart(2.0 * before.aa * before.ab * later.ab)
        return later, (mean, jnp.maximum(before.aa - spread, 0.0))

    nothing = State(*(jnp.zeros_like(start.aa) for _ in start))
    _, (mean, variance) = lax.scan(
        backward, nothing, (predicted, seen.fine, seen.coarse), reverse=True
    )
    return mean, variance


def _measured(state: State, value: Any, noise: Any) -> State:
    """The filter's update by a measured `a` (Durbin & Koopman 2012, 6.4)."""
    valid = jnp.isfinite(value)
    spread = state.aa + noise
    off = jnp.where(valid, value - state.a, 0.0)
    kept = noise / spread
    gain = state.ab / spread
    after = State(
        state.a + apart(state.aa / spread * off),
        state.b + apart(gain * off),
        state.aa * kept,
        state.ab * kept,
        jnp.maximum(state.bb - apart(gain * state.ab), 0.0),
    )
    return State(
        *(jnp.where(valid, new, old) for new, old in zip(after, state, strict=True))
    )


def _told(later: State, before: State, value: Any, noise: Any) -> State:
    """What the future tells of a state, going back over a measured `a`.

    Args:
        later: The r (a, b) and N (aa, ab, bb) of Durbin & Koopman (2012), 4.4.
        before: The state before that measurement.
        value: What was measured, NaN if nothing.
        noise: Variance of its noise.
    """
    valid = jnp.isfinite(value)
    spread = before.aa + noise
    off = jnp.where(valid, value - before.a, 0.0)
    kept, gain = noise / spread, before.ab / spread
    mixed = apart(kept * later.ab) - apart(gain * later.bb)
    first = apart(kept * later.aa) - apart(gain * later.ab)
    earlier = State(
        off / spread + (apart(kept * later.a) - apart(gain * later.b)),
        later.b,
        1.0 / spread + (apart(kept * first) - apart(gain * mixed)),
        mixed,
        later.bb,
    )
    return State(
        *(jnp.where(valid, new, old) for new, old in zip(earlier, later, strict=True))
    )


def _on(days: list[int], images: Any, places: np.ndarray) -> Any:
    """Images on every day of the timeline, NaN where there is none."""
    empty = jnp.full((len(days), *images.shape[1:]), jnp.nan, images.dtype)
    return empty.at[places].set(images)
