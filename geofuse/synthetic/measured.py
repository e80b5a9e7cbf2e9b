"""What a fine and a coarse sensor measure of one simulated ground, date by date.

The blur and the area mean of the coarse sensor see the ground beyond the edge of the fine
image, as a sensor does; a misregistered one sees ground a little beside its pixels.
"""

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float32
from odc.geo.geobox import GeoBox
from scipy import ndimage

from geofuse.rasters.grid import place
from geofuse.synthetic.landscape import (
    Landscape,
    draw_landscape,
    true_reflectance,
    weather_of,
)
from geofuse.synthetic.noise import clouds_of, stream, white_noise


@dataclass(frozen=True, eq=False)
class Ground:
    """A landscape, the part of it that is imaged, and what the coarse sensor does to it.

    Attributes:
        landscape: The ground, with a margin on each side that only the coarse sensor sees.
        bands: Names of the bands.
        size: Height and width of the images in fine pixels.
        scale: Coarse GSD / fine GSD.
        psf: Standard deviation of the coarse point spread, in coarse pixels.
        gain: Coarse reflectance per true reflectance.
        offset: Reflectance that the coarse sensor adds.
        noise: Standard deviation of the noise of fine and coarse pixels.
        shift: How far coarse images lie from their place, in coarse pixels, up to 1.
    """

    landscape: Landscape
    bands: tuple[str, ...]
    size: int
    scale: int
    psf: float
    gain: float
    offset: float
    noise: float
    shift: float = 0.0

    def fine(self, truth: np.ndarray, date: datetime.date, clouds: float) -> np.ndarray:
        """The truth (band, y, x) as the fine sensor measures it; NaN under clouds."""
        seed = self.landscape.seed
        noise = white_noise(seed, f"fine noise {date}", truth.shape, self.noise)
        fine = truth + noise
        fine[:, clouds_of(seed, f"fine clouds {date}", truth.shape[1:], clouds)] = (
            np.nan
        )
        return fine

    def truth_and_coarse(
        self, date: datetime.date, clouds: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """The true fine image, and the coarse one on the fine grid; both (band, y, x)."""
        size, scale, seed = self.size, self.scale, self.landscape.seed
        cells, margin = math.ceil(size / scale), _margin(self.psf)
        inside = slice(margin * scale, margin * scale + size)
        truth = np.empty((len(self.bands), size, size), np.float32)
        coarse = np.empty((len(self.bands), cells, cells), np.float32)
        weather = weather_of(self.landscape, day_of_year(date))
        turn = stream(seed, f"shift {date}").uniform(0, 2 * math.pi)
        away = [self.shift * scale * f(turn) for f in (math.sin, math.cos)]
        for i, band in enumerate(self.bands):
            true = true_reflectance(self.landscape, band, day_of_year(date), weather)
            truth[i] = true[inside, inside]
            blurred = ndimage.gaussian_filter(true, self.psf * scale, truncate=3)
            if self.shift:  # by no more than the margin that the PSF leaves over
                blurred = ndimage.shift(blurred, away, order=1, mode="nearest")
            blocks = blurred.reshape(cells + 2 * margin, scale, -1, scale)
            means = blocks.mean(axis=(1, 3), dtype=np.float64)
            coarse[i] = means[margin : margin + cells, margin : margin + cells]
        coarse = np.float32(self.gain) * coarse + np.float32(self.offset)
        coarse += white_noise(seed, f"coarse noise {date}", coarse.shape, self.noise)
        hidden = clouds_of(seed, f"coarse clouds {date}", coarse.shape[1:], clouds)
        coarse[:, hidden] = np.nan
        return truth, coarse.repeat(scale, 1).repeat(scale, 2)[:, :size, :size]


def draw_ground(
    seed: int,
    dates: Sequence[datetime.date],
    *,
    size: int,
    scale: int,
    abrupt: float,
    psf: float,
    **sensor: Any,
) -> Ground:
    """Draw the ground of some dates; abrupt change falls between the first and last."""
    side = (math.ceil(size / scale) + 2 * _margin(psf)) * scale
    landscape = draw_landscape(
        seed,
        (side, side),
        abrupt=abrupt,
        span=(day_of_year(min(dates)), day_of_year(max(dates))),
    )
    return Ground(landscape, size=size, scale=scale, psf=psf, **sensor)


def image_of(
    values: Float32[np.ndarray, "band y x"],
    bands: Sequence[str],
    date: datetime.date,
    grid: GeoBox,
) -> xr.DataArray:
    """An image of a date on a grid."""
    time = np.datetime64(date.isoformat(), "ns")
    return place(values, grid, coords={"band": list(bands), "time": time})


def day_of_year(date: datetime.date) -> int:
    """Day of the year, 1 to 366."""
    return date.timetuple().tm_yday


def _margin(psf: float) -> int:
    """Coarse pixels of ground around the images that the point spread sees."""
    return math.ceil(3 * psf) + 1
