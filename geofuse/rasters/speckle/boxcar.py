"""Boxcar: the mean of the window. Least speckle, and no edge survives."""

from typing import no_type_check

import numpy as np

from geofuse.rasters.speckle.compiled import compiled
from geofuse.rasters.speckle.windows import advance, start


@compiled
@no_type_check
def boxcar(image, window, looks, damping):
    """Mean over the window of each pixel (y, x) of a tile with its halo, float32."""
    radius = window // 2
    height, width = image.shape[0] - 2 * radius, image.shape[1] - 2 * radius
    result = np.empty((height, width), np.float32)
    sums = start(image, window)
    for y in range(height):
        advance(image, y, window, sums)
        for x in range(width):
            valid = abs(image[y + radius, x + radius]) < np.inf
            result[y, x] = sums.mean[x] if valid else np.nan
    return result
