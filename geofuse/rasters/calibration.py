"""Which gain and offset a file needs, and whether its values make sense with them.

Sentinel-2 products of processing baseline 04.00 on (2022-01-25) hold DN + 1000, so that
reflectance below 0 can be stored; providers and toolboxes take the 1000 out again, some
do, some do not. What is right is looked for in this order:

    1  what is asked for: "applied", "none", or a number
    2  the metadata: the offset in a SAFE folder's XML, the baseline in a product's name
    3  dark pixels: were the darkest hundredth of DN below 700, the offset would make
       them darker than -0.03, which no surface is, so it is not in the DN
    4  the sensor's own offset

To look at dark pixels, and at the median, a few thousand pixels are read on opening.
"""

import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from geofuse.errors import (
    CalibrationError,
    CalibrationWarning,
    ParameterError,
    TileReadError,
    UnknownNameError,
    did_you_mean,
)
from geofuse.rasters.sensors import Sensor
from geofuse.rasters.source import RasterSource

#: Sensors whose files may or may not have their offset in the DN.
SENTINEL2 = ("sentinel2-l2a", "sentinel2-l1c")
OFFSETS = ("auto", "applied", "none")

#: First day of processing baseline 04.00; older images have it where reprocessed.
BASELINE_4 = np.datetime64("2022-01-25")

#: Reflectance that hardly any surface is darker than, brighter than on the median.
DARKEST, BRIGHTEST = -0.03, 2.0

#: Fewer valid pixels than this say nothing.
FEWEST = 256

_SIDE = 64
_PLACES = ((0.25, 0.25), (0.25, 0.75), (0.5, 0.5), (0.75, 0.25), (0.75, 0.75))
_DARK_BANDS = ("swir2", "swir1", "red", "blue", "coastal", "green")


class Offset(NamedTuple):
    """Reflectance at DN 0, and why it is that.

    Attributes:
        value: Reflectance.
        reason: In words, for the image's attributes.
        assumed: Whether neither metadata nor dark pixels could tell.
    """

    value: float
    reason: str
    assumed: bool = False


def offset_of(
    sensor: Sensor,
    source: RasterSource,
    bands: Sequence[str],
    wanted: str | float,
    stated: Offset | None,
) -> Offset | None:
    """The offset of a Sentinel-2 file; None for other sensors, which have their own.

    Args:
        sensor: What wrote the file.
        source: Part of the file that is opened; some of it is read.
        bands: Names of the bands of `source`.
        wanted: auto, applied (the file has no offset any more), none (it never had one),
            or the offset as a number.
        stated: What metadata say, where there are any.

    Raises:
        UnknownNameError: `wanted` is another word.
        ParameterError: An offset is wanted of a sensor whose files always have theirs.
    """
    if isinstance(wanted, str) and wanted not in OFFSETS:
        raise UnknownNameError(
            f"expected offset as auto, applied, none, or a number, found {wanted!r}; "
            f"{did_you_mean(wanted, OFFSETS)}"
        )
    if wanted == "auto" and sensor.name not in SENTINEL2:
        return None
    if isinstance(wanted, str) and wanted != "auto":
        if not sensor.name.startswith("sentinel2"):
            raise ParameterError(
                f"expected offset={wanted!r} for a Sentinel-2 sensor, found {sensor.name}; "
                "give offset as a number, or the sensor as gain=…,offset=…,nodata=…"
            )
        reason = "taken out before" if wanted == "applied" else "never there"
        return Offset(0.0, f"0: {reason}, as asked for")
    if not isinstance(wanted, str):
        if not math.isfinite(wanted):
            raise ParameterError(f"expected a finite offset, found {wanted}; or auto")
        return Offset(float(wanted), f"{wanted:g}, as asked for")
    gain, own = sensor.gain or 1.0, sensor.offset or 0.0
    chosen = stated or Offset(own, f"{own:g}, that of {sensor.name}")
    dark = _darkest(source, bands)
    if dark is None:
        return chosen
    if gain * dark + chosen.value >= DARKEST:
        return chosen if stated else chosen._replace(assumed=True)
    if stated is None:
        return Offset(
            0.0,
            f"0: the darkest hundredth of DN is below {dark:g}, so the offset "
            f"of {own:g} was taken out before, or never there",
        )
    warnings.warn(
        f"expected DN of at least {(DARKEST - stated.value) / gain:.0f} with an offset of "
        f"{stated.reason}, found a hundredth below {dark:g} in {source.file.path}; if it "
        "was taken out before, say offset='applied'",
        CalibrationWarning,
        stacklevel=2,
    )
    return stated


def warn_of_assumed_offset(
    offset: Offset | None, day: np.datetime64 | None, path: str
) -> None:
    """Warn where an offset was assumed of a day on which products came without it."""
    if offset and offset.assumed and day is not None and day < BASELINE_4:
        warnings.warn(
            f"expected the baseline of {path} in its name or metadata, since it is of "
            f"{str(day)[:10]}, found none, and no dark pixels; taken with the offset "
            f"{offset.reason}; say offset='none' where its baseline is before 04.00",
            CalibrationWarning,
            stacklevel=3,
        )


def offset_by_name(path: str, sensor: Sensor) -> Offset | None:
    """The offset that a Sentinel-2 product's name tells by its baseline: `_N0400_`."""
    found = re.findall(r"S2[A-D]_MSIL[12][AC]_.*?_N(\d\d)(\d\d)_R\d{3}", path)
    if sensor.name not in SENTINEL2 or not found:
        return None
    baseline = f"{found[-1][0]}.{found[-1][1]}"
    value = -0.1 if found[-1][0] >= "04" else 0.0
    return Offset(value, f"{value:g}, by the name: baseline {baseline}")


def darkest_band(bands: Sequence[str]) -> int:
    """Number of the band that is darkest over most of the land.

    >>> darkest_band(["nir", "red", "swir2"])
    2
    """
    return next((bands.index(name) for name in _DARK_BANDS if name in bands), 0)


def check_reflectance(source: RasterSource, sensor: Sensor) -> None:
    """Refuse reflectance that looks scaled twice, or not at all; some pixels are read.

    Args:
        source: Part of a file of a sensor, with its gain and offset.
        sensor: What wrote it; others than reflectance are not looked at.

    Raises:
        CalibrationError: The median is beyond what a surface can have.
    """
    if sensor.quantity != "reflectance" or not sensor.bands:
        return
    values = np.concatenate(
        [_sample(source, band) for band in {0, len(source.indexes) // 2}]
    )
    values = values[np.isfinite(values)]
    if values.size < FEWEST:
        return
    median = float(np.median(values))
    gain, offset = source.gain[0], source.offset[0]
    formula = f"{gain:g} * DN {offset:+g}"
    todo = (
        "name the sensor that wrote it, or give it as gain=…,offset=…,nodata=…: gain=1 for "
        "reflectance as it is, gain=1e-4 for reflectance x 10000"
    )
    if median > BRIGHTEST:
        raise CalibrationError(
            f"expected reflectance, 0 to 1 for most, found a median of {median:g} in "
            f"{source.file.path} by {formula} ({sensor.name}): it looks not scaled at all, "
            f"or by too little; {todo}"
        )
    is_float = np.dtype(source.file.dtype).kind == "f"
    largest = float(np.abs((values - offset) / gain).max())
    if is_float and gain < 0.01 and 0 < largest <= BRIGHTEST:
        raise CalibrationError(
            f"expected DN of {sensor.name}, found numbers up to {largest:g} in "
            f"{source.file.path}, which is reflectance already: by {formula} it would be "
            f"scaled twice; {todo}"
        )
    if median < 2 * DARKEST:
        warnings.warn(
            f"expected reflectance, 0 to 1 for most, found a median of {median:g} in "
            f"{source.file.path} by {formula} ({sensor.name}): its offset may have been "
            f"taken out before; {todo}",
            CalibrationWarning,
            stacklevel=2,
        )


def warn_of_scales(fine: Any, coarse: Any) -> None:
    """Warn where two images cannot be of one unit: x 10000 here, 0 to 1 there.

    Args:
        fine: An image; the middle of it is read.
        coarse: Another one, of the same bands.
    """
    sizes = []
    for image in (fine, coarse):
        rows, columns = image.shape[-2:]
        top, left = max(0, rows // 2 - 128), max(0, columns // 2 - 128)
        values = np.abs(image[..., top : top + 256, left : left + 256].values)
        values = values[np.isfinite(values)]
        if values.size < FEWEST // 8:  # of a coarse image there are not many
            return
        sizes.append(float(np.median(values)))
    if min(sizes) > 0 and max(sizes) > 200 * min(sizes):
        warnings.warn(
            f"expected fine and coarse values of one unit, found medians of {sizes[0]:g} "
            f"({fine.attrs.get('source', 'fine')}) and {sizes[1]:g} "
            f"({coarse.attrs.get('source', 'coarse')}); give each its sensor, or "
            "gain=…,offset=…,nodata=…",
            CalibrationWarning,
            stacklevel=2,
        )


def _darkest(source: RasterSource, bands: Sequence[str]) -> float | None:
    """DN that a hundredth of the pixels of the darkest band stays below."""
    band = darkest_band(bands)
    dn = _sample(replace(source, as_stored=True), band)
    dn = dn[~np.isin(dn, source.nodata[band])]
    return float(np.percentile(dn, 1)) if dn.size >= FEWEST else None


def _sample(source: RasterSource, band: int) -> np.ndarray:
    """Pixels of a band from five places; none where they cannot be read."""
    rows, columns = source.shape[1:]
    found = []
    for down, right in _PLACES:
        top, left = (
            min(int(size * part), max(size - _SIDE, 0))
            for size, part in ((rows, down), (columns, right))
        )
        try:
            found.append(
                source[band : band + 1, top : top + _SIDE, left : left + _SIDE].ravel()
            )
        except TileReadError:  # told, with its place, when it is asked for
            return np.empty(0, source.dtype)
    return np.concatenate(found)
