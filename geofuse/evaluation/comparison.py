"""Compare methods fairly, case by case: one tidy table, and nothing averaged away.

    table = compare(methods, train=…, test=…, metrics=(RMSE, SAM), seed=0)

          method      case  band metric   value  predict_seconds …
    0 persistence  farmland   red   rmse  0.0612             0.31

What is fair about it:

* references never reach a method; a leak of them into what is learned stops the run;
* both trivial baselines are always rows of the table;
* all methods are scored on the same pixels of a case, and nothing is clipped;
* a method that fails has a row that says why, and the others go on;
* each row says what it depends on: data, seed, source, versions, class of machine.

With a folder, cases that are done are kept, and the same call continues where it was.
"""

import functools
import math
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from geofuse.errors import LeakError, ParameterError, UnknownNameError, did_you_mean
from geofuse.evaluation.bootstrap import BlockErrors
from geofuse.evaluation.case_scores import (
    SCRATCH,
    CaseScores,
    Look,
    Method,
    Slice,
    failed_case,
    score_case,
)
from geofuse.evaluation.cost import available_mb
from geofuse.evaluation.fitting import Fitted, fit_all, halo_of
from geofuse.evaluation.kept_cases import (
    digest_of_text,
    read_case,
    replace,
    table_text,
    write_case,
)
from geofuse.evaluation.leaks import check_leaks
from geofuse.evaluation.means import Metric
from geofuse.evaluation.metrics import BIAS, RMSE, SAM, SSIM, R, metric_of
from geofuse.evaluation.origin import case_digest, origin
from geofuse.evaluation.outside import OutsideMethod
from geofuse.pairs import FusionCase
from geofuse.rasters.write import alone, writing
from geofuse.spatiotemporal.baselines import CoarseChange, Persistence
from geofuse.spatiotemporal.method import FusionMethod

#: Metrics of a comparison where none are named.
DEFAULT_METRICS: tuple[Metric, ...] = (RMSE, BIAS, R, SSIM, SAM)

#: Added to every comparison: what a method must beat.
BASELINES: dict[str, FusionMethod] = {
    "persistence": Persistence(),
    "coarse-change": CoarseChange(),
}

#: Side of a tile in pixels, and copies of its window that are held at once.
_TILE, _COPIES = 512, 6

#: Columns that differ from run to run: all others are the same for the same seed.
MEASURED = ("fit_seconds", "predict_seconds", "seconds_per_mpx", "peak_mb", "timing")


@dataclass(frozen=True, eq=False)
class Comparison:
    """What came of a comparison.

    Attributes:
        table: One row a method, case, slice, group, band and metric; see `compare`.
        errors: Case -> method -> squared errors by block, for intervals.
    """

    table: pd.DataFrame
    errors: dict[str, dict[str, BlockErrors]] = field(default_factory=dict)


def compare(
    methods: Mapping[str, Method],
    *,
    train: Mapping[str, FusionCase] | None = None,
    test: Mapping[str, FusionCase],
    metrics: Sequence[Metric | str] = DEFAULT_METRICS,
    seed: int = 0,
    folder: str | Path | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Score methods on cases, as one tidy table.

    Args:
        methods: Methods by the name to show: of geofuse, or `OutsideMethod`. Persistence
            and coarse change are added unless there already.
        train: Cases to fit methods on, by name; where there are none, methods are taken as
            they are.
        test: Cases to score methods on, by name.
        metrics: Metrics or their names.
        seed: Of all that is drawn when methods are fitted.
        folder: Where to keep cases that are done; made if missing. The same call continues
            there, and the table is written to `table.csv` in it.
        **options: See `comparison_of`.

    Returns:
        One row a method, case, slice, group, band and metric. Columns: those of a score
        (`metric`, `band`, `value`, `pixels`, `detail`), `date` and `lag` (days to the
        nearest base date), `coverage` (share of the reference's pixels that the method
        predicts; only those of all methods count), `fit_seconds`, `predict_seconds`,
        `seconds_per_mpx` (whole image, with writing it, without reading what it is made
        of), `peak_mb` (on top of what was held before), `timing` (whether it was compiled
        before, and alone), `parameters`, `error` (why there is no value: then this is the
        only row of the method and the case), and what the row depends on: `configuration`,
        `seed`, `data`, `commit`, `source`, `versions`, ….

    Raises:
        ParameterError: There is no method or no test case, or a value is out of range.
        UnknownNameError: There is no metric of that name.
        LeakError: What is scored has reached what is learned from.
        WriteError: The folder cannot be written.
        LockedError: Another run works in the folder.

    >>> from geofuse import BandLine
    >>> from geofuse.synthetic import simulate_case
    >>> cases = {"farmland": simulate_case(32, scale=8, bands=["red"])}
    >>> table = compare({"line": BandLine()}, test=cases, metrics=["rmse"])
    >>> table[table["band"] == "red"][["method", "case", "metric", "pixels"]]
              method      case metric  pixels
    0           line  farmland   rmse    1024
    3    persistence  farmland   rmse    1024
    6  coarse-change  farmland   rmse    1024
    """
    return comparison_of(
        methods,
        train=train,
        test=test,
        metrics=metrics,
        seed=seed,
        folder=folder,
        **options,
    ).table


def comparison_of(
    methods: Mapping[str, Method],
    *,
    train: Mapping[str, FusionCase] | None = None,
    validation: Mapping[str, FusionCase] | None = None,
    test: Mapping[str, FusionCase],
    metrics: Sequence[Metric | str] = DEFAULT_METRICS,
    seed: int = 0,
    folder: str | Path | None = None,
    sites: Mapping[str, str] | None = None,
    slices: Mapping[str, Slice] | None = None,
    halo: int | None = None,
    as_they_are: Collection[str] = (),
    warm: bool = True,
    workers: int = 1,
    look: Look | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Comparison:
    """Score methods on cases: the table of `compare`, and errors by block.

    Args:
        methods: As `compare`.
        train: As `compare`.
        validation: Cases by which methods that learn end their training; by default they
            hold some of `train` out.
        test: As `compare`.
        metrics: As `compare`.
        seed: As `compare`.
        folder: As `compare`.
        sites: Name of a case -> name of its ground, for `find_leaks` and for the table.
        slices: Name -> what makes a class image of a case, by which it is scored, too; see
            `geofuse.evaluation.slices`.
        halo: Nothing within so many fine pixels of a test reference may be learned from on
            its date; by default as far as the methods look that learn.
        as_they_are: Names of methods that are not fitted although there is `train`.
        warm: Whether a tile is computed before the clock starts, so that seconds are
            without compiling.
        workers: Cases at a time, if memory allows; above 1, seconds are those of a busy
            machine, and memory is not measured.
        look: Called with each case that is scored in this run, before its predictions are
            gone.
        progress: Called with the cases done and in all.

    Raises:
        ParameterError: As `compare`.
        UnknownNameError: As `compare`.
        LeakError: As `compare`.
        WriteError: As `compare`.
        LockedError: As `compare`.
    """
    train, validation = dict(train or {}), dict(validation or {})
    chosen = [metric_of(metric) for metric in metrics]
    _check(methods, train, test, chosen, seed, workers, as_they_are)
    methods = with_baselines(methods)
    if halo is None:
        halo = max([0, *(halo_of(method) for method in methods.values())])
    check_leaks(train, validation, test, halo, sites=sites)
    constant = {"seed": seed, **origin()}
    data = {name: case_digest(case) for name, case in test.items()}
    job = [case_digest(c) for part in (train, validation) for c in (*part.values(),)]
    told = f"{job} {len(train)} {sorted(as_they_are)} {constant} {_named(chosen)}"
    keys = {
        name: _key(name, case, data[name], methods, slices or {}, told)
        for name, case in test.items()
    }
    with ExitStack() as stack:
        place = None if folder is None else _entered(stack, Path(folder))
        done: dict[str, CaseScores] = {}
        for name, key in keys.items():
            kept = None if place is None else read_case(place, name, key)
            if kept is not None:
                done[name] = kept
        missing = {name: case for name, case in test.items() if name not in done}
        progress(len(done), len(test))
        if missing:
            fitted = fit_all(
                methods,
                train,
                validation,
                seed=seed,
                job=f"{job} {len(train)} {constant}",
                as_they_are=as_they_are,
                folder=place,
            )
            workers = min(workers, len(missing), affordable(methods, missing))
            run = functools.partial(
                _scored,
                fitted=fitted,
                metrics=chosen,
                slices=slices,
                warm=warm,
                alone=workers == 1,
                scratch=place,
                look=look,
            )
            for name, scores, whole in _each(run, missing, workers):
                # What could not be scored at all is tried again next time.
                if place and whole:
                    write_case(place, name, keys[name], scores)
                done[name] = scores
                progress(len(done), len(test))
        table = pd.concat(
            [
                done[name].table.assign(
                    site=(sites or {}).get(name, ""), data=data[name], **constant
                )
                for name in test
            ],
            ignore_index=True,
        )
        if place:
            with writing(place):
                replace(place / "table.csv", table_text(table))
    return Comparison(table, {name: done[name].errors for name in test})


def with_baselines(methods: Mapping[str, Method]) -> dict[str, Method]:
    """Methods and both trivial baselines, where there is none of that kind yet.

    Args:
        methods: Methods by name.

    Raises:
        ParameterError: The name of a baseline is that of another method.
    """
    every = dict(methods)
    kinds = {type(method) for method in methods.values()}
    for name, baseline in BASELINES.items():
        if type(baseline) in kinds:
            continue
        if name in every:
            raise ParameterError(
                f"expected the name {name!r} for the trivial baseline, found "
                f"{every[name]!r}; call it something else"
            )
        every[name] = baseline
    return every


def affordable(methods: Mapping[str, Method], cases: Mapping[str, FusionCase]) -> int:
    """How many cases can be predicted side by side in the memory that is free.

    Args:
        methods: Methods by name.
        cases: Cases by name.
    """
    free = available_mb()
    if math.isnan(free):
        return len(cases)
    halo = max(m.halo if isinstance(m, FusionMethod) else 0 for m in methods.values())
    most = 1.0
    for case in cases.values():
        rows, columns = (min(n, _TILE) + 2 * halo for n in case.reference.shape[1:])
        images = (2 * len(case.inputs.pairs) + 1) * len(case.inputs.bands)
        threads = os.cpu_count() or 1
        most = max(most, rows * columns * images * 4 * _COPIES * threads / 2**20)
    return max(int(free / 2 / most), 1)


def _check(
    methods: Mapping[str, Method],
    train: Mapping[str, FusionCase],
    test: Mapping[str, FusionCase],
    metrics: Sequence[Metric],
    seed: int,
    workers: int,
    as_they_are: Collection[str],
) -> None:
    """Refuse what cannot be compared."""
    for name, things in (
        ("method", methods),
        ("test case", test),
        ("metric", metrics),
    ):
        if not things:
            raise ParameterError(
                f"expected at least one {name}, found none; a comparison needs one"
            )
    if seed < 0 or workers < 1:
        raise ParameterError(
            f"expected a seed of at least 0 and at least 1 worker, found seed={seed}, "
            f"workers={workers}"
        )
    for name in as_they_are:
        if name not in methods:
            raise UnknownNameError(
                f"expected the name of a method in as_they_are, found {name!r}; "
                f"{did_you_mean(name, methods)}"
            )
    twice = sorted(set(train) & set(test))
    if twice:
        raise LeakError(
            f"expected cases to learn from and to test on with names of their own, found "
            f"{', '.join(twice)} in both; leave them out of one, or rename them"
        )


def _entered(stack: ExitStack, folder: Path) -> Path:
    """The folder of a run, made and held alone."""
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        stack.enter_context(alone(folder, folder))
    # What a run that was killed has left.
    for left in folder.glob(f"{SCRATCH}*"):
        shutil.rmtree(left, ignore_errors=True)
    return folder


def _key(
    name: str,
    case: FusionCase,
    data: str,
    methods: Mapping[str, Method],
    slices: Mapping[str, Slice],
    told: str,
) -> str:
    """What the scores of a case depend on."""
    states = [
        (
            key,
            repr(m),
            m.state(name, case.inputs) if isinstance(m, OutsideMethod) else "",
        )
        for key, m in methods.items()
    ]
    return digest_of_text(f"{name} {data} {states} {_named(slices.values())} {told}")


def _named(things: Iterable[Any]) -> list[str]:
    """Metrics and functions, by what stays the same from run to run."""
    names = []
    for thing in things:
        if isinstance(thing, Metric):
            parts = (thing.name, thing.statistics, thing.formula, thing.halo)
            names.append(" ".join(_qualified(part) for part in parts))
        else:
            names.append(_qualified(thing))
    return names


def _qualified(thing: Any) -> str:
    if isinstance(thing, functools.partial):
        return f"{_qualified(thing.func)} {thing.args} {sorted(thing.keywords.items())}"
    if callable(thing) and hasattr(thing, "__qualname__"):
        return f"{thing.__module__}.{thing.__qualname__}"
    return repr(thing)


def _scored(
    name: str, case: FusionCase, *, fitted: Fitted, **options: Any
) -> tuple[CaseScores, bool]:
    """The scores of a case, and whether it could be scored at all."""
    try:
        return score_case(
            name, case, fitted.methods, fit_seconds=fitted.seconds, **options
        ), True
    except Exception as error:  # the rows of this case tell it, and others go on
        return failed_case(name, case, fitted.methods, error), False


def _each(
    run: Callable[[str, FusionCase], tuple[CaseScores, bool]],
    cases: Mapping[str, FusionCase],
    workers: int,
) -> Iterator[tuple[str, CaseScores, bool]]:
    """The scores of cases, as they are done."""
    if workers == 1:
        for name, case in cases.items():
            yield name, *run(name, case)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting = {pool.submit(run, name, case): name for name, case in cases.items()}
        try:
            for future in as_completed(waiting):
                yield waiting[future], *future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
