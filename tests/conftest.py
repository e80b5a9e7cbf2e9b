"""Settings and small rasters for all tests: nothing is downloaded, nothing is kept."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"

from pathlib import Path

import jax
import numpy as np
import pytest
import rasterio
from affine import Affine

# The run-time type checker, which the hook of jaxtyping finds only when it is imported.
import tests.typechecking  # noqa: F401

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

#: North-up pixels of 30 m in UTM zone 33.
GRID = Affine(30.0, 0.0, 500010.0, 0.0, -30.0, 5100030.0)


@pytest.fixture
def raster(tmp_path):
    """A function that writes an array (band, y, x) to a file in a fresh folder."""

    def write(name, values, *, bands=None, scales=None, offsets=None, **profile):
        values = np.asarray(values)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        profile = {
            "driver": "GTiff",
            "crs": "EPSG:32633",
            "transform": GRID,
            **profile,
            "count": values.shape[0],
            "height": values.shape[1],
            "width": values.shape[2],
            "dtype": values.dtype.name,
        }
        with rasterio.open(path, "w", **profile) as dataset:
            dataset.write(values)
            if bands is not None:
                dataset.descriptions = tuple(bands)
            if scales is not None:
                dataset.scales = scales
            if offsets is not None:
                dataset.offsets = offsets
        return path

    return write


@pytest.fixture
def dn():
    """Digital numbers (band, y, x) of two bands, none of them 0."""
    return np.random.default_rng(0).integers(1, 10_000, (2, 70, 90)).astype("uint16")


@pytest.fixture(scope="session")
def real_data():
    """Folder of the real scenes; skips where there is none."""
    folder = os.environ.get("GEOFUSE_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("GEOFUSE_DATA names no folder of real scenes")
    return Path(folder)
