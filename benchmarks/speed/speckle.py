"""Speckle filters against findpeaks, and Orfeo ToolBox where it is installed, on one CPU.

    python -m benchmarks.speed.speckle [--quick]

Ours are timed through the door, `despeckle`, on speckle of 4 looks over a scene of fields,
2048x2048 float32, window 7, with one thread: tiling and dask included, compilation not.
findpeaks' filters are loops in Python over NumPy windows; they are timed on a corner of the
same image (`lee_vs_findpeaks` and so on; null where findpeaks cannot be imported).
`lee_vs_loop` is the same against such a loop written here, so that there is a ratio without
findpeaks. Orfeo ToolBox is timed as its program, less what the program takes for a small
image; null where `otbcli_Despeckle` is not on the PATH. Times are CPU seconds, medians,
both sides taking turns.

`max_tile_difference` is the largest difference between products of tile sizes over all
filters. findpeaks cuts the last row and column off its windows and rounds to integers, so
that its values are not compared.
"""

import os

if __name__ == "__main__":
    from benchmarks.process import pin_to_one_cpu

    pin_to_one_cpu()

import functools
import importlib
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import xarray as xr
from rasterio.errors import NotGeoreferencedWarning

from benchmarks.record import arguments, emit, save
from geofuse.rasters.speckle.filters import FILTERS, despeckle

SIZE, WINDOW, LOOKS, DATES = 2048, 7, 4.0, 4
TILES = (64, 150, 512, None)
#: Names of findpeaks' and of Orfeo ToolBox' filters.
IN_FINDPEAKS = {"lee": "lee", "kuan": "kuan", "frost": "frost"}
IN_OTB = {"lee": "lee", "frost": "frost", "gamma-map": "gammamap", "kuan": "kuan"}


def radar_image(size: int, dates: int = 1) -> xr.DataArray:
    """Speckle over fields of 64 pixels: (time, band, y, x), power of about 0.02 to 0.3."""
    rng = np.random.default_rng(0)
    fields = rng.uniform(0.02, 0.3, (-(-size // 64),) * 2)
    scene = np.kron(fields, np.ones((64, 64)))[:size, :size]
    values = scene * rng.gamma(LOOKS, 1 / LOOKS, (dates, 1, size, size))
    return xr.DataArray(values.astype("f4"), dims=("time", "band", "y", "x"))


def ours(name: str, image: xr.DataArray) -> float:
    """CPU seconds a pixel and date of one run."""
    image = image if FILTERS[name].over_dates else image[0]
    start = time.process_time()
    despeckle(image, name, window=WINDOW, looks=LOOKS).data.compute(
        scheduler="synchronous"
    )
    return (time.process_time() - start) / image.size


def loop_lee(image: np.ndarray) -> np.ndarray:
    """Lee filter as a straightforward loop over windows of a NumPy array."""
    radius = WINDOW // 2
    result = np.zeros_like(image)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            window = image[
                max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1
            ]
            mean = window.mean()
            spread = window.var(ddof=1) / mean**2
            weight = max(1 - 1 / LOOKS / spread, 0.0)
            result[y, x] = mean + weight * (image[y, x] - mean)
    return result


def findpeaks_filter(name: str) -> Callable[..., Any] | None:
    """A filter of findpeaks, or None where it cannot be imported."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = importlib.import_module("findpeaks")
    except ImportError as error:
        print(f"findpeaks is left out: {error}")
        return None
    found: Callable[..., Any] = getattr(module, f"{name}_filter")
    return found


def seconds_of(run: Callable[[], Any]) -> float:
    """CPU seconds of a call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def against_loops(
    name: str, image: xr.DataArray, side: int, repeats: int
) -> dict[str, float | None]:
    """Seconds a pixel: ours, findpeaks' and, of Lee, those of a loop written here."""
    corner = image.values[0, 0, :side, :side].astype("f8")
    peer = findpeaks_filter(IN_FINDPEAKS[name])
    options: dict[str, Any] = {"win_size": WINDOW}
    if name != "frost":
        options["cu"] = LOOKS**-0.5
    # findpeaks' Frost is slower by an order, and all of it rounds to integers.
    part = side // 4 if name == "frost" else side
    counts = 255 * corner[:part, :part] / corner.max()
    taken: dict[str, list[float]] = {"geofuse": [], "findpeaks": [], "loop": []}
    ours(name, image)  # compiles
    for _ in range(repeats):
        taken["geofuse"].append(ours(name, image))
        if peer is not None:
            run = functools.partial(peer, counts, **options)
            taken["findpeaks"].append(seconds_of(run) / counts.size)
        if name == "lee":
            taken["loop"].append(
                seconds_of(functools.partial(loop_lee, corner)) / corner.size
            )
    return {k: statistics.median(v) if v else None for k, v in taken.items()}


def otb_seconds(name: str, repeats: int, folder: Path) -> float | None:
    """Seconds a pixel of Orfeo ToolBox, less its start; None where it is not installed."""
    program = shutil.which("otbcli_Despeckle")
    if program is None:
        return None
    taken = {}
    for size in (64, SIZE):
        path = folder / f"{size}.tif"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(
                path,
                "w",
                driver="GTiff",
                count=1,
                height=size,
                width=size,
                dtype="float32",
            ) as dataset:
                dataset.write(radar_image(size).values[0])
        short = IN_OTB[name]
        command = [program, "-in", str(path), "-out", str(folder / "out.tif"), "float"]
        command += ["-filter", short, f"-filter.{short}.rad", str(WINDOW // 2)]
        if short != "frost":
            command += [f"-filter.{short}.nblooks", str(LOOKS)]
        environment = {**os.environ, "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"}
        runs = []
        for _ in range(repeats):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, check=True, capture_output=True, env=environment)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            runs.append(
                after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            )
        taken[size] = statistics.median(runs)
    return (taken[SIZE] - taken[64]) / (SIZE**2 - 64**2)


def tile_difference(name: str) -> float:
    """Largest difference between tile sizes, looks estimated; infinite where NaN differ."""
    image = radar_image(333, dates=2)
    image[:, :, 40:60, 100:140] = np.nan
    image = image if FILTERS[name].over_dates else image[0]
    made = [despeckle(image, name, tile=tile).values for tile in TILES]
    largest = 0.0
    for other in made[1:]:
        if not np.array_equal(np.isnan(made[0]), np.isnan(other)):
            return float("inf")
        largest = max(largest, float(np.nanmax(np.abs(made[0] - other))))
    return largest


def measure(*, quick: bool) -> dict[str, Any]:
    """Measure all filters; the keys are those of the last line of JSON."""
    repeats = 3 if quick else 7
    # As a reader would give it: dask hashes a NumPy array, once.
    image = radar_image(SIZE, DATES).chunk({"y": 1024, "x": 1024})
    result: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    for name in FILTERS:
        key = name.replace("-", "_")
        ours(name, image)
        row: dict[str, Any] = {
            "filter": name,
            "geofuse": statistics.median(ours(name, image) for _ in range(repeats)),
        }
        if name in IN_FINDPEAKS:
            row |= against_loops(name, image, 128, repeats)
            peer = row["findpeaks"]
            result[f"{key}_vs_findpeaks"] = peer and round(peer / row["geofuse"])
            if row["loop"]:
                result[f"{key}_vs_loop"] = round(row["loop"] / row["geofuse"])
        if name in IN_OTB:
            with tempfile.TemporaryDirectory() as folder:
                row["otb"] = otb_seconds(name, repeats, Path(folder))
            peer = row["otb"]
            result[f"{key}_vs_otb"] = peer and round(peer / row["geofuse"], 1)
        row["max_tile_difference"] = tile_difference(name)
        result[f"{key}_mpx_per_second"] = round(1e-6 / row["geofuse"], 1)
        rows.append(
            {
                k: v if isinstance(v, str) or k.startswith("max") or not v else 1e-6 / v
                for k, v in row.items()
            }
        )
    result["max_tile_difference"] = max(row["max_tile_difference"] for row in rows)
    print("megapixels a second, one CPU")
    for row in rows:
        print({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()})
    if not quick:
        save("speed-speckle", rows)
    return result


def main() -> None:
    """Measure, and print the result as JSON."""
    emit(measure(quick=arguments(__doc__).quick))


if __name__ == "__main__":
    main()
