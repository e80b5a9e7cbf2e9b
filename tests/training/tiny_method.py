"""The smallest learned method: F2 = a F1 + b C1 + c C2 + d, the same in all bands.

It keeps the contract of learned methods: `weights` is a field, None until it is fitted, and
the arrays travel in the summary. It is a method of one pair; of several, it takes the first.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from dask.delayed import Delayed
from typing_extensions import override

from geofuse.errors import NotFittedError
from geofuse.pairs import FusionCase, FusionInputs
from geofuse.spatiotemporal.method import FusionMethod, FusionPrediction, FusionTile
from geofuse.tiling import share
from geofuse.training.augment import Augmentation
from geofuse.training.holdout import held_out
from geofuse.training.loop import Training, train
from geofuse.training.losses import charbonnier
from geofuse.training.patches import Patches
from geofuse.training.pretrained import pretrained_weights
from geofuse.training.weights import Weights

SHORT = Training(
    steps=40,
    batch=4,
    patch=16,
    learning_rate=0.05,
    warmup=0,
    average=0.8,
    validate_every=10,
)


class LineSummary(NamedTuple):
    weights: dict[str, Any]


@dataclass(frozen=True)
class TinyLine(FusionMethod):
    """A line through the fine base image and the two coarse ones."""

    states_uncertainty: ClassVar[bool] = True

    noise: float = 0.01
    training: Training = SHORT
    members: tuple[FusionMethod, ...] = ()
    weights: Weights | Literal["pretrained"] | None = None

    @property
    @override
    def halo(self) -> int:
        return 0

    @override
    def fit(self, cases: Sequence[FusionCase], *, seed: int = 0) -> FusionMethod:
        learning, validation = held_out(cases)
        patches = Patches(
            learning,
            batch=self.training.batch,
            patch=self.training.patch,
            seed=seed,
            augmentation=Augmentation(shift=0, gain=0, offset=0),
        )
        fixed = Patches(validation, batch=8, patch=16, seed=seed).draw(0)
        start = {"kernel": np.zeros(3, np.float32), "bias": np.zeros((), "f4")}
        if isinstance(self.weights, Weights):
            start = dict(self.weights.arrays)

        def loss(parameters, batch, key):
            images = batch["fine"][:, 0], batch["coarse_base"][:, 0], batch["coarse"]
            return charbonnier(_line(parameters, *images), batch["reference"])

        score = jax.jit(loss)
        trained = train(
            loss,
            start,
            patches.draw,
            self.training,
            seed=seed,
            validate=lambda parameters: score(parameters, fixed, None),
        )
        return dataclasses.replace(self, weights=Weights(trained.parameters))

    @override
    def summarize(self, inputs: FusionInputs) -> Delayed:
        weights = self.weights
        if weights == "pretrained":
            weights = pretrained_weights("tiny-line")
        if weights is None:
            raise NotFittedError(
                f"expected a fitted method, found {self!r}; use fit(cases)"
            )
        return share(LineSummary(dict(weights.arrays)), token=weights.digest)

    @override
    def predict_tile(self, tile: FusionTile, summary: LineSummary) -> FusionPrediction:
        image = _line(summary.weights, tile.fine[0], tile.coarse_base[0], tile.coarse)
        count = jnp.ones(image.shape[1:], jnp.int32)
        return FusionPrediction(
            image,
            jnp.full_like(image, self.noise**2),
            jnp.zeros_like(image),
            count,
            count,
        )


def _line(parameters, fine, base, coarse):
    a, b, c = parameters["kernel"]
    valid = jnp.isfinite(fine) & jnp.isfinite(base) & jnp.isfinite(coarse)
    fine, base, coarse = (jnp.where(valid, i, 0.0) for i in (fine, base, coarse))
    line = a * fine + b * base + c * coarse + parameters["bias"]
    return jnp.where(valid, line, jnp.nan)
