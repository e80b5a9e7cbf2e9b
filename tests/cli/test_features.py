"""`geofuse features`: from files to a named stack, and what can be got wrong."""

import numpy as np
import pytest
import rasterio

from geofuse.cli.features import USUAL
from geofuse.features.indices import find_index

BANDS = ("green", "red", "nir", "swir1")


@pytest.fixture
def optical(raster):
    rng = np.random.default_rng(0)
    dn = rng.integers(300, 5000, (4, 70, 90)).astype("uint16")
    dn[:, :6, :6] = 0
    return raster("s2.tif", dn, bands=BANDS, nodata=0)


@pytest.fixture
def radar(raster):
    power = np.random.default_rng(1).gamma(4, 0.05, (2, 70, 90)).astype("float32")
    return raster("s1.tif", 10 * np.log10(power), bands=("vv", "vh"))


def read(path):
    with rasterio.open(path) as dataset:
        return dict(
            zip(dataset.descriptions, dataset.read(), strict=True)
        ), dataset.tags()


def test_features_of_one_file(optical, tmp_path, geofuse_command):
    out, preview = tmp_path / "f.tif", tmp_path / "f.png"
    words = (
        "features",
        optical,
        "--sensor",
        "gain=1e-4",
        "--indices",
        "ndvi,r = nir / red",
    )
    words += ("--texture", "window=5,features=contrast+entropy", "--local", "gradient")
    words += ("--components", 1, "-o", out, "--preview", preview)
    code, stdout, stderr = geofuse_command(*words)
    assert (code, stdout, stderr) == (0, f"{out}\n", "")
    layers, tags = read(out)
    names = ["ndvi", "r", "pc1_glcm_contrast_w5", "pc1_glcm_entropy_w5"]
    assert list(layers) == [*names, "pc1_gradient_scharr"]
    with rasterio.open(optical) as dataset:
        _, red, nir, _ = dataset.read().astype(float)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(layers["ndvi"], (nir - red) / (nir + red), atol=1e-6)
    assert np.isnan(layers["ndvi"][:6, :6]).all()
    assert "FeatureStack(" in tags["extractor"]
    assert preview.read_bytes().startswith(b"\x89PNG")


def test_modalities_and_their_own_options(optical, radar, tmp_path, geofuse_command):
    out = tmp_path / "f.tif"
    words = ("features", f"s2={optical}", f"s1={radar}", "--unit", "s1=dB", "-o", out)
    words += ("--profile", "s2:attribute=area,thresholds=10+20,components=1")
    words += ("--profile", "s1:radii=2,operators=opening", "--keep-bands")
    assert geofuse_command(*words)[0] == 0
    layers, _ = read(out)
    assert list(layers) == [
        *(f"s2_{band}" for band in BANDS),
        *("s1_vv", "s1_vh", "s2_pc1_area_opening_t10", "s2_pc1_area_opening_t20"),
        *("s2_pc1_area_closing_t10", "s2_pc1_area_closing_t20"),
        *("s1_vv_opening_r2", "s1_vh_opening_r2"),
    ]


def test_unasked_there_are_the_usual_features(optical, tmp_path, geofuse_command):
    out = tmp_path / "f.tif"
    assert geofuse_command("features", optical, "-o", out)[0] == 0
    names = list(read(out)[0])
    assert names[0] == "ndvi"
    assert "evi" not in names  # it needs blue
    assert "pc2_glcm_entropy_w9" in names
    assert "pc1_opening_r8" in names


def test_the_usual_indices_exist():
    assert [find_index(name).name for name in USUAL] == list(USUAL)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--indices", "ndvii"), "did you mean 'ndvi'"),
        (("--indices", "ndre"), "rededge1 (for ndre)"),
        (("--texture", "window=8"), "odd window"),
        (("--texture", "levels=1"), "gray levels"),
        (("--texture", "widow=7"), "did you mean 'window'"),
        (("--texture", "7"), "field=value"),
        (("--texture", "s9:window=7"), "found 's9'"),
        (("--profile", "radii=70"), "shorter side"),
        (("--local", "gradients"), "did you mean 'gradient'"),
        (("--tile", 0), "--tile"),
    ],
)
def test_mistakes_are_told_in_one_line(optical, tmp_path, geofuse_command, more, words):
    out = tmp_path / "f.tif"
    code, stdout, stderr = geofuse_command("features", optical, "-o", out, *more)
    assert (code, stdout) == (2, "")
    assert words in stderr
    assert len(stderr.splitlines()) == 1
    assert not out.exists()


def test_files_and_outputs_that_do_not_fit(optical, radar, tmp_path, geofuse_command):
    out = tmp_path / "f.tif"
    assert "NAME=FILE" in geofuse_command("features", optical, radar, "-o", out)[2]
    assert "no input" in geofuse_command("features", optical, "-o", optical)[2]
    two = ("features", f"s2={optical}", f"s1={radar}", "-o", out)
    assert "--bands NAME=value" in geofuse_command(*two, "--bands", "vv,vh")[2]
    assert "tell its unit" in geofuse_command(*two, "--texture", "window=3")[2]
