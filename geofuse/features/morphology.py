"""Morphological and attribute profiles: what stays without the things of a size.

    image      ▁▂▁▁▅▅▅▅▅▁▁    an opening by reconstruction takes away bright things
    opening    ▁▁▁▁▅▅▅▅▅▁▁    that a disk does not fit into, and leaves all others,
    closing    ▁▂▁▁▅▅▅▅▅▁▁    edges included; a closing does so to dark things

The values of a pixel for a row of sizes are its profile: at which size it changes says
how large the thing is that it lies in. The profile of differences has a value just
there. Attribute profiles ask a region for its area, extent, spread or shape instead of
whether a disk fits into it.

All are lazy: nothing is computed before it is asked for. All are *global*: a region may
wind through the whole image. They are exactly equal over tiles nevertheless: a scan
first finds what comes in at the edges of every tile, then each tile is finished by
itself. Each tile is read twice. See `geofuse.features.seams`.

An invalid pixel is a wall: it conducts nothing, is not part of any region, is left out
where a disk meets it, and stays NaN; so is everything beyond the edge of the image, as
in scikit-image. Two pixels that touch by their corners do so also between two walls.

References:
    Pesaresi, M., Benediktsson, J. A. (2001). A new approach for the morphological
    segmentation of high-resolution satellite imagery. IEEE TGRS 39(2), 309-320.
    Benediktsson, J. A. et al. (2005). Classification of hyperspectral data from urban
    areas based on extended morphological profiles. IEEE TGRS 43(3), 480-491.
    Dalla Mura, M. et al. (2010). Morphological attribute profiles for the analysis of
    very high resolution images. IEEE TGRS 48(10), 3747-3762.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr
from typing_extensions import override

from geofuse.errors import ParameterError, UnknownNameError, did_you_mean
from geofuse.features.attributes import ATTRIBUTES
from geofuse.features.components import PrincipalComponents
from geofuse.features.extractor import (
    FEATURE_TILE,
    FeatureExtractor,
    band_names,
    checked,
    template_of,
)
from geofuse.features.reconstruction import check_connectivity
from geofuse.features.tile_attributes import TileAttributes
from geofuse.features.tile_openings import TileOpenings
from geofuse.features.tile_windows import number_tiles
from geofuse.tiling import Lattice, lattice, map_tiles, reduce_tiles

OPERATORS = ("opening", "closing")


@dataclass(frozen=True)
class MorphologicalProfile(FeatureExtractor):
    """Openings and closings by reconstruction with disks of growing radius.

    Features are named `{band}_{operator}_r{radius}`, in the unit of the image, in the
    order band, operator, radius; the image itself is not repeated among them. The
    profile of differences has `{band}_{operator}_r{smaller}_to_r{radius}` instead: by
    how much the step from the smaller radius to the larger lowers (opening) or raises
    (closing) the pixel; never negative; r0 is the image.

    Every pixel's disk counts only what is valid and within the image. uint8, uint16 and
    float32 images give exactly what scikit-image gives (`erosion` with `disk(radius)`,
    then `reconstruction`); others are rounded to float32 first.

    Memory: besides the tiles at work, about 4 * (3 + radii) bytes for each pixel at the
    edge of a tile, band and operator, which is 4 / tile of the pixels.

    Attributes:
        radii: Of the disks dx^2 + dy^2 <= radius^2, in pixels, ascending.
        operators: `opening` (bright things), `closing` (dark things), or both.
        differential: Differences between successive members instead of the members.
        components: Over so many principal components of the image, named pc1, pc2, …,
            instead of its bands: the extended profile. Found in a scan of the scene.
        connectivity: 4 or 8 neighbors; 8 lets things touch by their corners.

    Raises:
        ParameterError: A value is out of range or of the wrong kind; when extracting: a
            radius is not less than the shorter side of the image.
        UnknownNameError: No such operator.

    Example:
        >>> from geofuse.synthetic import simulate_case
        >>> image = simulate_case(size=32).inputs.pairs[0].fine.sel(band=["nir"])
        >>> MorphologicalProfile(radii=(1, 3)).extract(image).feature.values.tolist()
        ['nir_opening_r1', 'nir_opening_r3', 'nir_closing_r1', 'nir_closing_r3']
    """

    radii: tuple[int, ...] = (1, 2, 4, 8)
    operators: tuple[str, ...] = OPERATORS
    differential: bool = False
    components: int | None = None
    connectivity: int = 8

    def __post_init__(self) -> None:
        object.__setattr__(self, "radii", _ascending("radii", self.radii, whole=True))
        object.__setattr__(self, "operators", _known_operators(self.operators))
        _check_components(self.components)
        check_connectivity(self.connectivity)

    @override
    def extract(
        self, image: xr.DataArray, *, tile: int | None = FEATURE_TILE
    ) -> xr.DataArray:
        gray = _gray(image, self.components)
        shorter = min(gray.shape[-2:])
        if self.radii[-1] >= shorter:
            raise ParameterError(
                f"expected radii less than the shorter side of the image, {shorter} "
                f"pixels, found {self.radii[-1]}; leave it out, or take a larger image"
            )
        tiles = lattice(*gray.shape[-2:], tile=tile)
        work = TileOpenings(tiles, self.radii, self.operators, self.connectivity)
        names = _names(gray, self.operators, [f"r{r}" for r in self.radii], "r0", self)
        return _two_visits(work, work.halo, tiles, gray, names, self)


@dataclass(frozen=True)
class AttributeProfile(FeatureExtractor):
    """Openings and closings that take away regions with too little of an attribute.

    The regions of an opening are the connected sets of pixels at least as bright as a
    level; of a closing, at least as dark. One that has less of the attribute than the
    threshold is flattened to the level of the next larger one that has enough (the
    direct rule). The largest region, of everything that hangs together, always stays.

    Features are named `{band}_{attribute}_{operator}_t{threshold}`, in the unit of the
    image, in the order band, operator, threshold; the image itself is not repeated
    among them. For attributes that do not increase (`std`, `inertia`) the filters are a
    thinning and a thickening, and are named so. The profile of differences has
    `…_t{smaller}_to_t{threshold}` instead, `t0` for the image: the lower minus the
    higher threshold (opening) or the reverse (closing).

    For `area` and `diameter`, uint8, uint16 and float32 images give exactly what
    scikit-image gives (`area_opening`, `diameter_opening`, …), others are rounded to
    float32 first. Its connectivity 1 is 4 here, and its 2 is 8. Its closings of floats
    take 1 - image, which rounds; here a closing is exactly the negative of the opening
    of the negative image.

    Memory: besides the tiles at work, about 30 to 60 bytes, and 4 for each threshold,
    for each region that reaches the edge of a tile, band and operator. For attributes
    that increase, only regions with less than the largest threshold count: on a natural
    float image about 1 % of the pixels (area up to 1000, tiles of 1024), less than a
    byte a pixel. For `std` and `inertia` all count, up to half of the pixels: 40 bytes
    a pixel of the whole image. Images of whole numbers have far fewer regions.

    Attributes:
        attribute: `area` (pixels), `diameter` (longer side of the bounding box, in
            pixels), `diagonal` (of the bounding box, in pixels), `std` (standard
            deviation of the gray values, in their unit, rounded to at most a 1024th of
            the smallest threshold), `inertia` (first moment invariant of Hu, no unit).
        thresholds: Ascending, positive, in the unit of the attribute.
        operators: `opening` (bright regions), `closing` (dark regions), or both.
        self_dual: Take away bright and dark regions alike, in one filter for each
            threshold: opening + closing - image. Bright and dark are treated the same:
            the result for the negative image is the negative of the result. (This is no
            filter of the tree of shapes, in which a region also owns its holes.)
        differential: Differences between successive members instead of the members.
        components: See `MorphologicalProfile`.
        connectivity: 4 or 8 neighbors; 8 lets regions touch by their corners.

    Raises:
        ParameterError: A value is out of range or of the wrong kind; when extracting: a
            threshold of `area` is larger than the image; when computing: one of `std`
            is too small for the values.
        UnknownNameError: No such attribute or operator.

    Example:
        >>> from geofuse.synthetic import simulate_case
        >>> image = simulate_case(size=32).inputs.pairs[0].fine.sel(band=["nir"])
        >>> profile = AttributeProfile("area", thresholds=(10, 50), self_dual=True)
        >>> profile.extract(image).feature.values.tolist()
        ['nir_area_selfdual_t10', 'nir_area_selfdual_t50']
    """

    attribute: str = "area"
    thresholds: tuple[float, ...] = (25.0, 100.0, 500.0, 1000.0)
    operators: tuple[str, ...] = OPERATORS
    self_dual: bool = False
    differential: bool = False
    components: int | None = None
    connectivity: int = 8

    def __post_init__(self) -> None:
        if self.attribute not in ATTRIBUTES:
            raise UnknownNameError(
                f"expected an attribute of regions, found {self.attribute!r}; "
                f"{did_you_mean(str(self.attribute), ATTRIBUTES)}"
            )
        object.__setattr__(
            self, "thresholds", _ascending("thresholds", self.thresholds, whole=False)
        )
        object.__setattr__(self, "operators", _known_operators(self.operators))
        if self.self_dual and (
            self.differential or set(self.operators) != set(OPERATORS)
        ):
            raise ParameterError(
                "expected self_dual with both operators and no differential, found "
                f"operators={self.operators}, differential={self.differential}; a "
                "self-dual filter is one of bright and dark regions at once"
            )
        _check_components(self.components)
        check_connectivity(self.connectivity)

    @override
    def extract(
        self, image: xr.DataArray, *, tile: int | None = FEATURE_TILE
    ) -> xr.DataArray:
        gray = _gray(image, self.components)
        height, width = gray.shape[-2:]
        if self.attribute == "area" and self.thresholds[-1] > height * width:
            raise ParameterError(
                f"expected thresholds of area up to the {height * width} pixels of the "
                f"image, found {self.thresholds[-1]:g}; leave it out, or take a larger "
                "image"
            )
        tiles = lattice(height, width, tile=tile)
        operators = OPERATORS if self.self_dual else self.operators
        work = TileAttributes(
            tiles, self.attribute, self.thresholds, operators, self.connectivity
        )
        words = {"opening": "opening", "closing": "closing"}
        if not ATTRIBUTES[self.attribute].increasing:
            words = {"opening": "thinning", "closing": "thickening"}
        filters = ["selfdual"] if self.self_dual else [words[o] for o in operators]
        names = _names(
            gray,
            [f"{self.attribute}_{word}" for word in filters],
            [f"t{threshold:.7g}" for threshold in self.thresholds],
            "t0",
            self,
        )
        return _two_visits(work, 0, tiles, gray, names, self)


Profile = MorphologicalProfile | AttributeProfile


@dataclass(frozen=True)
class _Finish:
    """The second visit of a tile, and what is made of the members of the profile."""

    work: TileOpenings | TileAttributes
    halo: int
    sizes: int
    operators: tuple[str, ...]
    self_dual: bool
    differential: bool

    def __call__(
        self, arrays: Mapping[str, np.ndarray], shared: Any
    ) -> dict[str, np.ndarray]:
        members = self.work.finish(arrays, shared)
        height, width = members.shape[-2:]
        # (band, operator, size, y, x)
        members = members.reshape(-1, len(self.operators), self.sizes, height, width)
        gray = arrays["image"][
            :, self.halo : self.halo + height, self.halo : self.halo + width
        ].astype(np.float32)[:, None, None]
        if self.self_dual:
            members = (members[:, :1] + members[:, 1:]) - gray
        if self.differential:
            members = self._differences(members, gray)
        size = (s - 2 * self.halo for s in arrays["number"].shape)
        planes = members.reshape(-1, height, width)
        tile = np.full((len(planes), *size), np.nan, np.float32)
        tile[:, :height, :width] = planes
        return {"features": tile}

    def _differences(self, members: np.ndarray, gray: np.ndarray) -> np.ndarray:
        steps = np.empty_like(members)
        for k, operator in enumerate(self.operators):
            before = gray[:, 0, 0]
            for size in range(self.sizes):
                after = members[:, k, size]
                lowers = operator == "opening"
                steps[:, k, size] = before - after if lowers else after - before
                before = after
        return steps


def _two_visits(
    work: TileOpenings | TileAttributes,
    halo: int,
    tiles: Lattice,
    gray: xr.DataArray,
    names: Sequence[str],
    profile: Profile,
) -> xr.DataArray:
    """Scan the tiles for what passes their edges, then finish each; lazily."""
    rasters = {"image": gray, "number": number_tiles(tiles)}
    side = max(tiles.tile_height, tiles.tile_width)
    # A tile of the scan is a tile of the result: an oblong image has oblong tiles of
    # its own only where it is shorter than a tile.
    shared = None
    if tiles.rows * tiles.columns > 1:
        shared = reduce_tiles(
            work.report,
            rasters,
            work.join,
            halo=halo,
            tile=side,
            token=f"report {work!r}",
        )
    operators = getattr(work, "operators", OPERATORS)
    sizes = len(work.radii if isinstance(work, TileOpenings) else work.thresholds)
    self_dual = isinstance(profile, AttributeProfile) and profile.self_dual
    finish = _Finish(work, halo, sizes, operators, self_dual, profile.differential)
    template = template_of(gray, names, extractor=profile, long_name="profile")
    return map_tiles(
        finish,
        rasters,
        template.to_dataset(name="features"),
        halo=halo,
        tile=side,
        shared=shared,
        token=f"finish {profile!r} {work!r}",
    )["features"]


def _gray(image: xr.DataArray, components: int | None) -> xr.DataArray:
    """What is filtered: bands or principal components, as uint8, uint16 or float32."""
    floats = checked(image)
    if components is not None:
        floats = PrincipalComponents(components).extract(image)
        floats = floats.rename(feature="band")
    elif image.dtype in (np.uint8, np.uint16):
        return image
    return floats.astype(np.float32, keep_attrs=False)


def _names(
    gray: xr.DataArray,
    operators: Sequence[str],
    sizes: Sequence[str],
    start: str,
    profile: Profile,
) -> list[str]:
    if profile.differential:
        smaller = [start, *sizes[:-1]]
        sizes = [f"{a}_to_{b}" for a, b in zip(smaller, sizes, strict=True)]
    return [
        f"{band}_{operator}_{size}"
        for band in band_names(gray)
        for operator in operators
        for size in sizes
    ]


def _ascending(what: str, values: Any, *, whole: bool) -> tuple[Any, ...]:
    """A tuple of positive numbers in ascending order, as Python numbers."""
    kind = "whole numbers" if whole else "numbers"
    try:
        numbers = tuple(values)
        good = bool(numbers) and all(
            not isinstance(n, bool | np.bool_)
            and math.isfinite(n)
            and n > 0
            and (n == int(n) or not whole)
            for n in numbers
        )
    except (TypeError, ValueError):
        good = False
    if not good or any(b <= a for a, b in pairwise(numbers)):
        raise ParameterError(
            f"expected {what} as one or more positive {kind} in ascending order, found "
            f"{values!r}; for instance {what}=(2, 4, 8)"
        )
    return tuple(int(n) if whole else float(n) for n in numbers)


def _known_operators(operators: Any) -> tuple[str, ...]:
    names = (operators,) if isinstance(operators, str) else tuple(operators)
    for name in names:
        if name not in OPERATORS:
            raise UnknownNameError(
                f"expected operators opening, closing or both, found {name!r}; "
                f"{did_you_mean(str(name), OPERATORS)}"
            )
    if not names or len(set(names)) != len(names):
        raise ParameterError(
            f"expected operators opening, closing or both, found {names}; name each "
            "once"
        )
    return names


def _check_components(components: int | None) -> None:
    if components is not None and (
        isinstance(components, bool) or int(components) != components or components < 1
    ):
        raise ParameterError(
            f"expected a number of principal components of at least 1, found "
            f"{components!r}; None takes the bands as they are"
        )
