"""STARFM against a straightforward Numba loop of the same formula, on one CPU.

    python -m benchmarks.speed.starfm [--quick]

Both sides are given the same float32 arrays and give the predicted fine image: window
of 31x31, one pair, one band, 512x512 pixels (`--quick` stops there; the full run adds a
window of 51x51 and two pairs, and writes a CSV). The process is pinned to one CPU
before any thread pool starts. Times are CPU seconds of the process (with one CPU that
is wall time without what other processes took), medians over interleaved repeats. Not
timed, on both sides: compilation (a first call), the scene's summary, NaN padding.

`naive` is the formula as one would write it down: for each pixel, each neighbor, three
tests and a weight, with the table of distances prepared (njit, fastmath off).
`factored` is a harder peer: what depends on one pixel only is computed once, and rows
are scanned, so that LLVM can vectorize the inner loop.
"""

import os

if __name__ == "__main__":
    from benchmarks.process import pin_to_one_cpu

    _CPUS = pin_to_one_cpu()
    os.environ["JAX_PLATFORMS"] = "cpu"

import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numba
import numpy as np

from benchmarks.record import arguments, emit, save
from geofuse.spatiotemporal.method import FusionTile
from geofuse.spatiotemporal.scene import SceneSpread
from geofuse.spatiotemporal.starfm import STARFM

SIZE = 512


class Scene(NamedTuple):
    """Inputs of one tile with its halo, and its numbers."""

    fine: np.ndarray
    coarse_base: np.ndarray
    coarse: np.ndarray
    summary: SceneSpread


def make_scene(radius: int, pairs: int, *, size: int = SIZE) -> Scene:
    """Fields of three covers with texture and noise, coarse pixels of 16, one cloud."""
    rng = np.random.default_rng(0)
    side = size + 2 * radius

    def smooth(width: float) -> np.ndarray:
        spectrum = np.fft.rfft2(rng.normal(size=(side, side)))
        frequency = np.hypot(
            np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :]
        )
        field = np.fft.irfft2(
            spectrum * np.exp(-((frequency * width) ** 2)), (side, side)
        )
        return field / field.std()

    def coarsened(image: np.ndarray) -> np.ndarray:
        blocks = np.add.reduceat(image, np.arange(0, side, 16), axis=0)
        blocks = np.add.reduceat(blocks, np.arange(0, side, 16), axis=1)
        sizes = np.diff([*range(0, side, 16), side])
        mean = blocks / np.outer(sizes, sizes)
        return np.repeat(np.repeat(mean, sizes, axis=0), sizes, axis=1)

    cover = (smooth(30) > 0).astype(float) + (smooth(30) > 0.5)
    base = 0.1 + 0.08 * cover + 0.01 * smooth(5)
    fine = np.stack([base + 0.004 * rng.normal(size=base.shape) for _ in range(pairs)])
    coarse_base = np.stack([coarsened(f) + 0.003 * smooth(20) for f in fine])
    coarse = coarse_base[0] + 0.02 * smooth(40)
    fine[:, 100:140, 200:260] = np.nan
    std = np.nanstd(fine, axis=(1, 2))[:, None]
    numbers = (std, std.mean(axis=0), np.nanmean(fine, keepdims=True)[0, 0])
    return Scene(
        fine.astype(np.float32),
        coarse_base.astype(np.float32),
        coarse.astype(np.float32),
        SceneSpread(*(number.astype(np.float32) for number in numbers)),
    )


def jitted(method: STARFM) -> Callable[..., Any]:
    """What `predict(outputs=("reflectance",))` computes of a tile."""
    return jax.jit(lambda tile, summary: method.predict_tile(tile, summary).reflectance)


@numba.njit(error_model="numpy")
def naive(  # type: ignore[no-untyped-def]
    fine, coarse_base, coarse, distance, tolerance, sigma, limit_noise, location, out
):
    """The formula as it is written down: each pixel over its window."""
    pairs = fine.shape[0]
    rows, columns = out.shape
    radius = distance.shape[0] // 2
    for y in range(rows):
        for x in range(columns):
            center_y, center_x = y + radius, x + radius
            most_spectral = np.float32(-np.inf)
            most_temporal = np.float32(-np.inf)
            for k in range(pairs):
                base = coarse_base[k, center_y, center_x]
                spectral = abs(fine[k, center_y, center_x] - base)
                temporal = abs(base - coarse[center_y, center_x])
                if np.isfinite(spectral) and np.isfinite(temporal):
                    most_spectral = max(most_spectral, spectral)
                    most_temporal = max(most_temporal, temporal)
            spectral_limit = most_spectral + limit_noise
            temporal_limit = most_temporal + limit_noise
            total = np.float32(0)
            weighted = np.float32(0)
            for k in range(pairs):
                center = fine[k, center_y, center_x]
                base = coarse_base[k, center_y, center_x]
                if not np.isfinite(center + base + coarse[center_y, center_x]):
                    continue
                for v in range(2 * radius + 1):
                    for u in range(2 * radius + 1):
                        f = fine[k, y + v, x + u]
                        c = coarse_base[k, y + v, x + u]
                        p = coarse[y + v, x + u]
                        # Comparisons with NaN are false: an invalid neighbor fails.
                        if abs(f - center) <= tolerance[k]:
                            spectral = abs(f - c)
                            temporal = abs(c - p)
                            if (
                                spectral <= spectral_limit
                                and temporal <= temporal_limit
                            ):
                                weight = np.float32(1) / (
                                    max(spectral, sigma)
                                    * max(temporal, sigma)
                                    * distance[v, u]
                                )
                                weighted += weight * (f + p - c - location)
                                total += weight
            out[y, x] = location + weighted / total if total > 0 else np.nan


@numba.njit(error_model="numpy")
def factored(  # type: ignore[no-untyped-def]
    fine, coarse_base, coarse, nearness, tolerance, sigma, limit_noise, location, out
):
    """One pair; per-pixel parts first, then rows of neighbors for rows of pixels."""
    height, width = coarse.shape
    rows, columns = out.shape
    radius = nearness.shape[0] // 2
    f = np.empty((height, width), np.float32)
    s, t, u, uc = np.empty_like(f), np.empty_like(f), np.empty_like(f), np.empty_like(f)
    infinity, zero, one = np.float32(np.inf), np.float32(0), np.float32(1)
    for y in range(height):
        for x in range(width):
            f[y, x] = fine[0, y, x]
            s[y, x] = abs(fine[0, y, x] - coarse_base[0, y, x])
            t[y, x] = abs(coarse_base[0, y, x] - coarse[y, x])
            if np.isfinite(s[y, x]) and np.isfinite(t[y, x]):
                u[y, x] = one / (max(s[y, x], sigma) * max(t[y, x], sigma))
                candidate = fine[0, y, x] + coarse[y, x] - coarse_base[0, y, x]
                uc[y, x] = u[y, x] * (candidate - location)
            else:
                f[y, x], s[y, x], t[y, x] = zero, infinity, infinity
                u[y, x], uc[y, x] = zero, zero
    for y in range(rows):
        weighted, total = np.zeros(columns, np.float32), np.zeros(columns, np.float32)
        center = f[y + radius, radius : radius + columns]
        s_limit = s[y + radius, radius : radius + columns] + limit_noise
        t_limit = t[y + radius, radius : radius + columns] + limit_noise
        for v in range(2 * radius + 1):
            for w in range(2 * radius + 1):
                near = nearness[v, w]
                fr, sr, tr = f[y + v, w:], s[y + v, w:], t[y + v, w:]
                ur, ucr = u[y + v, w:], uc[y + v, w:]
                for x in range(columns):
                    ok = (
                        (abs(fr[x] - center[x]) <= tolerance[0])
                        & (sr[x] <= s_limit[x])
                        & (tr[x] <= t_limit[x])
                    )
                    weighted[x] += near * ucr[x] if ok else zero
                    total[x] += near * ur[x] if ok else zero
        for x in range(columns):
            valid = s[y + radius, radius + x] < infinity
            out[y, x] = location + weighted[x] / total[x] if valid else np.nan


class Timing(NamedTuple):
    """Median CPU seconds of the competitors, and how far their outputs differ."""

    geofuse: float
    naive: float
    factored: float | None
    difference: float


def compare(radius: int, pairs: int, *, repeats: int) -> Timing:
    """Time the competitors on one scene, one after the other, `repeats` times."""
    method = STARFM(radius=radius, classes=4, noise=0.05, rules="paper")
    scene = make_scene(radius, pairs)
    tile = FusionTile(
        jnp.asarray(scene.fine[:, None]),
        jnp.asarray(scene.coarse_base[:, None]),
        jnp.asarray(scene.coarse[None]),
        jnp.ones(pairs, jnp.float32),
    )
    predict = jitted(method)
    reach = np.arange(-radius, radius + 1)
    distance = (1 + np.hypot(reach[:, None], reach[None, :]) / radius).astype(
        np.float32
    )
    sigma = np.float32(method.noise) * scene.summary.spread[0]
    numbers = (
        np.float32(2 / method.classes) * scene.summary.std[:, 0],
        sigma,
        np.float32(np.sqrt(2) * method.noise) * scene.summary.spread[0],
        scene.summary.location[0],
    )
    outputs: dict[str, np.ndarray] = {}

    def run_geofuse() -> None:
        outputs["geofuse"] = np.asarray(predict(tile, scene.summary))[0]

    def run_naive() -> None:
        outputs["naive"] = np.empty((SIZE, SIZE), np.float32)
        naive(*scene[:3], distance, *numbers, outputs["naive"])

    def run_factored() -> None:
        outputs["factored"] = np.empty((SIZE, SIZE), np.float32)
        factored(*scene[:3], 1 / distance, *numbers, outputs["factored"])

    runs = {"geofuse": run_geofuse, "naive": run_naive}
    if pairs == 1:
        runs["factored"] = run_factored
    for run in runs.values():
        run()  # compiles
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.process_time()
            run()
            seconds[name].append(time.process_time() - start)
    for image in outputs.values():
        if not np.array_equal(np.isnan(image), np.isnan(outputs["naive"])):
            raise RuntimeError("the competitors predict different pixels")
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return Timing(
        medians["geofuse"],
        medians["naive"],
        medians.get("factored"),
        max(
            float(np.nanmax(np.abs(image - outputs["geofuse"])))
            for image in outputs.values()
        ),
    )


def processor() -> str:
    """Processor family and widest vectors: what timings depend on."""
    file = Path("/proc/cpuinfo")
    text = file.read_text() if file.exists() else ""
    names = [line.split(":")[1] for line in text.splitlines() if "model name" in line]
    name = names[0].strip() if names else platform.processor()
    vectors = [isa for isa in ("avx512f", "avx2") if isa in text] or [
        platform.machine()
    ]
    return f"{name}, {vectors[0]}"


def main() -> None:
    """Run the benchmark; print a table, then one line of JSON."""
    quick = arguments(__doc__).quick
    cases = [(15, 1)] if quick else [(15, 1), (15, 2), (25, 1), (25, 2)]
    print(f"STARFM, {SIZE}x{SIZE} px, one band, float32; one CPU of {processor()}")
    print(f"jax {jax.__version__}, numba {numba.__version__}; compilation not timed")
    print(
        f"{'window':>7} {'pairs':>5} {'geofuse':>16} {'naive Numba':>16} "
        f"{'factored Numba':>16} {'ratio':>6} {'max diff':>9}"
    )
    rows: list[dict[str, Any]] = []
    for radius, pairs in cases:
        found = compare(radius, pairs, repeats=7 if quick else 11)
        row = {
            "window": 2 * radius + 1,
            "pairs": pairs,
            "size": SIZE,
            "geofuse_seconds": found.geofuse,
            "naive_numba_seconds": found.naive,
            "factored_numba_seconds": found.factored,
            "ratio_vs_naive_numba": found.naive / found.geofuse,
            "max_difference": found.difference,
            "numba": numba.__version__,
            "processor": processor(),
        }
        rows.append(row)
        cells = [
            f"{1e3 * t:.0f} ms {SIZE**2 / t / 1e6:.2f} Mpx/s" if t else "-"
            for t in (found.geofuse, found.naive, found.factored)
        ]
        print(
            f"{2 * radius + 1:>7} {pairs:>5} "
            + " ".join(f"{cell:>16}" for cell in cells)
            + f" {row['ratio_vs_naive_numba']:>6.2f} {found.difference:>9.1e}"
        )
    if not quick:
        print(f"written: benchmarks/results/{save('speed-starfm', rows).name}")
    first = rows[0]
    emit(
        {
            "ratio_vs_naive_numba": round(first["ratio_vs_naive_numba"], 2),
            "max_difference": max(row["max_difference"] for row in rows),
            "ratio_vs_factored_numba": round(
                first["factored_numba_seconds"] / first["geofuse_seconds"], 2
            ),
            "mpx_per_second": round(SIZE**2 / first["geofuse_seconds"] / 1e6, 2),
        }
    )


if __name__ == "__main__":
    main()
