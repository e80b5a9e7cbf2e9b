"""Local features: equal to loops and to scikit-image, over any tiles."""

import dask
import numpy as np
import pytest
import xarray as xr
from skimage.filters import scharr, sobel

from geofuse.errors import BandMismatchError, ParameterError, UnknownNameError
from geofuse.features import local
from geofuse.features.local import Gabor, Gradient, LocalStatistics, StructureTensor

EXTRACTORS = [
    LocalStatistics(5),
    LocalStatistics(3, ("range",), ("nir",)),
    Gradient("scharr"),
    Gradient("sobel"),
    StructureTensor(1.2),
    Gabor((3.0, 5.5), 3),
]


def image(size=(23, 29), *, holes=True, level=0.3, seed=0):
    rng = np.random.default_rng(seed)
    values = (level + 0.1 * rng.normal(size=(2, *size))).astype(np.float32)
    if holes:
        values[0, 4:7, 9:12] = np.nan
        values[0, 15, 3] = np.inf
        values[1, :, -1] = np.nan
    coords = {
        "band": ["red", "nir"],
        "y": np.arange(size[0]) * -10.0,
        "x": np.arange(size[1]) * 10.0,
        "time": np.datetime64("2024-06-01", "ns"),
    }
    return xr.DataArray(values, coords, ("band", "y", "x"))


def windows(values, radius):
    """Each pixel's position, and the pixels around it; NaN where there is none."""
    padded = np.pad(values.astype(np.float64), radius, constant_values=np.nan)
    padded[~np.isfinite(padded)] = np.nan
    for y, x in np.ndindex(values.shape):
        yield (y, x), padded[y : y + 2 * radius + 1, x : x + 2 * radius + 1]


@pytest.mark.parametrize("level", [0.3, 290.0])
def test_statistics_are_those_of_the_valid_pixels(level):
    scene = image(level=level)
    found = LocalStatistics(5).extract(scene).values
    for band, values in enumerate(scene.values):
        mean, std, spread = found[3 * band : 3 * band + 3]
        for at, window in windows(values, 2):
            if not np.isfinite(values[at]):
                assert np.isnan([mean[at], std[at], spread[at]]).all()
                continue
            # 2e-7: float32 results; the standard deviation of 290 K loses digits.
            np.testing.assert_allclose(mean[at], np.nanmean(window), rtol=2e-7)
            np.testing.assert_allclose(std[at], np.nanstd(window), rtol=1e-6)
            np.testing.assert_allclose(spread[at], np.ptp(window[~np.isnan(window)]),
                                       rtol=2e-7)  # fmt: skip


def test_equal_pixels_have_no_spread():
    for level in (0.1, 290.0, 1e4):
        flat = image(holes=False) * 0 + np.float32(level)
        found = LocalStatistics(7).extract(flat)
        for name in ("red_std_w7", "red_range_w7"):
            assert (found.sel(feature=name) == 0).all()


@pytest.mark.parametrize(("name", "peer"), [("scharr", scharr), ("sobel", sobel)])
def test_gradients_are_those_of_scikit_image_per_pixel(name, peer):
    scene = image(holes=False)
    found = Gradient(name).extract(scene).values
    # scikit-image divides by the square root of 2 and not by the 2 pixels between.
    expected = peer(scene.values[0].astype(np.float64)) / np.sqrt(2)
    np.testing.assert_allclose(found[0, 1:-1, 1:-1], expected[1:-1, 1:-1], rtol=1e-5)
    ramp = scene.copy(data=np.broadcast_to(3 * np.arange(29.0), scene.shape))
    steep = Gradient(name).extract(ramp).values[:, 1:-1, 1:-1]
    np.testing.assert_allclose(steep, 3)


def test_a_gradient_is_nan_where_one_of_nine_is_invalid():
    scene = image()
    found = Gradient().extract(scene).values
    for band, values in enumerate(scene.values):
        for at, window in windows(values, 1):
            assert np.isnan(found[band][at]) == np.isnan(window).any()


def test_the_structure_tensor_is_the_paper_written_as_loops():
    scene = image()
    values = scene.values[0].astype(np.float64)
    found = StructureTensor(1.2).extract(scene).values[:4]
    smooth, step = np.array([3, 10, 3]) / 16, np.array([-0.5, 0, 0.5])
    gx, gy = np.empty_like(values), np.empty_like(values)
    for at, window in windows(values, 1):
        gx[at] = (window * np.outer(smooth, step)).sum()
        gy[at] = (window * np.outer(step, smooth)).sum()
    radius = 4
    line = np.exp(-0.5 * (np.arange(-radius, radius + 1) / 1.2) ** 2)
    weights = np.outer(line, line)
    around = zip(windows(gx, radius), windows(gy, radius), strict=True)
    for (at, x), (_, y) in around:
        used = ~np.isnan(x)
        if not np.isfinite(values[at]) or not used.any():
            assert np.isnan(found[:, *at]).all()
            continue
        total = weights[used].sum()
        xx, xy, yy = ((weights * p)[used].sum() / total for p in (x * x, x * y, y * y))
        low, high = np.linalg.eigvalsh([[xx, xy], [xy, yy]])
        np.testing.assert_allclose(found[0][at], low + high, rtol=1e-5)
        np.testing.assert_allclose(
            found[1][at], (high - low) / (high + low), rtol=1e-4, atol=1e-6
        )
        np.testing.assert_allclose(found[2][at], (xx - yy) / (xx + yy), atol=1e-6)
        np.testing.assert_allclose(found[3][at], 2 * xy / (xx + yy), atol=1e-6)


def test_stripes_are_coherent_and_flat_ground_is_not():
    scene = image((40, 40), holes=False)
    y, x = np.mgrid[:40, :40]
    for angle in (0, 30, 90, 135):
        turned = x * np.cos(np.radians(angle)) + y * np.sin(np.radians(angle))
        stripes = scene.copy(data=np.broadcast_to(np.sin(turned), scene.shape))
        center = StructureTensor(3.0).extract(stripes).values[:4, 20, 20]
        np.testing.assert_allclose(center[1], 1, atol=1e-2)
        expected = [np.cos(np.radians(2 * angle)), np.sin(np.radians(2 * angle))]
        np.testing.assert_allclose(center[2:], expected, atol=1e-2)
    flat = StructureTensor().extract(scene * 0 + 1).values
    assert (flat == 0).all()


def test_gabor_is_the_formula_written_as_loops():
    scene = image()
    values = scene.values[0]
    found = Gabor((5.0,), 3).extract(scene).values
    sigma = 0.56 * 5
    radius = int(np.ceil(3 * sigma))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    gaussian = np.exp(-0.5 * (x**2 + y**2) / sigma**2)
    for number, angle in enumerate(np.radians([0, 60, 120])):
        turned = x * np.cos(angle) + y * np.sin(angle)
        wave = gaussian * np.exp(2j * np.pi * turned / 5)
        for at, window in windows(values, radius):
            if at[0] % 3 or at[1] % 3:
                continue
            used = ~np.isnan(window)
            if not np.isfinite(values[at]):
                assert np.isnan(found[number][at])
                continue
            level = (gaussian * window)[used].sum() / gaussian[used].sum()
            response = (wave[used] * (window[used] - level)).sum()
            expected = 2 * abs(response) / gaussian[used].sum()
            np.testing.assert_allclose(
                found[number][at], expected, rtol=1e-4, atol=1e-7
            )


def test_gabor_finds_the_length_and_direction_of_waves():
    scene = image((60, 60), holes=False)
    y, _ = np.mgrid[:60, :60]
    waves = scene.copy(
        data=np.broadcast_to(7 + 0.2 * np.cos(2 * np.pi * y / 8), scene.shape)
    )
    found = Gabor((4.0, 8.0, 16.0), 4).extract(waves)[:12, 30, 30]
    best = found.feature.values[np.argmax(found.values)]
    assert best == "red_gabor_l8_a90"
    np.testing.assert_allclose(found.max(), 0.2, rtol=0.02)
    assert abs(Gabor().extract(scene * 0 + 290).values).max() < 1e-10


@pytest.mark.parametrize("extractor", EXTRACTORS, ids=repr)
def test_tile_size_never_changes_the_result(monkeypatch, extractor):
    scene = image((47, 39))
    whole = extractor.extract(scene).values
    for tile, chunk in ((8, 11), (17, 47), (33, 5)):
        monkeypatch.setattr(local, "LOCAL_TILE", tile)
        tiled = extractor.extract(scene.chunk({"y": chunk, "x": chunk})).values
        np.testing.assert_array_equal(tiled, whole)


@pytest.mark.parametrize("extractor", EXTRACTORS, ids=repr)
def test_features_are_lazy_named_and_on_the_grid(extractor):
    scene = image()
    result = extractor.extract(scene)
    assert dask.is_dask_collection(result)
    assert result.dtype == np.float32
    assert result.dims == ("feature", "y", "x")
    assert set(result.coords) == {"feature", "y", "x", "time"}
    assert result.attrs["extractor"] == repr(extractor)
    assert all(str(n).startswith(("red_", "nir_")) for n in result.feature.values)
    assert not np.isinf(result.values).any()
    assert np.isnan(extractor.extract(scene * np.float32(np.nan)).values).all()
    whole = (scene.fillna(0).clip(0, 1) * 200).astype(np.uint8)
    np.testing.assert_array_equal(
        extractor.extract(whole), extractor.extract(whole.astype(np.float32))
    )


def test_mistakes_are_refused():
    with pytest.raises(ParameterError, match=r"odd window.*found 4.*5"):
        LocalStatistics(4)
    with pytest.raises(UnknownNameError, match="did you mean 'mean'"):
        LocalStatistics(5, ("maen",))
    with pytest.raises(ParameterError, match="at least one statistic"):
        LocalStatistics(5, ())
    with pytest.raises(UnknownNameError, match="did you mean 'sobel'"):
        Gradient("sobl")
    with pytest.raises(ParameterError, match=r"sigma of 0\.3 to 200"):
        StructureTensor(0)
    with pytest.raises(ParameterError, match="wavelength of 2 to 200"):
        Gabor((1.0,))
    with pytest.raises(ParameterError, match="at least one wavelength"):
        Gabor(())
    with pytest.raises(BandMismatchError, match="'blue', which Gradient"):
        Gradient(bands=("blue",)).extract(image())
