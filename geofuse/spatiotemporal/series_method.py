"""What a method over a whole series is: it sees all dates of a place at once.

    summarize(series)            one series -> a few numbers
    predict_tile(tile, summary)  one tile   -> the fine images there, of all wanted dates

A `FusionMethod` predicts one date from a few pairs; these look at everything that was
measured before and after. The same laws hold: nothing is computed before it is asked for,
and tile size never changes the result. A pixel that was measured is given as measured, bit
for bit.
"""

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import dask.array as da
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from dask.delayed import Delayed
from jaxtyping import Array, Float

from geofuse.errors import TooFewPairsError
from geofuse.spatiotemporal.fusion_series import FusionSeries
from geofuse.spatiotemporal.method import Scale, no_summary, trimmed
from geofuse.tiling import map_tiles

#: Bytes of images that a tile may take where the tile is chosen by itself.
TILE_BYTES = 128 * 2**20

MISSING, MEASURED, PREDICTED = 0, 1, 2

#: Variables of a series: name -> (has bands, type, meaning).
SERIES_OUTPUTS: dict[str, tuple[bool, str, str]] = {
    "reflectance": (True, "float32", "fine image, measured or predicted"),
    "variance": (True, "float32", "total variance of the prediction; NaN if measured"),
    "quality": (False, "uint8", "0 missing, 1 measured, 2 predicted in a band"),
}


@jax.tree_util.register_static
@dataclass(frozen=True)
class Timeline:
    """Days since 1970-01-01 of a series, known when jit compiles.

    Attributes:
        fine: Of the fine images, in order.
        coarse: Of the coarse images, in order; none where a method does not look at them.
        wanted: Of the images to predict, in order.
        first: First day of the whole series.
        last: Last day of the whole series.
    """

    fine: tuple[int, ...]
    coarse: tuple[int, ...]
    wanted: tuple[int, ...]
    first: int
    last: int


class SeriesTile(NamedTuple):
    """All images of one tile and its halo; NaN where invalid and outside the image.

    Attributes:
        fine: Fine images by date.
        coarse: Coarse images by date, on the fine grid.
        timeline: Their days, and those wanted.
        scale: Coarse GSD / fine GSD, where known and looked at.
    """

    fine: Float[Array, "date band y x"]
    coarse: Float[Array, "day band y x"]
    timeline: Timeline
    scale: Scale | None = None


class SeriesPrediction(NamedTuple):
    """The fine images of one tile, without its halo.

    Attributes:
        reflectance: Predicted fine image of each wanted date.
        variance: Its total variance, squared units; NaN if not stated.
    """

    reflectance: Float[Array, "wanted band y x"]
    variance: Float[Array, "wanted band y x"]


class SeriesMethod(abc.ABC):
    """Estimates the fine images of many dates at once.

    A concrete method is a frozen dataclass, as a `FusionMethod` is.
    """

    #: Whether predictions state a variance.
    states_uncertainty: ClassVar[bool] = False
    #: Whether the coarse images are looked at.
    uses_coarse: ClassVar[bool] = False
    #: Fewest fine images that the method works with.
    fine_needed: ClassVar[int] = 1
    #: How far it looks on the coarse grid, in coarse pixels, where the scale is known.
    coarse_halo: ClassVar[int] = 0

    def summarize(self, series: FusionSeries) -> Delayed:
        """Reduce a series, lazily, to the few numbers that `predict_tile` needs."""
        return no_summary()

    @abc.abstractmethod
    def predict_tile(self, tile: SeriesTile, summary: Any) -> SeriesPrediction:
        """Predict one tile, without its halo of `coarse_halo` coarse pixels. Pure."""

    def notes(self, series: FusionSeries) -> str:
        """What the method falls back to for want of images; empty if nothing."""
        return ""

    def predict(
        self,
        series: FusionSeries,
        dates: Sequence[np.datetime64],
        *,
        tile: int | None = None,
    ) -> xr.Dataset:
        """Predict the fine images of some dates of a series, lazily.

        Args:
            series: The images.
            dates: Days wanted, out of those of the series, in order.
            tile: Side of the tiles in fine pixels; None chooses one by the number of
                images, so that they take about 128 MB. The result does not depend on it.

        Returns:
            `reflectance` and `variance` (time, band, y, x), `quality` (time, y, x). Where
            a pixel was measured it is given as measured.

        Raises:
            TooFewPairsError: There are fewer fine images than the method needs.
            ParameterError: `tile` is not positive.
        """
        if len(series.fine) < self.fine_needed:
            raise TooFewPairsError(
                f"expected at least {self.fine_needed} fine images for {self}, found "
                f"{len(series.fine)}; add one of another date"
            )
        coarse = series.every_coarse() if self.uses_coarse else ()
        scale = series.scale if self.coarse_halo and self.uses_coarse else None
        days = [_number(day) for day in (*series.fine_dates, *series.dates)]
        timeline = Timeline(
            fine=tuple(map(_number, series.fine_dates)),
            coarse=tuple(_number(image["time"].values) for image in coarse),
            wanted=tuple(map(_number, dates)),
            first=min(days),
            last=max(days),
        )
        rasters = {f"fine_{k}": image for k, image in enumerate(series.fine)}
        rasters |= {f"coarse_{k}": image for k, image in enumerate(coarse)}
        run = partial(_run, self, timeline, None if scale is None else Scale(scale))
        return map_tiles(
            run,
            rasters,
            self._template(series, dates),
            halo=self.coarse_halo * scale if scale else 0,
            tile=_tile_for(series, len(rasters) + len(dates)) if tile is None else tile,
            step=scale or 1,
            offset=series.offset if scale else (0, 0),
            shared=self.summarize(series),
            token=f"{self!r} {timeline} {scale}",
        )

    def _template(
        self, series: FusionSeries, dates: Sequence[np.datetime64]
    ) -> xr.Dataset:
        fine = series.fine[0]
        variables = {}
        for name, (has_bands, dtype, _) in SERIES_OUTPUTS.items():
            lead = (len(dates), *fine.shape[: int(has_bands)])
            variables[name] = xr.DataArray(
                da.empty((*lead, *fine.shape[1:]), dtype=dtype, chunks=-1),
                dims=("time", "band", "y", "x") if has_bands else ("time", "y", "x"),
            )
        return series_dataset(variables, series, dates)


def series_dataset(
    variables: dict[str, xr.DataArray],
    series: FusionSeries,
    dates: Sequence[np.datetime64],
) -> xr.Dataset:
    """Variables of a series with the coordinates of its images and their meanings."""
    fine = series.fine[0]
    coords = {name: fine.coords[name] for name in ("band", "y", "x")}
    if "spatial_ref" in fine.coords:
        coords["spatial_ref"] = fine.coords["spatial_ref"]
    coords["time"] = xr.DataArray(np.array(dates, "datetime64[ns]"), dims="time")
    result = xr.Dataset(variables, coords=coords)
    for name, image in result.data_vars.items():
        image.attrs = {
            "long_name": SERIES_OUTPUTS[str(name)][2],
            "grid_mapping": "spatial_ref",
        }
    return result


def settled(fine: Any, predicted: Any, variance: Any) -> dict[str, Any]:
    """What was measured as measured, the rest as predicted, and which is which.

    Args:
        fine: Measured images (…, band, y, x), NaN where invalid.
        predicted: Predicted images, likewise.
        variance: Variance of the prediction.

    Returns:
        `reflectance`, `variance` and `quality` (…, y, x) by name.
    """
    measured = jnp.isfinite(fine)
    value = jnp.where(measured, fine, predicted)
    known = jnp.isfinite(value)
    quality = jnp.where(measured.all(axis=-3), MEASURED, PREDICTED)
    return {
        "reflectance": jnp.where(known, value, jnp.nan),
        "variance": jnp.where(known & ~measured, variance, jnp.nan),
        "quality": jnp.where(known.all(axis=-3), quality, MISSING).astype(jnp.uint8),
    }


def _run(
    method: SeriesMethod,
    timeline: Timeline,
    scale: Scale | None,
    arrays: dict[str, np.ndarray],
    summary: Any,
) -> dict[str, Any]:
    """The door: named NumPy windows in, named arrays of the tile out."""
    fine = np.stack([arrays[f"fine_{k}"] for k in range(len(timeline.fine))])
    coarse = [arrays[f"coarse_{k}"] for k in range(len(timeline.coarse))]
    empty = np.empty((0, *fine.shape[1:]), np.float32)
    tile = SeriesTile(
        jnp.asarray(fine),
        jnp.asarray(np.stack(coarse) if coarse else empty),
        timeline,
        scale,
    )
    return dict(_predict(method, tile, summary))


@partial(jax.jit, static_argnums=0)
def _predict(method: SeriesMethod, tile: SeriesTile, summary: Any) -> dict[str, Any]:
    prediction = method.predict_tile(tile, summary)
    halo = 0 if tile.scale is None else method.coarse_halo * tile.scale.value
    fine = trimmed(tile.fine, halo)
    nothing = jnp.full(fine.shape[1:], jnp.nan, fine.dtype)
    days = tile.timeline.fine
    own = [
        fine[days.index(day)] if day in days else nothing
        for day in tile.timeline.wanted
    ]
    return settled(jnp.stack(own), prediction.reflectance, prediction.variance)


def _number(day: Any) -> int:
    """Days since 1970-01-01."""
    return int(np.asarray(day, "datetime64[D]").astype(np.int64))


def _tile_for(series: FusionSeries, images: int) -> int:
    """The side of a tile of which so many images take about `TILE_BYTES`."""
    pixels = TILE_BYTES / (4 * series.fine[0].sizes["band"] * images)
    # Smaller ones would be mostly halo.
    return int(min(max(math.isqrt(int(pixels)) // 32 * 32, 64), 512))
