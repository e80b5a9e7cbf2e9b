"""STARFM's kernel, corrected by what a network says of each pixel: the arithmetic.

    w(i, j) = w_STARFM(i, j) exp(c_j) K(q)     K(q) = max(0, 1 - q)^8, about exp(-8 q)
    q       = b_i t(d) + sum_n a_in (e_in - e_jn)^2
    c(j)    = F_k(j) + (C_p - C_k)(j) + sum_m g_jm B_m(j)

    p_h(i)  = mean + m_ih (own candidate of i - mean) + level_i r_ih    head h

e, a, b, c, g, m and r are the network's. B are parts of the change: the coarse change itself,
how the smooth one differs from it, and how the change by the line of Fit-FC does. `level` is
how much changed near the pixel: where nothing did, nothing is added. With all but e zero, K
is 1, and this is STARFM.
"""

from collections.abc import Callable
from functools import reduce
from operator import add
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from geofuse.networks.learned_kernel import EMBEDDING, Correction, LearnedKernel
from geofuse.spatiotemporal.kernel_gradient import Offset
from geofuse.spatiotemporal.kernel_inputs import (
    BEYOND,
    PARTS,
    WINDOW,
    Evidence,
    change_level,
    change_parts,
    channels_of,
    evidence_of,
)
from geofuse.spatiotemporal.kernel_scene import KernelScene
from geofuse.spatiotemporal.kernels import kernel_regression
from geofuse.spatiotemporal.method import FusionTile, scale_of, trimmed
from geofuse.spatiotemporal.starfm import STARFM, StarfmMaps

#: What of the network is used; each includes those before it.
Learned = Literal["fixed", "gain", "kernel", "residual"]
LEARNED: tuple[Learned, ...] = ("fixed", "gain", "kernel", "residual")

#: Numbers that describe what the window gave.
AFTER = 2
#: Neighbors in one loop step: with more of them, XLA for CPU makes no vectors.
UNROLLED = 26
#: Distance at which a factor on distance counts in full, whatever the radius, in pixels.
FAR = 16
#: Least standard deviation of an error, as a fraction of the spread, at first guess.
LEAST_ERROR = 0.02


class FusedBand(NamedTuple):
    """One band of a tile.

    Attributes:
        heads: Prediction of each head; NaN where no neighbor has weight.
        variance: Variance of the error that is left, squared units.
        weight: Weight of each pair; sums to 1, or 0 where none has any.
        neighbors: Number of neighbors, over all pairs, with positive weight.
    """

    heads: Float[Array, "head y x"]
    variance: Float[Array, "y x"]
    weight: Float[Array, "pair y x"]
    neighbors: Int[Array, "y x"]


class LearnedMaps(NamedTuple):
    """What the weight looks at, for one pair: STARFM's maps, and the network's."""

    starfm: StarfmMaps
    embedding: tuple[Any, ...]
    scale: tuple[Any, ...]
    reach: Any


def make_network(width: int, heads: int, channels: int, rngs: Any) -> LearnedKernel:
    """A network that corrects nothing."""
    return LearnedKernel(
        channels, len(PARTS), AFTER, width=width, heads=heads, rngs=rngs
    )


def fuse_tile(
    network: LearnedKernel,
    start: STARFM,
    learned: Learned,
    tile: FusionTile,
    scene: KernelScene,
    spare: int,
) -> FusedBand:
    """Fuse all bands of a tile.

    Args:
        network: The network.
        start: The kernel that it corrects.
        learned: How much of the network is used.
        tile: The tile.
        scene: Numbers of the scene.
        spare: Fine pixels around the search window, beyond `WINDOW + BEYOND` coarse ones.

    Returns:
        Fields with the bands as their first axis.
    """
    bands = bands_of(tile, scene)
    fine, base, coarse = (a.swapaxes(0, 1) for a in bands[:3])
    known = evidence_of(fine, base, coarse, scale_of(tile), spare)
    coarse_maps = jax.tree.map(lambda a: a.swapaxes(0, 1), known.coarse)

    # One band at a time: it is as fast as all at once, in a fraction of the memory.
    def one(given: tuple[Any, ...]) -> FusedBand:
        (fine, base, coarse, numbers, std, spread, location), cells = given
        channels = pair_channels(
            (fine, base, coarse), Evidence(cells, known.guide), numbers, tile, spare
        )
        margin = (WINDOW + BEYOND) * scale_of(tile) + spare
        fine, base, coarse = (trimmed(a, margin) for a in (fine, base, coarse[0]))
        fused = fuse_band(network, start, learned, channels, fine, base, coarse, std)
        return FusedBand(
            heads=fused.heads * spread + location,
            variance=fused.variance * (spread * spread),
            weight=fused.weight,
            neighbors=fused.neighbors,
        )

    return lax.map(one, (bands, coarse_maps))


def bands_of(tile: FusionTile, scene: KernelScene) -> tuple[Any, ...]:
    """What is known of each band, as first axis, in units of its spread about its mean.

    Returns:
        Fine images, coarse images, the coarse image once for each pair, numbers of the
        scene, standard deviation of each fine image; spread and mean in the data's unit.
    """
    numbers, std, spread, location = (
        jnp.asarray(v) for v in (scene.numbers, scene.std, scene.spread, scene.location)
    )
    unit, middle = spread[None, :, None, None], location[None, :, None, None]
    coarse = jnp.broadcast_to(tile.coarse, tile.coarse_base.shape)
    images = ((a - middle) / unit for a in (tile.fine, tile.coarse_base, coarse))
    return (
        *(a.swapaxes(0, 1) for a in images),
        numbers.swapaxes(0, 1),
        (std / spread[None]).T,
        spread,
        location,
    )


def pair_channels(
    images: tuple[Any, Any, Any],
    evidence: Evidence,
    numbers: Float[Array, "pair scene"],
    tile: FusionTile,
    spare: int,
) -> Float[Array, "pair channel rows columns"]:
    """Describe each pixel of one band, from each pair."""

    def one(pair: tuple[Any, ...]) -> Any:
        fine, base, coarse, known, scene = pair
        return channels_of(fine, base, coarse, known, scene, scale_of(tile), spare)

    return lax.map(one, (*images, evidence, numbers))


def fuse_band(
    network: LearnedKernel,
    start: STARFM,
    learned: Learned,
    channels: Float[Array, "pair channel rows columns"],
    fine: Float[Array, "pair rows columns"],
    coarse_base: Float[Array, "pair rows columns"],
    coarse: Float[Array, "rows columns"],
    std: Float[Array, " pair"],
) -> FusedBand:
    """Fuse one band of a tile; all is in units of the spread, about the scene's mean.

    Args:
        network: The network.
        start: The kernel that it corrects.
        learned: How much of the network is used.
        channels: What is known of each pixel.
        fine: Fine images, NaN where invalid; the result has `start.radius` pixels less on
            each side.
        coarse_base: Coarse images of the pairs, likewise.
        coarse: Coarse image of the prediction date, likewise.
        std: Standard deviation of each fine image over the scene.
    """
    level = LEARNED.index(learned)
    said = network.describe(jnp.moveaxis(channels, 1, 0))
    candidates = fine + (coarse[None] - coarse_base)
    if level >= LEARNED.index("gain"):
        pieces = zip(said.gain, change_parts(channels), strict=True)
        candidates = candidates + reduce(add, [g * c for g, c in pieces])
    maps = start.maps_of(fine, coarse_base, coarse, std, jnp.float32(1.0))
    if level >= LEARNED.index("kernel"):
        weight, learned_maps = _learned_weight(start), _maps(maps, said)
        found = kernel_regression(
            weight,
            learned_maps,
            candidates,
            radius=start.radius,
            shift=jnp.float32(0.0),
            unrolled=UNROLLED,
        )
    else:
        found = kernel_regression(
            start.weight(),
            maps,
            candidates,
            radius=start.radius,
            shift=jnp.float32(0.0),
        )
    some = jnp.isfinite(found.mean)
    mean = jnp.where(some, found.mean, 0.0)
    total = jnp.where(some, reduce(add, list(found.weight)), 1.0)
    share = found.weight / total[None]
    own = trimmed(candidates, start.radius)
    off = jnp.where((share > 0) & jnp.isfinite(own), own - mean[None], 0.0)
    changed = trimmed(change_level(channels), start.radius)
    after = jnp.stack([off, jnp.log1p(found.weight)])
    end = network.finish(trimmed(said.hidden, start.radius), after)
    guess = 0.25 * jnp.square(changed) + LEAST_ERROR**2
    error = guess * jnp.exp(jnp.clip(end.log_variance, -8.0, 8.0))
    variance = reduce(add, list(share * error))
    pull = jnp.zeros_like(end.own)
    if level >= LEARNED.index("kernel"):
        pull = pull + end.own * off[None]
    if level >= LEARNED.index("residual"):
        pull = pull + changed[None] * end.residual
    heads = mean[None] + reduce(add, list(jnp.moveaxis(share[None] * pull, 1, 0)))
    return FusedBand(
        heads=jnp.where(some[None], heads, jnp.nan),
        variance=jnp.where(some, variance, jnp.nan),
        weight=share,
        neighbors=found.neighbors,
    )


def _maps(maps: StarfmMaps, said: Correction) -> LearnedMaps:
    """The maps of the learned weight; a neighbor is trusted through its closeness."""
    return LearnedMaps(
        maps._replace(closeness=maps.closeness * jnp.exp(said.trust)),
        tuple(said.embedding),
        tuple(said.scale),
        said.reach,
    )


def _learned_weight(
    start: STARFM,
) -> Callable[[LearnedMaps, LearnedMaps, Offset], Float[Array, "y x"]]:
    """STARFM's weight times a factor that falls with distance and unlikeness."""
    fixed = start.weight()
    radius = start.radius
    axis = np.arange(-radius, radius + 1)
    distance = np.hypot(axis[:, None], axis[None, :])
    # A weight that falls as a power of the distance.
    far = (np.log1p(distance) / np.log1p(FAR)).astype(np.float32)

    def weight(
        center: LearnedMaps, neighbor: LearnedMaps, offset: Offset
    ) -> Float[Array, "y x"]:
        q = center.reach * jnp.asarray(far)[offset.dy + radius, offset.dx + radius]
        for n in range(EMBEDDING):
            off = neighbor.embedding[n] - center.embedding[n]
            q = q + center.scale[n] * off * off
        # The weight of an unlike neighbor may grow, but not without bound.
        falloff = jnp.clip(1.0 - q, 0.0, 1.5)
        falloff = falloff * falloff
        falloff = falloff * falloff
        return fixed(center.starfm, neighbor.starfm, offset) * (falloff * falloff)

    return weight
