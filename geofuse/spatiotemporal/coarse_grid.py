"""From the fine grid to the coarse one and back.

A tile of a method that works on the coarse grid starts and ends at corners of coarse
pixels, so that its windows fold into blocks:

    fine grid  ──block_mean──>  coarse grid  ──local_line, …──>  coarse grid
        ^                                                            │
        └───────── painted (constant in a coarse pixel) ─────────────┤
        └───────── bicubic (between their centers) ──────────────────┘

Every sum is written out in one order, so that a coarse pixel gets the same bits in every
tile.
"""

from collections.abc import Callable
from functools import reduce
from operator import add
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

#: A constant image still varies by this fraction of its level: rounding of float32.
ROUNDING = 2e-6


def product(a: Any, b: Any) -> Any:
    """A product that no compiler joins with a sum, so that tiles agree in every bit.

    `where(a != 0, a * b, 0)` would not do: of a square, compilers see through it.
    """
    value = a * b
    return jnp.where(jnp.isfinite(value), value, jnp.nan)


def block_mean(image: Any, scale: int) -> Any:
    """Mean of the valid fine pixels in each coarse pixel; NaN where none is valid.

    Args:
        image: (…, y, x), y and x multiples of `scale`, starting at a coarse corner.
        scale: Coarse GSD / fine GSD.

    Returns:
        (…, y / scale, x / scale).
    """
    valid = jnp.isfinite(image)
    total = block_sum(jnp.where(valid, image, 0.0), scale)
    count = block_sum(valid.astype(image.dtype), scale)
    return jnp.where(count > 0, total / jnp.maximum(count, 1.0), jnp.nan)


def block_sum(image: Any, scale: int) -> Any:
    """Sum over each block: its rows, then its columns, each in reading order.

    Not `sum(axis=…)`: in which order XLA adds there depends on the width of the window.

    Args:
        image: (…, y, x), y and x multiples of `scale`.
        scale: Side of a block.

    Returns:
        (…, y / scale, x / scale).
    """
    tall = reduce(add, [image[..., k::scale, :] for k in range(scale)])
    return reduce(add, [tall[..., k::scale] for k in range(scale)])


def painted(coarse: Any, scale: int) -> Any:
    """Give every fine pixel the value of the coarse pixel in which it lies.

    Args:
        coarse: (…, row, column).
        scale: Coarse GSD / fine GSD.

    Returns:
        (…, row * scale, column * scale).
    """
    *lead, rows, columns = coarse.shape
    shape = (*lead, rows, scale, columns, scale)
    blocks = jnp.broadcast_to(coarse[..., :, None, :, None], shape)
    return blocks.reshape(*lead, rows * scale, columns * scale)


def bicubic(coarse: Any, scale: int) -> Any:
    """Interpolate between the centers of coarse pixels, two of them on each side.

    An invalid neighbor counts as equal to the coarse pixel in which the fine pixel lies:
    nothing spreads from it.

    Args:
        coarse: (…, row, column), NaN where invalid.
        scale: Coarse GSD / fine GSD.

    Returns:
        (…, y, x) of the rows and columns without two on each side.
    """
    weights = cubic_weights(scale)
    *lead, rows, columns = coarse.shape
    rows, columns = rows - 4, columns - 4
    center = coarse[..., 2:-2, 2:-2]
    result = jnp.zeros((*lead, rows, scale, columns, scale), coarse.dtype)
    for i in range(5):
        for j in range(5):
            neighbor = coarse[..., i : i + rows, j : j + columns]
            neighbor = jnp.where(jnp.isfinite(neighbor), neighbor, center)
            # Differences from the center: a constant change is returned exactly.
            difference = (neighbor - center)[..., :, None, :, None]
            share = weights[:, i][:, None, None] * weights[:, j][None, None, :]
            share = share.reshape((1,) * (difference.ndim - 3) + share.shape)
            result = result + share * difference
    result = result + center[..., :, None, :, None]
    return result.reshape(*lead, rows * scale, columns * scale)


class LocalLine(NamedTuple):
    """The line from x to y around each coarse pixel: mean_y + slope (x - mean_x).

    Attributes:
        slope: Its slope; 1 where x is constant in the window.
        mean_x: Mean of x in the window.
        mean_y: Mean of y in the window.
        variance: Variance of y about the line, squared units, unbiased where the window
            has more than two valid coarse pixels; 0 where it has one.
        cells: Number of valid coarse pixels in the window.
    """

    slope: Float[Array, "*lead row column"]
    mean_x: Float[Array, "*lead row column"]
    mean_y: Float[Array, "*lead row column"]
    variance: Float[Array, "*lead row column"]
    cells: Float[Array, "*lead row column"]

    def of(self, x: Any) -> Any:
        """The line's value at x, which has the shape of the fields.

        The `where` keeps the product apart from the sum: compilers round the two once or
        twice, as the tile's width suits.
        """
        rise = self.slope * (x - self.mean_x)
        return jnp.where(jnp.isfinite(rise), rise, jnp.nan) + self.mean_y


def local_line(x: Any, y: Any, *, radius: int) -> LocalLine:
    """Least-squares line from x to y in the window around each coarse pixel.

    Args:
        x: (…, row, column), NaN where invalid.
        y: Likewise; only coarse pixels where both are valid count.
        radius: Half the side of the window, center excluded, in coarse pixels.

    Returns:
        Arrays without `radius` coarse pixels on each side; NaN where the window has no
        valid coarse pixel.
    """
    valid = jnp.isfinite(x) & jnp.isfinite(y)
    maps = (
        valid.astype(jnp.float32),
        jnp.where(valid, x, 0.0),
        jnp.where(valid, y, 0.0),
    )
    count, total_x, total_y = window_sums(maps, lambda v, p, q: (v, p, q), radius)
    safe = jnp.maximum(count, 1.0)
    mean_x, mean_y = total_x / safe, total_y / safe

    # Sums about the mean (temperatures in kelvin), each product behind a `where`.
    def products(v: Any, p: Any, q: Any) -> tuple[Any, ...]:
        off_x, off_y = p - mean_x, q - mean_y
        return tuple(jnp.where(v > 0, off_x * off, 0.0) for off in (off_x, off_y))

    xx, xy = window_sums(maps, products, radius)
    level = jnp.abs(mean_x) * ROUNDING
    flat = xx <= safe * jnp.where(level > 0, level * level, 0.0)
    slope = jnp.where(flat, 1.0, xy / jnp.where(flat, 1.0, xx))

    def squares(v: Any, p: Any, q: Any) -> tuple[Any]:
        rise = jnp.where(v > 0, slope * (p - mean_x), 0.0)
        off = (q - mean_y) - rise
        return (jnp.where(v > 0, off * off, 0.0),)

    (about,) = window_sums(maps, squares, radius)
    some = count > 0
    return LocalLine(
        slope=jnp.where(some, slope, jnp.nan),
        mean_x=jnp.where(some, mean_x, jnp.nan),
        mean_y=jnp.where(some, mean_y, jnp.nan),
        variance=jnp.where(some, about / jnp.maximum(count - 2.0, 1.0), jnp.nan),
        cells=count,
    )


def window_sums(
    maps: tuple[Any, ...], terms: Callable[..., tuple[Any, ...]], radius: int
) -> tuple[Any, ...]:
    """Sum terms over the window: `terms(*maps at the neighbor)`, in reading order.

    A loop over the rows of the window, so that what is summed here is computed on the
    coarse grid: XLA would join it with what follows, and do it again in each fine pixel.
    """
    side = 2 * radius + 1
    rows, columns = (size - 2 * radius for size in maps[0].shape[-2:])

    def add_row(i: Any, sums: tuple[Any, ...]) -> tuple[Any, ...]:
        strips = [lax.dynamic_slice_in_dim(m, i, rows, axis=-2) for m in maps]
        for j in range(side):
            found = terms(*(strip[..., j : j + columns] for strip in strips))
            sums = tuple(total + term for total, term in zip(sums, found, strict=True))
        return sums

    strips = [
        jax.ShapeDtypeStruct((*m.shape[:-2], rows, columns), m.dtype) for m in maps
    ]
    example = jax.eval_shape(terms, *strips)
    zeros = tuple(jnp.zeros(term.shape, term.dtype) for term in example)
    return lax.fori_loop(0, side, add_row, zeros)


def cubic_weights(scale: int) -> np.ndarray:
    """Weights of 5 coarse pixels around the own one, for each place inside it."""
    place = (np.arange(scale) + 0.5) / scale - 0.5
    distance = np.abs(place[:, None] - np.arange(-2, 3)[None, :])
    a = -0.5
    near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    far = a * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    weights = np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
    return weights.astype(np.float32)
