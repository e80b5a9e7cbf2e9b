"""Cut an image into segments of similar neighboring pixels, the same in every tile.

Seeds lie on a lattice that is anchored to the coarse grid, so that every window of a tile
holds the same ones. As in SLIC (Achanta et al. 2012), pixels join the nearest seed by color
and place together, and seeds move to the mean of their pixels, a few times:

    ┌───┬───┬───┐
    │   │   │   │   A pixel may join the seed of its own cell or of the eight around it,
    ├───┼───┼───┤   and a step moves nothing further than that. So a segment depends on
    │   │ i │   │   the pixels within `reach` cells, and on nothing else: unlike region
    ├───┼───┼───┤   growing or a scene-wide clustering, it obeys the law of tiles.
    │   │   │   │
    └───┴───┴───┘

A label is a number from 0 to 8: which of the nine seeds the pixel joined. Means over
segments are sums over cells, shifted and added in one order, without any scatter.

Reference: R. Achanta et al. (2012): SLIC superpixels compared to state-of-the-art
superpixel methods. IEEE Transactions on Pattern Analysis and Machine Intelligence 34(11),
2274-2282. Departures: a fixed number of steps, no enforced connectivity, seeds start at the
mean of their cell.
"""

from functools import reduce
from operator import add
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from geofuse.spatiotemporal.coarse_grid import block_sum, painted

_NINE = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1))


class Segments(NamedTuple):
    """Which seed each pixel joined.

    Attributes:
        label: 0 to 8 in reading order: which of the seeds around the pixel's cell.
        cell: Side of a cell in fine pixels; known when tracing.
    """

    label: Int[Array, "y x"]
    cell: int

    def mean(self, image: Any) -> Any:
        """Mean of the valid pixels of the segment that each pixel belongs to.

        Args:
            image: (band, y, x), NaN where invalid.

        Returns:
            (band, y, x); NaN where the segment has no valid pixel.
        """
        # A loop, so that the image is computed once, not in each of the nine sums again.
        return lax.map(lambda b: self.spread(_means(self.label, b, self.cell)), image)

    def count(self, valid: Any) -> Any:
        """Number of valid pixels of the segment that each pixel belongs to."""
        return self.spread(_totals(self.label, valid.astype(jnp.float32), self.cell))

    def spread(self, seeds: Any) -> Any:
        """Give each pixel the value of its segment: (…, row, column) to (…, y, x)."""
        label = _as_rank(self.label, seeds.ndim)
        result = painted(seeds, self.cell)
        for number, offset in enumerate(_NINE):
            value = painted(_shifted(seeds, offset), self.cell)
            result = jnp.where(label == number, value, result)
        return result


def cell_side(scale: int, target: int) -> int:
    """Side of a cell: the divisor of the scale nearest to the target, as a ratio."""
    divisors = [side for side in range(1, scale + 1) if scale % side == 0]
    return min(divisors, key=lambda side: (max(side / target, target / side), -side))


def reach(steps: int) -> int:
    """How far, in cells, the mean over a pixel's segment looks."""
    return 2 * steps + 1


def segment(
    image: Float[Array, "band y x"], *, cell: int, steps: int, compactness: float
) -> Segments:
    """Cut an image into segments.

    Args:
        image: Bands in a unit in which they count alike; NaN where invalid. A band that is
            invalid at a pixel does not count there. Its sides are multiples of `cell`.
        cell: Side of a cell in fine pixels.
        steps: How often pixels join a seed, at least once.
        compactness: How much the place counts: a difference of one cell counts like one of
            `compactness` in every band.

    Returns:
        The segments. Near the edge of the window they are not those of a larger window:
        leave out `reach(steps)` cells.
    """
    height, width = image.shape[-2:]
    inside = (np.arange(cell) + 0.5) / cell - 0.5
    down, right = (np.tile(inside, side // cell) for side in (height, width))
    place = jnp.stack(jnp.meshgrid(np.float32(down), np.float32(right), indexing="ij"))
    own = jnp.full((height, width), 4, jnp.int32)
    anywhere = jnp.isfinite(image).any(axis=0)

    def step(_: Any, label: Any) -> Any:
        color = _means(label, image, cell)
        # A pixel that joined the seed at an offset lies at minus that offset from it.
        moved = [
            jnp.where(anywhere, place[axis] - _offset(label, axis), jnp.nan)
            for axis in (0, 1)
        ]
        position = _means(label, jnp.stack(moved), cell)
        return _join(image, place, color, position, cell, compactness)

    return Segments(lax.fori_loop(0, steps, step, own), cell)


def _join(
    image: Any, place: Any, color: Any, position: Any, cell: int, compactness: float
) -> Any:
    """The nearest of the nine seeds around each pixel, by color and place."""
    least = jnp.full(image.shape[-2:], jnp.inf, image.dtype)
    label = jnp.full(image.shape[-2:], 4, jnp.int32)
    for number, offset in enumerate(_NINE):
        terms = []
        for band, seeds in zip(image, color, strict=True):
            off = band - painted(_shifted(seeds, offset), cell)
            # Invalid counts nothing. The `where` also keeps square and sum apart.
            terms.append(jnp.where(off * off > 0, off * off, 0.0))
        for axis in (0, 1):
            seeds = _shifted(position[axis], offset)
            off = (painted(seeds, cell) + offset[axis]) - place[axis]
            square = (compactness**2 * image.shape[0]) * (off * off)
            terms.append(jnp.where(jnp.isfinite(square), square, jnp.inf))
        distance = reduce(add, terms)
        label = jnp.where(distance < least, number, label)
        least = jnp.minimum(distance, least)
    return label


def _means(label: Any, image: Any, cell: int) -> Any:
    """Mean of the valid pixels of each segment, (…, row, column); NaN where none is."""
    valid = jnp.isfinite(image)
    count = _totals(label, valid.astype(jnp.float32), cell)
    total = _totals(label, jnp.where(valid, image, 0.0), cell)
    return jnp.where(count > 0, total / jnp.maximum(count, 1.0), jnp.nan)


def _totals(label: Any, image: Any, cell: int) -> Any:
    """Sum over the pixels of each segment, (…, row, column)."""
    parts = []
    label = _as_rank(label, image.ndim)
    for number, (dy, dx) in enumerate(_NINE):
        sums = block_sum(jnp.where(label == number, image, 0.0), cell)
        moved = _shifted(sums, (-dy, -dx))
        parts.append(jnp.where(jnp.isfinite(moved), moved, 0.0))
    return reduce(add, parts)


def _shifted(seeds: Any, offset: tuple[int, int]) -> Any:
    """The seed at `offset` from each cell, (…, row, column); NaN beyond the window."""
    dy, dx = offset
    rows, columns = seeds.shape[-2:]
    lead = [(0, 0)] * (seeds.ndim - 2)
    padded = jnp.pad(seeds, [*lead, (1, 1), (1, 1)], constant_values=jnp.nan)
    return padded[..., 1 + dy : 1 + dy + rows, 1 + dx : 1 + dx + columns]


def _offset(label: Any, axis: int) -> Any:
    """Rows (axis 0) or columns (1) of cells from a pixel's cell to its seed's."""
    return (label // 3 if axis == 0 else label % 3).astype(jnp.float32) - 1.0


def _as_rank(label: Any, rank: int) -> Any:
    """The labels with as many axes as the image that they cut."""
    return label.reshape(*(1 for _ in range(rank - 2)), *label.shape)
