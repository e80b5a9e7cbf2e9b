"""Which scenes the benchmarks run on: real ones where there are any, and simulated ones.

The real scenes are found through the variable `GEOFUSE_DATA` alone; README.md in this
folder says where each is to be had and how to lay it out. References are for scoring: no
method sees them.
"""

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from geofuse.pairs import FusionCase, FusionInputs, Pair
from geofuse.rasters.optical import open_optical
from geofuse.synthetic import simulate_case

CIA_BANDS = ("blue", "green", "red", "nir", "swir1", "swir2")
CIA_DATES = ("2001-10-08", "2001-10-17", "2001-11-02")
LGC_BANDS = ("green", "red", "nir")
LGC_DATES = ("2004-11-26", "2004-12-28")


@dataclass(frozen=True)
class NamedCase:
    """A case and what the tables call it.

    Attributes:
        name: For instance `cia 10-08 > 10-17`: base dates > prediction date.
        site: Which scene it is of.
        case: The inputs and the reference.
        real: Whether the coarse images are measured, not aggregated.
    """

    name: str
    site: str
    case: FusionCase
    real: bool


def data_folder() -> Path | None:
    """The folder of real scenes, if `GEOFUSE_DATA` names one."""
    folder = os.environ.get("GEOFUSE_DATA")
    return Path(folder) if folder and Path(folder).is_dir() else None


def real_cases() -> Iterator[NamedCase]:
    """All one-pair and two-pair predictions of the real scenes; none without data."""
    folder = data_folder()
    if folder is None:
        return
    yield from _cia(folder / "fusion" / "cia_e2starfm_50m")
    yield from _lgc(folder / "fusion" / "lgc_fsdaf")


def simulated_cases(
    *, size: int = 192, pairs: Sequence[int] = (1, 2)
) -> Iterator[NamedCase]:
    """Simulated scenes, each hard in one way."""
    suites: dict[str, dict[str, Any]] = {
        "phenology": {"abrupt": 0.0},
        "abrupt change": {"abrupt": 0.2},
        "psf mismatch": {"psf": 0.9},
        "sensor bias": {"gain": 1.1, "offset": 0.01},
        "coarse noise": {"noise": 0.01},
        "clouds": {"clouds": 0.15, "coarse_clouds": 0.1},
        "misregistration": {"shift": 0.4},
    }
    for number, (name, options) in enumerate(suites.items()):
        for count in pairs:
            case = simulate_case(size, pairs=count, seed=number, **options)
            title = f"{name}, {count} pair{'s' if count > 1 else ''}"
            yield NamedCase(title, "simulated", case, real=False)


def _cia(folder: Path) -> Iterator[NamedCase]:
    """Coleambally: Landsat 7 and MODIS of three dates, the coarse smooth on 50 m."""
    if not folder.is_dir():
        return

    def opened(kind: str, date: str) -> xr.DataArray:
        name = f"{kind}_{date.replace('-', '')}.tif"
        return open_optical(folder / name, date=date, bands=CIA_BANDS).compute()

    fine = {date: opened("L", date) for date in CIA_DATES}
    coarse = {date: opened("M", date) for date in CIA_DATES}
    pairs = {date: Pair(fine[date], coarse[date]) for date in CIA_DATES}
    for base, date in itertools.permutations(CIA_DATES, 2):
        case = FusionCase(FusionInputs([pairs[base]], coarse[date]), fine[date])
        yield NamedCase(f"cia {base[5:]} > {date[5:]}", "cia", case, real=True)
    first, middle, last = CIA_DATES
    case = FusionCase(
        FusionInputs([pairs[first], pairs[last]], coarse[middle]), fine[middle]
    )
    yield NamedCase(
        f"cia {first[5:]} {last[5:]} > {middle[5:]}", "cia", case, real=True
    )


def _lgc(folder: Path) -> Iterator[NamedCase]:
    """Lower Gwydir: Landsat 5 before and after a flood; the coarse is its block mean."""
    if not folder.is_dir():
        return

    def opened(kind: str, date: str) -> xr.DataArray:
        name = f"{kind}{date.replace('-', '')}"
        image = open_optical(folder / name, "gain=1e-4", date=date, bands=LGC_BANDS)
        return image.compute()

    fine = {date: opened("Landsat", date) for date in LGC_DATES}
    coarse = {date: opened("MODIS", date) for date in LGC_DATES}
    for base, date in itertools.permutations(LGC_DATES, 2):
        inputs = FusionInputs([Pair(fine[base], coarse[base])], coarse[date], scale=16)
        case = FusionCase(inputs, fine[date])
        yield NamedCase(f"lgc {base[5:]} > {date[5:]}", "lgc", case, real=False)
