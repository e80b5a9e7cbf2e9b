"""The feature stack: all hand-made features of all modalities, as one named image.

    {"s2": optical, "s1": SAR, "dem": elevation}
        ── indices ──>   s2_ndvi, s1_rvi, …           each where its bands are
        ── texture ──>   s2_pc1_glcm_contrast_w9, …   of the components of optical,
        ── profiles ──>  s1_vv_opening_r2, …          of SAR in dB, of single bands
        = one image (feature, y, x), lazy, with names: what classifiers take

An entry without a modality goes to all of them, and there to what it is commonly made
of: the first principal components of an optical image, the dB of SAR (speckle is as
rough in bright places as in dark ones), the band of an elevation model. `On` says
otherwise.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import xarray as xr
from dask.delayed import Delayed, delayed

from geofuse.errors import ParameterError, UnknownNameError, did_you_mean
from geofuse.features.extractor import FeatureExtractor
from geofuse.features.indices import Indices, can_compute
from geofuse.features.modalities import (
    Bands,
    Job,
    On,
    by_modality,
    flat,
    is_radar,
    stored,
)

#: Side of the tiles of a stack in pixels: a tile holds all features at once.
STACK_TILE = 512

Entry = FeatureExtractor | On


@dataclass(frozen=True)
class FeatureStack:
    """Hand-made features of one or several modalities, as one lazy image.

    Attributes:
        indices: Names of indices or formulas ('name = formula'); each is computed of
            the first modality that has its bands. In linear power where that is SAR.
        texture: `GLCM` or others, with `On` or without; one or several.
        profiles: `MorphologicalProfile`, `AttributeProfile`, likewise.
        local: `LocalStatistics`, `Gradient`, `StructureTensor`, `Gabor`, likewise.
        bands: Also the bands as they are, in front.
        components: How many principal components stand for an optical image of more
            bands, where an entry has no `On`.

    Raises:
        ParameterError: Nothing is asked for, or an entry is none.

    >>> from geofuse.features.texture import GLCM
    >>> from geofuse.synthetic import simulate_case
    >>> fine = simulate_case(size=32).inputs.pairs[0].fine
    >>> stack = FeatureStack(
    ...     indices=("ndvi",), texture=GLCM(window=5, features=("contrast", "entropy"))
    ... )
    >>> stack.extract(fine).feature.values.tolist()[:3]
    ['ndvi', 'pc1_glcm_contrast_w5', 'pc1_glcm_entropy_w5']
    """

    indices: tuple[str, ...] = ()
    texture: Entry | tuple[Entry, ...] = ()
    profiles: Entry | tuple[Entry, ...] = ()
    local: Entry | tuple[Entry, ...] = ()
    bands: bool = False
    components: int = 2

    def __post_init__(self) -> None:
        names: Any = self.indices
        names = (names,) if isinstance(names, str) else tuple(names)
        object.__setattr__(self, "indices", names)
        if self.indices:
            Indices(self.indices)  # refuses unknown names
        if self.components < 1:
            raise ParameterError(
                f"expected at least 1 component, found {self.components}; 2 are usual"
            )
        for kind in ("texture", "profiles", "local"):
            found: Any = getattr(self, kind)
            entries = (found,) if isinstance(found, Entry) else tuple(found)
            object.__setattr__(self, kind, entries)
            for entry in entries:
                if not isinstance(entry, Entry):
                    raise ParameterError(
                        f"expected {kind} as extractors or On(…), found {entry!r}; for "
                        "instance texture=GLCM(window=9)"
                    )
        if not (self.indices or self.bands or any(self._entries())):
            raise ParameterError(
                "expected at least one feature, found none; for instance "
                "FeatureStack(indices=('ndvi',), texture=GLCM())"
            )

    def extract(
        self,
        images: xr.DataArray | Mapping[str, xr.DataArray],
        *,
        summary: Mapping[str, Any] | None = None,
        tile: int | None = STACK_TILE,
    ) -> xr.DataArray:
        """Compute all features, lazily.

        Args:
            images: Images (band, y, x) by modality, on one grid, or one image; NaN where
                invalid. SAR must tell its unit in `attrs["units"]`: "dB", or "1" for
                linear power.
            summary: What `summarize(…).compute()` gave, for this scene or for another;
                by default this scene's, found while computing.
            tile: Side of the tiles in pixels. The result does not depend on it.

        Returns:
            Features (feature, y, x), float32, NaN by each extractor's rule, on the grid
            of the images. Names begin with the modality where `images` is a mapping.

        Raises:
            GridMismatchError: The images are not on one grid.
            UnknownNameError: An entry names a modality that is not there.
            BandMismatchError: No modality has the bands of an index, or one lacks a band
                that an entry names.
            ParameterError: SAR without a unit; two features of one name; a window or
                radius larger than the images; a summary of another stack.
        """
        given = by_modality(images)
        parts = []
        for job in self._jobs(given):
            shared = None if summary is None else stored(job, summary)
            features = job.extract(given[job.modality], shared, tile)
            if isinstance(images, Mapping):
                names = [f"{job.modality}_{name}" for name in features.feature.values]
                features = features.assign_coords(feature=names)
            parts.append(features)
        return self._joined(parts)

    def summarize(self, images: xr.DataArray | Mapping[str, xr.DataArray]) -> Delayed:
        """Find what the features need to know of the whole scene, lazily.

        Args:
            images: As for `extract`.

        Returns:
            A lazy dictionary of arrays by name: means and vectors of the components,
            ranges of the gray levels. Profiles need none.

        Raises:
            GridMismatchError: And others, as `extract`.
        """
        given = by_modality(images)
        found: dict[str, Delayed] = {}
        for job in self._jobs(given):
            found |= job.summarize(given[job.modality])
        return delayed(flat)(found)

    def _entries(self) -> Iterator[Entry]:
        for kind in (self.texture, self.profiles, self.local):
            assert isinstance(kind, tuple)
            yield from kind

    def _jobs(self, images: Mapping[str, xr.DataArray]) -> list[Job]:
        """What to compute of which modality, in the order of the features."""
        jobs = []
        if self.bands:
            jobs += [Job(name, Bands()) for name in images]
        jobs += self._index_jobs(images)
        for entry in self._entries():
            if isinstance(entry, On):
                if entry.modality not in images:
                    raise UnknownNameError(
                        f"expected a modality out of {', '.join(images)}, found "
                        f"{entry.modality!r}; {did_you_mean(entry.modality, images)}"
                    )
                jobs.append(
                    Job(entry.modality, entry.extractor, entry.bands, entry.components)
                )
                continue
            for name, image in images.items():
                many = not is_radar(image) and image.sizes["band"] > self.components
                jobs.append(Job(name, entry, (), self.components if many else None))
        return jobs

    def _index_jobs(self, images: Mapping[str, xr.DataArray]) -> list[Job]:
        """All indices of a modality are one job: they are computed in one pass."""
        taken: dict[str, list[str]] = {}
        for index in self.indices:
            able = [name for name, image in images.items() if can_compute(index, image)]
            # Where none is, the first one says what is missing.
            taken.setdefault((able or list(images))[0], []).append(index)
        return [Job(name, Indices(tuple(asked))) for name, asked in taken.items()]

    def _joined(self, parts: list[xr.DataArray]) -> xr.DataArray:
        names = [str(name) for part in parts for name in part.feature.values]
        double = sorted({name for name in names if names.count(name) > 1})
        if double:
            raise ParameterError(
                f"expected features of different names, found {', '.join(double)} more "
                "than once; give each entry once, or other sizes"
            )
        # Modalities have dates of their own; a stack of several has none.
        times = {str(part.coords.get("time", xr.DataArray(0)).values) for part in parts}
        if len(times) > 1:
            parts = [part.drop_vars("time", errors="ignore") for part in parts]
        joined = xr.concat(parts, "feature", coords="minimal", compat="override")
        joined.attrs = {
            "long_name": "hand-made features",
            "extractor": repr(self),
            "grid_mapping": "spatial_ref",
        }
        return joined.rename("features")
