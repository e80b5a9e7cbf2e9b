import json

import numpy as np

from tests.rasters.test_coregister import GRID, SCALE, pair


def write(raster, tmp_path):
    fine, coarse = pair(4.0, -3.0)
    fine_path = raster(
        "fine.tif", fine.values, bands=("red", "nir"), transform=GRID, nodata=np.nan
    )
    native = coarse.values[:, ::SCALE, ::SCALE]
    coarse_path = raster(
        "coarse.tif",
        native,
        bands=("red", "nir"),
        transform=GRID * GRID.scale(SCALE),
        nodata=np.nan,
    )
    return fine_path, coarse_path


def test_the_shift_is_told_in_lines_in_json_and_as_a_picture(
    raster, tmp_path, geofuse_command
):
    fine, coarse = write(raster, tmp_path)
    picture = tmp_path / "off.png"
    words = ("register", fine, coarse, "--bands", "red,nir")
    code, out, err = geofuse_command(*words, "--picture", picture)
    assert (code, err) == (0, "")
    assert "confidence" in out
    assert "point spread" in out
    assert picture.read_bytes().startswith(b"\x89PNG")
    code, out, _ = geofuse_command(*words, "--json")
    facts = json.loads(out)
    assert code == 0
    assert abs(facts["dy"] - 4.0) < 0.1 * SCALE
    assert abs(facts["dx"] + 3.0) < 0.1 * SCALE
    assert facts["scale"] == SCALE
    assert abs(facts["psf_sigma"] - 0.5) < 0.15


def test_a_picture_over_an_input_is_refused(raster, tmp_path, geofuse_command):
    fine, coarse = write(raster, tmp_path)
    before = fine.read_bytes()
    code, _, err = geofuse_command("register", fine, coarse, "--picture", fine)
    assert code == 2
    assert "no input" in err
    assert fine.read_bytes() == before
    missing = tmp_path / "no" / "folder.png"
    code, _, err = geofuse_command("register", fine, coarse, "--picture", missing)
    assert code == 1
    assert "choose a folder" in err
