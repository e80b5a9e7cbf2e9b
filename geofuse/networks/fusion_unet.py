"""A strided fusion U-Net: the generator of MLFF-GAN, without its adversary.

    coarse      ─> extract ─┐  at five levels, each of half the rows and columns:
    coarse base ─> extract ─┤    g        gate, from the difference of the two coarse ones
    fine        ─> extract ─┘    s        fine features with the moments of the coarse ones
                                 g c + (1 - g) s  ─> decoder, from deep to shallow ─> image

Both coarse images go through one extractor.

Reference: B. Song, P. Liu, J. Li, L. Wang, L. Zhang, G. He, L. Chen, J. Liu (2022):
MLFF-GAN: a multilevel feature fusion with GAN for spatiotemporal remote sensing images.
IEEE Transactions on Geoscience and Remote Sensing 60, doi 10.1109/TGRS.2022.3169916. The
moments of one pixel: B. Li, F. Wu, K. Q. Weinberger, S. Belongie (2019): Positional
normalization. Advances in Neural Information Processing Systems 32.
"""

from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from geofuse.networks.blocks import (
    ChannelScale,
    Draws,
    ResidualBlock,
    channel_moments,
    convolution,
    leaky,
)


def reach(levels: int) -> int:
    """How far from a pixel the network looks, in whole pixels of its deepest level.

    Args:
        levels: Number of levels; the deepest has pixels of 2^(levels - 1).
    """
    # At full size: a 7x7 convolution, and residual blocks (2 each) before and after.
    far = 3 + 2 + 2 + 2
    for level in range(1, levels):
        pixel = 2**level
        # Down: a strided 3x3 at the finer size, and a residual block. Up: a residual block
        # at the finer size, a transposed 4x4, and where in its pixel a finer one lies.
        far += pixel // 2 + 2 * pixel + 2 * (pixel // 2) * (level > 1) + 2 * pixel
    deepest = 2 ** (levels - 1)
    return -(-far // deepest) * deepest


class FusionUNetNetwork(nnx.Module):
    """A U-Net whose skips are gated by the coarse change (Song et al. 2022).

    Departures from the paper, all for the law of tiles: adaptive instance normalization
    takes its moments over the channels of each pixel instead of over the image
    (Li et al. 2019); batch normalization is a learned gain and offset; no dropout.

    Args:
        bands: Bands of the images.
        widths: Channels of the levels; rows and columns must be multiples of
            2^(levels - 1).
        zero: Whether the last convolution starts as 0.
        draws: Where its numbers are drawn from.
    """

    def __init__(
        self, bands: int, widths: tuple[int, ...], *, zero: bool, draws: Draws
    ) -> None:
        """Draw the layers."""
        first = widths[0]
        self.coarse = _Extractor(bands, widths, draws=draws)
        self.fine = _Extractor(bands, widths, draws=draws)
        self.gates = nnx.List([_Gate(width, draws=draws) for width in widths])
        self.decoder = nnx.List(
            [
                _Up(2 * deep, shallow, draws=draws)
                for shallow, deep in zip(widths[-2::-1], widths[:0:-1], strict=True)
            ]
        )
        self.full = ResidualBlock(2 * first, draws=draws)
        self.narrow = convolution(2 * first, first, side=1, draws=draws)
        self.refine = ResidualBlock(first, draws=draws)
        self.last = convolution(first, bands, side=1, zero=zero, draws=draws)

    def __call__(
        self,
        fine: Float[Array, "batch y x band"],
        coarse_base: Float[Array, "batch y x band"],
        coarse: Float[Array, "batch y x band"],
    ) -> Float[Array, "batch y x band"]:
        """The image of the prediction date, or its change since the base date."""
        coarse_ones = self.coarse(jnp.concatenate([coarse_base, coarse]))
        fused = []
        for gate, both, texture in zip(
            self.gates, coarse_ones, self.fine(fine), strict=True
        ):
            old, new = jnp.split(both, 2)
            fused.append(gate(new, old, _styled(texture, new)))
        features = jnp.split(coarse_ones[-1], 2)[1]
        for skip, up in zip(fused[:0:-1], self.decoder, strict=True):
            features = up(jnp.concatenate([skip, features], axis=-1))
        features = self.full(jnp.concatenate([fused[0], features], axis=-1))
        return self.last(self.refine(self.narrow(features)))


def _styled(
    texture: Float[Array, "batch y x channel"], style: Float[Array, "batch y x channel"]
) -> Float[Array, "batch y x channel"]:
    """Features with the mean and the spread over channels of others, at each pixel."""
    mean, std = channel_moments(texture)
    new_mean, new_std = channel_moments(style)
    return (texture - mean) / std * new_std + new_mean


class _Extractor(nnx.Module):
    """Features of one image at all levels."""

    def __init__(self, bands: int, widths: tuple[int, ...], *, draws: Draws) -> None:
        layers = [convolution(bands, widths[0], side=7, draws=draws)]
        for shallow, deep in pairwise(widths):
            layers.append(convolution(shallow, deep, stride=2, draws=draws))
        self.layers = nnx.List(layers)
        self.blocks = nnx.List([ResidualBlock(width, draws=draws) for width in widths])

    def __call__(
        self, image: Float[Array, "batch y x band"]
    ) -> list[Float[Array, "batch _y _x _channel"]]:
        levels = []
        for layer, block in zip(self.layers, self.blocks, strict=True):
            image = block(layer(image))
            levels.append(image)
        return levels


class _Gate(nnx.Module):
    """How much of the coarse features to take, pixel by pixel, from what changed."""

    def __init__(self, channels: int, *, draws: Draws) -> None:
        self.new = convolution(channels, channels, side=1, draws=draws)
        self.new_scale = ChannelScale(channels)
        self.old = convolution(channels, channels, side=1, draws=draws)
        self.old_scale = ChannelScale(channels)
        self.gate = convolution(channels, 1, side=1, draws=draws)
        self.gate_scale = ChannelScale(1)

    def __call__(
        self,
        new: Float[Array, "batch y x channel"],
        old: Float[Array, "batch y x channel"],
        styled: Float[Array, "batch y x channel"],
    ) -> Float[Array, "batch y x channel"]:
        change = self.new_scale(self.new(new)) - self.old_scale(self.old(old))
        gate = jax.nn.sigmoid(self.gate_scale(self.gate(change)))
        return gate * new + (1.0 - gate) * styled


class _Up(nnx.Module):
    """Twice the rows and columns, and a residual block."""

    def __init__(self, inputs: int, outputs: int, *, draws: Draws) -> None:
        self.up = nnx.ConvTranspose(
            inputs,
            outputs,
            (4, 4),
            strides=2,
            kernel_init=draws.kernel,
            rngs=draws.rngs,
        )
        self.block = ResidualBlock(outputs, draws=draws)

    def __call__(
        self, values: Float[Array, "batch y x channel"]
    ) -> Float[Array, "batch _y _x feature"]:
        return self.block(leaky(self.up(values)))
