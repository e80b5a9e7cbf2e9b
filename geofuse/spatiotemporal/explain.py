"""What a prediction is made of: the derivative of one predicted pixel by its inputs.

    derivative by …                      what it tells
    fine         of each pair            how the pixel follows a neighbor's fine value
    coarse_base  of each pair            and its coarse value on the base date
    coarse       of the prediction date  and its coarse value on the prediction date
    all at once: the *implicit kernel*   how much of the pixel comes from a neighbor

The implicit kernel answers: if the ground of neighbor j were brighter by one unit on all
dates, in all images, how much brighter would the predicted pixel be? For a weighted mean of
candidates F(j) + C_p(j) - C(j), as in STARFM, a candidate then moves by one unit and the
weights, which look at differences of images, stay: so it *is* the normalized weight, written
down or learned. It sums to 1 for every method that follows a shift of all its inputs.

The derivative by `fine` alone is not that weight: if only the fine value moves, so does its
difference to the coarse one, and with it the weight. For STARFM such a derivative even sums
to a negative number in places. It is what it says, and no kernel.

The derivative is exact (reverse mode, through the very `predict_tile` that makes the
product), with two things held fixed: what a method selects (similar pixels, gates, sorted
neighbors), for a selection has no derivative, and the summary of the scene. Only one tile
around the pixel is computed, whatever the size of the raster.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from dask.base import compute
from jaxtyping import Array, Bool, Float

from geofuse.errors import ParameterError, UnknownNameError, did_you_mean
from geofuse.pairs import FusionInputs
from geofuse.spatiotemporal.kernel_statistics import (
    center_weight,
    effective_radius,
    kernel_entropy,
)
from geofuse.spatiotemporal.method import (
    FusionMethod,
    FusionTile,
    Scale,
    trimmed,
    valid_pairs,
)


def implicit_kernel(
    method: FusionMethod,
    inputs: FusionInputs,
    *,
    y: int,
    x: int,
    band: str | None = None,
    radius: int | None = None,
) -> xr.DataArray:
    """How much of one predicted pixel comes from each pixel around it.

    Args:
        method: Any method, fixed or learned.
        inputs: The scene, lazy or not.
        y: Row of the pixel, from 0.
        x: Column of the pixel, from 0.
        band: The predicted band; by default the first one.
        radius: Half the side of the window, center excluded, in fine pixels; by default as
            far as the method looks.

    Returns:
        Kernel (band, dy, dx), float32, unitless: the derivative of the predicted pixel by
        a pixel `dy` rows below and `dx` columns to the right of it, of that input band, if
        it moves in all images alike; 0 for invalid pixels. Of most methods only the band
        itself has any. See `input_derivatives` for single images.

    Raises:
        ParameterError: The pixel lies outside, nothing is predicted there, or the radius is
            negative.
        UnknownNameError: There is no such band.
        TooFewPairsError: The method needs more pairs.
        MissingScaleError: It needs the scale, and the inputs do not tell it.

    >>> from geofuse.spatiotemporal.baselines import Persistence
    >>> from geofuse.synthetic import simulate_case
    >>> inputs = simulate_case(16, scale=4).inputs
    >>> kernel = implicit_kernel(Persistence(), inputs, y=5, x=5, radius=1)
    >>> kernel.sel(band="red").values
    array([[0., 0., 0.],
           [0., 1., 0.],
           [0., 0., 0.]], dtype=float32)
    """
    derivatives = input_derivatives(method, inputs, y=y, x=x, band=band, radius=radius)
    kernel = _together(derivatives)
    return kernel.assign_attrs(derivatives.attrs)


def input_derivatives(
    method: FusionMethod,
    inputs: FusionInputs,
    *,
    y: int,
    x: int,
    band: str | None = None,
    radius: int | None = None,
) -> xr.Dataset:
    """The derivative of one predicted pixel by each image around it.

    Args:
        method: Any method, fixed or learned.
        inputs: The scene, lazy or not.
        y: Row of the pixel, from 0.
        x: Column of the pixel, from 0.
        band: The predicted band; by default the first one.
        radius: See `implicit_kernel`.

    Returns:
        `fine` and `coarse_base` (pair, band, dy, dx), `coarse` (band, dy, dx), float32,
        unitless; pairs by their base date, coarse images as they lie on the fine grid.

    Raises:
        ParameterError: See `implicit_kernel`, here and below.
        UnknownNameError: There is no such band.
        TooFewPairsError: The method needs more pairs.
        MissingScaleError: It needs the scale, and the inputs do not tell it.
    """
    scene = _scene(method, inputs, band, radius)
    found = scene.at(y, x)
    if found is None:
        raise ParameterError(
            f"expected a pixel that is predicted, found nothing at row {y}, column {x} of "
            f"{scene.band!r}: no pair or no coarse image is valid there; choose another one"
        )
    return found


def kernels_at(
    method: FusionMethod,
    inputs: FusionInputs,
    pixels: Sequence[tuple[int, int]],
    *,
    band: str | None = None,
    radius: int | None = None,
) -> xr.DataArray:
    """The implicit kernels of several pixels; the scene is summarized once.

    Args:
        method: Any method, fixed or learned.
        inputs: The scene, lazy or not.
        pixels: Row and column of each pixel, from 0.
        band: The predicted band; by default the first one.
        radius: See `implicit_kernel`.

    Returns:
        Kernels (pixel, band, dy, dx) with `row` and `column` of each pixel; NaN where
        nothing is predicted.

    Raises:
        ParameterError: A pixel lies outside, there is none, or the radius is negative.
        UnknownNameError: There is no such band.
        TooFewPairsError: The method needs more pairs.
        MissingScaleError: It needs the scale, and the inputs do not tell it.
    """
    if not len(pixels):
        raise ParameterError(
            "expected at least one pixel, found none; give (row, column)"
        )
    scene = _scene(method, inputs, band, radius)
    found = list(scene.kernels(pixels))
    unknown = xr.full_like(scene.blank, np.nan)
    stacked = np.stack([unknown if kernel is None else kernel for kernel in found])
    rows, columns = np.asarray(pixels).T
    kernels = xr.DataArray(
        stacked,
        dims=("pixel", *scene.blank.dims),
        coords={
            **scene.blank.coords,
            "row": ("pixel", rows),
            "column": ("pixel", columns),
        },
    )
    return kernels.assign_attrs(scene.attributes())


def kernel_maps(
    method: FusionMethod,
    inputs: FusionInputs,
    *,
    every: int = 16,
    band: str | None = None,
    radius: int | None = None,
) -> xr.Dataset:
    """Maps of how far, and from how many pixels, a prediction is gathered.

    Args:
        method: Any method, fixed or learned.
        inputs: The scene, lazy or not.
        every: Distance of the pixels looked at, in fine pixels; each takes a tile.
        band: The band; by default the first one. The weights of other bands do not count.
        radius: See `implicit_kernel`.

    Returns:
        `radius` (pixels), `entropy` (nats) and `center` (the weight of the pixel itself),
        each (y, x) with the coordinates of the pixels; NaN where nothing is predicted.

    Raises:
        ParameterError: The step is not positive, or the radius is negative.
        UnknownNameError: There is no such band.
        TooFewPairsError: The method needs more pairs.
        MissingScaleError: It needs the scale, and the inputs do not tell it.
    """
    if every < 1:
        raise ParameterError(
            f"expected pixels every 1 pixel or more, found {every}; 16 is usual"
        )
    scene = _scene(method, inputs, band, radius)
    image = inputs.coarse
    rows, columns = (
        np.arange(min(every // 2, size - 1), size, every) for size in image.shape[1:]
    )
    pixels = [(int(row), int(column)) for row in rows for column in columns]
    statistics = {
        "radius": (effective_radius, "effective radius, in pixels"),
        "entropy": (kernel_entropy, "entropy of the kernel, in nats"),
        "center": (center_weight, "weight of the pixel itself"),
    }
    values = np.full((len(statistics), len(pixels)), np.nan, np.float32)
    for place, kernel in enumerate(scene.kernels(pixels)):
        if kernel is not None:
            own = kernel.sel(band=scene.band)
            values[:, place] = [float(of(own)) for of, _ in statistics.values()]
    maps = values.reshape(-1, len(rows), len(columns))
    coords = {"y": image["y"].values[rows], "x": image["x"].values[columns]}
    variables = {
        name: xr.DataArray(one, coords, ("y", "x"), attrs={"long_name": meaning})
        for one, (name, (_, meaning)) in zip(maps, statistics.items(), strict=True)
    }
    return xr.Dataset(variables, attrs=scene.attributes())


@dataclass(frozen=True)
class _Scene:
    """A method on a scene, ready to be differentiated at any pixel."""

    method: FusionMethod
    inputs: FusionInputs
    summary: Any
    band: str
    radius: int

    @property
    def step(self) -> int:
        """Side of the tile: the least that the method's tiles start at multiples of."""
        return self.method.step(self.inputs.scale)

    @property
    def blank(self) -> xr.DataArray:
        """A kernel (band, dy, dx) of zeros."""
        reach = np.arange(-self.radius, self.radius + 1)
        coords = {"band": list(self.inputs.bands), "dy": reach, "dx": reach}
        shape = (len(self.inputs.bands), reach.size, reach.size)
        return xr.DataArray(np.zeros(shape, np.float32), coords, ("band", "dy", "dx"))

    def attributes(self) -> dict[str, str]:
        return {
            "long_name": "derivative of the predicted pixel",
            "method": repr(self.method),
            "predicted_band": self.band,
            "prediction_date": str(self.inputs.date),
        }

    def kernels(
        self, pixels: Sequence[tuple[int, int]]
    ) -> Iterator[xr.DataArray | None]:
        """The implicit kernel of each pixel; None where nothing is predicted."""
        for y, x in pixels:
            found = self.at(int(y), int(x))
            yield None if found is None else _together(found)

    def at(self, y: int, x: int) -> xr.Dataset | None:
        """The derivatives of one pixel; None where nothing is predicted."""
        height, width = self.inputs.coarse.shape[1:]
        if not (0 <= y < height and 0 <= x < width):
            raise ParameterError(
                f"expected a pixel in rows 0 to {height - 1} and columns 0 to {width - 1}, "
                f"found row {y}, column {x}"
            )
        halo = self.method.trim(self.inputs.scale)
        offset = self.inputs.offset if self.step > 1 else (0, 0)
        inside = [
            (p - start) % self.step for p, start in zip((y, x), offset, strict=True)
        ]
        tile = self._tile(
            y - inside[0] - halo, x - inside[1] - halo, self.step + 2 * halo
        )
        number = self.inputs.bands.index(self.band)
        found = _derivatives(self.method, tile, self.summary, number, *inside)
        if not found.predicted:
            return None
        fine, coarse_base, coarse = (
            self._around(np.asarray(image), inside[0] + halo, inside[1] + halo)
            for image in (found.fine, found.coarse_base, found.coarse)
        )
        coords = {
            **self.blank.coords,
            "pair": [pair.date.astype("datetime64[ns]") for pair in self.inputs.pairs],
        }
        dims = self.blank.dims
        variables = {
            "fine": (("pair", *dims), fine),
            "coarse_base": (("pair", *dims), coarse_base),
            "coarse": (dims, coarse),
        }
        return xr.Dataset(variables, coords, self.attributes())

    def _tile(self, top: int, left: int, side: int) -> FusionTile:
        """The window from `top` and `left` on, NaN outside of the image."""
        height, width = self.inputs.coarse.shape[1:]
        rows, columns = (
            slice(max(start, 0), min(start + side, size))
            for start, size in ((top, height), (left, width))
        )
        pad = (
            (rows.start - top, top + side - rows.stop),
            (columns.start - left, left + side - columns.stop),
        )
        rasters = self.inputs.rasters()
        parts = compute(*(r[..., rows, columns].data for r in rasters.values()))
        arrays = {
            name: np.pad(
                part, ((0, 0),) * (part.ndim - 2) + pad, constant_values=np.nan
            )
            for name, part in zip(rasters, parts, strict=True)
        }
        pairs = range(len(self.inputs.pairs))
        fine, base = (
            np.stack([arrays[f"{kind}_{number}"] for number in pairs])
            for kind in ("fine", "coarse")
        )
        known = arrays.get("classes")
        on_coarse_grid = self.method.coarse_halo is not None and self.inputs.scale
        return FusionTile(
            jnp.asarray(fine),
            jnp.asarray(base),
            jnp.asarray(arrays["coarse"]),
            jnp.asarray(self.inputs.lags, jnp.float32),
            Scale(self.inputs.scale) if on_coarse_grid and self.inputs.scale else None,
            None if known is None else jnp.asarray(known),
        )

    def _around(self, image: np.ndarray, y: int, x: int) -> np.ndarray:
        """The window of `radius` around a pixel, 0 beyond the image."""
        pad = ((0, 0),) * (image.ndim - 2) + ((self.radius, self.radius),) * 2
        side = 2 * self.radius + 1
        return np.pad(image, pad)[..., y : y + side, x : x + side]


class _Derivatives(NamedTuple):
    """Derivatives of one pixel by its tile, and whether there is one."""

    fine: Float[Array, "pair band rows columns"]
    coarse_base: Float[Array, "pair band rows columns"]
    coarse: Float[Array, "band rows columns"]
    predicted: Bool[Array, ""]


@partial(jax.jit, static_argnums=0)
def _derivatives(
    method: FusionMethod, tile: FusionTile, summary: Any, band: Any, y: Any, x: Any
) -> _Derivatives:
    """Differentiate a pixel of the tile without its halo, backwards."""

    def pixel(fine: Any, coarse_base: Any, coarse: Any) -> Any:
        moved = tile._replace(fine=fine, coarse_base=coarse_base, coarse=coarse)
        return method.predict_tile(moved, summary).reflectance[band, y, x]

    value, back = jax.vjp(pixel, tile.fine, tile.coarse_base, tile.coarse)
    # What is computed of invalid pixels is NaN, and is selected away. On the way back it
    # has a derivative of 0, but 0 times NaN is NaN, and so is 0 over NaN. All that is not
    # finite in the linear map belongs to such pixels: any number serves, but 0 over 0.
    linear, factors = jax.closure_convert(back, jnp.ones_like(value))
    safe = [jnp.where(jnp.isfinite(factor), factor, 1.0) for factor in factors]
    fine, coarse_base, coarse = linear(jnp.ones_like(value), *safe)
    halo = method.trim(None if tile.scale is None else tile.scale.value)
    usable = trimmed(valid_pairs(tile), halo).any(axis=0)[band, y, x]
    return _Derivatives(fine, coarse_base, coarse, jnp.isfinite(value) & usable)


def _scene(
    method: FusionMethod, inputs: FusionInputs, band: str | None, radius: int | None
) -> _Scene:
    """Check what was asked for, and summarize the scene."""
    method.check(inputs)
    band = inputs.bands[0] if band is None else band
    if band not in inputs.bands:
        raise UnknownNameError(
            f"expected a band of the inputs, found {band!r}; "
            f"{did_you_mean(band, inputs.bands)}"
        )
    if radius is not None and radius < 0:
        raise ParameterError(
            f"expected a radius of 0 pixels or more, found {radius}; leave it out for as "
            "far as the method looks"
        )
    summary = method.summarize(inputs).compute()
    scene = _Scene(method, inputs, summary, band, radius or 0)
    if radius is not None:
        return scene
    # Of a coarse pixel that is looked at every fine one counts, however far in it.
    reach = method.trim(inputs.scale) + scene.step - 1
    return replace(scene, radius=reach)


def _together(derivatives: xr.Dataset) -> xr.DataArray:
    """The derivative by a pixel that moves in all images alike."""
    of_pairs = (derivatives["fine"] + derivatives["coarse_base"]).sum("pair")
    return of_pairs + derivatives["coarse"]
