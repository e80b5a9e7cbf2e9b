"""Heads: from features at a pixel to logits of the classes.

The probability of class c is exp(logit_c) / sum exp(logits). A head may also state a
variance: how little its logits are worth beside those of another head.
"""

from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from geofuse.networks.blocks import Draws, linear

#: Log variances are kept within these: exp(-8) is a weight 3000 times that of exp(0).
LOG_VARIANCES = (-8.0, 8.0)


class ClassOutput(NamedTuple):
    """What a head says of each pixel.

    Attributes:
        logits: Log-probabilities of the classes, up to a constant.
        log_variance: Natural logarithm of a variance that all logits share; 0 from a
            head that states none.
    """

    logits: Float[Array, "batch y x outcome"]
    log_variance: Float[Array, "batch y x"]


class ClassHead(nnx.Module):
    """Logits of the classes, linear in the features.

    Args:
        width: Number of features.
        classes: Number of classes.
        variance: Whether it states a variance, too.
        draws: Where its numbers are drawn from.
    """

    def __init__(
        self, width: int, classes: int, *, variance: bool = False, draws: Draws
    ) -> None:
        """Draw a layer, and another for the variance."""
        self.logits = linear(width, classes, draws=draws)
        self.variance = linear(width, 1, draws=draws) if variance else None

    def __call__(self, features: Float[Array, "batch y x feature"]) -> ClassOutput:
        """Judge each pixel on its own."""
        logits = self.logits(features)
        if self.variance is None:
            return ClassOutput(logits, jnp.zeros_like(logits[..., 0]))
        stated = jnp.clip(self.variance(features)[..., 0], *LOG_VARIANCES)
        return ClassOutput(logits, stated)
