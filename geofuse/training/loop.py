"""The one training loop: batches in, parameters out.

    draw(step) ──batch──> step ──> step ──> … ──> validation ──> checkpoint
                           │ not finite: skipped          │ no better for long: stop
                           │ several in a row: back to the last checkpoint, half the rate
                           └ no memory: the batch in parts

Training is a function: the same loss, parameters, batches, settings and seed give the same
parameters, to the bit, whether or not it was stopped in between. Nothing here knows what is
trained: `loss` is a function of arrays by name, and so is `validate`.
"""

import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from geofuse.errors import TrainingError
from geofuse.training import resume
from geofuse.training.settings import Training as Training
from geofuse.training.update import Loss, State, Updater, full_or_fast
from geofuse.training.watching import training_bar, watched

#: Steps that run before the host looks at what came out.
_LOOK_EVERY = 10
#: Batches in a row that are not finite until training goes back, and how often it may.
_MOST_BAD = 5
_MOST_ROLLBACKS = 5


class History(NamedTuple):
    """How a training went.

    Attributes:
        losses: Loss of each step, float32; NaN where a batch was skipped.
        validations: Step and score of each validation; lower is better.
        best: The step whose parameters were taken.
        skipped: Batches that were not finite.
        rollbacks: How often it went back to an earlier state with half the rate.
        parts: Parts that a batch was cut into for want of memory.
        ended: Why it ended, in words.
    """

    losses: np.ndarray
    validations: tuple[tuple[int, float], ...]
    best: int
    skipped: int
    rollbacks: int
    parts: int
    ended: str


class Trained(NamedTuple):
    """What a training gives: parameters by name, float32, and how it went."""

    parameters: dict[str, np.ndarray]
    history: History


def train(
    loss: Loss,
    parameters: Mapping[str, Any],
    draw: Callable[[int], Any],
    training: Training,
    *,
    seed: int = 0,
    validate: Callable[[dict[str, Any]], Any] | None = None,
    checkpoint: Path | None = None,
    progress: bool | None = None,
) -> Trained:
    """Train parameters on batches.

    Args:
        loss: `loss(parameters, batch, key)`, a scalar; a mean over the patches of the batch,
            so that parts of a batch average to the whole.
        parameters: Arrays by name to start from.
        draw: `draw(step)` gives the batch of that step, counted from 0: any tree of arrays
            with the batch as first axis. A pure function of the step; it runs in a
            thread beside the training.
        training: How to train.
        seed: Of the keys that `loss` gets: one a step.
        validate: `validate(parameters)` scores the moving average; lower is better. It is
            asked before the first step, too: what is returned is never worse there than
            what training started from. None takes the last moving average.
        checkpoint: File to continue from if it is there, and to keep the state in. By
            default where `watching` tells.
        progress: Whether to show loss and time left on stderr, if that is a terminal. By
            default only where `watching` asks for it, as the command line does.

    Raises:
        TrainingError: Batches kept being not finite, memory is too small for a single
            patch, or the checkpoint is damaged or of another training.
    """
    watch = watched()
    progress = watch.progress if progress is None else progress
    checkpoint = checkpoint or watch.checkpoint
    with (
        full_or_fast(training),
        ThreadPoolExecutor(1) as pool,
        training_bar(training.steps, progress) as show,
    ):
        updater = Updater(loss, training, seed)
        run = _Run.begin(updater.start(parameters))
        identity = resume.identity(training, seed, run.state.parameters)
        if checkpoint is not None:
            run = resume.load(checkpoint, run, identity)
            run = run._replace(
                state=updater.placed(run.state), good=updater.placed(run.good)
            )
        if validate is not None and not run.validations:
            run = run.validated(0, validate)
        batches = _Ahead(draw, training.steps, pool)
        while run.step < training.steps and not run.is_over(training):
            run = _few_steps(run, updater, batches, training)
            if run.step % training.validate_every == 0 or run.step == training.steps:
                if validate is not None:
                    run = run.validated(run.step, validate)
                if int(run.state.bad) == 0:
                    run = run._replace(good=run.state)
                if checkpoint is not None:
                    resume.save(checkpoint, run, identity)
            show(run.step, run.losses, run.validations)
    trained = run.result(training, by_score=validate is not None)
    watch.histories.append(trained.history)
    return trained


class _Run(NamedTuple):
    """Where a training is; arrays and plain numbers, so that it can be kept in a file."""

    step: int
    state: State
    good: State
    best: dict[str, Any]
    best_step: int
    losses: tuple[float, ...]
    validations: tuple[tuple[int, float], ...]
    rollbacks: int
    parts: int

    @classmethod
    def begin(cls, state: State) -> "_Run":
        return cls(0, state, state, state.average, 0, (), (), 0, 1)

    def validated(self, step: int, validate: Callable[[dict[str, Any]], Any]) -> "_Run":
        """The run with the score of the moving average, which is kept if it is the best."""
        score = float(validate(self.state.average))
        score = score if math.isfinite(score) else math.inf
        best = min((s for _, s in self.validations), default=math.inf)
        run = self._replace(validations=(*self.validations, (step, score)))
        if score < best:
            run = run._replace(best=self.state.average, best_step=step)
        return run

    def is_over(self, training: Training) -> bool:
        """Whether the last validations were no better than an earlier one."""
        since = [step for step, _ in self.validations if step > self.best_step]
        return 0 < training.patience <= len(since)

    def result(self, training: Training, *, by_score: bool) -> Trained:
        """What the run gives, as it stands."""
        skipped = int(self.state.skipped)
        if self.step and skipped == self.step:
            raise _never_finite(skipped)
        over = self.is_over(training)
        history = History(
            np.asarray(self.losses, np.float32),
            self.validations,
            self.best_step if by_score else self.step,
            skipped,
            self.rollbacks,
            self.parts,
            f"no better for {training.patience} validations" if over else "all steps",
        )
        chosen = self.best if by_score else self.state.average
        return Trained({n: np.asarray(array) for n, array in chosen.items()}, history)


def _few_steps(
    run: _Run, updater: Updater, batches: "_Ahead", training: Training
) -> _Run:
    """Some steps until the host looks; again, in smaller parts, where memory ran out."""
    until = min(
        run.step + _LOOK_EVERY - run.step % _LOOK_EVERY,
        run.step + training.validate_every - run.step % training.validate_every,
        training.steps,
    )
    try:
        state, losses = run.state, []
        for step in range(run.step, until):
            state, loss = updater.step(state, batches.of(step), step, run.parts)
            losses.append(loss)
        # Devices work while the host goes on; what went wrong in them comes up here.
        found = jax.device_get(losses)
        bad = int(state.bad)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        parts = updater.more_parts(run.parts)
        if parts is None:
            raise TrainingError(
                f"expected memory for one patch of {training.patch} pixels on "
                f"{jax.devices()[0].device_kind}, found too little; train with a smaller "
                "patch or a smaller network"
            ) from error
        return run._replace(parts=parts)
    kept = tuple(float(x) if math.isfinite(x) else math.nan for x in found)
    run = run._replace(step=until, state=state, losses=run.losses + kept)
    if bad < _MOST_BAD:
        return run
    if run.rollbacks == _MOST_ROLLBACKS:
        raise _never_finite(bad)
    return run._replace(
        state=updater.rolled_back(run.good, state), rollbacks=run.rollbacks + 1
    )


def _never_finite(batches: int) -> TrainingError:
    return TrainingError(
        f"expected a finite loss, found none in {batches} batches in a row, with smaller "
        "and smaller steps; check that the images hold physical values and not digital "
        "numbers, or train with a lower learning_rate"
    )


class _Ahead:
    """Batches drawn one step ahead of the training, in a thread."""

    def __init__(
        self, draw: Callable[[int], Any], steps: int, pool: ThreadPoolExecutor
    ) -> None:
        self._draw, self._steps, self._pool = draw, steps, pool
        self._next: tuple[int, Any] | None = None

    def of(self, step: int) -> Any:
        waiting = self._next
        batch = (
            waiting[1].result()
            if waiting is not None and waiting[0] == step
            else self._draw(step)
        )
        self._next = None
        if step + 1 < self._steps:
            self._next = (step + 1, self._pool.submit(self._draw, step + 1))
        return batch
