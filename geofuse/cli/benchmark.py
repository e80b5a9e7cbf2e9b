r"""Compare methods on scenes of your own: one table, a page, a picture of cost.

  geofuse benchmark --cases cases.csv --methods "starfm(radius=25),fit-fc" \
      --fine-sensor landsat-c2l2 --coarse-sensor modis-mod09a1 -o DIR

The table has a row a case: fine_base, coarse_base, base_date, coarse, fine, date, and site
where there are several; or a row a file: kind, path, date. All methods are scored on the
same pixels, beside both trivial baselines; nothing is clipped. Methods that learn are fitted
on --train, or fold by fold with --protocol; what is scored must not be among what is learned
from. Other programs take part with --predictions NAME=FOLDER, a GeoTIFF a case, or with
--program NAME="tool {fine_0} {coarse_0} {coarse} {out}". A run that was stopped continues
when the same command is given again.

Into the folder go table.csv, methods.csv, differences.csv, cost.png, report.md, and a page
of pictures for each case in pages/.
"""

import argparse
import os
import shlex
import sys
from typing import Any

from geofuse.cli.fuse import add_reading_arguments
from geofuse.cli.options import listed

HELP = "compare methods on scenes of your own"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--cases", required=True, metavar="TABLE.csv", help="cases to score methods on"
    )
    parser.add_argument(
        "--methods",
        required=True,
        metavar="a,b(field=1)",
        help="see geofuse methods; or folders of models",
    )
    parser.add_argument(
        "-o", "--out", required=True, metavar="DIR", help="the folder of the results"
    )
    parser.add_argument(
        "--train", metavar="TABLE.csv", help="cases to fit methods on that learn"
    )
    parser.add_argument(
        "--validation", metavar="TABLE.csv", help="cases by which trainings end"
    )
    parser.add_argument(
        "--protocol",
        metavar="P",
        help="divide --cases fold by fold: leave-date-out, leave-site-out, "
        "leave-strip-out, one-pair-consecutive, learning-curve",
    )
    parser.add_argument(
        "--as-they-are", metavar="a,…", help="methods that are not to be fitted"
    )
    parser.add_argument(
        "--predictions",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="predictions of another program, CASE.tif each",
    )
    parser.add_argument(
        "--program",
        action="append",
        default=[],
        metavar="NAME=WORDS",
        help="another program to run for each case",
    )
    parser.add_argument(
        "--metrics", metavar="rmse,…", help="metrics; rmse is always there"
    )
    parser.add_argument(
        "--slices", metavar="change,edge,class", help="score parts of the pixels, too"
    )
    parser.add_argument(
        "--against",
        default="persistence",
        metavar="METHOD",
        help="the method that differences are to (persistence)",
    )
    parser.add_argument(
        "--cases-at-a-time",
        type=int,
        default=1,
        metavar="N",
        help="as memory allows (1)",
    )
    parser.add_argument(
        "--no-pages", action="store_true", help="leave out the pages with pictures"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of all that is drawn (0)"
    )
    add_reading_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Compare, and write the table, the page and the picture."""
    from pathlib import Path

    from geofuse.cli.benchmark_files import suite_of, write_results
    from geofuse.errors import ParameterError, UnknownNameError, did_you_mean
    from geofuse.evaluation.comparison import (
        DEFAULT_METRICS,
        comparison_of,
        with_baselines,
    )
    from geofuse.evaluation.metrics import metric_of
    from geofuse.evaluation.protocols import PROTOCOLS, compare_folds
    from geofuse.evaluation.slices import SLICES

    methods = with_baselines(methods_of(options))
    if options.against not in methods:
        raise UnknownNameError(
            f"expected a method of the comparison for --against, found "
            f"{options.against!r}; {did_you_mean(options.against, methods)}"
        )
    metrics = [metric_of(name) for name in listed(options.metrics) or []]
    metrics = metrics or list(DEFAULT_METRICS)
    if "rmse" not in [metric.name for metric in metrics]:
        metrics.insert(0, metric_of("rmse"))
    slices = _chosen(SLICES, options.slices, "slice")
    protocols = _chosen(PROTOCOLS, options.protocol, "protocol")
    if protocols and (options.train or options.validation or len(protocols) > 1):
        raise ParameterError(
            "expected one --protocol, or --train with --validation, found both; a protocol "
            "divides --cases by itself"
        )
    folder = Path(options.out)
    _check_folder(options, folder)
    suite = suite_of(options, options.cases)
    shared: dict[str, Any] = {
        "metrics": metrics,
        "slices": slices,
        "seed": options.seed,
        "as_they_are": listed(options.as_they_are) or [],
        "workers": options.cases_at_a_time,
        "look": None if options.no_pages else _pages(folder),
        "folder": folder,
        "progress": _told,
    }
    if protocols:
        (protocol,) = protocols.values()
        found = compare_folds(methods, protocol.folds(suite), **shared)
    else:
        train, validation = (
            suite_of(options, path, prefix=prefix) if path else []
            for prefix, path in (
                ("train ", options.train),
                ("end ", options.validation),
            )
        )
        every = [*suite, *train, *validation]
        found = comparison_of(
            methods,
            train={case.name: case.case for case in train},
            validation={case.name: case.case for case in validation},
            test={case.name: case.case for case in suite},
            sites={case.name: case.site for case in every if case.site},
            **shared,
        )
    print(write_results(found, folder, options, command_of(options)))
    return 0


def methods_of(options: argparse.Namespace) -> dict[str, Any]:
    """The methods of the command by name: of geofuse, models, and other programs.

    Raises:
        UnknownNameError: There is no method, model or field of that name.
        ParameterError: Two have one name, or an option is not NAME=….
    """
    import re

    from geofuse.cli.methods import method_or_model, methods_from
    from geofuse.errors import ParameterError
    from geofuse.evaluation.outside import FromCommand, FromFolder

    named: list[tuple[str, Any]] = []
    for words in re.findall(r"(?:[^,()]|\([^()]*\))+|[()]", options.methods):
        text = words.strip()
        if "(" in text or ")" in text:
            named += [(text, method) for method in methods_from(text)]
        elif text:
            name = os.path.basename(os.path.normpath(text))
            named.append((name, method_or_model(text, [])))
    for text in options.predictions:
        name, folder = _named(text, "--predictions NAME=FOLDER")
        if not os.path.isdir(folder):
            raise ParameterError(
                f"expected a folder of predictions for {name}, found none at {folder}"
            )
        named.append((name, FromFolder(folder)))
    for text in options.program:
        name, words = _named(text, "--program NAME=WORDS")
        named.append((name, FromCommand(tuple(shlex.split(words)))))
    names = [name for name, _ in named]
    if len(set(names)) < len(names):
        raise ParameterError(
            f"expected each method once, found {', '.join(names)}; leave one out"
        )
    return dict(named)


def command_of(options: argparse.Namespace) -> str:
    """The command, for a shell, with what differs from the defaults."""
    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser)
    words = ["geofuse", "benchmark"]
    for action in parser._actions:
        value = getattr(options, action.dest)
        if value == action.default or value is None:
            continue
        option = action.option_strings[-1]
        if value is True:
            words.append(option)
            continue
        repeated = action.__class__.__name__ == "_AppendAction"
        for one in value if repeated else [value]:
            parts = one if isinstance(one, list | tuple) else [one]
            words += [option, *map(str, parts)]
    return shlex.join(words)


def _named(text: str, form: str) -> tuple[str, str]:
    from geofuse.errors import ParameterError

    name, equals, rest = text.partition("=")
    if not equals or not name.strip() or not rest.strip():
        raise ParameterError(f"expected {form}, found {text!r}")
    return name.strip(), rest.strip()


def _chosen(known: dict[str, Any], text: str | None, what: str) -> dict[str, Any]:
    from geofuse.errors import UnknownNameError, did_you_mean

    names = listed(text) or []
    for name in names:
        if name not in known:
            raise UnknownNameError(
                f"expected a {what}, found {name!r}; {did_you_mean(name, known)}"
            )
    return {name: known[name] for name in names}


def _check_folder(options: argparse.Namespace, folder: Any) -> None:
    """Refuse to write among the inputs, or into a file."""
    from geofuse.cli.options import check_no_input
    from geofuse.errors import ParameterError

    tables = [p for p in (options.cases, options.train, options.validation) if p]
    written = [str(folder / name) for name in ("table.csv", "methods.csv")]
    check_no_input([*written, str(folder)], tables)
    if folder.exists() and not folder.is_dir():
        raise ParameterError(
            f"expected a folder, found the file {folder}; choose another"
        )


def _pages(folder: Any) -> Any:
    from functools import partial

    from geofuse.cli.benchmark_files import write_page

    return partial(write_page, folder)


def _told(done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done} of {total} cases", end="", file=sys.stderr, flush=True)
        if done == total:
            print(file=sys.stderr)
