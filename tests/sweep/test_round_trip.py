"""A pruned, quantized and distilled trial leaves bertjax in every format, and what comes back is the trial."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

import bertjax
from bertjax.artifact.exports import parity, to_hf
from bertjax.artifact.exports.export import export
from bertjax.artifact.exports.parity import MEDIAN
from bertjax.artifact.exports.to_hf import weight_only
from bertjax.artifact.exports.to_onnx import onnx_run
from bertjax.artifact.packed_folder import pack_folder
from bertjax.config import TeacherConfig
from bertjax.data.sources import TaskData, load_task
from bertjax.study import StudyConfig
from bertjax.sweep.run import run_study

TEXTS = ["red circle far", "green", "blue line near big", "small square red"]


@pytest.fixture(scope="module")
def trial(study: StudyConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished trial with Q, K and P."""
    run_dir = tmp_path_factory.mktemp("runs") / "colours"
    teacher = TeacherConfig(model=study.model, fine_tuned=True)  # saves the compilation of its training
    results = run_study(replace(study, methods=("QKP",), teacher=teacher), run_dir, keep_models="all")
    return run_dir / "trials" / results["trial_id"].item()


@pytest.fixture(scope="module")
def data(study: StudyConfig) -> TaskData:
    """What it was trained on."""
    return load_task(study.tasks[0], study.data)


@pytest.fixture(autouse=True)
def small_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results must not depend on whether PyTorch is installed; and each made-up length costs a compilation."""
    monkeypatch.setattr(to_hf, "has_torch", lambda: False)
    monkeypatch.setattr(parity, "LENGTHS", ())


def test_from_transformers_folder_the_trial_comes_back_with_float_activations(
    trial: Path, data: TaskData, tmp_path: Path
) -> None:
    ours = bertjax.load(trial)
    made = export(trial, "hf", tmp_path / "hf", data)
    back = bertjax.load(tmp_path / "hf")
    assert back.evaluate(data) == weight_only(ours).evaluate(data)
    assert made.parity.max_difference == 0 and made.parity.scores == (back.evaluate(data)["score"],) * 2
    # And once more: codes are found again from their values.
    requantized = replace(back, quantize=ours.quantize)
    assert requantized.evaluate(data) == ours.evaluate(data)
    assert dict(back.origin) == {name: text for name, text in ours.origin.items() if name != "scores"}  # has its own
    kernel = np.asarray(back.params["bert"]["encoder"]["layer"]["0"]["intermediate"]["dense"]["kernel"])
    assert (kernel == 0).mean() >= 0.6 - 1 / kernel.size


def test_onnx_runtime_gives_the_trials_logits_for_texts(trial: Path, data: TaskData, tmp_path: Path) -> None:
    ours, out = bertjax.load(trial), tmp_path / "onnx"
    made = export(trial, "onnx", out, data).parity
    assert made.scores is not None and made.median_difference <= MEDIAN and made.disagreeing <= 1
    read = AutoTokenizer.from_pretrained(out)(TEXTS, padding=True, return_tensors="np", return_token_type_ids=True)
    batch = [read[name] for name in ("input_ids", "attention_mask", "token_type_ids")]
    logits = onnx_run(out / "model.onnx")(*batch)
    assert np.median(np.abs(logits - ours.logits(*batch))) <= MEDIAN
    names = json.loads((out / "config.json").read_text())["id2label"]
    assert [names[str(i)] for i in logits.argmax(1)] == [row["label"] for row in ours.predict(TEXTS)]


def test_packed_it_is_the_trial_to_the_last_bit(trial: Path, data: TaskData, tmp_path: Path) -> None:
    pack_folder(trial, tmp_path / "packed")
    pack_folder(tmp_path / "packed", tmp_path / "again", entropy=True)
    shutil.copytree(trial / "model", tmp_path / "model")  # without what lies beside it
    pack_folder(tmp_path / "model", tmp_path / "alone")
    ours, score = bertjax.load(trial), json.loads((trial / "result.json").read_text())["score"]
    for folder in (trial / "packed", tmp_path / "packed", tmp_path / "again", tmp_path / "alone"):
        back = bertjax.load(folder)
        assert back.evaluate(data) == ours.evaluate(data) and back.evaluate(data)["score"] == pytest.approx(score)
        assert back.predict(TEXTS) == ours.predict(TEXTS)
        card = (folder / "README.md").read_text()
        assert f"**{score:.2f} points**" in card and "- **Task**: colours" in card
    (tmp_path / "new").touch()
    modes = {path.stat().st_mode for path in (tmp_path / "new", *trial.glob("model/*"), *trial.glob("packed/*"))}
    assert len(modes) == 1
