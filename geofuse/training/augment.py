"""Change patches at random, as other scenes would differ from those at hand.

flips, turns     another direction of the sun and of the fields
gain, offset     a coarse sensor, or a day, that measures a little more
shift            coarse images that lie off, by parts of a coarse pixel
clouds           round holes in any input
drop             a pair that is missing altogether

The truth is only ever flipped and turned.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

from geofuse.errors import ParameterError


@dataclass(frozen=True)
class Augmentation:
    """What is changed in a patch, and how much.

    Args:
        flips: Whether patches are mirrored, half of them.
        turns: Whether patches are turned by quarters.
        gain: Standard deviation of a factor on all coarse images, about 1.
        offset: Standard deviation of what is added to each coarse image, in units of the
            robust spread of the band; half of it is the same for all dates.
        shift: Farthest that a coarse image is shifted along each axis, in coarse pixels (in
            fine ones where the scale is unknown).
        clouds: Share of the images that get a cloud, or a few.
        drop: Share of the patches with several pairs that lose one.

    Raises:
        ParameterError: A value is out of range.
    """

    flips: bool = True
    turns: bool = True
    gain: float = 0.05
    offset: float = 0.05
    shift: float = 0.25
    clouds: float = 0.1
    drop: float = 0.1

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        for name, most in _MOST.items():
            value = getattr(self, name)
            if not 0 <= value <= most:
                raise ParameterError(
                    f"expected {name} in 0 to {most:g}, found {value!r}; 0 leaves it out"
                )

    def margin(self, scale: int | None) -> int:
        """Fine pixels, whole coarse ones, that a shift brings in from beyond a window."""
        return math.ceil(self.shift) * (scale or 1)

    def applied(
        self,
        patch: dict[str, Any],
        spread: Float32[np.ndarray, "band 1 1"],
        scale: int | None,
        rng: np.random.Generator,
    ) -> dict[str, Any]:
        """A changed copy of a patch.

        Args:
            patch: `fine`, `coarse_base` (pair, band, y, x), `coarse`, `reference`
                (band, y, x) and whatever else, which is kept. Coarse images are larger by
                `margin` on each side, and come back without it.
            spread: Robust spread of each band.
            scale: Coarse GSD / fine GSD, if the window starts at a corner of a coarse pixel.
            rng: Where all is drawn from.
        """
        coarse = np.concatenate([patch["coarse_base"], patch["coarse"][None]])
        far = self.shift * (scale or 1)
        coarse = np.stack(
            [shifted(image, rng.uniform(-far, far, 2), scale) for image in coarse]
        )
        margin = self.margin(scale)
        coarse = coarse[..., margin : -margin or None, margin : -margin or None]
        bands = (len(coarse), *spread.shape)
        gain = 1 + self.gain * rng.standard_normal(spread.shape)
        common, own = rng.standard_normal(spread.shape), rng.standard_normal(bands)
        offset = self.offset * np.sqrt(0.5) * (common + own) * spread
        coarse = (gain * coarse + offset).astype(np.float32)
        fine = patch["fine"].copy()
        for image in (*fine, *coarse):
            if rng.random() < self.clouds:
                image[:, clouds(image.shape[-2:], rng)] = np.nan
        if len(fine) > 1 and rng.random() < self.drop:
            lost = rng.integers(len(fine))
            fine[lost], coarse[lost] = np.nan, np.nan
        changed = {
            **patch,
            "fine": fine,
            "coarse_base": coarse[:-1],
            "coarse": coarse[-1],
        }
        turned = self._turn(rng)
        for name in ("fine", "coarse_base", "coarse", "reference"):
            changed[name] = np.ascontiguousarray(turned(changed[name]))
        return changed

    def _turn(self, rng: np.random.Generator) -> Callable[[Any], Any]:
        """One of the eight ways to lay down a square."""
        quarters = int(rng.integers(4)) if self.turns else 0
        mirrored = self.flips and bool(rng.integers(2))

        def turned(image: Any) -> Any:
            image = np.rot90(image, quarters, axes=(-2, -1))
            return image[..., ::-1] if mirrored else image

        return turned


def shifted(
    image: Float32[np.ndarray, "band y x"], by: Any, scale: int | None
) -> Float32[np.ndarray, "band y x"]:
    """A coarse image that lies off: bilinear between pixels, NaN from beyond the edge.

    Args:
        image: Coarse image on the fine grid.
        by: Rows and columns, in fine pixels; what was at (y, x) + by comes to (y, x).
        scale: Where it is known, and the image repeats each coarse pixel, so does the result.
    """
    if not np.any(by):
        return image
    repeats = scale is not None and _repeats(image, scale)
    for axis, way in zip((-2, -1), by, strict=True):
        whole = int(np.floor(way))
        part = np.float32(way - whole)
        near = _moved(image, whole, axis)
        # A pixel of no weight may be invalid.
        image = (
            near
            if part == 0
            else (1 - part) * near + part * _moved(image, whole + 1, axis)
        )
    if scale is None or not repeats:
        return image
    cells = _cells(image, scale)
    valid = np.isfinite(cells)
    count = valid.sum(axis=(2, 4), keepdims=True)
    total = np.where(valid, cells, 0).sum(axis=(2, 4), keepdims=True)
    enough = count >= scale**2 / 4
    means = np.where(enough, total / np.maximum(count, 1), np.nan).astype(np.float32)
    return np.broadcast_to(means, cells.shape).reshape(image.shape)


def _cells(image: np.ndarray, scale: int) -> np.ndarray:
    bands, rows, columns = image.shape
    return image.reshape(bands, rows // scale, scale, columns // scale, scale)


def _repeats(image: np.ndarray, scale: int) -> bool:
    """Whether each coarse pixel has one value."""
    cells = _cells(image, scale)
    first = cells[:, :, :1, :, :1]
    return bool(((cells == first) | np.isnan(cells) | np.isnan(first)).all())


def clouds(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Where there are clouds: one to four disks, of up to a quarter of the side."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    covered = np.zeros(shape, bool)
    for _ in range(rng.integers(1, 5)):
        y, x = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        radius = rng.uniform(2, max(min(shape) / 4, 3))
        covered |= (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
    return covered


def _moved(image: np.ndarray, by: int, axis: int) -> np.ndarray:
    """An image moved by whole pixels, NaN where nothing comes from."""
    moved = np.full_like(image, np.nan)
    size = image.shape[axis]
    if abs(by) >= size:
        return moved
    to, source = [slice(None)] * image.ndim, [slice(None)] * image.ndim
    to[axis] = slice(max(-by, 0), size - max(by, 0))
    source[axis] = slice(max(by, 0), size - max(-by, 0))
    moved[tuple(to)] = image[tuple(source)]
    return moved


_MOST = {"gain": 0.5, "offset": 2.0, "shift": 2.0, "clouds": 1.0, "drop": 1.0}
