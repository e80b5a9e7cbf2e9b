"""A strided fusion U-Net: features at several scales, gated by the coarse change.

The generator of MLFF-GAN. See `geofuse.networks.fusion_unet`.

Departures from the paper: *it is trained without its adversary*, by Charbonnier's loss;
instance and batch normalization became operations on single pixels, and dropout is left out
(`geofuse.networks.fusion_unet`); images are in units of the scene's spread; what is learned is
the change (`predicts="image"` is the paper's). Strides are counted from the corner of the
scene's coarse grid: tiles start at common multiples of stride and scale.

Reference: B. Song, P. Liu, J. Li, L. Wang, L. Zhang, G. He, L. Chen, J. Liu (2022):
MLFF-GAN: a multilevel feature fusion with GAN for spatiotemporal remote sensing images.
IEEE Transactions on Geoscience and Remote Sensing 60, doi 10.1109/TGRS.2022.3169916.
"""

from dataclasses import dataclass
from typing import Literal

from flax import nnx
from typing_extensions import override

from geofuse.networks.blocks import Draws
from geofuse.networks.fusion_unet import FusionUNetNetwork, reach
from geofuse.spatiotemporal.learned import TRAINING, NetworkMethod
from geofuse.training.loop import Training
from geofuse.training.weights import Weights

_WIDTHS = {"full": (16, 32, 64, 128, 256), "small": (8, 16, 32)}


@dataclass(frozen=True)
class FusionUNet(NetworkMethod):
    """The generator of MLFF-GAN, trained without its adversary (Song et al. 2022).

    Args:
        size: `full` for the authors' network, 5,925,285 parameters with 6 bands and strides
            up to 16; `small` for half of its channels and strides up to 4.
        predicts: `change` for what is added to the fine base image; `image` as in the paper.
        training: How to train; patches must be multiples of the stride.
        weights: What was learned; None before `fit`.
        bands: The bands it was learned with, in their order.

    Raises:
        ParameterError: A field is out of range.

    It takes all bands at once, and works on the bands that it learned with alone. It needs no
    scale, and states no uncertainty.

    >>> FusionUNet(size="small").halo
    40
    """

    size: Literal["full", "small"] = "full"
    predicts: Literal["change", "image"] = "change"
    training: Training = TRAINING
    weights: Weights | None = None
    bands: tuple[str, ...] | None = None

    @property
    @override
    def halo(self) -> int:
        return reach(len(_WIDTHS[self.size]))

    @property
    @override
    def stride(self) -> int:
        return int(2 ** (len(_WIDTHS[self.size]) - 1))

    @override
    def network(self, bands: int, seed: int | None = None) -> nnx.Module:
        zero = self.predicts == "change"
        widths = _WIDTHS[self.size]
        return FusionUNetNetwork(bands, widths, zero=zero, draws=Draws(seed))
