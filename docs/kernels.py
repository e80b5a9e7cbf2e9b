"""Draw `docs/kernels.png`: what one pixel of a real scene is predicted from.

    GEOFUSE_DATA=FOLDER python docs/kernels.py

STARFM wrote its kernel down, kernel-net corrects it, mixture-net mixes those of its experts.
The scene is the flood at the Lower Gwydir (benchmarks/README.md says where to have it), the
weights are those that ship.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.cases import real_cases  # noqa: E402
from geofuse.plots.kernels import kernel_panel  # noqa: E402
from geofuse.spatiotemporal.explain import implicit_kernel  # noqa: E402
from geofuse.spatiotemporal.kernel_net import KernelNet  # noqa: E402
from geofuse.spatiotemporal.mixture_net import MixtureNet  # noqa: E402
from geofuse.spatiotemporal.starfm import STARFM  # noqa: E402

CASE, BAND = "lgc 11-26 > 12-28", "nir"
ROW, COLUMN, RADIUS = 232, 251, 16


def main() -> None:
    """Draw the figure."""
    cases = {named.name: named.case for named in real_cases()}
    if CASE not in cases:
        raise SystemExit(f"expected GEOFUSE_DATA to have the scene of {CASE!r}")
    inputs = cases[CASE].inputs
    methods = {
        "STARFM": STARFM(radius=RADIUS),
        "kernel-net": KernelNet(),
        "mixture-net": MixtureNet(),
    }
    kernels = {
        name: implicit_kernel(
            method, inputs, y=ROW, x=COLUMN, band=BAND, radius=RADIUS
        ).compute()
        for name, method in methods.items()
    }
    fine = inputs.pairs[0].fine
    figure = kernel_panel(kernels, fine, y=ROW, x=COLUMN, radius=RADIUS)
    figure.savefig(ROOT / "docs" / "kernels.png", dpi=90, bbox_inches="tight")


if __name__ == "__main__":
    main()
