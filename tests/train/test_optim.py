"""The learning rate's course and AdamW against their formulas."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from bertjax.params import paths
from bertjax.train.optim import decayed, learning_rate, optimizer
from bertjax.train.state import Hparams
from tests.train.toy import Toy


def test_rises_from_zero_to_the_peak_and_falls_to_zero() -> None:
    rates = jax.vmap(lambda step: learning_rate(step, 2.0, 4, 20))(jnp.arange(21))
    wanted = [2.0 * (step / 4 if step < 4 else (20 - step) / 16) for step in range(21)]
    np.testing.assert_allclose(rates, wanted, rtol=1e-6)


def test_without_warmup_the_first_step_has_the_peak() -> None:
    assert learning_rate(jnp.int32(0), 2.0, 0, 20) == 2.0


def test_adamw_with_clipping_equals_its_formula_in_float64() -> None:
    draw = np.random.default_rng(0)
    shapes = {"bert": {"dense": {"kernel": (3, 2), "bias": (2,)}, "LayerNorm": {"scale": (2,)}}}
    start = jax.tree.map(draw.normal, jax.tree.map(np.zeros, shapes, is_leaf=lambda x: isinstance(x, tuple)))
    values = dict.fromkeys(Hparams._fields, 0.0) | {
        "learning_rate": 0.1, "weight_decay": 0.2, "max_grad_norm": 1.5, "warmup_steps": 0, "total_steps": 10}
    hparams = Hparams(**values)
    ours = jax.tree.map(jnp.float32, start)
    opt_state = optimizer(hparams, jnp.int32(0)).init(ours)
    theirs, names = jax.tree.leaves(start), list(paths(start))
    mean, square = [0.0] * len(theirs), [0.0] * len(theirs)
    for step in range(4):
        grads = [draw.normal(size=leaf.shape) for leaf in theirs]
        tree = jax.tree.unflatten(jax.tree.structure(start), [jnp.float32(g) for g in grads])
        updates, opt_state = optimizer(hparams, jnp.int32(step)).update(tree, opt_state, ours)
        ours = jax.tree.map(jnp.add, ours, updates)
        norm = np.sqrt(sum(np.square(g).sum() for g in grads))
        assert norm > 1.5  # clipping acts
        rate, t = 0.1 * (10 - step) / 10, step + 1
        for i, g in enumerate(grads):
            clipped = g * 1.5 / norm
            mean[i], square[i] = 0.9 * mean[i] + 0.1 * clipped, 0.999 * square[i] + 0.001 * clipped**2
            adam = mean[i] / (1 - 0.9**t) / (np.sqrt(square[i] / (1 - 0.999**t)) + 1e-8)
            theirs[i] = theirs[i] - rate * (adam + 0.2 * theirs[i] * (names[i] == "bert/dense/kernel"))
    for one, other in zip(jax.tree.leaves(ours), theirs, strict=True):
        # float32 keeps four digits of the bias correction 1 - 0.999, so an update of 0.1 is right to 5e-6.
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


def test_only_matrices_and_tables_decay(toy: Toy) -> None:
    chosen = {path for path, yes in paths(decayed(toy.initial(toy.trial()))).items() if yes}
    assert all(path.endswith(("kernel", "embedding")) for path in chosen)
    assert len(chosen) == 6 + 3 + 2  # encoder, tables, pooler and head
