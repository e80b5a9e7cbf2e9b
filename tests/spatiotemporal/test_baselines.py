"""The trivial lines against loops."""

import numpy as np
import pytest

from geofuse.errors import ParameterError
from geofuse.pairs import FusionInputs
from geofuse.spatiotemporal.baselines import (
    BandLine,
    CoarseChange,
    LinearInTime,
    Persistence,
)
from geofuse.spatiotemporal.scene import merged, moments
from geofuse.synthetic import simulate_case
from tests.oracles.baselines import bicubic_change, nearest_valid


@pytest.fixture(scope="module")
def inputs():
    case = simulate_case(
        40, bands=("red", "nir"), pairs=3, scale=8, clouds=0.2, coarse_clouds=0.1
    )
    return case.inputs


def stacked(inputs, kind):
    return np.stack([getattr(pair, kind).values for pair in inputs.pairs])


def predicted(method, inputs):
    return method.predict(inputs).reflectance.values


def per_pair(inputs, predictions):
    """Of one prediction a pair (pair, band, y, x), what the nearest valid pair says."""
    fine, base = stacked(inputs, "fine"), stacked(inputs, "coarse")
    result = np.full(fine.shape[1:], np.nan)
    for band in range(fine.shape[1]):
        coarse = inputs.coarse.values[band]
        chosen = nearest_valid(fine[:, band], base[:, band], coarse, inputs.lags)
        for y, x in np.ndindex(chosen.shape):
            if chosen[y, x] >= 0:
                result[band, y, x] = predictions[chosen[y, x], band, y, x]
    assert np.isnan(result).any()
    assert np.isfinite(result).mean() > 0.5
    return result


def test_persistence_is_the_nearest_valid_fine_image(inputs):
    expected = per_pair(inputs, stacked(inputs, "fine"))
    np.testing.assert_array_equal(predicted(Persistence(), inputs), expected)


def test_coarse_change_is_added_to_the_nearest_valid_fine_image(inputs):
    change = inputs.coarse.values[None] - stacked(inputs, "coarse")
    expected = per_pair(inputs, stacked(inputs, "fine") + change)
    np.testing.assert_allclose(predicted(CoarseChange(), inputs), expected, rtol=1e-6)


@pytest.mark.parametrize("offset", [(0, 0), (3, 6)])
def test_bicubic_change_interpolates_between_coarse_pixels(inputs, offset):
    shifted = FusionInputs(inputs.pairs, inputs.coarse, 8, offset)
    change = inputs.coarse.values[None] - stacked(inputs, "coarse")
    smooth = np.empty(change.shape)
    for k, band in np.ndindex(change.shape[:2]):
        smooth[k, band] = bicubic_change(change[k, band].astype(float), 8, offset)
    expected = per_pair(inputs, stacked(inputs, "fine") + smooth)
    found = predicted(CoarseChange(upsample="bicubic"), shifted)
    # float32: 25 products of numbers below 1.
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6)


def test_linear_in_time_weighs_by_days_and_needs_both_dates(inputs):
    pair_of = {lag: pair for lag, pair in zip(inputs.lags, inputs.pairs, strict=True)}
    before = min(lag for lag in pair_of if lag > 0)
    after = max(lag for lag in pair_of if lag < 0)
    share = before / (before - after)
    first, second = (pair_of[lag].fine.values for lag in (before, after))
    bases = np.stack([pair_of[lag].coarse.values for lag in (before, after)])
    valid = np.isfinite(bases).all(axis=0) & np.isfinite(inputs.coarse.values)
    expected = np.where(valid, first + (second - first) * share, np.nan)
    found = predicted(LinearInTime(), inputs)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert 0.5 < np.isfinite(found).mean() < 1


def test_linear_in_time_goes_on_beyond_the_last_date(inputs):
    earlier = [
        pair for pair, lag in zip(inputs.pairs, inputs.lags, strict=True) if lag > 0
    ]
    outside = FusionInputs(earlier, inputs.coarse, 8)
    far, near = outside.lags
    first, second = (pair.fine.values for pair in outside.pairs)
    expected = second + (second - first) * near / (far - near)
    found = predicted(LinearInTime(), outside)
    known = np.isfinite(found)
    np.testing.assert_allclose(found[known], expected[known], rtol=1e-4, atol=1e-6)


def test_band_line_is_the_least_squares_line_of_the_coarse_images(inputs):
    fine, base = stacked(inputs, "fine"), stacked(inputs, "coarse")
    lines = np.empty(fine.shape)
    for k, band in np.ndindex(fine.shape[:2]):
        x, y = base[k, band].ravel(), inputs.coarse.values[band].ravel()
        known = np.isfinite(x) & np.isfinite(y)
        slope, intercept = np.polyfit(x[known].astype(float), y[known].astype(float), 1)
        lines[k, band] = slope * fine[k, band] + intercept
    expected = per_pair(inputs, lines)
    np.testing.assert_allclose(predicted(BandLine(), inputs), expected, rtol=1e-4)


def test_an_unknown_upsampling_is_refused():
    method = CoarseChange()
    object.__setattr__(method, "upsample", "spline")
    with pytest.raises(ParameterError, match="'block' or 'bicubic'"):
        method.__post_init__()


@pytest.mark.parametrize("level", [0.0, 300.0])
def test_moments_of_parts_are_moments_of_the_whole(level):
    rng = np.random.default_rng(0)
    x = (level + rng.random((2, 3, 20, 30))).astype("f4")
    y = (level + rng.random((2, 3, 20, 30))).astype("f4")
    x[rng.random(x.shape) < 0.2] = np.nan
    parts = [moments(x[..., i : i + 7], y[..., i : i + 7]) for i in range(0, 30, 7)]
    for whole, part in zip(moments(x, y), merged(parts), strict=True):
        np.testing.assert_allclose(part, whole, rtol=1e-9)
    known = np.isfinite(x[0, 0]) & np.isfinite(y[0, 0])
    slope, intercept = np.polyfit(
        x[0, 0][known].astype(float), y[0, 0][known].astype(float), 1
    )
    found = merged(parts).line()
    np.testing.assert_allclose([f[0, 0] for f in found], [slope, intercept], rtol=1e-5)


def test_a_constant_image_has_slope_one_and_nothing_valid_has_no_line():
    flat = np.full((1, 1, 4, 4), 0.3, np.float32)
    slope, intercept = moments(flat, flat + np.float32(0.1)).line()
    np.testing.assert_allclose([slope[0, 0], intercept[0, 0]], [1, 0.1], rtol=1e-5)
    assert np.isnan(moments(flat * np.nan, flat).variance_x()).all()
