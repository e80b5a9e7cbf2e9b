"""Training from files to a model, and from a model to a product; and what can go wrong."""

import dataclasses
import json
import os
import shutil
import warnings

import numpy as np
import pytest
import rasterio
from affine import Affine

from geofuse.errors import OutOfRangeWarning
from geofuse.saved import load
from geofuse.spatiotemporal import ALL_METHODS
from geofuse.synthetic import simulate_case
from geofuse.training import loop
from geofuse.training.checkpoint import read_card
from tests.conftest import GRID
from tests.training.tiny_method import TinyLine

DAYS = ("2021-05-01", "2021-06-01", "2021-07-01", "2021-08-01")
SENSORS = ("--fine-sensor", "gain=1e-4,nodata=0", "--coarse-sensor", "gain=1e-4")
LOOK = (*SENSORS, "--bands", "red,nir")


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(ALL_METHODS, "tiny-line", TinyLine)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Fine and coarse files of four days, and tables of them."""
    folder = tmp_path_factory.mktemp("pairs")
    case = simulate_case(96, bands=("red", "nir"), scale=8, pairs=3, seed=2)
    pairs = case.inputs.pairs
    images = [(p.fine, p.coarse) for p in pairs] + [
        (case.reference, case.inputs.coarse)
    ]
    for day, (fine, coarse) in zip(DAYS, images, strict=True):
        write(folder / f"fine_{day}.tif", fine.values, 1)
        write(folder / f"coarse_{day}.tif", coarse.values[:, ::8, ::8], 8)
    rows = [
        f"{kind},{kind}_{day}.tif,{day}" for kind in ("fine", "coarse") for day in DAYS
    ]
    (folder / "series.csv").write_text("\n".join(["kind,path,date", *rows]))
    return folder


def write(path, values, scale):
    values = np.round(np.clip(values, 1e-4, 1) * 1e4).astype("uint16")
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        crs="EPSG:32633",
        transform=GRID * Affine.scale(scale),
        count=2,
        height=values.shape[1],
        width=values.shape[2],
        dtype="uint16",
    ) as dataset:
        dataset.write(values)
        dataset.descriptions = ("red", "nir")


def table(folder, name, *cases):
    """A table of cases: (base day, day) each."""
    rows = [
        f"fine_{base}.tif,coarse_{base}.tif,{base},coarse_{day}.tif,fine_{day}.tif,{day}"
        for base, day in cases
    ]
    first = "fine_base,coarse_base,base_date,coarse,fine,date"
    (folder / name).write_text("\n".join([first, *rows]) + "\n")
    return folder / name


def training(folder, out, *more, pairs="series.csv", method=("--method", "tiny-line")):
    words = ("train", "fusion", "--pairs", folder / pairs, "--out", out, *method)
    return (*words, *LOOK, *more)


def fusing(folder, model, out, *more):
    return (
        *("fuse", model, "--pair", folder / f"fine_{DAYS[0]}.tif"),
        *(folder / f"coarse_{DAYS[0]}.tif", DAYS[0]),
        *("--at", folder / f"coarse_{DAYS[3]}.tif", DAYS[3], "-o", out, *LOOK, *more),
    )


@pytest.fixture(scope="module")
def model(folder, tmp_path_factory):
    """A model that was trained on the series."""
    from geofuse.cli import main

    out = tmp_path_factory.mktemp("models") / "line"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ALL_METHODS, "tiny-line", TinyLine)
        assert main(list(map(str, training(folder, out, "--seed", "4")))) == 0
    return out


def test_a_model_is_trained_and_told_of(folder, tmp_path, geofuse_command):
    out = tmp_path / "line"
    code, stdout, stderr = geofuse_command(*training(folder, out, "--steps", 30))
    assert (code, stderr) == (0, "")
    assert os.listdir(tmp_path) == ["line"]
    *page, scores = stdout.splitlines()
    assert page[0] == "# tiny-line"
    assert scores.startswith(f"{out}: RMSE 0.")
    assert f"({DAYS[3]}); starfm 0." in scores
    fitted = load(out)
    assert fitted.weights.size == 4
    assert fitted.training.steps == 30
    card = read_card(out)
    assert card.scales == (8,)
    assert card.bands == ("red", "nir")
    assert card.seed == 0
    assert (
        "4 cases of 2021-05-01, 2021-06-01, 2021-07-01; held out: 2021-08-01"
        in card.data
    )
    assert "30 steps, all steps; best at step 0" not in card.training
    assert card.command.startswith("geofuse train fusion --pairs series.csv --out line")
    assert card.scores["RMSE"] > 0


def test_the_same_command_gives_the_same_model(
    folder, model, tmp_path, geofuse_command
):
    assert geofuse_command(*training(folder, tmp_path / "b", "--seed", 4))[0] == 0
    assert load(tmp_path / "b") == load(model)
    assert geofuse_command(*training(folder, tmp_path / "c", "--seed", 5))[0] == 0
    assert load(tmp_path / "c") != load(model)


def test_a_model_fuses_like_the_method_in_python(
    folder, model, tmp_path, geofuse_command
):
    out = tmp_path / "fused.tif"
    code, stdout, stderr = geofuse_command(*fusing(folder, model, out))
    assert (code, stdout, stderr) == (0, f"{out}\n", "")
    a, b, c = load(model).weights.arrays["kernel"]
    with rasterio.open(folder / f"fine_{DAYS[0]}.tif") as file:
        fine = file.read() * 1e-4
    coarse = []
    for day in (DAYS[0], DAYS[3]):
        with rasterio.open(folder / f"coarse_{day}.tif") as file:
            coarse.append((file.read() * 1e-4).repeat(8, axis=1).repeat(8, axis=2))
    expected = a * fine + b * coarse[0] + c * coarse[1]
    expected += load(model).weights.arrays["bias"]
    with rasterio.open(out) as product:
        np.testing.assert_allclose(product.read(), expected, atol=1e-5)
        assert "Weights(" in product.tags()["method"]


def test_fields_of_a_model_can_be_set(folder, model, tmp_path, geofuse_command):
    std = tmp_path / "std.tif"
    words = ("--set", "noise=0.25", "--uncertainty", std)
    assert geofuse_command(*fusing(folder, model, tmp_path / "a.tif", *words))[0] == 0
    with rasterio.open(std) as file:
        np.testing.assert_allclose(file.read(), 0.25)


def test_a_model_predicts_a_series(folder, model, tmp_path, geofuse_command):
    words = ("series", model, "--table", folder / "series.csv", "-o", tmp_path / "out")
    code, stdout, stderr = geofuse_command(*words, *LOOK)
    assert (code, stderr) == (0, "")
    assert len(stdout.splitlines()) == 4


def test_a_training_goes_on_from_a_model(folder, model, tmp_path, geofuse_command):
    pairs = table(folder, "one.csv", (DAYS[0], DAYS[1]))
    words = training(
        folder, tmp_path / "b", "--steps", 5, pairs=pairs.name, method=("--from", model)
    )
    code, stdout, stderr = geofuse_command(*words)
    assert (code, stderr) == (0, "")
    assert "a strip of each scene" in stdout.splitlines()[-1]
    older, newer = (load(m).weights.arrays["kernel"] for m in (model, tmp_path / "b"))
    # Five steps from there, or none where none was better.
    assert np.abs(older).max() > 0.1
    assert np.abs(newer - older).max() < 0.5
    assert "before that: series.csv: 4 cases" in read_card(tmp_path / "b").data


def test_rows_of_one_image_are_one_case_of_several_pairs(
    folder, tmp_path, geofuse_command
):
    several = table(
        folder,
        "several.csv",
        (DAYS[0], DAYS[1]),
        (DAYS[2], DAYS[1]),
        (DAYS[0], DAYS[3]),
    )
    words = training(folder, tmp_path / "b", "--steps", 5, pairs=several.name)
    assert geofuse_command(*words)[0] == 0
    card = read_card(tmp_path / "b")
    assert "several.csv: 1 cases of 2021-06-01; held out: 2021-08-01" in card.data


def test_a_stopped_training_continues(
    folder, model, tmp_path, geofuse_command, monkeypatch
):
    few_steps, seen = loop._few_steps, []

    def stopping(run, *others):
        seen.append(run.step)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return few_steps(run, *others)

    monkeypatch.setattr(loop, "_few_steps", stopping)
    words = training(folder, tmp_path / "b", "--seed", 4)
    code, _, stderr = geofuse_command(*words)
    assert (code, "again to continue" in stderr) == (130, True)
    assert os.listdir(tmp_path) == [".b.training"]
    assert geofuse_command(*words)[0] == 0
    # The fourth ten steps were tried again, not the first three.
    assert seen == [0, 10, 20, 30, 30]
    assert os.listdir(tmp_path) == ["b"]
    assert load(tmp_path / "b") == load(model)


def test_another_command_does_not_continue_it(
    folder, tmp_path, geofuse_command, monkeypatch
):
    stage = tmp_path / ".b.training"
    stage.mkdir()
    (stage / "job").write_text("another one")
    (stage / "training_0.safetensors").write_bytes(b"of another training")
    assert geofuse_command(*training(folder, tmp_path / "b", "--steps", 5))[0] == 0
    assert os.listdir(tmp_path) == ["b"]


def test_a_scale_out_of_the_trained_range_is_warned_of(
    folder, model, tmp_path, geofuse_command
):
    other = tmp_path / "other"
    shutil.copytree(model, other)
    document = json.loads((other / "model.json").read_text())
    document["card"]["scales"] = [12, 20]
    (other / "model.json").write_text(json.dumps(document))
    with warnings.catch_warnings():
        # Shown, as outside of the tests, and not raised.
        warnings.simplefilter("default", OutOfRangeWarning)
        code, _, stderr = geofuse_command(*fusing(folder, other, tmp_path / "a.tif"))
    assert code == 0
    assert "warning: expected a scale that the model was trained on, 12 to 20" in stderr
    assert len(stderr.splitlines()) == 1


def test_a_method_that_is_not_fitted_is_told(folder, tmp_path, geofuse_command):
    code, _, stderr = geofuse_command(*fusing(folder, "tiny-line", tmp_path / "a.tif"))
    assert code == 2
    assert "expected a fitted method" in stderr


def test_a_damaged_model_is_told(folder, model, tmp_path, geofuse_command):
    other = tmp_path / "other"
    shutil.copytree(model, other)
    (other / "weights.safetensors").write_bytes(b"")
    code, _, stderr = geofuse_command(*fusing(folder, other, tmp_path / "a.tif"))
    assert code == 2
    assert "the model is damaged" in stderr
    code, _, stderr = geofuse_command(*fusing(folder, tmp_path, tmp_path / "a.tif"))
    assert code == 2
    assert "expected a model folder with a file model.json" in stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--method", "tiny-lime"), "did you mean 'tiny-line'"),
        (("--method", "starfm"), "expected a method that learns, found starfm"),
        (("--from", "./nowhere"), "expected a model folder"),
        (("--method", "tiny-line", "--from", "."), "leave one out"),
        (("--method", "tiny-line", "--seed", "-1"), "--seed of at least 0"),
        (("--method", "tiny-line", "--steps", "-1"), "for steps, found -1"),
        (("--method", "tiny-line", "--set", "noize=1"), "did you mean 'noise'"),
        (("--method", "tiny-line", "--set", "training.batch=x"), "a whole number"),
        (("--method", "tiny-line", "--pairs", "none.csv"), "expected a table (CSV)"),
        (("--method", "tiny-line", "--scale", "1"), "above 1, found 1"),
        (
            ("--method", "tiny-line", "--fine-mask", "a.tif", "2020-01-01"),
            "expected one --fine-mask for a date",
        ),
        (("--method", "tiny-line", "--bands", "swir9"), "swir9"),
    ],
)
def test_what_is_wrong_is_one_line(words, told, folder, tmp_path, geofuse_command):
    command = training(folder, tmp_path / "b", *words, method=())
    code, stdout, stderr = geofuse_command(*command)
    assert (code, stdout) == (2, "")
    assert told in stderr
    assert len(stderr.splitlines()) == 1
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "found no row"),
        ("kind,path,date\n", "found no row"),
        ("fine_base,coarse\nx,y\n", "expected the columns fine_base, coarse_base"),
        ("kind,path,date\nfine,fine_2021-05-01.tif,\n", "two dates or more"),
        (
            "fine_base,coarse_base,base_date,coarse,fine,date\n"
            "a.tif,b.tif,2021-05-01,c.tif,,2021-06-01\n",
            "in line 2",
        ),
        (
            "fine_base,coarse_base,base_date,coarse,fine,date\n"
            "a.tif,b.tif,2021-05-01,c.tif,d.tif,June\n",
            "June",
        ),
        (
            "fine_base,coarse_base,base_date,coarse,fine,date\n"
            "a.tif,b.tif,2021-05-01,c.tif,d.tif,2021-06-01\n"
            "e.tif,f.tif,2021-05-01,c.tif,d.tif,2021-06-01\n",
            "expected one pair a date",
        ),
        (
            "fine_base,coarse_base,base_date,coarse,fine,date\n"
            "a.tif,b.tif,2021-05-01,c.tif,d.tif,2021-06-01\n",
            "a.tif",
        ),
    ],
)
def test_what_is_wrong_with_a_table_is_one_line(
    text, told, folder, tmp_path, geofuse_command
):
    (tmp_path / "cases.csv").write_text(text)
    words = training(tmp_path, tmp_path / "b")
    words = [
        tmp_path / "cases.csv" if w == tmp_path / "series.csv" else w for w in words
    ]
    code, stdout, stderr = geofuse_command(*words)
    assert (code, stdout) == (2, "")
    assert told in stderr
    assert len(stderr.splitlines()) == 1


def test_a_folder_of_other_files_is_not_written_over(folder, tmp_path, geofuse_command):
    (tmp_path / "thesis.txt").write_text("years of work")
    code, _, stderr = geofuse_command(*training(folder, tmp_path))
    assert code == 1
    assert "expected a new folder or an older model" in stderr
    code, _, stderr = geofuse_command(*training(folder, folder / "series.csv"))
    assert code == 2
    assert "an output that is no input" in stderr


def test_settings_within_a_field_are_listed_and_set(geofuse_command):
    code, stdout, _ = geofuse_command("methods")
    assert code == 0
    assert "--set training.batch=4    a whole number" in stdout
    assert "--set weights=None    pretrained or none" in stdout
    listed = json.loads(geofuse_command("methods", "--json")[1])
    assert listed["tiny-line"]["training.batch"] == 4
    assert listed["tiny-line"]["weights"] is None
    from geofuse.cli.methods import method_from

    made = method_from("tiny-line", ["training.batch=9", "weights=pretrained"])
    assert made == TinyLine(
        training=dataclasses.replace(TinyLine().training, batch=9), weights="pretrained"
    )
