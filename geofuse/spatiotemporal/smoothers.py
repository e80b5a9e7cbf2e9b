"""What every user tries first: lines and curves through a pixel's own fine images.

    TimeInterpolation   straight lines between the valid images
    HarmonicFit         a mean and waves of a year, by least squares
    Whittaker           a smooth curve: close to the images, with little bending

None of them looks at the coarse images or at another pixel, and none states a variance. A
method over a series that does not beat them has nothing to add there.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from typing_extensions import override

from geofuse.errors import ParameterError
from geofuse.spatiotemporal.series_method import (
    SeriesMethod,
    SeriesPrediction,
    SeriesTile,
)
from geofuse.spatiotemporal.time_lines import apart, between_valid, mean_of_valid

#: Days of a year.
YEAR = 365.25

#: Largest smoothness / step³ of `Whittaker`, so that float32 keeps three digits.
STIFFEST = 500.0


@dataclass(frozen=True)
class TimeInterpolation(SeriesMethod):
    """Straight lines in time between a pixel's valid fine images.

    Before the first valid image and after the last one, that image is held.
    """

    @override
    def predict_tile(self, tile: SeriesTile, summary: Any) -> SeriesPrediction:
        line = between_valid(tile.fine, tile.timeline.fine, tile.timeline.wanted)
        return _unstated(line)


@dataclass(frozen=True)
class HarmonicFit(SeriesMethod):
    """A mean and waves of a year through a pixel's valid fine images.

    y(t) = m + sum_k (a_k cos 2 pi k t / year + b_k sin 2 pi k t / year), by least squares
    with a penalty of `ridge` k² (a_k² + b_k²): a pixel with few images gets a flat curve
    and not a wild one.

    Args:
        harmonics: Number of waves, 1 to 4; 2 tells two crops a year.
        ridge: Weight of the penalty, in images, above 0.

    Raises:
        ParameterError: A field is out of range.

    Least squares of harmonics: G. J. Roerink et al. (2000), International Journal of
    Remote Sensing 21, 1911-1917 (HANTS, without its removal of outliers).
    """

    harmonics: int = 2
    ridge: float = 0.1

    def __post_init__(self) -> None:
        if not 1 <= self.harmonics <= 4 or self.harmonics != int(self.harmonics):
            raise ParameterError(
                f"expected 1 to 4 harmonics, found {self.harmonics}; 2 is usual"
            )
        _check_positive("ridge", self.ridge)

    @override
    def predict_tile(self, tile: SeriesTile, summary: Any) -> SeriesPrediction:
        first = tile.timeline.first
        known, wanted = (
            self._waves([day - first for day in days])
            for days in (tile.timeline.fine, tile.timeline.wanted)
        )
        mean, some = mean_of_valid(tile.fine)
        places = [(i, j) for i in range(known.shape[1]) for j in range(i + 1)]
        squares = np.stack([known[:, i] * known[:, j] for i, j in places], 1)

        def add(sums: Any, now: Any) -> tuple[Any, None]:
            image, wave, square = now
            valid = jnp.isfinite(image)
            off = jnp.where(valid, image - mean, 0.0)
            matrix, vector = sums
            return (
                [
                    total + jnp.where(valid, square[k], 0.0)
                    for k, total in enumerate(matrix)
                ],
                [total + apart(wave[k] * off) for k, total in enumerate(vector)],
            ), None

        # The mean has no penalty but for rounding: a pixel without images stays solvable.
        penalty = [
            1e-6,
            *(self.ridge * (k // 2 + 1) ** 2 for k in range(known.shape[1] - 1)),
        ]
        zeros = jnp.zeros_like(mean)
        start = (
            [zeros + (penalty[i] if i == j else 0.0) for i, j in places],
            [zeros] * known.shape[1],
        )
        images = (tile.fine, jnp.asarray(known), jnp.asarray(squares))
        (matrix, vector), _ = lax.scan(add, start, images)
        weights = _solved(dict(zip(places, matrix, strict=True)), vector)
        curve = jnp.broadcast_to(mean, (len(wanted), *mean.shape))
        for weight, values in zip(weights, wanted.T, strict=True):
            curve = curve + apart(weight[None] * _by_date(values))
        return _unstated(jnp.where(some[None], curve, jnp.nan))

    def _waves(self, days: Sequence[int]) -> np.ndarray:
        """1, cos, sin, cos 2, sin 2, … of each day: (date, wave)."""
        angle = 2 * np.pi * np.asarray(days, np.float64) / YEAR
        waves = [np.ones_like(angle)]
        for k in range(1, self.harmonics + 1):
            waves += [np.cos(k * angle), np.sin(k * angle)]
        return np.stack(waves, axis=1).astype(np.float32)


@dataclass(frozen=True)
class Whittaker(SeriesMethod):
    """A smooth curve through a pixel's valid fine images.

    Minimizes sum (y - z)² over the images plus `smoothness` times the integral of the
    squared second derivative, for z of straight pieces of `step` days.

    Args:
        smoothness: Weight of the bending, in days³, above 0, at most 500 step³.
        step: Days between the nodes of the curve, 1 to 64.

    Raises:
        ParameterError: A field is out of range.

    A pixel with one valid image gets that image. P. H. C. Eilers (2003): A perfect
    smoother. Analytical Chemistry 75, 3631-3636; nodes apart from the dates as in P. H. C.
    Eilers, B. D. Marx (1996), Statistical Science 11, 89-121, with splines of degree 1: so
    dates need not be evenly spaced, and float32 suffices.
    """

    smoothness: float = 1e3
    step: int = 8

    def __post_init__(self) -> None:
        _check_positive("smoothness", self.smoothness)
        if not 1 <= self.step <= 64 or self.step != int(self.step):
            raise ParameterError(
                f"expected a step of 1 to 64 days, found {self.step}; 8 is usual"
            )
        if self.smoothness > STIFFEST * self.step**3:
            raise ParameterError(
                f"expected a smoothness of at most {STIFFEST * self.step**3:g} for a step "
                f"of {self.step} days, found {self.smoothness:g}: float32 has too few "
                "digits for more; choose a longer step"
            )

    @override
    def predict_tile(self, tile: SeriesTile, summary: Any) -> SeriesPrediction:
        first, last = tile.timeline.first, tile.timeline.last
        nodes = max(math.ceil((last - first) / self.step) + 1, 3)
        mean, some = mean_of_valid(tile.fine)
        shape = tile.fine.shape[1:]

        def add(sums: Any, now: Any) -> tuple[Any, None]:
            diagonal, near, right = sums
            image, j, share = now
            valid = jnp.isfinite(image)
            off = jnp.where(valid, image - mean, 0.0)
            one = valid.astype(image.dtype)
            for k, part in ((j, 1.0 - share), (j + 1, share)):
                diagonal = diagonal.at[k].add(apart(one * (part * part)))
                right = right.at[k].add(apart(off * part))
            near = near.at[j].add(apart(one * (share * (1.0 - share))))
            return (diagonal, near, right), None

        zeros = jnp.zeros((nodes, *shape), tile.fine.dtype)
        places = self._places([day - first for day in tile.timeline.fine], nodes)
        images = (tile.fine, *map(jnp.asarray, places))
        (diagonal, near, right), _ = lax.scan(add, (zeros,) * 3, images)
        weight = self.smoothness / self.step**3
        bending = np.diff(np.eye(nodes), n=2, axis=0)
        # A trace of the slope too: with one image there is nothing else to tell it.
        penalty = weight * (bending.T @ bending) + 1e-5 * weight * _slopes(nodes)
        diagonal, near, far = (
            band
            + np.pad(np.diag(penalty, k), (0, k)).astype(np.float32)[
                :, None, None, None
            ]
            for k, band in enumerate((diagonal, near, zeros))
        )
        curve = _banded(diagonal, near, far, right)
        j, share = self._places([day - first for day in tile.timeline.wanted], nodes)
        rise = apart((curve[j + 1] - curve[j]) * _by_date(share))
        line = mean[None] + (curve[j] + rise)
        return _unstated(jnp.where(some[None], line, jnp.nan))

    def _places(self, days: Sequence[int], nodes: int) -> tuple[np.ndarray, np.ndarray]:
        """The node before each day, and how far the day is on the way to the next one."""
        j = np.minimum(np.asarray(days, np.int32) // self.step, nodes - 2)
        share = (np.asarray(days) - j * self.step) / self.step
        return j.astype(np.int32), share.astype(np.float32)


def _banded(diagonal: Any, near: Any, far: Any, right: Any) -> Any:
    """Solve A z = b for a symmetric A of five diagonals, by L D L'.

    Args:
        diagonal: A(t, t), by t along the first axis.
        near: A(t, t + 1).
        far: A(t, t + 2).
        right: b.
    """
    zeros = jnp.zeros_like(right[0])

    # Of the last two rows: pivot d, l1 = L(t + 1, t), l2 = L(t + 2, t), and L^-1 b.
    def down(carry: Any, row: Any) -> tuple[Any, Any]:
        (d1, near1, far1, b1), (d2, far2, b2) = carry
        a0, a1, a2, b = row
        pivot = a0 - apart(near1 * apart(near1 * d1)) - apart(far2 * apart(far2 * d2))
        l1 = (a1 - apart(near1 * apart(far1 * d1))) / pivot
        l2 = a2 / pivot
        b = b - apart(near1 * b1) - apart(far2 * b2)
        return ((pivot, l1, l2, b), (d1, far1, b1)), (pivot, l1, l2, b)

    start = ((zeros, zeros, zeros, zeros), (zeros, zeros, zeros))
    _, rows = lax.scan(down, start, (diagonal, near, far, right))

    def up(carry: Any, row: Any) -> tuple[Any, Any]:
        z1, z2 = carry
        pivot, l1, l2, b = row
        z = b / pivot - apart(l1 * z1) - apart(l2 * z2)
        return (z, z1), z

    return lax.scan(up, (zeros, zeros), rows, reverse=True)[1]


def _solved(matrix: dict[tuple[int, int], Any], vector: list[Any]) -> list[Any]:
    """Solve a small symmetric system per pixel, given its lower triangle, by L D L'."""
    size = len(vector)
    lower: dict[tuple[int, int], Any] = {}
    pivots: list[Any] = []
    for i in range(size):
        for j in range(i):
            value = matrix[i, j]
            for k in range(j):
                value = value - apart(lower[i, k] * apart(lower[j, k] * pivots[k]))
            lower[i, j] = value / pivots[j]
        value = matrix[i, i]
        for k in range(i):
            value = value - apart(lower[i, k] * apart(lower[i, k] * pivots[k]))
        pivots.append(value)
    result = list(vector)
    for i in range(size):
        for k in range(i):
            result[i] = result[i] - apart(lower[i, k] * result[k])
    result = [value / pivot for value, pivot in zip(result, pivots, strict=True)]
    for i in reversed(range(size)):
        for k in range(i + 1, size):
            result[i] = result[i] - apart(lower[k, i] * result[k])
    return result


def _slopes(nodes: int) -> np.ndarray:
    rising = np.diff(np.eye(nodes), axis=0)
    return np.asarray(rising.T @ rising)


def _by_date(values: np.ndarray) -> Any:
    """Numbers along the first of four axes."""
    return jnp.asarray(values)[:, None, None, None]


def _unstated(reflectance: Any) -> SeriesPrediction:
    return SeriesPrediction(reflectance, jnp.full_like(reflectance, jnp.nan))


def _check_positive(name: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise ParameterError(
            f"expected {name} above 0, found {value}; the default suits most series"
        )
