"""GAN-STFM's generator: any fine image lends its texture to a coarse one.

It needs no coarse image of the base date, so that the fine image may be of any date with the
same landscape. See `geofuse.networks.ganstfm`.

Departures from the paper: *it is trained without its adversary*, by Charbonnier's loss, so that
its images are smoother than the authors'; normalization is over the channels of a pixel
(`geofuse.networks.ganstfm`); images are in units of the scene's spread, coarse ones smooth;
what is learned is the change (`predicts="image"` is the paper's). A coarse base image is asked
for as of any method here, and tells where the pair is valid and how several are mixed; the
network does not see it.

Reference: Z. Tan, M. Gao, X. Li, L. Jiang (2022, online 2021): A flexible
reference-insensitive spatiotemporal fusion model for remote sensing images using
conditional generative adversarial network. IEEE Transactions on Geoscience and Remote
Sensing 60, doi 10.1109/TGRS.2021.3050551.
"""

from dataclasses import dataclass
from typing import Literal

from flax import nnx
from typing_extensions import override

from geofuse.networks.blocks import Draws
from geofuse.networks.ganstfm import GANSTFMGenerator, reach
from geofuse.spatiotemporal.learned import NEAR, TRAINING, NetworkMethod
from geofuse.training.loop import Training
from geofuse.training.weights import Weights

_WIDTHS = {"full": (16, 32, 64, 128), "small": (8, 16, 32)}


@dataclass(frozen=True)
class GANSTFM(NetworkMethod):
    """The generator of GAN-STFM, trained without its adversary (Tan et al. 2021).

    Args:
        size: `full` for the authors' network, 578,082 parameters with 6 bands; `small` for
            half of its channels, and three levels instead of four.
        predicts: `change` for what is added to the fine base image; `image` as in the paper.
        training: How to train.
        weights: What was learned; None before `fit`.
        bands: The bands it was learned with, in their order.

    Raises:
        ParameterError: A field is out of range.

    It takes all bands at once, and works on the bands that it learned with alone. It needs no
    scale, and states no uncertainty.

    >>> GANSTFM(size="small").halo
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
        return max(reach(len(_WIDTHS[self.size])), NEAR)

    @property
    @override
    def stride(self) -> int:
        return 1

    @override
    def network(self, bands: int, seed: int | None = None) -> nnx.Module:
        zero = self.predicts == "change"
        widths = _WIDTHS[self.size]
        return GANSTFMGenerator(bands, widths, zero=zero, draws=Draws(seed))
