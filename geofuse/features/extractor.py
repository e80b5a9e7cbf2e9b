"""What every hand-made feature is: an image goes in, named features come out.

    image (band, y, x)  ── extract ──>  features (feature, y, x)

A concrete extractor is a frozen dataclass: its fields are its configuration, and its
`repr` stands in the attributes of what it made. The functions below are the door that
all of them share: they check the image, describe the result, and run a function of
plain arrays over the tiles.
"""

import abc
from collections.abc import Callable, Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import Delayed

from geofuse.errors import BandMismatchError, ParameterError, did_you_mean
from geofuse.tiling import map_tiles

#: Side of the tiles of features in pixels. It never changes a result.
FEATURE_TILE = 1024


class FeatureExtractor(abc.ABC):
    """Describes each pixel of an image by a few numbers."""

    @abc.abstractmethod
    def extract(
        self, image: xr.DataArray, *, tile: int | None = FEATURE_TILE
    ) -> xr.DataArray:
        """Compute the features of an image, lazily unless the extractor says otherwise.

        Args:
            image: Image (band, y, x), NaN where invalid. Integers are cast to floats
                before any arithmetic.
            tile: Side of the tiles in pixels; None for one tile over the whole image.
                The result does not depend on it.

        Returns:
            Features (feature, y, x), float32, NaN by the extractor's own rule. The
            coordinates of the image other than `band` are kept; `feature` holds names
            that explain themselves, and the attribute `extractor` the `repr` of `self`.

        Raises:
            ParameterError: The image is not (band, y, x) or not of real numbers.
            BandMismatchError: The image lacks a band that the features need.
        """


def checked(image: xr.DataArray) -> xr.DataArray:
    """An image of real floats: integers are cast, so that no arithmetic wraps.

    Args:
        image: Image (band, y, x).

    Returns:
        The image as float32, or as float64 where it came in 32 or 64 bits that float32
        cannot hold (float64, int32, int64). Always lazy.

    Raises:
        ParameterError: Dimensions are not (band, y, x), it has no pixel, or its values
            are complex or no numbers.
    """
    if image.dims != ("band", "y", "x") or 0 in image.shape:
        raise ParameterError(
            f"expected an image (band, y, x) with at least one pixel, found dimensions "
            f"{image.dims} of sizes {image.shape}; for a single band use "
            "image.expand_dims('band'), and transpose('band', 'y', 'x') mends the order"
        )
    if image.dtype.kind == "c":
        raise ParameterError(
            f"expected real numbers, found complex ones ({image.dtype}); make power of "
            "them first: abs(image) ** 2"
        )
    if image.dtype.kind not in "fiub":
        raise ParameterError(
            f"expected numbers, found {image.dtype}; convert them with "
            "image.astype('float32')"
        )
    exact = np.result_type(image.dtype, np.float32)
    dtype = np.float64 if exact.itemsize > 4 else np.float32
    if not isinstance(image.data, da.Array):
        # Without a name dask would hash all values, which takes longer than an index.
        chunks = (-1, FEATURE_TILE, FEATURE_TILE)
        data = da.from_array(image.values, chunks=chunks, name=False)
        image = image.copy(data=data)
    return image.astype(dtype)


def band_names(image: xr.DataArray) -> list[str]:
    """Names of the bands as strings; b1, b2, … where the image does not name them."""
    if "band" not in image.coords:
        return [f"b{number}" for number in range(1, image.sizes["band"] + 1)]
    return [str(name) for name in image.coords["band"].values]


def band_index(image: xr.DataArray, name: str, *, needed_by: str) -> int:
    """Position of a band.

    Args:
        image: Image (band, y, x).
        name: Name of a band.
        needed_by: Who asks, for the message: "index 'ndvi'", "GLCM(…)".

    Raises:
        BandMismatchError: The image has no band of that name, or more than one.
    """
    names = band_names(image)
    if names.count(name) != 1:
        found = "it twice" if name in names else "none of that name"
        raise BandMismatchError(
            f"expected one band {name!r}, which {needed_by} needs, found {found}; "
            f"{did_you_mean(name, names)}"
        )
    return names.index(name)


def select(
    image: xr.DataArray, bands: Sequence[str], *, needed_by: str
) -> xr.DataArray:
    """Take bands by name, in the order asked for; all of them where none is named.

    Args:
        image: Image (band, y, x).
        bands: Names of bands, each once.
        needed_by: Who asks, for the message.

    Raises:
        BandMismatchError: The image has no band of such a name, or a name comes twice.
    """
    if not bands:
        return image
    if len(set(bands)) != len(bands):
        raise BandMismatchError(
            f"expected each band once for {needed_by}, found {', '.join(bands)}; name "
            "each band one time"
        )
    return image.isel(
        band=[band_index(image, name, needed_by=needed_by) for name in bands]
    )


def template_of(
    image: xr.DataArray,
    names: Sequence[str],
    *,
    extractor: FeatureExtractor,
    long_name: str = "features",
) -> xr.DataArray:
    """Describe the result of an extractor: (feature, y, x), float32, no values yet.

    Args:
        image: Image (band, y, x), whose coordinates other than `band` are kept.
        names: Names of the features.
        extractor: Whose `repr` goes into the attributes.
        long_name: What the numbers are, in words.

    Raises:
        ParameterError: Two features have one name, or there is none.
    """
    if not names or len(set(names)) != len(names):
        raise ParameterError(
            f"expected features of different names, found {list(names)}; ask for each "
            "feature once"
        )
    coords = {
        name: coordinate
        for name, coordinate in image.coords.items()
        if "band" not in coordinate.dims and name != "band"
    }
    return xr.DataArray(
        da.empty((len(names), *image.shape[1:]), dtype=np.float32, chunks=-1),
        dims=("feature", "y", "x"),
        coords={**coords, "feature": np.array(list(names), dtype=np.str_)},
        name="features",
        attrs={
            "long_name": long_name,
            "extractor": repr(extractor),
            "grid_mapping": "spatial_ref",
        },
    )


def map_features(
    function: Callable[[np.ndarray, Any], np.ndarray],
    image: xr.DataArray,
    template: xr.DataArray,
    *,
    halo: int,
    tile: int | None = FEATURE_TILE,
    shared: Delayed | None = None,
) -> xr.DataArray:
    """Run a function of plain arrays over the tiles of an image, lazily.

    Args:
        function: Takes the window (band, y, x) of the tile and its halo, NaN outside
            the image, and the value of `shared`; returns (feature, y, x) of the tile,
            without the halo. Must be pure; on a cluster also picklable (a partial of a
            top-level function).
        image: What `checked` gave.
        template: What `template_of` gave; its attribute `extractor` tells dask which
            work this is.
        halo: How far `function` looks around a pixel, in pixels.
        tile: Side of a tile; None for one tile over the whole image.
        shared: A lazy value that all tiles need, from `geofuse.tiling.reduce_tiles`.

    Returns:
        An image like `template`, one dask chunk a tile.
    """

    def run(arrays: dict[str, np.ndarray], value: Any) -> dict[str, np.ndarray]:
        return {"features": function(arrays["image"], value)}

    described = f"{template.attrs['extractor']} {template.feature.values.tolist()}"
    return map_tiles(
        run,
        {"image": image},
        template.to_dataset(name="features"),
        halo=halo,
        tile=tile,
        shared=shared,
        token=described,
    )["features"]
