"""Look on while a method is fitted: a progress bar, checkpoints, how its trainings went.

`fit(cases, seed=…)` has one meaning for all methods, and no argument for what only someone
at a terminal wants. So that is asked for around it:

    with watching(progress=True) as watch:
        fitted = method.fit(cases)
    watch.histories                              one for each network that was trained
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

#: Told the step, all losses and all validations up to it.
Show = Callable[[int, Sequence[float], Sequence[tuple[int, float]]], None]


@dataclass
class Watch:
    """What is asked for, and what was seen.

    Attributes:
        progress: Whether to show a bar.
        folder: Where trainings keep their state, each in a file of its own, by order.
        validation: Cases held out to stop by, of which nothing is to be learned.
        histories: The `History` of every training, in order.
    """

    progress: bool = False
    folder: Path | None = None
    validation: Sequence[Any] = ()
    histories: list[Any] = field(default_factory=list)

    @property
    def checkpoint(self) -> Path | None:
        """The file of the training that comes next."""
        if self.folder is None:
            return None
        return self.folder / f"training_{len(self.histories)}.safetensors"


_WATCH: ContextVar[Watch | None] = ContextVar("watch", default=None)


@contextmanager
def watching(
    *,
    progress: bool = False,
    folder: Path | None = None,
    validation: Sequence[Any] = (),
) -> Iterator[Watch]:
    """Within it, trainings do what is asked for, and leave their histories.

    Args:
        progress: Whether to show a bar.
        folder: Where they keep their state, to go on from it when the same is done again.
        validation: Cases held out; `held_out` gives them to the method that is fitted.
    """
    watch = Watch(progress, folder, validation)
    token = _WATCH.set(watch)
    try:
        yield watch
    finally:
        _WATCH.reset(token)


def watched() -> Watch:
    """Who looks on; nobody by default."""
    return _WATCH.get() or Watch()


@contextmanager
def training_bar(steps: int, progress: bool) -> Iterator[Show]:
    """Show loss, last validation and time left on stderr, if that is a terminal."""
    if not progress or not sys.stderr.isatty():
        yield lambda step, losses, validations: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("training", total=steps)

        def show(
            step: int, losses: Sequence[float], validations: Sequence[tuple[int, float]]
        ) -> None:
            words = in_words(losses, validations)
            bar.update(task, completed=step, description=words)

        yield show


def in_words(losses: Sequence[float], validations: Sequence[tuple[int, float]]) -> str:
    """The mean of the last losses and the last validation.

    >>> in_words([2.0, 1.0], [(0, 0.5), (2, 0.25)])
    'loss 1.5, validation 0.25 (best 0.25)'
    """
    finite = np.asarray(losses[-50:], np.float64)
    finite = finite[np.isfinite(finite)]
    text = f"loss {finite.mean():.4g}" if finite.size else "loss unknown"
    if validations:
        best = min(score for _, score in validations)
        text += f", validation {validations[-1][1]:.4g} (best {best:.4g})"
    return text
