"""What a prediction will cost, told before it is begun."""

import dask.array as da
import numpy as np
import pytest

from geofuse.pairs import FusionInputs, Pair
from geofuse.rasters.write import write_cog
from geofuse.spatiotemporal.baselines import CoarseChange
from geofuse.spatiotemporal.estimate import Estimate, estimate
from geofuse.spatiotemporal.starfm import STARFM
from geofuse.synthetic import simulate_case

BANDS = ("red", "nir")


def inputs_of(size, pairs=1):
    return simulate_case(size, bands=BANDS, pairs=pairs, scale=8).inputs


def unreadable(inputs):
    """The inputs with images that fail when they are computed."""

    def never(block):
        raise AssertionError("read")

    def unread(image):
        lazy = da.from_array(image.values, chunks=16)
        meta = np.empty((0, 0, 0), np.float32)
        return image.copy(data=lazy.map_blocks(never, dtype=np.float32, meta=meta))

    pairs = [Pair(unread(pair.fine), unread(pair.coarse)) for pair in inputs.pairs]
    return FusionInputs(pairs, unread(inputs.coarse), inputs.scale)


@pytest.mark.parametrize(
    "method", [STARFM(radius=2), CoarseChange(upsample="bicubic")], ids=repr
)
def test_it_counts_tiles_and_reads_nothing(method):
    inputs = unreadable(inputs_of(40))
    found = estimate(method, inputs, method.predict(inputs, tile=16))
    assert found.tiles == 9
    assert found.seconds > 0
    assert found.memory > 0


def test_disk_holds_the_tiles_and_both_files(tmp_path):
    inputs = inputs_of(600)
    method = CoarseChange()
    product = method.predict(inputs, tile=300, outputs=("reflectance",))
    found = estimate(method, inputs, product)
    most = [0]

    def look(done, total):
        folders = [path for path in tmp_path.iterdir() if path.is_dir()]
        files = [file for folder in folders for file in folder.iterdir()]
        most[0] = max(most[0], sum(file.stat().st_size for file in files))

    path = write_cog(product.reflectance, tmp_path / "out.tif", progress=look)
    tiles = 2 * 600 * 600 * 4
    assert most[0] >= tiles
    assert tiles + path.stat().st_size < found.disk == 4 * tiles


def test_memory_grows_with_threads_pairs_and_halo_but_not_with_the_raster():
    def memory(size, *, radius=2, pairs=1, workers=1):
        method, inputs = STARFM(radius=radius), inputs_of(size, pairs)
        product = method.predict(inputs, tile=24)
        return estimate(method, inputs, product, workers=workers).memory

    base = memory(48)
    assert memory(96) == base
    assert memory(48, workers=3) == 3 * base
    assert memory(48, pairs=2) == pytest.approx(base * 5 / 3)
    assert memory(48, radius=4) > base


def test_it_is_told_in_words():
    assert str(Estimate(9, 61.0, 2**30, 2**31)) == (
        "9 tiles: about 61 s, 1.0 GB of memory, 2.0 GB of disk"
    )
    assert "about 5 min" in str(Estimate(9, 300.0, 2**30, 2**31))
