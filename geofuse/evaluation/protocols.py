"""How a list of cases is divided into what is learned from, chosen by, and scored.

    LeaveDateOut()             one date is scored, another ends trainings, the rest is learned
    LeaveSiteOut()             the same with sites
    LeaveStripOut(guard=32)    the same with strips of each scene, and nothing in between
    OnePairConsecutive()       the first dates are learned, the last scored; one pair each,
                               of the date just before
    LearningCurve(LeaveDateOut(), pairs=(2, 4, 8))
                               the folds of another protocol, with so many pairs to learn from

A protocol is a value that makes folds; each has three parts that share no reference. What
shares ground and date within the halo of a method `compare_folds` finds, fold by fold.

    folds = LeaveDateOut().folds(cases)
    table = compare_folds(methods, folds, metrics=("rmse",), seed=0).table
"""

import abc
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from typing_extensions import override

from geofuse.errors import ParameterError
from geofuse.evaluation.bootstrap import BlockErrors
from geofuse.evaluation.case_scores import Method
from geofuse.evaluation.comparison import Comparison, comparison_of
from geofuse.evaluation.kept_cases import slug
from geofuse.pairs import FusionCase
from geofuse.rasters.write import writing
from geofuse.training.holdout import part_of


@dataclass(frozen=True, eq=False)
class SuiteCase:
    """A case of a suite: what it is called, and which ground it is of.

    Args:
        name: Its name; each case of a suite has its own.
        case: Inputs and the reference.
        site: Name of the ground; cases of one site share it.
    """

    name: str
    case: FusionCase
    site: str = ""

    @property
    def date(self) -> np.datetime64:
        """The prediction date."""
        return self.case.inputs.date

    @property
    def dates(self) -> frozenset[np.datetime64]:
        """All dates of which it holds a fine image: base dates and prediction date."""
        return frozenset([self.date, *(pair.date for pair in self.case.inputs.pairs)])


@dataclass(frozen=True, eq=False)
class Fold:
    """One division of the cases.

    Attributes:
        name: What is scored, in words.
        train: Cases to learn from.
        validation: Cases by which trainings end.
        test: Cases to score.
        pairs: How many dated fine images of a site are learned from.
    """

    name: str
    train: tuple[SuiteCase, ...]
    validation: tuple[SuiteCase, ...]
    test: tuple[SuiteCase, ...]

    @property
    def pairs(self) -> int:
        """How many fine images, by site and date, `train` holds."""
        return len({(case.site, date) for case in self.train for date in case.dates})

    @property
    def sites(self) -> dict[str, str]:
        """Name of a case -> its site, where it has one."""
        every = (*self.train, *self.validation, *self.test)
        return {case.name: case.site for case in every if case.site}


class Protocol(abc.ABC):
    """A way to divide cases."""

    @abc.abstractmethod
    def folds(self, cases: Sequence[SuiteCase]) -> list[Fold]:
        """Divide cases, in an order that depends on their names, dates and sites alone.

        Raises:
            ParameterError: They are too few, or two have one name.
        """


@dataclass(frozen=True)
class LeaveDateOut(Protocol):
    """Each prediction date once: nothing learned from holds its fine image.

    The date after it, or after the last the first, that a case predicts without the scored
    date ends trainings; it is not learned from either. Sites are divided alike.
    """

    @override
    def folds(self, cases: Sequence[SuiteCase]) -> list[Fold]:
        cases = _checked(cases)
        dates = sorted({case.date for case in cases})
        if len(dates) < 3:
            raise ParameterError(
                f"expected cases of three prediction dates or more, found {len(dates)}; "
                "one is scored, one ends trainings, and the others are learned from"
            )
        folds = []
        for number, date in enumerate(dates):
            test = tuple(case for case in cases if case.date == date)
            others = [case for case in cases if date not in case.dates]
            after = [*dates[number + 1 :], *dates[:number]]
            held = next((d for d in after if d in {case.date for case in others}), None)
            folds.append(
                Fold(
                    str(date),
                    tuple(case for case in others if held not in case.dates),
                    tuple(case for case in others if case.date == held),
                    test,
                )
            )
        return folds


@dataclass(frozen=True)
class LeaveSiteOut(Protocol):
    """Each site once; the next one, by name, ends trainings."""

    @override
    def folds(self, cases: Sequence[SuiteCase]) -> list[Fold]:
        cases = _checked(cases)
        sites = sorted({case.site for case in cases})
        if len(sites) < 3 or "" in sites:
            raise ParameterError(
                f"expected cases of three named sites or more, found {sites}; give each "
                "case its site"
            )
        folds = []
        for number, site in enumerate(sites):
            held = sites[(number + 1) % len(sites)]
            folds.append(
                Fold(
                    site,
                    tuple(case for case in cases if case.site not in (site, held)),
                    tuple(case for case in cases if case.site == held),
                    tuple(case for case in cases if case.site == site),
                )
            )
        return folds


@dataclass(frozen=True)
class LeaveStripOut(Protocol):
    """Each strip of every scene once, for scenes of few dates.

        ┌────────┬─┬────────┬─┬────────┐
        │ test   │ │ valid- │ │ train  │    strips across the longer side, cut at corners of
        │        │ │ ation  │ │        │    coarse pixels; guards belong to nobody
        └────────┴─┴────────┴─┴────────┘

    Args:
        strips: Number of strips, 3 or more.
        guard: Least width of a guard in fine pixels: as far as methods look that learn.
    """

    strips: int = 4
    guard: int = 32

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.strips < 3 or self.guard < 0:
            raise ParameterError(
                f"expected three strips or more and a guard of at least 0 pixels, found "
                f"strips={self.strips}, guard={self.guard}"
            )

    @override
    def folds(self, cases: Sequence[SuiteCase]) -> list[Fold]:
        cases = _checked(cases)
        parts = [self._cut(case) for case in cases]
        folds = []
        for number in range(self.strips):
            held = (number + 1) % self.strips
            folds.append(
                Fold(
                    f"strip {number + 1} of {self.strips}",
                    tuple(
                        part
                        for of_case in parts
                        for strip, part in enumerate(of_case)
                        if strip not in (number, held)
                    ),
                    tuple(of_case[held] for of_case in parts),
                    tuple(of_case[number] for of_case in parts),
                )
            )
        return folds

    def _cut(self, case: SuiteCase) -> list[SuiteCase]:
        inputs = case.case.inputs
        step = inputs.scale or 1
        rows, columns = case.case.reference.shape[1:]
        along = int(columns > rows)
        first = inputs.offset[along] if inputs.scale else 0
        cells = ((rows, columns)[along] - first) // step
        guard = -(-self.guard // step)
        width = (cells - guard * (self.strips - 1)) // self.strips
        if width < 2:
            raise ParameterError(
                f"expected a scene that can be cut into {self.strips} strips of two coarse "
                f"pixels or more with guards of {self.guard} pixels, found {case.name} of "
                f"{rows} x {columns} at scale {step}; choose fewer strips, or a larger scene"
            )
        parts = []
        for strip in range(self.strips):
            start = first + strip * (width + guard) * step
            cut, whole = slice(start, start + width * step), slice(0, None)
            y, x = (cut, whole) if along == 0 else (whole, cut)
            name = f"{case.name}, strip {strip + 1}"
            parts.append(SuiteCase(name, part_of(case.case, y, x), case.site))
        return parts


@dataclass(frozen=True)
class OnePairConsecutive(Protocol):
    """One fold in order of time: the first dates are learned, the last ones scored.

    Of the cases only those of one pair count whose base date is the one before, among all
    prediction and base dates of their site.

    Args:
        train: Share of the prediction dates to learn from.
        validation: Share of them that ends trainings.
    """

    train: float = 0.6
    validation: float = 0.2

    def __post_init__(self) -> None:
        """Check the fields."""
        if not (self.train > 0 and self.validation >= 0) or (
            self.train + self.validation >= 1
        ):
            raise ParameterError(
                "expected shares above 0 of which something is left to score, found "
                f"train={self.train}, validation={self.validation}"
            )

    @override
    def folds(self, cases: Sequence[SuiteCase]) -> list[Fold]:
        cases = _checked(cases)
        known: dict[str, set[np.datetime64]] = {}
        for case in cases:
            known.setdefault(case.site, set()).update(case.dates)
        chosen = [case for case in cases if _is_next(case, known[case.site])]
        dates = sorted({case.date for case in chosen})
        held = max(round(self.validation * len(dates)), int(self.validation > 0))
        learned = max(min(round(self.train * len(dates)), len(dates) - held - 1), 1)
        if learned + held >= len(dates):
            raise ParameterError(
                f"expected cases of one pair of consecutive dates, enough for "
                f"train={self.train} and validation={self.validation}, found "
                f"{len(dates)} such prediction dates"
            )
        first = set(dates[:learned])
        second = set(dates[learned : learned + held])
        last = set(dates[learned + held :])
        return [
            Fold(
                f"from {min(last)}",
                tuple(case for case in chosen if case.date in first),
                tuple(case for case in chosen if case.date in second),
                tuple(case for case in chosen if case.date in last),
            )
        ]


@dataclass(frozen=True)
class LearningCurve(Protocol):
    """The folds of another protocol, with more and more pairs to learn from.

    Fewer pairs are always among more: which come first is drawn once, by the seed.

    Args:
        protocol: The other protocol.
        pairs: How many dated fine images to learn from, two or more each; where there are
            fewer, all of them.
        seed: Of the order.
    """

    protocol: Protocol = LeaveDateOut()
    pairs: tuple[int, ...] = (2, 4, 8)
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the fields."""
        if not self.pairs or min(self.pairs) < 2:
            raise ParameterError(
                f"expected numbers of pairs of two or more, found {self.pairs}; learning "
                "needs a pair, and the fine image of another date"
            )

    @override
    def folds(self, cases: Sequence[SuiteCase]) -> list[Fold]:
        folds = []
        for fold in self.protocol.folds(cases):
            made: set[int] = set()
            for count in sorted(self.pairs):
                some = replace(fold, train=_first(fold.train, count, self.seed))
                if not some.train or some.pairs in made:
                    continue
                made.add(some.pairs)
                folds.append(replace(some, name=f"{fold.name}, {some.pairs} pairs"))
        if not folds:
            raise ParameterError(
                f"expected cases to learn from with {min(self.pairs)} pairs or more, found "
                "none in any fold; give more cases, or more pairs"
            )
        return folds


def compare_folds(
    methods: Mapping[str, Method],
    folds: Sequence[Fold],
    *,
    folder: str | Path | None = None,
    **options: Any,
) -> Comparison:
    """Fit and score methods in each fold.

    Args:
        methods: As `compare`.
        folds: Folds, each of which has a name of its own.
        folder: As `compare`; each fold has a folder in it.
        **options: As `comparison_of`.

    Returns:
        A table with the columns of `compare`, and before them `fold` and `learned`: its
        name, and how many dated fine images were learned from. Errors by block are those
        of cases that are scored in one fold alone.

    Raises:
        ParameterError: There is no fold, or two have one name; and as `compare`.
        LeakError: As `compare`.
    """
    names = [fold.name for fold in folds]
    if not names or len(set(names)) < len(names):
        raise ParameterError(
            f"expected one or more folds, each with its own name, found {names}"
        )
    tables: list[pd.DataFrame] = []
    errors: dict[str, dict[str, BlockErrors]] = {}
    scored = Counter(case.name for fold in folds for case in fold.test)
    for fold in folds:
        place = None if folder is None else Path(folder) / "folds" / slug(fold.name)
        if place is not None:
            with writing(place):
                place.parent.mkdir(parents=True, exist_ok=True)
        found = comparison_of(
            methods,
            train=_by_name(fold.train),
            validation=_by_name(fold.validation),
            test=_by_name(fold.test),
            sites=fold.sites,
            folder=place,
            **options,
        )
        found.table.insert(0, "fold", fold.name)
        found.table.insert(1, "learned", fold.pairs)
        tables.append(found.table)
        errors |= {name: e for name, e in found.errors.items() if scored[name] == 1}
    return Comparison(pd.concat(tables, ignore_index=True), errors)


#: Protocols by their names on the command line, with their defaults.
PROTOCOLS: dict[str, Protocol] = {
    "leave-date-out": LeaveDateOut(),
    "leave-site-out": LeaveSiteOut(),
    "leave-strip-out": LeaveStripOut(),
    "one-pair-consecutive": OnePairConsecutive(),
    "learning-curve": LearningCurve(),
}


def _by_name(cases: Iterable[SuiteCase]) -> dict[str, FusionCase]:
    return {case.name: case.case for case in cases}


def _checked(cases: Sequence[SuiteCase]) -> list[SuiteCase]:
    """Cases in an order that does not depend on the one they were given in."""
    names = [case.name for case in cases]
    twice = sorted({name for name in names if names.count(name) > 1})
    if not names or twice:
        raise ParameterError(
            "expected one or more cases, each with its own name, found "
            + (f"{', '.join(twice)} twice" if twice else "none")
        )
    return sorted(cases, key=lambda case: (case.site, case.date, case.name))


def _is_next(case: SuiteCase, known: set[np.datetime64]) -> bool:
    """Whether a case has one pair, of the date before its own."""
    earlier = [date for date in known if date < case.date]
    bases = case.dates - {case.date}
    return len(bases) == 1 and bool(earlier) and bases == {max(earlier)}


def _first(cases: Sequence[SuiteCase], count: int, seed: int) -> tuple[SuiteCase, ...]:
    """The cases that need no more than the first pairs of an order that is drawn.

    The order follows a chain of cases, so that each pair but the first belongs to a case
    whose other images are there already, where there is one.
    """
    generator = np.random.default_rng(seed)
    drawn = [cases[place] for place in generator.permutation(len(cases))]
    images = {case.name: {(case.site, date) for date in case.dates} for case in cases}
    known: set[tuple[str, np.datetime64]] = set()
    while True:
        fits = [
            (len(images[case.name] - known), place)
            for place, case in enumerate(drawn)
            if images[case.name] - known
        ]
        if not fits:
            break
        _, place = min(fits)
        wanted = images[drawn[place].name]
        if len(known | wanted) > count:
            break
        known |= wanted
    return tuple(case for case in cases if images[case.name] <= known)
