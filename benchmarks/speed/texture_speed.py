"""GLCM texture against scikit-image, and GRASS where it is installed, on one CPU.

    python -m benchmarks.speed.texture_speed [--quick]

A band of 512x512 pixels with the spectrum of a natural image, window 11, 32 levels, 4
directions averaged, 8 features. Ours is timed through the door, `GLCM.extract`, with
one thread: quantization, tiling and dask included. scikit-image is timed on a random
sample of windows (`graycomatrix` and `graycoprops` for each) and scaled up; GRASS's
`r.texture` on the same gray levels, 6 features that both have. Times are CPU seconds;
medians over repeats, the two sides taking turns. Not timed: compilation (a first call),
GRASS's start.

`glcm_max_rel_error` is the largest difference from scikit-image on the sampled windows,
as a part of the feature's range over the image. The full run adds windows of 7 and 21,
and a band of 10980x10980 pixels (a Sentinel-2 tile), streamed on all cores; it writes a
CSV.
"""

import os

if __name__ == "__main__":
    from benchmarks.process import pin_to_one_cpu

    pin_to_one_cpu()

import multiprocessing
import shutil
import statistics
import subprocess
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from skimage.feature import graycomatrix, graycoprops

from benchmarks.process import all_cpus, peak_mb
from benchmarks.record import arguments, emit, save
from geofuse.features.texture import GLCM
from geofuse.tiling import stream_tiles

SIZE, LEVELS, WINDOW = 512, 32, 11
TILE_OF_SENTINEL_2 = 10980
FEATURES = (
    "contrast",
    "dissimilarity",
    "homogeneity",
    "asm",
    "energy",
    "entropy",
    "variance",
    "correlation",
)
#: Ours, GRASS's method, and the ending of its map.
IN_GRASS = {
    "asm": ("asm", "ASM"),
    "contrast": ("contrast", "Contr"),
    "correlation": ("corr", "Corr"),
    "variance": ("var", "Var"),
    "homogeneity": ("idm", "IDM"),
    "entropy": ("entr", "Entr"),
}
# scikit-image turns from "right" to "up": the directions of GLCM's default.
ANGLES = (0.0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)


def natural_band(size: int) -> np.ndarray:
    """A random field whose amplitudes fall as frequency^-1.2, values 0 to 1."""
    rng = np.random.default_rng(0)
    spectrum = np.fft.rfft2(rng.normal(size=(size, size)))
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    frequency[0, 0] = 1.0
    field = np.fft.irfft2(spectrum / frequency**1.2, (size, size))
    return ((field - field.min()) / np.ptp(field)).astype(np.float32)


def extract(glcm: GLCM, band: np.ndarray) -> tuple[np.ndarray, float]:
    """Texture (feature, y, x) by one thread, and its CPU seconds."""
    image = xr.DataArray(band[None], dims=("band", "y", "x"))
    start = time.process_time()
    texture = glcm.extract(image).data.compute(scheduler="synchronous")
    return texture, time.process_time() - start


def sample_scikit_image(
    gray: np.ndarray, window: int, count: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Middles (count, 2) of random windows, their features, CPU seconds of a window."""
    radius = window // 2
    rng = np.random.default_rng(1)
    middles = rng.integers(radius, SIZE - radius, (count, 2))
    values = np.empty((len(FEATURES), count))
    names = ["ASM" if name == "asm" else name for name in FEATURES]
    start = time.process_time()
    for place, (y, x) in enumerate(middles):
        around = gray[y - radius : y + radius + 1, x - radius : x + radius + 1]
        matrices = graycomatrix(
            around, [1], ANGLES, LEVELS, symmetric=True, normed=True
        )
        for feature, name in enumerate(names):
            values[feature, place] = graycoprops(matrices, name).mean()
    return middles, values, (time.process_time() - start) / count


def against_scikit_image(window: int, count: int, repeats: int) -> dict[str, float]:
    """Seconds of a pixel on both sides, and the largest relative difference."""
    band = natural_band(SIZE)
    gray = np.minimum(band * LEVELS, LEVELS - 1).astype(np.uint8)
    glcm = GLCM(window, LEVELS, features=FEATURES, value_range=(0.0, 1.0))
    extract(glcm, band)  # compiles
    sample_scikit_image(gray, window, 2)
    ours, theirs = [], []
    for _ in range(repeats):
        texture, seconds = extract(glcm, band)
        ours.append(seconds / (SIZE - window + 1) ** 2)
        middles, values, seconds = sample_scikit_image(gray, window, count)
        theirs.append(seconds)
    found = texture[:, middles[:, 0], middles[:, 1]]
    ranges = np.nanmax(texture, axis=(1, 2)) - np.nanmin(texture, axis=(1, 2))
    return {
        "geofuse": statistics.median(ours),
        "scikit_image": statistics.median(theirs),
        "error": float((np.abs(found - values).max(axis=1) / ranges).max()),
    }


def against_grass(size: int, repeats: int) -> dict[str, float] | str:
    """CPU seconds of a band on both sides; or why GRASS could not be run."""
    if shutil.which("grass") is None or shutil.which("bash") is None:
        return "GRASS is not installed (grass on the PATH)"
    band = natural_band(size)
    gray = np.minimum(band * LEVELS, LEVELS - 1).astype(np.uint8)
    glcm = GLCM(WINDOW, LEVELS, features=tuple(IN_GRASS), value_range=(0.0, 1.0))
    methods = ",".join(method for method, _ in IN_GRASS.values())
    with tempfile.TemporaryDirectory() as folder:
        gray.tofile(Path(folder, "gray.bin"))
        edges = f"north={size} south=0 west=0 east={size}"
        lines = [
            "set -e; TIMEFORMAT='CPU %U %S'",
            f"g.region n={size} s=0 w=0 e={size} res=1 --q",
            f"r.in.bin -b input={folder}/gray.bin output=gray bytes=1 rows={size} "
            f"cols={size} {edges} --q",
        ]
        lines += [
            f"time r.texture input=gray output=t size={WINDOW} distance=1 "
            f"method={methods} --q --o"
        ] * repeats
        lines += [
            f"r.out.bin -f input=t_{ending} output={folder}/{ending}.bin bytes=8 "
            "null=nan --q"
            for _, ending in IN_GRASS.values()
        ]
        script = Path(folder, "run.sh")
        script.write_text("\n".join(lines) + "\n")
        run = subprocess.run(
            ["grass", "--tmp-location", "XY", "--exec", "bash", str(script)],
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode:
            return f"GRASS failed: {run.stderr.strip().splitlines()[-1]}"
        theirs = [
            sum(float(part) for part in line.split()[1:])
            for line in run.stderr.splitlines()
            if line.startswith("CPU ")
        ]
        ours = []
        for _ in range(2 * repeats + 1):
            texture, seconds = extract(glcm, band)
            ours.append(seconds)
        maps = np.stack(
            [
                np.fromfile(Path(folder, f"{ending}.bin")).reshape(size, size)
                for _, ending in IN_GRASS.values()
            ]
        )
    maps[list(IN_GRASS).index("entropy")] *= np.log(2.0)  # from bits to nats
    both = np.isfinite(texture) & np.isfinite(maps)
    errors = {
        name: float(np.abs(mine - yours)[ok].max() / (np.ptp(mine[ok]) or 1.0))
        for name, mine, yours, ok in zip(IN_GRASS, texture, maps, both, strict=True)
    }
    print("difference from GRASS, part of the range:", errors)
    return {
        "geofuse": statistics.median(ours[1:]),
        "grass": statistics.median(theirs),
    }


def thread_scaling(size: int) -> dict[str, float]:
    """Wall seconds of a larger band with one thread and with two."""
    band = np.tile(natural_band(SIZE), (size // SIZE, size // SIZE))
    image = xr.DataArray(band[None], dims=("band", "y", "x"))
    glcm = GLCM(WINDOW, LEVELS, features=FEATURES, value_range=(0.0, 1.0))
    texture = glcm.extract(image, tile=512).data
    seconds: dict[int, list[float]] = {1: [], 2: []}
    with all_cpus():
        for _ in range(3):
            for threads, taken in seconds.items():
                start = time.perf_counter()
                texture.compute(scheduler="threads", num_workers=threads)
                taken.append(time.perf_counter() - start)
    return {"one": min(seconds[1]), "two": min(seconds[2])}


def whole_tile() -> dict[str, float]:
    """Wall seconds and memory of a band of 10980x10980, streamed on all cores.

    To be called in a fresh process, whose peak of memory is its own.
    """
    size = TILE_OF_SENTINEL_2
    repeats = -(-size // 1024)
    field = natural_band(1024)
    pixels = np.tile(field, (repeats, repeats))[None, :size, :size]

    def view(block_info: Any = None) -> np.ndarray:
        (y0, y1), (x0, x1) = block_info[None]["array-location"][-2:]
        return pixels[:, y0:y1, x0:x1]

    # Views, so that the memory added is that of the work and not a copy of the input.
    chunks = ((1,), *da.core.normalize_chunks(1024, (size, size)))
    band = da.map_blocks(view, chunks=chunks, dtype=np.float32, name="pixels")
    image = xr.DataArray(band, dims=("band", "y", "x"))
    glcm = GLCM(WINDOW, LEVELS, features=FEATURES)
    extract(glcm, field)  # compiles, or loads what was compiled
    before = peak_mb()
    with all_cpus():
        start, cpu = time.perf_counter(), time.process_time()
        for _ in stream_tiles({"texture": glcm.extract(image)}, workers=os.cpu_count()):
            pass
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {
        "cpu_seconds": cpu,
        "seconds": seconds,
        "added_mb": peak_mb() - before,
        "cpus": os.cpu_count() or 1,
    }


def measure(*, quick: bool) -> dict[str, Any]:
    """Measure all of the above; the keys are those of the last line of JSON."""
    rows = []
    result: dict[str, Any] = {}
    for window in (WINDOW,) if quick else (WINDOW, 7, 21):
        found = against_scikit_image(window, 150 if quick else 400, 5)
        ratio = found["scikit_image"] / found["geofuse"]
        rows.append(
            {
                "peer": "scikit-image",
                "window": window,
                "geofuse_mpx_per_second": 1e-6 / found["geofuse"],
                "peer_mpx_per_second": 1e-6 / found["scikit_image"],
                "ratio": ratio,
                "max_rel_error": found["error"],
            }
        )
        if window == WINDOW:
            result["glcm_vs_skimage"] = round(ratio)
            result["glcm_max_rel_error"] = found["error"]
            result["glcm_mpx_per_second"] = round(1e-6 / found["geofuse"], 2)
    grass = against_grass(SIZE, 1 if quick else 3)
    if isinstance(grass, str):
        print(f"glcm_vs_grass is left out: {grass}")
    else:
        result["glcm_vs_grass"] = round(grass["grass"] / grass["geofuse"], 1)
        rows.append(
            {
                "peer": "GRASS r.texture, 6 features",
                "window": WINDOW,
                "geofuse_mpx_per_second": 1e-6 * SIZE**2 / grass["geofuse"],
                "peer_mpx_per_second": 1e-6 * SIZE**2 / grass["grass"],
                "ratio": grass["grass"] / grass["geofuse"],
            }
        )
    if (os.cpu_count() or 1) > 1:
        threads = thread_scaling(2048)
        result["glcm_two_threads"] = round(threads["one"] / threads["two"], 2)
    if not quick:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=spawn) as process:
            tile = process.submit(whole_tile).result()
        result["glcm_10980_seconds"] = round(tile["seconds"], 1)
        result["glcm_10980_cpu_seconds"] = round(tile["cpu_seconds"], 1)
        result["glcm_10980_added_mb"] = round(tile["added_mb"])
        rows.append(
            {
                "peer": f"10980x10980, {tile['cpus']} CPUs",
                "window": WINDOW,
                "geofuse_mpx_per_second": 1e-6
                * TILE_OF_SENTINEL_2**2
                / tile["seconds"],
                "seconds": tile["seconds"],
                "cpu_seconds": tile["cpu_seconds"],
                "added_mb": tile["added_mb"],
            }
        )
        save("speed-texture", rows)
    for row in rows:
        print({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()})
    return result


def main() -> None:
    """Measure, and print the result as JSON."""
    emit(measure(quick=arguments(__doc__).quick))


if __name__ == "__main__":
    main()
