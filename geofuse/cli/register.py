"""Tell how far a coarse file lies off a fine one, to parts of a pixel.

  geofuse register landsat_0501.tif modis_0501.tif --bands red,nir \
      --fine-sensor landsat-c2l2 --coarse-sensor modis-mod09a1 --picture off.png

Both files should be of one day. The coarse one may lie in any grid and CRS. Nothing is
written but the picture.
"""

import argparse
import json
import math

from geofuse.cli.options import check_no_input, listed

HELP = "tell how far a coarse file lies off a fine one"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("fine", metavar="FINE", help="the fine file")
    parser.add_argument("coarse", metavar="COARSE", help="the coarse file of that day")
    parser.add_argument(
        "--fine-sensor",
        default="generic",
        metavar="S",
        help="name of a sensor, or gain=…,offset=…,nodata=…",
    )
    parser.add_argument(
        "--coarse-sensor", default="generic", metavar="S", help="likewise"
    )
    parser.add_argument(
        "--bands",
        metavar="red,nir,…",
        help="bands to compare, by common name; names for b1, …",
    )
    parser.add_argument(
        "--scale",
        type=int,
        metavar="N",
        help="coarse GSD / fine GSD, where it cannot be found",
    )
    parser.add_argument(
        "--reach",
        type=float,
        default=2.0,
        metavar="N",
        help="largest shift looked for, in coarse pixels (2)",
    )
    parser.add_argument("--picture", metavar="OUT.png", help="draw the local shifts")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Estimate, and print."""
    from geofuse.plots import misregistration_map, save_picture
    from geofuse.rasters.misregistration import misregistration
    from geofuse.rasters.optical import open_optical
    from geofuse.rasters.psf import estimate_psf

    pictures = [options.picture] if options.picture else []
    check_no_input(pictures, [options.fine, options.coarse])
    # A shift does not look at the day; files need not tell theirs.
    day = "1970-01-01"
    bands = listed(options.bands)
    fine = open_optical(options.fine, options.fine_sensor, date=day, bands=bands)
    coarse = open_optical(options.coarse, options.coarse_sensor, date=day, bands=bands)
    report = misregistration(fine, coarse, scale=options.scale, reach=options.reach)
    found = report.shift
    known = math.isfinite(found.dy)
    psf = None
    if known:
        psf = estimate_psf(fine, coarse, scale=found.scale, shift=(found.dy, found.dx))
    if options.picture:
        save_picture(misregistration_map(report, fine), options.picture)
    if options.json:
        facts = found._asdict() | {
            "coarse_pixels": report.coarse_pixels,
            "psf_sigma": psf.sigma if psf else math.nan,
        }
        print(json.dumps({name: _plain(value) for name, value in facts.items()}))
        return 0
    print(report.in_words())
    if psf is not None and math.isfinite(psf.sigma):
        print(
            f"point spread: a Gaussian of {psf.sigma:.2f} coarse pixels (standard "
            f"deviation) beyond the mean over a pixel, give or take {psf.std:.2f}"
        )
    return 0


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
