"""One step of training, compiled: gradient, clip, AdamW, moving average.

A batch whose loss or gradient is not finite changes nothing but a counter. On several
devices each gets its share of the batch, and XLA adds up the gradients. Where memory is
short, the batch goes through in `parts`, one after the other, and the gradients are
averaged: the same step, for a loss that is a mean over the batch.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from geofuse.training.settings import Training

#: loss(parameters, batch, key) -> scalar.
Loss = Callable[[Any, Any, Any], Any]


class State(NamedTuple):
    """All that a step changes.

    Attributes:
        parameters: Arrays by name.
        average: Their moving average.
        optimizer: The state of AdamW.
        factor: What the learning rate is multiplied by; halved when training goes wrong.
        bad: Batches in a row, up to now, that were not finite.
        skipped: Such batches in all.
    """

    parameters: dict[str, Any]
    average: dict[str, Any]
    optimizer: Any
    factor: Any
    bad: Any
    skipped: Any


class Updater:
    """Steps of one training, on the devices there are.

    Args:
        loss: A mean over the batch, a function of parameters, batch and key.
        training: How to train.
        seed: Of the keys that the loss gets.
    """

    def __init__(self, loss: Loss, training: Training, seed: int) -> None:
        """Compile nothing yet; find the devices."""
        self._loss = loss
        self._training = training
        self._rates = training.rates()
        self._key = jax.random.key(seed)
        self._optimizer = optax.chain(
            optax.scale_by_adam(),
            optax.add_decayed_weights(training.weight_decay, _decays),
        )
        devices = jax.devices()
        while training.batch % len(devices):
            devices = devices[:-1]
        mesh = Mesh(np.array(devices), ("batch",))
        self._everywhere = NamedSharding(mesh, PartitionSpec())
        self._shared = NamedSharding(mesh, PartitionSpec("batch"))
        self._devices = len(devices)
        self._step = jax.jit(self._one, static_argnums=0)

    def start(self, parameters: Any) -> State:
        """The state before the first step."""
        parameters = {
            name: jnp.asarray(array, jnp.float32) for name, array in parameters.items()
        }
        state = State(
            parameters,
            parameters,
            self._optimizer.init(parameters),
            jnp.ones((), jnp.float32),
            jnp.zeros((), jnp.int32),
            jnp.zeros((), jnp.int32),
        )
        return self.placed(state)

    def placed(self, state: State) -> State:
        """The state on all devices."""
        return State(*jax.device_put(tuple(state), self._everywhere))

    def step(
        self, state: State, batch: Any, number: int, parts: int
    ) -> tuple[State, Any]:
        """The state after one batch, and its loss."""
        batch = jax.tree.map(self._place, batch)
        return self._step(parts, state, batch, np.int32(number))

    def more_parts(self, parts: int) -> int | None:
        """The next larger number of parts that a batch falls into; None if there is none."""
        each = self._training.batch // self._devices
        return next((n for n in range(2 * parts, each + 1) if each % n == 0), None)

    def rolled_back(self, good: State, now: State) -> State:
        """An earlier state with half the learning rate of now."""
        return good._replace(
            factor=now.factor / 2, bad=jnp.zeros_like(now.bad), skipped=now.skipped
        )

    def _place(self, array: Any) -> Any:
        whole = np.ndim(array) == 0 or len(array) != self._training.batch
        return jax.device_put(array, self._everywhere if whole else self._shared)

    def _one(
        self, parts: int, state: State, batch: Any, number: Any
    ) -> tuple[State, Any]:
        key = jax.random.fold_in(self._key, number)
        loss, gradient = self._gradient(parts, state.parameters, batch, key)
        squares = [jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(gradient)]
        norm = jnp.sqrt(jnp.stack(squares).sum())
        good = jnp.isfinite(loss) & jnp.isfinite(norm)
        shrink = jnp.minimum(1.0, self._training.clip / jnp.maximum(norm, 1e-30))
        gradient = jax.tree.map(lambda g: shrink * g, gradient)
        # Optax promotes a count to a float, which the strict mode of our tests refuses.
        with jax.numpy_dtype_promotion("standard"):
            change, optimizer = self._optimizer.update(
                gradient, state.optimizer, state.parameters
            )
            rate = jnp.asarray(self._rates(number), jnp.float32) * state.factor
            time = number.astype(jnp.float32)
        parameters = jax.tree.map(lambda p, c: p - rate * c, state.parameters, change)
        decay = jnp.minimum(self._training.average, (1 + time) / (10 + time))
        if self._training.average == 0:
            decay = jnp.zeros_like(time)
        average = jax.tree.map(
            lambda a, p: decay * a + (1 - decay) * p, state.average, parameters
        )
        done = State(
            parameters,
            average,
            optimizer,
            state.factor,
            jnp.zeros_like(state.bad),
            state.skipped,
        )
        left = state._replace(bad=state.bad + 1, skipped=state.skipped + 1)
        return jax.tree.map(partial(jnp.where, good), done, left), loss

    def _gradient(
        self, parts: int, parameters: Any, batch: Any, key: Any
    ) -> tuple[Any, Any]:
        """Loss and gradient of a batch, in parts one after the other."""
        both = jax.value_and_grad(self._loss)
        if parts == 1:
            return both(parameters, batch, key)
        size = self._training.batch
        leaves, structure = jax.tree.flatten(batch)
        cut = [np.ndim(leaf) > 0 and leaf.shape[0] == size for leaf in leaves]
        # Every part has patches of every device.
        stacked = [
            leaf.reshape(size // parts, parts, *leaf.shape[1:]).swapaxes(0, 1)
            for leaf, is_cut in zip(leaves, cut, strict=True)
            if is_cut
        ]

        def add(total: Any, part: Any) -> tuple[Any, None]:
            number, rows = part
            rest = iter(rows)
            own = [
                next(rest) if is_cut else leaf
                for leaf, is_cut in zip(leaves, cut, strict=True)
            ]
            found = both(
                parameters,
                jax.tree.unflatten(structure, own),
                jax.random.fold_in(key, number),
            )
            return jax.tree.map(jnp.add, total, found), None

        zero = jax.tree.map(jnp.zeros_like, (jnp.zeros(()), parameters))
        total, _ = jax.lax.scan(add, zero, (jnp.arange(parts), stacked))
        return jax.tree.map(lambda value: value / parts, total)


def full_or_fast(training: Training) -> Any:
    """A context in which products have the precision that the training asks for.

    `bfloat16`: products of matrices in bfloat16 with sums in float32, convolutions in what
    a device is fastest in (TF32 on an NVIDIA GPU). A CPU always computes in float32.
    """
    fast = training.precision == "bfloat16" and jax.default_backend() != "cpu"
    return jax.default_matmul_precision("BF16_BF16_F32" if fast else "highest")


def _decays(parameters: Any) -> Any:
    return jax.tree.map(lambda array: array.ndim > 1, parameters)
