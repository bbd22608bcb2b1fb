"""Quantization of a finished float model without training: what quantization-aware training (Q) is to be better than.

ONNX Runtime's own quantizers do it, on our float export, with their defaults; and bertjax's scheme does, untrained. All
are symmetric in the weights, so that a pruned weight stays 0. LayerNorm, softmax, QKᵀ, PV and the task head stay float.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertjax.artifact.exports.calibration import CALIBRATION_ROWS, calibration_rows
from bertjax.artifact.exports.parity import computed_by
from bertjax.artifact.exports.to_onnx import needs_unsigned, onnx_run, require_onnx, saturates
from bertjax.artifact.load import Model
from bertjax.config import FLOAT, InputError, QuantizeConfig, require
from bertjax.data.examples import Examples

if TYPE_CHECKING:
    from onnx import ModelProto

BLOCK = 32
"""Weights of a column that share a scale in the weight-only schemes."""

SCHEMES: dict[str, str] = {
    "int8_dynamic": "encoder's products and embeddings in int8, a scale per tensor, activations' scales at run time "
                    "(quantize_dynamic)",
    "int8_static": f"the same with activations' scales measured beforehand on {CALIBRATION_ROWS} training rows "
                   "(quantize_static, QDQ)",
    "int16_static": "as int8_static in 16 bits; ONNX Runtime multiplies them as floats on a CPU",
    "int8_weight_only": f"encoder's weights in int8, a scale per block of {BLOCK}; activations and embeddings in float "
                        "(MatMulNBits)",
    "int4_weight_only": f"encoder's weights in int4, a scale per block of {BLOCK}; activations and embeddings in float "
                        "(MatMulNBits)",
    "int8_bertjax": "what Q trains, without its training: int8 weights per channel, activations per token, embeddings "
                    "per row",
}
"""Names of the schemes, with what they do."""


def write_post_training(
    model: Model, scheme: str, file: Path, train: Examples, threads: int | None = None
) -> Model:
    """Writes a float model quantized by one of `SCHEMES` as an ONNX file: the model, computed by ONNX Runtime.

    Args:
        file: A new file in an existing folder; there whole or not at all.
        train: Training rows of the model's task; the static schemes calibrate on `CALIBRATION_ROWS` of them.
        threads: That ONNX Runtime computes with; None: as many as cores.

    Raises:
        InputError: The model is quantized already, a package is missing, or there is no such scheme.
    """
    require(scheme in SCHEMES, f"a scheme must be one of {', '.join(SCHEMES)}, got {scheme!r}")
    require(model.quantize == FLOAT, "quantization after training needs a float model (methods none, K, P or KP), "
                                     f"got one with {model.quantize.weight_bits}-bit weights")
    require_onnx()
    from bertjax.artifact.exports.onnx_bert import onnx_model

    with tempfile.TemporaryDirectory(dir=file.parent, prefix=f".{file.name}.") as made:
        target = Path(made) / file.name
        if scheme == "int8_bertjax":
            quantized = replace(model, quantize=QuantizeConfig())
            target.write_bytes(onnx_model(quantized, needs_unsigned(quantized)).SerializeToString())
        else:
            with _quiet():
                _WRITERS[scheme](model, onnx_model(model), target, train)
        os.replace(target, file)
    return computed_by(model, onnx_run(file, threads))


def _write_dynamic(model: Model, exported: ModelProto, target: Path, train: Examples) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(exported, target, weight_type=QuantType.QInt8, reduce_range=saturates())


def _write_static(bits: int) -> Callable[[Model, ModelProto, Path, Examples], None]:
    def write(model: Model, exported: ModelProto, target: Path, train: Examples) -> None:
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

        class Reader(CalibrationDataReader):
            def __init__(self) -> None:
                self.rows = calibration_rows(model, train)

            def get_next(self) -> Any:
                return next(self.rows, None)

        activations, weights = {8: (QuantType.QUInt8, QuantType.QInt8), 16: (QuantType.QInt16, QuantType.QInt16)}[bits]
        quantize_static(
            exported, target, Reader(), quant_format=QuantFormat.QDQ, activation_type=activations, weight_type=weights,
            nodes_to_quantize=_quantizable(exported, ("MatMul", "Gather")), op_types_to_quantize=["MatMul", "Gather"],
            # Inputs alone, as in training: what a product gives is not rounded again.
            extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul", "Gather"]},
            reduce_range=bits == 8 and saturates())

    return write


def _write_weight_only(bits: int) -> Callable[[Model, ModelProto, Path, Examples], None]:
    def write(model: Model, exported: ModelProto, target: Path, train: Examples) -> None:
        try:
            from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
        except ImportError as error:
            raise InputError(f"weight-only quantization needs {error.name}, which is not installed: "
                             "pip install 'bertjax[onnx]'") from None
        quantizer = MatMulNBitsQuantizer(exported, bits=bits, block_size=BLOCK, is_symmetric=True,
                                         nodes_to_include=_quantizable(exported, ("MatMul",)))
        quantizer.process()
        quantizer.model.save_model_to_file(str(target))

    return write


_WRITERS = {
    "int8_dynamic": _write_dynamic, "int8_static": _write_static(8), "int16_static": _write_static(16),
    "int8_weight_only": _write_weight_only(8), "int4_weight_only": _write_weight_only(4),
}


def _quantizable(exported: ModelProto, kinds: tuple[str, ...]) -> list[str]:
    """Names of the nodes of these kinds that read a weight: the encoder's linear layers and the embedding tables."""
    weights = {made.name for made in exported.graph.initializer if len(made.dims) == 2}
    return [node.name for node in exported.graph.node
            if node.op_type in kinds and not weights.isdisjoint(node.input)]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the quantizers' lines off the terminal: they log by the root logger, and configure it on import."""
    root = logging.getLogger()
    handlers, level, disabled = list(root.handlers), root.level, root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)
        root.setLevel(level)
        root.handlers[:] = handlers
