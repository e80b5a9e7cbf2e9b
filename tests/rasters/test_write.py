"""A product is whole and verified, or what stood there before still stands."""

import ctypes
import fcntl
import hashlib
import os
import resource
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

import geofuse
from geofuse.errors import (
    GridMismatchError,
    LockedError,
    NothingValidWarning,
    ParameterError,
    TileReadError,
    WriteError,
)
from geofuse.rasters.grid import grid_of, place
from geofuse.rasters.optical import open_optical
from geofuse.rasters.write import write_cog, write_cogs
from tests.conftest import GRID

SHAPE = (2, 130, 170)
TILES = 3 * 3


def numbers(shape=SHAPE, dtype="float32", seed=0):
    values = np.random.default_rng(seed).random(shape) * 1000
    values = values.astype(dtype)
    if np.issubdtype(values.dtype, np.floating):
        values[..., :5, :7] = np.nan
    return values


def image(values=None, *, chunks=64, crs="EPSG:32633", transform=GRID, **attrs):
    values = numbers() if values is None else values
    data = da.from_array(values, chunks=(-1, chunks, chunks))
    coords = {
        "band": ["red", "nir", "swir1"][: len(values)],
        "time": np.datetime64("2021-07-01", "ns"),
    }
    placed = place(data, GeoBox(values.shape[-2:], transform, crs), coords=coords)
    return placed.assign_attrs(attrs)


class Work:
    """Counts the tiles that are computed, and fails at some."""

    def __init__(self, fail_at=None, error=RuntimeError):
        self.computed = []
        self.fail_at, self.error = fail_at, error
        self.lock = threading.Lock()

    def __call__(self, block, block_info=None):
        place = tuple(block_info[0]["chunk-location"][-2:])
        with self.lock:
            if place == self.fail_at:
                raise self.error("on purpose")
            self.computed.append(place)
        return block

    def on(self, image):
        # The name says what the work is, as it does for every method of the package.
        data = image.data.map_blocks(
            self,
            dtype=image.dtype,
            meta=image.data._meta,
            name=f"work-{image.data.name}",
        )
        return image.copy(data=data)


def read(path):
    with rasterio.open(path) as dataset:
        return dataset.read()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def existing(tmp_path):
    """A product of an earlier day, with its bytes."""
    path = tmp_path / "out.tif"
    write_cog(image(numbers(seed=9)), path)
    return path, path.read_bytes()


# --- what a product holds
# ----------------------------------------------------------------


def test_a_product_carries_pixels_crs_transform_date_bands_nodata_and_tags(tmp_path):
    path = tmp_path / "out.tif"
    returned = write_cog(
        image(long_name="red and nir"), path, tags={"method": "None()"}
    )
    assert returned == path
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(), numbers())
        assert dataset.crs.to_epsg() == 32633
        assert dataset.transform == GRID
        assert dataset.descriptions == ("red", "nir")
        assert np.isnan(dataset.nodatavals).all()
        tags = dataset.tags()
    assert tags["method"] == "None()"
    assert tags["time"] == "2021-07-01"
    assert tags["TIFFTAG_DATETIME"] == "2021:07:01 00:00:00"
    assert tags["long_name"] == "red and nir"


def test_a_product_is_opened_again_as_the_image_that_was_written(tmp_path):
    path = write_cog(image(), tmp_path / "out.tif")
    again = open_optical(path, date="2021-07-01", bands=["red", "nir"])
    np.testing.assert_array_equal(again.values, numbers())
    assert grid_of(again) == grid_of(image())


def test_a_product_is_a_cloud_optimized_geotiff_with_overviews(tmp_path):
    values = np.add.outer(np.arange(600.0), np.arange(1100.0))[None].astype("f4")
    path = write_cog(image(values, chunks=200), tmp_path / "out.tif")
    with rasterio.open(path) as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.block_shapes == [(512, 512)]
        assert dataset.overviews(1) == [2, 4]
        np.testing.assert_array_equal(dataset.read(), values)
        half = dataset.read(1, out_shape=(300, 550))
    means = values[0].reshape(300, 2, 550, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(half, means, atol=1e-3)
    # The directories come first, so that a reader over the network needs one request.
    assert b"GDAL_STRUCTURAL_METADATA" in path.read_bytes()[:200]


def test_overviews_of_counts_hold_only_values_that_there_are(tmp_path):
    values = numbers((1, 600, 700), "uint16")
    path = write_cog(image(values, chunks=300), tmp_path / "quality.tif")
    with rasterio.open(path) as dataset:
        assert dataset.dtypes == ("uint16",)
        assert dataset.nodata is None
        np.testing.assert_array_equal(dataset.read(), values)
        small = dataset.read(1, out_shape=(300, 350))
    assert np.isin(small, values).all()


@pytest.mark.parametrize("transform", [GRID, Affine.identity()])
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_raster_without_crs_is_written_without(tmp_path, transform):
    path = write_cog(image(crs=None, transform=transform), tmp_path / "out.tif")
    with rasterio.open(path) as dataset:
        assert dataset.crs is None
        assert dataset.transform == transform
        np.testing.assert_array_equal(dataset.read(), numbers())


def test_an_image_of_one_band_without_a_band_axis_and_an_eager_one_are_written(
    tmp_path,
):
    flat = image()[0].drop_vars("band").rename("ndvi").compute()
    path = write_cog(flat, tmp_path / "out.tif")
    with rasterio.open(path) as dataset:
        assert dataset.descriptions == ("ndvi",)
        np.testing.assert_array_equal(dataset.read(), numbers()[:1])


def test_images_of_one_work_compute_each_tile_once(tmp_path):
    work = Work()
    shared = work.on(image())
    write_cogs({tmp_path / "a.tif": shared, tmp_path / "b.tif": shared * 2})
    assert len(work.computed) == TILES
    np.testing.assert_array_equal(read(tmp_path / "b.tif"), numbers() * 2)


def test_progress_counts_tiles_to_the_last(tmp_path):
    seen = []
    write_cog(
        image(),
        tmp_path / "out.tif",
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(done, TILES) for done in range(TILES + 1)]


def test_the_number_of_workers_changes_no_byte(tmp_path):
    contents = {
        write_cog(image(), tmp_path / f"{workers}.tif", workers=workers).read_bytes()
        for workers in (None, 1, 2)
    }
    assert len(contents) == 1


def test_a_cluster_of_two_processes_gives_the_same_product(tmp_path):
    distributed = pytest.importorskip("distributed")
    expected = write_cog(image(), tmp_path / "threads.tif").read_bytes()
    inputs = image() + 0  # a task that is computed over there
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        path = write_cog(inputs, tmp_path / "cluster.tif", workers=2)
        told = client.run_on_scheduler(
            lambda dask_scheduler: len(dask_scheduler.transition_log)
        )
    assert told > TILES  # it did the work
    assert path.read_bytes() == expected


def test_a_product_without_a_valid_pixel_is_written_with_a_warning(tmp_path):
    values = numbers()
    values[:] = np.nan
    with pytest.warns(NothingValidWarning, match=r"found none in out\.tif"):
        write_cog(image(values), tmp_path / "out.tif")
    assert np.isnan(read(tmp_path / "out.tif")).all()
    values[0, 0, 0] = 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("error", NothingValidWarning)
        write_cog(image(values), tmp_path / "out.tif")


# --- failures
# ----------------------------------------------------------------------------


def test_an_exception_in_a_tile_leaves_the_existing_product(existing):
    path, before = existing
    with pytest.raises(RuntimeError, match="on purpose"):
        write_cog(Work(fail_at=(1, 1)).on(image()), path)
    assert path.read_bytes() == before


def test_a_tile_that_cannot_be_read_leaves_the_existing_product_and_nothing_else(
    existing,
):
    path, before = existing
    with pytest.raises(TileReadError):
        write_cog(Work(fail_at=(1, 1), error=TileReadError).on(image()), path)
    assert path.read_bytes() == before
    assert names(path.parent) == ["out.tif"]


def test_nothing_is_left_beside_a_product(existing):
    assert names(existing[0].parent) == ["out.tif"]


@pytest.mark.parametrize("target", ["file/out.tif", "missing/out.tif", "/proc/out.tif"])
def test_a_folder_that_cannot_be_written_is_told_before_any_work(tmp_path, target):
    (tmp_path / "file").write_text("not a folder")
    work = Work()
    with pytest.raises(
        WriteError, match="a folder that exists and is writable"
    ) as caught:
        write_cog(work.on(image()), tmp_path / target)
    assert caught.value.exit_code == 1
    assert work.computed == []
    assert names(tmp_path) == ["file"]


def test_a_folder_given_as_the_product_is_refused(tmp_path):
    with pytest.raises(WriteError, match=r"such as fused.tif"):
        write_cog(image(), tmp_path)
    with pytest.raises(WriteError, match="path in UTF-8"):
        write_cog(image(), tmp_path / os.fsdecode(b"\xff.tif"))
    assert names(tmp_path) == []


def test_what_is_no_image_and_paths_that_clash_are_refused(tmp_path):
    with pytest.raises(GridMismatchError, match=r"\(band, y, x\) or \(y, x\)"):
        write_cog(image().expand_dims("time"), tmp_path / "out.tif")
    with pytest.raises(GridMismatchError, match="expected one grid"):
        write_cogs({tmp_path / "a.tif": image(), tmp_path / "b.tif": image()[:, 1:]})
    with pytest.raises(ParameterError, match="one path for each image"):
        write_cogs({tmp_path / "a.tif": image(), f"{tmp_path}/./a.tif": image()})
    with pytest.raises(ParameterError, match="one path for each image"):
        write_cogs({})
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("limit", "chunks"),
    [(20_000, 64), (60_000, 64)],
    ids=["at a tile", "when assembled"],
)
def test_a_file_that_cannot_grow_is_a_write_error(existing, limit, chunks):
    path, before = existing
    tile = 2 * chunks * chunks * 4
    assert (tile < limit) == (limit == 60_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(WriteError) as caught:
            write_cog(image(chunks=chunks), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.exit_code == 1
    assert path.read_bytes() == before
    assert names(path.parent) == ["out.tif"]


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MB; skips where the user may not mount one."""
    libc = ctypes.CDLL(None, use_errno=True)
    folder = tmp_path / "disk"
    folder.mkdir()
    place = os.fsencode(folder)
    if libc.mount(b"none", place, b"tmpfs", 0, b"size=1m"):
        pytest.skip("mounting a small disk is not permitted here")
    yield folder
    libc.umount2(place, 2)


@pytest.mark.parametrize("side", [300, 400, 460, 1000])
def test_a_full_disk_is_a_write_error_and_leaves_the_existing_product(small_disk, side):
    path = small_disk / "out.tif"
    write_cog(image(numbers((1, 64, 64))), path)
    before = path.read_bytes()
    # 300: tiles fit, and not the rest; 1000: not even the tiles.
    with pytest.raises(WriteError) as caught:
        write_cog(image(numbers((1, side, side))), path)
    assert caught.value.exit_code == 1
    assert path.read_bytes() == before
    assert names(small_disk) == ["out.tif"]
    write_cog(image(numbers((1, 80, 80))), path)  # there is space for a small one
    np.testing.assert_array_equal(read(path), numbers((1, 80, 80)))


def test_a_product_that_reads_back_otherwise_is_not_published(existing, monkeypatch):
    path, before = existing
    original = rasterio.shutil.copy

    def failing_disk(source, destination, **options):
        with rasterio.open(source, "r+") as dataset:
            values = dataset.read()
            values[0, 70, 80] += 1
            dataset.write(values)
        original(source, destination, **options)

    monkeypatch.setattr("rasterio.shutil.copy", failing_disk)
    with pytest.raises(WriteError, match="found tile 1,1 different"):
        write_cog(image(), path)
    assert path.read_bytes() == before
    assert names(path.parent) == ["out.tif"]


def test_a_second_writer_of_one_product_is_locked_out(existing):
    path, before = existing
    folder = path.parent / ".out.tif.geofuse"
    folder.mkdir()
    handle = os.open(folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(LockedError, match="another run at it") as caught:
        write_cog(image(), path)
    assert caught.value.exit_code == 75
    assert path.read_bytes() == before
    os.close(handle)
    write_cog(image(), path)
    np.testing.assert_array_equal(read(path), numbers())
    assert names(path.parent) == ["out.tif"]


# --- what stands at the path
# -------------------------------------------------------------


def test_a_link_at_the_path_is_replaced_and_not_followed(tmp_path):
    other = tmp_path / "other.tif"
    other.write_bytes(b"precious")
    path = tmp_path / "out.tif"
    path.symlink_to(other)
    write_cog(image(), path)
    assert other.read_bytes() == b"precious"
    assert not path.is_symlink()
    np.testing.assert_array_equal(read(path), numbers())


def test_a_hostile_raster_at_the_path_cannot_make_gdal_delete_a_file(tmp_path, raster):
    for name in ("out.tif", "control.tif"):
        hostile = raster(name, np.ones((1, 8, 8), "uint8"))
        with rasterio.open(hostile, "r+") as dataset:
            dataset.update_tags(
                ns="OVERVIEWS", OVERVIEW_FILE=str(tmp_path / f"{name}.victim")
            )
        raster("victim.tif", np.ones((1, 8, 8), "uint8")).rename(
            tmp_path / f"{name}.victim"
        )
    write_cog(image(), tmp_path / "out.tif")
    assert (tmp_path / "out.tif.victim").exists()
    # What GDAL does by itself.
    raster("control.tif", np.ones((1, 8, 8), "uint8"))
    assert not (tmp_path / "control.tif.victim").exists()


def test_a_link_at_the_place_of_the_hidden_folder_is_not_followed(tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "notes.txt").write_text("keep")
    (tmp_path / ".out.tif.geofuse").symlink_to(precious)
    with pytest.raises(WriteError):
        write_cog(image(), tmp_path / "out.tif")
    assert names(precious) == ["notes.txt"]
    assert not (tmp_path / "out.tif").exists()


# --- going on
# ----------------------------------------------------------------------------


def stopped(path, at=(2, 1)):
    """Stop a run at a tile, by an error that is not the user's."""
    work = Work(fail_at=at)
    with pytest.raises(RuntimeError):
        write_cog(work.on(image()), path, workers=1)
    folder = path.parent / f".{path.name}.geofuse"
    return {
        tuple(map(int, tile.stem.split("_")[:2])): tile for tile in folder.glob("*.npy")
    }


def force_small_steps(monkeypatch):
    """Store each row of tiles before the next is computed."""
    import geofuse.rasters.write as module

    original = module.stream_tiles
    monkeypatch.setattr(
        module, "stream_tiles", lambda *a, **k: original(*a, **k, budget=1)
    )


def test_a_stopped_run_goes_on_and_computes_no_finished_tile(tmp_path, monkeypatch):
    force_small_steps(monkeypatch)
    path = tmp_path / "out.tif"
    kept = stopped(path)
    assert 0 < len(kept) < TILES
    assert not path.exists()
    work = Work()
    write_cog(work.on(image()), path, workers=1)
    assert set(work.computed) == {(i, j) for i in range(3) for j in range(3)} - set(
        kept
    )
    expected = write_cog(image(), tmp_path / "whole.tif").read_bytes()
    assert path.read_bytes() == expected
    assert names(tmp_path) == ["out.tif", "whole.tif"]


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_tile_of_a_stopped_run_is_computed_again(
    tmp_path, monkeypatch, damage
):
    force_small_steps(monkeypatch)
    path = tmp_path / "out.tif"
    kept = stopped(path)
    content = bytearray(kept[0, 0].read_bytes())
    content[-100] ^= 1
    length = {"flip": len(content), "cut": 500, "empty": 0}[damage]
    kept[0, 0].write_bytes(content[:length])
    work = Work()
    write_cog(work.on(image()), path, workers=1)
    assert (0, 0) in work.computed
    assert (0, 1) not in work.computed
    np.testing.assert_array_equal(read(path), numbers())


@pytest.mark.parametrize("change", ["values", "tags", "record"])
def test_tiles_of_other_work_are_not_taken_over(tmp_path, monkeypatch, change):
    force_small_steps(monkeypatch)
    path = tmp_path / "out.tif"
    stopped(path)
    if change == "record":
        (tmp_path / ".out.tif.geofuse" / "job.json").write_text("[}")
    values = numbers(seed=1) if change == "values" else numbers()
    work = Work()
    tags = {"method": "other"} if change == "tags" else {}
    write_cog(work.on(image(values)), path, tags=tags)
    assert len(work.computed) == TILES
    np.testing.assert_array_equal(read(path), values)


KILLED = """
import os, random, signal, sys, time
from pathlib import Path

import dask
import numpy as np

from geofuse.rasters.write import write_cog
from tests.rasters.test_write import image, names, numbers

dask.config.set(scheduler="synchronous")
folder, kills = Path(sys.argv[1]), int(sys.argv[2])
path = folder / "out.tif"


def slow(block):
    time.sleep(0.004)
    return block


values = numbers((1, 560, 240))
work = image(values, chunks=80)
work = work.copy(data=work.data.map_blocks(slow, dtype="f4", name="slow-work"))
begin = time.perf_counter()
new = write_cog(work, folder / "whole.tif").read_bytes()
took = time.perf_counter() - begin
old = write_cog(image(numbers(seed=9)), path).read_bytes()
random.seed(0)
ends = {"before": 0, "after": 0, "went on": 0}
for _ in range(kills):
    child = os.fork()
    if not child:
        write_cog(work, path)
        os._exit(0)
    time.sleep(random.uniform(0.0, took))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    content = path.read_bytes()
    assert content in (old, new), "a partial product"
    ends["before" if content == old else "after"] += 1
    ends["went on"] += (folder / ".out.tif.geofuse").exists()
    if content == new:
        path.write_bytes(old)
write_cog(work, path)
assert path.read_bytes() == new, "another product"
assert names(folder) == ["out.tif", "whole.tif"], names(folder)
print(ends)
assert ends["before"] > 0 and ends["went on"] > 0
"""


def test_a_run_killed_at_any_moment_leaves_a_whole_product_and_goes_on(tmp_path):
    kills = os.environ.get("GEOFUSE_TEST_KILLS", "6")
    root = Path(geofuse.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), kills],
        capture_output=True,
        text=True,
        cwd=root,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_digest_of_a_tile_is_in_its_name(tmp_path, monkeypatch):
    force_small_steps(monkeypatch)
    kept = stopped(tmp_path / "out.tif")
    values = np.load(kept[0, 1])
    digest = hashlib.blake2b(np.ascontiguousarray(values), digest_size=16).hexdigest()
    assert kept[0, 1].stem == f"0_1_{digest}"
    np.testing.assert_array_equal(values, numbers()[:, :64, 64:128])
