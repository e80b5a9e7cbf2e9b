"""The predictions of several methods on one tile, each merged in time.

A method that takes one pair predicts from each base, alone, and its predictions are merged
by `merge_bases`: near in time is not near in ground, and the coarse images tell which base
looks like the prediction date. A method that needs two pairs or more gets all of them.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from dask.delayed import Delayed
from jaxtyping import Array, Float, Int

from geofuse.errors import ParameterError
from geofuse.pairs import FusionInputs
from geofuse.spatiotemporal.coarse_grid import block_mean, painted
from geofuse.spatiotemporal.method import (
    FusionMethod,
    FusionPrediction,
    FusionTile,
    Scale,
    trimmed,
    valid_pairs,
)
from geofuse.spatiotemporal.temporal import change_power, each_base, merge_bases
from geofuse.tiling import gathered

#: Half the side of the window in which a coarse change is near, in coarse pixels.
NEAR = 3


class MemberPredictions(NamedTuple):
    """What several methods predict for one tile, without its halo.

    Attributes:
        reflectance: Their predictions; NaN where a method has none.
        variance: Their variances, squared units; NaN where a method states none.
        bases: Weight of each pair in a prediction; sums to 1, or is 0 where there is none.
        similar: Number of similar pixels.
    """

    reflectance: Float[Array, "method band y x"]
    variance: Float[Array, "method band y x"]
    bases: Float[Array, "method pair band y x"]
    similar: Int[Array, "method y x"]


class FromBases(NamedTuple):
    """What one method predicts from each base alone."""

    reflectance: Float[Array, "pair band y x"]
    variance: Float[Array, "pair band y x"]
    similar: Int[Array, "pair y x"]


def taking_part(
    methods: Sequence[FusionMethod], pairs: int
) -> tuple[FusionMethod, ...]:
    """The methods that work with so many pairs."""
    return tuple(method for method in methods if method.pairs_needed <= pairs)


def check_steps(methods: Sequence[FusionMethod], scale: int) -> None:
    """Refuse methods whose tiles must start elsewhere than at coarse pixels.

    Members are given parts of one tile, which starts at any corner of a coarse pixel: the
    strides of a network would fall on other pixels in other tiles.

    Args:
        methods: The members.
        scale: Coarse GSD / fine GSD.

    Raises:
        ParameterError: The step of one is no part of a coarse pixel.
    """
    for method in methods:
        step = method.step(scale)
        if scale % step:
            raise ParameterError(
                f"expected members whose tiles start at coarse pixels, every {scale} fine "
                f"ones, found {type(method).__name__}, which needs tiles that start every "
                f"{step}; leave it out, or predict with it alone"
            )


def takes_bases(method: FusionMethod) -> bool:
    """Whether a method predicts from each base alone."""
    return method.pairs_needed == 1


def summaries_of(methods: Sequence[FusionMethod], inputs: FusionInputs) -> Delayed:
    """The summaries of methods that take part, as a lazy tuple.

    That of a method which predicts from each base is the bases' summaries, stacked.
    """
    alone = [
        FusionInputs([pair], inputs.coarse, inputs.scale, inputs.offset, inputs.classes)
        for pair in inputs.pairs
    ]
    found = [
        _stacked(method, alone) if takes_bases(method) else method.summarize(inputs)
        for method in methods
    ]
    return gathered(tuple, found, token="members")


def crossed_summaries_of(
    methods: Sequence[FusionMethod], inputs: FusionInputs, others: Sequence[int]
) -> Delayed:
    """The summaries of methods that predict base date `others[k]` from pair k."""
    jobs = [
        FusionInputs(
            [pair],
            inputs.pairs[other].coarse,
            inputs.scale,
            inputs.offset,
            inputs.classes,
        )
        for pair, other in zip(inputs.pairs, others, strict=True)
    ]
    return gathered(
        tuple, [_stacked(method, jobs) for method in methods], token="crossed members"
    )


def predictions_of(
    methods: Sequence[FusionMethod],
    tile: FusionTile,
    summaries: tuple[Any, ...],
    halo: int,
) -> tuple[FromBases | FusionPrediction, ...]:
    """Predict with each method: from each base alone, or from all pairs.

    Args:
        methods: Those that take part.
        tile: The tile; it knows its scale.
        summaries: Theirs, as `summaries_of` gives them.
        halo: How much larger the tile is than the prediction, in fine pixels.
    """
    return tuple(
        from_bases(method, tile, tile.coarse[None], summary, halo)
        if takes_bases(method)
        else _from_all(method, _tile_for(method, tile, halo), summary)
        for method, summary in zip(methods, summaries, strict=True)
    )


def merge_members(
    methods: Sequence[FusionMethod],
    predictions: Sequence[FromBases | FusionPrediction],
    rate: Any,
    nearby: Any,
    scale: int,
) -> MemberPredictions:
    """Merge in time what each method predicts.

    Args:
        methods: Those that take part.
        predictions: Theirs, as `predictions_of` gives them.
        rate: Error power of a method for one of coarse change: (method, pair, band).
        nearby: Power of the coarse change near a coarse pixel: (pair, band, row, column).
        scale: Coarse GSD / fine GSD.
    """
    power = painted(nearby, scale)
    found = []
    for number, (method, predicted) in enumerate(
        zip(methods, predictions, strict=True)
    ):
        if isinstance(predicted, FromBases):
            doubt = rate[number][:, :, None, None] * power
            merged = merge_bases(predicted.reflectance, predicted.variance, doubt)
            image, variance, bases = merged.reflectance, merged.variance, merged.weight
            similar = predicted.similar.max(axis=0)
        else:
            image, similar = predicted.reflectance, predicted.similar
            variance = predicted.aleatoric + predicted.epistemic
            numbers = jnp.arange(1, len(nearby) + 1)[:, None, None, None]
            bases = (predicted.pair[None, None] == numbers).astype(jnp.float32)
            bases = jnp.broadcast_to(bases, (len(nearby), *image.shape))
        if not method.states_uncertainty:
            variance = jnp.full_like(image, jnp.nan)
        found.append((image, variance, bases, similar))
    return MemberPredictions(*(jnp.stack(field) for field in zip(*found, strict=True)))


def from_bases(
    method: FusionMethod,
    tile: FusionTile,
    coarse: Any,
    summary: Any,
    halo: int,
) -> FromBases:
    """Predict with one method from each base alone.

    Args:
        method: It takes one pair.
        tile: The pairs; its own coarse image is not looked at.
        coarse: The coarse images to predict for, (pair, band, y, x), one for all bases or
            one each.
        summary: The bases' summaries, stacked.
        halo: How much larger the tile is than the prediction, in fine pixels.
    """
    part = _tile_for(method, tile, halo)
    wanted = trimmed(coarse, halo - _trim_of(method, tile))
    # One shape for both scans, so that they are compiled once.
    numpy = np if isinstance(wanted, np.ndarray) else jnp
    wanted = numpy.broadcast_to(wanted, part.fine.shape)
    return _from_bases(method, part._replace(coarse=wanted[0]), wanted, summary)


def nearby_change(
    tile: FusionTile, power: Any, halo: int
) -> Float[Array, "pair band row column"]:
    """Power of the coarse change near each coarse pixel, drawn halfway to the scene's.

    Args:
        tile: The tile; it knows its scale.
        power: The scene's, from each base: (pair, band), squared units.
        halo: How much larger the tile is than the result, in fine pixels, whole coarse
            ones, at least three.
    """
    scale = tile.scale.value if tile.scale is not None else 1
    spare = halo - NEAR * scale
    change = trimmed(tile.coarse[None] - tile.coarse_base, spare)
    near = change_power(block_mean(change, scale), radius=NEAR)
    whole = power[:, :, None, None]
    return 0.5 * (jnp.where(jnp.isfinite(near), near, whole) + whole)


def coarse_residual(
    prediction: Float[Array, "band y x"], tile: FusionTile, nearby: Any, halo: int
) -> Float[Array, "band row column"]:
    """What a prediction adds up to wrongly: the mean of (C2 - C_k) - (p - F_k).

    Of several bases, those count most from which the coarse image changed least.

    Args:
        prediction: The prediction.
        tile: The tile that it was made from, larger by `halo` on each side.
        nearby: Power of the coarse change, as `nearby_change` gives it.
        halo: Fine pixels.

    Returns:
        Coarse pixels; NaN where less than half of one is valid.
    """
    scale = tile.scale.value if tile.scale is not None else 1
    fine, base, coarse = (
        trimmed(image, halo) for image in (tile.fine, tile.coarse_base, tile.coarse)
    )
    left = cells_of((coarse[None] - base) - (prediction[None] - fine), scale)
    return merge_bases(left, jnp.zeros_like(left), nearby).reflectance


def cells_of(image: Any, scale: int) -> Any:
    """Means of coarse pixels of which half is valid or more; NaN elsewhere."""
    valid = block_mean(jnp.isfinite(image).astype(jnp.float32), scale)
    return jnp.where(valid >= 0.5, block_mean(image, scale), jnp.nan)


@partial(jax.jit, static_argnums=0)
def _from_bases(
    method: FusionMethod, tile: FusionTile, coarse: Any, summary: Any
) -> FromBases:
    """Compiled once for the base dates that are predicted and for the prediction date."""
    halo = method.trim(None if tile.scale is None else tile.scale.value)

    def one(base: tuple[Any, ...]) -> FromBases:
        fine, coarse_base, wanted, lag, known = base
        alone = FusionTile(fine[None], coarse_base[None], wanted, lag[None], tile.scale)
        predicted = method.predict_tile(alone, known)
        valid = trimmed(valid_pairs(alone), halo)[0]
        return FromBases(
            jnp.where(valid, predicted.reflectance, jnp.nan),
            predicted.aleatoric + predicted.epistemic,
            predicted.similar,
        )

    return each_base(one, (tile.fine, tile.coarse_base, coarse, tile.lags, summary))


@partial(jax.jit, static_argnums=0)
def _from_all(method: FusionMethod, tile: FusionTile, summary: Any) -> FusionPrediction:
    predicted = method.predict_tile(tile, summary)
    halo = method.trim(None if tile.scale is None else tile.scale.value)
    valid = trimmed(valid_pairs(tile), halo).any(axis=0)
    return predicted._replace(
        reflectance=jnp.where(valid, predicted.reflectance, jnp.nan)
    )


def _tile_for(method: FusionMethod, tile: FusionTile, halo: int) -> FusionTile:
    """As much of the tile as the method looks at."""
    spare = halo - _trim_of(method, tile)
    return FusionTile(
        trimmed(tile.fine, spare),
        trimmed(tile.coarse_base, spare),
        trimmed(tile.coarse, spare),
        tile.lags,
        None if method.coarse_halo is None else tile.scale,
    )


def _trim_of(method: FusionMethod, tile: FusionTile) -> int:
    scale: Scale | None = tile.scale
    return method.trim(None if scale is None else scale.value)


def _stacked(method: FusionMethod, jobs: Sequence[FusionInputs]) -> Delayed:
    found = [method.summarize(job) for job in jobs]
    return gathered(_stack, found, token="stacked")


def _stack(summaries: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *summaries)
