"""Fixed scales for activations: those of the training rows' tokens, and what an export with them is checked for."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import bertjax.artifact.exports.export as exports
from bertjax.artifact.exports import calibration
from bertjax.artifact.exports.calibration import static_scales
from bertjax.artifact.exports.export import export
from bertjax.artifact.exports.onnx_bert import onnx_model, scales_model
from bertjax.artifact.exports.parity import compare, computed_by
from bertjax.artifact.exports.to_onnx import cpu_session, needs_unsigned, onnx_run
from bertjax.artifact.load import Model
from bertjax.config import FLOAT, InputError, QuantizeConfig
from bertjax.data.examples import subset
from bertjax.data.sources import Examples, TaskData
from bertjax.data.tasks import Task
from bertjax.data.tokens import tokenize

TEXTS = ["red", "blue circle far", "green square near big", "small"] * 4
ROWS = Examples(TEXTS, None, np.arange(len(TEXTS), dtype=np.int32) % 3)
DATA = TaskData(Task("t", ("text",), ("a", "b", "c"), ("validation",), ("accuracy",), ""), ROWS, {"validation": ROWS})


def test_scales_are_the_largest_of_any_real_token(quantized: Model) -> None:
    """Found once more in one padded batch, where the scales of padding do not count."""
    tokens = tokenize(ROWS, quantized.tokenizer, quantized.max_length, None)
    ids = tokens.padded(int(tokens.lengths.max()), 0).astype(np.int64)
    mask = np.arange(ids.shape[1]) < tokens.lengths[:, None]
    made, places = scales_model(quantized, needs_unsigned(quantized))
    found = cpu_session(made.SerializeToString()).run(
        list(places.values()),
        {"input_ids": ids, "attention_mask": mask.astype(np.int64), "token_type_ids": np.zeros_like(ids)})
    expected = {place: scales[mask.T[:len(scales)]].max() for place, scales in zip(places, found, strict=True)}
    assert static_scales(quantized, ROWS) == pytest.approx(expected, rel=1e-5)
    assert len(expected) == 4 * quantized.config.num_hidden_layers
    padding = max(scales[~mask.T[:len(scales)]].max(initial=0) for scales in found)
    assert padding > 0


def test_only_so_many_training_rows_are_read(quantized: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "CALIBRATION_ROWS", 3)
    assert static_scales(quantized, ROWS) == static_scales(quantized, subset(ROWS, 3))


@pytest.mark.parametrize("quantize", [FLOAT, QuantizeConfig(8, 4, 8)])
def test_only_8_bit_activations_have_them(model: Model, quantize: QuantizeConfig, tmp_path: Path) -> None:
    named = replace(model, quantize=quantize, label_names=("a", "b", "c"))
    with pytest.raises(InputError, match="static activations need a model trained with Q and 8-bit activations"):
        export(named, "onnx", tmp_path / "out", DATA, static_activations=True)
    assert list(tmp_path.iterdir()) == []


def test_a_static_model_quantizes_before_every_product_and_is_near_the_model(quantized: Model, tmp_path: Path) -> None:
    made = export(quantized, "onnx", tmp_path / "out", DATA, static_activations=True)
    layers = quantized.config.num_hidden_layers
    stored = onnx.load(tmp_path / "out" / "model.onnx")
    kinds = Counter(node.op_type for node in stored.graph.node)
    # One more for the first token of the last layer, and a DequantizeLinear for each matrix.
    assert (kinds["QuantizeLinear"], kinds["DequantizeLinear"]) == (4 * layers + 1, 4 * layers + 1 + 6 * layers)
    assert kinds["MatMulInteger"] == 0 and {node.domain for node in stored.graph.node} == {""}
    integers = {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}
    assert sum(tensor.data_type in integers and len(tensor.dims) == 2
               for tensor in stored.graph.initializer) == 6 * layers + 3
    assert made.parity.rows == len(ROWS) and made.parity.scores is not None
    assert made.parity.scores[0] == quantized.evaluate(DATA)["score"]
    assert "fixed scales, measured on training rows" in (tmp_path / "out" / "README.md").read_text()
    ours = computed_by(quantized, onnx_run(tmp_path / "out" / "model.onnx"))
    assert 0 < compare(quantized, ours, DATA).median_difference < 0.1


def test_scales_too_small_cut_activations_off(quantized: Model, tmp_path: Path) -> None:
    """So the scales are what the graph rounds by."""
    scales = static_scales(quantized, ROWS)
    halves = {place: scale / 2 for place, scale in scales.items()}
    apart = []
    for name, chosen in (("whole", scales), ("half", halves)):
        (tmp_path / name).write_bytes(onnx_model(quantized, needs_unsigned(quantized), chosen).SerializeToString())
        apart.append(compare(quantized, computed_by(quantized, onnx_run(tmp_path / name)), DATA).median_difference)
    assert 3 * apart[0] < apart[1]


def test_an_export_that_loses_the_score_is_not_kept(
    quantized: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = quantized.task_logits(DATA.task, ROWS).argmax(axis=1).astype(np.int32)
    data = replace(DATA, dev={"validation": Examples(TEXTS, None, labels)})  # the model is always right
    monkeypatch.setattr(exports, "static_scales", lambda model, train: {
        place: np.float32(1e-3) * scale for place, scale in static_scales(model, train).items()})
    with pytest.raises(InputError, match="must score at most 1 points less .*score 100.00, exported"):
        export(quantized, "onnx", tmp_path / "out", data, static_activations=True)
    assert list(tmp_path.iterdir()) == []


def test_integer_products_that_are_not_those_of_the_file_are_not_kept(
    quantized: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a processor whose products overflow."""
    def run(file: Path, threads: int | None = None, optimize: bool = True):
        return lambda *batch: onnx_run(file)(*batch) + (0 if optimize else 0.1)

    monkeypatch.setattr(exports, "onnx_run", run)
    with pytest.raises(InputError, match="logits must be in the median at most 0.01 from the model's"):
        export(quantized, "onnx", tmp_path / "out", DATA, static_activations=True)
    assert list(tmp_path.iterdir()) == []


def test_static_activations_are_for_onnx_and_a_task(quantized: Model, tmp_path: Path) -> None:
    for format, data in (("hf", DATA), ("onnx", None)):
        with pytest.raises(InputError, match="for the format onnx, and need a task's rows"):
            export(quantized, format, tmp_path / "out", data, static_activations=True)
