"""Settings and small rasters for all tests: nothing is downloaded, nothing is kept."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
# What one test, worker or command of a test compiled, the others need not.
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.abspath(".pytest_cache/jax")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"

# Boosted trees wait for their threads in loops: two test processes would stand in each
# other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from dataclasses import dataclass
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


@dataclass(frozen=True)
class Scene:
    """Files of two pairs and of a coarse image in between."""

    folder: Path
    dates = ("2021-05-01", "2021-09-01")
    at = "2021-07-01"
    sensors = ("--fine-sensor", "gain=1e-4,nodata=0", "--coarse-sensor", "gain=1e-4")

    def fine(self, date):
        return str(self.folder / f"fine_{date}.tif")

    def coarse(self, date):
        return str(self.folder / f"coarse_{date}.tif")

    def pair(self, date):
        return ["--pair", self.fine(date), self.coarse(date), date]

    def command(self, method, out, *more, dates=dates):
        """The words after `geofuse` that make the product of a method."""
        words = ["fuse", method, "--at", self.coarse(self.at), self.at, "-o", str(out)]
        for date in dates:
            words += self.pair(date)
        return [*words, *self.sensors, "--bands", "red,nir", *more]


def write_scene(folder, rows=96, columns=128):
    """A scene of two bands, coarse pixels of 16 fine ones, with some nodata."""
    rng = np.random.default_rng(5)
    scale = 16
    tall, wide = -(-rows // scale), -(-columns // scale)
    base = rng.integers(500, 4000, (2, rows, columns))
    for number, date in enumerate((*Scene.dates, Scene.at)):
        coarse = rng.integers(500, 4000, (2, tall, wide))
        files = {"coarse": coarse}
        if date in Scene.dates:
            fine = base + 300 * number
            fine[:, 5 + 20 * number : 15 + 20 * number, 30:50] = 0
            files["fine"] = fine
        for kind, values in files.items():
            transform = GRID * Affine.scale(scale if kind == "coarse" else 1)
            with rasterio.open(
                folder / f"{kind}_{date}.tif",
                "w",
                driver="GTiff",
                crs="EPSG:32633",
                transform=transform,
                count=2,
                height=values.shape[1],
                width=values.shape[2],
                dtype="uint16",
            ) as dataset:
                dataset.write(values.astype("uint16"))
                dataset.descriptions = ("red", "nir")
    return Scene(folder)


@pytest.fixture(scope="session")
def scene(tmp_path_factory):
    """Files of a small scene; tests write elsewhere."""
    return write_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture
def geofuse_command(capfd):
    """A function that runs the command line: exit code, stdout, stderr."""
    from geofuse.cli import main

    def run(*words):
        capfd.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as stop:
            code = stop.code
        return (code, *capfd.readouterr())

    return run
