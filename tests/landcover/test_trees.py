import numpy as np
import pytest
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)

from geofuse.errors import ParameterError
from geofuse.landcover.tree_conversion import (
    forest_ensemble,
    histogram_ensemble,
    lightgbm_ensemble,
)
from geofuse.landcover.trees import (
    GrownTree,
    TreeEnsemble,
    ensemble_of,
    rounded_down,
)
from geofuse.training.fields import method_as_json, method_from_json


def rows_and_labels(count=600, classes=3, *, gaps=True):
    """Rows of float32 with ties and missing values, and labels that depend on them."""
    rng = np.random.default_rng(4)
    rows = rng.normal(size=(count, 6)).astype(np.float32)
    rows[:, 1] = rng.integers(-2, 3, count)
    score = rows[:, 0] + rows[:, 1] + 0.5 * rng.normal(size=count)
    labels = np.digitize(score, np.linspace(-1, 1, classes - 1))
    if gaps:
        rows[rng.random(rows.shape) < 0.15] = np.nan
        rows[::7, 2:4] = np.nan
    return rows, labels


def nasty_rows(rows, ensemble):
    """Rows at thresholds and just beside them, zeros and missing values."""
    threshold = ensemble.trees.arrays["threshold"]
    near = [threshold, np.nextafter(threshold, np.float32(np.inf)), -threshold]
    values = np.concatenate([*near, [0, -0.0, 1e-36, np.nan]]).astype(np.float32)
    values = values[~np.isinf(values)]
    drawn = np.random.default_rng(0).choice(values, (2000, rows.shape[1]))
    return np.concatenate([rows, drawn])


def lightgbm_of(rows, labels, categorical="auto", **parameters):
    lightgbm = pytest.importorskip("lightgbm")
    classes = labels.max() + 1
    many = {"objective": "multiclass", "num_class": int(classes)}
    return lightgbm.train(
        (many if classes > 2 else {"objective": "binary"})
        | {"verbose": -1, "num_threads": 1, "min_data_in_leaf": 5}
        | parameters,
        lightgbm.Dataset(rows, labels, categorical_feature=categorical),
        12,
    )


@pytest.mark.parametrize("gaps", [True, False])
@pytest.mark.parametrize("kind", [RandomForestClassifier, ExtraTreesClassifier])
def test_a_forest_gives_what_the_library_gives(kind, gaps):
    rows, labels = rows_and_labels(gaps=gaps)
    forest = kind(7, random_state=0).fit(rows, labels)
    ensemble = forest_ensemble(forest, range(3))
    asked = nasty_rows(rows, ensemble)
    if not gaps:  # the library refuses missing values that it has not learned
        asked = asked[np.isfinite(asked).all(axis=1)]
    np.testing.assert_allclose(
        ensemble.probability(asked), forest.predict_proba(asked), atol=1e-6
    )


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("gaps", [True, False])
def test_histogram_boosting_gives_what_the_library_gives(classes, gaps):
    rows, labels = rows_and_labels(classes=classes, gaps=gaps)
    boosted = HistGradientBoostingClassifier(max_iter=12, random_state=0)
    boosted.fit(rows, labels)
    ensemble = histogram_ensemble(boosted, range(classes))
    asked = nasty_rows(rows, ensemble)
    np.testing.assert_allclose(
        ensemble.probability(asked), boosted.predict_proba(asked), atol=1e-6
    )
    staged = list(boosted.staged_predict_proba(asked))
    fewer = histogram_ensemble(boosted, range(classes), rounds=5)
    np.testing.assert_allclose(fewer.probability(asked), staged[4], atol=1e-6)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize(
    "parameters",
    [{}, {"zero_as_missing": True}, {"use_missing": False}],
    ids=["nan", "zero", "none"],
)
def test_lightgbm_gives_what_the_library_gives(classes, parameters):
    rows, labels = rows_and_labels(classes=classes)
    booster = lightgbm_of(rows, labels, **parameters)
    ensemble = lightgbm_ensemble(booster, range(classes))
    asked = nasty_rows(rows, ensemble)
    found = booster.predict(asked)
    if classes == 2:
        found = np.stack([1 - found, found], axis=1)
    np.testing.assert_allclose(ensemble.probability(asked), found, atol=1e-6)


def test_lightgbm_without_missing_values_takes_them_for_zero():
    rows, labels = rows_and_labels(gaps=False)
    booster = lightgbm_of(rows, labels)
    ensemble = lightgbm_ensemble(booster, range(3))
    asked = nasty_rows(rows, ensemble)
    assert np.isnan(asked).any()
    np.testing.assert_allclose(
        ensemble.probability(asked), booster.predict(asked), atol=1e-6
    )


def test_what_lightgbm_does_otherwise_is_refused():
    rows, labels = rows_and_labels(gaps=False)
    with pytest.raises(ParameterError, match="train with numbers alone"):
        lightgbm_ensemble(lightgbm_of(np.abs(rows), labels, categorical=[1]), range(3))
    with pytest.raises(ParameterError, match="linear_tree=false"):
        lightgbm_ensemble(lightgbm_of(rows, labels, linear_tree=True), range(3))
    forest = {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}
    with pytest.raises(ParameterError, match="boosting gbdt"):
        lightgbm_ensemble(lightgbm_of(rows, labels, **forest), range(3))


def test_a_float32_is_below_a_rounded_threshold_where_it_is_below_the_threshold():
    rng = np.random.default_rng(1)
    thresholds = np.concatenate([rng.normal(size=500), [0.1, 1e300, -1e300, np.inf]])
    rounded = rounded_down(thresholds)
    with np.errstate(over="ignore"):
        near = np.unique(np.concatenate([thresholds.astype(np.float32), rounded]))
        beside = [np.nextafter(near, np.float32(side)) for side in (-np.inf, np.inf)]
    values = np.concatenate([near, *beside])[:, None]
    np.testing.assert_array_equal(
        values <= rounded, values.astype(np.float64) <= thresholds
    )


def stump(missing_left):
    """x <= 0.5 gives class 0, other values class 1, a missing one what is said."""
    return GrownTree(
        feature=np.array([0, -1, -1]),
        threshold=np.array([0.5, 0, 0]),
        left=np.array([1, 0, 0]),
        right=np.array([2, 0, 0]),
        missing_left=np.array([missing_left, True, True]),
        value=np.array([[0.5, 0.5], [1, 0], [0, 1]]),
    )


def test_trees_of_a_forest_that_disagree_show_in_the_entropies():
    both = ensemble_of(
        [stump(True), stump(False)], classes=(3, 5), features=1, link="mean"
    )
    probability, agreed = both.decided(np.array([[0.0], [1.0], [np.nan]]))
    np.testing.assert_allclose(probability, [[1, 0], [0, 1], [0.5, 0.5]])
    np.testing.assert_allclose(agreed, 0)


def test_a_row_is_decided_alone():
    rows, labels = rows_and_labels()
    forest = RandomForestClassifier(5, random_state=0).fit(rows, labels)
    ensemble = forest_ensemble(forest, range(3))
    together = ensemble.probability(rows)
    for count in (1, 2, 3, 5, 130):
        alone = ensemble.probability(rows[-count:].astype(np.float64))
        np.testing.assert_array_equal(alone, together[-count:])
    assert ensemble.probability(rows[:0]).shape == (0, 3)


def test_an_ensemble_is_saved_as_plain_values_and_arrays():
    rows, labels = rows_and_labels()
    forest = RandomForestClassifier(5, random_state=0).fit(rows, labels)
    ensemble = forest_ensemble(forest, (0, 2, 7))
    arrays = {}
    document = method_as_json(ensemble, {TreeEnsemble: "trees"}, arrays)
    loaded = method_from_json(document, {"trees": TreeEnsemble}, arrays)
    assert loaded == ensemble
    assert loaded.classes == (0, 2, 7)
    np.testing.assert_array_equal(loaded.probability(rows), ensemble.probability(rows))


def test_rows_of_other_features_are_refused():
    one = ensemble_of([stump(True)], classes=(0, 1), features=1, link="mean")
    with pytest.raises(ParameterError, match="rows of 1 features"):
        one.probability(np.zeros((4, 2)))
    with pytest.raises(ParameterError, match="at least one tree"):
        ensemble_of([], classes=(0, 1), features=1, link="mean")
