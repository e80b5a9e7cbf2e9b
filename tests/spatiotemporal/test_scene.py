"""Scene numbers: the same from any parts, with as many digits at 300 K as near zero."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geofuse.spatiotemporal.scene import merged, moments


def images(level, *, holes=0.2, shape=(2, 3, 24, 31), seed=0):
    rng = np.random.default_rng(seed)
    x = level + rng.random(shape)
    y = level + 0.7 * (x - level) + 0.1 * rng.random(shape)
    x, y = x.astype(np.float32), y.astype(np.float32)
    x[rng.random(shape) < holes] = np.nan
    y[rng.random(shape) < holes] = np.inf
    return x, y


def in_plain_words(x, y):
    """Count, means and second moments of the pixels of one plane where both are valid."""
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known].astype(np.float64), y[known].astype(np.float64)
    dx, dy = x - x.mean(), y - y.mean()
    return len(x), x.mean(), y.mean(), (dx * dx).sum(), (dx * dy).sum(), (dy * dy).sum()


@pytest.mark.parametrize("level", [0.0, 300.0, -20.0])
def test_moments_are_those_of_the_pixels_valid_in_both(level):
    x, y = images(level)
    found = moments(x, y)
    for place in np.ndindex(x.shape[:2]):
        expected = in_plain_words(x[place], y[place])
        np.testing.assert_allclose(
            [field[place] for field in found], expected, rtol=1e-12
        )


def test_an_image_with_itself_has_its_variance_three_times():
    x, _ = images(300.0)
    alone, twice = moments(x, x), moments(x, x.copy())
    for one, other in zip(alone, twice, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(
        alone.variance_x(), np.nanvar(x.astype(np.float64), axis=(-2, -1)), rtol=1e-10
    )


@settings(deadline=None, max_examples=40)
@given(
    cuts=st.lists(st.integers(0, 31), max_size=6),
    level=st.sampled_from([0.0, 0.3, 300.0]),
    empty=st.booleans(),
)
def test_the_whole_is_the_same_from_any_parts(cuts, level, empty):
    x, y = images(level)
    if empty:
        x[..., :9] = np.nan  # some parts hold no valid pixel
    bounds = [0, *sorted(cuts), 31]
    parts = [
        moments(x[..., start:stop], y[..., start:stop])
        for start, stop in itertools.pairwise(bounds)
    ]
    for part, whole in zip(merged(parts), moments(x, y), strict=True):
        np.testing.assert_allclose(part, whole, rtol=1e-9)


@pytest.mark.parametrize("level", [0.0, 300.0])
def test_the_line_is_that_of_numpy(level):
    x, y = images(level)
    slope, intercept = moments(x, y).line()
    for place in np.ndindex(slope.shape):
        known = np.isfinite(x[place]) & np.isfinite(y[place])
        expected = np.polyfit(
            x[place][known].astype(np.float64), y[place][known].astype(np.float64), 1
        )
        # polyfit itself loses digits at 300 K.
        np.testing.assert_allclose(
            [slope[place], intercept[place]], expected, rtol=1e-7, atol=1e-6
        )


def test_a_large_level_costs_no_digits_of_the_slope():
    near, far = images(0.0), images(4096.0)
    # 4096 + a number below 1 is known to 2.4e-4 in float32.
    slopes = [moments(*pair).line()[0] for pair in (near, far)]
    np.testing.assert_allclose(slopes[1], slopes[0], rtol=1e-3)


def test_without_a_valid_pixel_there_is_a_count_of_zero_and_no_variance():
    nothing = np.full((1, 2, 5, 5), np.nan, np.float32)
    found = moments(nothing, nothing)
    np.testing.assert_array_equal(found.pixels, 0)
    assert np.isnan(found.variance_x()).all()
    both = merged([found, moments(*images(0.0, shape=(1, 2, 5, 5)))])
    np.testing.assert_array_equal(both, moments(*images(0.0, shape=(1, 2, 5, 5))))
