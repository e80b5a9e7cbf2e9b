"""A kernel in a few numbers, and the kernels of many pixels by their cover.

    effective radius   root mean square distance of the weight, in pixels
    entropy            of the weight over the pixels, in nats; exp of it is the number of
                       pixels that would have it if they weighed alike
    average kernel     of the pixels of each class
    cover weights      how much weight the pixels of a class take from each class

A kernel may have negative weights: its numbers are those of the absolute weight, as a share
of it all.
"""

import numpy as np
import xarray as xr

from geofuse.errors import GridMismatchError, ParameterError


def effective_radius(kernel: xr.DataArray) -> xr.DataArray:
    """Root mean square distance of the weight from the center, in pixels.

    Args:
        kernel: Kernel (…, dy, dx), as `geofuse.spatiotemporal.explain` gives it.

    Returns:
        The other dimensions of the kernel; NaN where it has no weight.

    Raises:
        ParameterError: It is no kernel.

    >>> corners = np.array([[1.0, 0, 1], [0, 0, 0], [1, 0, 1]])
    >>> reach = {"dy": [-1, 0, 1], "dx": [-1, 0, 1]}
    >>> round(float(effective_radius(xr.DataArray(corners, reach, ("dy", "dx")))), 3)
    1.414
    """
    shares = _shares(kernel)
    square = kernel["dy"] ** 2 + kernel["dx"] ** 2
    return (shares * square).sum(("dy", "dx"), skipna=False) ** 0.5


def kernel_entropy(kernel: xr.DataArray) -> xr.DataArray:
    """Entropy of the weight over the pixels, in nats: 0 for a single pixel.

    Args:
        kernel: Kernel (…, dy, dx).

    Returns:
        The other dimensions of the kernel; NaN where it has no weight.

    Raises:
        ParameterError: It is no kernel.

    >>> reach = {"dy": [-1, 0, 1], "dx": [-1, 0, 1]}
    >>> flat = xr.DataArray(np.ones((3, 3)), reach, ("dy", "dx"))
    >>> round(float(np.exp(kernel_entropy(flat))))
    9
    """
    shares = _shares(kernel)
    terms = -shares * np.log(xr.where(shares > 0, shares, 1.0))
    return terms.sum(("dy", "dx"), skipna=False)


def center_weight(kernel: xr.DataArray) -> xr.DataArray:
    """The weight of the pixel itself.

    Args:
        kernel: Kernel (…, dy, dx).
    """
    return kernel.sel(dy=0, dx=0, drop=True)


def average_kernel(kernels: xr.DataArray, classes: xr.DataArray) -> xr.DataArray:
    """The mean kernel of the pixels of each class.

    Args:
        kernels: Kernels (pixel, …, dy, dx), as `kernels_at` gives them.
        classes: Labels 1, 2, … (y, x) on the grid of the fine images; 0 or NaN for none.

    Returns:
        Kernels (class, …, dy, dx), with the number of `pixels` that each is the mean of.

    Raises:
        ParameterError: They are no kernels of several pixels, or none has a class.
        GridMismatchError: A pixel lies outside of the class map.
    """
    kernels, own, _ = _labeled(kernels, classes)
    labels, counts = np.unique(own, return_counts=True)
    means = [kernels[own == label].mean("pixel") for label in labels]
    found = xr.concat(means, dim="class", coords="minimal", compat="override")
    return found.assign_coords({"class": labels, "pixels": ("class", counts)})


def cover_weights(kernels: xr.DataArray, classes: xr.DataArray) -> xr.DataArray:
    """How much of its weight a pixel of one class takes from pixels of each class.

    Args:
        kernels: Kernels (pixel, …, dy, dx), as `kernels_at` gives them; weights of further
            dimensions (bands) are added up, so select the band first where they matter.
        classes: Labels 1, 2, … (y, x) on the grid of the fine images; 0 or NaN for none.

    Returns:
        Shares (class, neighbor), each row sums to 1: mean over the pixels of a class of the
        absolute weight of its neighbors of a class, `neighbor` 0 for those without a label.
        The pixel itself is one of its neighbors. With the number of `pixels`.

    Raises:
        ParameterError: They are no kernels of several pixels, or none has a class.
        GridMismatchError: A pixel lies outside of the class map.
    """
    kernels, own, image = _labeled(kernels, classes)
    others = [dim for dim in kernels.dims if dim not in ("pixel", "dy", "dx")]
    size = abs(kernels).sum(others).transpose("pixel", "dy", "dx")
    total = size.sum(("dy", "dx"))
    size, own = size[total.values > 0], own[total.values > 0]
    shares = (size / size.sum(("dy", "dx"))).values
    # Labels around each pixel; there is no label beyond the image.
    reach = int(np.abs([kernels["dy"].values, kernels["dx"].values]).max())
    padded = np.pad(image, reach)
    rows, columns = (
        size[name].values[:, None] + reach + kernels[axis].values[None]
        for name, axis in (("row", "dy"), ("column", "dx"))
    )
    around = padded[rows[:, :, None], columns[:, None, :]]
    neighbors = np.unique(around[shares > 0])
    labels, counts = np.unique(own, return_counts=True)
    table = [
        [(shares * (around == other))[own == label].sum() for other in neighbors]
        for label in labels
    ]
    return xr.DataArray(
        np.array(table).reshape(len(labels), len(neighbors)) / counts[:, None],
        {"class": labels, "neighbor": neighbors, "pixels": ("class", counts)},
        ("class", "neighbor"),
        attrs={"long_name": "share of the weight"},
    )


def _labeled(
    kernels: xr.DataArray, classes: xr.DataArray
) -> tuple[xr.DataArray, np.ndarray, np.ndarray]:
    """Kernels of pixels with a class, those classes, and the labels of the image."""
    if not {"pixel", "dy", "dx"} <= set(kernels.dims) or "row" not in kernels.coords:
        raise ParameterError(
            f"expected kernels (pixel, …, dy, dx), found {kernels.dims}; make them with "
            "geofuse.spatiotemporal.explain.kernels_at"
        )
    if classes.dims != ("y", "x"):
        raise ParameterError(
            f"expected a class map (y, x), found {classes.dims}; select its band"
        )
    values = classes.values
    image = np.where(values > 0, values, 0).astype(np.int64)
    rows, columns = kernels["row"].values, kernels["column"].values
    if (rows >= image.shape[0]).any() or (columns >= image.shape[1]).any():
        raise GridMismatchError(
            f"expected a class map of the images' size, found {image.shape} and a pixel at "
            f"row {rows.max()}, column {columns.max()}; align it to the fine image"
        )
    own = image[rows, columns]
    others = [dim for dim in kernels.dims if dim != "pixel"]
    known = (own > 0) & kernels.notnull().all(others).values
    if not known.any():
        raise ParameterError(
            "expected at least one pixel with a class and a prediction, found none; choose "
            "other pixels"
        )
    return kernels[known], own[known], image


def _shares(kernel: xr.DataArray) -> xr.DataArray:
    """The absolute weight of each pixel, as a share of it all."""
    if not {"dy", "dx"} <= set(kernel.dims):
        raise ParameterError(
            f"expected a kernel (…, dy, dx), found {kernel.dims}; make one with "
            "geofuse.spatiotemporal.explain.implicit_kernel"
        )
    size = abs(kernel.astype(np.float64))
    total = size.sum(("dy", "dx"), skipna=False)
    return size / xr.where(total > 0, total, np.nan)
