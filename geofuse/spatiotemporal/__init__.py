"""Predict the fine image of another date: one method a file."""

from geofuse.spatiotemporal.baselines import (
    BandLine,
    CoarseChange,
    LinearInTime,
    Persistence,
)
from geofuse.spatiotemporal.method import FusionMethod
from geofuse.spatiotemporal.starfm import STARFM

#: Every method by its name on the command line. A new method is one line here.
METHODS: dict[str, type[FusionMethod]] = {
    "starfm": STARFM,
    "persistence": Persistence,
    "coarse-change": CoarseChange,
    "linear-in-time": LinearInTime,
    "band-line": BandLine,
}
