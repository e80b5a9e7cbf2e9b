"""Several experts' probabilities of classes, made into one: the rules of late fusion.

    average     sum of w p                       each present expert counts the same
    precision   sum of w p                       w by 1 / (aleatoric + epistemic)
    vote        share of experts for a class
    product     prior * product of (p / prior)   independent evidence; the prior once
    stacking    prior * product of (p / prior)^a exponents a learned on blocks held out

An expert whose modality is missing at the pixel takes no part, whatever it says: its weight
is 0. A product of experts that each hold the prior would count it once for each of them, and
a silent expert, who says the prior, would still have its say: here p / prior of that one is
1, and it has none.

References: G. Hinton (2002): Training products of experts by minimizing contrastive
divergence. Neural Computation 14(8). V. Tresp (2000): A Bayesian committee machine. Neural
Computation 12(11).
"""

from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize

Rule = Literal["average", "precision", "vote", "product", "stacking"]
#: The rules by name.
RULES: tuple[str, ...] = get_args(Rule)

#: Probabilities are at least this before their logarithm is taken.
LEAST = 1e-6
#: An expert's entropy counts as at least this, in nats: nobody is ever quite sure.
LEAST_ENTROPY = 0.05


class Opinions(NamedTuple):
    """What experts say of some pixels.

    Attributes:
        probability: Of each class by expert.
        entropy: Total of each expert, aleatoric and epistemic, in nats.
        present: Where the expert's modality is there.
    """

    probability: Float[np.ndarray, "expert class ..."]
    entropy: Float[np.ndarray, "expert ..."]
    present: Bool[np.ndarray, "expert ..."]


class Pooled(NamedTuple):
    """One opinion of several.

    Attributes:
        probability: Of each class; NaN where no expert is present.
        weight: Share of each expert, summing to 1; 0 where it is not present.
    """

    probability: Float[np.ndarray, "class ..."]
    weight: Float[np.ndarray, "expert ..."]


def pooled(
    opinions: Opinions,
    rule: Rule,
    *,
    prior: Float[np.ndarray, " class"],
    exponents: Float[np.ndarray, " expert"] | None = None,
) -> Pooled:
    """Make one opinion of several by a rule.

    Args:
        opinions: What experts say; what an absent one says is not looked at, NaN or not.
        rule: See the top of the file.
        prior: Share of each class in the training, for `product` and `stacking`; classes
            that were never seen have 0 and keep it.
        exponents: How much each expert's evidence counts, for `stacking`.

    Returns:
        Probabilities, and the share that each expert had in them.
    """
    present = opinions.present
    probability = np.where(present[:, None], opinions.probability, 1.0)
    raw = _weights(opinions, rule, exponents)
    total = raw.sum(axis=0)
    anyone = total > 0
    weight = raw / np.where(anyone, total, 1.0)
    if rule in ("product", "stacking"):
        found = _product(probability, raw, prior)
    else:
        shares = _ballots(probability) if rule == "vote" else probability
        found = (weight[:, None] * shares).sum(axis=0)
    return Pooled(np.where(anyone, found, np.nan), weight)


def _weights(
    opinions: Opinions, rule: Rule, exponents: np.ndarray | None
) -> Float[np.ndarray, "expert ..."]:
    """How much each expert counts, before the weights are made to sum to 1."""
    present = opinions.present.astype(np.float64)
    if rule == "precision":
        entropy = np.where(opinions.present, opinions.entropy, 1.0)
        return present / np.maximum(entropy, LEAST_ENTROPY)
    if rule == "stacking" and exponents is not None:
        return present * exponents.reshape(-1, *(1,) * (present.ndim - 1))
    return present


def _ballots(probability: np.ndarray) -> np.ndarray:
    """1 for the class that an expert holds most probable, 0 for the others."""
    best = probability.argmax(axis=1)
    return np.stack(
        [(best == number).astype(np.float64) for number in range(probability.shape[1])],
        axis=1,
    )


def _product(
    probability: np.ndarray, exponents: np.ndarray, prior: np.ndarray
) -> Float[np.ndarray, "class ..."]:
    """The prior times each expert's evidence, normalized."""
    seen = prior > 0
    shape = (-1, *(1,) * (probability.ndim - 2))
    known = np.log(np.where(seen, prior, 1.0)).reshape(shape)
    evidence = np.log(np.maximum(probability, LEAST)) - known[None]
    logits = known + (exponents[:, None] * evidence).sum(axis=0)
    logits = np.where(seen.reshape(shape), logits, -np.inf)
    return softmax(logits)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities over the first axis."""
    powers = np.exp(logits - logits.max(axis=0))
    return powers / powers.sum(axis=0)


def fitted_exponents(
    opinions: Opinions,
    labels: Int[np.ndarray, " pixel"],
    prior: Float[np.ndarray, " class"],
) -> Float[np.ndarray, " expert"]:
    """Exponents of `stacking` under which labels held out are most likely.

    Every present subset of the experts counts: each alone, and all together, so that the
    exponents also serve where a modality is missing.

    Args:
        opinions: Of pixels held out (expert, class, pixel).
        labels: Their numbers of classes (pixel,).
        prior: Share of each class in the training.
    """
    experts = len(opinions.present)
    subsets = [np.ones(experts, bool), *np.eye(experts, dtype=bool)]

    def loss(exponents: np.ndarray) -> float:
        found = []
        for subset in subsets:
            some = opinions._replace(present=opinions.present & subset[:, None])
            one = pooled(some, "stacking", prior=prior, exponents=exponents)
            right = np.take_along_axis(one.probability, labels[None], axis=0)[0]
            found.append(-np.log(np.maximum(right[np.isfinite(right)], LEAST)).mean())
        return float(np.mean(found))

    start = np.full(experts, 1.0 / experts)
    solution = minimize(loss, start, bounds=[(0.01, 2.0)] * experts, method="L-BFGS-B")
    return np.asarray(solution.x)
