"""A simulated year with a known answer: fine images now and then, coarse ones often.

    truth    . . . . . . . . . . . .    fine image of every coarse date, no cloud, no noise
    coarse   o o o o o o o o o o o o    every `coarse_every` days, a part lost to clouds
    fine     x       x       x          every `fine_every` days, a part lost to clouds

Crops green up and ripen at their own dates, air and moisture change from day to day, some
parcels change abruptly. Clouds differ by date: some images are clear, some nearly lost.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

import xarray as xr
from odc.geo.geobox import GeoBox

from geofuse.errors import ParameterError
from geofuse.pairs import Pair
from geofuse.synthetic.case import (
    UTM_CRS,
    UTM_TRANSFORM,
    check_range,
    check_whole,
    checked_bands,
)
from geofuse.synthetic.measured import draw_ground, image_of
from geofuse.synthetic.noise import stream

FIRST_DATE = datetime.date(2023, 1, 9)


@dataclass(frozen=True, eq=False)
class SimulatedSeries:
    """A simulated series: what a user has, and the truth.

    Attributes:
        pairs: Fine images with the coarse ones of their dates, by date.
        coarse: Coarse images (time, band, y, x) on the fine grid.
        truth: True fine image of every coarse date (time, band, y, x).
    """

    pairs: tuple[Pair, ...]
    coarse: xr.DataArray
    truth: xr.DataArray


def simulate_series(
    size: int = 96,
    *,
    bands: Sequence[str] = ("red", "nir", "swir1"),
    scale: int = 16,
    days: int = 352,
    fine_every: int = 32,
    coarse_every: int = 8,
    seed: int = 0,
    abrupt: float = 0.05,
    psf: float = 0.5,
    gain: float = 1.0,
    offset: float = 0.0,
    noise: float = 0.002,
    clouds: float = 0.3,
    coarse_clouds: float = 0.1,
) -> SimulatedSeries:
    """A series of fine and coarse images of one ground, the same for the same seed.

    All images are float32 reflectance on one grid of 30 m (UTM zone 33 north), from
    2023-01-09 on. Dates with clouds lose a share of their own, even from 0 to twice the
    mean.

    Args:
        size: Height and width in fine pixels, 16 to 1024.
        bands: Names out of blue, green, red, nir, swir1, swir2.
        scale: Coarse GSD / fine GSD, 2 to 64, at most `size`.
        days: Days from the first to the last coarse date, at most; 1 to 356.
        fine_every: Days between fine images, a multiple of `coarse_every`.
        coarse_every: Days between coarse images, from 1 on.
        seed: Any whole number from 0 on.
        abrupt: Share of the parcels that change abruptly in these days, 0 to 1.
        psf: Standard deviation of the coarse point spread, in coarse pixels, 0 to 2.
        gain: Coarse sensor's reflectance per true reflectance, 0.01 to 2.
        offset: Reflectance that the coarse sensor adds, -0.5 to 0.5.
        noise: Standard deviation of the noise of fine and coarse pixels, 0 to 0.1.
        clouds: Mean share of a fine image that is NaN, 0 to 1.
        coarse_clouds: Mean share of a coarse image that is NaN, 0 to 1.

    Raises:
        ParameterError: A value is out of its range or not of its kind.
        UnknownNameError: A band has no spectrum here.

    >>> series = simulate_series(32, days=64, bands=["nir"], seed=1)
    >>> dict(series.coarse.sizes)
    {'time': 9, 'band': 1, 'y': 32, 'x': 32}
    >>> [str(pair.date) for pair in series.pairs]
    ['2023-01-09', '2023-02-10', '2023-03-14']
    """
    check_whole("size", size, 16, 1024)
    check_whole("scale", scale, 2, min(64, size))
    check_whole("days", days, 1, 356)
    check_whole("coarse_every", coarse_every, 1, None)
    check_whole("fine_every", fine_every, coarse_every, None)
    check_whole("seed", seed, 0, None)
    check_range("abrupt", abrupt, 0.0, 1.0)
    check_range("psf", psf, 0.0, 2.0)
    check_range("gain", gain, 0.01, 2.0)
    check_range("offset", offset, -0.5, 0.5)
    check_range("noise", noise, 0.0, 0.1)
    check_range("clouds", clouds, 0.0, 1.0)
    check_range("coarse_clouds", coarse_clouds, 0.0, 1.0)
    bands = checked_bands(bands)
    if fine_every % coarse_every:
        raise ParameterError(
            f"fine_every: expected a multiple of coarse_every={coarse_every}, found "
            f"{fine_every}; a fine image needs a coarse one of its day"
        )
    lags = range(0, days + 1, coarse_every)
    dates = [FIRST_DATE + datetime.timedelta(days=lag) for lag in lags]
    ground = draw_ground(
        seed,
        dates,
        size=size,
        scale=scale,
        abrupt=abrupt,
        psf=psf,
        bands=bands,
        gain=gain,
        offset=offset,
        noise=noise,
    )
    grid = GeoBox((size, size), UTM_TRANSFORM, UTM_CRS)
    share = stream(seed, "cloudiness").uniform(0, 2, (2, len(dates)))
    pairs, coarse_images, truths = [], [], []
    for number, (lag, date) in enumerate(zip(lags, dates, strict=True)):
        lost = [
            float(min(mean * of_date[number], 1.0))
            for mean, of_date in zip((clouds, coarse_clouds), share, strict=True)
        ]
        truth, values = ground.truth_and_coarse(date, lost[1])
        coarse = image_of(values, bands, date, grid)
        if lag % fine_every == 0:
            fine = image_of(ground.fine(truth, date, lost[0]), bands, date, grid)
            pairs.append(Pair(fine, coarse))
        coarse_images.append(coarse.assign_attrs(scale=scale, coarse_offset=(0, 0)))
        truths.append(image_of(truth, bands, date, grid))
    return SimulatedSeries(
        tuple(pairs), xr.concat(coarse_images, "time"), xr.concat(truths, "time")
    )
