"""Make the weights that ship with geofuse: learn from simulated scenes alone.

    python -m benchmarks.pretrain samples FOLDER [--first 0] [--last 538] [--part 0/1]
    python -m benchmarks.pretrain mixture-net FOLDER --out MODEL [--steps N] [--seed S]

`samples` simulates cases (`draw_training_case`), has every expert of mixture-net predict
them, and keeps pixels: a file a case, so that it can be stopped, continued, and run in
parts side by side. `mixture-net` trains the gate on them and saves it as a model. A scene
of the textures is kept apart: cases from it, with seeds from 100,000 on, tell when to stop.

Textures are the Sentinel-2 images of `landcover/` in GEOFUSE_DATA (textures.py), never a
scene that a benchmark reports.
"""

import argparse
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.cases import data_folder
from benchmarks.textures import read_textures
from geofuse.pairs import FusionCase
from geofuse.spatiotemporal.mixture_net import MixtureNet
from geofuse.spatiotemporal.mixture_training import (
    GateSamples,
    fit_gate,
    gate_samples,
)
from geofuse.saved import save
from geofuse.synthetic.training_scene import draw_training_case
from geofuse.training.card import Card
from geofuse.training.loop import Training
from geofuse.training.weights import Weights

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


def pretrain(folder: Path, training: Training, seed: int) -> tuple[MixtureNet, Card]:
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
        scores={
            "validation loss before": history.validations[0][1],
            "validation loss": min(score for _, score in history.validations),
            "best step": history.best,
            "minutes": round((time.perf_counter() - begin) / 60, 1),
        },
    )
    return method.replaced(Weights(trained.parameters)), card


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
    given = parser.parse_args()
    if given.stage == "samples":
        part, parts = map(int, given.part.split("/"))
        make_samples(given.folder, range(given.first, given.last), part, parts)
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
    method, card = pretrain(given.folder, training, given.seed)
    print(save(method, given.out, card=card))


if __name__ == "__main__":
    main()
