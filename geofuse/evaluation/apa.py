"""Are edges and texture too smooth or too sharp? The spatial part of APA.

All-round performance assessment (APA) puts beside RMSE and bias two spatial features
and compares each by a normalized difference, pixel by pixel:

    difference = (predicted - reference) / (|predicted + reference| + 1e-5)

Negative means over-smoothed, positive over-sharp, 0 is best. The thresholds (1e-5 here,
0.005 in the binary pattern) are meant for reflectance of nominally 0 to 1.

    Roberts edge at a          local binary pattern at c: one bit for each neighbor
      a b                        128  64  32     that is brighter by more than 0.005
      d e  |a - e| + |b - d|       1   c  16
                                   2   4   8

Zhu et al. (2022), A novel framework to assess all-round performances of spatiotemporal
fusion models, Remote Sensing of Environment 274, 113002. Details that the paper leaves
open (order of the bits, rank of the threshold, the 3 x 3 pixels that must be there) are
those of the authors' program.
"""

import numpy as np
from jaxtyping import Float

#: Least difference of reflectance that sets a bit of the pattern: the noise level.
TOLERANCE = 0.005

_EPSILON = 1e-5
#: Row, column and weight of the neighbors of a pixel.
_BITS = (
    (-1, -1, 128),
    (-1, 0, 64),
    (-1, 1, 32),
    (0, 1, 16),
    (1, 1, 8),
    (1, 0, 4),
    (1, -1, 2),
    (0, -1, 1),
)


def edge_strength(
    image: Float[np.ndarray, "band y x"],
) -> Float[np.ndarray, "band y-2 x-2"]:
    """Roberts edge strength, without the outermost pixels.

    Args:
        image: Reflectance, NaN where invalid.

    Returns:
        In the unit of `image`; NaN where any of the 3 x 3 pixels around is invalid.
    """
    falling = np.abs(_neighbor(image, 0, 0) - _neighbor(image, 1, 1))
    rising = np.abs(_neighbor(image, 0, 1) - _neighbor(image, 1, 0))
    return np.where(_complete(image), falling + rising, np.nan)


def edge_difference(
    predicted: Float[np.ndarray, "band y x"],
    reference: Float[np.ndarray, "band y x"],
    *,
    threshold: Float[np.ndarray, " band"],
) -> Float[np.ndarray, "band y-2 x-2"]:
    """Normalized difference of the edges of the reference, without outermost pixels.

    Args:
        predicted: Predicted reflectance, NaN where invalid.
        reference: True reflectance, NaN where invalid.
        threshold: What edge strength of the reference makes an edge, per band.

    Returns:
        -1 to 1; NaN where the reference has no edge or one of 3 x 3 pixels is invalid.
    """
    found, true = edge_strength(predicted), edge_strength(reference)
    # The threshold is one of the scene's edge strengths as float32.
    edge = true.astype(np.float32) >= threshold[:, None, None]
    return np.where(edge, _normalized_difference(found, true), np.nan)


def pattern_difference(
    predicted: Float[np.ndarray, "band y x"],
    reference: Float[np.ndarray, "band y x"],
) -> Float[np.ndarray, "band y-2 x-2"]:
    """Normalized difference of local binary patterns, without outermost pixels.

    Args:
        predicted: Predicted reflectance, NaN where invalid.
        reference: True reflectance, NaN where invalid.

    Returns:
        -1 to 1; NaN where any of the 3 x 3 pixels around is invalid.
    """
    complete = _complete(predicted) & _complete(reference)
    difference = _normalized_difference(_pattern(predicted), _pattern(reference))
    return np.where(complete, difference, np.nan)


def _pattern(
    image: Float[np.ndarray, "band y x"],
) -> Float[np.ndarray, "band y-2 x-2"]:
    """Local binary pattern, from 0 to 1."""
    # Rounded as in the authors' program: equal pixels stay equal after a gain.
    floor = np.round(_neighbor(image, 0, 0) + TOLERANCE, 8)
    code = np.zeros(floor.shape)
    for row, column, weight in _BITS:
        code += weight * (np.round(_neighbor(image, row, column), 8) > floor)
    return code / 255


def _normalized_difference(predicted: np.ndarray, reference: np.ndarray) -> np.ndarray:
    return (predicted - reference) / (np.abs(predicted + reference) + _EPSILON)


def _complete(image: np.ndarray) -> np.ndarray:
    """Where a pixel and its eight neighbors are valid."""
    valid = np.isfinite(image)
    complete = _neighbor(valid, 0, 0)
    for row, column, _ in _BITS:
        complete = complete & _neighbor(valid, row, column)
    return complete


def _neighbor(image: np.ndarray, row: int, column: int) -> np.ndarray:
    """The image shifted by a pixel, without the outermost pixels."""
    height, width = image.shape[-2:]
    return image[..., 1 + row : height - 1 + row, 1 + column : width - 1 + column]
