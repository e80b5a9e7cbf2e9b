"""Random patches of cases as arrays by name: the door from rasters to training.

    cases ──> a kind (pairs, bands, scale) ──> places ──> windows ──> augmentations
              drawn for each batch             drawn for each patch

A window is a patch with the halo that a method needs around it; beyond the image it is NaN,
as a tile is. Where the scale is known, windows start and end at corners of coarse pixels.
Everything is drawn from the seed and the step alone, so that a batch can be drawn again.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import xarray as xr
from dask.base import compute
from jaxtyping import Float32

from geofuse.errors import ParameterError
from geofuse.pairs import FusionCase, FusionInputs, Pair
from geofuse.training.augment import Augmentation

#: A batch: arrays by name, and the scale, which JAX knows when it compiles.
Batch = dict[str, Any]

#: Cases of at most so many bytes, all together, are read once and kept in memory.
_IN_MEMORY = 2 << 30
#: A place is drawn again, so often, where less of the truth than this is valid.
_LEAST_VALID, _TRIES = 0.3, 8


@jax.tree_util.register_static
@dataclass(frozen=True)
class PatchScale:
    """Coarse GSD / fine GSD of a batch; None where coarse images lie smooth."""

    value: int | None


class Patches:
    """Batches of random patches of cases.

    Args:
        cases: Cases, lazy or in memory; they may differ in everything. All patches of a
            batch are of cases with as many pairs and bands and one scale.
        batch: Patches in a batch.
        patch: Side of a patch in fine pixels; rounded up to whole coarse pixels.
        seed: Of all that is drawn.
        halo: Fine pixels around a patch by scale, as `FusionMethod.trim` gives them.
        augmentation: What is changed at random; None for nothing.

    Raises:
        ParameterError: There is no case.

    >>> from geofuse.synthetic import simulate_case
    >>> patches = Patches([simulate_case(48, bands=("red", "nir"))], batch=3, patch=32)
    >>> {name: array.shape for name, array in patches.draw(0).items() if name != "scale"}
    ... # doctest: +NORMALIZE_WHITESPACE
    {'fine': (3, 1, 2, 32, 32), 'coarse_base': (3, 1, 2, 32, 32),
     'coarse': (3, 2, 32, 32), 'reference': (3, 2, 32, 32), 'lags': (3, 1), 'case': (3,)}
    """

    def __init__(
        self,
        cases: Sequence[FusionCase],
        *,
        batch: int = 16,
        patch: int = 64,
        seed: int = 0,
        halo: Callable[[int | None], int] = lambda scale: 0,
        augmentation: Augmentation | None = None,
    ) -> None:
        """Read what fits into memory; sort the cases by kind."""
        if not cases:
            raise ParameterError(
                "expected at least one case to learn from, found none; give fit a list of "
                "geofuse.FusionCase"
            )
        self._batch, self._patch, self._seed = batch, patch, seed
        self._halo, self._augmentation = halo, augmentation
        in_memory = sum(map(_bytes, cases)) <= _IN_MEMORY
        self._cases = [_CaseArrays(case, in_memory) for case in cases]
        kinds: dict[Any, list[int]] = {}
        for number, case in enumerate(self._cases):
            kinds.setdefault(case.kind, []).append(number)
        self._kinds = [kinds[kind] for kind in sorted(kinds, key=repr)]

    def draw(self, step: int) -> Batch:
        """The batch of a step.

        Returns:
            `fine`, `coarse_base` (batch, pair, band, y, x) and `coarse` (batch, band, y, x)
            with the halo; `reference` (batch, band, y, x) without; `lags` (batch, pair), in
            days; `case` (batch,), the number of the case; `scale`, a `PatchScale`. Floats
            are float32, NaN where invalid and beyond the image.
        """
        rng = np.random.default_rng([self._seed, step])
        shares = np.array([len(numbers) for numbers in self._kinds], float)
        of_kind = self._kinds[rng.choice(len(shares), p=shares / shares.sum())]
        found = []
        for number in rng.choice(of_kind, self._batch):
            case = self._cases[number]
            one = self._window(case, rng)
            if self._augmentation is not None:
                one = self._augmentation.applied(one, case.spread, case.scale, rng)
            found.append({**one, "case": np.asarray(number, np.int32)})
        batch: Batch = {
            name: np.stack([one[name] for one in found]) for name in found[0]
        }
        batch["scale"] = PatchScale(self._cases[of_kind[0]].scale)
        return batch

    def _window(self, case: "_CaseArrays", rng: np.random.Generator) -> Batch:
        """A window of a case, at a place where much of the truth is valid."""
        step = case.scale or 1
        side = math.ceil(self._patch / step) * step
        halo = self._halo(case.scale)
        best: tuple[float, Any, Any] | None = None
        for _ in range(_TRIES):
            start = [
                int(rng.integers(_places(size, first, step, side))) * step + first
                for size, first in zip(case.shape, case.offset, strict=True)
            ]
            reference = case.window("reference", start, side)
            share = float(np.isfinite(reference).mean())
            if best is None or share > best[0]:
                best = (share, start, reference)
            if share >= _LEAST_VALID:
                break
        assert best is not None
        _, start, reference = best
        around = [begin - halo for begin in start]
        wide = side + 2 * halo
        more = self._augmentation.margin(case.scale) if self._augmentation else 0
        beyond, wider = [begin - more for begin in around], wide + 2 * more
        bases = range(len(case.lags))
        return {
            "fine": np.stack([case.window(f"fine_{n}", around, wide) for n in bases]),
            "coarse_base": np.stack(
                [case.window(f"coarse_{n}", beyond, wider) for n in bases]
            ),
            "coarse": case.window("coarse", beyond, wider),
            "reference": reference,
            "lags": case.lags,
        }


def both_ways(cases: Sequence[FusionCase]) -> list[FusionCase]:
    """The cases, and those of one pair backwards too: the pair's fine image is the truth.

    Args:
        cases: Cases; those of several pairs are kept as they are.
    """
    found = []
    for case in cases:
        found.append(case)
        if len(case.inputs.pairs) == 1:
            inputs, pair = case.inputs, case.inputs.pairs[0]
            turned = FusionInputs(
                [Pair(case.reference, inputs.coarse)],
                pair.coarse,
                inputs.scale,
                inputs.offset,
                inputs.classes,
            )
            found.append(FusionCase(turned, pair.fine))
    return found


class _CaseArrays:
    """The images of a case by name, in memory or read window by window."""

    def __init__(self, case: FusionCase, in_memory: bool) -> None:
        inputs = case.inputs
        rasters = {**inputs.rasters(), "reference": case.reference}
        rasters.pop("classes", None)
        if in_memory:
            # All in one pass: they may come from the same files.
            (rasters,) = compute(rasters)
        # Without coordinates, which no window needs.
        self._images = {name: image.variable for name, image in rasters.items()}
        self.shape = case.reference.shape[1:]
        self.scale = inputs.scale
        self.offset = inputs.offset if inputs.scale else (0, 0)
        self.lags: Float32[np.ndarray, " pair"] = np.asarray(inputs.lags, np.float32)
        self.kind = (len(inputs.pairs), len(inputs.bands), inputs.scale)
        self.spread = _spread(rasters["fine_0"])

    def window(
        self, name: str, start: Sequence[int], side: int
    ) -> Float32[np.ndarray, "band y x"]:
        """A square of an image; NaN beyond its edge."""
        image = self._images[name]
        window = np.full((image.shape[0], side, side), np.nan, np.float32)
        inside, here = [], []
        for begin, size in zip(start, self.shape, strict=True):
            low, high = max(begin, 0), min(begin + side, size)
            if low >= high:
                return window
            inside.append(slice(low, high))
            here.append(slice(low - begin, high - begin))
        window[:, here[0], here[1]] = image[:, inside[0], inside[1]].values
        # Whatever is not finite is missing.
        window[~np.isfinite(window)] = np.nan
        return window


def _places(size: int, first: int, step: int, side: int) -> int:
    """How many starts first + k step there are with a patch within the image; at least 1."""
    return max((size - first - side) // step + 1, 1)


def _bytes(case: FusionCase) -> int:
    return int(case.reference.nbytes * (2 + 2 * len(case.inputs.pairs)))


def _spread(image: xr.DataArray) -> Float32[np.ndarray, "band 1 1"]:
    """Half the distance of the 16th and the 84th percentile of each band, of a sample."""
    every = [max(size // 256, 1) for size in image.shape[1:]]
    pixels = image[:, :: every[0], :: every[1]].values
    spreads = []
    for band in pixels.reshape(len(pixels), -1):
        valid = band[np.isfinite(band)]
        low, high = np.percentile(valid, (16, 84)) if valid.size else (0.0, 0.0)
        spreads.append((high - low) / 2)
    return np.asarray(spreads, np.float32)[:, None, None]
