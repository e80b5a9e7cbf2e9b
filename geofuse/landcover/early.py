"""Early fusion: hand-made features of all modalities side by side, one decision by trees.

    s2  ── indices, texture, levels ──┐
    s1  ── dB, ratio, levels ─────────┼─>  one row a pixel  ──>  trees  ──>  classes
    dem ── value, slope ──────────────┘    NaN where missing

Trees take a missing value as a value of its own: each split says where it goes. For that to
be learned, rows are repeated in training with whole modalities missing. A pixel without any
modality has no class.

The members are cross-fitted: each leaves out some blocks of the scenes, which tell it when
to stop and how sure it may be. Where they disagree the classifier does not know.

What is learned are numbers: predicting needs neither LightGBM nor scikit-learn.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import xarray as xr
from dask.delayed import Delayed
from typing_extensions import override

from geofuse.errors import MissingClassWarning, ParameterError
from geofuse.features.stack import STACK_TILE, FeatureStack
from geofuse.landcover.case import LandCoverCase, check_classes
from geofuse.landcover.classifier import (
    LandCoverClassifier,
    LandCoverPrediction,
    LandCoverTile,
    legend_for,
)
from geofuse.landcover.hand_made import features_of, scales_of, stacks_by_modality
from geofuse.landcover.labeled_pixels import labeled_pixels
from geofuse.landcover.modality import (
    Modality,
    check_images,
    is_absent,
    modalities_of,
)
from geofuse.landcover.tree_fitting import (
    GrowthPlan,
    grow_members,
    in_legend,
    kind_of_trees,
    temperature_of,
    weights_of,
)
from geofuse.landcover.trees import TreeEnsemble
from geofuse.rasters.legend import Legend, legend_of
from geofuse.tiling import share
from geofuse.training.weights import Weights
from geofuse.uncertainty.classes import entropy

#: Pixels of a tile that are decided at once.
_PIXELS = 16384


@dataclass(frozen=True)
class EarlyFusion(LandCoverClassifier):
    """Boosted trees or a forest on hand-made features of all modalities.

    Weights of modalities are not told (NaN): trees do not weigh them.

    Attributes:
        classes: The legend, or names of classes; None takes what the labels say.
        features: What to compute of the modalities; None for what each is commonly made
            of. What the scene decides must be an entry of texture or have components by
            `On`: it is then taken from the training.
        trees: `lightgbm`, `histogram` (boosting of scikit-learn) or `forest` (extremely
            randomized trees); `auto` takes LightGBM where it is installed, otherwise
            `histogram`. After `fit`, what was taken.
        class_weight: `natural` aims at the share of pixels that is right, `balanced` at
            the mean over the classes.
        members: How many members, each of which leaves out the blocks of one fold.
        rounds: Rounds of boosting, at most; of a forest, trees in all.
        modality_dropout: How often each row is repeated with modalities missing; 0 for
            not, if none will ever be missing.
        most_pixels: About how many labeled pixels to learn from. Rare classes keep more
            of theirs.
        prior: Shares of the classes in the scenes to be mapped, if they are known; None
            for those of the training.
        modalities: What was learned; None before `fit`, as all that follows.
        stacks: What is computed of each modality.
        names: Names of the features, by modality.
        scales: What features need to know of scenes.
        ensembles: The members.
        temperature: By which their probabilities are made less sure (above 1) or more.
        shares: Shares of the classes in the training.
    """

    # Names become a legend at once.
    classes: Legend | tuple[str, ...] | None = None  # type: ignore[assignment]
    features: FeatureStack | None = None
    trees: Literal["auto", "lightgbm", "histogram", "forest"] = "auto"
    class_weight: Literal["natural", "balanced"] = "natural"
    members: int = 4
    rounds: int = 150
    modality_dropout: int = 1
    most_pixels: int = 200_000
    prior: tuple[float, ...] | None = None
    modalities: tuple[Modality, ...] | None = field(default=None, repr=False)
    stacks: tuple[FeatureStack, ...] = field(default=(), repr=False)
    names: tuple[tuple[str, ...], ...] = field(default=(), repr=False)
    scales: Weights | None = None
    ensembles: tuple[TreeEnsemble, ...] = ()
    temperature: float = 1.0
    shares: tuple[float, ...] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Check the configuration."""
        if self.classes is not None:
            object.__setattr__(self, "classes", legend_of(self.classes))
        for name, known in (
            ("trees", ("auto", "lightgbm", "histogram", "forest")),
            ("class_weight", ("natural", "balanced")),
        ):
            if getattr(self, name) not in known:
                raise ParameterError(
                    f"expected {name} out of {', '.join(known)}, found "
                    f"{getattr(self, name)!r}; the default is {known[0]!r}"
                )
        for name, least in (
            ("members", 1),
            ("rounds", 1),
            ("modality_dropout", 0),
            ("most_pixels", 100),
        ):
            if getattr(self, name) < least:
                raise ParameterError(
                    f"expected {name} of at least {least}, found {getattr(self, name)}; "
                    f"the default is {getattr(EarlyFusion, name)}"
                )
        if self.prior is not None:
            object.__setattr__(self, "prior", tuple(map(float, self.prior)))
            self._check_prior(self.prior)

    @property
    @override
    def halo(self) -> int:
        return 0  # features are computed before the tiles are cut

    @override
    def fit(self, cases: Sequence[LandCoverCase], *, seed: int = 0) -> "EarlyFusion":
        """Learn from cases; returns a new classifier and leaves `self` unchanged.

        Args:
            cases: Images and labels; each has some of the modalities.
            seed: Of folds, draws and trees: the same seed gives the same classifier.

        Raises:
            ParameterError: There is no case, no labeled pixel is valid, fewer than two
                classes have pixels, labels are beyond the legend, or SAR has no unit.
            BandMismatchError: Cases have other bands in one modality.
            MissingExtraError: LightGBM is asked for and not installed.
        """
        kind = kind_of_trees(self.trees)
        cases = list(cases)
        classes = legend_for(self, cases)
        counts = check_classes(cases, len(classes))
        _warn_of_missing(classes, counts)
        modalities = modalities_of(cases)
        stacks = stacks_by_modality(self.features, modalities)
        scales = scales_of(cases, modalities, stacks)
        ready = replace(
            self,
            classes=classes,
            trees=kind,
            modalities=modalities,
            stacks=stacks,
            scales=scales,
            names=_feature_names(cases, modalities, stacks, scales),
        )
        pixels = labeled_pixels(
            cases,
            lambda case, tile: ready.channels(
                check_images(case.images, modalities), tile=tile
            ),
            counts,
            most=self.most_pixels,
            seed=seed,
        )
        if len(np.unique(pixels.labels)) < 2:
            raise ParameterError(
                f"expected valid pixels of at least two classes, found "
                f"{len(pixels.labels)} labeled pixels with a value; check that labels "
                "overlap the images, and their nodata"
            )
        balanced = self.class_weight == "balanced"
        plan = GrowthPlan(
            kind=kind,
            members=self.members,
            rounds=self.rounds,
            balanced=balanced,
            dropout=self.modality_dropout,
            modalities=np.repeat(
                np.arange(len(modalities)), [len(each) for each in ready.names]
            ),
            seed=seed,
        )
        grown = grow_members(pixels, len(classes), plan)
        weights = weights_of(pixels, balanced=balanced)
        shares = np.bincount(pixels.labels, weights, len(classes)) / weights.sum()
        return replace(
            ready,
            ensembles=grown.ensembles,
            temperature=temperature_of(grown.held_out, pixels.labels, weights),
            shares=tuple(shares.tolist()),
        )

    @override
    def channels(
        self, images: Mapping[str, xr.DataArray], *, tile: int | None = STACK_TILE
    ) -> dict[str, xr.DataArray]:
        """The features of each modality (feature, y, x), lazily.

        Args:
            images: An image for every modality, as `check_images` gives them.
            tile: Side of the tiles in pixels; the result does not depend on it.
        """
        _, modalities = self.fitted()
        assert self.scales is not None
        found = {}
        for modality, stack, names in zip(
            modalities, self.stacks, self.names, strict=True
        ):
            image = images[modality.name]
            found[modality.name] = (
                _no_features(image, names, tile)
                if is_absent(image)
                else features_of(image, modality, stack, self.scales, tile=tile)
            )
        return found

    @override
    def summarize(self, images: Mapping[str, xr.DataArray]) -> Delayed:
        return share(None, token=repr(self))

    @override
    def predict_tile(self, tile: LandCoverTile, summary: Any) -> LandCoverPrediction:
        """Probabilities of classes, decided pixel by pixel; see `LandCoverClassifier`."""
        classes, modalities = self.fitted()
        channels = [np.asarray(tile.channels[each.name]) for each in modalities]
        height, width = channels[0].shape[1:]
        flat = [each.reshape(len(each), -1) for each in channels]
        present = np.any([np.isfinite(each).any(axis=0) for each in flat], axis=0)
        count = height * width
        probability = np.full((len(classes), count), np.nan, np.float32)
        parts = np.full((2, count), np.nan, np.float32)
        pixels = np.flatnonzero(present)
        for start in range(0, pixels.size, _PIXELS):
            some = pixels[start : start + _PIXELS]
            rows = np.concatenate([each[:, some] for each in flat]).T
            mean, aleatoric, epistemic = self._decided(rows, len(classes))
            probability[:, some] = mean.T
            parts[:, some] = aleatoric, epistemic
        return LandCoverPrediction(
            probability=probability.reshape(-1, height, width),
            aleatoric=parts[0].reshape(height, width),
            epistemic=parts[1].reshape(height, width),
            weight=np.full((len(modalities), height, width), np.nan, np.float32),
        )

    def _decided(
        self, rows: np.ndarray, count: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean probability (row, class), and both parts of its entropy (row,)."""
        rows = np.ascontiguousarray(rows)
        mean, aleatoric = np.zeros((len(rows), count)), np.zeros(len(rows))
        for ensemble in self.ensembles:
            found, agreed = ensemble.decided(rows)
            raw = in_legend(found.astype(np.float64), ensemble.classes, count)
            own = self._calibrated(raw)
            # Trees of a forest agree on this part of its entropy, at any temperature.
            before = entropy(raw, axis=-1)
            part = np.where(before > 0, agreed / np.where(before > 0, before, 1), 1)
            mean += own / len(self.ensembles)
            aleatoric += (
                np.minimum(part, 1) * entropy(own, axis=-1) / len(self.ensembles)
            )
        return mean, aleatoric, np.maximum(entropy(mean, axis=-1) - aleatoric, 0)

    def _calibrated(self, probability: np.ndarray) -> np.ndarray:
        """Probabilities at the temperature, and for the prior of the scenes."""
        powered = probability ** (1 / self.temperature)
        if self.prior is not None and self.shares is not None:
            self._check_prior(self.prior)
            shares = np.array(self.shares)
            known = shares > 0
            prior = np.array(self.prior) / sum(self.prior)
            powered = powered * np.where(known, prior / np.where(known, shares, 1), 0)
        return powered / powered.sum(axis=1, keepdims=True)

    def _check_prior(self, prior: Sequence[float]) -> None:
        count = len(prior) if self.classes is None else len(self.classes)
        if len(prior) != count or min(prior, default=-1) < 0 or not sum(prior) > 0:
            raise ParameterError(
                f"expected as prior a share for each of {count} classes, none negative, "
                f"found {prior}; None takes those of the training"
            )


def _warn_of_missing(classes: Legend, counts: np.ndarray) -> None:
    missing = [
        name for name, count in zip(classes.names, counts, strict=True) if not count
    ]
    if missing:
        warnings.warn(
            f"expected labeled pixels of every class, found none of "
            f"{', '.join(missing)}; the map will not have it",
            MissingClassWarning,
            stacklevel=3,
        )


def _feature_names(
    cases: Sequence[LandCoverCase],
    modalities: Sequence[Modality],
    stacks: Sequence[FeatureStack],
    scales: Weights,
) -> tuple[tuple[str, ...], ...]:
    """Names of the features by modality: described, not computed."""
    names = []
    for modality, stack in zip(modalities, stacks, strict=True):
        image = next(
            c.images[modality.name] for c in cases if modality.name in c.images
        )
        found = features_of(image, modality, stack, scales)
        names.append(tuple(map(str, found.feature.values)))
    return tuple(names)


def _no_features(
    image: xr.DataArray, names: Sequence[str], tile: int | None
) -> xr.DataArray:
    """Features of a modality that is missing: NaN, without being computed."""
    bands = image.isel(band=np.zeros(len(names), int))
    missing = bands.rename(band="feature").assign_coords(feature=list(names))
    return missing.chunk({"feature": -1, "y": tile or -1, "x": tile or -1})
