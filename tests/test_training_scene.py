import ast

import numpy as np
import pytest

from geofuse.errors import ParameterError
from geofuse.synthetic import draw_training_case

SEEDS = range(12)


def texture(seed=0, bands=6, size=80):
    """A stand-in for a real image: waves and noise of several sizes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    waves = [np.sin(x / (2 + k)) + np.cos(y / (3 + k)) for k in range(bands)]
    noise = rng.normal(0, 0.3, (bands, size, size))
    return (0.2 + 0.03 * (np.stack(waves) + noise)).astype(np.float32)


def drawn(case):
    return ast.literal_eval(case.reference.attrs["drawn"])


@pytest.fixture(scope="module")
def cases():
    return [draw_training_case(seed, [texture()], size=64) for seed in SEEDS]


def images_of(case):
    pair = case.inputs.pairs[0]
    return pair.fine, pair.coarse, case.inputs.coarse, case.reference


def test_a_seed_gives_the_same_bits():
    one, two = (draw_training_case(7, [texture()], size=48) for _ in range(2))
    for first, second in zip(images_of(one), images_of(two), strict=True):
        np.testing.assert_array_equal(first.values, second.values)
    other = draw_training_case(8, [texture()], size=48)
    assert not np.array_equal(images_of(one)[3].values, images_of(other)[3].values)


def test_scenes_are_of_many_kinds(cases):
    facts = [drawn(case) for case in cases]
    assert len({fact["ground"] for fact in facts}) >= 3
    assert len({fact["scale"] for fact in facts}) >= 3
    assert len({fact["bands"] for fact in facts}) >= 3
    assert len({fact["resampling"] for fact in facts}) >= 2


def test_the_reference_has_no_gap_and_all_images_are_float32(cases):
    for case in cases:
        assert np.isfinite(case.reference.values).all()
        assert {image.dtype for image in images_of(case)} == {np.dtype("float32")}


def test_gaps_lie_only_in_cloudy_scenes(cases):
    for case in cases:
        gaps = any(np.isnan(image.values).any() for image in images_of(case))
        if gaps:
            assert drawn(case)["cloudy"]


def test_a_clean_coarse_image_is_the_block_mean_of_the_fine_one():
    found = 0
    for seed in range(40):
        case = draw_training_case(seed, [], size=64, scale=8, bands=2)
        if not drawn(case)["clean"] or drawn(case)["cloudy"]:
            continue
        found += 1
        fine, coarse = case.reference.values, case.inputs.coarse.values
        blocks = fine.reshape(2, 8, 8, 8, 8).mean(axis=(2, 4), dtype=np.float64)
        size = np.abs(fine).max()
        np.testing.assert_allclose(coarse[:, ::8, ::8], blocks, atol=1e-5 * size)
        assert (coarse == np.repeat(np.repeat(coarse[:, ::8, ::8], 8, 1), 8, 2)).all()
    assert found >= 3


def test_scale_and_bands_can_be_given():
    case = draw_training_case(3, [texture()], size=60, scale=5, bands=4)
    assert case.inputs.scale == 5
    assert case.reference.sizes["band"] == 4


def test_two_pairs_lie_on_both_sides_of_the_prediction_date():
    case = draw_training_case(2, [texture()], size=48, pairs=2)
    assert sorted(np.sign(case.inputs.lags)) == [-1, 1]


@pytest.mark.parametrize(
    "options", [{"size": 8}, {"pairs": 3}, {"scale": 1}, {"bands": 7}, {"seed": -1}]
)
def test_values_out_of_range_are_refused(options):
    with pytest.raises(ParameterError, match=next(iter(options))):
        draw_training_case(**{"seed": 0, "textures": [], **options})
