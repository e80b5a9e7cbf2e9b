"""Layers of the fusion networks: what they share, and nothing that mixes far pixels.

Inside a network arrays are (batch, y, x, channel). A convolution pads with zeros, the middle
of a scene in units of its spread; a method reads a halo and cuts off what they touched.

The papers normalize over an image or a batch (instance, batch and switchable
normalization). Then a pixel would depend on how the raster was cut into tiles. Here it is
either the channels of one pixel that are normalized (`ChannelNorm`), or fixed statistics
that are learned (`ChannelScale`: what batch normalization is, once it is trained).
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

#: Keeps a variance over channels away from 0.
EPSILON = 1e-5


class Draws:
    """The numbers that a network starts from, drawn in the order of its layers.

    By NumPy: JAX would compile a program for each layer, which takes longer than a short
    training, and the numbers are the same on every device.

    Args:
        seed: Seed of the numbers; None for zeros, where others take their place.
    """

    def __init__(self, seed: int | None) -> None:
        """Start the generator."""
        self._generator = None if seed is None else np.random.default_rng(seed)
        self.rngs = nnx.Rngs(0)  # Flax asks for it; nothing is drawn from it

    def kernel(self, key: Any, shape: Any, dtype: Any = jnp.float32) -> Any:
        """Uniform, of a variance of 1 / the numbers that meet in one result."""
        far = math.sqrt(3.0 / math.prod(shape[:-1]))
        return self.uniform(shape, far, dtype)

    def uniform(self, shape: Any, far: float, dtype: Any = jnp.float32) -> Any:
        """Uniform between -far and far."""
        if self._generator is None:
            return jnp.zeros(shape, dtype)
        return jnp.asarray(self._generator.uniform(-far, far, shape), dtype)


def convolution(
    inputs: int,
    outputs: int,
    *,
    side: int = 3,
    stride: int = 1,
    zero: bool = False,
    draws: Draws,
) -> nnx.Conv:
    """A convolution whose result has 1 / `stride` of the rows and columns.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        side: Side of its window, odd.
        stride: Rows and columns between windows; must divide both.
        zero: Whether it starts as 0: the network then starts without it.
        draws: Where its numbers are drawn from.
    """
    reach = side // 2
    return nnx.Conv(
        inputs,
        outputs,
        (side, side),
        strides=stride,
        padding=((reach, reach), (reach, reach)),
        kernel_init=nnx.initializers.zeros if zero else draws.kernel,
        rngs=draws.rngs,
    )


def linear(inputs: int, outputs: int, *, bias: bool = True, draws: Draws) -> nnx.Linear:
    """A linear layer for each pixel alone.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        bias: Whether something is added to each channel.
        draws: Where its numbers are drawn from.
    """
    return nnx.Linear(
        inputs, outputs, use_bias=bias, kernel_init=draws.kernel, rngs=draws.rngs
    )


def leaky(values: Any) -> Any:
    """Negative values count a hundredth: the LeakyReLU of the papers."""
    return jax.nn.leaky_relu(values, 0.01)


class ChannelScale(nnx.Module):
    """A gain and an offset for each channel, learned: fixed statistics."""

    def __init__(self, channels: int) -> None:
        """Start as the identity."""
        self.gain = nnx.Param(jnp.ones(channels))
        self.offset = nnx.Param(jnp.zeros(channels))

    def __call__(
        self, values: Float[Array, "batch *place channel"]
    ) -> Float[Array, "batch *place channel"]:
        """Scale the channels."""
        lead = (1,) * (values.ndim - 1)
        gain, offset = (p[...].reshape(*lead, -1) for p in (self.gain, self.offset))
        return values * gain + offset


class ChannelNorm(nnx.Module):
    """Mean 0 and variance 1 over the channels of each pixel, then a `ChannelScale`."""

    def __init__(self, channels: int) -> None:
        """Start without a change of scale."""
        self.scale = ChannelScale(channels)

    def __call__(
        self, values: Float[Array, "batch *place channel"]
    ) -> Float[Array, "batch *place channel"]:
        """Normalize each pixel on its own."""
        mean, std = channel_moments(values)
        return self.scale((values - mean) / std)


def channel_moments(values: Any) -> tuple[Any, Any]:
    """Mean and standard deviation over the channels of each pixel, which are kept as 1.

    Args:
        values: (batch, …, channel).
    """
    mean = values.mean(axis=-1, keepdims=True)
    off = values - mean
    return mean, jnp.sqrt((off * off).mean(axis=-1, keepdims=True) + EPSILON)


class ResidualBlock(nnx.Module):
    """The input plus what two convolutions make of it."""

    def __init__(self, channels: int, *, draws: Draws) -> None:
        """Draw two convolutions."""
        self.first = convolution(channels, channels, draws=draws)
        self.second = convolution(channels, channels, draws=draws)

    def __call__(
        self, values: Float[Array, "batch y x channel"]
    ) -> Float[Array, "batch y x channel"]:
        """Add to the input; it sees 2 pixels around each."""
        return values + self.second(leaky(self.first(values)))


def unfolded(values: Any) -> Any:
    """Twice the rows and columns from a quarter of the channels ("pixel shuffle").

    Args:
        values: (batch, y, x, 4 channel).

    Returns:
        (batch, 2 y, 2 x, channel).

    >>> unfolded(jnp.arange(4.0).reshape(1, 1, 1, 4))[0, :, :, 0].tolist()
    [[0.0, 1.0], [2.0, 3.0]]
    """
    batch, rows, columns, channels = values.shape
    blocks = values.reshape(batch, rows, columns, 2, 2, channels // 4)
    return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(
        batch, 2 * rows, 2 * columns, channels // 4
    )
