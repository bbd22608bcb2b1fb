"""What an inference benchmark compares, and that it compares like with like."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bertjax.artifact.inference import candidates as candidates_module
from bertjax.artifact.inference.bench import BenchSettings, bench_inference, dev_batches
from bertjax.artifact.inference.candidates import Runtimes, candidates, left_out
from bertjax.artifact.inference.post_training import SCHEMES
from bertjax.artifact.load import Model, padded_batches
from bertjax.artifact.machine import cpu_count, cpu_name, versions
from bertjax.config import InputError
from bertjax.data.sources import Examples, TaskData
from bertjax.data.tasks import Task
from bertjax.data.tokens import tokenize

TEXTS = ["red", "blue circle", "green line near", "far", "small red square", "big"] * 3
ROWS = Examples(TEXTS, None, np.arange(len(TEXTS), dtype=np.int32) % 3)
TASK = Task("t", ("text",), ("a", "b", "c"), ("validation",), ("accuracy",), "")
DATA = TaskData(TASK, ROWS, {"validation": ROWS})
SHORT = Examples(["red", "far", "big", "blue", "green", "near"], None, np.array([0, 1, 2, 0, 1, 2], np.int32))
SHORT_DATA = TaskData(TASK, SHORT, {"validation": SHORT})  # of one length, so that little is compiled


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results must not depend on whether PyTorch is installed."""
    monkeypatch.setattr(candidates_module, "has_torch", lambda: False)


def test_every_model_stands_beside_its_float_reference(model: Model, quantized: Model, no_torch: None) -> None:
    result = bench_inference({"plain": model, "Q": quantized}, SHORT_DATA,
                             BenchSettings(rounds=1, batch_sizes=(32, 2)))
    runtimes = [("plain", "jax"), ("plain", "onnxruntime"), ("Q", "jax"), ("Q", "onnxruntime"),
                ("Q", "onnxruntime static"), ("plain", "onnxruntime int8_dynamic")]
    rows = result["rows"]
    assert [(row["artifact"], row["runtime"], row["batch_size"]) for row in rows] == [
        (*pair, size) for size in (32, 2) for pair in runtimes]
    assert json.loads(json.dumps(result)) == {**result, "left_out": left_out()}
    for row in rows:
        float_row = next(other for other in rows if other["batch_size"] == row["batch_size"]
                         and (other["artifact"], other["runtime"]) == ("plain", "onnxruntime"))
        assert 0 < row["p50_ms"] <= row["p95_ms"]
        assert row["speedup"] == pytest.approx(row["rows_per_second"] / float_row["rows_per_second"])
    scores = {(row["artifact"], row["runtime"]): row["score"] for row in rows}
    assert scores["plain", "jax"] == scores["plain", "onnxruntime"] == model.evaluate(SHORT_DATA)["score"]
    assert scores["Q", "jax"] == quantized.evaluate(SHORT_DATA)["score"]
    assert result["task"] == "t" and result["threads"] == 1 and result["jax_cpus"] == cpu_count()


def test_a_quantized_model_alone_is_compared_with_the_floats_of_its_codes(
    quantized: Model, tmp_path: Path, no_torch: None
) -> None:
    made = candidates({"Q": quantized}, Runtimes(tmp_path, ROWS, 1, static=False), post_training=False)
    assert [candidate.name for candidate in made] == [
        "Q · jax", "Q · onnxruntime", "Q (float) · onnxruntime", "Q (float) · onnxruntime int8_dynamic"]
    assert {candidate.reference for candidate in made} == {"Q (float)"}


def test_with_post_training_every_float_model_is_quantized_by_every_scheme(
    model: Model, quantized: Model, tmp_path: Path, no_torch: None
) -> None:
    """And one of another shape has its own reference."""
    models = {"none": model, "P": model, "Q": quantized}
    made = candidates(models, Runtimes(tmp_path, ROWS, 1), post_training=True)
    assert {candidate.reference for candidate in made} == {"none"}
    for name in ("none", "P"):
        found = {candidate.runtime for candidate in made if candidate.artifact == name}
        assert found == {"jax", "onnxruntime", *(f"onnxruntime {scheme}" for scheme in SCHEMES)}
    assert len({candidate.name for candidate in made}) == len(made) == 2 * (2 + len(SCHEMES)) + 3


def test_models_that_read_other_tokens_or_other_labels_are_refused(model: Model, quantized: Model) -> None:
    with pytest.raises(InputError, match="must read the same tokens; those of short are not those of long"):
        bench_inference({"long": model, "short": replace(model, max_length=4)}, DATA, BenchSettings())
    with pytest.raises(InputError, match="the model's labels must be those of t"):
        bench_inference({"other": replace(quantized, label_names=("x", "y", "z"))}, DATA, BenchSettings())


@pytest.mark.parametrize(("settings", "said"), [
    ({"rounds": 0}, "rounds must be at least 1"), ({"threads": 0}, "threads must be at least 1"),
    ({"batches": 0}, "batches must be at least 1"), ({"batch_sizes": ()}, "batch_sizes must be different"),
    ({"batch_sizes": (1, 1)}, "batch_sizes must be different"), ({"batch_sizes": (0,)}, "batch_sizes must be")])
def test_settings_are_checked(settings: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        BenchSettings(**settings)


def test_batches_are_as_long_as_their_rows_and_a_choice_keeps_the_shortest_and_the_longest(model: Model) -> None:
    tokens = tokenize(ROWS, model.tokenizer, model.max_length, None)
    batches = dev_batches(tokens, 0, 4, 99)
    assert [len(batch.own.rows) for batch in batches] == [4, 4, 4, 4]  # 18 rows: the last two fill none
    for batch in batches:
        lengths = tokens.lengths[batch.own.rows]
        assert batch.own.input_ids.shape == (4, lengths.max()) and batch.compiled.input_ids.shape[1] >= lengths.max()
        for read in batch:
            np.testing.assert_array_equal(read.attention_mask.sum(axis=1), lengths)
            np.testing.assert_array_equal((read.input_ids != 0) & ~read.attention_mask, False)
    two = dev_batches(tokens, 0, 4, 2)
    assert [batch.own.rows.tolist() for batch in two] == [batches[i].own.rows.tolist() for i in (0, -1)]
    assert len(dev_batches(tokens, 0, 99, 9)[0].own.rows) == len(ROWS)


def test_batches_hold_every_row_once(model: Model) -> None:
    batches = padded_batches(tokenize(ROWS, model.tokenizer, model.max_length, None), 0, batch_size=4)
    assert sorted(np.concatenate([batch.rows for batch in batches])) == list(range(len(ROWS)))
    assert all(batch.input_ids.shape == batch.attention_mask.shape == (4, batch.input_ids.shape[1])
               for batch in batches)
    lengths = [batch.input_ids.shape[1] for batch in batches]
    assert lengths == sorted(lengths)


def test_the_machine_is_named() -> None:
    assert cpu_name() and versions()["jax"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not bind a process to CPUs")
def test_a_process_keeps_to_its_cpus_and_xla_to_as_many_threads() -> None:
    program = ("from bertjax.artifact.machine import cpu_count, limit_cpus\nassert limit_cpus(1) == 1 == cpu_count()\n"
               "import os, jax\njax.numpy.zeros(3).block_until_ready()\n"
               "names = [open(f'/proc/self/task/{task}/comm').read() for task in os.listdir('/proc/self/task')]\n"
               "assert sum('XLAEigen' in name for name in names) == 1, names\n"
               "os.sched_setaffinity = None\nassert limit_cpus(1) == 1")
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}  # one device
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)


@pytest.mark.parity
def test_pytorch_joins_where_it_is_installed(model: Model, tmp_path: Path) -> None:
    made = candidates({"none": model}, Runtimes(tmp_path, ROWS, 1), post_training=False)
    by_runtime = {candidate.runtime: candidate.model for candidate in made}
    expected = model.task_logits(DATA.task, ROWS)
    np.testing.assert_allclose(by_runtime["torch"].task_logits(DATA.task, ROWS), expected, atol=1e-4)
    assert ("torch int8_dynamic" in by_runtime) == (left_out() == [])
    if "torch int8_dynamic" in by_runtime:
        np.testing.assert_allclose(by_runtime["torch int8_dynamic"].task_logits(DATA.task, ROWS), expected, atol=0.1)
