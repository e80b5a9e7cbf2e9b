"""Multi-temporal Quegan: what the dates have in common lowers the speckle of each.

    J_k = m_k / M  sum over dates i of  I_i / m_i

m_i is the mean of date i over the window. The ratio I_i / m_i is speckle; its mean over M
dates has M times the looks, and the mean of each date brings its own backscatter back.
Detail that changes in time is kept to the size of the window, and nothing is mixed where
backscatter changes from date to date.

References:
    Quegan, Yu (2001), Filtering of multichannel SAR images, IEEE Transactions on
    Geoscience and Remote Sensing 39(11), 2373-2379. Dates without correlation are taken
    for granted (their eq. 17, for equal looks).
"""

from typing import no_type_check

import numpy as np

from geofuse.rasters.speckle.boxcar import boxcar
from geofuse.rasters.speckle.compiled import compiled


def quegan(stack: np.ndarray, window: int) -> np.ndarray:
    """Quegan filter of a tile (date, y, x) with its halo, float32.

    A date counts at a pixel where it is valid there and its mean is above zero.
    """
    means = np.stack([boxcar(image, window, 1.0, 1.0) for image in stack])
    radius = window // 2
    height, width = means.shape[1:]
    core = (slice(radius, radius + height), slice(radius, radius + width))
    return _with_common_speckle(stack[:, *core], means)


@compiled
@no_type_check
def _with_common_speckle(stack, means):
    dates, height, width = means.shape
    result = np.empty((dates, height, width), np.float32)
    total, count = np.empty(width), np.empty(width)
    for y in range(height):
        total[:] = 0.0
        count[:] = 0.0
        for date in range(dates):
            for x in range(width):
                mean = np.float64(means[date, y, x])
                used = mean > 0.0  # not where the date is invalid
                ratio = np.float64(stack[date, y, x]) / (mean if used else 1.0)
                total[x] += ratio if used else 0.0
                count[x] += 1.0 if used else 0.0
        for date in range(dates):
            for x in range(width):
                mean = np.float64(means[date, y, x])
                speckle = total[x] / max(count[x], 1.0)
                result[date, y, x] = mean * speckle if mean > 0.0 else mean
    return result
