"""The tiler: tile size never changes the result, and nothing is done twice or early."""

import subprocess
import sys
import threading
import weakref

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from dask.distributed import Client, LocalCluster
from hypothesis import given, settings
from hypothesis import strategies as st

from geofuse.errors import GridMismatchError, ParameterError
from geofuse.tiling import (
    gathered,
    lattice,
    map_tiles,
    reduce_tiles,
    share,
    stream_tiles,
)

DIMS = ("band", "y", "x")


def raster(height=50, width=41, *, bands=2, chunks=(1, 17, 23), seed=0):
    values = np.random.default_rng(seed).random((bands, height, width), np.float32)
    return xr.DataArray(da.from_array(values, chunks=chunks), dims=DIMS)


def template_of(image, **names):
    lazy = {
        name: image.astype(dtype) for name, dtype in (names or {"out": "f4"}).items()
    }
    return xr.Dataset(lazy)


def window_sum(halo):
    """Sum of the valid pixels in the square window around each pixel."""

    def run(arrays, shared):
        image = np.nan_to_num(arrays["image"])
        rows, columns = (size - 2 * halo for size in image.shape[-2:])
        reach = range(2 * halo + 1)
        views = [image[:, i : i + rows, j : j + columns] for i in reach for j in reach]
        return {"out": sum(views)}

    return run


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 60),
    tile=st.one_of(st.none(), st.integers(1, 40)),
    halo=st.integers(0, 8),
    step=st.integers(1, 9),
    corner=st.tuples(st.integers(0, 8), st.integers(0, 8)),
    chunk=st.integers(5, 50),
)
def test_identity_survives_any_tiling(height, width, tile, halo, step, corner, chunk):
    image = raster(height, width, chunks=(1, chunk, chunk + 3))

    def core(arrays, shared):
        inner = slice(halo, -halo or None)
        return {"out": arrays["image"][:, inner, inner]}

    result = map_tiles(
        core,
        {"image": image},
        template_of(image),
        halo=halo,
        tile=tile,
        step=step,
        offset=(corner[0] % step, corner[1] % step),
    )
    np.testing.assert_array_equal(result.out.values, image.values)


@pytest.mark.parametrize("tile", [7, 16, 33, 200, None])
def test_a_window_function_does_not_see_the_tiles(tile):
    image = raster()
    whole = window_sum(3)(
        {
            "image": np.pad(
                image.values, ((0, 0), (3, 3), (3, 3)), constant_values=np.nan
            )
        },
        None,
    )["out"]
    result = map_tiles(
        window_sum(3), {"image": image}, template_of(image), halo=3, tile=tile
    )
    np.testing.assert_array_equal(result.out.values, whole)


def looks_farther_than_its_halo(arrays, shared):
    """Mean of 7x7 pixels, with invented ones where the window of halo 2 ends."""
    image = np.pad(arrays["image"], ((0, 0), (1, 1), (1, 1)), mode="reflect")
    padded = {"image": image}
    return window_sum(3)(padded, shared)


def test_the_law_of_tiles_finds_a_halo_that_is_one_pixel_too_small():
    image = raster()
    small, large = (
        map_tiles(
            looks_farther_than_its_halo,
            {"image": image},
            template_of(image),
            halo=2,
            tile=tile,
        ).out.values
        for tile in (16, None)
    )
    assert np.abs(small - large).max() > 0.01


def test_a_function_that_trims_another_halo_than_it_declared_is_refused():
    image = raster()
    with pytest.raises(GridMismatchError, match="trim exactly the halo"):
        map_tiles(
            window_sum(3), {"image": image}, template_of(image), halo=2, tile=16
        ).compute()


def test_all_windows_have_one_shape_and_are_empty_outside_the_raster():
    image = raster(30, 30)
    mask = xr.DataArray(np.ones((30, 30), bool), dims=DIMS[1:])
    seen = []

    def look(arrays, shared):
        seen.append((arrays["image"].shape, arrays["mask"].shape))
        outside = np.isnan(arrays["image"][0])
        np.testing.assert_array_equal(outside, ~arrays["mask"])
        return {"out": arrays["image"][:, 4:-4, 4:-4]}

    rasters = {"image": image, "mask": mask}
    map_tiles(look, rasters, template_of(image), halo=4, tile=20).compute()
    assert seen == [((2, 28, 28), (28, 28))] * 4


def test_several_variables_come_from_one_call_a_tile_and_shared_values_from_one_scan():
    image, calls = raster(), []

    def total(arrays, shared):
        calls.append("scan")
        return float(np.nansum(arrays["image"], dtype=np.float64))

    def run(arrays, shared):
        calls.append("tile")
        return {
            "out": arrays["image"] + np.float32(shared),
            "double": arrays["image"] * 2,
        }

    scene = reduce_tiles(total, {"image": image}, sum)
    result = map_tiles(
        run,
        {"image": image},
        template_of(image, out="f4", double="f8"),
        halo=0,
        tile=25,
        shared=scene,
    )
    assert calls == []
    whole = result.compute()
    assert sorted(calls) == ["scan"] + ["tile"] * 4
    assert whole.double.dtype == np.float64
    expected = image.values + np.float32(image.values.sum(dtype=np.float64))
    np.testing.assert_allclose(whole.out, expected, rtol=1e-6)
    calls.clear()
    variables = {"out": result.out, "double": result.double}
    streamed = np.full(image.shape, np.nan, np.float32)
    # One tile at a time: the scan is still done once.
    for tile in stream_tiles(variables, budget=1):
        streamed[(..., *tile.window)] = tile.arrays["out"]
    np.testing.assert_array_equal(streamed, whole.out)
    assert sorted(calls) == ["scan"] + ["tile"] * 4


def test_a_stream_leaves_out_what_is_not_wanted():
    image = raster(40, 40)
    result = map_tiles(
        window_sum(0), {"image": image}, template_of(image), halo=0, tile=20
    )
    found = [
        (tile.row, tile.column)
        for tile in stream_tiles({"out": result.out}, skip=lambda row, column: row == 0)
    ]
    assert sorted(found) == [(1, 0), (1, 1)]


def test_a_stream_holds_a_few_tiles_whatever_the_size_of_the_raster():
    alive, most, lock = [0], [0], threading.Lock()

    def gone():
        alive[0] -= 1

    def make(arrays, shared):
        tile = arrays["image"][:, 1:-1, 1:-1].copy()
        with lock:
            alive[0] += 1
            most[0] = max(most[0], alive[0])
        weakref.finalize(tile, gone)
        return {"out": tile}

    held = []
    for size in (80, 640):
        image = raster(size, size, bands=1, chunks=(1, 40, 40))
        result = map_tiles(make, {"image": image}, template_of(image), halo=1, tile=20)
        most[0], count = 0, 0
        for _ in stream_tiles({"out": result.out}, workers=2):
            count += 1
        assert count == (size // 20) ** 2
        held.append(most[0])
    # Squares of 2 x 2 for two threads: what is computed, and what is being handed out.
    assert max(held) <= 10


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_stream_gives_the_same_for_any_number_of_threads(workers):
    image = raster()
    result = map_tiles(
        window_sum(2), {"image": image}, template_of(image), halo=2, tile=9
    )
    streamed, order = np.full(image.shape, np.nan, np.float32), []
    for tile in stream_tiles({"out": result.out}, workers=workers):
        streamed[(..., *tile.window)] = tile.arrays["out"]
        order.append((tile.row, tile.column))
    np.testing.assert_array_equal(streamed, result.out.values)
    assert sorted(order) == [(row, column) for row in range(6) for column in range(5)]


def test_the_first_tile_of_a_stream_is_computed_alone():
    """What compiles itself is compiled once, not by every thread."""
    image, running, most = raster(60, 60), [0], []

    def run(arrays, shared):
        running[0] += 1
        most.append(running[0])
        running[0] -= 1
        return {"out": arrays["image"]}

    result = map_tiles(run, {"image": image}, template_of(image), halo=0, tile=20)
    next(stream_tiles({"out": result.out}, workers=4))
    assert most == [1]


def test_a_stream_of_nothing_ends_at_once():
    image = raster()
    result = map_tiles(window_sum(0), {"image": image}, template_of(image), halo=0)
    stream = stream_tiles({"out": result.out}, skip=lambda row, column: True)
    assert list(stream) == []


def test_variables_that_are_computed_from_tiles_are_streamed_with_them():
    image = raster()
    result = map_tiles(
        window_sum(1), {"image": image}, template_of(image), halo=1, tile=16
    )
    variables = {"out": result.out, "root": np.sqrt(result.out), "image": image}
    whole = {name: np.empty(image.shape, np.float32) for name in variables}
    for tile in stream_tiles(variables):
        for name, values in tile.arrays.items():
            whole[name][(..., *tile.window)] = values
    for name, variable in variables.items():
        np.testing.assert_array_equal(whole[name], variable.values)


def total(arrays, shared):
    return float(np.nansum(arrays["image"], dtype=np.float64))


def plus_shared(arrays, shared):
    return {"out": window_sum(2)(arrays, None)["out"] + np.float32(shared)}


def test_threads_and_processes_give_the_same_bits():
    image = raster(90, 70)
    scene = reduce_tiles(total, {"image": image}, sum)
    result = map_tiles(
        plus_shared,
        {"image": image},
        template_of(image),
        halo=2,
        tile=25,
        shared=scene,
    )
    with dask.config.set(scheduler="synchronous"):
        expected = result.out.values
    with dask.config.set(scheduler="threads", num_workers=4):
        np.testing.assert_array_equal(result.out.values, expected)
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster),
    ):
        np.testing.assert_array_equal(result.out.values, expected)
        streamed = np.full(image.shape, np.nan, np.float32)
        for tile in stream_tiles({"out": result.out}):
            streamed[(..., *tile.window)] = tile.arrays["out"]
    np.testing.assert_array_equal(streamed, expected)


def test_scene_numbers_do_not_depend_on_chunks():
    first, second = raster(chunks=(2, 9, 9)), raster(chunks=(1, 50, 41))
    values = [
        reduce_tiles(
            lambda a, _: float(a["i"].sum(dtype="f8")), {"i": i}, sum
        ).compute()
        for i in (first, second)
    ]
    assert values[0] == values[1]


def test_a_shared_value_is_handed_to_every_tile():
    image = raster(20, 20)
    result = map_tiles(
        lambda arrays, shared: {"out": arrays["image"] * shared["gain"]},
        {"image": image},
        template_of(image),
        halo=0,
        tile=10,
        shared=share({"gain": np.float32(3)}),
    )
    np.testing.assert_array_equal(result.out, image.values * np.float32(3))


def test_a_scan_may_look_at_a_few_tiles_spread_over_the_raster():
    places = xr.DataArray(
        np.arange(20.0)[:, None] * 100 + np.arange(30), dims=("y", "x")
    )

    def scan(most, tile=5):
        return reduce_tiles(
            lambda arrays, _: float(arrays["i"].min()),
            {"i": places},
            list,
            tile=tile,
            most=most,
            token=f"{most} {tile}",
        ).compute()

    everywhere = scan(None)
    assert len(everywhere) == 4 * 6
    assert scan(24) == scan(100) == everywhere
    few = scan(6)
    assert few == scan(6)
    # One of each run of four tiles, in reading order.
    assert [everywhere.index(value) // 4 for value in few] == list(range(6))


def test_several_shared_values_become_one():
    image = raster(20, 20)
    total = reduce_tiles(lambda a, _: float(a["i"].max()), {"i": image}, max, token="m")
    both = gathered(tuple, [total, share(2.0)], token="both")
    again = gathered(lambda found: sum(found[0]), [both], token="again")
    result = map_tiles(
        lambda arrays, shared: {"out": 0 * arrays["image"] + np.float32(shared)},
        {"image": image},
        template_of(image),
        halo=0,
        tile=10,
        shared=again,
        token="gathered",
    )
    expected = float(image.values.max()) + 2
    np.testing.assert_allclose(result.out, expected)
    for tile in stream_tiles({"out": result.out}):
        np.testing.assert_allclose(tile.arrays["out"], expected)


def test_the_same_work_has_the_same_name_in_another_process():
    code = (
        "import numpy as np, xarray as xr, dask.array as da\n"
        "from geofuse.tiling import map_tiles\n"
        "i = xr.DataArray(da.zeros((1, 9, 9), chunks=5, name='i'), dims=('band','y','x'))\n"
        "r = map_tiles(lambda a, s: a, {'i': i}, i.to_dataset(name='i'), halo=0, token='t')\n"
        "print(r.i.data.name)"
    )
    names = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    }
    assert len(names) == 1
    assert names.pop().startswith("i-")


def test_rasters_of_two_sizes_are_refused():
    with pytest.raises(GridMismatchError, match="rasters of one size"):
        map_tiles(
            window_sum(0),
            {"image": raster(20, 20), "other": raster(20, 21)},
            template_of(raster(20, 20)),
            halo=0,
        )


@pytest.mark.parametrize("tile", [0, -5])
def test_a_tile_without_pixels_is_refused(tile):
    with pytest.raises(ParameterError, match="at least 1 pixel"):
        lattice(10, 10, tile=tile)


def test_tiles_start_at_coarse_corners():
    tiles = lattice(100, 90, tile=20, step=8, offset=(3, 0))
    assert (tiles.top, tiles.left) == (-5, 0)
    assert tiles.tile_height == 24
    rows = [tiles.core(row, 0)[0] for row in range(tiles.rows)]
    assert [s.start for s in rows] == [0, 19, 43, 67, 91]
    assert rows[-1].stop == 100


def test_nothing_is_computed_when_a_mosaic_is_described():
    def never(block):
        raise AssertionError("computed")

    meta = np.empty((0, 0, 0), np.float32)
    image = raster()
    unread = image.copy(data=image.data.map_blocks(never, dtype="f4", meta=meta))
    scene = reduce_tiles(lambda a, _: 0, {"image": unread}, sum)
    result = map_tiles(
        window_sum(1), {"image": unread}, template_of(unread), halo=1, shared=scene
    )
    with dask.config.set(scheduler="synchronous"), pytest.raises(AssertionError):
        result.compute()


def test_a_scan_that_needs_another_keeps_no_chunk_for_it():
    alive, most = [0], [0]

    def gone():
        alive[0] -= 1

    def read(arrays, shared):
        chunk = arrays["image"].copy()
        alive[0] += 1
        most[0] = max(most[0], alive[0])
        weakref.finalize(chunk, gone)
        return {"out": chunk}

    def total(arrays, shared):
        return float(arrays["image"].sum(dtype=float)) + (shared or 0.0)

    def scaled(arrays, shared):
        return {"out": arrays["image"] * np.float32(shared)}

    image = raster(80, 80, bands=1, chunks=(1, 10, 10))
    source = map_tiles(read, {"image": image}, template_of(image), halo=0, tile=10).out
    first = reduce_tiles(total, {"image": source}, sum, tile=10)
    second = reduce_tiles(total, {"image": source}, sum, tile=10, shared=first)
    result = map_tiles(
        scaled, {"image": source}, template_of(image), halo=0, tile=10, shared=second
    )
    expected = np.float32(65 * float(image.sum(dtype=float)))
    for tile in stream_tiles({"out": result.out}, workers=1):
        part = image.values[(..., *tile.window)] * expected
        np.testing.assert_allclose(tile.arrays["out"], part, rtol=1e-6)
    assert most[0] <= 10
