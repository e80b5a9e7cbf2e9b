r"""Tell how accurate a map is, against labels that it has not seen.

  geofuse accuracy map.tif reference.gpkg --column crop
  geofuse accuracy map.tif reference.tif --json

Overall accuracy, kappa, and for each class producer's and user's accuracy, F1 and IoU; and
what follows for the areas: accuracy and area of each class with 95 % intervals, weighted by
the mapped areas (Olofsson et al. 2014), which is right where the reference is a sample
drawn by mapped class.
"""

import argparse
import json

HELP = "score a map against labels, with areas"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("map", metavar="MAP.tif", help="a map of geofuse classify")
    parser.add_argument(
        "reference", metavar="REFERENCE", help="labels: a raster of codes, or vectors"
    )
    parser.add_argument(
        "--column", metavar="NAME", help="of vectors: the column that names the class"
    )
    parser.add_argument(
        "--legend", metavar="CODE=NAME,…", help="by default what the map says"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Score the map, and print a table."""
    from geofuse.cli.train_landcover import legend_from
    from geofuse.evaluation.accuracy import confusion
    from geofuse.evaluation.area import area_adjusted
    from geofuse.rasters.labels import legend_in, open_labels

    land_cover = open_labels(options.map, legend=legend_from(options.legend))
    legend = legend_in(land_cover)
    reference = open_labels(
        options.reference, like=land_cover, legend=legend, column=options.column
    )
    matrix = confusion(land_cover, reference, legend)
    table = matrix.accuracy().table()
    area = area_adjusted(matrix).table()
    if options.json:
        found = {"accuracy": table, "area_adjusted": area}
        print(
            json.dumps(
                {k: json.loads(v.to_json(orient="records")) for k, v in found.items()}
            )
        )
        return 0
    whole = table[table["class"] == "all"]
    for metric, value in zip(whole["metric"], whole["value"], strict=True):
        print(f"{metric:<10} {value:.4g}")
    print()
    by_class = table[table["class"] != "all"]
    wide = by_class.pivot(index="class", columns="metric", values="value")
    print(wide.loc[list(legend.names)].round(3).to_string())
    print("\nWeighted by the mapped area (Olofsson et al. 2014), 95 % intervals:")
    print(area.round(4).to_string(index=False))
    return 0
