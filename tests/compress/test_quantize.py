"""The laws of quantization: one definition of codes and scales, int8 products, straight-through gradients."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bertjax.compress.prune import all_kept
from bertjax.compress.quantize import (
    SMALLEST_SCALE,
    dequantize,
    dot_general,
    fake_quantize,
    inverse_bound,
    quantize_codes,
    quantize_embeddings,
)
from bertjax.config import FLOAT, BertConfig, Dtype, QuantizeConfig
from bertjax.model.bert import Inputs, logits_fn
from bertjax.model.layout import param_shapes
from bertjax.params import EMBEDDINGS, Params, nest, paths
from bertjax.train.step import effective_params
from tests.lowered import products_of

BITS = range(2, 9)
PAIRS = list(itertools.product(BITS, BITS))
"""Bits of weights and activations."""
TRIALS, TOKENS, INPUTS, OUTPUTS = 2, 10, 7, 6
CONFIG = BertConfig(vocab_size=11, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12,
                    max_position_embeddings=6, num_labels=3)


def bound(bits: int) -> int:
    """The largest code."""
    return 2 ** (bits - 1) - 1


def halfway(bits: int, size: int, draw: np.random.Generator) -> np.ndarray:
    """A row whose first element is its peak and whose others lie on the boundaries between two codes."""
    peak = draw.uniform(0.1, 3)
    others = (draw.integers(-bound(bits), bound(bits), size - 1) + 0.5) * peak / bound(bits)
    return np.float32([peak, *others])


@pytest.fixture(scope="module")
def operands() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Activations [trial, token, in], weights [trial, in, out] and cotangents [trial, pair, token, out].

    With slices on rounding boundaries for every number of bits, and with an all-zero token and an all-zero column.
    """
    draw = np.random.default_rng(0)
    x = draw.normal(size=(TRIALS, TOKENS, INPUTS)).astype(np.float32)
    w = draw.normal(size=(TRIALS, INPUTS, OUTPUTS)).astype(np.float32)
    for trial in range(TRIALS):
        for row, bits in enumerate(BITS):
            x[trial, row] = halfway(bits, INPUTS, draw)
        for column, bits in zip((1, 3, 4), (8, 4, 3), strict=True):
            w[trial, :, column] = halfway(bits, INPUTS, draw)
    x[:, -1] = 0
    w[:, :, 0] = 0
    return x, w, draw.normal(size=(TRIALS, len(PAIRS), TOKENS, OUTPUTS)).astype(np.float32)


def products(x: jax.Array, w: jax.Array) -> jax.Array:
    """The quantized product of each pair of bits."""
    last, first = (x.ndim - 1,), (0,)
    return jnp.stack([dot_general(QuantizeConfig(weight_bits, activation_bits, None))(x, w, ((last, first), ((), ())))
                      for weight_bits, activation_bits in PAIRS])


@jax.vmap
def products_and_gradients(x: jax.Array, w: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Of every trial: the products, and for each pair the gradients of x and w."""
    def one(pair: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        product = dot_general(QuantizeConfig(*PAIRS[pair], None))
        made, pull = jax.vjp(lambda x, w: product(x, w, (((1,), (0,)), ((), ()))), x, w)
        return made, pull(g[pair])

    values, gradients = zip(*map(one, range(len(PAIRS))), strict=True)
    by_x, by_w = zip(*gradients, strict=True)
    return jnp.stack(values), jnp.stack(by_x), jnp.stack(by_w)


def compiled_dots(text: str) -> Counter[tuple[str, ...]]:
    """How often the compiled HLO multiplies which types into which: (left, right, result)."""
    types = dict(re.findall(r"%?([\w.-]+) = (\w+)\[", text))
    dots = re.findall(r"= (\w+)\[[^\]]*\]\S* dot\(([^)]*)\)", text)
    found: Counter[tuple[str, ...]] = Counter()
    for made, arguments in dots:
        left, right = re.findall(r"%([\w.-]+)", arguments)
        found[types[left], types[right], made] += 1
    return found


@pytest.fixture(scope="module")
def forward(operands: tuple[np.ndarray, ...]) -> tuple[str, np.ndarray]:
    """Compiled text, and the products of the first trial alone."""
    x, w, _ = (operand[0] for operand in operands)
    compiled = jax.jit(products).lower(x, w).compile()
    return compiled.as_text(), np.asarray(compiled(x, w))


@pytest.fixture(scope="module")
def trained(operands: tuple[np.ndarray, ...]) -> tuple[str, tuple[np.ndarray, ...]]:
    """Compiled text, values and gradients under vmap over trials."""
    compiled = jax.jit(products_and_gradients).lower(*operands).compile()
    return compiled.as_text(), tuple(map(np.asarray, compiled(*operands)))


@jax.jit
def all_codes(x: jax.Array, w: jax.Array) -> tuple[dict[int, Any], dict[int, Any]]:
    """By bits: codes and scales of the activations per token, of the weights per output channel."""
    return {bits: quantize_codes(x, bits, -1) for bits in BITS}, {bits: quantize_codes(w, bits, -2) for bits in BITS}


def test_every_pair_of_bits_multiplies_int8_by_int8_into_int32(forward: tuple[str, Any]) -> None:
    assert compiled_dots(forward[0]) == {("s8", "s8", "s32"): len(PAIRS)}


def test_training_multiplies_int8_forward_and_float_backward(trained: tuple[str, Any]) -> None:
    assert compiled_dots(trained[0]) == {("s8", "s8", "s32"): len(PAIRS), ("f32", "f32", "f32"): 2 * len(PAIRS)}


def test_products_are_those_of_the_codes_times_the_scales(
    operands: tuple[np.ndarray, ...], forward: Any, trained: Any
) -> None:
    x, w, _ = operands
    of_x, of_w = jax.tree.map(np.asarray, all_codes(x, w))
    for index, (weight_bits, activation_bits) in enumerate(PAIRS):
        (x_codes, x_scale), (w_codes, w_scale) = of_x[activation_bits], of_w[weight_bits]
        expected = (x_codes.astype(np.int32) @ w_codes.astype(np.int32)).astype(np.float32) * x_scale * w_scale
        np.testing.assert_array_max_ulp(forward[1][index], expected[0], 1)
        np.testing.assert_array_max_ulp(trained[1][0][:, index], expected, 1)


def test_gradients_are_those_of_the_product_of_the_dequantized(operands: tuple[np.ndarray, ...], trained: Any) -> None:
    x, w, g = operands
    of_x, of_w = jax.tree.map(np.float64, all_codes(x, w))
    _, by_x, by_w = trained[1]
    for index, (weight_bits, activation_bits) in enumerate(PAIRS):
        seen_x, seen_w = np.multiply(*of_x[activation_bits]), np.multiply(*of_w[weight_bits])
        np.testing.assert_allclose(by_x[:, index], g[:, index] @ seen_w.swapaxes(1, 2), atol=1e-5)
        np.testing.assert_allclose(by_w[:, index], seen_x.swapaxes(1, 2) @ g[:, index], atol=1e-5)


def test_zero_tokens_and_columns_give_zeros_and_finite_gradients(forward: Any, trained: Any) -> None:
    values, by_x, by_w = trained[1]
    for made in (forward[1], values):
        assert (made[..., -1, :] == 0).all() and (made[..., 0] == 0).all()
    for made in (values, by_x, by_w):
        assert np.isfinite(made).all()


def test_codes_fill_their_range_and_round_to_the_nearest(operands: tuple[np.ndarray, ...]) -> None:
    x, _, _ = operands
    of_x, of_negative = jax.tree.map(np.asarray, (all_codes(x, x)[0], all_codes(-x, x)[0]))
    peak = np.abs(x).max(-1, keepdims=True)
    for bits, (codes, scale) in of_x.items():
        # XLA multiplies by 1/(2^(bits-1)-1), which is rounded: hence one unit in the last place.
        exact = np.maximum(peak / np.float32(bound(bits)), SMALLEST_SCALE)
        np.testing.assert_array_max_ulp(scale, exact, 1)
        assert codes.dtype == np.int8
        np.testing.assert_array_equal(np.abs(codes[:, :-1]).max(-1), bound(bits))
        assert (codes[:, -1] == 0).all()
        assert (np.abs(codes * np.float64(scale) - x) <= scale * (0.5 + 1e-4)).all()
        np.testing.assert_array_equal(of_negative[bits][0], -codes)


def test_bfloat16_operands_have_the_codes_and_scales_of_their_float32_values(operands: tuple[np.ndarray, ...]) -> None:
    x, w = (jnp.asarray(operand[0], jnp.bfloat16) for operand in operands[:2])
    of_x, of_w = jax.tree.map(np.asarray, all_codes(x, w))
    widened = all_codes(x.astype(jnp.float32), w.astype(jnp.float32))
    jax.tree.map(np.testing.assert_array_equal, (of_x, of_w), widened)

    @jax.jit
    def some(x: jax.Array, w: jax.Array) -> dict[tuple[int, int], jax.Array]:
        axes = (((1,), (0,)), ((), ()))
        return {pair: dot_general(QuantizeConfig(*pair, None))(x, w, axes) for pair in ((8, 8), (5, 7))}

    for (weight_bits, activation_bits), made in some(x, w).items():
        assert made.dtype == jnp.bfloat16
        (x_codes, x_scale), (w_codes, w_scale) = of_x[activation_bits], of_w[weight_bits]
        expected = (x_codes.astype(np.int32) @ w_codes.astype(np.int32)).astype(np.float32) * x_scale * w_scale
        # The sum and the product are each rounded to 8 bits, with an error of at most 2^-8.
        np.testing.assert_allclose(np.float32(made), expected, rtol=2**-7)


@pytest.mark.parametrize(("peak", "expected"), [
    (1e-44, [0, 0, 0]), (1.17e-38, [0, 0, 0]), (1.2e-38, [1, 0, 0]), (3e-37, [13, 0, -4]), (2.9e-36, [123, 0, -37]),
    (1e-35, [127, 0, -38]), (1e30, [127, 0, -38]),
])
def test_tiny_and_huge_numbers_make_no_nan(peak: float, expected: list[int]) -> None:
    x = np.float32([[peak, 0, -0.3 * peak]])
    codes, scale = jax.jit(quantize_codes, static_argnums=(1, 2))(x, 8, -1)
    assert codes.tolist() == [expected] and scale >= SMALLEST_SCALE
    product = jax.jit(lambda x: dot_general(QuantizeConfig(8, 8, None))(x, jnp.eye(3), (((1,), (0,)), ((), ()))))
    np.testing.assert_allclose(product(x), np.float32(codes) * scale, rtol=1e-6)


@pytest.mark.parametrize("bits", BITS)
def test_numbers_not_below_minus_the_least_peak_have_their_scale_by_the_largest(bits: int) -> None:
    least, draw = 0.1875, np.random.default_rng(bits)
    x = np.maximum(draw.normal(size=(64, INPUTS)) * 2.0 ** draw.integers(-9, 3, (64, 1)), -least).astype(np.float32)
    x[:3] = [[-least] * INPUTS, [0] * INPUTS, [least / 2] * INPUTS]
    codes, scale = map(np.asarray, jax.jit(quantize_codes, static_argnums=(1, 2, 3))(x, bits, -1, least))
    largest = x.max(-1, keepdims=True)
    np.testing.assert_array_equal(scale, np.maximum(largest, np.float32(least)) * inverse_bound(bits))
    assert (largest < least).sum() > 10 and (np.abs(codes) <= bound(bits)).all()
    assert (np.abs(codes * np.float64(scale) - x) <= scale * (0.5 + 1e-4)).all()

    w = draw.normal(size=(INPUTS, OUTPUTS)).astype(np.float32)
    product = partial(dot_general(QuantizeConfig(8, bits, None)), least_peak=least)
    w_codes, w_scale = map(np.asarray, jax.jit(quantize_codes, static_argnums=(1, 2))(w, 8, 0))
    expected = (codes.astype(np.int32) @ w_codes.astype(np.int32)).astype(np.float32) * scale * w_scale
    np.testing.assert_array_max_ulp(np.asarray(jax.jit(product, static_argnums=2)(x, w, (((1,), (0,)), ((), ())))),
                                    expected, 1)


@pytest.mark.parametrize("bits", BITS)
def test_dequantized_numbers_have_the_same_codes_and_scales(bits: int) -> None:
    draw = np.random.default_rng(bits)
    x = draw.uniform(-1, 1, (2**15, 5)).astype(np.float32)
    # What a peak's scale gives back depends on the peak's 23 bits behind the leading one.
    x[:, 2] = draw.choice([-1, 1], len(x)) * draw.uniform(1, 2, len(x)) * 2.0 ** draw.integers(-100, 100, len(x))
    x[:5] = [[0] * 5, [3e38] * 5, [-3.4028235e38, 1, 1, 1, 1], [1e-37] * 5, [-2e-36] * 5]
    made = jax.jit(quantize_codes, static_argnums=(1, 2))
    codes, scale = map(np.asarray, made(x, bits, -1))
    back = dequantize(codes, scale, bits)
    again, scale_again = map(np.asarray, made(back, bits, -1))
    np.testing.assert_array_equal(again, codes)
    some = scale < 2.0**126  # the reciprocal of others is taken for zero
    assert some.sum() >= len(x) - 2 and not codes[~some[:, 0]].any()
    np.testing.assert_array_equal(scale_again[some], scale[some])
    others = np.abs(codes) < bound(bits)
    assert (back == codes * scale)[others].all()
    np.testing.assert_array_max_ulp(back[5:], (codes * scale)[5:], 1)


@pytest.mark.parametrize("bits", [2, 8])
def test_fake_quantization_has_the_value_of_its_codes_and_the_gradient_of_the_identity(bits: int) -> None:
    draw = np.random.default_rng(1)
    x, g = draw.normal(size=(2, 3, 4, 5)).astype(np.float32)
    x[1, 2] = 0

    @jax.jit
    @jax.vmap
    def value_and_gradient(x: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
        made, pull = jax.vjp(lambda x: fake_quantize(x, bits, -1), x)
        return made, pull(g)[0]

    made, gradient = value_and_gradient(x, g)
    codes, scale = quantize_codes(x, bits, -1)
    np.testing.assert_array_max_ulp(np.asarray(made), np.float32(codes) * np.asarray(scale), 1)
    np.testing.assert_array_equal(gradient, g)


@pytest.fixture(scope="module")
def params() -> Params:
    """Random parameters."""
    draw = np.random.default_rng(2)
    shapes = param_shapes(CONFIG)
    return nest({path: jnp.asarray(draw.normal(size=shape), jnp.float32) for path, shape in shapes.items()})


def test_the_three_embedding_tables_are_quantized_by_row_and_nothing_else(params: Params) -> None:
    before, after = paths(params), paths(quantize_embeddings(params, 4))
    changed = {path for path in before if (np.asarray(before[path]) != np.asarray(after[path])).any()}
    assert changed == {f"bert/embeddings/{table}_embeddings/embedding" for table in ("word", "position", "token_type")}
    for path in changed:
        assert re.fullmatch(EMBEDDINGS, path)
        for row, seen in zip(np.asarray(before[path]), np.asarray(after[path]), strict=True):
            grid = np.abs(row).max() / 7
            np.testing.assert_allclose(seen, np.clip(np.round(row / grid), -7, 7) * grid, rtol=1e-6)
    assert quantize_embeddings(params, None) is params


def random_inputs() -> Inputs:
    """Two rows, the second shorter."""
    ids = np.random.default_rng(3).integers(0, CONFIG.vocab_size, (2, 5))
    return Inputs(jnp.asarray(ids), jnp.asarray(ids % 2), jnp.asarray(np.arange(5) < [[5], [3]]))


def test_off_is_no_product_and_no_change_of_a_bit(params: Params) -> None:
    assert dot_general(FLOAT) is None and dot_general(QuantizeConfig(None, None, 8)) is None
    plain = jax.jit(logits_fn(CONFIG))(params, random_inputs(), None)

    @jax.jit
    def composed(params: Params, inputs: Inputs) -> jax.Array:
        return logits_fn(CONFIG, dot_general(FLOAT))(effective_params(params, all_kept(params), FLOAT), inputs, None)

    assert np.asarray(plain).tobytes() == np.asarray(composed(params, random_inputs())).tobytes()


def test_gradients_of_rounded_products_are_those_of_float32_but_for_the_rounding(operands: tuple) -> None:
    """The products forward have the same bits; backward codes are exact, and what is multiplied by them is rounded."""
    x, w = (jnp.asarray(operand[0]) for operand in operands[:2])
    axes = (((1,), (0,)), ((), ()))
    grads = jnp.asarray(np.random.default_rng(5).normal(size=(x.shape[0], w.shape[1])), jnp.float32)

    def both(dtype: Dtype) -> tuple[jax.Array, tuple[jax.Array, jax.Array], str]:
        def run(x: jax.Array, w: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            made, backward = jax.vjp(lambda x, w: dot_general(QuantizeConfig(8, 8, None), dtype)(x, w, axes), x, w)
            return made, backward(grads)

        return *jax.jit(run)(x, w), jax.jit(run).lower(x, w).as_text()

    made, gradients, _ = both("float32")
    rounded, of_rounded, text = both("bfloat16_products")
    np.testing.assert_array_equal(made, rounded)
    for ours, plain in zip(of_rounded, gradients, strict=True):
        assert ours.dtype == jnp.float32
        error = np.abs(ours - plain).max() / np.abs(plain).max()
        assert 0 < error < 2**-7
    assert products_of(text) == {("i8", "i8", "i32"): 1, ("bf16", "bf16", "f32"): 2}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_six_linear_layers_of_each_layer_are_integer_and_the_rest_is_float(params: Params, dtype: str) -> None:
    model = logits_fn(CONFIG, dot_general(QuantizeConfig(4, 8, None)), jnp.dtype(dtype))
    text = jax.jit(model).lower(params, random_inputs(), None).as_text()
    dots = products_of(text)
    short = {"float32": "f32", "bfloat16": "bf16"}[dtype]
    layers = CONFIG.num_hidden_layers
    # Scores and mixture of each layer, the pooler, the task head.
    assert dots == {("i8", "i8", "i32"): 6 * layers, (short,) * 3: 2 * layers + 2}
