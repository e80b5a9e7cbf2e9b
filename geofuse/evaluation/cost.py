"""What a prediction costs: seconds, and the memory it takes on top of what was there.

Linux keeps the peak of a process's memory, and lets the process set it back: so the peak of
one prediction can be told from that of those before it. Where that cannot be done, or where
several cases run side by side, the peak is NaN and not a guess.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from geofuse.tiling import release_memory

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_MEMORY = Path("/proc/meminfo")


@dataclass
class Cost:
    """What something cost.

    Attributes:
        seconds: How long it took.
        peak_mb: Most memory that was held beyond what was held before, in MB of 2^20
            bytes; NaN where it cannot be told.
    """

    seconds: float = math.nan
    peak_mb: float = math.nan


@contextmanager
def measuring(*, memory: bool = True) -> Iterator[Cost]:
    """Measure what is done within it; the figures are there when it ends.

    Args:
        memory: Whether to measure memory; not where others work beside.
    """
    cost = Cost()
    before = _resident() if memory and _reset() else math.nan
    begin = time.perf_counter()
    try:
        yield cost
    finally:
        cost.seconds = time.perf_counter() - begin
        cost.peak_mb = max(_status("VmHWM") - before, 0.0) if memory else math.nan


def available_mb() -> float:
    """Memory that is free, in MB of 2^20 bytes; NaN where it cannot be told."""
    return _line(_MEMORY, "MemAvailable")


def _reset() -> bool:
    """Set the peak back to what is held now."""
    release_memory()
    try:
        _RESET.write_text("5")
    except OSError:
        return False
    return True


def _resident() -> float:
    return _status("VmRSS")


def _status(name: str) -> float:
    return _line(_STATUS, name)


def _line(path: Path, name: str) -> float:
    """A figure that Linux tells, in MB."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return math.nan
    found = [line for line in lines if line.startswith(f"{name}:")]
    return int(found[0].split()[1]) / 2**10 if found else math.nan
