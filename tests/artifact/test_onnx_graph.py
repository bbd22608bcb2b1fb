"""One quantized linear layer in ONNX Runtime: the codes, the sums and the products are training's."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import ModelProto, TensorProto, checker, helper

from bertjax.artifact.codes import Codes
from bertjax.artifact.exports.onnx_graph import ZERO_POINT, Graph
from bertjax.artifact.exports.to_onnx import saturates
from bertjax.compress.quantize import dot_general, quantize_codes
from bertjax.config import QuantizeConfig
from bertjax.model.bert import GELU_DEPTH
from tests.optimized import optimized_kinds

BATCH, SEQ, INPUTS, OUTPUTS = 2, 3, 9, 5
PAIRS = ((8, 8), (2, 2), (4, 8), (8, 3))
"""Bits of weights and activations."""
BIAS = np.linspace(-1, 2, OUTPUTS, dtype=np.float32)
ROWS = (BATCH, SEQ, INPUTS)
FLOATS = arrays.arrays(np.float32, ROWS, elements=st.floats(-2.0**120, 2.0**120, width=32))
Outputs = tuple[np.ndarray, ...]


def kernel() -> np.ndarray:
    """Random weights, an all-zero column and one of equal weights, whose codes are all the largest."""
    made = np.random.default_rng(0).normal(size=(INPUTS, OUTPUTS)).astype(np.float32)
    made[:, 0], made[:, 1] = 0, 0.3
    return made


@functools.cache
def codes_of(bits: int, axis: int, least_peak: float = 0.0) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Training's codes and scales, compiled."""
    compiled = jax.jit(lambda x: quantize_codes(x, bits, axis, least_peak))
    return lambda x: tuple(map(np.asarray, compiled(jnp.asarray(x))))


def layer_model(
    weight_bits: int, activation_bits: int, unsigned: bool, wanted: tuple[str, ...], least_peak: float = 0.0
) -> ModelProto:
    """Gives some of "codes", "sums" and "layer" (with its bias)."""
    graph = Graph()
    x = graph.quantize("x", activation_bits, "layer", least_peak)
    product = graph.integer_product(x, Codes(*codes_of(weight_bits, 0)(kernel()), weight_bits), unsigned, "layer")
    layer = graph.op("Add", product, graph.weight("layer/bias", BIAS), at="layer")
    (sums,) = (node.output[0] for node in graph.nodes if node.op_type == "MatMulInteger")
    results = {"codes": (x.codes, TensorProto.UINT8, INPUTS), "sums": (sums, TensorProto.INT32, OUTPUTS),
               "layer": (layer, TensorProto.FLOAT, OUTPUTS)}
    values = [helper.make_tensor_value_info(name, kind, ["batch", "seq", features])
              for name, kind, features in (("x", TensorProto.FLOAT, INPUTS), *(results[name] for name in wanted))]
    made = helper.make_model(
        helper.make_graph(graph.nodes, "layer", values[:1], values[1:], list(graph.constants.values())),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(made, full_check=True)
    return made


@functools.cache
def exported(
    weight_bits: int, activation_bits: int, unsigned: bool, wanted: tuple[str, ...], least_peak: float = 0.0
) -> Callable[..., Outputs]:
    """The same with the optimizations that a user gets."""
    made = layer_model(weight_bits, activation_bits, unsigned, wanted, least_peak)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda x: tuple(session.run(None, {"x": x}))


def spread_rows() -> np.ndarray:
    """Tokens of very different sizes: all zero, of equal values, with their peak at the end of the range of floats."""
    x = np.random.default_rng(1).normal(size=ROWS).astype(np.float32)
    x *= np.float32([[1e-30, 1, 1e30], [1e-3, 1e3, 1]])[..., None]
    x[1, 1], x[1, 2] = 0.7, 0
    return x


def tiny_rows() -> np.ndarray:
    """Tokens on both sides of the smallest scale, of subnormal numbers too, which XLA alone takes for zero."""
    peaks = np.float32([[1e-44, 1.17e-38, 1.2e-38], [3e-37, 2.9e-36, 1e-35]])
    return peaks[..., None] * np.linspace(-1, 1, INPUTS, dtype=np.float32)


@pytest.mark.parametrize("unsigned", [saturates(), True])
@pytest.mark.parametrize(("weight_bits", "activation_bits"), PAIRS)
def test_codes_and_sums_are_trainings_for_any_floats(weight_bits: int, activation_bits: int, unsigned: bool) -> None:
    weight, _ = codes_of(weight_bits, 0)(kernel())
    run = exported(weight_bits, activation_bits, unsigned, ("codes", "sums"))

    @given(FLOATS)
    @example(spread_rows())
    @example(tiny_rows())
    @example(np.full(ROWS, 5.0, np.float32))
    def law(x: np.ndarray) -> None:
        codes, sums = run(x)
        expected, _ = codes_of(activation_bits, -1)(x)
        assert codes.dtype == np.uint8 and sums.dtype == np.int32
        np.testing.assert_array_equal(codes.astype(np.int16) - ZERO_POINT, expected)
        np.testing.assert_array_equal(sums, expected.astype(np.int32) @ weight.astype(np.int32))

    law()


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_codes_of_numbers_not_below_minus_the_least_peak_are_trainings(bits: int) -> None:
    run, training = exported(8, bits, saturates(), ("codes",), GELU_DEPTH), codes_of(bits, -1, GELU_DEPTH)
    kinds = {node.op_type for node in layer_model(8, bits, saturates(), ("codes",), GELU_DEPTH).graph.node}
    assert "Abs" not in kinds and "ReduceMax" in kinds

    @given(arrays.arrays(np.float32, ROWS, elements=st.one_of(
        st.floats(-GELU_DEPTH, GELU_DEPTH, width=32), st.floats(-GELU_DEPTH, 2.0**120, width=32))))
    @example(np.full(ROWS, -GELU_DEPTH, np.float32))
    @example(np.zeros(ROWS, np.float32))
    def law(x: np.ndarray) -> None:
        np.testing.assert_array_equal(run(x)[0].astype(np.int16) - ZERO_POINT, training(x)[0])

    law()


@pytest.mark.parametrize(("weight_bits", "activation_bits"), PAIRS)
def test_a_layer_scales_each_token_by_its_own_scale_and_adds_its_bias(weight_bits: int, activation_bits: int) -> None:
    x = spread_rows()
    product = dot_general(QuantizeConfig(weight_bits, activation_bits, None))
    training = jax.jit(lambda x, w: product(x, w, (((1,), (0,)), ((), ()))))
    products = np.asarray(training(x.reshape(-1, INPUTS), kernel())).reshape(BATCH, SEQ, OUTPUTS)
    # The layer alone: operators whose result is asked for are not fused with what follows.
    (ours,) = exported(weight_bits, activation_bits, saturates(), ("layer",))(x)
    np.testing.assert_array_less(np.abs(ours - (products + BIAS)), 3e-7 * (np.abs(products) + np.abs(BIAS)))


@pytest.mark.parametrize("unsigned", [False, True])
def test_product_and_weights_scale_are_one_operator(unsigned: bool) -> None:
    kinds = optimized_kinds(layer_model(8, 8, unsigned, ("layer",)))
    assert "MatMulIntegerToFloat" in kinds and "MatMulInteger" not in kinds


@given(st.integers(2, 8), st.integers(0, 2**32 - 1))
def test_rounding_boundaries_fall_on_trainings_side(bits: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    bound = 2 ** (bits - 1) - 1
    peak = draw.uniform(0.1, 3, (BATCH, SEQ, 1))
    x = ((draw.integers(-bound, bound, ROWS) + 0.5) * peak / bound).astype(np.float32)
    x[..., :1] = peak
    (codes,) = exported(8, bits, saturates(), ("codes",))(x)
    np.testing.assert_array_equal(codes.astype(np.int16) - ZERO_POINT, codes_of(bits, -1)(x)[0])


@pytest.mark.parametrize("unsigned", [saturates(), True])
def test_a_fixed_scale_gives_the_integer_product_of_rounded_codes(unsigned: bool) -> None:
    weight = Codes(*codes_of(8, 0)(kernel()), 8)
    graph = Graph()
    product = graph.op("MatMul", graph.fake_quantize("x", np.float32(0.02), "layer"),
                       graph.dequantized(weight, unsigned, "layer"), at="layer")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "seq", features])
              for name, features in (("x", INPUTS), (product, OUTPUTS))]
    made = helper.make_model(
        helper.make_graph(graph.nodes, "layer", values[:1], values[1:], list(graph.constants.values())),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(made, full_check=True)
    assert "MatMulIntegerToFloat" in optimized_kinds(made)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(2).normal(size=ROWS).astype(np.float32)
    x[0, 0, :4] = 9, -9, 2.54, -2.56  # beyond the largest codes, the largest, the smallest
    codes = np.clip(np.round(x / np.float32(0.02)), -ZERO_POINT, 127).astype(np.int32)
    assert codes.min() == -128 and codes.max() == 127
    expected = (codes @ weight.codes.astype(np.int32)) * np.float64(0.02) * weight.scale
    np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, rtol=1e-5, atol=1e-6)
