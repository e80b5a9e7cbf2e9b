"""How a learned kernel learns: squares of scenes, described once; patches of them.

    case ──channels──> square of 160 px with its halo, float16 ──> patches of 64, turned
           STARFM ───> what must be beaten                         or mirrored

What the network is told does not depend on its parameters, so it is computed once for each
square and band, and kept. The loss of a patch is the root mean square error as a multiple
of STARFM's on the same patch, so that easy and hard scenes count alike; more than 1 is
punished twice. Each head learns from its own draw of the scenes.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from geofuse.errors import ParameterError
from geofuse.networks.parameters import network_of
from geofuse.pairs import FusionCase
from geofuse.spatiotemporal.kernel_fusion import (
    Learned,
    bands_of,
    fuse_band,
    make_network,
    pair_channels,
)
from geofuse.spatiotemporal.kernel_inputs import (
    BEYOND,
    CHANNELS,
    NEAR,
    WINDOW,
    Evidence,
    evidence_of,
)
from geofuse.spatiotemporal.kernel_scene import KernelScene, kernel_scene, scan_scene
from geofuse.spatiotemporal.method import FusionTile, Scale, needed_scale, trimmed
from geofuse.spatiotemporal.starfm import STARFM
from geofuse.tiling import reduce_tiles
from geofuse.training.loop import Training, train
from geofuse.training.losses import beta_nll
from geofuse.training.weights import Weights

#: Side of a square that is kept, in fine pixels; and how many of one case at most.
SQUARE, SQUARES = 160, 64
#: What must be beaten: the widest usual window.
RIVAL = STARFM(radius=25)
#: Errors of a patch below it do not count, as a fraction of the spread.
NEGLIGIBLE = 0.02
#: Share of the scenes that a head learns from.
SHARE = 0.7
#: How much the likelihood of the error counts beside its size.
LIKELIHOOD = 0.1


class Described(NamedTuple):
    """One band of a square, in units of the spread about the scene's mean.

    Images have `radius` pixels more on each side than the truth; NaN where invalid.
    """

    channels: Any
    fine: Any
    coarse_base: Any
    coarse: Any
    std: Any
    truth: Any
    rival: Any
    scene: Any


@dataclass(frozen=True)
class KernelTraining:
    """What is trained, and how."""

    start: STARFM
    learned: Learned
    width: int
    heads: int
    training: Training

    def loss(self, parameters: Any, batch: Described, key: Any) -> Any:
        """Mean over the patches of a batch; see the module."""
        make = partial(make_network, self.width, self.heads, CHANNELS)
        network = network_of(lambda: make(nnx.Rngs(0)), parameters)

        def of_patch(patch: Described) -> Any:
            fused = fuse_band(
                network,
                self.start,
                self.learned,
                patch.channels.astype(jnp.float32),
                patch.fine,
                patch.coarse_base,
                patch.coarse,
                patch.std,
            )
            valid = (
                jnp.isfinite(patch.truth)
                & jnp.isfinite(patch.rival)
                & jnp.isfinite(fused.heads[0])
            )
            rival = rmse(patch.rival - patch.truth, valid)
            ratio = (rmse(fused.heads - patch.truth[None], valid) + NEGLIGIBLE) / (
                rival + NEGLIGIBLE
            )
            worse = jnp.maximum(ratio - 1.0, 0.0)
            mean = jax.lax.stop_gradient(fused.heads.mean(axis=0))
            likelihood = beta_nll(
                mean[None, None],
                jnp.log(fused.variance)[None, None],
                patch.truth[None, None],
            )
            counts = _counts(patch.scene, self.heads)
            some = valid.mean() > 0.1
            total = (counts * (ratio + worse)).mean() / SHARE + LIKELIHOOD * likelihood
            return jnp.where(some, total, 0.0)

        return jax.lax.map(of_patch, batch).mean()


def fit_kernel(
    settings: KernelTraining,
    begin: Mapping[str, Any],
    cases: Sequence[FusionCase],
    *,
    seed: int,
) -> Weights:
    """Weights learned from cases, starting from `begin`.

    Raises:
        ParameterError: There is no case.
        MissingScaleError: A case does not tell its scale.
        TrainingError: The network could not be trained.
    """
    if not cases:
        raise ParameterError(
            "expected at least one case to learn from, found none; give fit a list of "
            "geofuse.FusionCase"
        )
    squares = [
        square
        for number, case in enumerate(cases)
        for square in described(case, settings.start.radius, number, seed=seed)
    ]
    draw = Drawing(squares, settings.training, settings.start.radius, seed)
    trained = train(settings.loss, begin, draw, settings.training, seed=seed)
    return Weights(trained.parameters)


class Drawing:
    """Batches of patches; a pure function of the step.

    Args:
        squares: What to draw from, of any numbers of pairs.
        training: Sizes of batch and patch.
        radius: Half the side of the search window.
        seed: Of all that is drawn.
    """

    def __init__(
        self, squares: Sequence[Described], training: Training, radius: int, seed: int
    ) -> None:
        """Sort the squares by their number of pairs."""
        self._training, self._radius, self._seed = training, radius, seed
        kinds: dict[int, list[Described]] = {}
        for square in squares:
            kinds.setdefault(len(square.fine), []).append(square)
        self._kinds = [kinds[count] for count in sorted(kinds)]

    def __call__(self, step: int) -> Described:
        """The batch of a step."""
        rng = np.random.default_rng([self._seed, step])
        sizes = np.array([len(kind) for kind in self._kinds], float)
        kind = self._kinds[rng.choice(len(sizes), p=sizes / sizes.sum())]
        numbers = rng.integers(len(kind), size=self._training.batch)
        patches = [self._patch(kind[number], rng) for number in numbers]
        return Described(*(np.stack(field) for field in zip(*patches, strict=True)))

    def _patch(self, square: Described, rng: np.random.Generator) -> Described:
        """A patch, turned and mirrored; NaN beyond a square that is smaller."""
        side = self._training.patch
        for _ in range(8):
            place = [
                int(rng.integers(max(size - side, 0) + 1))
                for size in square.truth.shape
            ]
            there = np.isfinite(_cut(square.truth, place, side)).mean()
            if there > 0.3:
                break
        quarters, mirrored = int(rng.integers(4)), bool(rng.integers(2))

        def turned(image: np.ndarray, margin: int) -> np.ndarray:
            part = _cut(image, place, side + 2 * margin)
            part = np.rot90(part, quarters, axes=(-2, -1))
            return part[..., ::-1] if mirrored else part

        channels = turned(square.channels, self._radius)
        return Described(
            np.where(np.isfinite(channels), channels, 0),
            turned(square.fine, self._radius),
            turned(square.coarse_base, self._radius),
            turned(square.coarse, self._radius),
            square.std,
            turned(square.truth, 0),
            turned(square.rival, 0),
            square.scene,
        )


def described(
    case: FusionCase, radius: int, number: int, *, seed: int = 0
) -> Iterator[Described]:
    """Squares of a case, all its bands, described.

    Args:
        case: The case.
        radius: Half the side of the search window.
        number: Of the scene: heads learn from different scenes.
        seed: Of the squares that are taken where there are many.

    Raises:
        MissingScaleError: The case does not tell its scale.
    """
    inputs = case.inputs
    scale = needed_scale(inputs.scale, "KernelNet")
    rasters = inputs.rasters()
    rasters.pop("classes", None)
    scene = reduce_tiles(
        scan_scene, rasters, partial(kernel_scene, scale=scale)
    ).compute()
    tile = min(512, max(case.reference.shape[1:]))
    rival = RIVAL.predict(inputs, tile=tile, outputs=("reflectance",)).reflectance
    side = min(math.ceil(SQUARE / scale), -(-max(case.reference.shape[1:]) // scale))
    side *= scale
    halo = (math.ceil((radius + NEAR) / scale) + WINDOW + BEYOND) * scale
    spread, location = (v[:, None, None] for v in (scene.spread, scene.location))
    for y, x in _places(case, side, scale, seed):
        window = {
            name: (_square(image, y, x, side, halo) - location) / spread
            for name, image in rasters.items()
        }
        truth, beaten = (
            (_square(image, y, x, side, 0) - location) / spread
            for image in (case.reference, rival)
        )
        pairs = range(len(inputs.pairs))
        fine, base = (
            np.stack([window[f"{kind}_{k}"] for k in pairs])
            for kind in ("fine", "coarse")
        )
        unit = scene._replace(
            std=scene.std / scene.spread,
            spread=np.ones_like(scene.spread),
            location=np.zeros_like(scene.location),
        )
        seen = FusionTile(
            jnp.asarray(fine),
            jnp.asarray(base),
            jnp.asarray(window["coarse"]),
            jnp.asarray(inputs.lags, jnp.float32),
            Scale(scale),
        )
        channels = np.asarray(_channels(seen, unit, radius))
        cut = halo - radius
        for band in range(len(inputs.bands)):
            yield Described(
                channels[band],
                trimmed(fine[:, band], cut),
                trimmed(base[:, band], cut),
                trimmed(window["coarse"][band], cut),
                unit.std[:, band],
                truth[band],
                beaten[band],
                np.int32(number),
            )


@partial(jax.jit, static_argnums=2)
def _channels(tile: FusionTile, scene: KernelScene, radius: int) -> Any:
    """What the network is told, (band, pair, channel, y, x), float16."""
    scale = tile.scale.value if tile.scale is not None else 1
    spare = math.ceil((radius + NEAR) / scale) * scale - radius
    bands = bands_of(tile, scene)
    fine, base, coarse = (a.swapaxes(0, 1) for a in bands[:3])
    known = evidence_of(fine, base, coarse, scale, spare)
    coarse_maps = jax.tree.map(lambda a: a.swapaxes(0, 1), known.coarse)

    def one(given: tuple[Any, ...]) -> Any:
        images, numbers, cells = given
        channels = pair_channels(
            images, Evidence(cells, known.guide), numbers, tile, spare
        )
        return jnp.clip(channels, -6e4, 6e4).astype(jnp.float16)

    return jax.lax.map(one, (bands[:3], bands[3], coarse_maps))


def _places(
    case: FusionCase, side: int, scale: int, seed: int
) -> list[tuple[int, int]]:
    """Where the squares of a case start, at corners of coarse pixels."""
    starts = []
    for size, first in zip(case.reference.shape[1:], case.inputs.offset, strict=True):
        begin = first - scale if first else 0
        starts.append(range(begin, max(size - side, 0) + 1, side))
    places = [(y, x) for y in starts[0] for x in starts[1]]
    if len(places) <= SQUARES:
        return places
    chosen = np.random.default_rng(seed).choice(len(places), SQUARES, replace=False)
    return [places[number] for number in sorted(chosen)]


def _square(image: Any, y: int, x: int, side: int, halo: int) -> np.ndarray:
    """A square of an image with its halo; NaN beyond the edge."""
    height, width = image.shape[-2:]
    top, left = y - halo, x - halo
    low, high = y + side + halo, x + side + halo
    inside = image[..., max(top, 0) : min(low, height), max(left, 0) : min(high, width)]
    values = np.asarray(inside.values, np.float32)
    frame = [
        (max(-top, 0), max(low - height, 0)),
        (max(-left, 0), max(high - width, 0)),
    ]
    return np.pad(values, [(0, 0), *frame], constant_values=np.nan)


def _cut(image: np.ndarray, place: list[int], side: int) -> np.ndarray:
    """A square of an image; NaN beyond its edge."""
    part = image[..., place[0] : place[0] + side, place[1] : place[1] + side]
    missing = [(0, side - size) for size in part.shape[-2:]]
    if not any(after for _, after in missing):
        return part
    frame = [(0, 0)] * (part.ndim - 2) + missing
    return np.pad(part, frame, constant_values=np.nan)


def _counts(scene: Any, heads: int) -> Any:
    """1 for the heads that learn from a scene, else 0."""
    key = jax.random.fold_in(jax.random.key(0), scene)
    return jax.random.bernoulli(key, SHARE, (heads,)).astype(jnp.float32)


def rmse(error: Any, valid: Any) -> Any:
    """Over the last two axes; 0 where nothing is valid, with a finite gradient."""
    valid = jnp.broadcast_to(valid, error.shape)
    square = jnp.square(jnp.where(valid, error, 0.0)).sum(axis=(-2, -1))
    mean = square / jnp.maximum(valid.sum(axis=(-2, -1)).astype(square.dtype), 1.0)
    return jnp.sqrt(mean + 1e-12)
