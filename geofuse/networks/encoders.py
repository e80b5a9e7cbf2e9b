"""Encoders of one modality: from its channels to features, at every pixel.

    channels and presence ── 1x1 ──> width ── 3x3, dilation 1 ── 2 ── 4 ──> features
                                              reach: 1 + 2 + 4 = 7 pixels

Nothing is normalized over space, and a layer gives only what it sees whole: an encoder
takes `reach` pixels more on each side than it gives back. So a pixel depends on nothing
but the window around it, however the raster was cut into tiles.

Where a modality is missing its features are 0 after every layer: neighbors see that it
is missing, and not what stands in its place.

References:
    F. Yu and V. Koltun (2016): Multi-scale context aggregation by dilated convolutions.
    International Conference on Learning Representations.
    J. Tompson et al. (2015): Efficient object localization using convolutional networks,
    CVPR: dropout of whole channels. A mask that is drawn for each pixel would depend on
    the tile, and neighbors would tell what it hides.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from geofuse.networks.blocks import ChannelNorm, Draws, leaky, linear

#: Dilations of the convolutions of an encoder, one after the other.
DILATIONS = (1, 2, 4)


def reach(dilations: Sequence[int] = DILATIONS) -> int:
    """How far an encoder looks, in pixels."""
    return sum(dilations)


class Dropout:
    """Which channels are dropped: a mask for each patch and layer, one for all pixels.

    Args:
        rate: Share of the channels that is dropped, in [0, 1).
        key: Where the masks are drawn from; None to drop nothing.
    """

    def __init__(self, rate: float, key: Any = None) -> None:
        """Start with the first layer."""
        self._rate, self._key = rate, key if rate > 0 else None
        self._layers = 0

    def __call__(
        self, values: Float[Array, "batch y x channel"]
    ) -> Float[Array, "batch y x channel"]:
        """Drop channels of a layer; the others grow, so that the mean stays."""
        if self._key is None:
            return values
        self._layers += 1
        key = jax.random.fold_in(self._key, self._layers)
        batch, _, _, channels = values.shape
        keep = jax.random.bernoulli(key, 1 - self._rate, (batch, 1, 1, channels))
        return jnp.where(keep, values / (1 - self._rate), 0.0)


class Encoder(nnx.Module):
    """The features of one modality.

    Args:
        channels: Channels of the modality, without its presence, which is added.
        width: Channels of all layers, and of the features.
        dilations: Of the convolutions.
        draws: Where its numbers are drawn from.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        dilations: Sequence[int] = DILATIONS,
        *,
        draws: Draws,
    ) -> None:
        """Draw the layers."""
        self.reach = reach(dilations)
        self.first = linear(channels + 1, width, draws=draws)
        self.first_norm = ChannelNorm(width)
        self.layers = nnx.List(
            [_dilated(width, dilation, draws) for dilation in dilations]
        )
        self.norms = nnx.List([ChannelNorm(width) for _ in dilations])
        self.dilations = tuple(dilations)

    def __call__(
        self,
        values: Float[Array, "batch rows columns channel"],
        present: Bool[Array, "batch rows columns"],
        dropout: Dropout,
    ) -> Float[Array, "batch y x feature"]:
        """Encode a window.

        Args:
            values: Channels in units of their spread; what stands where the modality is
                missing does not matter, not even NaN.
            present: Where the modality is there.
            dropout: Which channels are dropped.

        Returns:
            Features of the window without `reach` pixels on each side, 0 where missing.
        """
        here = present[..., None]
        flag = here.astype(values.dtype)
        known = jnp.concatenate([jnp.where(here, values, 0.0), flag], axis=-1)
        found = leaky(self.first_norm(self.first(known)))
        found = jnp.where(here, found, 0.0)
        for dilation, layer, norm in zip(
            self.dilations, self.layers, self.norms, strict=True
        ):
            here = without_edge(here, dilation)
            context = leaky(norm(layer(dropout(found))))
            found = jnp.where(here, without_edge(found, dilation) + context, 0.0)
        return found


def without_edge(values: Array, width: int) -> Array:
    """A window (batch, y, x, channel) without its outermost pixels."""
    return values[:, width:-width, width:-width] if width else values


def _dilated(width: int, dilation: int, draws: Draws) -> nnx.Conv:
    return nnx.Conv(
        width,
        width,
        (3, 3),
        kernel_dilation=dilation,
        padding="VALID",
        kernel_init=draws.kernel,
        rngs=draws.rngs,
    )
