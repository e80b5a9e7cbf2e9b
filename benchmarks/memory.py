"""Memory of whole jobs, from raster files to a product, as the raster grows.

    python -m benchmarks.memory [--quick]

STARFM, one band, one pair, radius 10: `open_optical`, `Pair`, `FusionInputs`, `predict`,
`write_cog`. Each size runs in a fresh process. What is measured is the peak of the resident
memory of that process above what it held when everything was imported and
nothing done: JAX's start, compilation, threads and GDAL's cache are all in it.

    fuse_rss_ratio = peak above imports at 8192x8192 / the same at 2048x2048
                     (--quick: 4096x4096 / 1024x1024)

A feature stack, three bands: indices, texture and a morphological profile (which is
global) of the first principal component; `open_optical`, `extract`, `write_cog`:

    features_rss_ratio = the same at 8192x8192 / at 2048x2048
                         (--quick: 4096x4096 / 2048x2048)

Sixteen times the pixels should take the same memory. The files are drawn block by block
from one seed, in a process of their own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.process import peak_mb

SCALE = 16
BLOCK = 512
RADIUS = 10
FINE, COARSE, LATER, IMAGE = "fine.tif", "coarse.tif", "later.tif", "image.tif"
BANDS = ("green", "red", "nir")
DATES = ("2021-05-01", "2021-07-01")


def make_files(folder: Path, size: int) -> None:
    """Write a fine file and two coarse ones of `size` by `size` pixels, as int16 DN.

    Tiled in blocks of 256, as Landsat Collection 2 is.
    """
    import numpy as np
    import rasterio
    from rasterio.windows import Window

    profile: dict[str, Any] = {
        "driver": "GTiff",
        "width": size,
        "height": size,
        "count": 1,
        "dtype": "int16",
        "crs": "EPSG:32633",
        "transform": rasterio.Affine(30, 0, 5e5, 0, -30, 5e6),
        "nodata": -9999,
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "compress": "deflate",
        "zlevel": 1,
    }
    rng = np.random.default_rng(0)
    with rasterio.open(folder / IMAGE, "w", **(profile | {"count": 3})) as image:
        image.descriptions = BANDS
        for top in range(0, size, BLOCK):
            for left in range(0, size, BLOCK):
                fields = rng.normal(2500, 900, (3, BLOCK // 8, BLOCK // 8))
                rough = rng.normal(0, 80, (3, BLOCK, BLOCK))
                values = fields.repeat(8, axis=1).repeat(8, axis=2) + rough
                window = Window(left, top, BLOCK, BLOCK)
                image.write(np.clip(values, 1, 9999).astype(np.int16), window=window)
    with (
        rasterio.open(folder / FINE, "w", **profile) as fine,
        rasterio.open(folder / COARSE, "w", **profile) as coarse,
        rasterio.open(folder / LATER, "w", **profile) as later,
    ):
        for top in range(0, size, BLOCK):
            for left in range(0, size, BLOCK):
                cells = rng.normal(2000, 400, (BLOCK // SCALE,) * 2)
                change = rng.normal(150, 100, cells.shape)
                cover = rng.choice(
                    np.array([-500, 0, 500], np.int16), (BLOCK // 4,) * 2
                )
                texture = rng.integers(-40, 40, (BLOCK,) * 2, np.int16)
                images = (
                    _repeated(cells, SCALE) + _repeated(cover, 4) + texture,
                    _repeated(cells, SCALE),
                    _repeated(cells + change, SCALE),
                )
                window = Window(left, top, BLOCK, BLOCK)
                for file, image in zip((fine, coarse, later), images, strict=True):
                    file.write(image.astype(np.int16), 1, window=window)


def fuse_files(folder: Path) -> dict[str, float]:
    """Fuse the files; tell the memory of this process in MB and the seconds it took."""
    # Everything that fusion needs is imported before the baseline is taken.
    import jax  # noqa: F401

    import geofuse as gf

    run = (gf.open_optical, gf.Pair, gf.FusionInputs, gf.STARFM, gf.write_cog)
    baseline = peak_mb()
    open_optical, pair, fusion_inputs, starfm, write_cog = run
    begin = time.perf_counter()
    fine, coarse, later = (
        open_optical(folder / name, "gain=1e-4", date=date, bands=["red"])
        for name, date in zip((FINE, COARSE, LATER), (DATES[0], *DATES), strict=True)
    )
    inputs = fusion_inputs([pair(fine, coarse)], later, scale=SCALE)
    product = starfm(radius=RADIUS).predict(inputs, outputs=("reflectance",))
    write_cog(product["reflectance"], folder / "fused.tif")
    return {
        "baseline_mb": baseline,
        "peak_mb": peak_mb(),
        "seconds": time.perf_counter() - begin,
    }


def describe_file(folder: Path) -> dict[str, float]:
    """Make a feature stack of the image; tell memory and seconds as `fuse_files`."""
    import numba  # noqa: F401

    import geofuse as gf
    from geofuse.features import cooccurrence, max_tree, reconstruction  # noqa: F401

    stack = gf.FeatureStack(
        indices=("ndvi", "ndwi"),
        texture=gf.GLCM(window=7, features=("contrast", "entropy")),
        profiles=gf.MorphologicalProfile(radii=(2, 4, 8)),
        components=1,
    )
    run = (gf.open_optical, gf.write_cog)
    baseline = peak_mb()
    begin = time.perf_counter()
    image = run[0](folder / IMAGE, "gain=1e-4", date=DATES[0], bands=BANDS)
    run[1](stack.extract(image).rename(feature="band"), folder / "features.tif")
    return {
        "baseline_mb": baseline,
        "peak_mb": peak_mb(),
        "seconds": time.perf_counter() - begin,
    }


def measure(size: int, job: str) -> dict[str, float]:
    """Peak memory above the imports and seconds for one size, each in a fresh process."""
    with tempfile.TemporaryDirectory(prefix="geofuse-memory-") as folder:
        _in_fresh_process("--make", str(size), "--folder", folder)
        output = _in_fresh_process(f"--{job}", "--folder", folder)
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    return found


def main() -> None:
    """Run the benchmark, or a part of it in a process of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller, no CSV")
    parser.add_argument("--make", type=int, metavar="SIZE", help=argparse.SUPPRESS)
    parser.add_argument("--fuse", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--features", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        make_files(options.folder, options.make)
    elif options.fuse:
        print(json.dumps(fuse_files(options.folder)))
    elif options.features:
        print(json.dumps(describe_file(options.folder)))
    else:
        _report(options.quick)


def _report(quick: bool) -> None:
    from benchmarks.record import emit, save

    sizes = {
        "fuse": (1024, 4096) if quick else (2048, 8192),
        "features": (2048, 4096) if quick else (2048, 8192),
    }
    print(
        f"{'job':>8} {'size':>6} {'imports MB':>11} {'peak MB':>8} {'above MB':>9} "
        f"{'seconds':>8}"
    )
    rows: list[dict[str, Any]] = []
    for job, both in sizes.items():
        for size in both:
            found = measure(size, job)
            above = found["peak_mb"] - found["baseline_mb"]
            rows.append({"job": job, "size": size, **found, "above_mb": above})
            print(
                f"{job:>8} {size:>6} {found['baseline_mb']:>11.0f} "
                f"{found['peak_mb']:>8.0f} {above:>9.0f} {found['seconds']:>8.1f}",
                flush=True,
            )
    if not quick:
        save("memory", [_rounded(row) for row in rows])
    result: dict[str, Any] = {}
    for job, both in sizes.items():
        small, large = (row for row in rows if row["job"] == job)
        result[f"{job}_rss_ratio"] = round(large["above_mb"] / small["above_mb"], 3)
        result[f"{job}_sizes"] = list(both)
        result[f"{job}_above_imports_mb"] = [
            round(row["above_mb"], 1) for row in (small, large)
        ]
    emit(result)


def _in_fresh_process(*arguments: str) -> str:
    """Run a part of this module in a process of its own; its stdout."""
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", *arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {k: round(v, 1) if isinstance(v, float) else v for k, v in row.items()}


def _repeated(cells: Any, times: int) -> Any:
    return cells.repeat(times, axis=0).repeat(times, axis=1)


if __name__ == "__main__":
    main()
