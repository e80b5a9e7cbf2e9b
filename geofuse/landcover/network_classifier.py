"""What the classifiers that are networks have in common: fit, summarize, predict.

    fit             members of an ensemble, each without another fold of the blocks
    summarize       the weights, the units of the channels, the temperature
    predict_tile    mean of all members, and of passes with dropout if there are any

Weights travel in the summary: nothing of them is compiled in, and classifiers that differ
in nothing else share compiled code. The masks of a pass with dropout are drawn from its
number alone, one for each channel, so that they are the same in every tile: a prediction
is pure, and tile size changes nothing.

Reference: Y. Gal and Z. Ghahramani (2016): Dropout as a Bayesian approximation, ICML.
"""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from dask.delayed import Delayed
from flax import nnx
from jaxtyping import Array, Float
from typing_extensions import override

from geofuse.errors import ParameterError
from geofuse.features.stack import FeatureStack
from geofuse.landcover.case import LandCoverCase, check_classes
from geofuse.landcover.classifier import (
    LandCoverClassifier,
    LandCoverPrediction,
    LandCoverTile,
    legend_for,
)
from geofuse.landcover.modality import Modality, check_images, modalities_of
from geofuse.landcover.network_inputs import (
    ChannelUnit,
    channels_of,
    summary_of,
    unit_of,
)
from geofuse.landcover.network_training import Inputs, Recipe, decide, fit_members
from geofuse.networks.encoders import Dropout
from geofuse.networks.land_cover import REACH
from geofuse.networks.parameters import network_of
from geofuse.rasters.legend import legend_of
from geofuse.tiling import share
from geofuse.training.label_patches import MapAugmentation
from geofuse.training.loop import Training
from geofuse.training.weights import Weights

#: How networks are trained, if nothing else is said.
TRAINING = Training(
    steps=400,
    batch=16,
    patch=28,
    learning_rate=5e-3,
    warmup=30,
    weight_decay=0.03,
    average=0.98,
    validate_every=50,
    patience=4,
)


#: The logit of a class that cannot be; its probability is 0.
IMPOSSIBLE = -1e9


class NetworkClassifier(LandCoverClassifier):
    """A classifier whose decision is that of networks.

    Every concrete one has these fields:

    Attributes:
        width: Channels of the layers.
        features: Hand-made features beside the bands.
        modality_dropout: Probability that a modality is missing in training.
        gaps: Probability that it has gaps.
        noise: Of the input, in units of the spread.
        dropout: Share of channels dropped in training, and in passes.
        samples: Passes with dropout in prediction; 0 for one without.
        members: Networks of the ensemble.
        class_weight: `natural` or `balanced`.
        temperature: What logits are divided by.
        training: How to train.
        prior: Shares of the classes in the scenes to be mapped, if they are known; None
            for those of the training.
        shares: Shares of the classes in the training, equal ones if it was balanced.
        weights: What was learned; None before `fit`.
    """

    width: int
    features: FeatureStack | None
    modality_dropout: float
    gaps: float
    noise: float
    dropout: float
    samples: int
    members: int
    class_weight: Literal["natural", "balanced"]
    temperature: float
    training: Training
    prior: tuple[float, ...] | None
    shares: tuple[float, ...] | None
    weights: Weights | None

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        for name, least, most in (
            ("width", 1, 1024),
            ("samples", 0, 1024),
            ("members", 1, 64),
        ):
            value = getattr(self, name)
            if value != int(value) or not least <= value <= most:
                raise ParameterError(
                    f"expected {name} as a whole number from {least} to {most}, found "
                    f"{value}; leave it out for the default"
                )
        for name in ("modality_dropout", "gaps", "dropout"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise ParameterError(
                    f"expected {name} as a probability below 1, found {value}; leave it "
                    "out for the default"
                )
        if not self.noise >= 0 or not self.temperature > 0:
            raise ParameterError(
                f"expected noise of at least 0 and a temperature above 0, found "
                f"{self.noise} and {self.temperature}; leave them out for the defaults"
            )
        if self.class_weight not in ("natural", "balanced"):
            raise ParameterError(
                f"expected class_weight 'natural' or 'balanced', found "
                f"{self.class_weight!r}"
            )
        if self.classes is not None:
            object.__setattr__(self, "classes", legend_of(self.classes))
        if self.prior is not None:
            prior = tuple(map(float, self.prior))
            object.__setattr__(self, "prior", prior)
            count = len(prior) if self.classes is None else len(self.classes)
            if len(prior) != count or min(prior, default=-1) < 0 or not sum(prior) > 0:
                raise ParameterError(
                    f"expected as prior a share for each of {count} classes, none "
                    f"negative, found {prior}; None takes those of the training"
                )

    @abc.abstractmethod
    def network(
        self, channels: tuple[int, ...], classes: int, seed: int | None = None
    ) -> nnx.Module:
        """A network at its start.

        Args:
            channels: Number of channels of each modality.
            classes: Number of classes.
            seed: Of what it starts from; None where weights take its place.
        """

    @property
    @override
    def halo(self) -> int:
        return REACH

    def compiled(self) -> "NetworkClassifier":
        """Without anything that was learned: that comes with the summary."""
        own: Any = self
        known = tuple(Modality(m.name, m.bands) for m in self.modalities or ())
        return replace(
            own,
            weights=None,
            temperature=1.0,
            prior=None,
            shares=None,
            modalities=known,
        )

    @override
    def fit(
        self, cases: Sequence[LandCoverCase], *, seed: int = 0
    ) -> "NetworkClassifier":
        """Learn from cases; a fitted classifier goes on from what it knows.

        Args:
            cases: One or more. Blocks of them are held out to know when to stop.
            seed: Of all draws.

        Returns:
            The classifier with weights, the temperature and the shares of the classes.

        Raises:
            ParameterError: There is no case, or fewer than two classes have labels.
            BandMismatchError: Cases have other bands than one another.
        """
        classes = legend_for(self, cases)
        counts = check_classes(cases, len(classes))
        known = self.modalities or modalities_of(cases)
        arrays = self._learned_inputs(cases, known)
        own: Any = self
        fitting = replace(own, classes=classes, modalities=known)
        scenes = [
            fitting._channels(check_images(case.images, known), arrays)
            for case in cases
        ]
        for modality in known if self.weights is None else ():
            unit = unit_of(modality, [scene[modality.name] for scene in scenes])
            for part, values in unit._asdict().items():
                arrays[f"{part}.{modality.name}"] = values
        units = _units(arrays, known)
        counts_of = tuple(len(units[modality.name].level) for modality in known)
        start = None
        if self.weights is not None:
            start = [_member(arrays, number) for number in range(self.members)]
        found = fit_members(
            Inputs(
                scenes,
                [case.labels for case in cases],
                units,
                {modality.name: len(modality.bands) for modality in known},
            ),
            Recipe(
                partial(self.network, counts_of, len(classes)),
                self.training,
                MapAugmentation(drop=self.modality_dropout, gaps=self.gaps),
                self.noise,
                self.dropout,
                self._class_weights(counts),
            ),
            self.members,
            start=start,
            seed=seed,
        )
        effective = counts * self._class_weights(counts)
        arrays = {n: a for n, a in arrays.items() if not n.startswith("member.")}
        for number, parameters in enumerate(found.parameters):
            for name, values in parameters.items():
                arrays[f"member.{number}.{name}"] = values
        return replace(
            fitting,
            weights=Weights(arrays),
            temperature=found.temperature,
            shares=tuple((effective / effective.sum()).tolist()),
        )

    def _learned_inputs(
        self, cases: Sequence[LandCoverCase], known: Sequence[Modality]
    ) -> dict[str, Any]:
        """What was learned; before, what features need to know of the training.

        Of several cases the first one that has a modality tells it.
        """
        if self.weights is not None:
            return dict(self.weights.arrays)
        arrays: dict[str, Any] = {}
        for modality in known:
            image = next(
                case.images[modality.name]
                for case in cases
                if modality.name in case.images
            )
            for name, values in summary_of(image, modality, self.features).items():
                arrays[f"features.{modality.name}.{name}"] = values
        return arrays

    def _class_weights(self, counts: np.ndarray) -> np.ndarray:
        """How much a pixel of each class counts: 1 in the mean over all pixels."""
        if self.class_weight == "natural":
            return np.ones(len(counts), np.float32)
        there = counts > 0
        weight = counts.sum() / (np.maximum(counts, 1) * there.sum())
        return np.where(there, weight, 0).astype(np.float32)

    @override
    def channels(
        self, images: Mapping[str, xr.DataArray], *, tile: int | None = 512
    ) -> dict[str, xr.DataArray]:
        """Bands and hand-made features of each modality, lazily."""
        learned = {} if self.weights is None else self.weights.arrays
        return self._channels(images, learned, tile=tile)

    def _channels(
        self,
        images: Mapping[str, xr.DataArray],
        arrays: Mapping[str, Any],
        *,
        tile: int | None = 512,
    ) -> dict[str, xr.DataArray]:
        _, known = self.fitted()
        return {
            modality.name: channels_of(
                images[modality.name],
                modality,
                self.features,
                _part(arrays, f"features.{modality.name}."),
                tile=tile,
            )
            for modality in known
        }

    @override
    def summarize(self, images: Mapping[str, xr.DataArray]) -> Delayed:
        self.fitted()
        assert self.weights is not None
        arrays = dict(self.weights.arrays)
        arrays["temperature"] = np.asarray([self.temperature], np.float32)
        arrays["prior"] = self._prior_logits()
        token = f"{self.weights.digest} {self.temperature} {self.prior}"
        return share(arrays, token=token)

    def _prior_logits(self) -> np.ndarray:
        """What is added to logits, so that they hold for the prior of the scenes."""
        classes, _ = self.fitted()
        if self.prior is None or self.shares is None:
            return np.zeros(len(classes), np.float32)
        prior, shares = np.asarray(self.prior), np.asarray(self.shares)
        possible = (prior > 0) & (shares > 0)
        ratio = np.where(possible, prior, 1) / np.where(possible, shares, 1)
        return np.where(possible, np.log(ratio), IMPOSSIBLE).astype(np.float32)

    @override
    def predict_tile(
        self, tile: LandCoverTile, summary: Mapping[str, np.ndarray]
    ) -> LandCoverPrediction:
        _, known = self.fitted()
        units = _units(summary, known)
        members = [_member(summary, number) for number in range(self.members)]
        stacked = {
            name: np.stack([member[name] for member in members]) for name in members[0]
        }
        calibration = (summary["temperature"], summary["prior"])
        return _predicted(
            self.compiled(), dict(tile.channels), units, stacked, calibration
        )


@partial(jax.jit, static_argnums=0)
def _predicted(
    classifier: NetworkClassifier,
    channels: dict[str, Any],
    units: dict[str, ChannelUnit],
    members: dict[str, Any],
    calibration: tuple[Float[Array, "1"], Float[Array, " outcome"]],
) -> LandCoverPrediction:
    """Mean and disagreement of all passes, one after the other: memory for one alone."""
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


def _units(
    arrays: Mapping[str, Any], known: Sequence[Modality]
) -> dict[str, ChannelUnit]:
    return {
        modality.name: ChannelUnit(
            *(arrays[f"{part}.{modality.name}"] for part in ChannelUnit._fields)
        )
        for modality in known
    }


def _member(arrays: Mapping[str, Any], number: int) -> dict[str, Any]:
    return _part(arrays, f"member.{number}.")


def _part(arrays: Mapping[str, Any], start: str) -> dict[str, Any]:
    """The arrays whose names begin so, by the rest of their names."""
    return {
        name[len(start) :]: values
        for name, values in arrays.items()
        if name.startswith(start)
    }
