"""Reconstruction of a marker under a mask, by Vincent's hybrid algorithm.

The reconstruction by dilation of a marker J under a mask I is what remains when J is
dilated by its neighbors and cut back to I again and again, until nothing changes:

    J <- min(dilated J, I)            mask I    ▁▂▅▂▁▂▇▇▂▁
                                      marker J  ▁▁▄▁▁▁▁▁▁▁
                                      result    ▁▂▄▂▁▂▂▂▂▁

A structure that the marker touches comes back to the marker's height; one that it does
not touch is flattened. One scan down and one scan up do almost all of the work; where
something is left to do is put in a queue, from which it spreads.

The scans look at all four causal neighbors at once except for the pixel before, so that
only that one step has to wait for the other: the rest of a row is done in parallel.

Reference:
    Vincent, L. (1993). Morphological grayscale reconstruction in image analysis:
    applications and efficient algorithms. IEEE Transactions on Image Processing 2(2),
    176-201, section IV-C.
"""

import numpy as np
from numba import njit

from geofuse.errors import GridMismatchError, ParameterError, did_you_mean

#: How many neighbors of a pixel count as touching it.
CONNECTIVITIES = (4, 8)


def reconstruct(
    marker: np.ndarray,
    mask: np.ndarray,
    *,
    method: str = "dilation",
    connectivity: int = 8,
) -> np.ndarray:
    """Reconstruct a marker under (or above) a mask.

    Equals `skimage.morphology.reconstruction` bit for bit. NaN in marker or mask is a
    wall: it conducts nothing and stays NaN. Two pixels that touch by a corner do so
    also between two walls.

    Args:
        marker: (y, x), uint8, uint16 or float32, nowhere above `mask` (for `dilation`)
            or below it (for `erosion`).
        mask: (y, x) of the same type, any unit.
        method: `dilation` or `erosion`.
        connectivity: 4 or 8 neighbors.

    Returns:
        (y, x) of the same type and unit.

    Raises:
        GridMismatchError: Marker and mask differ in shape or are not (y, x).
        ParameterError: The types differ or are others; the marker is on the wrong side
            of the mask; an unknown method or connectivity.

    Example:
        >>> mask = np.array([[0, 3, 1, 5, 0]], np.uint8)
        >>> marker = np.array([[0, 2, 0, 0, 0]], np.uint8)
        >>> reconstruct(marker, mask)
        array([[0, 2, 1, 1, 0]], dtype=uint8)
    """
    _check(marker, mask, method, connectivity)
    floats = mask.dtype.kind == "f"
    walls = np.isnan(mask) | np.isnan(marker) if floats else None
    # Dark structures are the bright ones of the flipped image, exactly in all types.
    if method == "erosion":
        marker, mask = (~marker, ~mask) if not floats else (-marker, -mask)
    lowest = -np.inf if floats else 0
    if walls is not None:
        marker, mask = (np.where(walls, lowest, image) for image in (marker, mask))
    result = reconstruct_levels(
        marker.astype(mask.dtype, copy=False), mask, connectivity == 8
    )
    if method == "erosion":
        result = -result if floats else ~result
    if walls is not None:
        result[walls] = np.nan
    return result


def reconstruct_levels(
    marker: np.ndarray, mask: np.ndarray, corners: bool
) -> np.ndarray:
    """Reconstruct by dilation, unchecked.

    Args:
        marker: (y, x), not above `mask`.
        mask: (y, x) of the same type; walls have the lowest value of the type (-inf).
        corners: Whether pixels that touch by a corner are neighbors.
    """
    lowest = -np.inf if mask.dtype.kind == "f" else 0
    bounded = np.pad(mask, 1, constant_values=lowest)
    result = np.pad(marker, 1, constant_values=lowest)
    _hybrid(result, bounded, corners)
    return result[1:-1, 1:-1].copy()


def _check(
    marker: np.ndarray, mask: np.ndarray, method: str, connectivity: int
) -> None:
    if marker.shape != mask.shape or mask.ndim != 2:
        raise GridMismatchError(
            f"expected a marker and a mask (y, x) of one shape, found {marker.shape} "
            f"and {mask.shape}; cut or align one to the other"
        )
    types = (np.uint8, np.uint16, np.float32)
    if marker.dtype != mask.dtype or mask.dtype.type not in types:
        raise ParameterError(
            "expected marker and mask both uint8, uint16 or float32, found "
            f"{marker.dtype} and {mask.dtype}; convert them with astype"
        )
    if method not in ("dilation", "erosion"):
        raise ParameterError(
            f"expected a method of reconstruction, found {method!r}; "
            f"{did_you_mean(method, ('dilation', 'erosion'))}"
        )
    check_connectivity(connectivity)
    wrong = marker > mask if method == "dilation" else marker < mask
    if wrong.any():
        side = "above" if method == "dilation" else "below"
        raise ParameterError(
            f"expected a marker nowhere {side} the mask, found {int(wrong.sum())} "
            f"pixels that are; cut it first with np."
            f"{'min' if side == 'above' else 'max'}imum(marker, mask)"
        )


def check_connectivity(connectivity: int) -> None:
    """Refuse what is not 4 or 8 neighbors.

    Raises:
        ParameterError: It is not.
    """
    if connectivity not in CONNECTIVITIES:
        raise ParameterError(
            f"expected a connectivity of 4 or 8 neighbors, found {connectivity!r}; 8 "
            "lets pixels touch by their corners, 4 only by their sides"
        )


@njit(cache=True, nogil=True)
def _hybrid(result: np.ndarray, mask: np.ndarray, corners: bool) -> None:
    """Vincent (1993), algorithm of section IV-C; both arrays have a border of walls."""
    height, width = result.shape
    before = np.empty(width, result.dtype)
    for y in range(1, height - 1):
        _merge_row(before, result[y], result[y - 1], corners)
        line, bound = result[y], mask[y]
        last = line[0]
        for x in range(1, width - 1):
            last = min(max(before[x], last), bound[x])
            line[x] = last
    # Neighbors of a row, by how far they lie in memory.
    steps = np.array(
        [-1, 1, -width, width, -width - 1, -width + 1, width - 1, width + 1]
    )
    count = 8 if corners else 4
    flat, bounds = result.ravel(), mask.ravel()
    queue = np.empty(1024, np.int32)
    end = 0
    for y in range(height - 2, 0, -1):
        _merge_row(before, result[y], result[y + 1], corners)
        line, bound = result[y], mask[y]
        below, bound_below = result[y + 1], mask[y + 1]
        last = line[width - 1]
        for x in range(width - 2, 0, -1):
            last = min(max(before[x], last), bound[x])
            line[x] = last
            # Neighbors that were scanned before this one and could still rise.
            rises = (line[x + 1] < last) & (line[x + 1] < bound[x + 1])
            rises |= (below[x] < last) & (below[x] < bound_below[x])
            if corners:
                rises |= (below[x - 1] < last) & (below[x - 1] < bound_below[x - 1])
                rises |= (below[x + 1] < last) & (below[x + 1] < bound_below[x + 1])
            if rises:
                if end == queue.size:
                    queue = _grown(queue, end)
                queue[end] = y * width + x
                end += 1
    _spread(flat, bounds, steps[:count], queue, end)


@njit(cache=True, nogil=True)
def _merge_row(
    out: np.ndarray, line: np.ndarray, scanned: np.ndarray, corners: bool
) -> None:
    """Largest of a pixel and its neighbors in the row that was scanned before."""
    width = line.size
    if corners:
        left, middle, right = scanned[: width - 2], scanned[1 : width - 1], scanned[2:]
        here, target = line[1 : width - 1], out[1 : width - 1]
        for x in range(width - 2):
            target[x] = max(max(here[x], middle[x]), max(left[x], right[x]))
    else:
        for x in range(width):
            out[x] = max(line[x], scanned[x])


@njit(cache=True, nogil=True)
def _grown(queue: np.ndarray, end: int) -> np.ndarray:
    larger = np.empty(2 * queue.size, queue.dtype)
    larger[:end] = queue[:end]
    return larger


@njit(cache=True, nogil=True)
def _spread(
    flat: np.ndarray, bounds: np.ndarray, steps: np.ndarray, queue: np.ndarray, end: int
) -> None:
    """Let what is in the queue spread, first in, first out."""
    start = 0
    while start < end:
        here = queue[start]
        start += 1
        value = flat[here]
        for k in range(steps.size):
            there = here + steps[k]
            if flat[there] < value and flat[there] < bounds[there]:
                flat[there] = min(value, bounds[there])
                if end == queue.size:
                    # Room at the front is used again before the queue grows.
                    if start > end // 2:
                        queue[: end - start] = queue[start:end].copy()
                        end -= start
                        start = 0
                    else:
                        queue = _grown(queue, end)
                queue[end] = there
                end += 1
