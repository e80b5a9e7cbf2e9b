"""Tell what a raster file is: size, grid, bands, types, nodata, how it is stored."""

import argparse
import json
from typing import Any

HELP = "tell what a raster file is"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("file", metavar="FILE", help="a raster file")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Print the facts."""
    facts = facts_of(options.file)
    if options.json:
        print(json.dumps(facts))
        return 0
    for name, value in facts.items():
        if isinstance(value, dict):
            for key, entry in value.items():
                print(f"{name:<12} {key} = {entry}")
        elif value not in (None, [], ""):
            text = ", ".join(map(str, value)) if isinstance(value, list) else value
            print(f"{name:<12} {text}")
    return 0


def facts_of(path: str) -> dict[str, Any]:
    """What a file says about itself, as plain values."""
    from odc.geo.geobox import GeoBox

    from geofuse.rasters.grid import crs_name
    from geofuse.rasters.source import inspect

    file = inspect(path)
    grid = GeoBox(file.shape[1:], file.transform, file.crs_wkt)
    box = grid.boundingbox
    return {
        "file": file.path,
        "driver": file.driver,
        "bands": file.shape[0],
        "height": file.shape[1],
        "width": file.shape[2],
        "dtype": file.dtype,
        "crs": crs_name(grid),
        "pixel": [abs(file.transform.a), abs(file.transform.e)],
        "bounds": [box.left, box.bottom, box.right, box.top],
        "names": [name or f"b{i}" for i, name in enumerate(file.descriptions, start=1)],
        "nodata": sorted({str(number) for number in file.nodata if number is not None}),
        "gain": sorted(set(file.scales)),
        "offset": sorted(set(file.offsets)),
        "block": list(file.block),
        "compression": file.compression,
        "tags": file.tags,
    }
