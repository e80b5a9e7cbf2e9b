"""Score several methods on one case, on the same pixels.

    inputs, kept in files ──> each method ──> prediction kept in a file
                                    │  pixels valid in the reference and in all predictions
    reference ──────────────────────┴─> scores, whole and by slice; errors by block

No method is handed the reference. Inputs are read and put on one grid once, before the clock
starts: the seconds of a method are its own, and those of writing its image. Nothing is
clipped. A method that fails, or that predicts no pixel at all, has a row that says so, and
does not take pixels from the others.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from dask.base import compute

from geofuse.errors import NothingFoundError
from geofuse.evaluation.bootstrap import BlockErrors, block_errors
from geofuse.evaluation.cost import Cost, measuring
from geofuse.evaluation.kept_images import kept
from geofuse.evaluation.means import Metric, measure
from geofuse.evaluation.outside import OutsideMethod
from geofuse.pairs import FusionCase, FusionInputs, Pair, agreeing
from geofuse.saved import name_of
from geofuse.spatiotemporal.baselines import TrivialLine
from geofuse.spatiotemporal.method import FusionMethod
from geofuse.training.pretrained import pretrained_weights
from geofuse.training.weights import Weights

#: What can be compared: a method of geofuse, or another program's.
Method = FusionMethod | OutsideMethod
#: Makes a class image (y, x) of whole numbers of a case, by which it is scored, too.
Slice = Callable[[FusionCase], xr.DataArray]
#: Told the name of a case, the case, the predictions by method, and the scores.
Look = Callable[[str, FusionCase, Mapping[str, xr.DataArray], pd.DataFrame], None]

#: Side of the blocks of the bootstrap: so many coarse pixels, and at least so many fine.
BLOCK_COARSE, BLOCK_FINE = 2, 32

#: Beginning of the names of folders in which predictions are kept meanwhile.
SCRATCH = ".predictions-"

#: What a method is asked for before it is timed: compiles, and no more than a tile.
_FIRST = 512

#: Columns of the scores of a case, and their types.
COLUMNS: dict[str, type] = {
    "method": str,
    "case": str,
    "date": str,
    "lag": float,
    "pairs": int,
    "slice": str,
    "group": int,
    "band": str,
    "metric": str,
    "value": float,
    "pixels": int,
    "coverage": float,
    "detail": str,
    "error": str,
    "fit_seconds": float,
    "predict_seconds": float,
    "seconds_per_mpx": float,
    "peak_mb": float,
    "timing": str,
    "parameters": int,
    "trivial": bool,
    "configuration": str,
}


_EMPTY: dict[type, Any] = {str: "", float: np.nan, int: 0, bool: False}


@dataclass(frozen=True, eq=False)
class CaseScores:
    """What came of a case.

    Attributes:
        table: One row a method, slice, group, band and metric; one with an error for a
            method that failed. Columns: `COLUMNS`.
        errors: Method -> its squared errors by block.
    """

    table: pd.DataFrame
    errors: dict[str, BlockErrors] = field(default_factory=dict)


def score_case(
    name: str,
    case: FusionCase,
    methods: Mapping[str, Method],
    *,
    metrics: Sequence[Metric],
    slices: Mapping[str, Slice] | None = None,
    fit_seconds: Mapping[str, float] | None = None,
    warm: bool = True,
    alone: bool = True,
    scratch: Path | None = None,
    look: Look | None = None,
) -> CaseScores:
    """Score methods on a case, on the pixels valid in all that worked.

    Args:
        name: Name of the case.
        case: Inputs and the reference.
        methods: Methods by name, fitted where they learn.
        metrics: Metrics.
        slices: Class images by name, made of the case.
        fit_seconds: How long it took to fit them, by name.
        warm: Whether to compute a tile before the clock starts, so that the seconds are
            those of a method that is compiled.
        alone: Whether no other case runs beside it: else memory cannot be measured.
        scratch: Folder for what is kept meanwhile; that of the system by default.
        look: Called before the predictions are gone.

    Raises:
        NothingFoundError: The reference has no valid pixel.
    """
    count = int(case.reference.notnull().all("band").sum())
    if not count:
        raise NothingFoundError(
            f"expected a reference with valid pixels for {name}, found none; leave the "
            "case out"
        )
    with tempfile.TemporaryDirectory(dir=scratch, prefix=SCRATCH) as folder:
        case = _kept_case(case, Path(folder))
        known = case.reference.notnull().all("band")
        images: dict[str, xr.DataArray] = {}
        facts: dict[str, dict[str, Any]] = {}
        for method_name, method in methods.items():
            facts[method_name] = _facts(name, case, method_name, method)
            facts[method_name] |= {
                "fit_seconds": (fit_seconds or {}).get(method_name, np.nan),
                "timing": ("compiled" if warm else "with compiling")
                + (", alone" if alone else ", beside others"),
            }
            try:
                image, cost = _prediction(method, name, case, Path(folder), warm, alone)
                share = _share(image, known, count)
            except (
                Exception
            ) as error:  # whatever fails, the row tells it, and others go on
                facts[method_name]["error"] = in_words(error)
                continue
            megapixels = image.sizes["y"] * image.sizes["x"] / 1e6
            facts[method_name] |= {
                "coverage": share,
                "predict_seconds": cost.seconds,
                "seconds_per_mpx": cost.seconds / megapixels,
                "peak_mb": cost.peak_mb,
            }
            if share == 0:
                facts[method_name]["error"] = (
                    "no valid pixel where the reference has any"
                )
            else:
                images[method_name] = image
        valid = _valid_in_all(images, known, Path(folder))
        groups = {key: make(case) for key, make in (slices or {}).items()}
        rows: list[dict[str, Any]] = []
        errors = {}
        block = max(BLOCK_COARSE * (case.inputs.scale or 1), BLOCK_FINE)
        for method_name in methods:
            if method_name not in images:
                rows.append(facts[method_name])
                continue
            found = _scores(images[method_name], case, metrics, groups, valid)
            rows += [{**facts[method_name], **row} for row in found]
            errors[method_name] = block_errors(
                images[method_name], case.reference, block=block, valid=valid
            )
        table = as_table(rows)
        if look is not None:
            look(name, case, images, table)
    return CaseScores(table, errors)


def failed_case(
    name: str, case: FusionCase, methods: Mapping[str, Method], error: Exception
) -> CaseScores:
    """The rows of a case that could not be scored at all.

    Args:
        name: Name of the case.
        case: The case.
        methods: Methods by name.
        error: Why.
    """
    rows = [
        _facts(name, case, key, method) | {"error": in_words(error)}
        for key, method in methods.items()
    ]
    return CaseScores(as_table(rows))


def as_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows as a table with the columns of `COLUMNS`, each of one type.

    Args:
        rows: Values by column; NaN, or None, where a number is missing.
    """
    values: dict[str, Any] = {}
    for column, kind in COLUMNS.items():
        cells = [row.get(column, _EMPTY[kind]) for row in rows]
        if kind is float:
            cells = [np.nan if cell is None else float(cell) for cell in cells]
        dtype = object if kind is str else np.dtype(kind)
        values[column] = pd.Series(cells, dtype=dtype)
    return pd.DataFrame(values)


def parameters_of(method: Method) -> int:
    """How many numbers a method has learned; 0 for a kernel that is written down.

    Args:
        method: The method. Of an ensemble, those of its members.
    """
    total = 0
    for name in getattr(method, "__dataclass_fields__", ()):
        value = getattr(method, name)
        if isinstance(value, Weights):
            total += value.size
        elif value == "pretrained" and isinstance(method, FusionMethod):
            total += pretrained_weights(name_of(method)).size
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, FusionMethod):
                total += parameters_of(part)
    return total


def in_words(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _facts(
    case_name: str, case: FusionCase, method_name: str, method: Method
) -> dict[str, Any]:
    """What is known before anything is computed: the row of a method that failed."""
    lags = case.inputs.lags
    return {
        "method": method_name,
        "case": case_name,
        "date": str(case.inputs.date),
        "lag": min(lags, key=lambda lag: (abs(lag), lag)),
        "pairs": len(lags),
        "parameters": parameters_of(method),
        "trivial": isinstance(method, TrivialLine),
        "configuration": repr(method),
    }


def _kept_case(case: FusionCase, folder: Path) -> FusionCase:
    """A case whose lazy images are computed, into files."""

    def read(image: xr.DataArray) -> xr.DataArray:
        return image if image.chunks is None else kept(image, folder)

    inputs = case.inputs
    pairs = [Pair(read(pair.fine), read(pair.coarse)) for pair in inputs.pairs]
    classes = None if inputs.classes is None else read(inputs.classes)
    same = FusionInputs(
        pairs, read(inputs.coarse), inputs.scale, inputs.offset, classes
    )
    return FusionCase(same, read(case.reference))


def _prediction(
    method: Method,
    name: str,
    case: FusionCase,
    folder: Path,
    warm: bool,
    alone: bool,
) -> tuple[xr.DataArray, Cost]:
    """The prediction of a method, kept in a file, on the grid of the reference."""
    inputs = case.inputs
    if warm and isinstance(method, FusionMethod):
        first = _predicted(method, name, inputs, folder)
        first.isel(y=slice(_FIRST), x=slice(_FIRST)).compute()
    with measuring(memory=alone) as cost:
        image = _predicted(method, name, inputs, folder)
        names = (f"prediction of {name}", "reference")
        image = kept(agreeing(image, case.reference, names), folder)
    return image, cost


def _predicted(
    method: Method, name: str, inputs: FusionInputs, folder: Path
) -> xr.DataArray:
    if isinstance(method, OutsideMethod):
        return method.image(name, inputs, folder)
    return method.predict(inputs, outputs=("reflectance",))["reflectance"]


def _complete(image: xr.DataArray) -> xr.DataArray:
    """Where an image is valid in all bands."""
    return image.notnull().all("band")


def _share(image: xr.DataArray, known: xr.DataArray, count: int) -> float:
    """Share of the reference's pixels that a method predicted."""
    both = _complete(image).data & known.data
    return float(compute(both.sum())[0]) / count


def _valid_in_all(
    images: Mapping[str, xr.DataArray], known: xr.DataArray, folder: Path
) -> xr.DataArray:
    """Bool image (y, x): valid in the reference and in all predictions."""
    valid = known.drop_vars("time", errors="ignore")
    for image in images.values():
        valid = valid.copy(data=valid.data & _complete(image).data)
    return kept(valid, folder)


def _scores(
    image: xr.DataArray,
    case: FusionCase,
    metrics: Sequence[Metric],
    groups: Mapping[str, xr.DataArray],
    valid: xr.DataArray,
) -> list[dict[str, Any]]:
    """Scores of the whole case, then of each group of each slice."""
    rows: list[dict[str, Any]] = []
    for name, by in (("", None), *groups.items()):
        found = measure(
            metrics, image, case.reference, scale=case.inputs.scale, by=by, valid=valid
        )
        rows += [{"slice": name, **row} for row in found.to_dict("records")]
    return rows
