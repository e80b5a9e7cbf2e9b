import dask
import numpy as np
import pytest
import xarray as xr
from scipy.ndimage import gaussian_filter

from geofuse.errors import ParameterError, UnknownNameError
from geofuse.rasters.speckle import looks as looks_module
from geofuse.rasters.speckle.filters import FILTERS, despeckle
from geofuse.rasters.speckle.looks import estimate_looks
from tests.oracles import speckle as oracle


def backscatter(shape=(26, 31), looks=4.0, seed=0, invalid=True):
    """Power of two fields and a bright target under speckle, with invalid pixels."""
    rng = np.random.default_rng(seed)
    scene = np.full(shape, 0.05)
    scene[..., shape[-1] // 2 :] = 0.3
    scene[..., 5, 7] = 20.0
    values = (scene * rng.gamma(looks, 1 / looks, shape)).astype("f4")
    if invalid:
        values[..., 10:14, 3:9] = np.nan
        values[..., 0, :] = np.nan
        values[..., 20, 20] = np.nan
    return values


def image_of(values, **attrs):
    dims = ("time", "band", "y", "x")[-values.ndim :]
    return xr.DataArray(values, dims=dims, attrs=attrs, name="sigma0")


def expected(name, values, window):
    if name == "quegan":
        return oracle.quegan(values, window)
    more = {
        "boxcar": (window,),
        "refined-lee": (4.0,),
        "frost": (window, 2.0),
    }.get(name, (window, 4.0))
    return getattr(oracle, name.replace("-", "_"))(values, *more)


@pytest.mark.parametrize(
    ("name", "window"),
    [(name, 7) for name in FILTERS]
    + [(name, 3) for name in FILTERS if name != "refined-lee"],
)
def test_each_filter_is_its_paper_written_as_loops(name, window):
    if name == "quegan":
        stack = np.stack([backscatter(seed=seed) for seed in range(3)])
        stack[1, 15:, :8] = np.nan
        image = image_of(stack[:, None])
        found = despeckle(image, name, window=window).values[:, 0]
        values = stack
    else:
        values = backscatter()
        found = despeckle(image_of(values[None]), name, window=window, looks=4.0)
        found = found.values[0]
    # float32 results of float64 sums; the exponential is good to 1e-9.
    np.testing.assert_allclose(found, expected(name, values, window), rtol=2e-6)


@pytest.mark.parametrize("looks", [None, 3.3])
@pytest.mark.parametrize("name", FILTERS)
def test_tile_size_never_changes_the_result(name, looks):
    dates = np.stack([backscatter((2, 61, 83), seed=seed) for seed in range(2)])
    image = image_of(dates).chunk({"y": 17, "x": 29})
    whole = despeckle(image, name, looks=looks, tile=None).values
    for tile in (16, 23):
        tiled = despeckle(image, name, looks=looks, tile=tile).values
        np.testing.assert_array_equal(tiled, whole)


@pytest.mark.parametrize("name", FILTERS)
def test_exactly_the_invalid_pixels_are_invalid_and_nothing_is_under_them(name):
    values = np.stack([backscatter(seed=seed) for seed in range(2)])[:, None]
    hidden = values.copy()
    hidden[np.isnan(values)] = np.inf
    first, second = (
        despeckle(image_of(v), name, looks=4.0).values for v in (values, hidden)
    )
    np.testing.assert_array_equal(np.isnan(first), np.isnan(values))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", FILTERS)
def test_ten_times_the_power_is_ten_times_the_result(name):
    values = np.stack([backscatter(seed=seed) for seed in range(2)])[:, None]
    one, ten = (despeckle(image_of(v), name).values for v in (values, 10 * values))
    np.testing.assert_allclose(ten, 10 * one, rtol=1e-5)  # float32 in, float32 out


@pytest.mark.parametrize("name", FILTERS)
def test_speckle_falls_and_the_mean_stays(name):
    rng = np.random.default_rng(0)
    values = rng.gamma(4, 1 / 4, (8, 1, 96, 96)).astype("f4")
    found = despeckle(image_of(values), name, looks=4.0).values
    assert np.abs(found.mean() / values.mean() - 1) < 0.02
    least = 2 if name == "frost" else 3
    assert found.std() < values.std() / np.sqrt(least)


def test_lee_and_kuan_differ_by_their_divisor():
    image = image_of(backscatter(invalid=False)[None])
    mean = despeckle(image, "boxcar").values.astype("f8")
    lee, kuan = (despeckle(image, n, looks=2.0).values - mean for n in ("lee", "kuan"))
    np.testing.assert_allclose(lee, 1.5 * kuan, atol=1e-5)  # 1 + Cu^2 = 1.5


def test_a_point_target_survives_the_adaptive_filters():
    values = backscatter(invalid=False)
    for name in ("lee", "kuan", "refined-lee", "gamma-map"):
        found = despeckle(image_of(values[None]), name, looks=4.0).values[0]
        assert found[5, 7] > 0.7 * values[5, 7]
    assert despeckle(image_of(values[None]), "boxcar").values[0, 5, 7] < 2


def test_refined_lee_keeps_an_edge_that_lee_softens():
    scene = np.where(np.arange(64) < 32, 0.05, 0.5) * np.ones((64, 1))
    values = scene * np.random.default_rng(0).gamma(10, 1 / 10, scene.shape)
    image = image_of(values.astype("f4")[None])
    beside = (slice(3, -3), slice(29, 32))
    errors = {
        name: np.abs(despeckle(image, name, looks=10.0).values[0] / scene - 1)[beside]
        for name in ("lee", "refined-lee")
    }
    assert errors["refined-lee"].mean() < 0.8 * errors["lee"].mean()


def test_pixels_without_speckle_are_returned():
    values = np.full((2, 1, 12, 12), 0.125, "f4")
    for name in FILTERS:
        found = despeckle(image_of(values), name, looks=4.0).values
        np.testing.assert_allclose(found, values, rtol=1e-7)


@pytest.mark.parametrize("looks", [1.0, 4.4, 20.0])
def test_the_looks_are_found_under_fields_and_rough_ground(looks):
    rng = np.random.default_rng(0)
    fields = np.kron(rng.uniform(0.02, 0.3, (16, 16)), np.ones((32, 32)))
    rough = np.exp(gaussian_filter(rng.normal(size=(512, 512)), 4) * 4)
    scene = np.where(np.arange(512) < 350, fields, rough)
    values = (scene * rng.gamma(looks, 1 / looks, scene.shape)).astype("f4")
    values[:100] = np.nan
    found = estimate_looks(image_of(values[None]))
    np.testing.assert_allclose(found, looks, rtol=0.08)


def test_estimated_looks_are_those_that_the_filter_uses():
    image = image_of(backscatter((1, 64, 64), invalid=False))
    looks = float(estimate_looks(image)[0])
    given = despeckle(image, "lee", looks=looks)
    np.testing.assert_array_equal(despeckle(image, "lee").values, given.values)
    assert given.attrs["speckle"] == f"lee window=7 looks={looks:g}"


def test_nothing_is_computed_before_it_is_asked_for():
    def fail(block):
        raise AssertionError("computed")

    image = image_of(np.ones((1, 40, 40), "f4")).chunk()
    image = image.copy(data=image.data.map_blocks(fail, dtype="f4", meta=np.empty(0)))
    with dask.config.set(scheduler="synchronous"):
        lazy = despeckle(image, "lee")
    assert dask.is_dask_collection(lazy.data)
    assert lazy.dtype == np.float32


def test_an_image_without_a_valid_pixel_stays_so():
    image = image_of(np.full((1, 20, 20), np.nan, "f4"))
    assert np.isnan(despeckle(image, "lee").values).all()
    assert estimate_looks(image).values.tolist() == [1.0]


def test_looks_that_cannot_be_found_are_asked_for():
    image = image_of(np.ones((1, 6, 6), "f4"))
    with pytest.raises(ParameterError, match=r"give looks="):
        despeckle(image, "lee").compute()


def test_db_is_refused_where_it_is_said_and_where_it_is_found():
    image = image_of(-10 - backscatter((1, 20, 20), invalid=False))
    with pytest.raises(ParameterError, match="from_db"):
        despeckle(image.assign_attrs(units="dB"), "boxcar")
    with pytest.raises(ParameterError, match="nine of ten"):
        despeckle(image, "boxcar").compute()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 4}, "odd window"),
        ({"window": 1}, "3 to 63"),
        ({"filter": "refined-lee", "window": 5}, "window of 7"),
        ({"looks": 0}, "looks above 0"),
        ({"looks": np.inf}, "looks above 0"),
        ({"filter": "frost", "damping": -1}, "damping above 0"),
        ({"filter": "quegan"}, "several dates"),
    ],
)
def test_values_out_of_range_are_refused(arguments, message):
    image = image_of(np.ones((1, 9, 9), "f4"))
    with pytest.raises(ParameterError, match=message):
        despeckle(image, **{"filter": "lee", **arguments})


def test_what_is_no_power_is_refused():
    values = np.ones((1, 9, 9))
    with pytest.raises(ParameterError, match="abs"):
        despeckle(image_of(values * 1j), "lee")
    with pytest.raises(ParameterError, match="expand_dims"):
        despeckle(image_of(values[0]), "lee")
    with pytest.raises(UnknownNameError, match="did you mean 'refined-lee'"):
        despeckle(image_of(values), "refined_lee")


def test_squares_of_the_estimate_fill_the_tiles_of_the_scan():
    from geofuse.tiling import SCAN_TILE

    assert SCAN_TILE % looks_module.SQUARE == 0
