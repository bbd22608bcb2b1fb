"""`bertjax.model.bert` written in ONNX's standard operators: opset 17, any batch, any length up to the positions.

Within the graph a sequence comes before its batch, [seq, batch, hidden]: seen as [seq, batch * heads, size] the heads
need one exchange of the first two axes, which ONNX Runtime takes into the products. With the batch first it makes
copies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

import bertjax
from bertjax.artifact.codes import model_codes
from bertjax.artifact.exports.onnx_graph import Graph, QuantizedActivation
from bertjax.artifact.load import Model
from bertjax.model.bert import GELU_DEPTH
from bertjax.params import paths

OPSET = 17
"""The first with LayerNormalization."""
IR_VERSION = 8
"""Of the files that came with opset 17, so that runtimes of that time read ours."""
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUT = "logits"


Scales = Mapping[str, np.float32]
"""Of a model's quantized activations, by the place that reads them."""


def onnx_model(model: Model, unsigned_weights: bool = False, static: Scales | None = None) -> ModelProto:
    """The model as ONNX: three int64 inputs [batch, seq], float32 logits [batch, labels].

    Args:
        unsigned_weights: Store the encoder's codes as uint8, see `bertjax.artifact.exports.to_onnx.saturates`.
        static: Fixed scales of the activations, instead of training's one for each token.
    """
    bert = _Bert(model, unsigned_weights, static)
    bert.classify(bert.encode(bert.embed()))
    return _finished(bert, [])


def scales_model(model: Model, unsigned_weights: bool = False) -> tuple[ModelProto, dict[str, str]]:
    """The model with its activations' scales [seq, batch, 1] as further outputs, and their names by place."""
    bert = _Bert(model, unsigned_weights, None)
    bert.classify(bert.encode(bert.embed()))
    scales = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, "batch", 1])
              for name in bert.scales.values()]
    return _finished(bert, scales), bert.scales


def _finished(bert: _Bert, more_outputs: list[ValueInfoProto]) -> ModelProto:
    graph = helper.make_graph(
        bert.graph.nodes, "bert",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "seq"]) for name in INPUTS],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", bert.config.num_labels]), *more_outputs],
        list(bert.graph.constants.values()))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
                             producer_name="bertjax", producer_version=bertjax.__version__)


class _Bert:
    """Writes one model into a graph. Names are those of the parameters."""

    def __init__(self, model: Model, unsigned_weights: bool, static: Scales | None) -> None:
        self.config, self.quantize, self.unsigned = model.config, model.quantize, unsigned_weights
        self.static = static
        self.scales: dict[str, str] = {}
        self.leaves = {path: np.asarray(leaf) for path, leaf in paths(model.params).items()}
        self.codes = model_codes(model.params, model.quantize)
        self.graph = Graph()

    def embed(self) -> str:
        """[seq, batch, hidden]."""
        graph, at = self.graph, "bert/embeddings"
        ids, types = (graph.op("Transpose", name, at=at, perm=[1, 0]) for name in (INPUTS[0], INPUTS[2]))
        length, one = graph.op("Shape", ids, at=at, start=0, end=1), graph.integers(1)
        takes: dict[str, Callable[[str], str]] = {
            "word": lambda table: graph.op("Gather", table, ids, at=at, axis=0),
            "token_type": lambda table: graph.op("Gather", table, types, at=at, axis=0),
            "position": lambda table: graph.op("Unsqueeze", graph.slice(table, length, 0, at), one, at=at),
        }
        word, kind, position = (
            graph.rows(self.codes.get(path, self.leaves[path]), take, path.removesuffix("/embedding"))
            for path, take in ((f"{at}/{name}_embeddings/embedding", take) for name, take in takes.items()))
        hidden = graph.op("Add", graph.op("Add", word, kind, at=at), position, at=at)
        return self.layer_norm(hidden, at)

    def encode(self, hidden: str) -> str:
        """The encoder layers; the last one computes the first token alone, as training does: [1, batch, hidden]."""
        graph, at, (_, mask, _) = self.graph, "bert/encoder", INPUTS
        absent = graph.op("Equal", mask, graph.value(np.int64(0)), at=at)
        bias = graph.op("Where", absent, graph.value(np.finfo(np.float32).min), graph.value(np.float32(0)), at=at)
        # Added: the lowest float swallows any score, so that masked scores are as training's, which takes its place.
        bias = graph.op("Unsqueeze", bias, graph.integers(1), at=at)
        bias = graph.op("Expand", bias, graph.integers(1, self.config.num_attention_heads, 1), at=at)
        length = graph.op("Shape", mask, at=at, start=1, end=2)
        bias = graph.op("Reshape", bias, graph.op("Concat", graph.integers(-1, 1), length, at=at, axis=0), at=at)
        for i in range(self.config.num_hidden_layers):
            hidden = self.layer(hidden, bias, f"{at}/layer/{i}", first_only=i == self.config.num_hidden_layers - 1)
        return hidden

    def classify(self, hidden: str) -> None:
        """Pooler and task head, in float."""
        graph, at = self.graph, "bert/pooler"
        first = graph.op("Gather", hidden, graph.value(np.int64(0)), at=at, axis=0)
        pooled = graph.op("Tanh", self.gemm(first, f"{at}/dense"), at=at)
        self.gemm(pooled, "classifier", OUTPUT)

    def layer(self, hidden: str, bias: str, at: str, first_only: bool) -> str:
        """Attention and feed-forward, each followed by residual and LayerNorm.

        Args:
            bias: Of the scores, [batch * heads, 1, seq].
        """
        graph = self.graph
        residual = graph.first_token(hidden, at) if first_only else hidden
        context = self.attend(hidden, bias, f"{at}/attention/self", first_only)
        made = self.linear(self.prepared(context, f"{at}/attention/output"), f"{at}/attention/output/dense")
        hidden = self.layer_norm(graph.op("Add", made, residual, at=f"{at}/attention/output"), f"{at}/attention/output")
        inner = self.linear(self.prepared(hidden, f"{at}/intermediate"), f"{at}/intermediate/dense")
        inner = self.gelu(inner, f"{at}/intermediate")
        made = self.linear(self.prepared(inner, f"{at}/output", GELU_DEPTH), f"{at}/output/dense")
        return self.layer_norm(graph.op("Add", made, hidden, at=f"{at}/output"), f"{at}/output")

    def attend(self, hidden: str, bias: str, at: str, first_only: bool) -> str:
        """Softmax(QKᵀ/√d)V; what the three products read is quantized once."""
        graph, size = self.graph, self.config.hidden_size // self.config.num_attention_heads
        read = self.prepared(hidden, at)
        asking = read
        if first_only and isinstance(read, QuantizedActivation):
            asking = QuantizedActivation(*(graph.first_token(part, f"{at}/query") for part in read))
        elif first_only:
            asking = self.prepared(graph.first_token(hidden, f"{at}/query"), at)
        query = self.heads(self.linear(asking, f"{at}/query"), f"{at}/query", [1, 0, 2])
        # Without its bias, which adds the same to all scores of a query: softmax does not see it.
        key = self.heads(self.product(read, f"{at}/key"), f"{at}/key", [1, 2, 0])
        value = self.heads(self.linear(read, f"{at}/value"), f"{at}/value", [1, 0, 2])
        query = graph.op("Div", query, graph.value(np.sqrt(np.float32(size))), at=at)
        scores = graph.op("Add", graph.op("MatMul", query, key, at=at), bias, at=at)
        mixed = graph.op("MatMul", graph.op("Softmax", scores, at=at, axis=-1), value, at=at)
        mixed = graph.op("Transpose", mixed, at=at, perm=[1, 0, 2])
        return graph.op("Reshape", mixed, graph.integers(0, -1, self.config.hidden_size), at=at)

    def heads(self, x: str, at: str, order: list[int]) -> str:
        """[seq, batch, hidden] to [seq, batch * heads, size], whose axes are then put into another order."""
        shape = self.graph.integers(0, -1, self.config.hidden_size // self.config.num_attention_heads)
        return self.graph.op("Transpose", self.graph.op("Reshape", x, shape, at=at), at=at, perm=order)

    def prepared(self, x: str, at: str, least_peak: float = 0.0) -> str | QuantizedActivation:
        """An activation as the linear layers read it: quantized, or as it is."""
        bits = self.quantize.activation_bits
        if bits is None:
            return x
        if self.static is not None:
            return self.graph.fake_quantize(x, self.static[at], f"{at}/quantize")
        made = self.graph.quantize(x, bits, f"{at}/quantize", least_peak)
        self.scales[at] = made.scale
        return made

    def linear(self, x: str | QuantizedActivation, at: str) -> str:
        """A linear layer of the encoder."""
        bias = self.leaves[f"{at}/bias"]
        # [1, 1, outputs]: with a vector ONNX Runtime (1.31) makes one operator of it and gelu, slower than the two.
        return self.graph.op("Add", self.product(x, at), self.graph.weight(f"{at}/bias", bias[None, None]), at=at)

    def product(self, x: str | QuantizedActivation, at: str) -> str:
        """A linear layer of the encoder but for its bias."""
        if isinstance(x, QuantizedActivation):
            return self.graph.integer_product(x, self.codes[f"{at}/kernel"], self.unsigned, at)
        if self.static is not None:
            weight = self.graph.dequantized(self.codes[f"{at}/kernel"], self.unsigned, at)
            return self.graph.op("MatMul", x, weight, at=at)
        return self.graph.product(x, self.leaves[f"{at}/kernel"], at)

    def gemm(self, x: str, at: str, output: str | None = None) -> str:
        """A float linear layer on [batch, inputs]."""
        return self.graph.op("Gemm", x, self.weight(f"{at}/kernel"), self.weight(f"{at}/bias"), at=at, output=output)

    def layer_norm(self, x: str, at: str) -> str:
        """LayerNorm over the last axis with the config's epsilon."""
        at = f"{at}/LayerNorm"
        return self.graph.op("LayerNormalization", x, self.weight(f"{at}/scale"), self.weight(f"{at}/bias"), at=at,
                             axis=-1, epsilon=self.config.layer_norm_eps)

    def gelu(self, x: str, at: str) -> str:
        """The exact gelu, in the form that ONNX Runtime knows and computes in one pass."""
        graph = self.graph
        erf = graph.op("Erf", graph.op("Div", x, graph.value(np.sqrt(np.float32(2))), at=at), at=at)
        made = graph.op("Mul", x, graph.op("Add", erf, graph.value(np.float32(1)), at=at), at=at)
        return graph.op("Mul", made, graph.value(np.float32(0.5)), at=at)

    def weight(self, path: str) -> str:
        """A parameter as it is."""
        return self.graph.weight(path, self.leaves[path])
