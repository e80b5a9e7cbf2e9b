"""Kuan: the linear estimate of least mean square error under multiplicative speckle.

    R = mean + k (I - mean),   k = (1 - Cu^2 / Ci^2) / (1 + Cu^2), at least 0

Lee's filter is the same estimate for a linearized model of speckle, without the divisor:
Kuan's smooths more where looks are few.

References:
    Kuan, Sawchuk, Strand, Chavel (1985), Adaptive noise smoothing filter for images with
    signal-dependent noise, IEEE Transactions on Pattern Analysis and Machine
    Intelligence 7(2), 165-177.
"""

from typing import no_type_check

from geofuse.rasters.speckle.compiled import compiled
from geofuse.rasters.speckle.lee import linear


@compiled
@no_type_check
def kuan(image, window, looks, damping):
    """Kuan filter of a tile (y, x) with its halo, float32."""
    return linear(image, window, 1.0 / looks, 1.0 / (1.0 + 1.0 / looks))
