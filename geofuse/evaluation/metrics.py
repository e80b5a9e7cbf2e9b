"""How near is a predicted image to the reference?

    rmse, mae, bias   size of the error, in the unit of the images
    r                 do they go up and down together (Pearson)
    ssim, uiqi        do small windows look alike
    sam               angle between predicted and true spectrum, in radians
    ergas             relative error of all bands, in percent of their means
    edge, lbp         too smooth (negative) or too sharp (positive)

Nothing is clipped, and only pixels valid in all bands of both images count. Published
tables often differ because SSIM's data range, ERGAS's ratio or the mask differ: so the
first two stand in the table, and the third is this rule.

References:
    sam: Yuhas et al. (1992), Summaries of the third JPL airborne geoscience workshop.
    ergas: Wald (2000), Third conference Fusion of Earth Data, 99-103.
    The others: `geofuse.evaluation.ssim`, `geofuse.evaluation.apa`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from geofuse.errors import (
    MissingScaleError,
    ParameterError,
    UnknownNameError,
    did_you_mean,
)
from geofuse.evaluation.apa import TOLERANCE, edge_difference, pattern_difference
from geofuse.evaluation.means import SCORE_TILE, measure
from geofuse.evaluation.means import Metric as Metric
from geofuse.evaluation.reference import Summary
from geofuse.evaluation.ssim import SSIM_HALO, UIQI_HALO, ssim_map, uiqi_map

Maps = dict[str, np.ndarray]
Means = Mapping[str, np.ndarray]


def score(
    predicted: xr.DataArray,
    reference: xr.DataArray,
    *,
    metrics: Sequence[Metric | str] | None = None,
    scale: float | None = None,
    by: xr.DataArray | None = None,
    valid: xr.DataArray | None = None,
    tile: int = SCORE_TILE,
) -> pd.DataFrame:
    """Score a predicted image against the reference, as one tidy table.

    Both images may be lazy and of any size: tiles are read, scored and forgotten. The
    reference is scanned twice beforehand where a metric needs its range or its edges.

    Args:
        predicted: Image (band, y, x), NaN where invalid.
        reference: The true image, on the same grid, of the same bands in any order.
        metrics: Metrics or their names; None for all of `METRICS`.
        scale: Coarse GSD / fine GSD, which ERGAS needs.
        by: Class image (y, x) of whole numbers: each class is scored by itself.
        valid: Bool image (y, x): only where it is True a pixel counts. For methods to
            be compared give the pixels that are valid in all of them.
        tile: Side of the tiles in pixels; changes nothing but memory and time.

    Returns:
        Columns `metric`, `band`, `group` (only with `by`), `value`, `pixels` (number of
        pixels that counted; the least of the bands where bands are joined) and `detail`
        (data range, ratio, threshold, or why a score is missing). `band` is a band's
        name, 'mean' for the mean over the bands, or 'all' for one number of all bands.
        A score is NaN where no pixel counts or where it is not defined: r of a constant
        image, SSIM with a data range of 0, SAM of one band, ERGAS without `scale` or
        where the mean of a band is 0.

    Raises:
        GridMismatchError: Grids differ, or dimensions are not as above.
        CRSMismatchError: CRS differ.
        BandMismatchError: Bands differ.
        MissingScaleError: ERGAS was asked for by name, without `scale`.
        ParameterError: `scale`, `tile` or a type is not as above; too many classes.
        UnknownNameError: There is no metric of that name.

    >>> import numpy as np, xarray as xr
    >>> coords = {"band": ["red"], "y": [1.5, 0.5], "x": [0.5, 1.5]}
    >>> true = xr.DataArray([[[0.1, 0.2], [0.3, np.nan]]], coords, ("band", "y", "x"))
    >>> score(true + 0.02, true, metrics=["rmse"]).round(4)[["band", "value", "pixels"]]
       band  value  pixels
    0   red   0.02       3
    1  mean   0.02       3
    2   all   0.02       3
    """
    chosen = (
        list(METRICS.values()) if metrics is None else [metric_of(m) for m in metrics]
    )
    if not chosen:
        raise ParameterError(
            f"expected at least one metric, found none; known: {', '.join(METRICS)}"
        )
    if metrics is not None and scale is None:
        for metric in chosen:
            if metric.needs_scale:
                raise MissingScaleError(
                    f"expected the scale (coarse GSD / fine GSD) for {metric.name!r}, "
                    "found none; give scale=… or leave this metric out"
                )
    return measure(
        chosen, predicted, reference, scale=scale, by=by, valid=valid, tile=tile
    )


def metric_of(metric: Metric | str) -> Metric:
    """The metric of that name; a metric is itself.

    Args:
        metric: A metric or its name.

    Raises:
        UnknownNameError: There is no metric of that name.
    """
    if isinstance(metric, Metric):
        return metric
    if metric not in METRICS:
        raise UnknownNameError(
            f"expected the name of a metric, found {metric!r}; "
            f"{did_you_mean(metric, METRICS)}"
        )
    return METRICS[metric]


def _mean(means: Means, summary: Summary) -> np.ndarray:
    """The formula of a score that is the mean of its one statistic."""
    (mean,) = means.values()
    return mean


def _squared(predicted: np.ndarray, reference: np.ndarray, summary: Summary) -> Maps:
    return {"squared": (predicted - reference) ** 2}


def _root(means: Means, summary: Summary) -> np.ndarray:
    return np.sqrt(means["squared"])


def _absolute(predicted: np.ndarray, reference: np.ndarray, summary: Summary) -> Maps:
    return {"absolute": np.abs(predicted - reference)}


def _error(predicted: np.ndarray, reference: np.ndarray, summary: Summary) -> Maps:
    return {"error": predicted - reference}


def _products(predicted: np.ndarray, reference: np.ndarray, summary: Summary) -> Maps:
    # From the middle of the range: kelvins would lose digits in the squares.
    middle = summary.middle[:, None, None]
    p, r = predicted - middle, reference - middle
    return {"p": p, "r": r, "pp": p * p, "pr": p * r, "rr": r * r}


def _correlation(means: Means, summary: Summary) -> np.ndarray:
    m_p, m_r = means["p"], means["r"]
    pp, rr = means["pp"] - m_p**2, means["rr"] - m_r**2
    # Variances below this are rounding: the image is constant, and r is not defined.
    for variance, mean, square in ((pp, m_p, means["pp"]), (rr, m_r, means["rr"])):
        level = np.maximum((mean + summary.middle) ** 2, square)
        variance[variance <= 1e-12 * level] = np.nan
    return (means["pr"] - m_p * m_r) / np.sqrt(pp * rr)


def _spectral_angle(
    predicted: np.ndarray, reference: np.ndarray, summary: Summary
) -> Maps:
    if len(reference) < 2:
        return {"angle": np.full_like(reference, np.nan)}
    p_length, r_length = (np.linalg.norm(v, axis=0) for v in (predicted, reference))
    zero = (p_length == 0) | (r_length == 0)
    p, r = (
        image / np.where(zero, np.nan, length)
        for image, length in ((predicted, p_length), (reference, r_length))
    )
    # The angle of arccos(<p, r>), but exact for small angles too (Kahan).
    half = np.arctan2(np.linalg.norm(p - r, axis=0), np.linalg.norm(p + r, axis=0))
    return {"angle": 2 * half[None]}


def _angle(means: Means, summary: Summary) -> np.ndarray:
    return np.asarray(means["angle"].mean())


def _angle_detail(summary: Summary, band: int) -> str:
    if len(summary.middle) < 2:
        return "left out: needs two bands or more"
    return "radians"


def _squared_and_level(
    predicted: np.ndarray, reference: np.ndarray, summary: Summary
) -> Maps:
    return {"squared": (predicted - reference) ** 2, "level": reference}


def _relative_error(means: Means, summary: Summary) -> np.ndarray:
    if summary.scale is None:
        return np.array(np.nan)
    level = np.where(means["level"] == 0, np.nan, means["level"])
    relative = np.mean(means["squared"] / level**2)
    return np.asarray(100 / summary.scale * np.sqrt(relative))


def _ratio_detail(summary: Summary, band: int) -> str:
    if summary.scale is None:
        return "left out: needs the scale (coarse GSD / fine GSD)"
    return f"percent, h/l = 1/{summary.scale:g}"


def _similarity(predicted: np.ndarray, reference: np.ndarray, summary: Summary) -> Maps:
    return {"ssim": ssim_map(predicted, reference, data_range=summary.data_range)}


def _range_detail(summary: Summary, band: int) -> str:
    return f"L = {summary.data_range[band]:.6g}, p99.9 - p0.1 of the reference"


def _similarity_of_one(
    predicted: np.ndarray, reference: np.ndarray, summary: Summary
) -> Maps:
    return {"ssim": ssim_map(predicted, reference, data_range=np.ones(len(reference)))}


def _one_detail(summary: Summary, band: int) -> str:
    return "L = 1, for comparison with tables of reflectance"


def _quality(predicted: np.ndarray, reference: np.ndarray, summary: Summary) -> Maps:
    return {"quality": uiqi_map(predicted, reference)}


def _edges(predicted: np.ndarray, reference: np.ndarray, summary: Summary) -> Maps:
    threshold = summary.edge_threshold
    return {"edge": edge_difference(predicted, reference, threshold=threshold)}


def _edges_detail(summary: Summary, band: int) -> str:
    return f"reference edges >= {summary.edge_threshold[band]:.6g}, reflectance"


def _patterns(predicted: np.ndarray, reference: np.ndarray, summary: Summary) -> Maps:
    return {"pattern": pattern_difference(predicted, reference)}


def _patterns_detail(summary: Summary, band: int) -> str:
    return f"differences > {TOLERANCE:g}, reflectance"


RMSE = Metric("rmse", _squared, _root, pooled=True)
MAE = Metric("mae", _absolute, _mean)
BIAS = Metric("bias", _error, _mean)
R = Metric("r", _products, _correlation, needs_reference=True)
SSIM = Metric(
    "ssim", _similarity, _mean, _range_detail, halo=SSIM_HALO, needs_reference=True
)
SSIM_UNIT = Metric("ssim_unit", _similarity_of_one, _mean, _one_detail, halo=SSIM_HALO)
UIQI = Metric("uiqi", _quality, _mean, halo=UIQI_HALO)
SAM = Metric("sam", _spectral_angle, _angle, _angle_detail)
ERGAS = Metric(
    "ergas", _squared_and_level, _relative_error, _ratio_detail, needs_scale=True
)
EDGE = Metric("edge", _edges, _mean, _edges_detail, halo=1, needs_reference=True)
LBP = Metric("lbp", _patterns, _mean, _patterns_detail, halo=1)

#: All metrics by name, in the order of the table.
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        *(RMSE, MAE, BIAS, R, SSIM, SSIM_UNIT, UIQI),
        *(SAM, ERGAS, EDGE, LBP),
    )
}
