"""Interactions: how the features of several modalities meet at a pixel, by name.

    name          result                                weight of a modality
    concatenate   W [m1 x1; m2 x2; m1; m2]              -
    add           W mean of x1, x2                      the same for all that are there
    gated         W (g1 tanh V1 x1 + g2 tanh V2 x2)     g, a softmax
    tensor        W ([1; U1 x1] (x) [1; U2 x2])         -
    low-rank      sum over r of A1r [x1; 1] * A2r [x2; 1]   -
    bilinear      W (U1 x1 * U2 x2)                     -
    attention     W mean of x + attention(x)            attention a modality receives
    precision     (y1 / v1 + y2 / v2) / (1 / v1 + 1 / v2)   1 / v over the sum of all

x are the features of a modality, m is 1 where it is there and 0 where it is missing,
y are the logits of a modality alone and v the variance it states for them; * multiplies
element by element, (x) is the outer product. None but `gated` and `attention` has a
nonlinearity of its own, so that what the formula cannot represent, a linear layer after
it cannot either. A network over the result may: "additive" limits a linear head alone.

A modality that is missing at a pixel takes no part there: its place is taken by what
changes nothing, 0 in a sum, 1 in a product, no weight at all in a mean. Where all are
missing the result is finite and means nothing.
"""

import abc
import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float
from typing_extensions import override

from geofuse.networks.blocks import Draws, linear
from geofuse.networks.heads import ClassHead

#: Most numbers of an outer product at a pixel: with more modalities each brings fewer.
MOST_PRODUCTS = 1024


class Fused(NamedTuple):
    """What the modalities say together.

    Attributes:
        features: One feature map of all modalities.
        weight: Share of each modality: 0 where it is missing, 1 in sum where any is
            there; NaN everywhere if the interaction has no such number.
    """

    features: Float[Array, "batch y x feature"]
    weight: Float[Array, "batch y x modality"]


class Interaction(nnx.Module):
    """How features of modalities meet; one module for each formula.

    Args:
        modalities: Number of modalities.
        width: Features of each.
        outputs: Features of the result.
        rank: Of the formula, where it has one.
        draws: Where its numbers are drawn from.

    Attributes:
        decides: Whether the result are logits: then its outputs are classes, and no head
            follows.
    """

    decides: ClassVar[bool] = False

    @abc.abstractmethod
    def __init__(
        self, modalities: int, width: int, outputs: int, *, rank: int, draws: Draws
    ) -> None:
        """Draw its layers."""

    @abc.abstractmethod
    def __call__(
        self,
        features: Sequence[Float[Array, "batch y x _"]],
        present: Sequence[Bool[Array, "batch y x"]],
    ) -> Fused:
        """Bring the modalities together.

        Args:
            features: Features of each modality; whatever stands where it is missing does
                not matter, not even NaN.
            present: Where each modality is there.
        """


class Concatenate(Interaction):
    """Features side by side, with their presence, and a linear layer.

    Additive: a sum of what each modality says alone. It cannot represent a product, but
    leaves it to the layers that follow, which also learn from the flags what to do
    without a modality.

    J. Ngiam et al. (2011): Multimodal deep learning, ICML.
    """

    def __init__(
        self, modalities: int, width: int, outputs: int, *, rank: int, draws: Draws
    ) -> None:
        """Draw one layer; `rank` is not used."""
        self.last = linear(modalities * (width + 1), outputs, draws=draws)

    @override
    def __call__(self, features: Any, present: Any) -> Fused:
        return Fused(self.last(_side_by_side(features, present)), _unknown(present))


class Add(Interaction):
    """The mean of the features of the modalities that are there, and a linear layer.

    Additive, and all modalities count alike: it can represent neither a product nor that
    one modality should be believed more here than there.
    """

    def __init__(
        self, modalities: int, width: int, outputs: int, *, rank: int, draws: Draws
    ) -> None:
        """Draw one layer; `rank` and the number of modalities are not used."""
        self.last = linear(width, outputs, draws=draws)

    @override
    def __call__(self, features: Any, present: Any) -> Fused:
        there = jnp.stack(present, axis=-1)
        weight = _equal_shares(there)
        return Fused(self.last(_weighted(features, weight)), weight)


class Gated(Interaction):
    """A mean whose weights a gate chooses at each pixel from all features.

    It represents that one modality tells how far another is to be believed: a product of
    a number for each modality with its features, not of features with each other.

    J. Arevalo et al. (2017): Gated multimodal units for information fusion, ICLR
    workshop. Differs from the paper: one weight a modality instead of one a feature, by a
    softmax over the modalities that are there, so that it is a share.
    """

    def __init__(
        self, modalities: int, width: int, outputs: int, *, rank: int, draws: Draws
    ) -> None:
        """Draw a layer for each modality, and the gate; `rank` is not used."""
        self.own = nnx.List(
            [linear(width, width, draws=draws) for _ in range(modalities)]
        )
        self.gate = linear(modalities * (width + 1), modalities, draws=draws)
        self.last = linear(width, outputs, draws=draws)

    @override
    def __call__(self, features: Any, present: Any) -> Fused:
        known = [
            jnp.where(there[..., None], values, 0.0)
            for values, there in zip(features, present, strict=True)
        ]
        logits = self.gate(_side_by_side(known, present))
        weight = _softmax(logits, jnp.stack(present, axis=-1))
        own = [
            jnp.tanh(layer(values))
            for layer, values in zip(self.own, known, strict=True)
        ]
        return Fused(self.last(_weighted(own, weight)), weight)


class Tensor(Interaction):
    """All products of features of different modalities, and of fewer of them.

    The outer product of the features with a 1 appended. It represents every function that
    is linear in the features of each modality, at the cost of a number of weights that
    grows with the power of the number of modalities; few labels do not suffice for them.

    A. Zadeh et al. (2017): Tensor fusion network for multimodal sentiment analysis,
    EMNLP. Differs from the paper: features are first projected to `rank` ones, fewer
    where the product would have more than `MOST_PRODUCTS` numbers.
    """

    def __init__(
        self, modalities: int, width: int, outputs: int, *, rank: int, draws: Draws
    ) -> None:
        """Draw a projection for each modality, and the last layer."""
        most = math.floor(MOST_PRODUCTS ** (1 / modalities) + 1e-9) - 1
        size = max(min(rank, most), 1)
        self.project = nnx.List(
            [linear(width, size, draws=draws) for _ in range(modalities)]
        )
        self.last = linear((size + 1) ** modalities, outputs, draws=draws)

    @override
    def __call__(self, features: Any, present: Any) -> Fused:
        product: Any = None
        for layer, values, there in zip(self.project, features, present, strict=True):
            here = there[..., None]
            own = jnp.where(here, layer(jnp.where(here, values, 0.0)), 0.0)
            own = jnp.concatenate([jnp.ones_like(own[..., :1]), own], axis=-1)
            if product is None:
                product = own
                continue
            outer = product[..., :, None] * own[..., None, :]
            product = outer.reshape(*outer.shape[:-2], -1)
        return Fused(self.last(product), _unknown(present))


class LowRank(Interaction):
    """The products of `Tensor`, with weights of a low rank.

    It represents sums of `rank` products, one for each output, of one linear function of
    each modality; with a constant in each, so that lower orders are among them. Products
    that need more of them, it cannot represent.

    Z. Liu et al. (2018): Efficient low-rank multimodal fusion with modality-specific
    factors, ACL. Differs from the paper: the factor of a modality that is missing is 1;
    the functions start about 1, so that the product starts about a sum.
    """

    def __init__(
        self, modalities: int, width: int, outputs: int, *, rank: int, draws: Draws
    ) -> None:
        """Draw a function of each modality for each of `rank` products."""
        self.shape = (rank, outputs)
        self.factors = nnx.List(
            [linear(width, rank * outputs, draws=draws) for _ in range(modalities)]
        )
        self.share = nnx.Param(draws.uniform((rank, outputs), math.sqrt(3.0 / rank)))
        self.offset = nnx.Param(jnp.zeros(outputs))

    @override
    def __call__(self, features: Any, present: Any) -> Fused:
        product: Any = 1.0
        for layer, values, there in zip(self.factors, features, present, strict=True):
            here = there[..., None]
            product = product * jnp.where(
                here, 1.0 + layer(jnp.where(here, values, 0.0)), 1.0
            )
        ranks = product.reshape(*product.shape[:-1], *self.shape)
        total = jnp.einsum("byxro,ro->byxo", ranks, self.share[...])
        offset = self.offset[...].reshape(1, 1, 1, -1)
        return Fused(total + offset, _unknown(present))


class Bilinear(Interaction):
    """The element-wise product of projections of all modalities that are there.

    It represents products of as many features as there are modalities and nothing else:
    no part that depends on one modality alone while another is there. A matrix of rank
    `width` between two modalities.

    J.-H. Kim et al. (2017): Hadamard product for low-rank bilinear pooling, ICLR. Differs
    from the paper: without its tanh, so that it is bilinear.
    """

    def __init__(
        self, modalities: int, width: int, outputs: int, *, rank: int, draws: Draws
    ) -> None:
        """Draw a projection for each modality, and the last layer; `rank` is not used."""
        self.project = nnx.List(
            [linear(width, width, draws=draws) for _ in range(modalities)]
        )
        self.last = linear(width, outputs, draws=draws)

    @override
    def __call__(self, features: Any, present: Any) -> Fused:
        product: Any = 1.0
        for layer, values, there in zip(self.project, features, present, strict=True):
            here = there[..., None]
            product = product * jnp.where(
                here, layer(jnp.where(here, values, 0.0)), 1.0
            )
        return Fused(self.last(product), _unknown(present))


class Attention(Interaction):
    """Each modality asks all that are there, and takes over what answers it.

    Modalities are the tokens, at a pixel alone. The weights come from products of
    features, so that it represents which modality to listen to given the others; what is
    then added up is linear in the features. The weight of a modality is the mean
    attention it receives.

    A. Vaswani et al. (2017): Attention is all you need, NeurIPS; across modalities Y.-H.
    Tsai et al. (2019): Multimodal transformer for unaligned multimodal language
    sequences, ACL. Differs from both: one layer, and only at the pixel.
    """

    def __init__(
        self, modalities: int, width: int, outputs: int, *, rank: int, draws: Draws
    ) -> None:
        """Draw questions, keys and answers, and a name for each modality."""
        self.names = nnx.Param(draws.uniform((modalities, width), 1.0))
        self.query = linear(width, rank, draws=draws)
        self.key = linear(width, rank, draws=draws)
        self.value = linear(width, width, draws=draws)
        self.last = linear(width, outputs, draws=draws)

    @override
    def __call__(self, features: Any, present: Any) -> Fused:
        there = jnp.stack(present, axis=-1)
        tokens = jnp.where(there[..., None], jnp.stack(features, axis=-2), 0.0)
        names = self.names[...][None, None, None]
        query, key = self.query(tokens + names), self.key(tokens + names)
        likeness = jnp.einsum("byxir,byxjr->byxij", query, key)
        likeness = likeness / math.sqrt(query.shape[-1])
        asked = _softmax(
            likeness, jnp.broadcast_to(there[..., None, :], likeness.shape)
        )
        answers = jnp.einsum("byxij,byxjc->byxic", asked, self.value(tokens))
        share = _equal_shares(there)
        mean = jnp.einsum("byxi,byxic->byxc", share, tokens + answers)
        weight = jnp.einsum("byxi,byxij->byxj", share, asked)
        return Fused(self.last(mean), weight)


class Precision(Interaction):
    """Each modality decides on its own; logits are averaged by what each states as sure.

    Weights are 1 / variance. Late fusion within one network: additive in the logits, and
    the only way in which modalities meet is through the mean. What a modality states is
    what makes the mean right, not a measured error; that it is *missing* is told by the
    mask: a network that only sees zeros is often sure of them.

    A. Kendall and Y. Gal (2017): What uncertainties do we need in Bayesian deep learning
    for computer vision?, NeurIPS: a variance of logits that the network states.
    """

    decides: ClassVar[bool] = True

    def __init__(
        self, modalities: int, width: int, outputs: int, *, rank: int, draws: Draws
    ) -> None:
        """Draw a head for each modality; `rank` is not used."""
        self.heads = nnx.List(
            [
                ClassHead(width, outputs, variance=True, draws=draws)
                for _ in range(modalities)
            ]
        )

    @override
    def __call__(self, features: Any, present: Any) -> Fused:
        said = [
            head(jnp.where(there[..., None], values, 0.0))
            for head, values, there in zip(self.heads, features, present, strict=True)
        ]
        log_precision = jnp.stack([-own.log_variance for own in said], axis=-1)
        weight = _softmax(log_precision, jnp.stack(present, axis=-1))
        return Fused(_weighted([own.logits for own in said], weight), weight)


#: Interactions by name.
INTERACTIONS: dict[str, type[Interaction]] = {
    "concatenate": Concatenate,
    "add": Add,
    "gated": Gated,
    "tensor": Tensor,
    "low-rank": LowRank,
    "bilinear": Bilinear,
    "attention": Attention,
    "precision": Precision,
}


def _side_by_side(features: Any, present: Any) -> Any:
    """Features and flags of all modalities; 0 where missing."""
    parts = []
    for values, there in zip(features, present, strict=True):
        here = there[..., None]
        parts += [jnp.where(here, values, 0.0), here.astype(values.dtype)]
    return jnp.concatenate(parts, axis=-1)


def _weighted(features: Any, weight: Any) -> Any:
    """Sum of weight times features; what has no weight does not count, be it NaN."""
    total: Any = 0.0
    for number, values in enumerate(features):
        own = weight[..., number, None]
        total = total + own * jnp.where(own > 0, values, 0.0)
    return total


def _equal_shares(there: Any) -> Any:
    """The same share for all that are there; 0 where none is."""
    ones = there.astype(jnp.float32)
    return ones / jnp.maximum(ones.sum(axis=-1, keepdims=True), 1.0)


def _softmax(logits: Any, there: Any) -> Any:
    """Softmax over the last axis among those that are there; 0 where none is."""
    highest = jnp.max(jnp.where(there, logits, -jnp.inf), axis=-1, keepdims=True)
    highest = jax.lax.stop_gradient(jnp.where(jnp.isfinite(highest), highest, 0.0))
    powers = jnp.where(there, jnp.exp(jnp.where(there, logits - highest, 0.0)), 0.0)
    total = powers.sum(axis=-1, keepdims=True)
    return powers / jnp.where(total > 0, total, 1.0)


def _unknown(present: Any) -> Any:
    """Weights that an interaction does not have."""
    there = jnp.stack(present, axis=-1)
    return jnp.full(there.shape, jnp.nan, jnp.float32)
