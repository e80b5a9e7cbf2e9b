"""Several methods' predictions of one image, combined by how far each is to be trusted.

    base k ──method i──> p_ik ┐
    base l ──method i──> p_il ┴─ merged in time ─> p_i ┐
                              other methods, likewise  ┴─ by precision ─> p
                                                              p + g bicubic(R)

No method is the best on every scene, and their errors are only partly the same, so that a
mean of them is hard to beat; one whose weights follow the precision is harder. Nobody tells
the precision, so that it is estimated in `summarize`, from a sample of the scene:

*In time* (`merge_bases`). The error of method i from base k grows with the coarse change.
How fast, the base dates tell: with two pairs, one fine image is predicted from the other.

    v_ik(x) = own variance + E_ik / m_kl  (m_kp(x) + m_kp) / 2
    E_ik    mean square error of method i, predicting F_l from pair k
    m_kl    mean square of the coarse change from k to l; m_kp(x) near a pixel

*Across methods*. `precision.py`: what a prediction adds up to wrongly, against C2, and what
it has of its own beside the others. That needs no second pair.

*Gated compensation*. What the mixture still adds up to wrongly (R) is put back smoothly,
times g = max(0, 1 - N / mean R^2), N the noise of such a residual. An exact coarse image
has g = 1; a noisy one has g = 0, for then R is noise, and would be written into the image.

Which estimates to take, and the default members, were decided on simulated scenes alone.
"""

import math
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from dask.delayed import Delayed
from typing_extensions import override

from geofuse.errors import ParameterError
from geofuse.pairs import FusionInputs
from geofuse.spatiotemporal.baselines import CoarseChange, LinearInTime
from geofuse.spatiotemporal.coarse_grid import bicubic
from geofuse.spatiotemporal.evidence import Growth, Precision, Sample
from geofuse.spatiotemporal.fitfc import FitFC
from geofuse.spatiotemporal.fsdaf import FSDAF
from geofuse.spatiotemporal.members import (
    NEAR,
    check_steps,
    coarse_residual,
    merge_members,
    nearby_change,
    predictions_of,
    summaries_of,
    taking_part,
)
from geofuse.spatiotemporal.method import (
    FixedMethod,
    FusionMethod,
    FusionPrediction,
    FusionTile,
    needed_scale,
    scale_of,
    trimmed,
)
from geofuse.spatiotemporal.object_fitfc import ObjectFitFC
from geofuse.spatiotemporal.starfm import STARFM
from geofuse.spatiotemporal.temporal import heaviest, mixture
from geofuse.tiling import gathered

#: Methods that differ in what they assume. Those that need more pairs than there are sit
#: out. On simulated scenes FSDAF helped; `BandLine` and `ESTARFM` did not, and are left out.
MEMBERS: tuple[FusionMethod, ...] = (
    STARFM(),
    FitFC(),
    ObjectFitFC(),
    FSDAF(),
    CoarseChange(upsample="bicubic"),
    LinearInTime(),
)


class PrecisionSummary(NamedTuple):
    """What the scene tells.

    Attributes:
        members: Summaries of the members that take part.
        growth: How their errors grow with the coarse change.
        precision: Their weights and variances, and the gate.
    """

    members: tuple[Any, ...]
    growth: Growth
    precision: Precision


@dataclass(frozen=True)
class PrecisionFusion(FixedMethod):
    """Mean of several methods' predictions, weighted by precision, without any truth.

    Args:
        methods: The members, each one once. Those that need more pairs than there are sit
            out. A member that takes one pair predicts from each, and its predictions are
            merged in time here.
        compensate: Whether what the mean adds up to wrongly, against the coarse image, is
            put back as far as it is no noise.
        samples: From how many places of the scene, of about 128 x 128 pixels, the
            precision is estimated; 1 to 1000. The same ones for rasters of one size.

    Raises:
        ParameterError: A field is out of range, or not of its kind.

    It needs the scale. The aleatoric variance is the mean of the members' own (of one that
    states none: its estimated error power), the epistemic one is how far they disagree;
    neither is calibrated. A pixel takes part in a band where any member has a prediction.

    >>> PrecisionFusion(methods=(FitFC(), CoarseChange()), compensate=False).halo
    20
    """

    states_uncertainty: ClassVar[bool] = True

    methods: tuple[FusionMethod, ...] = MEMBERS
    compensate: bool = True
    samples: int = 16

    def __post_init__(self) -> None:
        methods = tuple(self.methods)
        if not methods or not all(isinstance(m, FusionMethod) for m in methods):
            raise ParameterError(
                f"expected one method or more, such as (STARFM(), FitFC()), found "
                f"methods={self.methods!r}; leave it out for the default members"
            )
        if len(set(methods)) < len(methods):
            raise ParameterError(
                f"expected each method once, found methods={methods}; leave one out"
            )
        if not isinstance(self.compensate, bool):
            raise ParameterError(
                f"expected compensate to be True or False, found {self.compensate!r}; "
                "True is usual, for noise shuts the gate"
            )
        if not 1 <= self.samples <= 1000 or self.samples != int(self.samples):
            raise ParameterError(
                f"expected 1 to 1000 whole samples of the scene, found "
                f"{self.samples}; 16 is usual"
            )
        object.__setattr__(self, "methods", methods)

    @property
    @override
    def halo(self) -> int:
        return max(member.halo for member in self.methods)

    @property
    @override
    def coarse_halo(self) -> int | None:
        return 2 + max(NEAR, *(member.coarse_halo or 0 for member in self.methods))

    @override
    def trim(self, scale: int | None) -> int:
        """Halo in fine pixels: that of the members, and two coarse pixels beyond."""
        scale = needed_scale(scale, type(self).__name__)
        return self._reach(scale) + 2 * scale

    def _reach(self, scale: int) -> int:
        """How far the members look, in fine pixels, in whole coarse ones."""
        widest = max(member.trim(scale) for member in self.methods)
        return max(math.ceil(widest / scale), NEAR) * scale

    @override
    def check(self, inputs: FusionInputs) -> None:
        """Refuse inputs that a member which takes part cannot work with."""
        super().check(inputs)
        check_steps(self.methods, needed_scale(inputs.scale, str(self)))
        # Where none takes part, the first tells what is missing.
        for member in taking_part(self.methods, len(inputs.pairs)) or self.methods[:1]:
            member.check(inputs)

    @override
    def summarize(self, inputs: FusionInputs) -> Delayed:
        methods = taking_part(self.methods, len(inputs.pairs))
        scale = inputs.scale or 1  # `check` has refused that with a message
        sample = Sample(methods, self._reach(scale), self.samples)
        members = summaries_of(methods, inputs)
        growth = sample.growth(inputs)
        known = gathered(tuple, [members, growth], token="known")
        precision = sample.precision(inputs, known)
        return gathered(_summary, [members, growth, precision], token="precision")

    @override
    def predict_tile(
        self, tile: FusionTile, summary: PrecisionSummary
    ) -> FusionPrediction:
        scale = scale_of(tile)
        methods = taking_part(self.methods, tile.fine.shape[0])
        halo = self._reach(scale)
        nearby = nearby_change(tile, jnp.asarray(summary.growth.power), halo)
        members = merge_members(
            methods,
            predictions_of(methods, tile, summary.members, halo),
            jnp.asarray(summary.growth.rate),
            nearby,
            scale,
        )
        weight, variance = (
            jnp.broadcast_to(
                jnp.asarray(values)[:, :, None, None], members.reflectance.shape
            )
            for values in (summary.precision.weight, summary.precision.variance)
        )
        variance = jnp.where(jnp.isfinite(members.variance), members.variance, variance)
        mixed = mixture(members.reflectance, jnp.zeros_like(variance), weight)
        # Products that no compiler may join with the sum stand behind a `where`.
        part = mixed.weight > 0
        own = reduce(add, list(jnp.where(part, mixed.weight * variance, 0.0)))
        bases = jnp.where(part[:, None], mixed.weight[:, None] * members.bases, 0.0)
        bases = reduce(add, list(bases))

        image, own, spread, bases, similar = (
            trimmed(array, 2 * scale)
            for array in (
                mixed.reflectance,
                own,
                mixed.variance,
                bases,
                members.similar.max(axis=0),
            )
        )
        if self.compensate:
            residual = coarse_residual(mixed.reflectance, tile, nearby, halo)
            back = jnp.asarray(summary.precision.gate)[:, None, None] * bicubic(
                residual, scale
            )
            image = image + jnp.where(jnp.isfinite(back), back, 0.0)
        return FusionPrediction(
            reflectance=image,
            aleatoric=jnp.where(jnp.isfinite(image), own, jnp.nan),
            epistemic=spread,
            pair=heaviest(bases),
            similar=similar,
        )


def _summary(values: list[Any]) -> PrecisionSummary:
    return PrecisionSummary(*values)
