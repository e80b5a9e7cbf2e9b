"""Fit the methods of a comparison, each once, on what may be learned from.

With a folder, a training that was stopped goes on from its last state, and a method of
geofuse that is fitted is kept as a model, so that a run that is continued need not learn
again. A method whose fitting fails has no prediction; its rows say why.
"""

import contextlib
import json
import math
import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import xarray as xr
from typing_extensions import override

from geofuse.errors import GeofuseError, NotFittedError
from geofuse.evaluation.case_scores import Method, in_words
from geofuse.evaluation.kept_cases import digest_of_text, replace, slug
from geofuse.evaluation.outside import OutsideMethod
from geofuse.pairs import FusionCase, FusionInputs
from geofuse.rasters.write import writing
from geofuse.saved import load, save
from geofuse.spatiotemporal import ALL_METHODS
from geofuse.spatiotemporal.method import FixedMethod, FusionMethod
from geofuse.training.watching import watching


@dataclass(frozen=True, eq=False)
class Fitted:
    """Methods that are ready to predict, or that say why they are not.

    Attributes:
        methods: By name.
        seconds: How long fitting took; NaN for those that were not fitted.
    """

    methods: dict[str, Method] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, repr=False)
class NotFitted(OutsideMethod):
    """A method whose fitting failed: it says so for every case.

    Args:
        method: The method.
        why: Its error, in words.
    """

    method: FusionMethod
    why: str

    def __repr__(self) -> str:
        return repr(self.method)

    @override
    def image(self, case: str, inputs: FusionInputs, folder: Path) -> xr.DataArray:
        raise NotFittedError(f"fitting failed: {self.why}")

    @override
    def state(self, case: str, inputs: FusionInputs) -> str:
        return ""


def fit_all(
    methods: Mapping[str, Method],
    train: Mapping[str, FusionCase],
    validation: Mapping[str, FusionCase],
    *,
    seed: int,
    job: str,
    as_they_are: Collection[str] = (),
    folder: Path | None = None,
) -> Fitted:
    """Fit methods on cases; those of other programs, and without cases all, stay as they are.

    Args:
        methods: Methods by name.
        train: Cases to learn from.
        validation: Cases by which a training ends; methods hold some of `train` out where
            there are none.
        seed: Of all that is drawn.
        job: What fitting depends on beside the method: another job begins anew.
        as_they_are: Names of methods that are not to be fitted.
        folder: Where to keep trainings and fitted methods.
    """
    found = Fitted()
    for name, method in methods.items():
        found.methods[name], found.seconds[name] = method, math.nan
        if not train or isinstance(method, OutsideMethod) or name in as_they_are:
            continue
        if isinstance(method, FixedMethod):
            found.seconds[name] = 0.0
            continue
        place = None
        if folder is not None:
            key = digest_of_text(f"{job} {method!r} {seed}")
            place = folder / "fitted" / f"{slug(name)}-{key}"
            kept = _kept(place)
            if kept is not None:
                found.methods[name], found.seconds[name] = kept
                continue
        cases, held = list(train.values()), list(validation.values())
        try:
            fitted, seconds = _fit(method, cases, held, seed, place)
        except Exception as error:  # its rows tell it, and the others go on
            found.methods[name] = NotFitted(method, in_words(error))
            continue
        found.methods[name], found.seconds[name] = fitted, seconds
        if place is not None:
            _keep(fitted, seconds, place)
    return found


def halo_of(method: Method) -> int:
    """How far a method looks that learns, in fine pixels; 0 for others.

    Args:
        method: The method.
    """
    if isinstance(method, OutsideMethod | FixedMethod):
        return 0
    return method.halo


def _fit(
    method: FusionMethod,
    cases: Sequence[FusionCase],
    held: Sequence[FusionCase],
    seed: int,
    place: Path | None,
) -> tuple[FusionMethod, float]:
    """A fitted method, and the seconds since it began, or went on."""
    with _stage(place) as stage:
        begin = time.perf_counter()
        with watching(folder=stage, validation=held):
            fitted = method.fit(cases, seed=seed)
        return fitted, time.perf_counter() - begin


@contextlib.contextmanager
def _stage(place: Path | None) -> Iterator[Path | None]:
    """The folder in which a training keeps its state; gone when it has ended."""
    if place is None:
        yield None
        return
    stage = place.with_name(f"{place.name}.training")
    with writing(stage):
        stage.mkdir(parents=True, exist_ok=True)
    yield stage
    shutil.rmtree(stage, ignore_errors=True)


def _keep(fitted: FusionMethod, seconds: float, place: Path) -> None:
    """Keep a fitted method of geofuse; others are fitted again when a run continues."""
    if type(fitted) not in ALL_METHODS.values():
        return
    save(fitted, place)
    with writing(place):
        text = json.dumps({"seconds": seconds})
        replace(place.with_name(f"{place.name}.json"), text.encode())


def _kept(place: Path) -> tuple[FusionMethod, float] | None:
    note = place.with_name(f"{place.name}.json")
    if not note.is_file():
        return None
    try:
        return load(place), float(json.loads(note.read_text())["seconds"])
    except (GeofuseError, OSError, ValueError, KeyError):
        return None  # damaged: it is fitted again
