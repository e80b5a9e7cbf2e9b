"""A network of local attention: SwinSTFM, at its full size or a small one.

At several scales the coarse change is spread over the pixels of a window where the fine image
and the new coarse one look alike. See `geofuse.networks.swinstfm`.

Departures from the paper: images are in units of the scene's spread, and what is learned is
the change (`predicts="image"` is the paper's), so that there is no hyperbolic tangent at the
end; the loss is Charbonnier's, without the structural similarity. As in the paper, the image
is cut into patches that overlap by half, of which the middle counts; here they start at
multiples of half a patch from the corner of the scene's coarse grid, so that a tile's size
cannot move them.

Reference: G. Chen, P. Jiao, Q. Hu, L. Xiao, Z. Ye (2022): SwinSTFM: remote sensing
spatiotemporal fusion using swin transformer. IEEE Transactions on Geoscience and Remote
Sensing 60, doi 10.1109/TGRS.2022.3182809.
"""

from dataclasses import dataclass
from typing import Literal

from flax import nnx
from typing_extensions import override

from geofuse.networks.blocks import Draws
from geofuse.networks.swinstfm import SwinLayout, SwinSTFMNetwork
from geofuse.spatiotemporal.learned import TRAINING, NetworkMethod
from geofuse.training.loop import Training
from geofuse.training.weights import Weights

_LAYOUTS = {
    "full": SwinLayout(width=64, depths=(2, 2, 6, 2), head=32, window=8, patch=256),
    "small": SwinLayout(width=32, depths=(2,), head=16, window=4, patch=32),
}


@dataclass(frozen=True)
class LocalAttentionNet(NetworkMethod):
    """SwinSTFM (Chen et al. 2022), or a small network of its kind.

    Args:
        size: `full` for the authors' network, 37,535,290 parameters with 6 bands, patches of
            256x256 and windows of 8x8 at each of four scales; it needs a GPU. `small` for
            one scale and the step below it, half of the channels, patches of 32x32 and
            windows of 4x4.
        predicts: `change` for what is added to the fine base image; `image` as in the paper.
        training: How to train; patches must be multiples of half a patch of the network, from
            a whole one on.
        weights: What was learned; None before `fit`.
        bands: The bands it was learned with, in their order.

    Raises:
        ParameterError: A field is out of range.

    It takes all bands at once, and works on the bands that it learned with alone. It needs no
    scale, and states no uncertainty. Tiles are multiples of half a patch and of the scale:
    with the full size and an odd scale they are large.

    >>> LocalAttentionNet(size="small").halo
    8
    """

    size: Literal["full", "small"] = "small"
    predicts: Literal["change", "image"] = "change"
    training: Training = TRAINING
    weights: Weights | None = None
    bands: tuple[str, ...] | None = None

    @property
    @override
    def halo(self) -> int:
        return _LAYOUTS[self.size].patch // 4

    @property
    @override
    def stride(self) -> int:
        return _LAYOUTS[self.size].patch // 2

    @override
    def network(self, bands: int, seed: int | None = None) -> nnx.Module:
        zero = self.predicts == "change"
        layout = _LAYOUTS[self.size]
        return SwinSTFMNetwork(bands, layout, zero=zero, draws=Draws(seed))
