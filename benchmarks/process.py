"""The process that a benchmark runs in: its CPUs and its memory.

Nothing heavy is imported here, so that a process can be pinned before a pool of threads
is sized by what it finds.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def pin_to_one_cpu() -> int:
    """Pin this process to one CPU; returns how many it has then.

    Pools of JAX, Numba and BLAS are sized when these are imported: call it before.
    Windows and macOS cannot pin.
    """
    os.environ["NUMBA_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    if not hasattr(os, "sched_setaffinity"):
        return os.cpu_count() or 1
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return 1


@contextlib.contextmanager
def all_cpus() -> Iterator[None]:
    """Let this thread, and those it starts, run on every CPU for a while."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    pinned = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    try:
        yield
    finally:
        os.sched_setaffinity(0, pinned)


def peak_mb() -> float:
    """Peak of the resident memory of this process so far, in MB of 2^20 bytes.

    Linux hands the peak of `getrusage` down from parent to child; VmHWM starts anew.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if "VmHWM" in x)
        return int(line.split()[1]) / 2**10
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def cpu_seconds(function: Callable[[], Any]) -> float:
    """CPU seconds of this process for one call, until what it returns is computed."""
    import jax  # after the pinning

    begin = time.process_time()
    jax.block_until_ready(function())
    return time.process_time() - begin
