import json

import numpy as np
from affine import Affine

from tests.conftest import GRID


def test_a_file_is_told_in_lines(raster, dn, geofuse_command):
    path = raster("scene.tif", dn, bands=("red", None), nodata=7, compress="lzw")
    code, out, err = geofuse_command("info", path)
    assert (code, err) == (0, "")
    facts = dict(line.split(maxsplit=1) for line in out.splitlines() if " " in line)
    assert facts["file"] == str(path)
    assert facts["driver"] == "GTiff"
    assert facts["names"] == "red, b2"
    assert facts["crs"] == "EPSG:32633"
    assert facts["pixel"] == "30.0, 30.0"
    assert facts["nodata"] == "7.0"
    assert facts["compression"] == "lzw"


def test_a_file_is_told_as_json(raster, dn, geofuse_command):
    path = raster("scene.tif", dn, scales=(1e-4, 1e-4), offsets=(-0.1, -0.1))
    code, out, _ = geofuse_command("info", path, "--json")
    facts = json.loads(out)
    assert code == 0
    assert (facts["bands"], facts["height"], facts["width"]) == (2, 70, 90)
    assert facts["dtype"] == "uint16"
    assert facts["gain"] == [1e-4]
    assert facts["offset"] == [-0.1]
    right, bottom = GRID.c + 90 * 30, GRID.f - 70 * 30
    assert facts["bounds"] == [GRID.c, bottom, right, GRID.f]


def test_files_that_cannot_be_fused_are_told_all_the_same(raster, dn, geofuse_command):
    rotated = raster("scene.tif", dn, transform=GRID * Affine.rotation(10))
    assert geofuse_command("info", rotated)[0] == 0
    plain = raster("plain.tif", np.ones((1, 1, 1), "uint8"), crs=None)
    code, out, _ = geofuse_command("info", plain)
    assert code == 0
    assert "no CRS" in out


def test_what_is_no_raster_is_one_line_and_exit_2(tmp_path, geofuse_command):
    (tmp_path / "notes.txt").write_text("hello")
    for name in ("notes.txt", "missing.tif", "."):
        code, out, err = geofuse_command("info", tmp_path / name)
        assert (code, out) == (2, "")
        assert err.startswith("geofuse: expected a raster")
        assert err.count("\n") == 1
