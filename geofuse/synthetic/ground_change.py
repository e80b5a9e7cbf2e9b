"""What may happen to the ground between two dates, in spreads of its bands.

A change is a sum of several kinds, some of which take part: by class, by parcel, along the
bands, in contrast, smooth, new texture. Its size is drawn over two decades; a flood or a
fire then puts one new color over what it covers.
"""

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from geofuse.synthetic.fields import classes_of, parcels, smooth_field

Ground = Float[np.ndarray, "band y x"]


def changed(
    generator: np.random.Generator, ground: Ground, scale: int
) -> tuple[Ground, str]:
    """The ground of another date, and in words what happened.

    Args:
        generator: Where everything is drawn from.
        ground: The ground, each band with mean 0 and spread 1.
        scale: Coarse GSD / fine GSD: events are drawn smaller and larger than that.
    """
    kinds = {
        "class": (0.7, _by_class),
        "gain": (0.4, _by_class_gain),
        "line": (0.5, _line),
        "mixing": (0.35, _mixing),
        "parcel": (0.5, _by_parcel),
        "contrast": (0.3, _contrast),
        "smooth": (0.4, _smooth),
        "texture": (0.35, _texture),
    }
    total = np.zeros_like(ground)
    happened = []
    for name, (chance, kind) in kinds.items():
        if generator.random() < chance:
            part = kind(generator, ground, scale)
            size = np.sqrt((part**2).mean())
            share = np.exp(generator.normal(0.0, 0.7))
            total += part * (share / size if size > 0 else 0.0)
            happened.append(name)
    size = np.sqrt((total**2).mean(axis=(1, 2), keepdims=True))
    wanted = np.exp(generator.uniform(np.log(0.1), np.log(3.5)))
    by_band = wanted * np.exp(generator.normal(0.0, 0.4, (len(ground), 1, 1)))
    result = ground + total * by_band / np.where(size > 0, size, 1.0)
    if generator.random() < 0.2:
        result = _event(generator, result, scale)
        happened.append("event")
    return result, f"{wanted:.2f} {' '.join(happened)}"


def _by_class(generator: np.random.Generator, ground: Ground, scale: int) -> Ground:
    label = classes_of(generator, ground, int(generator.integers(2, 21)))
    offsets = _alike(generator, len(ground), label.max() + 1)
    return offsets[:, label]


def _by_class_gain(
    generator: np.random.Generator, ground: Ground, scale: int
) -> Ground:
    label = classes_of(generator, ground, int(generator.integers(2, 10)))
    return ground * _alike(generator, len(ground), label.max() + 1)[:, label]


def _line(generator: np.random.Generator, ground: Ground, scale: int) -> Ground:
    gain, offset = _alike(generator, len(ground), 2).T[:, :, None, None]
    return gain * ground + offset


def _mixing(generator: np.random.Generator, ground: Ground, scale: int) -> Ground:
    matrix = generator.standard_normal((len(ground), len(ground)))
    return np.tensordot(matrix, ground, 1) / np.sqrt(len(ground))


def _by_parcel(generator: np.random.Generator, ground: Ground, scale: int) -> Ground:
    width = scale * np.exp(generator.uniform(np.log(0.4), np.log(4.0)))
    label = parcels(generator, ground.shape[-1], max(width, 3.0))
    count = label.max() + 1
    offsets = _alike(generator, len(ground), count)
    offsets *= generator.random(count) < generator.uniform(0.05, 1.0)
    return offsets[:, label]


def _contrast(generator: np.random.Generator, ground: Ground, scale: int) -> Ground:
    low = ndimage.gaussian_filter(ground, (0, *[scale * generator.uniform(0.3, 3)] * 2))
    return (low - ground) * np.sign(generator.uniform(-0.4, 1.0))


def _smooth(generator: np.random.Generator, ground: Ground, scale: int) -> Ground:
    wave = scale * np.exp(generator.uniform(np.log(1.5), np.log(15.0)))
    field = smooth_field(generator, ground.shape[-1], wave)
    return _alike(generator, len(ground), 1)[:, :, None] * field


def _texture(generator: np.random.Generator, ground: Ground, scale: int) -> Ground:
    wave = np.exp(generator.uniform(np.log(2.0), np.log(2.0 * scale)))
    field = smooth_field(generator, ground.shape[-1], wave)
    where = smooth_field(generator, ground.shape[-1], 6.0 * scale) > 0
    return _alike(generator, len(ground), 1)[:, :, None] * field * (0.3 + where)


def _event(generator: np.random.Generator, ground: Ground, scale: int) -> Ground:
    """One new color over part of the scene, as a flood or a fire leaves it."""
    wave = scale * np.exp(generator.uniform(np.log(1.0), np.log(12.0)))
    field = smooth_field(generator, ground.shape[-1], wave)
    # Low ground first, where the darkest band tells it.
    field = field + generator.uniform(0, 0.6) * ground[generator.integers(len(ground))]
    covered = field < np.quantile(field, generator.uniform(0.03, 0.4))
    color = 2.0 * _alike(generator, len(ground), 1)[:, :, None]
    left = generator.uniform(0.0, 0.2)
    return np.where(covered, color + left * ground, ground)


def _alike(
    generator: np.random.Generator, bands: int, count: int
) -> Float[np.ndarray, "band number"]:
    """Numbers of each band that are partly the same in all of them."""
    common = generator.uniform(0, 0.9)
    sign = generator.choice([-1.0, 1.0], (bands, 1))
    shared = generator.standard_normal((1, count))
    own = generator.standard_normal((bands, count))
    return common**0.5 * sign * shared + (1 - common) ** 0.5 * own
