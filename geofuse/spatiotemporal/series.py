"""A whole series: every coarse date predicted, or the gaps of the fine images filled.

    coarse    C  C  C  C  C  C  C         the days of the product
    fine      F        F        F         with clouds
    product   F* P  P  F* P  P  F*        P predicted; F* as measured, its holes predicted

Two kinds of methods do it. A `FusionMethod` predicts each date from a few pairs, chosen by
`choose_pairs`; a `SeriesMethod` (`Kalman`, or a curve through the fine images) looks at all
dates at once. With both, a pixel that was measured is given as measured, bit for bit.
"""

from collections.abc import Sequence
from typing import Any

import dask.array as da
import jax.numpy as jnp
import numpy as np
import xarray as xr
from dask.base import compute

from geofuse.errors import TooFewPairsError
from geofuse.pairs import FusionInputs, Pair
from geofuse.spatiotemporal.fusion_series import FusionSeries
from geofuse.spatiotemporal.kalman import Kalman
from geofuse.spatiotemporal.method import FusionMethod
from geofuse.spatiotemporal.pair_choice import choose_pairs
from geofuse.spatiotemporal.series_method import (
    SERIES_OUTPUTS,
    SeriesMethod,
    series_dataset,
    settled,
)
from geofuse.tiling import map_tiles, reduce_tiles


def predict_series(
    pairs: Sequence[Pair],
    coarse_stack: xr.DataArray | Sequence[xr.DataArray],
    *,
    method: FusionMethod | SeriesMethod | None = None,
    fine: Sequence[xr.DataArray] = (),
    only_gaps: bool = False,
    valid_shares: Sequence[float] | None = None,
    most_pairs: int = 4,
    scale: int | None = None,
    offset: tuple[int, int] | None = None,
    tile: int | None = None,
) -> xr.Dataset:
    """Predict the fine image of every coarse date, or fill the gaps of the fine images.

    Args:
        pairs: Fine and coarse images of one day each, in any order; clouds are NaN.
        coarse_stack: Coarse images (time, band, y, x) on the grid of the fine ones, or a
            list of images with a scalar `time`; in any order.
        method: A method for one date, which predicts each from the pairs that
            `choose_pairs` gives, or a method over the whole series; by default `Kalman()`.
        fine: More fine images, of days without a coarse one: methods over the series look
            at them, and fill their gaps. Methods for one date cannot.
        only_gaps: Give the days of the fine images alone, with their gaps filled.
        valid_shares: Valid share of the fine image of each pair, in the order of `pairs`,
            as `valid_shares` gives them; None chooses pairs by their dates alone.
        most_pairs: Most pairs that a method for one date is given, at least 2.
        scale: Coarse GSD / fine GSD; by default what `align` noted.
        offset: Row and column of the first corner of a coarse pixel, likewise.
        tile: Side of the tiles in fine pixels; None chooses. The result does not depend
            on it.

    Returns:
        A lazy cube by date: `reflectance` and `variance` (time, band, y, x), float32, and
        `quality` (time, y, x): 0 missing, 1 measured, 2 predicted in a band or more.
        `variance` is NaN where measured, and where the method states none. Along `time`,
        `base_dates` names the fine images that served, and `note` what was fallen back
        to: pairs of one side only; too few pairs, so that nothing is predicted.

    Raises:
        TooFewPairsError: There is no pair, or no date has as many as the method needs.
        DateMismatchError: An image has no date, or a date comes twice.
        GridMismatchError: Grids differ.
        CRSMismatchError: CRS differ.
        BandMismatchError: Bands differ.
        MissingScaleError: The method needs the scale, and it is not known.
        ParameterError: A value is out of range.
    """
    series = FusionSeries(pairs, coarse_stack, fine, scale, offset)
    chosen: FusionMethod | SeriesMethod = Kalman() if method is None else method
    dates = series.fine_dates if only_gaps else series.dates
    if isinstance(chosen, SeriesMethod):
        product = chosen.predict(series, dates, tile=tile)
        bases = [", ".join(map(str, series.fine_dates))] * len(dates)
        notes = [chosen.notes(series)] * len(dates)
    else:
        shares = None
        if valid_shares is not None:
            by_date = sorted(range(len(pairs)), key=lambda k: pairs[k].date)
            shares = [float(valid_shares[k]) for k in by_date]
        product, bases, notes = _date_by_date(
            chosen, series, dates, shares, most_pairs, tile
        )
    product = product.assign_coords(
        base_dates=("time", np.array(bases, dtype=str)),
        note=("time", np.array(notes, dtype=str)),
    )
    return product.assign_attrs(method=repr(chosen))


def valid_shares(images: Sequence[Pair] | Sequence[xr.DataArray]) -> tuple[float, ...]:
    """Share of the pixels of each fine image that are valid in all bands.

    Reads every image once.

    Args:
        images: Pairs, of which the fine images count, or images.

    Raises:
        GridMismatchError: An image has no y and x.
    """
    fine = [image.fine if isinstance(image, Pair) else image for image in images]
    scans = [
        reduce_tiles(_valid_pixels, {"fine": image}, sum, token="valid pixels")
        for image in fine
    ]
    counts = compute(*scans)
    return tuple(
        float(count / (image.sizes["y"] * image.sizes["x"]))
        for count, image in zip(counts, fine, strict=True)
    )


def _valid_pixels(arrays: dict[str, np.ndarray], _: Any) -> int:
    return int(np.isfinite(arrays["fine"]).all(axis=0).sum())


def _date_by_date(
    method: FusionMethod,
    series: FusionSeries,
    dates: Sequence[np.datetime64],
    shares: Sequence[float] | None,
    most: int,
    tile: int | None,
) -> tuple[xr.Dataset, list[str], list[str]]:
    """Predict each date from its pairs; what served, and what was fallen back to."""
    coarse = dict(zip(series.dates, series.coarse, strict=True))
    coarse |= {pair.date: pair.coarse for pair in series.pairs}
    fine = dict(zip(series.fine_dates, series.fine, strict=True))
    whole = {
        pair.date
        for pair, share in zip(series.pairs, shares or (), strict=shares is not None)
        if share == 1.0
    }
    settled_dates, bases, notes = [], [], []
    for day in dates:
        base: tuple[int, ...] = ()
        if day in coarse and day not in whole:
            lags = [
                float((day - p.date) / np.timedelta64(1, "D")) for p in series.pairs
            ]
            base = choose_pairs(lags, shares, needed=method.pairs_needed, most=most)
        enough = len(base) >= method.pairs_needed
        inputs = None
        if enough:
            served = [series.pairs[k] for k in base]
            inputs = FusionInputs(served, coarse[day], series.scale, series.offset)
            method.check(inputs)
        bases.append(", ".join(str(series.pairs[k].date) for k in base if enough))
        notes.append(
            _note(day, [series.pairs[k].date for k in base], enough, whole, coarse)
        )
        settled_dates.append(
            _one_date(
                method, inputs, fine.get(day), series, 512 if tile is None else tile
            )
        )
    if not any(bases) and not all(day in whole for day in dates):
        raise TooFewPairsError(
            f"expected at least {method.pairs_needed} pairs of other days for {method}, "
            f"found fewer for every date; add pairs, choose a method that needs fewer, or "
            "one over the whole series such as Kalman()"
        )
    variables = {}
    for name, (has_bands, _, _) in SERIES_OUTPUTS.items():
        stack = da.stack([one[name].data for one in settled_dates])
        dims = ("time", "band", "y", "x") if has_bands else ("time", "y", "x")
        variables[name] = xr.DataArray(stack, dims=dims)
    return series_dataset(variables, series, dates), bases, notes


def _note(
    day: np.datetime64,
    bases: Sequence[np.datetime64],
    enough: bool,
    whole: set[np.datetime64],
    coarse: dict[np.datetime64, xr.DataArray],
) -> str:
    if day in whole:
        return "measured everywhere"
    if day not in coarse:
        return "no coarse image: gaps not filled"
    if not enough:
        return "too few pairs: not predicted"
    if all(base < day for base in bases):
        return "no pair after the date"
    if all(base > day for base in bases):
        return "no pair before the date"
    return ""


def _one_date(
    method: FusionMethod,
    inputs: FusionInputs | None,
    fine: xr.DataArray | None,
    series: FusionSeries,
    tile: int,
) -> xr.Dataset:
    """One date's variables: what was measured, and the prediction where it was not."""
    like = series.fine[0]
    template = {}
    for name, (has_bands, dtype, _) in SERIES_OUTPUTS.items():
        shape = like.shape if has_bands else like.shape[1:]
        dims = ("band", "y", "x") if has_bands else ("y", "x")
        template[name] = xr.DataArray(
            da.empty(shape, dtype=dtype, chunks=-1), dims=dims
        )
    rasters = {} if fine is None else {"fine": fine}
    on_coarse_grid = method.coarse_halo is not None
    step, offset = 1, (0, 0)
    if inputs is not None:
        product = method.predict(inputs, tile=tile)
        rasters |= {str(name): image for name, image in product.data_vars.items()}
        if on_coarse_grid and inputs.scale:  # the tiles of the prediction, one to one
            step, offset = inputs.scale, inputs.offset
    if not rasters:  # neither measured nor predicted: any image tells the size
        rasters["shape"] = like
    return map_tiles(
        _settle,
        rasters,
        xr.Dataset(template),
        halo=0,
        tile=tile,
        step=step,
        offset=offset,
        token="settle",
    )


def _settle(arrays: dict[str, np.ndarray], _: Any) -> dict[str, Any]:
    some = next(iter(arrays.values()))
    nothing = np.full(some.shape, np.nan, np.float32)
    predicted = arrays.get("reflectance", nothing)
    variance = arrays.get("aleatoric", nothing) + arrays.get("epistemic", nothing)
    fine = arrays.get("fine", nothing)
    return settled(*(jnp.asarray(x) for x in (fine, predicted, variance)))
