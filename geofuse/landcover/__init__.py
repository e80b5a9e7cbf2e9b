"""Map classes from several modalities: early, in between or late.

early          one decision on all data       EarlyFusion, EarlyNetwork
intermediate   features meet, then decide     IntermediateFusion
late           decide each, then combine      LateFusion
"""

from geofuse.landcover.classifier import LandCoverClassifier
from geofuse.landcover.early import EarlyFusion
from geofuse.landcover.early_network import EarlyNetwork
from geofuse.landcover.intermediate import IntermediateFusion
from geofuse.landcover.late import LateFusion

#: Every classifier by its name on the command line. A new one is one line here.
CLASSIFIERS: dict[str, type[LandCoverClassifier]] = {
    "early-fusion": EarlyFusion,
    "early-network": EarlyNetwork,
    "intermediate-fusion": IntermediateFusion,
    "late-fusion": LateFusion,
}
