"""What a gate knows of a pixel before it trusts one prediction more than another.

Everything is told by the inputs and by the experts' own predictions p_e; no truth is seen:

    each expert     p_e - q                   q the mean of the experts
                    R_e smooth                R_e = mean of (C2 - C1) - (p_e - F1) in a
                                              coarse pixel: what it adds up to wrongly
                    power of R_e, of p_e - q  in 7x7 coarse pixels
    the base date   detail, texture, how C1 and F1 differ
    the change      blocky, smooth, its power near by, the local line from C1 to C2
    other bands     mean change, mean disagreement
    the scene       see `agreement.py`, and the scale

All is in spreads of the band, so that any physical variable will do. Numbers whose sign is
that of the band come first: turning a band upside down turns them, and nothing else.
"""

import math
from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from geofuse.spatiotemporal import agreement
from geofuse.spatiotemporal.coarse_grid import bicubic, block_mean, local_line, painted
from geofuse.spatiotemporal.method import trimmed
from geofuse.spatiotemporal.temporal import change_power

#: Coarse pixels beyond the result that are looked at: those of a 7x7 window.
MARGIN = 3

#: Numbers of a pixel beside those of experts and scene: signed, and others.
PIXEL_SIGNED = 6
PIXEL_UNSIGNED = 9


class GateInputs(NamedTuple):
    """What is known of each band of one base, without the margin.

    Attributes:
        known: Numbers of each pixel, finite; signed ones first.
        predictions: What each expert predicts; NaN where it predicts nothing.
        residuals: What each adds up to wrongly, between the centers of coarse pixels, in
            the unit of the band; 0 where that is not known.
        guess: A first guess of the variance, squared units.
    """

    known: Float[Array, "band feature y x"]
    predictions: Float[Array, "band expert y x"]
    residuals: Float[Array, "band expert y x"]
    guess: Float[Array, "band y x"]


def signed_inputs(experts: int) -> int:
    """How many of the numbers have the sign of the band."""
    return 2 * experts + PIXEL_SIGNED + agreement.SIGNED


def all_inputs(experts: int) -> int:
    """How many numbers a gate over so many experts is given."""
    unsigned = 2 * experts + PIXEL_UNSIGNED + agreement.UNSIGNED
    return signed_inputs(experts) + unsigned


def gate_inputs(
    fine: Float[Array, "band rows columns"],
    coarse_base: Float[Array, "band rows columns"],
    coarse: Float[Array, "band rows columns"],
    predictions: Float[Array, "band expert rows columns"],
    spread: Float[Array, " band"],
    numbers: Float[Array, "band number"],
    scale: int,
) -> GateInputs:
    """Gather what is known, of all bands of one base.

    Args:
        fine: Fine image of the base date.
        coarse_base: Coarse image of the base date, on the fine grid.
        coarse: That of the prediction date.
        predictions: What each expert predicts from this base.
        spread: Spread of each band.
        numbers: Numbers of the scene, as `Agreement` has them for this base.
        scale: Coarse GSD / fine GSD. The windows start at a coarse corner, and are larger
            than the result by three coarse pixels on each side.
    """
    found = lax.map(
        lambda band: _of_band(*band, scale=scale),
        (fine, coarse_base, coarse, predictions, spread, numbers),
    )
    # The other bands: where this one is the only one, it stands for them.
    others = jnp.stack([_mean(list(value)) for value in found.others])
    others = jnp.broadcast_to(others[None], (len(fine), *others.shape))
    known = jnp.concatenate([found.known, _log(others)], axis=1)
    return GateInputs(
        jnp.where(jnp.isfinite(known), known, 0.0),
        found.predictions,
        found.residuals,
        found.guess,
    )


class _Band(NamedTuple):
    """What is known of one band, and its sizes, of which the mean over bands is taken."""

    known: Any
    predictions: Any
    residuals: Any
    guess: Any
    others: tuple[Any, ...]


def _of_band(
    fine: Any,
    coarse_base: Any,
    coarse: Any,
    predictions: Any,
    spread: Any,
    numbers: Any,
    *,
    scale: int,
) -> _Band:
    margin = MARGIN * scale
    unit = 1.0 / spread
    change = (coarse - coarse_base) * unit

    # The experts: how they differ, and what they add up to wrongly.
    valid = jnp.isfinite(predictions)
    middle = _mean(list(predictions))
    off = jnp.where(valid, (predictions - middle[None]) * unit, jnp.nan)
    wrong = block_mean(change[None] - (predictions - fine[None]) * unit, scale)
    left = bicubic(_inner(wrong), scale)
    far = _near(jnp.sqrt(block_mean(off * off, scale)), scale)
    off = trimmed(off, margin)
    differ = jnp.sqrt(_mean(list(off * off)))

    # The base date.
    level = block_mean(fine, scale)
    bias = (block_mean(coarse_base, scale) - level) * unit
    rough = (fine - painted(level, scale)) * unit
    texture = jnp.sqrt(block_mean(rough * rough, scale))
    here = trimmed(fine, margin)
    detail = (here - bicubic(_inner(level), scale)) * unit
    apart = (here - trimmed(coarse_base, margin)) * unit

    # The change.
    cells = block_mean(change, scale)
    smooth = bicubic(_inner(cells), scale)
    line = local_line(
        block_mean(coarse_base, scale), block_mean(coarse, scale), radius=MARGIN
    )
    place = (here - painted(line.mean_x, scale)) * unit

    signed = [
        *jnp.arcsinh(10.0 * off),
        *jnp.arcsinh(10.0 * left),
        *(
            jnp.arcsinh(5.0 * value)
            for value in (
                detail,
                apart,
                trimmed(change, margin),
                smooth,
                painted(trimmed(bias, MARGIN), scale),
                place,
            )
        ),
    ]
    sizes = [
        *_near(wrong, scale),
        *far,
        painted(trimmed(texture, MARGIN), scale),
        _near(cells, scale),
        _near(bias, scale),
        painted(jnp.sqrt(line.variance) * unit, scale),
        differ,
    ]
    steep = painted(line.slope, scale)

    def flat(values: Any) -> Sequence[Any]:
        return [jnp.broadcast_to(value, here.shape) for value in values]

    octave = jnp.full(here.shape, math.log2(scale) / 4.0)
    known = [
        *(value / 3.0 for value in signed),
        *flat(numbers[: agreement.SIGNED]),
        *(_log(value) for value in sizes),
        *flat(numbers[agreement.SIGNED :]),
        jnp.arcsinh(steep),
        octave,
    ]
    square = differ * differ + 0.05 * smooth * smooth + 1e-3
    guess = jnp.where(jnp.isfinite(square), square, 1.0) * spread * spread
    return _Band(
        jnp.stack(known),
        trimmed(predictions, margin),
        jnp.where(jnp.isfinite(left), left, 0.0) * spread,
        guess,
        (jnp.abs(smooth), differ),
    )


def _inner(cells: Any) -> Any:
    """Coarse pixels without those that `bicubic` does not need."""
    return trimmed(cells, MARGIN - 2)


def _near(cells: Any, scale: int) -> Any:
    """Root mean square in the 7x7 coarse pixels around each, on the fine grid."""
    return painted(jnp.sqrt(change_power(cells, radius=MARGIN)), scale)


def _log(size: Any) -> Any:
    """Logarithm of a size in spreads, from a thousandth on, divided by three."""
    return jnp.log(jnp.maximum(size, 1e-3)) / 3.0


def _mean(images: Sequence[Any]) -> Any:
    """Mean of what is valid, in order; NaN where nothing is."""
    total = reduce(
        add, [jnp.where(jnp.isfinite(image), image, 0.0) for image in images]
    )
    count = reduce(add, [jnp.isfinite(image).astype(total.dtype) for image in images])
    return jnp.where(count > 0, total / jnp.maximum(count, 1.0), jnp.nan)
