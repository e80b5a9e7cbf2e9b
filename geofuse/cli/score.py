"""Score a predicted image against the true one.

  geofuse score fused.tif landsat_july.tif --reference-sensor landsat-c2l2 --scale 16

Only pixels valid in all bands of both files count, and nothing is clipped. Bands are
matched by name where both files name them, else by order.
"""

import argparse
import json
import math
from typing import Any

HELP = "score a predicted image against the true one"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("predicted", metavar="PREDICTED", help="the product")
    parser.add_argument("reference", metavar="REFERENCE", help="the true fine image")
    parser.add_argument(
        "--reference-sensor",
        default="generic",
        metavar="S",
        help="name of a sensor, or gain=…,offset=…,nodata=…",
    )
    parser.add_argument(
        "--predicted-sensor", default="generic", metavar="S", help="likewise"
    )
    parser.add_argument(
        "--scale",
        type=int,
        metavar="N",
        help="coarse GSD / fine GSD, which ERGAS needs",
    )
    parser.add_argument(
        "--metrics", metavar="rmse,…", help="metrics wanted; all by default"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Score, and print the table."""
    from geofuse.evaluation.metrics import score

    predicted, reference = open_both(options)
    metrics = options.metrics.split(",") if options.metrics else None
    table = score(predicted, reference, metrics=metrics, scale=options.scale)
    if options.json:
        print(json.dumps(as_plain_values(table)))
        return 0
    print(in_words(table))
    return 0


def open_both(options: argparse.Namespace) -> tuple[Any, Any]:
    """The two images, with the same names for the same bands."""
    from geofuse.errors import BandMismatchError
    from geofuse.rasters.optical import open_optical
    from geofuse.rasters.sensors import sensor_of
    from geofuse.rasters.source import inspect

    names = _names(inspect(options.predicted))
    predicted = open_optical(options.predicted, options.predicted_sensor, bands=names)
    file = inspect(options.reference)
    named = _names(file)
    by_name = bool(sensor_of(options.reference_sensor).bands) or (
        named is not None and set(predicted["band"].values) <= set(named)
    )
    bands = list(map(str, predicted["band"].values))
    if not by_name and file.shape[0] != len(bands):
        raise BandMismatchError(
            f"expected the {len(bands)} bands of {options.predicted}, found "
            f"{file.shape[0]} in {options.reference}; give files of the same bands"
        )
    reference = open_optical(options.reference, options.reference_sensor, bands=bands)
    return predicted, reference


def in_words(table: Any) -> str:
    """A tidy score table as text: a row a metric, a column a band."""
    wide = table.pivot_table(
        index="metric", columns="band", values="value", sort=False, dropna=False
    ).dropna(axis=1, how="all")
    lines = [wide.to_string(float_format=lambda value: f"{value:.4f}", na_rep="")]
    for metric, details in _details(table).items():
        lines.append(f"{metric}: {'; '.join(details)}")
    lines.append(f"{int(table['pixels'].max())} pixels")
    return "\n".join(lines)


def as_plain_values(table: Any) -> dict[str, Any]:
    """A score table for JSON: metric -> band -> value, None where it is not defined."""
    values: dict[str, Any] = {}
    for row in table.itertuples():
        value = None if math.isnan(row.value) else float(row.value)
        values.setdefault(row.metric, {})[row.band] = value
    return {**values, "pixels": int(table["pixels"].max()), "details": _details(table)}


def _details(table: Any) -> dict[str, list[str]]:
    """What is stated about each metric: ranges, ratios, or why it is missing."""
    details: dict[str, list[str]] = {}
    for metric, rows in table[table["detail"] != ""].groupby("metric", sort=False):
        stated = rows[rows["band"] != "mean"]
        if stated["detail"].nunique() == 1:
            details[metric] = [stated["detail"].iloc[0]]
        elif len(stated):
            details[metric] = [
                f"{row.band} {row.detail}" for row in stated.itertuples()
            ]
    return details


def _names(file: Any) -> list[str] | None:
    """The names of a file's bands, where it has one for each."""
    names = [name for name in file.descriptions if name]
    return names if len(set(names)) == file.shape[0] else None
