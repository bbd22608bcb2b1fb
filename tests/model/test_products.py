"""Products with operands in bfloat16: near those of float32, gradients too, and of types that processors do fast."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bertjax.config import FLOAT
from bertjax.model.bert import Inputs, init_params, logits_fn
from bertjax.model.products import ROWS, activation_type, dense_product
from bertjax.train.step import ProgramSpec
from tests.lowered import products_of
from tests.small_model import CONFIG


def operands() -> tuple[jax.Array, jax.Array, jax.Array]:
    """Rows, weights and gradients of their product."""
    draw = np.random.default_rng(0)
    return tuple(jnp.asarray(draw.normal(size=shape), jnp.float32) for shape in ((24, 40), (40, 16), (24, 16)))


def test_product_and_gradients_are_those_of_rounded_operands() -> None:
    x, weight, grads = operands()
    made, backward = jax.vjp(lambda x, weight: dense_product(x, weight, ROWS), x, weight)
    of_x, of_weight = backward(grads)
    x_, weight_, grads_ = (np.asarray(one.astype(jnp.bfloat16)).astype(np.float64) for one in (x, weight, grads))
    for ours, exact in ((made, x_ @ weight_), (of_x, grads_ @ weight_.T), (of_weight, x_.T @ grads_)):
        assert ours.dtype == jnp.float32
        np.testing.assert_allclose(ours, exact, rtol=1e-5, atol=1e-5)
    assert np.abs(made - x @ weight).max() > 1e-4


def test_stacked_trials_have_the_products_of_each() -> None:
    x, weight, _ = operands()
    xs, weights = jnp.stack([x, -x]), jnp.stack([weight, x.T[:, :16]])
    stacked = jax.vmap(lambda x, weight: dense_product(x, weight, ROWS))(xs, weights)
    np.testing.assert_allclose(stacked[0], dense_product(x, weight, ROWS), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(stacked[1], dense_product(-x, x.T[:, :16], ROWS), rtol=1e-5, atol=1e-5)


def test_other_axes_are_refused() -> None:
    x, weight, _ = operands()
    with pytest.raises(AssertionError, match="a linear layer contracts"):
        dense_product(x.T, weight, (((0,), (0,)), ((), ())))


def test_the_encoders_linear_layers_alone_are_rounded_forward_and_backward() -> None:
    params = init_params(CONFIG)
    ids = jnp.asarray(np.random.default_rng(3).integers(0, CONFIG.vocab_size, (2, 5)))
    inputs = Inputs(ids, jnp.zeros_like(ids), ids >= 0)
    plain = jax.jit(logits_fn(CONFIG))(params, inputs, None)
    spec = ProgramSpec(CONFIG, (FLOAT,), regression=False, dtype="bfloat16_products")
    model = spec.logits_fn(FLOAT)
    made = jax.jit(model)(params, inputs, None)
    assert 1e-6 < np.abs(made - plain).max() < 8 * 2**-8 * np.abs(plain).max()

    text = jax.jit(jax.grad(lambda params: jnp.sum(model(params, inputs, None)))).lower(params).as_text()
    products = products_of(text)
    layers = CONFIG.num_hidden_layers
    # Each linear layer multiplies for its output and for two gradients.
    assert products[("bf16", "bf16", "f32")] == 3 * 6 * layers
    assert {*products} == {("bf16", "bf16", "f32"), ("f32", "f32", "f32")}
    others = re.findall(r"stablehlo\.(?:add|multiply|exponential|tanh) .* : tensor<[\dx]*x(\w+)>", text)
    assert "f32" in others and "bf16" not in others


def test_activations_are_float32() -> None:
    assert activation_type("bfloat16_products") == activation_type("float32") == jnp.float32
    assert activation_type("bfloat16") == jnp.bfloat16
