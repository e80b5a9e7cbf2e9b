r"""Map the classes of a scene with a model of `geofuse train landcover`.

  geofuse classify crops --modality s2=S2.tif --modality s1=S1.tif -o map.tif
  geofuse classify crops --modality s1=S1.tif -o map.tif --probability p.tif \
      --uncertainty u.tif --weights w.tif
  geofuse classify crops --scenes scenes.csv

A modality that is missing is left out; one that the model does not know is an error. The
table of several scenes has a column for each modality, and one `map` for the products. A
run that was stopped continues when the same command is given again.
"""

import argparse
import os
from pathlib import Path
from typing import Any

from geofuse.cli.options import add_tile_arguments, check_no_input, check_running
from geofuse.cli.scene_files import SceneFiles, add_scene_arguments, scenes_of

HELP = "map classes with a trained model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", metavar="MODEL", help="the folder of a model")
    add_scene_arguments(parser, "map")
    parser.add_argument("-o", "--out", metavar="MAP.tif", help="the map (COG)")
    parser.add_argument(
        "--probability", metavar="FILE.tif", help="also the probability of each class"
    )
    parser.add_argument(
        "--uncertainty",
        metavar="FILE.tif",
        help="also the aleatoric and the epistemic entropy, in nats",
    )
    parser.add_argument(
        "--weights",
        metavar="FILE.tif",
        help="also the weight of each modality in the decision",
    )
    parser.add_argument(
        "--smooth",
        type=int,
        metavar="N",
        help="the most common class in windows of N pixels instead of each pixel's own",
    )
    add_tile_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Map all scenes, one after another."""
    from geofuse.errors import ParameterError
    from geofuse.landcover.classifier import LandCoverClassifier
    from geofuse.saved import load

    check_running(options)
    classifier = load(options.model)
    if not isinstance(classifier, LandCoverClassifier):
        raise ParameterError(
            f"expected a model that maps classes, found {type(classifier).__name__} in "
            f"{options.model}; use it with geofuse fuse"
        )
    scenes = scenes_of(options, "map", options.out, "--out")
    others = [options.probability, options.uncertainty, options.weights]
    beside = [path for path in others if path]
    if len(scenes) > 1 and beside:
        raise ParameterError(
            f"expected one scene with {', '.join(beside)}, found {len(scenes)}; map the "
            "scenes one by one to get more than the map"
        )
    written = [*beside, *(scene.other for scene in scenes)]
    check_no_input(written, [p for scene in scenes for p in scene.images.values()])
    if len({os.path.realpath(path) for path in written}) < len(written):
        raise ParameterError(
            f"expected each output in a file of its own, found {', '.join(written)}; "
            "choose other names"
        )
    for scene in scenes:
        _map(classifier, scene, options)
        print(scene.other)
    return 0


def _map(classifier: Any, scene: SceneFiles, options: argparse.Namespace) -> None:
    """Map one scene, and write what is asked for."""
    import geofuse
    from geofuse.cli.modality_files import open_modalities
    from geofuse.cli.progress import progress_bar
    from geofuse.landcover.smoothing import smoothed
    from geofuse.rasters.map_file import map_image, write_names
    from geofuse.rasters.write import write_cogs

    images = open_modalities(scene.images, options)
    asked = {
        "land_cover": True,
        "probability": options.probability,
        "aleatoric": options.uncertainty,
        "epistemic": options.uncertainty,
        "weight": options.weights,
    }
    wanted = [name for name, value in asked.items() if value]
    product = classifier.predict(images, tile=options.tile, outputs=wanted)
    land_cover = product["land_cover"]
    if options.smooth is not None:
        land_cover = smoothed(land_cover, window=options.smooth)
    products: dict[str | os.PathLike[str], Any] = {
        scene.other: map_image(land_cover, classifier.classes)
    }
    if options.probability:
        products[options.probability] = product["probability"].rename({"class": "band"})
    if options.uncertainty:
        products[options.uncertainty] = _together(product, ("aleatoric", "epistemic"))
    if options.weights:
        products[options.weights] = product["weight"].rename(modality="band")
    tags = {
        "geofuse_version": geofuse.__version__,
        "method": repr(classifier),
        "inputs": "; ".join(
            f"{n}: {os.path.basename(p)}" for n, p in scene.images.items()
        ),
    }
    missing = [m.name for m in classifier.modalities if m.name not in images]
    if missing:
        tags["missing"] = ", ".join(missing)
    with progress_bar(os.path.basename(scene.other)) as progress:
        write_cogs(products, tags=tags, workers=options.workers, progress=progress)
    write_names(classifier.classes, Path(scene.other))


def _together(product: Any, names: tuple[str, ...]) -> Any:
    """Variables as bands of one image."""
    import xarray as xr

    image = xr.concat(
        [product[name] for name in names],
        dim="band",
        coords="minimal",
        compat="override",
    )
    image.attrs = {"long_name": "parts of the entropy of the class, nats"}
    return image.assign_coords(band=list(names))
