import math

import dask
import dask.array as da
import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity

from geofuse.errors import (
    BandMismatchError,
    CRSMismatchError,
    GridMismatchError,
    MissingScaleError,
    ParameterError,
    UnknownNameError,
)
from geofuse.evaluation.metrics import (
    BIAS,
    EDGE,
    ERGAS,
    LBP,
    MAE,
    METRICS,
    RMSE,
    SAM,
    SSIM,
    SSIM_UNIT,
    UIQI,
    R,
    score,
)
from geofuse.evaluation.quantiles import order_statistics
from geofuse.evaluation.reference import summarize
from geofuse.evaluation.ssim import ssim_map
from tests.oracles import scores as oracle

# The window scores of pixels are equal in every tiling; only the sums are regrouped.
TILING = {"rtol": 1e-12, "atol": 1e-14}


def image(values, bands=None, crs=None):
    values = np.asarray(values, np.float32)
    count, height, width = values.shape
    coords = {
        "band": bands or [f"b{i + 1}" for i in range(count)],
        "y": 1000.0 - 30.0 * np.arange(height),
        "x": 500.0 + 30.0 * np.arange(width),
    }
    if crs:
        coords["spatial_ref"] = ((), 0, {"crs_wkt": crs})
    return xr.DataArray(values, coords, ("band", "y", "x"))


def plane(values, like):
    return xr.DataArray(values, {k: like[k] for k in ("y", "x")}, ("y", "x"))


def scene(seed=0, bands=3, height=24, width=27, holes=3):
    """A smooth field with noise, a blurred prediction of it, and invalid pixels."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    field = 0.3 + 0.1 * np.sin(x / 4 + np.arange(bands)[:, None, None]) * np.cos(y / 5)
    true = field + rng.normal(0, 0.02, field.shape)
    found = 0.9 * field + 0.02 + rng.normal(0, 0.01, field.shape)
    for _ in range(holes):
        band, row, column = (rng.integers(n) for n in (bands, height, width))
        (true if rng.random() < 0.5 else found)[band, row, column] = np.nan
    return image(found), image(true)


def value(table, metric, band="all"):
    rows = table[(table.metric == metric) & (table.band == band)]
    assert len(rows) == 1
    return rows.value.item()


def per_band(table, metric, bands=3):
    return [value(table, metric, f"b{i + 1}") for i in range(bands)]


# --- Against definitions --------------------------------------------------------------


@pytest.fixture(scope="module")
def scored():
    predicted, reference = scene()
    table = score(predicted, reference, scale=16, tile=10)
    return table, predicted.values.astype(float), reference.values.astype(float)


def test_errors_match_the_loops(scored):
    table, predicted, reference = scored
    expected = oracle.errors(predicted, reference)
    for name in ("rmse", "mae", "bias"):
        np.testing.assert_allclose(per_band(table, name), expected[name], rtol=1e-12)
        mean = np.mean(expected[name])
        np.testing.assert_allclose(value(table, name, "mean"), mean, rtol=1e-12)
    np.testing.assert_allclose(value(table, "rmse"), expected["pooled"], rtol=1e-12)


def test_r_matches_the_loops(scored):
    table, predicted, reference = scored
    expected = oracle.pearson(predicted, reference)
    np.testing.assert_allclose(per_band(table, "r"), expected, rtol=1e-11)


def test_sam_and_ergas_match_the_loops(scored):
    table, predicted, reference = scored
    expected = oracle.spectral_angle(predicted, reference)
    # arccos loses half the digits near 1, where spectra are alike.
    np.testing.assert_allclose(value(table, "sam"), expected, rtol=1e-8)
    expected = oracle.ergas(predicted, reference, 16)
    np.testing.assert_allclose(value(table, "ergas"), expected, rtol=1e-12)


def test_ssim_and_uiqi_match_the_loops(scored):
    table, predicted, reference = scored
    valid = np.isfinite(reference).all(axis=0)
    low, high = np.percentile(reference[:, valid], [0.1, 99.9], axis=1)
    expected = oracle.ssim(predicted, reference, high - low)
    np.testing.assert_allclose(per_band(table, "ssim"), expected, rtol=1e-10)
    expected = oracle.ssim(predicted, reference, np.ones(3))
    np.testing.assert_allclose(per_band(table, "ssim_unit"), expected, rtol=1e-10)
    expected = oracle.uiqi(predicted, reference)
    np.testing.assert_allclose(per_band(table, "uiqi"), expected, rtol=1e-10)


def test_edge_and_lbp_match_the_loops(scored):
    table, predicted, reference = scored
    expected = oracle.edge(predicted, reference)
    np.testing.assert_allclose(per_band(table, "edge"), expected, rtol=1e-12)
    expected = oracle.lbp(predicted, reference)
    np.testing.assert_allclose(per_band(table, "lbp"), expected, rtol=1e-12)


@pytest.mark.parametrize("data_range", [0.37, 1.0])
def test_ssim_is_that_of_scikit_image_on_the_interior(data_range):
    predicted, reference = scene(seed=3, bands=1, height=40, width=33, holes=0)
    p, r = (i.values[0].astype(float) for i in (predicted, reference))
    expected = structural_similarity(
        r,
        p,
        data_range=data_range,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    found = ssim_map(p[None], r[None], data_range=np.array([data_range])).mean()
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    if data_range == 1:
        table = SSIM_UNIT(predicted, reference)
        np.testing.assert_allclose(
            value(table, "ssim_unit", "b1"), expected, rtol=1e-12
        )


def test_a_blurred_image_is_over_smoothed_and_a_noisy_one_over_sharp():
    rng = np.random.default_rng(1)
    true = rng.normal(0.3, 0.05, (1, 40, 40))
    blurred = image((true + np.roll(true, 1, 2) + np.roll(true, 1, 1)) / 3)
    sharp = image(0.3 + 2 * (true - 0.3))
    assert value(EDGE(blurred, image(true)), "edge", "mean") < -0.1
    assert value(EDGE(sharp, image(true)), "edge", "mean") > 0.1
    flat = image(np.full_like(true, 0.3))
    assert value(LBP(flat, image(true)), "lbp", "mean") < -0.8


def test_binary_pattern_weights_are_those_of_the_authors_program():
    for weight, (row, column) in {
        128: (0, 0),
        32: (0, 2),
        16: (1, 2),
        1: (1, 0),
    }.items():
        true = np.zeros((1, 3, 3))
        true[0, row, column] = 1
        # Against a prediction with no bit: (0 - L) / (L + 1e-5).
        expected = -(weight / 255) / (weight / 255 + 1e-5)
        found = value(LBP(image(np.zeros((1, 3, 3))), image(true)), "lbp", "b1")
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@given(
    values=hnp.arrays(
        np.float32,
        st.tuples(st.just(1), st.integers(1, 25), st.integers(1, 25)),
        elements=st.one_of(
            st.floats(-1e6, 1e6, width=32), st.sampled_from([0.0, -0.0, 0.25, np.nan])
        ),
    ),
    tile=st.integers(1, 30),
)
@settings(max_examples=40, deadline=None)
def test_quantiles_are_numpys(values, tile):
    summary = summarize(image(values), scale=None, tile=tile)
    valid = values[np.isfinite(values)].astype(float)
    if not valid.size:
        assert np.isnan(summary.data_range).all()
        return
    low, high = np.percentile(valid, [0.1, 99.9])
    np.testing.assert_allclose(summary.data_range, high - low, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(summary.middle, (high + low) / 2, rtol=1e-9, atol=1e-9)


def test_order_statistics_are_exact():
    rng = np.random.default_rng(5)
    values = rng.lognormal(size=(1, 60, 50)).astype(np.float32) - 1
    ranks = (0, 17, 1500, 2999)
    (ordered,) = order_statistics(
        lambda arrays: arrays["image"],
        (lambda total: ranks,),
        {"image": image(values)},
        halo=0,
        tile=16,
    )
    assert ordered.total == 3000
    assert (ordered.values == np.sort(values.ravel())[list(ranks)]).all()


# --- Tiles and slices add up ----------------------------------------------------------


@given(
    seed=st.integers(0, 1000),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    tile=st.integers(1, 45),
)
@settings(max_examples=25, deadline=None)
def test_tiles_never_change_a_score(seed, height, width, tile):
    predicted, reference = scene(seed, bands=2, height=height, width=width)
    whole = score(predicted, reference, scale=16)
    tiled = score(predicted, reference, scale=16, tile=tile)
    np.testing.assert_allclose(tiled.value, whole.value, **TILING)
    assert tiled.drop(columns="value").equals(whole.drop(columns="value"))


@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_large_values_keep_their_digits(offset):
    predicted, reference = scene(holes=0)
    table = R(predicted + np.float32(offset), reference + np.float32(offset))
    shifted = [
        (i + np.float32(offset)).values.astype(float) for i in (predicted, reference)
    ]
    expected = oracle.pearson(*shifted)
    np.testing.assert_allclose(per_band(table, "r"), expected, rtol=1e-10)


@given(seed=st.integers(0, 1000), classes=st.integers(1, 5), tile=st.integers(4, 30))
@settings(max_examples=20, deadline=None)
def test_slices_weighted_by_pixels_add_up_to_the_whole(seed, classes, tile):
    predicted, reference = scene(seed)
    rng = np.random.default_rng(seed)
    by = plane(rng.integers(-1, classes, reference.shape[1:]), reference)
    whole = score(predicted, reference)
    parts = score(predicted, reference, by=by, tile=tile)
    for metric in METRICS:
        if metric in ("r", "ergas"):  # not a mean of pixels
            continue
        for band in ("b1", "b2", "b3", "all"):
            part = parts[(parts.metric == metric) & (parts.band == band)]
            all_of_it = whole[(whole.metric == metric) & (whole.band == band)]
            if not len(all_of_it) or np.isnan(all_of_it.value.item()):
                continue
            power = 2 if metric == "rmse" else 1
            part = part[part.pixels > 0]
            total = (part.value**power * part.pixels).sum() / part.pixels.sum()
            expected = all_of_it.value.item() ** power
            np.testing.assert_allclose(total, expected, rtol=1e-11, atol=1e-13)
            assert part.pixels.sum() == all_of_it.pixels.item()


def test_a_slice_is_scored_as_if_the_rest_were_invalid():
    predicted, reference = scene()
    left = plane(np.arange(27)[None] < 13 + np.zeros((24, 1)), reference)
    parts = score(predicted, reference, by=left, metrics=["rmse", "mae", "r", "sam"])
    alone = score(predicted, reference, valid=left, metrics=["rmse", "mae", "r", "sam"])
    part = parts[parts.group == 1].drop(columns="group").reset_index(drop=True)
    np.testing.assert_allclose(part.value, alone.value, rtol=1e-12)
    assert (part.pixels == alone.pixels).all()


def test_lazy_images_are_scored_like_eager_ones():
    predicted, reference = scene(height=60, width=50)
    lazy = [i.chunk(band=1, y=17, x=23) for i in (predicted, reference)]
    table = score(*lazy, scale=16, tile=16)
    np.testing.assert_allclose(
        table.value, score(predicted, reference, scale=16).value, **TILING
    )


def test_a_lazy_prediction_is_read_once():
    predicted, reference = scene(height=30, width=30)
    reads = []

    def read(block):
        reads.append(block.shape)
        return block

    data = da.from_array(predicted.values, chunks=(3, 10, 10))
    lazy = predicted.copy(data=data.map_blocks(read, meta=data._meta))
    with dask.config.set(scheduler="synchronous"):
        score(lazy, reference)
    assert len(reads) == 9


# --- Invalid pixels -------------------------------------------------------------------


def test_an_invalid_pixel_counts_in_no_band_of_no_image():
    predicted, reference = scene(holes=0)
    predicted[1, 4, 5] = np.nan
    reference[2, 20, 20] = np.inf
    table = score(predicted, reference)
    counts = dict(zip(table.metric, table.pixels, strict=True))
    assert (table[table.metric == "rmse"].pixels == 24 * 27 - 2).all()
    # Windows of 11 x 11 and 3 x 3 that reach one of the two, or the border.
    assert counts["lbp"] == 22 * 25 - 2 * 9
    expected = oracle.windows(
        predicted.values, np.where(np.isfinite(reference), reference, np.nan), 5, 5
    )
    assert counts["ssim"] == len(expected)


def test_what_hides_under_an_invalid_pixel_changes_nothing():
    predicted, reference = scene()
    other = predicted.copy()
    hidden = np.isnan(reference.values).any(axis=0) | np.isnan(predicted.values).any(
        axis=0
    )
    other.values[:, hidden] = np.where(np.isnan(other.values[:, hidden]), np.nan, 1e6)
    one, two = score(predicted, reference), score(other, reference)
    np.testing.assert_array_equal(one.value, two.value)


def test_valid_in_all_methods_is_a_mask():
    predicted, reference = scene(holes=0)
    valid = plane(np.ones(reference.shape[1:], bool), reference)
    valid[:12] = False
    masked = predicted.where(valid)
    np.testing.assert_allclose(
        score(predicted, reference, valid=valid).value, score(masked, reference).value
    )


def test_no_valid_pixel_gives_nan_and_says_zero_pixels():
    predicted, reference = scene()
    table = score(predicted * np.float32(np.nan), reference, scale=16)
    assert table.value.isna().all()
    assert (table.pixels == 0).all()
    by = plane(np.zeros(reference.shape[1:], int), reference)
    assert score(predicted * np.float32(np.nan), reference, by=by).empty
    assert score(predicted, reference * np.float32(np.nan)).value.isna().all()


def test_nothing_is_clipped():
    predicted = image(np.full((2, 4, 4), 1.5))
    reference = image(np.full((2, 4, 4), -0.5))
    np.testing.assert_allclose(value(BIAS(predicted, reference), "bias", "mean"), 2.0)


# --- Perfect and constant images ------------------------------------------------------


def test_a_perfect_prediction():
    _, reference = scene(holes=0)
    table = score(reference, reference, scale=16)
    for name in ("rmse", "mae", "bias", "edge", "lbp"):
        assert per_band(table, name) == [0, 0, 0]
    assert value(table, "sam") == 0
    assert value(table, "ergas") == 0
    for name in ("r", "ssim", "ssim_unit", "uiqi"):
        np.testing.assert_allclose(per_band(table, name), 1, rtol=1e-12)


@pytest.mark.parametrize("level", [0.0, 0.3, 290.0])
def test_constant_images(level):
    constant = image(np.full((2, 16, 16), level))
    table = score(constant, constant, scale=10)
    assert value(table, "rmse") == 0
    assert np.isnan(value(table, "r", "b1"))  # no spread, no correlation
    assert np.isnan(value(table, "ssim", "b1"))  # data range 0
    np.testing.assert_allclose(value(table, "ssim_unit", "b1"), 1)
    np.testing.assert_allclose(value(table, "uiqi", "b1"), 1)
    assert value(table, "lbp", "b1") == 0
    if level:
        assert value(table, "sam") == value(table, "ergas") == 0
    else:
        assert np.isnan([value(table, "sam"), value(table, "ergas")]).all()


@pytest.mark.parametrize("level", [0.0, 0.3, 5.0])
def test_r_of_a_constant_prediction_is_not_defined(level):
    predicted, reference = scene(holes=0)
    assert np.isnan(value(R(predicted * 0 + np.float32(level), reference), "r", "b1"))


def test_opposite_spectra_are_half_a_turn_apart():
    _, reference = scene(holes=0)
    np.testing.assert_allclose(value(SAM(-reference, reference), "sam"), math.pi)


def test_zero_spectra_are_dropped_from_sam():
    predicted, reference = scene(holes=0)
    predicted[:, 3, 3] = 0
    assert SAM(predicted, reference).pixels.item() == 24 * 27 - 1


# --- What is stated -------------------------------------------------------------------


def test_range_ratio_and_thresholds_are_stated():
    predicted, reference = scene()
    table = score(predicted, reference, scale=16).set_index(["metric", "band"]).detail
    summary = summarize(reference, scale=None, tile=512)
    assert f"L = {summary.data_range[0]:.6g}," in table["ssim", "b1"]
    assert "L = 1," in table["ssim_unit", "b2"]
    assert "1/16" in table["ergas", "all"]
    assert f"{summary.edge_threshold[2]:.6g}" in table["edge", "b3"]
    assert "0.005" in table["lbp", "b1"]
    assert table["sam", "all"] == "radians"


def test_ergas_without_scale_is_left_out_and_says_so():
    predicted, reference = scene()
    table = score(predicted, reference)
    assert np.isnan(value(table, "ergas"))
    detail = table[table.metric == "ergas"].detail.item()
    assert detail.startswith("left out: needs the scale")
    for ask in (lambda: score(predicted, reference, metrics=["ergas"]),
                lambda: ERGAS(predicted, reference)):  # fmt: skip
        with pytest.raises(MissingScaleError, match="give scale="):
            ask()


def test_sam_of_one_band_is_left_out_and_says_so():
    predicted, reference = scene(bands=1)
    table = SAM(predicted, reference)
    assert np.isnan(value(table, "sam"))
    assert table.detail.item().startswith("left out: needs two bands")


def test_the_table_is_tidy():
    predicted, reference = scene()
    table = score(predicted, reference, metrics=[RMSE, "sam"])
    assert list(table.columns) == ["metric", "band", "value", "pixels", "detail"]
    assert list(table.band) == ["b1", "b2", "b3", "mean", "all", "all"]
    by = plane(np.zeros(reference.shape[1:], np.uint8), reference)
    table = MAE(predicted, reference, by=by)
    assert list(table.columns) == [
        *("metric", "band", "group", "value", "pixels", "detail")
    ]


def test_bands_are_matched_by_name():
    predicted, reference = scene()
    table = score(predicted.isel(band=[2, 0, 1]), reference, scale=16)
    assert table.equals(score(predicted, reference, scale=16))


# --- Mistakes -------------------------------------------------------------------------


def test_mistakes_are_refused():
    predicted, reference = scene()
    with pytest.raises(GridMismatchError, match=r"geofuse\.align"):
        RMSE(predicted.isel(x=slice(1, None)), reference)
    with pytest.raises(CRSMismatchError):
        RMSE(image(predicted, crs="EPSG:32633"), image(reference, crs="EPSG:32634"))
    with pytest.raises(BandMismatchError, match="same bands"):
        RMSE(predicted.isel(band=[0, 1]), reference)
    with pytest.raises(UnknownNameError, match="did you mean 'rmse'"):
        score(predicted, reference, metrics=["rmes"])
    with pytest.raises(ParameterError, match="at least one metric"):
        score(predicted, reference, metrics=[])
    with pytest.raises(ParameterError, match="at least 1, found 0"):
        score(predicted, reference, scale=0)
    with pytest.raises(ParameterError, match="tile"):
        score(predicted, reference, tile=0)


def test_class_and_valid_images_are_checked():
    predicted, reference = scene()
    numbers = plane(np.zeros(reference.shape[1:]), reference)
    with pytest.raises(ParameterError, match="'by' as whole numbers"):
        RMSE(predicted, reference, by=numbers)
    with pytest.raises(ParameterError, match="'valid' as bool"):
        RMSE(predicted, reference, valid=numbers.astype(int))
    with pytest.raises(GridMismatchError, match=r"\(y, x\)"):
        RMSE(predicted, reference, valid=np.isfinite(reference))
    with pytest.raises(GridMismatchError, match="one grid"):
        RMSE(predicted, reference, by=numbers.astype(int)[:-1])
    rng = np.random.default_rng(0)
    many = plane(rng.permutation(65 * 65).reshape(65, 65), image(np.zeros((1, 65, 65))))
    with pytest.raises(ParameterError, match="at most 4096 classes"):
        RMSE(*[image(np.zeros((1, 65, 65)))] * 2, by=many)


def test_every_metric_has_a_row_and_its_name():
    predicted, reference = scene()
    assert set(score(predicted, reference).metric) == set(METRICS)
    for metric in (SSIM, UIQI, SSIM_UNIT):
        assert METRICS[metric.name] is metric
