"""Files as they should be, damaged, and hostile.

Every fault ends in exactly one of two ways: the right pixels, or a typed error.
"""

import itertools
import os
import pickle
import random
import shutil
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from geofuse.errors import GeofuseError, RasterReadError, TileReadError
from geofuse.rasters import source
from geofuse.rasters.optical import open_optical
from geofuse.rasters.source import RasterSource, inspect

LAYOUTS = {
    "strips": {"blockysize": 3},
    "tiles": {"tiled": True, "blockxsize": 16, "blockysize": 32},
    "planes": {"interleave": "band", "tiled": True, "blockxsize": 32, "blockysize": 16},
    "pixels": {"interleave": "pixel", "compress": "lzw"},
    "deflate": {"compress": "deflate", "predictor": 2},
    "zstd": {"compress": "zstd", "tiled": True, "blockxsize": 32, "blockysize": 32},
    "nodata": {"nodata": 0, "tiled": True, "blockxsize": 32, "blockysize": 32},
    "bigtiff": {"bigtiff": "yes"},
    "jpeg2000": {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"},
    "jpeg2000 tiles": {
        "driver": "JP2OpenJPEG",
        "QUALITY": "100",
        "REVERSIBLE": "YES",
        "blockxsize": 32,
        "blockysize": 32,
    },
    "envi": {"driver": "ENVI"},
}


def read(path, **options):
    return open_optical(path, date="2021-07-01", **options)


def file_of(raster, layout, dn, name="scene"):
    ending = {"JP2OpenJPEG": ".jp2", "ENVI": ".img"}.get(
        LAYOUTS[layout].get("driver"), ".tif"
    )
    return raster(name + ending, dn, **LAYOUTS[layout])


def source_of(path, **options):
    image = read(path, **options)
    (found,) = (
        value for value in image.data.dask.values() if isinstance(value, RasterSource)
    )
    return found


# --- whole files
# ------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_read_as_it_was_written(raster, dn, layout):
    path = file_of(raster, layout, dn)
    for chunks in (17, 512):
        np.testing.assert_array_equal(read(path, chunks=chunks).values, dn)


def test_nothing_is_read_when_a_file_is_opened(raster, dn, monkeypatch):
    reads = []
    original = RasterSource._read
    monkeypatch.setattr(
        RasterSource,
        "_read",
        lambda self, band, window: reads.append(window) or original(self, band, window),
    )
    image = read(raster("scene.tif", dn, **LAYOUTS["tiles"]), chunks=16)
    part = image[:, 20:30, 5:15]
    assert reads == []
    part.values  # noqa: B018
    assert reads != []


def test_a_slice_reads_its_own_window_and_no_more(raster, dn, monkeypatch):
    seen = []
    original = RasterSource._read
    monkeypatch.setattr(
        RasterSource,
        "_read",
        lambda self, band, window: (
            seen.append((band, window.flatten())) or original(self, band, window)
        ),
    )
    image = read(raster("scene.tif", dn))
    np.testing.assert_array_equal(image[1:, 20:30, 5:9].values, dn[1:, 20:30, 5:9])
    assert seen == [(1, (5, 20, 4, 10))]


KEYS = [
    (0, 5, 7),
    (slice(None), -1, slice(None)),
    (slice(None), slice(60, 10, -3), slice(None, None, 7)),
    ([1, 0], slice(2, 9), slice(None)),
    (slice(None), [5, 3, 60], slice(4, 8)),
    (slice(None), slice(4, 8), [89, 0, 0, 12]),
    (slice(None), slice(5, 5), slice(None)),
    (1, slice(None, None, 2), 3),
]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_indexing_a_file_is_indexing_its_array(raster, dn, key):
    path = raster("scene.tif", dn)
    np.testing.assert_array_equal(read(path, chunks=13).data[key].compute(), dn[key])
    full = tuple(k if not isinstance(k, list) else np.array(k) for k in key)
    np.testing.assert_array_equal(source_of(path)[full], dn[key])


def test_many_threads_read_the_right_pixels(raster, dn):
    path = raster("scene.tif", dn, **LAYOUTS["deflate"])
    found = source_of(path)
    windows = [
        (slice(None), slice(row, row + 9), slice(column, column + 11))
        for row, column in itertools.product(range(0, 60, 7), range(0, 80, 9))
    ]
    with ThreadPoolExecutor(8) as pool:
        for key, values in zip(
            windows, pool.map(found.__getitem__, windows), strict=True
        ):
            np.testing.assert_array_equal(values, dn[key])


def test_a_source_travels_to_another_process(raster, dn):
    found = source_of(raster("scene.tif", dn))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(found))[:, :, :], dn)
    image = pickle.loads(pickle.dumps(read(found.file.path, chunks=40)))
    np.testing.assert_array_equal(image.values, dn)


def test_more_files_than_handles_are_read_one_after_another(raster):
    images = [
        read(raster(f"{value}.tif", np.full((1, 4, 4), value, "uint8")))
        for value in range(1, 40)
    ]
    for value, image in enumerate(images, start=1):
        assert (image.values == value).all()


def test_what_a_file_says_of_itself_is_told(raster, dn):
    path = raster("scene.tif", dn, bands=("red", "nir"), nodata=7, compress="lzw")
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(method="none")
    file = inspect(path)
    assert file.driver == "GTiff"
    assert file.shape == (2, 70, 90)
    assert file.dtype == "uint16"
    assert file.descriptions == ("red", "nir")
    assert file.nodata == (7.0, 7.0)
    assert file.tags == {"method": "none"}
    assert file.compression == "lzw"
    assert file.georeferenced


# --- damaged files
# ----------------------------------------------------------------------


def cut(path, length):
    content = path.read_bytes()[:length]
    shorter = path.with_name("cut" + path.suffix)
    shorter.write_bytes(content)
    header = path.with_suffix(".hdr")
    if header.exists():
        shutil.copy(header, shorter.with_suffix(".hdr"))
    return shorter


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_cut_off_anywhere_is_refused(raster, dn, layout):
    path = file_of(raster, layout, dn)
    length = path.stat().st_size
    points = {length * part // 24 for part in range(24)} | {length - 1}
    for point in sorted(points):
        with pytest.raises(RasterReadError):
            read(cut(path, point)).values  # noqa: B018


def test_an_envi_file_cut_off_behind_its_header_offset_is_refused(raster, dn):
    path = raster("scene.img", dn, driver="ENVI")
    header = path.with_suffix(".hdr")
    header.write_text(header.read_text().replace("offset = 0", "offset = 500"))
    content = bytes(500) + path.read_bytes()
    path.write_bytes(content)
    np.testing.assert_array_equal(read(path).values, dn)
    with pytest.raises(RasterReadError, match="cut off"):
        read(cut(path, len(content) - 400))


@pytest.mark.parametrize("layout", ["strips", "pixels", "zstd", "nodata", "jpeg2000"])
def test_flipped_bytes_end_in_pixels_or_in_a_typed_error(raster, dn, layout):
    content = file_of(raster, layout, dn[:, :40, :40]).read_bytes()
    path = raster("x.tif", dn).with_name("flipped" + LAYOUTS[layout].get("driver", ""))
    rng = random.Random(0)
    ends = {"image": 0, "error": 0}
    for _ in range(60):
        damaged = bytearray(content)
        near_the_start = rng.randrange(min(400, len(content)))
        near_the_end = len(content) - 1 - rng.randrange(min(400, len(content)))
        for place in (near_the_start, near_the_end):
            damaged[place] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            image = read(path)
            if image.size < 1e7:
                image.values  # noqa: B018
            ends["image"] += 1
        except GeofuseError:
            ends["error"] += 1
    assert ends["error"] > 0


def test_garbage_folders_and_missing_files_are_refused(tmp_path):
    garbage = tmp_path / "garbage.tif"
    garbage.write_bytes(np.random.default_rng(0).bytes(5000))
    with pytest.raises(RasterReadError, match="none or is damaged"):
        inspect(garbage)
    garbage.write_bytes(b"")
    with pytest.raises(RasterReadError, match="none or is damaged"):
        inspect(garbage)
    with pytest.raises(RasterReadError, match="found a folder"):
        inspect(tmp_path)
    with pytest.raises(RasterReadError, match=r"found nothing at .*check the path"):
        inspect(tmp_path / "missing.tif")
    os.mkfifo(tmp_path / "pipe.tif")
    with pytest.raises(RasterReadError, match="something else"):
        inspect(tmp_path / "pipe.tif")


def test_a_text_file_that_is_named_like_a_raster_is_refused(tmp_path):
    path = tmp_path / "notes.tif"
    path.write_text("not a raster")
    with pytest.raises(RasterReadError, match="convert it to GeoTIFF"):
        inspect(path)


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"\x0e\x03\x13\x01", "HDF4"),
        (b"\x89HDF\r\n\x1a\n", "HDF5 or netCDF-4"),
        (b"CDF\x02", "netCDF"),
    ],
)
def test_containers_of_many_rasters_are_refused_with_the_way_to_convert(
    tmp_path, start, name
):
    path = tmp_path / "MOD09GA.A2021121.h18v04.061.hdf"
    path.write_bytes(start + bytes(2000))
    with pytest.raises(RasterReadError, match=rf"which is {name}:.* gdal_translate"):
        inspect(path)


def tiff_entries(content):
    """Offset of each entry of the first directory of a little-endian classic TIFF."""
    (start,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, start)
    places = [start + 2 + 12 * number for number in range(count)]
    return {struct.unpack_from("<H", content, place)[0]: place for place in places}


TILE_OFFSETS, TILE_BYTES = 324, 325


def without_block(path, number):
    """The same file with the place of one tile set to zero."""
    content = bytearray(path.read_bytes())
    entries = tiff_entries(content)
    for tag in (TILE_OFFSETS, TILE_BYTES):
        kind, count, place = struct.unpack_from("<HII", content, entries[tag] + 2)
        size = {3: 2, 4: 4}[kind]
        assert count > number
        at = place + size * number
        content[at : at + size] = bytes(size)
    path.write_bytes(content)
    return path


def test_a_missing_block_is_refused_where_it_would_read_as_zeros(raster, dn):
    path = without_block(raster("scene.tif", dn, **LAYOUTS["tiles"]), 4)
    with rasterio.open(path) as dataset:  # what GDAL makes of it
        assert (dataset.read() == 0).any()
    with pytest.raises(RasterReadError, match=r"block .* missing"):
        read(path)


def test_a_missing_block_is_nodata_where_the_file_states_one(raster, dn):
    layout = LAYOUTS["tiles"]
    path = without_block(raster("scene.tif", dn, nodata=0, **layout), 0)
    values = read(path).values
    assert np.isnan(values[:, :32, :16]).all()
    np.testing.assert_array_equal(values[:, 32:], dn[:, 32:])


def tiff_of_one_tile(side, tile, data):
    """A byte TIFF of one tile of which the header may say anything."""
    values = {
        256: side,
        257: side,
        258: 8,  # bits
        259: 8,  # deflate
        262: 1,
        277: 1,
        322: tile,
        323: tile,
        324: 8,  # where the tile is
        325: len(data),
    }
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, v) for tag, v in values.items())
    directory = struct.pack("<H", len(values)) + entries + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory


def test_a_tiny_file_with_huge_blocks_is_refused_before_they_are_decoded(tmp_path):
    bomb = tmp_path / "bomb.tif"
    side = 16 * 2000  # a gigabyte in one tile
    bomb.write_bytes(tiff_of_one_tile(side, side, zlib.compress(bytes(100))))
    with pytest.raises(RasterReadError, match="blocks of at most 512 MB"):
        inspect(bomb)
    small = tmp_path / "small.tif"
    small.write_bytes(tiff_of_one_tile(10, 16, zlib.compress(bytes([7]) * 256)))
    assert (read(small).values == 7).all()


def test_a_file_with_countless_blocks_is_refused_at_once(raster, dn, monkeypatch):
    monkeypatch.setattr("geofuse.rasters.whole.MAX_BLOCKS", 20)
    with pytest.raises(RasterReadError, match="expected at most 20 blocks"):
        inspect(raster("scene.tif", dn, blockysize=1, nodata=0))


def test_a_file_with_too_many_bands_is_refused(raster, dn, monkeypatch):
    monkeypatch.setattr(source, "MAX_BANDS", 1)
    with pytest.raises(RasterReadError, match="and 1 bands, found"):
        inspect(raster("scene.tif", dn))


def test_complex_numbers_are_refused(raster):
    path = raster("slc.tif", np.ones((1, 4, 4), "complex64"))
    with pytest.raises(RasterReadError, match="squared magnitude"):
        inspect(path)


def test_a_file_that_changed_after_it_was_opened_is_not_read(raster, dn):
    path = raster("scene.tif", dn)
    image = read(path)
    np.testing.assert_array_equal(image.values, dn)
    raster("scene.tif", dn + 1)
    os.utime(path, ns=(1, 1))
    with pytest.raises(TileReadError, match="found it changed; open it again"):
        image.values  # noqa: B018
    np.testing.assert_array_equal(read(path).values, dn + 1)


def test_a_file_that_is_gone_after_it_was_opened_is_a_read_error(raster, dn):
    path = raster("scene.tif", dn)
    image = read(path)
    path.unlink()
    with pytest.raises(TileReadError, match="cannot be read"):
        image.values  # noqa: B018


def test_a_damaged_block_is_told_with_its_file_and_window(raster, dn):
    path = raster("scene.tif", dn, **LAYOUTS["zstd"])
    image = read(path, chunks=32)
    content = bytearray(path.read_bytes())
    entries = tiff_entries(content)
    place = struct.unpack_from("<I", content, entries[TILE_OFFSETS] + 8)[0]
    (first,) = struct.unpack_from("<I", content, place)
    content[first : first + 8] = bytes(8)
    changed = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(changed.st_atime_ns, changed.st_mtime_ns))
    with pytest.raises(TileReadError, match=r"rows 0 to 32 .*scene\.tif"):
        image.values  # noqa: B018
    np.testing.assert_array_equal(image[:, 32:].values, dn[:, 32:])


# --- hostile files
# ----------------------------------------------------------------------

VRT = """<VRTDataset rasterXSize="90" rasterYSize="70">
<VRTRasterBand dataType="Byte" band="1"><SimpleSource>
<SourceFilename relativeToVRT="1">secret.tif</SourceFilename><SourceBand>1</SourceBand>
</SimpleSource></VRTRasterBand></VRTDataset>"""


@pytest.mark.parametrize("name", ["scene.vrt", "scene.tif"])
def test_a_virtual_raster_is_refused_whatever_its_name(raster, dn, name):
    raster("secret.tif", dn)
    path = raster("other.tif", dn).with_name(name)
    path.write_text(VRT)
    with rasterio.open(path) as dataset:  # GDAL by itself follows it
        np.testing.assert_array_equal(dataset.read(1), dn[0].clip(max=255))
    with pytest.raises(RasterReadError, match="none or is damaged"):
        inspect(path)


def test_a_file_that_names_another_for_its_overviews_is_refused(raster, dn):
    raster("secret.tif", dn)
    path = raster("scene.tif", dn)
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(ns="OVERVIEWS", OVERVIEW_FILE="secret.tif")
    with pytest.raises(RasterReadError, match="names another file for its overviews"):
        inspect(path)


def test_files_beside_the_raster_change_nothing(raster, dn):
    path = raster("scene.tif", dn)
    folder = path.parent
    (folder / "scene.tif.aux.xml").write_text(
        "<PAMDataset><GeoTransform>0, 1, 0, 0, 0, -1</GeoTransform>"
        '<PAMRasterBand band="1"><NoDataValue>5</NoDataValue><Scale>3</Scale>'
        "</PAMRasterBand></PAMDataset>"
    )
    raster("mask.tif", np.zeros((1, 70, 90), "uint8")).rename(folder / "scene.tif.msk")
    raster("small.tif", np.ones((2, 35, 45), "uint16")).rename(folder / "scene.tif.ovr")
    (folder / "scene.tfw").write_text("1\n0\n0\n-1\n0\n0\n")
    with rasterio.open(path) as dataset:  # GDAL by itself believes them
        assert dataset.transform == Affine(1, 0, 0, 0, -1, 0)
        assert dataset.scales == (3.0, 1.0)
    file = inspect(path)
    assert file.transform.a == 30
    assert file.scales == (1.0, 1.0)
    assert file.nodata == (None, None)
    np.testing.assert_array_equal(read(path)[:, ::2, ::2].values, dn[:, ::2, ::2])


def test_files_beside_an_envi_raster_change_nothing(raster, dn):
    path = raster("scene.img", dn, driver="ENVI")
    (path.parent / "scene.img.aux.xml").write_text(
        "<PAMDataset><GeoTransform>0, 1, 0, 0, 0, -1</GeoTransform></PAMDataset>"
    )
    raster("mask.tif", np.zeros((1, 70, 90), "uint8")).rename(
        path.parent / "scene.img.msk"
    )
    assert inspect(path).transform.a == 30
    np.testing.assert_array_equal(read(path).values, dn)


@pytest.mark.parametrize(
    "name",
    [
        "/vsicurl/http://127.0.0.1:9/scene.tif",
        "http://127.0.0.1:9/scene.tif",
        "s3://bucket/scene.tif",
        "/vsizip/scene.zip/scene.tif",
        "zip+file://scene.zip!scene.tif",
        "<VRTDataset/>",
        "",
        "a\0b.tif",
        "x" * 300,
    ],
)
def test_what_is_no_local_file_is_never_opened(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(source, "_open", lambda *_: pytest.fail("opened"))
    with pytest.raises(RasterReadError, match="expected a raster file, found"):
        inspect(name)


@pytest.mark.parametrize(
    "name",
    [
        "with space.tif",
        "grün_日本.tif",
        "two\nlines.tif",
        "a#b.tif",
        "a?b=c&d.tif",
        "GTIFF_DIR:1:x.tif",
        "http:/host/x.tif",
        "s3:x.tif",
        "a!b.tif",
        "%20.tif",
        "~/x.tif",
        "'\".tif",
        "-o",
    ],
)
def test_odd_names_are_names_of_local_files(raster, dn, monkeypatch, name):
    plain = raster("plain.tif", dn)
    monkeypatch.chdir(plain.parent)
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(plain, name)
    np.testing.assert_array_equal(read(name).values, dn)
    np.testing.assert_array_equal(read(Path(name)).values, dn)


def test_a_name_that_is_no_text_is_refused(raster, dn):
    plain = raster("plain.tif", dn)
    name = os.fsencode(plain.parent) + b"/\xff.tif"
    shutil.copy(plain, name)
    with pytest.raises(RasterReadError, match="path in UTF-8"):
        read(os.fsdecode(name))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
def test_calibration_by_a_table_is_calibration_of_each_pixel(raster, dtype):
    limits = np.iinfo(dtype)
    every = np.arange(limits.min, limits.max + 1).astype(dtype).reshape(1, 16, -1)
    path = raster("every.tif", every, nodata=limits.max)
    units = (2.75e-5, -0.2, (float(limits.min), float(limits.max)))
    sensor = f"gain={units[0]},offset={units[1]},nodata={limits.min}"
    found = open_optical(path, sensor, date="2021-07-01").values
    expected = source.calibrated(every, *units)
    np.testing.assert_array_equal(found, expected)
    assert np.isnan(found).sum() == 2
