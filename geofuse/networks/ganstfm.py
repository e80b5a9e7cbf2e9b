"""The generator of GAN-STFM: a coarse image is given the texture of any fine one.

    coarse ─> transform ─┬─> transform ─┬─> …  lateral ──┐
                         +              +                ├─> decoder ─> image
    fine ───> residual ──┴─> residual ──┴─> …  trunk ────┘

The lateral stream sees the coarse image alone; at every level it is added to the trunk,
which starts from the fine image. Nothing is strided: all levels are full size.

Reference: Z. Tan, M. Gao, X. Li, L. Jiang (2022, online 2021): A flexible
reference-insensitive spatiotemporal fusion model for remote sensing images using
conditional generative adversarial network. IEEE Transactions on Geoscience and Remote
Sensing 60, doi 10.1109/TGRS.2021.3050551.
"""

from itertools import pairwise

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from geofuse.networks.blocks import ChannelNorm, ChannelScale, Draws, convolution, leaky


def reach(levels: int) -> int:
    """How far from a pixel it looks: a convolution of 3x3 a level, inward and outward."""
    return 2 * levels


class GANSTFMGenerator(nnx.Module):
    """Four blocks of two streams, four of one (Tan et al. 2021).

    Departure from the paper: switchable normalization, a mixture of statistics over the
    image, the batch and the channels, is left with the channels of the pixel; before the
    first layer, where they are a few bands, with a learned gain and offset.

    Args:
        bands: Bands of the images.
        widths: Channels of the blocks of the encoder; the decoder's in reverse.
        zero: Whether the last convolution starts as 0.
        draws: Where its numbers are drawn from.
    """

    def __init__(
        self, bands: int, widths: tuple[int, ...], *, zero: bool, draws: Draws
    ) -> None:
        """Draw the layers."""
        inward = (bands, *widths)
        outward = (2 * widths[-1], *widths[::-1])
        self.encoder = nnx.List(
            [
                _TwoStreams(a, b, first=number == 0, draws=draws)
                for number, (a, b) in enumerate(pairwise(inward))
            ]
        )
        self.decoder = nnx.List(
            [_OneStream(a, b, draws=draws) for a, b in pairwise(outward)]
        )
        self.last = convolution(widths[0], bands, side=1, zero=zero, draws=draws)

    def __call__(
        self,
        fine: Float[Array, "batch y x band"],
        coarse_base: Float[Array, "batch y x band"],
        coarse: Float[Array, "batch y x band"],
    ) -> Float[Array, "batch y x band"]:
        """The image of the prediction date, or its change; the coarse base is not used."""
        lateral, trunk = coarse, fine
        for block in self.encoder:
            lateral, trunk = block(lateral, trunk)
        features = jnp.concatenate([lateral, trunk], axis=-1)
        for layer in self.decoder:
            features = layer(features)
        return self.last(features)


class _TwoStreams(nnx.Module):
    """One level of the encoder."""

    def __init__(self, inputs: int, outputs: int, *, first: bool, draws: Draws) -> None:
        between = min(inputs, outputs)
        norm = ChannelScale if first else ChannelNorm
        self.transform = convolution(inputs, between, draws=draws)
        self.transform_out = convolution(between, outputs, side=1, draws=draws)
        self.norm = norm(inputs)
        self.residual = convolution(inputs, between, draws=draws)
        self.norm_out = norm(between)
        self.residual_out = convolution(between, outputs, side=1, draws=draws)

    def __call__(
        self,
        lateral: Float[Array, "batch y x channel"],
        trunk: Float[Array, "batch y x channel"],
    ) -> tuple[Float[Array, "batch y x feature"], Float[Array, "batch y x feature"]]:
        lateral = leaky(self.transform_out(self.transform(lateral)))
        own = self.residual(leaky(self.norm(trunk)))
        return lateral, self.residual_out(leaky(self.norm_out(own))) + lateral


class _OneStream(nnx.Module):
    """One level of the decoder: a residual block whose number of channels changes."""

    def __init__(self, inputs: int, outputs: int, *, draws: Draws) -> None:
        between = min(inputs, outputs)
        self.residual = convolution(inputs, between, draws=draws)
        self.residual_out = convolution(between, outputs, side=1, draws=draws)
        self.transform = convolution(inputs, outputs, side=1, draws=draws)

    def __call__(
        self, values: Float[Array, "batch y x channel"]
    ) -> Float[Array, "batch y x feature"]:
        own = self.residual_out(leaky(self.residual(values)))
        return own + self.transform(values)
