"""What a small window tells: level, spread, edges, waves and direction.

    LocalStatistics   mean, standard deviation and range of the valid pixels of a square
    Gradient          how steep a band is, per pixel (Scharr or Sobel)
    StructureTensor   how much the gradients around a pixel agree, and on what
    Gabor             amplitude of waves of a length and a direction

All are sums over windows in float64, in an order that does not depend on where a tile
begins, so that tile size never changes the result. Nothing is reflected or filled at
the edge of the image: beyond it there are invalid pixels, and each class says what it
makes of those. Infinite values are invalid.

References:
    Scharr (2000), Optimale Operatoren in der digitalen Bildverarbeitung, Heidelberg.
    Bigun and Granlund (1987), First International Conference on Computer Vision: the
    structure tensor.
    Knutsson and Westin (1993), Computer Vision and Pattern Recognition: normalized
    convolution, by which Gabor and the structure tensor leave out invalid pixels.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from scipy.ndimage import correlate1d, maximum_filter, minimum_filter
from typing_extensions import override

from geofuse.errors import ParameterError, UnknownNameError, did_you_mean
from geofuse.features.extractor import (
    FeatureExtractor,
    band_names,
    checked,
    map_features,
    select,
    template_of,
)

#: Side of the tiles in pixels: these features hold a few float64 copies of a window.
LOCAL_TILE = 512

#: Smoothing across the derivative of the gradient operators; sums to 1.
_OPERATORS = {"scharr": (3 / 16, 10 / 16, 3 / 16), "sobel": (1 / 4, 2 / 4, 1 / 4)}
_STATISTICS = ("mean", "std", "range")
_STRUCTURE = ("energy", "coherence", "cos2angle", "sin2angle")


@dataclass(frozen=True)
class LocalStatistics(FeatureExtractor):
    """Mean, standard deviation and range of the valid pixels in a square around each.

    NaN only where the pixel itself is invalid. The standard deviation is the one of the
    population, and 0 below the seventh digit of the level.

    Args:
        window: Side of the square in pixels, odd.
        statistics: Some of mean, std, range.
        bands: Names of the bands; none for all.
    """

    window: int = 9
    statistics: tuple[str, ...] = _STATISTICS
    bands: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the window and the names."""
        if self.window < 3 or self.window % 2 == 0:
            raise ParameterError(
                f"expected an odd window of at least 3 pixels, found {self.window}; "
                f"the next one is {max(3, self.window + 1)}"
            )
        _check_names("statistic", self.statistics, _STATISTICS)

    @override
    def extract(
        self, image: xr.DataArray, *, tile: int | None = LOCAL_TILE
    ) -> xr.DataArray:
        names = [f"{name}_w{self.window}" for name in self.statistics]
        compute = functools.partial(_statistics, self.window // 2, self.statistics)
        return _by_band(self, image, self.bands, names, compute, self.window // 2, tile)


@dataclass(frozen=True)
class Gradient(FeatureExtractor):
    """Size of the gradient, in units of the band per pixel.

    NaN where any of the 3 x 3 pixels is invalid, so also at the edge of the image.

    Args:
        operator: 'scharr', nearest to the same in all directions, or 'sobel'.
        bands: Names of the bands; none for all.
    """

    operator: str = "scharr"
    bands: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the operator."""
        _check_names("operator", (self.operator,), tuple(_OPERATORS))

    @override
    def extract(
        self, image: xr.DataArray, *, tile: int | None = LOCAL_TILE
    ) -> xr.DataArray:
        compute = functools.partial(_gradient_size, self.operator)
        return _by_band(
            self, image, self.bands, [f"gradient_{self.operator}"], compute, 1, tile
        )


@dataclass(frozen=True)
class StructureTensor(FeatureExtractor):
    """How much the gradients around a pixel agree, and on what direction.

    The Scharr gradients around a pixel, weighted by a Gaussian cut at three sigma:
    `energy` is the mean of their squared size; `coherence` is 0 where they point
    anywhere and 1 where all lie on one line; `cos2angle` and `sin2angle` are coherence
    times cosine and sine of twice the angle from the x axis (to the east) toward the
    y axis in which rows are counted (to the south): an angle itself would jump.

    Gradients that touch an invalid pixel are left out. NaN where the pixel itself is
    invalid or no gradient is left; coherence is 0 where nothing varies.

    Args:
        sigma: Standard deviation of the Gaussian, in pixels.
        bands: Names of the bands; none for all.
    """

    sigma: float = 2.0
    bands: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the Gaussian."""
        _check_size("sigma", self.sigma, 0.3)

    @override
    def extract(
        self, image: xr.DataArray, *, tile: int | None = LOCAL_TILE
    ) -> xr.DataArray:
        names = [f"structure_{name}_s{self.sigma:g}" for name in _STRUCTURE]
        compute = functools.partial(_structure, self.sigma)
        halo = _reach(self.sigma) + 1
        return _by_band(self, image, self.bands, names, compute, halo, tile)


@dataclass(frozen=True)
class Gabor(FeatureExtractor):
    """Amplitude of waves of some lengths in some directions.

    A complex wave under a Gaussian of 0.56 wavelengths (one octave wide), cut at three
    sigma, from which the Gaussian's mean is taken out, so that brightness alone gives
    0. A cosine of amplitude A and the filter's own length and direction gives about A.
    The direction is the one in which the wave runs, from the x axis (to the east)
    toward the y axis in which rows are counted (to the south), in degrees.

    Invalid pixels are left out of wave and mean alike. NaN where the pixel itself is
    invalid.

    Args:
        wavelengths: In pixels, each at least 2.
        directions: How many directions in half a turn, the first of them along x.
        bands: Names of the bands; none for all.
    """

    wavelengths: tuple[float, ...] = (4.0, 8.0)
    directions: int = 4
    bands: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the waves."""
        if not self.wavelengths or self.directions < 1:
            raise ParameterError(
                f"expected at least one wavelength and one direction, found "
                f"{self.wavelengths} and {self.directions}; for example (4, 8) and 4"
            )
        for wavelength in self.wavelengths:
            _check_size("wavelength", wavelength, 2.0)

    @override
    def extract(
        self, image: xr.DataArray, *, tile: int | None = LOCAL_TILE
    ) -> xr.DataArray:
        waves = [
            (length, 180.0 * number / self.directions)
            for length in self.wavelengths
            for number in range(self.directions)
        ]
        names = [f"gabor_l{length:g}_a{angle:g}" for length, angle in waves]
        compute = functools.partial(_gabor, tuple(waves))
        halo = _reach(0.56 * max(self.wavelengths))
        return _by_band(self, image, self.bands, names, compute, halo, tile)


def _check_names(kind: str, names: Sequence[str], known: tuple[str, ...]) -> None:
    if not names:
        raise ParameterError(
            f"expected at least one {kind}, found none; known: {', '.join(known)}"
        )
    for name in names:
        if name not in known:
            raise UnknownNameError(
                f"expected a {kind}, found {name!r}; {did_you_mean(name, known)}"
            )


def _check_size(name: str, value: float, least: float) -> None:
    if not least <= value <= 200:
        raise ParameterError(
            f"expected a {name} of {least:g} to 200 pixels, found {value}; smaller "
            "ones fall between pixels, for larger ones aggregate the image first"
        )


def _reach(sigma: float) -> int:
    return math.ceil(3 * sigma)


def _by_band(
    extractor: FeatureExtractor,
    image: xr.DataArray,
    bands: Sequence[str],
    names: Sequence[str],
    compute: Callable[[np.ndarray], np.ndarray],
    halo: int,
    tile: int | None,
) -> xr.DataArray:
    """Run a function of one window, (y, x) -> (name, y, x), over bands and tiles."""
    chosen = select(checked(image), bands, needed_by=repr(extractor))
    full = [f"{band}_{name}" for band in band_names(chosen) for name in names]
    template = template_of(
        chosen, full, extractor=extractor, long_name="local features"
    )
    return map_features(
        functools.partial(_run, compute, len(names), halo),
        chosen,
        template,
        halo=halo,
        tile=tile,
    )


def _run(
    compute: Callable[[np.ndarray], np.ndarray],
    count: int,
    halo: int,
    window: np.ndarray,
    shared: Any,
) -> np.ndarray:
    height, width = (size - 2 * halo for size in window.shape[1:])
    core = (slice(halo, halo + height), slice(halo, halo + width))
    features = np.empty((len(window) * count, height, width), np.float32)
    for number, band in enumerate(window):
        values = np.where(np.isfinite(band), band, np.nan).astype(np.float64)
        computed = compute(values)[:, *core]
        features[number * count : (number + 1) * count] = computed
    return features


def _separable(values: np.ndarray, along_y: Any, along_x: Any) -> np.ndarray:
    """Weighted sums over a window; beyond the array is 0, which the halo hides."""
    once = correlate1d(values, along_y, axis=0, mode="constant")
    return correlate1d(once, along_x, axis=1, mode="constant")


def _statistics(radius: int, names: tuple[str, ...], values: np.ndarray) -> np.ndarray:
    valid = np.isfinite(values)
    known = np.where(valid, values, 0.0)
    ones = np.ones(2 * radius + 1)
    here = np.where(valid, 1.0, np.nan)
    results: dict[str, np.ndarray] = {}
    if "mean" in names or "std" in names:
        count = np.maximum(_separable(valid.astype(np.float64), ones, ones), 1.0)
        mean = _separable(known, ones, ones) / count
        square = _separable(known**2, ones, ones) / count
        variance = square - mean**2
        # What is left of equal pixels is the rounding of float64.
        results["std"] = np.sqrt(np.where(variance > 1e-14 * square, variance, 0.0))
        results["mean"] = mean
    if "range" in names:
        size = 2 * radius + 1
        most = maximum_filter(
            np.where(valid, values, -np.inf), size, mode="constant", cval=-np.inf
        )
        least = minimum_filter(
            np.where(valid, values, np.inf), size, mode="constant", cval=np.inf
        )
        results["range"] = np.where(valid, most, 0.0) - np.where(valid, least, 0.0)
    return np.stack([results[name] * here for name in names])


def _gradient(operator: str, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Change per pixel along x and along y; NaN where one of 3 x 3 is invalid."""
    step, smooth = (-0.5, 0.0, 0.5), _OPERATORS[operator]
    return _separable(values, smooth, step), _separable(values, step, smooth)


def _gradient_size(operator: str, values: np.ndarray) -> np.ndarray:
    return np.hypot(*_gradient(operator, values))[None]


def _gaussian(sigma: float) -> np.ndarray:
    offsets = np.arange(-_reach(sigma), _reach(sigma) + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    return weights / weights.sum()


def _structure(sigma: float, values: np.ndarray) -> np.ndarray:
    x, y = _gradient("scharr", values)
    used = np.isfinite(x) & np.isfinite(y)
    x, y = np.where(used, x, 0.0), np.where(used, y, 0.0)
    weights = _gaussian(sigma)
    total = _separable(used.astype(np.float64), weights, weights)
    missing = ~np.isfinite(values) | (total <= 0)
    total = np.where(missing, np.nan, total)
    xx, xy, yy = (
        _separable(product, weights, weights) / total
        for product in (x * x, x * y, y * y)
    )
    energy = xx + yy
    varies = np.where(energy > 0, energy, 1.0)
    cosine, sine = (xx - yy) / varies, 2 * xy / varies
    return np.stack([energy, np.hypot(cosine, sine), cosine, sine])


def _gabor(waves: tuple[tuple[float, float], ...], values: np.ndarray) -> np.ndarray:
    valid = np.isfinite(values)
    known, ones = np.where(valid, values, 0.0), valid.astype(np.float64)
    features = np.empty((len(waves), *values.shape))
    for number, (length, angle) in enumerate(waves):
        weights = _gaussian(0.56 * length)
        offsets = np.arange(len(weights)) - len(weights) // 2
        turn = 2 * math.pi / length
        along_x, along_y = (
            weights * np.exp(-1j * turn * part * offsets)
            for part in (math.cos(math.radians(angle)), math.sin(math.radians(angle)))
        )
        total = _separable(ones, weights, weights)
        mean = _separable(known, weights, weights) / np.where(valid, total, np.nan)
        wave = _separable(known, along_y, along_x)
        wave -= mean * _separable(ones, along_y, along_x)
        features[number] = 2 * np.abs(wave) / total
    return features
