"""GLCM against scikit-image and plain loops, and what must hold of it in any case."""

import dask
import numpy as np
import pytest
import xarray as xr
from skimage.feature import graycomatrix, graycoprops

from geofuse.errors import ParameterError, UnknownNameError
from geofuse.features import cooccurrence
from geofuse.features.texture import GLCM
from tests.oracles import glcm as oracle

ALL = cooccurrence.FEATURES
NEIGHBORS = ((0, 1), (1, 1), (1, 0), (1, -1))
# scikit-image's angles of NEIGHBORS: its (1, -1) is 45 degrees, up and to the right.
ANGLES = (0, 3 * np.pi / 4, np.pi / 2, np.pi / 4)
IN_SKIMAGE = {name: name for name in ALL if not name.startswith("cluster")} | {
    "asm": "ASM"
}


def image_of(values, bands=("nir",)):
    values = np.asarray(values)
    values = values if values.ndim == 3 else values[None]
    return xr.DataArray(
        values,
        dims=("band", "y", "x"),
        coords={
            "band": list(bands),
            "y": -10.0 * np.arange(values.shape[1]),
            "x": 10.0 * np.arange(values.shape[2]),
            "spatial_ref": 0,
            "time": np.datetime64("2021-07-01", "ns"),
        },
    )


def whole_levels(levels, shape=(13, 17), seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, levels, shape).astype(np.float32)


def smooth(shape, seed=0):
    """Reflectance-like values whose neighbors are alike, float32."""
    walk = np.random.default_rng(seed).normal(size=shape).cumsum(axis=0).cumsum(axis=1)
    return np.float32(0.3 + 0.2 * walk / np.abs(walk).max())


def assert_close(found, expected, *, to=1e-6):
    """Equal within `to` of the range of each feature, NaN in the same places."""
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
    for value, wanted in zip(found, expected, strict=True):
        usable = np.isfinite(wanted)
        if usable.any():
            # A feature that is the same everywhere has no range: its size then.
            scale = max(
                np.ptp(wanted[usable]), 1e-6 * np.abs(wanted[usable]).max(), 1e-6
            )
            error = np.abs(value[usable] - wanted[usable]).max()
            # Half a step of float32 is not the algorithm's fault.
            rounding = np.spacing(np.float32(np.abs(wanted[usable]).max()))
            assert error <= to * scale + rounding


@pytest.mark.parametrize(
    ("window", "levels"), [(3, 2), (3, 256), (5, 8), (7, 32), (11, 32), (13, 64)]
)
def test_texture_is_that_of_scikit_image_window_by_window(window, levels):
    # Fewer windows where scikit-image's matrices are large.
    gray = whole_levels(levels, (5, 6) if levels == 256 else (13, 17))
    names = tuple(IN_SKIMAGE)
    glcm = GLCM(window, levels, NEIGHBORS, names, value_range=(0, levels))
    found = glcm.extract(image_of(gray)).values
    expected = np.full(found.shape, np.nan)
    radius = window // 2
    for y in range(radius, gray.shape[0] - radius):
        for x in range(radius, gray.shape[1] - radius):
            around = gray[y - radius : y + radius + 1, x - radius : x + radius + 1]
            matrices = graycomatrix(
                around.astype(np.uint8),
                [1],
                ANGLES,
                levels,
                symmetric=True,
                normed=True,
            )
            for place, name in enumerate(names):
                value = graycoprops(matrices, IN_SKIMAGE[name]).mean()
                expected[place, y, x] = value
    assert_close(found, expected)


@pytest.mark.parametrize("average", [True, False])
@pytest.mark.parametrize(
    ("window", "levels", "offsets"),
    [
        (3, 5, ((0, 1), (1, 0))),
        (5, 4, ((0, 2), (2, 1), (-1, 3))),
        (5, 6, ((4, -4), (0, -1), (-2, -1))),
        (9, 7, ((1, 1),)),
    ],
)
def test_any_offset_matches_the_definition_written_as_loops(
    window, levels, offsets, average
):
    gray = whole_levels(levels, (11, 14), seed=window)
    gray[3, 2] = np.nan
    glcm = GLCM(window, levels, offsets, ALL, value_range=(0, levels), average=average)
    found = glcm.extract(image_of(gray)).values
    expected = oracle.texture(
        np.nan_to_num(gray).astype(int),
        np.isfinite(gray),
        window=window,
        levels=levels,
        offsets=offsets,
        names=ALL,
    )
    expected = expected.mean(axis=0) if average else np.concatenate(expected)
    assert_close(found, expected)


@pytest.mark.parametrize("window", [21, 65, 127])
def test_large_windows_of_many_levels_stay_exact(window):
    size = window + 2
    gray = np.clip(np.round(255 * smooth((size, size)) / 0.5), 0, 255)
    glcm = GLCM(window, 256, NEIGHBORS, ALL, value_range=(0, 256))
    found = glcm.extract(image_of(gray)).values
    radius = window // 2
    for y, x in ((radius, radius), (radius + 2, radius + 1)):
        around = gray[y - radius : y + radius + 1, x - radius : x + radius + 1].astype(
            int
        )
        expected = np.zeros(len(ALL))
        for dy, dx in NEIGHBORS:
            first = around[: window - dy, max(-dx, 0) : window - max(dx, 0)]
            second = around[dy:, max(dx, 0) : window + min(dx, 0)]
            counts = np.zeros((256, 256))
            np.add.at(counts, (first, second), 1)
            np.add.at(counts, (second, first), 1)
            expected += np.array(list(_fast_features(counts / counts.sum()))) / 4
        np.testing.assert_allclose(found[:, y, x], expected, rtol=1e-6)


def _fast_features(p):
    i, j = np.indices(p.shape)
    mean = (p * i).sum()
    variance = (p * (i - mean) ** 2).sum()
    yield (p * (i - j) ** 2).sum()
    yield (p * abs(i - j)).sum()
    yield (p / (1 + (i - j) ** 2)).sum()
    yield (p**2).sum()
    yield np.sqrt((p**2).sum())
    yield -(p[p > 0] * np.log(p[p > 0])).sum()
    yield mean
    yield variance
    yield (p * (i - mean) * (j - mean)).sum() / variance
    yield (p * (i + j - 2 * mean) ** 3).sum()
    yield (p * (i + j - 2 * mean) ** 4).sum()


def test_a_flat_image_has_no_contrast_and_correlation_one():
    texture = GLCM(window=5, features=ALL).extract(image_of(np.full((9, 9), 0.3)))
    middle = dict(zip(ALL, texture.values[:, 4, 4].tolist(), strict=True))
    assert middle == {
        **dict.fromkeys(ALL, 0.0),
        **dict.fromkeys(("homogeneity", "asm", "energy", "correlation"), 1.0),
    }


@pytest.mark.parametrize("hole", [np.nan, np.inf])
def test_a_window_with_an_invalid_pixel_or_beyond_the_image_is_nan(hole):
    values = smooth((20, 20))
    values[12, 8] = hole
    texture = GLCM(window=5, levels=8).extract(image_of(values)).values
    expected = np.ones((20, 20), bool)
    expected[2:-2, 2:-2] = False
    expected[10:15, 6:11] = True
    for feature in texture:
        np.testing.assert_array_equal(np.isnan(feature), expected)


def test_what_hides_under_an_invalid_pixel_changes_nothing():
    values = smooth((16, 18))
    glcm = GLCM(window=3, levels=8, value_range=(0.1, 0.5))
    whole = glcm.extract(image_of(values)).values
    values[5, 6] = np.nan
    holed = glcm.extract(image_of(values)).values
    kept = np.isfinite(holed)
    np.testing.assert_array_equal(holed[kept], whole[kept])


def test_an_image_without_a_valid_pixel_gives_nan():
    values = np.full((12, 12), np.nan, np.float32)
    assert np.isnan(GLCM(window=3).extract(image_of(values)).values).all()


@pytest.mark.parametrize("average", [True, False])
@pytest.mark.parametrize("tile", [5, 16, 33])
def test_tile_size_never_changes_the_result(tile, average):
    values = np.stack([smooth((41, 53), seed) for seed in (1, 2)])
    values[0, 20:24, 7] = np.nan
    image = image_of(values, ("red", "nir"))
    glcm = GLCM(window=7, levels=16, features=ALL, average=average)
    whole = glcm.extract(image, tile=None).values
    tiled = glcm.extract(image.chunk(y=19, x=23), tile=tile).values
    np.testing.assert_array_equal(tiled, whole)


def test_nothing_is_computed_before_it_is_asked_for():
    def refuse(block):
        raise AssertionError("computed too early")

    image = image_of(smooth((20, 20))).chunk()
    texture = GLCM(window=3).extract(
        image.copy(data=image.data.map_blocks(refuse, meta=image.data._meta))
    )
    assert dask.is_dask_collection(texture.data)


def test_names_say_band_feature_window_and_direction():
    image = image_of(np.zeros((2, 9, 9)), ("red", "nir"))
    glcm = GLCM(window=5, features=("asm", "mean"))
    texture = glcm.extract(image)
    assert texture.feature.values.tolist() == [
        "red_glcm_asm_w5",
        "red_glcm_mean_w5",
        "nir_glcm_asm_w5",
        "nir_glcm_mean_w5",
    ]
    each = GLCM(window=5, features=("asm",), offsets=((0, 1), (1, -1)), average=False)
    assert each.extract(image).feature.values.tolist()[:2] == [
        "red_glcm_asm_w5_dy0_dx1",
        "red_glcm_asm_w5_dy1_dx-1",
    ]


def test_the_grid_and_date_are_kept_and_the_result_is_float32():
    image = image_of(smooth((10, 12)))
    texture = GLCM(window=3).extract(image)
    assert texture.dims == ("feature", "y", "x")
    assert texture.dtype == texture.values.dtype == np.float32
    for name in ("y", "x", "spatial_ref", "time"):
        assert texture[name].equals(image[name])
    assert "GLCM(window=3" in texture.attrs["extractor"]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float64])
def test_any_number_type_gives_the_same_texture(dtype):
    gray = whole_levels(16)
    glcm = GLCM(window=5, levels=16, value_range=(0, 16))
    expected = glcm.extract(image_of(gray)).values
    np.testing.assert_array_equal(
        glcm.extract(image_of(gray.astype(dtype))).values, expected
    )


def test_the_range_is_of_the_scene_and_leaves_out_the_extremes():
    values = smooth((60, 60))
    values[0, 0] = 40.0
    low, high = np.percentile(values, (1, 99))
    expected = GLCM(window=3, value_range=(low, high)).extract(image_of(values)).values
    found = GLCM(window=3).extract(image_of(values), tile=16).values
    np.testing.assert_array_equal(found, expected)
    ends = GLCM(window=3, percentiles=(0, 100)).extract(image_of(values)).values
    given = GLCM(window=3, value_range=(float(values.min()), 40.0))
    np.testing.assert_array_equal(ends, given.extract(image_of(values)).values)


def test_each_band_has_its_own_range():
    values = smooth((20, 20))
    both = image_of(np.stack([values, np.float32(1000) * values]), ("red", "b10"))
    texture = GLCM(window=3, levels=8, features=("contrast",)).extract(both).values
    # Not exactly: the scaled values are rounded to float32.
    assert np.nanmean(np.abs(texture[0] - texture[1])) < 0.02


def test_the_range_of_a_large_scene_is_sampled_and_still_close():
    rng = np.random.default_rng(0)
    values = rng.random((1100, 1100), np.float32)
    ranges = GLCM()._ranges(image_of(values)).compute()
    np.testing.assert_allclose(ranges, [[0.01, 0.99]], atol=2e-3)  # 3e5 samples


def test_values_beyond_the_range_go_to_the_end_levels():
    values = smooth((20, 20))
    glcm = GLCM(window=3, levels=8, value_range=(0.2, 0.4))
    clipped = glcm.extract(image_of(values.clip(0.2, 0.4))).values
    np.testing.assert_array_equal(glcm.extract(image_of(values)).values, clipped)


def test_a_mirrored_image_has_mirrored_texture():
    values = smooth((15, 16))
    glcm = GLCM(window=5, levels=8, value_range=(0.1, 0.5), features=ALL)
    mirrored = glcm.extract(image_of(values[:, ::-1])).values[..., ::-1]
    # Directions are added in another order: one step of float32 at most.
    np.testing.assert_allclose(
        mirrored, glcm.extract(image_of(values)).values, rtol=1e-6, atol=1e-6
    )


def test_each_feature_alone_is_the_same_as_among_all():
    image = image_of(smooth((12, 13)))
    together = GLCM(window=5, features=ALL).extract(image)
    for place, name in enumerate(ALL):
        alone = GLCM(window=5, features=(name,)).extract(image)
        np.testing.assert_array_equal(alone.values[0], together.values[place])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"window": 4}, "odd window"),
        ({"window": 1}, "3 to 127"),
        ({"window": 129}, "3 to 127"),
        ({"window": 5.0}, "3 to 127"),
        ({"window": True}, "3 to 127"),
        ({"levels": 1}, "2 to 256"),
        ({"levels": 257}, "2 to 256"),
        ({"features": ()}, "at least one feature"),
        ({"features": ("asm", "asm")}, "each once"),
        ({"offsets": ()}, "at least one offset"),
        ({"offsets": ((0, 1), (0, 1))}, "each once"),
        ({"offsets": ((0, 0),)}, "other than"),
        ({"offsets": ((0, 9),)}, "shorter than the window of 9"),
        ({"offsets": (1, 0)}, "rows, columns"),
        ({"offsets": ((0, 1.5),)}, "rows, columns"),
        ({"value_range": (1.0, 0.0)}, "lower one first"),
        ({"value_range": (0.2, 0.2)}, "lower one first"),
        ({"value_range": (0.0, np.nan)}, "lower one first"),
        ({"value_range": 0.4}, "two numbers"),
        ({"percentiles": (2, 101)}, "between 0 and 100"),
    ],
)
def test_values_out_of_range_are_refused(wrong, message):
    with pytest.raises(ParameterError, match=message):
        GLCM(**wrong)


def test_a_misspelled_feature_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match="did you mean 'contrast'"):
        GLCM(features=("contrst",))


def test_a_window_larger_than_the_image_is_refused():
    with pytest.raises(ParameterError, match="at least 9x9 pixels"):
        GLCM(window=9).extract(image_of(np.zeros((8, 20))))


def test_lists_are_taken_and_kept_as_tuples():
    glcm = GLCM(offsets=[[0, 1]], features=["asm"], value_range=[0, 1])
    assert glcm == GLCM(offsets=((0, 1),), features=("asm",), value_range=(0.0, 1.0))
    assert hash(glcm)


def test_an_image_of_one_window_has_one_pixel_of_texture():
    texture = GLCM(window=5).extract(image_of(smooth((5, 5)))).values
    assert np.isfinite(texture).sum(axis=(1, 2)).tolist() == [1] * len(texture)
    assert np.isfinite(texture[:, 2, 2]).all()
