"""Images by modality with labels: what a classifier learns from.

    {"s2": image (band, y, x), "s1": image, "dem": image}  +  labels (y, x)

All lie on one grid. A modality may be missing in a case, whole or in parts; labels are
numbers of classes, -1 where there is none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import xarray as xr

from geofuse.errors import GridMismatchError, ParameterError
from geofuse.landcover.modality import images_of
from geofuse.rasters.grid import check_same_grid
from geofuse.rasters.legend import UNLABELED


@dataclass(frozen=True, eq=False)
class LandCoverCase:
    """Images of one place by modality, and labels.

    Args:
        images: Images (band, y, x) by the name of their modality, NaN where invalid.
        labels: Numbers of classes (y, x), integers, -1 where unlabeled.

    Raises:
        GridMismatchError: They are not on one grid, or have other dimensions.
        ParameterError: There is no image, or labels are no integers.
    """

    images: Mapping[str, xr.DataArray]
    labels: xr.DataArray

    def __post_init__(self) -> None:
        """Check that all agree."""
        images = images_of(self.images)
        object.__setattr__(self, "images", MappingProxyType(images))
        labels = self.labels
        if labels.dims != ("y", "x"):
            raise GridMismatchError(
                f"expected labels (y, x), found {labels.dims}; select their band"
            )
        if labels.dtype.kind not in "iu":
            raise ParameterError(
                f"expected labels as integers, -1 where unlabeled, found {labels.dtype}; "
                "open them with geofuse.open_labels"
            )
        name, first = next(iter(images.items()))
        if labels.shape != first.shape[1:]:
            raise GridMismatchError(
                f"expected labels on the grid of {name}, {first.shape[1:]}, found "
                f"{labels.shape}; put them there with geofuse.align(labels, like=image)"
            )
        check_same_grid(labels, first, names=("labels", name))

    @property
    def truth(self) -> xr.DataArray:
        """What is to be found: the labels."""
        return self.labels

    def only(self, where: xr.DataArray | np.ndarray) -> "LandCoverCase":
        """The case with labels only at some pixels, lazily; the others are unlabeled.

        Args:
            where: True (y, x) where labels are kept.
        """
        mask = xr.DataArray(getattr(where, "data", where), dims=("y", "x"))
        labels = self.labels.where(mask, UNLABELED)
        return LandCoverCase(self.images, labels.astype(self.labels.dtype))


def check_classes(cases: Sequence[LandCoverCase], count: int) -> np.ndarray:
    """How many pixels of each class the cases have; reads the labels once.

    Args:
        cases: One or more.
        count: Classes in the legend.

    Returns:
        Number of pixels by class.

    Raises:
        ParameterError: There is no case, a label is not in the legend, or fewer than two
            classes have a pixel.
    """
    if not cases:
        raise ParameterError(
            "expected at least one case to learn from, found none; give fit a list of "
            "geofuse.LandCoverCase"
        )
    found = np.zeros(count, np.int64)
    for case in cases:
        values, times = np.unique(np.asarray(case.labels), return_counts=True)
        if values.size and values.max() >= count:
            raise ParameterError(
                f"expected labels below {count}, the number of classes, found "
                f"{values.max()}; give the legend of the labels, or map their codes "
                "with geofuse.open_labels(…, legend=…)"
            )
        known = values >= 0
        found[values[known]] += times[known]
    if np.count_nonzero(found) < 2:
        raise ParameterError(
            f"expected labels of at least two classes, found pixels by class "
            f"{found.tolist()}; check the legend and that labels overlap the images"
        )
    return found
