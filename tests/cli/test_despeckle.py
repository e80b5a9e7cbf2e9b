import numpy as np
import pytest
import rasterio

from geofuse.rasters.backscatter import to_db
from geofuse.rasters.sar import open_sar
from geofuse.rasters.speckle.filters import despeckle
from tests.conftest import GRID


@pytest.fixture
def decibels(raster):
    power = np.random.default_rng(0).gamma(4, 0.02, (2, 40, 50))
    power[:, :5] = np.nan
    values = (10 * np.log10(power)).astype("f4")
    return raster("s1.tif", values, bands=("VV", "VH"), nodata=np.nan)


def test_the_product_of_the_command_is_that_of_python(
    decibels, tmp_path, geofuse_command
):
    image = open_sar(decibels, date="2021-07-02", unit="db")
    for name, more in (("refined-lee", ()), ("lee", ("--looks", "4", "--window", "5"))):
        out = tmp_path / f"{name}.tif"
        words = ("--filter", name, "--unit", "db", "--tile", "16", *more)
        code, said, err = geofuse_command("despeckle", decibels, "-o", out, *words)
        assert (code, said, err) == (0, f"{out}\n", "")
        looks, window = (4.0, 5) if more else (None, 7)
        expected = despeckle(image, name, window=window, looks=looks).values
        with rasterio.open(out) as dataset:
            np.testing.assert_array_equal(dataset.read(), expected)
            assert dataset.descriptions == ("vv", "vh")
            assert dataset.transform == GRID
            assert dataset.tags()["speckle"].startswith(f"{name} window={window}")
            assert "time" not in dataset.tags()


def test_db_is_written_where_asked(decibels, tmp_path, geofuse_command):
    out = tmp_path / "out.tif"
    words = ("--filter", "boxcar", "--unit", "db", "--db", "--date", "2021-07-02")
    assert geofuse_command("despeckle", decibels, "-o", out, *words)[0] == 0
    image = open_sar(decibels, date="2021-07-02", unit="db")
    with rasterio.open(out) as dataset:
        expected = to_db(despeckle(image, "boxcar")).values
        np.testing.assert_allclose(dataset.read(), expected, rtol=1e-6)
        assert dataset.tags()["units"] == "dB"
        assert dataset.tags()["time"] == "2021-07-02"


def test_mistakes_are_one_line_and_exit_2(decibels, tmp_path, geofuse_command):
    out = tmp_path / "out.tif"
    for words, message in (
        (("-o", out), "give unit="),
        (("-o", out, "--unit", "power"), "look like dB"),
        (("-o", decibels, "--unit", "db"), "an output that is no input"),
        (("-o", out, "--unit", "db", "--filter", "leee"), "did you mean 'lee'"),
        (("-o", out, "--unit", "db", "--filter", "quegan"), "several dates"),
        (("-o", out, "--unit", "db", "--tile", "0"), "--tile of at least 1"),
    ):
        code, _, err = geofuse_command("despeckle", decibels, *words)
        assert code == 2
        assert message in err
        assert err.count("\n") == 1
    assert not out.exists()
