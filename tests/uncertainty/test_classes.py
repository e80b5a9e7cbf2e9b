"""Scores of class probabilities against loops and what must hold."""

import math

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import entropy as scipy_entropy

from geofuse.errors import ParameterError, UnknownNameError
from geofuse.uncertainty.class_sets import class_set_quantile, class_sets
from geofuse.uncertainty.classes import (
    brier,
    calibration_error,
    calibration_error_by_class,
    class_scores,
    class_temperature,
    decomposed,
    entropy,
    error_auroc,
    nll,
    rejection,
    reliability,
    tempered,
)


def drawn(rng, count=4000, classes=4, temperature=1.0, scale=2.0):
    """Logits, and labels drawn from them at a temperature."""
    logits = rng.normal(size=(classes, count)) * scale
    chances = softmax(logits / temperature, axis=0)
    labels = (rng.random(count) > chances.cumsum(0)).sum(0).clip(max=classes - 1)
    return softmax(logits, axis=0), labels


def test_entropy_and_its_parts_add_up():
    rng = np.random.default_rng(0)
    members = rng.dirichlet([1, 1, 1], (5, 6)).transpose(0, 2, 1)[..., None]
    mean, aleatoric, epistemic = decomposed(members)
    assert np.allclose(entropy(mean), scipy_entropy(mean, axis=0))
    assert np.allclose(aleatoric + epistemic, entropy(mean))
    assert (epistemic >= 0).all()
    same = np.repeat(members[:1], 5, axis=0)
    assert np.allclose(decomposed(same)[2], 0)


def test_scores_match_plain_loops():
    rng = np.random.default_rng(1)
    chances, labels = drawn(rng, 300)
    found = class_scores(chances, labels, bins=7)
    assert found["nll"] == pytest.approx(
        -sum(math.log(chances[label, i]) for i, label in enumerate(labels)) / 300
    )
    one_hot = np.eye(4)[labels].T
    assert found["brier"] == pytest.approx(((chances - one_hot) ** 2).sum(0).mean())
    assert found["accuracy"] == (chances.argmax(0) == labels).mean()
    total = 0.0
    confidence, right = chances.max(0), chances.argmax(0) == labels
    for k in range(7):
        inside = (confidence >= k / 7) & (confidence < (k + 1) / 7)
        if inside.any():
            total += inside.sum() * abs(
                confidence[inside].mean() - right[inside].mean()
            )
    assert found["calibration_error_width"] == pytest.approx(total / 300)


def test_bins_of_equal_number_match_sorting_and_cutting():
    rng = np.random.default_rng(2)
    chances, labels = drawn(rng, 300)
    order = np.argsort(chances.max(0))
    confidence = chances.max(0)[order].reshape(6, 50)
    right = (chances.argmax(0) == labels)[order].reshape(6, 50)
    found = reliability(chances, labels, bins=6)
    assert np.allclose(found.confidence, confidence.mean(1))
    assert np.allclose(found.accuracy, right.mean(1))
    assert found.pixels.tolist() == [50] * 6


def test_equal_probabilities_are_in_one_bin_whatever_their_order():
    chances = np.tile([[0.75], [0.25]], 40)
    labels = np.repeat([0, 1], (30, 10))
    assert calibration_error(chances, labels) == pytest.approx(0)
    assert calibration_error(chances, labels[::-1]) == pytest.approx(0)


def test_by_class_sees_what_the_largest_probability_hides():
    rng = np.random.default_rng(3)
    labels = (rng.random(6000) > 0.8).astype(int) * 2  # 0, or 2; said is 0, or 1
    chances = np.tile([[0.8], [0.2], [0.0]], 6000)
    assert calibration_error(chances, labels) < 0.02
    assert calibration_error_by_class(chances, labels) > 0.12


def test_unlabeled_and_invalid_pixels_change_nothing():
    rng = np.random.default_rng(4)
    chances, labels = drawn(rng, 100)
    more = np.concatenate([chances, chances], 1).reshape(4, 10, 20)
    hidden = np.concatenate([labels, np.full(100, -1)]).reshape(10, 20)
    assert class_scores(more, hidden) == class_scores(chances, labels)
    more = np.concatenate([chances, np.full((4, 100), np.nan)], 1)
    twice = np.concatenate([labels, labels])
    assert class_scores(more, twice) == class_scores(chances, labels)


def test_without_a_pixel_every_score_is_nan():
    found = class_scores(np.full((3, 4), 1 / 3), np.full(4, -1))
    assert found.pop("pixels") == 0
    assert all(math.isnan(value) for value in found.values())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_labels_were_drawn_at_is_found(temperature):
    rng = np.random.default_rng(5)
    chances, labels = drawn(rng, 20_000, temperature=temperature)
    found = class_temperature(chances, labels)
    # Four standard errors of 20,000 pixels are about 6 %.
    assert found == pytest.approx(temperature, rel=0.06)
    better = tempered(chances, found)
    assert np.allclose(better.sum(0), 1)
    assert (better.argmax(0) == chances.argmax(0)).all()
    assert nll(better, labels) <= nll(chances, labels) + 1e-9
    if temperature != 1:
        assert (
            calibration_error(better, labels) < calibration_error(chances, labels) / 3
        )
        assert brier(better, labels) < brier(chances, labels)


def test_a_temperature_of_one_changes_nothing_in_float32():
    chances = drawn(np.random.default_rng(6), 50)[0].astype("float32")
    assert tempered(chances, 1.0).dtype == np.float32
    # float32: half a unit in the last place
    assert np.allclose(tempered(chances, 1.0), chances, atol=1e-7)


def test_error_auroc_is_the_share_of_pairs_in_order_ties_half():
    rng = np.random.default_rng(7)
    doubt = rng.integers(0, 6, 200).astype(float)
    wrong = rng.random(200) < doubt / 8
    difference = doubt[wrong][:, None] - doubt[~wrong]
    expected = (difference > 0).mean() + 0.5 * (difference == 0).mean()
    assert error_auroc(doubt, wrong) == pytest.approx(expected)
    assert math.isnan(error_auroc(doubt, np.zeros(200, bool)))


def test_leaving_out_the_unsure_is_perfect_where_these_are_the_errors():
    doubt = np.arange(100.0)
    wrong = doubt >= 80
    found = rejection(doubt, wrong)
    assert found.area == 0
    assert found.accuracy[0] == pytest.approx(0.8)
    assert found.accuracy[10] == pytest.approx(80 / 90)
    assert (found.accuracy[20:] == 1).all()
    same = rejection(np.zeros(100), wrong)
    assert np.allclose(same.accuracy, 0.8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nll(np.ones((2, 3)), np.zeros(4, int)), "labels' shape"),
        (lambda: nll(np.ones((2, 3)), np.full(3, 2)), "below 2"),
        (lambda: calibration_error(np.ones((2, 3)), np.zeros(3, int), bins=0), "1 bin"),
        (lambda: class_temperature(np.ones((2, 3)), np.full(3, -1)), "found none"),
        (lambda: tempered(np.ones((2, 3)), 0.0), "above 0"),
        (lambda: error_auroc(np.ones(3), np.ones(4, bool)), "one shape"),
        (lambda: rejection(np.ones(3), np.ones(4, bool)), "one shape"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ParameterError, match=message):
        call()


# --- sets


@pytest.mark.parametrize("score", ["lac", "aps"])
def test_sets_hold_the_class_of_a_new_block_as_often_as_promised(score):
    rng = np.random.default_rng(8)
    covered = []
    for _ in range(300):
        # Blocks differ: in each the classifier is wrong in its own way.
        shift = rng.normal(size=(4, 20, 1)) * 1.5
        logits = rng.normal(size=(4, 20, 15))
        true = softmax(logits + shift, axis=0)
        labels = (rng.random((20, 15)) > true.cumsum(0)).sum(0).clip(max=3)
        chances = softmax(logits, axis=0)
        units = np.repeat(np.arange(20)[:, None], 15, 1)
        quantile = class_set_quantile(
            chances[:, :-1], labels[:-1], units[:-1], level=0.8, score=score
        )
        sets = class_sets(chances[:, -1], quantile, score=score)
        covered.append(sets[labels[-1], np.arange(15)].mean())
    # Blocks alone: 300 of them, with a standard error of about 0.012.
    assert np.mean(covered) > 0.8 - 0.03


@pytest.mark.parametrize("score", ["lac", "aps"])
def test_a_set_holds_the_likeliest_class_and_is_empty_only_where_invalid(score):
    rng = np.random.default_rng(9)
    chances = rng.dirichlet(np.ones(5), (6, 7)).transpose(2, 0, 1)
    chances[:, 2, 3] = np.nan
    sets = class_sets(chances, 0.0, score=score)
    assert sets.shape == chances.shape
    assert sets.sum() == 41
    assert not sets[:, 2, 3].any()
    wide = class_sets(chances, 0.7, score=score)
    assert (wide >= sets).all()
    assert class_sets(chances, 1.0 + 1e-9, score=score).sum() == 41 * 5


def test_aps_takes_classes_in_order_until_the_sum_is_reached():
    chances = np.array([[0.5], [0.3], [0.15], [0.05]])
    assert class_sets(chances, 0.951, score="aps").sum() == 3
    assert class_sets(chances, 0.94, score="aps").sum() == 2


def test_too_few_blocks_are_told():
    chances, labels = drawn(np.random.default_rng(10), 80)
    with pytest.raises(ParameterError, match="found 8"):
        class_set_quantile(chances, labels, np.arange(80) % 8, level=0.9)
    with pytest.raises(UnknownNameError, match="'aps'"):
        class_sets(chances, 0.5, score="apss")
