"""ESTARFM against straightforward NumPy loops of the same formula, on one CPU.

    python -m benchmarks.speed.family_estarfm [--quick]

Both sides are given the same float32 arrays and give the predicted fine image: window of
31x31, gate of Zhu's program, two pairs, 512x512 pixels of a simulated scene with a cloud
(`--quick`: 6 bands; else also 1 and 3, and a window of 51x51). The NumPy side goes pixel by
pixel: compare, select the similar pixels, weigh, regress, add; on a subsample of pixels,
scaled up. What needs no window (1 - R) and the window's mean change are computed for it
beforehand by the same array code, and that is timed on both sides. Times are CPU seconds of
the process, medians of interleaved repeats. Not timed, on both sides: compilation and padding
with NaN around the tile. Memory is the peak of the process above what it held before the
first prediction of the tile, compilation in it.
"""

import os

if __name__ == "__main__":
    from benchmarks.process import pin_to_one_cpu

    pin_to_one_cpu()
    os.environ["JAX_PLATFORMS"] = "cpu"

import statistics
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.process import cpu_seconds, peak_mb
from benchmarks.record import arguments, emit
from geofuse.spatiotemporal.estarfm import ESTARFM, least_r2, unlikeness
from geofuse.spatiotemporal.method import FusionTile, trimmed
from geofuse.spatiotemporal.scene import SceneSpread, moments, scene_spread
from geofuse.spatiotemporal.two_pairs import (
    in_std,
    nearness_of,
    pairs_valid,
    temporal_share,
    window_means,
)
from geofuse.synthetic import simulate_case

SIZE = 512
BANDS = ("blue", "green", "red", "nir", "swir1", "swir2")
#: Every how many rows and columns the NumPy loops take a pixel.
SPARSE = 14


class Prepared(NamedTuple):
    """What the loops are given; images are in std of the band, with a halo."""

    fine: Any
    base: Any
    coarse: Any
    both: Any
    unlike: Any
    drift: Any
    share: Any


def make_tile(bands: int, radius: int) -> tuple[FusionTile, SceneSpread]:
    """A simulated scene of two pairs, with its halo, and its summary."""
    inputs = simulate_case(
        SIZE + 2 * radius, bands=BANDS[-bands:], pairs=2, clouds=0.05
    ).inputs
    fine, base = (
        np.stack([getattr(pair, kind).values for pair in inputs.pairs])
        for kind in ("fine", "coarse")
    )
    lags = jnp.asarray(inputs.lags, jnp.float32)
    tile = FusionTile(
        jnp.asarray(fine), jnp.asarray(base), jnp.asarray(inputs.coarse.values), lags
    )
    return tile, scene_spread([moments(fine, fine)])


def prepare(tile: FusionTile, summary: SceneSpread, radius: int) -> Prepared:
    """What needs no search for similar pixels."""
    valid = pairs_valid(tile.fine, tile.coarse_base, tile.coarse)
    scale = jnp.asarray(summary.spread), jnp.asarray(summary.location)
    images = in_std(tile.fine, tile.coarse_base, tile.coarse, valid, *scale)
    drift = window_means(images.coarse[None] - images.base, valid, radius)
    share = temporal_share(drift, trimmed(valid, radius))
    unlike = unlikeness(images.fine, images.base, summary)
    return Prepared(*images, valid.all(axis=0), unlike, drift, share)


def by_pixel(method: ESTARFM, given: Prepared, summary: SceneSpread) -> np.ndarray:
    """ESTARFM as one would write it down, for every `SPARSE`-th row and column."""
    radius, side = method.radius, 2 * method.radius + 1
    nearness, table = nearness_of(radius), least_r2(side**2)
    tolerance = 2 / method.classes * summary.std / summary.spread
    places = range(0, SIZE, SPARSE)
    result = np.full((len(given.coarse), len(places), len(places)), np.nan, np.float32)
    for i, y in enumerate(places):
        for j, x in enumerate(places):
            near = (slice(y, y + side), slice(x, x + side))
            if not given.both[near][radius, radius]:
                continue
            fine = given.fine[:, :, *near]
            center = fine[:, :, radius, radius]
            off = np.abs(fine - center[:, :, None, None])
            similar = (off <= tolerance[:, :, None, None]).all(axis=(0, 1))
            similar &= given.both[near]
            drift, share = given.drift[:, :, y, x], given.share[:, :, y, x]
            count = int(similar.sum())
            if count < method.least_similar:
                ends = center + drift
            else:
                f = fine[:, :, similar]
                c = given.base[:, :, *near][:, :, similar]
                now = given.coarse[:, *near][:, similar]
                weight = nearness[similar] / np.maximum(
                    given.unlike[near][similar], 1e-6
                )
                weight /= weight.sum()
                rise = ((now - c) * weight).sum(axis=-1)
                slope = np.ones(len(now), np.float32)
                for band in range(len(now)):
                    first, last = c[:, band]
                    if abs(first.mean() - last.mean()) < method.change:
                        continue
                    u, v = c[:, band].ravel(), f[:, band].ravel()
                    u, v = u - u.mean(), v - v.mean()
                    xx, xy, yy = u @ u, u @ v, v @ v
                    line = xy / xx
                    if 0 < line <= 5 and xy * line >= table[count] * yy:
                        slope[band] = line
                ends = center + slope * rise
            result[:, i, j] = (share * ends).sum(axis=0)
    return result * summary.spread[:, None, None] + summary.location[:, None, None]


def compare(bands: int, radius: int, repeats: int) -> dict[str, float]:
    """Seconds for one tile by each program, and how far the results differ."""
    method = ESTARFM(radius=radius)
    tile, summary = make_tile(bands, radius)
    fused = jax.jit(lambda tile: method.predict_tile(tile, summary).reflectance)
    ready = jax.jit(lambda tile: prepare(tile, summary, radius))
    before = peak_mb()
    ours = np.asarray(fused(tile))
    memory = peak_mb() - before
    given = Prepared(*(np.asarray(part) for part in ready(tile)))
    loops = by_pixel(method, given, summary)
    known = np.isfinite(loops)
    off = np.abs(ours[:, ::SPARSE, ::SPARSE] - loops)[known]
    times: dict[str, list[float]] = {"ours": [], "loops": [], "prepare": []}
    for _ in range(repeats):
        times["ours"].append(cpu_seconds(lambda: fused(tile)))
        times["prepare"].append(cpu_seconds(lambda: ready(tile)))
        times["loops"].append(cpu_seconds(lambda: by_pixel(method, given, summary)))
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "ours": medians["ours"],
        "loops": medians["prepare"] + medians["loops"] * SIZE**2 / loops[0].size,
        "memory": memory,
        # A pixel on a threshold may fall on its other side.
        "typical_difference": float(np.quantile(off, 0.99)),
    }


def measure(quick: bool) -> dict[str, Any]:
    """Measure; keys end in what is not usual: 6 bands, a window of 31x31."""
    result: dict[str, Any] = {}
    setups = [(6, 15)] if quick else [(6, 15), (3, 15), (1, 15), (6, 25)]
    for bands, radius in setups:
        found = compare(bands, radius, repeats=3 if quick else 5)
        end = ("" if bands == 6 else f"_{bands}_bands") + (
            "" if radius == 15 else f"_window_{2 * radius + 1}"
        )
        result |= {
            f"estarfm_vs_numpy{end}": round(found["loops"] / found["ours"], 1),
            f"estarfm_us_per_pixel{end}": round(found["ours"] / SIZE**2 * 1e6, 2),
            f"estarfm_difference_p99{end}": found["typical_difference"],
        }
        # The peak of a process only grows: that of the first setup alone is its own.
        result.setdefault("estarfm_peak_mb", round(found["memory"]))
    return result


def main() -> None:
    """Run the benchmark."""
    emit(measure(arguments(__doc__).quick))


if __name__ == "__main__":
    main()
