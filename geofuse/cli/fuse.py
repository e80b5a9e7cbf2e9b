r"""Predict the fine image of another date from files.

  geofuse fuse starfm --pair LANDSAT.tif MODIS.tif 2021-05-01 \
      --at MODIS2.tif 2021-07-01 --fine-sensor landsat-c2l2 \
      --coarse-sensor modis-mod09a1 -o fused.tif

The coarse files may lie in any grid and CRS; they are put on the grid of the fine file.
A run that was stopped continues when the same command is given again.
"""

import argparse
import os
import sys
from typing import Any

from geofuse.cli.masks import (
    add_mask_arguments,
    check_mask_dates,
    mask_files,
    mask_of,
)
from geofuse.cli.options import (
    add_set_argument,
    add_tile_arguments,
    check_no_input,
    check_running,
    listed,
)

HELP = "predict the fine image of another date"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "method", metavar="METHOD", help="see geofuse methods; or a model's folder"
    )
    parser.add_argument(
        "--pair",
        nargs=3,
        action="append",
        required=True,
        metavar=("FINE", "COARSE", "DATE"),
        help="fine and coarse file of a base date; may be given several times",
    )
    parser.add_argument(
        "--at",
        nargs=2,
        required=True,
        metavar=("COARSE", "DATE"),
        help="coarse file of the prediction date",
    )
    parser.add_argument(
        "-o", "--out", required=True, metavar="OUT.tif", help="the product (COG)"
    )
    add_reading_arguments(parser)
    add_running_arguments(parser)
    parser.add_argument(
        "--classes",
        metavar="MAP.tif",
        help="class map, labels 1, 2, …, for fsdaf and unmixing instead of their own",
    )
    parser.add_argument(
        "--uncertainty",
        metavar="FILE",
        help="also write the standard deviation of each band",
    )
    parser.add_argument(
        "--bounds",
        type=float,
        metavar="LEVEL",
        help="write into that file lower and upper bounds too, of an interval that is to "
        "hold LEVEL of the truth, such as 0.9",
    )
    parser.add_argument(
        "--quality",
        metavar="FILE",
        help="also write which pair, how many similar pixels, filled or not",
    )


def add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how files are read: sensors, bands, part, scale."""
    parser.add_argument(
        "--fine-sensor",
        default="generic",
        metavar="S",
        help="name of a sensor, or gain=…,offset=…,nodata=…",
    )
    parser.add_argument(
        "--coarse-sensor", default="generic", metavar="S", help="likewise"
    )
    add_mask_arguments(parser)
    parser.add_argument(
        "--scale",
        type=int,
        metavar="N",
        help="coarse GSD / fine GSD, where it cannot be found",
    )
    parser.add_argument(
        "--harmonize",
        action="store_true",
        help="put the coarse images on a line to the fine ones, fitted on the pairs",
    )
    parser.add_argument(
        "--bands",
        metavar="red,nir,…",
        help="bands wanted, by common name; names for b1, …",
    )
    parser.add_argument(
        "--gsd",
        type=float,
        metavar="M",
        help="GSD in meters where bands of a fine product's folder have several",
    )
    parser.add_argument(
        "--bbox",
        nargs=4,
        type=float,
        metavar=("LEFT", "BOTTOM", "RIGHT", "TOP"),
        help="part of the fine image to predict",
    )
    parser.add_argument(
        "--bbox-crs", metavar="CRS", help="CRS of --bbox, for example EPSG:4326"
    )


def add_running_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how a method runs: its fields, tiles, threads."""
    add_set_argument(parser)
    add_tile_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Fuse, and write the product."""
    import geofuse
    from geofuse.cli.methods import method_or_model
    from geofuse.cli.progress import progress_bar
    from geofuse.errors import ParameterError
    from geofuse.rasters.write import write_cogs
    from geofuse.spatiotemporal.estimate import estimate
    from geofuse.uncertainty.intervals import check_level

    check_running(options)
    method = method_or_model(options.method, options.set)
    if options.uncertainty and not method.states_uncertainty:
        raise ParameterError(
            f"expected a method that states its uncertainty, found {options.method}; "
            "leave out --uncertainty, or choose another method"
        )
    if options.bounds is not None:
        check_level(options.bounds)
        if not options.uncertainty:
            raise ParameterError(
                f"expected --uncertainty FILE with --bounds {options.bounds:g}, found no "
                "such file; the bounds are bands of it"
            )
    _check_outputs(options)
    inputs = open_inputs(options)
    method.check(inputs)
    warn_of_training(options.method, inputs)
    outputs = {"reflectance": True, "aleatoric": options.uncertainty}
    outputs |= {"epistemic": options.uncertainty}
    outputs |= dict.fromkeys(("lower", "upper"), options.bounds is not None)
    outputs |= dict.fromkeys(("pair", "similar", "filled"), options.quality)
    wanted = [name for name, asked in outputs.items() if asked]
    level = {} if options.bounds is None else {"level": options.bounds}
    product = method.predict(inputs, tile=options.tile, outputs=wanted, **level)
    if sys.stderr.isatty():
        print(estimate(method, inputs, product, options.workers), file=sys.stderr)
    tags = {
        "geofuse_version": geofuse.__version__,
        "method": repr(method),
        "base_dates": product.attrs["base_dates"],
        "prediction_date": product.attrs["prediction_date"],
        "inputs": _inputs_in_words(options),
    }
    if options.harmonize:
        tags["harmonized"] = inputs.coarse.attrs["harmonized"]
    with progress_bar(f"{options.method} {inputs.date}") as progress:
        write_cogs(
            products(product, options.out, options.uncertainty, options.quality),
            tags=tags,
            workers=options.workers,
            progress=progress,
        )
    print(options.out)
    return 0


def open_inputs(options: argparse.Namespace) -> Any:
    """Open the files of the command and put them on the earliest fine file's grid."""
    from geofuse.pairing import harmonized
    from geofuse.pairs import FusionInputs, Pair
    from geofuse.rasters.align import align
    from geofuse.rasters.calibration import warn_of_scales
    from geofuse.rasters.optical import open_optical, parse_date

    dates = [date for *_, date in (*options.pair, options.at)]
    for date in dates:
        parse_date(date)
    check_mask_dates(options)
    check_scale(options.scale)
    bands = listed(options.bands)

    def opened(side: str, path: str, date: str, **part: Any) -> Any:
        sensor = getattr(options, f"{side}_sensor")
        mask = mask_of(options, side, sensor, date)
        return open_optical(path, sensor, date=date, bands=bands, quality=mask, **part)

    first = None
    pairs: list[Pair] = []
    # By date: the order on the command line changes nothing.
    for fine_path, coarse_path, date in sorted(
        options.pair, key=lambda pair: (parse_date(pair[2]), pair)
    ):
        if first is None:
            fine = first = opened(
                "fine",
                fine_path,
                date,
                bbox=options.bbox,
                bbox_crs=options.bbox_crs,
                gsd=options.gsd,
            )
        else:
            # Scenes of one path and row share their pixels but not always their extent.
            fine = align(opened("fine", fine_path, date, gsd=options.gsd), like=first)
        coarse = opened("coarse", coarse_path, date)
        if not pairs:
            warn_of_scales(fine, coarse)
        pairs.append(Pair(fine, on_fine_grid(coarse, first, options.scale)))
    coarse = opened("coarse", *options.at)
    classes = None
    if options.classes and first is not None:
        classes = open_optical(options.classes, date=options.at[1])
        classes = align(classes, like=first, resampling="nearest").isel(
            band=0, drop=True
        )
    inputs = FusionInputs(
        pairs, on_fine_grid(coarse, first, options.scale), classes=classes
    )
    return harmonized(inputs) if options.harmonize else inputs


def warn_of_training(method: str, inputs: Any) -> None:
    """Warn where a model was not trained on what it is to predict."""
    from geofuse.training.checkpoint import read_card
    from geofuse.training.model_folder import is_model

    if is_model(method):
        read_card(method).warn_of_scale(inputs.scale)


def check_scale(scale: int | None) -> None:
    """Refuse a scale that is none."""
    from geofuse.errors import ParameterError

    if scale is not None and scale < 2:
        raise ParameterError(
            f"expected --scale = coarse GSD / fine GSD, a whole number above 1, found "
            f"{scale}; MODIS on Landsat is 16"
        )


def on_fine_grid(coarse: Any, fine: Any, scale: int | None) -> Any:
    """A coarse image on the fine grid, with the scale found where it can be."""
    from geofuse.rasters.align import (
        align,
        find_replication,
        on_one_lattice,
        scale_between,
    )
    from geofuse.rasters.grid import grid_of

    source, target = grid_of(coarse), grid_of(fine)
    if on_one_lattice(source, target):
        found = find_replication(coarse)
        if found is None or scale not in (None, found.scale):
            return align(coarse, like=fine, scale=scale)
        aligned = align(coarse, like=fine)
        column, row = ~source.affine * (target.affine.c, target.affine.f)
        offset = (found.offset[0] - round(row), found.offset[1] - round(column))
        aligned.attrs["scale"] = found.scale
        aligned.attrs["coarse_offset"] = tuple(start % found.scale for start in offset)
        return aligned
    if scale is None and (source.crs is None) == (target.crs is None):
        scale = scale_between(coarse, fine)
    return align(coarse, like=fine, scale=scale)


def products(
    product: Any, out: str, uncertainty: str | None, quality: str | None
) -> Any:
    """The images to write, by path."""
    import numpy as np
    import xarray as xr

    images = {out: product["reflectance"]}
    if uncertainty:
        total = np.sqrt(product["aleatoric"] + product["epistemic"])
        names = [f"{band}_std" for band in product["band"].values]
        total.attrs = {"long_name": "standard deviation, aleatoric and epistemic"}
        images[uncertainty] = total.assign_coords(band=names)
        bounds = [product[name] for name in ("lower", "upper") if name in product]
        if bounds:
            images[uncertainty] = _with_bounds(images[uncertainty], bounds)
    if quality:
        names = ["pair", "similar", "filled"]
        layers = [product[name] for name in names]
        images[quality] = xr.concat(
            layers, dim="band", coords="minimal", compat="override"
        )
        images[quality] = images[quality].assign_coords(band=names)
        images[quality].attrs = {
            "long_name": "pair: number of the pair with the most weight, by date, 0 "
            "for none; similar: similar pixels, least over the bands; filled: 1 where "
            "a pair was invalid and others stood in"
        }
    return images


def _with_bounds(total: Any, bounds: list[Any]) -> Any:
    """The standard deviations, and bounds of each band, as one image."""
    import xarray as xr

    from geofuse.uncertainty.intervals import in_percent

    named = [
        bound.assign_coords(
            band=[f"{band}_{bound.name}" for band in bound["band"].values]
        )
        for bound in bounds
    ]
    image = xr.concat([total, *named], dim="band", coords="minimal", compat="override")
    level = in_percent(bounds[0].attrs["level"])
    image.attrs = {
        "long_name": f"std: standard deviation, aleatoric and epistemic; lower, upper: "
        f"bounds of an interval that is to hold {level} % of the truth"
    }
    return image


def _check_outputs(options: argparse.Namespace) -> None:
    """Refuse to write over an input, or two products into one file."""
    from geofuse.errors import ParameterError

    written = [p for p in (options.out, options.uncertainty, options.quality) if p]
    read = [path for *paths, _ in (*options.pair, options.at) for path in paths]
    read += [*mask_files(options), *([options.classes] if options.classes else [])]
    check_no_input(written, read)
    if len({os.path.realpath(path) for path in written}) < len(written):
        raise ParameterError(
            f"expected each output in a file of its own, found {', '.join(written)}; "
            "choose other names"
        )


def _inputs_in_words(options: argparse.Namespace) -> str:
    base = os.path.basename
    pairs = [f"{date}: {base(f)} {base(c)}" for f, c, date in options.pair]
    words = [*sorted(pairs), f"{options.at[1]}: {base(options.at[0])}"]
    if options.classes:
        words.append(f"classes: {base(options.classes)}")
    return "; ".join(words)
