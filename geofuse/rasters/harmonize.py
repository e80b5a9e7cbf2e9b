"""Make images of two sensors comparable: a line for each band, published or fitted.

    adjusted = slope * reflectance + offset

Two sensors see the same ground differently, because their bands do not cover the same
wavelengths. For some sensors lines were published; between others, and for all that is
left (atmosphere, view angle), a line is fitted where both saw the same place on one day.

References:
    Claverie, M., et al. (2018). The Harmonized Landsat and Sentinel-2 surface reflectance
        data set. Remote Sensing of Environment 219, 145-161. The lines for MSI are those
        of the HLS product user guide 2.0.
    Roy, D. P., et al. (2016). Characterization of Landsat-7 to Landsat-8 reflective
        wavelength and normalized difference vegetation index continuity. Remote Sensing
        of Environment 185, 57-70. Table 2, surface reflectance, least squares.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import Delayed, delayed

from geofuse.errors import (
    BandMismatchError,
    ParameterError,
    UnknownNameError,
    did_you_mean,
)
from geofuse.rasters.grid import check_same_grid
from geofuse.tiling import reduce_tiles

#: Least side of the blocks whose means are compared, in pixels and in coarse pixels. A
#: coarse image is blurred over its pixels' edges: in small blocks it varies less than the
#: fine one, and the slope comes out too large (on CIA, in blue, 1.56 at one coarse pixel
#: a side, 1.37 at two, 1.30 at three and at four).
BLOCK = 16
COARSE_BLOCK = 3

#: About how many blocks a line is fitted on, and the fewest that will do.
BLOCKS = 200_000
FEWEST_BLOCKS = 30

#: Weaker correlation than this has no slope: then only the level is adjusted.
LEAST_CORRELATION = 0.5

_CLAVERIE = "Claverie et al. 2018, HLS 2.0"
_ROY = "Roy et al. 2016, table 2"


class BandPass(NamedTuple):
    """A published adjustment from one sensor to another.

    Attributes:
        lines: Slope and offset by common name of the band.
        reference: Who published it.
    """

    lines: dict[str, tuple[float, float]]
    reference: str


#: Published adjustments by the sensors that they lead from and to.
BAND_PASSES: dict[tuple[str, str], BandPass] = {
    ("msi-a", "oli"): BandPass(
        {
            "coastal": (0.9959, -0.0002),
            "blue": (0.9778, -0.0040),
            "green": (1.0053, -0.0009),
            "red": (0.9765, 0.0009),
            "nir08": (0.9983, -0.0001),
            "swir1": (0.9987, -0.0011),
            "swir2": (1.0030, -0.0012),
        },
        _CLAVERIE,
    ),
    ("msi-b", "oli"): BandPass(
        {
            "coastal": (0.9959, -0.0002),
            "blue": (0.9778, -0.0040),
            "green": (1.0075, -0.0008),
            "red": (0.9761, 0.0010),
            "nir08": (0.9966, 0.0000),
            "swir1": (1.0000, -0.0003),
            "swir2": (0.9867, 0.0004),
        },
        _CLAVERIE,
    ),
    ("etm", "oli"): BandPass(
        {
            "blue": (0.8474, 0.0003),
            "green": (0.8483, 0.0088),
            "red": (0.9047, 0.0061),
            "nir": (0.8462, 0.0412),
            "swir1": (0.8937, 0.0254),
            "swir2": (0.9071, 0.0172),
        },
        _ROY,
    ),
    ("oli", "etm"): BandPass(
        {
            "blue": (0.8850, 0.0183),
            "green": (0.9317, 0.0123),
            "red": (0.9372, 0.0123),
            "nir": (0.8339, 0.0448),
            "swir1": (0.8639, 0.0306),
            "swir2": (0.9165, 0.0116),
        },
        _ROY,
    ),
}


class Line(NamedTuple):
    """A fitted line for each band.

    Attributes:
        slope: (band,) float64.
        offset: (band,) float64, in reflectance.
        correlation: (band,) r of the block means, weighted as in the fit.
        blocks: (band,) how many block means were compared.
    """

    slope: np.ndarray
    offset: np.ndarray
    correlation: np.ndarray
    blocks: np.ndarray


def adjust_bandpass(image: xr.DataArray, source: str, target: str) -> xr.DataArray:
    """Adjust reflectance of one sensor to the bands of another by published lines.

    Args:
        image: Surface reflectance (band, y, x) of the sensor `source`.
        source: msi-a or msi-b (Sentinel-2), etm (Landsat 7), oli (Landsat 8-9).
        target: The sensor to be like: oli or etm.

    Returns:
        The adjusted image, lazy where `image` is; the lines are noted in its attribute
        `harmonized`.

    Raises:
        UnknownNameError: There is no published adjustment between these.
        BandMismatchError: A band has none; of Sentinel-2's near infrared only nir08 (B8A).
    """
    known = {" to ".join(key): key for key in BAND_PASSES}
    wanted = f"{source} to {target}"
    if wanted not in known:
        raise UnknownNameError(
            f"expected a published adjustment, found {wanted!r}; "
            f"{did_you_mean(wanted, known)}"
        )
    lines, reference = BAND_PASSES[known[wanted]]
    bands = [str(band) for band in image["band"].values]
    missing = [band for band in bands if band not in lines]
    if missing:
        raise BandMismatchError(
            f"expected bands with an adjustment from {wanted} ({', '.join(lines)}), found "
            f"{', '.join(missing)}; leave them out, or fit a line with geofuse.fit_line"
        )
    slope, offset = np.transpose([lines[band] for band in bands])
    told = ", ".join(
        f"{band} {a:g} x {b:+g}"
        for band, a, b in zip(bands, slope, offset, strict=True)
    )
    return _on_line(image, slope, offset, f"{wanted} ({reference}): {told}")


def fit_line(
    source: xr.DataArray | Sequence[xr.DataArray],
    reference: xr.DataArray | Sequence[xr.DataArray],
) -> Delayed:
    """Fit lines that make `source` like `reference`, robustly and lazily.

    Means of blocks are compared, of 3x3 coarse pixels but at least 16x16 pixels, valid in
    both images. The slope is the ratio of their spreads (reduced major axis, which
    treats both as measured with error), and blocks that changed, or are cloudy, lose their
    weight (Tukey's biweight). Where the two hardly correlate, the slope is 1.

    Args:
        source: Image (band, y, x) to be adjusted, or several of different days.
        reference: The image of the same day and grid to be like, or as many.

    Returns:
        A lazy `Line`; computing it scans the images once.

    Raises:
        GridMismatchError: Two images are not on one grid.
        BandMismatchError: Their bands differ.
        ParameterError: There are not as many of the one as of the other; or, when
            computed, fewer than 30 blocks are valid.
    """
    sources = [source] if isinstance(source, xr.DataArray) else list(source)
    references = [reference] if isinstance(reference, xr.DataArray) else list(reference)
    if len(sources) != len(references) or not sources:
        raise ParameterError(
            f"expected as many images as references, found {len(sources)} and "
            f"{len(references)}; give the two of each day"
        )
    rasters = {}
    for number, (image, like) in enumerate(zip(sources, references, strict=True)):
        check_same_grid(image, like, names=("source", "reference"))
        check_same_grid(image, sources[0], names=("a source", "another"))
        names = [
            list(map(str, one["band"].values)) for one in (image, like, sources[0])
        ]
        if names[0] != names[1] or names[0] != names[2]:
            raise BandMismatchError(
                f"expected the same bands in one order, found {names[0]} and "
                f"{names[1] if names[0] != names[1] else names[2]}; open both with the "
                "same bands"
            )
        rasters[f"source_{number}"] = image
        rasters[f"reference_{number}"] = like
    scale = int(sources[0].attrs.get("scale") or 1)
    coarse = COARSE_BLOCK if scale > 1 else 1
    block = scale * max(coarse, math.ceil(BLOCK / scale))
    offset = tuple(sources[0].attrs.get("coarse_offset", (0, 0)))
    rows, columns = sources[0].shape[-2:]
    count = len(sources) * (rows // block) * (columns // block)
    stride = max(1, math.ceil(math.sqrt(count / BLOCKS)))
    return reduce_tiles(
        partial(_block_means, pairs=len(sources), block=block, stride=stride),
        rasters,
        _fitted,
        step=block,
        offset=(offset[0], offset[1]),
    )


def adjust_line(
    image: xr.DataArray, line: Delayed | Line, note: str = ""
) -> xr.DataArray:
    """Put an image on fitted lines, lazily.

    Args:
        image: Image (band, y, x) with the bands of the line.
        line: What `fit_line` gives, computed or not.
        note: What the line was fitted on, for the attribute `harmonized`.

    Raises:
        BandMismatchError: The line has another number of bands.
    """
    count = image.sizes["band"]
    note = f"line fitted on {note or 'a pair'}"
    if isinstance(line, Line):
        if len(line.slope) != count:
            raise BandMismatchError(
                f"expected lines of {count} bands, found {len(line.slope)}; fit them on the "
                "same bands"
            )
        return _on_line(image, line.slope, line.offset, note)
    numbers = da.from_delayed(
        delayed(_numbers)(line, count), shape=(2, count), dtype=np.float32
    )
    return _on_line(image, numbers[0], numbers[1], note)


def _on_line(image: xr.DataArray, slope: Any, offset: Any, note: str) -> xr.DataArray:
    slope, offset = (
        numbers.astype(np.float32)[:, None, None] for numbers in (slope, offset)
    )
    adjusted = image.copy(data=image.data * slope + offset)
    adjusted.attrs["harmonized"] = note
    return adjusted


def _numbers(line: Line, count: int) -> np.ndarray:
    if len(line.slope) != count:
        raise BandMismatchError(
            f"expected lines of {count} bands, found {len(line.slope)}; fit them on the "
            "same bands"
        )
    return np.array([line.slope, line.offset], np.float32)


def _block_means(
    arrays: dict[str, np.ndarray], shared: None, *, pairs: int, block: int, stride: int
) -> np.ndarray:
    """Means of the blocks of a tile: (source and reference, band, block)."""
    found = []
    for number in range(pairs):
        means = []
        for kind in ("source", "reference"):
            image = arrays[f"{kind}_{number}"].astype(np.float64)
            bands, rows, columns = image.shape
            blocks = image.reshape(bands, rows // block, block, columns // block, block)
            means.append(blocks[:, ::stride, :, ::stride].mean(axis=(2, 4)))
        found.append(np.reshape(means, (2, bands, -1)))
    return np.concatenate(found, axis=2)


def _fitted(parts: list[np.ndarray]) -> Line:
    means = np.concatenate(parts, axis=2)
    return Line(
        *map(
            np.array,
            zip(*(_robust_line(*band) for band in means.swapaxes(0, 1)), strict=True),
        )
    )


def _robust_line(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float, int]:
    """Slope, offset, correlation and number of valid blocks of one band."""
    valid = np.isfinite(x) & np.isfinite(y)
    x, y = x[valid], y[valid]
    if x.size < FEWEST_BLOCKS:
        raise ParameterError(
            f"expected at least {FEWEST_BLOCKS} blocks of pixels that are valid in both "
            f"images to fit a line, found {x.size}; take a larger part, or leave out "
            "--harmonize"
        )
    # Ratio of quartile ranges: not far off, even where a quarter of the blocks is.
    spread = [np.subtract(*np.percentile(values, (75, 25))) for values in (x, y)]
    slope = spread[1] / spread[0] if min(spread) > 0 else 1.0
    offset = float(np.median(y - slope * x))
    correlation = 0.0
    for _ in range(50):
        residual = y - slope * x - offset
        width = 4.685 * 1.4826 * float(np.median(np.abs(residual)))
        inside = np.abs(residual) <= max(width, 1e-12)
        share = np.where(inside, residual / max(width, 1e-12), 1.0)
        weight = (1 - share**2) ** 2
        weight /= weight.sum()
        means = (weight @ x, weight @ y)
        dx, dy = x - means[0], y - means[1]
        variances = weight @ dx**2, weight @ dy**2
        if min(variances) <= 0:
            correlation = 0.0
            break
        correlation = float(weight @ (dx * dy) / math.sqrt(variances[0] * variances[1]))
        before = (slope, offset)
        slope = math.sqrt(variances[1] / variances[0])
        offset = means[1] - slope * means[0]
        if math.dist(before, (slope, offset)) < 1e-9:
            break
    if correlation < LEAST_CORRELATION:
        slope, offset = 1.0, float(np.median(y - x))
    return float(slope), float(offset), correlation, int(x.size)
