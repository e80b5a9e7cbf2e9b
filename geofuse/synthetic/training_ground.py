"""The ground that learned methods are pretrained on, at its first date.

Four kinds: a piece of a real image; parcels with spectra and textures of their own; both
together; the landscape of `landscape.py`, which brings its phenology. All can be turned
into an index or into a temperature.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32
from scipy import ndimage

from geofuse.synthetic.landscape import (
    BANDS,
    draw_landscape,
    true_reflectance,
    weather_of,
)
from geofuse.synthetic.parcels import KINDS, draw_parcels, smooth_field
from geofuse.synthetic.texture import draw_texture


def spread_of(image: Float32[np.ndarray, "band y x"]) -> Float32[np.ndarray, " band"]:
    """Robust standard deviation of each band, never quite 0."""
    sample = image[:, ::3, ::3].reshape(image.shape[0], -1)
    low, middle, high = np.percentile(sample, (16, 50, 84), axis=1)
    half = np.maximum((high - low) / 2, 0.3 * sample.std(axis=1))
    return np.maximum(half, 1e-4 * np.abs(middle) + 1e-6).astype(np.float32)


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def draw_parcel_ground(
    rng: np.random.Generator, shape: tuple[int, int], bands: int
) -> Float32[np.ndarray, "band y x"]:
    """Parcels of a few classes, each with a texture, between roads and rivers.

    Reflectance, .01 to about .6.
    """
    classes = int(rng.integers(3, 13))
    spectra = _spectra(rng, classes + 2, bands)
    parcel = draw_parcels(rng, shape, log_uniform(rng, 4, 50))
    cover_of = rng.integers(0, classes, KINDS)
    cover = cover_of[parcel]
    if rng.uniform() < 0.4:  # regions that are all of one class: forest, town, lake
        field = smooth_field(rng, shape, log_uniform(rng, 30, 150), 4)
        cover = np.where(field > rng.uniform(0.3, 1.2), rng.integers(classes), cover)
    own = 1 + log_uniform(rng, 0.02, 0.3) * rng.standard_normal(KINDS)
    bright = np.clip(own, 0.3, 2).astype(np.float32)[parcel]
    for wavelength in (1.5, log_uniform(rng, 2, 8), log_uniform(rng, 8, 60)):
        grain = np.abs(rng.normal(0, log_uniform(rng, 0.01, 0.15), classes + 2))
        field = smooth_field(rng, shape, wavelength, 2)
        bright = bright * (1 + grain.astype(np.float32)[cover] * field)
    for line in _lines(rng, shape):
        cover = np.where(line, classes + int(rng.integers(2)), cover)
    ground = spectra[:, cover] * np.maximum(bright, 0.1)
    ground = ndimage.gaussian_filter(ground, (0, 0.5, 0.5), truncate=3)
    return np.maximum(ground, np.float32(0.01))


def draw_mixed_ground(
    rng: np.random.Generator,
    textures: Sequence[Float32[np.ndarray, "_ _ _"]],
    shape: tuple[int, int],
    bands: int,
) -> Float32[np.ndarray, "band y x"]:
    """A real texture, with parcels of the same mean and spread laid over a part of it."""
    real = draw_texture(rng, textures, shape, bands)
    drawn = draw_parcel_ground(rng, shape, real.shape[0])
    like = (spread_of(real) / spread_of(drawn))[:, None, None]
    middle = np.median(real, axis=(1, 2), keepdims=True)
    drawn = middle + like * (drawn - np.median(drawn, axis=(1, 2), keepdims=True))
    if rng.uniform() < 0.5:
        over = smooth_field(rng, shape, log_uniform(rng, 20, 120), 3) > 0
    else:
        parcels = draw_parcels(rng, shape, log_uniform(rng, 6, 60))
        over = (rng.uniform(0, 1, KINDS) < 0.5)[parcels]
    return np.where(over, drawn, real).astype(np.float32)


def landscape_states(
    rng: np.random.Generator, shape: tuple[int, int], bands: int, days: Sequence[int]
) -> list[Float32[np.ndarray, "band y x"]]:
    """The landscape with its phenology on some days of the year, 1 to 366."""
    names = [BANDS[i] for i in rng.permutation(len(BANDS))[:bands]]
    span = min(days), max(max(days), min(days) + 1)
    abrupt = float(rng.choice((0.0, 0.05, 0.2)))
    landscape = draw_landscape(
        int(rng.integers(2**31)), shape, abrupt=abrupt, span=span
    )
    return [
        np.stack(
            [
                true_reflectance(landscape, name, day, weather_of(landscape, day))
                for name in names
            ]
        )
        for day in days
    ]


def index_of(image: Float32[np.ndarray, "band y x"]) -> Float32[np.ndarray, "1 y x"]:
    """The normalized difference of the last two bands, -1 to 1."""
    above, below = np.maximum(image[-2:], np.float32(0.005))
    return ((above - below) / (above + below))[None]


def temperatures_of(
    rng: np.random.Generator, states: Sequence[Float32[np.ndarray, "band y x"]]
) -> list[Float32[np.ndarray, "1 y x"]]:
    """Kelvin around 300: what is bright is warm or cold, and so is what lies high."""
    spread = spread_of(states[0])
    weights = rng.normal(0, 1, spread.size) * log_uniform(rng, 1, 5) / spread
    weights = (weights / np.sqrt(spread.size)).astype(np.float32)
    middle = np.median(states[0], axis=(1, 2))
    relief = smooth_field(rng, states[0].shape[1:], log_uniform(rng, 60, 300), 4)
    level = np.float32(rng.uniform(275, 320)) + np.float32(rng.uniform(0, 4)) * relief
    return [
        (level + np.tensordot(weights, state - middle[:, None, None], 1))[None]
        for state in states
    ]


def _spectra(
    rng: np.random.Generator, classes: int, bands: int
) -> Float32[np.ndarray, "band class"]:
    """Reflectance of classes: a level of each, and shapes that bands share in part."""
    level = np.exp(rng.normal(np.log(0.15), 0.5, (1, classes)))
    shape = np.exp(rng.normal(0, rng.uniform(0.1, 0.7), (bands, classes)))
    return np.clip(level * shape, 0.01, 0.8).astype(np.float32)


def _lines(rng: np.random.Generator, shape: tuple[int, int]) -> list[np.ndarray]:
    """Where roads and rivers run: none to three of them."""
    lines = []
    for _ in range(int(rng.integers(0, 3))):
        y, x = np.indices(shape, np.float32)
        angle = rng.uniform(0, np.pi)
        across = y * np.float32(np.cos(angle)) + x * np.float32(np.sin(angle))
        middle = rng.uniform(across.min(), across.max())
        lines.append(np.abs(across - middle) < rng.uniform(0.6, 1.6))
    if rng.uniform() < 0.3:
        bed = smooth_field(rng, shape, log_uniform(rng, 60, 250), 4)
        lines.append(np.abs(bed) < rng.uniform(0.01, 0.08))
    return lines
