"""Principal components: many bands in a few that hold most of what differs.

    component = (pixel - mean) @ eigenvector of the covariance of the whole image

The covariance is a number of the whole scene: it is summed over a fixed lattice of
tiles in float64, in one scan, and every tile is projected with the same vectors. So
components join without a seam, and tile size never changes them.

References:
    Chan, Golub and LeVeque (1983), The American Statistician 37: merging of moments.
"""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from dask.delayed import Delayed
from typing_extensions import override

from geofuse.errors import ParameterError
from geofuse.features.extractor import (
    FEATURE_TILE,
    FeatureExtractor,
    checked,
    map_features,
    select,
    template_of,
)
from geofuse.tiling import reduce_tiles

#: Rows that a scan takes at once, so that it holds little memory.
_ROWS = 128


class Moments(NamedTuple):
    """Joint moments of the bands over the pixels that are valid in all of them.

    Attributes:
        pixels: Number of pixels.
        mean: (band,).
        products: Sums of products of deviations from the mean, (band, band).
    """

    pixels: int
    mean: np.ndarray
    products: np.ndarray


class Components(NamedTuple):
    """Principal components of a scene, all of them, in order of their variance.

    Attributes:
        mean: Mean of each band, (band,).
        vectors: (component, band), of length 1. The entry of a vector that is largest
            in size is positive, so that the sign does not depend on the machine.
        variances: Population variance of each component, (component,).
    """

    mean: np.ndarray
    vectors: np.ndarray
    variances: np.ndarray

    @property
    def explained(self) -> np.ndarray:
        """Share of the total variance of each component; NaN where nothing varies."""
        total = self.variances.sum()
        return self.variances / (total if total > 0 else np.nan)


@dataclass(frozen=True)
class PrincipalComponents(FeatureExtractor):
    """The first principal components of an image.

    NaN where any of the bands is invalid; everywhere where fewer than two pixels are
    valid. Computing one tile scans the whole image once.

    Args:
        count: How many components, at most the number of bands.
        bands: Names of the bands that take part; none for all.
        standardized: Divide each band by its standard deviation first, so that bands of
            different units (reflectance, elevation) count alike.
    """

    count: int = 3
    bands: tuple[str, ...] = ()
    standardized: bool = False

    def __post_init__(self) -> None:
        """Check the number of components."""
        if self.count < 1 or (self.bands and self.count > len(self.bands)):
            raise ParameterError(
                f"expected a count of 1 to the number of bands, found {self.count} of "
                f"{len(self.bands) or 'all'} bands; ask for fewer components"
            )

    def summarize(self, image: xr.DataArray) -> Delayed:
        """The components of a scene, lazily: `.compute()` scans it once.

        Returns:
            A lazy `Components`, whose vectors apply to the bands as they are: where
            `standardized`, they are divided by the standard deviations (and no longer
            of length 1).
        """
        return self._summary(self._chosen(image))

    @override
    def extract(
        self,
        image: xr.DataArray,
        *,
        tile: int | None = FEATURE_TILE,
        components: Delayed | None = None,
    ) -> xr.DataArray:
        """Project an image, lazily.

        Args:
            image: Image (band, y, x), NaN where invalid.
            tile: Side of the tiles in pixels. The result does not depend on it.
            components: A lazy `Components` to project on, those of another scene for
                instance; by default those of this image.
        """
        chosen = self._chosen(image)
        names = [f"pc{number}" for number in range(1, self.count + 1)]
        template = template_of(
            chosen, names, extractor=self, long_name="principal components"
        )
        return map_features(
            functools.partial(_project, self.count),
            chosen,
            template,
            halo=0,
            tile=tile,
            shared=self._summary(chosen) if components is None else components,
        )

    def _chosen(self, image: xr.DataArray) -> xr.DataArray:
        chosen = select(checked(image), self.bands, needed_by=repr(self))
        if self.count > len(chosen):
            raise ParameterError(
                f"expected at most as many components as bands, found {self.count} of "
                f"{len(chosen)} bands; ask for fewer components"
            )
        return chosen

    def _summary(self, chosen: xr.DataArray) -> Delayed:
        return reduce_tiles(
            _moments,
            {"image": chosen},
            functools.partial(_components, self.standardized),
            token=f"principal components, standardized={self.standardized}",
        )


def _moments(arrays: dict[str, np.ndarray], shared: Any) -> Moments:
    """Moments of one tile of the scan, a few rows at a time."""
    image = arrays["image"]
    parts = []
    for start in range(0, image.shape[1], _ROWS):
        pixels = image[:, start : start + _ROWS].reshape(len(image), -1)
        pixels = pixels[:, np.isfinite(pixels).all(axis=0)].astype(np.float64)
        count = pixels.shape[1]
        mean = pixels.sum(axis=1) / max(count, 1)
        pixels -= mean[:, None]
        parts.append(Moments(count, mean, pixels @ pixels.T))
    return _merged(parts)


def _merged(parts: list[Moments]) -> Moments:
    """Moments of a whole from those of its parts, in their order."""
    total = parts[0]
    for part in parts[1:]:
        count = total.pixels + part.pixels
        if count == 0:
            continue
        step = part.mean - total.mean
        share = part.pixels / count
        between = np.outer(step, step) * (total.pixels * share)
        total = Moments(
            count, total.mean + step * share, total.products + part.products + between
        )
    return total


def _components(standardized: bool, parts: list[Moments]) -> Components:
    """Principal components of the moments of a scene."""
    moments = _merged(parts)
    bands = len(moments.mean)
    if moments.pixels < 2:
        missing = np.full((bands, bands), np.nan)
        return Components(moments.mean, missing, missing[0])
    covariance = moments.products / moments.pixels
    spread = np.ones(bands)
    if standardized:
        spread = np.sqrt(np.diag(covariance))
        spread[spread == 0] = 1.0
    variances, vectors = np.linalg.eigh(covariance / np.outer(spread, spread))
    order = np.argsort(-variances, kind="stable")
    variances, vectors = np.maximum(variances[order], 0.0), vectors.T[order]
    largest = np.argmax(np.abs(vectors), axis=1)
    signs = np.sign(vectors[np.arange(bands), largest])
    return Components(moments.mean, vectors * signs[:, None] / spread, variances)


def _project(count: int, image: np.ndarray, components: Components) -> np.ndarray:
    """Components of the pixels of a tile; float64 sums in the order of the bands."""
    projected = np.empty((count, *image.shape[1:]), np.float32)
    for number in range(count):
        total = np.zeros(image.shape[1:])
        for band, values in enumerate(image):
            total += components.vectors[number, band] * (values - components.mean[band])
        total[~np.isfinite(total)] = np.nan
        projected[number] = total
    return projected
