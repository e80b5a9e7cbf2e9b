"""KernelNet: STARFM's kernel, corrected by a network that has learned how.

STARFM writes down how far a neighbor is to be trusted. Here a small network, the same for
every band, corrects that at each pixel: how fast weights fall with distance and with
unlikeness, in numbers that it has learned to describe pixels by; how far a neighbor's own
change is to be believed; and what is left at the end. `kernel_fusion.py` has the formula,
`kernel_inputs.py` what the network is told, `kernel_training.py` how it learns.

                fixed     STARFM itself
                gain      + factors on the change of each candidate
    learned     kernel    + the weights of neighbors, and of the pixel itself
                residual  + what is added after the mean

Without training it is STARFM to rounding, and all that it does is a departure from there.
It is told only ratios and differences in units of the scene's spread, so that any physical
variable works; it sees one band at a time and a mean over all bands as guide.

Uncertainty: the network says how large the error that is left should be (aleatoric), and
has several heads that were trained on different draws of the scenes; how far they disagree
is the epistemic part. They share trunk and window, so it is a lower bound.

References: B. Mildenhall et al. (2018): Burst denoising with kernel prediction networks,
CVPR; F. Gao et al. (2006) for STARFM; Q. Wang, P. M. Atkinson (2018) for the local line.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from operator import add
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from dask.delayed import Delayed
from flax import nnx
from typing_extensions import override

from geofuse.errors import ParameterError
from geofuse.networks.learned_kernel import LearnedKernel
from geofuse.networks.parameters import arrays_of, network_of
from geofuse.pairs import FusionCase, FusionInputs
from geofuse.spatiotemporal.kernel_fusion import (
    FAR,
    LEARNED,
    Learned,
    fuse_tile,
    make_network,
)
from geofuse.spatiotemporal.kernel_inputs import (
    BEYOND,
    CHANNELS,
    NEAR,
    WINDOW,
)
from geofuse.spatiotemporal.kernel_scene import KernelScene, kernel_scene, scan_scene
from geofuse.spatiotemporal.kernel_training import KernelTraining, fit_kernel
from geofuse.spatiotemporal.method import (
    FusionMethod,
    FusionPrediction,
    FusionTile,
    scale_of,
)
from geofuse.spatiotemporal.starfm import STARFM, heaviest
from geofuse.tiling import gathered, reduce_tiles, share
from geofuse.training.loop import Training
from geofuse.training.pretrained import deviation_factor, known_weights, warn_of_scale
from geofuse.training.weights import Weights


class KernelSummary(NamedTuple):
    """What the scene and the training tell.

    Attributes:
        scene: Numbers of the scene.
        weights: Parameters of the network by name.
    """

    scene: KernelScene
    weights: dict[str, Any]


@dataclass(frozen=True)
class KernelNet(FusionMethod):
    """STARFM with a learned kernel.

    Args:
        radius: Half the side of the search window, center excluded, in fine pixels; 1 to
            250. Windows of 27 to 31 pixels a side take three times as long as one of 33.
        classes: Number of classes m that the scene is thought to have: neighbors whose
            fine value differs by more than 2 / m standard deviations have no weight,
            whatever was learned. At least 1.
        learned: How much of what was learned is used: `fixed`, `gain`, `kernel` or
            `residual`; each includes those before it.
        width: Hidden units of the network, 1 to 256.
        heads: Heads of the network, 1 to 16.
        training: How `fit` trains.
        weights: What was learned; `pretrained` for the weights in the package, None for
            nothing yet.

    Raises:
        ParameterError: A field is out of range.

    It needs the scale. A pair takes part at a pixel only where it is valid at that pixel;
    where none is, the prediction is NaN.

    >>> KernelNet(radius=10, weights=None).halo
    12
    """

    states_uncertainty: ClassVar[bool] = True

    radius: int = 16
    classes: int = 8
    learned: Learned = "residual"
    width: int = 32
    heads: int = 4
    training: Training = field(
        default_factory=lambda: Training(learning_rate=3e-3, weight_decay=1e-5)
    )
    weights: Weights | Literal["pretrained"] | None = "pretrained"

    def __post_init__(self) -> None:
        self._start()  # refuses radius and classes
        if self.learned not in LEARNED:
            raise ParameterError(
                f"expected learned to be one of {LEARNED}, found {self.learned!r}; "
                "'residual' uses all of the network"
            )
        for name, most in (("width", 256), ("heads", 16)):
            value = getattr(self, name)
            if not 1 <= value <= most or value != int(value):
                raise ParameterError(
                    f"expected {name} of 1 to {most}, found {value}; leave it out for "
                    "that of the weights in the package"
                )
        if not (
            self.weights is None
            or self.weights == "pretrained"
            or isinstance(self.weights, Weights)
        ):
            raise ParameterError(
                f"expected weights='pretrained', Weights or None, found {self.weights!r}"
            )

    def _start(self) -> STARFM:
        """The kernel that is corrected."""
        return STARFM(radius=self.radius, classes=self.classes, decay=FAR)

    def network(self, arrays: Mapping[str, Any] | None = None) -> LearnedKernel:
        """The network, with these parameters or, of None, with those at step 0."""
        make = partial(make_network, self.width, self.heads, CHANNELS)
        if arrays is None:
            return make(nnx.Rngs(0))
        return network_of(lambda: make(nnx.Rngs(0)), arrays)

    @property
    @override
    def halo(self) -> int:
        return self.radius + NEAR

    @property
    @override
    def coarse_halo(self) -> int | None:
        return WINDOW + BEYOND

    @override
    def interval_factor(self, level: float) -> float:
        """That of a Gaussian, times what simulated scenes held out have asked for."""
        factor = deviation_factor(self.weights, "kernel-net")
        return factor * super().interval_factor(level)

    @override
    def compiled(self) -> "KernelNet":
        return replace(self, weights=None)

    @override
    def fit(self, cases: Sequence[FusionCase], *, seed: int = 0) -> "KernelNet":
        """Learn from cases, from the weights it has, if any.

        Raises:
            ParameterError: There is no case.
            MissingScaleError: A case does not tell its scale.
            TrainingError: The network could not be trained.
        """
        begin = (
            arrays_of(make_network(self.width, self.heads, CHANNELS, nnx.Rngs(seed)))
            if self.weights is None
            else dict(self._weights().arrays)
        )
        weights = fit_kernel(self.settings(), begin, cases, seed=seed)
        return replace(self, weights=weights)

    def settings(self) -> KernelTraining:
        """What is trained, and how."""
        return KernelTraining(
            self._start(), self.learned, self.width, self.heads, self.training
        )

    def _weights(self) -> Weights:
        """The weights.

        Raises:
            NotFittedError: There are none.
        """
        fit = "method = KernelNet(weights=None).fit(cases)"
        return known_weights(self.weights, "kernel-net", fit=fit)

    @override
    def check(self, inputs: FusionInputs) -> None:
        """Refuse inputs without a scale, or a method without weights.

        Warns:
            OutOfRangeWarning: The weights that ship were not trained on such a scale.
        """
        super().check(inputs)
        warn_of_scale(self.weights, "kernel-net", inputs.scale)
        jax.eval_shape(
            lambda: self.network(dict(self._weights().arrays)).first.bias[...]
        )

    @override
    def summarize(self, inputs: FusionInputs) -> Delayed:
        rasters = inputs.rasters()
        rasters.pop("classes", None)
        finish = partial(kernel_scene, scale=inputs.scale)
        scene = reduce_tiles(
            scan_scene, rasters, finish, token=f"KernelNet {inputs.scale}"
        )
        weights = self._weights()
        known = share(dict(weights.arrays), token=weights.digest)
        return gathered(_summary, [scene, known], token="KernelNet")

    @override
    def predict_tile(
        self, tile: FusionTile, summary: KernelSummary
    ) -> FusionPrediction:
        spare = self.trim(scale_of(tile)) - (WINDOW + BEYOND) * scale_of(tile)
        fused = fuse_tile(
            self.network(summary.weights),
            self._start(),
            self.learned,
            tile,
            summary.scene,
            spare - self.radius,
        )
        heads = list(jnp.moveaxis(fused.heads, 1, 0))
        image = reduce(add, heads) / self.heads
        apart = [jnp.square(head - image) for head in heads]
        return FusionPrediction(
            reflectance=image,
            aleatoric=fused.variance,
            epistemic=reduce(add, apart) / self.heads,
            pair=heaviest(fused.weight),
            similar=fused.neighbors.min(axis=0),
        )


def _summary(values: list[Any]) -> KernelSummary:
    return KernelSummary(*values)
