"""Attention among the pixels of a small window, and blocks made of it.

    q_i . k_j + b(i - j)  ──softmax over j──>  w_ij        y_i = sum_j w_ij v_j

A window is a kernel regression whose weights are learned. The windows of a block lie side by
side; those of the next are shifted by half a window, so that neighbors meet. Here a block is
a function of one square of pixels, a *patch*: windows at its border are not joined with
those of the opposite side.

Reference: Z. Liu, Y. Lin, Y. Cao, H. Hu, Y. Wei, Z. Zhang, S. Lin, B. Guo (2021): Swin
transformer: hierarchical vision transformer using shifted windows. IEEE/CVF International
Conference on Computer Vision.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from geofuse.networks.blocks import ChannelNorm, Draws, linear

#: Keeps the product of two distributions that share nothing from being 0 everywhere.
LEAST = 1e-6


class SelfAttention(nnx.Module):
    """Every pixel of a window looks at all of them, in several heads.

    Args:
        channels: Channels in and out, a multiple of `heads`.
        heads: Number of heads.
        window: Side of the window.
        draws: Where its numbers are drawn from.
    """

    def __init__(self, channels: int, heads: int, window: int, *, draws: Draws) -> None:
        """Draw the layers."""
        self.heads = heads
        self.nearness = _Nearness(heads, window, draws=draws)
        self.qkv = linear(channels, 3 * channels, draws=draws)
        self.out = linear(channels, channels, draws=draws)

    def __call__(
        self,
        values: Float[Array, "batch place channel"],
        apart: Bool[Array, "batch place place"],
    ) -> Float[Array, "batch place channel"]:
        """Attend; pixels that are `apart` do not see each other."""
        query, key, value = jnp.split(self.qkv(values), 3, axis=-1)
        weight = _softmax(query, key, self.heads, self.nearness(), apart)
        return self.out(_weighted(weight, value))


class ChangeAttention(nnx.Module):
    """A coarse change, weighted by where the fine and the new coarse image look alike.

    The base's coarse features ask; the fine ones and the coarse ones of the prediction date
    answer. The two weights are multiplied: a pixel counts if it is like in both.

    Args:
        channels: Channels in and out, a multiple of `heads`.
        heads: Number of heads.
        window: Side of the window.
        draws: Where its numbers are drawn from.
    """

    def __init__(self, channels: int, heads: int, window: int, *, draws: Draws) -> None:
        """Draw the layers."""

        def layer() -> nnx.Linear:
            return linear(channels, channels, draws=draws)

        self.heads = heads
        self.nearness = _Nearness(heads, window, draws=draws)
        self.fine_query, self.fine_key = layer(), layer()
        self.coarse_query, self.coarse_key = layer(), layer()
        self.value, self.out = layer(), layer()

    def __call__(
        self,
        change: Float[Array, "batch place channel"],
        fine: Float[Array, "batch place channel"],
        coarse_base: Float[Array, "batch place channel"],
        coarse: Float[Array, "batch place channel"],
        apart: Bool[Array, "batch place place"],
    ) -> Float[Array, "batch place channel"]:
        """Attend; pixels that are `apart` do not see each other."""
        nearness = self.nearness()
        like_fine = _softmax(
            self.fine_query(coarse_base),
            self.fine_key(fine),
            self.heads,
            nearness,
            apart,
        )
        like_coarse = _softmax(
            self.coarse_query(coarse_base),
            self.coarse_key(coarse),
            self.heads,
            nearness,
            apart,
        )
        weight = like_fine * like_coarse + LEAST
        weight = weight / weight.sum(axis=-1, keepdims=True)
        return self.out(_weighted(weight, self.value(change)))


class SelfBlock(nnx.Module):
    """Self-attention, then a layer for each pixel alone; both are added to the input.

    Args:
        channels: Channels in and out.
        heads: Number of heads.
        window: Side of a window; must divide the patch.
        shift: How far the windows are shifted.
        draws: Where its numbers are drawn from.
    """

    def __init__(
        self, channels: int, heads: int, window: int, *, shift: int, draws: Draws
    ) -> None:
        """Draw the layers."""
        self.window, self.shift = window, shift
        self.norm = ChannelNorm(channels)
        self.attention = SelfAttention(channels, heads, window, draws=draws)
        self.pixel = _PixelLayer(channels, draws=draws)

    def __call__(
        self, values: Float[Array, "batch y x channel"]
    ) -> Float[Array, "batch y x channel"]:
        """Attend within the windows of each patch."""
        cut = _Windows(values.shape, self.window, self.shift)
        seen = self.attention(cut.windows(self.norm(values)), cut.apart())
        return self.pixel(values + cut.joined(seen))


class ChangeBlock(nnx.Module):
    """The same with `ChangeAttention`; the change is what is added to.

    Args:
        channels: Channels in and out.
        heads: Number of heads.
        window: Side of a window; must divide the patch.
        shift: How far the windows are shifted.
        draws: Where its numbers are drawn from.
    """

    def __init__(
        self, channels: int, heads: int, window: int, *, shift: int, draws: Draws
    ) -> None:
        """Draw the layers."""
        self.window, self.shift = window, shift
        self.norm = ChannelNorm(channels)
        self.attention = ChangeAttention(channels, heads, window, draws=draws)
        self.pixel = _PixelLayer(channels, draws=draws)

    def __call__(
        self,
        change: Float[Array, "batch y x channel"],
        fine: Float[Array, "batch y x channel"],
        coarse_base: Float[Array, "batch y x channel"],
        coarse: Float[Array, "batch y x channel"],
    ) -> Float[Array, "batch y x channel"]:
        """Attend within the windows of each patch."""
        cut = _Windows(change.shape, self.window, self.shift)
        seen = self.attention(
            cut.windows(self.norm(change)),
            cut.windows(fine),
            cut.windows(coarse_base),
            cut.windows(coarse),
            cut.apart(),
        )
        return self.pixel(change + cut.joined(seen))


class _PixelLayer(nnx.Module):
    """Two linear layers for each pixel, added to the input."""

    def __init__(self, channels: int, *, draws: Draws) -> None:
        self.norm = ChannelNorm(channels)
        self.first = linear(channels, channels, draws=draws)
        self.second = linear(channels, channels, draws=draws)

    def __call__(
        self, values: Float[Array, "batch y x channel"]
    ) -> Float[Array, "batch y x channel"]:
        return values + self.second(jax.nn.gelu(self.first(self.norm(values))))


class _Nearness(nnx.Module):
    """b(i - j): a learned number for each head and each offset within a window."""

    def __init__(self, heads: int, window: int, *, draws: Draws) -> None:
        self.window = window
        offsets = (2 * window - 1) ** 2
        self.table = nnx.Param(draws.uniform((offsets, heads), 0.02))

    def __call__(self) -> Float[Array, "head place place"]:
        return jnp.moveaxis(self.table[...][_offsets(self.window)], -1, 0)


def _offsets(window: int) -> Int[np.ndarray, "place place"]:
    """Number of the offset between any two pixels of a window."""
    rows, columns = np.divmod(np.arange(window**2), window)
    far = window - 1
    dy, dx = (a[:, None] - a[None, :] + far for a in (rows, columns))
    return dy * (2 * far + 1) + dx


def _softmax(
    query: Float[Array, "batch place channel"],
    key: Float[Array, "batch place channel"],
    heads: int,
    nearness: Float[Array, "head place place"],
    apart: Bool[Array, "batch place place"],
) -> Float[Array, "batch head place place"]:
    query, key = (_in_heads(values, heads) for values in (query, key))
    scale = query.shape[-1] ** -0.5
    logits = jnp.einsum("bihc,bjhc->bhij", query * scale, key) + nearness[None]
    return jax.nn.softmax(jnp.where(apart[:, None], -jnp.inf, logits), axis=-1)


def _weighted(
    weight: Float[Array, "batch head place place"],
    value: Float[Array, "batch place channel"],
) -> Float[Array, "batch place channel"]:
    found = jnp.einsum("bhij,bjhc->bihc", weight, _in_heads(value, weight.shape[1]))
    return found.reshape(value.shape)


def _in_heads(values: Any, heads: int) -> Any:
    batch, places, channels = values.shape
    return values.reshape(batch, places, heads, channels // heads)


class _Windows:
    """Cuts patches into windows, and puts them together again."""

    def __init__(self, shape: tuple[int, ...], window: int, shift: int) -> None:
        self.batch, self.rows, self.columns, _ = shape
        self.window = window
        self.shift = shift if self.rows > window else 0

    def windows(self, values: Any) -> Any:
        """(batch, y, x, channel) as (batch * window, place, channel)."""
        if self.shift:
            values = jnp.roll(values, (-self.shift, -self.shift), axis=(1, 2))
        down, across = self.rows // self.window, self.columns // self.window
        cut = values.reshape(self.batch, down, self.window, across, self.window, -1)
        cut = cut.transpose(0, 1, 3, 2, 4, 5)
        return cut.reshape(self.batch * down * across, self.window**2, -1)

    def joined(self, windows: Any) -> Any:
        """The reverse of `windows`."""
        down, across = self.rows // self.window, self.columns // self.window
        cut = windows.reshape(self.batch, down, across, self.window, self.window, -1)
        values = cut.transpose(0, 1, 3, 2, 4, 5)
        values = values.reshape(self.batch, self.rows, self.columns, -1)
        if self.shift:
            values = jnp.roll(values, (self.shift, self.shift), axis=(1, 2))
        return values

    def apart(self) -> Any:
        """Pixels of one window that do not lie side by side, as a roll brings together."""
        rows, columns = (
            (np.roll(np.arange(size), -self.shift) < self.shift).astype(int)
            for size in (self.rows, self.columns)
        )
        side = (2 * rows[:, None] + columns[None, :])[None, :, :, None]
        single = _Windows((1, self.rows, self.columns, 1), self.window, 0)
        part = single.windows(side)[:, :, 0]
        return jnp.tile(part[:, :, None] != part[:, None, :], (self.batch, 1, 1))
