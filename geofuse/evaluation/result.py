"""What one method made of a scene: its product, its scores, and how it was made."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import xarray as xr


@dataclass(frozen=True, eq=False)
class Result:
    """What one method made of a scene.

    Args:
        name: Name of the method; each result of a page has its own.
        product: Its prediction (band, y, x), NaN where invalid.
        scores: What `geofuse.evaluation.metrics.score` says of it.
        method: Its repr, which is the record of its configuration.
        seconds: Time it took; None where it was not measured.
        command: Words of the command that makes the same product.
        trivial: Whether it is one of the lines that a method should beat.
    """

    name: str
    product: xr.DataArray
    scores: pd.DataFrame
    method: str = ""
    seconds: float | None = None
    command: Sequence[str] = ()
    trivial: bool = False

    def value(self, metric: str, band: str | None = None) -> float:
        """A score of one band, or of all: their mean, else the one of all bands."""
        rows = self.scores[self.scores["metric"] == metric]
        for name in ("mean", "all") if band is None else (band,):
            values = rows["value"][rows["band"] == name]
            if len(values):
                return float(values.iloc[0])
        return math.nan

    def bands(self) -> list[str]:
        """Names of the bands that were scored."""
        rows = self.scores[self.scores["metric"] == "rmse"]
        return [str(band) for band in rows["band"] if band not in ("mean", "all")]
