"""Intermediate fusion: each modality becomes features, features meet, then it is decided.

    s2 ── encoder ─┐
    s1 ── encoder ─┼─ interaction at each pixel, of the modalities that are there ── head
    dem ─ encoder ─┘

Which interaction is one word (`geofuse.networks.interactions` tells what each can and
cannot represent). A modality that is missing at a pixel takes no part there, by a mask:
trained with modalities left out and with gaps, the networks know what to do without it.
"""

from dataclasses import dataclass
from typing import Literal

from typing_extensions import override

from geofuse.errors import ParameterError, UnknownNameError, did_you_mean
from geofuse.features.stack import FeatureStack
from geofuse.landcover.modality import Modality
from geofuse.landcover.network_classifier import TRAINING, NetworkClassifier
from geofuse.networks.blocks import Draws
from geofuse.networks.interactions import INTERACTIONS
from geofuse.networks.land_cover import FusionNetwork
from geofuse.rasters.legend import Legend
from geofuse.training.loop import Training
from geofuse.training.weights import Weights


@dataclass(frozen=True)
class IntermediateFusion(NetworkClassifier):
    """Networks in which the features of modalities meet.

    Args:
        classes: The legend, or names of classes.
        interaction: How features meet: concatenate, add, gated, tensor, low-rank,
            bilinear, attention or precision.
        width: Channels of the layers; 1 to 1024.
        rank: Of the interaction: number of products (low-rank), projected features
            (tensor), length of questions and keys (attention).
        features: Hand-made features beside the bands; None for what each modality is commonly
            made of, `FeatureStack(bands=True)` for the bands alone.
        modality_dropout: Probability that a modality is missing in a patch of training.
        gaps: Probability that it has round gaps there.
        noise: Standard deviation of noise on the channels in training, in their spread.
        dropout: Share of channels dropped in training, and in `samples`.
        samples: Passes with dropout in prediction; 0 for one pass without.
        members: Networks of the ensemble; each costs as much as the first.
        class_weight: `natural`: the shares of classes are those of the labels;
            `balanced`: all classes count alike.
        temperature: What logits are divided by; `fit` sets it.
        training: How to train.
        modalities: What was learned; `fit` sets it.
        prior: Shares of the classes in the scenes to be mapped, if they are known; None
            for those of the training.
        shares: Shares of the classes in the training; `fit` sets it.
        weights: What was learned; `fit` sets it.

    Raises:
        ParameterError: A field is out of range, or not of its kind.
        UnknownNameError: There is no such interaction.
    """

    # Names become a legend at once.
    classes: Legend | tuple[str, ...] | None = None  # type: ignore[assignment]
    interaction: str = "concatenate"
    width: int = 16
    rank: int = 4
    features: FeatureStack | None = None
    modality_dropout: float = 0.2
    gaps: float = 0.2
    noise: float = 0.1
    dropout: float = 0.1
    samples: int = 0
    members: int = 2
    class_weight: Literal["natural", "balanced"] = "natural"
    temperature: float = 1.0
    training: Training = TRAINING
    modalities: tuple[Modality, ...] | None = None
    prior: tuple[float, ...] | None = None
    shares: tuple[float, ...] | None = None
    weights: Weights | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.interaction not in INTERACTIONS:
            raise UnknownNameError(
                f"expected an interaction, found {self.interaction!r}; "
                f"{did_you_mean(self.interaction, INTERACTIONS)}"
            )
        if self.rank != int(self.rank) or not 1 <= self.rank <= 256:
            raise ParameterError(
                f"expected a rank of 1 to 256, found {self.rank}; leave it out for the "
                "default"
            )

    @override
    def network(
        self, channels: tuple[int, ...], classes: int, seed: int | None = None
    ) -> FusionNetwork:
        return FusionNetwork(
            channels,
            classes,
            width=self.width,
            interaction=self.interaction,
            rank=self.rank,
            draws=Draws(seed),
        )
