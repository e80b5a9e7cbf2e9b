"""Learned kernels with the weights that ship, beside the fixed kernels and trivial lines.

    python -m benchmarks.learned [--quick]

Nothing is tuned, fitted or chosen on these scenes: weights come from simulated ones alone
(benchmarks/pretrain.py). All real one-pair cases; RMSE relative to STARFM in the same run,
radius 25 and defaults otherwise, which is kinder to STARFM on CIA than its default radius.
The full run adds the two-pair case and simulated scenes, and writes learned.csv.
"""

from typing import Any

import numpy as np
import pandas as pd

from benchmarks.cases import NamedCase, real_cases, simulated_cases
from benchmarks.fusion import LINES, compare, rmse_of
from benchmarks.programs import PROGRAMS, best_of_bands
from benchmarks.record import arguments, emit, save
from geofuse.pairs import FusionInputs
from geofuse.spatiotemporal import METHODS
from geofuse.spatiotemporal.baselines import CoarseChange
from geofuse.spatiotemporal.method import FusionMethod
from geofuse.spatiotemporal.mixture_net import MixtureNet
from geofuse.spatiotemporal.starfm import STARFM
from geofuse.training.weights import Weights

#: The learned methods by their names.
LEARNED = ("mixture-net", "kernel-net")

#: Not in the quick run: what takes long, or needs two pairs.
SLOW = ("estarfm", "precision-fusion", "linear-in-time", "ubestarfm")


def methods(*, quick: bool) -> dict[str, FusionMethod]:
    """The learned methods and all others, with their defaults but STARFM's radius."""
    chosen = {
        name: kind() for name, kind in METHODS.items() if not (quick and name in SLOW)
    }
    chosen["starfm"] = STARFM(radius=25)
    chosen["coarse-change bicubic"] = CoarseChange(upsample="bicubic")
    chosen["mean of the experts"] = _equal_weights()
    return chosen


def _equal_weights() -> FusionMethod:
    """mixture-net as it is before training: the baseline that learning must beat."""
    method = MixtureNet()
    arrays = dict(method.parameters())
    for name in ("last.kernel", "last.bias"):
        arrays[name] = np.zeros_like(arrays[name])
    return method.replaced(Weights(arrays))


def one_pair(named: NamedCase) -> bool:
    """Whether a case has one pair."""
    return len(named.case.inputs.pairs) == 1


def coverage(named: NamedCase, method: FusionMethod, level: float) -> tuple[float, int]:
    """Share of pixels and bands whose truth lies within the stated interval."""
    inputs = named.case.inputs
    if inputs.scale is None:
        inputs = FusionInputs(inputs.pairs, inputs.coarse, scale=10)
    product = method.predict(inputs).compute()
    size = method.interval_factor(level) * np.sqrt(
        product.aleatoric + product.epistemic
    )
    off = np.abs(product.reflectance - named.case.reference)
    valid = np.isfinite(off) & np.isfinite(size)
    return float((off <= size).where(valid).mean()), int(valid.sum())


def ratios(table: pd.DataFrame, method: str) -> pd.Series:
    """RMSE over that of STARFM, by case and band."""
    rmse = rmse_of(table)
    rmse = rmse[rmse.index.get_level_values("band") != "mean"]
    return rmse[method] / rmse["starfm"]


def case_ratios(table: pd.DataFrame, method: str) -> pd.Series:
    """Band-mean RMSE over that of STARFM, by case."""
    means = rmse_of(table).xs("mean", level="band")
    return means[method] / means["starfm"]


def cells(table: pd.DataFrame, method: str) -> dict[str, Any]:
    """In how many (case, band) a method is below all programs, methods and lines."""
    rmse = rmse_of(table)
    rmse = rmse[rmse.index.get_level_values("band") != "mean"]
    others = [name for name in rmse.columns if name not in LEARNED]
    lines = [name for name in LINES if name in rmse.columns]
    fixed = [name for name in others if name not in lines]
    programs = pd.Series(np.inf, index=rmse.index)
    for case in {program.case for program in PROGRAMS}:
        if case in rmse.index.get_level_values("case"):
            programs.loc[case] = np.asarray(best_of_bands(case))
    measured = programs[np.isfinite(programs)].index
    own = rmse[method]
    return {
        "cells": len(rmse),
        "below_every_line": int((own < rmse[lines].min(axis=1)).sum()),
        "below_every_fixed_method": int((own < rmse[fixed].min(axis=1)).sum()),
        "cells_with_programs": len(measured),
        "below_every_program": int((own[measured] < programs[measured]).sum()),
    }


def main() -> None:
    """Run the benchmark."""
    quick = arguments(__doc__).quick
    cases = [named for named in real_cases() if one_pair(named)]
    chosen = methods(quick=quick)
    if not quick:
        cases += [named for named in real_cases() if not one_pair(named)]
        cases += list(simulated_cases())
    outcomes = [compare(named, chosen) for named in cases]
    table = pd.DataFrame([row for outcome in outcomes for row in outcome.rows])
    real = [named.name for named in cases if named.site != "simulated"]
    single = [n.name for n in cases if n.name in real and one_pair(n)]
    here = table[table.case.isin(single)]
    wide = rmse_of(table).xs("mean", level="band")
    with pd.option_context("display.width", 250, "display.max_columns", 50):
        print("RMSE, mean of the bands, x 1000")
        print((wide * 1000).T.to_string(float_format="{:.1f}".format))
        print("RMSE over STARFM's, mean over cases and bands")
        names = [name for name in wide.columns if name != "starfm"]
        means = {name: ratios(here, name).mean() for name in names}
        print(pd.Series(means).sort_values().to_string(float_format="{:.3f}".format))
    if not quick:
        print(f"written: {save('learned', table.drop(columns='configuration')).name}")
    covered = {
        name: [
            coverage(named, METHODS[name](), 0.9)
            for named in cases
            if named.name in single
        ]
        for name in LEARNED
    }
    emit(
        {
            "cases": len(single),
            "mean_rmse_ratio_vs_starfm": round(ratios(here, "mixture-net").mean(), 4),
            "worst_case_ratio_vs_starfm": round(
                case_ratios(here, "mixture-net").max(), 4
            ),
            "kernel_net_mean_ratio_vs_starfm": round(
                ratios(here, "kernel-net").mean(), 4
            ),
            "mean_of_experts_ratio_vs_starfm": round(
                ratios(here, "mean of the experts").mean(), 4
            ),
            "case_ratios": {
                str(case): round(float(value), 4)
                for case, value in case_ratios(here, "mixture-net").items()
            },
            "cells": cells(here, "mixture-net"),
            **{
                (
                    "coverage_90" if name == "mixture-net" else "kernel_net_coverage_90"
                ): (round(sum(c * n for c, n in found) / sum(n for _, n in found), 4))
                for name, found in covered.items()
            },
        }
    )


if __name__ == "__main__":
    main()
