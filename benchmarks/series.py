"""Whole series: every date and every gap, against the truth, beside what users try first.

    python -m benchmarks.series [--quick]

Simulated years (phenology, cloudier and denser, abrupt change, noisy coarse images) have a
truth at every date: scored are the pixels that were not measured and that all methods
predict. On kranj (44x45 pixels, one month, four Landsat images with gaps, daily MODIS)
there is none; there a fifth of the measured pixels of each fine image, in blocks of 5x5, is
taken away and predicted from the rest. That scene is too small to rank methods by.

For methods that state a variance, `coverage` is the share of true values within 1.645
standard deviations: 0.90 where it is right. No method sees a truth.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from benchmarks.cases import data_folder
from benchmarks.record import arguments, emit, save
from geofuse.errors import TooFewPairsError
from geofuse.pairs import Pair
from geofuse.rasters.dated_files import files_in
from geofuse.rasters.optical import open_optical
from geofuse.spatiotemporal import SERIES_METHODS
from geofuse.spatiotemporal.baselines import CoarseChange, LinearInTime, Persistence
from geofuse.spatiotemporal.fitfc import FitFC
from geofuse.spatiotemporal.method import FusionMethod
from geofuse.spatiotemporal.series import predict_series, valid_shares
from geofuse.spatiotemporal.series_method import SeriesMethod
from geofuse.spatiotemporal.starfm import STARFM
from geofuse.synthetic import simulate_series

BANDS = ("blue", "green", "red", "nir", "swir1", "swir2")


@dataclass(frozen=True, eq=False)
class Year:
    """A series and the true fine images of some dates, NaN where there is none.

    Attributes:
        name: What the table calls it.
        pairs: Fine and coarse images.
        coarse: Coarse stack.
        fine: Fine images without a coarse one.
        truth: Images (time, band, y, x) of dates of the product.
        only_gaps: Whether the product has the dates of the fine images.
    """

    name: str
    pairs: tuple[Pair, ...]
    coarse: xr.DataArray
    fine: tuple[xr.DataArray, ...]
    truth: xr.DataArray
    only_gaps: bool


def methods() -> dict[str, FusionMethod | SeriesMethod]:
    """Series methods, and methods of a single date with their best pairs."""
    return {
        **{name: kind() for name, kind in SERIES_METHODS.items()},
        "persistence": Persistence(),
        "linear-in-time": LinearInTime(),
        "coarse-change bicubic": CoarseChange(upsample="bicubic"),
        "fit-fc": FitFC(),
        "starfm": STARFM(radius=15),
    }


def simulated_years(*, size: int, days: int) -> Iterator[Year]:
    """Simulated series, each hard in one way."""
    suites: dict[str, dict[str, Any]] = {
        "phenology": {"abrupt": 0.0},
        "denser, cloudier": {"fine_every": 16, "clouds": 0.5},
        "abrupt change": {"abrupt": 0.2},
        "noisy coarse": {"noise": 0.01},
    }
    for seed, (name, options) in enumerate(suites.items(), start=20):
        made = simulate_series(size, days=days, seed=seed, **options)
        unseen = made.truth.copy(deep=True)
        dates = made.coarse.time.values
        for pair in made.pairs:  # what was measured need not be predicted
            place = int(np.flatnonzero(dates == pair.fine.time.values)[0])
            unseen[place] = unseen[place].where(np.isnan(pair.fine.values))
        yield Year(name, made.pairs, made.coarse, (), unseen, only_gaps=False)


def kranj() -> Iterator[Year]:
    """The real month, with measured pixels left out; none without data."""
    folder = data_folder()
    if folder is None or not (folder / "fusion" / "kranj_imagefusion").is_dir():
        return
    place = folder / "fusion" / "kranj_imagefusion"

    def opened(part: Path, sensor: str) -> list[xr.DataArray]:
        return [
            open_optical(file.path, sensor, date=file.date, bands=BANDS).compute()
            for file in files_in(part)
        ]

    fine = opened(place / "landsat" / "unfilled", "gain=1e-4")
    coarse = {
        str(i.time.values): i for i in opened(place / "modis" / "filled", "generic")
    }
    draw = np.random.default_rng(0)
    kept, left_out = [], []
    for image in fine:
        rows, columns = image.shape[1:]
        blocks = draw.random((rows // 5 + 1, columns // 5 + 1)) < 0.2
        hidden = np.kron(blocks, np.ones((5, 5), bool))[:rows, :columns]
        kept.append(image.where(~hidden))
        left_out.append(image.where(hidden))
    pairs = [
        Pair(image, coarse[str(image.time.values)])
        for image in kept
        if str(image.time.values) in coarse
    ]
    others = [image for image in kept if str(image.time.values) not in coarse]
    yield Year(
        "kranj, left out",
        tuple(pairs),
        xr.concat(coarse.values(), "time"),
        tuple(others),
        xr.concat(left_out, "time"),
        only_gaps=True,
    )


def compare(year: Year) -> Iterator[dict[str, Any]]:
    """Score all methods on one series, on the pixels that all of them predict."""
    products, seconds = {}, {}
    shares = valid_shares(year.pairs)
    for name, method in methods().items():
        needs_scale = (
            isinstance(method, FusionMethod) and method.coarse_halo is not None
        )
        if needs_scale and year.coarse.attrs.get("scale") is None:
            continue  # kranj: smooth, less than three coarse pixels wide
        begin = time.perf_counter()
        try:
            lazy = predict_series(
                year.pairs,
                year.coarse,
                method=method,
                fine=year.fine,
                only_gaps=year.only_gaps,
                valid_shares=shares,
            )
        except TooFewPairsError:
            continue
        products[name] = lazy.compute()
        seconds[name] = time.perf_counter() - begin
    truth = year.truth.values
    # Methods of a single date predict less: not where the coarse image has a cloud, nor
    # where all their pairs have one. So series methods are compared on more pixels too.
    series = [n for n, m in methods().items() if isinstance(m, SeriesMethod)]
    common = {
        "in all methods": np.logical_and.reduce(
            [np.isfinite(p.reflectance.values) for p in products.values()]
        ),
        "in all series methods": np.logical_and.reduce(
            [np.isfinite(products[n].reflectance.values) for n in series]
        ),
    }
    for pixels, valid in common.items():
        for name, product in products.items():
            if pixels == "in all series methods" and name not in series:
                continue
            for number, band in enumerate(product.band.values):
                here = valid[:, number] & np.isfinite(truth[:, number])
                if not here.any():
                    continue
                off = (product.reflectance.values - truth)[:, number][here]
                spread = np.sqrt(product.variance.values[:, number][here])
                stated = np.isfinite(spread).all()
                yield {
                    "method": name,
                    "case": year.name,
                    "pixels_scored": pixels,
                    "band": str(band),
                    "rmse": float(np.sqrt(np.mean(off**2))),
                    "bias": float(np.mean(off)),
                    "coverage": float(np.mean(np.abs(off) < 1.645 * spread))
                    if stated
                    else np.nan,
                    "pixels": int(here.sum()),
                    "predicted_share": float((product.quality.values == 2).mean()),
                    "seconds": seconds[name],
                    "configuration": repr(methods()[name]),
                }


def main() -> None:
    """Run the benchmark."""
    quick = arguments(__doc__).quick
    years = [*simulated_years(size=48 if quick else 128, days=176 if quick else 352)]
    years = [*(years[:2] if quick else years), *kranj()]
    table = pd.DataFrame([row for year in years for row in compare(year)])
    best = {}
    for pixels, rows in table.groupby("pixels_scored", sort=False):
        wide = rows.pivot_table(
            index="method", columns="case", values="rmse", sort=False
        )
        print(f"RMSE, mean of the bands, pixels valid {pixels}")
        print((wide * 1000).round(2).to_string())
        best[str(pixels)] = wide
    coverage = (
        table[table.method == "kalman"].groupby("case", sort=False)["coverage"].mean()
    )
    print("kalman, share of true values in the interval of 0.90")
    print(coverage.round(3).to_string())
    if not quick:
        print(f"written: {save('series', table).name}")
    wide = best["in all series methods"]
    lines = wide.drop(index="kalman").min()
    emit(
        {
            "kalman_rmse_over_best_curve": {
                str(case): round(float(wide.loc["kalman", case] / lines[case]), 4)
                for case in wide.columns
            },
            "kalman_coverage_of_0.90": {
                str(case): round(float(value), 4) for case, value in coverage.items()
            },
        }
    )


if __name__ == "__main__":
    main()
