r"""How a network is trained: the numbers that are the same for every network.

rate
 |  /‾‾\_            warmup on a line, then a cosine down to 0
 | /     ‾\_
 |/         ‾‾\___
 +------------------ step
"""

from dataclasses import dataclass
from typing import Literal

import optax

from geofuse.errors import ParameterError


@dataclass(frozen=True)
class Training:
    """How to train: steps, batches, the optimizer, when to stop.

    Args:
        steps: Most batches seen.
        batch: Patches in a batch.
        patch: Side of a patch, in fine pixels.
        learning_rate: Highest step size of AdamW.
        warmup: Steps until the rate is at its highest.
        schedule: `cosine`, down to 0 at the last step, or `constant`.
        weight_decay: Of AdamW, on arrays of two axes or more; biases are left alone.
        average: Decay of the moving average of parameters that is returned, in [0, 1);
            0 returns the last ones. It starts shorter: min(average, (1 + t) / (10 + t)).
        clip: Largest norm of a gradient, over all parameters.
        validate_every: Steps from one validation, and from one checkpoint, to the next.
        patience: Validations without a better one until training stops; 0 for never.
        precision: Of products on a GPU or TPU: `float32` in full, or `bfloat16` with
            sums in float32. Parameters are float32 either way; a CPU takes no notice.

    Raises:
        ParameterError: A value is out of range.

    >>> Training(steps=100).batch
    16
    """

    steps: int = 4000
    batch: int = 16
    patch: int = 64
    learning_rate: float = 1e-3
    warmup: int = 100
    schedule: Literal["cosine", "constant"] = "cosine"
    weight_decay: float = 1e-4
    average: float = 0.999
    clip: float = 1.0
    validate_every: int = 200
    patience: int = 10
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        for name, least in _LEAST_WHOLE.items():
            value = getattr(self, name)
            if isinstance(value, bool) or value != int(value) or value < least:
                raise ParameterError(
                    f"expected a whole number of at least {least} for {name}, found "
                    f"{value!r}"
                )
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ParameterError(
                    f"expected {name} above 0, found {getattr(self, name)!r}"
                )
        if not self.weight_decay >= 0:
            raise ParameterError(
                f"expected weight_decay of at least 0, found {self.weight_decay!r}"
            )
        if not 0 <= self.average < 1:
            raise ParameterError(
                f"expected average in [0, 1), found {self.average!r}; 0.999 is usual"
            )
        for name, words in _WORDS.items():
            if getattr(self, name) not in words:
                raise ParameterError(
                    f"expected {name} to be {' or '.join(words)}, found "
                    f"{getattr(self, name)!r}"
                )

    def rates(self) -> optax.Schedule:
        """The learning rate as a function of the step."""
        if self.schedule == "constant":
            return optax.schedules.linear_schedule(
                self.learning_rate / (self.warmup + 1), self.learning_rate, self.warmup
            )
        return optax.schedules.warmup_cosine_decay_schedule(
            self.learning_rate / (self.warmup + 1),
            self.learning_rate,
            warmup_steps=self.warmup,
            decay_steps=max(self.steps, self.warmup + 1),
        )


_LEAST_WHOLE = {
    "steps": 0,
    "batch": 1,
    "patch": 1,
    "warmup": 0,
    "validate_every": 1,
    "patience": 0,
}
_WORDS = {"schedule": ("cosine", "constant"), "precision": ("float32", "bfloat16")}
