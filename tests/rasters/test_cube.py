import json
import os
import signal
import subprocess
import sys
import time

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from geofuse.errors import (
    BandMismatchError,
    DateMismatchError,
    GridMismatchError,
    LockedError,
    ParameterError,
    RasterReadError,
    TileReadError,
    WriteError,
)
from geofuse.rasters.cube import stack_dates
from geofuse.rasters.grid import grid_of, place

zarr = pytest.importorskip("zarr", reason="the extra zarr is not installed")
from geofuse.rasters.zarr_store import open_zarr, write_zarr  # noqa: E402

GRID = Affine(30, 0, 500_010, 0, -30, 5_100_030)
DAYS = ("2021-05-01", "2021-07-01", "2021-09-01")


def image(day, bands=("red", "nir"), rows=40, columns=50, transform=GRID, **attrs):
    seed = int(day.replace("-", ""))
    values = np.random.default_rng(seed).random((len(bands), rows, columns))
    values[:, 3, 4:9] = np.nan
    data = da.from_array(values.astype("f4"), chunks=(-1, 16, 16))
    grid = GeoBox((rows, columns), transform, "EPSG:32633")
    coords = {"band": list(bands), "time": np.datetime64(day, "ns")}
    placed = place(data, grid, coords=coords)
    placed.name = "reflectance"
    return placed.assign_attrs(sensor="generic", scale=4, coarse_offset=(1, 2), **attrs)


def cube():
    return stack_dates([image(day) for day in DAYS])


# --- stacking
# ---------------------------------------------------------------------------


def test_dates_are_put_in_order_and_bands_by_name():
    swapped = image(DAYS[1]).isel(band=[1, 0])
    stacked = stack_dates([image(DAYS[2]), swapped, image(DAYS[0])])
    assert stacked.dims == ("time", "band", "y", "x")
    assert [str(t)[:10] for t in stacked["time"].values] == list(DAYS)
    for number, day in enumerate(DAYS):
        np.testing.assert_array_equal(stacked[number].values, image(day).values)
    assert stacked.data.chunks[0] == (1, 1, 1)
    assert grid_of(stacked) == grid_of(image(DAYS[0]))


def test_only_what_all_images_say_is_kept():
    one, other = image(DAYS[0], source="a.tif"), image(DAYS[1], source="b.tif")
    stacked = stack_dates([one, other])
    assert "source" not in stacked.attrs
    assert stacked.attrs["sensor"] == "generic"
    assert stacked.attrs["coarse_offset"] == (1, 2)


def test_images_that_do_not_fit_together_are_refused():
    first = image(DAYS[0])
    for images, error, text in (
        ([], ParameterError, "at least one"),
        ([first, first], DateMismatchError, "found two"),
        ([first, image(DAYS[1]).drop_vars("time")], DateMismatchError, "scalar 'time'"),
        ([first, image(DAYS[1], bands=("red", "b"))], BandMismatchError, "same bands"),
        ([first, image(DAYS[1], rows=39)], GridMismatchError, "one grid"),
        ([first[0]], GridMismatchError, "band, y, x"),
    ):
        with pytest.raises(error, match=text):
            stack_dates(images)


# --- writing and reading
# ----------------------------------------------------------------


def assert_equal(found, expected):
    xr.testing.assert_identical(
        found.drop_attrs(deep=True).compute(), expected.drop_attrs(deep=True).compute()
    )
    assert found.dtype == expected.dtype
    assert found.attrs == expected.attrs
    assert grid_of(found) == grid_of(expected)


@pytest.mark.parametrize("lazy", [True, False])
def test_a_cube_is_read_back_as_it_was_written(tmp_path, lazy):
    written = cube() if lazy else cube().compute()
    path = write_zarr(written, tmp_path / "cube.zarr", chunk=16)
    assert path == tmp_path / "cube.zarr"
    assert os.listdir(tmp_path) == ["cube.zarr"]
    assert_equal(open_zarr(path), cube())
    corner = open_zarr(path)[1, :, 10:20, 5:45]
    np.testing.assert_array_equal(corner.values, cube()[1, :, 10:20, 5:45].values)


def test_an_image_and_a_cube_of_numbers_without_a_date_are_written_too(tmp_path):
    one = image(DAYS[0])
    path = write_zarr(one, tmp_path / "one.zarr", chunk=64)
    found = open_zarr(path)
    assert_equal(found, one)
    assert found["time"] == one["time"]


def test_others_read_it_by_the_conventions(tmp_path):
    path = write_zarr(cube(), tmp_path / "cube.zarr")
    with xr.open_zarr(path, consolidated=False, decode_coords="all") as dataset:
        assert list(dataset.data_vars) == ["reflectance"]
        np.testing.assert_array_equal(dataset.reflectance.values, cube().values)
        assert "crs_wkt" in dataset.spatial_ref.attrs
        assert dataset.x.attrs["standard_name"] == "projection_x_coordinate"
        assert dataset.attrs["Conventions"].startswith("CF-")
    facts = json.loads((path / "reflectance" / "zarr.json").read_text())
    assert facts["attributes"]["grid_mapping"] == "spatial_ref"
    assert facts["dimension_names"] == ["time", "band", "y", "x"]
    assert "crc32c" in [codec["name"] for codec in facts["codecs"]]


def test_a_store_is_replaced_by_the_complete_one_only(tmp_path):
    path = write_zarr(cube(), tmp_path / "cube.zarr")

    def fail(block):
        raise ZeroDivisionError

    broken = cube()
    broken = broken.copy(
        data=broken.data.map_blocks(fail, dtype="f4", meta=broken.data._meta)
    )
    with pytest.raises(ZeroDivisionError):
        write_zarr(broken, path)
    assert_equal(open_zarr(path), cube())
    write_zarr(cube() + 1, path)
    np.testing.assert_array_equal(open_zarr(path).values, cube().values + 1)
    assert os.listdir(tmp_path) == ["cube.zarr"]


def test_what_is_no_store_is_not_replaced(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    with pytest.raises(WriteError, match="another name"):
        write_zarr(cube(), tmp_path / "notes")
    assert (tmp_path / "notes" / "a.txt").read_text() == "mine"
    with pytest.raises(WriteError, match="folder that exists"):
        write_zarr(cube(), tmp_path / "no" / "cube.zarr")
    with pytest.raises(RasterReadError, match="found none"):
        open_zarr(tmp_path / "notes")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda c: c.transpose("band", "time", "y", "x"), GridMismatchError),
        (lambda c: c.rename("a/b"), ParameterError),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, change, error):
    with pytest.raises(error):
        write_zarr(change(cube()), tmp_path / "cube.zarr")
    assert not os.listdir(tmp_path)


# --- damage
# -----------------------------------------------------------------------------


def test_every_flipped_bit_of_a_chunk_is_an_error_and_never_a_number(tmp_path):
    path = write_zarr(cube(), tmp_path / "cube.zarr", chunk=16)
    chunk = path / "reflectance" / "c" / "1" / "0" / "0" / "1"
    whole = chunk.read_bytes()
    for place_in_file in np.linspace(0, len(whole) - 1, 12).astype(int):
        damaged = bytearray(whole)
        damaged[place_in_file] ^= 16
        chunk.write_bytes(bytes(damaged))
        with pytest.raises(TileReadError, match="damaged"):
            open_zarr(path).compute()
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        chunk.write_bytes(whole[:length])
        with pytest.raises(TileReadError, match="damaged"):
            open_zarr(path).compute()
    other_date = open_zarr(path)[0].values
    np.testing.assert_array_equal(other_date, cube()[0].values)


def test_a_missing_chunk_is_an_error_when_opening_and_when_reading(tmp_path):
    path = write_zarr(cube(), tmp_path / "cube.zarr", chunk=16)
    opened = open_zarr(path)
    (path / "reflectance" / "c" / "1" / "0" / "0" / "1").unlink()
    with pytest.raises(TileReadError, match="missing"):
        open_zarr(path)
    with pytest.raises(TileReadError, match="missing"):
        opened.compute()


def test_a_description_that_is_damaged_or_names_another_codec_is_refused(tmp_path):
    path = write_zarr(cube(), tmp_path / "cube.zarr")
    described = path / "reflectance" / "zarr.json"
    text = described.read_text()
    described.write_text(text.replace('"crc32c"', '"numcodecs.pickle"'))
    with pytest.raises(RasterReadError, match="pickle"):
        open_zarr(path)
    described.write_text(text[: len(text) // 2])
    with pytest.raises(RasterReadError, match="damaged"):
        open_zarr(path)


# --- stopping and continuing
# ------------------------------------------------------------


def test_regions_that_are_stored_are_not_computed_again(tmp_path):
    computed = []

    def watched(block, limit):
        if block.size and len(computed) >= limit:
            raise KeyboardInterrupt
        computed.append(1)
        return block

    def watched_cube(limit):
        plain = cube().chunk({"y": 16, "x": 16})
        data = plain.data.map_blocks(
            watched, limit, dtype="f4", meta=plain.data._meta, name="fixed-name"
        )
        return plain.copy(data=data)

    path = tmp_path / "cube.zarr"
    with pytest.raises(KeyboardInterrupt):
        write_zarr(watched_cube(20), path, chunk=16, workers=1)
    assert not path.exists()
    first = len(computed)
    journal = tmp_path / ".cube.zarr.geofuse" / "journal"
    kept = len(journal.read_text().splitlines()) - 1
    assert 0 < kept <= first
    write_zarr(watched_cube(10_000), path, chunk=16, workers=1)
    assert len(computed) - first == 3 * 3 * 4 - kept
    assert_equal(open_zarr(path), cube())


def test_a_region_that_was_damaged_in_between_is_computed_again(tmp_path):
    path = tmp_path / "cube.zarr"
    count = []

    def stop(done, total):
        count.append(done)
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_zarr(cube(), path, chunk=16, progress=stop)
    stored = tmp_path / ".cube.zarr.geofuse" / "store" / "reflectance" / "c" / "0" / "0"
    chunk = next(p for p in sorted(stored.rglob("*")) if p.is_file())
    content = bytearray(chunk.read_bytes())
    content[-9] ^= 1
    chunk.write_bytes(bytes(content))
    count.clear()
    write_zarr(cube(), path, chunk=16, progress=lambda done, total: count.append(done))
    assert count[0] == 5
    assert_equal(open_zarr(path), cube())


KILLED = """
import sys, time
import numpy as np
from geofuse.rasters.zarr_store import write_zarr
from tests.rasters.test_cube import cube
def slow(done, total):
    print(done, flush=True)
    time.sleep(0.02)
write_zarr(cube(), sys.argv[1], chunk=16, progress=slow, workers=1)
"""


def test_after_a_kill_nothing_partial_is_seen_and_the_same_work_goes_on(tmp_path):
    path = tmp_path / "cube.zarr"
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, cwd=root
    )
    for line in process.stdout:
        if int(line) >= 7:
            break
    with pytest.raises(LockedError):
        write_zarr(cube(), path, chunk=16)
    process.send_signal(signal.SIGKILL)
    process.stdout.close()
    process.wait()
    time.sleep(0.05)
    assert not path.exists()
    seen = []
    write_zarr(cube(), path, chunk=16, progress=lambda done, total: seen.append(done))
    assert seen[0] >= 6
    assert_equal(open_zarr(path), cube())
    assert os.listdir(tmp_path) == ["cube.zarr"]
