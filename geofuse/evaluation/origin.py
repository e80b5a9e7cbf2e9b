"""What a row of a table depends on, so that it can be traced and repeated.

    commit    of the source, where geofuse runs from a checkout; a plus: with changes
    source    digest of every file of the package: the same in a checkout and installed
    versions  of the packages that compute
    machine   system, processor and number of processors; not which one it is
    data      digest of all images of a case, their dates, bands and places

Values are the same, bit for bit, where all of these are; seconds never are.
"""

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import xarray as xr

import geofuse
from geofuse.pairs import FusionCase

#: Packages whose version can change a number.
PACKAGES = ("jax", "numpy", "dask", "xarray", "rasterio")

#: Rows of an image that are read at a time.
_ROWS = 256


def origin() -> dict[str, str]:
    """Commit, source, versions and class of machine of what runs now."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES]
    return {
        "commit": commit(),
        "source": source_digest(),
        "python": platform.python_version(),
        "versions": ", ".join(versions),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU",
    }


@cache
def commit() -> str:
    """The short commit of geofuse's checkout, with a plus where tracked files differ."""
    folder = Path(geofuse.__file__).parents[1]
    if not (folder / ".git").exists():
        return "unknown"
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
            capture_output=True,
            text=True,
            check=True,
            cwd=folder,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


@cache
def source_digest() -> str:
    """Digest of all files of the package, in order of their names."""
    folder = Path(geofuse.__file__).parent
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
            digest.update(path.read_bytes())
    return digest.hexdigest()


def case_digest(case: FusionCase) -> str:
    """Digest of a case: values, dates, bands and places of all its images.

    Args:
        case: The case; lazy images are read once, a few rows at a time.
    """
    inputs = case.inputs
    digest = hashlib.blake2b(digest_size=8)
    digest.update(f"{inputs.scale} {inputs.offset} {inputs.lags}".encode())
    for name, image in {**inputs.rasters(), "reference": case.reference}.items():
        digest.update(f"{name} {image_digest(image)}".encode())
    return digest.hexdigest()


def image_digest(image: xr.DataArray, *, place: bool = True) -> str:
    """Digest of the values of an image.

    Args:
        image: Image (band, y, x) or (y, x), lazy or not. NaN is NaN, whatever its bits.
        place: Whether its date, bands and coordinates count, too.
    """
    digest = hashlib.blake2b(str(image.shape).encode(), digest_size=8)
    if place:
        for axis in ("y", "x"):
            digest.update(np.ascontiguousarray(image[axis].values).data)
        told = [
            image[name].values.tolist()
            for name in ("band", "time")
            if name in image.coords
        ]
        digest.update(repr(told).encode())
    for start in range(0, image.sizes["y"], _ROWS):
        values = image.isel(y=slice(start, start + _ROWS)).values
        if np.issubdtype(values.dtype, np.floating):
            values = np.where(
                np.isnan(values), np.asarray(np.nan, values.dtype), values
            )
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()
