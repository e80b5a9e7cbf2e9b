"""What an extractor looks at in a modality: its bands, its components, SAR in dB.

An optical image is looked at through its first principal components, SAR in dB for
texture and profiles and in linear power for indices, an elevation model as it is. What
texture and components need to know of the whole scene is found in the scene, or taken
from the summary of another one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from dask.delayed import Delayed
from typing_extensions import override

from geofuse.errors import ParameterError
from geofuse.features.components import Components, PrincipalComponents
from geofuse.features.extractor import (
    FEATURE_TILE,
    FeatureExtractor,
    band_names,
    checked,
    select,
)
from geofuse.features.indices import Indices
from geofuse.features.texture import GLCM
from geofuse.rasters.backscatter import from_db, to_db
from geofuse.rasters.grid import check_same_grid
from geofuse.rasters.radar_file import POLARIZATIONS
from geofuse.tiling import share

#: Name of the only modality, where one image is given without a name.
ONLY = "image"


@dataclass(frozen=True)
class On:
    """An extractor, and what it looks at.

    Attributes:
        modality: Name of the modality.
        extractor: What to compute.
        bands: Names of the bands; none for all.
        components: So many first principal components of these bands instead of them.
            None takes the bands themselves, in dB where they are SAR and the extractor
            is none of indices.

    >>> On("s1", GLCM(window=7), bands=("vv",)).bands
    ('vv',)
    """

    modality: str
    extractor: FeatureExtractor
    bands: tuple[str, ...] = ()
    components: int | None = None


@dataclass(frozen=True)
class Bands(FeatureExtractor):
    """The bands as they are; SAR in dB."""

    @override
    def extract(
        self, image: xr.DataArray, *, tile: int | None = FEATURE_TILE
    ) -> xr.DataArray:
        names = band_names(image)
        bands = checked(image).astype(np.float32)
        bands = bands.chunk({"band": -1, "y": tile or -1, "x": tile or -1})
        bands = bands.rename(band="feature").assign_coords(feature=names)
        return bands.where(np.isfinite(bands))


class Job(NamedTuple):
    """One extractor on one modality."""

    modality: str
    extractor: FeatureExtractor
    bands: tuple[str, ...] = ()
    components: int | None = None

    def extract(
        self, image: xr.DataArray, shared: "Shared | None", tile: int | None
    ) -> xr.DataArray:
        """Compute the features of the modality's image, lazily."""
        shared = shared or Shared()
        image = self._looked_at(image, shared.components, tile)
        if isinstance(self.extractor, GLCM):
            return self.extractor.extract(image, tile=tile, ranges=shared.ranges)
        return self.extractor.extract(image, tile=tile)

    def summarize(self, image: xr.DataArray) -> dict[str, Delayed]:
        """Numbers of the whole scene that the features need, by name, lazily."""
        found = {}
        if self.components is not None:
            chosen = self._chosen(image)
            found[self.key("components")] = self._projection().summarize(chosen)
        if isinstance(self.extractor, GLCM):
            looked_at = self._looked_at(image, None, FEATURE_TILE)
            found[self.key("ranges")] = self.extractor.summarize(looked_at)
        return found

    def key(self, what: str) -> str:
        """Name of a number of the scene: the same for all jobs that share it."""
        bands = "+".join(self.bands) or "all"
        source = "bands" if self.components is None else f"pc{self.components}"
        whose = [repr(self.extractor)] if what == "ranges" else []
        return "/".join([self.modality, bands, source, what, *whose])

    def _projection(self) -> PrincipalComponents:
        assert self.components is not None
        return PrincipalComponents(self.components)

    def _chosen(self, image: xr.DataArray) -> xr.DataArray:
        radar = is_radar(image)
        if radar and isinstance(self.extractor, Indices):
            image = _in_power(image, self.modality)
        elif radar:
            image = _in_db(image, self.modality)
        return select(image, self.bands, needed_by=repr(self.extractor))

    def _looked_at(
        self, image: xr.DataArray, components: Delayed | None, tile: int | None
    ) -> xr.DataArray:
        chosen = self._chosen(image)
        if self.components is None:
            return chosen
        projected = self._projection().extract(chosen, tile=tile, components=components)
        return projected.rename(feature="band")


class Shared(NamedTuple):
    """Lazy numbers of a scene that a job shall use instead of this scene's."""

    components: Delayed | None = None
    ranges: Delayed | None = None


def stored(job: Job, summary: Mapping[str, Any]) -> Shared:
    """Take a job's numbers out of a summary."""

    def take(name: str) -> Any:
        if name not in summary:
            raise ParameterError(
                f"expected a summary of this stack, which holds {name!r}, found one "
                f"with {', '.join(map(repr, summary)) or 'nothing'}; make it with "
                "summarize(images).compute()"
            )
        return np.asarray(summary[name])

    components = ranges = None
    if job.components is not None:
        key = job.key("components")
        fields = {field: take(f"{key}/{field}") for field in Components._fields}
        components = share(Components(**fields))
    if isinstance(job.extractor, GLCM):
        ranges = share(take(job.key("ranges")))
    return Shared(components, ranges)


def flat(found: dict[str, Any]) -> dict[str, np.ndarray]:
    """All numbers of a scene as arrays by name, ready for a file."""
    arrays = {}
    for name, value in found.items():
        fields = value._asdict() if isinstance(value, Components) else {"": value}
        for field, array in fields.items():
            arrays[f"{name}/{field}".rstrip("/")] = np.asarray(array)
    return arrays


def by_modality(
    images: xr.DataArray | Mapping[str, xr.DataArray],
) -> dict[str, xr.DataArray]:
    """Images by the name of their modality, if they are on one grid."""
    if isinstance(images, xr.DataArray):
        return {ONLY: images}
    if not images:
        raise ParameterError(
            "expected at least one image, found none; for instance {'s2': image}"
        )
    first_name, first = next(iter(images.items()))
    for name, image in images.items():
        check_same_grid(image, first, names=(name, first_name))
    return dict(images)


def is_radar(image: xr.DataArray) -> bool:
    """Whether all bands are polarizations."""
    return all(name.casefold() in POLARIZATIONS for name in band_names(image))


def _unit(image: xr.DataArray, modality: str) -> str:
    unit = str(image.attrs.get("units", "")).casefold()
    if unit not in ("db", "1"):
        raise ParameterError(
            f"expected SAR {modality!r} to tell its unit in attrs['units'], 'dB', or '1' "
            f"for linear power, found {image.attrs.get('units')!r}; set it"
        )
    return unit


def _in_db(image: xr.DataArray, modality: str) -> xr.DataArray:
    return image if _unit(image, modality) == "db" else to_db(checked(image))


def _in_power(image: xr.DataArray, modality: str) -> xr.DataArray:
    return image if _unit(image, modality) == "1" else from_db(checked(image))
