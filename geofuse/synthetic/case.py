"""Simulated cases in memory: small, quick, on one grid.

    fine   = truth + noise, NaN under clouds
    coarse = gain * (area mean of the truth blurred by the PSF) + offset + noise

The blur and the mean see the ground beyond the edge of the fine image, as a sensor
does.
"""

import datetime
from collections.abc import Sequence
from typing import Any

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from geofuse.errors import ParameterError, UnknownNameError, did_you_mean
from geofuse.pairs import FusionCase, FusionInputs, Pair
from geofuse.synthetic.landscape import BANDS
from geofuse.synthetic.measured import draw_ground, image_of

UTM_CRS = "EPSG:32633"
UTM_TRANSFORM = Affine(30, 0, 499980, 0, -30, 5100000)
PREDICTION_DATE = datetime.date(2023, 7, 7)


def simulate_case(
    size: int = 96,
    *,
    bands: Sequence[str] = ("red", "nir", "swir1"),
    scale: int = 16,
    pairs: int = 1,
    seed: int = 0,
    abrupt: float = 0.05,
    psf: float = 0.5,
    shift: float = 0.0,
    gain: float = 1.0,
    offset: float = 0.0,
    noise: float = 0.002,
    clouds: float = 0.0,
    coarse_clouds: float = 0.0,
) -> FusionCase:
    """Inputs of fusion and the true fine image, in memory, the same for the same seed.

    All images are float32 reflectance on one grid of 30 m (UTM zone 33 north); a
    coarse pixel is repeated over its `scale` x `scale` fine pixels. The reference is
    the truth: without noise, without clouds. The prediction date is 2023-07-07; base
    dates lie 32 days before it, 32 days after it, 64 before, 64 after, and so on. The
    truth depends only on `size`, `scale`, `pairs`, `seed`, `abrupt` and `psf`: noise,
    clouds, shift, gain and offset change the images but not the landscape.

    Args:
        size: Height and width in fine pixels, 16 to 4096; need not be a multiple of
            `scale`.
        bands: Names out of blue, green, red, nir, swir1, swir2.
        scale: Coarse GSD / fine GSD, 2 to 64, at most `size`.
        pairs: Number of pairs, 1 to 6.
        seed: Any whole number from 0 on.
        abrupt: Share of the parcels that change abruptly between the first and the last
            date, 0 to 1; forest is cut at a quarter of that rate.
        psf: Standard deviation of the coarse sensor's Gaussian point spread, in coarse
            pixels, 0 to 2; 0 is the plain area mean.
        shift: Misregistration: how far each coarse image lies from its true place, in
            coarse pixels, 0 to 1; the direction is drawn for each date.
        gain: Coarse sensor's reflectance per true reflectance, 0.01 to 2.
        offset: Reflectance that the coarse sensor adds, -0.5 to 0.5.
        noise: Standard deviation of the independent noise of fine and coarse pixels,
            reflectance, 0 to 0.1.
        clouds: Share of each fine base image that is NaN, 0 to 1.
        coarse_clouds: Share of each coarse image that is NaN, 0 to 1.

    Raises:
        ParameterError: A value is out of its range or not of its kind.
        UnknownNameError: A band has no spectrum here.

    >>> case = simulate_case(48, seed=1)
    >>> dict(case.reference.sizes)
    {'band': 3, 'y': 48, 'x': 48}
    >>> [str(pair.date)[:10] for pair in case.inputs.pairs]
    ['2023-06-05']
    """
    check_whole("size", size, 16, 4096)
    check_whole("scale", scale, 2, min(64, size))
    check_whole("pairs", pairs, 1, 6)
    check_whole("seed", seed, 0, None)
    check_range("abrupt", abrupt, 0.0, 1.0)
    check_range("psf", psf, 0.0, 2.0)
    check_range("shift", shift, 0.0, 1.0)
    check_range("gain", gain, 0.01, 2.0)
    check_range("offset", offset, -0.5, 0.5)
    check_range("noise", noise, 0.0, 0.1)
    check_range("clouds", clouds, 0.0, 1.0)
    check_range("coarse_clouds", coarse_clouds, 0.0, 1.0)
    bands = checked_bands(bands)

    dates = _base_dates(pairs)
    ground = draw_ground(
        seed,
        [*dates, PREDICTION_DATE],
        size=size,
        scale=scale,
        abrupt=abrupt,
        psf=psf,
        bands=bands,
        shift=shift,
        gain=gain,
        offset=offset,
        noise=noise,
    )
    grid = GeoBox((size, size), UTM_TRANSFORM, UTM_CRS)
    made = []
    for date in dates:
        truth, coarse = ground.truth_and_coarse(date, coarse_clouds)
        images = ground.fine(truth, date, clouds), coarse
        made.append(Pair(*(image_of(image, bands, date, grid) for image in images)))
    reference, wanted = (
        image_of(image, bands, PREDICTION_DATE, grid)
        for image in ground.truth_and_coarse(PREDICTION_DATE, coarse_clouds)
    )
    return FusionCase(FusionInputs(tuple(made), wanted, scale=scale), reference)


def _base_dates(pairs: int) -> list[datetime.date]:
    """Base dates in order of time: 32 days before, 32 after, 64 before, ..."""
    lags = [(-32, 32)[i % 2] * (i // 2 + 1) for i in range(pairs)]
    return [PREDICTION_DATE + datetime.timedelta(days=lag) for lag in sorted(lags)]


def checked_bands(bands: Sequence[str]) -> tuple[str, ...]:
    """Refuse bands that have no spectrum here, or one twice."""
    if isinstance(bands, str) or not bands or len(set(bands)) != len(bands):
        raise ParameterError(
            f"bands: expected different names, one or more, found {bands!r}; "
            f"choose from {', '.join(BANDS)}"
        )
    for band in bands:
        if band not in BANDS:
            raise UnknownNameError(
                f"no simulated band {band!r}; {did_you_mean(str(band), BANDS)}"
            )
    return tuple(bands)


def check_whole(name: str, value: Any, low: int, high: int | None) -> None:
    """Refuse what is not a whole number of this range (no end where `high` is None)."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        span = f"from {low} on" if high is None else f"from {low} to {high}"
        raise ParameterError(
            f"{name}: expected a whole number {span}, found {value!r}; "
            f"give {name} a value in that range"
        )


def check_range(name: str, value: Any, low: float, high: float) -> None:
    """Refuse what is not a number of this range."""
    real = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not real or not low <= value <= high:
        raise ParameterError(
            f"{name}: expected a number from {low:g} to {high:g}, found {value!r}; "
            f"give {name} a value in that range"
        )
