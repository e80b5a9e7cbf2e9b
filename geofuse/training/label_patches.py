"""Random patches of labeled images as arrays by name: the door from maps to training.

    labels ──> some labeled pixels ──> places ──> windows of all modalities ──> changed
               of each scan tile       drawn      patch and halo                at random

A patch lies at random around a labeled pixel, so that sparse labels are seen as often as
dense ones. A window is a patch with the halo that a network needs around it; beyond the
image it is NaN, as a tile is. Everything is drawn from the seed and the step alone.

Blocks of ground are held out by `geofuse.splits`: of one fold only pixels well inside a
block are labeled, of the others all that lie outside of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import compute
from jaxtyping import Float32, Int, Int32

from geofuse.errors import ParameterError
from geofuse.splits import fold_of, inside_block
from geofuse.tiling import reduce_tiles
from geofuse.training.augment import clouds

#: Images of at most so many bytes, all together, are read once and kept in memory.
_IN_MEMORY = 1 << 30
#: Of a tile of a scan at most so many labeled pixels are places to draw at.
_PLACES = 4096


@dataclass(frozen=True)
class Fold:
    """Which labels count: those of one fold, or those of all others.

    Attributes:
        number: The fold.
        folds: How many there are.
        seed: Of the folds.
        held: True for the pixels inside its blocks, False for those of the other folds.
    """

    number: int = 0
    folds: int = 5
    seed: int = 0
    held: bool = False

    @property
    def others(self) -> "Fold":
        """What this one is not."""
        return replace(self, held=not self.held)

    def keeps(
        self, rows: Int[np.ndarray, "*n"], columns: Int[np.ndarray, "*n"], scene: int
    ) -> np.ndarray:
        """Whether labels at these pixels count. Bool, of the same shape."""
        found = fold_of(rows, columns, scene=scene, folds=self.folds, seed=self.seed)
        inside = found == self.number
        return inside & inside_block(rows, columns) if self.held else ~inside


@dataclass(frozen=True)
class MapAugmentation:
    """What is changed at random in a patch of a map.

    Args:
        turns: Whether patches are mirrored and turned by quarters.
        drop: Probability that a modality is missing altogether; one is always left.
        gaps: Probability that a modality has gaps: a few round ones.
    """

    turns: bool = True
    drop: float = 0.0
    gaps: float = 0.0

    def applied(
        self,
        channels: dict[str, np.ndarray],
        labels: np.ndarray,
        rng: np.random.Generator,
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """A changed copy of a patch."""
        lost = [name for name in channels if rng.random() < self.drop]
        if len(lost) == len(channels):
            lost.remove(lost[rng.integers(len(lost))])
        quarters = int(rng.integers(4)) if self.turns else 0
        mirrored = self.turns and bool(rng.integers(2))
        found = {}
        for name, window in channels.items():
            window = window.copy()
            if name in lost:
                window[:] = np.nan
            if rng.random() < self.gaps:
                window[:, clouds(window.shape[-2:], rng)] = np.nan
            found[name] = _turned(window, quarters, mirrored)
        return found, _turned(labels, quarters, mirrored)


class LabelPatches:
    """Batches of random patches of labeled images.

    Args:
        images: Channels (channel, y, x) by modality of each scene, lazy or in memory; all
            scenes have the same modalities, NaN where one is missing.
        labels: Numbers of classes (y, x) of each scene, -1 where unlabeled.
        batch: Patches in a batch.
        patch: Side of a patch in pixels.
        halo: Pixels around a patch.
        seed: Of all that is drawn.
        fold: Which labels count; None for all.
        augmentation: What is changed at random; None for nothing.

    Raises:
        ParameterError: No label counts.
    """

    def __init__(
        self,
        images: Sequence[Mapping[str, xr.DataArray]],
        labels: Sequence[xr.DataArray],
        *,
        batch: int = 16,
        patch: int = 32,
        halo: int = 0,
        seed: int = 0,
        fold: Fold | None = None,
        augmentation: MapAugmentation | None = None,
    ) -> None:
        """Read what fits into memory; find where labels are."""
        self._batch, self._patch, self._halo, self._seed = batch, patch, halo, seed
        self._fold, self._augmentation = fold, augmentation
        images, labels = in_memory(images, labels)
        self._scenes = [
            {name: image.variable for name, image in scene.items()} for scene in images
        ]
        self._labels = [image.expand_dims("channel").variable for image in labels]
        found = compute(
            [_labeled(image, number, fold) for number, image in enumerate(labels)]
        )[0]
        self._places = np.concatenate([places for places, _ in found])
        chance = np.concatenate([chance for _, chance in found])
        if not len(self._places):
            where = "" if fold is None else f" in the blocks of fold {fold.number}"
            raise ParameterError(
                f"expected labeled pixels to learn from{where}, found none; give more "
                "labels, or cases of more ground"
            )
        self._reached = np.cumsum(chance) / chance.sum()

    def draw(self, step: int) -> dict[str, Any]:
        """The batch of a step.

        Returns:
            `channels`, arrays (batch, channel, y, x) by modality with the halo, float32,
            NaN where missing and beyond the image; `labels` (batch, y, x) without it,
            -1 where they do not count.
        """
        rng = np.random.default_rng([self._seed, step])
        drawn = [self._one(rng) for _ in range(self._batch)]
        return {
            "channels": {
                name: np.stack([channels[name] for channels, _ in drawn])
                for name in drawn[0][0]
            },
            "labels": np.stack([labels for _, labels in drawn]),
        }

    def _one(
        self, rng: np.random.Generator
    ) -> tuple[dict[str, np.ndarray], Int32[np.ndarray, "y x"]]:
        number = int(np.searchsorted(self._reached, rng.random(), side="right"))
        scene, row, column = self._places[min(number, len(self._places) - 1)].tolist()
        top, left = (at - int(rng.integers(self._patch)) for at in (row, column))
        labels = _window(self._labels[scene], (top, left), self._patch)[0]
        known = np.where(np.isfinite(labels), labels, -1).astype(np.int32)
        if self._fold is not None:
            rows, columns = np.mgrid[
                top : top + self._patch, left : left + self._patch
            ].clip(0)
            known[~self._fold.keeps(rows, columns, scene)] = -1
        wide = self._patch + 2 * self._halo
        start = (top - self._halo, left - self._halo)
        channels = {
            name: _window(image, start, wide)
            for name, image in self._scenes[scene].items()
        }
        if self._augmentation is None:
            return channels, known
        return self._augmentation.applied(channels, known, rng)


def labeled_folds(labels: Sequence[xr.DataArray], folds: int, seed: int) -> list[Fold]:
    """The folds that can be held out: with labels in them, and others without them.

    Args:
        labels: Numbers of classes (y, x) of each scene, -1 where unlabeled.
        folds: How many folds there are.
        seed: Of the folds.

    Returns:
        None where all labels lie in one block.
    """
    every = [Fold(number, folds, seed) for number in range(folds)]
    found = compute(
        [
            [
                [_labeled(image, scene, part) for part in (fold, fold.others)]
                for scene, image in enumerate(labels)
            ]
            for fold in every
        ]
    )[0]
    return [
        fold
        for fold, scenes in zip(every, found, strict=True)
        if all(sum(len(scene[part][0]) for scene in scenes) for part in (0, 1))
    ]


def in_memory(
    images: Sequence[Mapping[str, xr.DataArray]], labels: Sequence[xr.DataArray]
) -> tuple[list[Mapping[str, xr.DataArray]], list[xr.DataArray]]:
    """Scenes as they are, or read at once if all of them together are small."""
    scenes, maps = list(map(dict, images)), list(labels)
    if sum(_bytes(scene) for scene in scenes) > _IN_MEMORY:
        return list(scenes), maps
    found: tuple[Any, Any] = compute(scenes, maps)
    return found


def _labeled(labels: xr.DataArray, scene: int, fold: Fold | None) -> Any:
    """Places (scene, row, column) of labeled pixels and the chance of each, lazily."""
    rows, columns = (
        xr.DataArray(
            da.broadcast_to(
                da.arange(labels.sizes[dim], dtype=np.float64).reshape(shape),
                labels.shape,
                chunks=(2048, 2048),
            ),
            dims=("y", "x"),
        )
        for dim, shape in (("y", (-1, 1)), ("x", (1, -1)))
    )
    # As floats: beyond the raster there is NaN.
    numbers = labels.astype(np.float32).drop_vars(list(labels.coords))
    return reduce_tiles(
        partial(_places_of, scene=scene, fold=fold),
        {"labels": numbers, "rows": rows, "columns": columns},
        _joined,
        token=f"labeled {scene} {fold}",
    )


def _places_of(
    arrays: Mapping[str, np.ndarray], _: Any, *, scene: int, fold: Fold | None
) -> tuple[np.ndarray, np.ndarray]:
    known = arrays["labels"] >= 0
    rows, columns = (arrays[name][known].astype(int) for name in ("rows", "columns"))
    if fold is not None:
        keep = fold.keeps(rows, columns, scene)
        rows, columns = rows[keep], columns[keep]
    count = len(rows)
    some = np.random.default_rng([scene, count]).permutation(count)[:_PLACES]
    places = np.stack([np.full_like(some, scene), rows[some], columns[some]], axis=1)
    return places, np.full(len(some), count / max(len(some), 1))


def _joined(
    found: list[tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray]:
    places, chance = zip(*found, strict=True)
    return np.concatenate(places), np.concatenate(chance)


def _window(
    image: xr.Variable, start: Sequence[int], side: int
) -> Float32[np.ndarray, "channel {side} {side}"]:
    """A square of an image; NaN beyond its edge."""
    window = np.full((image.shape[0], side, side), np.nan, np.float32)
    inside, here = [], []
    for begin, size in zip(start, image.shape[1:], strict=True):
        low, high = max(begin, 0), min(begin + side, size)
        if low >= high:
            return window
        inside.append(slice(low, high))
        here.append(slice(low - begin, high - begin))
    window[:, here[0], here[1]] = image[:, inside[0], inside[1]].values
    window[~np.isfinite(window)] = np.nan
    return window


def _turned(image: np.ndarray, quarters: int, mirrored: bool) -> np.ndarray:
    image = np.rot90(image, quarters, axes=(-2, -1))
    return np.ascontiguousarray(image[..., ::-1] if mirrored else image)


def _bytes(scene: Mapping[str, xr.DataArray]) -> int:
    return sum(image.size * 4 for image in scene.values())
