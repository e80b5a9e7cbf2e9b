"""Hand-made features by modality: what trees see of a scene, and networks beside its bands.

    optical     bands, indices, local level and spread of bands and of components
    SAR         dB, ratio of the polarizations, local level and spread
    one band    value, slope, local level and spread: elevation, height, temperature
    others      bands, or components of many, local level and spread: hyperspectral, lidar

Texture (GLCM) and openings are not among them: at a GSD of 10 m they gained nothing on
pixels that were left out, and they are missing beside every gap. Where pixels are smaller
than things, ask for them: `features=FeatureStack(…)`.

What features need to know of a whole scene, the components and the ranges of gray levels,
is found in the scenes of the training and kept. So a pixel's features do not depend on the
scene that is mapped, and mean the same in every scene.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from dask.base import compute

from geofuse.errors import ParameterError, UnknownNameError, did_you_mean
from geofuse.features.components import PrincipalComponents
from geofuse.features.extractor import FeatureExtractor
from geofuse.features.indices import Indices, can_compute
from geofuse.features.local import (
    Gabor,
    Gradient,
    LocalStatistics,
    StructureTensor,
)
from geofuse.features.modalities import Bands, On, is_radar
from geofuse.features.morphology import AttributeProfile, MorphologicalProfile
from geofuse.features.stack import STACK_TILE, FeatureStack
from geofuse.features.texture import GLCM
from geofuse.landcover.modality import HasImages, Modality, sample
from geofuse.training.weights import Weights

#: Indices that an optical image gives, each where its bands are.
INDICES = ("ndvi", "ndre", "ndwi", "mndwi", "ndmi", "nbr", "ndbi", "psri", "ndti")
#: More bands than this are looked at through so many principal components.
MOST_BANDS, FEWER = 13, 10
#: Polarizations whose ratio tells of the way waves are scattered.
RATIOS = (("vh", "vv"), ("hv", "hh"))
#: Sides of the squares of local level and spread, in pixels.
WINDOWS = (5, 11, 21, 41)

#: Extractors by the name under which a saved classifier knows them.
EXTRACTORS: dict[str, type[FeatureExtractor]] = {
    "attribute_profile": AttributeProfile,
    "bands": Bands,
    "gabor": Gabor,
    "glcm": GLCM,
    "gradient": Gradient,
    "indices": Indices,
    "local_statistics": LocalStatistics,
    "morphological_profile": MorphologicalProfile,
    "principal_components": PrincipalComponents,
    "structure_tensor": StructureTensor,
}


def stack_of(modality: Modality) -> FeatureStack:
    """The features that a modality has by default, by its bands.

    >>> stack_of(Modality("dem", ("elevation",))).bands
    True
    """
    image = _without_pixels(modality)
    name, count = modality.name, len(modality.bands)
    if is_radar(image):
        pairs = [pair for pair in RATIOS if set(pair) <= set(modality.bands)]
        ratios = tuple(f"ratio_{a}_{b} = {a} / {b}" for a, b in pairs)
        return FeatureStack(bands=True, indices=ratios, local=_levels(WINDOWS))
    if count == 1:
        return FeatureStack(bands=True, local=(Gradient(), *_levels(WINDOWS)))
    if count > MOST_BANDS:
        components = (Bands(), *_levels(WINDOWS[1:3]))
        return FeatureStack(
            local=tuple(On(name, each, components=FEWER) for each in components)
        )
    indices = tuple(index for index in INDICES if can_compute(index, image))
    return FeatureStack(
        bands=True,
        indices=indices,
        local=(
            *(On(name, each) for each in _levels(WINDOWS[1:3])),
            *_levels((WINDOWS[0], WINDOWS[3])),
        ),
        components=3,
    )


def _levels(windows: Sequence[int]) -> tuple[LocalStatistics, ...]:
    return tuple(LocalStatistics(window, ("mean", "std")) for window in windows)


def stacks_by_modality(
    features: FeatureStack | None, modalities: Sequence[Modality]
) -> tuple[FeatureStack, ...]:
    """A feature stack for each modality, so that one that is missing costs nothing.

    Args:
        features: What to compute; None for `stack_of` each. Entries that name no modality
            go to all, indices to the first one that has their bands; a modality for
            which nothing is left gives its bands.
        modalities: What is there.

    Raises:
        UnknownNameError: An entry names a modality that is not there.
        BandMismatchError: While computing: no modality has the bands of an index.
    """
    if features is None:
        return tuple(stack_of(modality) for modality in modalities)
    images = [_without_pixels(modality) for modality in modalities]
    able = {
        index: next(
            (n for n, image in enumerate(images) if can_compute(index, image)), 0
        )
        for index in features.indices
    }
    return tuple(
        _part(features, number, modality, able, modalities)
        for number, modality in enumerate(modalities)
    )


def _part(
    features: FeatureStack,
    number: int,
    modality: Modality,
    able: Mapping[str, int],
    modalities: Sequence[Modality],
) -> FeatureStack:
    """What a stack computes of one modality."""
    names = [each.name for each in modalities]
    kinds: dict[str, Any] = {}
    for kind in ("texture", "profiles", "local"):
        entries = getattr(features, kind)
        for entry in entries:
            if isinstance(entry, On) and entry.modality not in names:
                raise UnknownNameError(
                    f"expected a modality out of {', '.join(names)}, found "
                    f"{entry.modality!r}; {did_you_mean(entry.modality, names)}"
                )
        kinds[kind] = tuple(
            entry
            for entry in entries
            if not isinstance(entry, On) or entry.modality == modality.name
        )
    indices = tuple(index for index, owner in able.items() if owner == number)
    bands = features.bands or not (indices or any(kinds.values()))
    return replace(features, indices=indices, bands=bands, **kinds)


def scales_of(
    cases: Sequence[HasImages],
    modalities: Sequence[Modality],
    stacks: Sequence[FeatureStack],
) -> Weights:
    """What features need to know of the scenes, from a sample of the pixels of all cases.

    Args:
        cases: Each has some of the modalities.
        modalities: What is there.
        stacks: A stack for each.

    Raises:
        ParameterError: SAR is in dB in one case and in linear power in another.
    """
    scales: dict[str, np.ndarray] = {}
    for modality, stack in zip(modalities, stacks, strict=True):
        images = [c.images[modality.name] for c in cases if modality.name in c.images]
        units = {str(image.attrs.get("units")) for image in images}
        if len(units) > 1:
            raise ParameterError(
                f"expected {modality.name} in one unit in all cases, found "
                f"{sorted(units)}; convert with geofuse.to_db or from_db"
            )
        samples = compute(*map(sample, images))
        pixels = _as_image(np.concatenate(samples, axis=1), modality)
        pixels.attrs = dict(images[0].attrs)
        scales |= stack.summarize({modality.name: pixels}).compute()
    return Weights(scales)


def features_of(
    image: xr.DataArray,
    modality: Modality,
    stack: FeatureStack,
    scales: Weights,
    *,
    tile: int | None = STACK_TILE,
) -> xr.DataArray:
    """The features (feature, y, x) of a modality, lazily, named `{modality}_{feature}`.

    Args:
        image: Its image (band, y, x), NaN where invalid.
        modality: Which one it is.
        stack: What to compute.
        scales: What `scales_of` gave.
        tile: Side of the tiles in pixels; the result does not depend on it.

    Raises:
        ParameterError: The image is smaller than a window, or SAR without a unit.
    """
    known = {name: value.astype(np.float64) for name, value in scales.arrays.items()}
    given = image.assign_coords(band=list(modality.bands))
    return stack.extract({modality.name: given}, summary=known, tile=tile)


def _as_image(pixels: np.ndarray, modality: Modality) -> xr.DataArray:
    """Pixels (band, pixel) side by side in a square, as features know images."""
    side = max(int(np.ceil(np.sqrt(pixels.shape[1]))), 1)
    square = np.full((len(pixels), side * side), np.nan, np.float32)
    square[:, : pixels.shape[1]] = pixels
    coords = {"band": list(modality.bands), "y": np.arange(side), "x": np.arange(side)}
    return xr.DataArray(
        square.reshape(-1, side, side),
        dims=("band", "y", "x"),
        coords={name: np.asarray(value) for name, value in coords.items()},
    )


def _without_pixels(modality: Modality) -> xr.DataArray:
    return _as_image(np.empty((len(modality.bands), 0), np.float32), modality)
