"""Gamma-MAP: the most probable backscatter if scene and speckle both are gamma.

    Ci <= Cu             the mean of the window: nothing but speckle
    Cu < Ci < sqrt(2) Cu R = (b m + sqrt(b^2 m^2 + 4 a L I m)) / 2a
                         a = (1 + Cu^2) / (Ci^2 - Cu^2),  b = a - L - 1
    otherwise            the pixel itself: an edge or a point target

m is the mean of the window, L the looks, Cu = 1 / sqrt(L).

References:
    Lopes, Nezry, Touzi, Laur (1993), Structure detection and statistical adaptive
    speckle filtering in SAR images, International Journal of Remote Sensing 14(9),
    1735-1758.
"""

from typing import no_type_check

import numpy as np

from geofuse.rasters.speckle.compiled import compiled
from geofuse.rasters.speckle.windows import advance, start


@compiled
@no_type_check
def gamma_map(image, window, looks, damping):
    """Gamma-MAP filter of a tile (y, x) with its halo, float32."""
    radius = window // 2
    height, width = image.shape[0] - 2 * radius, image.shape[1] - 2 * radius
    result = np.empty((height, width), np.float32)
    sums = start(image, window)
    speckle = 1.0 / looks
    for y in range(height):
        advance(image, y, window, sums)
        for x in range(width):
            value = np.float64(image[y + radius, x + radius])
            mean = sums.mean[x]
            square = mean * mean
            excess = sums.variance[x] - speckle * square  # (Ci^2 - Cu^2) m^2
            safe = excess if excess > 0.0 else 1.0
            a = (1.0 + speckle) * square / safe
            b = (a - looks - 1.0) * mean
            inside = b * b + 4.0 * a * looks * value * mean
            # Noise subtracted from the power may have left it below zero.
            root = np.sqrt(inside if inside > 0.0 else 0.0)
            best = (b + root) / (2.0 * a)
            best = best if excess < speckle * square else value
            best = best if excess > 0.0 else mean
            result[y, x] = best if abs(value) < np.inf else np.nan
    return result
