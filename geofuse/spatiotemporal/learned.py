"""What the networks that take all bands at once have in common.

    scene_scale      level and robust spread of each band: the unit of a network
    prepared         images of a pair in that unit, coarse ones smooth, nothing invalid
    NetworkMethod    fit, summarize and predict_tile around a network

A network maps the images of one pair to the image of the prediction date, or to what is to be
added to the fine base image:

    F_p = F_k + spread * network(F_k, C_k, C_p)        predicts = "change"
    F_p = level + spread * network(F_k, C_k, C_p)      predicts = "image"

The papers predict the image. The change is what starts from an image that is right wherever
nothing happened, where few pairs are at hand, so that it is the default here.

*The law of tiles.* A tile is read with a halo as wide as the network looks, and starts at a
multiple of its stride, counted from the corner of the scene's coarse grid: then strides and
windows fall on the same pixels in every tile. Outside the image is what is invalid; invalid
pixels are the middle of the scene to the network, and NaN after it.
"""

import abc
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from dask.delayed import Delayed
from flax import nnx
from jaxtyping import Array, Bool, Float
from typing_extensions import override

from geofuse.errors import BandMismatchError, ParameterError
from geofuse.networks.parameters import arrays_of, network_of
from geofuse.pairs import FusionCase, FusionInputs
from geofuse.spatiotemporal.coarse_grid import bicubic, block_mean
from geofuse.spatiotemporal.method import (
    FusionMethod,
    FusionPrediction,
    FusionTile,
    trimmed,
)
from geofuse.spatiotemporal.scene import images_of
from geofuse.spatiotemporal.temporal import (
    FromBase,
    change_power,
    each_base,
    merge_bases,
)
from geofuse.tiling import gathered, reduce_tiles
from geofuse.training.augment import Augmentation
from geofuse.training.holdout import held_out
from geofuse.training.loop import Training, train
from geofuse.training.losses import charbonnier
from geofuse.training.patches import Batch, Patches
from geofuse.training.pretrained import known_weights
from geofuse.training.weights import Weights

#: Half the side of the window in which a coarse change is near, in fine pixels: several
#: pairs are weighed by it.
NEAR = 8

#: How the networks are trained, if nothing else is said.
TRAINING: Training = Training()

#: Batches of what is held out, to know when to stop.
VALIDATION_BATCHES = 4

#: A scene's level and spread are those of at most so many tiles of a scan, and of so many
#: rows and columns of each.
SAMPLED_TILES, SAMPLED_LINES = 64, 64


class SceneScale(NamedTuple):
    """The unit of a network: level and spread (band,) of a scene's fine images, float32.

    Attributes:
        level: Median of a band.
        spread: Half the distance of its 16th and 84th percentile: the standard deviation of
            a Gaussian, but deaf to a few clouds or to snow. Above 0.
    """

    level: Any
    spread: Any


class NetworkSummary(NamedTuple):
    """What a tile needs: the weights, which JAX does not compile in, and the unit."""

    weights: dict[str, Any]
    scale: SceneScale


def scene_scale(inputs: FusionInputs) -> Delayed:
    """Level and robust spread of each band, of a sample of the fine images, lazily.

    A band without spread is measured in its level, or in 1 where that is 0.
    """
    return reduce_tiles(
        _sample,
        images_of(inputs, "fine"),
        _robust_scale,
        most=SAMPLED_TILES,
        token="scene scale",
    )


def _sample(arrays: Mapping[str, np.ndarray], _: Any) -> Float[np.ndarray, "band some"]:
    """Every so manieth row and column of the fine images."""
    every = [max(size // SAMPLED_LINES, 1) for size in arrays["fine_0"].shape[-2:]]
    pixels = [image[:, :: every[0], :: every[1]] for image in arrays.values()]
    return np.concatenate([some.reshape(len(some), -1) for some in pixels], axis=1)


def _robust_scale(samples: list[Float[np.ndarray, "band _some"]]) -> SceneScale:
    scales = []
    for band in np.concatenate(samples, axis=1):
        valid = band[np.isfinite(band)].astype(np.float64)
        low, middle, high = (
            np.percentile(valid, (15.87, 50.0, 84.13))
            if valid.size
            else (0.0, 0.0, 0.0)
        )
        spread, level = (high - low) / 2, abs(middle)
        if spread <= 1e-6 * level:
            spread = level
        scales.append((middle, spread if spread > 0 else 1.0))
    return SceneScale(*np.asarray(scales, np.float32).T)


class Prepared(NamedTuple):
    """The images of a pair as a network takes them.

    Attributes:
        fine: In units of the scene's spread; 0 where invalid.
        coarse_base: Likewise, smooth.
        coarse: Likewise, smooth.
        valid: Where the pair takes part, by band.
    """

    fine: Float[Array, "*batch band y x"]
    coarse_base: Float[Array, "*batch band y x"]
    coarse: Float[Array, "*batch band y x"]
    valid: Bool[Array, "*batch band y x"]


def prepared(
    fine: Float[Array, "band rows columns"],
    coarse_base: Float[Array, "band rows columns"],
    coarse: Float[Array, "band rows columns"],
    scale: SceneScale,
    factor: int | None,
) -> Prepared:
    """Bring the images of a pair to the network's unit, without anything invalid.

    Args:
        fine: Fine image of the pair; NaN where invalid.
        coarse_base: Coarse image of the pair, on the fine grid.
        coarse: Coarse image of the prediction date, on the fine grid.
        scale: The unit.
        factor: Coarse GSD / fine GSD: the coarse images are interpolated between the centers
            of their pixels, at whose corners the window begins and ends. None where they lie
            smooth on the fine grid: then they are taken as they are.

    Returns:
        Arrays without two coarse pixels on each side.
    """
    valid = jnp.isfinite(fine) & jnp.isfinite(coarse_base) & jnp.isfinite(coarse)
    if factor is not None:
        coarse_base, coarse = (
            bicubic(block_mean(image, factor), factor)
            for image in (coarse_base, coarse)
        )
        fine, valid = (trimmed(image, 2 * factor) for image in (fine, valid))
    level, spread = (jnp.asarray(v)[:, None, None] for v in scale)
    fine, coarse_base, coarse = (
        (jnp.where(valid, image, level) - level) / spread
        for image in (fine, coarse_base, coarse)
    )
    return Prepared(fine, coarse_base, coarse, valid)


class NetworkMethod(FusionMethod):
    """A method whose prediction is one network's, of all bands at once.

    What is learned belongs to the bands it was learned with, in their order. Several pairs
    predict on their own, and are merged by how little the coarse image changed since each.

    Every concrete method has these fields:

    Attributes:
        size: `full` for the authors' network, `small` for one of the same kind.
        predicts: `change`, to be added to the fine base image, or the `image`.
        training: How to train.
        weights: What was learned; None before `fit`.
        bands: The bands it was learned with.
    """

    size: Literal["full", "small"]
    predicts: Literal["change", "image"]
    training: Training
    weights: Weights | None
    bands: tuple[str, ...] | None

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        for name, words in (
            ("size", ("full", "small")),
            ("predicts", ("change", "image")),
        ):
            if getattr(self, name) not in words:
                raise ParameterError(
                    f"expected {name} to be {' or '.join(map(repr, words))}, found "
                    f"{getattr(self, name)!r}"
                )
        if (self.weights is None) != (self.bands is None):
            raise ParameterError(
                "expected weights and the bands they were learned with, or neither, found "
                f"weights={self.weights}, bands={self.bands}; use fit, which sets both"
            )
        if self.bands is not None:
            object.__setattr__(self, "bands", tuple(self.bands))

    @property
    @abc.abstractmethod
    def stride(self) -> int:
        """Fine pixels from one place of the deepest layer to the next."""

    @abc.abstractmethod
    def network(self, bands: int, seed: int | None = None) -> nnx.Module:
        """The network at its start: three images (batch, y, x, band) to one.

        Args:
            bands: Number of bands.
            seed: Of what it starts from; None where weights take its place.
        """

    @override
    def compiled(self) -> FusionMethod:
        """Without weights and bands: they come with the summary and the tile."""
        fitted: Any = self
        return dataclasses.replace(fitted, weights=None, bands=None)

    @property
    @override
    def coarse_halo(self) -> int | None:
        return 2  # smooth coarse images

    @override
    def trim(self, scale: int | None) -> int:
        """Halo in fine pixels; coarse images of no known scale lie smooth as they are."""
        return self.halo if scale is None else super().trim(scale)

    @override
    def step(self, scale: int | None) -> int:
        """Whole coarse pixels, and whole strides."""
        return math.lcm(self.stride, scale or 1)

    @override
    def check(self, inputs: FusionInputs) -> None:
        """Refuse inputs of other bands.

        Raises:
            BandMismatchError: It learned with other bands.
        """
        super().check(inputs)
        if self.bands not in (None, inputs.bands):
            raise BandMismatchError(
                f"expected the bands that the method learned with, {self.bands}, found "
                f"{inputs.bands}; choose them with image.sel(band={list(self.bands or ())}) "
                "or fit the method to yours"
            )

    @override
    def fit(self, cases: Sequence[FusionCase], *, seed: int = 0) -> FusionMethod:
        """Learn from cases; a fitted method goes on from what it knows.

        Raises:
            BandMismatchError: The cases have other bands than one another, or than those
                that the method learned with.
            ParameterError: There is no case, or the patches do not fit the network.
        """
        bands = self._bands_of(cases)
        patch = self.training.patch
        fitting = max(-(-patch // self.stride), 2) * self.stride
        if patch != fitting:
            raise ParameterError(
                f"expected patches of {2 * self.stride} pixels or more, by steps of "
                f"{self.stride}, for {type(self).__name__}, found {patch}; write "
                f"training=Training(patch={fitting})"
            )
        learning, validation = held_out(cases)
        start = (
            arrays_of(self.network(len(bands), seed))
            if self.weights is None
            else dict(self.weights.arrays)
        )
        loss = partial(self._loss, len(bands))
        score = jax.jit(loss)
        draw = _draws(validation, self.training, seed, None)
        fixed = [draw(number) for number in range(VALIDATION_BATCHES)]
        trained = train(
            loss,
            start,
            _draws(learning, self.training, seed, Augmentation()),
            self.training,
            seed=seed,
            validate=lambda found: np.mean([score(found, b, None) for b in fixed]),
        )
        fitted: Any = self
        return dataclasses.replace(
            fitted, weights=Weights(trained.parameters), bands=bands
        )

    def _bands_of(self, cases: Sequence[FusionCase]) -> tuple[str, ...]:
        """The bands of the cases, which must be one and the same."""
        found = [case.inputs.bands for case in cases]
        if self.bands is not None:
            found.insert(0, self.bands)
        for bands in found:
            if bands != found[0]:
                raise BandMismatchError(
                    f"expected cases of one set of bands, {found[0]}, found {bands}; choose "
                    "them with image.sel(band=[...])"
                )
        return found[0] if found else ()

    def _loss(
        self, bands: int, parameters: Any, batch: Any, key: Any
    ) -> Float[Array, ""]:
        """Mean absolute error of each pair's prediction, in units of the spread."""
        network = network_of(partial(self.network, bands), parameters)
        factor = batch["scale"].value
        unit = SceneScale(batch["level"], batch["spread"])
        size = self.training.patch
        # What lies beyond the patch is 0 to the network: its edge counts less.
        margin = min(self.halo, size // 4)

        def one(base: tuple[Any, Any]) -> Float[Array, ""]:
            prepare = jax.vmap(partial(prepared, factor=factor))
            images = prepare(*base, batch["coarse"], unit)
            images = Prepared(*(image[..., :size, :size] for image in images))
            level, spread = (values[:, :, None, None] for values in unit)
            truth = (batch["reference"][..., :size, :size] - level) / spread
            if self.predicts == "change":
                truth = truth - images.fine
            truth = jnp.where(images.valid, truth, jnp.nan)
            return charbonnier(
                trimmed(_applied(network, images), margin), trimmed(truth, margin)
            )

        fine, base = (jnp.moveaxis(batch[n], 1, 0) for n in ("fine", "coarse_base"))
        return jnp.mean(each_base(one, (fine, base)))

    @override
    def summarize(self, inputs: FusionInputs) -> Delayed:
        """Level and spread of the scene, beside the weights.

        Raises:
            NotFittedError: There are no weights.
        """
        name = type(self).__name__
        fit = f"method = {name}().fit(cases)"
        weights = known_weights(self.weights, name, fit=fit)
        return gathered(
            partial(_summary, weights),
            [scene_scale(inputs)],
            token=f"network {weights.digest}",
        )

    @override
    def predict_tile(
        self, tile: FusionTile, summary: NetworkSummary
    ) -> FusionPrediction:
        factor = None if tile.scale is None else tile.scale.value
        beyond = self.trim(factor) - self.halo
        level, spread = (jnp.asarray(v)[:, None, None] for v in summary.scale)
        # Nothing of `self` but its settings: weights come with the summary.
        network = network_of(partial(self.network, len(tile.coarse)), summary.weights)

        def from_base(base: tuple[Any, Any]) -> FromBase:
            images = prepared(*base, tile.coarse, summary.scale, factor)
            spare = beyond - 2 * (factor or 0)
            images = Prepared(*(trimmed(image, spare) for image in images))
            batch = Prepared(*(image[None] for image in images))
            found = trimmed(_applied(network, batch)[0], self.halo) * spread
            start = trimmed(base[0], beyond + self.halo)
            image = found + (start if self.predicts == "change" else level)
            change = (images.coarse - images.coarse_base) * spread
            power = change_power(jnp.where(images.valid, change, jnp.nan), radius=NEAR)
            return FromBase(
                reflectance=jnp.where(trimmed(images.valid, self.halo), image, jnp.nan),
                variance=jnp.full_like(image, jnp.nan),
                change=trimmed(power, self.halo - NEAR),
            )

        bases = each_base(from_base, (tile.fine, tile.coarse_base))
        merged = merge_bases(bases.reflectance, bases.variance, bases.change)
        unknown = jnp.full_like(merged.reflectance, jnp.nan)
        return FusionPrediction(
            merged.reflectance,
            unknown,
            unknown,
            merged.pair,
            (merged.pair > 0).astype(jnp.int32),
        )


def _draws(
    cases: Sequence[FusionCase],
    training: Training,
    seed: int,
    augmentation: Augmentation | None,
) -> Callable[[int], Batch]:
    """Batches of patches with the unit of each one's scene: `level` and `spread`.

    A window has the two coarse pixels more on each side that `prepared` takes off.
    """
    patches = Patches(
        cases,
        batch=training.batch,
        patch=training.patch,
        seed=seed,
        halo=lambda scale: 2 * (scale or 0),
        augmentation=augmentation,
    )
    scales = [scene_scale(case.inputs).compute() for case in cases]
    level, spread = map(np.stack, zip(*scales, strict=True))

    def draw(step: int) -> Batch:
        batch = patches.draw(step)
        own = batch["case"]
        return {**batch, "level": level[own], "spread": spread[own]}

    return draw


def _summary(weights: Weights, values: list[Any]) -> NetworkSummary:
    return NetworkSummary(dict(weights.arrays), values[0])


def _applied(network: Any, images: Prepared) -> Float[Array, "batch band y x"]:
    """The network on images (batch, band, y, x) of one pair each."""
    inputs = (
        jnp.moveaxis(image, 1, -1)
        for image in (images.fine, images.coarse_base, images.coarse)
    )
    return jnp.moveaxis(network(*inputs), -1, 1)
