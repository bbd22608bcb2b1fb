"""What ONNX Runtime makes of a model before it runs it."""

from __future__ import annotations

import tempfile
from collections import Counter

import onnx
import onnxruntime
from onnx import ModelProto


def optimized_kinds(made: ModelProto) -> Counter[str]:
    """How many operators of each kind it runs."""
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = f"{folder}/optimized.onnx"
        options.log_severity_level = 3  # it warns that the file is for this machine
        onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)
