"""What the classifiers that are networks have in common: fit, summarize, predict.

    fit             members of an ensemble, each without another fold of the blocks
    summarize       the weights, the units of the channels, the temperature
    predict_tile    mean of all members, and of passes with dropout if there are any

Weights travel in the summary: nothing of them is compiled in, and classifiers that differ
in nothing else share compiled code.
"""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
import xarray as xr
from dask.delayed import Delayed
from flax import nnx
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
from geofuse.landcover.hand_made import scales_of, stacks_by_modality
from geofuse.landcover.modality import (
    Modality,
    check_images,
    is_absent,
    modalities_of,
)
from geofuse.landcover.network_inputs import (
    absent_channels,
    channels_of,
    unit_of,
)
from geofuse.landcover.network_prediction import (
    MEMBER,
    member_in,
    part_of,
    predicted,
    units_in,
)
from geofuse.landcover.network_training import Inputs, Recipe, fit_members
from geofuse.networks.land_cover import REACH
from geofuse.rasters.legend import legend_of
from geofuse.tiling import share
from geofuse.training.label_patches import MapAugmentation, in_memory
from geofuse.training.loop import Training
from geofuse.training.weights import Weights

#: How networks are trained, if nothing else is said: few labels are soon learned.
TRAINING = Training(
    steps=350,
    batch=8,
    patch=28,
    learning_rate=1e-2,
    warmup=30,
    weight_decay=0.03,
    average=0.98,
    validate_every=50,
    patience=4,
)


#: Begins the names of arrays that hold what features know of the training.
SCALES = "features."
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
        names = () if self.weights is None else self.weights.arrays
        there = len({name.split(".")[1] for name in names if name.startswith(MEMBER)})
        if self.weights is not None and self.members > there:
            raise ParameterError(
                f"expected at most the {there} members that were learned, found "
                f"members={self.members}; fit a new classifier for more"
            )
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
        scenes, labels = in_memory(scenes, [case.labels for case in cases])
        for modality in known if self.weights is None else ():
            unit = unit_of(modality, [scene[modality.name] for scene in scenes])
            for part, values in unit._asdict().items():
                arrays[f"{part}.{modality.name}"] = values
        units = units_in(arrays, known)
        counts_of = tuple(len(units[modality.name].level) for modality in known)
        start = None
        if self.weights is not None:
            start = [member_in(arrays, number) for number in range(self.members)]
        found = fit_members(
            Inputs(
                scenes,
                labels,
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
        arrays = {n: a for n, a in arrays.items() if not n.startswith(MEMBER)}
        for number, parameters in enumerate(found.parameters):
            for name, values in parameters.items():
                arrays[f"{MEMBER}{number}.{name}"] = values
        return replace(
            fitting,
            weights=Weights(arrays),
            temperature=found.temperature,
            shares=tuple((effective / effective.sum()).tolist()),
        )

    def _learned_inputs(
        self, cases: Sequence[LandCoverCase], known: Sequence[Modality]
    ) -> dict[str, Any]:
        """What was learned; before, what features need to know of the training."""
        if self.weights is not None:
            return dict(self.weights.arrays)
        stacks = stacks_by_modality(self.features, known)
        scales = scales_of(cases, known, stacks).arrays
        return {f"{SCALES}{name}": values for name, values in scales.items()}

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
        scales = Weights(part_of(arrays, SCALES))
        found = {}
        for modality, stack in zip(
            known, stacks_by_modality(self.features, known), strict=True
        ):
            image = images[modality.name]
            level = arrays.get(f"level.{modality.name}")
            if level is not None and is_absent(image):
                found[modality.name] = absent_channels(image, len(level))
            else:
                found[modality.name] = channels_of(
                    image, modality, stack, scales, tile=tile
                )
        return found

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
        units = units_in(summary, known)
        members = [member_in(summary, number) for number in range(self.members)]
        stacked = {
            name: np.stack([member[name] for member in members]) for name in members[0]
        }
        calibration = (summary["temperature"], summary["prior"])
        return predicted(
            self.compiled(), dict(tile.channels), units, stacked, calibration
        )
