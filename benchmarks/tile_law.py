"""The law of tiles: tile size never changes the result, not by a bit.

    python -m benchmarks.tile_law [--quick]

Every method predicts every case in tiles of 64, 150 and 512 pixels and untiled; all outputs
are compared bit for bit; so are all hand-made features, of real and simulated images.
Networks may differ by rounding, for products of matrices are summed in an order that suits
the size of the window: their largest difference is told apart, as a share of the range of
the image. Those without weights are fitted for two steps, on a simulated scene. The cases
are real where `GEOFUSE_DATA` has them, simulated otherwise. `--quick` takes one case
a site.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import xarray as xr

from benchmarks.cases import NamedCase, real_cases, simulated_cases
from benchmarks.record import arguments, emit, save
from benchmarks.tile_law_features import check_features
from geofuse.errors import TooFewPairsError
from geofuse.pairs import FusionInputs
from geofuse.spatiotemporal import LEARNED, METHODS
from geofuse.spatiotemporal.baselines import CoarseChange
from geofuse.spatiotemporal.kernel_net import KernelNet
from geofuse.spatiotemporal.method import OUTPUTS, FusionMethod
from geofuse.spatiotemporal.mixture_net import MixtureNet
from geofuse.spatiotemporal.starfm import STARFM
from geofuse.synthetic import simulate_case
from geofuse.training.loop import Training

TILES = (64, 150, 512, None)

#: Outputs that are NaN where a method states no uncertainty.
UNCERTAIN = ("aleatoric", "epistemic", "lower", "upper")


#: Enough of a training to see whether tiles agree.
SHORT = Training(steps=2, batch=2, patch=32, warmup=0, average=0.0, validate_every=1)

#: Methods that predict by a network.
NETWORKS: tuple[type, ...] = (MixtureNet, KernelNet, *LEARNED.values())


def methods(bands: tuple[str, ...]) -> dict[str, FusionMethod]:
    """Every method with its defaults, and what else a field can make of it."""
    case = simulate_case(96, bands=bands)
    fitted = {
        name: kind(size="small", training=SHORT).fit([case])  # type: ignore[call-arg]
        for name, kind in LEARNED.items()
    }
    return {
        **fitted,
        **{name: kind() for name, kind in METHODS.items()},
        "starfm rules=paper": STARFM(rules="paper", classes=4),
        "starfm rules=usda": STARFM(rules="usda", classes=40),
        "coarse-change upsample=bicubic": CoarseChange(upsample="bicubic"),
    }


def difference(first: xr.Dataset, second: xr.Dataset) -> dict[str, float]:
    """Largest difference of each output; infinite where one is NaN and the other not."""
    found = {}
    for name in OUTPUTS:
        a, b = (np.float64(product[name].values) for product in (first, second))
        if not np.array_equal(np.isnan(a), np.isnan(b)):
            found[name] = float("inf")
        else:
            found[name] = float(np.nanmax(np.abs(a - b), initial=0.0))
    return found


def check(named: NamedCase) -> Iterator[dict[str, object]]:
    """Differences between tile sizes, over all methods, of one case."""
    inputs = named.case.inputs
    if inputs.scale is None:
        inputs = FusionInputs(inputs.pairs, inputs.coarse, scale=10)
    for name, method in methods(tuple(inputs.bands)).items():
        try:
            method.check(inputs)
        except TooFewPairsError:
            continue
        products = [
            method.predict(inputs, tile=tile, outputs=tuple(OUTPUTS)).compute()
            for tile in TILES
        ]
        for output in OUTPUTS:
            if output in UNCERTAIN and not method.states_uncertainty:
                continue
            worst = max(difference(products[-1], p)[output] for p in products[:-1])
            network = isinstance(method, NETWORKS)
            if network:
                image = products[-1].reflectance
                worst /= float(image.max() - image.min())
            yield {
                "network": network,
                "checked": f"{name}/{named.name}/{output}",
                "max_difference": worst,
                "valid": float(np.isfinite(products[0][output].values).mean()),
            }


def worst_of(rows: Sequence[Mapping[str, object]]) -> dict[str, float]:
    """Largest difference of what must agree to the bit, and of networks."""
    worst = {"max_difference": 0.0, "max_difference_networks": 0.0}
    for row in rows:
        kind = "max_difference_networks" if row.get("network") else "max_difference"
        worst[kind] = max(worst[kind], float(str(row["max_difference"])))
    return worst


def main() -> None:
    """Run the benchmark."""
    quick = arguments(__doc__).quick
    cases = list(real_cases()) or list(simulated_cases(size=300))
    if quick:
        sites = itertools.groupby(cases, key=lambda named: named.site)
        # The last case of a site has the most pairs.
        cases = [list(group)[-1] for _, group in sites]
    rows = []
    for named in cases:
        found = list(check(named))
        print(f"{named.name}: {len(found)} products, {worst_of(found)}")
        rows += found
    found = list(check_features(TILES, quick=quick))
    for row in found:
        print(f"{row['checked']}: largest difference {row['max_difference']}")
    rows += found
    if not quick:
        print(f"written: {save('tile-law', rows).name}")
    emit(
        {
            **worst_of(rows),
            "tiles": ["untiled" if tile is None else tile for tile in TILES],
            "checked": [row["checked"] for row in rows],
        }
    )


if __name__ == "__main__":
    main()
