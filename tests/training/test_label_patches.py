"""Patches of labeled images: where they lie, what is held out, what is changed."""

import numpy as np
import pytest
import xarray as xr

from geofuse.errors import ParameterError
from geofuse.splits import fold_of, inside_block
from geofuse.training.label_patches import Fold, LabelPatches, MapAugmentation


def scene(rows=70, columns=90):
    """Channels that hold the place of each pixel, and a few labels."""
    at = np.mgrid[:rows, :columns].astype("float32")
    labels = np.full((rows, columns), -1, "int16")
    labels[5:60:7, 3:80:5] = 1
    images = {"a": xr.DataArray(at, dims=("channel", "y", "x"))}
    images["b"] = images["a"] + 1000
    return images, xr.DataArray(labels, dims=("y", "x"))


def patches(**more):
    images, labels = scene()
    return LabelPatches([images], [labels], batch=6, patch=16, halo=3, **more)


def test_labels_lie_where_the_channels_say():
    batch = patches().draw(0)
    assert batch["channels"]["a"].shape == (6, 2, 22, 22)
    _, truth = scene()
    for channels, labels in zip(batch["channels"]["a"], batch["labels"], strict=True):
        assert (labels >= 0).any()
        rows, columns = channels[:, 3:-3, 3:-3]
        inside = np.isfinite(rows)
        place = rows[inside].astype(int), columns[inside].astype(int)
        np.testing.assert_array_equal(labels[inside], truth.values[place])
        assert (labels[~inside] == -1).all()


@pytest.mark.parametrize("held", [False, True])
def test_no_pixel_is_both_learned_from_and_held_out(held):
    fold = Fold(0, 3, held=held)
    for step in range(3):
        batch = patches(fold=fold).draw(step)
        known = batch["labels"] >= 0
        assert known.any(axis=(1, 2)).all()
        places = batch["channels"]["a"][:, :, 3:-3, 3:-3]
        rows, columns = (places[:, axis][known].astype(int) for axis in (0, 1))
        inside = fold_of(rows, columns, folds=3) == 0
        assert (inside == held).all()
        assert not held or inside_block(rows, columns).all()


def test_all_modalities_are_turned_alike_and_one_is_always_left():
    augmentation = MapAugmentation(drop=0.9, gaps=0.5)
    batch = patches(augmentation=augmentation).draw(0)
    a, b = (batch["channels"][name] for name in "ab")
    both = np.isfinite(a) & np.isfinite(b)
    np.testing.assert_array_equal(a[both] + 1000, b[both])
    assert (np.isfinite(a) | np.isfinite(b)).any(axis=(1, 2, 3)).all()
    lost = ~np.isfinite(np.stack([a, b])).any(axis=(2, 3, 4))
    assert lost.any()


def test_turned_labels_stay_with_their_pixels():
    batch = patches(augmentation=MapAugmentation()).draw(1)
    _, truth = scene()
    channels = batch["channels"]["a"][:, :, 3:-3, 3:-3]
    inside = np.isfinite(channels[:, 0])
    rows, columns = (channels[:, axis][inside].astype(int) for axis in (0, 1))
    np.testing.assert_array_equal(batch["labels"][inside], truth.values[rows, columns])


def test_a_batch_can_be_drawn_again():
    for step in (0, 5):
        first, again = (patches(seed=2).draw(step) for _ in range(2))
        np.testing.assert_array_equal(first["labels"], again["labels"])
    assert (
        patches(seed=3).draw(0)["labels"] != patches(seed=2).draw(0)["labels"]
    ).any()


def test_a_scene_read_window_by_window_gives_the_same(monkeypatch):
    images, labels = scene()
    whole = patches().draw(0)
    monkeypatch.setattr("geofuse.training.label_patches._IN_MEMORY", 0)
    lazy = {name: image.chunk({"y": 20, "x": 30}) for name, image in images.items()}
    drawn = LabelPatches(
        [lazy], [labels.chunk({"y": 25})], batch=6, patch=16, halo=3
    ).draw(0)
    np.testing.assert_array_equal(whole["labels"], drawn["labels"])
    np.testing.assert_array_equal(whole["channels"]["b"], drawn["channels"]["b"])


def test_no_labels_are_refused():
    images, labels = scene()
    with pytest.raises(ParameterError, match="labeled pixels"):
        LabelPatches([images], [labels * 0 - 1])
