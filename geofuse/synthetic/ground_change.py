"""What happens to the ground between two dates.

Most changes are a field added to the ground. Each is drawn in units of the spread of its
band, several are mixed, and their sum is scaled to one amplitude:

    changed = ground + amplitude * spread * sum_k share_k field_k     (rms of fields: 1)

Then a flood or a fire may put one new spectrum over a part of the ground.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32
from scipy import ndimage

from geofuse.synthetic.parcels import KINDS, draw_parcels, smooth_field
from geofuse.synthetic.texture import draw_texture
from geofuse.synthetic.training_ground import log_uniform, spread_of


class Change(NamedTuple):
    """What is to happen: which fields with which shares, how strong, and a flood."""

    kinds: tuple[str, ...]
    shares: tuple[float, ...]
    amplitude: float  # rms over the ground, in spreads
    flood: float  # share of the ground, 0 for none


def draw_change(rng: np.random.Generator) -> Change:
    """Nearly none in one of seven; else .05 to 5 spreads of one to four kinds."""
    small = rng.uniform() < 1 / 7
    amplitude = log_uniform(rng, 0.005, 0.05) if small else log_uniform(rng, 0.05, 5)
    count = int(rng.choice((1, 2, 3, 4), p=(0.25, 0.35, 0.25, 0.15)))
    names, weights = zip(*_RATES.items(), strict=True)
    odds = np.array(weights) / sum(weights)
    kinds = rng.choice(names, count, replace=False, p=odds)
    shares = rng.dirichlet(np.ones(count)) ** 0.5
    flooded = not small and rng.uniform() < 0.2
    return Change(
        tuple(map(str, kinds)),
        tuple(float(share) for share in shares),
        amplitude,
        log_uniform(rng, 0.02, 0.5) if flooded else 0.0,
    )


def changed_ground(
    rng: np.random.Generator,
    ground: Float32[np.ndarray, "band y x"],
    change: Change,
    textures: Sequence[np.ndarray] = (),
) -> Float32[np.ndarray, "band y x"]:
    """The ground after a change.

    Args:
        rng: Where the fields are drawn from.
        ground: Any physical quantity, without NaN.
        change: What happens to it.
        textures: Real images that a new pattern may be borrowed from.
    """
    spread = spread_of(ground)[:, None, None]
    middle = np.median(ground[:, ::3, ::3], axis=(1, 2), keepdims=True)
    unit = (ground - middle) / spread
    total = np.zeros_like(unit)
    for kind, share in zip(change.kinds, change.shares, strict=True):
        field = _FIELDS[kind](rng, unit, textures)
        if rng.uniform() < 0.3:  # stronger here, weaker there
            where = smooth_field(rng, ground.shape[1:], log_uniform(rng, 20, 200), 2)
            field = field * np.exp(0.5 * where)
        total += np.float32(share) * _scaled(field)
    # Bands change unequally. Contrast alone is not driven beyond a full flip.
    amplitude = change.amplitude * rng.lognormal(0, 0.4, (ground.shape[0], 1, 1))
    if change.kinds == ("contrast",):
        amplitude = np.minimum(amplitude, 2.5)
    after = unit + amplitude.astype(np.float32) * _scaled(total)
    if change.flood:
        after = _flooded(rng, after, change.flood, 1.0 + change.amplitude)
    return middle + spread * after


def _scaled(field: Float32[np.ndarray, "band y x"]) -> Float32[np.ndarray, "band y x"]:
    """The field with an rms of 1 where it is not 0, and at most 3 times that at once."""
    squares = np.square(field)
    share = max(float(np.mean(squares > 0)), 1e-6)
    rms = np.sqrt(squares.mean(axis=(1, 2), keepdims=True) / share)
    # One size for all bands: a band that hardly changes goes on doing so.
    size = np.maximum(rms, 0.3 * rms.max()) + np.float32(1e-12)
    return field / size.astype(np.float32)


def _classes(rng: np.random.Generator, unit: np.ndarray, _: object) -> np.ndarray:
    """Classes of like spectra, each with an offset and a gain of its own."""
    bands, height, width = unit.shape
    count = int(rng.integers(3, 21))
    pixels = unit.reshape(bands, -1)
    centers = pixels[:, rng.integers(0, pixels.shape[1], count)]
    nearness = centers.T @ pixels - np.square(centers).sum(axis=0)[:, None] / 2
    label = nearness.argmax(axis=0)
    offset = _drawn(rng, (bands, count))
    gain = np.float32(rng.uniform(0, 0.7)) * _drawn(rng, (bands, count))
    inner = pixels - centers[:, label]
    field = offset[:, label] + gain[:, label] * np.clip(inner, -3, 3)
    return field.reshape(bands, height, width)


def _curve(rng: np.random.Generator, unit: np.ndarray, _: object) -> np.ndarray:
    """A smooth function of one mixture of the bands, another for each band."""
    axis = np.tensordot(np.float32(rng.normal(0, 1, unit.shape[0])), unit, 1)
    knots = np.quantile(axis[::3, ::3], np.linspace(0, 1, int(rng.integers(3, 9))))
    values = _drawn(rng, (unit.shape[0], knots.size))
    return np.stack([np.interp(axis, knots, value) for value in values]).astype(
        np.float32
    )


def _line(rng: np.random.Generator, unit: np.ndarray, _: object) -> np.ndarray:
    """One line for all pixels of a band: the same offset everywhere, and a gain."""
    offset, gain = _drawn(rng, (2, unit.shape[0], 1, 1))
    return offset + np.float32(rng.uniform(0, 1)) * gain * unit


def _mixing(rng: np.random.Generator, unit: np.ndarray, _: object) -> np.ndarray:
    """Each band takes from the others."""
    mixture = rng.normal(0, 1, (unit.shape[0], unit.shape[0])).astype(np.float32)
    return np.tensordot(mixture, unit, 1)


def _contrast(rng: np.random.Generator, unit: np.ndarray, _: object) -> np.ndarray:
    """Contrast grows or shrinks; at an amplitude of 2, bright and dark swap."""
    return np.float32(rng.choice((-1, -1, 1))) * unit


def _parcels(rng: np.random.Generator, unit: np.ndarray, _: object) -> np.ndarray:
    """Each parcel changes by itself, or only some of them do."""
    parcel = draw_parcels(rng, unit.shape[1:], log_uniform(rng, 3, 80))
    values = _drawn(rng, (unit.shape[0], KINDS))
    values[:, rng.uniform(0, 1, KINDS) > log_uniform(rng, 0.05, 2)] = 0
    return values[:, parcel]


def _smooth(rng: np.random.Generator, unit: np.ndarray, _: object) -> np.ndarray:
    """Illumination, haze, moisture: wide fields that the bands share in part."""
    shape = unit.shape[1:]
    wavelength = log_uniform(rng, 25, 250)
    common, other = (smooth_field(rng, shape, wavelength, 3) for _ in range(2))
    turn = rng.normal(0, 0.6, (unit.shape[0], 1, 1)).astype(np.float32)
    return np.cos(turn) * common + np.sin(turn) * other


def _grain(rng: np.random.Generator, unit: np.ndarray, _: object) -> np.ndarray:
    """A new pattern of any scale, a pixel to half a scene."""
    shape = unit.shape[1:]
    wavelength, octaves = log_uniform(rng, 1.5, 60), int(rng.integers(1, 5))
    common, other = (smooth_field(rng, shape, wavelength, octaves) for _ in range(2))
    turn = rng.normal(0, 0.6, (unit.shape[0], 1, 1)).astype(np.float32)
    return np.cos(turn) * common + np.sin(turn) * other


def _borrowed(
    rng: np.random.Generator, unit: np.ndarray, textures: Sequence[np.ndarray]
) -> np.ndarray:
    """The pattern of another real image, or of other parcels where there is none."""
    if not textures:
        return _parcels(rng, unit, textures)
    other = draw_texture(rng, textures, unit.shape[1:], unit.shape[0])
    middle = np.median(other, axis=(1, 2), keepdims=True)
    other = (other - middle) / spread_of(other)[:, None, None]
    return np.clip(other[np.arange(unit.shape[0]) % other.shape[0]], -4, 4)


def _renewed(rng: np.random.Generator, unit: np.ndarray, _: object) -> np.ndarray:
    """Parcels whose inner pattern goes, and a new one of like strength comes."""
    shape = unit.shape[1:]
    size = int(log_uniform(rng, 5, 25))
    inner = unit - ndimage.uniform_filter(unit, (0, size, size))
    pattern = smooth_field(rng, shape, log_uniform(rng, 1.5, 12), 2)
    strength = inner.std(axis=(1, 2), keepdims=True)
    parcel = draw_parcels(rng, shape, log_uniform(rng, 6, 60))
    new = (rng.uniform(0, 1, KINDS) < rng.uniform(0.2, 1))[parcel]
    return (strength * pattern - inner) * new


def _flooded(
    rng: np.random.Generator, unit: np.ndarray, share: float, height: float
) -> np.ndarray:
    """One spectrum where a height field is lowest; its edge is blurred or sharp."""
    shape = unit.shape[1:]
    level = smooth_field(rng, shape, log_uniform(rng, 15, 150), int(rng.integers(1, 6)))
    if rng.uniform() < 0.3:  # water lies where the ground is dark, or fire where bright
        level = level + np.float32(rng.choice((-1, 1))) * np.clip(unit[0], -2, 2)
    depth = np.quantile(level[::2, ::2], share) - level
    wet = np.clip(0.5 + depth / np.float32(rng.choice((0.02, 0.2))), 0, 1)
    size = min(log_uniform(rng, 0.5, 3), height)
    spectrum = size * rng.normal(0, 1, (unit.shape[0], 1, 1)).astype(np.float32)
    left = np.float32(rng.uniform(0, 0.3))  # of what was there before
    new = spectrum + left * unit
    return (unit + wet * (new - unit)).astype(np.float32)


def _drawn(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Normal numbers whose first axis, or second to last, shares a part: the bands."""
    own = rng.standard_normal(shape, dtype=np.float32)
    common = rng.standard_normal(shape[-1], dtype=np.float32)
    return np.float32(0.7) * own + np.float32(0.7) * common


_FIELDS: Mapping[str, Callable[..., np.ndarray]] = MappingProxyType(
    {
        "classes": _classes,
        "curve": _curve,
        "line": _line,
        "mixing": _mixing,
        "contrast": _contrast,
        "parcels": _parcels,
        "smooth": _smooth,
        "grain": _grain,
        "borrowed": _borrowed,
        "renewed": _renewed,
    }
)
_RATES: Mapping[str, float] = MappingProxyType(
    {
        "classes": 4,
        "curve": 2,
        "line": 2,
        "mixing": 1,
        "contrast": 1,
        "parcels": 3,
        "smooth": 2,
        "grain": 1,
        "borrowed": 1,
        "renewed": 1,
    }
)
