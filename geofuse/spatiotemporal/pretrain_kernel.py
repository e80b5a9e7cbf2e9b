"""Pretraining of KernelNet on simulated scenes: describe them once, then learn.

    seed ──draw──> case ──described──> squares in a folder ──> fit, choosing the step whose
                                                               validation is the best

Scenes are drawn by number, so that a run can be repeated; those of the validation must be
made of other textures. Nothing is chosen on a scene that methods are scored on.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from geofuse.networks.parameters import arrays_of, network_of
from geofuse.pairs import FusionCase
from geofuse.spatiotemporal.kernel_fusion import fuse_band, make_network
from geofuse.spatiotemporal.kernel_inputs import CHANNELS
from geofuse.spatiotemporal.kernel_net import KernelNet
from geofuse.spatiotemporal.kernel_training import (
    NEGLIGIBLE,
    Described,
    Drawing,
    KernelTraining,
    described,
    rmse,
)
from geofuse.training.loop import Trained, train
from geofuse.training.weights import Weights

#: Bands that are kept of a scene.
BANDS = 2


def keep_squares(
    draw: Callable[[int], FusionCase],
    numbers: Sequence[int],
    folder: Path,
    *,
    radius: int,
) -> None:
    """Describe scenes and keep them; those that are there are not drawn again.

    Args:
        draw: Gives the case of a number.
        numbers: Of the scenes.
        folder: Where to keep them; made where it is not there.
        radius: Half the side of the search window.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        rest = folder / f"{number}.npz"
        if rest.exists():
            continue
        squares = list(described(draw(number), radius, number))
        few = np.random.default_rng(number).permutation(len(squares))[:BANDS]
        arrays: dict[str, Any] = {}
        for place, chosen in enumerate(sorted(few)):
            square = squares[chosen]
            np.save(folder / f"{number}-{place}.npy", square.channels)
            arrays |= {
                f"{name}-{place}": value
                for name, value in square._replace(channels=0)._asdict().items()
            }
        part = rest.with_suffix(".part.npz")
        np.savez(part, **arrays)
        part.replace(rest)


def kept_squares(folder: Path) -> list[Described]:
    """The squares in a folder, in the order of their numbers; channels stay on disk."""
    files = [file for file in folder.glob("*.npz") if ".part" not in file.name]
    found = []
    for file in sorted(files, key=lambda file: int(file.stem)):
        with np.load(file) as arrays:
            for place in range(sum(name.startswith("std-") for name in arrays)):
                fields = {name: arrays[f"{name}-{place}"] for name in Described._fields}
                channels = np.load(file.with_name(f"{file.stem}-{place}.npy"), "r")
                found.append(Described(**{**fields, "channels": channels}))
    return found


def pretrain(
    method: KernelNet,
    squares: Sequence[Described],
    validation: Sequence[Described],
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> tuple[KernelNet, Trained]:
    """Train a network from its first random parameters.

    Args:
        method: What to train, and how; its weights are not looked at.
        squares: What to learn from.
        validation: What the step is chosen by.
        seed: Of parameters and batches.
        checkpoint: See `train`.
        report: Is told the scores of each validation.
    """
    settings = method.settings()
    make = partial(make_network, method.width, method.heads, CHANNELS)

    def validate(parameters: dict[str, Any]) -> float:
        score = Score(settings, parameters, validation)
        report(str(score))
        return float(score.ratios.mean())

    trained = train(
        settings.loss,
        arrays_of(make(nnx.Rngs(seed))),
        Drawing(squares, method.training, method.radius, seed),
        method.training,
        seed=seed,
        validate=validate,
        checkpoint=checkpoint,
    )
    return replace(method, weights=Weights(trained.parameters)), trained


class Score:
    """How parameters do on squares.

    Attributes:
        ratios: Root mean square error as a multiple of STARFM's, of each square.
        inside: Share of errors within 1.645 standard deviations, of each square: 0.9 where
            they are stated rightly.
    """

    def __init__(
        self, settings: KernelTraining, parameters: Any, squares: Sequence[Described]
    ) -> None:
        """Predict all squares."""
        found = np.array([_scored(settings, parameters, s) for s in squares])
        self.ratios, self.inside = found[:, 0], found[:, 1]

    def __str__(self) -> str:
        """Mean, nine out of ten, worst; coverage."""
        return (
            f"ratio {self.ratios.mean():.4f}, of 9 in 10 below "
            f"{np.quantile(self.ratios, 0.9):.3f}, worst {self.ratios.max():.3f}; "
            f"coverage {self.inside.mean():.3f}"
        )


@partial(jax.jit, static_argnums=0)
def _scored(settings: KernelTraining, parameters: Any, square: Described) -> Any:
    make = partial(make_network, settings.width, settings.heads, CHANNELS)
    fused = fuse_band(
        network_of(lambda: make(nnx.Rngs(0)), parameters),
        settings.start,
        settings.learned,
        square.channels.astype(jnp.float32),
        square.fine,
        square.coarse_base,
        square.coarse,
        square.std,
    )
    image = fused.heads.mean(axis=0)
    valid = (
        jnp.isfinite(square.truth) & jnp.isfinite(square.rival) & jnp.isfinite(image)
    )
    error = image - square.truth
    # As in the loss, errors that are negligible in any unit are.
    ratio = (rmse(error, valid) + 0.1 * NEGLIGIBLE) / (
        rmse(square.rival - square.truth, valid) + 0.1 * NEGLIGIBLE
    )
    deviation = jnp.sqrt(fused.variance + fused.heads.var(axis=0))
    within = jnp.abs(jnp.where(valid, error, 0.0)) <= 1.645 * deviation
    count = jnp.maximum(valid.sum(), 1)
    return jnp.stack([ratio, (within & valid).sum() / count.astype(jnp.float32)])
