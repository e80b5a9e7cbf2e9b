"""Simulated scenes as files: Landsat-like and MODIS-like, each in its projection."""

import datetime
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from jaxtyping import Bool, Float, Float32, Integer
from rasterio.errors import RasterioError
from rasterio.warp import transform as transform_points
from scipy import ndimage

from geofuse.errors import WriteError
from geofuse.rasters.sensors import LANDSAT_C2L2, MODIS_GA
from geofuse.synthetic.case import (
    PREDICTION_DATE,
    UTM_CRS,
    UTM_TRANSFORM,
    check_whole,
)
from geofuse.synthetic.landscape import draw_landscape, true_reflectance, weather_of
from geofuse.synthetic.measured import day_of_year
from geofuse.synthetic.noise import clouds_of, white_noise

# MODIS land products: sinusoidal on a sphere, one global lattice of 500 m pixels
# (MODIS Land user guides; a tile is 1111950.5197 m wide and has 2400 pixels).
MODIS_CRS = "+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m +no_defs"
MODIS_ORIGIN_M = (-20015109.354, 10007554.677)
MODIS_GSD_M = 1111950.5196666666 / 2400

_LANDSAT_GAIN, _LANDSAT_OFFSET, _LANDSAT_NODATA = 2.75e-5, -0.2, 0
_MODIS_GAIN, _MODIS_NODATA = 1e-4, -28672
_FINE_GSD_M = UTM_TRANSFORM.a


@dataclass(frozen=True)
class SimulatedScene:
    """The files of a simulated scene; base dates in order of time.

    `fine` and `coarse` are the files of the base dates, `coarse_at` is the coarse file
    of the prediction date, and `truth` the fine image to be predicted. Dates are ISO.
    """

    fine: tuple[Path, ...]
    coarse: tuple[Path, ...]
    dates: tuple[str, ...]
    coarse_at: Path
    truth: Path
    at: str
    fine_sensor: str
    coarse_sensor: str
    bands: tuple[str, ...]


def simulate_files(
    folder: str | os.PathLike[str], *, size: int = 512, seed: int = 0
) -> SimulatedScene:
    """Write a simulated scene as the files that a user would have.

    Two pairs, 48 days before and after the prediction date. Fine: GeoTIFF of uint16 as
    Landsat Collection 2 Level 2 (reflectance = 2.75e-5 DN - 0.2, nodata 0), 30 m, UTM;
    the base images have a slanted swath edge and clouds, both nodata; the truth has
    neither. Coarse: GeoTIFF of int16 as MODIS MOD09GA (reflectance = 1e-4 DN, nodata
    -28672), 463.3127 m, sinusoidal, on the lattice of the real product, with some
    pixels lost to clouds. Coarse pixels are means over their sheared footprints, with
    the PSF, of the truth on a larger area; more than two coarse pixels outside the
    fine image (the corners of the coarse file) the landscape is mirrored. Bands are
    green, red, nir, swir1, and named in the files.

    Args:
        folder: Where to write; made when it is not there.
        size: Height and width in fine pixels, 64 to 8192.
        seed: Any whole number from 0 on; the same seed gives the same pixels.

    Returns:
        Paths, dates, sensors and bands, ready for opening.

    Raises:
        ParameterError: `size` or `seed` is out of its range.
        WriteError: A file is already there, or the folder cannot be written to. All
            files appear at the end, or none.
    """
    check_whole("size", size, 64, 8192)
    check_whole("seed", seed, 0, None)
    bands = ("green", "red", "nir", "swir1")
    dates = [PREDICTION_DATE + datetime.timedelta(days=lag) for lag in (-48, 48)]
    folder = Path(folder)
    scene = SimulatedScene(
        fine=tuple(folder / f"fine_{date}.tif" for date in dates),
        coarse=tuple(folder / f"coarse_{date}.tif" for date in dates),
        dates=tuple(str(date) for date in dates),
        coarse_at=folder / f"coarse_{PREDICTION_DATE}.tif",
        truth=folder / f"truth_{PREDICTION_DATE}.tif",
        at=str(PREDICTION_DATE),
        fine_sensor=LANDSAT_C2L2.name,
        coarse_sensor=MODIS_GA.name,
        bands=bands,
    )
    targets = [*scene.fine, *scene.coarse, scene.coarse_at, scene.truth]
    for target in targets:
        if os.path.lexists(target):
            raise WriteError(
                f"expected a free place for {target}, but something is there; "
                "remove it or choose another folder"
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".simulating-", dir=folder) as name:
            _write_scene(Path(name), scene, size=size, seed=seed)
            for target in targets:
                os.replace(Path(name) / target.name, target)
    except (OSError, RasterioError) as error:
        raise WriteError(
            f"expected to write a simulated scene into {folder}, but: {error}; "
            "choose a folder that can be written to and has space"
        ) from error
    return scene


def _write_scene(folder: Path, scene: SimulatedScene, *, size: int, seed: int) -> None:
    """Draw and write all files of a scene into `folder`, under their own names."""
    margin = 64  # fine px: two coarse pixels with their PSF, at any angle
    dates = [datetime.date.fromisoformat(date) for date in (*scene.dates, scene.at)]
    landscape = draw_landscape(
        seed,
        (size + 2 * margin, size + 2 * margin),
        abrupt=0.05,
        span=(day_of_year(min(dates)), day_of_year(max(dates))),
    )
    inside = slice(margin, margin + size)
    footprints = _Footprints(UTM_TRANSFORM, size, margin)
    for i, date in enumerate(dates):
        base = i < len(scene.fine)
        fine_path = scene.fine[i] if base else scene.truth
        coarse_path = scene.coarse[i] if base else scene.coarse_at
        lost = _swath_edge(size, right=i == 1) if base else np.zeros((size, size), bool)
        lost |= clouds_of(
            seed, f"fine clouds {date}", lost.shape, 0.08 if base else 0.0
        )
        cloudy = clouds_of(seed, f"coarse clouds {date}", footprints.shape, 0.05)
        weather = weather_of(landscape, day_of_year(date))
        fine, coarse = [], []
        for band in scene.bands:
            true = true_reflectance(landscape, band, day_of_year(date), weather)
            seen = true[inside, inside]
            if base:
                seen = seen + white_noise(
                    seed, f"fine {band} {date}", seen.shape, 0.002
                )
            fine.append(_landsat_dn(seen, lost))
            mean = 1.02 * footprints.means(true) + 0.004
            mean += white_noise(seed, f"coarse {band} {date}", mean.shape, 0.003)
            coarse.append(_modis_dn(mean, cloudy))
        _write_dn(
            folder / fine_path.name,
            fine,
            scene.bands,
            UTM_CRS,
            UTM_TRANSFORM,
            nodata=_LANDSAT_NODATA,
        )
        _write_dn(
            folder / coarse_path.name,
            coarse,
            scene.bands,
            MODIS_CRS,
            footprints.transform,
            nodata=_MODIS_NODATA,
        )


def _landsat_dn(
    reflectance: Float[np.ndarray, "y x"], lost: Bool[np.ndarray, "y x"]
) -> Integer[np.ndarray, "y x"]:
    """Reflectance as Landsat Collection 2 stores it, 1 to 65535; 0 where `lost`."""
    dn = np.rint((reflectance - _LANDSAT_OFFSET) / _LANDSAT_GAIN)
    return np.where(lost, _LANDSAT_NODATA, np.clip(dn, 1, 65535)).astype(np.uint16)


def _modis_dn(
    reflectance: Float[np.ndarray, "y x"], lost: Bool[np.ndarray, "y x"]
) -> Integer[np.ndarray, "y x"]:
    """Reflectance as MOD09 stores it, -100 to 16000; -28672 where `lost`."""
    dn = np.rint(reflectance / _MODIS_GAIN)
    return np.where(lost, _MODIS_NODATA, np.clip(dn, -100, 16000)).astype(np.int16)


class _Footprints:
    """Sinusoidal coarse pixels over a UTM image, and what they see of it.

    The lattice is that of the MODIS products, two coarse pixels wider than the fine
    image on every side. A coarse value is the mean over 8 x 8 points of its (sheared)
    footprint of the truth blurred by a Gaussian PSF of 0.4 coarse pixels.
    """

    def __init__(self, utm: Affine, size: int, margin: int) -> None:
        edge = np.linspace(0, size, 65)
        zero, full = np.zeros(65), np.full(65, float(size))
        columns = np.concatenate([edge, edge, zero, full])
        rows = np.concatenate([zero, full, edge, edge])
        x, y = _project(UTM_CRS, MODIS_CRS, *_applied(utm, columns, rows))
        left, top = (
            np.floor((x.min() - MODIS_ORIGIN_M[0]) / MODIS_GSD_M) - 2,
            np.floor((MODIS_ORIGIN_M[1] - y.max()) / MODIS_GSD_M) - 2,
        )
        right, bottom = (
            np.ceil((x.max() - MODIS_ORIGIN_M[0]) / MODIS_GSD_M) + 2,
            np.ceil((MODIS_ORIGIN_M[1] - y.min()) / MODIS_GSD_M) + 2,
        )
        self.shape = (int(bottom - top), int(right - left))
        self.transform = Affine(
            *(MODIS_GSD_M, 0, MODIS_ORIGIN_M[0] + left * MODIS_GSD_M),
            *(0, -MODIS_GSD_M, MODIS_ORIGIN_M[1] - top * MODIS_GSD_M),
        )
        # Exact at the corners of coarse pixels, bilinear between: off by millimeters.
        j, i = np.meshgrid(np.arange(self.shape[1] + 1), np.arange(self.shape[0] + 1))
        corners = _project(MODIS_CRS, UTM_CRS, *_applied(self.transform, j, i))
        column, row = _applied(~utm, *corners)
        # From the corner of the image to the center of the first pixel with margin.
        self._row, self._column = row + margin - 0.5, column + margin - 0.5

    def means(self, true: Float32[np.ndarray, "y x"]) -> Float[np.ndarray, "row col"]:
        """Mean reflectance of each coarse pixel."""
        sigma = 0.4 * MODIS_GSD_M / _FINE_GSD_M
        blurred = ndimage.gaussian_filter(true, sigma, truncate=3)
        total = np.zeros(self.shape)
        for down, right in np.ndindex(8, 8):
            at = ((down + 0.5) / 8, (right + 0.5) / 8)
            points = [_between_corners(c, *at) for c in (self._row, self._column)]
            total += ndimage.map_coordinates(blurred, points, order=1, mode="mirror")
        return total / 64


def _between_corners(corners: np.ndarray, down: float, right: float) -> np.ndarray:
    """Bilinear value at one place, as parts of the side, of every cell of corners."""
    upper = corners[:-1, :-1] * (1 - right) + corners[:-1, 1:] * right
    lower = corners[1:, :-1] * (1 - right) + corners[1:, 1:] * right
    return upper * (1 - down) + lower * down


def _applied(
    transform: Affine, column: np.ndarray, row: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of pixel positions."""
    return (
        transform.a * column + transform.b * row + transform.c,
        transform.d * column + transform.e * row + transform.f,
    )


def _project(
    source: str, target: str, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates in another CRS."""
    u, v = transform_points(source, target, np.ravel(x), np.ravel(y))
    return np.reshape(u, np.shape(x)), np.reshape(v, np.shape(x))


def _write_dn(
    path: Path,
    bands: Sequence[np.ndarray],
    names: Sequence[str],
    crs: str,
    transform: Affine,
    *,
    nodata: int,
) -> None:
    """Write integer bands to a path that is not there yet, and read them back."""
    height, width = bands[0].shape
    profile: dict[str, Any] = {"compress": "deflate", "zlevel": 1, "predictor": 2}
    if min(height, width) > 256:
        profile |= {"tiled": True, "blockxsize": 256, "blockysize": 256}
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=height,
        width=width,
        count=len(bands),
        dtype=bands[0].dtype,
        crs=crs,
        transform=transform,
        nodata=nodata,
        interleave="band",
        **profile,
    ) as file:
        for i, (band, name) in enumerate(zip(bands, names, strict=True), start=1):
            file.write(band, i)
            file.set_band_description(i, name)
    # GDAL may report success on a full disk: trust only what can be read again.
    with rasterio.open(path) as file:
        for i, band in enumerate(bands, start=1):
            if not np.array_equal(file.read(i), band):
                raise OSError(f"{path.name} does not hold what was written; disk full?")


def _swath_edge(size: int, *, right: bool) -> Bool[np.ndarray, "y x"]:
    """Where a slanted edge of the orbit's swath cuts a corner of the image."""
    rows, columns = np.ogrid[:size, :size]
    if right:
        return columns > 1.08 * size - 0.2 * rows
    return columns < 0.14 * size - 0.2 * rows
