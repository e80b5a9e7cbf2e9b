"""Trees of scikit-learn and LightGBM as plain arrays; see `geofuse.landcover.trees`.

    forest_ensemble      RandomForestClassifier, ExtraTreesClassifier
    histogram_ensemble   HistGradientBoostingClassifier
    lightgbm_ensemble    LightGBM's Booster, of objective binary or multiclass

What comes out decides every row of float32 as the library does, missing values included.
Only attributes and methods of fitted objects are used; neither library is imported.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from geofuse.errors import ParameterError
from geofuse.landcover.trees import (
    LEAF,
    LIKE_ZERO,
    GrownTree,
    TreeEnsemble,
    ensemble_of,
)


def forest_ensemble(forest: Any, classes: Sequence[int]) -> TreeEnsemble:
    """The trees of a random forest or of extremely randomized trees.

    Args:
        forest: Fitted on the numbers 0, 1, … of `classes`.
        classes: Numbers of the classes in the legend.
    """
    return ensemble_of(
        [_forest_tree(each.tree_) for each in forest.estimators_],
        classes=classes,
        features=forest.n_features_in_,
        link="mean",
    )


def histogram_ensemble(
    boosted: Any, classes: Sequence[int], *, rounds: int | None = None
) -> TreeEnsemble:
    """The trees of scikit-learn's boosting on histograms.

    Args:
        boosted: Fitted on the numbers 0, 1, … of `classes`.
        classes: Numbers of the classes in the legend.
        rounds: Take the first rounds only.

    Raises:
        ParameterError: A feature is categorical.
    """
    start = np.ravel(boosted._baseline_prediction).tolist()
    return ensemble_of(
        [
            _histogram_tree(tree.nodes)
            for trees in boosted._predictors[:rounds]
            for tree in trees
        ],
        classes=classes,
        features=boosted.n_features_in_,
        link="sigmoid" if len(start) == 1 else "softmax",
        start=start,
    )


def lightgbm_ensemble(booster: Any, classes: Sequence[int]) -> TreeEnsemble:
    """The trees of LightGBM, up to its best round.

    Args:
        booster: Trained on the numbers 0, 1, … of `classes`.
        classes: Numbers of the classes in the legend.

    Raises:
        ParameterError: The objective is not binary or multiclass, a feature is
            categorical, leaves are linear, or trees are averaged.
    """
    document = booster.dump_model()
    objective = str(document["objective"]).split()
    scale = 1.0
    if objective[0] == "binary":
        scale = float(dict(word.split(":") for word in objective[1:]).get("sigmoid", 1))
    if objective[0] not in ("binary", "multiclass") or document["average_output"]:
        raise ParameterError(
            f"expected trees that add up to the score of a class, found {objective} "
            f"(averaged: {document['average_output']}); train with objective binary or "
            "multiclass, and boosting gbdt"
        )
    missing: set[str] = set()
    trees = [
        _lightgbm_tree(tree["tree_structure"], scale, missing)
        for tree in document["tree_info"]
    ]
    if "Zero" in missing and len(missing - {"None"}) > 1:
        raise ParameterError(
            f"expected one meaning of missing in all splits, found {sorted(missing)}; "
            "train with zero_as_missing=false"
        )
    return ensemble_of(
        trees,
        classes=classes,
        features=document["max_feature_idx"] + 1,
        link="sigmoid" if objective[0] == "binary" else "softmax",
        start=[0.0] * document["num_tree_per_iteration"],
        zero_is_missing="Zero" in missing,
    )


def _forest_tree(tree: Any) -> GrownTree:
    leaf = tree.children_left < 0
    shares = tree.value[:, 0, :]
    return GrownTree(
        feature=np.where(leaf, LEAF, tree.feature),
        threshold=tree.threshold,
        left=tree.children_left,
        right=tree.children_right,
        missing_left=tree.missing_go_to_left.astype(bool),
        value=shares / shares.sum(axis=1, keepdims=True),
    )


def _histogram_tree(nodes: np.ndarray) -> GrownTree:
    leaf = nodes["is_leaf"].astype(bool)
    if nodes["is_categorical"][~leaf].any():
        raise _categorical()
    return GrownTree(
        feature=np.where(leaf, LEAF, nodes["feature_idx"]),
        threshold=nodes["num_threshold"],
        left=nodes["left"],
        right=nodes["right"],
        missing_left=nodes["missing_go_to_left"].astype(bool),
        value=nodes["value"][:, None],
    )


def _lightgbm_tree(
    root: Mapping[str, Any], scale: float, missing: set[str]
) -> GrownTree:
    """One tree of a dump; the kinds of missing values it knows are added to `missing`."""
    pending: list[tuple[Mapping[str, Any], int]] = [(root, 0)]
    used = 1
    places: dict[int, tuple[int, float, int, int, bool, float]] = {}
    while pending:
        node, place = pending.pop()
        if "split_feature" not in node:
            if "leaf_coeff" in node:
                raise ParameterError(
                    "expected leaves of one number, found linear ones; train with "
                    "linear_tree=false"
                )
            places[place] = (LEAF, 0.0, 0, 0, True, scale * node["leaf_value"])
            continue
        if node["decision_type"] != "<=":
            raise _categorical()
        threshold, kind = float(node["threshold"]), node["missing_type"]
        missing.add(kind)
        # Where no missing value was seen in training, LightGBM takes one for 0.
        to_left = node["default_left"] if kind != "None" else threshold >= 0
        threshold = _beside_zero(threshold)
        places[place] = (node["split_feature"], threshold, used, used + 1, to_left, 0.0)
        pending += [(node["left_child"], used), (node["right_child"], used + 1)]
        used += 2
    columns = [places[place] for place in range(used)]
    feature, thresholds, left, right, lefts, values = map(
        np.array, zip(*columns, strict=True)
    )
    return GrownTree(feature, thresholds, left, right, lefts, values[:, None])


def _beside_zero(threshold: float) -> float:
    """A threshold that does to values like zero what LightGBM does, which makes them 0."""
    if abs(threshold) > float(LIKE_ZERO):
        return threshold
    below = float(np.nextafter(-LIKE_ZERO, np.float32(-np.inf)))
    return float(LIKE_ZERO) if threshold >= 0 else below


def _categorical() -> ParameterError:
    return ParameterError(
        "expected splits of numbers, found one of categories; train with numbers alone"
    )
