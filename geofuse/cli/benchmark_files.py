"""From a table of files to a suite of cases, and from a comparison to files to read."""

import argparse
from collections import Counter
from pathlib import Path
from typing import Any


def suite_of(options: argparse.Namespace, path: str, *, prefix: str = "") -> list[Any]:
    """Open the cases of a table, each with a name of its own.

    A name is `base dates > prediction date`, after the site where there is one; where two
    would have one name, the name of the fine file follows.

    Args:
        options: How files are read.
        path: The table.
        prefix: Beginning of every name.
    """
    from geofuse.cli.train_files import open_cases
    from geofuse.evaluation.protocols import SuiteCase
    from geofuse.rasters.case_table import cases_of_table

    files = cases_of_table(path)
    names = [prefix + _name(case) for case in files]
    twice = Counter(names)
    for number, (name, case) in enumerate(zip(names, files, strict=True)):
        if twice[name] > 1:
            names[number] = f"{name}, {Path(case.fine).stem}"
    again = Counter(names)
    names = [
        f"{name}, {number}" if again[name] > 1 else name
        for number, name in enumerate(names, start=1)
    ]
    return [
        SuiteCase(name, case, one.site)
        for name, case, one in zip(
            names, open_cases(options, files), files, strict=True
        )
    ]


def write_results(
    found: Any, folder: Path, options: argparse.Namespace, command: str
) -> str:
    """Write the tables, the picture and the page; what to print.

    Args:
        found: A `Comparison`.
        folder: Where to.
        options: The command.
        command: The command as text.
    """
    from geofuse.errors import ParameterError, UnknownNameError
    from geofuse.evaluation.kept_cases import replace, table_text
    from geofuse.evaluation.statistics import differences
    from geofuse.evaluation.suite_report import by_method, cost_points, suite_page
    from geofuse.plots import cost_figure, png
    from geofuse.rasters.write import writing

    table = found.table
    files = {"table.csv": table_text(table)}
    text = ""
    if (table["error"] == "").any():
        # Of a case that several folds score, the one that learned from most.
        shown = table.drop_duplicates(_KEY, keep="last")
        summary = by_method(shown)
        files["methods.csv"] = table_text(summary)
        if len(shown) < len(table):
            files["learning.csv"] = table_text(_learning_curve(table))
        between = None
        try:
            between = differences(found, options.against, seed=options.seed)
            files["differences.csv"] = table_text(between)
        except UnknownNameError:  # it failed on every case
            pass
        page = suite_page(
            shown, found=between, command=command, about=[_about(shown, options)]
        )
        files["report.md"] = page.encode()
        try:
            figure = cost_figure(
                cost_points(summary), error="RMSE, mean of bands and cases"
            )
            files["cost.png"] = png(figure)
        except ParameterError:  # nothing was timed
            pass
        columns = ["method", "rmse", "cases", "failed", "seconds_per_mpx", "front"]
        text = summary[columns].to_string(
            index=False, float_format=lambda value: f"{value:.4g}"
        )
    else:
        whys = dict.fromkeys(str(why) for why in table["error"])
        text = "nothing could be scored: " + "; ".join(whys)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            replace(folder / name, content)
    return f"{text}\n{folder / ('report.md' if 'report.md' in files else 'table.csv')}"


def write_page(folder: Path, name: str, case: Any, images: Any, table: Any) -> None:
    """Write the page of a case, with pictures of all predictions.

    Args:
        folder: Folder of the results.
        name: Name of the case.
        case: The case.
        images: Predictions by method.
        table: Its scores.
    """
    from geofuse import plots
    from geofuse.evaluation.kept_cases import replace
    from geofuse.evaluation.outside import file_name
    from geofuse.evaluation.report import Result, page
    from geofuse.rasters.write import writing

    if not images:
        return
    results = []
    for method, image in images.items():
        rows = table[(table["method"] == method) & (table["slice"] == "")]
        first = rows.iloc[0]
        results.append(
            Result(
                method,
                image,
                rows,
                method=first["configuration"],
                seconds=float(first["predict_seconds"]),
                trivial=bool(first["trivial"]),
            )
        )
    inputs = {}
    for pair in case.inputs.pairs:
        inputs[f"fine, {pair.date}"] = pair.fine
        inputs[f"coarse, {pair.date}"] = pair.coarse
    inputs[f"coarse, {case.inputs.date}"] = case.inputs.coarse
    views = {key: plots.decimated(image) for key, image in inputs.items()}
    text = page(results, inputs=views, reference=case.reference, title=name)
    path = folder / "pages" / f"{file_name(name)}.html"
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, text.encode())


#: What makes a row of a comparison one of a kind, whatever the fold.
_KEY = ["method", "case", "slice", "group", "band", "metric"]


def _name(case: Any) -> str:
    bases = " ".join(pair.date for pair in case.pairs)
    words = f"{bases} > {case.date}"
    return f"{case.site} {words}" if case.site else words


def _learning_curve(table: Any) -> Any:
    """Mean RMSE of each method by how much was learned from."""
    rows = table[
        (table["metric"] == "rmse") & (table["band"] == "mean") & (table["slice"] == "")
    ]
    groups = rows.groupby(["method", "learned"], sort=False)["value"]
    return groups.agg(rmse="mean", cases="count").reset_index()


def _about(table: Any, options: argparse.Namespace) -> str:
    count = table["case"].nunique()
    text = f"{count} case{'s' if count > 1 else ''} of {Path(options.cases).name}"
    if options.protocol:
        text += f", divided by {options.protocol}"
    elif options.train:
        text += f"; methods that learn were fitted on {Path(options.train).name}"
    return text + "."
