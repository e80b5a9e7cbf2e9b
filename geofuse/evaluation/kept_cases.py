"""Scores of the cases that are done, kept in a folder, so that a run can be continued.

    cases/NAME-DIGEST.json    the key of the case, and its rows
    cases/NAME-DIGEST.npz     errors by block of each method

A case is done where both files are there and whole, and its key is that of the run: the same
images, methods, metrics, seed, source and versions. The JSON file comes last, in one step;
numbers are written so that they are read back to the bit.
"""

import hashlib
import io
import json
import math
import os
import re
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geofuse.evaluation.bootstrap import BlockErrors
from geofuse.evaluation.case_scores import COLUMNS, CaseScores, as_table
from geofuse.rasters.write import writing


def slug(name: str) -> str:
    """A name for a file: readable, safe, and another one for every name.

    >>> slug("cia 10-08 > 10-17")
    'cia-10-08-10-17-f7639c'
    """
    words = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:60]
    digest = hashlib.blake2b(name.encode(), digest_size=3).hexdigest()
    return f"{words}-{digest}" if words else digest


def digest_of_text(text: str) -> str:
    """A short digest of a text."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def write_case(folder: Path, name: str, key: str, scores: CaseScores) -> None:
    """Keep the scores of a case, whole or not at all.

    Args:
        folder: Folder of the run; it is there.
        name: Name of the case.
        key: What the scores depend on.
        scores: The scores.

    Raises:
        WriteError: They cannot be written.
    """
    path = _path(folder, name)
    with writing(path):
        path.parent.mkdir(exist_ok=True)
        numbers = io.BytesIO()
        arrays: dict[str, Any] = {}
        for place, errors in enumerate(scores.errors.values()):
            arrays[f"squared_{place}"] = errors.squared
            arrays[f"pixels_{place}"] = errors.pixels
        np.savez_compressed(numbers, **arrays)
        replace(path.with_suffix(".npz"), numbers.getvalue())
        document = {
            "case": name,
            "key": key,
            "numbers": _digest(numbers.getvalue()),
            "errors": {method: e.bands for method, e in scores.errors.items()},
            "rows": [
                [_plain(value) for value in row]
                for row in scores.table[list(COLUMNS)].itertuples(index=False)
            ],
        }
        text = json.dumps(document, allow_nan=False, indent=0)
        replace(path, text.encode())


def read_case(folder: Path, name: str, key: str) -> CaseScores | None:
    """The scores of a case that is done; None where it is to be done.

    Args:
        folder: Folder of the run.
        name: Name of the case.
        key: What the scores are to depend on.
    """
    path = _path(folder, name)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        content = path.with_suffix(".npz").read_bytes()
        if document["key"] != key or document["numbers"] != _digest(content):
            return None
        rows = [dict(zip(COLUMNS, row, strict=True)) for row in document["rows"]]
        bands = document["errors"]
    except (OSError, ValueError, KeyError, TypeError):  # damaged: it is done again
        return None
    errors = {}
    with np.load(io.BytesIO(content), allow_pickle=False) as numbers:
        for place, (method, names) in enumerate(bands.items()):
            squared, pixels = (numbers[f"{n}_{place}"] for n in ("squared", "pixels"))
            errors[method] = BlockErrors(squared, pixels, tuple(names))
    return CaseScores(as_table(rows), errors)


def table_text(table: pd.DataFrame) -> bytes:
    """A table as CSV, with numbers that are read back to the bit.

    Args:
        table: The table.
    """
    return table.to_csv(index=False, lineterminator="\n").encode()


def replace(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; it replaces another in one step.

    Args:
        path: Where to.
        content: What.
    """
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _path(folder: Path, name: str) -> Path:
    return folder / "cases" / f"{slug(name)}.json"


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _plain(value: Any) -> Any:
    """A cell for JSON, which knows no NaN and no infinity."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
