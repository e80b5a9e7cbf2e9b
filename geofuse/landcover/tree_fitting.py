"""Grow trees on labeled pixels: cross-fitted members, told by the pixels they left out.

    blocks of the scenes      member 1    member 2    member 3
    fold 0  0  2  1           - - + +     + + + +     + + + -      + learns from it
    fold 1  2  2  0           + + + -     + - - +     ...          - tells when to stop, and
                                                                     what it is worth

Each member leaves the blocks of one fold out, stops growing where pixels inside of them are
told best, and predicts them: so every pixel has a prediction that has not seen it.

Rows are repeated with whole modalities missing (modality dropout): trees learn a way
through every split for a missing value only from missing values.
"""

import math
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple

import numpy as np
from dask.system import CPU_COUNT

from geofuse.errors import MissingExtraError
from geofuse.landcover.labeled_pixels import LabeledPixels
from geofuse.landcover.tree_conversion import (
    forest_ensemble,
    histogram_ensemble,
    lightgbm_ensemble,
)
from geofuse.landcover.trees import TreeEnsemble
from geofuse.splits import fold_of, inside_block
from geofuse.uncertainty.classes import LEAST, logit_temperature

Kind = Literal["lightgbm", "histogram", "forest"]

#: Chance of each modality to be missing in a repeated row, where not all or none are.
_MISSING = 1 / 3
#: Temperatures that are looked for.
_TEMPERATURES = (math.exp(-1.5), math.exp(1.5))
#: Rounds without a gain after which boosting stops.
_PATIENCE = 15
#: Rounds where no pixels are left out to tell when to stop.
_BLIND_ROUNDS = 40
#: Fewer rows than this are not worth another thread: threads wait for each other.
_ROWS_A_THREAD = 10_000


class GrowthPlan(NamedTuple):
    """How members are grown.

    Attributes:
        kind: By which library.
        members: How many members, each of which leaves out one fold.
        rounds: Rounds of boosting at most; trees of a forest, of all members together.
        balanced: Whether all classes count alike; otherwise by their share of the labels.
        dropout: How often rows are repeated with modalities missing.
        modalities: Number of the modality of each feature.
        seed: Of all draws.
    """

    kind: Kind
    members: int
    rounds: int
    balanced: bool
    dropout: int
    modalities: np.ndarray
    seed: int


class GrownMembers(NamedTuple):
    """What has been grown.

    Attributes:
        ensembles: One a member.
        held_out: Probabilities (pixel, class) by the member that left the pixel out; NaN
            where none did.
    """

    ensembles: tuple[TreeEnsemble, ...]
    held_out: np.ndarray


class _Rows(NamedTuple):
    features: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


def kind_of_trees(asked: str) -> Kind:
    """Which library grows the trees: LightGBM where it is installed, if it may choose.

    Args:
        asked: auto, lightgbm, histogram or forest.

    Raises:
        MissingExtraError: LightGBM is asked for and not installed.
    """
    installed = find_spec("lightgbm") is not None
    if asked == "auto":
        return "lightgbm" if installed else "histogram"
    if asked == "lightgbm" and not installed:
        raise MissingExtraError(
            "expected the package lightgbm for trees='lightgbm', found that it is not "
            "installed; pip install 'geofuse[ml]', or take trees='histogram'"
        )
    return asked  # type: ignore[return-value]


def grow_members(pixels: LabeledPixels, classes: int, plan: GrowthPlan) -> GrownMembers:
    """Grow all members, and predict what each has left out.

    Args:
        pixels: Rows to learn from.
        classes: How many classes the legend has.
        plan: How to grow.
    """
    fold = np.empty(len(pixels.labels), np.int64)
    for scene in np.unique(pixels.scene):
        here = pixels.scene == scene
        fold[here] = fold_of(
            pixels.rows[here],
            pixels.columns[here],
            scene=int(scene),
            folds=max(plan.members, 2),
            seed=plan.seed,
        )
    alone = _only_in_one_fold(pixels.labels, fold)
    weights = weights_of(pixels, balanced=plan.balanced)
    held_out = np.full((len(pixels.labels), classes), np.nan, np.float32)
    ensembles = []
    inside = inside_block(pixels.rows, pixels.columns)
    for member in range(plan.members):
        out = (fold == member) & ~alone
        kept = np.flatnonzero(~out)
        told = np.flatnonzero(out & inside)
        rng = np.random.default_rng((plan.seed, member))
        rows = _with_missing(
            _Rows(pixels.features[kept], pixels.labels[kept], weights[kept]), plan, rng
        )
        check = _Rows(pixels.features[told], pixels.labels[told], weights[told])
        ensemble = _grown(rows, check, plan, int(rng.integers(2**31 - 1)))
        ensembles.append(ensemble)
        if told.size:
            held_out[told] = in_legend(
                ensemble.probability(pixels.features[told]), ensemble.classes, classes
            )
    return GrownMembers(tuple(ensembles), held_out)


def in_legend(
    probability: np.ndarray, classes: Sequence[int], count: int
) -> np.ndarray:
    """Probabilities (row, class) of some classes, among all classes of a legend."""
    if tuple(classes) == tuple(range(count)):
        return probability
    whole = np.zeros((len(probability), count), probability.dtype)
    whole[:, list(classes)] = probability
    return whole


def weights_of(pixels: LabeledPixels, *, balanced: bool) -> np.ndarray:
    """How much each row counts; 1 on average."""
    weights = pixels.weights.astype(np.float64)
    if balanced:
        by_class = np.bincount(pixels.labels, weights)
        weights = weights / by_class[pixels.labels]
    return weights / weights.mean()


def temperature_of(
    probability: np.ndarray, labels: np.ndarray, weights: np.ndarray
) -> float:
    """The temperature that makes held-out probabilities most likely: p^(1/T), scaled.

    Args:
        probability: (row, class), NaN where a row was not held out.
        labels: Numbers of the classes, (row,).
        weights: How much each row counts.

    Returns:
        Above 1 where the probabilities were too sure; 1 where no row was held out.
    """
    known = np.isfinite(probability).all(axis=1)
    if not known.any():
        return 1.0
    return logit_temperature(
        np.log(np.maximum(probability[known], LEAST)).T,
        labels[known],
        weights=weights[known],
        between=_TEMPERATURES,
    )


def _only_in_one_fold(labels: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Rows of classes that lie in one fold alone: they are learned all the same."""
    alone = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        own = labels == label
        alone |= own & (np.ptp(fold[own]) == 0)
    return alone


def _with_missing(rows: _Rows, plan: GrowthPlan, rng: np.random.Generator) -> _Rows:
    """The rows, and again with some modalities missing, but never all."""
    count = int(plan.modalities.max()) + 1
    if count < 2 or plan.dropout < 1:
        return rows
    repeated = []
    choices = [
        [bool(number >> m & 1) for m in range(count)]
        for number in range(1, 2**count - 1)
    ]
    chances = np.array(
        [_MISSING ** sum(c) * (1 - _MISSING) ** (count - sum(c)) for c in choices]
    )
    for _ in range(plan.dropout):
        drawn = rng.choice(len(choices), len(rows.labels), p=chances / chances.sum())
        missing = np.array(choices)[drawn][:, plan.modalities]
        repeated.append(np.where(missing, np.float32(np.nan), rows.features))
    features = np.concatenate([rows.features, *repeated])
    known = np.isfinite(features).any(axis=1)
    times = plan.dropout + 1
    return _Rows(
        features[known],
        np.tile(rows.labels, times)[known],
        np.tile(rows.weights, times)[known],
    )


def _grown(rows: _Rows, check: _Rows, plan: GrowthPlan, seed: int) -> TreeEnsemble:
    classes, labels = np.unique(rows.labels, return_inverse=True)
    rows = rows._replace(labels=labels)
    check = check._replace(labels=np.searchsorted(classes, check.labels))
    grow = {"lightgbm": _boosted, "histogram": _by_histogram, "forest": _forest}
    return grow[plan.kind](rows, check, classes.tolist(), plan, seed)


# Each library is imported where it is used: predicting needs none of them.


def _boosted(
    rows: _Rows, check: _Rows, classes: list[int], plan: GrowthPlan, seed: int
) -> TreeEnsemble:
    import lightgbm

    objective: dict[str, Any] = {"objective": "binary"}
    if len(classes) > 2:
        objective = {"objective": "multiclass", "num_class": len(classes)}
    parameters = objective | {
        "learning_rate": 0.1,
        "num_leaves": 31,
        "min_data_in_leaf": _least_in_leaf(rows, 20),
        "feature_fraction": 0.3,
        "bagging_fraction": 0.5,
        "bagging_freq": 1,
        "lambda_l2": 1.0,
        "max_bin": 63,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": _threads(rows),
        "verbose": -1,
    }
    data = lightgbm.Dataset(
        rows.features, rows.labels, weight=rows.weights, params=parameters
    )
    if not check.labels.size:
        rounds = min(plan.rounds, _BLIND_ROUNDS)
        booster = lightgbm.train(parameters, data, rounds)
        return lightgbm_ensemble(booster, classes)
    told = lightgbm.Dataset(
        check.features, check.labels, weight=check.weights, reference=data
    )
    stop = lightgbm.early_stopping(_PATIENCE, verbose=False)
    booster = lightgbm.train(
        parameters, data, plan.rounds, valid_sets=[told], callbacks=[stop]
    )
    return lightgbm_ensemble(booster, classes)


def _by_histogram(
    rows: _Rows, check: _Rows, classes: list[int], plan: GrowthPlan, seed: int
) -> TreeEnsemble:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    rounds = plan.rounds if check.labels.size else min(plan.rounds, _BLIND_ROUNDS)
    boosted = HistGradientBoostingClassifier(
        learning_rate=0.1,
        max_leaf_nodes=31,
        min_samples_leaf=_least_in_leaf(rows, 20),
        l2_regularization=1.0,
        max_features=0.3,
        max_bins=63,
        early_stopping=False,
        warm_start=True,
        random_state=seed,
    )
    best, grown = 0, 0
    with threadpool_limits(_threads(rows), user_api="openmp"):
        # A few rounds more, as long as the best of them is not long ago.
        while grown < min(rounds, best + _PATIENCE):
            grown = min(grown + _PATIENCE, rounds)
            boosted.max_iter = grown
            boosted.fit(rows.features, rows.labels, sample_weight=rows.weights)
            best = grown
            if check.labels.size:
                staged = boosted.staged_predict_proba(check.features)
                best = 1 + int(np.argmin([_log_loss(each, check) for each in staged]))
    return histogram_ensemble(boosted, classes, rounds=best)


def _forest(
    rows: _Rows, check: _Rows, classes: list[int], plan: GrowthPlan, seed: int
) -> TreeEnsemble:
    from sklearn.ensemble import ExtraTreesClassifier

    forest = ExtraTreesClassifier(
        max(plan.rounds // plan.members, 10),
        min_samples_leaf=_least_in_leaf(rows, 5),
        max_features="sqrt",
        n_jobs=_threads(rows),
        random_state=seed,
    )
    forest.fit(rows.features, rows.labels, sample_weight=rows.weights)
    return forest_ensemble(forest, classes)


def _least_in_leaf(rows: _Rows, usual: int) -> int:
    """Rows a leaf has at least: fewer where there are few."""
    return min(usual, max(len(rows.labels) // 50, 1))


def _threads(rows: _Rows) -> int:
    return max(min(CPU_COUNT, len(rows.labels) // _ROWS_A_THREAD), 1)


def _log_loss(probability: np.ndarray, check: _Rows) -> float:
    own = probability[np.arange(len(check.labels)), check.labels]
    return float(-(check.weights * np.log(np.maximum(own, 1e-12))).sum())
