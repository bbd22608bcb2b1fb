"""The laws of the model: padding, order and neighbours change nothing; what should matter does; types stay."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bertjax.config import BertConfig
from bertjax.model.attention import query_key_products
from bertjax.model.bert import GELU_DEPTH, Inputs, gelu, init_params, logits_fn
from bertjax.model.dropout import DropoutKey, dropout_key
from bertjax.model.layout import param_shapes
from bertjax.params import Params, nest, paths

CONFIG = BertConfig(vocab_size=17, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
                    max_position_embeddings=12, type_vocab_size=2, num_labels=3, hidden_dropout_prob=0.2)
ROWS, TOKENS = 4, 5
LENGTHS = np.array([5, 3, 1, 4])
CLOSE = {"rtol": 0, "atol": 1e-6}

logits = jax.jit(logits_fn(CONFIG))


def random_params(config: BertConfig) -> Params:
    """Parameters of the size that trained ones have: logits of order 1."""
    draw = np.random.default_rng(0)

    def leaf(path: str, shape: tuple[int, ...]) -> jax.Array:
        return jnp.asarray(draw.normal(loc=float(path.endswith("scale")), scale=0.2, size=shape), jnp.float32)

    return nest({path: leaf(path, shape) for path, shape in param_shapes(config).items()})


@pytest.fixture(scope="module")
def params() -> Params:
    return random_params(CONFIG)


def batch(length: int = TOKENS, lengths: np.ndarray = LENGTHS, seed: int = 1) -> Inputs:
    """Rows of random tokens and types; what lies beyond a row's end is random too, and new for each `seed`."""
    own, beyond = np.random.default_rng(0), np.random.default_rng(seed)
    size = (len(lengths), TOKENS)
    present = np.arange(length) < lengths[:, None]
    ids, types = (beyond.integers(0, high, (len(lengths), length)) for high in (CONFIG.vocab_size, 2))
    ids[:, :TOKENS] = np.where(present[:, :TOKENS], own.integers(1, CONFIG.vocab_size, size), ids[:, :TOKENS])
    types[:, :TOKENS] = np.where(present[:, :TOKENS], own.integers(0, 2, size), types[:, :TOKENS])
    return Inputs(jnp.asarray(ids), jnp.asarray(types), jnp.asarray(present))


def key(rows: int = ROWS) -> DropoutKey:
    """A key of some step."""
    return dropout_key(jnp.uint32(5), jnp.uint32(6), jnp.arange(rows))


def taken(inputs: Inputs, rows: np.ndarray) -> Inputs:
    """Some rows of a batch."""
    return Inputs(*(part[rows] for part in inputs))


@pytest.mark.parametrize("drop", [None, key()], ids=["dropout off", "dropout on"])
def test_padding_and_what_it_holds_change_no_logit(params: Params, drop: DropoutKey | None) -> None:
    plain = np.asarray(logits(params, batch(), drop))
    assert plain.std() > 0.1
    np.testing.assert_allclose(logits(params, batch(seed=2), drop), plain, **CLOSE)
    np.testing.assert_allclose(logits(params, batch(length=11), drop), plain, **CLOSE)


def test_filler_rows_change_no_logit_of_the_others(params: Params) -> None:
    plain = logits(params, batch(), key())
    filled = Inputs(*(jnp.concatenate([part, part[:2] * 0]) for part in batch()))
    assert not filled.attention_mask[ROWS:].any()
    more = np.asarray(logits(params, filled, key(ROWS + 2)))
    assert np.isfinite(more).all()
    np.testing.assert_allclose(more[:ROWS], plain, **CLOSE)


@pytest.mark.parametrize("drop", [None, key()], ids=["dropout off", "dropout on"])
def test_rows_in_another_order_give_logits_in_that_order(params: Params, drop: DropoutKey | None) -> None:
    order = np.array([2, 0, 3, 1])
    moved = None if drop is None else DropoutKey(drop.seed, drop.position[order])
    shuffled = logits(params, taken(batch(), order), moved)
    np.testing.assert_allclose(shuffled, logits(params, batch(), drop)[order], **CLOSE)


def test_a_row_of_one_token_is_finite_and_equals_the_sequence_of_one(params: Params) -> None:
    row = int(np.flatnonzero(LENGTHS == 1)[0])
    inputs = batch()
    alone = Inputs(*(part[row : row + 1, :1] for part in inputs))
    one = np.asarray(logits(params, alone, None))
    assert np.isfinite(one).all()
    np.testing.assert_allclose(one[0], logits(params, inputs, None)[row], **CLOSE)


def test_tokens_types_order_mask_and_dropout_matter(params: Params) -> None:
    inputs = batch(lengths=np.full(ROWS, TOKENS))
    changed = {
        "tokens": inputs._replace(input_ids=inputs.input_ids.at[:, -1].add(1) % CONFIG.vocab_size),
        "types": inputs._replace(token_type_ids=1 - inputs.token_type_ids),
        "order": inputs._replace(input_ids=jnp.concatenate([inputs.input_ids[:, :1], inputs.input_ids[:, :0:-1]], 1)),
        "mask": inputs._replace(attention_mask=inputs.attention_mask.at[:, -1].set(False)),
    }
    plain = logits(params, inputs, None)
    for what, other in changed.items():
        moved = np.abs(np.asarray(logits(params, other, None) - plain)).max(-1)
        assert (moved > 1e-3).all(), what
    on = logits(params, inputs, key())
    assert (np.abs(np.asarray(on - plain)).max(-1) > 1e-3).all()
    np.testing.assert_array_equal(on, logits(params, inputs, key()))
    assert (on != logits(params, inputs, dropout_key(jnp.uint32(5), jnp.uint32(7), jnp.arange(ROWS)))).any()


def test_rate_0_with_a_key_is_dropout_off_bitwise(params: Params) -> None:
    never = replace(CONFIG, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    ours = jax.jit(logits_fn(never))(params, batch(), key())
    np.testing.assert_array_equal(ours, logits(params, batch(), None))


def test_bfloat16_computes_near_float32_with_float32_parameters_gradients_softmax_and_logits(params: Params) -> None:
    model = logits_fn(CONFIG, dtype=jnp.bfloat16)

    lowered = jax.jit(model).lower(params, batch(), None)
    made = lowered.compile()(params, batch(), None)
    assert made.dtype == jnp.float32
    gradients = jax.eval_shape(jax.grad(lambda params: jnp.sum(model(params, batch(), None))), params)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} == {jnp.dtype(jnp.float32)}
    plain = np.asarray(logits(params, batch(), None))
    error = np.abs(np.asarray(made) - plain).max()
    # bfloat16 keeps 8 bits: some steps of 2^-8, but not none.
    assert 1e-5 < error < 8 * 2**-8 * np.abs(plain).max()
    text = lowered.as_text()
    products = re.findall(r"stablehlo\.dot_general .*-> tensor<[\dx]*x(\w+)>", text)
    assert products == ["bf16"] * (8 * CONFIG.num_hidden_layers + 2)
    exponentials = re.findall(r"stablehlo\.exponential .* : tensor<[\dx]*x(\w+)>", text)
    assert exponentials.count("f32") >= 1 and "bf16" not in exponentials


def test_the_start_is_float32_of_the_stated_shapes_and_a_function_of_the_seed() -> None:
    config = replace(CONFIG, num_labels=1, type_vocab_size=1, num_hidden_layers=1)
    start = jax.jit(init_params, static_argnums=0)
    made = paths(start(config, 1))
    assert {path: leaf.shape for path, leaf in made.items()} == param_shapes(config)
    assert {leaf.dtype for leaf in made.values()} == {jnp.dtype(jnp.float32)}
    again, other = paths(start(config, 1)), paths(start(config, 2))
    for path, leaf in made.items():
        np.testing.assert_array_equal(leaf, again[path])
        if path.endswith(("kernel", "embedding")):
            assert (np.asarray(leaf) != np.asarray(other[path])).any()
        else:
            np.testing.assert_array_equal(leaf, float(path.endswith("scale")))
    drawn = np.concatenate([np.ravel(leaf) for path, leaf in made.items() if path.endswith(("kernel", "embedding"))])
    np.testing.assert_allclose(drawn.std(), config.initializer_range, rtol=0.1)
    inputs = batch()._replace(token_type_ids=jnp.zeros((ROWS, TOKENS), jnp.int32))
    assert jax.eval_shape(logits_fn(config), nest(made), inputs, None).shape == (ROWS, 1)


def test_query_key_products_have_the_gradients_of_the_einsum() -> None:
    draw = np.random.default_rng(0)
    query, key = (jnp.asarray(draw.normal(size=(3, n, 2, 4)), jnp.float32) for n in (1, 5))
    weight = jnp.asarray(draw.normal(size=(3, 2, 1, 5)), jnp.float32)
    ours = jax.grad(lambda *qk: jnp.sum(weight * query_key_products(*qk)), argnums=(0, 1))(query, key)
    plain = jax.grad(lambda q, k: jnp.sum(weight * jnp.einsum("bqhd,bkhd->bhqk", q, k)), argnums=(0, 1))(query, key)
    for one, other in zip(ours, plain, strict=True):
        np.testing.assert_allclose(one, other, **CLOSE)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_no_gelu_is_below_its_depth(dtype: jnp.dtype) -> None:
    every = np.arange(2**16, dtype=np.uint16).view(jnp.bfloat16).astype(np.float32)
    near = np.linspace(-1, -0.5, 2**16, dtype=np.float32)
    for x in (every[np.isfinite(every)], near):
        assert -GELU_DEPTH <= float(jax.jit(gelu)(jnp.asarray(x, dtype)).min()) < -0.169


def test_gelu_is_exact_with_its_gradient_also_in_the_tails() -> None:
    x = jnp.linspace(-8, 8, 1001)
    exact = partial(jax.nn.gelu, approximate=False)
    np.testing.assert_allclose(gelu(x), exact(x), **CLOSE)
    np.testing.assert_allclose(jax.vmap(jax.grad(gelu))(x), jax.vmap(jax.grad(exact))(x), **CLOSE)
