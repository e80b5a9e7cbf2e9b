"""The fine and coarse images of spatiotemporal fusion, checked when put together.

base dates        fine  F1         F3        a *pair* is a fine and a coarse image
                  coarse C1   C2   C3        of one date; the *inputs* are the pairs
prediction date             ↑                and C2; the *case* adds the true F2
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr

from geofuse.errors import (
    BandMismatchError,
    DateMismatchError,
    GridMismatchError,
    ParameterError,
    TooFewPairsError,
)
from geofuse.rasters.grid import check_same_grid, snapped_to


@dataclass(frozen=True, eq=False)
class Pair:
    """A fine and a coarse image of one place on one base date, on one grid.

    Args:
        fine: Image (band, y, x), float32, NaN where invalid, with a scalar `time`.
        coarse: The coarse image of the same day and bands, on the grid of `fine`.

    Raises:
        GridMismatchError: The grids differ, or an image is not (band, y, x).
        CRSMismatchError: The CRS differ.
        BandMismatchError: The bands differ.
        DateMismatchError: The days differ, or an image has no date.
    """

    fine: xr.DataArray
    coarse: xr.DataArray

    def __post_init__(self) -> None:
        """Check that the two agree."""
        fine, coarse = (
            check_image(self.fine, "fine"),
            check_image(self.coarse, "coarse"),
        )
        object.__setattr__(self, "fine", fine)
        object.__setattr__(self, "coarse", agreeing(coarse, fine, ("coarse", "fine")))
        days = day_of(fine), day_of(coarse)
        if days[0] != days[1]:
            raise DateMismatchError(
                f"expected a pair of one day, found fine on {days[0]} and coarse on "
                f"{days[1]}; open both with the same base date"
            )

    @property
    def date(self) -> np.datetime64:
        """The base date, to the day."""
        return day_of(self.fine)


@dataclass(frozen=True, eq=False)
class FusionInputs:
    """All that a method may look at: pairs, and the coarse image of another date.

    Args:
        pairs: One or more pairs, in any order; they are kept sorted by date.
        coarse: The coarse image of the prediction date, on the same grid.
        scale: Coarse GSD / fine GSD. By default what `align` noted on the coarse image;
            None where the coarse image lies smoothly on the fine grid.
        offset: Row and column of the first corner of a coarse pixel, in [0, scale). By
            default what `align` noted.
        classes: A class map (y, x) on the same grid, for methods that ask how a class
            changed: labels 1, 2, …; 0 or NaN where there is none. By default they find
            classes themselves.

    Raises:
        TooFewPairsError: There is no pair.
        GridMismatchError: Grids differ.
        CRSMismatchError: CRS differ.
        BandMismatchError: Bands differ.
        DateMismatchError: Two pairs have one date, or an image has none.
        ParameterError: `scale` is not a whole number above 1.
    """

    pairs: tuple[Pair, ...]
    coarse: xr.DataArray
    scale: int | None = None
    offset: tuple[int, int] = (0, 0)
    classes: xr.DataArray | None = None

    def __init__(
        self,
        pairs: Sequence[Pair],
        coarse: xr.DataArray,
        scale: int | None = None,
        offset: tuple[int, int] | None = None,
        classes: xr.DataArray | None = None,
    ) -> None:
        """Check that all agree."""
        pairs = tuple(sorted(pairs, key=lambda pair: pair.date))
        if not pairs:
            raise TooFewPairsError(
                "expected at least one pair of a fine and a coarse image, found none; "
                "give FusionInputs a list of geofuse.Pair"
            )
        coarse = check_image(coarse, "coarse image of the prediction date")
        for earlier, later in pairwise(pairs):
            if earlier.date == later.date:
                raise DateMismatchError(
                    f"expected one pair a date, found two on {later.date}; leave one "
                    "out"
                )
        pairs = (pairs[0], *(_like_first(pair, pairs[0]) for pair in pairs[1:]))
        names = ("coarse image of the prediction date", f"pair of {pairs[0].date}")
        coarse = agreeing(coarse, pairs[0].fine, names)
        day_of(coarse)  # refuses an image without a date
        noted = coarse.attrs.get("scale")
        if scale is None or scale == noted:
            _check_nesting(coarse, pairs)
            scale = noted
            offset = coarse.attrs.get("coarse_offset") if offset is None else offset
        if scale is not None and (scale != int(scale) or scale < 2):
            raise ParameterError(
                "expected scale = coarse GSD / fine GSD, a whole number above 1, "
                f"found {scale}; 16 is usual for MODIS and Landsat"
            )
        object.__setattr__(self, "pairs", pairs)
        object.__setattr__(self, "coarse", coarse)
        object.__setattr__(self, "scale", None if scale is None else int(scale))
        object.__setattr__(self, "offset", _offset(offset, scale))
        if classes is not None:
            classes = _class_map(classes, pairs[0].fine)
        object.__setattr__(self, "classes", classes)

    @property
    def date(self) -> np.datetime64:
        """The prediction date, to the day."""
        return day_of(self.coarse)

    @property
    def lags(self) -> tuple[float, ...]:
        """Prediction date minus base date of each pair, in days; signed."""
        day = np.timedelta64(1, "D")
        return tuple(float((self.date - pair.date) / day) for pair in self.pairs)

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands."""
        return tuple(str(band) for band in self.coarse["band"].values)

    def rasters(self) -> dict[str, xr.DataArray]:
        """The images by name, for the tiler.

        Returns:
            `coarse` (band, y, x), and for each pair `fine_0`, `coarse_0`, `fine_1`, …;
            `classes` (y, x) where there is a class map.
        """
        images = {"coarse": self.coarse}
        if self.classes is not None:
            images["classes"] = self.classes
        for number, pair in enumerate(self.pairs):
            images[f"fine_{number}"] = pair.fine
            images[f"coarse_{number}"] = pair.coarse
        return images


@dataclass(frozen=True, eq=False)
class FusionCase:
    """Inputs and the true fine image of the prediction date: for training and scoring.

    Args:
        inputs: What a method may look at.
        reference: The true fine image, on the same grid, of the same day and bands.

    Raises:
        GridMismatchError: Grids differ.
        CRSMismatchError: CRS differ.
        BandMismatchError: Bands differ.
        DateMismatchError: The reference is of another day.
    """

    inputs: FusionInputs
    reference: xr.DataArray

    def __post_init__(self) -> None:
        """Check that the reference fits the inputs."""
        reference = check_image(self.reference, "reference")
        coarse = self.inputs.coarse
        reference = agreeing(reference, coarse, ("reference", "inputs"))
        object.__setattr__(self, "reference", reference)
        if day_of(reference) != self.inputs.date:
            raise DateMismatchError(
                f"expected a reference of the prediction date {self.inputs.date}, "
                f"found {day_of(reference)}; take the fine image of that day"
            )

    @property
    def truth(self) -> xr.DataArray:
        """What is to be found: the reference."""
        return self.reference

    def only(self, where: xr.DataArray | np.ndarray) -> "FusionCase":
        """The case with a reference only at some pixels, lazily; the others are NaN.

        Args:
            where: True (y, x) where the reference is kept.
        """
        mask = xr.DataArray(getattr(where, "data", where), dims=("y", "x"))
        reference = self.reference.where(mask)
        return FusionCase(self.inputs, reference.transpose("band", "y", "x"))


def check_image(image: xr.DataArray, name: str) -> xr.DataArray:
    """Refuse what is not an image: (band, y, x), floats, band names.

    Args:
        image: What should be an image.
        name: What it is called in the message.

    Returns:
        The image, as float32 with bands named by strings.

    Raises:
        GridMismatchError: Dimensions are not (band, y, x).
        BandMismatchError: The bands have no names, or one name twice.
        ParameterError: Values are not floats.
    """
    if image.dims != ("band", "y", "x"):
        raise GridMismatchError(
            f"expected {name} with dimensions (band, y, x), found {image.dims}; use "
            "image.transpose('band', 'y', 'x') or image.expand_dims('band')"
        )
    if not np.issubdtype(image.dtype, np.floating):
        raise ParameterError(
            f"expected {name} as floats with NaN where invalid, found {image.dtype}; "
            "open the file with geofuse.open_optical, which applies gain and nodata"
        )
    if "band" not in image.coords:
        raise BandMismatchError(
            f"expected names along 'band' of {name}, found none; use "
            "image.assign_coords(band=['red', 'nir'])"
        )
    bands = [str(band) for band in image["band"].values]
    if len(set(bands)) != len(bands):
        raise BandMismatchError(
            f"expected each band of {name} once, found {bands}; rename or drop one"
        )
    if image.dtype != np.float32:
        image = image.astype(np.float32)
    return image


def day_of(image: xr.DataArray) -> np.datetime64:
    """The day of an image, from its scalar `time`.

    Raises:
        DateMismatchError: The image has no scalar `time`.
    """
    if "time" not in image.coords or image["time"].ndim:
        raise DateMismatchError(
            "expected an image with a scalar 'time', found "
            f"{sorted(map(str, image.coords))}; open it with date='2021-07-01', or use "
            "image.assign_coords(time=numpy.datetime64('2021-07-01'))"
        )
    day: Any = image["time"].values.astype("datetime64[D]")
    if np.isnat(day):
        raise DateMismatchError("expected a date, found NaT; give date='2021-07-01'")
    return np.datetime64(day)


def agreeing(
    image: xr.DataArray, like: xr.DataArray, names: tuple[str, str]
) -> xr.DataArray:
    """`image` with bands in the order of `like`, on its grid to the bit, if both agree.

    Raises:
        GridMismatchError: The grids differ.
        CRSMismatchError: The CRS differ.
        BandMismatchError: The bands differ.
    """
    check_same_grid(image, like, names=names)
    image = snapped_to(image, like)
    bands = [str(band) for band in image["band"].values]
    wanted = [str(band) for band in like["band"].values]
    if set(bands) != set(wanted):
        raise BandMismatchError(
            f"expected the same bands, found {bands} in {names[0]} and {wanted} in "
            f"{names[1]}; open both with the same bands"
        )
    if bands != wanted:
        image = image.isel(band=[bands.index(band) for band in wanted])
    return image


def _like_first(pair: Pair, first: Pair) -> Pair:
    """A pair on the grid, and with the bands, of the first."""
    fine = agreeing(pair.fine, first.fine, (f"the pair of {pair.date}", "others"))
    return pair if fine is pair.fine else Pair(fine, pair.coarse)


def _check_nesting(coarse: xr.DataArray, pairs: Sequence[Pair]) -> None:
    """Refuse coarse images whose pixels lie differently on the fine grid."""
    found = [
        (image.attrs["scale"], tuple(image.attrs.get("coarse_offset", (0, 0))))
        for image in (coarse, *(pair.coarse for pair in pairs))
        if image.attrs.get("scale") is not None
    ]
    if len(set(found)) > 1:
        raise GridMismatchError(
            "expected coarse images with the same pixels on the fine grid, found scale "
            f"and offset {sorted(set(found))}; align all of them with the same scale"
        )


def _offset(offset: tuple[int, int] | None, scale: int | None) -> tuple[int, int]:
    if offset is None or scale is None:
        return (0, 0)
    if any(not 0 <= start < scale for start in offset):
        raise GridMismatchError(
            f"expected an offset of the coarse grid in [0, {scale}), found {offset}; "
            "count fine pixels from the corner of the image to the first whole one"
        )
    return (int(offset[0]), int(offset[1]))


def _class_map(classes: xr.DataArray, fine: xr.DataArray) -> xr.DataArray:
    """A class map as float32, NaN where there is no class, if it fits."""
    if classes.dims != ("y", "x"):
        raise GridMismatchError(
            f"expected a class map (y, x), found {classes.dims}; select its band"
        )
    check_same_grid(classes, fine, names=("the class map", "the fine images"))
    if classes.dtype.kind not in "iufb":
        raise ParameterError(
            f"expected labels 1, 2, … in the class map, found {classes.dtype}"
        )
    return classes.astype(np.float32)
