"""The per-pixel networks of a learned fusion kernel.

    channels of a pixel ──trunk──> hidden ─┬─> embedding e, scales a, b   how weights fall
                                           ├─> trust c                    of a neighbor
                                           └─> gains g                    on the change
    what the window gave ────────┐
                          hidden ┴─heads──> M corrections (m, r), log variance

Nothing here looks at another pixel: the networks tell how far to trust a neighbor, and
`kernel_regression` sums over neighbors. All layers that give a correction start at zero, so
that an untrained network corrects nothing; only the embedding starts at random, for without
differences between pixels a scale of differences could not be learned.

The mean over the window (kernel prediction) after B. Mildenhall et al. (2018): Burst
denoising with kernel prediction networks, CVPR; weights by distance in an embedding of each
pixel as in non-local means (A. Buades et al. 2005), learned.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

#: Numbers that a pixel is described by to its neighbors.
EMBEDDING = 3
#: Hidden units of a head.
HEAD = 8
#: Pixels in one product: always as many, so that a pixel's place changes nothing.
CHUNK = 4096


class Correction(NamedTuple):
    """What the trunk says of each pixel; 0 of all but `embedding` corrects nothing.

    Attributes:
        hidden: What the heads look at.
        embedding: Where the pixel lies among others.
        scale: How fast weights fall with the squared difference in each number of the
            embedding; of the pixel as a center.
        reach: How fast they fall with distance; of the pixel as a center.
        trust: Logarithm of a factor on the weight; of the pixel as a neighbor.
        gain: Factors on the change, one for each of its parts; as a neighbor.
    """

    hidden: Float[Array, "width ..."]
    embedding: Float[Array, "embedding ..."]
    scale: Float[Array, "embedding ..."]
    reach: Float[Array, "..."]
    trust: Float[Array, "..."]
    gain: Float[Array, "part ..."]


class Finish(NamedTuple):
    """What the heads say of each pixel.

    Attributes:
        own: How far the prediction is drawn to the pixel's own candidate, by head.
        residual: What is added, by head.
        log_variance: Of the error that is left, relative to a first guess.
    """

    own: Float[Array, "head ..."]
    residual: Float[Array, "head ..."]
    log_variance: Float[Array, "..."]


class PixelDense(nnx.Module):
    """A dense layer over channels that come first: a row of the image is contiguous."""

    def __init__(
        self, inputs: int, outputs: int, *, rngs: nnx.Rngs, scale: float = 1.0
    ) -> None:
        """Draw the weights; of scale 0 they are 0."""
        draw = nnx.initializers.variance_scaling(
            max(scale, 1e-9), "fan_in", "normal", in_axis=1, out_axis=0
        )
        kernel = draw(rngs.params(), (outputs, inputs), jnp.float32)
        self.kernel = nnx.Param(kernel if scale > 0 else jnp.zeros_like(kernel))
        self.bias = nnx.Param(jnp.zeros((outputs,), jnp.float32))

    def __call__(
        self, x: Float[Array, "inputs pixel"]
    ) -> Float[Array, "outputs pixel"]:
        """Apply the layer."""
        product = jnp.matmul(self.kernel[...], x, precision=lax.Precision.HIGHEST)
        return product + self.bias[...][:, None]


class LearnedKernel(nnx.Module):
    """Corrections to a fixed kernel, from what is known at each pixel.

    Args:
        channels: Numbers that describe a pixel.
        parts: Parts of the change that have a gain.
        after: Numbers that describe what the window gave.
        width: Hidden units of the trunk.
        heads: Heads that correct what the window gave.
        rngs: Random numbers for the first parameters.
    """

    def __init__(
        self,
        channels: int,
        parts: int,
        after: int,
        *,
        width: int,
        heads: int,
        rngs: nnx.Rngs,
    ) -> None:
        """Draw the layers; those that correct are 0."""
        self.channels = channels
        self.sizes = (EMBEDDING, 1, 1, parts)
        self.heads = heads
        self.first = PixelDense(channels, width, rngs=rngs, scale=2.0)
        self.second = PixelDense(width, width, rngs=rngs, scale=2.0)
        self.embed = PixelDense(channels + width, EMBEDDING, rngs=rngs, scale=0.3)
        self.correct = PixelDense(width, sum(self.sizes), rngs=rngs, scale=0.0)
        self.head = PixelDense(width + after, heads * HEAD, rngs=rngs, scale=2.0)
        self.own = PixelDense(HEAD, heads, rngs=rngs, scale=0.0)
        self.residual = PixelDense(HEAD, heads, rngs=rngs, scale=0.0)
        self.spread = PixelDense(heads * HEAD, 1, rngs=rngs, scale=0.0)

    def describe(self, channels: Float[Array, "channel ..."]) -> Correction:
        """What to correct, from what is known before the window is summed.

        Args:
            channels: In units of the band's spread, of any size; finite.
        """
        return by_chunks(self._describe, channels)

    def finish(
        self,
        hidden: Float[Array, "width ..."],
        after: Float[Array, "after ..."],
    ) -> Finish:
        """What to correct, from the hidden units and what the window gave.

        Args:
            hidden: Of the same pixels.
            after: In units of the band's spread, of any size; finite.
        """
        return by_chunks(self._finish, hidden, after)

    def _describe(self, channels: Any) -> Correction:
        # Heavy tails are squashed: one odd pixel must not drive everything.
        x = jnp.arcsinh(channels)
        hidden = nnx.relu(self.second(nnx.relu(self.first(x))))
        embedding = self.embed(jnp.concatenate([x, hidden]))
        found = self.correct(hidden)
        scale, found = found[:EMBEDDING], found[EMBEDDING:]
        return Correction(
            hidden=hidden,
            embedding=embedding,
            scale=scale,
            reach=found[0],
            trust=_bounded(found[1], 3.0),
            gain=_bounded(found[2:], 1.5),
        )

    def _finish(self, hidden: Any, after: Any) -> Finish:
        x = jnp.concatenate([hidden, jnp.arcsinh(after)])
        units = nnx.relu(self.head(x))
        shape = (self.heads, HEAD, units.shape[-1])
        by_head = units.reshape(shape)

        def of_heads(layer: PixelDense) -> Any:
            total = (layer.kernel[...][..., None] * by_head).sum(axis=1)
            return total + layer.bias[...][:, None]

        return Finish(
            own=jnp.tanh(of_heads(self.own)),
            residual=_bounded(of_heads(self.residual), 2.0),
            log_variance=self.spread(units)[0],
        )


def by_chunks(function: Callable[..., Any], *images: Float[Array, "..."]) -> Any:
    """Apply a function of (channel, pixel) to images, in products of one size.

    Args:
        function: Gives a pytree of arrays (…, pixel), each pixel from itself alone.
        images: (channel, *pixels), all of as many pixels.

    Returns:
        The pytree, of arrays (…, *pixels).
    """
    shape = images[0].shape[1:]
    flat = [image.reshape(image.shape[0], -1) for image in images]
    pixels = flat[0].shape[1]
    count = -(-pixels // CHUNK)
    if count == 1:
        found = function(*flat)
    else:
        chunks = [
            jnp.moveaxis(
                jnp.pad(image, ((0, 0), (0, count * CHUNK - pixels))).reshape(
                    image.shape[0], count, CHUNK
                ),
                1,
                0,
            )
            for image in flat
        ]
        found = lax.map(lambda chunk: function(*chunk), chunks)
        found = jax.tree.map(
            lambda array: jnp.moveaxis(array, 0, -2).reshape(*array.shape[1:-1], -1)[
                ..., :pixels
            ],
            found,
        )
    return jax.tree.map(lambda array: array.reshape(*array.shape[:-1], *shape), found)


def _bounded(value: Any, most: float) -> Any:
    """The value where it is small, never beyond `most` in size."""
    return most * jnp.tanh(value / most)
