"""A score is a formula on the means of per-pixel statistics.

    RMSE = sqrt(mean of (p - r)^2)      statistics: (p - r)^2      formula: sqrt

So the parts of an image add up exactly, whatever the tiles; a score by class or region
is the same formula on the means over those pixels; and a raster of any size is scored
in one pass in which every pixel of both images is read once.

The pixels that count are those valid in all bands of both images. A statistic that
looks at a neighborhood (SSIM, edges) counts where the whole neighborhood is valid, and
belongs to the class of its own pixel.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from geofuse.errors import (
    BandMismatchError,
    GridMismatchError,
    MissingScaleError,
    ParameterError,
)
from geofuse.evaluation.reference import Summary, summarize, without_scan
from geofuse.pairs import check_image
from geofuse.rasters.grid import check_same_grid
from geofuse.tiling import reduce_tiles, share

#: Side of the tiles of a score, in pixels.
SCORE_TILE = 512
#: More classes than this are no classes.
MOST_GROUPS = 4096

#: Group -> metric by metric: name of the statistic -> sums and counts (2, band).
Sums = dict[int, list[dict[str, np.ndarray]]]


def _no_detail(summary: Summary, band: int) -> str:
    return ""


@dataclass(frozen=True)
class Metric:
    """A score: per-pixel statistics, and a formula on their means.

    Calling it scores one prediction with this metric alone:
    `RMSE(predicted, reference, by=classes)`.

    Args:
        name: How the score is called in the table.
        statistics: Takes the windows of the predicted and of the reference image (band,
            y, x), float64, NaN where a pixel does not count, and the summary; returns
            named maps (band, y, x) or (1, y, x) without the halo, NaN where undefined.
        formula: Takes the means of these maps by name (band,), NaN over no pixel, and
            the summary; returns the score of each band, or one for all bands.
        detail: Says for a band what the number depends on, such as the data range.
        halo: How far `statistics` looks around a pixel, in pixels.
        pooled: Whether the formula on the means over all bands is a score as well.
        needs_reference: Whether it needs numbers of the whole reference.
        needs_scale: Whether it needs the scale.
    """

    name: str
    statistics: Callable[[np.ndarray, np.ndarray, Summary], dict[str, np.ndarray]]
    formula: Callable[[Mapping[str, np.ndarray], Summary], np.ndarray]
    detail: Callable[[Summary, int], str] = _no_detail
    halo: int = 0
    pooled: bool = False
    needs_reference: bool = False
    needs_scale: bool = False

    def __call__(
        self,
        predicted: xr.DataArray,
        reference: xr.DataArray,
        *,
        scale: float | None = None,
        by: xr.DataArray | None = None,
        valid: xr.DataArray | None = None,
    ) -> pd.DataFrame:
        """Score a prediction with this metric; see `geofuse.evaluation.metrics.score`.

        Raises:
            MissingScaleError: The metric needs the scale.
        """
        if self.needs_scale and scale is None:
            raise MissingScaleError(
                f"expected the scale (coarse GSD / fine GSD) for {self.name!r}, found "
                "none; give scale=… or leave this metric out"
            )
        return measure((self,), predicted, reference, scale=scale, by=by, valid=valid)


def measure(
    metrics: Sequence[Metric],
    predicted: xr.DataArray,
    reference: xr.DataArray,
    *,
    scale: float | None = None,
    by: xr.DataArray | None = None,
    valid: xr.DataArray | None = None,
    tile: int = SCORE_TILE,
) -> pd.DataFrame:
    """Score a prediction with some metrics in one pass.

    Arguments, result and errors are those of `geofuse.evaluation.metrics.score`, except
    that a score that lacks the scale is NaN and says so in its `detail`.
    """
    rasters = _checked(predicted, reference, by, valid)
    if scale is not None and not scale >= 1:
        raise ParameterError(
            f"expected scale = coarse GSD / fine GSD of at least 1, found {scale}; 16 "
            "is usual for MODIS and Landsat"
        )
    metrics = tuple(metrics)
    if any(metric.needs_reference for metric in metrics):
        summary = summarize(rasters["reference"], scale=scale, tile=tile)
    else:
        summary = without_scan(rasters["reference"], scale=scale)
    halo = max((metric.halo for metric in metrics), default=0)
    sums = reduce_tiles(
        partial(_sums, metrics, halo),
        rasters,
        merged,
        halo=halo,
        tile=tile,
        shared=share(summary),
    ).compute()
    bands = [str(band) for band in rasters["reference"]["band"].values]
    rows = [
        {"metric": metric.name, "group": group, **row}
        for group, by_metric in sorted(sums.items())
        for metric, of_metric in zip(metrics, by_metric, strict=True)
        for row in _rows(metric, of_metric, summary, bands)
    ]
    columns = ["metric", "band", "group", "value", "pixels", "detail"]
    table = pd.DataFrame(rows, columns=columns)
    return table if by is not None else table.drop(columns="group")


def merged(parts: Sequence[Sums]) -> Sums:
    """Sums and counts of a whole from those of its parts."""
    total: Sums = {}
    for part in parts:
        for group, metrics in part.items():
            if group not in total:
                total[group] = metrics
                continue
            total[group] = [
                {name: before[name] + added[name] for name in before}
                for before, added in zip(total[group], metrics, strict=True)
            ]
    return total


def _sums(
    metrics: Sequence[Metric],
    halo: int,
    arrays: dict[str, np.ndarray],
    summary: Summary,
) -> Sums:
    """Sums and counts of all statistics over the pixels of a tile, by group."""
    predicted, reference = (
        arrays[name].astype(np.float64) for name in ("predicted", "reference")
    )
    both = np.isfinite(predicted) & np.isfinite(reference)
    valid = np.asarray(both.all(axis=0))
    if "valid" in arrays:
        valid &= arrays["valid"]
    predicted[:, ~valid] = reference[:, ~valid] = np.nan
    counted = _inner(valid, halo)
    members: dict[int, Any] = {0: slice(None)}
    if "by" in arrays:
        members = _members(_inner(arrays["by"], halo)[counted])
    sums: Sums = {group: [] for group in members}
    for metric in metrics:
        beyond = halo - metric.halo
        maps = metric.statistics(
            _inner(predicted, beyond), _inner(reference, beyond), summary
        )
        values = {name: image[:, counted] for name, image in maps.items()}
        for group, pixels in members.items():
            sums[group].append(
                {name: _sum_and_count(v[:, pixels]) for name, v in values.items()}
            )
    return sums


def _members(classes: np.ndarray) -> dict[int, np.ndarray]:
    """Which pixels belong to each class."""
    groups, starts = np.unique(np.sort(classes), return_index=True)
    if len(groups) > MOST_GROUPS:
        raise ParameterError(
            f"expected at most {MOST_GROUPS} classes to score by, found {len(groups)} "
            "in one tile; number a few ranges, for instance with numpy.digitize"
        )
    pixels = np.split(np.argsort(classes, kind="stable"), starts[1:])
    return {int(group): here for group, here in zip(groups, pixels, strict=False)}


def _sum_and_count(values: np.ndarray) -> np.ndarray:
    """Sum and number of the defined values of each band, (2, band)."""
    defined = ~np.isnan(values)
    return np.stack([np.where(defined, values, 0.0).sum(axis=-1), defined.sum(axis=-1)])


def _inner(image: np.ndarray, halo: int) -> np.ndarray:
    return image[..., halo:-halo, halo:-halo] if halo else image


def _rows(
    metric: Metric,
    sums: Mapping[str, np.ndarray],
    summary: Summary,
    bands: Sequence[str],
) -> list[dict[str, Any]]:
    """The rows of one metric: each band, their mean, and all bands as one."""
    counts = np.array([count for _, count in sums.values()]).min(axis=0)
    least = int(counts.min())
    score = _formula(metric, sums, summary)
    if score.ndim == 0:
        return [_row("all", score, least, metric.detail(summary, 0))]
    rows = [
        _row(band, score[i], int(counts[i]), metric.detail(summary, i))
        for i, band in enumerate(bands)
    ]
    rows.append(_row("mean", score.mean(), least, "mean of the bands"))
    if metric.pooled:
        pooled = {name: both.sum(axis=1, keepdims=True) for name, both in sums.items()}
        score = _formula(metric, pooled, summary)[0]
        rows.append(_row("all", score, least, "pixels of all bands pooled"))
    return rows


def _formula(
    metric: Metric, sums: Mapping[str, np.ndarray], summary: Summary
) -> np.ndarray:
    """The score from sums and counts; NaN where nothing was counted."""
    means = {
        name: total / np.where(count > 0, count, np.nan)
        for name, (total, count) in sums.items()
    }
    return np.asarray(metric.formula(means, summary), np.float64)


def _row(band: str, value: Any, pixels: int, detail: str) -> dict[str, Any]:
    return {"band": band, "value": float(value), "pixels": pixels, "detail": detail}


def _checked(
    predicted: xr.DataArray,
    reference: xr.DataArray,
    by: xr.DataArray | None,
    valid: xr.DataArray | None,
) -> dict[str, xr.DataArray]:
    """The images by name for the tiler, if grids, bands and types agree."""
    predicted = check_image(predicted, "predicted image")
    reference = check_image(reference, "reference")
    check_same_grid(predicted, reference, names=("predicted image", "reference"))
    found, wanted = (
        [str(band) for band in image["band"].values] for image in (predicted, reference)
    )
    if set(found) != set(wanted):
        raise BandMismatchError(
            f"expected the same bands, found {found} in the predicted image and "
            f"{wanted} in the reference; select or rename bands of one of them"
        )
    if found != wanted:
        predicted = predicted.isel(band=[found.index(band) for band in wanted])
    rasters = {"predicted": predicted, "reference": reference}
    for name, image, kinds, kind in (
        ("by", by, (np.integer, np.bool_), "whole numbers, one a class"),
        ("valid", valid, (np.bool_,), "bool, True where a pixel counts"),
    ):
        if image is None:
            continue
        if image.dims != ("y", "x"):
            raise GridMismatchError(
                f"expected {name!r} with dimensions (y, x), found {image.dims}; select "
                "one band, or reduce over the bands"
            )
        if not any(np.issubdtype(image.dtype, allowed) for allowed in kinds):
            raise ParameterError(
                f"expected {name!r} as {kind}, found {image.dtype}; convert it with "
                f"{name}.astype({'int' if name == 'by' else 'bool'})"
            )
        check_same_grid(image, reference, names=(repr(name), "reference"))
        rasters[name] = image
    return rasters
