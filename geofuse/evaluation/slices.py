"""Where is a method better? Class images by which the pixels of a case are scored apart.

    by_class        classes of the case's class map
    by_change       how much the ground changed since the nearest base date: deciles, 1 to 10
    by_edge         distance to the nearest edge of the reference: 0 on it, 1, 2, 3 (3 and
                    4), 5 (5 to 8), 9 (farther)
    by_lag          not pixels, but the rows of a table: days to the nearest base date

    compare(methods, test=cases, slices={"change": by_change, "edge": by_edge})

They are made of the reference, which is for scoring only: no method sees them. Group 0 of a
class map or of the deciles is where there is no class, or no change can be told.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
from scipy.ndimage import distance_transform_edt

from geofuse.errors import NothingFoundError, ParameterError
from geofuse.evaluation.apa import edge_strength
from geofuse.evaluation.means import SCORE_TILE
from geofuse.evaluation.quantiles import order_statistics
from geofuse.evaluation.reference import summarize
from geofuse.pairs import FusionCase
from geofuse.tiling import map_tiles, share

#: Distances to an edge, in pixels, at which a group begins.
EDGE_GROUPS = (0, 1, 2, 3, 5, 9)
#: Days to the nearest base date at which a group begins.
LAG_GROUPS = (0, 9, 17, 33, 65)

_DECILES = 10


def by_class(case: FusionCase) -> xr.DataArray:
    """The class map of a case, 0 where there is no class.

    Args:
        case: A case whose inputs have a class map.

    Raises:
        NothingFoundError: They have none.
    """
    labels = case.inputs.classes
    if labels is None:
        raise NothingFoundError(
            "expected inputs with a class map to score by class, found none; give "
            "FusionInputs classes=…, or leave out this slice"
        )
    known = labels.fillna(0) if np.issubdtype(labels.dtype, np.floating) else labels
    return known.astype(np.int32)


def by_change(case: FusionCase) -> xr.DataArray:
    """Deciles of the true change since the nearest base date, 1 for the least.

    The change of a pixel is the mean over the bands of |reference - fine base image|. Equal
    changes are of one decile, so that some may be empty.

    Args:
        case: A case; scanned twice.
    """
    lags = case.inputs.lags
    nearest = min(range(len(lags)), key=lambda number: (abs(lags[number]), number))
    base = case.inputs.pairs[nearest].fine
    (found,) = order_statistics(
        _change_series,
        (_cuts,),
        {"reference": case.reference, "base": base},
        halo=0,
        tile=SCORE_TILE,
    )
    template = _template(case.reference, "decile of change")
    return map_tiles(
        _change_groups,
        {"reference": case.reference, "base": base},
        template,
        halo=0,
        shared=share(found.values),
        token="deciles of change",
    )["group"]


def by_edge(case: FusionCase) -> xr.DataArray:
    """Distance of each pixel to the nearest edge of the reference, in groups.

    An edge is where at least half of the bands have an edge strength (Roberts) among their
    strongest tenth.

    Args:
        case: A case; its reference is scanned twice.
    """
    threshold = summarize(case.reference, scale=None, tile=SCORE_TILE).edge_threshold
    reach = EDGE_GROUPS[-1]
    template = _template(
        case.reference, "distance to the nearest edge, group begins at"
    )
    return map_tiles(
        partial(_edge_groups, reach),
        {"reference": case.reference},
        template,
        halo=reach + 1,
        shared=share(threshold),
        token=f"distance to edges {reach}",
    )["group"]


#: Class images by the name of the slice.
SLICES: dict[str, Callable[[FusionCase], xr.DataArray]] = {
    "class": by_class,
    "change": by_change,
    "edge": by_edge,
}


def by_lag(table: pd.DataFrame, groups: Sequence[float] = LAG_GROUPS) -> pd.DataFrame:
    """The table of a comparison with the group of each row's lag.

    Args:
        table: Rows with `lag`, days, signed.
        groups: Days, ascending, at which a group begins.

    Returns:
        The table, and `lag_group`: the days at which its group begins.

    Raises:
        ParameterError: The groups do not ascend from 0.

    >>> by_lag(pd.DataFrame({"lag": [-8.0, 16.0, 100.0]}))["lag_group"].tolist()
    [0, 9, 65]
    """
    starts = np.asarray(groups)
    if len(starts) == 0 or starts[0] != 0 or (np.diff(starts) <= 0).any():
        raise ParameterError(
            f"expected groups of lags that ascend from 0, found {tuple(groups)}"
        )
    place = np.searchsorted(starts, table["lag"].abs(), side="right") - 1
    return table.assign(lag_group=starts[place])


def _template(reference: xr.DataArray, meaning: str) -> xr.Dataset:
    """An image (y, x) of small numbers on the grid of the reference."""
    like = reference.isel(band=0, drop=True).drop_vars("time", errors="ignore")
    data = da.empty(like.shape, dtype="int16", chunks=-1)
    group = xr.DataArray(data, dims=like.dims, coords=like.coords)
    return xr.Dataset({"group": group.assign_attrs(long_name=meaning)})


# Functions of a scan stand in a module, so that they travel to other processes by name.
def _change_series(arrays: dict[str, np.ndarray]) -> np.ndarray:
    difference = np.abs(arrays["reference"] - arrays["base"]).astype(np.float32)
    total = np.zeros(difference.shape[1:], np.float32)
    for band in difference:
        total += band
    return total[None] / np.float32(len(difference))


def _cuts(count: int) -> tuple[int, ...]:
    """Ranks of the last value of each decile but the last."""
    if not count:
        return ()
    return tuple(-(-count * part // _DECILES) - 1 for part in range(1, _DECILES))


def _change_groups(arrays: dict[str, np.ndarray], cuts: Any) -> dict[str, np.ndarray]:
    change = _change_series(arrays)[0].astype(np.float64)
    groups = 1 + np.searchsorted(np.asarray(cuts), change, side="left")
    return {"group": np.where(np.isfinite(change), groups, 0).astype(np.int16)}


def _edge_groups(
    reach: int, arrays: dict[str, np.ndarray], threshold: Any
) -> dict[str, np.ndarray]:
    image = arrays["reference"].astype(np.float64)
    strong = edge_strength(image) >= np.asarray(threshold)[:, None, None]
    edges = 2 * strong.sum(axis=0) >= len(image)
    distance = np.full(edges.shape, float(reach))
    if edges.any():
        distance = distance_transform_edt(~edges)
    inner = distance[reach:-reach, reach:-reach]
    # Between two groups a distance such as 1.41 belongs to the nearer one.
    place = np.searchsorted(EDGE_GROUPS, inner, side="right") - 1
    return {"group": np.asarray(EDGE_GROUPS, np.int16)[place]}
