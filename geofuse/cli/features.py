r"""Describe each pixel by hand-made features: indices, texture, profiles.

  geofuse features S2.tif --sensor sentinel2-l2a -o features.tif --preview features.png
  geofuse features s2=S2.tif s1=S1.tif dem=DEM.tif --sensor s2=sentinel2-l2a \
      --bands s1=vv,vh --unit s1=dB --indices ndvi,ndwi,rvi \
      --texture s1:window=7,features=contrast+entropy --profile radii=2+4+8 -o OUT.tif

Files of other grids are put on the grid of the first one. Without any of --indices,
--texture, --profile, --local and --keep-bands: the usual indices that the bands allow,
texture, and a morphological profile. A run that was stopped continues when the same
command is given again.
"""

import argparse
import os
import re
import sys
from typing import Any

from geofuse.cli.modality_files import (
    ONLY,
    add_modality_arguments,
    is_named,
    modality_files,
    open_modalities,
)
from geofuse.cli.options import (
    add_tile_arguments,
    check_no_input,
    check_running,
    listed,
)

HELP = "describe pixels by indices, texture and profiles"

#: Indices that are computed unasked, where the bands are there.
USUAL = (
    "ndvi", "evi", "savi", "ndmi", "ndwi", "mndwi", "ndbi", "nbr", "ndsi", "rvi",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "files",
        nargs="+",
        metavar="[NAME=]FILE",
        help="one file a modality; names are needed where there are several",
    )
    parser.add_argument(
        "-o", "--out", required=True, metavar="OUT.tif", help="the product (COG)"
    )
    add_modality_arguments(parser)
    each: dict[str, Any] = {"action": "append", "default": []}
    parser.add_argument(
        "--indices", metavar="ndvi,…", help="names of indices, or 'name = formula'"
    )
    how = "field=value,…; values of a list with +; NAME: in front for one modality"
    parser.add_argument(
        "--texture", **each, metavar="[NAME:]window=9,…", help=f"GLCM; {how}"
    )
    parser.add_argument(
        "--profile",
        **each,
        metavar="[NAME:]radii=2+4+8",
        help="morphological profile, or attribute=area,thresholds=25+100; likewise",
    )
    parser.add_argument(
        "--local",
        **each,
        metavar="[NAME:]KIND,…",
        help="statistics, gradient, structure or gabor; likewise",
    )
    parser.add_argument(
        "--keep-bands", action="store_true", help="also the bands as they are"
    )
    parser.add_argument(
        "--components",
        type=int,
        default=2,
        metavar="N",
        help="principal components that stand for many bands (2)",
    )
    parser.add_argument("--preview", metavar="FILE.png", help="also draw a picture")
    add_tile_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Compute the features, and write them."""
    import geofuse
    from geofuse.cli.progress import progress_bar
    from geofuse.plots import save_picture
    from geofuse.rasters.write import write_cog

    check_running(options)
    files = _files(options)
    images = open_modalities(files, options)
    stack = _stack(options, images)
    given = next(iter(images.values())) if list(images) == [ONLY] else images
    features = stack.extract(given, tile=options.tile).rename(feature="band")
    if sys.stderr.isatty():
        count, height, width = features.shape
        print(f"{count} features of {width} x {height} pixels", file=sys.stderr)
    tags = {
        "geofuse_version": geofuse.__version__,
        "extractor": repr(stack),
        "inputs": "; ".join(f"{n}: {os.path.basename(p)}" for n, p in files.items()),
    }
    with progress_bar("features") as progress:
        write_cog(
            features, options.out, tags=tags, workers=options.workers, progress=progress
        )
    if options.preview:
        save_picture(_preview(options.out, features), options.preview)
    print(options.out)
    return 0


def _files(options: argparse.Namespace) -> dict[str, str]:
    """Files by the name of their modality, none of which is written over."""
    if len(options.files) == 1 and not is_named(options.files[0]):
        files = {ONLY: options.files[0]}
    else:
        files = modality_files(options.files)
    written = [path for path in (options.out, options.preview) if path]
    check_no_input(written, files.values())
    return files


def _stack(options: argparse.Namespace, images: dict[str, Any]) -> Any:
    from geofuse.features.indices import can_compute
    from geofuse.features.stack import FeatureStack
    from geofuse.features.texture import GLCM

    asked = any((options.texture, options.profile, options.local, options.keep_bands))
    names: tuple[str, ...] = ()
    if options.indices is not None:
        names = tuple(listed(options.indices) or ())
    elif not asked:
        some = images.values()
        names = tuple(n for n in USUAL if any(can_compute(n, image) for image in some))
    default = [] if asked or options.indices is not None else [""]
    return FeatureStack(
        indices=names,
        texture=tuple(_entry(GLCM, t, images) for t in options.texture or default),
        profiles=tuple(_profile(t, images) for t in options.profile or default),
        local=tuple(_local(text, images) for text in options.local),
        bands=options.keep_bands,
        components=options.components,
    )


def _profile(text: str, images: dict[str, Any]) -> Any:
    from geofuse.features.morphology import AttributeProfile, MorphologicalProfile

    kind = MorphologicalProfile
    if re.search(r"(^|[:,])(attribute|thresholds|self_dual)=", text):
        return _entry(AttributeProfile, text, images)
    return _entry(kind, text, images)


def _local(text: str, images: dict[str, Any]) -> Any:
    from geofuse.errors import UnknownNameError, did_you_mean
    from geofuse.features import local

    kinds = {
        "statistics": local.LocalStatistics,
        "gradient": local.Gradient,
        "structure": local.StructureTensor,
        "gabor": local.Gabor,
    }
    name, colon, rest = text.partition(":")
    kind, _, fields = (rest if colon else text).partition(",")
    if kind not in kinds:
        raise UnknownNameError(
            f"expected a local feature, found {kind!r}; {did_you_mean(kind, kinds)}"
        )
    return _entry(kinds[kind], f"{name}:{fields}" if colon else fields, images)


def _entry(kind: Any, text: str, images: dict[str, Any]) -> Any:
    """An extractor from `[NAME:]field=value,…`, on its modality where one is named."""
    import dataclasses

    from geofuse.errors import ParameterError, UnknownNameError, did_you_mean
    from geofuse.features.modalities import On

    match = re.fullmatch(r"(?:(\w+):)?(.*)", text)
    assert match is not None
    modality, fields = match.groups()
    if modality is not None and modality not in images:
        raise UnknownNameError(
            f"expected a modality out of {', '.join(images)}, found {modality!r}; "
            f"{did_you_mean(modality, images)}"
        )
    known = {field.name for field in dataclasses.fields(kind)}
    values = {}
    for setting in filter(None, fields.split(",")):
        field, equals, value = setting.partition("=")
        if not equals:
            raise ParameterError(
                f"expected field=value for {kind.__name__}, found {setting!r}; several "
                "values of a list with +, for example radii=2+4+8"
            )
        if field not in known:
            raise UnknownNameError(
                f"expected a field of {kind.__name__}, found {field!r}; "
                f"{did_you_mean(field, known)}"
            )
        values[field] = _value(value, listed=field in _LISTS)
    return kind(**values) if modality is None else On(modality, kind(**values))


#: Fields of extractors that hold several values.
_LISTS = {
    "bands", "features", "operators", "percentiles", "radii", "statistics",
    "thresholds", "value_range", "wavelengths",
}  # fmt: skip


def _value(text: str, *, listed: bool = False) -> Any:
    if listed or "+" in text:
        return tuple(_value(part) for part in text.split("+"))
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)


def _preview(path: str, features: Any) -> Any:
    """A picture of the product, read back from it."""
    from geofuse.plots import feature_panel
    from geofuse.rasters.optical import open_optical

    names = [str(name) for name in features["band"].values]
    image = open_optical(path, date="1970-01-01", bands=names)
    return feature_panel(image.rename(band="feature"))
