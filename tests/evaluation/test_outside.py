"""Other programs: predictions in a folder, and a command that is run."""

import os
import sys

import numpy as np
import pytest
import rasterio

from geofuse.errors import ParameterError, UnknownNameError
from geofuse.evaluation.comparison import compare
from geofuse.evaluation.outside import FromCommand, FromFolder, file_name
from geofuse.rasters.write import write_cog
from geofuse.synthetic import simulate_case

CASE = "a > b"

#: A program that writes a file as the prediction; its last word is where to.
COPY = "import shutil, sys; shutil.copy(sys.argv[1], sys.argv[-1])"


@pytest.fixture(scope="module")
def case():
    return simulate_case(48, bands=("red", "nir"), scale=8, seed=2)


def scored(method, case, **options):
    """The rows of the method, and those of persistence."""
    table = compare({"theirs": method}, test={CASE: case}, metrics=["rmse"], **options)
    return table[table.method == "theirs"], table[table.method == "persistence"]


def copying(*words):
    return FromCommand((sys.executable, "-c", COPY, *words))


def rewritten(path, target, *, descriptions=None, **profile):
    with rasterio.open(path) as source:
        values = source.read()
        profile = {**source.profile, "driver": "GTiff", **profile}
    values = profile.pop("values", lambda v: v)(values)
    profile |= {"count": len(values), "height": values.shape[1]}
    profile |= {"width": values.shape[2], "tiled": False}
    for key in ("blockxsize", "blockysize", "interleave", "compress", "predictor"):
        profile.pop(key, None)
    with rasterio.open(target, "w", **profile) as dataset:
        dataset.write(values)
        if descriptions:
            dataset.descriptions = descriptions


@pytest.fixture
def folder(case, tmp_path):
    """The fine base image as another program's prediction."""
    write_cog(case.inputs.pairs[0].fine, tmp_path / f"{file_name(CASE)}.tif")
    return tmp_path


def test_predictions_in_a_folder_are_scored_like_any_method(case, folder):
    theirs, ours = scored(FromFolder(str(folder)), case)
    np.testing.assert_array_equal(theirs.value, ours.value)
    assert (theirs.error == "").all()


def test_files_may_be_named_by_date_and_hold_dn_without_names(case, folder):
    rewritten(
        folder / f"{file_name(CASE)}.tif",
        folder / "p_2023-07-07.tif",
        values=lambda v: np.round(v * 1e4).astype("int16"),
        dtype="int16",
        nodata=None,
    )
    method = FromFolder(str(folder), "p_{date}.tif", sensor="gain=1e-4")
    theirs, ours = scored(method, case)
    np.testing.assert_allclose(theirs.value, ours.value, atol=1e-4)


def test_bands_are_found_by_their_names(case, folder):
    source = folder / f"{file_name(CASE)}.tif"
    rewritten(
        source,
        folder / "turned.tif",
        values=lambda v: np.stack([v[1] * 9, v[1], v[0]]),
        descriptions=("other", "nir", "red"),
    )
    theirs, ours = scored(FromFolder(str(folder), "turned.tif"), case)
    np.testing.assert_array_equal(theirs.value, ours.value)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"values": lambda v: v[:, 1:]}, "GridMismatchError"),
        ({"crs": "EPSG:32634"}, "CRSMismatchError"),
        ({"values": lambda v: v[:1]}, "BandMismatchError"),
    ],
)
def test_predictions_that_do_not_fit_have_a_row_that_says_so(
    case, folder, change, error
):
    rewritten(folder / f"{file_name(CASE)}.tif", folder / "odd.tif", **change)
    theirs, ours = scored(FromFolder(str(folder), "odd.tif"), case)
    assert len(theirs) == 1
    assert theirs.error.iloc[0].startswith(error)
    assert (ours.error == "").all()


def test_a_missing_prediction_is_said_and_scored_when_it_is_there(case, folder):
    path = folder / f"{file_name(CASE)}.tif"
    os.rename(path, folder / "away.tif")
    method = FromFolder(str(folder))
    theirs, _ = scored(method, case, folder=folder / "run")
    assert "found no such file" in theirs.error.iloc[0]
    os.rename(folder / "away.tif", path)
    theirs, _ = scored(method, case, folder=folder / "run")
    assert (theirs.error == "").all()


def test_a_command_is_run_for_each_case(case):
    theirs, ours = scored(copying("{fine_0}", "{scale}", "{date_0}", "{out}"), case)
    np.testing.assert_array_equal(theirs.value, ours.value)
    assert (theirs.predict_seconds > 0).all()


def test_no_shell_reads_a_command(case, tmp_path):
    mark = tmp_path / "mark"
    words = (f"; touch {mark}", f"$(touch {mark})", "{braces", "{fine_0}")
    code = "import shutil, sys; shutil.copy(sys.argv[-2], sys.argv[-1])"
    method = FromCommand((sys.executable, "-c", code, *words, "{out}"))
    theirs, _ = scored(method, case)
    assert (theirs.error == "").all()
    assert not mark.exists()


@pytest.mark.parametrize(
    ("method", "error"),
    [
        (FromCommand(("no-such-program", "{out}")), "program that can be run"),
        (
            FromCommand((sys.executable, "-c", "print('so bad'); exit(3)", "{out}")),
            "found 3; it said: so bad",
        ),
        (FromCommand((sys.executable, "-c", "pass", "{out}")), "found no such file"),
        (copying("{fine_1}", "{out}"), "TooFewPairsError"),
        (copying("{classes}", "{out}"), "inputs that tell classes"),
        (
            FromCommand(
                (sys.executable, "-c", "import time; time.sleep(60)", "{out}"),
                timeout=0.2,
            ),
            "still at work",
        ),
    ],
)
def test_a_command_that_fails_has_a_row_that_says_so(case, method, error):
    theirs, ours = scored(method, case)
    assert error in theirs.error.iloc[0]
    assert (ours.error == "").all()


def test_what_cannot_be_a_command_is_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'fine_0'"):
        FromCommand(("tool", "{fine}", "{out}"))
    with pytest.raises(ParameterError, match=r"names \{out\}"):
        FromCommand(("tool", "{fine_0}"))
    with pytest.raises(ParameterError, match="timeout above 0"):
        FromCommand(("tool", "{out}"), timeout=0)
    with pytest.raises(UnknownNameError, match="did you mean 'case'"):
        FromFolder("folder", "{cases}.tif")


def test_names_of_files_are_safe():
    assert file_name("../../etc/passwd") == "etc-passwd"
    assert file_name("farm land, 2 pairs") == "farm-land-2-pairs"
