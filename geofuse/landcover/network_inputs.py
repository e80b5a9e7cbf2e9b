"""What networks are given of each modality: bands, and features made by hand beside them.

    bands ────────────────┐
                          ├─ log? ── (x - level) / spread ── 0 where missing ──> network
    hand-made features ───┘

Level and spread are those of the training, never of the scene: a dark scene stays dark.
What looks like reflectance or linear power, positive and of a wide range, goes through a
logarithm first: shadow then differs from water as much as soil from snow, and a factor of
illumination is a shift. A pixel of a modality is present if all of its bands are; features
may be missing there on their own, and are then in the middle.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import xarray as xr
from dask.base import compute
from jaxtyping import Array, Bool, Float

from geofuse.features.modalities import is_radar
from geofuse.features.stack import FeatureStack
from geofuse.landcover.hand_made import features_of
from geofuse.landcover.modality import Modality, sample
from geofuse.training.weights import Weights

#: Reflectance below it is as dark as it: no logarithm sees noise about 0.
DARKEST = 1e-3
#: Values beyond so many spreads are taken as so many.
FARTHEST = 8.0
#: What reflectance and linear power stay within, up to a few pixels.
_POSITIVE = (-0.05, 3.0)


class ChannelUnit(NamedTuple):
    """The unit of the channels of a modality; arrays (channel,), float32.

    Attributes:
        logged: 1 where the logarithm is taken, otherwise 0.
        level: Median in the training, after the logarithm.
        spread: Half the distance of its 16th and 84th percentile, above 0.
    """

    logged: Any
    level: Any
    spread: Any


def in_units(
    channels: Float[Array, "batch channel y x"], unit: ChannelUnit, bands: int
) -> tuple[Float[Array, "batch y x channel"], Bool[Array, "batch y x"]]:
    """Channels as a network takes them, and where the modality is present.

    Args:
        channels: What `channels_of` gives; NaN where missing.
        unit: Their unit.
        bands: How many of them are bands; the others are features.
    """
    values = jnp.moveaxis(channels, 1, -1)
    known = jnp.isfinite(values)
    logged, level, spread = (jnp.asarray(part).reshape(1, 1, 1, -1) for part in unit)
    safe = jnp.where(known, values, 1.0)
    safe = jnp.where(logged > 0, jnp.log(jnp.maximum(safe, DARKEST)), safe)
    scaled = jnp.clip((safe - level) / spread, -FARTHEST, FARTHEST)
    return jnp.where(known, scaled, 0.0), known[..., :bands].all(axis=-1)


def unit_of(modality: Modality, channels: Sequence[xr.DataArray]) -> ChannelUnit:
    """The unit of the channels of a modality, from a sample of the training.

    Args:
        modality: The modality; its ranges tell whether a logarithm is taken of its bands.
        channels: Its channels in each case of the training.
    """
    (samples,) = compute([sample(image) for image in channels])
    pixels = np.concatenate(samples, axis=1).astype(np.float64)
    logged = np.zeros(len(pixels))
    logged[: len(modality.bands)] = takes_log(modality)
    level, spread = np.zeros(len(pixels)), np.ones(len(pixels))
    for number, values in enumerate(pixels):
        valid = values[np.isfinite(values)]
        if logged[number]:
            valid = np.log(np.maximum(valid, DARKEST))
        if valid.size:
            low, level[number], high = np.percentile(valid, (16, 50, 84))
            spread[number] = (high - low) / 2
    spread[spread <= 1e-6 * np.maximum(np.abs(level), 1e-6)] = 1.0
    return ChannelUnit(*(part.astype(np.float32) for part in (logged, level, spread)))


def takes_log(modality: Modality) -> bool:
    """Whether a modality looks like reflectance or linear power in all of its bands."""
    low, high = _POSITIVE
    return all(low <= value for value in modality.low) and all(
        value <= high for value in modality.high
    )


def channels_of(
    image: xr.DataArray,
    modality: Modality,
    stack: FeatureStack,
    scales: Weights,
    *,
    tile: int | None = 512,
) -> xr.DataArray:
    """Bands of a modality and features of them, (channel, y, x), float32, lazily.

    Args:
        image: Image (band, y, x) of the modality, NaN where missing.
        modality: The modality.
        stack: Its features; its bands are there anyway.
        scales: What features need to know of the training, as `scales_of` gives it.
        tile: Side of the tiles in pixels; the result does not depend on it.
    """
    bands = _plain(image)
    if not (stack.indices or stack.texture or stack.profiles or stack.local):
        return bands
    beside = replace(stack, bands=False)
    told = _with_unit(image, modality)
    found = _plain(features_of(told, modality, beside, scales, tile=tile))
    return xr.concat([bands, found], "channel", coords="minimal", compat="override")


def absent_channels(image: xr.DataArray, count: int) -> xr.DataArray:
    """Channels of a modality that is missing: NaN, without being computed."""
    return _plain(image.isel(band=np.zeros(count, int)).drop_vars("band"))


def _plain(image: xr.DataArray) -> xr.DataArray:
    """(channel, y, x) without coordinates that two rasters could differ in."""
    lead = image.dims[0]
    plain = image.astype(np.float32).rename({lead: "channel"})
    extra = [name for name in plain.coords if name not in ("y", "x", "spatial_ref")]
    return plain.drop_vars(extra).drop_attrs(deep=False)


def _with_unit(image: xr.DataArray, modality: Modality) -> xr.DataArray:
    """An image that tells its unit: radar without one has that of the training."""
    named = image.assign_coords(band=list(modality.bands))
    if "units" in image.attrs or not is_radar(named) or not modality.low:
        return image
    return image.assign_attrs(units="dB" if min(modality.low) < 0 else "1")
