"""Random fields for simulated scenes: smooth noise, white noise, clouds.

Everything is drawn from a stream of its own, named by its purpose, so that one option
of a simulation never changes what another one draws.
"""

import math
import zlib
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float32

_STRIP = 256  # rows drawn at once: memory stays flat


class Noise:
    """Smooth noise of mean 0 and variance 1: cubic B-splines over a random lattice.

    Any strip of rows can be had without the rest. Plain sums in fixed order: the same
    bits on any number of threads.
    """

    def __init__(
        self,
        seed: int,
        name: str,
        shape: tuple[int, int],
        wavelength: float,
        octaves: int,
    ) -> None:
        """Draw the lattices.

        Args:
            seed: Seed of the simulation.
            name: Purpose; another name gives another field.
            shape: Rows and columns.
            wavelength: Pixels between the lattice points of the first octave.
            octaves: Number of fields summed, each of half the wavelength and amplitude.
        """
        rng = stream(seed, name)
        self._width = shape[1]
        self._spacings = [max(wavelength / 2**i, 1.0) for i in range(octaves)]
        # 151 / 315 is the mean of the squared weights along one axis.
        total = sum(4.0**-i for i in range(octaves)) * (151 / 315) ** 2
        self._lattices = [
            rng.standard_normal([int(n / spacing) + 5 for n in shape], dtype=np.float32)
            * np.float32(2.0**-i / math.sqrt(total))
            for i, spacing in enumerate(self._spacings)
        ]

    def rows(self, rows: slice) -> Float32[np.ndarray, "y x"]:
        """The noise in these rows."""
        noise = np.zeros((rows.stop - rows.start, self._width), np.float32)
        for spacing, lattice in zip(self._spacings, self._lattices, strict=True):
            first_y, weights_y = _spline(np.arange(rows.start, rows.stop), spacing)
            first_x, weights_x = _spline(np.arange(self._width), spacing)
            columns = sum(
                weights_y[k][:, None] * lattice[first_y + k] for k in range(4)
            )
            for k in range(4):
                noise += weights_x[k] * np.take(columns, first_x + k, axis=1)
        return noise


def clouds_of(
    seed: int, name: str, shape: tuple[int, ...], share: float
) -> Bool[np.ndarray, "y x"]:
    """Blobs that hide a share of the image, to the pixel."""
    height, width = shape
    hidden = np.zeros(height * width, bool)
    count = round(share * hidden.size)
    if count:
        blobs = Noise(seed, name, (height, width), max(min(shape) / 6, 2.0), 5)
        cover = np.concatenate([*map(blobs.rows, strips(height))]).ravel()
        hidden[np.argpartition(cover, -count)[-count:]] = True
    return hidden.reshape(height, width)


def white_noise(
    seed: int, name: str, shape: tuple[int, ...], deviation: float
) -> Float32[np.ndarray, "..."]:
    """Independent Gaussian noise."""
    noise = stream(seed, name).standard_normal(shape, dtype=np.float32)
    return noise * np.float32(deviation)


def stream(seed: int, name: str) -> np.random.Generator:
    """A generator for each purpose: one option never shifts another's draws."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def strips(height: int) -> Iterator[slice]:
    """Rows from top to bottom, in pieces."""
    for top in range(0, height, _STRIP):
        yield slice(top, min(top + _STRIP, height))


def _spline(
    pixels: np.ndarray, spacing: float
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """First of the four lattice points around each pixel, and their weights."""
    position = pixels / spacing
    first = np.floor(position).astype(np.int64)
    t = (position - first).astype(np.float32)
    return first, (
        (1 - t) ** 3 / 6,
        (3 * t**3 - 6 * t**2 + 4) / 6,
        (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
        t**3 / 6,
    )
