"""Real scenes with labels for the land-cover benchmark, and what is done to them.

    terramind      Sentinel-2, Sentinel-1, elevation and a land-cover product, four places
    sen1floods11   Sentinel-2, Sentinel-1 and water labeled by hand, one place

A split draws blocks of ground to learn from; the others are scored, without the pixels near
a block that was learned from.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rasterio
import xarray as xr
from odc.geo.geobox import GeoBox
from scipy import ndimage

from geofuse.landcover.case import LandCoverCase
from geofuse.rasters.grid import coordinates
from geofuse.rasters.legend import Legend

BANDS_L2A = (
    "coastal", "blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir",
    "nir08", "nir09", "swir1", "swir2",
)  # fmt: skip
BANDS_L1C = (*BANDS_L2A[:10], "cirrus", *BANDS_L2A[10:])

ESRI = Legend(
    (
        "water",
        "trees",
        "flooded vegetation",
        "crops",
        "built",
        "bare",
        "snow",
        "rangeland",
    ),
    codes=(1, 2, 3, 4, 5, 6, 7, 9),
)
FLOOD = Legend(("land", "water"))

#: All of it is snow.
_SNOW = "609U_541L_3_0"
#: Share of the blocks to learn from, and how far from them a pixel must be to be scored.
SHARE, GUARD = 0.25, 2


class Scenes(NamedTuple):
    """Cases of a data set, and the side of its blocks in pixels."""

    cases: list[LandCoverCase]
    block: int
    legend: Legend


class SplitCases(NamedTuple):
    """Cases with labels to learn from, and with those to be scored, of the same places."""

    learning: list[LandCoverCase]
    test: list[LandCoverCase]


def terramind(folder: Path) -> Scenes:
    """Four places of 224x224 pixels: s2 (12 bands), s1 (dB), dem; classes of a product."""
    place = folder / "landcover" / "terramind"
    cases = []
    for path in sorted((place / "LULC").glob("*.tif")):
        if path.stem == _SNOW:
            continue
        files = {
            name: place / kind / path.name
            for name, kind in (("s2", "S2L2A"), ("s1", "S1RTC"), ("dem", "DEM"))
        }
        images = {
            "s2": _image(files["s2"], BANDS_L2A, 1e-4, nodata=0),
            "s1": _image(files["s1"], ("vv", "vh"), unit="dB"),
            "dem": _image(files["dem"], ("elevation",), unit="m"),
        }
        cases.append(LandCoverCase(images, _labels(path, ESRI)))
    return Scenes(cases, 28, ESRI)


def sen1floods11(folder: Path) -> Scenes:
    """One place of 512x512 pixels: s2 (13 bands, top of atmosphere), s1 (dB); water."""
    place = folder / "landcover" / "sen1floods11"
    s1, s2, labels = (
        next(iter(sorted((place / kind).glob("*.tif"))))
        for kind in ("S1", "S2", "Labels")
    )
    images = {
        "s2": _image(s2, BANDS_L1C, 1e-4, nodata=0),
        "s1": _image(s1, ("vv", "vh"), unit="dB").clip(-40, 10),
    }
    images["s1"].attrs["units"] = "dB"
    return Scenes([LandCoverCase(images, _labels(labels, FLOOD))], 64, FLOOD)


def split(scenes: Scenes, seed: int) -> SplitCases:
    """Draw a quarter of all blocks to learn from; score the others, beyond a guard."""
    rng = np.random.default_rng(seed)
    grids = [_blocks(case, scenes.block) for case in scenes.cases]
    chosen = rng.permutation(sum(grid.max() + 1 for grid in grids))
    chosen = chosen[: round(SHARE * len(chosen))]
    learning, test, first = [], [], 0
    for case, grid in zip(scenes.cases, grids, strict=True):
        inside = np.isin(grid + first, chosen)
        near = ndimage.binary_dilation(inside, np.ones((2 * GUARD + 1,) * 2))
        learning.append(case.only(inside))
        test.append(case.only(~near))
        first += grid.max() + 1
    return SplitCases(learning, test)


def gaps(shape: tuple[int, ...], share: float, seed: int) -> np.ndarray:
    """Where clouds are: blobs over a share of the pixels, as a mask (y, x)."""
    noise = np.random.default_rng(seed).normal(size=shape)
    field = ndimage.gaussian_filter(noise, 8, mode="wrap")
    return np.asarray(field < np.quantile(field, share))


def without(case: LandCoverCase, modality: str) -> dict[str, xr.DataArray]:
    """The images of a case without one."""
    return {name: image for name, image in case.images.items() if name != modality}


def with_gaps(
    case: LandCoverCase, modality: str, share: float, seed: int
) -> dict[str, xr.DataArray]:
    """The images of a case, one of them with blobs of NaN."""
    image = case.images[modality]
    clouds = gaps(case.labels.shape, share, seed)
    return {**case.images, modality: image.where(~clouds[None])}


def shifted(case: LandCoverCase, modality: str, pixels: int) -> dict[str, xr.DataArray]:
    """The images of a case, one of them moved to the lower right."""
    image = case.images[modality]
    moved = image.shift(y=pixels, x=pixels)
    return {**case.images, modality: moved.assign_attrs(image.attrs)}


def corrupted(
    case: LandCoverCase, modality: str, how: str, seed: int
) -> dict[str, xr.DataArray]:
    """The images of a case, one of them noise or constant, and not marked as missing."""
    image = case.images[modality]
    mean = image.mean(("y", "x"))
    values = xr.zeros_like(image) + mean
    if how == "noise":
        rng = np.random.default_rng(seed)
        spread = image.std(("y", "x"))
        values = values + spread * image.copy(data=rng.normal(size=image.shape))
    return {
        **case.images,
        modality: values.astype(np.float32).assign_attrs(image.attrs),
    }


def _blocks(case: LandCoverCase, side: int) -> np.ndarray:
    """The number of the block that each pixel is in."""
    height, width = case.labels.shape
    rows, columns = np.arange(height) // side, np.arange(width) // side
    return rows[:, None] * (columns[-1] + 1) + columns[None]


def _image(
    path: Path,
    bands: tuple[str, ...],
    gain: float = 1.0,
    *,
    nodata: float | None = None,
    unit: str = "1",
) -> xr.DataArray:
    """A file as an image in memory; NaN where all bands are nodata."""
    with rasterio.open(path) as opened:
        values = opened.read().astype(np.float32)
        grid = GeoBox(opened.shape, opened.transform, opened.crs)
    if nodata is not None:
        values[:, (values == nodata).all(axis=0)] = np.nan
    return xr.DataArray(
        values * np.float32(gain),
        dims=("band", "y", "x"),
        coords={**coordinates(grid), "band": list(bands)},
        attrs={"units": unit},
    )


def _labels(path: Path, legend: Legend) -> xr.DataArray:
    """Numbers of classes; -1 where the file has no code of the legend."""
    with rasterio.open(path) as opened:
        codes = opened.read(1)
        grid = GeoBox(opened.shape, opened.transform, opened.crs)
    numbers: Mapping[int, int] = dict(
        zip(legend.codes, range(len(legend)), strict=True)
    )
    labels = np.full(codes.shape, -1, np.int16)
    for code, number in numbers.items():
        labels[codes == code] = number
    return xr.DataArray(
        labels, dims=("y", "x"), coords=coordinates(grid), attrs=legend.attributes()
    )
