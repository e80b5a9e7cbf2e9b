"""Networks that map classes: several modalities that meet as features, or as channels.

    FusionNetwork    s2 ── encoder ─┐
                     s1 ── encoder ─┼─ interaction ── norm ── head ──> logits
                     dem ─ encoder ─┘

    EarlyFusionNetwork      s2, s1, dem side by side ── encoder ── head ──> logits

Both take channels (batch, y, x, channel) and presence (batch, y, x) of each modality in
the same order, and see `reach` pixels around each.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from geofuse.networks.blocks import ChannelNorm, Draws, leaky
from geofuse.networks.encoders import Dropout, Encoder, reach, without_edge
from geofuse.networks.heads import ClassHead
from geofuse.networks.interactions import INTERACTIONS

#: How far both networks look, in pixels.
REACH = reach()


class Decision(NamedTuple):
    """What a network says of each pixel.

    Attributes:
        logits: Log-probabilities of the classes, up to a constant.
        weight: Share of each modality; NaN where the network has no such number.
    """

    logits: Float[Array, "batch y x outcome"]
    weight: Float[Array, "batch y x modality"]


class FusionNetwork(nnx.Module):
    """An encoder for each modality, an interaction, a head.

    Args:
        channels: Number of channels of each modality.
        classes: Number of classes.
        width: Channels of all layers.
        interaction: A name out of `INTERACTIONS`.
        rank: Of the interaction, where it has one.
        draws: Where its numbers are drawn from.
    """

    def __init__(
        self,
        channels: Sequence[int],
        classes: int,
        *,
        width: int,
        interaction: str,
        rank: int,
        draws: Draws,
    ) -> None:
        """Draw all layers."""
        kind = INTERACTIONS[interaction]
        self.encoders = nnx.List(
            [Encoder(count, width, draws=draws) for count in channels]
        )
        outputs = classes if kind.decides else width
        self.interaction = kind(len(channels), width, outputs, rank=rank, draws=draws)
        self.norm = None if kind.decides else ChannelNorm(width)
        self.head = None if kind.decides else ClassHead(width, classes, draws=draws)

    def __call__(
        self,
        values: Sequence[Float[Array, "batch rows columns _"]],
        present: Sequence[Bool[Array, "batch rows columns"]],
        dropout: Dropout,
    ) -> Decision:
        """Decide for a window without `REACH` pixels on each side."""
        features = [
            dropout(encoder(own, there, dropout))
            for encoder, own, there in zip(self.encoders, values, present, strict=True)
        ]
        fused = self.interaction(features, [without_edge(p, REACH) for p in present])
        if self.norm is None or self.head is None:
            return Decision(fused.features, fused.weight)
        found: Any = dropout(leaky(self.norm(fused.features)))
        return Decision(self.head(found).logits, fused.weight)


class EarlyFusionNetwork(nnx.Module):
    """One encoder of all channels side by side, and a head.

    A modality that is missing is 0 in all of its channels, and so is its flag; the
    network has to learn what that means.

    Args:
        channels: Number of channels of each modality.
        classes: Number of classes.
        width: Channels of all layers.
        draws: Where its numbers are drawn from.
    """

    def __init__(
        self, channels: Sequence[int], classes: int, *, width: int, draws: Draws
    ) -> None:
        """Draw all layers."""
        together = sum(channels) + len(channels)
        self.encoder = Encoder(together, width, draws=draws)
        self.head = ClassHead(width, classes, draws=draws)

    def __call__(
        self,
        values: Sequence[Float[Array, "batch rows columns _"]],
        present: Sequence[Bool[Array, "batch rows columns"]],
        dropout: Dropout,
    ) -> Decision:
        """Decide for a window without `REACH` pixels on each side."""
        parts = []
        for own, there in zip(values, present, strict=True):
            here = there[..., None]
            parts += [jnp.where(here, own, 0.0), here.astype(own.dtype)]
        any_there = jnp.stack(present).any(axis=0)
        features = self.encoder(jnp.concatenate(parts, axis=-1), any_there, dropout)
        logits = self.head(dropout(features)).logits
        shape = (*logits.shape[:-1], len(present))
        return Decision(logits, jnp.full(shape, jnp.nan, logits.dtype))
