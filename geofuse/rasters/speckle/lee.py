"""Lee: between the pixel and the mean of its window, by how much the window varies.

    R = mean + k (I - mean),   k = 1 - Cu^2 / Ci^2, at least 0

Ci is the coefficient of variation (standard deviation over mean) of the window, Cu that
of speckle alone, 1 / sqrt(looks). Where the window varies no more than speckle does, the
mean is left. Not to be confused with `kuan`, which divides k by 1 + Cu^2.

References:
    Lee (1980), Digital image enhancement and noise filtering by use of local statistics,
    IEEE Transactions on Pattern Analysis and Machine Intelligence 2(2), 165-168; with
    the weight as in Lopes, Touzi, Nezry (1990), Adaptive speckle filters and scene
    heterogeneity, IEEE Transactions on Geoscience and Remote Sensing 28(6), 992-1000.
"""

from typing import no_type_check

import numpy as np

from geofuse.rasters.speckle.compiled import compiled
from geofuse.rasters.speckle.windows import advance, start


@compiled
@no_type_check
def lee(image, window, looks, damping):
    """Lee filter of a tile (y, x) with its halo, float32."""
    return linear(image, window, 1.0 / looks, 1.0)


@compiled
@no_type_check
def linear(image, window, speckle, share):
    """Mean plus a part of the deviation, `share` (1 - speckle / Ci^2); speckle = Cu^2."""
    radius = window // 2
    height, width = image.shape[0] - 2 * radius, image.shape[1] - 2 * radius
    result = np.empty((height, width), np.float32)
    sums = start(image, window)
    for y in range(height):
        advance(image, y, window, sums)
        for x in range(width):
            mean, variance = sums.mean[x], sums.variance[x]
            weight = 0.0
            if variance > speckle * mean * mean:
                weight = share * (1.0 - speckle * mean * mean / variance)
            value = np.float64(image[y + radius, x + radius])
            best = mean + weight * (value - mean)
            result[y, x] = best if abs(value) < np.inf else np.nan
    return result
