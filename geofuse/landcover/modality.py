"""What a classifier knows of each modality: its bands, their unit and usual range.

With that a scene that is unlike the training is refused in words before anything is
written: dB where linear power was learned, digital numbers where it was reflectance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import Delayed

from geofuse.errors import (
    BandMismatchError,
    CalibrationError,
    GridMismatchError,
    ParameterError,
    UnknownNameError,
    did_you_mean,
)
from geofuse.rasters.grid import check_same_grid
from geofuse.tiling import gathered, reduce_tiles, share

#: At most so many tiles of a scan are looked at, and so many rows and columns of each.
SAMPLED_TILES, SAMPLED_LINES = 64, 48
#: A scene may lie so many times the range of the training beyond it.
_TOLERANCE = 3.0
#: Begins the name of dask arrays that stand for a missing modality.
_ABSENT = "absent-"


@dataclass(frozen=True)
class Modality:
    """A modality as a classifier has learned it.

    Attributes:
        name: Its name.
        bands: Names of its bands, in order.
        level: Median of each band.
        spread: Half the distance of its 16th and 84th percentile, above 0.
        low: First percentile of each band.
        high: 99th percentile.
    """

    name: str
    bands: tuple[str, ...]
    level: tuple[float, ...] = ()
    spread: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


class HasImages(Protocol):
    """What has images by modality: a case."""

    @property
    def images(self) -> Mapping[str, xr.DataArray]:
        """Images by modality."""
        ...


def images_of(images: Mapping[str, xr.DataArray]) -> dict[str, xr.DataArray]:
    """Images by modality, checked to be (band, y, x) on one grid.

    Raises:
        ParameterError: There is none.
        GridMismatchError: One is not (band, y, x), or not on the grid of the first.
    """
    if not images:
        raise ParameterError(
            "expected at least one image, found none; for instance {'s2': image}"
        )
    first_name, first = next(iter(images.items()))
    for name, image in images.items():
        if image.dims != ("band", "y", "x"):
            raise GridMismatchError(
                f"expected {name} as an image (band, y, x), found {image.dims}; of one "
                "band make image.expand_dims('band')"
            )
        if image.shape[1:] != first.shape[1:]:
            raise GridMismatchError(
                f"expected {name} on the grid of {first_name}, {first.shape[1:]} pixels, "
                f"found {image.shape[1:]}; put it there with "
                f"geofuse.align({name}, like={first_name})"
            )
        check_same_grid(image, first, names=(name, first_name))
    return dict(images)


def bands_of(image: xr.DataArray) -> tuple[str, ...]:
    """Names of the bands; b1, b2, … where they have none."""
    if "band" not in image.coords:
        return tuple(f"b{number}" for number in range(1, image.sizes["band"] + 1))
    return tuple(str(band) for band in image["band"].values)


def modalities_of(cases: Sequence[HasImages]) -> tuple[Modality, ...]:
    """The modalities of cases and the ranges of their bands, from a sample of the pixels.

    Args:
        cases: One or more; each has some of the modalities.

    Raises:
        BandMismatchError: Two cases have other bands in one modality.
        ParameterError: A band of a modality is NaN everywhere.
    """
    found: dict[str, list[xr.DataArray]] = {}
    for case in cases:
        for name, image in case.images.items():
            found.setdefault(name, []).append(image)
    return tuple(_modality(name, images) for name, images in found.items())


def _modality(name: str, images: Sequence[xr.DataArray]) -> Modality:
    bands = bands_of(images[0])
    for image in images:
        if bands_of(image) != bands:
            raise BandMismatchError(
                f"expected the same bands of {name} in all cases, found {bands} and "
                f"{bands_of(image)}; choose them with image.sel(band=[…])"
            )
    samples = np.concatenate([sample(image).compute() for image in images], axis=1)
    ranges = []
    for band, values in zip(bands, samples, strict=True):
        valid = values[np.isfinite(values)].astype(np.float64)
        if not valid.size:
            raise ParameterError(
                f"expected valid pixels in band {band} of {name}, found none in all "
                "cases; leave the modality out, or check its nodata"
            )
        low, left, middle, right, high = np.percentile(valid, (1, 16, 50, 84, 99))
        spread = (right - left) / 2
        ranges.append((middle, spread if spread > 0 else 1.0, low, high))
    level, spread_, low_, high_ = np.asarray(ranges, float).T.tolist()
    return Modality(name, bands, *map(tuple, (level, spread_, low_, high_)))


def check_images(
    images: Mapping[str, xr.DataArray], known: Sequence[Modality]
) -> dict[str, xr.DataArray]:
    """Images of a scene in the order of the modalities; one that is missing is NaN.

    Args:
        images: Images by modality; any may be left out, but not all.
        known: What was learned.

    Returns:
        An image for every modality, with its bands in the order that was learned.

    Raises:
        UnknownNameError: There is a modality that was not learned.
        BandMismatchError: A modality lacks a band.
        GridMismatchError: As `images_of`.
    """
    names = [modality.name for modality in known]
    for name in images:
        if name not in names:
            raise UnknownNameError(
                f"expected modalities that were learned, {names}, found {name!r}; "
                f"{did_you_mean(name, names)}; one that is missing is left out"
            )
    given = images_of(images)
    like = next(iter(given.values()))
    return {
        modality.name: _of_bands(given[modality.name], modality)
        if modality.name in given
        else absent(modality.name, modality.bands, like)
        for modality in known
    }


def absent(name: str, bands: Sequence[str], like: xr.DataArray) -> xr.DataArray:
    """An image of NaN, lazy: what stands for a modality that is missing."""
    shape = (len(bands), *like.shape[1:])
    chunks = (len(bands), 2048, 2048)
    coords = {k: v for k, v in like.coords.items() if "band" not in v.dims}
    coords.pop("band", None)
    data = da.full(
        shape, np.nan, dtype=np.float32, chunks=chunks, name=f"{_ABSENT}{shape}"
    )
    return xr.DataArray(
        data, dims=("band", "y", "x"), coords={**coords, "band": list(bands)}, name=name
    )


def is_absent(image: xr.DataArray) -> bool:
    """Whether an image is one that `absent` gave: nothing is known of it anywhere."""
    name = getattr(image.data, "name", None)
    return isinstance(name, str) and name.startswith(_ABSENT)


def _of_bands(image: xr.DataArray, modality: Modality) -> xr.DataArray:
    bands = bands_of(image)
    missing = [band for band in modality.bands if band not in bands]
    if missing:
        raise BandMismatchError(
            f"expected the bands {modality.bands} of {modality.name}, found {bands}, "
            f"without {missing}; open the image with all of them"
        )
    if bands == modality.bands:
        return image
    return image.isel(band=[bands.index(band) for band in modality.bands])


def sample(image: xr.DataArray) -> Delayed:
    """Some pixels of an image (band, pixel), lazily; which ones depends on its size."""
    return reduce_tiles(
        _some_pixels,
        {"image": image},
        partial(np.concatenate, axis=1),
        most=SAMPLED_TILES,
        token="landcover sample",
    )


def _some_pixels(arrays: Mapping[str, np.ndarray], _: Any) -> np.ndarray:
    image = arrays["image"]
    step = [max(size // SAMPLED_LINES, 1) for size in image.shape[-2:]]
    some = image[:, :: step[0], :: step[1]].astype(np.float32)
    return some.reshape(len(some), -1)


def checked_ranges(
    images: Mapping[str, xr.DataArray], known: Sequence[Modality]
) -> Delayed:
    """Look whether a scene's values are of the kind that was learned, lazily.

    The lazy value is None; what is found wrong is raised as `CalibrationError` when it
    is computed, before any tile of a product is.
    """
    looked = [modality for modality in known if modality.name in images]
    if not looked or not any(modality.low for modality in looked):
        return share(None, token="nothing to check")
    samples = [sample(_of_bands(images[m.name], m)) for m in looked]
    return gathered(partial(_check_ranges, tuple(looked)), samples, token=f"{looked}")


def _check_ranges(known: Sequence[Modality], samples: Sequence[np.ndarray]) -> None:
    for modality, values in zip(known, samples, strict=True):
        for band, pixels, low, high in zip(
            modality.bands, values, modality.low, modality.high, strict=True
        ):
            valid = pixels[np.isfinite(pixels)]
            if not valid.size:
                continue
            middle = float(np.median(valid))
            reach = _TOLERANCE * max(high - low, 1e-6 * max(abs(low), abs(high)))
            if low - reach <= middle <= high + reach:
                continue
            raise CalibrationError(
                f"expected band {band} of {modality.name} like the training, from "
                f"{low:.4g} to {high:.4g}, found a median of {middle:.4g}; "
                f"{_guess(middle, low, high)}"
            )


def _guess(middle: float, low: float, high: float) -> str:
    """What may have happened to values, in words."""
    center = (low + high) / 2
    if low < 0 and center < -1 and 0 <= middle < 10:
        return "it looks like linear power where dB was learned: use geofuse.to_db"
    if low >= 0 and center < 10 and middle < -1:
        return "it looks like dB where linear power was learned: use geofuse.from_db"
    if abs(middle) > 100 * max(abs(low), abs(high)):
        return "it looks like digital numbers: open the file with its sensor or gain"
    if abs(center) > 100 * max(abs(middle), 1e-12):
        return "it looks calibrated where digital numbers were learned"
    return "give the image in the unit of the training"
