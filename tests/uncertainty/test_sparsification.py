"""The ranking of errors: an oracle as loops, and what is known of its ends."""

import math

import numpy as np
import pytest
from scipy import stats

from geofuse.errors import ParameterError
from geofuse.uncertainty.sparsification import (
    SHARES,
    rank_correlation,
    sparsification,
)


def errors(pixels=300, seed=0):
    rng = np.random.default_rng(seed)
    std = rng.uniform(0.1, 2.0, pixels)
    return std * rng.normal(size=pixels), std


def curve_by_loops(error, doubt):
    """Leave out the pixels of most doubt, and take the RMSE of the others."""
    order = sorted(range(len(error)), key=lambda i: -doubt[i])
    curve = []
    for share in SHARES:
        kept = order[len(error) - math.ceil((1 - share) * len(error) - 1e-9) :]
        curve.append(math.sqrt(sum(error[i] ** 2 for i in kept) / len(kept)))
    return np.array(curve) / curve[0]


def test_the_curves_are_those_of_loops():
    error, std = errors()
    found = sparsification(error, std)
    curve, oracle = curve_by_loops(error, std), curve_by_loops(error, np.abs(error))
    np.testing.assert_allclose(found.curve, curve)
    np.testing.assert_allclose(found.oracle, oracle)
    assert found.ause == pytest.approx(np.trapezoid(curve - oracle, SHARES))
    assert found.aurg == pytest.approx(np.trapezoid(1 - curve, SHARES))


def test_the_error_itself_ranks_best_and_its_inverse_worst():
    error, std = errors()
    best, stated, worst = (
        sparsification(error, doubt) for doubt in (np.abs(error), std, -np.abs(error))
    )
    assert best.ause == 0
    assert best.ause < stated.ause < worst.ause
    assert best.aurg > stated.aurg > 0 > worst.aurg


def test_one_doubt_for_all_is_a_random_order():
    error, std = errors()
    found = sparsification(error, np.ones_like(std))
    np.testing.assert_allclose(found.curve, 1)
    assert found.aurg == pytest.approx(0, abs=1e-12)


def test_only_the_ranks_matter_and_invalid_pixels_do_not():
    error, std = errors()
    wide = [np.append(values, np.nan) for values in (error, std**3)]
    assert sparsification(*wide).ause == pytest.approx(sparsification(error, std).ause)
    assert rank_correlation(*wide) == pytest.approx(rank_correlation(error, std))


def test_rank_correlation_is_that_of_scipy():
    error, std = errors()
    std = std.round(1)  # with ties
    expected = stats.spearmanr(np.abs(error), std).statistic
    assert rank_correlation(error, std) == pytest.approx(expected)


def test_what_has_no_ranking_is_nan():
    error, std = errors(20)
    assert math.isnan(rank_correlation(error, np.ones_like(std)))
    assert math.isnan(rank_correlation(error[:1], std[:1]))
    assert math.isnan(sparsification(0 * error, std).ause)
    assert np.isnan(sparsification(np.nan * error, std).curve).all()
    with pytest.raises(ParameterError, match="one shape"):
        sparsification(error, std[:5])
