"""Methods that are other programs, scored like those of geofuse.

    FromFolder("their_predictions")                    a file a case, made by whatever program
    FromCommand(("their-tool", "{inputs}", "{out}"))   a program that is run for each case

They are no `FusionMethod`: they have no tiles and learn nothing here. What they were trained
on elsewhere, no check of leaks can see.
"""

import abc

import xarray as xr

from geofuse.pairs import FusionInputs


class OutsideMethod(abc.ABC):
    """Another program's estimate of a fine image, from what a method may look at."""

    @abc.abstractmethod
    def image(self, case: str, inputs: FusionInputs) -> xr.DataArray:
        """The fine image of the prediction date, (band, y, x), NaN where there is none.

        Args:
            case: Name of the case.
            inputs: Its inputs.
        """

    @abc.abstractmethod
    def state(self, case: str, inputs: FusionInputs) -> str:
        """What the image depends on beyond the inputs and the fields of the method.

        Where it changes, the case is scored anew.
        """
