"""Real fine textures to simulate scenes from: Sentinel-2 images of the land-cover data.

Never those under `fusion/`: they are what methods are tested on.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import rasterio

#: The place that is kept for validation, and one that is all snow.
VALIDATION = "433D_629L_3_1"
SNOW = "609U_541L_3_0"


def read_textures(
    folder: Path, which: Literal["train", "validation"] = "train"
) -> list[np.ndarray]:
    """Reflectance of blue, green, red, nir, swir1 and swir2, of places far apart.

    Args:
        folder: The folder `landcover` of the data.
        which: All places but one, or that one.

    Returns:
        Arrays (band, y, x), float32, NaN where nothing was measured.
    """
    places = sorted((folder / "terramind" / "S2L2A").glob("*.tif"))
    places = [path for path in places if SNOW not in path.name]
    held = [path for path in places if VALIDATION in path.name]
    found = held if which == "validation" else [p for p in places if p not in held]
    images = [_bands_of(path, (2, 3, 4, 8, 11, 12)) for path in found]
    if which == "train":
        for path in sorted((folder / "sen1floods11" / "S2").glob("*.tif")):
            images.append(_bands_of(path, (2, 3, 4, 8, 12, 13)))
    return images


def _bands_of(path: Path, bands: tuple[int, ...]) -> np.ndarray:
    with rasterio.open(path) as source:
        digits = source.read(bands).astype(np.float32)
    return np.where(digits > 0, digits / 1e4, np.nan).astype(np.float32)
