"""A thin-plate spline through the centers of coarse pixels, in a window around each.

The spline bends least of all surfaces through its points. Through all points of a scene it
takes a matrix of their number squared, hundreds of GB for a Landsat scene; but what lies a
few points off hardly counts. So each coarse pixel has the spline through the points around
it. The points lie on a lattice, the same around every coarse pixel: the spline is a fixed
set of weights, found once.

Reference: J. Duchon (1977): Splines minimizing rotation-invariant semi-norms in Sobolev
spaces. Constructive Theory of Functions of Several Variables, 85-100.
"""

from functools import cache
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

#: Points on each side of the central one. With 3, the spline differs from that through all
#: points by half a percent of the spread of white noise, and less of anything smoother.
REACH = 3


def thin_plate(coarse: Any, scale: int) -> Any:
    """Interpolate between the centers of coarse pixels, `REACH` of them on each side.

    An invalid neighbor counts as equal to the coarse pixel in which the fine pixel lies.

    Args:
        coarse: (…, row, column), NaN where invalid.
        scale: Coarse GSD / fine GSD.

    Returns:
        (…, y, x) of the rows and columns without `REACH` on each side.
    """
    weights = thin_plate_weights(scale)
    *lead, rows, columns = coarse.shape
    rows, columns = rows - 2 * REACH, columns - 2 * REACH
    center = coarse[..., REACH:-REACH, REACH:-REACH]
    result = jnp.zeros((*lead, rows, scale, columns, scale), coarse.dtype)
    for i in range(2 * REACH + 1):
        for j in range(2 * REACH + 1):
            neighbor = coarse[..., i : i + rows, j : j + columns]
            neighbor = jnp.where(jnp.isfinite(neighbor), neighbor, center)
            # Differences from the center: a constant is returned exactly.
            difference = (neighbor - center)[..., :, None, :, None]
            share = weights[i, j].reshape(
                (1,) * (difference.ndim - 4) + (1, scale, 1, scale)
            )
            result = result + share * difference
    result = result + center[..., :, None, :, None]
    return result.reshape(*lead, rows * scale, columns * scale)


@cache
def thin_plate_weights(scale: int) -> Float[np.ndarray, "side side scale scale"]:
    """Weight of each neighboring point for each place inside a coarse pixel.

    They sum to 1 over the points.
    """
    reach = np.arange(-REACH, REACH + 1)
    points = np.stack(np.meshgrid(reach, reach, indexing="ij"), axis=-1).reshape(-1, 2)
    inside = (np.arange(scale) + 0.5) / scale - 0.5
    places = np.stack(np.meshgrid(inside, inside, indexing="ij"), axis=-1).reshape(
        -1, 2
    )
    count = len(points)
    plane = np.concatenate([np.ones((count, 1)), points], axis=1)
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = _bending(points, points)
    system[:count, count:], system[count:, :count] = plane, plane.T
    wanted = np.concatenate(
        [_bending(places, points), np.ones((len(places), 1)), places], axis=1
    )
    weights = np.linalg.solve(system.T, wanted.T)[:count]
    side = len(reach)
    return weights.reshape(side, side, scale, scale).astype(np.float32)


def _bending(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The spline's kernel r^2 ln r between points."""
    square = ((a[:, None] - b[None]) ** 2).sum(axis=-1)
    return np.where(
        square > 0, 0.5 * square * np.log(np.where(square > 0, square, 1)), 0
    )
