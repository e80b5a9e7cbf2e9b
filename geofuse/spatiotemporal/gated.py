"""The experts' predictions mixed as a gate says.

    p_h = sum_e w_he (p_e + g_h R_e)      of head h; p is the mean over the heads
    v   = guess exp(log variance)         the aleatoric variance; that of p_h is epistemic

Every sum is written out in one order, so that a pixel gets the same bits in every tile, as
far as the products of matrices in the gate do.
"""

from collections.abc import Callable, Mapping
from functools import partial, reduce
from operator import add
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from geofuse.networks.gate import Gate
from geofuse.networks.parameters import network_of
from geofuse.spatiotemporal.gate_inputs import GateInputs


class Mixed(NamedTuple):
    """Predictions from each base.

    Attributes:
        reflectance: The mixture; NaN where no expert predicts anything.
        aleatoric: Its variance as the gate states it, squared units.
        epistemic: Variance of the heads, squared units.
        gates: Weights of the experts, mean over the heads; they sum to 1.
        heads: The mixture of each head.
    """

    reflectance: Float[Array, "*band y x"]
    aleatoric: Float[Array, "*band y x"]
    epistemic: Float[Array, "*band y x"]
    gates: Float[Array, "*band expert y x"]
    heads: Float[Array, "*band head y x"]


def mix(
    make: Callable[[], Gate], weights: Mapping[str, Any], known: GateInputs
) -> Mixed:
    """Mix the experts' predictions from one base, a band at a time.

    Args:
        make: Builds such a gate.
        weights: Its parameters, and `inputs.mean`, `inputs.std`: what its inputs are
            measured from and in.
        known: What is known, by band.
    """
    return lax.map(partial(mix_band, make, weights), known)


def mix_band(
    make: Callable[[], Gate], weights: Mapping[str, Any], known: GateInputs
) -> Mixed:
    """Mix the experts' predictions of one band; arrays without the axis of bands."""
    inner = {name: a for name, a in weights.items() if not name.startswith("inputs.")}
    gate = network_of(make, inner)
    mean, std = (lax.stop_gradient(weights[f"inputs.{k}"]) for k in ("mean", "std"))
    pixels = (known.known - mean[:, None, None]) / std[:, None, None]
    judged = gate(jnp.moveaxis(pixels, 0, -1))
    predictions = known.predictions[None]
    valid = jnp.isfinite(predictions)
    share = _softmax(jnp.moveaxis(judged.logits, (-2, -1), (0, 1)), valid)
    gain = jnp.moveaxis(judged.gain, -1, 0)[:, None]
    growth = jnp.exp(jnp.moveaxis(judged.log_variance, -1, 0))

    # Differences from a valid prediction: temperatures in kelvin lose no digits.
    first = reduce(
        lambda found, other: jnp.where(jnp.isfinite(found), found, other),
        list(known.predictions),
    )
    off = jnp.where(valid, predictions - first[None, None], 0.0)
    back = gain * jnp.where(valid, known.residuals[None], 0.0)
    heads = first[None] + _added(share * (off + back), axis=1)
    count = len(heads)
    mixed = _added(heads, axis=0) / count
    return Mixed(
        reflectance=mixed,
        aleatoric=known.guess * (_added(growth, axis=0) / count),
        epistemic=_added((heads - mixed[None]) ** 2, axis=0) / count,
        gates=_added(share, axis=0) / count,
        heads=heads,
    )


def _softmax(logits: Any, valid: Any) -> Any:
    """Weights (head, expert, y, x) of the valid experts; they sum to 1, or are all 0."""
    logits = jnp.where(valid, logits, -jnp.inf)
    top = logits.max(axis=1, keepdims=True)
    raw = jnp.exp(logits - jnp.where(jnp.isfinite(top), top, 0.0))
    total = _added(raw, axis=1)[:, None]
    return raw / jnp.where(total > 0, total, 1.0)


def _added(array: Any, *, axis: int) -> Any:
    """A sum in one order, whatever the size of the tile."""
    return reduce(add, list(jnp.moveaxis(array, axis, 0)))
