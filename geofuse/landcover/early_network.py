"""Early fusion by a network: all channels side by side, one encoder.

What an image stack given to a usual network does. A modality that is missing is 0, with a
flag that says so; unlike in `IntermediateFusion`, nothing but training keeps that 0 from
counting.
"""

from dataclasses import dataclass
from typing import Literal

from typing_extensions import override

from geofuse.features.stack import FeatureStack
from geofuse.landcover.modality import Modality
from geofuse.landcover.network_classifier import TRAINING, NetworkClassifier
from geofuse.networks.blocks import Draws
from geofuse.networks.land_cover import EarlyFusionNetwork
from geofuse.rasters.legend import Legend
from geofuse.training.loop import Training
from geofuse.training.weights import Weights


@dataclass(frozen=True)
class EarlyNetwork(NetworkClassifier):
    """Networks that see all channels at once; fields are those of `IntermediateFusion`.

    Args:
        classes: The legend, or names of classes.
        width: Channels of the layers; 1 to 1024.
        features: Hand-made features beside the bands; None for what each modality is commonly
            made of, `FeatureStack(bands=True)` for the bands alone.
        modality_dropout: Probability that a modality is missing in a patch of training.
        gaps: Probability that it has round gaps there.
        noise: Standard deviation of noise on the channels in training, in their spread.
        dropout: Share of channels dropped in training, and in `samples`.
        samples: Passes with dropout in prediction; 0 for one pass without.
        members: Networks of the ensemble.
        class_weight: `natural` or `balanced`.
        temperature: What logits are divided by; `fit` sets it.
        training: How to train.
        modalities: What was learned; `fit` sets it.
        prior: Shares of the classes in the scenes to be mapped, if they are known; None
            for those of the training.
        shares: Shares of the classes in the training; `fit` sets it.
        weights: What was learned; `fit` sets it.

    Raises:
        ParameterError: A field is out of range, or not of its kind.
    """

    # Names become a legend at once.
    classes: Legend | tuple[str, ...] | None = None  # type: ignore[assignment]
    width: int = 24
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

    @override
    def network(
        self, channels: tuple[int, ...], classes: int, seed: int | None = None
    ) -> EarlyFusionNetwork:
        return EarlyFusionNetwork(
            channels, classes, width=self.width, draws=Draws(seed)
        )
