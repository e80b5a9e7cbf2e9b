"""A whole series: dates, pairs, gaps, quality; lines and curves in time."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from geofuse.errors import (
    DateMismatchError,
    GridMismatchError,
    MissingScaleError,
    ParameterError,
    TooFewPairsError,
)
from geofuse.pairs import FusionInputs, Pair
from geofuse.rasters.grid import grid_of
from geofuse.spatiotemporal import SERIES_METHODS
from geofuse.spatiotemporal.baselines import CoarseChange, LinearInTime, Persistence
from geofuse.spatiotemporal.kalman import Kalman
from geofuse.spatiotemporal.pair_choice import choose_pairs
from geofuse.spatiotemporal.series import predict_series, valid_shares
from geofuse.spatiotemporal.series_method import _predict
from geofuse.spatiotemporal.smoothers import HarmonicFit, TimeInterpolation, Whittaker
from geofuse.synthetic import simulate_series
from tests.oracles.kalman import between
from tests.oracles.smoothers import harmonic, whittaker

METHODS = (
    Kalman(),
    TimeInterpolation(),
    HarmonicFit(harmonics=1),
    Whittaker(),
    CoarseChange(upsample="bicubic"),
)
all_methods = pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)


@pytest.fixture(scope="module")
def simulated():
    return simulate_series(
        44, bands=["red", "nir"], scale=8, days=72, fine_every=24, seed=7
    )


def lazy(image):
    return image.chunk({"y": 17, "x": 29})


def lazy_pairs(series):
    return [Pair(lazy(pair.fine), lazy(pair.coarse)) for pair in series.pairs]


def days_of(values):
    return values.astype("datetime64[D]").astype(int).tolist()


def test_every_series_method_is_tried_here():
    assert set(SERIES_METHODS.values()) <= {type(method) for method in METHODS}


@all_methods
def test_tile_size_never_changes_a_series(simulated, method):
    pairs, coarse = lazy_pairs(simulated), lazy(simulated.coarse)
    whole, other = (
        predict_series(
            pairs, coarse, method=method, only_gaps=True, tile=tile
        ).compute()
        for tile in (512, 19)
    )
    assert (whole.quality == 2).mean() > 0.15
    xr.testing.assert_identical(other, whole)


@all_methods
def test_measured_pixels_stay_bit_for_bit_and_gaps_are_filled(simulated, method):
    product = predict_series(
        simulated.pairs, simulated.coarse, method=method, only_gaps=True
    ).compute()
    fine = np.stack([pair.fine.values for pair in simulated.pairs])
    measured = np.isfinite(fine)
    np.testing.assert_array_equal(
        product.reflectance.values[measured], fine[measured], strict=True
    )
    assert (product.quality.values[measured.all(axis=1)] == 1).all()
    assert np.isnan(product.variance.values[measured]).all()
    gaps = ~measured.any(axis=1)
    filled = product.quality.values[gaps]
    assert set(np.unique(filled)) <= {0, 2}
    assert (filled == 2).mean() > 0.8
    missing = product.quality.values == 0
    assert np.isnan(product.reflectance.values[:, 0][missing]).all()


@all_methods
def test_a_series_is_lazy_and_keeps_grid_bands_and_dates(simulated, method):
    reads = []

    def unread(image):
        def read(block):
            reads.append(block.shape)
            return block

        meta = np.empty((0, 0, 0), np.float32)
        data = da.from_array(image.values, chunks=(2, 20, 20))
        return image.copy(data=data.map_blocks(read, dtype=np.float32, meta=meta))

    pairs = [Pair(unread(p.fine), unread(p.coarse)) for p in simulated.pairs]
    stack = [unread(simulated.coarse.isel(time=k)) for k in range(10)]
    product = predict_series(pairs, stack, method=method, only_gaps=True)
    assert not reads
    assert product.reflectance.dims == ("time", "band", "y", "x")
    assert product.quality.dtype == np.uint8
    assert grid_of(product) == grid_of(simulated.coarse)
    np.testing.assert_array_equal(product.time, simulated.coarse.time[::3])
    np.testing.assert_array_equal(product.band, ["red", "nir"])
    assert product.attrs["method"] == repr(method)
    product.quality.isel(time=2).compute()
    assert reads


def test_the_order_of_pairs_and_dates_changes_nothing(simulated):
    expected = predict_series(simulated.pairs, simulated.coarse, only_gaps=True)
    turned = simulated.coarse.isel(time=slice(None, None, -1))
    found = predict_series(simulated.pairs[::-1], turned, only_gaps=True)
    xr.testing.assert_identical(found, expected)


def test_a_date_is_what_the_method_gives_from_its_pairs(simulated):
    shares = valid_shares(simulated.pairs)
    product = predict_series(
        simulated.pairs, simulated.coarse, method=CoarseChange(), valid_shares=shares
    )
    assert product.base_dates.values[1] == "2023-01-09, 2023-02-02"
    inputs = FusionInputs(simulated.pairs[:2], simulated.coarse.isel(time=1))
    expected = CoarseChange().predict(inputs).reflectance
    np.testing.assert_array_equal(product.reflectance[1], expected)


def test_fusion_says_what_it_fell_back_to(simulated):
    product = predict_series(
        simulated.pairs[:2], simulated.coarse, method=LinearInTime()
    )
    notes = dict(zip(days_of(product.time.values), product.note.values, strict=True))
    first = min(notes)
    assert notes[first] == notes[first + 24] == "too few pairs: not predicted"
    assert notes[first + 8] == ""
    assert notes[first + 48] == "no pair after the date"
    np.testing.assert_array_equal(
        product.reflectance[0], simulated.pairs[0].fine
    )  # as measured, holes and all


def test_fine_images_without_a_coarse_one_are_looked_at_and_filled(simulated):
    *pairs, last = simulated.pairs
    stack = simulated.coarse.isel(time=slice(0, 9))
    product = predict_series(
        pairs, stack, fine=[last.fine], method=Kalman(), only_gaps=True
    ).compute()
    assert product.sizes["time"] == 4
    assert (product.quality.values[3] == 2).any()
    fused = predict_series(
        pairs, stack, fine=[last.fine], method=Persistence(), only_gaps=True
    )
    assert fused.note.values[3] == "no coarse image: gaps not filled"
    np.testing.assert_array_equal(fused.reflectance[3], last.fine)


def test_a_fine_image_without_a_valid_pixel_is_no_base_and_is_filled(simulated):
    pairs = list(simulated.pairs)
    pairs[1] = Pair(pairs[1].fine * np.float32(np.nan), pairs[1].coarse)
    shares = valid_shares(pairs)
    assert shares[1] == 0
    product = predict_series(
        pairs, simulated.coarse, method=CoarseChange(), valid_shares=shares
    )
    assert not any("2023-02-02" in bases for bases in product.base_dates.values)
    assert (product.quality[3] == 2).mean() > 0.8
    everything = [Pair(p.fine * np.float32(np.nan), p.coarse) for p in pairs]
    with pytest.raises(TooFewPairsError, match="found fewer for every date"):
        predict_series(
            everything,
            simulated.coarse,
            method=CoarseChange(),
            valid_shares=valid_shares(everything),
        )
    empty = predict_series(everything, simulated.coarse, only_gaps=True).compute()
    assert (empty.quality == 0).all()
    assert np.isnan(empty.reflectance).all()


def test_pairs_are_chosen_by_lag_and_valid_share():
    lags = [50.0, 20.0, 0.0, -10.0, -30.0]
    assert choose_pairs(lags) == (1, 3)
    assert choose_pairs(lags, [1, 0.2, 1, 0, 1]) == (0, 4)
    assert choose_pairs(lags, [0.9, 0.5, 1, 0.9, 0.9], most=2) == (1, 3)
    assert choose_pairs(lags, [0.9, 0.5, 1, 0.9, 0.9]) == (1, 3, 4)
    assert choose_pairs([5.0, 3.0], needed=2) == (0, 1)
    with pytest.raises(ParameterError, match="valid share from 0 to 1"):
        choose_pairs(lags, [0.5])
    with pytest.raises(ParameterError, match="at least 2 pairs"):
        choose_pairs(lags, most=1)


@pytest.mark.parametrize(
    ("method", "curve"),
    [
        (TimeInterpolation(), lambda d, v, w, first, last: between(d, v, w)),
        (
            HarmonicFit(harmonics=2, ridge=0.3),
            lambda d, v, w, first, last: harmonic(
                d, v, w, first=first, harmonics=2, ridge=0.3
            ),
        ),
        (
            Whittaker(smoothness=2e3, step=10),
            lambda d, v, w, first, last: whittaker(
                d, v, w, first=first, last=last, smoothness=2e3, step=10
            ),
        ),
    ],
    ids=["lines", "harmonics", "whittaker"],
)
def test_curves_are_those_of_dense_least_squares(method, curve):
    series = simulate_series(
        16, bands=["nir"], scale=8, days=96, fine_every=16, clouds=0.4, seed=5
    )
    fine = np.stack([pair.fine.values[0] for pair in series.pairs]).astype(float)
    days = [int(p.date.astype(int)) for p in series.pairs]
    product = predict_series(series.pairs, series.coarse, method=method).compute()
    wanted = days_of(product.time.values)
    for y, x in np.ndindex(4, 4):
        values = fine[:, 4 * y, 4 * x]
        if np.isfinite(values).sum() < 2:
            continue
        expected = curve(days, values, wanted, wanted[0], wanted[-1])
        found = product.isel(band=0, y=4 * y, x=4 * x)
        predicted = found.quality.values == 2
        # float32 through a system of a condition of some thousands
        np.testing.assert_allclose(
            found.reflectance.values[predicted], expected[predicted], atol=2e-4
        )


@pytest.mark.parametrize("method", METHODS[:4], ids=lambda m: type(m).__name__)
def test_units_do_not_matter(simulated, method):
    def kelvin(image):
        return image * np.float32(64) + np.float32(256)

    warm = [Pair(kelvin(p.fine), kelvin(p.coarse)) for p in simulated.pairs]
    once, other = (
        predict_series(pairs, coarse, method=method, only_gaps=True).reflectance.values
        for pairs, coarse in (
            (simulated.pairs, simulated.coarse),
            (warm, kelvin(simulated.coarse)),
        )
    )
    # float32 near 256 is known to 3e-5; some hundred of them meet in a smoother.
    np.testing.assert_allclose(other, 64 * once + 256, atol=0.02)


@pytest.mark.parametrize(
    "case", ["no pair", "no time", "twice", "empty", "grid", "scale"]
)
def test_series_that_do_not_fit_are_refused(simulated, case):
    pairs, coarse = simulated.pairs, simulated.coarse
    other = coarse.isel(time=1, x=slice(4, None))
    error, words, pairs, coarse, method = {
        "no pair": (TooFewPairsError, "a fine and a coarse image", [], coarse, None),
        "no time": (
            DateMismatchError,
            "coarse images with dates",
            pairs,
            coarse.drop_vars("time"),
            None,
        ),
        "twice": (
            DateMismatchError,
            "two on 2023-01-17",
            pairs,
            coarse.isel(time=[1, 2, 1]),
            None,
        ),
        "empty": (DateMismatchError, "found none", pairs, [], None),
        "grid": (GridMismatchError, "one grid", pairs, [other], None),
        "scale": (
            MissingScaleError,
            "scale",
            pairs,
            coarse.drop_attrs(deep=False),
            CoarseChange(upsample="bicubic"),
        ),
    }[case]
    with pytest.raises(error, match=words):
        predict_series(pairs, coarse, method=method)


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        (HarmonicFit, {"harmonics": 0}, "1 to 4 harmonics"),
        (HarmonicFit, {"ridge": 0.0}, "ridge above 0"),
        (Whittaker, {"smoothness": -1.0}, "smoothness above 0"),
        (Whittaker, {"step": 0}, "step of 1 to 64"),
        (Whittaker, {"smoothness": 1e5, "step": 2}, "longer step"),
    ],
)
def test_curves_out_of_range_are_refused(kind, fields, words):
    with pytest.raises(ParameterError, match=words):
        kind(**fields)


def test_all_tiles_of_a_series_have_one_compiled_shape(simulated):
    _predict.clear_cache()
    predict_series(
        simulated.pairs, simulated.coarse, method=TimeInterpolation(), tile=20
    ).compute()
    assert _predict._cache_size() == 1
