"""What the law of tiles is checked on for hand-made features; run by `tile_law`."""

from collections.abc import Iterator

import numpy as np
import xarray as xr

from benchmarks.cases import data_folder
from geofuse.features.attributes import ATTRIBUTES
from geofuse.features.components import PrincipalComponents
from geofuse.features.extractor import FeatureExtractor
from geofuse.features.indices import Indices
from geofuse.features.local import Gabor, Gradient, LocalStatistics, StructureTensor
from geofuse.features.modalities import On
from geofuse.features.morphology import AttributeProfile, MorphologicalProfile
from geofuse.features.stack import FeatureStack
from geofuse.features.texture import GLCM
from geofuse.rasters.optical import open_optical
from geofuse.synthetic import simulate_case

THRESHOLDS = {
    "area": (25.0, 1000.0),
    "diameter": (5.0, 40.0),
    "diagonal": (5.0, 40.0),
    "std": (0.005, 0.02),
    "inertia": (0.2, 0.5),
}
_TERRAMIND = (
    "b01", "blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08",
    "nir09", "swir1", "swir2",
)  # fmt: skip


def extractors() -> dict[str, FeatureExtractor | FeatureStack]:
    """Every kind of feature, by the name it has in `checked`."""
    return {
        "indices": Indices(("ndvi", "evi", "ndwi", "mndwi", "nbr", "msavi")),
        "texture": GLCM(window=11),
        "texture by direction": GLCM(window=5, levels=8, average=False),
        "components": PrincipalComponents(3),
        "reconstruction": MorphologicalProfile(radii=(2, 9, 20)),
        "reconstruction of differences": MorphologicalProfile(
            radii=(1, 5), differential=True, components=2, connectivity=4
        ),
        **{
            f"attribute {name}": AttributeProfile(name, THRESHOLDS[name])
            for name in ATTRIBUTES
        },
        "attribute area, self-dual": AttributeProfile(
            "area", (25, 500), self_dual=True, components=1
        ),
        "local statistics": LocalStatistics(),
        "gradient": Gradient(),
        "structure tensor": StructureTensor(),
        "gabor": Gabor(),
        "stack": FeatureStack(
            indices=("ndvi", "ndmi"),
            texture=GLCM(window=7),
            profiles=On("image", MorphologicalProfile(radii=(3,)), components=1),
            bands=True,
        ),
    }


def images(*, quick: bool) -> Iterator[tuple[str, xr.DataArray]]:
    """Real scenes where there are any, and a simulated one with clouds."""
    case = simulate_case(
        400, bands=("blue", "green", "red", "nir", "swir1", "swir2"), clouds=0.1
    )
    yield "simulated", case.inputs.pairs[0].fine[:, :, :333]
    folder = data_folder()
    scenes = folder and folder / "landcover" / "terramind" / "S2L2A"
    if scenes is None or not scenes.is_dir():
        return
    for path in sorted(scenes.glob("*.tif"))[: 1 if quick else None]:
        image = open_optical(path, "gain=1e-4", date="2021-01-01", bands=_TERRAMIND)
        yield path.stem, image.compute()


def check_features(
    tiles: tuple[int | None, ...], *, quick: bool
) -> Iterator[dict[str, object]]:
    """Largest difference between tile sizes of each kind of feature, over all images."""
    worst = dict.fromkeys(extractors(), 0.0)
    valid: dict[str, list[float]] = {name: [] for name in worst}
    for _, image in images(quick=quick):
        for name, extractor in extractors().items():
            made = [extractor.extract(image, tile=tile).values for tile in tiles]
            valid[name].append(float(np.isfinite(made[0]).mean()))
            for other in made[1:]:
                same = np.array_equal(np.isnan(made[0]), np.isnan(other))
                off = np.abs(np.float64(made[0]) - other)
                largest = float(np.nanmax(off, initial=0.0)) if same else float("inf")
                worst[name] = max(worst[name], largest)
    for name, largest in worst.items():
        yield {
            "checked": name,
            "max_difference": largest,
            "valid": float(np.mean(valid[name])),
        }
