"""Folds: three parts that share nothing, whatever the order the cases come in."""

from itertools import pairwise

import numpy as np
import pytest

from geofuse.errors import ParameterError
from geofuse.evaluation.leaks import find_leaks
from geofuse.evaluation.protocols import (
    Fold,
    LearningCurve,
    LeaveDateOut,
    LeaveSiteOut,
    LeaveStripOut,
    OnePairConsecutive,
    SuiteCase,
    compare_folds,
)
from geofuse.pairs import FusionCase, FusionInputs, Pair
from geofuse.spatiotemporal.baselines import BandLine
from geofuse.synthetic import simulate_case


@pytest.fixture(scope="module")
def images():
    """Fine and coarse images of one site by date, seven of them."""
    case = simulate_case(48, bands=("red", "nir"), scale=8, pairs=6, seed=1)
    inputs = case.inputs
    found = {pair.date: (pair.fine, pair.coarse) for pair in inputs.pairs}
    found[inputs.date] = (case.reference, inputs.coarse)
    return dict(sorted(found.items()))


def suite_of(images, site="site"):
    """Every date from the date before it and from the one after it."""
    pairs = {date: Pair(*both) for date, both in images.items()}
    dates, cases = list(images), []
    after = list(pairwise(dates))
    for base, date in [*after, *((later, earlier) for earlier, later in after)]:
        inputs = FusionInputs([pairs[base]], images[date][1], 8)
        case = FusionCase(inputs, images[date][0])
        cases.append(SuiteCase(f"{site} {base} > {date}", case, site))
    return cases


@pytest.fixture(scope="module")
def suite(images):
    return suite_of(images)


def names(cases):
    return [case.name for case in cases]


def leaks_of(fold, halo=0):
    parts = [
        {c.name: c.case for c in p} for p in (fold.train, fold.validation, fold.test)
    ]
    return find_leaks(*parts, halo, sites=fold.sites)


def test_leaving_a_date_out_leaves_its_fine_image_out(suite):
    folds = LeaveDateOut().folds(suite)
    assert len(folds) == 7
    for fold in folds:
        scored = {case.date for case in fold.test}
        held = {case.date for case in fold.validation}
        assert len(scored) == len(held) == 1
        learned = set().union(*(case.dates for case in fold.train))
        assert fold.train
        assert not learned & (scored | held)
        assert not leaks_of(fold)
    every = sorted(name for fold in folds for name in names(fold.test))
    assert every == sorted(names(suite))


def test_the_order_of_the_cases_changes_nothing(suite):
    one, two = (LeaveDateOut().folds(c) for c in (suite, suite[::-1]))
    for a, b in zip(one, two, strict=True):
        assert (a.name, names(a.train), names(a.test)) == (
            b.name,
            names(b.train),
            names(b.test),
        )


def test_leaving_a_site_out(images):
    suite = [case for site in "abcd" for case in suite_of(images, site)[:2]]
    folds = LeaveSiteOut().folds(suite)
    assert [fold.name for fold in folds] == list("abcd")
    for fold in folds:
        parts = [{c.site for c in p} for p in (fold.train, fold.validation, fold.test)]
        assert [len(part) for part in parts] == [2, 1, 1]
        assert not parts[0] & parts[1]
        assert not parts[1] & parts[2]


@pytest.mark.parametrize("guard", [0, 3, 8])
def test_strips_are_a_guard_apart_and_on_the_coarse_grid(guard):
    scene = SuiteCase("scene", simulate_case(64, bands=("red",), scale=8))
    folds = LeaveStripOut(strips=3, guard=guard).folds([scene])
    assert len(folds) == 3
    for fold in folds:
        assert [len(p) for p in (fold.train, fold.validation, fold.test)] == [1, 1, 1]
        assert not leaks_of(fold, halo=guard)
        assert leaks_of(fold, halo=64)
        strip = fold.test[0].case
        assert strip.inputs.scale == 8
        assert strip.inputs.offset == (0, 0)
        height, width = strip.reference.shape[1:]
        assert min(height, width) % 8 == 0
    rows = [float(v) for fold in folds for v in fold.test[0].case.reference.y]
    assert len(set(rows)) == len(rows)


def test_consecutive_pairs_are_divided_in_order_of_time(suite):
    (fold,) = OnePairConsecutive(train=0.5, validation=0.2).folds(suite)
    parts = fold.train, fold.validation, fold.test
    assert [len(part) for part in parts] == [3, 1, 2]
    dates = [case.date for part in parts for case in part]
    assert dates == sorted(dates)
    for part in parts:
        for case in part:
            (base,) = case.dates - {case.date}
            assert base < case.date
    # The base of the first scored date was the last of the others: an input, no secret.
    assert not leaks_of(fold)


def test_fewer_pairs_of_a_learning_curve_are_among_more(suite):
    curve = LearningCurve(LeaveDateOut(), pairs=(3, 2, 99), seed=0)
    folds = curve.folds(suite)
    by_date = {}
    for fold in folds:
        by_date.setdefault(fold.name.partition(",")[0], []).append(fold)
    assert len(by_date) == 7
    for some in by_date.values():
        counts = [fold.pairs for fold in some]
        assert counts[0] == 2
        assert counts == sorted(set(counts))
        for fewer, more in pairwise(some):
            assert set(names(fewer.train)) < set(names(more.train))
            assert names(fewer.test) == names(more.test)
    again = curve.folds(suite[::-1])
    assert [names(f.train) for f in folds] == [names(f.train) for f in again]


def test_folds_are_compared_in_one_table(suite, tmp_path):
    folds = LeaveDateOut().folds(suite)[:2]
    found = compare_folds(
        {"line": BandLine()}, folds, metrics=["rmse"], folder=tmp_path
    )
    table = found.table
    assert set(found.errors) == set(table.case)
    assert list(table.fold.unique()) == [fold.name for fold in folds]
    assert set(table.learned) == {fold.pairs for fold in folds}
    assert set(table.case) == {c.name for fold in folds for c in fold.test}
    assert set(table.site) == {"site"}
    assert len(list((tmp_path / "folds").iterdir())) == 2


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda s: LeaveDateOut().folds([]), "found none"),
        (lambda s: LeaveDateOut().folds([s[0], s[0]]), "twice"),
        (lambda s: LeaveDateOut().folds(s[:2]), "three prediction dates"),
        (lambda s: LeaveSiteOut().folds(s), "three named sites"),
        (lambda s: LeaveStripOut(strips=2), "three strips"),
        (lambda s: LeaveStripOut(guard=30).folds(s), "larger scene"),
        (lambda s: OnePairConsecutive(train=0.9, validation=0.1), "left to score"),
        (lambda s: OnePairConsecutive().folds(s[:2]), "found 2 such"),
        (lambda s: LearningCurve(pairs=(1,)), "two or more"),
        (lambda s: compare_folds({"line": BandLine()}, []), "one or more folds"),
    ],
)
def test_what_cannot_be_divided_is_refused(suite, make, match):
    with pytest.raises(ParameterError, match=match):
        make(suite)


def test_a_fold_knows_its_pairs_and_sites(suite):
    fold = Fold("one", tuple(suite[:2]), (), (suite[-1],))
    assert fold.pairs == 3
    assert fold.sites == dict.fromkeys((*names(suite[:2]), suite[-1].name), "site")
    assert all(isinstance(date, np.datetime64) for date in suite[0].dates)
