"""Nine spectral indices against spyndex, on NumPy float32 of one 512x512 image, one CPU.

    python -m benchmarks.speed.indices_speed [--quick]

Both sides get the
same six bands in memory and give nine arrays in memory; the values are compared first.
Times are CPU seconds of this process (one thread), medians of interleaved repeats.

    indices_vs_spyndex              compiled to one loop, as for large rasters
    indices_interpreted_vs_spyndex  the machine that runs a formula at once
    indices_raster_vs_spyndex       a lazy raster of 2048x2048, tile by tile, against
                                    spyndex on dask arrays of the same chunks (few
                                    enough pixels to be interpreted)

Compilation is not timed: it takes a second, once, and comes only when it pays.
"""

if __name__ == "__main__":
    from benchmarks.process import pin_to_one_cpu

    pin_to_one_cpu()

import importlib.util
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import dask.base
import numpy as np
import xarray as xr

from benchmarks.record import arguments, emit
from geofuse.features import fused
from geofuse.features.formulas import Number, Tree, names_in, parse, substitute
from geofuse.features.index_table import DEFAULTS, INDICES
from geofuse.features.indices import indices

NAMES = ("ndvi", "ndwi", "mndwi", "nbr", "evi", "savi", "ndbi", "ndmi", "msavi")
BANDS = ("blue", "green", "red", "nir", "swir1", "swir2")
_CODES = ("B", "G", "R", "N", "S1", "S2")


def measure(*, quick: bool) -> dict[str, float | None]:
    """Measure; `quick` repeats less often. Nulls where spyndex is not installed."""
    if importlib.util.find_spec("spyndex") is None:
        print("indices are left out: spyndex is not installed (extra `indices`)")
        return {"indices_vs_spyndex": None}
    repeats = 9 if quick else 31
    image = _image(512)
    program = fused.fuse([_tree(name) for name in NAMES], _positions())
    loop, steps = fused.compiled(program), np.array(program.steps, np.int64)
    numbers = np.array(program.numbers, np.float32)

    def compiled() -> np.ndarray:
        out = np.empty((len(NAMES), image[0].size), np.float32)
        loop(image.values.reshape(len(BANDS), -1), numbers, out)
        return out.reshape(-1, *image.shape[1:])

    def interpreted() -> np.ndarray:
        out = np.empty((len(NAMES), image[0].size), np.float32)
        flat = image.values.reshape(len(BANDS), -1)
        fused._interpret(steps, numbers, program.registers, flat, out)
        return out.reshape(-1, *image.shape[1:])

    def through_dask() -> np.ndarray:
        with dask.config.set(scheduler="synchronous"):
            return indices(raster, NAMES).values

    def spyndex_through_dask() -> np.ndarray:
        with dask.config.set(scheduler="synchronous"):
            return np.asarray(dask.base.compute(*_spyndex(raster)))

    expected = _spyndex(image)
    for ours in (compiled(), interpreted()):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)
    del expected, ours
    # The small image first: large arrays change how the memory of small ones is found.
    fast = _seconds([lambda: _spyndex(image), compiled], repeats)
    slow = _seconds([lambda: _spyndex(image), interpreted], repeats)
    raster = _image(2048).chunk({"y": 1024, "x": 1024})
    np.testing.assert_allclose(
        through_dask(), spyndex_through_dask(), rtol=1e-5, atol=1e-6
    )
    large = _seconds([spyndex_through_dask, through_dask], max(3, repeats // 3))
    return {
        "indices_vs_spyndex": round(fast[0] / fast[1], 2),
        "indices_interpreted_vs_spyndex": round(slow[0] / slow[1], 2),
        "indices_raster_vs_spyndex": round(large[0] / large[1], 2),
        "indices_mpx_per_second": round(image[0].size / fast[1] / 1e6, 1),
    }


def _image(size: int) -> xr.DataArray:
    values = np.random.default_rng(0).uniform(0.01, 0.6, (len(BANDS), size, size))
    coords = {"band": list(BANDS), "y": np.arange(size), "x": np.arange(size)}
    return xr.DataArray(values.astype(np.float32), coords, ("band", "y", "x"))


def _positions() -> dict[str, int]:
    return {band: position for position, band in enumerate(BANDS)}


def _tree(name: str) -> Tree:
    tree = parse(INDICES[name].formula)
    values = {n: Number(DEFAULTS[n]) for n in names_in(tree) if n in DEFAULTS}
    return substitute(tree, dict(values))


def _spyndex(image: xr.DataArray) -> Any:
    import spyndex

    bands = dict(zip(_CODES, image.data, strict=True))
    constants = {name: DEFAULTS[name] for name in ("L", "g", "C1", "C2")}
    names = [INDICES[name].catalogue for name in NAMES]
    return spyndex.computeIndex(names, {**bands, **constants})


def _seconds(functions: Sequence[Callable[[], Any]], repeats: int) -> list[float]:
    """Median CPU seconds of each function, called in turn."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for function, measured in zip(functions, times, strict=True):
            start = time.process_time()
            function()
            measured.append(time.process_time() - start)
    return [statistics.median(measured) for measured in times]


def main() -> None:
    """Measure, and print the result as JSON."""
    emit(measure(quick=arguments(__doc__).quick))


if __name__ == "__main__":
    main()
