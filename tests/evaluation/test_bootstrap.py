import numpy as np
import pytest
import xarray as xr

from geofuse.errors import BandMismatchError, ParameterError
from geofuse.evaluation.bootstrap import BlockErrors, block_errors, rmse_ratio


def image(values, bands=("red", "nir")):
    axes = {
        "y": np.arange(values.shape[1]) + 0.5,
        "x": np.arange(values.shape[2]) + 0.5,
    }
    coords = {"band": list(bands), **axes, "time": np.datetime64("2021-07-01", "ns")}
    return xr.DataArray(np.float32(values), dims=("band", "y", "x"), coords=coords)


def scene(seed=0, shape=(2, 50, 70)):
    rng = np.random.default_rng(seed)
    return (
        rng.uniform(0, 1, shape),
        rng.normal(0, 0.1, shape),
        rng.normal(0, 0.2, shape),
    )


def errors_of(truth, error, **options):
    return block_errors(image(truth + error), image(truth), **options)


def blocks_of(squares):
    squares = np.asarray(squares, float)
    return BlockErrors(squares, np.full(squares.shape[1], 4.0), ("red",))


def test_squared_errors_are_summed_block_by_block():
    truth, error, _ = scene()
    error[0, 3, 4] = np.nan
    found = errors_of(truth, error, block=16)
    known = np.isfinite(error).all(axis=0)
    expected = np.float32(truth + error) - np.float64(np.float32(truth))
    expected = np.where(known, expected**2, 0)
    np.testing.assert_allclose(found.squared.sum(axis=1), expected.sum(axis=(1, 2)))
    np.testing.assert_allclose(found.squared[:, 0], expected[:, :16, :16].sum((1, 2)))
    assert found.pixels[0] == 255
    assert found.pixels.sum() == 50 * 70 - 1
    assert sorted(set(found.pixels)) == [2 * 6, 2 * 16, 6 * 16, 255, 256]


def test_lazy_images_and_a_mask_change_nothing_else():
    truth, error, _ = scene()
    mask = np.zeros((50, 70), bool)
    mask[10:40, 20:60] = True
    valid = image(truth).isel(band=0, drop=True).copy(data=mask)
    whole = errors_of(truth, error, block=8, valid=valid)
    predicted = image(truth + error).chunk({"y": 13, "x": 29, "band": 1})
    lazy = block_errors(predicted, image(truth), block=8, valid=valid)
    np.testing.assert_array_equal(whole.squared, lazy.squared)
    assert whole.pixels.sum() == mask.sum()


def test_a_prediction_is_as_good_as_itself_and_half_as_good_as_half_its_errors():
    truth, error, _ = scene()
    one, half = (errors_of(0 * truth, e, block=10) for e in (error, error / 2))
    same = rmse_ratio(one, one)
    assert (same[["ratio", "low", "high"]] == 1).all(axis=None)
    assert list(same.band) == ["red", "nir", "mean"]
    twice = rmse_ratio(one, half)
    np.testing.assert_allclose(twice[["ratio", "low", "high"]], 2, rtol=1e-6)
    assert (twice.better == 0).all()
    assert (rmse_ratio(half, one).better == 1).all()


def test_the_ratio_is_that_of_the_scene_and_lies_in_its_interval():
    truth, small, large = scene()
    one, other = (errors_of(truth, e, block=8) for e in (small, large))
    found = rmse_ratio(one, other).set_index("band")
    expected = [
        np.sqrt((s**2).mean() / (b**2).mean())
        for s, b in zip(small, large, strict=True)
    ]
    np.testing.assert_allclose(found.ratio[["red", "nir"]], expected, rtol=1e-4)
    assert (found.low < found.ratio).all()
    assert (found.ratio < found.high).all()
    assert (found.blocks == 7 * 9).all()


def test_an_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(4)
    held = 0
    for seed in range(200):
        # Errors of both share what is hard about a block: pairing must take it out.
        hard = rng.gamma(2.0, size=(1, 80))
        one, other = (
            blocks_of(hard * scale * rng.gamma(4.0, size=(1, 80)) / 4)
            for scale in (1, 1.44)
        )
        row = rmse_ratio(one, other, level=0.9, resamples=300, seed=seed).iloc[0]
        held += row.low <= 1 / 1.2 <= row.high
    assert 0.82 < held / 200 < 0.96


def test_what_hits_few_blocks_is_uncertain():
    even, lumped = np.ones((1, 40)), np.zeros((1, 40))
    lumped[0, 7] = 40
    widths = [
        np.ptp(rmse_ratio(blocks_of(squares), blocks_of(even)).iloc[0][["low", "high"]])
        for squares in (even, lumped)
    ]
    assert widths[0] == 0
    assert widths[1] > 1


def test_the_seed_alone_decides_the_draws():
    truth, small, large = scene()
    one, other = (errors_of(truth, e, block=8) for e in (small, large))
    first = rmse_ratio(one, other, seed=1)
    assert first.equals(rmse_ratio(one, other, seed=1))
    assert not first.equals(rmse_ratio(one, other, seed=2))


def test_blocks_without_a_pixel_and_errors_of_zero_are_borne():
    one = BlockErrors(np.array([[4.0, 0.0]]), np.array([4.0, 0.0]), ("red",))
    zero = BlockErrors(0 * one.squared, one.pixels, one.bands)
    assert rmse_ratio(one, one).blocks.tolist() == [1, 1]
    assert rmse_ratio(one, zero)[["ratio", "low", "high"]].isna().all(axis=None)
    nothing = BlockErrors(0 * one.squared, 0 * one.pixels, one.bands)
    assert rmse_ratio(nothing, nothing).ratio.isna().all()


def test_what_cannot_be_compared_is_refused():
    truth, error, _ = scene()
    one = errors_of(truth, error)
    with pytest.raises(ParameterError, match="over the same pixels"):
        rmse_ratio(one, errors_of(truth, error, block=16))
    with pytest.raises(ParameterError, match="over the same pixels"):
        rmse_ratio(one, one._replace(pixels=one.pixels - 1))
    with pytest.raises(BandMismatchError, match="same bands"):
        rmse_ratio(one, one._replace(bands=("red", "green")))
    with pytest.raises(ParameterError, match="level between 0 and 1"):
        rmse_ratio(one, one, level=95)
    with pytest.raises(ParameterError, match="blocks of at least 1"):
        errors_of(truth, error, block=0)
    with pytest.raises(BandMismatchError, match="same order"):
        block_errors(image(truth), image(truth, ("nir", "red")))
