"""FSDAF and unmixing against straightforward NumPy loops of the same formula, on one CPU.

    python -m benchmarks.speed.family_fsdaf [--quick]

Both sides are given the same float32 arrays and the scene's classes, and give the predicted
fine image: one pair, 4 classes, coarse pixels of 16, 512x512 pixels of a simulated scene with a
cloud (`--quick`: 6 bands; else also 1 and 3).

`fsdaf_vs_numpy`: the NumPy side computes the change of each pixel with the same array code,
and then filters pixel by pixel: distances over all bands, a stable `argsort`, a weighted mean
(window of 41x41, 20 similar pixels). `unmixing_vs_numpy`: for each coarse pixel, band and date
a bounded least-squares problem over 7x7 coarse pixels by SciPy, on top of the same array code.
Loops run on a subsample, scaled up.

Times are CPU seconds of the process, medians of interleaved repeats.
Memory is the peak of the process above what it held before. Not timed, on both sides:
compilation and padding with NaN around the tile.
"""

import os

if __name__ == "__main__":
    from benchmarks.process import pin_to_one_cpu

    pin_to_one_cpu()
    os.environ["JAX_PLATFORMS"] = "cpu"

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import lsq_linear

from benchmarks.process import cpu_seconds, peak_mb
from benchmarks.record import arguments, emit
from benchmarks.speed.family_fitfc import BANDS, SCALE, SIZE, by_pixel, sorted_first
from geofuse.spatiotemporal.classes import ClassSummary, classified, shares
from geofuse.spatiotemporal.coarse_grid import block_mean
from geofuse.spatiotemporal.fsdaf import FSDAF, change_of_pixels
from geofuse.spatiotemporal.method import FusionTile, Scale, trimmed
from geofuse.spatiotemporal.thin_plate import REACH
from geofuse.spatiotemporal.unmixing import Unmixing
from geofuse.synthetic import simulate_case

#: Every how many coarse pixels SciPy solves one.
SPARSE = 8


def make_tile(bands: int, halo: int, method: FSDAF | Unmixing) -> tuple[Any, Any]:
    """A simulated scene of one pair with its halo, and its classes."""
    side = SIZE + 2 * halo
    inputs = simulate_case(side, bands=BANDS[-bands:], scale=SCALE, clouds=0.05).inputs
    tile = FusionTile(
        fine=jnp.asarray(inputs.pairs[0].fine.values[None]),
        coarse_base=jnp.asarray(inputs.pairs[0].coarse.values[None]),
        coarse=jnp.asarray(inputs.coarse.values),
        lags=jnp.asarray(inputs.lags, jnp.float32),
        scale=Scale(SCALE),
    )
    return tile, method.summarize(inputs).compute()


def fsdaf_by_loops(
    method: FSDAF, tile: FusionTile, summary: ClassSummary
) -> tuple[Callable[[], Any], Callable[[], np.ndarray]]:
    """The two stages of FSDAF on the NumPy side: change of each pixel, and the filter."""
    scene = tuple(jnp.asarray(field[0]) for field in summary[:4])

    @jax.jit
    def prepare(tile: FusionTile) -> Any:
        centers, spread, base, wanted = scene
        images = (tile.fine[0], tile.coarse_base[0], tile.coarse)
        guide, change, *_ = change_of_pixels(
            *images, wanted - base, centers, spread, None, method.classes, SCALE
        )
        spare = method.trim(SCALE) - REACH * SCALE - method.radius
        return trimmed(guide, spare), trimmed(change, spare)

    guide, change = (np.asarray(array) for array in prepare(tile))

    def loops() -> np.ndarray:
        return by_pixel(method, guide, change, sorted_first)

    return lambda: prepare(tile), loops


def unmixing_by_loops(
    method: Unmixing, tile: FusionTile, summary: ClassSummary
) -> Callable[[], int]:
    """Bounded least squares for some coarse pixels; how many there were."""
    label = classified(tile.fine[0], *(jnp.asarray(f[0]) for f in summary[:2]))
    share = np.asarray(shares(label, method.classes, SCALE), np.float64)
    dates = [
        np.asarray(block_mean(d, SCALE)) for d in (tile.coarse_base[0], tile.coarse)
    ]
    radius, ridge = method.coarse_radius, np.sqrt(method.ridge)
    low, high = summary.lowest[0], summary.highest[0]
    bounds = (low - 0.5 * (high - low), high + 0.5 * (high - low))

    def loops() -> int:
        solved = 0
        for i in range(radius, share.shape[1] - radius, SPARSE):
            for j in range(radius, share.shape[2] - radius, SPARSE):
                window = np.s_[i - radius : i + radius + 1, j - radius : j + radius + 1]
                f = share[:, *window].reshape(method.classes, -1).T
                valid = np.isfinite(f).all(axis=1)
                system = np.concatenate([f[valid], ridge * np.eye(method.classes)])
                for image, prior in zip(
                    dates, (summary.base, summary.wanted), strict=True
                ):
                    for band in range(len(image)):
                        c = image[band][window].ravel()[valid]
                        wanted = np.concatenate([c, ridge * prior[0, :, band]])
                        lsq_linear(system, wanted, (bounds[0][band], bounds[1][band]))
                solved += 1
        return solved

    return loops


def compare(bands: int, repeats: int) -> dict[str, float]:
    """Seconds for one tile by each program, and the memory of ours."""
    result = {}
    for name, method in (("fsdaf", FSDAF()), ("unmixing", Unmixing())):
        tile, summary = make_tile(bands, method.trim(SCALE), method)
        before = peak_mb()

        @jax.jit
        def fused(
            tile: FusionTile, method: Any = method, summary: Any = summary
        ) -> Any:
            return method.predict_tile(tile, summary).reflectance

        jax.block_until_ready(fused(tile))
        result[f"{name}_memory_mb"] = peak_mb() - before
        ours, theirs = [], []
        if isinstance(method, FSDAF):
            prepare, loops = fsdaf_by_loops(method, tile, summary)
            pixels = loops()[0].size
            for _ in range(repeats):
                ours.append(cpu_seconds(partial(fused, tile)))
                seconds = cpu_seconds(prepare)
                theirs.append(seconds + cpu_seconds(loops) * SIZE**2 / pixels)
        else:
            solve = unmixing_by_loops(method, tile, summary)
            cells = (SIZE // SCALE) ** 2 / solve()
            for _ in range(repeats):
                ours.append(cpu_seconds(partial(fused, tile)))
                theirs.append(ours[-1] + cpu_seconds(solve) * cells)
        result[name] = statistics.median(ours)
        result[f"{name}_loops"] = statistics.median(theirs)
    return result


def measure(quick: bool) -> dict[str, Any]:
    """Measure; keys end in the number of bands, 6 where they do not."""
    result: dict[str, Any] = {}
    for bands in (6,) if quick else (6, 3, 1):
        found = compare(bands, repeats=3 if quick else 5)
        end = "" if bands == 6 else f"_{bands}_bands"
        for name in ("fsdaf", "unmixing"):
            ratio = found[f"{name}_loops"] / found[name]
            result[f"{name}_vs_numpy{end}"] = round(ratio, 1)
            result[f"{name}_us_per_pixel{end}"] = round(found[name] / SIZE**2 * 1e6, 2)
            result[f"{name}_memory_mb{end}"] = round(found[f"{name}_memory_mb"])
    return result


def main() -> None:
    """Run the benchmark."""
    emit(measure(arguments(__doc__).quick))


if __name__ == "__main__":
    main()
