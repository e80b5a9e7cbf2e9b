"""How a gate learns which expert to trust: pixels of cases, and the loss on them.

The experts have nothing to learn, so that they predict each case once. A sample of pixels
is kept of each band and base: what is known there, what the experts predict, the truth.

    loss = mean of RMSE / RMSE of STARFM                  a mean of ratios: scenes count alike
         + penalty where RMSE > the best of the rivals    never to be worse than one of them
         + likelihood of the errors under the variance    the mean takes no part in it

Each head weighs the samples by its own draw, as a bootstrap does.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from dask.delayed import Delayed
from jaxtyping import Array, Float

from geofuse.networks.gate import Gate
from geofuse.networks.parameters import arrays_of
from geofuse.pairs import FusionCase, FusionInputs
from geofuse.spatiotemporal.gate_inputs import GateInputs, signed_inputs
from geofuse.spatiotemporal.gated import mix_band
from geofuse.spatiotemporal.method import FusionMethod, FusionTile, Scale, trimmed
from geofuse.tiling import reduce_tiles
from geofuse.training.loop import Trained, Training, train

#: Share of the spread that is added to errors, so that a perfect expert divides nothing.
FLOOR = 0.01

#: Pixels of a sample in one batch.
BATCH_PIXELS = 256

#: Values of samples are kept within this many spreads.
MOST = 100.0


@runtime_checkable
class Gated(Protocol):
    """A method that mixes experts by a gate."""

    @property
    def experts(self) -> tuple[FusionMethod, ...]:
        """The methods that are mixed."""

    def network(self) -> Gate:
        """A gate as it is before training."""

    def trim(self, scale: int | None) -> int:
        """How much larger a window is than the tile, on each side."""

    def summary_with(
        self, inputs: FusionInputs, parameters: Mapping[str, Any]
    ) -> Delayed:
        """The summary of a scene."""

    def evidence(self, tile: FusionTile, summary: Any) -> tuple[GateInputs, Any]:
        """What is known of a tile."""


class GateSamples(NamedTuple):
    """Pixels to learn from, in spreads of the band, from the mean of the experts.

    Attributes:
        known: What the gate is told: (…, feature, pixel).
        predictions: What each expert predicts, (…, expert, pixel); NaN where it predicts
            nothing.
        residuals: What each adds up to wrongly: (…, expert, pixel).
        guess: First guess of the variance: (…, pixel).
        truth: What was there: (…, pixel).
    """

    known: Any
    predictions: Any
    residuals: Any
    guess: Any
    truth: Any


def gate_samples(
    method: Gated,
    case: FusionCase,
    *,
    pixels: int = 1024,
    places: int = 1,
    tile: int = 192,
    seed: int = 0,
) -> Delayed:
    """A lazy list of samples of a case: one for each base, band and place.

    Args:
        method: Its experts predict; its weights are not looked at.
        case: The case; its scale must be known.
        pixels: How many pixels of a place, at most; 2 is the least of a sample.
        places: From how many tiles, spread over the scene.
        tile: Side of a tile in fine pixels.
        seed: Which pixels.

    Returns:
        A lazy list of `GateSamples` of NumPy arrays, float16, each of `pixels` pixels.
        A band with fewer valid pixels than a quarter of that is left out.
    """
    inputs = case.inputs
    scale = inputs.scale or 1
    run = partial(
        _sampled,
        method,
        scale,
        np.asarray(inputs.lags, np.float32),
        pixels,
        seed,
    )
    return reduce_tiles(
        run,
        {**inputs.rasters(), "reference": case.reference},
        _joined,
        halo=method.trim(scale),
        tile=tile,
        step=scale,
        offset=inputs.offset,
        shared=method.summary_with(inputs, {}),
        token=f"samples {method.experts} {scale} {pixels} {seed} {inputs.lags}",
        most=places,
    )


# Functions of a scan stand in a module, so that they travel to other processes by name.
def _sampled(
    method: Gated,
    scale: int,
    lags: np.ndarray,
    pixels: int,
    seed: int,
    arrays: Mapping[str, Any],
    summary: Any,
) -> list[GateSamples]:
    fine, base = (
        jnp.stack([arrays[f"{kind}_{number}"] for number in range(len(lags))])
        for kind in ("fine", "coarse")
    )
    coarse = jnp.asarray(arrays["coarse"])
    tile = FusionTile(fine, base, coarse, jnp.asarray(lags), Scale(scale))
    known = _evidence(method, tile, summary)
    truth = trimmed(arrays["reference"], method.trim(scale))
    spread = np.asarray(summary.agreement.spread)
    generator = np.random.default_rng(seed)
    found = []
    for number in range(len(lags)):
        for band in range(len(spread)):
            one = GateInputs(*(field[number, band] for field in known))
            sample = _pixels_of(
                one, truth[band], float(spread[band]), pixels, generator
            )
            if sample is not None:
                found.append(sample)
    return found


@partial(jax.jit, static_argnums=0)
def _evidence(method: Gated, tile: FusionTile, summary: Any) -> GateInputs:
    return method.evidence(tile, summary)[0]


def _pixels_of(
    known: GateInputs,
    truth: np.ndarray,
    spread: float,
    pixels: int,
    generator: np.random.Generator,
) -> GateSamples | None:
    some = np.isfinite(np.asarray(known.predictions)).any(axis=0)
    valid = np.isfinite(truth) & some
    places = np.flatnonzero(valid)
    if len(places) < max(pixels // 4, 2):
        return None
    chosen = generator.choice(places, pixels, replace=len(places) < pixels)

    def at(image: Any) -> np.ndarray:
        flat = np.asarray(image)
        return flat.reshape(*flat.shape[:-2], -1)[..., chosen]

    predictions = at(known.predictions)
    middle = np.nanmean(predictions, axis=0)
    fields = (
        at(known.known),
        (predictions - middle) / spread,
        at(known.residuals) / spread,
        at(known.guess) / spread**2,
        (at(truth) - middle) / spread,
    )
    return GateSamples(*(np.clip(f, -MOST, MOST).astype(np.float16) for f in fields))


def _joined(parts: list[list[GateSamples]]) -> list[GateSamples]:
    return [sample for part in parts for sample in part]


class Loss(NamedTuple):
    """The loss of a batch, and what it is made of."""

    total: Float[Array, ""]
    ratio: Float[Array, ""]
    worse: Float[Array, ""]
    likelihood: Float[Array, ""]


def gate_loss(
    make: Callable[[], Gate],
    reference: int,
    rivals: tuple[int, ...],
    parameters: Mapping[str, Any],
    samples: GateSamples,
    heads: Float[Array, "sample head"],
) -> Loss:
    """How well a gate mixes.

    Args:
        make: Builds such a gate.
        reference: Which expert's RMSE the ratio is taken to.
        rivals: Experts that it should never be worse than.
        parameters: Those of the gate.
        samples: Pixels of some scenes.
        heads: How much each head learns from each sample.
    """
    wide = GateSamples(*(jnp.asarray(f, jnp.float32)[..., None] for f in samples))
    known = GateInputs(wide.known, wide.predictions, wide.residuals, wide.guess)
    mixed = jax.vmap(partial(mix_band, make, parameters))(known)
    truth = wide.truth
    error = mixed.reflectance - truth
    mean_square = _power(error)
    of_heads = _power(mixed.heads - truth[:, None])
    experts = _power(
        jnp.where(
            jnp.isfinite(wide.predictions), wide.predictions - truth[:, None], jnp.nan
        )
    )
    base = experts[:, reference]
    best = jnp.min(experts[:, list(rivals)], axis=1)
    ratio = jnp.sqrt(mean_square / base).mean()
    worse = jax.nn.relu(jnp.sqrt(mean_square / best) - 1.0).mean()
    own = (heads * jnp.sqrt(of_heads / base[:, None])).mean()
    # The variance answers for the errors, not the mean for the variance.
    square = jax.lax.stop_gradient(error * error)
    variance = mixed.aleatoric + jax.lax.stop_gradient(mixed.epistemic) + 1e-6
    likelihood = 0.5 * (jnp.log(variance) + square / variance).mean()
    return Loss(
        0.5 * (ratio + own) + worse + 0.05 * likelihood, ratio, worse, likelihood
    )


def _power(error: Any) -> Any:
    """Mean square over pixels, and the floor."""
    valid = jnp.isfinite(error)
    square = jnp.where(valid, error, 0.0) ** 2
    count = jnp.maximum(valid.astype(jnp.float32).sum(axis=(-2, -1)), 1.0)
    return square.sum(axis=(-2, -1)) / count + FLOOR**2


def turned(
    samples: GateSamples, experts: int, signs: Float[np.ndarray, " sample"]
) -> GateSamples:
    """Samples of bands some of which are turned upside down.

    Args:
        samples: Samples.
        experts: Number of experts.
        signs: 1 or -1 for each sample.
    """
    sign = signs[:, None].astype(samples.truth.dtype)
    signed = signed_inputs(experts)
    known = samples.known.copy()
    known[:, :signed] *= sign[..., None]
    return samples._replace(
        known=known,
        predictions=samples.predictions * sign[..., None],
        residuals=samples.residuals * sign[..., None],
        truth=samples.truth * sign,
    )


def fit_gate(
    method: Gated,
    samples: Sequence[GateSamples],
    groups: Sequence[int],
    start: Mapping[str, Any] | None,
    training: Training,
    *,
    reference: int,
    rivals: tuple[int, ...],
    seed: int,
    held: Sequence[int] | None = None,
) -> Trained:
    """Train a gate on samples; those of some groups are held out to stop early.

    Args:
        method: The method whose gate it is.
        samples: Samples of one size.
        groups: Group (scene, date or block) of each sample: one of them is held out
            whole, or none of it. A fifth of the groups are held out.
        start: Parameters to start from; None for those before training.
        training: How to train; `patch` does not matter.
        reference: See `gate_loss`.
        rivals: See `gate_loss`.
        seed: Draws of batches, groups and heads.
        held: The groups to hold out; None to draw a fifth of them.
    """
    stacked = GateSamples(*(np.stack(field) for field in zip(*samples, strict=True)))
    generator = np.random.default_rng(seed)
    names = np.unique(groups)
    if held is None:
        held = generator.permutation(names)[: max(1, len(names) // 5)].tolist()
    out = np.isin(groups, held)
    if out.all():
        out[:] = False
    kept = np.flatnonzero(~out)
    parameters = dict(start) if start is not None else first_parameters(method, stacked)
    heads = generator.poisson(1.0, (len(samples), method.network().heads))
    heads = np.maximum(heads, 0.05).astype(np.float32)
    loss = partial(gate_loss, method.network, reference, rivals)

    def draw(step: int) -> tuple[GateSamples, np.ndarray]:
        rng = np.random.default_rng((seed, step))
        chosen = kept[rng.integers(0, len(kept), training.batch)]
        pixels = rng.integers(0, stacked.truth.shape[-1], BATCH_PIXELS)
        batch = GateSamples(*(field[chosen][..., pixels] for field in stacked))
        signs = rng.choice([-1.0, 1.0], len(chosen))
        return turned(batch, len(method.experts), signs), heads[chosen]

    @jax.jit
    def score(parameters: Any, batch: GateSamples) -> Any:
        one = jnp.ones((len(batch.truth), heads.shape[1]))
        return loss(parameters, batch, one).total

    def validate(parameters: Mapping[str, Any]) -> float:
        scores = [
            float(score(parameters, GateSamples(*(f[i : i + 1] for f in stacked))))
            for i in np.flatnonzero(out)
        ]
        return float(np.mean(scores))

    return train(
        lambda parameters, batch, key: loss(parameters, *batch).total,
        parameters,
        draw,
        training,
        seed=seed,
        validate=validate if out.any() else None,
    )


def first_parameters(method: Gated, samples: GateSamples) -> dict[str, np.ndarray]:
    """Parameters before training: equal weights, and inputs measured on these samples."""
    known = samples.known.astype(np.float32)
    mean, std = known.mean(axis=(0, 2)), known.std(axis=(0, 2))
    # Signed numbers are as often turned round, and have no mean.
    signed = signed_inputs(len(method.experts))
    std[:signed] = np.sqrt(mean[:signed] ** 2 + std[:signed] ** 2)
    mean[:signed] = 0.0
    arrays = {n: np.asarray(a) for n, a in arrays_of(method.network()).items()}
    return {**arrays, "inputs.mean": mean, "inputs.std": np.maximum(std, 0.02)}
