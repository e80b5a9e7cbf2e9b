"""Differences with intervals, ranks, and probabilities that know how much was asked."""

import numpy as np
import pandas as pd
import pytest

from geofuse.errors import ParameterError, UnknownNameError
from geofuse.evaluation.bootstrap import BlockErrors
from geofuse.evaluation.comparison import Comparison
from geofuse.evaluation.statistics import (
    case_differences,
    differences,
    holm,
    ranks,
    score_by_case,
)


def errors(level, *, blocks=40, seed=0, bands=("red", "nir")):
    """Squared errors of blocks of 16 pixels, of about level^2 a pixel."""
    rng = np.random.default_rng(seed)
    squared = 16 * level**2 * rng.uniform(0.5, 1.5, (len(bands), blocks))
    return BlockErrors(squared, np.full(blocks, 16.0), bands)


def table_of(scores, metric="rmse", dates=None):
    """Rows of whole cases: case -> method -> score."""
    rows = [
        {"method": method, "case": case, "site": "", "slice": "", "band": "mean",
         "metric": metric, "value": value, "date": (dates or {}).get(case, case)}
        for case, methods in scores.items()
        for method, value in methods.items()
    ]  # fmt: skip
    return pd.DataFrame(rows)


def comparison_of(ratios, *, dates=None, same_seed=True):
    """One method with these ratios of RMSE to the line, by case."""
    found = {}
    for number, (case, ratio) in enumerate(ratios.items()):
        line = errors(0.1, seed=number)
        method = BlockErrors(line.squared * ratio**2, line.pixels, line.bands)
        if not same_seed:
            method = errors(0.1 * ratio, seed=number + 100)
        found[case] = {"line": line, "method": method}
    scores = {case: {"line": 1.0, "method": r} for case, r in ratios.items()}
    return Comparison(table_of(scores, dates=dates), found)


def test_holm_steps_down():
    # Worked by hand: 0.01 x 4, 0.02 x 3, then not below what went before, then 0.5 x 1.
    found = holm({"a": 0.02, "b": 0.01, "c": 0.025, "d": 0.5})
    assert found == pytest.approx({"a": 0.06, "b": 0.04, "c": 0.06, "d": 0.5})
    assert holm({}) == {}
    with_none = holm({"a": 0.6, "b": float("nan"), "c": 0.9})
    assert with_none["a"] == with_none["c"] == 1.0
    assert np.isnan(with_none["b"])


def test_the_same_ratio_everywhere_has_no_spread():
    found = differences(comparison_of({"a": 0.5, "b": 0.5, "c": 0.5}), "line")
    row = found.iloc[0]
    assert row.ratio == pytest.approx(0.5)
    assert row.low == pytest.approx(0.5)
    assert row.high == pytest.approx(0.5)
    assert row.cases == row.dates == 3
    assert row.p < 0.01


def test_the_ratio_over_cases_is_their_geometric_mean():
    found = differences(comparison_of({"a": 0.5, "b": 2.0}), "line").iloc[0]
    assert found.ratio == pytest.approx(1.0)
    assert found.low < 0.6 < 1.7 < found.high
    assert found.p > 0.5


def test_cases_of_one_date_are_drawn_together():
    ratios = {"a": 0.8, "b": 0.8, "c": 1.3, "d": 1.3}
    together = dict(zip("abcd", ("1", "1", "2", "2"), strict=True))
    apart = differences(comparison_of(ratios), "line").iloc[0]
    dated = differences(comparison_of(ratios, dates=together), "line").iloc[0]
    assert dated.dates == 2
    assert apart.dates == 4
    # Two draws of two: all of one date in half of the cases; of four, in an eighth.
    assert dated.high - dated.low >= apart.high - apart.low


def test_blocks_alone_are_drawn_where_there_is_one_date():
    found = differences(comparison_of({"a": 1.0}, same_seed=False), "line").iloc[0]
    assert found.dates == 1
    assert found.low < found.ratio < found.high
    assert found.low > 0.8
    assert found.high < 1.25


def test_draws_are_those_of_the_seed():
    comparison = comparison_of({"a": 0.9, "b": 1.2}, same_seed=False)
    one, two, three = (differences(comparison, "line", seed=s) for s in (0, 0, 1))
    pd.testing.assert_frame_equal(one, two)
    assert one.low.iloc[0] != three.low.iloc[0]


def test_each_case_has_a_ratio_for_each_band():
    comparison = comparison_of({"a": 0.5, "b": 1.0}, same_seed=False)
    found = case_differences(comparison, "line", resamples=200)
    assert len(found) == 2 * 3
    clear = found[found.case == "a"]
    assert (clear.ratio < 0.7).all()
    assert (clear.p_holm < 0.05).all()
    assert (found.p_holm >= found.p).all()
    assert (found.low <= found.ratio).all()


def test_a_method_that_failed_on_a_case_is_compared_on_the_others():
    comparison = comparison_of({"a": 0.5, "b": 0.5})
    del comparison.errors["a"]["method"]
    found = differences(comparison, "line")
    assert list(found.cases) == [1]
    assert set(case_differences(comparison, "line").case) == {"b"}


def test_ranks_of_a_worked_example():
    # Three methods on four cases, "a" always first: ranks 1, 2.25, 2.75.
    scores = {
        "1": {"a": 1, "b": 2, "c": 3},
        "2": {"a": 1, "b": 2, "c": 3},
        "3": {"a": 1, "b": 2, "c": 3},
        "4": {"a": 1, "b": 3, "c": 2},
    }
    found = ranks(table_of(scores))
    assert found.mean == {"a": 1.0, "b": 2.25, "c": 2.75}
    assert found.cases == 4
    # Demsar (2006), table 5: q = 2.343 for three methods at 0.05.
    expected = 2.343 * np.sqrt(3 * 4 / (6 * 4))
    assert found.critical_difference == pytest.approx(expected, abs=2e-3)
    assert found.alike() == [("a", "b"), ("b", "c")]
    assert 0.02 < found.p < 0.06


def test_ties_share_a_rank_and_good_may_be_high_or_near_zero():
    both = {"1": {"a": 0.9, "b": 0.9, "c": 0.1}}
    assert ranks(table_of(both, "r"), "r").mean == {"a": 1.5, "b": 1.5, "c": 3.0}
    bias = {"1": {"a": -0.3, "b": 0.1}}
    assert ranks(table_of(bias, "bias"), "bias").mean == {"b": 1.0, "a": 2.0}


def test_a_method_without_a_score_on_some_case_is_not_ranked():
    scores = {"1": {"a": 1, "b": 2, "c": 3}, "2": {"a": 1, "b": 2}}
    found = ranks(table_of(scores))
    assert list(found.mean) == ["a", "b"]
    assert found.left_out == ("c",)
    assert np.isnan(score_by_case(table_of(scores), "rmse").loc["2", "c"])


def test_bad_questions_are_refused():
    comparison = comparison_of({"a": 0.5})
    for ask in (differences, case_differences):
        with pytest.raises(UnknownNameError, match="did you mean 'line'"):
            ask(comparison, "lime")
    with pytest.raises(ParameterError, match="level between 0 and 1"):
        differences(comparison, "line", level=1.0)
    table = table_of({"1": {"a": 1, "b": 2}})
    with pytest.raises(UnknownNameError, match="did you mean 'rmse'"):
        ranks(table, "rms")
    with pytest.raises(ParameterError, match="level between"):
        ranks(table, level=2)
    with pytest.raises(ParameterError, match="two methods or more"):
        ranks(table_of({"1": {"a": 1}}))
