"""How much of a file GDAL keeps decoded: little, whatever threads do, and enough."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from rasterio.env import get_gdal_config

from geofuse.rasters import source
from geofuse.rasters.optical import open_optical

DAY = "2021-07-01"


@pytest.mark.parametrize(
    ("layout", "sides"),
    [
        ({"tiled": True, "blockxsize": 256, "blockysize": 256}, (256, 256)),
        ({"tiled": True, "blockxsize": 48, "blockysize": 32}, (256, 288)),
        ({"tiled": True, "blockxsize": 512, "blockysize": 512}, (512, 512)),
        ({"tiled": True, "blockxsize": 2048, "blockysize": 1040}, (512, 512)),
        ({"blockysize": 1}, (256, 512)),
    ],
)
def test_chunks_are_whole_blocks_of_the_file(raster, layout, sides):
    dn = np.zeros((1, 1100, 2100), np.uint8)
    image = open_optical(raster("scene.tif", dn, **layout), date=DAY)
    assert tuple(chunks[0] for chunks in image.chunks[1:]) == sides


def test_threads_that_come_and_go_do_not_lift_the_bound(raster):
    dn = np.zeros((1, 400, 400), np.uint8)
    path = raster("scene.tif", dn, tiled=True, blockxsize=64, blockysize=64)
    image = open_optical(path, date=DAY, chunks=50)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda row: image[:, row].compute(), range(0, 400, 9)))
    assert 0 < int(get_gdal_config("GDAL_CACHEMAX")) <= source.MAX_CACHE_BYTES


@pytest.mark.parametrize("columns", [600, 3000])
def test_wide_strips_get_room_for_a_row_of_chunks(raster, columns):
    path = raster("scene.tif", np.ones((2, 600, columns), np.uint16), blockysize=1)
    code = (
        "from rasterio.env import get_gdal_config\n"
        "from geofuse.rasters.optical import open_optical\n"
        f"image = open_optical({str(path)!r}, date='{DAY}')\n"
        "before = get_gdal_config('GDAL_CACHEMAX')\n"
        "image[:, :9, :9].compute(scheduler='synchronous')\n"
        "print(before, get_gdal_config('GDAL_CACHEMAX'))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    before, after = map(int, found.stdout.split())
    assert before == source.CACHE_BYTES
    # 256 lines and the one before, of two bands of two bytes.
    assert after - before == (257 * columns * 2 * 2 if columns > 1024 else 0)
