"""Predict one tile with the networks that were learned: arrays in, arrays out.

    members x passes, one after the other ──> sums ──> mean, entropy, disagreement

What was learned is one dictionary of arrays by name:

    member.0.encoders.0.first.kernel    parameters of the first member
    level.s2, spread.s2, logged.s2      unit of the channels of a modality
    features.s2.NAME                    what its features need to know of the training

Reference: Y. Gal and Z. Ghahramani (2016): Dropout as a Bayesian approximation, ICML. The
masks of a pass with dropout are drawn from its number alone, one for each channel, so that
they are the same in every tile.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from geofuse.landcover.classifier import LandCoverPrediction
from geofuse.landcover.modality import Modality
from geofuse.landcover.network_inputs import ChannelUnit
from geofuse.landcover.network_training import decide
from geofuse.networks.encoders import Dropout
from geofuse.networks.land_cover import REACH
from geofuse.networks.parameters import network_of

#: How names of the parameters of members begin; their number follows.
MEMBER = "member."


@partial(jax.jit, static_argnums=0)
def predicted(
    classifier: Any,
    channels: dict[str, Any],
    units: dict[str, ChannelUnit],
    members: dict[str, Any],
    calibration: tuple[Float[Array, "1"], Float[Array, " outcome"]],
) -> LandCoverPrediction:
    """Mean and disagreement of all passes, one after the other: memory for one alone.

    Args:
        classifier: A `NetworkClassifier` without anything that was learned; JAX compiles
            anew for each that differs.
        channels: Channels (channel, y, x) of each modality, with the halo.
        units: Their units.
        members: Parameters of the members by name, the member as first axis.
        calibration: The temperature, and what is added to the logits for a prior.
    """
    classes, known = classifier.fitted()
    bands = {modality.name: len(modality.bands) for modality in known}
    counts = tuple(len(units[modality.name].level) for modality in known)
    batch = {m.name: jnp.asarray(channels[m.name])[None] for m in known}
    passes = max(classifier.samples, 1)
    rate = classifier.dropout if classifier.samples else 0.0

    def one(total: Any, number: Any) -> tuple[Any, None]:
        own = jax.tree.map(lambda array: array[number // passes], members)
        make = partial(classifier.network, counts, len(classes))
        # By the number of the pass alone: a mask is the same in every tile.
        dropout = Dropout(rate, jax.random.fold_in(jax.random.key(0), number))
        decision = decide(network_of(make, own), batch, units, bands, dropout)
        temperature, prior = (part.reshape(1, 1, -1) for part in calibration)
        logits = decision.logits[0] / temperature + prior
        log_probability = jax.nn.log_softmax(logits, axis=-1)
        probability = jnp.exp(log_probability)
        entropy = -(probability * log_probability).sum(axis=-1)
        found = (probability, entropy, decision.weight[0])
        return jax.tree.map(jnp.add, total, found), None

    rows, columns = (size - 2 * REACH for size in batch[known[0].name].shape[-2:])
    shape = (rows, columns)
    zero = (
        jnp.zeros((*shape, len(classes))),
        jnp.zeros(shape),
        jnp.zeros((*shape, len(known))),
    )
    numbers = jnp.arange(passes * classifier.members)
    total, _ = jax.lax.scan(one, zero, numbers)
    probability, aleatoric, weight = (part / len(numbers) for part in total)
    safe = jnp.where(probability > 0, probability, 1.0)
    entropy = -(probability * jnp.log(safe)).sum(axis=-1)
    there = jnp.stack(
        [jnp.isfinite(batch[m.name][0, : bands[m.name]]).all(axis=0) for m in known]
    ).any(axis=0)
    valid = there[REACH:-REACH, REACH:-REACH]
    return LandCoverPrediction(
        *(
            jnp.where(valid, values, jnp.nan)
            for values in (
                jnp.moveaxis(probability, -1, 0),
                aleatoric,
                jnp.maximum(entropy - aleatoric, 0.0),
                jnp.moveaxis(weight, -1, 0),
            )
        )
    )


def units_in(
    arrays: Mapping[str, Any], known: Sequence[Modality]
) -> dict[str, ChannelUnit]:
    """The units of the channels, by modality."""
    return {
        modality.name: ChannelUnit(
            *(arrays[f"{part}.{modality.name}"] for part in ChannelUnit._fields)
        )
        for modality in known
    }


def member_in(arrays: Mapping[str, Any], number: int) -> dict[str, Any]:
    """The parameters of a member, by name."""
    return part_of(arrays, f"{MEMBER}{number}.")


def part_of(arrays: Mapping[str, Any], start: str) -> dict[str, Any]:
    """The arrays whose names begin so, by the rest of their names."""
    return {
        name[len(start) :]: values
        for name, values in arrays.items()
        if name.startswith(start)
    }
