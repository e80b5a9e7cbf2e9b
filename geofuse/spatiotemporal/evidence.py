"""What a sample of the scene tells about several methods, lazily.

Two scans of a few places, the same ones for rasters of one size: one predicts base dates
from each other, where there are two pairs (`Growth`); one predicts what is wanted, and
compares the predictions with each other and with the coarse image (`Precision`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from dask.delayed import Delayed
from jaxtyping import Float

from geofuse.pairs import FusionInputs
from geofuse.spatiotemporal.members import (
    coarse_residual,
    crossed_summaries_of,
    from_bases,
    merge_members,
    nearby_change,
    predictions_of,
    takes_bases,
)
from geofuse.spatiotemporal.method import FusionMethod, FusionTile, Scale, trimmed
from geofuse.spatiotemporal.precision import (
    Sums,
    added,
    cell_means,
    coarse_noise,
    differences,
    error_powers,
    gate,
    powers,
    products,
    weights,
)
from geofuse.tiling import reduce_tiles, share

#: About the side of a place, in fine pixels.
SIDE = 128


class Growth(NamedTuple):
    """How errors grow with the coarse change; float32.

    Attributes:
        rate: Error power of a method, from each base, for one of coarse change; 1 where
            nothing tells.
        power: Mean square of the coarse change from each base to the prediction date,
            squared units; 0 where there is one pair, and nothing to weigh.
    """

    rate: Float[np.ndarray, "method pair band"]
    power: Float[np.ndarray, "pair band"]


class Precision(NamedTuple):
    """Weights of the methods; float32.

    Attributes:
        weight: Weight of each method's merged prediction; sums to 1 in a band.
        variance: Its variance, squared units.
        gate: Share of the mixture's coarse residual that is no noise, 0 to 1.
    """

    weight: Float[np.ndarray, "method band"]
    variance: Float[np.ndarray, "method band"]
    gate: Float[np.ndarray, " band"]


@dataclass(frozen=True)
class Sample:
    """A few places of a scene, where methods are compared.

    Args:
        methods: Those that take part.
        halo: How far they look, in fine pixels, in whole coarse ones, at least three.
        places: How many places to take, at most.
    """

    methods: tuple[FusionMethod, ...]
    halo: int
    places: int

    def growth(self, inputs: FusionInputs) -> Delayed:
        """A lazy `Growth`."""
        pairs, bands = len(inputs.pairs), len(inputs.bands)
        if pairs == 1:
            rate = np.ones((len(self.methods), 1, bands), np.float32)
            return share(
                Growth(rate, np.zeros((1, bands), np.float32)), token=f"{rate.shape}"
            )
        others = _nearest_others(inputs)
        alone = tuple(method for method in self.methods if takes_bases(method))
        lags = tuple(
            float((inputs.pairs[other].date - pair.date) / np.timedelta64(1, "D"))
            for pair, other in zip(inputs.pairs, others, strict=True)
        )
        return self._scan(
            partial(_cross, alone, others, lags, self.halo),
            inputs,
            partial(_growth, tuple(takes_bases(method) for method in self.methods)),
            crossed_summaries_of(alone, inputs, others),
            token=f"{self} {others} {lags}",
        )

    def precision(self, inputs: FusionInputs, known: Delayed) -> Delayed:
        """A lazy `Precision`, from the members' summaries and a `Growth`."""
        return self._scan(
            partial(_compare, self.methods, inputs.lags, self.halo),
            inputs,
            partial(_precision, len(inputs.pairs)),
            known,
            token=f"{self} {inputs.lags}",
        )

    def _scan(
        self,
        function: Any,
        inputs: FusionInputs,
        combine: Any,
        shared: Delayed,
        *,
        token: str,
    ) -> Delayed:
        scale = inputs.scale or 1
        return reduce_tiles(
            partial(function, scale),
            inputs.rasters(),
            combine,
            halo=self.halo,
            tile=SIDE,
            step=scale,
            offset=inputs.offset,
            shared=shared,
            token=f"{function.func.__name__} {token} {scale}",
            most=self.places,
        )


class _Crossed(NamedTuple):
    """Errors at base dates, and coarse changes: from each base to another, and ahead."""

    error: Sums
    across: Sums
    ahead: Sums


# Functions of a scan stand in a module, so that they travel to other processes by name.
def _cross(
    methods: tuple[FusionMethod, ...],
    others: Sequence[int],
    lags: tuple[float, ...],
    halo: int,
    scale: int,
    arrays: dict[str, np.ndarray],
    summaries: tuple[Any, ...],
) -> _Crossed:
    """Predict base date `others[k]` from pair k, and compare."""
    tile = _tile_of(arrays, lags, scale)
    there = np.asarray(others)
    wanted = trimmed(tile.fine[there], halo)
    errors = []
    for method, summary in zip(methods, summaries, strict=True):
        found = from_bases(method, tile, tile.coarse_base[there], summary, halo)
        errors.append(powers(np.asarray(found.reflectance) - wanted))
    base = trimmed(tile.coarse_base, halo)
    across = base[there] - base
    ahead = trimmed(tile.coarse, halo)[None] - base
    shape = (-1, *base.shape[:2])
    return _Crossed(
        Sums(
            np.reshape([error.total for error in errors], shape),
            np.reshape([error.pixels for error in errors], shape),
        ),
        *(powers(cell_means(change, scale)) for change in (across, ahead)),
    )


def _growth(alone: tuple[bool, ...], parts: list[_Crossed]) -> Growth:
    """Error power over the power of the coarse change; 1 where there is no change."""
    error, across, ahead = (added(list(field)) for field in zip(*parts, strict=True))
    change = across.mean()
    known = np.isfinite(change) & (change > 0)
    found = error.mean() / np.where(known, change, np.nan)
    rate = np.ones((len(alone), *change.shape))
    rate[np.asarray(alone)] = np.where(np.isfinite(found), found, 1.0)
    power = ahead.mean()
    return Growth(
        rate.astype(np.float32),
        np.where(np.isfinite(power), power, 0.0).astype(np.float32),
    )


class _Compared(NamedTuple):
    """Differences of predictions, products of residuals, and coarse pixels to fit.

    Attributes:
        differences: Squared differences of predictions: (band, method, method).
        residuals: Products of coarse residuals, likewise.
        cells: Of base dates, C_k, the aggregated F_k and its neighbors' means at sides and
            corners: (pair, band, 4, cell).
    """

    differences: Sums
    residuals: Sums
    cells: Float[np.ndarray, "pair band 4 cell"]


def _compare(
    methods: tuple[FusionMethod, ...],
    lags: tuple[float, ...],
    halo: int,
    scale: int,
    arrays: dict[str, np.ndarray],
    known: tuple[Any, Growth],
) -> _Compared:
    """Predict with all methods, and compare."""
    tile = _tile_of(arrays, lags, scale)
    members, growth = known
    # Method by method: what is compiled for one base date serves the other scan too.
    found = predictions_of(methods, tile, members, halo)
    predictions, residuals = _merged(methods, halo, tile, found, growth)
    both = trimmed(tile.fine + 0.0 * tile.coarse_base, halo - scale)
    fine = cell_means(both, scale)
    near = _neighbor_means(fine)
    base = trimmed(tile.coarse_base + 0.0 * tile.fine, halo)
    cells = np.stack([cell_means(base, scale), fine[..., 1:-1, 1:-1], *near], axis=2)
    return _Compared(
        differences(np.asarray(predictions)),
        products(np.asarray(residuals)),
        cells.reshape(*cells.shape[:3], -1),
    )


@partial(jax.jit, static_argnums=(0, 1))
def _merged(
    methods: tuple[FusionMethod, ...],
    halo: int,
    tile: FusionTile,
    found: Any,
    growth: Growth,
) -> tuple[Any, Any]:
    """Predictions merged in time, and their coarse residuals."""
    nearby = nearby_change(tile, jnp.asarray(growth.power), halo)
    scale = tile.scale.value if tile.scale is not None else 1
    merged = merge_members(methods, found, jnp.asarray(growth.rate), nearby, scale)
    residuals = [
        coarse_residual(prediction, tile, nearby, halo)
        for prediction in merged.reflectance
    ]
    return merged.reflectance, jnp.stack(residuals)


def _precision(pairs: int, parts: list[_Compared]) -> Precision:
    difference = added([part.differences for part in parts]).mean()
    residual = added([part.residuals for part in parts]).mean()
    cells = np.concatenate([part.cells for part in parts], axis=-1).astype(np.float64)
    noise = [[coarse_noise(b[0], b[1:].T) for b in base] for base in cells]
    # It comes in twice: with C2, and with the mean of the bases.
    power = np.mean(noise, axis=0) * (1 + 1 / pairs)
    variance = error_powers(difference, residual, power)
    weight = weights(variance)
    return Precision(
        weight.T.astype(np.float32),
        np.where(np.isfinite(variance), variance, 0.0).T.astype(np.float32),
        gate(weight, residual, power).astype(np.float32),
    )


def _neighbor_means(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over the neighbors of coarse pixels, at their sides and at their corners."""

    def shifted(i: int, j: int) -> np.ndarray:
        rows, columns = cells.shape[-2:]
        return cells[..., i : rows - 2 + i, j : columns - 2 + j]

    sides = (shifted(0, 1) + shifted(1, 0) + shifted(1, 2) + shifted(2, 1)) / 4
    corners = (shifted(0, 0) + shifted(0, 2) + shifted(2, 0) + shifted(2, 2)) / 4
    return sides, corners


def _nearest_others(inputs: FusionInputs) -> tuple[int, ...]:
    """For each pair the number of the one nearest in time."""
    dates = [pair.date for pair in inputs.pairs]
    return tuple(
        min(
            (other for other in range(len(dates)) if other != number),
            key=lambda other: abs(dates[other] - date),
        )
        for number, date in enumerate(dates)
    )


def _tile_of(
    arrays: dict[str, np.ndarray], lags: tuple[float, ...], scale: int
) -> FusionTile:
    """The window of a scan as a tile of NumPy arrays, NaN where not finite."""
    arrays = {
        name: np.where(np.isfinite(image), image, np.float32(np.nan))
        for name, image in arrays.items()
    }
    fine, base = (
        np.stack([arrays[f"{kind}_{number}"] for number in range(len(lags))])
        for kind in ("fine", "coarse")
    )
    arrays_of = (fine, base, arrays["coarse"], np.asarray(lags, np.float32))
    return FusionTile(*arrays_of, Scale(scale))  # type: ignore[arg-type]
