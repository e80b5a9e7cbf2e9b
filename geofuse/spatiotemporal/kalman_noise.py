"""How fine and coarse values move in a scene, estimated from the series itself.

One scan; sums in float64 over small windows of a fixed size, so that neither the tiling
nor the number of images matters.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from dask.delayed import Delayed
from jaxtyping import Float

from geofuse.pairs import day_of
from geofuse.spatiotemporal.coarse_grid import ROUNDING
from geofuse.spatiotemporal.fusion_series import FusionSeries
from geofuse.tiling import reduce_tiles

#: Side of the windows of the scan: a year of images of a window is small.
SCAN = 128

#: Coarse images up to so many apart are compared.
LAGS = 3


class MotionSummary(NamedTuple):
    """How the values of each band move; all but `level` and `unit` in units of `unit`.

    Attributes:
        level: Mean of the coarse images.
        unit: Root of the variance of a day's motion and of the coarse noise together.
        slope: Slope of the fine change on the coarse change.
        coarse_motion: Variance of the coarse motion in a day, q.
        coarse_noise: Variance of the noise of a coarse image, r.
        own_motion: Variance in a day of what the coarse images do not tell, u.
    """

    level: Float[np.ndarray, " band"]
    unit: Float[np.ndarray, " band"]
    slope: Float[np.ndarray, " band"]
    coarse_motion: Float[np.ndarray, " band"]
    coarse_noise: Float[np.ndarray, " band"]
    own_motion: Float[np.ndarray, " band"]


class Sums(NamedTuple):
    """Sums over pixels and dates, each by band; float64.

    `level`: of the coarse images, about `reference`, and their number.
    `apart`: by lag, number of differences, days and squares.
    `change`: x x, x y, y y, and their number, of coarse (x) and fine (y) change from one
    fine image to the next, over the days between. `missed`: the same of what the line in
    time between two fine dates misses at the one between them, over its variance.
    """

    level: np.ndarray
    apart: np.ndarray
    change: np.ndarray
    missed: np.ndarray


def summarize_motion(series: FusionSeries) -> Delayed:
    """Estimate how values move, lazily.

    Returns:
        A lazy `MotionSummary`, float32.
    """
    coarse = series.every_coarse()
    days = [_days(images) for images in (series.fine, coarse)]
    rasters = {f"fine_{k}": image for k, image in enumerate(series.fine)}
    rasters |= {f"coarse_{k}": image for k, image in enumerate(coarse)}
    scan = partial(_scan, days[0], days[1], series.scale or 1)
    return reduce_tiles(
        scan,
        rasters,
        _motion,
        tile=SCAN,
        step=series.scale or 1,
        offset=series.offset,
        token=f"motion {days} {series.scale}",
    )


def _scan(
    fine_days: Sequence[int],
    coarse_days: Sequence[int],
    scale: int,
    arrays: Mapping[str, np.ndarray],
    _: Any,
) -> Sums:
    """Sums of one window, which starts at the corner of a coarse pixel."""
    coarse = np.stack([arrays[f"coarse_{k}"] for k in range(len(coarse_days))])
    fine = np.stack([arrays[f"fine_{k}"] for k in range(len(fine_days))])
    # One fine pixel of each coarse pixel: the others say the same.
    cells = coarse[..., ::scale, ::scale].astype(np.float64)
    known = np.isfinite(cells)
    axes = (0, 2, 3)
    level = np.stack([np.where(known, cells, 0.0).sum(axes), known.sum(axes)])
    apart = []
    for lag in range(1, LAGS + 1):
        off = cells[lag:] - cells[:-lag]
        length = np.subtract(coarse_days[lag:], coarse_days[:-lag])
        valid = np.isfinite(off)
        days = np.where(valid, length[:, None, None, None], 0)
        squares = np.where(valid, off, 0.0) ** 2
        apart.append([valid.sum(axes), days.sum(axes), squares.sum(axes)])
    seen = _between(coarse, coarse_days, fine_days)
    bands = fine.shape[1]
    change, missed = np.zeros((2, 4, bands))
    for k in range(len(fine_days) - 1):
        length = fine_days[k + 1] - fine_days[k]
        x, y = (of[k + 1].astype(np.float64) - of[k] for of in (seen, fine))
        change += _products(x, y, length)
    for k in range(1, len(fine_days) - 1):
        before, after = np.diff(fine_days[k - 1 : k + 2])
        share = before / (before + after)
        x, y = (
            (of[k].astype(np.float64) - of[k - 1])
            - (of[k + 1].astype(np.float64) - of[k - 1]) * share
            for of in (seen, fine)
        )
        missed += _products(x, y, before * after / (before + after))
    return Sums(level, np.asarray(apart, np.float64), change, missed)


def _products(x: np.ndarray, y: np.ndarray, variance: float) -> np.ndarray:
    """Sums by band of x x, x y, y y over `variance`, and the number of pixels."""
    valid = np.isfinite(x) & np.isfinite(y)
    x, y = np.where(valid, x, 0.0), np.where(valid, y, 0.0)
    sums = [
        (one * other).sum((1, 2)) / variance for one, other in ((x, x), (x, y), (y, y))
    ]
    return np.stack([*sums, valid.sum((1, 2))])


def _between(
    images: np.ndarray, days: Sequence[int], wanted: Sequence[int]
) -> list[np.ndarray]:
    """Images of the wanted days, on the line between the nearest valid ones."""
    results = []
    for day in wanted:
        low, high, low_day, high_day = np.full((4, *images.shape[1:]), np.nan)
        for k, at in enumerate(days):
            valid = np.isfinite(images[k])
            if at <= day:
                low, low_day = (
                    np.where(valid, images[k], low),
                    np.where(valid, at, low_day),
                )
            if at >= day:
                new = valid & np.isnan(high)
                high = np.where(new, images[k], high)
                high_day = np.where(new, at, high_day)
        length = high_day - low_day
        inside = length > 0
        share = (day - low_day) / np.where(inside, length, 1.0)
        nearest = np.where(np.isfinite(low), low, high)
        results.append(np.where(inside, low + (high - low) * share, nearest))
    return results


def _motion(parts: list[Sums]) -> MotionSummary:
    """The estimates, from the sums of all windows."""
    total = Sums(*(np.sum(field, axis=0) for field in zip(*parts, strict=True)))
    with np.errstate(divide="ignore", invalid="ignore"):
        level = total.level[0] / total.level[1]
        level = np.where(np.isfinite(level), level, 0.0)
        q, r = _variogram(total.apart)
        xx, xy, yy, count = total.change
        slope = np.where(xx > 0, xy / np.where(xx > 0, xx, 1.0), 1.0)
        slope = np.where(count > 0, slope, 1.0)
        own = q.copy()
        for xx, xy, yy, count in (total.change, total.missed):  # the latter if there is
            found = (yy - 2 * slope * xy + slope**2 * xx) / np.maximum(count, 1)
            own = np.where(count > 0, np.maximum(found, 0.0), own)
    unit = np.sqrt(q + r + own)
    unit = np.maximum(unit, np.abs(level) * ROUNDING)
    unit = np.where(unit > 0, unit, 1.0)
    least = ROUNDING
    return MotionSummary(
        *(
            field.astype(np.float32)
            for field in (
                level,
                unit,
                slope,
                np.maximum(q / unit**2, least),
                np.maximum(r / unit**2, least),
                np.maximum(own / unit**2, least),
            )
        )
    )


def _variogram(apart: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Motion and noise by band: the line through the mean squares over the mean days apart."""
    count, days, squares = (apart[:, i] for i in range(3))
    some = np.maximum(count, 1)
    x, y = days / some, squares / some
    weight = count / np.maximum(count.sum(axis=0), 1)
    mean_x, mean_y = (weight * x).sum(axis=0), (weight * y).sum(axis=0)
    xx = (weight * (x - mean_x) ** 2).sum(axis=0)
    xy = (weight * (x - mean_x) * (y - mean_y)).sum(axis=0)
    # Neither is negative; all is motion where the line would say so, or nothing is known.
    proportional = mean_y / np.where(mean_x > 0, mean_x, 1.0)
    slope = np.where(xx > 0, xy / np.where(xx > 0, xx, 1.0), proportional)
    slope = np.clip(slope, 0.0, proportional)
    return slope, np.maximum(mean_y - slope * mean_x, 0.0) / 2


def _days(images: Sequence[Any]) -> list[int]:
    return [int(day_of(image).astype(np.int64)) for image in images]
