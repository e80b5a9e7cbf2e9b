"""What every spatiotemporal fusion method is: three verbs, each looking at less data.

    fit(cases)                   many scenes -> a method
    summarize(inputs)            one scene   -> a few numbers
    predict_tile(tile, summary)  one tile    -> the fine image there

Fixed kernels and networks implement the same three; users call the one `predict` that the
base class gives them all. This file is a door: xarray comes in, arrays go to the method,
xarray goes out. A method itself never sees a raster larger than a tile.
"""

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import dask.array as da
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from dask.delayed import Delayed
from jaxtyping import Array, Float, Int
from typing_extensions import override

from geofuse.errors import (
    MissingScaleError,
    ParameterError,
    TooFewPairsError,
    UnknownNameError,
    did_you_mean,
)
from geofuse.pairs import FusionCase, FusionInputs
from geofuse.tiling import map_tiles, share
from geofuse.uncertainty.intervals import check_level, gaussian_factor


@jax.tree_util.register_static
@dataclass(frozen=True)
class Scale:
    """Coarse GSD / fine GSD as part of a tile's structure: known when jit compiles."""

    value: int


class FusionTile(NamedTuple):
    """The inputs of one tile and its halo; NaN where invalid and outside the image.

    Attributes:
        fine: Fine images of the pairs, by date.
        coarse_base: Coarse images of the pairs, on the fine grid.
        coarse: Coarse image of the prediction date, on the fine grid.
        lags: Prediction date minus base date of each pair, in days.
        scale: Coarse GSD / fine GSD, where the method looks at the coarse grid; the
            window then starts and ends at corners of coarse pixels.
        classes: Labels of a given class map, 1, 2, …; NaN or 0 where there is none.
    """

    fine: Float[Array, "pair band y x"]
    coarse_base: Float[Array, "pair band y x"]
    coarse: Float[Array, "band y x"]
    lags: Float[Array, " pair"]
    scale: Scale | None = None
    classes: Float[Array, "y x"] | None = None


class FusionPrediction(NamedTuple):
    """The fine image of one tile, without its halo.

    Attributes:
        reflectance: The predicted fine image, in the unit of the inputs.
        aleatoric: Variance that comes from the data, squared units; NaN if not stated.
        epistemic: Variance from what the method does not know, likewise.
        pair: Number, from 1, of the pair with the most weight; 0 where none has any.
        similar: Number of similar pixels with weight, the least over the bands.
    """

    reflectance: Float[Array, "band y x"]
    aleatoric: Float[Array, "band y x"]
    epistemic: Float[Array, "band y x"]
    pair: Int[Array, "y x"]
    similar: Int[Array, "y x"]


#: Outputs that are made of others: the bounds of an interval.
_BOUNDS = ("lower", "upper")
_OF_BOUNDS = ("reflectance", "aleatoric", "epistemic")

#: What `predict` can give: name -> (has bands, type, meaning).
OUTPUTS: dict[str, tuple[bool, str, str]] = {
    "reflectance": (True, "float32", "predicted fine image"),
    "aleatoric": (True, "float32", "variance from the noise of the data"),
    "epistemic": (True, "float32", "variance from the ignorance of the method"),
    "lower": (True, "float32", "lower bound of the fine image"),
    "upper": (True, "float32", "upper bound of the fine image"),
    "pair": (False, "uint16", "number of the pair with the most weight, 0 for none"),
    "similar": (False, "uint16", "number of similar pixels, least over the bands"),
    "filled": (False, "uint16", "1 where a pair was invalid and others stood in"),
}


class FusionMethod(abc.ABC):
    """Estimates a fine image from pairs and a coarse image.

    A concrete method is a frozen dataclass: its fields are its configuration, and its
    `repr` is the record of an experiment.
    """

    #: Fewest pairs that the method works with.
    pairs_needed: ClassVar[int] = 1
    #: Whether predictions state a variance.
    states_uncertainty: ClassVar[bool] = False

    @property
    @abc.abstractmethod
    def halo(self) -> int:
        """How far from a pixel the method looks, in fine pixels."""

    @property
    def coarse_halo(self) -> int | None:
        """How far it looks on the coarse grid, in coarse pixels; None: not at all."""
        return None

    @abc.abstractmethod
    def fit(self, cases: Sequence[FusionCase], *, seed: int = 0) -> "FusionMethod":
        """Learn from cases; returns a new method and leaves `self` unchanged."""

    @abc.abstractmethod
    def summarize(self, inputs: FusionInputs) -> Delayed:
        """Reduce a scene, lazily, to the few numbers that `predict_tile` needs.

        Returns:
            A lazy NamedTuple of NumPy arrays; `.compute()` scans the scene once.
        """

    @abc.abstractmethod
    def predict_tile(self, tile: FusionTile, summary: Any) -> FusionPrediction:
        """Predict one tile, without its halo.

        Pure: same tile and summary, same prediction. `trim` tells how much smaller than
        the tile the prediction is on each side.
        """

    def interval_factor(self, level: float) -> float:
        """How many standard deviations an interval of that level reaches on each side.

        That of a Gaussian. A method whose intervals were calibrated otherwise says so here.
        """
        return gaussian_factor(level)

    def compiled(self) -> "FusionMethod":
        """The method as compiled code depends on it: without what travels in the summary.

        Weights do, so that methods which differ in nothing else share compiled code.
        """
        return self

    def trim(self, scale: int | None) -> int:
        """Halo of a tile in fine pixels, in whole coarse pixels where those matter."""
        if self.coarse_halo is None:
            return self.halo
        scale = needed_scale(scale, str(self))
        return (math.ceil(self.halo / scale) + self.coarse_halo) * scale

    def step(self, scale: int | None) -> int:
        """Tiles start at multiples of so many fine pixels from the coarse grid's corner.

        Whole coarse pixels where those matter; a network that strides over the image says
        here how far, so that its strides fall on the same pixels in every tile.
        """
        return 1 if self.coarse_halo is None else scale or 1

    def check(self, inputs: FusionInputs) -> None:
        """Refuse inputs that the method cannot work with.

        Raises:
            TooFewPairsError: It needs more pairs.
            MissingScaleError: It needs the scale, and the inputs do not tell it.
        """
        found = len(inputs.pairs)
        if found < self.pairs_needed:
            raise TooFewPairsError(
                f"expected at least {self.pairs_needed} pairs for {self}, found {found}; "
                "add a pair of another date, or choose a method that needs fewer"
            )
        self.trim(inputs.scale)

    def predict(
        self,
        inputs: FusionInputs,
        *,
        tile: int | None = 512,
        outputs: Sequence[str] = ("reflectance", "aleatoric", "epistemic"),
        level: float = 0.9,
    ) -> xr.Dataset:
        """Predict the fine image of the prediction date, lazily.

        Args:
            inputs: Pairs and the coarse image of the prediction date.
            tile: Side of the tiles in fine pixels; None for one tile over the whole
                image. The result does not depend on it.
            outputs: Which variables to give; see Returns. What is not named is not
                computed.
            level: Share of the truth that is to lie between `lower` and `upper`, between 0
                and 1; it changes nothing else.

        Returns:
            A lazy dataset on the grid of the fine images, with the prediction date as
            `time`: `reflectance`, `aleatoric`, `epistemic`, `lower`, `upper` (band, y, x),
            float32, and `pair`, `similar`, `filled` (y, x), uint16. NaN (or 0) where no
            pair is valid at the pixel itself or the coarse image of the prediction date is
            invalid. The bounds are so many standard deviations from `reflectance`, of the
            aleatoric and the epistemic variance together; NaN where no variance is stated.

        Raises:
            TooFewPairsError: The method needs more pairs.
            MissingScaleError: It needs the scale, and the inputs do not tell it.
            ParameterError: `tile` is not positive, or `level` is not between 0 and 1.
            UnknownNameError: An output of that name does not exist.
        """
        self.check(inputs)
        for name in outputs:
            if name not in OUTPUTS:
                raise UnknownNameError(
                    f"expected outputs of a prediction, found {name!r}; "
                    f"{did_you_mean(name, OUTPUTS)}"
                )
        wanted = tuple(outputs)
        if not wanted:
            raise ParameterError(
                f"expected at least one output, found none; known: {', '.join(OUTPUTS)}"
            )
        check_level(level)
        bounded = any(name in _BOUNDS for name in wanted)
        factor = self.interval_factor(level) if bounded else None
        on_coarse_grid = self.coarse_halo is not None
        scale = Scale(inputs.scale) if on_coarse_grid and inputs.scale else None
        run = partial(
            _run,
            self.compiled(),
            len(inputs.pairs),
            np.asarray(inputs.lags, np.float32),
            scale,
            wanted,
            factor,
        )
        return map_tiles(
            run,
            inputs.rasters(),
            self._template(inputs, wanted, level),
            halo=self.trim(inputs.scale),
            tile=tile,
            step=self.step(inputs.scale),
            offset=inputs.offset if on_coarse_grid else (0, 0),
            shared=self.summarize(inputs),
            token=f"{self!r} {inputs.lags} {scale} {wanted}"
            + (f" {factor}" if bounded else ""),
        )

    def _template(
        self, inputs: FusionInputs, outputs: tuple[str, ...], level: float
    ) -> xr.Dataset:
        fine = inputs.pairs[0].fine
        coords = {name: fine.coords[name] for name in ("band", "y", "x")}
        if "spatial_ref" in fine.coords:
            coords["spatial_ref"] = fine.coords["spatial_ref"]
        coords["time"] = xr.DataArray(inputs.date.astype("datetime64[ns]"))
        variables = {}
        for name in outputs:
            has_bands, dtype, meaning = OUTPUTS[name]
            dims = ("band", "y", "x") if has_bands else ("y", "x")
            shape = fine.shape if has_bands else fine.shape[1:]
            variables[name] = xr.DataArray(
                da.empty(shape, dtype=dtype, chunks=-1),
                dims=dims,
                coords={k: v for k, v in coords.items() if has_bands or k != "band"},
                attrs={"long_name": meaning, "grid_mapping": "spatial_ref"},
            )
            if name in _BOUNDS:
                variables[name].attrs["level"] = level
        attributes = {
            "method": repr(self),
            "base_dates": ", ".join(str(pair.date) for pair in inputs.pairs),
            "prediction_date": str(inputs.date),
        }
        return xr.Dataset(variables, attrs=attributes)


class FixedMethod(FusionMethod):
    """A method with nothing to learn: its kernel is written down."""

    @override
    def fit(self, cases: Sequence[FusionCase], *, seed: int = 0) -> FusionMethod:
        return self


class NoSummary(NamedTuple):
    """The summary of a method that needs none."""


def no_summary() -> Delayed:
    """Return the lazy summary of a method that needs no scene numbers."""
    return share(NoSummary(), token="no summary")


def valid_pairs(tile: FusionTile) -> Any:
    """Where a pair takes part: its two images and the coarse one are valid there.

    Returns:
        Bool (pair, band, y, x).
    """
    here = jnp.isfinite(tile.fine) & jnp.isfinite(tile.coarse_base)
    return here & jnp.isfinite(tile.coarse)[None]


def needed_scale(scale: int | None, method: str) -> int:
    """The scale, which a method cannot do without.

    Raises:
        MissingScaleError: It is not known.
    """
    if scale is None:
        raise MissingScaleError(
            f"expected the scale (coarse GSD / fine GSD) for {method}, found none; give "
            "scale=… to FusionInputs, or --scale N on the command line"
        )
    return scale


def scale_of(tile: FusionTile) -> int:
    """The scale of a tile; `check` has refused inputs without one in better words.

    Raises:
        MissingScaleError: The tile does not know it.
    """
    if tile.scale is None:
        raise MissingScaleError("expected a tile that knows its scale, found none")
    return tile.scale.value


def trimmed(array: Any, halo: int) -> Any:
    """An array without `halo` pixels on each side of its last two axes."""
    if halo == 0:
        return array
    return array[..., halo:-halo, halo:-halo]


def _run(
    method: FusionMethod,
    pairs: int,
    lags: np.ndarray,
    scale: Scale | None,
    outputs: tuple[str, ...],
    factor: float | None,
    arrays: dict[str, np.ndarray],
    summary: Any,
) -> dict[str, Any]:
    """The door: named NumPy windows in, named arrays of the tile out."""
    fine, base = (
        np.stack([arrays[f"{kind}_{number}"] for number in range(pairs)])
        for kind in ("fine", "coarse")
    )
    coarse = jnp.asarray(arrays["coarse"])
    given = arrays.get("classes")
    tile = FusionTile(
        jnp.asarray(fine),
        jnp.asarray(base),
        coarse,
        jnp.asarray(lags),
        scale,
        None if given is None else jnp.asarray(given),
    )
    if factor is None:
        return dict(_predict(method, outputs, tile, summary))
    needed = tuple(
        name
        for name in OUTPUTS
        if name in _OF_BOUNDS or (name in outputs and name not in _BOUNDS)
    )
    found = _predict(method, needed, tile, summary)
    image, aleatoric, epistemic = (np.asarray(found[name]) for name in _OF_BOUNDS)
    # Not compiled: compilers round a product and the sum it goes into once or twice, as
    # suits the width of the tile.
    reach = np.float32(factor) * np.sqrt(aleatoric + epistemic)
    found |= {"lower": image - reach, "upper": image + reach}
    return {name: found[name] for name in outputs}


@partial(jax.jit, static_argnums=(0, 1))
def _predict(
    method: FusionMethod, outputs: tuple[str, ...], tile: FusionTile, summary: Any
) -> dict[str, Any]:
    """Predict a tile; NaN wherever no pair is valid at the pixel itself."""
    prediction = method.predict_tile(tile, summary)
    halo = method.trim(None if tile.scale is None else tile.scale.value)
    valid = trimmed(valid_pairs(tile), halo)
    usable = valid.any(axis=0)
    predicted = jnp.isfinite(prediction.reflectance) & usable
    everywhere = predicted.all(axis=0)
    results = {}
    for name in outputs:
        if name == "filled":
            value = everywhere & ~valid.all(axis=(0, 1))
        else:
            value = getattr(prediction, name)
            missing = jnp.asarray(jnp.nan if OUTPUTS[name][0] else 0, value.dtype)
            value = jnp.where(
                predicted if OUTPUTS[name][0] else everywhere, value, missing
            )
        results[name] = value.astype(OUTPUTS[name][1])
    return results
