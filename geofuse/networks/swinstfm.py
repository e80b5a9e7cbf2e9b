"""The network of SwinSTFM: attention within windows, at several scales.

    coarse base ─> encoder ─┐ one encoder for both      at every scale, from deep to shallow:
    coarse      ─> encoder ─┤    dC = coarse - base     the coarse change, weighted by where
    fine        ─> encoder ─┘                           the images look alike, is added to
                                                        the fine features

Windows see half of the picture at the deepest scale, so that the paper cuts an image into
patches of 256x256, half of them overlapping, and keeps the middle of each. So does this
network with any image: its patches start at multiples of half a patch, and a pixel depends
on nothing beyond the patch in whose middle it lies.

Reference: G. Chen, P. Jiao, Q. Hu, L. Xiao, Z. Ye (2022): SwinSTFM: remote sensing
spatiotemporal fusion using swin transformer. IEEE Transactions on Geoscience and Remote
Sensing 60, doi 10.1109/TGRS.2022.3182809.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from geofuse.networks.blocks import ChannelNorm, Draws, convolution, linear, unfolded
from geofuse.networks.window_attention import ChangeBlock, SelfBlock


class SwinLayout(NamedTuple):
    """The size of the network.

    Attributes:
        width: Channels at the shallowest scale; twice as many at each deeper one.
        depths: Blocks at each scale.
        head: Channels of a head.
        window: Side of a window, in pixels of its scale.
        patch: Side of a patch, in pixels of the image.
    """

    width: int
    depths: tuple[int, ...]
    head: int
    window: int
    patch: int


class SwinSTFMNetwork(nnx.Module):
    """Encoders for coarse and fine images, and a decoder that spreads the coarse change.

    Departure from the paper: no hyperbolic tangent at the end, for values here have no
    upper end.

    Args:
        bands: Bands of the images.
        layout: The size of the network. Rows and columns of the images must be half a
            patch or more of them, and one half.
        zero: Whether the last convolution starts as 0.
        draws: Where its numbers are drawn from.
    """

    def __init__(
        self, bands: int, layout: SwinLayout, *, zero: bool, draws: Draws
    ) -> None:
        """Draw the layers."""
        self.patch = layout.patch
        widths = [layout.width * 2**level for level in range(len(layout.depths))]
        self.coarse = _Encoder(bands, widths, layout, draws=draws)
        self.fine = _Encoder(bands, widths, layout, draws=draws)
        self.deepest = _Spread(widths[-1], 1, layout, draws=draws)
        # The deepest scale has as many channels as the one above it.
        outs = [widths[0], *widths[:-1]]
        self.ups = nnx.List(
            [
                _Up(
                    widths[level],
                    outs[level],
                    layout.depths[level],
                    layout,
                    draws=draws,
                )
                for level in reversed(range(len(widths)))
            ]
        )
        first = layout.width
        self.widen = convolution(first, 4 * first, draws=draws)
        self.last = convolution(first, bands, zero=zero, draws=draws)

    def __call__(
        self,
        fine: Float[Array, "batch y x band"],
        coarse_base: Float[Array, "batch y x band"],
        coarse: Float[Array, "batch y x band"],
    ) -> Float[Array, "batch y x band"]:
        """The image of the prediction date, or its change; 0 within 1/4 patch of the edge."""
        images = jnp.stack([fine, coarse_base, coarse])
        return in_patches(lambda patch: self._predict(*patch), images, self.patch)

    def _predict(self, fine: Any, coarse_base: Any, coarse: Any) -> Any:
        """One patch."""
        texture = self.fine(fine)
        coarse_ones = self.coarse(jnp.concatenate([coarse_base, coarse]))
        scales = []
        for image, both in zip(texture, coarse_ones, strict=True):
            old, new = jnp.split(both, 2)
            scales.append(_Scale(new - old, image, old, new))
        features = self.deepest(scales[-1]) + scales[-1].fine
        for scale, up in zip(scales[-2::-1], self.ups, strict=True):
            features = up(scale, features)
        return self.last(unfolded(self.widen(features)))


def in_patches(
    predict: Callable[[Any], Any],
    images: Float[Array, "image batch y x band"],
    side: int,
) -> Float[Array, "batch y x feature"]:
    """Apply a function to overlapping patches, and join their middles.

    Args:
        predict: Takes (image, batch, side, side, band), gives (batch, side, side, feature).
        images: y and x are `side` / 2 times a whole number from 2 on.
        side: Side of a patch, a multiple of 4; patches start every `side` / 2 pixels.

    Returns:
        What `predict` gave; 0 within `side` / 4 pixels of the edge.
    """
    core, margin = side // 2, side // 4
    _, batch, height, width, bands = images.shape
    down, across = (height - core) // core, (width - core) // core

    def middle(place: Any) -> Any:
        top, left = place // across * core, place % across * core
        zero = jnp.zeros((), place.dtype)
        patch = lax.dynamic_slice(
            images,
            (zero, zero, top, left, zero),
            (len(images), batch, side, side, bands),
        )
        return predict(patch)[:, margin:-margin, margin:-margin]

    middles = lax.map(middle, jnp.arange(down * across))
    rows = middles.reshape(down, across, *middles.shape[1:]).transpose(2, 0, 3, 1, 4, 5)
    joined = rows.reshape(batch, down * core, across * core, -1)
    edge = (margin, margin)
    return jnp.pad(joined, ((0, 0), edge, edge, (0, 0)))


class _Scale(NamedTuple):
    """The features of a patch at one scale (batch, y, x, channel)."""

    change: Any
    fine: Any
    coarse_base: Any
    coarse: Any


class _Encoder(nnx.Module):
    """Features of an image at all scales, each of half the rows and columns."""

    def __init__(
        self, bands: int, widths: list[int], layout: SwinLayout, *, draws: Draws
    ) -> None:
        first = widths[0]
        self.embed = linear(4 * bands, first, draws=draws)
        self.norm = ChannelNorm(first)
        deeper = [*widths[1:], widths[-1]]
        self.stages = nnx.List(
            [
                _Blocks(width, depth, layout, draws=draws)
                for width, depth in zip(widths, layout.depths, strict=True)
            ]
        )
        self.norms = nnx.List([ChannelNorm(4 * width) for width in widths])
        self.merges = nnx.List(
            [
                linear(4 * width, deep, bias=False, draws=draws)
                for width, deep in zip(widths, deeper, strict=True)
            ]
        )

    def __call__(self, image: Any) -> list[Any]:
        values = self.norm(self.embed(_folded(image)))
        scales = [values]
        for stage, norm, merge in zip(
            self.stages, self.norms, self.merges, strict=True
        ):
            values = merge(norm(_folded(stage(values))))
            scales.append(values)
        return scales


class _Blocks(nnx.Module):
    """Blocks of self-attention, every other one with shifted windows."""

    def __init__(
        self, width: int, depth: int, layout: SwinLayout, *, draws: Draws
    ) -> None:
        self.blocks = nnx.List(
            [
                SelfBlock(
                    width,
                    width // layout.head,
                    layout.window,
                    shift=layout.window // 2 * (number % 2),
                    draws=draws,
                )
                for number in range(depth)
            ]
        )

    def __call__(self, values: Any) -> Any:
        for block in self.blocks:
            values = block(values)
        return values


class _Spread(nnx.Module):
    """The coarse change, spread over the pixels where the images look alike."""

    def __init__(
        self, width: int, depth: int, layout: SwinLayout, *, draws: Draws
    ) -> None:
        self.norms = nnx.List([ChannelNorm(width) for _ in range(3)])
        self.blocks = nnx.List(
            [
                ChangeBlock(
                    width,
                    width // layout.head,
                    layout.window,
                    shift=layout.window // 2 * (number % 2),
                    draws=draws,
                )
                for number in range(depth)
            ]
        )

    def __call__(self, scale: _Scale) -> Any:
        guides = [
            norm(image)
            for norm, image in zip(
                self.norms, (scale.fine, scale.coarse_base, scale.coarse), strict=True
            )
        ]
        change = scale.change
        for block in self.blocks:
            change = block(change, *guides)
        return change


class _Up(nnx.Module):
    """One scale of the decoder: what comes from the deeper one, and what is seen here."""

    def __init__(
        self,
        width: int,
        outputs: int,
        depth: int,
        layout: SwinLayout,
        *,
        draws: Draws,
    ) -> None:
        self.widen = convolution(width, 4 * width, draws=draws)
        self.spread = _Spread(width, 2, layout, draws=draws)
        self.join = linear(3 * width, outputs, draws=draws)
        self.blocks = _Blocks(outputs, depth, layout, draws=draws)

    def __call__(self, scale: _Scale, deeper: Any) -> Any:
        deeper = unfolded(self.widen(deeper))
        fine = self.spread(scale) + scale.fine
        joined = jnp.concatenate([scale.coarse, fine, deeper], axis=-1)
        return self.blocks(self.join(joined))


def _folded(values: Any) -> Any:
    """Blocks of 2x2 pixels as channels: (batch, y, x, c) as (batch, y/2, x/2, 4 c)."""
    batch, rows, columns, channels = values.shape
    blocks = values.reshape(batch, rows // 2, 2, columns // 2, 2, channels)
    return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(
        batch, rows // 2, columns // 2, 4 * channels
    )
