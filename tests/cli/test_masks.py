"""Quality files and product folders on the command line."""

import numpy as np
import pytest
import rasterio
from affine import Affine

from tests.conftest import GRID


def read(path):
    with rasterio.open(path) as dataset:
        return dataset.read()


@pytest.fixture
def classes(raster):
    """A mask file of the fine image (a cloud in a corner) and one of the coarse."""
    fine = np.zeros((1, 96, 128), "uint8")
    fine[0, :4, :4] = 1
    coarse = np.zeros((1, 6, 8), "uint8")
    coarse[0, 5, 7] = 3
    return (
        raster("fine_mask.tif", fine),
        raster("coarse_mask.tif", coarse, transform=GRID * Affine.scale(16)),
    )


def test_clouds_of_the_mask_files_become_invalid(
    scene, tmp_path, geofuse_command, classes
):
    date, at = scene.dates[0], scene.at
    words = ["--fine-mask", classes[0], date, "--coarse-mask", classes[1], at]
    words += ["--fine-mask-layer", "omnicloudmask", "--fine-dilate", "2"]
    words += ["--coarse-mask-layer", "omnicloudmask", "--coarse-drop", "shadow"]
    plain, masked = tmp_path / "plain.tif", tmp_path / "masked.tif"
    assert geofuse_command(*scene.command("coarse-change", plain, dates=[date]))[0] == 0
    command = scene.command("coarse-change", masked, *words, dates=[date])
    code, _, stderr = geofuse_command(*command)
    assert code == 0, stderr
    lost = np.isnan(read(masked)[0]) & ~np.isnan(read(plain)[0])
    expected = np.zeros((96, 128), bool)
    y, x = np.indices((96, 128))
    expected[np.hypot(np.maximum(y - 3, 0), np.maximum(x - 3, 0)) <= 2] = True
    expected[80:, 112:] = True
    np.testing.assert_array_equal(lost, expected)
    kept = ~np.isnan(read(masked))
    np.testing.assert_array_equal(read(masked)[kept], read(plain)[kept])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fine-mask", "{fine}", "2021-07-01"], "a date of a fine image"),
        (["--fine-mask", "{fine}", "2021-05-01"], "a sensor that has one"),
        (
            ["--fine-mask", "{fine}", "2021-05-01", "--fine-mask-layer", "fmsk"],
            "did you mean 'fmask'",
        ),
        (
            ["--fine-mask", "{coarse}", "2021-05-01", "--fine-mask-layer", "fmask",
             "--fine-drop", "clouds"],
            "did you mean 'cloud'",
        ),
    ],
)  # fmt: skip
def test_a_mask_that_fits_no_image_is_one_line(
    scene, tmp_path, geofuse_command, classes, words, message
):
    words = [word.format(fine=classes[0], coarse=classes[1]) for word in words]
    out = tmp_path / "out.tif"
    code, _, stderr = geofuse_command(*scene.command("coarse-change", out, *words))
    assert code == 2
    assert message in stderr
    assert len(stderr.splitlines()) == 1
    assert not out.exists()


def test_a_mask_is_never_written_over(scene, geofuse_command, classes):
    words = ["--fine-mask", classes[0], scene.dates[0]]
    code, _, stderr = geofuse_command(*scene.command("persistence", classes[0], *words))
    assert code == 2
    assert "no input" in stderr


def test_a_product_folder_fuses_with_its_own_scene_classes(
    raster, tmp_path, geofuse_command
):
    folder = "S2A.SAFE/GRANULE/L2A/IMG_DATA"
    name = "T33UUU_20230601T101031"
    rng = np.random.default_rng(0)
    red = rng.integers(1, 3000, (1, 64, 64)).astype("uint16")
    swir = rng.integers(1, 3000, (1, 32, 32)).astype("uint16")
    classes = np.full((1, 32, 32), 4, "uint8")
    classes[0, 3, 5] = 9
    raster(f"{folder}/R10m/{name}_B04_10m.jp2", red)
    for code, values in (("B11", swir), ("SCL", classes)):
        path = f"{folder}/R20m/{name}_{code}_20m.jp2"
        raster(path, values, transform=GRID * Affine.scale(2))
    coarse = np.full((2, 4, 4), 1000, "int16")
    files = [
        raster(f"{n}.tif", coarse, transform=GRID * Affine.scale(16)) for n in "ab"
    ]
    out, safe = tmp_path / "out.tif", tmp_path / "S2A.SAFE"
    words = ["fuse", "persistence", "--pair", safe, files[0], "2023-06-01"]
    words += ["--at", files[1], "2023-06-11", "-o", out, "--bands", "red,swir1"]
    words += ["--fine-sensor", "sentinel2-l2a", "--coarse-sensor", "gain=1e-4"]
    code, _, stderr = geofuse_command(*words)
    assert code == 2
    assert "red 30 m, swir1 60 m" in stderr
    words += ["--gsd", "30", "--fine-mask", safe, "2023-06-01"]
    code, _, stderr = geofuse_command(*words)
    assert code == 0, stderr
    expected = np.concatenate([red, swir.repeat(2, 1).repeat(2, 2)]) * 1e-4
    expected[:, 6:8, 10:12] = np.nan
    np.testing.assert_allclose(read(out), expected, rtol=1e-6)
