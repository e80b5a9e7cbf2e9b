"""Gray levels as unsigned integers that keep the order, with a level for walls.

    float32   -inf …  -1.5 … -0.0 = 0.0 …  2.5 …  inf, NaN      uint8 0 … 255
    level        0       1 < … < … <  … < 4 294 967 295   0           1 … 256

Connected operators ask of gray levels only which is higher. Coded like this, one kernel
serves all types and sorts them by their digits; and what holds for bright structures
holds for dark ones after `flipped`, so that no kernel exists twice. Level 0 is a
*wall*: it belongs to no region, conducts nothing, and decodes to NaN.
"""

import numpy as np

#: The level of what is invalid or outside the image.
WALL = np.uint32(0)

_SIGN = np.uint32(1 << 31)


def encode(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Levels of gray values.

    Args:
        values: uint8, uint16 or float32. Not finite is a wall. -0.0 and 0.0 are one
            level.
        valid: Where `values` are to be used; a wall elsewhere.

    Returns:
        uint32 of the same shape, 0 at walls.
    """
    if values.dtype.kind == "u":
        return np.where(valid, values + np.uint32(1), WALL)
    bits = (values + np.float32(0)).view(np.uint32)
    # The bits of positive floats grow with them, those of negative floats against them.
    levels = bits ^ np.where(bits & _SIGN, np.uint32(0xFFFFFFFF), _SIGN)
    return np.where(valid & np.isfinite(values), levels, WALL)


def decode(levels: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Gray values of levels, as float32; NaN at walls.

    Args:
        levels: What `encode` gave for values of `dtype`.
        dtype: uint8, uint16 or float32.
    """
    if dtype.kind == "u":
        values = levels.astype(np.float32) - np.float32(1)
    else:
        negative = (levels & _SIGN) == 0
        bits = levels ^ np.where(negative, np.uint32(0xFFFFFFFF), _SIGN)
        values = bits.view(np.float32)
    return np.where(levels == WALL, np.float32(np.nan), values)


def flipped(levels: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Levels in the opposite order, walls as they were; its own inverse.

    Args:
        levels: What `encode` gave for values of `dtype`.
        dtype: uint8, uint16 or float32.
    """
    ends = {"uint8": 257, "uint16": 65537}
    end = np.uint32(ends.get(dtype.name, 0xFFFFFFFF))
    return np.where(levels == WALL, WALL, end - levels)
