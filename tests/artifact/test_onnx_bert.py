"""A whole model in ONNX: standard operators, integers stored as integers, logits as in training."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, checker

from bertjax.artifact.exports.onnx_bert import onnx_model
from bertjax.artifact.exports.parity import made_up_batches
from bertjax.artifact.exports.to_onnx import needs_unsigned
from bertjax.artifact.load import Model
from bertjax.config import FLOAT, QuantizeConfig
from bertjax.params import num_bytes
from tests.optimized import optimized_kinds

Q = QuantizeConfig()


def logits(made: ModelProto, *batch: np.ndarray) -> np.ndarray:
    """What ONNX Runtime computes."""
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    names = ("input_ids", "attention_mask", "token_type_ids")
    return session.run(["logits"], {name: np.int64(part) for name, part in zip(names, batch, strict=True)})[0]


def test_a_float_model_gives_its_logits_for_any_batch(model: Model) -> None:
    made = onnx_model(model)
    checker.check_model(made, full_check=True)
    for batch in (made_up_batches(model.config, model.max_length)[-1], made_up_batches(model.config, 1, rows=1)[0]):
        np.testing.assert_allclose(logits(made, *batch), model.logits(*batch), atol=1e-5)


@pytest.mark.parametrize("quantize", [QuantizeConfig(8, 8, 8), QuantizeConfig(2, 3, 4)], ids=str)
def test_a_quantized_model_gives_its_logits_but_for_rounding(model: Model, quantize: QuantizeConfig) -> None:
    quantized, batch = replace(model, quantize=quantize), made_up_batches(model.config, model.max_length, rows=24)[-1]
    ours = quantized.logits(*batch)
    for unsigned in {needs_unsigned(quantized), True}:
        made = onnx_model(quantized, unsigned)
        checker.check_model(made, full_check=True)
        theirs = logits(made, *batch)
        assert np.median(np.abs(ours - theirs)) < 1e-4
        assert np.isclose(ours, theirs, atol=1e-4).all(axis=1).mean() > 0.8  # the others: a code beside a boundary


def test_quantized_embeddings_alone_leave_the_products_in_float(model: Model) -> None:
    quantized = replace(model, quantize=QuantizeConfig(None, None, 8))
    made, batch = onnx_model(quantized), made_up_batches(model.config, 9)[-1]
    np.testing.assert_allclose(logits(made, *batch), quantized.logits(*batch), atol=1e-5)
    kinds = {name: tensor.data_type for name, tensor in stored(made).items()}
    assert Counter(kinds.values())[TensorProto.INT8] == 3
    assert {name.split("/")[2] for name, kind in kinds.items() if kind == TensorProto.INT8} == {
        "word_embeddings", "token_type_embeddings", "position_embeddings"}


def stored(made: ModelProto) -> dict[str, TensorProto]:
    """The constants by name."""
    return {tensor.name: tensor for tensor in made.graph.initializer}


def test_a_quantized_file_holds_its_matrices_as_int8_alone(model: Model) -> None:
    quantized = onnx_model(replace(model, quantize=Q))
    layers = model.config.num_hidden_layers
    by_kind = Counter(tensor.data_type for tensor in quantized.graph.initializer if len(tensor.dims) == 2)
    # In float32: the kernels of the pooler and of the head, and a scale for each row of the three tables.
    assert by_kind == {TensorProto.INT8: 6 * layers + 3, TensorProto.FLOAT: 2 + 3}
    matrices = sum(len(made.raw_data) for made in stored(quantized).values() if made.data_type == TensorProto.INT8)
    c = model.config
    scales = 4 * (layers * (5 * c.hidden_size + c.intermediate_size)
                  + c.vocab_size + c.max_position_embeddings + c.type_vocab_size)
    held = sum(len(tensor.raw_data) for tensor in stored(quantized).values())
    left_out = 4 * layers * c.hidden_size  # the biases of the keys
    small_constants = held - (num_bytes(model.params) - 3 * matrices + scales - left_out)
    assert 0 <= small_constants < 200


def test_activations_are_quantized_once_for_the_products_that_read_them(model: Model) -> None:
    layers = model.config.num_hidden_layers
    kinds = Counter(node.op_type for node in onnx_model(replace(model, quantize=Q)).graph.node)
    assert (kinds["QuantizeLinear"], kinds["MatMulInteger"], kinds["MatMul"]) == (4 * layers, 6 * layers, 2 * layers)
    kinds = Counter(node.op_type for node in onnx_model(replace(model, quantize=FLOAT)).graph.node)
    assert (kinds["QuantizeLinear"], kinds["MatMulInteger"], kinds["MatMul"]) == (0, 0, 8 * layers)


@pytest.mark.parametrize("quantize", [Q, FLOAT], ids=str)
def test_onnx_runtime_copies_no_activation_to_bring_heads_together(model: Model, quantize: QuantizeConfig) -> None:
    """It takes the transpositions of queries, keys and values into the products; what is left are those of the ids,
    of the types, and of each layer's result."""
    kinds = optimized_kinds(onnx_model(replace(model, quantize=quantize)))
    layers = model.config.num_hidden_layers
    assert (kinds["FusedMatMul"], kinds["Transpose"]) == (2 * layers, layers + 2)


@pytest.mark.parametrize("quantize", [Q, FLOAT], ids=str)
def test_onnx_runtime_computes_gelu_in_one_pass_without_its_bias(model: Model, quantize: QuantizeConfig) -> None:
    """Its operator of both is slower than the two."""
    kinds = optimized_kinds(onnx_model(replace(model, quantize=quantize)))
    assert (kinds["Gelu"], kinds["BiasGelu"], kinds["Erf"]) == (model.config.num_hidden_layers, 0, 0)


def test_any_runtime_can_read_it(model: Model) -> None:
    made = onnx_model(replace(model, quantize=Q))
    assert [(opset.domain, opset.version) for opset in made.opset_import] == [("", 17)]
    assert {node.domain for node in made.graph.node} == {""}
    assert [entry.name for entry in made.graph.input] == ["input_ids", "attention_mask", "token_type_ids"]
    for entry in made.graph.input:
        assert entry.type.tensor_type.elem_type == TensorProto.INT64
        assert [dim.dim_param for dim in entry.type.tensor_type.shape.dim] == ["batch", "seq"]
    assert [entry.name for entry in made.graph.output] == ["logits"]
