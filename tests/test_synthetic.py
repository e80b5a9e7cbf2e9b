import os

import numpy as np
import pytest
import rasterio
from rasterio.warp import Resampling, reproject
from scipy import ndimage

from geofuse.errors import ParameterError, UnknownNameError, WriteError
from geofuse.rasters.grid import grid_of
from geofuse.rasters.optical import open_optical
from geofuse.synthetic import simulate_case, simulate_files


def rmse(predicted, reference):
    return float(np.sqrt(np.mean((predicted - reference) ** 2)))


def images_of(case):
    pairs = case.inputs.pairs
    images = [image for pair in pairs for image in (pair.fine, pair.coarse)]
    return [*images, case.inputs.coarse, case.reference]


def test_a_case_is_the_same_for_the_same_seed():
    options = {"pairs": 2, "clouds": 0.1, "coarse_clouds": 0.1}
    first = simulate_case(64, seed=3, **options)
    second = simulate_case(64, seed=3, **options)
    for one, other in zip(images_of(first), images_of(second), strict=True):
        np.testing.assert_array_equal(one.values, other.values)


def test_another_seed_is_another_landscape():
    one, other = simulate_case(64, seed=0), simulate_case(64, seed=1)
    assert rmse(one.reference.values, other.reference.values) > 0.02


def test_all_images_are_float32_on_one_grid_with_bands_and_dates():
    case = simulate_case(100, bands=("nir", "blue"), pairs=3)
    for image in images_of(case):
        assert image.dtype == np.float32
        assert image.shape == (2, 100, 100)
        assert list(image["band"].values) == ["nir", "blue"]
        assert grid_of(image).crs.to_epsg() == 32633
    assert [str(pair.date) for pair in case.inputs.pairs] == [
        "2023-05-04",
        "2023-06-05",
        "2023-08-08",
    ]
    assert case.inputs.lags == (64.0, 32.0, -32.0)
    assert case.inputs.scale == 16


def test_without_psf_and_noise_the_coarse_image_is_the_mean_of_the_fine_one():
    case = simulate_case(64, scale=8, psf=0.0, noise=0.0)
    pair = case.inputs.pairs[0]
    means = pair.fine.values.reshape(3, 8, 8, 8, 8).mean((2, 4), dtype=np.float64)
    # float32 rounding of a reflectance below 1
    np.testing.assert_allclose(pair.coarse.values[:, ::8, ::8], means, atol=1e-7)


def test_the_coarse_sensor_has_its_gain_and_offset():
    plain = simulate_case(48, noise=0.0)
    other = simulate_case(48, noise=0.0, gain=1.1, offset=0.02)
    expected = 1.1 * plain.inputs.coarse.values + 0.02
    np.testing.assert_allclose(other.inputs.coarse.values, expected, rtol=1e-5)


def test_a_coarse_pixel_is_repeated_over_its_fine_pixels_even_when_cut():
    coarse = simulate_case(40, scale=16).inputs.coarse.values
    for start in (0, 16, 32):
        block = coarse[:, start : start + 16, start : start + 16]
        np.testing.assert_array_equal(
            block, np.broadcast_to(block[:, :1, :1], block.shape)
        )


def test_the_psf_sees_ground_beyond_the_edge():
    case = simulate_case(96, scale=8, psf=0.5, noise=0.0)
    # The same blur of the fine image alone: right inside, a guess at the edge.
    blurred = ndimage.gaussian_filter(case.reference.values, (0, 4, 4), truncate=3)
    means = blurred.reshape(3, 12, 8, 12, 8).mean((2, 4))
    difference = np.abs(case.inputs.coarse.values[:, ::8, ::8] - means)
    assert difference[:, 2:-2, 2:-2].max() < 1e-6
    assert difference[:, 0].max() > 1e-3


def test_a_misregistered_coarse_image_lies_that_far_away():
    options = {"scale": 8, "psf": 0.5, "noise": 0.0, "bands": ("nir",), "pairs": 2}
    true, off = (simulate_case(256, shift=s, **options) for s in (0.0, 0.5))
    np.testing.assert_array_equal(true.reference.values, off.reference.values)
    for pair, other in zip(true.inputs.pairs, off.inputs.pairs, strict=True):
        np.testing.assert_array_equal(pair.fine.values, other.fine.values)

    def cells(image):
        return image.values[0, ::8, ::8].astype(float)

    images = [true.inputs.coarse, *(pair.coarse for pair in true.inputs.pairs)]
    moved = [off.inputs.coarse, *(pair.coarse for pair in off.inputs.pairs)]
    found = []
    for image, other in zip(images, moved, strict=True):
        # The move that explains the difference best, to first order.
        slopes = [-s[2:-2, 2:-2].ravel() for s in np.gradient(cells(image))]
        difference = (cells(other) - cells(image))[2:-2, 2:-2].ravel()
        found.append(np.linalg.lstsq(np.stack(slopes, 1), difference, rcond=None)[0])
    lengths = np.hypot(*np.transpose(found))
    # Gradients of cells are those of a smoother image, which makes moves longer.
    assert ((lengths > 0.35) & (lengths < 0.8)).all()
    assert np.ptp(np.arctan2(*np.transpose(found))) > 0.1  # another way on each date


def test_clouds_hide_the_share_asked_for_and_change_nothing_else():
    clear = simulate_case(96, seed=5)
    cloudy = simulate_case(96, seed=5, clouds=0.25, coarse_clouds=0.5)
    fine, coarse = cloudy.inputs.pairs[0].fine.values, cloudy.inputs.coarse.values
    assert np.isnan(fine).mean() == pytest.approx(0.25, abs=1e-4)
    assert np.isnan(coarse).mean() == pytest.approx(0.5, abs=0.03)
    np.testing.assert_array_equal(cloudy.reference.values, clear.reference.values)
    seen = ~np.isnan(fine)
    np.testing.assert_array_equal(fine[seen], clear.inputs.pairs[0].fine.values[seen])
    # A cloud hides all bands of a pixel, and is a blob rather than pepper.
    assert (seen.all(0) == seen.any(0)).all()
    assert ndimage.label(~seen[0])[1] < 40


def test_reflectance_is_that_of_land():
    reference = simulate_case(128, bands=("red", "nir"), seed=1).reference.values
    assert reference.min() > 0
    assert reference.max() < 0.8
    assert reference.std((1, 2)).min() > 0.02


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_coarse_change_beats_persistence_clearly(seed):
    case = simulate_case(192, seed=seed)
    pair, reference = case.inputs.pairs[0], case.reference.values
    persistence = rmse(pair.fine.values, reference)
    change = case.inputs.coarse.values - pair.coarse.values
    assert rmse(pair.fine.values + change, reference) < 0.8 * persistence


def test_abrupt_change_makes_the_prediction_harder():
    def error(abrupt):
        case = simulate_case(192, abrupt=abrupt)
        pair = case.inputs.pairs[0]
        change = case.inputs.coarse.values - pair.coarse.values
        return rmse(pair.fine.values + change, case.reference.values)

    assert error(0.3) > 1.2 * error(0.0)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("size", 15),
        ("size", 5000),
        ("scale", 1),
        ("scale", 97),
        ("pairs", 0),
        ("pairs", 7),
        ("seed", -1),
        ("abrupt", 1.5),
        ("psf", -0.1),
        ("shift", 1.5),
        ("gain", 0.0),
        ("offset", 0.7),
        ("noise", float("nan")),
        ("clouds", -0.1),
        ("coarse_clouds", 1.1),
        ("bands", ()),
        ("bands", ("red", "red")),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(option, value):
    with pytest.raises(ParameterError, match=rf"^{option}: expected .* found "):
        simulate_case(**{option: value})


def test_an_unknown_band_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match="did you mean 'swir1'"):
        simulate_case(bands=("swirl1",))


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return simulate_files(tmp_path_factory.mktemp("scene"), size=128, seed=4)


def files_of(scene):
    return [*scene.fine, *scene.coarse, scene.coarse_at, scene.truth]


def test_fine_files_are_like_landsat_collection_2(scene):
    for path in (*scene.fine, scene.truth):
        with rasterio.open(path) as file:
            assert file.dtypes == ("uint16",) * 4
            assert file.nodata == 0
            assert file.crs.to_epsg() == 32633
            assert file.res == (30, 30)
            assert file.shape == (128, 128)
            assert file.descriptions == scene.bands


def test_coarse_files_lie_on_the_lattice_of_modis(scene):
    for path in (*scene.coarse, scene.coarse_at):
        with rasterio.open(path) as file:
            assert file.dtypes == ("int16",) * 4
            assert file.nodata == -28672
            assert "Sinusoidal" in file.crs.to_wkt()
            assert file.res[0] == pytest.approx(463.3127165, abs=1e-6)
            column = (file.transform.c + 20015109.354) / file.res[0]
            row = (10007554.677 - file.transform.f) / file.res[0]
            assert column == pytest.approx(round(column), abs=1e-5)
            assert row == pytest.approx(round(row), abs=1e-5)


def test_the_files_open_as_images_of_their_sensors(scene):
    for path, date in zip(scene.fine, scene.dates, strict=True):
        image = open_optical(path, scene.fine_sensor, date=date, bands=scene.bands)
        lost = np.isnan(image.values).mean()
        assert 0.08 < lost < 0.25
        assert 0 < np.nanmedian(image.sel(band="nir")) < 0.6
    truth = open_optical(scene.truth, scene.fine_sensor, date=scene.at)
    assert np.isfinite(truth.values).all()
    coarse = open_optical(scene.coarse_at, scene.coarse_sensor, date=scene.at)
    assert 0.03 < np.isnan(coarse.values).mean() < 0.07


def test_coarse_files_are_the_area_mean_of_the_truth(scene):
    # An independent way: the area mean by GDAL, which knows nothing of the PSF.
    truth = open_optical(scene.truth, scene.fine_sensor, date=scene.at).values
    with rasterio.open(scene.truth) as fine, rasterio.open(scene.coarse_at) as file:
        coarse = file.read().astype(np.float64)
        coarse = np.where(coarse == file.nodata, np.nan, coarse * 1e-4)
        means = np.full(coarse.shape, np.nan)
        blurred = ndimage.gaussian_filter(truth, (0, 6.2, 6.2), truncate=3)
        reproject(
            blurred.astype(np.float64),
            means,
            src_transform=fine.transform,
            src_crs=fine.crs,
            dst_transform=file.transform,
            dst_crs=file.crs,
            dst_nodata=np.nan,
            resampling=Resampling.average,
            tolerance=0,
        )
    # Pixels at the edge are means of a part of their area only.
    inner = ndimage.binary_erosion(np.isfinite(means[0]), iterations=2)
    inner &= np.isfinite(coarse[0])
    assert inner.sum() > 8
    left = coarse[:, inner] - (1.02 * means[:, inner] + 0.004)
    # Noise of 0.003; a shift by one fine pixel would leave 0.0034 to 0.0039.
    assert left.std() < 0.0034
    assert abs(left.mean()) < 0.002


def test_files_are_the_same_for_the_same_seed(scene, tmp_path):
    again = simulate_files(tmp_path / "new", size=128, seed=4)
    for one, other in zip(files_of(scene), files_of(again), strict=True):
        with rasterio.open(one) as first, rasterio.open(other) as second:
            np.testing.assert_array_equal(first.read(), second.read())


def test_an_existing_file_is_never_overwritten(tmp_path):
    there = tmp_path / "truth_2023-07-07.tif"
    there.write_text("mine")
    with pytest.raises(WriteError, match="remove it or choose another folder"):
        simulate_files(tmp_path, size=64)
    assert there.read_text() == "mine"
    assert os.listdir(tmp_path) == [there.name]


def test_a_folder_that_cannot_be_made_is_a_write_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="expected to write a simulated scene"):
        simulate_files(tmp_path / "file" / "sub", size=64)


def test_a_failure_leaves_no_file_behind(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no space left on device")

    monkeypatch.setattr("geofuse.synthetic.files._write_dn", fail)
    with pytest.raises(WriteError, match="no space left"):
        simulate_files(tmp_path, size=64)
    assert os.listdir(tmp_path) == []


def test_a_size_out_of_range_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="size: expected a whole number from 64"):
        simulate_files(tmp_path, size=63)
