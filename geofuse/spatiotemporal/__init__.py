"""Predict the fine image of another date: one method a file."""

from geofuse.spatiotemporal.baselines import (
    BandLine,
    CoarseChange,
    CoarseImage,
    LinearInTime,
    Persistence,
)
from geofuse.spatiotemporal.combine import PrecisionFusion
from geofuse.spatiotemporal.edcstfn import EDCSTFN
from geofuse.spatiotemporal.estarfm import ESTARFM
from geofuse.spatiotemporal.fitfc import FitFC
from geofuse.spatiotemporal.fsdaf import FSDAF
from geofuse.spatiotemporal.fusion_unet import FusionUNet
from geofuse.spatiotemporal.ganstfm import GANSTFM
from geofuse.spatiotemporal.kalman import Kalman
from geofuse.spatiotemporal.kernel_net import KernelNet
from geofuse.spatiotemporal.local_attention_net import LocalAttentionNet
from geofuse.spatiotemporal.method import FusionMethod
from geofuse.spatiotemporal.mixture_net import MixtureNet
from geofuse.spatiotemporal.object_fitfc import ObjectFitFC
from geofuse.spatiotemporal.series_method import SeriesMethod
from geofuse.spatiotemporal.smoothers import HarmonicFit, TimeInterpolation, Whittaker
from geofuse.spatiotemporal.spectral_line import SpectralLine
from geofuse.spatiotemporal.starfm import STARFM
from geofuse.spatiotemporal.ubestarfm import UbESTARFM
from geofuse.spatiotemporal.unmixing import Unmixing

#: Every method by its name on the command line. A new method is one line here.
METHODS: dict[str, type[FusionMethod]] = {
    "starfm": STARFM,
    "estarfm": ESTARFM,
    "ubestarfm": UbESTARFM,
    "fit-fc": FitFC,
    "object-fit-fc": ObjectFitFC,
    "fsdaf": FSDAF,
    "unmixing": Unmixing,
    "precision-fusion": PrecisionFusion,
    "mixture-net": MixtureNet,
    "kernel-net": KernelNet,
    "persistence": Persistence,
    "coarse-image": CoarseImage,
    "coarse-change": CoarseChange,
    "linear-in-time": LinearInTime,
    "band-line": BandLine,
    "spectral-line": SpectralLine,
}

#: Methods that predict nothing until they are fitted: networks of others, in the same frame.
LEARNED: dict[str, type[FusionMethod]] = {
    "edcstfn": EDCSTFN,
    "gan-stfm": GANSTFM,
    "fusion-unet": FusionUNet,
    "local-attention-net": LocalAttentionNet,
}

#: All methods for one date.
ALL_METHODS: dict[str, type[FusionMethod]] = {**METHODS, **LEARNED}

#: Every method over a whole series by its name on the command line.
SERIES_METHODS: dict[str, type[SeriesMethod]] = {
    "kalman": Kalman,
    "time-interpolation": TimeInterpolation,
    "harmonic": HarmonicFit,
    "whittaker": Whittaker,
}
