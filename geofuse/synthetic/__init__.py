"""Simulated scenes with a known answer, in memory and as files.

`simulate_case` is for tests and examples: small, on one grid, without any file.
`simulate_files` writes what a user has on disk: Landsat-like and MODIS-like files of
several dates in their own projections, with clouds and swath edges. `simulate_series`
gives a year of images. All these draw a landscape from one seed (`landscape`) and measure it
with both sensors. `draw_training_case` draws cases of any kind, to pretrain methods on.
`simulate_land_cover` gives images of several modalities with the classes that are there.
"""

from geofuse.synthetic.case import simulate_case as simulate_case
from geofuse.synthetic.files import SimulatedScene as SimulatedScene
from geofuse.synthetic.files import simulate_files as simulate_files
from geofuse.synthetic.land_cover import SimulatedLandCover as SimulatedLandCover
from geofuse.synthetic.land_cover import simulate_land_cover as simulate_land_cover
from geofuse.synthetic.series import SimulatedSeries as SimulatedSeries
from geofuse.synthetic.series import simulate_series as simulate_series
from geofuse.synthetic.training_scene import draw_training_case as draw_training_case
