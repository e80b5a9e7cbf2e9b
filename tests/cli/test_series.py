"""A series from files to files: sources of files, gaps, going on, mistakes."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio

import geofuse
from geofuse.rasters.dated_files import date_in_name, files_in, files_of_table
from geofuse.rasters.write import _Stage, stage_of
from geofuse.spatiotemporal.kalman import Kalman
from geofuse.spatiotemporal.series import predict_series
from geofuse.synthetic import simulate_series
from tests.conftest import GRID

ROOT = Path(geofuse.__file__).parents[1]
SCALE = ("--scale", "8", "--bands", "red,nir")


def write(path, image):
    values = image.values
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        crs="EPSG:32633",
        transform=GRID,
        count=len(values),
        height=values.shape[1],
        width=values.shape[2],
        dtype="float32",
        nodata=np.nan,
    ) as dataset:
        dataset.write(values)


def read(path):
    with rasterio.open(path) as dataset:
        return dataset.read()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def simulated():
    return simulate_series(
        40, bands=["red", "nir"], scale=8, days=48, fine_every=24, seed=7
    )


@pytest.fixture(scope="module")
def folder(simulated, tmp_path_factory):
    """Fine files with dashed dates, coarse ones with days of the year, and a table."""
    folder = tmp_path_factory.mktemp("series")
    lines = ["kind, path, date"]
    for kind in ("fine", "coarse"):
        (folder / kind).mkdir()
    for pair in simulated.pairs:
        write(folder / "fine" / f"L8_190028_{pair.date}.tif", pair.fine)
        lines.append(f"fine, fine/L8_190028_{pair.date}.tif, {pair.date}")
    for image in simulated.coarse:
        day = image.time.dt.strftime("%Y%j").item()
        write(folder / "coarse" / f"MOD.A{day}.061.tif", image)
        lines.append(f"coarse, coarse/MOD.A{day}.061.tif,")
    (folder / "files.csv").write_text("\n".join(lines))
    return folder


def from_folders(folder):
    return (
        "--fine-folder",
        folder / "fine",
        "--coarse-folder",
        folder / "coarse",
        *SCALE,
    )


def test_products_are_those_of_python_one_file_a_date(
    simulated, folder, tmp_path, geofuse_command
):
    out = tmp_path / "out"
    words = ("series", "kalman", *from_folders(folder), "-o", out, "--quality")
    code, stdout, err = geofuse_command(*words, "--uncertainty")
    assert (code, err) == (0, "")
    expected = predict_series(simulated.pairs, simulated.coarse, method=Kalman())
    dates = [str(day)[:10] for day in expected.time.values]
    assert stdout.split() == [
        str(out / f"{day}{what}.tif")
        for day in dates
        for what in ("", "_std", "_quality")
    ]
    assert len(names(out)) == 3 * len(dates)
    for number, day in enumerate(dates):
        of_date = expected.isel(time=number)
        np.testing.assert_array_equal(read(out / f"{day}.tif"), of_date.reflectance)
        np.testing.assert_array_equal(
            read(out / f"{day}_quality.tif")[0], of_date.quality
        )
        spread = read(out / f"{day}_std.tif")
        np.testing.assert_array_equal(spread, np.sqrt(of_date.variance))
    with rasterio.open(out / f"{dates[1]}.tif") as dataset:
        tags = dataset.tags()
        assert dataset.descriptions == ("red", "nir")
        assert dataset.transform == GRID
    assert tags["method"] == repr(Kalman())
    assert tags["prediction_date"] == tags["time"] == dates[1]
    assert tags["base_dates"] == "2023-01-09, 2023-02-02, 2023-02-26"


def test_only_gaps_fills_the_fine_files_and_leaves_measured_pixels(
    simulated, folder, tmp_path, geofuse_command
):
    out = tmp_path / "filled"
    words = ("--table", folder / "files.csv", *SCALE, "-o", out, "--only-gaps")
    assert geofuse_command("series", "coarse-change", *words)[0] == 0
    assert names(out) == [f"{pair.date}.tif" for pair in simulated.pairs]
    for pair in simulated.pairs:
        product, fine = read(out / f"{pair.date}.tif"), pair.fine.values
        measured = np.isfinite(fine)
        np.testing.assert_array_equal(product[measured], fine[measured], strict=True)
        assert np.isfinite(product[~measured]).mean() > 0.7


@pytest.mark.parametrize("method", ["kalman", "coarse-change"])
def test_whole_dates_are_kept_and_others_made_again(
    folder, tmp_path, geofuse_command, monkeypatch, method
):
    out = tmp_path / "out"
    words = ("series", method, *from_folders(folder), "-o", out)
    _, stdout, _ = geofuse_command(*words)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    stored = []
    original = _Stage.keep
    monkeypatch.setattr(
        _Stage,
        "keep",
        lambda self, *tile: stored.append(self.target.name) or original(self, *tile),
    )
    assert geofuse_command(*words) == (0, stdout, "")
    assert stored == []
    removed, cut, other = sorted(before)[1:4]
    (out / removed).unlink()
    (out / cut).write_bytes(before[cut][:-100])
    (out / other).write_bytes(before[sorted(before)[0]])  # whole, and of another date
    code, again, _ = geofuse_command(*words)
    assert code == 0
    assert sorted(again.split()) == sorted(stdout.split())
    assert set(stored) == {removed, cut, other}
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_killed_run_goes_on_date_by_date(folder, tmp_path, geofuse_command):
    out, whole = tmp_path / "out", tmp_path / "whole"
    words = ["series", "coarse-change", *from_folders(folder), "--tile", "16", "-o"]
    process = subprocess.Popen(
        [sys.executable, "-c",
         "import sys; from geofuse.cli import main; sys.exit(main())",
         *map(str, [*words, out])],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    end = time.monotonic() + 90
    while len(list(out.glob("2023-*.tif"))) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    # A date whose hidden folder is left was killed while it was tidied up.
    whole_dates = [p for p in out.glob("2023-*.tif") if not stage_of(p).exists()]
    kept = {path.name: path.stat().st_mtime_ns for path in whole_dates}
    assert len(names(out)) < 7
    assert geofuse_command(*words, out)[0] == 0
    assert geofuse_command(*words, whole)[0] == 0
    assert names(out) == names(whole)
    for name in names(whole):
        np.testing.assert_array_equal(read(out / name), read(whole / name))
    for name, changed in kept.items():
        assert (out / name).stat().st_mtime_ns == changed


def test_another_run_at_the_same_date_is_exit_75(folder, tmp_path, geofuse_command):
    import fcntl

    out = tmp_path / "out"
    stage = out / ".2023-01-17.tif.geofuse"
    stage.mkdir(parents=True)
    handle = os.open(stage, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        words = ("series", "coarse-change", *from_folders(folder), "-o", out)
        code, stdout, err = geofuse_command(*words)
    finally:
        os.close(handle)
    assert code == 75
    assert "another run" in err
    assert stdout.split() == [str(out / "2023-01-09.tif")]


def test_dates_are_found_in_names_and_tables(folder, tmp_path):
    assert date_in_name("/a/20190101/2020068_191-28_kranj.tif") == "2020-03-08"
    assert date_in_name("S2A_MSIL2A_20200317T100021_N0214.jp2") == "2020-03-17"
    assert date_in_name("x_99999999_2020-02-29.tif") == "2020-02-29"
    assert [file.date for file in files_in(folder / "fine")] == [
        "2023-01-09",
        "2023-02-02",
        "2023-02-26",
    ]
    files = files_of_table(folder / "files.csv")
    assert files.coarse[1].date == "2023-01-17"
    assert Path(files.fine[0].path).is_file()


def wrong(folder, tmp_path, case):
    fine, coarse = folder / "fine", folder / "coarse"
    one = fine / "L8_190028_2023-01-09.tif"
    both = from_folders(folder)
    empty = tmp_path / "empty"
    empty.mkdir()
    table = tmp_path / "table.csv"
    text = {
        "a kind that there is not": "kind,path\nfin,a_20230101.tif",
        "a table without columns": "a,b\n1,2",
    }.get(case)
    if text:
        table.write_text(text)
    (tmp_path / "undated").mkdir()
    write_path = tmp_path / "undated" / "image.tif"
    write_path.write_bytes(b"")
    return {
        "no files": (("kalman",), "at least one fine file"),
        "no coarse": (("kalman", "--fine-folder", fine), "at least one coarse file"),
        "no pair": (
            ("kalman", "--fine", one, "2023-01-10", "--coarse-folder", coarse, *SCALE),
            "fine and a coarse file, found none",
        ),
        "two on a date": (
            ("kalman", *both, "--fine", one, "2023-01-09"), "found 2 on 2023-01-09"),
        "a date that is not ISO": (
            ("kalman", *both, "--fine", one, "9.1.2023"), "an ISO date"),
        "no such folder": (("kalman", "--fine-folder", "nowhere"), "a folder of rasters"),
        "an empty folder": (("kalman", "--fine-folder", empty), "found none"),
        "a name without a date": (
            ("kalman", "--fine-folder", tmp_path / "undated"), "date in the name"),
        "a missing table": (("kalman", "--table", "no.csv"), "cannot be read"),
        "a kind that there is not": (("kalman", "--table", table), "expected fine or coarse"),
        "a table without columns": (("kalman", "--table", table), "the columns kind, path"),
        "an unknown method": (("kalmann", *both), "did you mean 'kalman'"),
        "a field out of range": (("whittaker", *both, "--set", "step=0"), "step of 1"),
        "too few pairs a date": (("starfm", *both, "--most-pairs", "1"), "at least 2 pairs"),
        "no uncertainty": (("harmonic", *both, "--uncertainty"), "states its uncertainty"),
        "no tile": (("kalman", *both, "--tile", "0"), "--tile of at least 1"),
    }[case]  # fmt: skip


@pytest.mark.parametrize(
    "case",
    ["no files", "no coarse", "no pair", "two on a date", "a date that is not ISO",
     "no such folder", "an empty folder", "a name without a date", "a missing table",
     "a kind that there is not", "a table without columns", "an unknown method",
     "a field out of range", "too few pairs a date", "no uncertainty", "no tile"],
)  # fmt: skip
def test_a_mistake_is_exit_2_with_one_line_and_no_folder(
    folder, tmp_path, geofuse_command, case
):
    words, expected = wrong(folder, tmp_path, case)
    code, stdout, err = geofuse_command("series", *words, "-o", tmp_path / "out")
    assert (code, stdout) == (2, ""), err
    assert err.startswith("geofuse: ")
    assert err.count("\n") == 1
    assert re.search(expected, err), err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_an_input_of_that_name_is_refused(
    simulated, folder, tmp_path, geofuse_command
):
    for pair in simulated.pairs:
        write(tmp_path / f"{pair.date}.tif", pair.fine)
    words = ("--fine-folder", tmp_path, "--coarse-folder", folder / "coarse", *SCALE)
    code, _, err = geofuse_command("series", "kalman", *words, "-o", tmp_path)
    assert code == 2
    assert "holds no input" in err


def test_a_place_that_cannot_be_a_folder_is_exit_1(folder, tmp_path, geofuse_command):
    (tmp_path / "file").write_text("not a folder")
    words = ("series", "kalman", *from_folders(folder), "-o", tmp_path / "file" / "out")
    code, _, err = geofuse_command(*words)
    assert code == 1
    assert err.count("\n") == 1


def test_real_gaps_are_filled_from_daily_images(real_data, tmp_path, geofuse_command):
    kranj = real_data / "fusion" / "kranj_imagefusion"
    if not kranj.is_dir():
        pytest.skip("the scene kranj is not there")
    out = tmp_path / "out"
    code, _, err = geofuse_command(
        "series", "kalman", "--fine-folder", kranj / "landsat" / "unfilled",
        "--coarse-folder", kranj / "modis" / "filled", "--fine-sensor", "gain=1e-4",
        "--bands", "blue,green,red,nir,swir1,swir2", "--only-gaps", "-o", out,
    )  # fmt: skip
    assert (code, err) == (0, "")
    for path in (kranj / "landsat" / "unfilled").iterdir():
        day = date_in_name(path.name)
        with rasterio.open(path) as dataset:
            dn = dataset.read()
            fine = np.where(dn == dataset.nodata, np.nan, dn * np.float64(1e-4))
        product = read(out / f"{day}.tif")
        np.testing.assert_array_equal(
            product[np.isfinite(fine)], fine[np.isfinite(fine)].astype("f4")
        )
        assert (product[np.isnan(fine)] > 0).sum() >= 0.9 * np.isnan(fine).sum()
