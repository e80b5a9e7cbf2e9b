r"""Train a learned method on pairs of your own, and save it as a model.

  geofuse train fusion --pairs cases.csv --out my-model \
      --fine-sensor landsat-c2l2 --coarse-sensor modis-mod09a1
  geofuse fuse my-model --pair ...

The table has a row a case: fine_base, coarse_base, base_date, coarse, fine, date; or a row
a file, as geofuse series takes it: kind, path, date. The last dates are held out, or a
strip of the scene where there is one date: training stops when it gets no better there. A
run that was stopped continues when the same command is given again.
"""

import argparse
import contextlib
import dataclasses
import os
import shutil
from typing import Any

from geofuse.cli.fuse import add_reading_arguments
from geofuse.cli.options import add_set_argument

HELP = "predict fine images: learn from pairs"

#: The method that is trained where none is named.
DEFAULT = "mixture-net"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--pairs",
        required=True,
        metavar="TABLE.csv",
        help="cases by fine_base, coarse_base, base_date, coarse, fine, date; or the files "
        "of a series by kind, path, date",
    )
    parser.add_argument(
        "-o", "--out", required=True, metavar="MODEL", help="the folder of the model"
    )
    parser.add_argument(
        "--method", metavar="METHOD", help=f"see geofuse methods ({DEFAULT})"
    )
    parser.add_argument(
        "--from",
        dest="start",
        metavar="MODEL",
        help="a model to go on from, instead of a method",
    )
    add_set_argument(parser)
    parser.add_argument("--steps", type=int, metavar="N", help="most steps of training")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of all that is drawn (0)"
    )
    add_reading_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Train, save the model, and print its card and its scores."""
    from pathlib import Path

    from geofuse.cli.train_files import job_of, open_cases
    from geofuse.cli.training_state import stage_for
    from geofuse.errors import NotFittedError
    from geofuse.rasters.case_table import cases_of_table
    from geofuse.saved import save
    from geofuse.training.holdout import held_out
    from geofuse.training.model_folder import PAGE, check_place
    from geofuse.training.watching import watching

    method = _method(options)
    _check_out(options)
    target = check_place(options.out)
    files = cases_of_table(options.pairs)
    cases = open_cases(options, files)
    for case in cases:
        # That it is not fitted yet is why we are here.
        with contextlib.suppress(NotFittedError):
            method.check(case.inputs)
    held = held_out(cases)
    stage = stage_for(target, job_of(options, files, method))
    with watching(progress=True, folder=stage, validation=held.validation) as watch:
        fitted = method.fit(held.learning, seed=options.seed)
    scores = _scores(fitted, held.validation)
    card = _card(options, fitted, held, watch.histories, scores)
    save(fitted, target, card=card)
    shutil.rmtree(stage, ignore_errors=True)
    print((Path(target) / PAGE).read_text())
    print(f"{options.out}: {_in_words(held, scores)}")
    return 0


def _method(options: argparse.Namespace) -> Any:
    """The method to fit, with what was set.

    Raises:
        ParameterError: It does not learn, or two methods are named.
    """
    from geofuse.cli.methods import method_from, method_with
    from geofuse.errors import ParameterError
    from geofuse.saved import load, name_of

    if options.start and options.method:
        raise ParameterError(
            "expected a method or a model to go on from, found --method "
            f"{options.method} and --from {options.start}; leave one out"
        )
    if options.seed < 0:
        raise ParameterError(f"expected --seed of at least 0, found {options.seed}")
    if options.start:
        method: Any = method_with(load(options.start), options.set, options.start)
    else:
        method = method_from(options.method or DEFAULT, options.set)
    fields = {field.name for field in dataclasses.fields(method)}
    if "weights" not in fields:
        raise ParameterError(
            f"expected a method that learns, found {name_of(method)}, whose kernel is "
            "fixed; see geofuse methods for those with a field weights"
        )
    if options.steps is None:
        return method
    if "training" not in fields:
        raise ParameterError(
            f"expected a method with a field training for --steps, found "
            f"{name_of(method)}; leave out --steps"
        )
    training = dataclasses.replace(method.training, steps=options.steps)
    return dataclasses.replace(method, training=training)


def _check_out(options: argparse.Namespace) -> None:
    """Refuse to write the model over the table."""
    from geofuse.cli.options import check_no_input

    check_no_input([options.out], [options.pairs])


def _scores(fitted: Any, validation: list[Any]) -> dict[str, float]:
    """RMSE of the model and of STARFM over what was held out: means over cases and bands."""
    from geofuse.cli.train_files import middle_of
    from geofuse.evaluation.metrics import score
    from geofuse.spatiotemporal.starfm import STARFM

    found: dict[str, list[float]] = {"RMSE": [], "RMSE of starfm": []}
    for case in map(middle_of, validation):
        images = [
            method.predict(case.inputs, outputs=("reflectance",))["reflectance"].load()
            for method in (fitted, STARFM())
        ]
        valid = (images[0] + images[1]).notnull().all("band")
        for name, image in zip(found, images, strict=True):
            table = score(image, case.reference, metrics=["rmse"], valid=valid)
            bands = table[~table["band"].isin(["mean", "all"])]
            found[name].append(float(bands["value"].mean()))
    means = {name: _mean(values) for name, values in found.items()}
    means["ratio"] = means["RMSE"] / max(means["RMSE of starfm"], 1e-30)
    return {name: value for name, value in means.items() if value == value}


def _mean(values: list[float]) -> float:
    finite = [value for value in values if value == value]
    return sum(finite) / len(finite) if finite else float("nan")


def _card(
    options: argparse.Namespace,
    fitted: Any,
    held: Any,
    histories: list[Any],
    scores: dict[str, float],
) -> Any:
    from geofuse.training.card import Card
    from geofuse.training.checkpoint import read_card

    older = read_card(options.start) if options.start else Card()
    cases = held.learning
    scales = {case.inputs.scale for case in cases} - {None} | set(older.scales)
    bands = dict.fromkeys((*older.bands, *(b for c in cases for b in c.inputs.bands)))
    dates = sorted({str(case.inputs.date) for case in cases})
    data = (
        f"{os.path.basename(options.pairs)}: {len(cases)} cases of {', '.join(dates)}; "
        f"held out: {_held_in_words(held)}"
    )
    if options.start:
        data += f"; before that: {older.data or os.path.basename(options.start)}"
    told = [
        f"{len(history.losses)} steps, {history.ended}; best at step {history.best}, "
        f"{history.skipped} batches skipped"
        for history in histories
    ]
    settings = getattr(fitted, "training", None)
    return Card(
        data=data,
        seed=options.seed,
        training="; ".join(([repr(settings)] if settings else []) + told),
        command=_command(options),
        scales=tuple(sorted(scales)),
        bands=tuple(bands),
        scores=scores,
        limits="judged on dates or places of its own table, by which it may have stopped",
    )


def _command(options: argparse.Namespace) -> str:
    """The command, with files by their names alone."""
    words = ["geofuse train fusion --pairs", os.path.basename(options.pairs)]
    words += ["--out", os.path.basename(os.path.normpath(options.out))]
    if options.start:
        words += ["--from", os.path.basename(os.path.normpath(options.start))]
    else:
        words += ["--method", options.method or DEFAULT]
    for setting in options.set:
        words += ["--set", setting]
    if options.steps is not None:
        words += ["--steps", str(options.steps)]
    return " ".join([*words, "--seed", str(options.seed)])


def _held_in_words(held: Any) -> str:
    learned, dates = (
        {str(case.inputs.date) for case in cases}
        for cases in (held.learning, held.validation)
    )
    return "a strip of each scene" if learned & dates else ", ".join(sorted(dates))


def _in_words(held: Any, scores: dict[str, float]) -> str:
    """The scores in one line."""
    if "ratio" not in scores:
        return "no score, for nothing valid was held out"
    return (
        f"RMSE {scores['RMSE']:.4g} on what was held out ({_held_in_words(held)}); starfm "
        f"{scores['RMSE of starfm']:.4g}, ratio {scores['ratio']:.3f}"
    )
