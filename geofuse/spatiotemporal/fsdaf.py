"""FSDAF: change by class, and what is left of it where the coarse image sees it.

    F1 ──classes──>  dF(class) from nearly pure coarse pixels       F_tp = F1 + dF(class)
    R = dC - mean of dF(class) in the coarse pixel                  what that leaves over
    F_sp = thin-plate spline of C2                                  a guess of F2, smooth

    CW = |F_sp - F_tp| HI + |R| (1 - HI)      W = CW / mean CW in the coarse pixel
    change = dF(class) + W R                  F2 = F1 + mean of change over similar pixels

Where a field is of one class all around (homogeneity index HI near 1), the spline tells
where in the coarse pixel the rest of the change happened; elsewhere it is spread evenly. So
an abrupt change larger than a coarse pixel is followed, which methods that take neighbors'
changes smear.

It takes one pair; with several, each gives a prediction and `merge_bases` merges them.

Reference: X. Zhu, E. H. Helmer, F. Gao, D. Liu, J. Chen, M. A. Lefsky (2016): A flexible
spatiotemporal method for fusing satellite images with different resolutions. Remote Sensing
of Environment 172, 165-177. Departures: classes by k-means instead of ISODATA; the class
changes are drawn to the mean change by as much as a tenth of a pure coarse pixel, so that
they exist whatever the classes; the spline goes through the 7x7 coarse pixels around each
one; similar pixels by the squared difference of F1 over all bands (not relative to the
center, which divides by dark pixels), weights 1 / D, D = 1 + d / (w / 2), as in the paper;
and no prediction is cut to the range of C2.
"""

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, ClassVar

import jax.numpy as jnp
from dask.delayed import Delayed
from jax import lax
from jaxtyping import Array, Float, Int
from typing_extensions import override

from geofuse.pairs import FusionInputs
from geofuse.spatiotemporal.classes import (
    ClassSummary,
    check_classes,
    classified,
    mapped,
    of_class,
    summarize_classes,
)
from geofuse.spatiotemporal.coarse_grid import block_mean, painted, product
from geofuse.spatiotemporal.method import (
    FixedMethod,
    FusionPrediction,
    FusionTile,
    scale_of,
    trimmed,
)
from geofuse.spatiotemporal.most_similar import (
    check_search,
    nearness,
    similar_mean,
)
from geofuse.spatiotemporal.temporal import (
    FromBase,
    change_power,
    each_base,
    merged_prediction,
)
from geofuse.spatiotemporal.thin_plate import REACH, thin_plate

#: A weight of the residual above this is taken for 1 (Zhu et al. 2016).
_LARGEST_WEIGHT = 10.0


@dataclass(frozen=True)
class FSDAF(FixedMethod):
    """Change by class, and the rest of it by a thin-plate spline (Zhu 2016).

    Args:
        radius: Half the side of the search window, center excluded, in fine pixels; 1 to
            60.
        similar: Number of most similar pixels, the center among them.
        classes: Number of classes to find, 1 to 20; where `FusionInputs` has a class map,
            its largest label.

    Raises:
        ParameterError: A field is out of range; when computing: a class map has a label
            above `classes`.

    It needs the scale. The aleatoric variance is the weighted variance of the similar pixels'
    changes plus the local mean square of R, not calibrated; the epistemic one is 0, because
    nothing was learned. A pixel takes part in a band where its fine image and both coarse
    ones are valid there. A pixel that a class map leaves out changes like the coarse image.

    >>> FSDAF(classes=6)
    FSDAF(radius=20, similar=20, classes=6)
    """

    states_uncertainty: ClassVar[bool] = True

    radius: int = 20
    similar: int = 20
    classes: int = 4

    def __post_init__(self) -> None:
        check_search(self.radius, self.similar)
        check_classes(self.classes)

    @property
    @override
    def halo(self) -> int:
        return self.radius

    @property
    @override
    def coarse_halo(self) -> int | None:
        return REACH

    @override
    def summarize(self, inputs: FusionInputs) -> Delayed:
        return summarize_classes(inputs, self.classes)

    @override
    def predict_tile(self, tile: FusionTile, summary: ClassSummary) -> FusionPrediction:
        scale = scale_of(tile)
        given = None if tile.classes is None else mapped(tile.classes, self.classes)
        change = jnp.asarray(summary.wanted) - jnp.asarray(summary.base)
        arrays = (
            *(tile.fine, tile.coarse_base, change),
            *(jnp.asarray(summary.centers), jnp.asarray(summary.spread)),
        )
        bases = each_base(
            lambda base: self._from_base(
                base[0], base[1], base[2], base[3], base[4], tile.coarse, given, scale
            ),
            arrays,
        )
        return merged_prediction(bases, bases.similar.max(axis=0))

    def _from_base(
        self,
        fine: Float[Array, "band y x"],
        coarse_base: Float[Array, "band y x"],
        class_change: Float[Array, "cover band"],
        centers: Float[Array, "cover band"],
        spread: Float[Array, " band"],
        coarse: Float[Array, "band y x"],
        given: Int[Array, "y x"] | None,
        scale: int,
    ) -> FromBase:
        """Predict from one pair."""
        guide, change, residual, power = change_of_pixels(
            *(fine, coarse_base, coarse, class_change, centers, spread, given),
            *(self.classes, scale),
        )
        spare = self.trim(scale) - REACH * scale - self.radius
        filtered = similar_mean(
            trimmed(guide, spare),
            trimmed(change, spare),
            nearness(self.radius),
            similar=self.similar,
        )
        core = spare + self.radius
        return FromBase(
            reflectance=trimmed(guide, core) + filtered.mean,
            variance=filtered.variance + trimmed(painted(residual, scale), core),
            change=trimmed(painted(power, scale), core),
            similar=filtered.neighbors,
        )


def change_of_pixels(
    fine: Float[Array, "band y x"],
    coarse_base: Float[Array, "band y x"],
    coarse: Float[Array, "band y x"],
    class_change: Float[Array, "cover band"],
    centers: Float[Array, "cover band"],
    spread: Float[Array, " band"],
    given: Int[Array, "y x"] | None,
    classes: int,
    scale: int,
) -> tuple[Any, Any, Any, Any]:
    """Change of each pixel before it is filtered.

    Args:
        fine: Fine image of the base date.
        coarse_base: Coarse image of the base date.
        coarse: That of the prediction date.
        class_change: Change of each class in the scene.
        centers: Fine reflectance of the classes.
        spread: Standard deviation of the bands.
        given: Class of each pixel from a map, from 0; None to find it.
        classes: Number of classes.
        scale: Coarse GSD / fine GSD.

    Returns:
        The fine image where a pixel takes part, its change, and on the coarse grid the
        local mean squares of the residual and of the coarse change, all without `REACH`
        coarse pixels on each side.
    """
    valid = jnp.isfinite(fine) & jnp.isfinite(coarse_base) & jnp.isfinite(coarse)
    guide = jnp.where(valid, fine, jnp.nan)
    label = classified(guide, centers, spread) if given is None else given
    alike = homogeneity(label, classes, radius=scale // 2)

    def band(images: Any) -> Any:
        fine, base, wanted, change = images
        return _distributed(fine, base, wanted, change, label, alike, scale)

    # Band by band: with all at once XLA would do coarse work in every fine pixel.
    change, residual, power = lax.map(
        band,
        (
            guide,
            jnp.where(valid, coarse_base, jnp.nan),
            jnp.where(valid, coarse, jnp.nan),
            class_change.T,
        ),
    )
    guide = trimmed(guide, REACH * scale)
    return guide, jnp.where(jnp.isfinite(guide), change, jnp.nan), residual, power


def homogeneity(
    label: Int[Array, "y x"], classes: int, *, radius: int
) -> Float[Array, "y x"]:
    """Share of the classified pixels around each pixel that are of its class (HI).

    Args:
        label: Class of each pixel, from 0; -1 for none.
        classes: Number of classes.
        radius: Half the side of the window, center excluded, in fine pixels.

    Returns:
        0 to 1, of one shape with `label`: beyond the window lies no class.
    """
    padded = jnp.pad(label, radius, constant_values=-1)
    rows, columns = label.shape
    side = range(2 * radius + 1)

    def box(image: Any) -> Any:
        tall = reduce(add, [image[i : i + rows, :] for i in side])
        return reduce(add, [tall[:, j : j + columns] for j in side])

    # Counts are whole numbers, which floats add exactly in any order.
    known = box((padded >= 0).astype(jnp.float32))

    def one(number: Any, own: Any) -> Any:
        return jnp.where(
            label == number, box(jnp.where(padded == number, 1.0, 0.0)), own
        )

    own = lax.fori_loop(0, classes, one, jnp.zeros(label.shape, jnp.float32))
    return own / jnp.maximum(known, 1.0)


def _distributed(
    fine: Float[Array, "y x"],
    base: Float[Array, "y x"],
    wanted: Float[Array, "y x"],
    class_change: Float[Array, " cover"],
    label: Int[Array, "y x"],
    alike: Float[Array, "y x"],
    scale: int,
) -> tuple[Any, Any, Any]:
    """Change of each pixel: that of its class, and its share of what that leaves over.

    Returns:
        The change, and on the coarse grid the local mean squares of the residual and of the
        coarse change, all without `REACH` coarse pixels on each side.
    """
    valid = jnp.isfinite(fine)
    start, end = block_mean(base, scale), block_mean(wanted, scale)
    by_class = of_class(class_change[:, None], label)[0]
    by_class = jnp.where(jnp.isfinite(by_class), by_class, painted(end - start, scale))
    by_class = jnp.where(valid, by_class, jnp.nan)
    residual = (end - start) - block_mean(by_class, scale)

    margin = REACH * scale
    fine, by_class, alike = (trimmed(a, margin) for a in (fine, by_class, alike))
    inner = trimmed(residual, REACH)
    rest = painted(inner, scale)
    off = thin_plate(end, scale) - (fine + by_class)
    # A guess that points the other way than the residual tells nothing of it.
    off = jnp.where(off * rest > 0, jnp.abs(off), 0.0)
    weight = product(off, alike) + product(jnp.abs(rest), 1.0 - alike)
    weight = jnp.where(jnp.isfinite(fine), weight, jnp.nan)
    mean = painted(block_mean(weight, scale), scale)
    weight = jnp.where(mean > 0, weight / jnp.where(mean > 0, mean, 1.0), 1.0)
    weight = jnp.where(weight > _LARGEST_WEIGHT, 1.0, weight)
    return (
        by_class + product(weight, rest),
        trimmed(change_power(residual, radius=1), REACH - 1),
        trimmed(change_power(end - start, radius=1), REACH - 1),
    )
