"""The Kalman smoother against the textbook's recursions, written as loops."""

import numpy as np
import pytest

from geofuse.errors import ParameterError
from geofuse.pairs import Pair
from geofuse.spatiotemporal.fusion_series import FusionSeries
from geofuse.spatiotemporal.kalman import VAGUE, Kalman
from geofuse.spatiotemporal.kalman_noise import summarize_motion
from geofuse.spatiotemporal.series import predict_series
from geofuse.spatiotemporal.smoothers import TimeInterpolation
from geofuse.synthetic import simulate_series
from tests.oracles.kalman import between, motion_of, pixel_motion, smooth_pixel


def days_of(images):
    return [
        int(image.time.values.astype("datetime64[D]").astype(int)) for image in images
    ]


@pytest.fixture(scope="module")
def simulated():
    return simulate_series(
        32, bands=["red", "nir"], scale=8, days=120, fine_every=24, noise=0.01, seed=4
    )


def without_scale(series):
    """The coarse images as they lie on the fine grid."""
    bare = [
        i.drop_attrs(deep=False) for i in map(series.coarse.isel, rows(series.coarse))
    ]
    return FusionSeries([Pair(p.fine, p.coarse) for p in series.pairs], bare)


def clear_series():
    return simulate_series(
        32, bands=["nir"], days=96, clouds=0.0, coarse_clouds=0.0, seed=3, scale=8
    )


def rows(stack):
    return [{"time": k} for k in range(stack.sizes["time"])]


def test_the_smoother_is_the_textbooks_filter_and_its_backward_pass(simulated):
    series = without_scale(simulated)
    method = Kalman(fine_noise=0.004)
    summary = method.summarize(series).compute()
    product = method.predict(series, series.dates).compute()
    days = days_of(series.coarse)
    fine_days = days_of(series.fine)
    fine, coarse = (
        np.stack([image.values for image in images]).astype(float)
        for images in (series.fine, series.coarse)
    )
    checked = 0
    for band in range(2):
        level, unit, slope, q, r, u = (float(field[band]) for field in summary)
        for y, x in ((3, 4), (17, 30), (20, 9), (31, 31)):
            # In the unit of the summary, as the state before the first image is.
            f, c = ((v[:, band, y, x] - level) / unit for v in (fine, coarse))
            if not np.isfinite(f).any():
                continue
            seen = [between(days, c, day) for day in fine_days]
            own_slope, own = pixel_motion(
                fine_days, f, seen, (slope, u), spread=0.5, prior=4.0
            )
            motion = np.array(
                [[own_slope**2 * q + own, own_slope * q], [own_slope * q, q]]
            )
            on_days = [
                f[fine_days.index(d)] if d in fine_days else np.nan for d in days
            ]
            mean, variance = smooth_pixel(
                days,
                on_days,
                c,
                motion,
                ((0.004 / unit) ** 2, r),
                ([np.nanmean(f), np.nanmean(c)], np.eye(2) * VAGUE),
            )
            found = product.isel(band=band, y=y, x=x)
            predicted = found.quality.values == 2
            # float32, on the way through a vague start: three digits of a day's motion.
            np.testing.assert_allclose(
                (found.reflectance.values[predicted] - level) / unit,
                np.array(mean)[predicted],
                atol=5e-3,
            )
            np.testing.assert_allclose(
                found.variance.values[predicted] / unit**2,
                np.array(variance)[predicted],
                rtol=5e-3,
                atol=5e-3,
            )
            checked += predicted.sum()
    assert checked > 40


def test_the_scene_is_scanned_as_written_in_loops(simulated):
    series = FusionSeries(simulated.pairs, simulated.coarse)
    found = summarize_motion(series).compute()
    fine, coarse = (
        np.stack([image.values for image in images]).astype(float)
        for images in (series.fine, series.coarse)
    )
    for band in range(2):
        expected = motion_of(
            days_of(series.fine),
            fine[:, band],
            days_of(series.coarse),
            coarse[:, band],
            8,
        )
        unit = found.unit[band] ** 2
        values = (
            found.coarse_motion,
            found.coarse_noise,
            found.slope,
            found.own_motion,
        )
        units = (unit, unit, 1, unit)
        for value, of, right in zip(values, units, expected, strict=True):
            # ROUNDING of the unit is the least that is told apart from nothing.
            np.testing.assert_allclose(
                value[band] * of, right, rtol=1e-5, atol=3e-6 * of
            )


def test_a_year_is_predicted_better_than_by_lines_and_as_well_as_it_says():
    series = simulate_series(64, bands=["red", "nir"], seed=13)
    products = [
        predict_series(series.pairs, series.coarse, method=method).compute()
        for method in (Kalman(), TimeInterpolation())
    ]
    off = [(p.reflectance - series.truth).values for p in products]
    predicted = np.isfinite(products[0].variance.values)
    one, other = (np.mean(of[predicted] ** 2) for of in off)
    assert one < 0.5 * other
    spread = np.sqrt(products[0].variance.values[predicted])
    # Nine of ten true values should lie within 1.645 standard deviations.
    assert 0.85 < np.mean(np.abs(off[0][predicted]) < 1.645 * spread) < 0.95


def test_where_the_coarse_images_are_lost_the_variance_grows():
    series = clear_series()
    values = series.coarse.values.copy()
    values[5:8] = np.nan
    cloudy = series.coarse.copy(data=values)
    day = series.coarse.time.values[6]
    one, other = (
        predict_series(series.pairs, coarse).variance.sel(time=day).compute()
        for coarse in (series.coarse, cloudy)
    )
    assert np.isfinite(other).all()
    assert float((other > one).mean()) > 0.99


def test_one_and_two_fine_images_are_fallen_back_from_and_said(simulated):
    for count, words in ((1, "one fine image"), (2, "two fine images")):
        product = predict_series(simulated.pairs[:count], simulated.coarse)
        assert all(str(note).startswith(words) for note in product.note.values)
        some = np.isfinite(product.variance.values)
        assert some.mean() > 0.3
        assert (product.variance.values[some] > 0).all()


def test_constant_images_stay_and_are_certain():
    series = clear_series()
    still = [
        Pair(p.fine * 0 + np.float32(0.25), p.coarse * 0 + np.float32(0.25))
        for p in series.pairs
    ]
    product = predict_series(still, series.coarse * 0 + np.float32(0.25)).compute()
    np.testing.assert_allclose(product.reflectance, 0.25, atol=1e-6)
    assert np.nanmax(product.variance) < 1e-9


@pytest.mark.parametrize(
    "fields", [{"fine_noise": -1.0}, {"slope_spread": np.nan}, {"prior": 0.0}]
)
def test_a_field_out_of_range_is_refused(fields):
    with pytest.raises(ParameterError, match=next(iter(fields))):
        Kalman(**fields)
