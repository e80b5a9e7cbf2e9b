"""What a learned kernel is told about each pixel, from its neighborhood by fixed rules.

All is in units of the band's spread over the scene, so that any physical variable works, and
is of three kinds:

    fine grid     the pixel itself; how it stands out of 5x5 pixels
    coarse grid   change, its spread in 3x3 and 7x7 coarse pixels; the line from C1 to C2
                  (as in Fit-FC); interpolated between the centers of coarse pixels
    scene         how alike the sensors and the dates are

What the other bands tell is a mean over all bands (`guide`), so that any number of bands
will do, one as well.
"""

from functools import reduce
from operator import add
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from geofuse.spatiotemporal.coarse_grid import (
    block_mean,
    cubic_weights,
    local_line,
    painted,
    window_sums,
)
from geofuse.spatiotemporal.method import trimmed

#: Half the side of the widest window on the coarse grid, and the reach of its
#: interpolation, in coarse pixels.
WINDOW, BEYOND = 3, 2
#: Half the side of the window on the fine grid, in fine pixels.
NEAR = 2
#: The numbers of a pixel, in order; those of the scene follow.
OWN = (
    "level", "sensors", "change", "detail", "low-pass sensors", "smooth change",
    "line change", "mean change", "spread of change", "power of change", "slope",
    "off the line", "spread in cells", "near detail", "near spread",
)  # fmt: skip
GUIDES = 7
SCENE = 7
CHANNELS = len(OWN) + GUIDES + SCENE
#: Which of them are parts of the change; the first is the coarse change itself.
PARTS = (2, 5, 6)
_POWER, _GUIDE_POWER = 9, len(OWN) + 4


class CoarseMaps(NamedTuple):
    """Maps on the coarse grid; NaN where nothing is valid."""

    fine: Any
    base: Any
    change: Any
    mean_change: Any
    spread: Any
    power: Any
    slope: Any
    level: Any
    shift: Any
    off_line: Any
    texture: Any


class FineMaps(NamedTuple):
    """Images in units of the spread, and what comes of them; 0 where invalid."""

    fine: Any
    sensors: Any
    change: Any
    near_detail: Any
    near_spread: Any
    valid: Any


class Evidence(NamedTuple):
    """What is known of all bands before one is looked at.

    Attributes:
        coarse: Maps on the coarse grid, of each pair and band.
        guide: What a mean over all bands tells, at each fine pixel.
    """

    coarse: CoarseMaps
    guide: Float[Array, "pair guide rows columns"]


def evidence_of(
    fine: Float[Array, "pair band y x"],
    coarse_base: Float[Array, "pair band y x"],
    coarse: Float[Array, "pair band y x"],
    scale: int,
    spare: int,
) -> Evidence:
    """Look at all bands of a window, which starts and ends at corners of coarse pixels.

    Args:
        fine: Fine images, in units of the spread about the scene's mean; NaN where
            invalid.
        coarse_base: Coarse images of the pairs, likewise.
        coarse: Coarse image of the prediction date, likewise, once for each pair.
        scale: Coarse GSD / fine GSD.
        spare: Fine pixels to leave out on each side, beyond `WINDOW + BEYOND` coarse ones.
            Both together are at least `NEAR`.
    """
    valid = jnp.isfinite(fine) & jnp.isfinite(coarse_base) & jnp.isfinite(coarse)
    known = [jnp.where(valid, a, jnp.nan) for a in (fine, coarse_base, coarse)]
    cells = _coarse_maps(known[0], known[1], known[2], scale)
    margin = (WINDOW + BEYOND) * scale + spare
    maps = _fine_maps(fine, coarse_base, coarse, margin)
    on_fine = (
        jnp.abs(maps.change),
        maps.change,
        jnp.abs(maps.sensors),
        maps.near_spread,
    )
    on_coarse = (cells.power, cells.spread, jnp.abs(cells.fine - cells.base))
    smooth = _interpolated(
        jnp.stack([_band_mean(m, jnp.isfinite(m)) for m in on_coarse], axis=1), scale
    )
    sharp = jnp.stack([_band_mean(m, maps.valid) for m in on_fine], axis=1)
    return Evidence(cells, jnp.concatenate([sharp, trimmed(smooth, spare)], axis=1))


def channels_of(
    fine: Float[Array, "y x"],
    coarse_base: Float[Array, "y x"],
    coarse: Float[Array, "y x"],
    evidence: Evidence,
    scene: Float[Array, " scene"],
    scale: int,
    spare: int,
) -> Float[Array, "channel rows columns"]:
    """Describe each pixel of one band and pair.

    Args:
        fine: As `evidence_of`, of one band and pair; so are the others.
        coarse_base: Likewise.
        coarse: Likewise.
        evidence: What is known of that band and pair.
        scene: Numbers of the scene.
        scale: Coarse GSD / fine GSD.
        spare: As for `evidence_of`.

    Returns:
        Without (WINDOW + BEYOND) scale + spare pixels on each side; 0 where the band is
        invalid in the pair.
    """
    cells = jnp.stack(evidence.coarse)
    smooth = CoarseMaps(*(trimmed(_interpolated(cells, scale), spare)))
    maps = _fine_maps(fine, coarse_base, coarse, (WINDOW + BEYOND) * scale + spare)
    along = smooth.slope * (maps.fine - smooth.level)
    own = [
        maps.fine,
        maps.sensors,
        maps.change,
        maps.fine - smooth.fine,
        smooth.fine - smooth.base,
        smooth.change - maps.change,
        along + (smooth.shift - maps.change),
        smooth.mean_change,
        smooth.spread,
        smooth.power,
        smooth.slope,
        smooth.off_line,
        smooth.texture,
        maps.near_detail,
        maps.near_spread,
    ]
    shape = (SCENE, *maps.fine.shape)
    found = jnp.concatenate(
        [jnp.stack(own), evidence.guide, jnp.broadcast_to(scene[:, None, None], shape)]
    )
    return jnp.where(maps.valid[None] & jnp.isfinite(found), found, 0.0)


def change_parts(channels: Float[Array, "*lead channel y x"]) -> list[Any]:
    """The parts of a pixel's change that have a gain."""
    return [channels[..., part, :, :] for part in PARTS]


def change_level(channels: Float[Array, "*lead channel y x"]) -> Any:
    """How much changed near a pixel, in this band and the others; not negative."""
    return channels[..., _POWER, :, :] + channels[..., _GUIDE_POWER, :, :]


def _coarse_maps(fine: Any, base: Any, coarse: Any, scale: int) -> CoarseMaps:
    """Means of coarse pixels and of windows of them, without WINDOW on each side."""
    cell_fine, cell_base, cell_coarse = (
        block_mean(image, scale) for image in (fine, base, coarse)
    )
    within = (fine - painted(cell_fine, scale)) ** 2
    texture = block_mean(within, scale)
    change = cell_coarse - cell_base
    line = local_line(cell_base, cell_coarse, radius=WINDOW)
    near = _window_moments(change, 1)
    wide = _window_moments(change, WINDOW)
    level = _window_moments(cell_fine, WINDOW)[0]
    rough = _window_moments(texture, 1)[0]
    inner = WINDOW - 1
    residual = trimmed(cell_coarse, WINDOW) - line.of(trimmed(cell_base, WINDOW))
    return CoarseMaps(
        fine=trimmed(cell_fine, WINDOW),
        base=trimmed(cell_base, WINDOW),
        change=trimmed(change, WINDOW),
        mean_change=trimmed(near[0], inner),
        spread=trimmed(_root(near[1] - near[0] ** 2), inner),
        power=_root(wide[1]),
        slope=jnp.clip(line.slope - 1.0, -3.0, 3.0),
        level=level,
        shift=line.mean_y - line.mean_x + residual,
        off_line=_root(line.variance),
        texture=trimmed(_root(rough), inner),
    )


def _fine_maps(fine: Any, base: Any, coarse: Any, margin: int) -> FineMaps:
    """What needs no coarse grid, without `margin` pixels on each side."""
    valid = jnp.isfinite(fine) & jnp.isfinite(base) & jnp.isfinite(coarse)
    around = trimmed(jnp.where(valid, fine, 0.0), margin - NEAR)
    there = trimmed(valid, margin - NEAR).astype(jnp.float32)
    count = jnp.maximum(_box(there), 1.0)
    here = trimmed(around, NEAR)
    mean = _box(around) / count
    square = _box(around * around) / count
    usable = trimmed(valid, margin)
    sensors, change = (
        jnp.where(usable, trimmed(a, margin) - trimmed(b, margin), 0.0)
        for a, b in ((fine, base), (coarse, base))
    )
    return FineMaps(
        fine=here,
        sensors=sensors,
        change=change,
        near_detail=here - mean,
        near_spread=_root(square - mean * mean),
        valid=usable,
    )


def _window_moments(image: Any, radius: int) -> tuple[Any, Any]:
    """Mean and mean square of the valid coarse pixels in the window."""
    valid = jnp.isfinite(image)
    maps = (valid.astype(jnp.float32), jnp.where(valid, image, 0.0))
    count, total, square = window_sums(maps, lambda v, p: (v, p, p * p), radius)
    some = count > 0
    safe = jnp.maximum(count, 1.0)
    return (
        jnp.where(some, total / safe, jnp.nan),
        jnp.where(some, square / safe, jnp.nan),
    )


def _interpolated(cells: Any, scale: int) -> Any:
    """Cubic between centers of coarse pixels; an invalid one counts as the own.

    As `coarse_grid.bicubic`, by two products of matrices, which is faster for many maps.
    """
    valid = jnp.isfinite(cells)
    known = jnp.where(valid, cells, 0.0)
    own = painted(trimmed(jnp.where(valid, cells, jnp.nan), BEYOND), scale)
    # All maps of a pair and band are valid in the same places, or in more.
    share = _between(valid.astype(jnp.float32), scale)
    missing = jnp.where(share < 1.0 - 1e-5, 1.0 - share, 0.0)
    return _between(known, scale) + missing * jnp.where(jnp.isfinite(own), own, 0.0)


def _between(cells: Any, scale: int) -> Any:
    rows, columns = (_matrix(size, scale) for size in cells.shape[-2:])
    high = lax.Precision.HIGHEST
    tall = jnp.einsum("yr,...rc->...yc", rows, cells, precision=high)
    return jnp.einsum("...yc,xc->...yx", tall, columns, precision=high)


def _matrix(cells: int, scale: int) -> Any:
    """Weights of coarse pixels for each fine pixel of those without two on each side."""
    inner = cells - 2 * BEYOND
    weights = np.zeros((inner, scale, cells), np.float32)
    for cell in range(inner):
        weights[cell, :, cell : cell + 5] = cubic_weights(scale)
    return jnp.asarray(weights.reshape(inner * scale, cells))


def _box(image: Any) -> Any:
    """Sum over the window on the fine grid, its rows, then its columns."""
    side = 2 * NEAR + 1
    rows, columns = (size - 2 * NEAR for size in image.shape[-2:])
    tall = reduce(add, [image[..., k : k + rows, :] for k in range(side)])
    return reduce(add, [tall[..., k : k + columns] for k in range(side)])


def _band_mean(images: Any, valid: Any) -> Any:
    """Mean over the bands that are valid at a pixel; NaN where none is."""
    count = reduce(add, list(jnp.moveaxis(valid.astype(jnp.float32), 1, 0)))
    total = reduce(add, list(jnp.moveaxis(jnp.where(valid, images, 0.0), 1, 0)))
    return jnp.where(count > 0, total / jnp.maximum(count, 1.0), jnp.nan)


def _root(square: Any) -> Any:
    """Root of what is not negative but for rounding; its gradient stays finite."""
    positive = square > 0
    return jnp.where(
        positive,
        jnp.sqrt(jnp.where(positive, square, 1.0)),
        jnp.where(jnp.isnan(square), jnp.nan, 0.0),
    )
