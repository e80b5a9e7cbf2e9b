"""What every land-cover classifier is: the verbs of a fusion method, for maps.

    fit(cases)                   many scenes -> a classifier
    summarize(images)            one scene   -> what its tiles need
    predict_tile(tile, summary)  one tile    -> probabilities of classes there

A tile holds every modality that was learned; one that is missing is an array of NaN. So a
missing image, a stripe and a pixel are one and the same thing, and one compiled function
serves all. Users call the one `predict` that the base class gives them all.

References for the parts of the uncertainty: S. Depeweg et al. (2018): Decomposition of
uncertainty in Bayesian deep learning, ICML. The total entropy of a mean of members is the
mean of their entropies (aleatoric) plus what they disagree on (epistemic: mutual
information between class and member).
"""

import abc
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import Delayed

from geofuse.errors import (
    NotFittedError,
    ParameterError,
    UnknownNameError,
    did_you_mean,
)
from geofuse.landcover.case import LandCoverCase
from geofuse.landcover.modality import Modality, check_images, checked_ranges
from geofuse.rasters.legend import UNLABELED, Legend, legend_of, stored_legend
from geofuse.tiling import gathered, map_tiles


class LandCoverTile(NamedTuple):
    """The inputs of one tile and its halo; NaN where missing and outside the image.

    Attributes:
        channels: Arrays (channel, y, x) by modality, float32: what `channels` of the
            classifier gave for that modality.
    """

    channels: dict[str, Any]


class LandCoverPrediction(NamedTuple):
    """What is predicted for one tile, without its halo; arrays of NumPy or JAX.

    Attributes:
        probability: Of each class (class, y, x), between 0 and 1, summing to 1; NaN where
            no modality is present.
        aleatoric: Mean entropy of the members (y, x), in nats; NaN if not stated.
        epistemic: Mutual information of class and member (y, x), in nats, likewise.
        weight: Share of each modality in the decision (modality, y, x), summing to 1; 0
            where it is missing; NaN if the classifier does not weigh modalities.
    """

    probability: Any
    aleatoric: Any
    epistemic: Any
    weight: Any


#: What `predict` can give: name -> (leading dimension, type, meaning).
OUTPUTS: dict[str, tuple[str | None, str, str]] = {
    "land_cover": (None, "int16", "number of the class, -1 where there is none"),
    "probability": ("class", "float32", "probability of a class"),
    "aleatoric": (None, "float32", "entropy that more training would not remove, nats"),
    "epistemic": (
        None,
        "float32",
        "entropy from the ignorance of the classifier, nats",
    ),
    "weight": ("modality", "float32", "share of a modality in the decision"),
    "modality_aleatoric": ("modality", "float32", "aleatoric, of that modality alone"),
    "modality_epistemic": ("modality", "float32", "epistemic, of that modality alone"),
}


class LandCoverClassifier(abc.ABC):
    """Maps classes from images by modality.

    A concrete classifier is a frozen dataclass: its fields are its configuration and, after
    `fit`, what it has learned. All have these fields:

    Attributes:
        classes: The legend, or names of classes; None takes what the labels say.
        modalities: What was learned; None before `fit`.
    """

    classes: Legend | None
    modalities: tuple[Modality, ...] | None

    @property
    @abc.abstractmethod
    def halo(self) -> int:
        """How far `predict_tile` looks from a pixel, in pixels."""

    @abc.abstractmethod
    def fit(
        self, cases: Sequence[LandCoverCase], *, seed: int = 0
    ) -> "LandCoverClassifier":
        """Learn from cases; returns a new classifier and leaves `self` unchanged."""

    @abc.abstractmethod
    def summarize(self, images: Mapping[str, xr.DataArray]) -> Delayed:
        """What tiles need, lazily: what was learned, and numbers of the scene if any."""

    @abc.abstractmethod
    def predict_tile(self, tile: LandCoverTile, summary: Any) -> LandCoverPrediction:
        """Predict one tile, without its halo. Pure: same tile, same prediction."""

    def channels(
        self, images: Mapping[str, xr.DataArray], *, tile: int | None = 512
    ) -> dict[str, xr.DataArray]:
        """What a tile shall hold of each modality, (channel, y, x), lazily.

        The images themselves, if a classifier does not say otherwise.

        Args:
            images: An image for every modality, as `check_images` gives them.
            tile: Side of the tiles in pixels; the result does not depend on it.
        """
        return {name: image.astype(np.float32) for name, image in images.items()}

    def fitted(self) -> tuple[Legend, tuple[Modality, ...]]:
        """Legend and modalities of a fitted classifier.

        Raises:
            NotFittedError: It has not learned yet.
        """
        if self.classes is None or self.modalities is None:
            name = type(self).__name__
            raise NotFittedError(
                f"expected a fitted classifier, found {name} that has not learned; write "
                f"classifier = {name}().fit(cases), or load one: geofuse.load(folder)"
            )
        return self.classes, self.modalities

    def predict(
        self,
        images: Mapping[str, xr.DataArray],
        *,
        tile: int | None = 512,
        outputs: Sequence[str] = (
            "land_cover",
            "probability",
            "aleatoric",
            "epistemic",
        ),
    ) -> xr.Dataset:
        """Map the classes of a scene, lazily.

        Args:
            images: Images (band, y, x) by modality on one grid, NaN where invalid. A
                modality that is missing is left out, or NaN where it is missing.
            tile: Side of the tiles in pixels; None for one tile over the whole scene.
                The result does not depend on it.
            outputs: Which variables to give; see Returns. What is not named is not
                computed.

        Returns:
            A lazy dataset on the grid of the images: `land_cover` (y, x), int16, numbers
            of classes, -1 where no modality is present; `probability` (class, y, x);
            `aleatoric` and `epistemic` (y, x), entropies in nats; `weight` and
            `modality_aleatoric`, `modality_epistemic` (modality, y, x), the last two of
            a decision by that modality alone. Float32, NaN where no modality is present.

        Raises:
            NotFittedError: The classifier has not learned yet.
            UnknownNameError: A modality or an output of that name is not known.
            BandMismatchError: A modality lacks a band.
            GridMismatchError: The images are not on one grid.
            CalibrationError: While computing: values are far from those of the training.
        """
        classes, known = self.fitted()
        for name in outputs:
            if name not in OUTPUTS:
                raise UnknownNameError(
                    f"expected outputs of a classifier, found {name!r}; "
                    f"{did_you_mean(name, OUTPUTS)}"
                )
        wanted = tuple(outputs)
        if not wanted:
            raise ParameterError(
                f"expected at least one output, found none; known: {', '.join(OUTPUTS)}"
            )
        scene = check_images(images, known)
        looked = checked_ranges(images, known)
        names = tuple(modality.name for modality in known)
        channels = self.channels(scene, tile=tile)
        return map_tiles(
            partial(_run, self, names, wanted),
            {
                name: image.rename({image.dims[0]: f"channel_{name}"})
                for name, image in channels.items()
            },
            _template(next(iter(scene.values())), classes, names, wanted, repr(self)),
            halo=self.halo,
            tile=tile,
            shared=gathered(
                _second, [looked, self.summarize(scene)], token="landcover summary"
            ),
            token=f"{self!r} {wanted}",
        )


def legend_for(
    classifier: LandCoverClassifier, cases: Sequence[LandCoverCase]
) -> Legend:
    """The legend of a classifier; where it has none, that of the labels.

    Args:
        classifier: A classifier, fitted or not.
        cases: Cases whose labels tell their legend in their attributes; where they tell
            none, classes are called by their numbers.
    """
    if classifier.classes is not None:
        return legend_of(classifier.classes)
    told = [legend for case in cases if (legend := stored_legend(case.labels.attrs))]
    if told:
        return told[0]
    last = max((int(case.labels.max()) for case in cases), default=0)
    return Legend(tuple(f"class {number}" for number in range(max(last, 0) + 1)))


def _second(values: Sequence[Any]) -> Any:
    return values[1]


def _template(
    like: xr.DataArray,
    classes: Legend,
    names: tuple[str, ...],
    outputs: tuple[str, ...],
    method: str,
) -> xr.Dataset:
    coords = {
        name: like.coords[name]
        for name in ("y", "x", "spatial_ref", "time")
        if name in like.coords and like.coords[name].ndim <= 1
    }
    leads = {"class": np.array(classes.names), "modality": np.array(names)}
    variables = {}
    for name in outputs:
        lead, dtype, meaning = OUTPUTS[name]
        dims = (*([lead] if lead else []), "y", "x")
        own = {lead: leads[lead]} if lead else {}
        shape = (*(len(v) for v in own.values()), *like.shape[1:])
        variables[name] = xr.DataArray(
            da.empty(shape, dtype=dtype, chunks=-1),
            dims=dims,
            coords={**coords, **own},
            attrs={"long_name": meaning, "grid_mapping": "spatial_ref"},
        )
        if name == "land_cover":
            variables[name].attrs |= {"_FillValue": UNLABELED, **classes.attributes()}
    return xr.Dataset(variables, attrs={"method": method})


def _run(
    classifier: LandCoverClassifier,
    names: tuple[str, ...],
    outputs: tuple[str, ...],
    arrays: dict[str, np.ndarray],
    summary: Any,
) -> dict[str, Any]:
    """The door: named NumPy windows in, named arrays of the tile out."""
    found = {
        name: np.asarray(value)
        for name, value in classifier.predict_tile(LandCoverTile(arrays), summary)
        ._asdict()
        .items()
    }
    probability = found["probability"]
    valid = np.isfinite(probability).all(axis=0)
    if "land_cover" in outputs:
        best = np.argmax(np.where(valid, probability, 0), axis=0)
        found["land_cover"] = np.where(valid, best, UNLABELED)
    parts = ("aleatoric", "epistemic")
    if any(name.startswith("modality_") for name in outputs):
        alone = []
        for name in names:
            others = {
                other: channels if other == name else np.full_like(channels, np.nan)
                for other, channels in arrays.items()
            }
            alone.append(classifier.predict_tile(LandCoverTile(others), summary))
        for part in parts:
            found[f"modality_{part}"] = np.stack(
                [np.asarray(getattr(prediction, part)) for prediction in alone]
            )
    return {
        name: found[name].astype(OUTPUTS[name][1])
        if name == "land_cover"
        else np.where(valid, found[name], np.nan).astype(OUTPUTS[name][1])
        for name in outputs
    }
