"""Time of the learned kernels beside the fixed ones they are made of, and their memory.

    python -m benchmarks.speed.networks [--quick]

*Time*. A whole `predict` with its default outputs, the scene's summary in it, of 512x512
pixels of a simulated scene in one tile, coarse pixels of 16, one pair; one CPU, medians of
CPU seconds over interleaved repeats. Compilation is not timed.

    kernel_net_vs_starfm_time     kernel-net with its defaults / STARFM at radius 25
    mixture_net_vs_experts_time   mixture-net / the sum over its experts, each on its own

The experts' own predictions carry variances, which the mixture does without. Beside STARFM
asked for reflectance alone, kernel-net has `kernel_net_vs_starfm_reflectance_time`.

*Memory*. Each size in a fresh process, from files to a file, one band, tiles of 128, and of
256 in full: peak resident memory above what is held when all is imported, as in
`benchmarks.memory`.

    kernel_net_rss_ratio, mixture_net_rss_ratio    at 2048x2048 / at 1024x1024
                                                   (--quick: 512x512 / 256x256)

`--quick` times one band, once; the full run three and one, and writes a CSV.
"""

import os

if __name__ == "__main__":
    from benchmarks.process import pin_to_one_cpu

    pin_to_one_cpu()
    os.environ["JAX_PLATFORMS"] = "cpu"

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import dask

from benchmarks.memory import COARSE, DATES, FINE, LATER, make_files
from benchmarks.process import cpu_seconds, peak_mb
from benchmarks.record import emit, save
from geofuse.pairs import FusionInputs, Pair
from geofuse.rasters.optical import open_optical
from geofuse.rasters.write import write_cog
from geofuse.spatiotemporal.kernel_net import KernelNet
from geofuse.spatiotemporal.method import FusionMethod
from geofuse.spatiotemporal.mixture_net import EXPERTS, MixtureNet
from geofuse.spatiotemporal.starfm import STARFM
from geofuse.synthetic import simulate_case

SIZE, SCALE = 512, 16
BANDS = ("red", "nir", "swir1")
OUTPUTS = ("reflectance", "aleatoric", "epistemic")
#: The files of `benchmarks.memory` have coarse pixels of 16, which are four of 8: with
#: those the halo is not larger than the tiles.
MEMORY_SCALE = 8
NETWORKS: Mapping[str, FusionMethod] = {
    "kernel_net": KernelNet(),
    "mixture_net": MixtureNet(),
}


def seconds(
    methods: Mapping[str, FusionMethod],
    inputs: FusionInputs,
    repeats: int,
    outputs: Sequence[str],
) -> dict[str, float]:
    """Median CPU seconds that each method takes for the whole image."""
    size = inputs.coarse.sizes["y"]
    runs = {
        name: partial(_predicted, method, inputs, size, outputs)
        for name, method in methods.items()
    }
    found: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()  # compiles
    for _ in range(repeats):
        for name, run in runs.items():
            found[name].append(cpu_seconds(run))
    return {name: statistics.median(values) for name, values in found.items()}


def methods() -> dict[str, FusionMethod]:
    """What is timed, by name."""
    experts = {f"expert {number}": e for number, e in enumerate(EXPERTS, start=1)}
    return {"starfm": STARFM(radius=25), **NETWORKS, **experts}


def compare(
    inputs: FusionInputs, chosen: Mapping[str, FusionMethod], *, repeats: int
) -> dict[str, float]:
    """Times of the networks beside the kernels that they are made of."""
    times = seconds(chosen, inputs, repeats, OUTPUTS)
    bare = seconds({"starfm": chosen["starfm"]}, inputs, repeats, OUTPUTS[:1])
    experts = sum(value for name, value in times.items() if name.startswith("expert"))
    return {
        "starfm_seconds": times["starfm"],
        "experts_seconds": experts,
        **{f"{name}_seconds": times[name] for name in NETWORKS},
        "kernel_net_vs_starfm_time": times["kernel_net"] / times["starfm"],
        "kernel_net_vs_starfm_reflectance_time": times["kernel_net"] / bare["starfm"],
        "mixture_net_vs_experts_time": times["mixture_net"] / experts,
    }


def fuse_files(folder: Path, name: str, size: int, tile: int) -> dict[str, float]:
    """Fuse a corner of files; memory of this process in MB, before and at most; seconds."""
    baseline = peak_mb()
    begin = time.perf_counter()
    fine, coarse, later = (
        open_optical(folder / file, "gain=1e-4", date=date, bands=["red"]).isel(
            y=slice(size), x=slice(size)
        )
        for file, date in zip((FINE, COARSE, LATER), (DATES[0], *DATES), strict=True)
    )
    inputs = FusionInputs([Pair(fine, coarse)], later, scale=MEMORY_SCALE)
    product = NETWORKS[name].predict(inputs, tile=tile, outputs=("reflectance",))
    write_cog(product["reflectance"], folder / "fused.tif")
    return {
        "baseline_mb": baseline,
        "peak_mb": peak_mb(),
        "seconds": time.perf_counter() - begin,
    }


def memory(folder: Path, name: str, size: int, tile: int) -> float:
    """Peak memory above the imports of a fresh process, in MB."""
    job = ["--fuse", name, "--folder", str(folder)]
    job += ["--size", str(size), "--tile", str(tile)]
    command = [sys.executable, "-m", "benchmarks.speed.networks", *job]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    above: float = found["peak_mb"] - found["baseline_mb"]
    seconds = found["seconds"]
    print(f"{name:>12} {size:>6} px: {above:>6.0f} MB, {seconds:.1f} s", flush=True)
    return above


def main() -> None:
    """Run the benchmark, or a part of it in a process of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller, no CSV")
    parser.add_argument("--fuse", choices=list(NETWORKS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--tile", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fuse:
        job = (options.folder, options.fuse, options.size, options.tile)
        print(json.dumps(fuse_files(*job)))
    else:
        _report(options.quick)


def _report(quick: bool) -> None:
    rows = []
    for bands in (BANDS[:1],) if quick else (BANDS, BANDS[:1]):
        case = simulate_case(SIZE, bands=bands, scale=SCALE, clouds=0.05)
        times = compare(case.inputs, methods(), repeats=1 if quick else 5)
        rows.append({"bands": len(bands), **times})
        print(f"{len(bands)} bands, {SIZE}x{SIZE} px, one CPU")
        for name, value in times.items():
            print(f"{name:>40} {value:.3f}", flush=True)
    sizes, tile = ((256, 512), 128) if quick else ((1024, 2048), 256)
    result: dict[str, Any] = {
        name: round(value, 3) for name, value in rows[0].items() if name != "bands"
    }
    with tempfile.TemporaryDirectory(prefix="geofuse-networks-") as folder:
        make_files(Path(folder), sizes[1])
        for name in NETWORKS:
            small, large = (memory(Path(folder), name, size, tile) for size in sizes)
            result[f"{name}_rss_ratio"] = round(large / small, 3)
            result[f"{name}_above_imports_mb"] = [round(small, 1), round(large, 1)]
    if not quick:
        save("speed-networks", [{**result, **row} for row in rows])
    emit({**result, "bands": rows[0]["bands"], "sizes": list(sizes), "tile": tile})


def _predicted(
    method: FusionMethod, inputs: FusionInputs, size: int, outputs: Sequence[str]
) -> None:
    with dask.config.set(scheduler="synchronous"):
        method.predict(inputs, tile=size, outputs=outputs).compute()


if __name__ == "__main__":
    main()
