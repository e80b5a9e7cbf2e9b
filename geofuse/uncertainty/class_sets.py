"""Sets of classes that hold the true one as often as they say, whatever the classifier.

A pixel gets not one class but all that are not ruled out: one where the ground is plain,
several where it is not. Held-out labels tell how far to go:

    score of a class                          a set is all classes of at most the quantile
    lac   1 - its probability                 smallest sets on average
    aps   probability of it and all that      larger, but more even over plain and
          are more likely                     difficult pixels

Pixels of one block are alike, so that units are blocks, polygons or scenes, and the quantile
is that of `conformal.py`: with K of them a pixel of a new one is covered with at least the
wanted probability, over the draw of all. For a level of 90 % it takes 9 units.

References:
    LAC: M. Sadinle, J. Lei, L. Wasserman (2019): Least ambiguous set-valued classifiers with
        bounded error levels. Journal of the American Statistical Association 114, 223-234.
    APS: Y. Romano, M. Sesia, E. J. Candès (2020): Classification with valid and adaptive
        coverage. Advances in Neural Information Processing Systems 33. Here without its
        random part: sets are a little larger, and the same at every call.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from geofuse.errors import ParameterError, UnknownNameError, did_you_mean
from geofuse.uncertainty.classes import labeled_pixels
from geofuse.uncertainty.conformal import conformal_quantile

Probability = Float[np.ndarray, "..."]
Labels = Int[np.ndarray, "..."]

SCORES = ("lac", "aps")


def class_set_quantile(
    probability: Probability,
    labels: Labels,
    units: Labels,
    *,
    level: float = 0.9,
    score: str = "lac",
) -> float:
    """The quantile of held-out scores that `class_sets` needs.

    Args:
        probability: Of each class (class, …), NaN where invalid.
        labels: Numbers of classes (…), -1 where unlabeled.
        units: Numbers (…) of the block, polygon or scene of each pixel; negative ones do
            not count.
        level: Share of new pixels whose class shall be in their set, between 0 and 1.
        score: `lac` or `aps`.

    Raises:
        ParameterError: Shapes do not fit, there are too few units for the level, or it is
            not between 0 and 1.
        UnknownNameError: There is no such score.
    """
    if units.shape != labels.shape:
        raise ParameterError(
            f"expected a unit for each label, {labels.shape}, found {units.shape}; give "
            "the number of its block for each pixel"
        )
    scores = scores_of_labels(probability, np.where(units < 0, -1, labels), score=score)
    valid = (labels >= 0) & (units >= 0) & np.isfinite(probability).all(axis=0)
    owners = units[valid]
    return conformal_quantile([scores[owners == u] for u in np.unique(owners)], level)


def scores_of_labels(
    probability: Probability, labels: Labels, *, score: str = "lac"
) -> Float[np.ndarray, " pixel"]:
    """Scores of the true classes, of the pixels that have a label.

    Raises:
        ParameterError: Shapes do not fit, or a label is not one of the classes.
        UnknownNameError: There is no such score.
    """
    chances, truth = labeled_pixels(probability, labels)
    return _scores(chances, score)[truth, np.arange(truth.size)]


def class_sets(
    probability: Probability, quantile: float, *, score: str = "lac"
) -> Bool[np.ndarray, "..."]:
    """Which classes (class, …) are in the set of each pixel.

    The most probable class always is, which covers no less; a set is empty only where a
    probability is NaN.

    Args:
        probability: Of each class (class, …), NaN where invalid.
        quantile: What `class_set_quantile` gave, of the same score.
        score: `lac` or `aps`.

    Raises:
        UnknownNameError: There is no such score.

    >>> probability = np.array([[0.9, 0.5], [0.1, 0.4], [0.0, 0.1]])
    >>> class_sets(probability, 0.65).astype(int).tolist()
    [[1, 1], [0, 1], [0, 0]]
    """
    valid = np.isfinite(probability).all(axis=0)
    chances = np.where(valid, probability, 0).astype(np.float64)
    held = _scores(chances, score) <= quantile
    held |= chances == chances.max(axis=0)
    return held & valid


def _scores(chances: np.ndarray, score: str) -> np.ndarray:
    """Scores of all classes (class, …)."""
    if score not in SCORES:
        raise UnknownNameError(
            f"expected a score of class sets, found {score!r}; "
            f"{did_you_mean(score, SCORES)}"
        )
    if score == "lac":
        return 1.0 - chances
    order = np.argsort(-chances, axis=0, kind="stable")
    sums = np.cumsum(np.take_along_axis(chances, order, axis=0), axis=0)
    found = np.empty_like(sums)
    np.put_along_axis(found, order, sums, axis=0)
    return found
