"""Saved models: what was saved is loaded, and what is wrong is told in words."""

import dataclasses
import json
import os
import pickle

import numpy as np
import pytest

from geofuse.errors import (
    ModelReadError,
    NotFittedError,
    OutOfRangeWarning,
    ParameterError,
    WriteError,
)
from geofuse.spatiotemporal import ALL_METHODS
from geofuse.spatiotemporal.kernel_net import KernelNet
from geofuse.spatiotemporal.mixture_net import MixtureNet
from geofuse.spatiotemporal.starfm import STARFM
from geofuse.synthetic import simulate_case
from geofuse.training import model_folder, pretrained
from geofuse.training.card import Card, card_from
from geofuse.training.checkpoint import load_method, read_card, save_method
from geofuse.training.loop import Training
from geofuse.training.weights import Weights
from tests.contracts.test_fusion_methods import METHODS_UNDER_CONTRACT
from tests.training.tiny_method import TinyLine

KNOWN = {**ALL_METHODS, "tiny-line": TinyLine}
WEIGHTS = Weights({"kernel": np.array([0.9, -0.8, 0.9]), "bias": np.float32(0.01)})
FITTED = TinyLine(noise=0.02, training=Training(steps=7), weights=WEIGHTS)
CARD = Card(
    data="two cases",
    seed=3,
    training="7 steps",
    command="geofuse train",
    scales=(8, 16),
    bands=("red",),
    scores={"rmse": 0.01},
)


def saved(folder, method=FITTED, name="tiny-line", **options):
    return save_method(method, name, folder, known=KNOWN, **options)


def changed(folder, change):
    """The model with its JSON changed."""
    file = folder / "model.json"
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))
    return folder


def test_a_saved_method_is_loaded_and_predicts_the_same(tmp_path):
    folder = saved(tmp_path / "model", card=CARD)
    assert sorted(os.listdir(folder)) == [
        "README.md",
        "model.json",
        "weights.safetensors",
    ]
    loaded = load_method(folder, KNOWN)
    assert loaded == FITTED
    inputs = simulate_case(48, bands=("red",), scale=8).inputs
    np.testing.assert_array_equal(
        loaded.predict(inputs).reflectance, FITTED.predict(inputs).reflectance
    )
    assert read_card(folder) == CARD
    page = (folder / "README.md").read_text()
    for word in ("# tiny-line", "two cases", "Seed**: 3", "8, 16", "| rmse | 0.01 |"):
        assert word in page


@pytest.mark.parametrize("method", METHODS_UNDER_CONTRACT, ids=repr)
def test_every_method_is_the_same_after_saving(method, tmp_path):
    names = {kind: name for name, kind in ALL_METHODS.items()}
    folder = save_method(method, names[type(method)], tmp_path / "m", known=ALL_METHODS)
    assert load_method(folder, ALL_METHODS) == method


def test_methods_within_methods_keep_their_weights(tmp_path):
    other = Weights({"kernel": np.ones(3), "bias": np.zeros(())})
    inner = TinyLine(weights=other, members=(FITTED, STARFM(radius=3)))
    outer = TinyLine(members=(inner, TinyLine()), weights=WEIGHTS)
    loaded = load_method(saved(tmp_path / "model", outer), KNOWN)
    assert loaded == outer
    assert loaded.members[0].weights == other
    assert loaded.members[0].members[0].weights == WEIGHTS
    assert loaded.members[1].weights is None


def test_an_older_model_is_replaced_and_nothing_is_left(tmp_path):
    saved(tmp_path / "model", dataclasses.replace(FITTED, noise=0.5))
    saved(tmp_path / "model")
    assert load_method(tmp_path / "model", KNOWN) == FITTED
    assert os.listdir(tmp_path) == ["model"]


def test_a_model_that_cannot_be_written_leaves_the_older_one(tmp_path, monkeypatch):
    saved(tmp_path / "model")

    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model_folder.os, "fsync", full)
    with pytest.raises(WriteError, match="No space left"):
        saved(tmp_path / "model", TinyLine())
    assert load_method(tmp_path / "model", KNOWN) == FITTED
    assert os.listdir(tmp_path) == ["model"]


def test_a_folder_of_other_files_is_not_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    for folder in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(WriteError, match="expected a new folder"):
            saved(folder)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_method_without_a_name_is_not_saved(tmp_path):
    with pytest.raises(ParameterError, match="knows by a name"):
        save_method(TinyLine(members=(STARFM(),)), "tiny-line", tmp_path / "model")
    with pytest.raises(ParameterError, match="cannot be saved"):
        saved(tmp_path / "model", TinyLine(noise=float("nan")))
    assert os.listdir(tmp_path) == []


def test_other_folders_are_told_from_models(tmp_path):
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(ModelReadError, match="expected a model folder"):
            load_method(folder, KNOWN)


@pytest.mark.parametrize("cut", [slice(0, -1), slice(0, 0), slice(1, None)])
def test_damaged_weights_are_told(cut, tmp_path):
    file = saved(tmp_path / "model") / "weights.safetensors"
    file.write_bytes(file.read_bytes()[cut])
    with pytest.raises(ModelReadError, match="digest"):
        load_method(tmp_path / "model", KNOWN)
    file.unlink()
    with pytest.raises(ModelReadError, match="is missing"):
        load_method(tmp_path / "model", KNOWN)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"format": "x"}', "\xff"])
def test_damaged_fields_are_told(text, tmp_path):
    file = saved(tmp_path / "model") / "model.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelReadError):
        load_method(tmp_path / "model", KNOWN)


def test_a_newer_format_is_told(tmp_path):
    def change(document):
        document |= {"format": 2, "geofuse": "9.0"}

    with pytest.raises(ModelReadError, match=r"format 2, written by geofuse 9\.0"):
        load_method(changed(saved(tmp_path / "model"), change), KNOWN)


def test_an_unknown_method_is_told_with_the_nearest(tmp_path):
    def change(document):
        document["method"] = "tiny-lime"

    with pytest.raises(ModelReadError, match="did you mean 'tiny-line'"):
        load_method(changed(saved(tmp_path / "model"), change), KNOWN)


def test_an_unknown_field_is_told_with_the_nearest(tmp_path):
    def change(document):
        document["fields"]["noize"] = 1.0

    with pytest.raises(ModelReadError, match="did you mean 'noise'"):
        load_method(changed(saved(tmp_path / "model"), change), KNOWN)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("noise", "x"),
        ("noise", None),
        ("noise", True),
        ("noise", {"a": 1}),
        ("training", 3),
        ("training", {"fields": {"steps": "many"}}),
        ("training", {"fields": 3}),
        ("members", 3),
        ("members", [3]),
        ("weights", "mine"),
    ],
)
def test_a_value_of_another_kind_is_told(field, value, tmp_path):
    def change(document):
        document["fields"][field] = value

    with pytest.raises(ModelReadError, match="expected"):
        load_method(changed(saved(tmp_path / "model"), change), KNOWN)


def test_a_field_that_is_not_told_has_its_default(tmp_path):
    def change(document):
        del document["fields"]["noise"]

    loaded = load_method(changed(saved(tmp_path / "model"), change), KNOWN)
    assert loaded == dataclasses.replace(FITTED, noise=TinyLine().noise)


def test_nothing_in_a_model_is_executed(tmp_path):
    file = saved(tmp_path / "model") / "weights.safetensors"
    file.write_bytes(pickle.dumps(WEIGHTS))

    def change(document):
        import hashlib

        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        document["weights"]["sha256"] = digest

    with pytest.raises(ModelReadError, match="cannot be read"):
        load_method(changed(tmp_path / "model", change), KNOWN)


def test_a_scale_out_of_the_trained_range_is_warned_of():
    for scale in (8, 12, 16, None):
        CARD.warn_of_scale(scale)
    Card().warn_of_scale(30)
    with pytest.warns(OutOfRangeWarning, match="8 to 16, found 20"):
        CARD.warn_of_scale(20)


def test_intervals_of_shipped_weights_are_stretched_as_their_card_says(monkeypatch):
    card = dataclasses.replace(CARD, deviation_factor=1.2)
    monkeypatch.setattr(pretrained, "pretrained_card", lambda name: card)
    assert pretrained.deviation_factor("pretrained", "any") == 1.2
    assert pretrained.deviation_factor(WEIGHTS, "any") == 1.0
    assert card_from(dataclasses.asdict(card)) == card
    assert card_from({}).deviation_factor == 1.0
    assert "1.2 of the Gaussian's" in card.page("any", {})
    usual = KernelNet(weights=WEIGHTS).interval_factor(0.9)
    for kind in (KernelNet, MixtureNet):
        assert kind().interval_factor(0.9) == pytest.approx(1.2 * usual)


def test_weights_in_the_package_are_read_once_and_checked(tmp_path, monkeypatch):
    package = tmp_path / "spatiotemporal" / "pretrained"
    saved(package / "tiny-line", card=CARD)
    monkeypatch.setattr(pretrained, "files", lambda name: tmp_path)
    for function in (pretrained.pretrained_weights, pretrained.pretrained_card):
        function.cache_clear()
    weights = pretrained.pretrained_weights("tiny-line")
    assert weights == WEIGHTS
    assert pretrained.pretrained_weights("tiny-line") is weights
    assert pretrained.pretrained_card("tiny-line") == CARD
    inputs = simulate_case(48, bands=("red",), scale=8).inputs
    shipped = dataclasses.replace(FITTED, weights="pretrained")
    np.testing.assert_array_equal(
        shipped.predict(inputs).reflectance, FITTED.predict(inputs).reflectance
    )
    with pytest.raises(NotFittedError, match="geofuse train fusion --method other"):
        pretrained.pretrained_weights("other")
    pretrained.pretrained_weights.cache_clear()
    file = package / "tiny-line" / "weights.safetensors"
    file.write_bytes(b"damaged")
    with pytest.raises(ModelReadError, match="digest"):
        pretrained.pretrained_weights("tiny-line")
    pretrained.pretrained_weights.cache_clear()
    pretrained.pretrained_card.cache_clear()
