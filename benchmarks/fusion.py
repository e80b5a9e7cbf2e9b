"""Accuracy of every fusion method on every case, beside the trivial lines and other programs.

    python -m benchmarks.fusion [--quick]

Scores are not clipped, and count only the pixels that are valid in all methods. No method
sees a reference; STARFM's defaults were looked at on the real scenes beside simulated
ones. `--quick` runs all real cases, and small simulated ones with one pair. Windows of
STARFM are those of the published figures: 31x31 on CIA, 51x51 on LGC.

Differences of two methods on a case come with an interval, by a paired bootstrap over
blocks of two coarse pixels or more.
"""

import dataclasses
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.cases import NamedCase, real_cases, simulated_cases
from benchmarks.programs import PROGRAMS, best_of_bands, best_program
from benchmarks.record import arguments, emit, save
from geofuse.evaluation.bootstrap import BlockErrors, rmse_ratio
from geofuse.evaluation.comparison import comparison_of
from geofuse.pairs import FusionCase, FusionInputs
from geofuse.spatiotemporal import METHODS
from geofuse.spatiotemporal.baselines import CoarseChange
from geofuse.spatiotemporal.combine import PrecisionFusion
from geofuse.spatiotemporal.estarfm import ESTARFM
from geofuse.spatiotemporal.method import FusionMethod
from geofuse.spatiotemporal.starfm import STARFM
from geofuse.spatiotemporal.ubestarfm import UbESTARFM

#: Search windows of the other programs' figures, so that like is compared with like.
RADIUS = {"cia": 15, "lgc": 25, "simulated": 15}

#: The rows of a table that every method must beat.
LINES = (
    "persistence",
    "coarse-change",
    "coarse-change bicubic",
    "linear-in-time",
    "band-line",
    "coarse-image",
    "spectral-line",
)

#: Columns of the rows.
COLUMNS = (
    *("method", "case", "site", "band", "metric", "value", "pixels"),
    *("predict_seconds", "configuration"),
)

#: Site of a case -> whether its images are real ones.
REAL_SITES = ("cia", "lgc")


def methods_for(site: str, *, quick: bool = False) -> dict[str, FusionMethod]:
    """Every method with its defaults, STARFM at the site's search window; and variants."""
    chosen: dict[str, FusionMethod] = {}
    for name, kind in METHODS.items():
        method = kind()
        if isinstance(method, STARFM | ESTARFM | UbESTARFM):
            method = dataclasses.replace(method, radius=RADIUS[site])
        chosen[name] = method
    chosen["coarse-change bicubic"] = CoarseChange(upsample="bicubic")
    if site == "lgc":
        chosen["starfm defaults"] = STARFM()
    if not quick:
        chosen["starfm rules=usda"] = STARFM(
            radius=RADIUS[site], rules="usda", classes=40, noise=0.05
        )
        chosen["starfm rules=paper"] = STARFM(
            radius=RADIUS[site], rules="paper", classes=4, noise=0.05
        )
        chosen["precision-fusion compensate=False"] = PrecisionFusion(compensate=False)
        chosen["estarfm gate=imagefusion"] = ESTARFM(
            radius=RADIUS[site], gate="imagefusion"
        )
        # As imagefusion was run for the published figures, by what reproduces them.
        chosen["estarfm gate=imagefusion classes=2"] = ESTARFM(
            radius=RADIUS[site], gate="imagefusion", classes=2
        )
        chosen["estarfm classes=4"] = ESTARFM(radius=RADIUS[site], classes=4)
    return chosen


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of one case.

    Attributes:
        rows: One a method, band and metric.
        errors: Method -> squared errors by block.
    """

    named: NamedCase
    rows: list[dict[str, Any]]
    errors: dict[str, BlockErrors]


def compare(named: NamedCase, methods: Mapping[str, FusionMethod]) -> Outcome:
    """Score all methods on one case, on the pixels valid in all of them.

    Methods are not fitted, and a method that needs more pairs has no row.
    """
    case = named.case
    if case.inputs.scale is None:
        # CIA: smooth on the fine grid, MODIS of about 460 m on 50 m.
        inputs = FusionInputs(case.inputs.pairs, case.inputs.coarse, scale=10)
        case = FusionCase(inputs, case.reference)
    able = {
        name: method
        for name, method in methods.items()
        if len(case.inputs.pairs) >= method.pairs_needed
    }
    found = comparison_of(able, test={named.name: case}, warm=False)
    table = found.table[found.table.method.isin(able)]
    failed = table[table.error != ""]
    if len(failed):
        row = failed.iloc[0]
        raise RuntimeError(f"{row.method} on {row.case}: {row.error}")
    table = table.assign(site=named.site)
    return Outcome(
        named,
        table[list(COLUMNS)].to_dict("records"),
        {name: found.errors[named.name][name] for name in able},
    )


def rmse_of(table: pd.DataFrame) -> pd.DataFrame:
    """RMSE by case and band (rows; 'mean' among the bands) and method (columns)."""
    rmse = table[(table.metric == "rmse") & (table.band != "all")]
    return rmse.pivot_table(
        index=["case", "band"], columns="method", values="value", sort=False
    )


def wins(table: pd.DataFrame, over: str = "starfm") -> dict[str, float]:
    """Share of (real case, band) in which a method has a lower RMSE than another."""
    rmse = rmse_of(table[table.site.isin(REAL_SITES)])
    rmse = rmse[rmse.index.get_level_values("band") != "mean"]
    shares = {}
    for method in rmse.columns.drop(over, errors="ignore"):
        both = rmse[[method, over]].dropna()
        if len(both):
            shares[method] = round(float((both[method] < both[over]).mean()), 4)
    return shares


def against_programs(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Band-mean RMSE over that of the best program of the same method: method -> case."""
    rmse = rmse_of(table)
    found: dict[str, dict[str, float]] = {}
    for case, method in dict.fromkeys((p.case, p.method) for p in PROGRAMS):
        program = best_program(case, method)
        if program is None or method not in rmse or (case, "mean") not in rmse.index:
            continue
        ratio = float(rmse.loc[(case, "mean"), method]) / program.mean
        if np.isfinite(ratio):
            found.setdefault(method, {})[case] = round(ratio, 4)
    return found


def against_the_best(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """How each case's best method compares, band by band, with what must be beaten.

    That is the lowest RMSE of any measured program or trivial line in the band. The best
    method is the one whose worst band compares best.
    """
    rmse, found = rmse_of(table), {}
    for case in dict.fromkeys(program.case for program in PROGRAMS):
        if case not in rmse.index.get_level_values("case"):
            continue
        here = rmse.loc[case].drop(index="mean")
        lines = here[[line for line in LINES if line in here]].min(axis=1)
        bar = np.minimum(lines.to_numpy(), best_of_bands(case))
        ratios = here.drop(columns=[line for line in LINES if line in here])
        ratios = ratios.dropna(axis=1).div(bar, axis=0)
        best = str(ratios.max().idxmin())
        found[case] = {
            "method": best,
            "ratios": [round(float(value), 4) for value in ratios[best]],
            "in_every_band": bool((ratios[best] < 1).all()),
        }
    return found


def fusion_against_members(table: pd.DataFrame) -> dict[str, float]:
    """Band-mean RMSE of precision-fusion over that of its best member, by case."""
    found = {}
    members = {repr(member) for member in PrecisionFusion().methods}
    means = table[(table.metric == "rmse") & (table.band == "mean")]
    for case, rows in means.groupby("case", sort=False):
        ours = rows[rows.method == "precision-fusion"]["value"]
        theirs = rows[rows.configuration.isin(members)]["value"]
        found[str(case)] = round(float(ours.iloc[0] / theirs.min()), 4)
    return found


def bootstrap(outcome: Outcome) -> pd.DataFrame:
    """Ratios of RMSE of any two methods on a case, with intervals; mean of the bands.

    Against STARFM each band has a row of its own, too.
    """
    tables = []
    for one, other in itertools.combinations(outcome.errors, 2):
        if one == "starfm":
            one, other = other, one
        ratios = rmse_ratio(outcome.errors[one], outcome.errors[other])
        if other != "starfm":
            ratios = ratios[ratios.band == "mean"]
        names = {"case": outcome.named.name, "method": one, "against": other}
        tables.append(ratios.assign(**names))
    return pd.concat(tables, ignore_index=True).round(5)


def summary_table(table: pd.DataFrame) -> str:
    """Band-mean RMSE x 1000 over groups of cases, mean and range, as Markdown."""
    rmse = table[(table.metric == "rmse") & (table.band == "mean")].copy()
    pairs = rmse["case"].map(
        lambda name: "two pairs" if _two_pairs(name) else "one pair"
    )
    wins_over = wins(table)
    names = {"cia": "CIA", "lgc": "LGC (simulated coarse)", "simulated": "simulated"}
    rmse["group"] = rmse["site"].map(names) + ", " + pairs
    groups = list(dict.fromkeys(rmse["group"]))
    counts = rmse.groupby("group")["case"].nunique()
    head = ["Method", *(f"{group} ({counts[group]})" for group in groups)]
    head.append("wins over STARFM (real case, band)")
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for method in dict.fromkeys(rmse["method"]):
        cells = [f"`{method}`"]
        for group in groups:
            values = (
                rmse[(rmse.method == method) & (rmse.group == group)]["value"] * 1000
            )
            spread = (
                f" ({values.min():.1f} to {values.max():.1f})"
                if len(values) > 1
                else ""
            )
            cells.append(f"{values.mean():.1f}{spread}" if len(values) else "")
        won = wins_over.get(method)
        cells.append("" if won is None else f"{100 * won:.0f} %")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _two_pairs(case: str) -> bool:
    bases, _, date = case.partition(" > ")
    return "2 pairs" in case or (bool(date) and len(bases.split()) > 2)


def write_into(page: Path, text: str) -> None:
    """Put the table between the two marks of a page."""
    begin, end = "<!-- results -->", "<!-- end of results -->"
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def main() -> None:
    """Run the benchmark."""
    quick = arguments(__doc__).quick
    simulated = simulated_cases(size=96, pairs=(1,)) if quick else simulated_cases()
    outcomes = [
        compare(named, methods_for(named.site, quick=quick))
        for named in (*real_cases(), *simulated)
    ]
    table = pd.DataFrame([row for outcome in outcomes for row in outcome.rows])
    print("RMSE, mean of the bands")
    wide = rmse_of(table).xs("mean", level="band")
    with pd.option_context("display.width", 250, "display.max_columns", 50):
        print(wide.to_string(float_format=lambda value: f"{value:.4f}"))
    programs = against_programs(table)
    for method, ratios in programs.items():
        for case, ratio in ratios.items():
            program = best_program(case, method)
            name = program.name if program else ""
            print(f"{method} on {case}: {ratio:.3f} of {name}")
    best = against_the_best(table)
    for case, found in best.items():
        print(f"best on {case}, over the best program or line of each band: {found}")
    real = [o for o in outcomes if o.named.site in REAL_SITES]
    intervals = pd.concat([bootstrap(o) for o in real] or [pd.DataFrame()])
    if not quick:
        # What a method was set to stands once for a site, not in each of its rows.
        settings = table[["site", "method", "configuration"]].drop_duplicates()
        scores = table.drop(columns="configuration")
        print(f"written: {save('fusion', scores).name}")
        print(f"written: {save('fusion-methods', settings).name}")
        print(f"written: {save('fusion-bootstrap', intervals).name}")
        write_into(Path(__file__).parents[1] / "README.md", summary_table(table))
    emit(
        {
            "cases": len(outcomes),
            "wins_vs_starfm": wins(table),
            "vs_best_program": programs,
            "starfm_vs_best_program": programs.get("starfm", {}),
            "vs_best_program_and_line": best,
            "precision_fusion_vs_best_member": fusion_against_members(table),
            "bootstrap_vs_starfm": _as_intervals(intervals),
        }
    )


def _as_intervals(table: pd.DataFrame) -> dict[str, dict[str, list[float]]]:
    """Method -> case -> ratio of band-mean RMSE to STARFM's, and its 95 % interval."""
    found: dict[str, dict[str, list[float]]] = {}
    if not len(table):
        return found
    chosen = table[(table.against == "starfm") & (table.band == "mean")]
    for row in chosen.itertuples():
        ends = [round(float(value), 3) for value in (row.ratio, row.low, row.high)]
        found.setdefault(str(row.method), {})[str(row.case)] = ends
    return found


if __name__ == "__main__":
    main()
