"""Does the probability of a class match how often it is right? Scores of class probabilities.

    entropy, decomposed          how unsure, and which part of it more training would remove
    nll, brier                   of all probabilities: proper, so that only the truth is best
    calibration_error            of 100 pixels that are called water with 0.8, are 80 water?
    reliability                  the same as numbers to be drawn
    error_auroc, rejection       does the uncertainty find the errors?
    class_temperature, tempered  one number that makes probabilities softer or sharper

Probabilities are (class, …) and sum to 1, labels (…) are numbers of classes, -1 where
unlabeled. Only pixels count that have a label and finite probabilities; without one every
score is NaN. Logits are not needed: softmax(logits) has the same temperature.

References:
    decomposed: S. Depeweg et al. (2018): Decomposition of uncertainty in Bayesian deep
        learning with latent variables. International Conference on Machine Learning.
    calibration_error, class_temperature: C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger (2017):
        On calibration of modern neural networks. International Conference on Machine
        Learning.
    Bins of equal number, and by class: J. Nixon et al. (2019): Measuring calibration in deep
        learning. CVPR workshops.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from scipy.stats import rankdata

from geofuse.errors import ParameterError

Probability = Float[np.ndarray, "..."]
Labels = Int[np.ndarray, "..."]

#: Shares that are left out: 0, 0.01, …, 0.99.
SHARES = np.arange(100) / 100

#: A probability of 0 counts as this where its logarithm is taken.
LEAST = 1e-12
#: Temperatures that are looked for.
COLDEST, HOTTEST = 0.05, 20.0


def entropy(probability: np.ndarray, *, axis: int = 0) -> np.ndarray:
    """Entropy over the axis of the classes, in nats; 0 log 0 is 0."""
    safe = np.where(probability > 0, probability, 1.0)
    return -(probability * np.log(safe)).sum(axis=axis)


def decomposed(members: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean probability of members, and both parts of its entropy.

    Args:
        members: Probabilities (member, class, y, x).

    Returns:
        Probability (class, y, x), aleatoric and epistemic entropy (y, x) in nats.
    """
    mean = members.mean(axis=0)
    aleatoric = np.mean([entropy(member) for member in members], axis=0)
    return mean, aleatoric, np.maximum(entropy(mean) - aleatoric, 0)


def labeled_pixels(
    probability: Probability, labels: Labels
) -> tuple[Float[np.ndarray, "class pixel"], Int[np.ndarray, " pixel"]]:
    """Probabilities, as float64, and labels of the pixels that count.

    Raises:
        ParameterError: Shapes do not fit, or a label is not one of the classes.
    """
    if probability.ndim < 1 or probability.shape[1:] != labels.shape:
        raise ParameterError(
            f"expected probabilities (class, …) of the labels' shape {labels.shape}, found "
            f"{probability.shape}; select the same pixels of both"
        )
    valid = (labels >= 0) & np.isfinite(probability).all(axis=0)
    chosen = labels[valid].astype(np.int64)
    if chosen.size and chosen.max() >= len(probability):
        raise ParameterError(
            f"expected labels below {len(probability)}, the number of classes, found "
            f"{chosen.max()}; give labels of the same legend"
        )
    return probability[:, valid].astype(np.float64), chosen


def class_scores(
    probability: Probability, labels: Labels, *, bins: int = 15
) -> dict[str, float]:
    """All scores of class probabilities.

    Args:
        probability: Of each class (class, …), NaN where invalid.
        labels: Numbers of classes (…), -1 where unlabeled.
        bins: Of the calibration errors.

    Returns:
        By name: `pixels`, the number that counted; `accuracy`; `confidence`, the mean
        largest probability; `nll`, `brier`; `calibration_error` in bins of equal number,
        `calibration_error_width` of equal width, `calibration_error_by_class`; and
        `error_auroc` of the entropy.

    Raises:
        ParameterError: Shapes do not fit, or a label is not one of the classes.

    >>> rng = np.random.default_rng(0)
    >>> probability = rng.dirichlet([1, 1, 1], 20_000).T
    >>> drawn = (rng.random(20_000) > probability.cumsum(0)).sum(0)
    >>> found = class_scores(probability, drawn)
    >>> found["calibration_error"] < 0.015, round(found["accuracy"], 2)
    (True, 0.61)
    """
    chances, truth = labeled_pixels(probability, labels)
    best = chances.argmax(axis=0)
    return {
        "pixels": float(truth.size),
        "accuracy": _mean(best == truth),
        "confidence": _mean(chances.max(axis=0)),
        "nll": nll(chances, truth),
        "brier": brier(chances, truth),
        "calibration_error": calibration_error(chances, truth, bins=bins),
        "calibration_error_width": calibration_error(
            chances, truth, bins=bins, equal_width=True
        ),
        "calibration_error_by_class": calibration_error_by_class(
            chances, truth, bins=bins
        ),
        "error_auroc": error_auroc(entropy(chances), best != truth),
    }


def nll(probability: Probability, labels: Labels) -> float:
    """Mean negative logarithm of the probability of the label, in nats.

    A probability below 1e-12 counts as that: 27.6 nats are the worst.

    Raises:
        ParameterError: As `class_scores`.
    """
    chances, truth = labeled_pixels(probability, labels)
    return _mean(-np.log(np.maximum(_of(chances, truth), LEAST)))


def brier(probability: Probability, labels: Labels) -> float:
    """Mean squared distance of the probabilities from 1 for the label and 0 else, 0 to 2.

    Raises:
        ParameterError: As `class_scores`.
    """
    chances, truth = labeled_pixels(probability, labels)
    return _mean((chances**2).sum(axis=0) - 2 * _of(chances, truth) + 1)


class Reliability(NamedTuple):
    """How often predictions of about one probability are right, by bins of it.

    Attributes:
        confidence: Mean probability in each bin, rising.
        accuracy: Share that was right.
        pixels: How many there are; bins without one are left out.
    """

    confidence: Float[np.ndarray, " bin"]
    accuracy: Float[np.ndarray, " bin"]
    pixels: Int[np.ndarray, " bin"]

    @property
    def error(self) -> float:
        """Mean distance of accuracy from confidence, weighted by pixels, 0 to 1."""
        if not self.pixels.size:
            return math.nan
        wrong = np.abs(self.confidence - self.accuracy)
        return float(np.average(wrong, weights=self.pixels))


def reliability(
    probability: Probability,
    labels: Labels,
    *,
    bins: int = 15,
    equal_width: bool = False,
    of: int | None = None,
) -> Reliability:
    """How often predictions of about one probability are right.

    Args:
        probability: Of each class (class, …), NaN where invalid.
        labels: Numbers of classes (…), -1 where unlabeled.
        bins: Number of bins.
        equal_width: Whether bins are equally wide; by default they have equal numbers of
            pixels, so that none rests on a few. Pixels of one probability stay together.
        of: A class, whose probability is looked at in all pixels; None for the largest
            probability of each.

    Raises:
        ParameterError: As `class_scores`, or there is no bin.
    """
    if bins < 1:
        raise ParameterError(f"expected at least 1 bin, found {bins}; 15 is usual")
    chances, truth = labeled_pixels(probability, labels)
    if of is None:
        confidence, right = chances.max(axis=0), chances.argmax(axis=0) == truth
    else:
        confidence, right = chances[of], truth == of
    if not truth.size:
        return Reliability(np.empty(0), np.empty(0), np.empty(0, np.int64))
    if equal_width:
        number = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    else:
        # The rank of the first of its like, so that ties are never torn apart.
        rank = rankdata(confidence, method="min") - 1
        number = (rank * bins // truth.size).astype(np.int64)
    pixels = np.bincount(number, minlength=bins)
    known = pixels > 0
    sums = [np.bincount(number, v, minlength=bins)[known] for v in (confidence, right)]
    means = [total / pixels[known] for total in sums]
    return Reliability(means[0], means[1], pixels[known])


def calibration_error(
    probability: Probability,
    labels: Labels,
    *,
    bins: int = 15,
    equal_width: bool = False,
) -> float:
    """Expected calibration error of the largest probability, 0 to 1 (Guo et al. 2017).

    A few pixels a bin leave some of it to chance, the more the more bins there are.

    Raises:
        ParameterError: As `reliability`.
    """
    return reliability(probability, labels, bins=bins, equal_width=equal_width).error


def calibration_error_by_class(
    probability: Probability,
    labels: Labels,
    *,
    bins: int = 15,
    equal_width: bool = False,
) -> float:
    """Mean over classes of the calibration error of their own probability, 0 to 1.

    Each class counts alike, the rare too; it sees probabilities that are never the largest.

    Raises:
        ParameterError: As `reliability`.
    """
    errors = [
        reliability(probability, labels, bins=bins, equal_width=equal_width, of=n).error
        for n in range(len(probability))
    ]
    return float(np.mean(errors))


def class_temperature(probability: Probability, labels: Labels) -> float:
    """The temperature under which held-out labels are the most likely, 0.05 to 20.

    Above 1: the classifier was too sure. It changes no decision, only how sure it is. The
    pixels must be held out from training: those it has learned look too certain.

    Args:
        probability: Of each class (class, …); of a network, softmax of its logits.
        labels: Numbers of classes (…), -1 where unlabeled.

    Raises:
        ParameterError: Shapes do not fit, or no pixel counts.

    >>> probability = np.array([[0.99, 0.99, 0.99, 0.99], [0.01, 0.01, 0.01, 0.01]])
    >>> t = class_temperature(probability, np.array([0, 0, 0, 1]))
    >>> tempered(probability, t)[:, 0].round(3).tolist()
    [0.75, 0.25]
    """
    chances, truth = labeled_pixels(probability, labels)
    if not truth.size:
        raise ParameterError(
            "expected pixels with a label and a probability, found none; give held-out "
            "pixels"
        )
    return logit_temperature(np.log(np.maximum(chances, LEAST)), truth)


def logit_temperature(
    logits: Float[np.ndarray, "outcome pixel"],
    labels: Int[np.ndarray, " pixel"],
    *,
    weights: Float[np.ndarray, " pixel"] | None = None,
    between: tuple[float, float] = (COLDEST, HOTTEST),
) -> float:
    """The temperature that logits are divided by, so that labels are the most likely.

    Args:
        logits: Of each class, or logarithms of probabilities.
        labels: Numbers of classes.
        weights: How much each pixel counts; None for all alike.
        between: The coldest and the hottest that is looked for.
    """
    logits = logits.astype(np.float64)

    def loss(log_temperature: float) -> float:
        chance = log_softmax(logits / math.exp(log_temperature), axis=0)
        return -float(np.average(_of(chance, labels), weights=weights))

    bounds = (math.log(between[0]), math.log(between[1]))
    found = minimize_scalar(loss, bounds=bounds, method="bounded")
    return math.exp(float(found.x))


def tempered(probability: Probability, temperature: float) -> Probability:
    """Probabilities (class, …) of another temperature, in their own precision.

    Raises:
        ParameterError: The temperature is not above 0.
    """
    if not 0 < temperature < math.inf:
        raise ParameterError(
            f"expected a temperature above 0, found {temperature:g}; 1 changes nothing"
        )
    logits = np.log(np.maximum(probability.astype(np.float64), LEAST))
    return np.asarray(softmax(logits / temperature, axis=0), probability.dtype)


def error_auroc(
    uncertainty: Float[np.ndarray, "..."], wrong: Shaped[np.ndarray, "..."]
) -> float:
    """Chance that a wrong pixel is less sure than a right one, 0 to 1; 0.5 is no better.

    Args:
        uncertainty: Any measure of doubt, NaN where invalid. Equal values count half.
        wrong: Where the decision is wrong.

    Returns:
        NaN where all are right, or all wrong.

    Raises:
        ParameterError: Shapes differ.
    """
    doubt, errors = _both(uncertainty, wrong)
    count = int(errors.sum())
    if not 0 < count < errors.size:
        return math.nan
    ranks = rankdata(doubt)
    above = ranks[errors].sum() - count * (count + 1) / 2
    return float(above / (count * (errors.size - count)))


class Rejection(NamedTuple):
    """Accuracy of what is left where the least sure pixels are left to others.

    Attributes:
        shares: Share of the pixels that is left out, 0 to 0.99.
        accuracy: Of the others.
        oracle: Of the others where the wrong ones are left out first.
        area: Between both curves; 0 is a perfect ranking.
    """

    shares: Float[np.ndarray, " share"]
    accuracy: Float[np.ndarray, " share"]
    oracle: Float[np.ndarray, " share"]
    area: float


def rejection(
    uncertainty: Float[np.ndarray, "..."], wrong: Shaped[np.ndarray, "..."]
) -> Rejection:
    """Leave out the least sure pixels, and see how the accuracy of the others rises.

    Args:
        uncertainty: Any measure of doubt, NaN where invalid. Pixels of one value are left
            out in random order: what is expected of it is computed.
        wrong: Where the decision is wrong.

    Raises:
        ParameterError: Shapes differ.

    >>> found = rejection(np.array([0.1, 0.2, 0.9, 0.8]), np.array([0, 0, 1, 0]))
    >>> found.accuracy[[0, 25]].tolist()
    [0.75, 1.0]
    """
    doubt, errors = _both(uncertainty, wrong)
    if not errors.size:
        nothing = np.full(SHARES.shape, np.nan)
        return Rejection(SHARES, nothing, nothing, math.nan)
    right = (~errors).astype(np.float64)
    curve, oracle = (_left(right, by) for by in (doubt, 1 - right))
    area = float(np.trapezoid(oracle - curve, SHARES))
    return Rejection(SHARES, curve, oracle, area)


def _left(right: np.ndarray, doubt: np.ndarray) -> np.ndarray:
    """Accuracy of what is left, for each share left out."""
    _, group, counts = np.unique(doubt, return_inverse=True, return_counts=True)
    means = np.bincount(group, weights=right) / counts
    # From the surest on, each pixel with the mean of those that are as sure.
    sums = np.cumsum(np.repeat(means, counts))
    kept = np.maximum(np.ceil((1.0 - SHARES) * right.size - 1e-9).astype(int), 1)
    return sums[kept - 1] / kept


def _both(uncertainty: np.ndarray, wrong: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if uncertainty.shape != wrong.shape:
        raise ParameterError(
            f"expected uncertainty and errors of one shape, found {uncertainty.shape} and "
            f"{wrong.shape}; select the same pixels of both"
        )
    valid = np.isfinite(uncertainty)
    return uncertainty[valid].astype(np.float64), wrong[valid].astype(bool)


def _of(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Of each pixel the value (class, pixel) of its label."""
    return values[labels, np.arange(labels.size)]


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else math.nan
