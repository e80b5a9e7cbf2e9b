"""Real ground for pretraining: Sentinel-2 images of a few places, as plain arrays.

Only Copernicus data are read, never a scene that methods are scored on: those that ship
with `geofuse` were pretrained on these.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import rasterio
from jaxtyping import Float32

from geofuse.errors import ParameterError

BANDS = ("blue", "green", "red", "nir", "swir1", "swir2")

# Bands B02, B03, B04, B08, B11, B12 within files of 12 (no B10) and of 13 bands.
_OF_12 = (2, 3, 4, 8, 11, 12)
_OF_13 = (2, 3, 4, 8, 12, 13)
_SNOW = "609U_541L_3_0"  # nothing but snow
_VALIDATION = "637U_59R_1_3"  # fields, left out of training


def read_textures(
    folder: Path, which: Literal["train", "validation"] = "train"
) -> list[Float32[np.ndarray, "band y x"]]:
    """Reflectance at 10 m, in the order of BANDS; NaN where there is no measurement.

    Args:
        folder: The folder of real data that holds `landcover/terramind/S2L2A` and
            `landcover/sen1floods11/S2`; what is not there is left out.
        which: `train`, all places but one, or `validation`, that one.

    Raises:
        ParameterError: `which` is neither, or no texture was found.
    """
    if which not in ("train", "validation"):
        raise ParameterError(
            f"which: expected 'train' or 'validation', found {which!r}; choose one"
        )
    places = sorted((Path(folder) / "landcover" / "terramind" / "S2L2A").glob("*.tif"))
    floods = sorted((Path(folder) / "landcover" / "sen1floods11" / "S2").glob("*.tif"))
    wanted = which == "validation"
    textures = [
        _reflectance(path, _OF_12)
        for path in places
        if path.stem != _SNOW and (path.stem == _VALIDATION) == wanted
    ]
    if not wanted:
        textures += [_reflectance(path, _OF_13) for path in floods]
    if not textures:
        raise ParameterError(
            f"expected Sentinel-2 images under {folder}, found none; point "
            "GEOFUSE_DATA to the folder of real data (see benchmarks/README.md)"
        )
    return textures


def _reflectance(path: Path, bands: tuple[int, ...]) -> Float32[np.ndarray, "band y x"]:
    """Reflectance = DN / 10000 (no offset in these files); NaN where all bands are 0."""
    with rasterio.open(path) as opened:
        dn = opened.read(bands)
    reflectance = dn.astype(np.float32) / 10000
    reflectance[:, (dn == 0).all(axis=0)] = np.nan
    return reflectance
