"""A model as `model.onnx`, which ONNX Runtime runs; a quantized one with int8 weights and training's integer products.

Quantization is exact: from the same float input every product gets the codes and the int32 sums that it gets in
training. Between products there are float operations whose last bits differ from one machine to the next.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bertjax.artifact.card import about, of_pairs
from bertjax.artifact.exports.parity import Parity, Run, computed_by, measured
from bertjax.artifact.load import Model
from bertjax.config import InputError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from bertjax.artifact.exports.onnx_bert import Scales

FILE = "model.onnx"
SAFE_BITS = 7
"""Weights of so many bits times uint8 never leave 16 bits when two products are added: 2 * 255 * 63 < 2^15."""


def write_onnx(
    model: Model, folder: Path, unsigned_weights: bool = False, static: Scales | None = None
) -> Model:
    """Writes `FILE` into an existing folder, checks it and reads it back: the model, computed by ONNX Runtime.

    Args:
        unsigned_weights: Store the encoder's codes as uint8 with 128 for 0, which every processor multiplies exactly,
            some slower; see `needs_unsigned`.
        static: Fixed scales of the activations, of `bertjax.artifact.exports.calibration`.

    Raises:
        InputError: onnx or onnxruntime is not installed.
    """
    require_onnx()
    import onnx

    from bertjax.artifact.exports.onnx_bert import onnx_model

    made = onnx_model(model, unsigned_weights, static)
    onnx.checker.check_model(made, full_check=True)
    (folder / FILE).write_bytes(made.SerializeToString())
    return computed_by(model, onnx_run(folder / FILE))


def onnx_run(file: Path, threads: int | None = None, optimize: bool = True) -> Run:
    """What computes the logits of a batch with an exported file, on the CPU.

    Args:
        threads: Threads of an operator; None: as many as cores.
        optimize: Off: one operator after the other as they stand in the file, which quantized weights are floats for.
    """
    session = cpu_session(file, threads, optimize)

    def run(ids: np.ndarray, mask: np.ndarray, types: np.ndarray) -> np.ndarray:
        named = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
        return np.asarray(session.run(None, {name: array.astype(np.int64) for name, array in named.items()})[0])

    return run


def cpu_session(model: Path | bytes, threads: int | None = None, optimize: bool = True) -> InferenceSession:
    """What runs a file, or what would stand in it; see `onnx_run`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # Where sessions take turns, the threads of one that is done would wait for work in the other's time.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def require_onnx() -> None:
    """Raises `InputError` where onnx or onnxruntime is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        problem = f"{error.name}, which is not installed" if isinstance(error, ModuleNotFoundError) else \
            f"onnx and onnxruntime, which cannot be loaded ({error})"
        raise InputError(f"ONNX needs {problem}: pip install 'bertjax[onnx]'") from None


def needs_unsigned(model: Model) -> bool:
    """Whether this machine multiplies the model's codes exactly only if the weights' are stored as uint8."""
    bits = model.quantize.weight_bits
    return bits is not None and bits > SAFE_BITS and saturates()


@functools.cache
def saturates() -> bool:
    """Whether ONNX Runtime multiplies uint8 by int8 inexactly on this machine.

    On x86 without VNNI it adds pairs of products in 16 bits, which 2 * 255 * 127 overflows. It multiplies uint8 by
    uint8 exactly on every processor, on those with VNNI at half the speed.
    """
    from onnx import TensorProto, helper

    inputs = [helper.make_tensor_value_info(*argument, [4, 4]) for argument in (("x", 2), ("y", 3))]
    output = helper.make_tensor_value_info("sums", TensorProto.INT32, [4, 4])
    graph = helper.make_graph([helper.make_node("MatMulInteger", ["x", "y"], ["sums"])], "sums", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = cpu_session(model.SerializeToString())
    x, y = np.full((4, 4), 255, np.uint8), np.full((4, 4), 127, np.int8)
    sums = np.asarray(session.run(None, {"x": x, "y": y})[0])
    return bool((sums != 4 * 255 * 127).any())


def onnx_card(model: Model, parity: Parity, unsigned_weights: bool, static_activations: bool = False) -> str:
    """What stands in the folder's README."""
    kind, warning = "It computes in float32.", ""
    if model.quantize.embedding_bits is not None:
        kind = "Its embedding tables are int8 in the file; it computes in float32."
    if model.quantize.weight_bits is not None:
        kind = ("Its weights are integers in the file, and the encoder's products are those of training: activations "
                "are quantized\nper token, sums are int32.")
        if static_activations:
            kind = ("Its weights are integers in the file. Activations are quantized with fixed scales, measured on "
                    "training rows, where\ntraining had one for each token (QuantizeLinear and DequantizeLinear "
                    "before each product of the encoder).")
        stored = "uint8: it is exact everywhere" if unsigned_weights else "int8: it is exact, and fast, on all others"
        warning = f"""
On x86 processors without VNNI, ONNX Runtime adds pairs of int8 products in 16 bits, which may overflow. An export made
on such a machine stores these weights as uint8, which every processor multiplies exactly. Here they are
{stored}.
"""
    texts = '["a text"], ["its second text"]' if of_pairs(model.origin) else '["a text", "another one"]'
    return f"""# {FILE}

A BERT classifier exported by bertjax: ONNX opset 17, any batch, up to {model.config.max_position_embeddings} tokens.
{kind}
Compared with bertjax, both on {parity}.
{measured(model.origin, parity)}
{about(model.origin)}
{warning}
```python
import onnxruntime, transformers
tokenizer = transformers.AutoTokenizer.from_pretrained(".")
session = onnxruntime.InferenceSession("{FILE}")
texts = tokenizer({texts}, padding=True, truncation=True, return_tensors="np",
                  max_length={model.max_length}, return_token_type_ids=True)
logits, = session.run(None, {{name: array.astype("int64") for name, array in texts.items()}})
```

The names of the outputs stand in config.json (`id2label`).
"""
