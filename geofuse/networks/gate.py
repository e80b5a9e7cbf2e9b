"""The gate of a mixture of experts: which of several predictions to trust at a pixel.

    x ── dense ── dense ──┬── logits of the experts     softmax: their weights
                          ├── gain                      how much of the residual to put back
                          └── log variance              beside what the experts tell

A pixel at a time: whatever of the neighborhood matters is in x. Several heads share the
trunk and are trained on other draws of the scenes; how far they differ is what the network
does not know. The last layer starts at zero: then all experts weigh alike, and nothing is
put back.

Reference: R. Jacobs, M. Jordan, S. Nowlan, G. Hinton (1991): Adaptive mixtures of local
experts. Neural Computation 3(1), 79-87.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


class GateOutput(NamedTuple):
    """What the gate says of each pixel, by head.

    Attributes:
        logits: Log-weights of the experts, up to a constant.
        gain: Share of each expert's coarse residual to put back, -1 to 1.
        log_variance: Logarithm of the variance over its first guess.
    """

    logits: Float[Array, "*pixels head expert"]
    gain: Float[Array, "*pixels head"]
    log_variance: Float[Array, "*pixels head"]


class Gate(nnx.Module):
    """Per-pixel network from what is known at a pixel to weights of experts.

    Args:
        features: Numbers that are known of a pixel.
        experts: Number of experts.
        width: Width of the hidden layers.
        depth: Number of hidden layers.
        heads: Number of heads.
        rngs: Where the first parameters are drawn from.
    """

    def __init__(
        self,
        features: int,
        experts: int,
        *,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        rngs: nnx.Rngs,
    ) -> None:
        """Draw the first parameters."""
        self.experts, self.heads = experts, heads
        sizes = [features, *[width] * depth]
        self.hidden = nnx.List(
            [
                nnx.Linear(sizes[i], sizes[i + 1], rngs=rngs)
                for i in range(len(sizes) - 1)
            ]
        )
        self.last = nnx.Linear(
            width,
            heads * (experts + 2),
            kernel_init=nnx.initializers.zeros_init(),
            rngs=rngs,
        )

    def __call__(self, x: Float[Array, "*pixels feature"]) -> GateOutput:
        """Judge the experts.

        Args:
            x: What is known of each pixel, about 0 and of size 1; no NaN.
        """
        for layer in self.hidden:
            x = jax.nn.silu(layer(x))
        out: Any = self.last(x).reshape(*x.shape[:-1], self.heads, self.experts + 2)
        return GateOutput(
            logits=out[..., :-2],
            gain=jnp.tanh(out[..., -2]),
            log_variance=jnp.clip(out[..., -1], -6.0, 6.0),
        )
