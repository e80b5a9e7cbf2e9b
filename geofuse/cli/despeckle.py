"""Take the speckle out of a radar image.

  geofuse despeckle S1_RTC.tif -o smooth.tif --filter refined-lee --unit db

The image is opened as linear power, filtered in power, and written as power, or as dB
with --db. Looks are estimated from the image unless they are given.
"""

import argparse
from typing import Any

from geofuse.cli.options import (
    add_tile_arguments,
    check_no_input,
    check_running,
    listed,
)

HELP = "take the speckle out of a radar image"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("file", metavar="IN", help="a GeoTIFF, or a SAFE folder (GRD)")
    parser.add_argument(
        "-o", "--out", required=True, metavar="OUT.tif", help="the product (COG)"
    )
    parser.add_argument(
        "--filter",
        default="refined-lee",
        metavar="NAME",
        help="boxcar, lee, kuan, refined-lee (default), frost, gamma-map",
    )
    parser.add_argument(
        "--window", type=int, default=7, metavar="N", help="side of the window, odd (7)"
    )
    parser.add_argument(
        "--looks", type=float, metavar="L", help="number of looks; estimated by default"
    )
    parser.add_argument(
        "--damping", type=float, default=2.0, metavar="K", help="of frost (2)"
    )
    parser.add_argument(
        "--unit",
        metavar="U",
        help="what the file holds: power, amplitude or db; by default as it states",
    )
    parser.add_argument(
        "--quantity", metavar="Q", help="sigma0, gamma0 or beta0, to be recorded"
    )
    parser.add_argument(
        "--polarizations",
        metavar="vv,vh",
        help="those wanted; of a file without names, all in its order",
    )
    parser.add_argument("--date", metavar="DATE", help="day of the image, ISO")
    parser.add_argument(
        "--bbox",
        nargs=4,
        type=float,
        metavar=("LEFT", "BOTTOM", "RIGHT", "TOP"),
        help="part of the image",
    )
    parser.add_argument(
        "--bbox-crs", metavar="CRS", help="CRS of --bbox, for example EPSG:4326"
    )
    parser.add_argument(
        "--terrain-correction",
        default="required",
        metavar="required|none",
        help="none places a GRD product by its ground control points",
    )
    parser.add_argument("--db", action="store_true", help="write dB")
    add_tile_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Filter, and write the product."""
    import geofuse
    from geofuse.cli.progress import progress_bar
    from geofuse.rasters.backscatter import to_db
    from geofuse.rasters.speckle.filters import despeckle
    from geofuse.rasters.write import write_cog

    check_running(options)
    check_no_input([options.out], [options.file])
    smooth = despeckle(
        open_image(options),
        options.filter,
        window=options.window,
        looks=options.looks,
        damping=options.damping,
        tile=options.tile,
    )
    product = to_db(smooth) if options.db else smooth
    tags = {"geofuse_version": geofuse.__version__}
    with progress_bar(f"despeckle {options.filter}") as progress:
        write_cog(
            product, options.out, tags=tags, workers=options.workers, progress=progress
        )
    print(options.out)
    return 0


def open_image(options: argparse.Namespace) -> Any:
    """The image of the command; without a time where nobody states its day."""
    from geofuse.rasters.grd import is_safe
    from geofuse.rasters.radar_file import stated_day
    from geofuse.rasters.sar import open_sar
    from geofuse.rasters.source import inspect

    timeless = (
        options.date is None
        and not is_safe(options.file)
        and stated_day(inspect(options.file)) is None
    )
    image = open_sar(
        options.file,
        # A filter does not look at the day.
        date="1970-01-01" if timeless else options.date,
        polarizations=listed(options.polarizations),
        unit=options.unit,
        quantity=options.quantity,
        bbox=options.bbox,
        bbox_crs=options.bbox_crs,
        terrain_correction=options.terrain_correction,
    )
    return image.drop_vars("time") if timeless else image
