"""Temperature and conformal factors: optima, and coverage of units never seen."""

import math

import numpy as np
import pytest

from geofuse.errors import ParameterError
from geofuse.uncertainty.calibration import coverage, nll
from geofuse.uncertainty.conformal import (
    conformal_quantile,
    cqr_scores,
    split_scores,
    units_needed,
    widened,
)
from geofuse.uncertainty.intervals import gaussian_factor
from geofuse.uncertainty.temperature import variance_factors


def dates(count, *, effect, pixels=60, seed=0):
    """Errors of dates that each have a bias of their own: their pixels are not free."""
    rng = np.random.default_rng(seed)
    return effect * rng.normal(size=(count, 1)) + rng.normal(size=(count, pixels))


def test_the_temperature_has_the_least_nll():
    rng = np.random.default_rng(0)
    std = rng.uniform(0.5, 2.0, (2, 30, 40))
    error = std * np.array([0.5, 3.0])[:, None, None] * rng.normal(size=std.shape)
    factor = variance_factors([error], [std**2])
    np.testing.assert_allclose(factor, [0.25, 9.0], rtol=0.1)
    for band in range(2):

        def score(scale, band=band):
            spread = np.sqrt(scale * factor[band]) * std[band]
            return nll(error[band], 0 * error[band], spread)

        assert score(1.0) < min(score(0.9), score(1.1))


def test_scenes_count_alike_and_invalid_pixels_do_not():
    small, large = np.full((1, 4), 1.0), np.full((1, 400), 3.0)
    large[0, 5] = np.nan
    ones = [np.ones_like(small), np.ones_like(large)]
    ones[0][0, 1] = 0.0  # a variance of 0: no factor helps
    assert variance_factors([small, large], ones) == pytest.approx([(1 + 9) / 2])


def test_a_band_without_a_valid_pixel_has_no_temperature():
    error = np.stack([np.ones(5), np.full(5, np.nan)])
    np.testing.assert_array_equal(
        variance_factors([error], [np.ones((2, 5))]), [1.0, np.nan]
    )
    with pytest.raises(ParameterError, match="at least one scene"):
        variance_factors([], [])
    with pytest.raises(ParameterError, match="same shapes"):
        variance_factors([error], [np.ones((2, 4))])


def test_with_one_pixel_a_unit_it_is_the_textbook_rank():
    # Split conformal: the ceil((n + 1) level)-th smallest of n scores.
    rng = np.random.default_rng(1)
    for count, level in ((9, 0.9), (10, 0.5), (37, 0.8), (19, 0.95)):
        scores = rng.normal(size=count)
        rank = math.ceil((count + 1) * level - 1e-9)
        found = conformal_quantile([scores[i : i + 1] for i in range(count)], level)
        assert found == np.sort(scores)[rank - 1]


def test_units_count_alike_whatever_their_size():
    # Nine large units with scores below 1, one of a single pixel: its tenth of the mass
    # lies above 10 / 11 = 0.909 of it all only if the sizes do not matter.
    units = [np.linspace(0, 1, 1000)] * 9 + [np.array([50.0])]
    assert conformal_quantile(units, 0.8) <= 1
    assert conformal_quantile(units, 0.9) == 50


def test_a_new_date_is_covered_as_promised_and_pixels_as_units_are_not_enough():
    level, by_dates, by_pixels = 0.9, [], []
    for seed in range(60):
        errors = np.abs(dates(13, effect=2.0, seed=seed))
        known, new = errors[:12], errors[12]
        one = np.ones_like(new)
        factor = conformal_quantile(list(known), level)
        by_dates.append(coverage(new, -factor * one, factor * one))
        # Three dates, as if each of their pixels were free.
        naive = np.quantile(known[:3], level)
        by_pixels.append(coverage(new, -naive * one, naive * one))
    # 60 draws of a coverage that spreads by about 0.2: standard error 0.025.
    assert np.mean(by_dates) > level - 0.025
    assert np.mean(by_pixels) < level - 0.025


def test_stated_deviations_shape_the_interval():
    rng = np.random.default_rng(2)
    std = rng.uniform(0.1, 5.0, (40, 200))
    error = 2.0 * std * rng.normal(size=std.shape)
    scores = [split_scores(e, 0 * e, s) for e, s in zip(error, std, strict=True)]
    factor = conformal_quantile(scores, 0.8)
    assert factor == pytest.approx(2 * gaussian_factor(0.8 * 41 / 40), rel=0.05)


def test_cqr_widens_what_is_too_narrow_and_narrows_what_is_too_wide():
    rng = np.random.default_rng(3)
    truth = rng.normal(size=(30, 300))
    for half in (0.5, 4.0):
        lower, upper = np.full(300, -half), np.full(300, half)
        scores = [cqr_scores(unit, lower, upper) for unit in truth]
        factor = conformal_quantile(scores, 0.9)
        assert (factor > 0) == (half == 0.5)
        low, high = widened(lower, upper, factor)
        # A thirty-first of the mass is at infinity, for the unit not seen.
        assert high[0] == pytest.approx(gaussian_factor(0.9 * 31 / 30), rel=0.05)
        assert coverage(truth[0], low, high) == pytest.approx(0.93, abs=0.05)
    middle = widened(lower, upper, -7.0)
    np.testing.assert_array_equal(middle[0], middle[1])


def test_scores_by_hand():
    # Romano et al. (2019): max(l - y, y - u), here over half the width, which is 2.
    lower, upper = np.zeros(3), np.full(3, 4.0)
    truth = np.array([-1.0, 2.0, 5.0])
    np.testing.assert_array_equal(cqr_scores(truth, lower, upper), [0.5, -1.0, 0.5])
    certain = split_scores(np.array([1.0, 2.0, np.nan]), np.ones(3), np.zeros(3))
    np.testing.assert_array_equal(certain, [0.0, np.inf])


def test_too_few_units_are_refused_in_words():
    assert units_needed(0.9) == 9
    scores = list(np.abs(dates(3, effect=1.0)))
    with pytest.raises(ParameterError, match=r"at least 9 .* a level of 0\.75 at most"):
        conformal_quantile(scores, 0.9)
    assert conformal_quantile(scores, 0.75) > 0
    nothing = [*scores, np.full(4, np.nan)]
    with pytest.raises(ParameterError, match="found 3 with a valid pixel"):
        conformal_quantile(nothing, 0.8)
    with pytest.raises(ParameterError, match="found 0"):
        conformal_quantile([], 0.5)
    with pytest.raises(ParameterError, match="between 0 and 1"):
        units_needed(1.0)
