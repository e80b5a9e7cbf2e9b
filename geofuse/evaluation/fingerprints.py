"""Does one image hold a piece of another, wherever it lies and whatever its date says?

A run of eight pixels of a band, none like its neighbor, has a number. Of these numbers those
divisible by 16 are kept, and where they are too many those divisible by 32, 64, …: so the
same runs are kept in every image, and a piece that two images share shows as numbers that
both have. Places and dates do not enter; values must be the same to the bit.

    1 in 16 runs      finds pieces of about 10 x 10 pixels
    1 in 2048 runs    (a whole Sentinel-2 tile) of about 80 x 80
"""

from typing import NamedTuple

import numpy as np
import xarray as xr
from jaxtyping import UInt64

#: Pixels in a run.
RUN = 8
#: Runs that two images must have in common: one or two can be alike by chance.
LEAST = 3

#: Numbers whose last bits are 0 are kept, at first so many bits; at most so many numbers.
_BITS, _MOST = 4, 2**18
_ROWS = 256
_MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_STEP = 0x9E3779B97F4A7C15


class Fingerprint(NamedTuple):
    """What is kept of an image: numbers, ascending, whose last `bits` bits are 0."""

    numbers: UInt64[np.ndarray, " run"]
    bits: int


def fingerprint(image: xr.DataArray) -> Fingerprint:
    """The fingerprint of an image.

    Args:
        image: Image (band, y, x), lazy or not; read once, a few rows at a time. Runs with
            NaN do not count.
    """
    bits = _BITS
    found = np.zeros(0, np.uint64)
    for start in range(0, image.sizes["y"], _ROWS):
        rows = image.isel(y=slice(start, start + _ROWS)).values
        for band in rows:
            numbers = _runs(np.asarray(band, np.float32))
            found = np.union1d(found, numbers[_divisible(numbers, bits)])
        while len(found) > _MOST:
            bits += 1
            found = found[_divisible(found, bits)]
    return Fingerprint(found, bits)


def runs_in_common(first: Fingerprint, second: Fingerprint) -> int:
    """How many of the kept runs two images share.

    Args:
        first: Of one image.
        second: Of the other.

    >>> values = np.random.default_rng(0).random((1, 40, 40), np.float32)
    >>> whole, part = (xr.DataArray(v, dims=("band", "y", "x"))
    ...                for v in (values, values[:, 11:31, 7:27]))
    >>> runs_in_common(fingerprint(whole), fingerprint(part)) >= LEAST
    True
    """
    bits = max(first.bits, second.bits)
    one, other = (p.numbers[_divisible(p.numbers, bits)] for p in (first, second))
    return len(np.intersect1d(one, other, assume_unique=True))


def _runs(values: np.ndarray) -> np.ndarray:
    """The numbers of all runs of a band (y, x)."""
    if values.shape[1] < RUN:
        return np.zeros(0, np.uint64)
    bits = (values + np.float32(0)).view(np.uint32)  # no -0
    pixels = _mixed(bits.astype(np.uint64))
    usable = np.isfinite(values)
    differs = bits[:, 1:] != bits[:, :-1]
    count = values.shape[1] - RUN + 1
    total = np.zeros((len(values), count), np.uint64)
    complete = np.ones(total.shape, bool)
    for place in range(RUN):
        total = total * np.uint64(_STEP) + pixels[:, place : place + count]
        complete &= usable[:, place : place + count]
        if place < RUN - 1:
            complete &= differs[:, place : place + count]
    return np.unique(_mixed(total[complete]))


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """Numbers whose bits all depend on all bits of others (SplitMix64)."""
    for shift, factor in zip((30, 27), _MIX, strict=True):
        numbers = (numbers ^ (numbers >> np.uint64(shift))) * np.uint64(factor)
    return numbers ^ (numbers >> np.uint64(31))


def _divisible(numbers: np.ndarray, bits: int) -> np.ndarray:
    return numbers & np.uint64((1 << bits) - 1) == 0
