"""Fit-FC against straightforward NumPy loops of the same formula, on one CPU.

    python -m benchmarks.speed.family_fitfc [--quick]

Both sides are given the same float32 arrays and give the predicted fine image: window of
41x41, the 20 most similar pixels, one pair, coarse pixels of 16, 512x512 pixels of a
simulated scene with a cloud (`--quick`: 6 bands; else also 1 and 3). The NumPy side computes
lines and residual with the same array code, and then takes pixel by pixel: distances over
all bands, a stable `argsort`, a weighted mean; on a subsample of pixels, scaled up.
`fit_fc_vs_partition` is a harder peer: `argpartition` instead of the sort, which leaves
ties to chance. Times are CPU seconds of the process, medians of interleaved repeats.
Not timed, on both sides: compilation and padding with NaN around the tile.
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

from benchmarks.process import cpu_seconds
from benchmarks.record import arguments, emit
from geofuse.spatiotemporal.coarse_grid import painted
from geofuse.spatiotemporal.fitfc import FitFC, fit_lines
from geofuse.spatiotemporal.fsdaf import FSDAF
from geofuse.spatiotemporal.method import FusionTile, NoSummary, Scale, trimmed
from geofuse.spatiotemporal.object_fitfc import ObjectFitFC, ObjectSummary
from geofuse.synthetic import simulate_case

SIZE, SCALE = 512, 16
BANDS = ("blue", "green", "red", "nir", "swir1", "swir2")
#: Every how many rows and columns the NumPy loops take a pixel.
SPARSE = 12


def make_tile(bands: int, halo: int) -> FusionTile:
    """A simulated scene of one pair, with its halo."""
    side = SIZE + 2 * halo
    inputs = simulate_case(side, bands=BANDS[-bands:], scale=SCALE, clouds=0.05).inputs
    return FusionTile(
        fine=jnp.asarray(inputs.pairs[0].fine.values[None]),
        coarse_base=jnp.asarray(inputs.pairs[0].coarse.values[None]),
        coarse=jnp.asarray(inputs.coarse.values),
        lags=jnp.asarray(inputs.lags, jnp.float32),
        scale=Scale(SCALE),
    )


def candidates_of(method: FitFC, tile: FusionTile) -> tuple[np.ndarray, np.ndarray]:
    """F1 and F_rm + r, with a halo of the search window's radius."""
    fine, base, coarse = (
        np.asarray(a) for a in (tile.fine[0], tile.coarse_base[0], tile[2])
    )
    fitted = fit_lines(base, coarse, SCALE, radius=method.coarse_radius)
    slope, mean_base, mean = (np.asarray(painted(a, SCALE)) for a in fitted[:3])
    fine = trimmed(fine, (method.coarse_radius + 2) * SCALE)
    candidates = slope * (fine - mean_base) + mean + np.asarray(fitted.residual)
    spare = (fine.shape[-1] - SIZE) // 2 - method.radius
    return trimmed(fine, spare), trimmed(candidates, spare)


def by_pixel(
    method: FitFC | FSDAF,
    fine: np.ndarray,
    candidates: np.ndarray,
    choose: Callable[..., Any],
) -> np.ndarray:
    """The filter as one would write it down, for every `SPARSE`-th row and column."""
    side = 2 * method.radius + 1
    axis = np.arange(side) - method.radius
    distance = np.hypot(axis[:, None], axis[None, :])
    nearness = (1 / (1 + distance / (method.radius + 0.5))).astype(np.float32).ravel()
    places = range(0, SIZE, SPARSE)
    result = np.full((len(fine), len(places), len(places)), np.nan, np.float32)
    for i, y in enumerate(places):
        for j, x in enumerate(places):
            window = fine[:, y : y + side, x : x + side]
            center = window[:, method.radius, method.radius]
            if np.isnan(center).any():
                continue
            off = ((window - center[:, None, None]) ** 2).sum(axis=0).ravel()
            off = np.where(np.isnan(off), np.inf, off)
            nearest = choose(off, method.similar)
            nearest = nearest[np.isfinite(off[nearest])]
            weight = nearness[nearest] / nearness[nearest].sum()
            values = candidates[:, y : y + side, x : x + side]
            values = values.reshape(len(fine), -1)[:, nearest]
            result[:, i, j] = (values * weight).sum(axis=1)
    return result


def sorted_first(off: np.ndarray, similar: int) -> np.ndarray:
    """The most similar, ties in reading order."""
    return np.argsort(off, kind="stable")[:similar]


def partitioned_first(off: np.ndarray, similar: int) -> np.ndarray:
    """The most similar, ties as they fall."""
    return np.argpartition(off, similar)[:similar]


def compare(bands: int, repeats: int) -> dict[str, Any]:
    """Seconds for one tile by each program, and how far the results differ."""
    method, objects = FitFC(), ObjectFitFC()
    tile = make_tile(bands, method.trim(SCALE))
    object_tile = make_tile(bands, objects.trim(SCALE))
    level = (
        np.nanmean(object_tile.fine, axis=(2, 3)),
        np.nanstd(object_tile.fine, axis=(2, 3)),
    )
    summary = ObjectSummary(*level)
    fused = jax.jit(lambda tile: method.predict_tile(tile, NoSummary()).reflectance)
    by_object = jax.jit(lambda tile: objects.predict_tile(tile, summary).reflectance)
    ours = np.asarray(fused(tile))
    jax.block_until_ready(by_object(object_tile))
    fine, candidates = candidates_of(method, tile)
    loops = by_pixel(method, fine, candidates, sorted_first)
    worst = np.nanmax(np.abs(ours[:, ::SPARSE, ::SPARSE] - loops))
    times: dict[str, list[float]] = {
        "ours": [],
        "object": [],
        "sort": [],
        "partition": [],
    }
    prepare = cpu_seconds(lambda: candidates_of(method, tile))
    scaled = SIZE**2 / loops[0].size
    for _ in range(repeats):
        times["ours"].append(cpu_seconds(lambda: fused(tile)))
        times["object"].append(cpu_seconds(lambda: by_object(object_tile)))
        for name, choose in (("sort", sorted_first), ("partition", partitioned_first)):
            seconds = cpu_seconds(partial(by_pixel, method, fine, candidates, choose))
            times[name].append(prepare + seconds * scaled)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {**medians, "worst": float(worst)}


def measure(quick: bool) -> dict[str, Any]:
    """Measure; keys end in the number of bands, 6 where they do not."""
    result: dict[str, Any] = {}
    for bands in (6,) if quick else (6, 3, 1):
        found = compare(bands, repeats=3 if quick else 5)
        end = "" if bands == 6 else f"_{bands}_bands"
        pixels = SIZE**2
        result |= {
            f"fit_fc_vs_numpy{end}": round(found["sort"] / found["ours"], 1),
            f"fit_fc_vs_partition{end}": round(found["partition"] / found["ours"], 1),
            f"object_fit_fc_vs_fit_fc{end}": round(found["ours"] / found["object"], 1),
            f"fit_fc_us_per_pixel{end}": round(found["ours"] / pixels * 1e6, 2),
            f"fit_fc_worst_difference{end}": found["worst"],
        }
    return result


def main() -> None:
    """Run the benchmark."""
    emit(measure(arguments(__doc__).quick))


if __name__ == "__main__":
    main()
