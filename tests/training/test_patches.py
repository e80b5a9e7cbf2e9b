"""Patches and their augmentations: what they hold, and that they can be drawn again."""

import dataclasses

import numpy as np
import pytest

from geofuse.errors import ParameterError
from geofuse.pairs import FusionCase, FusionInputs, Pair
from geofuse.synthetic import simulate_case
from geofuse.training.augment import Augmentation, clouds, shifted
from geofuse.training.patches import Patches, PatchScale, both_ways

NOTHING = Augmentation(
    flips=False, turns=False, gain=0, offset=0, shift=0, clouds=0, drop=0
)
IMAGES = ("fine", "coarse_base", "coarse", "reference")


def case(size=64, pairs=2, scale=8, seed=0, bands=("red", "nir"), **options):
    return simulate_case(
        size, bands=bands, pairs=pairs, scale=scale, seed=seed, **options
    )


def cropped(case, start):
    """A case without its first rows and columns: the coarse grid starts further on."""
    here = slice(start, None)
    inputs = case.inputs

    def crop(image):
        return image.isel(y=here, x=here)

    pairs = [Pair(crop(pair.fine), crop(pair.coarse)) for pair in inputs.pairs]
    offset = (-start % inputs.scale,) * 2
    return FusionCase(
        FusionInputs(pairs, crop(inputs.coarse), inputs.scale, offset),
        crop(case.reference),
    )


def assert_same(first, second):
    assert first.keys() == second.keys()
    assert first["scale"] == second["scale"]
    for name in first.keys() - {"scale"}:
        np.testing.assert_array_equal(first[name], second[name])


def test_a_batch_is_a_function_of_seed_and_step():
    options = {"batch": 4, "patch": 32, "augmentation": Augmentation()}
    patches = Patches([case(), case(seed=1)], seed=5, **options)
    later = patches.draw(7)
    assert_same(patches.draw(7), later)
    assert_same(Patches([case(), case(seed=1)], seed=5, **options).draw(7), later)
    assert not np.array_equal(patches.draw(8)["reference"], later["reference"])


@pytest.mark.parametrize("chunked", [False, True])
def test_patches_are_windows_of_the_case(chunked, monkeypatch):
    one = cropped(case(), 3)
    if chunked:
        monkeypatch.setattr("geofuse.training.patches._IN_MEMORY", 0)
        inputs = one.inputs
        pairs = [Pair(p.fine.chunk(20), p.coarse.chunk(20)) for p in inputs.pairs]
        one = FusionCase(
            FusionInputs(pairs, inputs.coarse.chunk(20), inputs.scale, inputs.offset),
            one.reference.chunk(20),
        )
    batch = Patches(
        [one], batch=6, patch=20, halo=lambda scale: 2 * scale, augmentation=None
    ).draw(0)
    assert batch["scale"] == PatchScale(8)
    assert batch["reference"].shape == (6, 2, 24, 24)
    assert batch["fine"].shape == (6, 2, 2, 56, 56)
    np.testing.assert_array_equal(batch["lags"], np.tile(one.inputs.lags, (6, 1)))
    padded = {
        name: np.pad(image.values, ((0, 0), (64, 64), (64, 64)), constant_values=np.nan)
        for name, image in {**one.inputs.rasters(), "reference": one.reference}.items()
    }
    for number in range(6):
        truth = batch["reference"][number]
        places = [
            (y, x)
            for y in range(5, 61 - 23, 8)
            for x in range(5, 61 - 23, 8)
            if np.array_equal(one.reference.values[:, y : y + 24, x : x + 24], truth)
        ]
        # In the whole image, at a corner of a coarse pixel.
        assert len(places) == 1
        y, x = (start - 16 + 64 for start in places[0])
        window = (slice(None), slice(y, y + 56), slice(x, x + 56))
        np.testing.assert_array_equal(batch["coarse"][number], padded["coarse"][window])
        for pair in range(2):
            for kind, name in (("fine", "fine"), ("coarse_base", "coarse")):
                np.testing.assert_array_equal(
                    batch[kind][number, pair], padded[f"{name}_{pair}"][window]
                )


def test_an_image_smaller_than_a_patch_is_nan_around():
    batch = Patches([case(24)], batch=2, patch=32).draw(0)
    valid = np.isfinite(batch["reference"])
    assert valid[..., :24, :24].all()
    assert valid.sum() == 2 * 2 * 24 * 24


def test_a_batch_has_cases_of_one_kind():
    cases = [case(), case(pairs=1), case(scale=4), case(bands=("red",))]
    patches = Patches(cases, batch=5, patch=16)
    seen = set()
    for step in range(40):
        batch = patches.draw(step)
        numbers = set(batch["case"].tolist())
        assert len(numbers) == 1
        seen |= numbers
        (number,) = numbers
        assert batch["fine"].shape[1] == len(cases[number].inputs.pairs)
        assert batch["scale"].value == cases[number].inputs.scale
    assert seen == {0, 1, 2, 3}


def test_no_case_is_an_error():
    with pytest.raises(ParameterError, match="at least one case"):
        Patches([])


def test_backwards_the_fine_base_image_is_the_truth():
    one, two = case(pairs=1), case(pairs=2)
    found = both_ways([one, two])
    assert found[0] is one
    assert found[2] is two
    assert len(found) == 3
    assert found[1].reference.equals(one.inputs.pairs[0].fine)
    assert found[1].inputs.coarse.equals(one.inputs.pairs[0].coarse)
    assert found[1].inputs.pairs[0].fine.equals(one.reference)
    assert found[1].inputs.lags == (-one.inputs.lags[0],)


def test_an_augmentation_of_nothing_changes_nothing():
    plain = Patches([case()], batch=3, patch=32).draw(0)
    # The same draws come first: places, not augmentations.
    same = Patches([case()], batch=1, patch=32, augmentation=NOTHING).draw(0)
    first = Patches([case()], batch=1, patch=32).draw(0)
    for name in IMAGES:
        np.testing.assert_array_equal(same[name], first[name])
        assert plain[name].dtype == np.float32


def augmented(steps=30, **changes):
    """Augmented patches, and the same ones unchanged."""
    augmentation = dataclasses.replace(NOTHING, **changes)
    options = {"batch": 1, "patch": 32}
    changed = Patches([case()], **options, augmentation=augmentation)
    plain = Patches([case()], **options)
    for step in range(steps):
        yield changed.draw(step), plain.draw(step)


def test_flips_and_turns_are_the_same_for_all_images():
    ways = set()
    for found, plain in augmented(flips=True, turns=True):
        matching = [
            (quarters, mirrored)
            for quarters in range(4)
            for mirrored in (False, True)
            if all(
                np.array_equal(
                    np.rot90(plain[n], quarters, (-2, -1))[
                        ..., :: -1 if mirrored else 1
                    ],
                    found[n],
                )
                for n in IMAGES
            )
        ]
        assert len(matching) == 1
        ways.add(matching[0])
    assert len(ways) == 8


def test_gain_and_offset_change_coarse_images_alone():
    offsets = []
    for found, plain in augmented(steps=10, gain=0.1, offset=0.1):
        for name in ("fine", "reference"):
            np.testing.assert_array_equal(found[name], plain[name])
        for name in ("coarse", "coarse_base"):
            before, after = plain[name].reshape(-1, 1024), found[name].reshape(-1, 1024)
            for x, y in zip(before, after, strict=True):
                slope, offset = np.polyfit(x, y, 1)
                np.testing.assert_allclose(y, slope * x + offset, atol=1e-5)
                assert 0.5 < slope < 1.5
                offsets.append(offset)
    assert np.std(offsets) > 1e-3


def test_a_shift_by_whole_fine_pixels_is_a_shift():
    image = np.random.default_rng(0).random((2, 16, 16)).astype(np.float32)
    found = shifted(image, (2, -3), None)
    np.testing.assert_array_equal(found[:, :14, 3:], image[:, 2:, :13])
    assert np.isnan(found[:, 14:]).all()
    assert np.isnan(found[:, :, :3]).all()
    np.testing.assert_array_equal(shifted(image, (0, 0), None), image)


def test_a_shifted_coarse_image_still_repeats_its_pixels():
    coarse = np.random.default_rng(0).random((1, 4, 4)).astype(np.float32)
    image = coarse.repeat(8, axis=1).repeat(8, axis=2)
    found = shifted(image, (2.0, 0.0), 8)
    cells = found[:, ::8, ::8]
    np.testing.assert_array_equal(found, cells.repeat(8, axis=1).repeat(8, axis=2))
    expected = 0.75 * coarse[:, :-1] + 0.25 * coarse[:, 1:]
    np.testing.assert_allclose(cells[:, :-1], expected, rtol=1e-6)
    # A smooth image stays smooth.
    smooth = np.linspace(0, 1, 32, dtype=np.float32)[None, None] + np.zeros((1, 32, 1))
    smooth = smooth.astype(np.float32)
    np.testing.assert_allclose(
        shifted(smooth, (0.0, 1.0), 8)[:, :, :-1], smooth[:, :, 1:], rtol=1e-6
    )


def test_shifted_patches_are_whole_where_the_image_goes_on():
    for found, plain in augmented(shift=0.5):
        for name in ("coarse", "coarse_base"):
            assert np.isfinite(found[name]).all()
            cells = found[name][..., ::8, ::8]
            np.testing.assert_array_equal(
                found[name], cells.repeat(8, -1).repeat(8, -2)
            )
            assert not np.array_equal(found[name], plain[name])


def test_clouds_are_holes_in_all_bands():
    covered = clouds((40, 40), np.random.default_rng(0))
    assert 0 < covered.mean() < 1
    share = []
    for found, plain in augmented(clouds=0.5):
        np.testing.assert_array_equal(found["reference"], plain["reference"])
        for name in ("fine", "coarse_base", "coarse"):
            hole = np.isnan(found[name])
            assert (hole.all(axis=-3) == hole.any(axis=-3)).all()
            np.testing.assert_array_equal(found[name][~hole], plain[name][~hole])
            share.append(hole.any(axis=(-3, -2, -1)).mean())
    assert 0.3 < np.mean(share) < 0.7


def test_a_dropped_pair_leaves_another():
    lost = []
    for found, _ in augmented(drop=0.6):
        gone = np.isnan(found["fine"][0]).all(axis=(1, 2, 3))
        np.testing.assert_array_equal(
            gone, np.isnan(found["coarse_base"][0]).all(axis=(1, 2, 3))
        )
        lost.append(gone)
    assert {tuple(gone) for gone in lost} == {
        (False, False),
        (True, False),
        (False, True),
    }


@pytest.mark.parametrize(
    "wrong", [{"gain": -0.1}, {"clouds": 1.5}, {"shift": np.nan}, {"drop": 2}]
)
def test_augmentations_out_of_range_are_refused(wrong):
    with pytest.raises(ParameterError, match="in 0 to"):
        Augmentation(**wrong)
