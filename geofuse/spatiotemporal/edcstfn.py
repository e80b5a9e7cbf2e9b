"""EDCSTFN: a shallow network of two encoders, one for what is there, one for what changed.

The features of the fine base image, and those of what the base and the coarse images say about
the change, are added; a decoder makes an image of the sum. See `geofuse.networks.edcstfn`.

Departures from the paper: images are in units of the scene's spread instead of reflectance,
what is learned is the change (`predicts="image"` is the paper's), coarse images are
interpolated bicubically instead of bilinearly, and the loss is Charbonnier's, without the
features of a pretrained autoencoder and the structural similarity. The paper mixes the features
of two pairs by how small their change is; here predictions from any number of pairs are
mixed, by the same thought (`temporal.py`).

Reference: Z. Tan, L. Di, M. Zhang, L. Guo, M. Gao (2019): An enhanced deep convolutional
model for spatiotemporal image fusion. Remote Sensing 11(24), 2898.
"""

from dataclasses import dataclass
from typing import Literal

from flax import nnx
from typing_extensions import override

from geofuse.networks.blocks import Draws
from geofuse.networks.edcstfn import REACH, EDCSTFNNetwork
from geofuse.spatiotemporal.learned import NEAR, TRAINING, NetworkMethod
from geofuse.training.loop import Training
from geofuse.training.weights import Weights

_WIDTHS = {"full": (32, 64, 128), "small": (8, 16, 32)}


@dataclass(frozen=True)
class EDCSTFN(NetworkMethod):
    """Enhanced deep convolutional spatiotemporal fusion network (Tan et al. 2019).

    Args:
        size: `full` for the authors' network, 284,134 parameters with 6 bands; `small` for
            a quarter of its channels.
        predicts: `change` for what is added to the fine base image; `image` as in the paper.
        training: How to train.
        weights: What was learned; None before `fit`.
        bands: The bands it was learned with, in their order.

    Raises:
        ParameterError: A field is out of range.

    It takes all bands at once, and works on the bands that it learned with alone. It needs no
    scale, and states no uncertainty.

    >>> EDCSTFN(size="small").halo
    8
    """

    size: Literal["full", "small"] = "full"
    predicts: Literal["change", "image"] = "change"
    training: Training = TRAINING
    weights: Weights | None = None
    bands: tuple[str, ...] | None = None

    @property
    @override
    def halo(self) -> int:
        return max(REACH, NEAR)

    @property
    @override
    def stride(self) -> int:
        return 1

    @override
    def network(self, bands: int, seed: int | None = None) -> nnx.Module:
        zero = self.predicts == "change"
        widths = _WIDTHS[self.size]
        return EDCSTFNNetwork(bands, widths, zero=zero, draws=Draws(seed))
