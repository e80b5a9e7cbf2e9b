"""Linear power, its square root and its logarithm, and whether values look like them.

    amplitude  ──  A^2  ───────> ┐
    power      ────────────────> ├  linear power, float32, NaN where invalid
    dB         ──  10^(dB/10) ─> ┘

Inside there is linear power alone: backscatter is averaged, resampled and filtered in
power, because the mean of dB is that of a geometric mean. `to_db` is for pictures, and
for classifiers at the end. A value of exactly 0 is a border: products fill with it and
do not say so.
"""

from typing import Any

import numpy as np
import xarray as xr

from geofuse.errors import ParameterError

#: A look at so many squares of this side, at most, tells dB from power.
_LOOKS, _SIDE = 3, 64


def to_db(power: xr.DataArray) -> xr.DataArray:
    """Backscatter in dB: 10 log10 of linear power, lazily; for pictures and classifiers.

    >>> import xarray as xr
    >>> to_db(xr.DataArray([1.0, 0.1, 0.0])).values
    array([  0., -10.,  nan])

    Args:
        power: Backscatter, linear power.

    Returns:
        The same in dB, NaN where power is invalid or not above 0.

    Raises:
        ParameterError: It is in dB already.
    """
    if _in_db(power):
        raise ParameterError(
            "expected linear power, found dB (attribute `units`); it is converted already"
        )
    values: Any = np.log10(power.where(power > 0)) * 10
    return _relabeled(values, power, "dB", "backscatter in dB")


def from_db(decibels: xr.DataArray) -> xr.DataArray:
    """Backscatter in linear power: 10^(dB / 10), lazily.

    >>> import xarray as xr
    >>> from_db(xr.DataArray([0.0, -10.0])).values
    array([1. , 0.1])

    Args:
        decibels: Backscatter in dB.

    Returns:
        The same in linear power, NaN where invalid.

    Raises:
        ParameterError: It is in linear power already.
    """
    if decibels.attrs.get("units") == "1":
        raise ParameterError(
            "expected dB, found linear power (attribute `units`); it is converted already"
        )
    values = 10 ** (decibels / 10)
    return _relabeled(values, decibels, "1", "backscatter, linear power")


def _in_db(image: xr.DataArray) -> bool:
    return str(image.attrs.get("units", "")).lower() == "db"


def _relabeled(
    values: xr.DataArray, like: xr.DataArray, units: str, title: str
) -> xr.DataArray:
    result = values.assign_attrs(like.attrs, units=units, long_name=title)
    return result.rename(like.name)


def to_power(values: np.ndarray, unit: str) -> np.ndarray:
    """Linear power of what a file holds, float32; exactly 0 is a border."""
    values = np.where(values == 0, np.float32(np.nan), values)
    if unit == "amplitude":
        return values * values
    if unit == "db":
        # In float64 and rounded: the same last digit wherever the chunk begins.
        return np.power(10.0, values.astype(np.float64) / 10.0).astype(np.float32)
    return values


def sample_of(source: Any) -> np.ndarray:
    """Values other than 0 from a few squares spread over an image."""
    found = []
    spans = []
    for size in source.shape[1:]:
        starts = np.linspace(0, max(size - _SIDE, 0), _LOOKS).astype(int)
        spans.append([slice(s, min(s + _SIDE, size)) for s in np.unique(starts)])
    for y in spans[0]:
        for x in spans[1]:
            values = source[:, y, x]
            found.append(values[np.isfinite(values) & (values != 0)])
    return np.concatenate(found)


def checked_unit(sample: np.ndarray, unit: str | None, path: str) -> str:
    """The unit, if the values look like it.

    Raises:
        ParameterError: They do not, or no unit is known.
    """
    negative = float((sample < 0).mean()) if sample.size else 0.0
    middle = float(np.median(sample)) if sample.size else 0.0
    found = f"found {negative:.0%} below 0 and a median of {middle:.4g} in {path}"
    if unit is None:
        guess = "db" if negative > 0.5 else "power"
        raise ParameterError(
            f"expected to know what the values are, {found}, which states no unit; "
            f"give unit='power', 'amplitude' or 'db' (they look like {guess!r})"
        )
    if not sample.size:
        return unit
    if unit == "db":
        # Even a town has pixels below 0 dB.
        if negative < 0.01:
            raise ParameterError(
                f"expected dB, mostly below 0, {found}; these look linear: give "
                "unit='power' or 'amplitude'"
            )
        if abs(middle) > 60:
            raise ParameterError(
                f"expected dB between -60 and 60, {found}; the file does not state "
                "its scale: rescale it with gdal_translate -scale, or set it with "
                "gdal_edit -scale"
            )
        return unit
    if negative > 0.5 or (unit == "amplitude" and negative > 0.01):
        raise ParameterError(
            f"expected {unit}, not below 0, {found}; these look like dB: give unit='db'"
        )
    if middle > 10:
        raise ParameterError(
            f"expected {unit} of about 0.001 to 10, {found}; these look like DN that "
            "are not calibrated: open the product's .SAFE folder, or calibrate first"
        )
    return unit
