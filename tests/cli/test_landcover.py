"""From files to a model, a map and its accuracy, on the command line."""

import json

import numpy as np
import pytest
import rasterio

import geofuse as gf
from geofuse.synthetic import simulate_land_cover

SMALL = ("--set", "trees=histogram", "--set", "members=1", "--set", "rounds=3")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("land_cover")
    scene = simulate_land_cover(96, seed=7, parcel=8)
    for name, image in scene.images.items():
        gf.write_cog(image, folder / f"{name}.tif")
    gf.write_map(scene.labels, None, folder / "labels.tif")
    return folder


@pytest.fixture(scope="module")
def model(files):
    from geofuse.cli import main

    words = ["train", "landcover", "--labels", files / "labels.tif", *SMALL]
    words += [*given(files), "--out", files / "model"]
    assert main([str(word) for word in words]) == 0
    return files / "model"


def given(files, *names):
    words = []
    for name in names or ("optical", "sar", "elevation"):
        words += ["--modality", f"{name}={files / name}.tif"]
    if "sar" in names or not names:
        words += ["--unit", "sar=dB"]
    return words


def test_a_model_has_a_card_with_scores(model):
    card = json.loads((model / "model.json").read_text())["card"]
    assert card["scores"]["overall accuracy"] > 0.6
    assert "--modality sar=sar.tif" in card["command"]
    assert str(model.parent) not in (model / "model.json").read_text()


def test_a_map_holds_codes_palette_names_and_uncertainty(
    files, model, tmp_path, geofuse_command
):
    out, sure, share = (tmp_path / f"{name}.tif" for name in ("map", "u", "p"))
    words = ["classify", model, *given(files), "-o", out, "--uncertainty", sure]
    code, stdout, stderr = geofuse_command(*words, "--probability", share)
    assert (code, stdout, stderr) == (0, f"{out}\n", "")
    labels = gf.open_labels(out)
    assert gf.legend_in(labels).names[:2] == ("water", "forest")
    with rasterio.open(out) as dataset:
        assert dataset.colormap(1)[0][:3] == (0x41, 0x9B, 0xDF)
        assert "missing" not in dataset.tags()
    with rasterio.open(sure) as dataset:
        assert dataset.descriptions == ("aleatoric", "epistemic")
    with rasterio.open(share) as dataset:
        np.testing.assert_allclose(dataset.read().sum(axis=0), 1, atol=1e-5)


def test_a_modality_may_be_left_out_but_not_unknown(
    files, model, tmp_path, geofuse_command
):
    out = tmp_path / "blind.tif"
    words = ["classify", model, *given(files, "sar", "elevation"), "-o", out]
    assert geofuse_command(*words)[0] == 0
    with rasterio.open(out) as dataset:
        assert dataset.tags()["missing"] == "optical"
    unknown = ["--modality", f"lidar={files / 'elevation.tif'}", "-o", out]
    code, _, stderr = geofuse_command("classify", model, *unknown)
    assert code == 2
    assert "found 'lidar'" in stderr


def test_accuracy_of_a_map_as_text_and_json(files, model, tmp_path, geofuse_command):
    out = tmp_path / "map.tif"
    assert geofuse_command("classify", model, *given(files), "-o", out)[0] == 0
    code, stdout, _ = geofuse_command("accuracy", out, files / "labels.tif")
    assert code == 0
    assert "kappa" in stdout
    assert "Olofsson" in stdout
    code, stdout, _ = geofuse_command("accuracy", out, files / "labels.tif", "--json")
    rows = json.loads(stdout)["accuracy"]
    overall = next(row["value"] for row in rows if row["metric"] == "overall")
    assert overall > 0.7


def test_several_scenes_of_a_table(files, model, tmp_path, geofuse_command):
    table = files / "scenes.csv"
    table.write_text("sar,elevation,map\nsar.tif,elevation.tif,a.tif\nsar.tif,,b.tif\n")
    code, stdout, stderr = geofuse_command(
        "classify", model, "--scenes", table, "--unit", "sar=dB"
    )
    assert (code, stderr) == (0, "")
    assert stdout.split() == [str(files / "a.tif"), str(files / "b.tif")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--labels", "l.tif"], "found no modality"),
        (["--modality", "s2=a.tif"], "found no --labels"),
        (["--modality", "a.tif", "--labels", "l.tif"], "expected NAME=FILE"),
        (["--scenes", "t.csv", "--labels", "l.tif"], "found both"),
        (["--method", "late-fusio", "--scenes", "t.csv"], "did you mean 'late-fusion'"),
    ],
)
def test_what_does_not_fit_is_refused(words, message, tmp_path, geofuse_command):
    code, _, stderr = geofuse_command(
        "train", "landcover", "--out", tmp_path / "m", *words
    )
    assert code == 2
    assert message in stderr


def test_a_model_of_another_kind_is_refused(files, tmp_path, geofuse_command):
    gf.save(gf.STARFM(), tmp_path / "starfm")
    words = ["classify", tmp_path / "starfm", *given(files), "-o", tmp_path / "o.tif"]
    code, _, stderr = geofuse_command(*words)
    assert code == 2
    assert "geofuse fuse" in stderr
