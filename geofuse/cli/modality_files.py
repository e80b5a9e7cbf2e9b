"""Files by modality on the command line: NAME=FILE, and how each is read."""

import argparse
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from geofuse.cli.options import listed

#: Name of the only modality, where a file is given without one.
ONLY = "image"


def add_modality_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how the file of each modality is read."""
    each: dict[str, Any] = {"action": "append", "default": []}
    parser.add_argument(
        "--sensor", **each, metavar="[NAME=]S", help="see geofuse fuse --fine-sensor"
    )
    parser.add_argument(
        "--bands", **each, metavar="[NAME=]red,nir,…", help="bands, by common name"
    )
    parser.add_argument(
        "--unit", **each, metavar="[NAME=]dB", help="of SAR: dB, or 1 for linear power"
    )


def is_named(text: str) -> bool:
    """Whether a word is NAME=FILE, and not the name of a file."""
    return bool(re.match(r"[A-Za-z][\w-]*=.", text)) and not os.path.exists(text)


def modality_files(texts: Iterable[str]) -> dict[str, str]:
    """Files by the name of their modality, from NAME=FILE.

    Raises:
        ParameterError: One is not NAME=FILE, or a name comes twice.
    """
    from geofuse.errors import ParameterError

    words = list(texts)
    pairs = [text.split("=", 1) for text in words]
    files = {pair[0]: pair[-1] for pair in pairs}
    if len(files) < len(pairs) or not all(is_named(text) for text in words):
        raise ParameterError(
            f"expected NAME=FILE, each name once, found {', '.join(words)}; for example "
            f"s2={pairs[0][-1] if pairs else 'S2.tif'}"
        )
    return files


def open_modalities(
    files: Mapping[str, str], options: argparse.Namespace
) -> dict[str, Any]:
    """Images by modality, on the grid of the first one, without a date.

    Args:
        files: Files by modality.
        options: With what `add_modality_arguments` declares.

    Raises:
        UnknownNameError: An option names a modality that is not there.
        GeofuseError: As `geofuse.open_optical` and `geofuse.align`.
    """
    from geofuse.rasters.align import align
    from geofuse.rasters.optical import open_optical
    from geofuse.rasters.sensors import sensor_of
    from geofuse.rasters.source import inspect

    sensors = by_name(options.sensor, files, "--sensor")
    bands = by_name(options.bands, files, "--bands")
    units = by_name(options.unit, files, "--unit")
    images: dict[str, Any] = {}
    for name, path in files.items():
        sensor, chosen = sensors.get(name, "generic"), listed(bands.get(name))
        if chosen is None and not sensor_of(sensor).bands:
            described = [str(text or "") for text in inspect(path).descriptions]
            if all(described) and len(set(described)) == len(described):
                chosen = described
        # The date has no meaning here, and is dropped.
        image = open_optical(path, sensor, date="1970-01-01", bands=chosen)
        image = image.drop_vars("time")
        if name in units:
            image = image.assign_attrs(units=units[name])
        first = next(iter(images.values()), None)
        images[name] = image if first is None else align(image, like=first)
    return images


def by_name(texts: Iterable[str], names: Iterable[str], option: str) -> dict[str, str]:
    """Values of an option by modality: NAME=value, or one value for the only modality.

    Raises:
        UnknownNameError: There is no modality of that name.
    """
    from geofuse.errors import UnknownNameError, did_you_mean

    known = list(names)
    values = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if equals and name in known:
            values[name] = value
        elif len(known) == 1:
            values[known[0]] = text
        else:
            raise UnknownNameError(
                f"expected {option} NAME=value with NAME out of {', '.join(known)}, "
                f"found {text!r}; {did_you_mean(name, known)}"
            )
    return values
