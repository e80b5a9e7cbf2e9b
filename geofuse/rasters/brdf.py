"""Reflectance as it would be seen from straight above: c-factor normalization.

Reflectance depends on where the sun and the sensor stand. A model of that dependence,
with three numbers per band that hold well enough everywhere, gives a factor:

    nadir = c * reflectance,   c = R(sun, nadir) / R(sun, view)
    R = f_iso + f_vol * K_vol + f_geo * K_geo

K_vol is the Ross-thick kernel (leaves), K_geo the reciprocal Li-sparse kernel (crowns and
their shadows), both 0 for sun and sensor overhead.

References:
    Roy, D. P., et al. (2016). A general method to normalize Landsat reflectance data to
        nadir BRDF adjusted reflectance. Remote Sensing of Environment 176, 255-271.
    Roy, D. P., et al. (2017). Examination of Sentinel-2A multi-spectral instrument (MSI)
        reflectance anisotropy. Remote Sensing of Environment 199, 25-38. (Red edge.)
    Lucht, W., Schaaf, C. B., Strahler, A. H. (2000). An algorithm for the retrieval of
        albedo from space using semiempirical BRDF models. IEEE Transactions on Geoscience
        and Remote Sensing 38(2), 977-998. Equations 37 to 44.
"""

from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from geofuse.errors import BandMismatchError, ParameterError
from geofuse.rasters.grid import check_same_grid

#: f_iso, f_vol and f_geo by common name of the band.
PARAMETERS: dict[str, tuple[float, float, float]] = {
    "blue": (0.0774, 0.0372, 0.0079),
    "green": (0.1306, 0.0580, 0.0178),
    "red": (0.1690, 0.0574, 0.0227),
    "rededge1": (0.2085, 0.0845, 0.0256),
    "rededge2": (0.2316, 0.1003, 0.0273),
    "rededge3": (0.2599, 0.1197, 0.0294),
    "nir": (0.3093, 0.1535, 0.0330),
    "nir08": (0.3093, 0.1535, 0.0330),
    "swir1": (0.3430, 0.1154, 0.0453),
    "swir2": (0.2658, 0.0639, 0.0387),
}

#: Height of crowns' centers over their vertical radius, and vertical over horizontal.
_HEIGHT_RATIO, _SHAPE_RATIO = 2.0, 1.0


def to_nadir(
    image: xr.DataArray,
    *,
    sun_zenith: xr.DataArray | float,
    sun_azimuth: xr.DataArray | float,
    view_zenith: xr.DataArray | float,
    view_azimuth: xr.DataArray | float,
    nadir_sun_zenith: float | None = None,
) -> xr.DataArray:
    """Normalize surface reflectance to a view from straight above.

    Args:
        image: Surface reflectance (band, y, x).
        sun_zenith: Degrees from the vertical; (y, x) on the grid of `image`, or one number.
        sun_azimuth: Degrees from north to the sun, likewise.
        view_zenith: Degrees from the vertical to the sensor, likewise.
        view_azimuth: Degrees from north to the sensor, seen from the ground, likewise.
        nadir_sun_zenith: Sun zenith of the result; None keeps that of each pixel.

    Returns:
        The normalized image, lazy where `image` or an angle is; NaN where an angle is NaN,
        or a zenith is not in [0, 90). Noted in the attribute `brdf`.

    Raises:
        BandMismatchError: A band has no parameters.
        GridMismatchError: An angle is on another grid.
        ParameterError: A zenith given as a number is not in [0, 90).
    """
    bands = [str(band) for band in image["band"].values]
    missing = [band for band in bands if band not in PARAMETERS]
    if missing:
        raise BandMismatchError(
            f"expected bands with BRDF parameters ({', '.join(PARAMETERS)}), found "
            f"{', '.join(missing)}; leave them out"
        )
    angles: dict[str, Any] = {
        "sun_zenith": sun_zenith,
        "sun_azimuth": sun_azimuth,
        "view_zenith": view_zenith,
        "view_azimuth": view_azimuth,
    }
    numbers = {name: v for name, v in angles.items() if not isinstance(v, xr.DataArray)}
    if nadir_sun_zenith is not None:
        numbers["nadir_sun_zenith"] = nadir_sun_zenith
    for name, value in numbers.items():
        if not np.isfinite(value) or ("zenith" in name and not 0 <= value < 90):
            raise ParameterError(
                f"expected {name} in degrees, a zenith in [0, 90), found {value}; products "
                "that store hundredths of a degree open with gain=0.01"
            )
    lazy = isinstance(image.data, da.Array)
    arrays: list[Any] = []
    for name, value in angles.items():
        if not isinstance(value, xr.DataArray):
            arrays.append(float(value))
            continue
        if "band" in value.dims:
            value = value.isel(band=0, drop=True)
        check_same_grid(value, image, names=(name, "the image"))
        lazy = lazy or isinstance(value.data, da.Array)
        arrays.append(value.data)
    parameters = np.array([PARAMETERS[band] for band in bands])
    normalize = partial(
        _normalized, parameters=parameters, nadir_sun_zenith=nadir_sun_zenith
    )
    if lazy:
        pixels = da.asarray(image.data).rechunk({0: -1})
        sides = pixels.chunks[1:]
        arrays = [
            a if isinstance(a, float) else da.asarray(a).rechunk(sides) for a in arrays
        ]
        data = da.map_blocks(normalize, pixels, *arrays, dtype=np.float32)
    else:
        data = normalize(image.values, *arrays)
    normalized = image.copy(data=data)
    sun = (
        "its own sun"
        if nadir_sun_zenith is None
        else f"sun zenith {nadir_sun_zenith:g}"
    )
    normalized.attrs["brdf"] = f"c-factor to nadir, {sun} (Roy et al. 2016)"
    return normalized


def ross_thick(sun: Any, view: Any, azimuth: Any) -> Any:
    """Ross-thick kernel; angles in radians, azimuth between sun and view."""
    cosine, phase = _phase(sun, view, azimuth)
    cosines = np.cos(sun) + np.cos(view)
    return ((np.pi / 2 - phase) * cosine + np.sin(phase)) / cosines - np.pi / 4


def li_sparse(sun: Any, view: Any, azimuth: Any) -> Any:
    """Reciprocal Li-sparse kernel; angles in radians, azimuth between sun and view."""
    sun, view = (np.arctan(_SHAPE_RATIO * np.tan(angle)) for angle in (sun, view))
    cosine, _ = _phase(sun, view, azimuth)
    tangents = np.tan(sun), np.tan(view)
    secants = 1 / np.cos(sun), 1 / np.cos(view)
    distance_squared = (
        tangents[0] ** 2
        + tangents[1] ** 2
        - 2 * tangents[0] * tangents[1] * np.cos(azimuth)
    )
    crossing = (tangents[0] * tangents[1] * np.sin(azimuth)) ** 2
    total = secants[0] + secants[1]
    overlap_cosine = _HEIGHT_RATIO * np.sqrt(np.maximum(distance_squared, 0) + crossing)
    overlap_cosine = np.clip(overlap_cosine / total, -1, 1)
    angle = np.arccos(overlap_cosine)
    overlap = (angle - np.sin(angle) * overlap_cosine) * total / np.pi
    return overlap - total + (1 + cosine) * secants[0] * secants[1] / 2


def _phase(sun: Any, view: Any, azimuth: Any) -> tuple[Any, Any]:
    cosine = np.cos(sun) * np.cos(view) + np.sin(sun) * np.sin(view) * np.cos(azimuth)
    cosine = np.clip(cosine, -1, 1)
    return cosine, np.arccos(cosine)


def _normalized(
    image: np.ndarray,
    sun_zenith: Any,
    sun_azimuth: Any,
    view_zenith: Any,
    view_azimuth: Any,
    *,
    parameters: np.ndarray,
    nadir_sun_zenith: float | None,
) -> np.ndarray:
    """Reflectance times its c-factor, in float64 until the end."""
    zeniths = np.asarray(sun_zenith, np.float64), np.asarray(view_zenith, np.float64)
    # Beyond the horizon there is no model.
    sun, view = (
        np.radians(np.where((angle >= 0) & (angle < 90), angle, np.nan))
        for angle in zeniths
    )
    azimuth = np.radians(np.asarray(view_azimuth, np.float64) - sun_azimuth)
    nadir_sun = sun if nadir_sun_zenith is None else np.radians(nadir_sun_zenith)
    seen = _modeled(parameters, sun, view, azimuth)
    nadir = _modeled(parameters, nadir_sun, np.zeros_like(nadir_sun), 0.0)
    return (image * (nadir / seen)).astype(np.float32)


def _modeled(parameters: np.ndarray, sun: Any, view: Any, azimuth: Any) -> np.ndarray:
    kernels = np.broadcast_arrays(
        1.0, ross_thick(sun, view, azimuth), li_sparse(sun, view, azimuth)
    )
    return sum(
        parameters[:, number].reshape(-1, 1, 1) * kernel
        for number, kernel in enumerate(kernels)
    )
