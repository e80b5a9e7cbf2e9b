"""The rules of late fusion, against what they say in words."""

import numpy as np
import pytest

from geofuse.landcover.opinions import RULES, Opinions, fitted_exponents, pooled

PRIOR = np.array([0.5, 0.3, 0.2])


def drawn(pixels=50, experts=3, seed=0):
    rng = np.random.default_rng(seed)
    probability = np.moveaxis(rng.dirichlet(np.ones(3), (experts, pixels)), -1, 1)
    entropy = -(probability * np.log(probability)).sum(axis=1)
    present = rng.random((experts, pixels)) < 0.7
    present[:, 0], present[:, 1] = False, True
    return Opinions(probability, entropy, present)


@pytest.mark.parametrize("rule", RULES)
def test_what_an_absent_expert_says_changes_nothing(rule):
    opinions = drawn()
    how = {"prior": PRIOR, "exponents": np.array([0.5, 0.4, 0.3])}
    before = pooled(opinions, rule, **how)
    absent = ~opinions.present
    probability, entropy = opinions.probability.copy(), opinions.entropy.copy()
    probability[np.broadcast_to(absent[:, None], probability.shape)] = np.nan
    entropy[absent] = np.nan
    after = pooled(Opinions(probability, entropy, opinions.present), rule, **how)
    np.testing.assert_array_equal(after.probability, before.probability)
    np.testing.assert_array_equal(after.weight, before.weight)
    assert (before.weight[absent] == 0).all()


@pytest.mark.parametrize("rule", RULES)
def test_shares_sum_to_one_and_nobody_says_nothing(rule):
    found = pooled(drawn(), rule, prior=PRIOR)
    assert np.isnan(found.probability[:, 0]).all()
    np.testing.assert_allclose(found.probability[:, 1:].sum(axis=0), 1)
    np.testing.assert_allclose(found.weight[:, 1:].sum(axis=0), 1)


def test_a_lone_expert_is_believed_under_every_rule_but_the_vote():
    opinions = drawn()._replace(
        present=np.array([[True], [False], [False]]).repeat(50, 1)
    )
    for rule in ("average", "precision", "product"):
        found = pooled(opinions, rule, prior=PRIOR)
        np.testing.assert_allclose(found.probability, opinions.probability[0])


def test_the_product_counts_the_prior_once():
    # Three experts who know nothing say the prior: together they say the prior again.
    says_prior = np.broadcast_to(PRIOR[None, :, None], (3, 3, 4)).copy()
    present = np.ones((3, 4), bool)
    found = pooled(
        Opinions(says_prior, np.ones((3, 4)), present), "product", prior=PRIOR
    )
    np.testing.assert_allclose(found.probability, PRIOR[:, None].repeat(4, 1))


def test_the_product_is_bayes_for_independent_evidence():
    # Two tests for one of two classes, each right with 0.8 and 0.7.
    prior = np.array([0.9, 0.1])
    likelihoods = np.array([[0.2, 0.8], [0.3, 0.7]])
    each = prior * likelihoods
    each /= each.sum(axis=1, keepdims=True)
    both = prior * likelihoods.prod(axis=0)
    opinions = Opinions(each[:, :, None], np.ones((2, 1)), np.ones((2, 1), bool))
    found = pooled(opinions, "product", prior=prior)
    np.testing.assert_allclose(found.probability[:, 0], both / both.sum())


def test_precision_weighs_by_one_over_the_entropy():
    opinions = Opinions(
        np.array([[[0.9], [0.1]], [[0.2], [0.8]]]),
        np.array([[0.1], [0.4]]),
        np.ones((2, 1), bool),
    )
    found = pooled(opinions, "precision", prior=np.array([0.5, 0.5]))
    np.testing.assert_allclose(found.weight[:, 0], [0.8, 0.2])
    np.testing.assert_allclose(found.probability[:, 0], [0.76, 0.24])


def test_stacking_learns_whom_to_believe():
    rng = np.random.default_rng(1)
    labels = rng.integers(2, size=4000)
    truth = np.stack([1 - labels, labels]).astype(float)
    good = 0.1 + 0.8 * truth
    flip = rng.random(4000) < 0.1
    good[:, flip] = good[::-1, flip]
    noise = rng.dirichlet([1, 1], 4000).T
    opinions = Opinions(
        np.stack([good, noise]), np.ones((2, 4000)), np.ones((2, 4000), bool)
    )
    exponents = fitted_exponents(opinions, labels, np.array([0.5, 0.5]))
    assert exponents[0] > 0.9
    assert exponents[1] < 0.1


def test_a_class_never_seen_stays_impossible_in_products():
    prior = np.array([0.6, 0.4, 0.0])
    found = pooled(drawn(), "product", prior=prior)
    assert (found.probability[2, 1:] == 0).all()
