"""Unmixing: what each class of a coarse pixel reflects, from the coarse pixels around it.

    F1 ──classes──>  share f_k of each class in each coarse pixel
    C = sum_k f_k r_k      over a window of coarse pixels, r_k between bounds
    detail=False           F2 = r2 of the class                   (Zurita-Milla et al. 2008)
    detail=True            F2 = F1 + (r2 - r1) of the class + what is left over

With more coarse pixels than classes the values r_k follow by least squares. The plain form
gives every pixel of a class in a coarse pixel one value. With detail, both dates are unmixed,
and what changes is the class, not the pixel: the detail of F1 stays. Class changes are
interpolated between the centers of coarse pixels, and so is what no class explains.

It takes one pair; with several, each gives a prediction and `merge_bases` merges them.

References:
    R. Zurita-Milla, J. G. P. W. Clevers, M. E. Schaepman (2008): Unmixing-based Landsat TM
    and MERIS FR data fusion. IEEE Geoscience and Remote Sensing Letters 5(3), 453-457.
    J. Amorós-López et al. (2013): Multitemporal fusion of Landsat/TM and ENVISAT/MERIS for
    crop monitoring. International Journal of Applied Earth Observation and Geoinformation
    23, 132-141: values drawn to those of the whole scene, so that classes that a window
    hardly holds have one.
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

from geofuse.errors import ParameterError
from geofuse.pairs import FusionInputs
from geofuse.spatiotemporal.classes import (
    ClassSummary,
    check_classes,
    classified,
    mapped,
    shares,
    summarize_classes,
)
from geofuse.spatiotemporal.coarse_grid import (
    bicubic,
    block_mean,
    painted,
    product,
    window_sums,
)
from geofuse.spatiotemporal.fitfc import check_coarse_radius
from geofuse.spatiotemporal.method import (
    FixedMethod,
    FusionPrediction,
    FusionTile,
    scale_of,
    trimmed,
)
from geofuse.spatiotemporal.temporal import (
    FromBase,
    change_power,
    each_base,
    merged_prediction,
)

#: Steps of coordinate descent; what is left then lies far below the noise.
_STEPS = 25
#: How far class values may lie outside the coarse values, in parts of their range.
_BEYOND = 0.5


@dataclass(frozen=True)
class Unmixing(FixedMethod):
    """Class values by constrained least squares over coarse pixels (Zurita-Milla 2008).

    Args:
        classes: Number of classes to find, 1 to 20; where `FusionInputs` has a class map,
            its largest label. The window should hold more coarse pixels than that.
        coarse_radius: Half the side of the window, center excluded, in coarse pixels; 1 to
            15. 3 spans 7x7.
        detail: Keep the detail of the fine image, and change it by class. Otherwise every
            class has one value in a coarse pixel, as in the paper.
        ridge: How much the scene's value of a class counts against the window, in pure
            coarse pixels; above 0.

    Raises:
        ParameterError: A field is out of range; when computing: a class map has a label
            above `classes`.

    It needs the scale. The aleatoric variance is the local mean square of what the classes do
    not explain, not calibrated; the epistemic one is 0. A pixel takes part in a band where
    its fine image and both coarse ones are valid, and it has a class.

    >>> Unmixing(classes=6)
    Unmixing(classes=6, coarse_radius=3, detail=True, ridge=1.0)
    """

    states_uncertainty: ClassVar[bool] = True

    classes: int = 4
    coarse_radius: int = 3
    detail: bool = True
    ridge: float = 1.0

    def __post_init__(self) -> None:
        check_classes(self.classes)
        check_coarse_radius(self.coarse_radius)
        if not 0 < self.ridge <= 1000:
            raise ParameterError(
                f"expected a ridge above 0, up to 1000 coarse pixels, found {self.ridge}; "
                "1 is usual"
            )

    @property
    @override
    def halo(self) -> int:
        return 0

    @property
    @override
    def coarse_halo(self) -> int | None:
        # Class values are interpolated from two coarse pixels beyond.
        return self.coarse_radius + 2

    @override
    def summarize(self, inputs: FusionInputs) -> Delayed:
        return summarize_classes(inputs, self.classes)

    @override
    def predict_tile(self, tile: FusionTile, summary: ClassSummary) -> FusionPrediction:
        scale = scale_of(tile)
        given = None if tile.classes is None else mapped(tile.classes, self.classes)
        scene = ClassSummary(*(jnp.asarray(field) for field in summary))
        bases = each_base(
            lambda base: self._from_base(
                base[0], base[1], base[2], tile.coarse, given, scale
            ),
            (tile.fine, tile.coarse_base, scene),
        )
        # Each pixel is its own: there is no window.
        predicted = jnp.isfinite(bases.reflectance).any(axis=0).all(axis=0)
        return merged_prediction(bases, predicted.astype(jnp.int32))

    def _from_base(
        self,
        fine: Float[Array, "band y x"],
        coarse_base: Float[Array, "band y x"],
        scene: ClassSummary,
        coarse: Float[Array, "band y x"],
        given: Int[Array, "y x"] | None,
        scale: int,
    ) -> FromBase:
        """Predict from one pair."""
        valid = jnp.isfinite(fine) & jnp.isfinite(coarse_base) & jnp.isfinite(coarse)
        fine = jnp.where(valid, fine, jnp.nan)
        label = given
        if label is None:
            label = classified(fine, scene.centers, scene.spread)
        share = shares(label, self.classes, scale)
        inner = trimmed(label, (self.coarse_radius + 2) * scale)

        def band(images: Any) -> Any:
            """Prediction of one band, and mean squares on the coarse grid."""
            fine, base, wanted, *scene = images
            at = tuple(block_mean(image, scale) for image in (base, wanted))
            return self._one_band(fine, at, share, inner, scene, scale)

        # Band by band: with all at once XLA would do coarse work in every fine pixel.
        by_band = (*(scene.base.T, scene.wanted.T, scene.lowest, scene.highest),)
        predicted, residual, change = lax.map(
            band,
            (
                fine,
                jnp.where(valid, coarse_base, jnp.nan),
                jnp.where(valid, coarse, jnp.nan),
                *by_band,
            ),
        )
        return FromBase(predicted, painted(residual, scale), painted(change, scale))

    def _one_band(
        self,
        fine: Float[Array, "y x"],
        at: tuple[Any, Any],
        share: Float[Array, "cover row column"],
        label: Int[Array, "inner_y inner_x"],
        scene: list[Any],
        scale: int,
    ) -> tuple[Any, Any, Any]:
        radius = self.coarse_radius
        *priors, lowest, highest = scene
        beyond = _BEYOND * (highest - lowest)
        bounds = (lowest - beyond, highest + beyond)
        start, end = (
            unmixed(share, image, prior, bounds, radius=radius, ridge=self.ridge)
            for image, prior in zip(at, priors, strict=True)
        )
        near = trimmed(share, radius)
        # Nothing is interpolated from where no pixel has a class.
        explained = jnp.where(
            jnp.isfinite(near), end - start if self.detail else end, jnp.nan
        )
        seen = (at[1] - at[0]) if self.detail else at[1]
        left = trimmed(seen, radius) - reduce(add, list(product(near, explained)))
        residual = trimmed(change_power(left, radius=1), 1)
        change = trimmed(change_power(at[1] - at[0], radius=1), radius + 1)
        inner = trimmed(fine, (radius + 2) * scale)

        def of_label(number: Any, found: Any) -> Any:
            values = lax.dynamic_index_in_dim(explained, number, keepdims=False)
            image = (
                bicubic(values, scale)
                if self.detail
                else painted(trimmed(values, 2), scale)
            )
            return jnp.where(label == number, image, found)

        nowhere = jnp.full(label.shape, jnp.nan, fine.dtype)
        predicted = lax.fori_loop(0, self.classes, of_label, nowhere)
        if self.detail:
            predicted = inner + (predicted + bicubic(left, scale))
        predicted = jnp.where(jnp.isfinite(inner), predicted, jnp.nan)
        return predicted, residual, change


def unmixed(
    share: Float[Array, "cover row column"],
    coarse: Float[Array, "row column"],
    prior: Float[Array, " cover"],
    bounds: tuple[Any, Any],
    *,
    radius: int,
    ridge: float,
) -> Float[Array, "cover inner_row inner_column"]:
    """Value of each class around each coarse pixel, by constrained least squares.

    Minimizes, over the valid coarse pixels of the window, the sum of (C - sum_k f_k r_k)^2,
    plus ridge sum_k (r_k - prior_k)^2, with every r_k between the bounds, by coordinate
    descent.

    Args:
        share: Share of each class in each coarse pixel; NaN where nothing is classified.
        coarse: Coarse image of one band; NaN where invalid.
        prior: Value of each class in the scene.
        bounds: Least and largest value.
        radius: Half the side of the window, center excluded, in coarse pixels.
        ridge: Weight of the prior, in pure coarse pixels.

    Returns:
        (class, row, column) without `radius` coarse pixels on each side.
    """
    valid = jnp.isfinite(coarse) & jnp.isfinite(share[0])
    share = jnp.where(valid[None], share, 0.0)
    # From the scene's values: temperatures in kelvin lose no digits.
    expected = reduce(add, list(product(share, prior[:, None, None])))
    off = jnp.where(valid, coarse - expected, 0.0)

    def terms(f: Any, t: Any) -> tuple[Any, Any]:
        return product(f[:, None], f[None]), product(f, t[None])

    normal, right = window_sums((share, off), terms, radius)
    low, high = (bound - prior for bound in bounds)

    def sweep(_: Any, found: Any) -> Any:
        for k in range(len(share)):
            others = [
                product(normal[k, other], found[other])
                for other in range(len(share))
                if other != k
            ]
            rest = right[k] - reduce(add, others, jnp.zeros_like(right[k]))
            value = jnp.clip(rest / (normal[k, k] + ridge), low[k], high[k])
            found = found.at[k].set(value)
        return found

    found = lax.fori_loop(0, _STEPS, sweep, jnp.zeros_like(right))
    return found + prior[:, None, None]
