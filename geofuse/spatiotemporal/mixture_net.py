"""mixture-net: a network says, pixel by pixel, which of the fixed kernels to trust.

    base k ──expert e──> p_ke ──┐
                        inputs ─┴─ gate ──> w_ke, g_k, v_k
    p_k = sum_e w_ke (p_ke + g_k R_ke)                      R_ke: what p_ke adds up to wrongly
    p   = the bases' p_k, merged by their variances v_k

Each expert is a kernel that the field has written down; their mixture is one that was
learned: which varies over the scene, and stays between what the experts say but for the
part g of the coarse residual. With weights that were not trained it is the plain mean of
the experts. That mean is hard to beat, and what the network is measured against.

The gate looks at one pixel at a time, at numbers that tell about its neighborhood and about
the scene (`gate_inputs.py`), and is the same for all bands and all scenes. Several heads
share it; how far they differ is the epistemic variance.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from operator import add
from typing import Any, ClassVar, Literal, NamedTuple

import dask.array as da
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from dask.delayed import Delayed
from flax import nnx
from typing_extensions import override

from geofuse.errors import ParameterError
from geofuse.networks.gate import Gate
from geofuse.pairs import FusionCase, FusionInputs
from geofuse.spatiotemporal.agreement import Agreement, scene_agreement
from geofuse.spatiotemporal.baselines import (
    BandLine,
    CoarseChange,
    CoarseImage,
    Persistence,
)
from geofuse.spatiotemporal.fitfc import FitFC
from geofuse.spatiotemporal.fsdaf import FSDAF
from geofuse.spatiotemporal.gate_inputs import (
    MARGIN,
    GateInputs,
    all_inputs,
    gate_inputs,
)
from geofuse.spatiotemporal.gated import mix
from geofuse.spatiotemporal.members import (
    FromBases,
    check_steps,
    predictions_of,
    summaries_of,
)
from geofuse.spatiotemporal.method import (
    FusionMethod,
    FusionPrediction,
    FusionTile,
    Scale,
    needed_scale,
    scale_of,
    trimmed,
)
from geofuse.spatiotemporal.mixture_training import fit_gate, gate_samples
from geofuse.spatiotemporal.object_fitfc import ObjectFitFC
from geofuse.spatiotemporal.spectral_line import SpectralLine
from geofuse.spatiotemporal.starfm import STARFM
from geofuse.spatiotemporal.temporal import each_base, merge_bases
from geofuse.spatiotemporal.unmixing import Unmixing
from geofuse.tiling import gathered, map_tiles, share
from geofuse.training.loop import Training
from geofuse.training.pretrained import deviation_factor, known_weights, warn_of_scale
from geofuse.training.weights import Weights

#: The kernels that are mixed: each takes one pair, and assumes something else.
EXPERTS: tuple[FusionMethod, ...] = (
    Persistence(),
    CoarseImage(),
    CoarseChange(upsample="bicubic"),
    BandLine(),
    SpectralLine(),
    STARFM(),
    STARFM(rules="paper", classes=6),
    FitFC(),
    ObjectFitFC(),
    FSDAF(),
    Unmixing(),
)


#: How the gate is trained: samples of 256 pixels are small, so that steps are quick.
TRAINING = Training(steps=2000, batch=32, learning_rate=3e-3, weight_decay=1e-4)

#: Places of a case that `fit` learns from.
PLACES = 16


class MixtureSummary(NamedTuple):
    """What the scene tells, and what was learned.

    Attributes:
        experts: Summaries of the experts.
        agreement: How the images of the scene agree.
        weights: Parameters of the gate, by name.
    """

    experts: tuple[Any, ...]
    agreement: Agreement
    weights: dict[str, Any]


@dataclass(frozen=True)
class MixtureNet(FusionMethod):
    """A learned, spatially varying mixture of fixed kernels.

    Args:
        experts: The methods that are mixed; each takes one pair, and stands once.
        width: Width of the gate's hidden layers; 1 to 1024.
        depth: Number of its hidden layers; 1 to 8.
        heads: Number of heads; 1 to 64.
        weights: `pretrained` for those that ship with geofuse, None for none: then it
            must be fitted.
        training: How `fit` trains; `patch` does not matter, pixels are drawn.

    Raises:
        ParameterError: A field is out of range, or not of its kind.

    It needs the scale. The aleatoric variance is learned, the epistemic one is that of the
    heads. A pixel takes part in a band where any expert has a prediction.
    """

    states_uncertainty: ClassVar[bool] = True

    experts: tuple[FusionMethod, ...] = EXPERTS
    width: int = 64
    depth: int = 2
    heads: int = 4
    weights: Weights | Literal["pretrained"] | None = "pretrained"
    training: Training = TRAINING

    def __post_init__(self) -> None:
        experts = tuple(self.experts)
        if not experts or not all(isinstance(e, FusionMethod) for e in experts):
            raise ParameterError(
                f"expected one expert or more, such as (STARFM(), FitFC()), found "
                f"experts={self.experts!r}; leave it out for the default ones"
            )
        if len(set(experts)) < len(experts) or any(e.pairs_needed > 1 for e in experts):
            raise ParameterError(
                f"expected experts that take one pair, each once, found {experts}; leave "
                "the others out"
            )
        for name, most in (("width", 1024), ("depth", 8), ("heads", 64)):
            value = getattr(self, name)
            if value != int(value) or not 1 <= value <= most:
                raise ParameterError(
                    f"expected a {name} of 1 to {most}, found {value}; leave it out for "
                    "the default"
                )
        object.__setattr__(self, "experts", experts)

    @property
    @override
    def halo(self) -> int:
        return max(expert.halo for expert in self.experts)

    @property
    @override
    def coarse_halo(self) -> int | None:
        return MARGIN + max(2, *(expert.coarse_halo or 0 for expert in self.experts))

    @override
    def trim(self, scale: int | None) -> int:
        """Halo in fine pixels: that of the experts, and three coarse pixels beyond."""
        scale = needed_scale(scale, type(self).__name__)
        widest = max(expert.trim(scale) for expert in self.experts)
        return (math.ceil(widest / scale) + MARGIN) * scale

    @override
    def check(self, inputs: FusionInputs) -> None:
        """Refuse inputs that an expert cannot work with, or a method without weights.

        Warns:
            OutOfRangeWarning: The weights that ship were not trained on such a scale.
        """
        self.check_inputs(inputs)
        self.parameters()
        warn_of_scale(self.weights, "mixture-net", inputs.scale)

    def check_inputs(self, inputs: FusionInputs) -> None:
        """Refuse inputs that an expert cannot work with."""
        super().check(inputs)
        check_steps(self.experts, needed_scale(inputs.scale, str(self)))
        for expert in self.experts:
            expert.check(inputs)

    @override
    def interval_factor(self, level: float) -> float:
        """That of a Gaussian, times what simulated scenes held out have asked for."""
        factor = deviation_factor(self.weights, "mixture-net")
        return factor * super().interval_factor(level)

    @override
    def compiled(self) -> "MixtureNet":
        return replace(self, weights=None)

    def network(self) -> Gate:
        """The gate, with parameters as they are before training."""
        return Gate(
            all_inputs(len(self.experts)),
            len(self.experts),
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            rngs=nnx.Rngs(0),
        )

    def parameters(self) -> Mapping[str, np.ndarray]:
        """The arrays that were learned.

        Raises:
            NotFittedError: There are none.
        """
        fit = "method = MixtureNet(weights=None).fit(cases)"
        return known_weights(self.weights, "mixture-net", fit=fit).arrays

    @override
    def fit(self, cases: Sequence[FusionCase], *, seed: int = 0) -> FusionMethod:
        """Learn which expert to trust; from the weights there are, if there are any.

        Args:
            cases: One case or more; their scale must be known. With five or more, a fifth
                of them are held out to stop early; with fewer, a fifth of the places of
                each. What is returned is never worse there than what it started from.
            seed: Of all draws.

        Returns:
            The method with weights. Started from weights, it learns at a tenth of the rate.

        Raises:
            ParameterError: There is no case, or too few valid pixels.
        """
        samples, groups = [], []
        for number, case in enumerate(cases):
            self.replaced(None).check_inputs(case.inputs)
            found = gate_samples(
                self, case, places=PLACES, seed=seed + number
            ).compute()
            samples += found
            bands = max(len(case.inputs.bands) * len(case.inputs.pairs), 1)
            groups += [
                number if len(cases) >= 5 else number * PLACES + i // bands
                for i in range(len(found))
            ]
        if not samples:
            raise ParameterError(
                f"expected cases with valid pixels to learn from, found {len(cases)} "
                "without; check that pairs, coarse image and reference overlap"
            )
        start = None if self.weights is None else self.parameters()
        training = self.training
        if start is not None:
            training = replace(training, learning_rate=training.learning_rate / 10)
        trained = fit_gate(
            self,
            samples,
            groups,
            start,
            training,
            reference=self.reference,
            rivals=self.rivals,
            seed=seed,
        )
        return self.replaced(Weights(trained.parameters))

    def replaced(self, weights: Weights | None) -> "MixtureNet":
        """The same method with other weights."""
        return replace(self, weights=weights)

    @property
    def reference(self) -> int:
        """The expert whose error others are compared with: STARFM, or the first."""
        names = [type(expert).__name__ for expert in self.experts]
        return names.index("STARFM") if "STARFM" in names else 0

    @property
    def rivals(self) -> tuple[int, ...]:
        """Experts that the mixture should never be worse than."""
        rivals = [
            number
            for number, expert in enumerate(self.experts)
            if isinstance(expert, STARFM | FitFC)
        ]
        return tuple(rivals) or (0,)

    @override
    def summarize(self, inputs: FusionInputs) -> Delayed:
        return self.summary_with(inputs, self.parameters())

    def summary_with(
        self, inputs: FusionInputs, parameters: Mapping[str, Any]
    ) -> Delayed:
        """The lazy summary of a scene with these parameters."""
        weights = share(dict(parameters), token=_digest(self.weights))
        parts = [summaries_of(self.experts, inputs), scene_agreement(inputs), weights]
        return gathered(_summary, parts, token="mixture-net")

    @override
    def predict_tile(
        self, tile: FusionTile, summary: MixtureSummary
    ) -> FusionPrediction:
        known, similar = self.evidence(tile, summary)
        mixed = each_base(
            partial(mix, self.network, jax.tree.map(jnp.asarray, summary.weights)),
            known,
        )
        variance = mixed.aleatoric + mixed.epistemic
        merged = merge_bases(mixed.reflectance, variance, jnp.zeros_like(variance))
        own = _weighted(merged.weight, mixed.epistemic)
        return FusionPrediction(
            reflectance=merged.reflectance,
            aleatoric=merged.variance - own,
            epistemic=jnp.where(jnp.isfinite(merged.reflectance), own, jnp.nan),
            pair=merged.pair,
            similar=similar,
        )

    def gates(self, inputs: FusionInputs, *, tile: int | None = 512) -> xr.DataArray:
        """Which expert is trusted where, lazily.

        Args:
            inputs: Pairs and the coarse image of the prediction date; of several pairs,
                the first counts.
            tile: Side of the tiles in fine pixels; see `predict`.

        Returns:
            Weights (expert, band, y, x), mean over the heads; they sum to 1 where any
            expert predicts, and are 0 elsewhere.
        """
        self.check(inputs)
        scale = inputs.scale or 1
        first = FusionInputs(
            inputs.pairs[:1], inputs.coarse, inputs.scale, inputs.offset, inputs.classes
        )
        fine = inputs.pairs[0].fine
        names = [repr(expert) for expert in self.experts]
        template = xr.DataArray(
            da.empty((len(names), *fine.shape), dtype="float32", chunks=-1),
            dims=("expert", "band", "y", "x"),
            coords={"expert": names, **{k: fine.coords[k] for k in fine.coords}},
            attrs={"long_name": "weight of an expert", "grid_mapping": "spatial_ref"},
        ).assign_coords(time=inputs.date.astype("datetime64[ns]"))
        return map_tiles(
            partial(
                _gates,
                self.compiled(),
                np.asarray(first.lags, np.float32),
                Scale(scale),
            ),
            first.rasters(),
            template.to_dataset(name="gates"),
            halo=self.trim(scale),
            tile=tile,
            step=scale,
            offset=inputs.offset,
            shared=self.summarize(first),
            token=f"gates {self!r} {first.lags} {scale}",
        ).gates

    def evidence(
        self, tile: FusionTile, summary: MixtureSummary
    ) -> tuple[GateInputs, Any]:
        """What the gate is told of a tile, from each base; and numbers of similar pixels.

        Returns:
            `GateInputs` whose arrays have the pair as first axis; and (y, x).
        """
        scale = scale_of(tile)
        halo = self.trim(scale) - MARGIN * scale
        found = predictions_of(self.experts, tile, summary.experts, halo)
        bases = [base for base in found if isinstance(base, FromBases)]
        predictions = jnp.stack([base.reflectance for base in bases], axis=2)
        similar = reduce(jnp.maximum, [base.similar.max(axis=0) for base in bases])
        coarse = trimmed(tile.coarse, halo)
        spread = jnp.asarray(summary.agreement.spread)

        def one(base: tuple[Any, ...]) -> GateInputs:
            fine, coarse_base, predicted, numbers = base
            return gate_inputs(
                fine, coarse_base, coarse, predicted, spread, numbers, scale
            )

        known = each_base(
            one,
            (
                trimmed(tile.fine, halo),
                trimmed(tile.coarse_base, halo),
                predictions,
                jnp.asarray(summary.agreement.numbers),
            ),
        )
        return known, trimmed(similar, MARGIN * scale)


def _gates(
    method: MixtureNet,
    lags: np.ndarray,
    scale: Scale,
    arrays: Mapping[str, Any],
    summary: MixtureSummary,
) -> dict[str, Any]:
    """The door: named windows in, gates of the tile out."""
    fine, base = (jnp.asarray(arrays[f"{kind}_0"])[None] for kind in ("fine", "coarse"))
    coarse = jnp.asarray(arrays["coarse"])
    tile = FusionTile(fine, base, coarse, jnp.asarray(lags), scale)
    return {"gates": _mix_first(method, tile, summary)}


@partial(jax.jit, static_argnums=0)
def _mix_first(method: MixtureNet, tile: FusionTile, summary: MixtureSummary) -> Any:
    known, _ = method.evidence(tile, summary)
    first = jax.tree.map(lambda array: array[0], known)
    mixed = mix(method.network, jax.tree.map(jnp.asarray, summary.weights), first)
    return jnp.moveaxis(mixed.gates, 1, 0)


def _weighted(weight: Any, values: Any) -> Any:
    terms = jnp.where(weight > 0, weight * values, 0.0)
    return reduce(add, list(terms))


def _digest(weights: Any) -> str:
    return weights.digest if isinstance(weights, Weights) else str(weights)


def _summary(values: list[Any]) -> MixtureSummary:
    return MixtureSummary(*values)
