from .rasters import sensors as sensors
from .rasters.sensors import Band as Band
from .rasters.sensors import Sensor as Sensor
from .rasters.optical import open_optical as open_optical
from .rasters.align import align as align
from .pairs import Pair as Pair
from .pairs import FusionInputs as FusionInputs
from .pairs import FusionCase as FusionCase
from .spatiotemporal.method import FusionMethod as FusionMethod
from .spatiotemporal.starfm import STARFM as STARFM
from .spatiotemporal.fitfc import FitFC as FitFC
from .spatiotemporal.object_fitfc import ObjectFitFC as ObjectFitFC
from .spatiotemporal.baselines import Persistence as Persistence
from .spatiotemporal.baselines import CoarseChange as CoarseChange
from .spatiotemporal.baselines import LinearInTime as LinearInTime
from .spatiotemporal.baselines import BandLine as BandLine
from .rasters.write import write_cog as write_cog
from .rasters.write import write_cogs as write_cogs
from .evaluation.metrics import score as score
from .evaluation.metrics import METRICS as METRICS
from .evaluation.metrics import Metric as Metric
from .errors import GeofuseError as GeofuseError

__version__: str
