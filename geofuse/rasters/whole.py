"""Whether a raster file is all there.

GDAL reads what is missing from a file as zeros, or fails only when it comes to that
place, hours later. So it is looked for when a file is opened, without reading a pixel:

    GeoTIFF     every block has a place, and ends before the file does
    ENVI        the file is as long as its header says
    JPEG 2000   the codestream ends with its end marker
"""

import math
import os
from typing import Any, BinaryIO

import numpy as np

from geofuse.errors import RasterReadError

#: Looking at a block takes two microseconds, so this bounds the time of opening a file.
MAX_BLOCKS = 2**22


def check_whole(dataset: Any, path: str) -> None:
    """Refuse a file of which a part is missing.

    Args:
        dataset: The file, open in rasterio.
        path: Its path.

    Raises:
        RasterReadError: A block is missing where no nodata is stated, the file is cut
            off, or it has too many blocks to tell.
    """
    if dataset.driver == "ENVI":
        header = int(dataset.tags(ns="ENVI").get("header_offset", 0))
        pixel = sum(np.dtype(dtype).itemsize for dtype in dataset.dtypes)
        _check_length(path, header + dataset.width * dataset.height * pixel)
    elif dataset.driver == "GTiff":
        _check_tiff(dataset, path)
    else:
        _check_jpeg2000(path)


def _check_tiff(dataset: Any, path: str) -> None:
    length = os.path.getsize(path)
    rows, columns = dataset.block_shapes[0]
    across, down = math.ceil(dataset.width / columns), math.ceil(dataset.height / rows)
    interleaving = dataset.interleaving
    one_plane = interleaving is not None and interleaving.name == "pixel"
    bands = (1,) if one_plane else dataset.indexes
    if across * down * len(bands) > MAX_BLOCKS:
        raise RasterReadError(
            f"expected at most {MAX_BLOCKS} blocks, found {across * down * len(bands)} "
            f"in {path}; write it with larger ones: gdal_translate -co TILED=YES"
        )
    for band in bands:
        filled = dataset.nodatavals[band - 1] is not None
        for row in range(down):
            for column in range(across):
                place = f"{column}_{row}"
                start = dataset.get_tag_item(f"BLOCK_OFFSET_{place}", "TIFF", bidx=band)
                size = dataset.get_tag_item(f"BLOCK_SIZE_{place}", "TIFF", bidx=band)
                if start and size:
                    if int(start) + int(size) > length:
                        _check_length(path, int(start) + int(size))
                elif (
                    not filled
                ):  # else a sparse file: GDAL fills with the stated nodata
                    raise RasterReadError(
                        f"expected every block of {path}, found block {place} of band "
                        f"{band} missing, which would read as zeros; fetch the file "
                        "again, or state its nodata"
                    )


def _check_jpeg2000(path: str) -> None:
    length = os.path.getsize(path)
    with open(path, "rb") as file:
        end = _codestream_end(file, length)
        if end is not None:
            _check_length(path, end)
            file.seek(end - 2)
        # The end marker EOC of ISO/IEC 15444-1, A.4.4.
        if end is None or file.read(2) != b"\xff\xd9":
            raise RasterReadError(
                f"expected a JPEG 2000 codestream with its end, found none in {path}, "
                f"which has {length} bytes; fetch it again"
            )


def _codestream_end(file: BinaryIO, length: int) -> int | None:
    """Where the codestream ends in a file; None where there is none."""
    if file.read(2) == b"\xff\x4f":  # no boxes around it
        return length
    start = 0
    while start + 8 <= length:
        file.seek(start)
        size, kind = int.from_bytes(file.read(4), "big"), file.read(4)
        if size == 1:
            size = int.from_bytes(file.read(8), "big")
        elif size == 0:
            size = length - start
        if size < 8:
            return None
        if kind == b"jp2c":
            return start + size
        start += size
    return None


def _check_length(path: str, expected: int) -> None:
    found = os.path.getsize(path)
    if found < expected:
        raise RasterReadError(
            f"expected a whole file, found {path} cut off at {found} bytes of at least "
            f"{expected}; fetch it again"
        )
