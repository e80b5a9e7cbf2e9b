"""Simulated land cover: images of several modalities, and the classes that are there.

    parcels of one class each ──> optical   spectra by class, variation by parcel, noise
                              ──> sar       backscatter by class, speckle, in dB
                              ──> elevation smooth; water lies low, forest high

Crops and grass have one spectrum: only SAR tells them apart. Bare soil and built-up ground
have one backscatter: only the optical image does. So a modality that is missing is missed.
"""

from typing import NamedTuple

import numpy as np
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from scipy import ndimage

from geofuse.errors import ParameterError
from geofuse.rasters.grid import coordinates
from geofuse.rasters.legend import Legend
from geofuse.synthetic.noise import stream
from geofuse.synthetic.parcels import draw_parcels, smooth_field

#: The classes, in the order of their numbers.
CLASSES = Legend(("water", "forest", "crops", "grass", "built", "bare"))
OPTICAL_BANDS = ("blue", "green", "red", "nir", "swir1")

#: Reflectance of each class by band.
_SPECTRA = np.array(
    [
        (0.05, 0.05, 0.03, 0.02, 0.01),
        (0.03, 0.05, 0.03, 0.30, 0.13),
        (0.04, 0.08, 0.06, 0.34, 0.20),
        (0.04, 0.08, 0.06, 0.34, 0.20),
        (0.12, 0.14, 0.16, 0.22, 0.25),
        (0.09, 0.13, 0.18, 0.25, 0.32),
    ],
    np.float32,
)
#: Backscatter of each class in dB: VV, VH.
_BACKSCATTER = np.array(
    [(-20, -27), (-9, -15), (-12, -20), (-9, -16.5), (-7, -16), (-7, -16)], np.float32
)
_SHARES = (0.1, 0.25, 0.25, 0.2, 0.1, 0.1)


class SimulatedLandCover(NamedTuple):
    """Images by modality, and the classes that are there.

    Attributes:
        images: `optical` (reflectance), `sar` (dB, VV and VH), `elevation` (m).
        labels: Number of the class (y, x), int16; legend in the attributes.
    """

    images: dict[str, xr.DataArray]
    labels: xr.DataArray


def simulate_land_cover(
    size: int = 96,
    *,
    seed: int = 0,
    parcel: float = 10.0,
    noise: float = 0.01,
    looks: float = 8.0,
) -> SimulatedLandCover:
    """A scene of six classes in parcels, seen by three sensors, 10 m pixels in UTM.

    Args:
        size: Height and width in pixels, 16 to 4096.
        seed: Any whole number from 0 on.
        parcel: How wide a parcel is, in pixels, from 2 on.
        noise: Standard deviation of the noise of a pixel, reflectance, from 0 on.
        looks: Equivalent number of looks of the SAR image, above 0.

    Raises:
        ParameterError: A value is out of its range.

    >>> scene = simulate_land_cover(32, seed=1)
    >>> {name: image.shape for name, image in scene.images.items()}
    {'optical': (5, 32, 32), 'sar': (2, 32, 32), 'elevation': (1, 32, 32)}
    """
    if not (16 <= size <= 4096 and seed >= 0 and parcel >= 2 and noise >= 0 < looks):
        raise ParameterError(
            "expected size from 16 to 4096, seed from 0, parcel from 2, noise from 0 and "
            f"looks above 0, found {size}, {seed}, {parcel}, {noise}, {looks}"
        )
    shape = (size, size)
    rng = stream(seed, "land cover")
    parcels = draw_parcels(rng, shape, parcel)
    of_parcel = rng.choice(len(CLASSES), parcels.max() + 1, p=_SHARES)
    labels = of_parcel[parcels].astype(np.int16)
    images = {
        "optical": _optical(rng, labels, parcels, noise),
        "sar": _backscatter(rng, labels, parcels, looks),
        "elevation": _elevation(rng, labels),
    }
    bands = {"optical": OPTICAL_BANDS, "sar": ("vv", "vh"), "elevation": ("elevation",)}
    units = {"optical": "1", "sar": "dB", "elevation": "m"}
    grid = GeoBox(shape, Affine(10, 0, 500000, 0, -10, 5100000), "EPSG:32633")
    place = coordinates(grid)
    return SimulatedLandCover(
        {
            name: xr.DataArray(
                values,
                dims=("band", "y", "x"),
                coords={**place, "band": list(bands[name])},
                attrs={"units": units[name]},
            )
            for name, values in images.items()
        },
        xr.DataArray(labels, dims=("y", "x"), coords=place, attrs=CLASSES.attributes()),
    )


def _optical(
    rng: np.random.Generator, labels: np.ndarray, parcels: np.ndarray, noise: float
) -> np.ndarray:
    brightness = rng.normal(1, 0.12, parcels.max() + 1).astype(np.float32)[parcels]
    pure = _SPECTRA[labels] * brightness[..., None]
    # The sensor's point spread mixes neighbors.
    seen = ndimage.gaussian_filter(pure, (0.5, 0.5, 0))
    return np.moveaxis(seen + rng.normal(0, noise, seen.shape), -1, 0).astype(
        np.float32
    )


def _backscatter(
    rng: np.random.Generator, labels: np.ndarray, parcels: np.ndarray, looks: float
) -> np.ndarray:
    offset = rng.normal(0, 0.7, parcels.max() + 1).astype(np.float32)[parcels]
    power = 10 ** ((_BACKSCATTER[labels] + offset[..., None]) / 10)
    power *= rng.gamma(looks, 1 / looks, power.shape)
    return np.moveaxis(10 * np.log10(power), -1, 0).astype(np.float32)


def _elevation(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    height = 300 + 40 * smooth_field(rng, labels.shape, 48.0, 3)
    height += np.array([-30, 25, 0, 0, 0, 5], np.float32)[labels]
    return ndimage.gaussian_filter(height, 2)[None].astype(np.float32)
