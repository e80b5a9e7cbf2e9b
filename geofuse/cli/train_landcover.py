r"""Learn to map classes from several modalities, and save that as a model.

  geofuse train landcover --modality s2=S2.tif --modality s1=S1.tif --labels fields.gpkg \
      --column crop --sensor s2=sentinel2-l2a --bands s1=vv,vh --out crops
  geofuse train landcover --scenes scenes.csv --out crops --method intermediate-fusion
  geofuse classify crops --modality s2=OTHER_S2.tif -o map.tif

Labels are a raster of codes, or polygons or points with a column of names or codes. A fifth
of the blocks of ground is held out: the scores are of those. A training of networks that
was stopped continues when the same command is given again.
"""

import argparse
import os
import shutil
from typing import Any

from geofuse.cli.options import add_set_argument, check_no_input
from geofuse.cli.scene_files import SceneFiles, add_scene_arguments, scenes_of

HELP = "map classes: learn from labels"

#: The classifier that is trained where none is named.
DEFAULT = "early-fusion"

#: Blocks are held out for the scores by another draw than those a classifier stops by.
_OUTER_SEED = 104_729


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_scene_arguments(parser, "labels")
    parser.add_argument(
        "--labels", metavar="FILE", help="codes of classes in a raster, or vectors"
    )
    parser.add_argument(
        "--column", metavar="NAME", help="of vectors: the column that names the class"
    )
    parser.add_argument(
        "--legend",
        metavar="CODE=NAME,…",
        help="classes and their codes; by default what the labels say",
    )
    parser.add_argument(
        "-o", "--out", required=True, metavar="MODEL", help="the folder of the model"
    )
    parser.add_argument(
        "--method",
        default=DEFAULT,
        metavar="METHOD",
        help=f"early-fusion, early-network, intermediate-fusion, late-fusion ({DEFAULT})",
    )
    add_set_argument(parser)
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of all that is drawn (0)"
    )


def run(options: argparse.Namespace) -> int:
    """Train, save the model, and print its card."""
    from geofuse.cli.methods import method_from
    from geofuse.errors import ParameterError
    from geofuse.landcover import CLASSIFIERS
    from geofuse.landcover.held_out import held_out
    from geofuse.saved import save
    from geofuse.training.model_folder import PAGE, check_place
    from geofuse.training.watching import watching

    if options.seed < 0:
        raise ParameterError(f"expected --seed of at least 0, found {options.seed}")
    classifier = method_from(options.method, options.set, CLASSIFIERS)
    scenes = scenes_of(options, "labels", options.labels, "--labels")
    read = [path for scene in scenes for path in (*scene.images.values(), scene.other)]
    check_no_input(
        [options.out], [*read, *([options.scenes] if options.scenes else [])]
    )
    target = check_place(options.out)
    cases = _cases(scenes, options)
    held = held_out(cases, seed=options.seed + _OUTER_SEED)
    stage = _stage(target, options, read)
    with watching(progress=True, folder=stage) as watch:
        fitted = classifier.fit(held.learning, seed=options.seed)
    accuracy = _accuracy(fitted, held.validation)
    save(fitted, target, card=_card(options, fitted, cases, watch.histories, accuracy))
    shutil.rmtree(stage, ignore_errors=True)
    print((target / PAGE).read_text())
    print(f"{options.out}: {_in_words(accuracy)}")
    return 0


def _cases(scenes: list[SceneFiles], options: argparse.Namespace) -> list[Any]:
    """Open images and labels; all scenes have one legend."""
    from geofuse.cli.modality_files import open_modalities
    from geofuse.errors import ParameterError
    from geofuse.landcover.case import LandCoverCase
    from geofuse.rasters.labels import legend_in, open_labels

    legend = legend_from(options.legend)
    cases: list[Any] = []
    for scene in scenes:
        images = open_modalities(scene.images, options)
        labels = open_labels(
            scene.other,
            like=next(iter(images.values())),
            legend=legend,
            column=options.column,
        )
        if legend is None and len(scenes) > 1:
            legend = legend_in(labels)
        cases.append(LandCoverCase(images, labels))
        if cases and legend_in(labels) != legend_in(cases[0].labels):
            raise ParameterError(
                f"expected one legend in all scenes, found another in {scene.other}; "
                "give it with --legend 1=water,2=crops"
            )
    return cases


def legend_from(text: str | None) -> Any:
    """A legend from `CODE=NAME,…`; None where nothing is given.

    Raises:
        ParameterError: It is not of that form.

    >>> legend_from("1=water,4=crops").codes
    (1, 4)
    """
    from geofuse.errors import ParameterError
    from geofuse.rasters.legend import Legend

    if text is None:
        return None
    pairs = [part.split("=", 1) for part in text.split(",")]
    if not all(len(pair) == 2 and pair[0].strip().isdigit() for pair in pairs):
        raise ParameterError(
            f"expected --legend CODE=NAME,…, found {text!r}; for example 1=water,4=crops"
        )
    return Legend(
        tuple(name.strip() for _, name in pairs), tuple(int(code) for code, _ in pairs)
    )


def _stage(target: Any, options: argparse.Namespace, read: list[str]) -> Any:
    """The folder beside the model where trainings keep their state."""
    from dask.base import tokenize

    from geofuse.cli.training_state import stage_for

    told = {
        name: value
        for name, value in vars(options).items()
        if name not in ("out", "run", "run_task")
    }
    marks = [
        (path, os.stat(path).st_size, os.stat(path).st_mtime_ns)
        for path in sorted(read)
        if os.path.exists(path)
    ]
    return stage_for(target, tokenize(told, marks))


def _accuracy(fitted: Any, validation: list[Any]) -> Any:
    """How well the model maps what was held out."""
    from geofuse.evaluation.accuracy import confusion, merged

    return merged(
        [
            confusion(
                fitted.predict(case.images, outputs=("land_cover",))["land_cover"],
                case.labels,
                fitted.classes,
            )
            for case in validation
        ]
    ).accuracy()


def _in_words(accuracy: Any) -> str:
    """The scores in one line."""
    if not accuracy.support.sum():
        return "no score, for no block with labels was held out"
    return (
        f"overall accuracy {100 * accuracy.overall:.1f} %, mean over classes "
        f"{100 * accuracy.average:.1f} %, kappa {accuracy.kappa:.3f} on "
        f"{accuracy.support.sum()} pixels of blocks held out"
    )


def _scores(accuracy: Any) -> dict[str, float]:
    """The scores for the card: those of the whole map, and F1 by class."""
    told = {
        "overall accuracy": accuracy.overall,
        "mean producer's accuracy": accuracy.average,
        "kappa": accuracy.kappa,
        **{
            f"F1 of {name}": value
            for name, value in zip(accuracy.names, accuracy.f1, strict=True)
        },
    }
    return {name: float(value) for name, value in told.items() if value == value}


def _card(
    options: argparse.Namespace,
    fitted: Any,
    cases: list[Any],
    histories: list[Any],
    accuracy: Any,
) -> Any:
    from geofuse.training.card import Card

    modalities = "; ".join(
        f"{modality.name}: {', '.join(modality.bands)}"
        for modality in fitted.modalities
    )
    told = [
        f"{len(history.losses)} steps, {history.ended}; best at step {history.best}"
        for history in histories
    ]
    return Card(
        data=f"{len(cases)} scenes; {modalities}; classes: "
        f"{', '.join(fitted.classes.names)}",
        seed=options.seed,
        training="; ".join(told),
        command=_command(options),
        bands=tuple(band for one in fitted.modalities for band in one.bands),
        scores=_scores(accuracy),
        limits="judged on blocks of its own scenes, near those it learned from",
    )


def _command(options: argparse.Namespace) -> str:
    """The command, with files by their names alone."""
    base = os.path.basename
    words = ["geofuse train landcover"]
    for text in options.modality:
        name, _, path = text.partition("=")
        words.append(f"--modality {name}={base(path)}")
    for option in ("scenes", "labels"):
        if getattr(options, option):
            words.append(f"--{option} {base(getattr(options, option))}")
    for option in ("sensor", "bands", "unit", "set"):
        words += [f"--{option} {value}" for value in getattr(options, option)]
    words += [f"--method {options.method}", f"--seed {options.seed}"]
    return " ".join([*words, f"--out {base(os.path.normpath(options.out))}"])
