"""Scores against what they are defined as: integrals, Monte Carlo, formulas by hand."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from geofuse.errors import ParameterError
from geofuse.uncertainty import calibration
from geofuse.uncertainty.calibration import (
    calibration_error,
    coverage,
    crps,
    ence,
    gaussian_scores,
    interval_score,
    nll,
    pit,
)
from geofuse.uncertainty.intervals import gaussian_factor, in_percent
from geofuse.uncertainty.strata import coverage_by, quantile_groups


def one(value):
    return np.array([float(value)])


def right(pixels=40_000, seed=0):
    """Truth drawn from the very Gaussians that are stated."""
    rng = np.random.default_rng(seed)
    mean, std = rng.normal(size=pixels), rng.uniform(0.2, 3.0, pixels)
    return mean + std * rng.normal(size=pixels), mean, std


@pytest.mark.parametrize(("truth", "mean", "std"), [(0.3, 0.1, 0.2), (-4, 1, 0.5)])
def test_crps_is_the_integral_it_stands_for(truth, mean, std):
    def gap(x):
        return (stats.norm.cdf(x, mean, std) - (x >= truth)) ** 2

    limits = mean - 30 * std, mean + 30 * std
    expected, _ = integrate.quad(gap, *limits, points=[truth, mean], limit=200)
    assert crps(one(truth), one(mean), one(std)) == pytest.approx(expected, rel=1e-6)


def test_crps_of_a_certain_prediction_is_the_absolute_error():
    assert crps(one(2), one(5), one(0)) == 3
    # and that is what it tends to
    assert crps(one(2), one(5), one(1e-6)) == pytest.approx(3, abs=1e-5)


def test_nll_is_that_of_scipy_and_infinite_without_a_density():
    truth, mean, std = right(100)
    expected = -stats.norm.logpdf(truth, mean, std).mean()
    assert nll(truth, mean, std) == pytest.approx(expected)
    assert nll(truth, mean, 0 * std) == math.inf


@pytest.mark.parametrize("level", calibration.LEVELS)
def test_right_intervals_cover_as_they_say(level):
    truth, mean, std = right()
    half = gaussian_factor(level) * std
    # The share of 40000 draws: within four standard errors, 4 sqrt(.25 / 40000).
    assert coverage(truth, mean - half, mean + half) == pytest.approx(level, abs=0.01)


def test_the_interval_score_fines_what_is_outside():
    # Gneiting & Raftery (2007), eq. 43, by hand: width 2, 0.5 outside, 2 / alpha = 20.
    below, within, above = (
        interval_score(one(truth), one(0), one(2), 0.9) for truth in (-0.5, 1, 2.5)
    )
    assert (below, within, above) == pytest.approx((12, 2, 12))


def test_the_right_interval_has_the_best_interval_score():
    truth, mean, std = right()
    found = []
    for factor in (0.5, 1.0, 2.0):
        half = factor * gaussian_factor(0.9) * std
        found.append(interval_score(truth, mean - half, mean + half, 0.9))
    assert found[1] == min(found)


def test_pit_is_uniform_where_the_gaussians_are_right():
    probabilities = pit(*right())
    assert stats.kstest(probabilities, "uniform").statistic < 0.01
    assert calibration_error(probabilities) < 0.005


def test_calibration_error_is_the_area_between_the_distributions():
    values = np.array([0.1, 0.15, 0.7])
    grid = (np.arange(300_000) + 0.5) / 300_000
    share = np.searchsorted(np.sort(values), grid, side="right") / 3
    assert calibration_error(values) == pytest.approx(np.abs(share - grid).mean(), 1e-4)
    assert calibration_error(np.ones(5)) == 0.5
    truth, mean, std = right()
    assert calibration_error(pit(truth, mean, std / 3)) > 0.1


def test_pit_of_a_certain_prediction_is_its_side():
    sides = pit(np.array([1.0, 2.0, 3.0]), np.full(3, 2.0), np.zeros(3))
    np.testing.assert_array_equal(sides, [0, 0.5, 1])


def test_ence_by_hand():
    # Levi et al. (2022): two bins of two pixels. RMV 1 and 2, RMSE sqrt(2) and 1.
    error = np.array([0.0, 2.0, 1.0, 1.0])
    std = np.array([1.0, 1.0, 2.0, 2.0])
    expected = (abs(1 - math.sqrt(2)) / 1 + abs(2 - 1) / 2) / 2
    assert ence(error, np.zeros(4), std, bins=2) == pytest.approx(expected)


def test_ence_knows_wrong_from_right_and_needs_a_bin():
    truth, mean, std = right()
    assert ence(truth, mean, std) < 0.03
    assert ence(truth, mean, 2 * std) == pytest.approx(0.5, abs=0.02)
    assert ence(truth, mean, 0 * std) == math.inf
    assert ence(truth[:3], mean[:3], std[:3]) >= 0  # fewer pixels than bins
    with pytest.raises(ParameterError, match="at least 1 bin"):
        ence(truth, mean, std, bins=0)


def test_all_scores_in_one_and_invalid_pixels_count_nowhere():
    truth, mean, std = (values.reshape(2, 50, 40) for values in right(4000))
    expected = gaussian_scores(truth, mean, std)
    assert expected["pixels"] == 4000
    assert expected["coverage_90"] == pytest.approx(0.9, abs=0.02)
    assert expected["width_95"] > expected["width_50"]
    assert expected["std"] == pytest.approx(expected["rmse"], rel=0.05)
    wide = [np.pad(v, 3, constant_values=np.nan) for v in (truth, mean, std)]
    for number, bad in enumerate((np.nan, np.inf, np.nan)):
        wide[number][0, 0, number] = bad
        assert gaussian_scores(*wide) == pytest.approx(expected)


def test_scores_of_nothing_are_nan():
    nothing = np.full((2, 3), np.nan)
    found = gaussian_scores(nothing, nothing, nothing)
    assert found.pop("pixels") == 0
    assert np.isnan(list(found.values())).all()
    assert coverage_by(np.ones((2, 3), int), nothing, nothing, nothing).pixels.size == 0


def test_float32_images_are_scored_in_float64():
    truth, mean, std = right(1000)
    narrow = [values.astype(np.float32) for values in (truth, mean, std)]
    expected = gaussian_scores(*(values.astype(np.float64) for values in narrow))
    assert gaussian_scores(*narrow) == expected


def test_what_cannot_be_scored_is_refused():
    truth, mean, std = right(10)
    with pytest.raises(ParameterError, match="one shape"):
        crps(truth, mean, std[:9])
    with pytest.raises(ParameterError, match="0 or more"):
        nll(truth, mean, -std)
    with pytest.raises(ParameterError, match=r"write 0\.9 for"):
        interval_score(truth, mean, mean, 90)
    with pytest.raises(ParameterError, match="between 0 and 1"):
        gaussian_scores(truth, mean, std, levels=(0.0,))


def test_a_level_has_a_name():
    assert [in_percent(level) for level in (0.9, 0.29, 0.975)] == ["90", "29", "97.5"]


def test_coverage_by_stratum_is_the_coverage_of_its_pixels():
    truth, mean, std = right(5000)
    half = 1.5 * std
    lower, upper = mean - half, mean + half
    truth[:7] = np.nan
    groups = quantile_groups(std)
    found = coverage_by(groups, truth, lower, upper)
    np.testing.assert_array_equal(found.stratum, np.arange(1, 11))
    for number, (share, width, pixels) in enumerate(zip(*found[1:], strict=True), 1):
        of = groups == number
        assert share == pytest.approx(coverage(truth[of], lower[of], upper[of]))
        valid = of & np.isfinite(truth)
        assert (width, pixels) == (pytest.approx(2 * half[valid].mean()), valid.sum())


def test_strata_of_zero_and_nan_do_not_count():
    values = np.array([np.nan, 3.0, 1.0, 2.0, 2.0])
    groups = quantile_groups(values, groups=2)
    np.testing.assert_array_equal(groups, [0, 2, 1, 1, 1])
    found = coverage_by(groups, *np.zeros((3, 5)))
    np.testing.assert_array_equal(found.pixels, [3, 1])
    assert not quantile_groups(values * np.nan).any()
    with pytest.raises(ParameterError, match="at least 1 group"):
        quantile_groups(values, groups=0)
    with pytest.raises(ParameterError, match="one shape"):
        coverage_by(groups[:4], *np.zeros((3, 5)))
