"""Reconstruction and profiles against scikit-image, on one CPU.

    python -m benchmarks.speed.morphology_speed [--quick]

A band of 512x512 pixels with the spectrum of a natural image, as uint8, uint16 and
float32. Each ratio is that of the slowest of the three types; the table has all.

    reconstruction   the same marker (eroded by a disk of radius 5) under the same mask
    profile          openings and closings with 8 radii, 1 to 8, through the door
                     (`MorphologicalProfile.extract`: tiling and dask included); theirs
                     `erosion` or `dilation`, then `reconstruction`. The table also has
                     the ratio to their reconstructions alone.
    attribute        area openings and closings at 4 thresholds, through the door;
                     theirs `area_opening` and `area_closing`, one `max_tree` for each

Results are compared bit for bit in the run. Times are CPU seconds, medians over
repeats, the two sides taking turns; compilation (a first call) is not timed. The full
run adds profiles of a band of 10980x10980 pixels (a Sentinel-2 tile), streamed on all
cores, with the memory that they add; it writes a CSV.
"""

import os

if __name__ == "__main__":
    from benchmarks.process import pin_to_one_cpu

    pin_to_one_cpu()

import statistics
import time
from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from skimage.morphology import (
    area_closing,
    area_opening,
    dilation,
    disk,
    erosion,
    max_tree,
    reconstruction,
)
from skimage.util import invert

from benchmarks.process import all_cpus, peak_mb
from benchmarks.record import arguments, emit, save
from benchmarks.speed.texture_speed import natural_band
from geofuse.features.morphology import AttributeProfile, MorphologicalProfile
from geofuse.features.reconstruction import reconstruct
from geofuse.tiling import stream_tiles

SIZE, TILE_OF_SENTINEL_2 = 512, 10980
RADII = (1, 2, 3, 4, 5, 6, 7, 8)
AREAS = (25, 100, 500, 1000)


def grounds() -> dict[str, np.ndarray]:
    """The band in the three types."""
    band = natural_band(SIZE)
    return {
        "uint8": (band * 255).astype(np.uint8),
        "uint16": (band * 65535).astype(np.uint16),
        "float32": band,
    }


def their_profile(band: np.ndarray) -> tuple[np.ndarray, float]:
    """The profile by scikit-image, and CPU seconds of its reconstructions alone."""
    planes, seconds = [], 0.0
    for method, flat in (("dilation", erosion), ("erosion", dilation)):
        for radius in RADII:
            marker = flat(band, disk(radius))
            start = time.process_time()
            planes.append(reconstruction(marker, band, method=method))
            seconds += time.process_time() - start
    return np.stack(planes), seconds


def their_attributes(band: np.ndarray) -> np.ndarray:
    """Area openings and closings by scikit-image, one tree for each of the two."""
    opening, closing = max_tree(band, 2), max_tree(invert(band), 2)
    return np.stack(
        [area_opening(band, t, 2, *opening) for t in AREAS]
        + [area_closing(band, t, 2, *closing) for t in AREAS]
    )


def through_the_door(
    profile: MorphologicalProfile | AttributeProfile, band: np.ndarray
) -> np.ndarray:
    """A profile by geofuse, in one thread."""
    image = xr.DataArray(band[None], dims=("band", "y", "x"))
    return profile.extract(image).data.compute(scheduler="synchronous")


def compare(
    ours: Callable[[], Any], theirs: Callable[[], Any], repeats: int
) -> tuple[Any, Any, float, float]:
    """Results and median CPU seconds of both sides, taking turns."""
    ours()  # compiles
    seconds: tuple[list[float], list[float]] = ([], [])
    results: list[Any] = [None, None]
    for _ in range(repeats):
        for side, run in enumerate((ours, theirs)):
            start = time.process_time()
            results[side] = run()
            seconds[side].append(time.process_time() - start)
    return (*results, statistics.median(seconds[0]), statistics.median(seconds[1]))


def against_scikit_image(name: str, band: np.ndarray, repeats: int) -> list[dict]:
    """Rows of the table for one type."""
    marker = erosion(band, disk(5))
    rows = []

    def row(what: str, equal: bool, ours: float, theirs: float) -> None:
        rows.append(
            {
                "what": what,
                "type": name,
                "geofuse_seconds": ours,
                "scikit_image_seconds": theirs,
                "ratio": theirs / ours,
                "equal": equal,
            }
        )

    mine, yours, ours, theirs = compare(
        lambda: reconstruct(marker, band),
        lambda: reconstruction(marker, band),
        2 * repeats + 1,
    )
    row("reconstruction", np.array_equal(mine, yours), ours, theirs)

    profile = MorphologicalProfile(RADII)
    mine, (yours, alone), ours, theirs = compare(
        lambda: through_the_door(profile, band), lambda: their_profile(band), repeats
    )
    equal = np.array_equal(mine, yours)
    row("profile", equal, ours, theirs)
    row("profile, without their erosions", equal, ours, alone)

    areas = AttributeProfile("area", AREAS)
    mine, yours, ours, theirs = compare(
        lambda: through_the_door(areas, band), lambda: their_attributes(band), repeats
    )
    # Their closing of floats rounds 1 - image: see AttributeProfile.
    same = len(AREAS) if band.dtype.kind == "f" else 2 * len(AREAS)
    row("attribute", np.array_equal(mine[:same], yours[:same]), ours, theirs)
    return rows


def whole_tile(profile: MorphologicalProfile | AttributeProfile) -> dict[str, float]:
    """Wall seconds and memory of a band of 10980x10980, streamed on all cores."""
    field = natural_band(1024)

    def block(block_info: Any = None) -> np.ndarray:
        (y0, y1), (x0, x1) = block_info[None]["array-location"][-2:]
        y, x = np.arange(y0, y1) % 1024, np.arange(x0, x1) % 1024
        return field[y[:, None], x][None]

    size = TILE_OF_SENTINEL_2
    chunks = da.core.normalize_chunks(1024, (size, size))
    band = da.map_blocks(block, chunks=((1,), *chunks), dtype=np.float32)
    image = xr.DataArray(band, dims=("band", "y", "x"))
    before = peak_mb()
    with all_cpus():
        start = time.perf_counter()
        for _ in stream_tiles(
            {"profile": profile.extract(image)}, workers=os.cpu_count()
        ):
            pass
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "added_mb": peak_mb() - before}


def thread_scaling() -> float:
    """How much faster two threads are than one, on a band of 2048x2048."""
    band = np.tile(natural_band(SIZE), (4, 4))
    image = xr.DataArray(band[None], dims=("band", "y", "x"))
    data = MorphologicalProfile(RADII).extract(image, tile=512).data
    seconds: dict[int, list[float]] = {1: [], 2: []}
    with all_cpus():
        for _ in range(3):
            for threads, taken in seconds.items():
                start = time.perf_counter()
                data.compute(scheduler="threads", num_workers=threads)
                taken.append(time.perf_counter() - start)
    return min(seconds[1]) / min(seconds[2])


def measure(*, quick: bool) -> dict[str, Any]:
    """Measure all of the above; the keys are those of the last line of JSON."""
    rows: list[dict[str, Any]] = []
    for name, band in grounds().items():
        rows += against_scikit_image(name, band, 3 if quick else 5)
    result: dict[str, Any] = {
        f"{what}_vs_skimage": round(
            min(row["ratio"] for row in rows if row["what"] == what), 1
        )
        for what in ("reconstruction", "profile", "attribute")
    }
    result["morphology_equals_skimage"] = all(row["equal"] for row in rows)
    if (os.cpu_count() or 1) > 1:
        result["profile_two_threads"] = round(thread_scaling(), 2)
    if not quick:
        for name, profile in (
            ("area_profile", AttributeProfile("area", AREAS)),
            ("profile", MorphologicalProfile(RADII)),
        ):
            tile = whole_tile(profile)
            result[f"{name}_10980_seconds"] = round(tile["seconds"], 1)
            result[f"{name}_10980_added_mb"] = round(tile["added_mb"])
            what = f"10980x10980, {os.cpu_count()} CPUs: {profile!r}"
            rows.append({"what": what, "type": "float32", **tile})
        save("speed-morphology", rows)
    for row in rows:
        print({k: round(v, 4) if type(v) is float else v for k, v in row.items()})
    return result


def main() -> None:
    """Measure, and print the result as JSON."""
    emit(measure(quick=arguments(__doc__).quick))


if __name__ == "__main__":
    main()
