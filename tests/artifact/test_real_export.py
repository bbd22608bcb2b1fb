"""The export of a real quantized model: on a whole dev set its logits, and at one layer's size its integers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from onnx import TensorProto, helper

from bertjax.artifact.codes import Codes
from bertjax.artifact.exports.export import export
from bertjax.artifact.exports.onnx_graph import ZERO_POINT, Graph
from bertjax.artifact.exports.to_onnx import cpu_session, saturates
from bertjax.artifact.load import Model, load
from bertjax.compress.quantize import quantize_codes
from bertjax.config import DataConfig, QuantizeConfig, TrainConfig
from bertjax.data.examples import TaskData
from bertjax.data.sources import load_task
from bertjax.study import StudyConfig
from bertjax.sweep.run import run_study

TOKENS, INPUTS, OUTPUTS = 64, 384, 1536


class Tuned(NamedTuple):
    """A trained model and the task with its real rows."""

    model: Model
    task: TaskData
    baseline: float
    """A score that only a head that reads something gets."""


def trained(
    data_dir: Path, run_dir: Path, task: str, method: str, *, layers: int, rate: float, epochs: int, max_length: int
) -> tuple[Model, TaskData]:
    """The first layers of MiniLM after a short training."""
    data = DataConfig(data_dir=str(data_dir / "glue"), max_length=max_length, max_train_examples=4000, max_buckets=2)
    source = str(data_dir / "models" / "minilm-l6-h384-uncased")
    study = StudyConfig("tune", model=source, layers=(layers,), tasks=(task,), learning_rates=(rate,),
                        methods=(method,), data=data,
                        train=TrainConfig(epochs=epochs, batch_size=32, reinit_pooler=True))
    results = run_study(study, run_dir, keep_models="all")
    return load(run_dir / "trials" / results["trial_id"].item()), load_task(task, data)


PAIRS = [pytest.param(task, marks=pytest.mark.slow) for task in ("mrpc", "stsb")]


@pytest.fixture(scope="module", params=["sst2", *PAIRS])
def tuned(request: pytest.FixtureRequest, data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    """Single sentences, quantized after training; pairs of a class, distilled too, and of a number, pruned too.

    A head that was never trained will not do: its logits are spread evenly around the boundary between the classes, and
    1 to 2 % of the rows cross it with the last bit of an activation (measured), however exact the products are.
    """
    run_dir = tmp_path_factory.mktemp("runs") / request.param
    if request.param == "sst2":
        model, task = trained(data_dir, run_dir, "sst2", "none", layers=3, rate=2e-4, epochs=1, max_length=32)
        return Tuned(replace(model, quantize=QuantizeConfig()), task, 70)
    # Three layers learn little of either, and pruned ones of MRPC are hardly above its majority (experiments/results).
    method, baseline = {"mrpc": ("QK", 76), "stsb": ("QKP", 40)}[request.param]
    model, task = trained(data_dir, run_dir, request.param, method, layers=6, rate=1e-4, epochs=3, max_length=128)
    assert model.quantize == QuantizeConfig()
    return Tuned(model, task, baseline)


@pytest.mark.realdata
@pytest.mark.parametrize("format", ["onnx", "stablehlo"])
def test_a_whole_dev_set_has_the_logits_of_the_model(tuned: Tuned, format: str, tmp_path: Path) -> None:
    made = export(tuned.model, format, tmp_path / "out", tuned.task).parity
    (dev,) = tuned.task.dev.values()
    assert made.rows == len(dev) and made.scores is not None and made.scores[0] > tuned.baseline
    assert made.median_difference <= 0.01 and made.disagreeing <= 0.005 * len(dev)
    assert abs(made.scores[0] - made.scores[1]) <= 0.3


@pytest.mark.parametrize("unsigned", [saturates(), True])
def test_a_layer_of_real_size_has_trainings_codes_and_sums(unsigned: bool) -> None:
    draw = np.random.default_rng(0)
    kernel = draw.normal(scale=0.05, size=(INPUTS, OUTPUTS)).astype(np.float32)
    kernel[::7, ::5] = 0.4  # many of the largest codes in a column: sums as long as they get
    x = draw.normal(size=(1, TOKENS, INPUTS)).astype(np.float32)
    x[0, 0] = 3
    weight, scale = map(np.asarray, jax.jit(lambda w: quantize_codes(w, 8, 0))(kernel))
    expected = np.asarray(jax.jit(lambda x: quantize_codes(x, 8, -1)[0])(x))
    graph = Graph()
    read = graph.quantize("x", 8, "layer")
    graph.integer_product(read, Codes(weight, scale, 8), unsigned, "layer")
    (sums,) = (node.output[0] for node in graph.nodes if node.op_type == "MatMulInteger")
    x_info = helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)
    wanted = [helper.make_tensor_value_info(name, kind, [1, TOKENS, width]) for name, kind, width in (
        (read.codes, TensorProto.UINT8, INPUTS), (sums, TensorProto.INT32, OUTPUTS))]
    made = helper.make_model(helper.make_graph(graph.nodes, "layer", [x_info], wanted, list(graph.constants.values())),
                             opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    codes, found = map(np.asarray, cpu_session(made.SerializeToString()).run(None, {"x": x}))
    np.testing.assert_array_equal(codes.astype(np.int16) - ZERO_POINT, expected)
    np.testing.assert_array_equal(found, expected.astype(np.int32) @ weight.astype(np.int32))
    assert np.abs(found).max() > 2**19 and np.abs(weight).max() == np.abs(expected).max() == 127
