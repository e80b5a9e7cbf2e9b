"""A whole Sentinel-2 tile classified: pixels per second and memory, beside scikit-learn.

    python -m benchmarks.speed.landcover [--quick]

Three modalities of 10980x10980 pixels (`--quick`: 2048x2048), made block by block as they
are read: 5 optical bands, 2 polarizations, elevation. Classifiers learn from one small
scene; then the map is streamed and dropped, on all cores:

    trees          EarlyFusion on the bands, against scikit-learn's histogram boosting of
                   as many trees, `predict_proba` on blocks of the same bands
    hand-made      EarlyFusion with its default features
    network        IntermediateFusion

Each runs in a fresh process; memory is the peak above what the process held when everything
was imported and learned. The ratio to scikit-learn is of pixels per second.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.process import peak_mb

SIZES = {True: 2048, False: 10980}
BLOCK = 1024
JOBS = ("scikit-learn", "trees", "hand-made", "network")


def scene_of(size: int) -> dict[str, Any]:
    """Images by modality of a large scene: a small one, repeated, with noise by block."""
    import dask.array as da
    import xarray as xr
    from affine import Affine
    from odc.geo.geobox import GeoBox

    from geofuse.rasters.grid import coordinates
    from geofuse.synthetic import simulate_land_cover

    small = simulate_land_cover(BLOCK, seed=1, parcel=20).images
    place = coordinates(
        GeoBox((size, size), Affine(10, 0, 500000, 0, -10, 5100000), "EPSG:32633")
    )
    images = {}
    for name, image in small.items():
        values = image.values

        def block(block_info: Any = None, values: np.ndarray = values) -> np.ndarray:
            (y0, y1), (x0, x1) = block_info[None]["array-location"][-2:]
            piece = values[:, : y1 - y0, : x1 - x0]
            rng = np.random.default_rng([y0, x0])
            return piece + rng.normal(0, 1e-3, piece.shape).astype(np.float32)

        chunks = da.core.normalize_chunks(BLOCK, (size, size))
        data = da.map_blocks(block, chunks=((len(values),), *chunks), dtype=np.float32)
        images[name] = xr.DataArray(
            data,
            dims=("band", "y", "x"),
            coords={**place, "band": image["band"].values},
            attrs=image.attrs,
        )
    return images


def run(job: str, size: int) -> dict[str, float]:
    """Learn, then classify the scene; seconds and memory."""
    from geofuse.landcover.case import LandCoverCase
    from geofuse.synthetic import simulate_land_cover

    small = simulate_land_cover(192, seed=2, parcel=20)
    case = LandCoverCase(small.images, small.labels)
    classify = _scikit_learn(case) if job == "scikit-learn" else _geofuse(job, case)
    classify(scene_of(BLOCK))  # compiles
    scene = scene_of(size)
    before, begin = peak_mb(), time.perf_counter()
    classify(scene)
    return {
        "seconds": time.perf_counter() - begin,
        "added_mb": peak_mb() - before,
        "peak_mb": peak_mb(),
    }


def _geofuse(job: str, case: Any) -> Callable[[dict[str, Any]], None]:
    import geofuse as gf
    from geofuse.tiling import stream_tiles

    classifier: Any = {
        "trees": gf.EarlyFusion(
            trees="histogram", features=gf.FeatureStack(bands=True), members=1
        ),
        "hand-made": gf.EarlyFusion(),
        "network": gf.IntermediateFusion(),
    }[job]
    fitted = classifier.fit([case])

    def classify(images: dict[str, Any]) -> None:
        product = fitted.predict(images, outputs=("land_cover",))
        for _ in stream_tiles({"map": product["land_cover"]}):
            pass

    return classify


def _scikit_learn(case: Any) -> Callable[[dict[str, Any]], None]:
    from sklearn.ensemble import HistGradientBoostingClassifier

    import geofuse as gf

    mine: Any = gf.EarlyFusion(
        trees="histogram", features=gf.FeatureStack(bands=True), members=1
    ).fit([case])
    pixels = np.concatenate([image.values for image in case.images.values()])
    trees = mine.ensembles[0]
    theirs = HistGradientBoostingClassifier(
        max_iter=trees.count // len(trees.classes), early_stopping=False
    )
    theirs.fit(pixels.reshape(len(pixels), -1).T, case.labels.values.ravel())

    def classify(images: dict[str, Any]) -> None:
        height, width = next(iter(images.values())).shape[1:]
        for top in range(0, height, BLOCK):
            for left in range(0, width, BLOCK):
                window = {"y": slice(top, top + BLOCK), "x": slice(left, left + BLOCK)}
                block = np.concatenate(
                    [image.isel(window).values for image in images.values()]
                )
                theirs.predict_proba(block.reshape(len(block), -1).T).argmax(axis=1)

    return classify


def main() -> None:
    """Run the benchmark, or one job of it in a process of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="2048x2048, no CSV")
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = SIZES[options.quick]
    if options.job:
        print(json.dumps(run(options.job, size)))
    else:
        _report(size, quick=options.quick)


def _report(size: int, *, quick: bool) -> None:
    from benchmarks.record import emit, save

    rows = []
    for job in JOBS:
        words = ["--job", job, *(["--quick"] if quick else [])]
        output = subprocess.run(
            [sys.executable, "-m", "benchmarks.speed.landcover", *words],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
        found = json.loads(output.splitlines()[-1])
        rows.append({"job": job, "size": size, **found})
        print(
            f"{job:<13} {size}x{size}: {found['seconds']:.1f} s, "
            f"{size * size / found['seconds'] / 1e6:.2f} Mpx/s, {found['added_mb']:.0f} "
            f"MB added, {found['peak_mb']:.0f} MB peak",
            flush=True,
        )
    if not quick:
        save("speed-landcover", rows)
    result: dict[str, Any] = {}
    for row in rows:
        name = row["job"].replace("-", "_")
        result[f"{name}_mpx_per_second"] = round(size**2 / row["seconds"] / 1e6, 3)
        result[f"{name}_added_mb"] = round(row["added_mb"])
    result["trees_vs_scikit_learn"] = round(rows[0]["seconds"] / rows[1]["seconds"], 2)
    emit(result)


if __name__ == "__main__":
    main()
