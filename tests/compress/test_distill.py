"""The laws of distillation: its value and gradient in float64, and no trace of a teacher that is off."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bertjax.compress.distill import distill_loss
from bertjax.compress.prune import all_kept
from bertjax.config import FLOAT, BertConfig
from bertjax.model.bert import Inputs
from bertjax.model.dropout import dropout_key
from bertjax.model.layout import param_shapes
from bertjax.params import Params, nest
from bertjax.train.state import Batch, Hparams, Losses
from bertjax.train.step import ProgramSpec, trial_loss

ROWS, CLASSES = 6, 4
NUMBERS = np.random.default_rng(0).normal(scale=3, size=(2, ROWS, CLASSES)).astype(np.float32)
TEMPERATURES = (0.5, 1.0, 2.0, 20.0)


def softmax(x: np.ndarray) -> np.ndarray:
    """In float64."""
    grown = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
    return grown / grown.sum(-1, keepdims=True)


@jax.jit
def value_and_gradient(logits: jax.Array, teacher: jax.Array, temperature: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The loss of each row, and its gradient by the row's logits."""
    loss, pull = jax.vjp(lambda z: distill_loss(z, teacher, temperature, regression=False), logits)
    return loss, pull(jnp.ones_like(loss))[0]


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_soft_cross_entropy_is_that_of_float64(temperature: float) -> None:
    logits, teacher = NUMBERS
    loss, gradient = value_and_gradient(logits, teacher, temperature)
    ours, theirs = softmax(logits / np.float64(temperature)), softmax(teacher / np.float64(temperature))
    np.testing.assert_allclose(loss, -(theirs * np.log(ours)).sum(-1) * temperature**2, rtol=1e-5)
    # One factor of the temperature is left of its square: the other goes into the inner derivative.
    np.testing.assert_allclose(gradient, temperature * (ours - theirs), atol=2e-6 * temperature)


def test_gradients_keep_their_size_at_high_temperature() -> None:
    centred = NUMBERS - NUMBERS.mean(-1, keepdims=True)
    limit = (centred[0] - centred[1]) / CLASSES  # arXiv:1503.02531, equation 4
    for temperature in (300.0, 1000.0):
        _, gradient = value_and_gradient(*NUMBERS, temperature)
        np.testing.assert_allclose(gradient, limit, atol=0.05)


def test_the_loss_is_least_where_student_and_teacher_agree_and_ignores_shifts() -> None:
    logits, teacher = NUMBERS
    best, gradient = value_and_gradient(teacher + 5, teacher, 2.0)
    np.testing.assert_allclose(gradient, 0, atol=1e-5)
    assert (np.asarray(best) < np.asarray(value_and_gradient(logits, teacher, 2.0)[0])).all()


def test_regression_is_the_squared_error_at_any_temperature() -> None:
    logits, teacher = NUMBERS[:, :, :1]
    for temperature in TEMPERATURES:
        loss = distill_loss(jnp.asarray(logits), jnp.asarray(teacher), jnp.float32(temperature), regression=True)
        np.testing.assert_allclose(loss, np.square(logits.astype(np.float64) - teacher)[:, 0], rtol=1e-6)


class Program:
    """Loss and gradients of one trial of a tiny BERT, everything traced but the kind of task."""

    def __init__(self, regression: bool) -> None:
        config = BertConfig(vocab_size=13, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
                            intermediate_size=8, max_position_embeddings=5, num_labels=1 if regression else CLASSES)
        spec = ProgramSpec(config, (FLOAT,), regression)
        draw = np.random.default_rng(1)
        self.params = nest({path: draw.normal(scale=0.5, size=shape).astype(np.float32)
                            for path, shape in param_shapes(config).items()})
        ids = draw.integers(0, 13, (ROWS, 5))
        present = np.arange(5) < [[5], [2], [1], [4], [3], [5]]
        self.inputs = Inputs(jnp.asarray(ids), jnp.zeros_like(ids), jnp.asarray(present))
        self.teacher = draw.normal(size=(ROWS, config.num_labels)).astype(np.float32)
        if regression:
            self.labels = draw.normal(size=(2, ROWS)).astype(np.float32)
        else:
            self.labels = np.stack([np.arange(ROWS) % CLASSES, np.arange(1, ROWS + 1) % CLASSES])
        loss = partial(trial_loss, spec=spec, quantize=FLOAT)
        self._run = jax.jit(jax.value_and_grad(loss, has_aux=True))

    def run(
        self, weight: float, teacher: np.ndarray, temperature: float = 2.0, labels: int = 0
    ) -> tuple[tuple[jax.Array, Losses], Params]:
        """With dropout on and the last row a filler."""
        hparams = Hparams(**dict.fromkeys(Hparams._fields))._replace(
            distill_weight=jnp.float32(weight), temperature=jnp.float32(temperature))
        batch = Batch(self.inputs, self.labels[labels], np.float32([1, 1, 1, 1, 1, 0]), teacher)
        key = dropout_key(jnp.uint32(3), jnp.uint32(4), jnp.arange(ROWS))
        return self._run(self.params, all_kept(self.params), hparams, batch, key)


@pytest.fixture(scope="module", params=[False, True], ids=["classes", "regression"])
def program(request: pytest.FixtureRequest) -> Program:
    return Program(request.param)


def all_bytes(tree: object) -> list[bytes]:
    """Every leaf to the last bit."""
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def test_a_nan_teacher_of_weight_0_changes_no_bit_of_loss_and_gradients(program: Program) -> None:
    absent = np.full_like(program.teacher, np.nan)
    off = program.run(0.0, absent)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(off))
    for other in (np.zeros_like(absent), program.teacher):
        assert all_bytes(off) == all_bytes(program.run(0.0, other))
    (_, sums), _ = off
    assert sums.loss == sums.task_loss
    # With any weight the teacher does arrive.
    assert np.isnan(program.run(1e-3, absent)[0][0])
    assert all_bytes(program.run(0.5, program.teacher)[1]) != all_bytes(program.run(0.5, 2 * program.teacher)[1])


def test_weight_1_ignores_the_labels(program: Program) -> None:
    (loss, sums), gradients = program.run(1.0, program.teacher, labels=0)
    (other_loss, other_sums), other_gradients = program.run(1.0, program.teacher, labels=1)
    assert sums.task_loss != other_sums.task_loss
    assert all_bytes((loss, gradients)) == all_bytes((other_loss, other_gradients))
    assert all_bytes(program.run(0.5, program.teacher, labels=0)[1]) != all_bytes(
        program.run(0.5, program.teacher, labels=1)[1])


def test_the_weight_mixes_the_two_losses_linearly(program: Program) -> None:
    (task, _), task_gradients = program.run(0.0, program.teacher)
    (distill, _), distill_gradients = program.run(1.0, program.teacher)
    (mixed, _), gradients = program.run(0.3, program.teacher)
    np.testing.assert_allclose(mixed, 0.7 * task + 0.3 * distill, rtol=1e-5)
    mean = jax.tree.map(lambda a, b: 0.7 * a + 0.3 * b, task_gradients, distill_gradients)
    for ours, theirs in zip(jax.tree.leaves(gradients), jax.tree.leaves(mean), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
