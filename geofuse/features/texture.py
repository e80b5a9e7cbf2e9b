"""Texture: how gray levels sit beside each other in a window (GLCM).

Two fields may have the same mean and differ to the eye: an orchard is regular, a meadow
is smooth, a town is rough. The gray-level co-occurrence matrix P(i, j) says how often a
pixel of level i has a pixel of level j beside it; Haralick et al. (1973) describe it by
a few numbers:

    contrast       sum P (i-j)^2           asm         sum P^2
    dissimilarity  sum P |i-j|             energy      sqrt(asm)
    homogeneity    sum P / (1 + (i-j)^2)   entropy     - sum P ln P
    mean           m = sum P i             variance    v = sum P (i-m)^2
    correlation    sum P (i-m) (j-m) / v   (1 where the window is flat)
    cluster_shade, cluster_prominence      sum P (i+j-2m)^3, sum P (i+j-2m)^4

This is scikit-image's definition, at every pixel: both pixels of a pair lie inside the
window around it, P is symmetric and sums to 1, features are computed for each direction
and then averaged. `geofuse.features.cooccurrence` says how it is done fast.

References:
    Haralick, Shanmugam, Dinstein (1973), Textural features for image classification,
    IEEE Transactions on Systems, Man, and Cybernetics 3(6), 610-621.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Integral, Real
from typing import Any

import numpy as np
import xarray as xr
from dask.delayed import Delayed
from typing_extensions import override

from geofuse.errors import ParameterError, UnknownNameError, did_you_mean
from geofuse.features import cooccurrence
from geofuse.features.extractor import (
    FEATURE_TILE,
    FeatureExtractor,
    band_names,
    checked,
    map_features,
    template_of,
)
from geofuse.tiling import reduce_tiles, share

#: About how many pixels a scene-wide range is made of.
_SAMPLE = 2**20


@dataclass(frozen=True)
class GLCM(FeatureExtractor):
    """Gray-level co-occurrence texture of every band, by scikit-image's definition.

    A pixel is NaN where the window around it holds an invalid pixel or leaves the
    image: a texture of part of a window is not comparable with one of a whole window.
    Fill gaps first if that takes too much.

    Attributes:
        window: Side of the window in pixels, odd, 3 to 127.
        levels: Number of gray levels, 2 to 256, of equal width.
        offsets: Directions: rows and columns from the first pixel of a pair to the
            second, shorter than the window. (0, 1) and (0, -1) give the same.
        features: Which features, in the order wanted; see the module.
        value_range: Values that the gray levels divide, in the unit of the image, for
            all bands; what lies outside goes to the first or last level. `(0, levels)`
            takes whole numbers as they are. None: of each band of the scene, by
            `percentiles`; never of a tile.
        percentiles: Of the scene's valid pixels, where `value_range` is None. The
            default lets no single bright roof use up the levels; (0, 100) is from the
            least to the greatest. Taken from a regular sample of about a million
            pixels of a larger scene (0 and 100 from all pixels).
        average: Average the features over the directions. Otherwise one feature map for
            each direction.

    Raises:
        ParameterError: A value is out of range.
        UnknownNameError: There is no feature of that name.

    >>> import numpy as np, xarray as xr
    >>> stripes = np.tile(np.float32([0, 1]), (1, 5, 4))
    >>> image = xr.DataArray(stripes, dims=("band", "y", "x"), coords={"band": ["nir"]})
    >>> glcm = GLCM(window=3, levels=2, offsets=((0, 1),), features=("contrast",))
    >>> texture = glcm.extract(image)
    >>> texture.feature.item()
    'nir_glcm_contrast_w3'
    >>> texture.values[0, 1]
    array([nan,  1.,  1.,  1.,  1.,  1.,  1., nan], dtype=float32)
    """

    window: int = 9
    levels: int = 32
    offsets: tuple[tuple[int, int], ...] = ((0, 1), (1, 1), (1, 0), (1, -1))
    features: tuple[str, ...] = (
        "contrast",
        "dissimilarity",
        "homogeneity",
        "asm",
        "energy",
        "entropy",
        "mean",
        "variance",
        "correlation",
    )
    value_range: tuple[float, float] | None = None
    percentiles: tuple[float, float] = (1.0, 99.0)
    average: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot work, and keep plain tuples."""
        largest = cooccurrence.LARGEST_WINDOW
        if not _whole(self.window) or not 3 <= self.window <= largest:
            raise ParameterError(
                f"expected a window of 3 to {largest} pixels, found {self.window!r}; "
                "the default is 9"
            )
        if self.window % 2 == 0:
            raise ParameterError(
                f"expected an odd window, which has a pixel in its middle, found "
                f"{self.window}; take {self.window - 1} or {self.window + 1}"
            )
        if not _whole(self.levels) or not 2 <= self.levels <= cooccurrence.MOST_LEVELS:
            raise ParameterError(
                f"expected 2 to {cooccurrence.MOST_LEVELS} gray levels, found "
                f"{self.levels!r}; 16 to 64 are usual"
            )
        object.__setattr__(self, "offsets", _offsets(self.offsets, self.window))
        object.__setattr__(self, "features", _features(self.features))
        if self.value_range is not None:
            _check_interval(self.value_range, "value_range", -math.inf, math.inf)
            low, high = self.value_range
            object.__setattr__(self, "value_range", (float(low), float(high)))
        _check_interval(self.percentiles, "percentiles", 0.0, 100.0)
        low, high = self.percentiles
        object.__setattr__(self, "percentiles", (float(low), float(high)))

    @property
    def halo(self) -> int:
        """How far from a pixel texture looks, in pixels."""
        return self.window // 2

    @override
    def extract(
        self,
        image: xr.DataArray,
        *,
        tile: int | None = FEATURE_TILE,
        ranges: Delayed | None = None,
    ) -> xr.DataArray:
        """Compute the texture of every band of an image, lazily.

        Args:
            image: Image (band, y, x), NaN or infinite where invalid. Backscatter: in
                dB, where speckle is as rough in bright places as in dark ones.
            tile: Side of the tiles in pixels. The result does not depend on it.
            ranges: What `summarize` gave for this scene or another one; by default for
                this image.

        Returns:
            Texture (feature, y, x), float32; see the class for NaN. Levels count from
            0; contrast, variance and mean are in (squared) levels, entropy in nats.
            Names are like `nir_glcm_contrast_w9`, with `_dy1_dx-1` behind where the
            directions are not averaged.

        Raises:
            ParameterError: The image is not (band, y, x), is complex, or is smaller
                than the window.
        """
        image = checked(image)
        if self.window > min(image.shape[-2:]):
            height, width = image.shape[-2:]
            raise ParameterError(
                f"expected an image of at least {self.window}x{self.window} pixels, "
                f"the window of texture, found {height}x{width}; take a smaller window"
            )
        bands = band_names(image)
        return map_features(
            partial(_texture_of_tile, self),
            image,
            template_of(
                image,
                self._names(bands),
                extractor=self,
                long_name="gray-level co-occurrence texture",
            ),
            halo=self.halo,
            tile=tile,
            shared=self._ranges(image) if ranges is None else ranges,
        )

    def summarize(self, image: xr.DataArray) -> Delayed:
        """Lowest and highest value of the gray levels, lazily: `.compute()` scans once.

        Args:
            image: Image (band, y, x).

        Returns:
            A lazy array (band, 2), float64; NaN where a band has no valid pixel.
        """
        return self._ranges(checked(image))

    def _names(self, bands: Sequence[str]) -> list[str]:
        directions = [f"_dy{dy}_dx{dx}" for dy, dx in self.offsets]
        return [
            f"{band}_glcm_{feature}_w{self.window}{direction}"
            for band in bands
            for direction in ([""] if self.average else directions)
            for feature in self.features
        ]

    def _ranges(self, image: xr.DataArray) -> Delayed:
        """Lowest and highest value of the gray levels, a lazy array (band, 2)."""
        bands, height, width = image.shape
        if self.value_range is not None:
            return share(np.tile(self.value_range, (bands, 1)))
        step = max(1, math.ceil(math.sqrt(height * width / _SAMPLE)))
        return reduce_tiles(
            partial(_sample, step),
            {"image": image},
            partial(_range_of_samples, self.percentiles),
            token=f"texture range {step} {self.percentiles}",
        )


def _texture_of_tile(glcm: GLCM, window: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    """Texture (feature, y, x) of a tile, from its window (band, y, x)."""
    plan = cooccurrence.plan(
        window=glcm.window,
        levels=glcm.levels,
        offsets=glcm.offsets,
        features=glcm.features,
        average=glcm.average,
    )
    maps = []
    for band, (low, high) in zip(window, ranges, strict=True):
        gray, valid = cooccurrence.quantize(band, low, high, glcm.levels)
        maps.append(cooccurrence.texture(gray, valid, plan))
    return maps[0] if len(maps) == 1 else np.concatenate(maps)


def _sample(
    step: int, arrays: dict[str, np.ndarray], shared: Any
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each band: least and greatest valid value, and every step-th valid one."""
    found = []
    for band in arrays["image"]:
        valid = band[np.isfinite(band)]
        ends = np.array([valid.min(), valid.max()]) if valid.size else valid
        sample = band[::step, ::step]
        found.append((ends, sample[np.isfinite(sample)]))
    return found


def _range_of_samples(
    percentiles: tuple[float, float],
    samples: list[list[tuple[np.ndarray, np.ndarray]]],
) -> np.ndarray:
    """Percentiles of all tiles together, (band, 2); NaN where a band has no value."""
    ranges = np.full((len(samples[0]), 2), np.nan)
    for band, parts in enumerate(zip(*samples, strict=True)):
        ends = np.concatenate([part[0] for part in parts])
        if not ends.size:
            continue
        # Where the sample met no valid pixel, the ends are all there is.
        sample = np.concatenate([part[1] for part in parts])
        values = (sample if sample.size else ends).astype(np.float64)
        ranges[band] = np.percentile(values, percentiles)
        if percentiles[0] == 0.0:
            ranges[band, 0] = ends.min()
        if percentiles[1] == 100.0:
            ranges[band, 1] = ends.max()
    return ranges


def _whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _offsets(offsets: Any, window: int) -> tuple[tuple[int, int], ...]:
    """Offsets as plain tuples, if all of them are possible."""
    plain = []
    for offset in offsets:
        pair = tuple(offset) if isinstance(offset, Sequence) else ()
        if (
            len(pair) != 2
            or not all(_whole(part) for part in pair)
            or pair == (0, 0)
            or max(abs(part) for part in pair) >= window
        ):
            raise ParameterError(
                f"expected offsets (rows, columns) other than (0, 0) and shorter than "
                f"the window of {window} pixels, found {offset!r}; neighbors are "
                "(0, 1), (1, 1), (1, 0), (1, -1)"
            )
        plain.append((int(pair[0]), int(pair[1])))
    if not plain or len(set(plain)) != len(plain):
        raise ParameterError(
            f"expected at least one offset, each once, found {plain}; neighbors are "
            "(0, 1), (1, 1), (1, 0), (1, -1)"
        )
    return tuple(plain)


def _features(features: Any) -> tuple[str, ...]:
    """Names of features as a plain tuple, if all of them exist."""
    names = (features,) if isinstance(features, str) else tuple(features)
    for name in names:
        if name not in cooccurrence.FEATURES:
            raise UnknownNameError(
                f"expected features of texture, found {name!r}; "
                f"{did_you_mean(str(name), cooccurrence.FEATURES)}"
            )
    if not names or len(set(names)) != len(names):
        raise ParameterError(
            f"expected at least one feature, each once, found {list(names)}; known: "
            f"{', '.join(cooccurrence.FEATURES)}"
        )
    return names


def _check_interval(interval: Any, name: str, least: float, most: float) -> None:
    """Refuse what is not two numbers, the lower one first."""
    pair = tuple(interval) if isinstance(interval, Sequence) else ()
    if (
        len(pair) != 2
        or not all(isinstance(end, Real) and math.isfinite(end) for end in pair)
        or not least <= pair[0] < pair[1] <= most
    ):
        limits = "" if math.isinf(most) else f" between {least:g} and {most:g}"
        raise ParameterError(
            f"expected {name} as two numbers{limits}, the lower one first, found "
            f"{interval!r}; for example {name}=(0, {100 if limits else 0.4})"
        )
