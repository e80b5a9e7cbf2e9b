"""Cover classes of the fine image, and what the coarse images say of each class.

    sample of F1 ──k-means──> centers ──nearest──> class of each fine pixel
    coarse pixels of nearly one class  ──least squares──>  C1 and C2 of each class

Unmixing and FSDAF ask how a class changed, not how a pixel did. The centers come from a
sample of the scene, the values of a class from the coarse pixels that hold most of it, both
found once for the scene. A class map of one's own stands in for the clustering.
"""

from collections.abc import Mapping
from functools import partial, reduce
from operator import add
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from dask.delayed import Delayed
from jaxtyping import Array, Float, Int

from geofuse.errors import ParameterError
from geofuse.pairs import FusionInputs
from geofuse.spatiotemporal.clustering import Centers, cluster, pairs_in, sample_fine
from geofuse.spatiotemporal.scene import images_of
from geofuse.tiling import SCAN_TILE, reduce_tiles

#: Most classes.
MOST = 20
#: About how many fine pixels the centers are made of.
_SAMPLE = 20_000
#: Coarse pixels that tell of a class: so many with the largest share of it.
_PUREST = 100
#: Share of a coarse pixel that must be valid and classified.
_COVERED = 0.5
#: What the scene's mean counts against the coarse pixels, in whole pure coarse pixels.
_RIDGE = 0.1


class ClassSummary(NamedTuple):
    """Classes of the scene, for each pair; float32, NaN where nothing is known.

    Attributes:
        centers: Fine reflectance of the classes, ascending in the first band:
            (pair, class, band).
        spread: Standard deviation of the bands, not zero: (pair, band).
        base: What the coarse base image has where a coarse pixel holds one class only:
            (pair, class, band).
        wanted: The same of the coarse image of the prediction date.
        lowest: Least coarse value of a band, at either date: (pair, band).
        highest: Largest coarse value.
    """

    centers: Any
    spread: Any
    base: Any
    wanted: Any
    lowest: Any
    highest: Any


def summarize_classes(inputs: FusionInputs, classes: int) -> Delayed:
    """Find the classes of a scene and their coarse values, lazily, in two scans.

    Args:
        inputs: Pairs, scale and perhaps a class map.
        classes: How many classes.

    Returns:
        A lazy `ClassSummary`.
    """
    height, width = inputs.coarse.shape[-2:]
    step = max(1, int(np.ceil(np.sqrt(height * width / _SAMPLE))))
    centers = reduce_tiles(
        partial(sample_fine, step),
        images_of(inputs, "fine"),
        partial(cluster, classes),
        token=f"classes {classes} {step}",
    )
    scale = inputs.scale or 1
    return reduce_tiles(
        partial(_cells_of_window, scale),
        inputs.rasters(),
        partial(_class_values, classes),
        tile=max(SCAN_TILE // scale, 1) * scale,
        step=scale,
        offset=inputs.offset,
        shared=centers,
        token=f"class values {classes} {scale}",
    )


def classified(
    fine: Float[Array, "band y x"],
    centers: Float[Array, "cover band"],
    spread: Float[Array, " band"],
) -> Int[Array, "y x"]:
    """Class of each pixel: that of the nearest center, in standard deviations.

    Returns:
        0, 1, …; -1 where no band is valid. Invalid bands do not count.
    """
    least = jnp.full(fine.shape[1:], jnp.inf, fine.dtype)
    label = jnp.full(fine.shape[1:], -1, jnp.int32)
    known = jnp.isfinite(fine).any(axis=0)
    for number in range(centers.shape[0]):
        squares = []
        for band in range(fine.shape[0]):
            off = (fine[band] - centers[number, band]) / spread[band]
            # Also keeps the square apart from the sum: the same bits in every tile.
            squares.append(jnp.where(off * off > 0, off * off, 0.0))
        distance = reduce(add, squares)
        nearer = known & (distance < least)
        label = jnp.where(nearer, number, label)
        least = jnp.where(nearer, distance, least)
    return label


def mapped(class_map: Float[Array, "y x"], classes: int) -> Int[Array, "y x"]:
    """Classes of a given map, whose labels are 1 to `classes`; -1 where there is none."""
    known = (class_map >= 1) & (class_map <= classes)
    return jnp.where(known, class_map, 0.0).astype(jnp.int32) - 1


def of_class(
    values: Float[Array, "cover band"], labels: Int[Array, "y x"]
) -> Float[Array, "band y x"]:
    """Give each pixel the values of its class; NaN where it has none."""
    shape = (values.shape[1], *labels.shape)
    result = jnp.full(shape, jnp.nan, values.dtype)
    for number in range(values.shape[0]):
        result = jnp.where(
            (labels == number)[None], values[number][:, None, None], result
        )
    return result


def shares(
    labels: Int[Array, "y x"], classes: int, scale: int
) -> Float[Array, "cover row column"]:
    """Share of each class in the classified pixels of each coarse pixel; NaN without."""
    rows, columns = (size // scale for size in labels.shape)
    blocks = labels.reshape(rows, scale, columns, scale)
    counts = jnp.stack(
        [(blocks == k).sum(axis=(1, 3), dtype=jnp.int32) for k in range(classes)]
    ).astype(jnp.float32)
    total = reduce(add, list(counts))
    some = (total > 0)[None]
    return jnp.where(some, counts / jnp.where(some, total[None], 1.0), jnp.nan)


class _Cells(NamedTuple):
    """Coarse pixels of a window that tell most of a class, and the range of all.

    Attributes:
        rows: Shares (class), C1 (band), C2 (band) of a coarse pixel in each row.
        lowest: Least coarse value of each band.
        highest: Largest coarse value of each band.
        label: Largest label of a given class map.
    """

    rows: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray
    label: float


def _cells_of_window(
    scale: int, arrays: Mapping[str, Any], found: Centers
) -> tuple[Centers, list[_Cells]]:
    """The purest coarse pixels of a window, for each pair."""
    cells = []
    for number in range(pairs_in(arrays)):
        classes = found.centers.shape[1]
        label = _labels(arrays, number, found)
        pixels = _blocks(label, scale)
        counts = np.stack([(pixels == k).sum(axis=-1) for k in range(classes)], axis=-1)
        covered = counts.sum(axis=-1)
        base, wanted = (
            np.stack([_mean(_blocks(band, scale)) for band in image], axis=-1)
            for image in (arrays[f"coarse_{number}"], arrays["coarse"])
        )
        share = counts / np.maximum(covered, 1)[..., None]
        rows = np.concatenate([share, base, wanted], axis=-1, dtype=np.float64)
        rows = rows.reshape(-1, rows.shape[-1])
        rows = rows[(covered >= _COVERED * scale**2).ravel() & np.isfinite(rows).all(1)]
        both = np.stack([base, wanted]).reshape(-1, base.shape[-1])
        low = np.where(np.isfinite(both), both, np.inf).min(axis=0, initial=np.inf)
        high = np.where(np.isfinite(both), both, -np.inf).max(axis=0, initial=-np.inf)
        top = np.nanmax(arrays["classes"], initial=0.0) if "classes" in arrays else 0.0
        cells.append(_Cells(_purest(rows, classes), low, high, float(top)))
    return found, cells


def _labels(arrays: Mapping[str, Any], number: int, found: Centers) -> np.ndarray:
    """Class of each pixel of a pair's fine image, as `predict_tile` sees it."""
    if "classes" in arrays:
        given = jnp.asarray(arrays["classes"])
        return np.asarray(mapped(given, found.centers.shape[1]))
    fine = (arrays[f"fine_{number}"], found.centers[number], found.spread[number])
    return np.asarray(_classified(*map(jnp.asarray, fine)))


_classified = jax.jit(classified)


def _purest(rows: np.ndarray, classes: int) -> np.ndarray:
    """Rows among the first `_PUREST` in the share of some class, in their order."""
    kept = np.zeros(len(rows), bool)
    for k in range(classes):
        order = np.argsort(-rows[:, k], kind="stable")[:_PUREST]
        kept[order[rows[order, k] > 0]] = True
    return rows[kept]


def _class_values(
    classes: int, windows: list[tuple[Centers, list[_Cells]]]
) -> ClassSummary:
    """Coarse values of each class, by least squares over the purest coarse pixels."""
    found = windows[0][0]
    pairs, _, bands = found.centers.shape
    values = np.full((2, pairs, classes, bands), np.nan)
    lowest, highest = np.full((2, pairs, bands), np.nan)
    for pair in range(pairs):
        cells = [window[1][pair] for window in windows]
        label = max(cell.label for cell in cells)
        if label > classes:
            raise ParameterError(
                f"expected labels of 1 to {classes} in the class map, found {label:g}; "
                f"set classes={label:.0f}, or merge classes"
            )
        ends = (
            np.min([c.lowest for c in cells], 0),
            np.max([c.highest for c in cells], 0),
        )
        lowest[pair], highest[pair] = (
            np.where(np.isfinite(e), e, np.nan) for e in ends
        )
        rows = np.concatenate([cell.rows for cell in cells])
        share, base, wanted = np.split(rows, [classes, classes + bands], axis=1)
        for band in range(bands):
            chosen = _steady(share, wanted[:, band] - base[:, band])
            for date, image in enumerate((base, wanted)):
                values[date, pair, :, band] = _solved(
                    share[chosen], image[chosen, band]
                )
    return ClassSummary(
        found.centers,
        found.spread,
        *(array.astype(np.float32) for array in (*values, lowest, highest)),
    )


def _steady(share: np.ndarray, change: np.ndarray) -> np.ndarray:
    """The purest coarse pixels of each class without the tenth that changed least, or most.

    They are taken for places of abrupt change (Zhu et al. 2016, section 2.2.3).
    """
    chosen = np.zeros(len(share), bool)
    for of_class in share.T:
        order = np.argsort(-of_class, kind="stable")[:_PUREST]
        order = order[of_class[order] > 0]
        order = order[np.argsort(change[order], kind="stable")]
        tenth = len(order) // 10
        chosen[order[tenth : len(order) - tenth]] = True
    return chosen


def _solved(share: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Value of each class by least squares, drawn a little to the mean.

    So a class of which no coarse pixel tells, or that cannot be told from another one, has
    the mean.
    """
    if not len(values):
        return np.full(share.shape[1], np.nan)
    mean = values.mean()
    normal = share.T @ share + _RIDGE * np.eye(share.shape[1])
    return np.asarray(mean + np.linalg.solve(normal, share.T @ (values - mean)))


def _blocks(image: np.ndarray, scale: int) -> np.ndarray:
    """Fine pixels of each coarse pixel along the last axis."""
    rows, columns = (size // scale for size in image.shape)
    blocks = image.reshape(rows, scale, columns, scale).swapaxes(1, 2)
    return blocks.reshape(rows, columns, scale * scale)


def _mean(blocks: np.ndarray) -> np.ndarray:
    valid = np.isfinite(blocks)
    count = valid.sum(axis=-1)
    total = np.where(valid, blocks, 0.0).sum(axis=-1, dtype=np.float64)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def check_classes(classes: int) -> None:
    """Refuse a number of classes that is none.

    Raises:
        ParameterError: It is not a whole number from 1 to 20.
    """
    if not 1 <= classes <= MOST or classes != int(classes):
        raise ParameterError(
            f"expected 1 to {MOST} classes, found {classes}; 4 to 8 are usual"
        )
