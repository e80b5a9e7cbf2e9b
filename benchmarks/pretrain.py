"""Make the weights that ship with geofuse: learn from simulated scenes alone.

    python -m benchmarks.pretrain samples FOLDER [--first 0] [--last 538] [--part 0/1]
    python -m benchmarks.pretrain mixture-net FOLDER --out MODEL [--steps N] [--seed S]
    python -m benchmarks.pretrain kernel-net FOLDER --out MODEL [--cases 400] [--held 40]
    python -m benchmarks.pretrain calibrate MODEL [--cases 60]

`samples` simulates cases (`draw_training_case`), has every expert of mixture-net predict
them, and keeps pixels: a file a case, so that it can be stopped, continued, and run in
parts side by side. `mixture-net` trains the gate on them and saves it as a model.
`kernel-net` does both for kernel-net, whose samples are whole squares of two bands a case
(about 30 MB, `pretrain_kernel.py`): those that FOLDER has are not drawn again. `calibrate`
tells how far intervals of 90 % must be stretched to hold 90 % of a simulated case held out,
in the mean over the cases, and notes it on the card of a model if it is more than chance.
A scene of the textures is kept apart: cases from it, with seeds from 100,000 on, tell when
to stop, and how far to stretch.

Textures are the Sentinel-2 images of `landcover/` in GEOFUSE_DATA (textures.py), never a
scene that a benchmark reports.
"""

import argparse
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from benchmarks.cases import data_folder
from benchmarks.textures import read_textures
from geofuse.pairs import FusionCase
from geofuse.saved import load, save
from geofuse.spatiotemporal.kernel_net import KernelNet
from geofuse.spatiotemporal.method import FusionMethod
from geofuse.spatiotemporal.mixture_net import MixtureNet
from geofuse.spatiotemporal.mixture_training import (
    GateSamples,
    fit_gate,
    gate_samples,
)
from geofuse.spatiotemporal.pretrain_kernel import (
    Score,
    keep_squares,
    kept_squares,
    pretrain,
)
from geofuse.synthetic.training_scene import draw_training_case
from geofuse.training.card import Card
from geofuse.training.checkpoint import read_card
from geofuse.training.loop import Training
from geofuse.training.weights import Weights
from geofuse.uncertainty.intervals import gaussian_factor

#: Shapes of cases (bands, scale) and how often: few, for each is compiled once.
SHAPES: Mapping[tuple[int, int], float] = {
    (3, 10): 5,
    (3, 16): 5,
    (1, 16): 2,
    (3, 8): 4,
    (4, 12): 3,
    (1, 8): 2,
    (6, 10): 3,
    (3, 6): 1.5,
    (3, 20): 1.5,
    (1, 12): 1,
    (3, 30): 0.6,
    (3, 4): 0.7,
}

#: Seeds from here on are drawn from the texture that is kept for validation.
VALIDATION_SEED = 100_000

#: Level at which intervals are stretched.
LEVEL = 0.9


def shape_of(seed: int) -> tuple[int, int]:
    """Bands and scale of a case."""
    chance = np.array(list(SHAPES.values()))
    number = np.random.default_rng(seed + 777).choice(
        len(SHAPES), p=chance / chance.sum()
    )
    return list(SHAPES)[int(number)]


def draw_case(seed: int, textures: list[np.ndarray], *, pairs: int = 1) -> FusionCase:
    """The case of a seed: 192 pixels wide, or 240 where coarse pixels are large."""
    bands, scale = shape_of(seed)
    size = 192 if scale < 20 else 240
    return draw_training_case(
        seed, textures, size=size, scale=scale, bands=bands, pairs=pairs
    )


def textures_for(seed: int) -> list[np.ndarray]:
    """The textures that a case of this seed is made from.

    Raises:
        SystemExit: `GEOFUSE_DATA` names no folder.
    """
    folder = data_folder()
    if folder is None:
        raise SystemExit("expected GEOFUSE_DATA to name the folder of the data")
    held = seed >= VALIDATION_SEED
    which: Literal["train", "validation"] = "validation" if held else "train"
    return read_textures(folder, which)


def make_samples(folder: Path, seeds: range, part: int, parts: int) -> None:
    """Write the samples of some cases that are not there yet; a part of the shapes each."""
    folder.mkdir(parents=True, exist_ok=True)
    method = MixtureNet(weights=None)
    textures = textures_for(seeds.start)
    for seed in seeds:
        shape = shape_of(seed)
        path = folder / f"{seed}.npz"
        if list(SHAPES).index(shape) % parts != part or path.exists():
            continue
        begin = time.perf_counter()
        case = draw_case(seed, textures)
        side = -(-case.reference.sizes["y"] // shape[1]) * shape[1]
        found = gate_samples(method, case, tile=side, seed=seed)
        samples = found.compute(scheduler="synchronous")
        if not samples:
            continue
        stacked = GateSamples(
            *(np.stack(field) for field in zip(*samples, strict=True))
        )
        unfinished = path.with_suffix(".tmp.npz")
        np.savez(unfinished, **stacked._asdict(), drawn=case.reference.attrs["drawn"])
        os.replace(unfinished, path)
        print(
            seed,
            *shape,
            len(samples),
            f"{time.perf_counter() - begin:.1f} s",
            flush=True,
        )


def read_samples(folder: Path) -> Iterator[tuple[int, GateSamples]]:
    """Samples of all cases of a folder: seed and stacked samples."""
    for path in sorted(
        folder.glob("[0-9]*.npz"), key=lambda path: int(path.stem.split(".")[0])
    ):
        if path.name.endswith(".tmp.npz"):
            continue
        with np.load(path) as file:
            yield (
                int(path.stem),
                GateSamples(*(file[name] for name in GateSamples._fields)),
            )


def pretrain_gate(
    folder: Path, training: Training, seed: int
) -> tuple[MixtureNet, Card]:
    """Train the gate on the samples of a folder."""
    method = MixtureNet(weights=None, training=training)
    samples, groups = [], []
    for number, stacked in read_samples(folder):
        for place in range(len(stacked.truth)):
            samples.append(GateSamples(*(field[place] for field in stacked)))
            groups.append(number)
    held = [number for number in set(groups) if number >= VALIDATION_SEED]
    begin = time.perf_counter()
    trained = fit_gate(
        method,
        samples,
        groups,
        None,
        training,
        reference=method.reference,
        rivals=method.rivals,
        seed=seed,
        held=held,
    )
    history = trained.history
    card = Card(
        data=(
            f"{len(set(groups)) - len(held)} simulated cases ({len(samples)} bands), and "
            f"{len(held)} others to stop at; textures: Sentinel-2 (Copernicus) and parcels"
        ),
        seed=seed,
        training=repr(training),
        scales=scales_of(set(groups) - set(held)),
        scores={
            "validation loss before": history.validations[0][1],
            "validation loss": min(score for _, score in history.validations),
            "best step": history.best,
            "minutes": round((time.perf_counter() - begin) / 60, 1),
        },
    )
    return method.replaced(Weights(trained.parameters)), card


def pretrain_kernel(
    folder: Path, training: Training, *, cases: int, held: int, seed: int
) -> tuple[KernelNet, Card]:
    """Describe the squares that are not there yet, then train kernel-net on them."""
    method = KernelNet(weights=None, training=training)
    seeds = {
        "train": range(cases),
        "held": range(VALIDATION_SEED, VALIDATION_SEED + held),
    }
    for name, numbers in seeds.items():
        draw = partial(draw_case, textures=textures_for(numbers.start))
        keep_squares(draw, numbers, folder / name, radius=method.radius)
    squares, validation = (kept_squares(folder / name) for name in seeds)
    begin = time.perf_counter()
    fitted, trained = pretrain(
        method, squares, validation, seed=seed, report=partial(print, flush=True)
    )
    score = Score(method.settings(), trained.parameters, validation)
    card = Card(
        data=(
            f"{len(squares)} bands of {cases} simulated cases, and {len(validation)} of "
            f"{held} others to stop at; textures: Sentinel-2 (Copernicus) and parcels"
        ),
        seed=seed,
        training=repr(training),
        scales=scales_of(range(cases)),
        scores={
            "RMSE over that of STARFM": float(score.ratios.mean()),
            "coverage of 0.9": float(score.inside.mean()),
            "best step": trained.history.best,
            "minutes": round((time.perf_counter() - begin) / 60, 1),
        },
    )
    return fitted, card


class Stretch(NamedTuple):
    """What the stated deviations are to be multiplied by.

    Attributes:
        coverage: Share of the pixels within intervals of 90 %, mean over the cases.
        chance: Standard error of that mean.
        factor: The factor that makes it 90 %; 1 where it is that within two errors.
    """

    coverage: float
    chance: float
    factor: float


def stretch_of(errors: Sequence[np.ndarray]) -> Stretch:
    """How far intervals must be stretched; the cases count alike.

    Args:
        errors: Of each case, absolute errors in stated standard deviations.
    """
    usual = gaussian_factor(LEVEL)
    covered = np.array([np.mean(of_case <= usual) for of_case in errors])
    chance = float(covered.std() / np.sqrt(len(covered)))
    pooled = np.concatenate(errors)
    weight = np.concatenate([np.full(e.size, 1 / e.size) for e in errors])
    order = np.argsort(pooled)
    share = np.cumsum(weight[order]) / weight.sum()
    factor = float(pooled[order][np.searchsorted(share, LEVEL)]) / usual
    told = abs(covered.mean() - LEVEL) > 2 * chance
    return Stretch(float(covered.mean()), chance, round(factor, 3) if told else 1.0)


def calibrate(folder: Path, cases: int) -> Stretch:
    """Note on a model's card how far its intervals must be stretched."""
    method = load(folder)
    textures = textures_for(VALIDATION_SEED)
    errors = []
    for seed in range(VALIDATION_SEED, VALIDATION_SEED + cases):
        case = draw_case(seed, textures)
        found = method.predict(case.inputs).compute()
        deviation = np.sqrt(found.aleatoric + found.epistemic)
        values = (np.abs(found.reflectance - case.reference) / deviation).values
        errors.append(values[np.isfinite(values)])
    stretch = stretch_of([of_case for of_case in errors if of_case.size])
    card = replace(read_card(folder), deviation_factor=stretch.factor)
    save(method, folder, card=card)
    return stretch


def scales_of(seeds: Iterable[int]) -> tuple[int, ...]:
    """Every scale of the cases of these seeds."""
    return tuple(sorted({shape_of(seed)[1] for seed in seeds}))


def main() -> None:
    """Run a stage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    stages: Any = parser.add_subparsers(dest="stage", required=True)
    samples = stages.add_parser("samples")
    samples.add_argument("folder", type=Path)
    samples.add_argument("--first", type=int, default=0)
    samples.add_argument("--last", type=int, default=538)
    samples.add_argument("--part", default="0/1")
    gate = stages.add_parser("mixture-net")
    gate.add_argument("folder", type=Path)
    gate.add_argument("--out", type=Path, required=True)
    gate.add_argument("--steps", type=int, default=1500)
    gate.add_argument("--seed", type=int, default=0)
    kernel = stages.add_parser("kernel-net")
    kernel.add_argument("folder", type=Path)
    kernel.add_argument("--out", type=Path, required=True)
    kernel.add_argument("--cases", type=int, default=400)
    kernel.add_argument("--held", type=int, default=40)
    kernel.add_argument("--steps", type=int, default=600)
    kernel.add_argument("--seed", type=int, default=0)
    stretch = stages.add_parser("calibrate")
    stretch.add_argument("folder", type=Path)
    stretch.add_argument("--cases", type=int, default=60)
    given = parser.parse_args()
    if given.stage == "calibrate":
        print(calibrate(given.folder, given.cases))
        return
    if given.stage == "samples":
        part, parts = map(int, given.part.split("/"))
        make_samples(given.folder, range(given.first, given.last), part, parts)
        return
    method: FusionMethod
    if given.stage == "kernel-net":
        training = replace(
            KernelNet().training, steps=given.steps, batch=8, patch=64, average=0.995
        )
        method, card = pretrain_kernel(
            given.folder, training, cases=given.cases, held=given.held, seed=given.seed
        )
        print(save(method, given.out, card=card))
        return
    training = Training(
        steps=given.steps,
        batch=64,
        learning_rate=2e-3,
        weight_decay=0.05,
        average=0.998,
        validate_every=250,
        patience=0,
    )
    method, card = pretrain_gate(given.folder, training, given.seed)
    print(save(method, given.out, card=card))


if __name__ == "__main__":
    main()
