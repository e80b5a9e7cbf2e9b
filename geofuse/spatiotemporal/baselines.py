"""The trivial lines that every table must have.

None of them looks further than a pixel (or its coarse pixel). A method that does not beat
them on a scene has nothing to add there:

    Persistence    F1                              the scene did not change
    CoarseImage    C2                              the pair has nothing to say
    CoarseChange   F1 + (C2 - C1)                  it changed as the coarse image did
    LinearInTime   between F1 and F3, by date      it changed steadily; no coarse image
    BandLine       a F1 + b, with C2 ~ a C1 + b    every pixel changed by one rule

They state no uncertainty: their variances are NaN.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from dask.delayed import Delayed
from typing_extensions import override

from geofuse.errors import ParameterError
from geofuse.pairs import FusionInputs
from geofuse.spatiotemporal.coarse_grid import bicubic, block_mean
from geofuse.spatiotemporal.method import (
    FixedMethod,
    FusionPrediction,
    FusionTile,
    no_summary,
    scale_of,
    trimmed,
    valid_pairs,
)
from geofuse.spatiotemporal.scene import Moments, change_moments, images_of, merged
from geofuse.tiling import reduce_tiles


class TrivialLine(FixedMethod):
    """A method that looks no further than the pixel, and mostly not at the scene."""

    @property
    @override
    def halo(self) -> int:
        return 0

    @override
    def summarize(self, inputs: FusionInputs) -> Delayed:
        return no_summary()


@dataclass(frozen=True)
class Persistence(TrivialLine):
    """The fine image of the nearest base date, unchanged."""

    @override
    def predict_tile(self, tile: FusionTile, summary: Any) -> FusionPrediction:
        return of_nearest_pair(tile, tile.fine)


@dataclass(frozen=True)
class CoarseImage(TrivialLine):
    """The coarse image of the prediction date, between the centers of its pixels.

    It has no detail, and needs none of the pair but its place: a method that loses to it
    has made detail up. It needs the scale.
    """

    @property
    @override
    def coarse_halo(self) -> int | None:
        return 2

    @override
    def predict_tile(self, tile: FusionTile, summary: Any) -> FusionPrediction:
        scale = scale_of(tile)
        halo = self.trim(scale)
        image = bicubic(block_mean(tile.coarse, scale), scale)
        core = tile._replace(
            fine=trimmed(tile.fine, halo),
            coarse_base=trimmed(tile.coarse_base, halo),
            coarse=trimmed(tile.coarse, halo),
        )
        return of_nearest_pair(core, jnp.broadcast_to(image, core.fine.shape))


@dataclass(frozen=True)
class CoarseChange(TrivialLine):
    """The fine image of the nearest base date plus the change of the coarse image.

    Args:
        upsample: `block` adds the coarse change as it lies on the fine grid, constant in a
            coarse pixel. `bicubic` takes its mean in each coarse pixel and interpolates
            between their centers (Keys 1981, a = -1/2); it needs the scale.

    Raises:
        ParameterError: `upsample` is neither.
    """

    upsample: Literal["block", "bicubic"] = "block"

    def __post_init__(self) -> None:
        if self.upsample not in ("block", "bicubic"):
            raise ParameterError(
                f"expected upsample 'block' or 'bicubic', found {self.upsample!r}; "
                "'block' needs no scale"
            )

    @property
    @override
    def coarse_halo(self) -> int | None:
        return 2 if self.upsample == "bicubic" else None

    @override
    def predict_tile(self, tile: FusionTile, summary: Any) -> FusionPrediction:
        change = tile.coarse[None] - tile.coarse_base
        if tile.scale is None:
            return of_nearest_pair(tile, tile.fine + change)
        halo = self.trim(tile.scale.value)
        smooth = bicubic(block_mean(change, tile.scale.value), tile.scale.value)
        core = tile._replace(
            fine=trimmed(tile.fine, halo),
            coarse_base=trimmed(tile.coarse_base, halo),
            coarse=trimmed(tile.coarse, halo),
        )
        return of_nearest_pair(core, core.fine + smooth)


@dataclass(frozen=True)
class LinearInTime(TrivialLine):
    """The fine images before and after, interpolated by date; the coarse are not used.

    With more than two pairs the nearest ones around the prediction date serve. Where that
    date lies outside all pairs, the line through the nearest two is continued.
    """

    pairs_needed: ClassVar[int] = 2

    @override
    def predict_tile(self, tile: FusionTile, summary: Any) -> FusionPrediction:
        first, second = _around(tile.lags)
        # F(t) = F1 + (F3 - F1) (t - t1) / (t3 - t1), and lag = t - t_k.
        share = tile.lags[first] / (tile.lags[first] - tile.lags[second])
        before, after = tile.fine[first], tile.fine[second]
        valid = valid_pairs(tile)
        both = valid[first] & valid[second]
        nearer = jnp.where(share < 0.5, first, second) + 1
        return _prediction(
            jnp.where(both, before + (after - before) * share, jnp.nan),
            jnp.where(both.any(axis=0), nearer, 0),
        )


class LineSummary(NamedTuple):
    """The line from the coarse base image to the coarse image of the prediction date."""

    slope: np.ndarray
    intercept: np.ndarray


@dataclass(frozen=True)
class BandLine(TrivialLine):
    """One line per band, fitted from C1 to C2 over the scene, applied to F1.

    The nearest base date that is valid at the pixel serves. Where C1 is constant, the
    slope is 1.
    """

    @override
    def summarize(self, inputs: FusionInputs) -> Delayed:
        images = images_of(inputs, "coarse")
        return reduce_tiles(change_moments, images, _lines, token="BandLine")

    @override
    def predict_tile(self, tile: FusionTile, summary: LineSummary) -> FusionPrediction:
        slope = summary.slope[:, :, None, None]
        intercept = summary.intercept[:, :, None, None]
        return of_nearest_pair(tile, slope * tile.fine + intercept)


def _lines(parts: list[Moments]) -> LineSummary:
    slope, intercept = merged(parts).line()
    return LineSummary(slope.astype(np.float32), intercept.astype(np.float32))


def of_nearest_pair(tile: FusionTile, predictions: Any) -> FusionPrediction:
    """Of one prediction a pair, the valid one whose base date is nearest."""
    valid = valid_pairs(tile) & jnp.isfinite(predictions)
    distance = jnp.abs(tile.lags)[:, None, None, None]
    nearest = jnp.argmin(jnp.where(valid, distance, jnp.inf), axis=0)
    chosen = jnp.take_along_axis(predictions, nearest[None], axis=0)[0]
    any_valid = valid.any(axis=0)
    pair = jnp.where(any_valid, nearest + 1, 0).max(axis=0)
    return _prediction(jnp.where(any_valid, chosen, jnp.nan), pair)


def _prediction(reflectance: Any, pair: Any) -> FusionPrediction:
    unknown = jnp.full_like(reflectance, jnp.nan)
    pair = pair.astype(jnp.int32)
    return FusionPrediction(
        reflectance, unknown, unknown, pair, (pair > 0).astype(jnp.int32)
    )


def _around(lags: Any) -> tuple[Any, Any]:
    """The nearest pairs before and after the prediction date, else the nearest two."""
    distance = jnp.abs(lags)
    nearest = jnp.argmin(distance)
    other_side = (lags > 0) != (lags[nearest] > 0)
    others = jnp.where(jnp.arange(len(lags)) == nearest, jnp.inf, distance)
    across = jnp.where(other_side, others, jnp.inf)
    second = jnp.where(
        jnp.isfinite(across).any(), jnp.argmin(across), jnp.argmin(others)
    )
    return nearest, second
