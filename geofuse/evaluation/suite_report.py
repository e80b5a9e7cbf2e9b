"""What a comparison over many cases says: a table a method, figures, and a page of text.

by_method(table)          error, rank, cost: one row a method
cost_points(summary)      for geofuse.plots.cost_figure
suite_page(…)             Markdown: what was compared, what came of it, how to repeat it

Nothing here is computed that the table does not hold.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from geofuse.errors import ParameterError
from geofuse.evaluation.statistics import Ranks, ranks, score_by_case
from geofuse.evaluation.tables import badness
from geofuse.evaluation.wording import MISSING, number, percent
from geofuse.plots.cost import CostPoint, on_front

#: Beside the values, what a table of a comparison depends on.
ORIGIN = ("commit", "source", "python", "versions", "machine", "seed")


def by_method(table: pd.DataFrame, metric: str = "rmse") -> pd.DataFrame:
    """One row a method: its mean score over the cases that all of them have, and its cost.

    Args:
        table: Of `compare`.
        metric: Name of a metric in it.

    Returns:
        Columns `method`, the name of the metric (mean over the cases on which every method
        that has a score on as many cases as any has one; NaN for others), `cases` (with a
        score), `failed`, `coverage` (mean), `rank`, `seconds_per_mpx` (median), `peak_mb`
        (largest), `fit_seconds`, `parameters`, `trivial` and `front`: whether no other
        method is both quicker and more accurate. The best first.

    Raises:
        UnknownNameError: The table has no such metric.
    """
    wide = score_by_case(table, metric)
    counts = wide.notna().sum()
    complete = wide[counts.index[counts == counts.max()]].dropna()
    means = complete.mean()
    order = {}
    if complete.shape[1] > 1 and len(complete):
        order = ranked(table, metric).mean
    rows = []
    for method, own in table.drop_duplicates(["method", "case"]).groupby(
        "method", sort=False
    ):
        worked = own[own["error"] == ""]
        rows.append(
            {
                "method": str(method),
                metric: float(means.get(method, np.nan)),
                "cases": int(counts[method]),
                "failed": int((own["error"] != "").sum()),
                "coverage": float(worked["coverage"].mean()),
                "rank": order.get(str(method), np.nan),
                "seconds_per_mpx": float(worked["seconds_per_mpx"].median()),
                "peak_mb": float(worked["peak_mb"].max()),
                "fit_seconds": float(own["fit_seconds"].max()),
                "parameters": int(own["parameters"].max()),
                "trivial": bool(own["trivial"].any()),
            }
        )
    summary = pd.DataFrame(rows)
    bad = badness(metric)
    summary["front"] = on_front(
        [
            CostPoint(seconds, bad(value))
            for seconds, value in zip(
                summary["seconds_per_mpx"], summary[metric], strict=True
            )
        ]
    )
    key = summary[metric].map(bad)
    return summary.loc[key.sort_values(kind="stable").index].reset_index(drop=True)


def ranked(table: pd.DataFrame, metric: str) -> Ranks:
    """Ranks over the methods that have scores on as many cases as any, and these cases.

    Raises:
        ParameterError: Fewer than two methods have.
    """
    wide = score_by_case(table, metric)
    counts = wide.notna().sum()
    known = counts.index[counts == counts.max()]
    cases = wide[known].dropna().index
    return ranks(table[table["case"].isin(cases)], metric)


def cost_points(summary: pd.DataFrame, metric: str = "rmse") -> dict[str, CostPoint]:
    """Methods for the figure of cost and error.

    Args:
        summary: Of `by_method`.
        metric: Its metric; where high is good, the figure shows its negative.
    """
    bad = badness(metric)
    return {
        str(row["method"]): CostPoint(
            row["seconds_per_mpx"], bad(row[metric]), int(row["parameters"])
        )
        for row in summary.to_dict("records")
    }


def suite_page(
    table: pd.DataFrame,
    *,
    metric: str = "rmse",
    found: pd.DataFrame | None = None,
    command: str = "",
    about: Sequence[str] = (),
) -> str:
    """A page of text about a comparison, in Markdown.

    Args:
        table: Of `compare`.
        metric: The metric that methods are ranked by.
        found: Of `differences`.
        command: What makes the same table.
        about: Lines that say where the cases come from, and how they were divided.

    Raises:
        UnknownNameError: The table has no such metric.
    """
    summary = by_method(table, metric)
    lines = ["# Comparison of methods", "", *about, ""]
    lines += [_winner(summary, metric), ""]
    lines += _rank_lines(table, metric)
    heads = ["method", metric, "cases", "rank", "coverage", "s / Mpx", "peak MB"]
    heads += ["fit s", "parameters", "front"]
    rows = [
        [
            str(row["method"]) + (" (trivial)" if row["trivial"] else ""),
            number(row[metric]),
            f"{row['cases']}" + (f", {row['failed']} failed" if row["failed"] else ""),
            number(row["rank"]),
            MISSING if math.isnan(row["coverage"]) else percent(row["coverage"]),
            number(row["seconds_per_mpx"]),
            number(row["peak_mb"]),
            number(row["fit_seconds"]),
            f"{row['parameters']:,}",
            "yes" if row["front"] else "",
        ]
        for row in summary.to_dict("records")
    ]
    lines += ["## Methods", "", *_markdown(heads, rows), ""]
    lines += [
        f"`{metric}` is the mean over the cases that all ranked methods have. Front: no "
        "other method is both quicker and more accurate.",
        "",
    ]
    if found is not None and len(found):
        against = str(found["against"].iloc[0])
        lines += [f"## Ratio of RMSE to that of {against}", ""]
        heads = ["method", "ratio", "95 % interval", "p (Holm)", "cases", "dates"]
        rows = [
            [
                str(row["method"]),
                number(row["ratio"]),
                f"{number(row['low'])} to {number(row['high'])}",
                number(row["p_holm"], digits=2),
                str(row["cases"]),
                str(row["dates"]),
            ]
            for row in found.sort_values("ratio").to_dict("records")
        ]
        lines += [*_markdown(heads, rows), ""]
        lines += [
            "Below 1: less error. Intervals by a paired bootstrap over dates, and blocks of "
            "their scenes; with one date, over blocks alone.",
            "",
        ]
    failed = table[table["error"] != ""]
    if len(failed):
        lines += ["## What failed", ""]
        rows = [
            [str(row["method"]), str(row["case"]), str(row["error"])]
            for row in failed.to_dict("records")
        ]
        lines += [*_markdown(["method", "case", "why"], rows), ""]
    lines += ["## How to do it again", ""]
    if command:
        lines += ["```", command, "```", ""]
    told = table.iloc[0]
    lines += [f"- {name}: {told[name]}" for name in ORIGIN]
    data = table.drop_duplicates("case")
    lines += [f"- data of {row.case}: {row.data}" for row in data.itertuples()]
    return "\n".join([*lines, ""])


def _winner(summary: pd.DataFrame, metric: str) -> str:
    known = summary[summary[metric].notna()]
    if not len(known):
        return "Nothing could be scored."
    best = known.iloc[0]
    lines = known[known["trivial"]]
    text = f"Best by {metric}: {best['method']}, {number(best[metric])}."
    if len(lines) and not best["trivial"]:
        line = lines.iloc[0]
        text += f" The best trivial line is {line['method']}, {number(line[metric])}."
    elif best["trivial"]:
        text += " It is a trivial line: no method beats it here."
    return text


def _rank_lines(table: pd.DataFrame, metric: str) -> list[str]:
    try:
        found = ranked(table, metric)
    except ParameterError:
        return []
    text = (
        f"Over {found.cases} cases, mean ranks nearer than "
        f"{number(found.critical_difference)} cannot be told apart (Nemenyi, 95 %)"
    )
    text += "." if math.isnan(found.p) else f"; Friedman's p is {number(found.p, 2)}."
    groups = [f"Alike: {', '.join(group)}." for group in found.alike()]
    return [" ".join([text, *groups]), ""]


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table; what would end a cell or begin HTML is escaped."""

    def line(cells: Sequence[str]) -> str:
        clean = [
            cell.replace("\\", "\\\\")
            .replace("|", "\\|")
            .replace("<", "&lt;")
            .replace("\n", " ")
            for cell in cells
        ]
        return f"| {' | '.join(clean)} |"

    return [line(heads), "|---" * len(heads) + "|", *map(line, rows)]
