"""Train the networks of a land-cover classifier: members, early stopping, temperature.

    member 0   holds fold 0 of the blocks out   learns from the others
    member 1   holds fold 1 out                 …

Each member stops where the labels of its own fold are predicted best. So all labels are
learned from by most members, and none is judged by what it was learned from: on the folds
held out the temperature is fitted, too.

References:
    B. Lakshminarayanan et al. (2017): Simple and scalable predictive uncertainty
    estimation using deep ensembles, NeurIPS.
    C. Guo et al. (2017): On calibration of modern neural networks, ICML: one temperature
    for all logits.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float

from geofuse.landcover.network_inputs import ChannelUnit, in_units
from geofuse.networks.encoders import Dropout
from geofuse.networks.land_cover import REACH
from geofuse.networks.parameters import arrays_of, network_of
from geofuse.training.label_patches import (
    Fold,
    LabelPatches,
    MapAugmentation,
    labeled_folds,
)
from geofuse.training.loop import Training, train
from geofuse.training.losses import cross_entropy
from geofuse.uncertainty.classes import logit_temperature

#: Of so many folds of the blocks each member holds one out.
FOLDS = 5
#: Batches of what is held out, to know when to stop: as they are, and as many again with
#: modalities missing, as often as in training.
_VALIDATION_BATCHES = 8
#: Temperatures that are looked at.
_TEMPERATURES = (0.25, 4.0)


class Inputs(NamedTuple):
    """What networks learn from.

    Attributes:
        images: Channels (channel, y, x) by modality of each scene.
        labels: Labels (y, x) of each scene.
        units: Units of the channels by modality.
        bands: How many channels of each modality are bands.
    """

    images: Sequence[Mapping[str, xr.DataArray]]
    labels: Sequence[xr.DataArray]
    units: Mapping[str, ChannelUnit]
    bands: Mapping[str, int]


class Recipe(NamedTuple):
    """How they learn.

    Attributes:
        network: Makes a network of a seed; None where weights take its place.
        training: Steps, batches and the optimizer.
        augmentation: What is changed at random in a patch.
        noise: Standard deviation of what is added to channels, in units of their spread.
        dropout: Share of the channels that is dropped.
        class_weight: How much a pixel of each class counts.
    """

    network: Callable[[int | None], Any]
    training: Training
    augmentation: MapAugmentation
    noise: float
    dropout: float
    class_weight: np.ndarray


class Members(NamedTuple):
    """What was learned: parameters by name of each member, and a temperature for all."""

    parameters: list[dict[str, np.ndarray]]
    temperature: float


def decide(
    network: Any,
    channels: Mapping[str, Float[Array, "batch _ rows columns"]],
    units: Mapping[str, ChannelUnit],
    bands: Mapping[str, int],
    dropout: Dropout,
    *,
    noise: tuple[float, Any] | None = None,
) -> Any:
    """A network's decision on windows of all modalities.

    Args:
        network: The network.
        channels: Channels (batch, channel, y, x) by modality, NaN where missing.
        units: Their units.
        bands: How many of them are bands, in the order of the network.
        dropout: Which channels of the layers are dropped.
        noise: Standard deviation and key of what is added; None for nothing.
    """
    values, present = [], []
    # In the order of `bands`: JAX sorts the names of a dictionary that it is given.
    for number, (name, count) in enumerate(bands.items()):
        own, there = in_units(jnp.asarray(channels[name]), units[name], count)
        if noise is not None:
            key = jax.random.fold_in(noise[1], number)
            own = own + noise[0] * jax.random.normal(key, own.shape, own.dtype)
        values.append(own)
        present.append(there)
    return network(values, present, dropout)


def fit_members(
    inputs: Inputs,
    recipe: Recipe,
    members: int,
    *,
    start: Sequence[Mapping[str, Any]] | None = None,
    seed: int = 0,
) -> Members:
    """Train members, each on other folds of the blocks, and fit their temperature.

    Args:
        inputs: What they learn from.
        recipe: How they learn.
        members: How many.
        start: Parameters of each member to go on from; None to start anew.
        seed: Of all draws.

    Raises:
        ParameterError: There are no labels to learn from, or none to hold out.
    """
    loss = partial(_loss, inputs, recipe)
    logits = jax.jit(partial(_logits, inputs, recipe))
    # Where all labels lie in one block nothing can be held out.
    folds: list[Fold | None] = [*labeled_folds(inputs.labels, FOLDS, seed)] or [None]
    found, said, truth = [], [], []
    for number in range(members):
        own = seed * 1000 + number
        fold = folds[number % len(folds)]
        draw = _patches(inputs, recipe, own, fold, recipe.augmentation).draw
        fixed = []
        for changed in (None, replace(recipe.augmentation, turns=False)):
            held = _patches(inputs, recipe, own, fold and fold.others, changed)
            fixed += [held.draw(step) for step in range(_VALIDATION_BATCHES)]
        first = arrays_of(recipe.network(own)) if start is None else dict(start[number])
        trained = train(
            loss,
            first,
            draw,
            recipe.training,
            seed=own,
            validate=partial(_score, logits, fixed, recipe.class_weight),
        )
        found.append(trained.parameters)
        for batch in fixed:
            known = batch["labels"] >= 0
            all_logits = np.asarray(logits(trained.parameters, batch["channels"]))
            said.append(all_logits[known])
            truth.append(batch["labels"][known])
    labels = np.concatenate(truth)
    temperature = logit_temperature(
        np.concatenate(said).T,
        labels,
        weights=recipe.class_weight[labels],
        between=_TEMPERATURES,
    )
    return Members(found, temperature)


def _patches(
    inputs: Inputs,
    recipe: Recipe,
    seed: int,
    fold: Fold | None,
    augmentation: MapAugmentation | None,
) -> LabelPatches:
    return LabelPatches(
        inputs.images,
        inputs.labels,
        batch=recipe.training.batch,
        patch=recipe.training.patch,
        halo=REACH,
        seed=seed,
        fold=fold,
        augmentation=augmentation,
    )


def _loss(
    inputs: Inputs, recipe: Recipe, parameters: Any, batch: Any, key: Any
) -> Float[Array, ""]:
    network = network_of(partial(recipe.network, None), parameters)
    for_noise, for_dropout = jax.random.split(key)
    decision = decide(
        network,
        batch["channels"],
        inputs.units,
        inputs.bands,
        Dropout(recipe.dropout, for_dropout),
        noise=(recipe.noise, for_noise) if recipe.noise > 0 else None,
    )
    weight = jnp.asarray(recipe.class_weight, jnp.float32)
    return cross_entropy(decision.logits, batch["labels"], weight)


def _logits(
    inputs: Inputs, recipe: Recipe, parameters: Any, channels: Any
) -> Float[Array, "batch y x outcome"]:
    network = network_of(partial(recipe.network, None), parameters)
    return decide(network, channels, inputs.units, inputs.bands, Dropout(0.0)).logits


def _score(
    logits: Callable[..., Any],
    fixed: Sequence[Mapping[str, Any]],
    class_weight: np.ndarray,
    parameters: Any,
) -> float:
    """Cross-entropy of all pixels held out."""
    total, count = 0.0, 0.0
    for batch in fixed:
        known = batch["labels"] >= 0
        labels = batch["labels"][known]
        found = jax.nn.log_softmax(logits(parameters, batch["channels"]), axis=-1)
        weight = class_weight[labels]
        chosen = np.asarray(found)[known][np.arange(len(labels)), labels]
        total -= float((weight * chosen).sum())
        count += float(weight.sum())
    return total / max(count, 1e-12)
