"""Readers of one large file: bytes read for a corner, and the time of a full pass.

    python -m benchmarks.speed.readers [--quick]

The file, which the benchmark makes, is one band of 10980x10980 pixels, uint16, as large as
a Sentinel-2 tile, in blocks of 256, deflated; DN 0 is nodata, reflectance is 1e-4 DN. Every
figure is from a fresh process, after imports.

    bytes_read_share     bytes read to open the file and compute a corner of a tenth of its
                         height and width (1 % of the area), per byte of the file
    corner_seconds       the wall clock for the same
    full_pass_vs_windows CPU seconds of computing the sum of all reflectances, over those of
                         plain rasterio windows of 1024 pixels with the same arithmetic

All readers are given chunks of 1024 pixels, and the corner is cut out of the open image in
one step, image[:, :1098, :1098], which reaches our reader: chunks alone would read 3.6 %.
`…_default_chunks` is ours without, in chunks of one block, which fusion takes because they
hold less memory and are cut out in any number of steps.

Bytes are those that the process asks the system for (`rchar`, Linux): what an object store
would send. The full pass is on one CPU, chunk by chunk. odc-stac and rioxarray are used
where they are installed, each the way its documentation shows; rioxarray is told to mask
and scale. CPU seconds are medians of 3 processes (5 in the full run), peers in turn.
`--quick` takes the same file.
"""

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.process import pin_to_one_cpu
from benchmarks.record import arguments, emit, save

SIDE, BLOCK, CORNER, WINDOW = 10980, 256, 1098, 1024
GAIN = 1e-4


def make_file(path: Path) -> None:
    """Write the file: smooth ground, noise of a few percent, a wedge of nodata."""
    import numpy as np
    import rasterio
    from rasterio.windows import Window

    profile: dict[str, Any] = {
        "driver": "GTiff",
        "width": SIDE,
        "height": SIDE,
        "count": 1,
        "dtype": "uint16",
        "crs": "EPSG:32633",
        "transform": rasterio.Affine(10, 0, 499_980, 0, -10, 5_100_000),
        "nodata": 0,
        "tiled": True,
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
        "compress": "deflate",
        "predictor": 2,
        "num_threads": "all_cpus",
    }
    rng = np.random.default_rng(0)
    x = np.arange(SIDE)
    with rasterio.open(path, "w", **profile) as file:
        file.scales = (GAIN,)
        for top in range(0, SIDE, BLOCK * 4):
            y = np.arange(top, min(top + BLOCK * 4, SIDE))
            ground = 2000 + 900 * np.sin(y / 60)[:, None] * np.cos(x / 85)
            dn = (ground + rng.normal(0, 60, ground.shape)).astype("uint16")
            dn[(x[None, :] + y[:, None]) > 2 * SIDE - 2000] = 0
            file.write(dn, 1, window=Window(0, top, SIDE, len(y)))


def bytes_read() -> int | None:
    """Bytes that this process has asked the system for, so far."""
    facts = Path("/proc/self/io")
    if not facts.exists():
        return None
    line = next(x for x in facts.read_text().splitlines() if x.startswith("rchar"))
    return int(line.split()[1])


def open_geofuse(path: str) -> Any:
    """The file as geofuse opens it."""
    import geofuse as gf

    units = "gain=1e-4,nodata=0"
    return gf.open_optical(path, units, date="2021-07-01", chunks=WINDOW)


def open_by_default(path: str) -> Any:
    """The file as geofuse opens it where no chunks are asked for: in single blocks."""
    import geofuse as gf

    return gf.open_optical(path, "gain=1e-4,nodata=0", date="2021-07-01")


def open_rioxarray(path: str) -> Any:
    """The file as rioxarray opens it."""
    import rioxarray

    chunks = {"band": 1, "y": WINDOW, "x": WINDOW}
    return rioxarray.open_rasterio(path, chunks=chunks, mask_and_scale=True)


def open_odc_stac(path: str) -> Any:
    """The file as odc-stac opens it, from an item; it applies no gain, so we do."""
    import numpy as np
    import odc.stac
    import pystac

    item = pystac.Item.from_dict(
        {
            "type": "Feature",
            "stac_version": "1.0.0",
            "stac_extensions": [
                "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
                "https://stac-extensions.github.io/raster/v1.1.0/schema.json",
            ],
            "id": "scene",
            "bbox": [15.0, 45.0, 16.5, 46.1],
            "geometry": {
                "type": "Polygon",
                "coordinates": [
                    [[15, 45], [16.5, 45], [16.5, 46.1], [15, 46.1], [15, 45]]
                ],
            },
            "properties": {
                "datetime": "2021-07-01T10:00:00Z",
                "proj:code": "EPSG:32633",
            },
            "links": [],
            "assets": {
                "red": {
                    "href": path,
                    "type": "image/tiff; application=geotiff",
                    "roles": ["data"],
                    "proj:shape": [SIDE, SIDE],
                    "proj:transform": [10, 0, 499_980, 0, -10, 5_100_000],
                    "raster:bands": [{"data_type": "uint16", "nodata": 0}],
                }
            },
        }
    )
    loaded = odc.stac.load([item], bands=["red"], chunks={"x": WINDOW, "y": WINDOW})
    dn = loaded.red
    return dn.where(dn != 0).astype(np.float32) * np.float32(GAIN)


OPENERS: dict[str, Callable[[str], Any]] = {
    "geofuse": open_geofuse,
    "default_chunks": open_by_default,
    "rioxarray": open_rioxarray,
    "odc_stac": open_odc_stac,
}


def corner(name: str, path: str) -> dict[str, Any]:
    """Open the file and compute its corner."""
    import dask
    import numpy as np

    opener = OPENERS[name]
    _import_for(name, path)
    with dask.config.set(scheduler="threads", num_workers=2):
        before, start = bytes_read(), time.perf_counter()
        values = opener(path)[:, :CORNER, :CORNER].values
        seconds, after = time.perf_counter() - start, bytes_read()
    assert values.shape == (1, CORNER, CORNER)
    assert np.isfinite(values).all()
    read = None if before is None or after is None else after - before
    return {"bytes": read, "seconds": seconds}


def full_pass(name: str, path: str) -> dict[str, Any]:
    """CPU seconds to sum up all reflectances, and the sum."""
    import dask
    import numpy as np

    _import_for(name, path)
    with dask.config.set(scheduler="synchronous"):
        start = time.process_time()
        if name == "windows":
            total = _sum_of_windows(path)
        else:
            data = OPENERS[name](path).data
            parts = data.map_blocks(
                lambda block: np.nansum(block, keepdims=True, dtype=np.float64),
                chunks=tuple((1,) * len(c) for c in data.chunks),
                dtype=np.float64,
                meta=np.empty((0, 0, 0), np.float64),
            )
            total = float(parts.compute().sum())
        return {"seconds": time.process_time() - start, "total": total}


def _sum_of_windows(path: str) -> float:
    import numpy as np
    import rasterio
    from rasterio.windows import Window

    total = 0.0
    with rasterio.open(path) as file:
        for top in range(0, SIDE, WINDOW):
            for left in range(0, SIDE, WINDOW):
                size = min(WINDOW, SIDE - left), min(WINDOW, SIDE - top)
                dn = file.read(1, window=Window(left, top, *size))
                values = (dn * np.float64(GAIN)).astype(np.float32)
                values[dn == 0] = np.nan
                total += float(np.nansum(values, dtype=np.float64))
    return total


def _import_for(name: str, path: str) -> None:
    """Import all that opening a file imports, by opening another, tiny one."""
    import numpy as np
    import rasterio

    tiny = f"{path}.{os.getpid()}.tiny.tif"
    try:
        with rasterio.open(
            tiny,
            "w",
            driver="GTiff",
            width=SIDE,
            height=SIDE,
            count=1,
            dtype="uint16",
            crs="EPSG:32633",
            transform=rasterio.Affine(10, 0, 499_980, 0, -10, 5_100_000),
            nodata=0,
            tiled=True,
            blockxsize=2048,
            blockysize=2048,
            sparse_ok=True,
            compress="deflate",
        ) as file:
            file.write(np.ones((16, 16), "uint16"), 1, window=((0, 16), (0, 16)))
        if name in OPENERS:
            OPENERS[name](tiny)[:, :16, :16].compute()
    finally:
        os.unlink(tiny)


def in_fresh_process(task: str, name: str, path: Path) -> dict[str, Any] | None:
    """A task for one reader; None where that is not installed."""
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.speed.readers", task, name, str(path)],
        capture_output=True,
        text=True,
    )
    if run.returncode:
        if "ModuleNotFoundError" in run.stderr:
            return None
        raise RuntimeError(run.stderr)
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


def measure(quick: bool) -> dict[str, Any]:
    """Make the file and measure all readers on it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tile.tif"
        make_file(path)
        size = path.stat().st_size
        result: dict[str, Any] = {"file_mb": round(size / 2**20, 1)}
        names = [name for name in OPENERS if in_fresh_process("corner", name, path)]
        for name in names:
            found = in_fresh_process("corner", name, path)
            assert found is not None
            end = "" if name == "geofuse" else f"_{name}"
            if found["bytes"] is not None:
                result[f"bytes_read_share{end}"] = round(found["bytes"] / size, 4)
            result[f"corner_seconds{end}"] = round(found["seconds"], 3)
        times: dict[str, list[float]] = {name: [] for name in ("windows", *names)}
        totals: dict[str, float] = {}
        for _ in range(3 if quick else 5):
            for name, seconds in times.items():
                found = in_fresh_process("pass", name, path)
                assert found is not None
                seconds.append(found["seconds"])
                totals[name] = found["total"]
        for name, total in totals.items():  # float32 products, added in other orders
            assert math.isclose(total, totals["windows"], rel_tol=1e-5), (name, totals)
        medians = {name: statistics.median(seconds) for name, seconds in times.items()}
        for name in names:
            end = "" if name == "geofuse" else f"_{name}"
            ratio = medians[name] / medians["windows"]
            result[f"full_pass_vs_windows{end}"] = round(ratio, 2)
    return result


def main() -> None:
    """Run the benchmark, or one task of it in this process."""
    if len(sys.argv) == 4 and sys.argv[1] in ("corner", "pass"):
        task, name, path = sys.argv[1:]
        if task == "pass":
            pin_to_one_cpu()
        emit((corner if task == "corner" else full_pass)(name, path))
        return
    options = arguments(__doc__)
    result = measure(options.quick)
    for name, value in result.items():
        print(f"{name:<32} {value}")
    if not options.quick:
        save("speed-readers", [result])
    emit(result)


if __name__ == "__main__":
    main()
