"""The training loop, on a line with a known answer."""

import dataclasses
import io
import math
import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from geofuse.errors import ParameterError, TrainingError
from geofuse.training import loop
from geofuse.training.loop import Training, train
from geofuse.training.watching import watching

TRUTH = np.array([[2.0], [-1.0]], np.float32)
START = {"kernel": np.zeros((2, 1), np.float32), "bias": np.zeros(1, np.float32)}
SHORT = Training(
    steps=60, batch=8, learning_rate=0.1, warmup=5, validate_every=20, weight_decay=0.0
)


def draw(step):
    rng = np.random.default_rng(step)
    x = rng.normal(size=(8, 2)).astype(np.float32)
    return {"x": x, "y": x @ TRUTH + 0.5}


def loss(parameters, batch, key):
    error = batch["x"] @ parameters["kernel"] + parameters["bias"][None] - batch["y"]
    return jnp.mean(error**2)


def noisy_loss(parameters, batch, key):
    return loss(parameters, batch, key) + 0.01 * jnp.sum(
        parameters["bias"] * jax.random.normal(key, (1,))
    )


def validate(parameters):
    return float(loss(parameters, draw(10_000), None))


def assert_equal(first, second):
    assert first.parameters.keys() == second.parameters.keys()
    for name, array in first.parameters.items():
        np.testing.assert_array_equal(array, second.parameters[name])
    np.testing.assert_array_equal(first.history.losses, second.history.losses)
    assert first.history.validations == second.history.validations


def test_a_line_is_found():
    training = Training(
        steps=400, batch=8, learning_rate=0.1, warmup=5, weight_decay=0.0, average=0.9
    )
    trained = train(loss, START, draw, training)
    np.testing.assert_allclose(trained.parameters["kernel"], TRUTH, atol=1e-2)
    np.testing.assert_allclose(trained.parameters["bias"], 0.5, atol=1e-2)
    assert trained.history.losses.shape == (400,)
    assert trained.history.ended == "all steps"


def test_a_stopped_training_goes_on_to_the_bit(tmp_path):
    whole = train(noisy_loss, START, draw, SHORT, seed=3, validate=validate)
    for stop in (5, 20, 33, 59):

        def failing(step, stop=stop):
            if step == stop:
                raise KeyboardInterrupt
            return draw(step)

        file = tmp_path / f"{stop}.safetensors"
        options = {"seed": 3, "validate": validate, "checkpoint": file}
        with pytest.raises(KeyboardInterrupt):
            train(noisy_loss, START, failing, SHORT, **options)
        assert_equal(train(noisy_loss, START, draw, SHORT, **options), whole)
        # A finished one is not trained again.
        assert_equal(train(noisy_loss, START, failing, SHORT, **options), whole)


def test_memory_that_is_too_small_halves_the_batch(monkeypatch):
    whole = train(loss, START, draw, SHORT)
    step = loop.Updater.step

    def small(self, state, batch, number, parts):
        if parts < 4:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return step(self, state, batch, number, parts)

    monkeypatch.setattr(loop.Updater, "step", small)
    halved = train(loss, START, draw, SHORT)
    assert halved.history.parts == 4
    for name, array in whole.parameters.items():
        # float32: sums in another order
        np.testing.assert_allclose(halved.parameters[name], array, rtol=1e-4, atol=1e-5)


def test_early_stopping_returns_the_best():
    scores = iter([3.0, 2.0, 1.0, 4.0, math.nan, 4.0])
    seen = []

    def score(parameters):
        seen.append({n: np.asarray(a) for n, a in parameters.items()})
        return next(scores)

    training = Training(
        steps=200, batch=8, learning_rate=0.1, validate_every=10, patience=3
    )
    trained = train(loss, START, draw, training, validate=score)
    assert trained.history.best == 20
    assert trained.history.losses.shape == (50,)
    assert trained.history.ended == "no better for 3 validations"
    np.testing.assert_array_equal(trained.parameters["kernel"], seen[2]["kernel"])


def test_a_batch_that_is_not_finite_is_skipped():
    def spoiled(step):
        batch = draw(step)
        if step in (3, 17):
            batch["y"][0] = np.nan
        return batch

    trained = train(loss, START, spoiled, SHORT)
    assert trained.history.skipped == 2
    assert trained.history.rollbacks == 0
    assert np.isnan(trained.history.losses).sum() == 2
    assert all(np.isfinite(a).all() for a in trained.parameters.values())


def test_several_in_a_row_go_back_with_half_the_rate():
    def spoiled(step):
        batch = draw(step)
        if 24 <= step < 30:
            batch["y"][0] = np.inf
        return batch

    trained = train(loss, START, spoiled, SHORT)
    assert trained.history.skipped == 6
    assert trained.history.rollbacks == 1
    assert np.isfinite(trained.history.losses[30:]).all()


def test_only_such_batches_are_an_error_in_words():
    def spoiled(step):
        return {name: array * np.nan for name, array in draw(step).items()}

    for steps in (7, 200):
        training = Training(steps=steps, batch=8)
        with pytest.raises(TrainingError, match="expected a finite loss"):
            train(loss, START, spoiled, training)


def test_two_devices_give_what_one_gives():
    code = textwrap.dedent("""
        import jax, numpy as np
        from tests.training import test_loop as t
        from geofuse.training.loop import train
        assert jax.device_count() == 2
        shapes = set()
        def loss(parameters, batch, key):
            jax.debug.inspect_array_sharding(
                batch["x"], callback=lambda s: shapes.add(len(s.device_set)))
            return t.loss(parameters, batch, key)
        trained = train(loss, t.START, t.draw, t.SHORT)
        assert shapes == {2}, shapes
        print(*trained.parameters["kernel"].ravel())
    """)
    flag = "--xla_force_host_platform_device_count=2"
    environment = {**os.environ, "XLA_FLAGS": flag, "JAX_PLATFORMS": "cpu"}
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert found.returncode == 0, found.stderr
    kernel = np.array(found.stdout.split(), np.float32)
    alone = train(loss, START, draw, SHORT).parameters["kernel"].ravel()
    np.testing.assert_allclose(kernel, alone, rtol=1e-4)


def test_memory_too_small_for_one_patch_is_told(monkeypatch):
    def never(*arguments):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setattr(loop.Updater, "step", never)
    with pytest.raises(TrainingError, match="memory for one patch of 64 pixels"):
        train(loss, START, draw, SHORT)


def test_other_errors_of_a_device_are_not_hidden(monkeypatch):
    def broken(*arguments):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr(loop.Updater, "step", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        train(loss, START, draw, SHORT)


def test_a_batch_in_parts_is_still_one_on_resuming(tmp_path, monkeypatch):
    step = loop.Updater.step
    seen = []

    def small(self, state, batch, number, parts):
        seen.append(parts)
        if parts < 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return step(self, state, batch, number, parts)

    monkeypatch.setattr(loop.Updater, "step", small)
    whole = train(loss, START, draw, SHORT)

    def failing(step):
        if step == 45:
            raise KeyboardInterrupt
        return draw(step)

    file = tmp_path / "state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(loss, START, failing, SHORT, checkpoint=file)
    seen.clear()
    assert_equal(train(loss, START, draw, SHORT, checkpoint=file), whole)
    assert set(seen) == {2}


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    file = tmp_path / "state.safetensors"
    train(loss, START, draw, SHORT, checkpoint=file)
    others = [
        {"training": dataclasses.replace(SHORT, steps=61)},
        {"seed": 1},
        {"parameters": {**START, "bias": np.zeros(2, np.float32)}},
    ]
    for other in others:
        options = {"training": SHORT, "parameters": START, "seed": 0, **other}
        with pytest.raises(TrainingError, match="a checkpoint of this training"):
            train(loss, draw=draw, checkpoint=file, **options)
    whole = file.read_bytes()
    for damaged in (b"", whole[:-1], whole[100:], b"x" * 100):
        file.write_bytes(damaged)
        with pytest.raises(TrainingError, match="expected a checkpoint"):
            train(loss, START, draw, SHORT, checkpoint=file)


def test_a_checkpoint_that_cannot_be_written_leaves_the_older_one(
    tmp_path, monkeypatch
):
    file = tmp_path / "state.safetensors"
    train(loss, START, draw, SHORT, checkpoint=file)
    older = file.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("geofuse.training.resume.os.fsync", full)
    with pytest.raises(TrainingError, match="No space left"):
        train(loss, START, draw, SHORT, seed=0, checkpoint=tmp_path / "b.safetensors")
    assert os.listdir(tmp_path) == [file.name]
    assert file.read_bytes() == older


def test_a_mistake_in_drawing_comes_up_as_it_is():
    def wrong(step):
        if step == 3:
            raise ParameterError("expected a batch")
        return draw(step)

    with pytest.raises(ParameterError, match="expected a batch"):
        train(loss, START, wrong, SHORT)


def test_the_average_is_the_mean_of_late_parameters():
    plain = dataclasses.replace(SHORT, average=0.0)
    seen = []

    def watched(parameters):
        seen.append(np.asarray(parameters["kernel"]))
        return -len(seen)  # each is better than the one before

    every = dataclasses.replace(plain, validate_every=1)
    last = train(loss, START, draw, every, validate=watched).parameters["kernel"]
    np.testing.assert_array_equal(last, seen[-1])
    expected = seen[0]
    for step, kernel in enumerate(seen[1:]):
        decay = min(SHORT.average, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * kernel
    found = train(loss, START, draw, SHORT).parameters["kernel"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_one_step_is_adamw_with_a_clipped_gradient():
    training = Training(
        steps=1,
        batch=8,
        learning_rate=0.1,
        warmup=0,
        schedule="constant",
        weight_decay=0.5,
        average=0.0,
        clip=1e-3,
    )
    start = {"kernel": np.ones((2, 1), np.float32), "bias": np.ones(1, np.float32)}
    trained = train(loss, start, draw, training).parameters
    gradient = jax.grad(loss)(start, draw(0), None)
    norm = math.sqrt(sum(float((g**2).sum()) for g in gradient.values()))
    for name, decay in (("kernel", 0.5), ("bias", 0.0)):
        clipped = np.asarray(gradient[name]) * 1e-3 / norm
        # After one step the mean of Adam is the gradient, that of squares its square.
        change = clipped / (np.abs(clipped) + 1e-8) + decay * start[name]
        np.testing.assert_allclose(trained[name], start[name] - 0.1 * change, rtol=1e-4)


def test_the_rate_warms_up_and_goes_down():
    rates = Training(steps=100, learning_rate=1.0, warmup=10).rates()
    found = [float(rates(step)) for step in (0, 5, 10, 55, 100)]
    np.testing.assert_allclose(found, [1 / 11, 6 / 11, 1.0, 0.5, 0.0], atol=1e-6)
    rates = Training(learning_rate=1.0, warmup=10, schedule="constant").rates()
    assert [float(rates(step)) for step in (10, 10_000)] == [1.0, 1.0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": -1},
        {"batch": 0},
        {"patch": 0},
        {"learning_rate": 0.0},
        {"clip": math.nan},
        {"weight_decay": -1.0},
        {"average": 1.0},
        {"patience": True},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(ParameterError, match=name):
        Training(**wrong)


def test_nobody_sees_a_bar_who_did_not_ask(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    train(loss, START, draw, SHORT)
    assert terminal.getvalue() == ""
    with watching(progress=True) as watch:
        train(loss, START, draw, SHORT, validate=validate)
        train(loss, START, draw, SHORT)
    assert "60/60" in terminal.getvalue()
    assert "validation" in terminal.getvalue()
    assert [len(history.losses) for history in watch.histories] == [60, 60]
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    train(loss, START, draw, SHORT, progress=True)
    assert sys.stderr.getvalue() == ""
