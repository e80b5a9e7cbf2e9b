"""Late fusion: an expert for each modality decides, and their decisions are combined.

    optical ──> expert ──> probabilities ─┐
    SAR     ──> expert ──> probabilities ─┼─ weights by precision ──> probabilities
    DEM     ──> expert ──> probabilities ─┘

Any classifier can be the expert. One that is missing at a pixel has weight 0 there: it is
left out, not guessed (opinions.py tells the rules). What the combination learns itself, its
temperature and the exponents of stacking, it learns on blocks that its experts have not
seen; then the experts learn from all blocks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from dask.delayed import Delayed
from typing_extensions import override

from geofuse.errors import ParameterError, UnknownNameError, did_you_mean
from geofuse.landcover.case import LandCoverCase, check_classes
from geofuse.landcover.classifier import (
    LandCoverClassifier,
    LandCoverPrediction,
    LandCoverTile,
    legend_for,
)
from geofuse.landcover.early import EarlyFusion
from geofuse.landcover.held_out import held_out
from geofuse.landcover.modality import Modality, modalities_of
from geofuse.landcover.opinions import (
    RULES,
    Opinions,
    Rule,
    fitted_exponents,
    pooled,
)
from geofuse.rasters.legend import Legend, legend_of
from geofuse.tiling import gathered, reduce_tiles
from geofuse.uncertainty.classes import class_temperature, entropy, tempered

#: Joins the name of a modality and that of what its expert asks for.
_JOINT = "/"
#: At most so many pixels held out are looked at.
_MOST_PIXELS = 100_000


class LateSummary(NamedTuple):
    """What tiles need: what each expert's tiles need."""

    experts: tuple[Any, ...]


@dataclass(frozen=True)
class LateFusion(LandCoverClassifier):
    """An expert for each modality, combined by a rule.

    Args:
        classes: The legend, or names of classes; None takes what the labels say.
        rule: `precision`, `average`, `vote`, `product` or `stacking`.
        expert: The classifier that is fitted to each modality.
        experts: The fitted ones, in the order of `modalities`; `fit` sets them.
        prior: Share of each class in the training; `fit` sets it.
        exponents: How much each expert's evidence counts in `stacking`; likewise.
        temperature: What the combined probabilities are tempered with; likewise.
        modalities: What was learned; None before `fit`.

    Raises:
        UnknownNameError: There is no such rule.
        ParameterError: The expert is fitted already.

    >>> LateFusion(rule="average").rule
    'average'
    """

    # Names become a legend at once.
    classes: Legend | tuple[str, ...] | None = None  # type: ignore[assignment]
    rule: Rule = "precision"
    expert: LandCoverClassifier = field(default_factory=EarlyFusion)
    experts: tuple[LandCoverClassifier, ...] = ()
    prior: tuple[float, ...] = ()
    exponents: tuple[float, ...] = ()
    temperature: float = 1.0
    modalities: tuple[Modality, ...] | None = None

    def __post_init__(self) -> None:
        """Check the rule; names of classes become a legend."""
        if self.classes is not None:
            object.__setattr__(self, "classes", legend_of(self.classes))
        if self.rule not in RULES:
            raise UnknownNameError(
                f"expected a rule of late fusion, found {self.rule!r}; "
                f"{did_you_mean(self.rule, RULES)}"
            )
        if self.expert.modalities is not None:
            raise ParameterError(
                "expected an expert that has not learned yet, found a fitted "
                f"{type(self.expert).__name__}; fit makes one for each modality"
            )

    @property
    @override
    def halo(self) -> int:
        return max((expert.halo for expert in self.experts), default=self.expert.halo)

    @override
    def fit(
        self, cases: Sequence[LandCoverCase], *, seed: int = 0
    ) -> LandCoverClassifier:
        """Fit an expert to each modality, and the combination on blocks held out.

        Raises:
            ParameterError: There is no case, a label is not in the legend, or fewer than
                two classes have a pixel.
            BandMismatchError: Two cases have other bands in one modality.
        """
        cases = list(cases)
        classes = legend_for(self, cases)
        counts = check_classes(cases, len(classes))
        template = replace(
            self,
            classes=classes,
            modalities=modalities_of(cases),
            prior=tuple((counts / counts.sum()).tolist()),
            exponents=(),
            temperature=1.0,
        )
        blocks = held_out(cases, seed=seed)
        combined = template._calibrated(
            template._with_experts(blocks.learning, seed), blocks.validation
        )
        return combined._with_experts(cases, seed)

    def _with_experts(self, cases: Sequence[LandCoverCase], seed: int) -> "LateFusion":
        """With an expert fitted to each modality."""
        _, known = self.fitted()
        expert: Any = replace(self.expert, classes=self.classes)  # type: ignore[type-var]
        fitted = []
        for modality in known:
            own = [
                LandCoverCase({modality.name: case.images[modality.name]}, case.labels)
                for case in cases
                if modality.name in case.images
            ]
            fitted.append(expert.fit(own, seed=seed))
        return replace(self, experts=tuple(fitted))

    def _calibrated(
        self, trial: "LateFusion", validation: Sequence[LandCoverCase]
    ) -> "LateFusion":
        """With exponents and temperature learned from what experts say of held-out pixels."""
        opinions, labels = _said(trial, validation)
        if labels.size == 0:
            return self
        prior = np.asarray(self.prior)
        exponents = None
        if self.rule == "stacking":
            exponents = fitted_exponents(opinions, labels, prior)
        found = pooled(opinions, self.rule, prior=prior, exponents=exponents)
        temperature = class_temperature(found.probability, labels)
        return replace(
            self,
            exponents=() if exponents is None else tuple(exponents.tolist()),
            temperature=temperature,
        )

    @override
    def channels(
        self, images: Mapping[str, xr.DataArray], *, tile: int | None = 512
    ) -> dict[str, xr.DataArray]:
        _, known = self.fitted()
        return {
            f"{modality.name}{_JOINT}{name}": channels
            for modality, expert in zip(known, self.experts, strict=True)
            for name, channels in expert.channels(
                {modality.name: images[modality.name]}, tile=tile
            ).items()
        }

    @override
    def summarize(self, images: Mapping[str, xr.DataArray]) -> Delayed:
        _, known = self.fitted()
        each = [
            expert.summarize({modality.name: images[modality.name]})
            for modality, expert in zip(known, self.experts, strict=True)
        ]
        return gathered(_late_summary, each, token=f"late {len(each)}")

    @override
    def predict_tile(
        self, tile: LandCoverTile, summary: LateSummary
    ) -> LandCoverPrediction:
        each, present = self._each(tile, summary)
        opinions = Opinions(
            np.stack([np.asarray(one.probability, np.float64) for one in each]),
            np.stack([np.asarray(one.aleatoric + one.epistemic) for one in each]),
            present,
        )
        found = pooled(
            opinions,
            self.rule,
            prior=np.asarray(self.prior),
            exponents=np.asarray(self.exponents) if self.exponents else None,
        )
        probability = tempered(found.probability, self.temperature)
        anyone = present.any(axis=0)
        said = np.where(present, np.stack([np.asarray(o.aleatoric) for o in each]), 0)
        before, total = (
            np.where(anyone, entropy(np.where(anyone, chances, 1.0)), np.nan)
            for chances in (found.probability, probability)
        )
        # What experts call aleatoric keeps its part of the entropy at any temperature.
        known = before > 0
        part = (found.weight * said).sum(axis=0) / np.where(known, before, 1.0)
        aleatoric = np.minimum(np.where(known, part, 1.0), 1.0) * total
        return LandCoverPrediction(
            probability, aleatoric, total - aleatoric, found.weight
        )

    def _each(
        self, tile: LandCoverTile, summary: LateSummary
    ) -> tuple[list[LandCoverPrediction], np.ndarray]:
        """What each expert says of the tile, and where it is present."""
        _, known = self.fitted()
        said = []
        for modality, expert, own in zip(
            known, self.experts, summary.experts, strict=True
        ):
            start = f"{modality.name}{_JOINT}"
            spare = self.halo - expert.halo
            inner = slice(spare, -spare or None)
            channels = {
                name.removeprefix(start): array[:, inner, inner]
                for name, array in tile.channels.items()
                if name.startswith(start)
            }
            said.append(expert.predict_tile(LandCoverTile(channels), own))
        present = np.stack(
            [np.isfinite(np.asarray(one.probability)).all(axis=0) for one in said]
        )
        return said, present


def _late_summary(experts: Sequence[Any]) -> LateSummary:
    return LateSummary(tuple(experts))


def _said(
    trial: LateFusion, cases: Sequence[LandCoverCase]
) -> tuple[Opinions, np.ndarray]:
    """What the experts say of labeled pixels, and their labels."""
    _, known = trial.fitted()
    parts = [_said_of(trial, known, case).compute() for case in cases]
    rows = np.concatenate(parts, axis=1)
    count = len(trial.fitted()[0])
    every = -(-rows.shape[1] // _MOST_PIXELS)
    rows = rows[:, :: max(every, 1)]
    labels = rows[0].astype(np.int64)
    experts = rows[1:].reshape(len(known), count + 1, rows.shape[1])
    probability, sure = experts[:, :-1], experts[:, -1]
    return Opinions(probability, sure, np.isfinite(sure)), labels


def _said_of(
    trial: LateFusion, known: Sequence[Modality], case: LandCoverCase
) -> Delayed:
    """Labels and what each expert says, one column a labeled pixel; lazy."""
    rasters = {"labels": case.labels}
    classes = len(trial.fitted()[0])
    for modality, expert in zip(known, trial.experts, strict=True):
        if modality.name not in case.images:
            continue
        product = expert.predict(
            {modality.name: case.images[modality.name]},
            outputs=("probability", "aleatoric", "epistemic"),
        )
        rasters[f"{modality.name} probability"] = product["probability"]
        rasters[f"{modality.name} entropy"] = (
            product["aleatoric"] + product["epistemic"]
        )
    names = [modality.name for modality in known]

    def columns(arrays: dict[str, np.ndarray], _: Any) -> np.ndarray:
        # Beyond the raster labels are 0; there nobody says anything.
        at = arrays["labels"] >= 0
        rows = [arrays["labels"][at][None].astype(np.float64)]
        for name in names:
            missing = np.full((classes + 1, rows[0].shape[1]), np.nan)
            if f"{name} entropy" not in arrays:
                rows.append(missing)
                continue
            rows.append(arrays[f"{name} probability"][:, at])
            rows.append(arrays[f"{name} entropy"][at][None])
        found = np.concatenate(rows)
        return found[:, np.isfinite(found[1:]).any(axis=0)]

    return reduce_tiles(columns, rasters, _joined, token=f"said {trial!r}")


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts, axis=1)
