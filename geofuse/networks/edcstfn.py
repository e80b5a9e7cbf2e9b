"""The network of EDCSTFN: what is there, what changed, and the image of both.

    fine ──────────────────────> encoder ──┐
    coarse base, fine, coarse ─> residual ─┴ + ─> decoder ─> image

Reference: Z. Tan, L. Di, M. Zhang, L. Guo, M. Gao (2019): An enhanced deep convolutional
model for spatiotemporal image fusion. Remote Sensing 11(24), 2898.
"""

import jax.numpy as jnp
from flax import nnx
from jax.nn import relu
from jaxtyping import Array, Float

from geofuse.networks.blocks import Draws, convolution

#: How far from a pixel it looks: five convolutions of 3x3.
REACH = 5


class EDCSTFNNetwork(nnx.Module):
    """Two encoders of three convolutions, a decoder of three (Tan et al. 2019).

    Args:
        bands: Bands of the images.
        widths: Channels of the encoders' convolutions; the decoder's in reverse.
        zero: Whether the last convolution starts as 0.
        draws: Where its numbers are drawn from.
    """

    def __init__(
        self, bands: int, widths: tuple[int, int, int], *, zero: bool, draws: Draws
    ) -> None:
        """Draw the layers."""
        first, second, third = widths
        self.encoder = _Encoder(bands, widths, draws=draws)
        self.residual = _Encoder(3 * bands, widths, draws=draws)
        self.down = nnx.List(
            [
                convolution(third, second, draws=draws),
                convolution(second, first, draws=draws),
            ]
        )
        self.last = convolution(first, bands, side=1, zero=zero, draws=draws)

    def __call__(
        self,
        fine: Float[Array, "batch y x band"],
        coarse_base: Float[Array, "batch y x band"],
        coarse: Float[Array, "batch y x band"],
    ) -> Float[Array, "batch y x band"]:
        """The image of the prediction date, or its change since the base date."""
        there = relu(self.encoder(fine))
        change = self.residual(jnp.concatenate([coarse_base, fine, coarse], axis=-1))
        features = there + change
        for layer in self.down:
            features = relu(layer(features))
        return self.last(features)


class _Encoder(nnx.Module):
    """Three convolutions; none after the last one cuts off what is negative."""

    def __init__(
        self, inputs: int, widths: tuple[int, int, int], *, draws: Draws
    ) -> None:
        channels = (inputs, *widths)
        self.layers = nnx.List(
            [convolution(*channels[k : k + 2], draws=draws) for k in range(3)]
        )

    def __call__(
        self, values: Float[Array, "batch y x channel"]
    ) -> Float[Array, "batch y x feature"]:
        for layer in self.layers[:-1]:
            values = relu(layer(values))
        return self.layers[-1](values)
