"""A teacher that has nothing to teach, one whose labels are spelled otherwise, and what is said of checkpoints."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from bertjax.artifact.load import load
from bertjax.config import TeacherConfig
from bertjax.data.sources import load_task
from bertjax.report.page import write_report
from bertjax.study import StudyConfig
from bertjax.sweep import session as session_module
from bertjax.sweep.inputs import task_inputs
from bertjax.sweep.plan import check_inputs
from bertjax.sweep.run import run_study
from bertjax.sweep.teacher import tuned_teacher
from bertjax.train.trial import teacher_trial


def short(study: StudyConfig, **settings: object) -> StudyConfig:
    return replace(study, **{"methods": ("none", "K", "QK"), "train": replace(study.train, epochs=1)} | settings)


def taught(run_dir: Path, results: pd.DataFrame, reason: str) -> None:
    """Asserts that the trials with K, and no others, failed for that reason."""
    assert results.groupby("methods")["status"].agg(set).to_dict() == {
        "none": {"done"}, "K": {"failed"}, "QK": {"failed"}}
    for name in results.loc[results["status"] == "failed", "trial_id"]:
        assert json.loads((run_dir / "trials" / name / "result.json").read_text())["reason"] == reason


@pytest.mark.slow
def test_a_diverged_teacher_fails_its_own_trials_and_is_trained_once(
    study: StudyConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked = short(study, seeds=(0, 1), max_trials_per_program=3, teacher=TeacherConfig(learning_rate=1e30))
    reason = ("the teacher of colours diverged at learning rate 1e+30; give a lower --teacher-learning-rate, and "
              "another --run-dir")
    with caplog.at_level(logging.INFO, logger="bertjax"):
        taught(tmp_path, run_study(asked, tmp_path, keep_models="none"), reason)
    assert caplog.text.count("teacher: started") == 1 and "Traceback" not in caplog.text
    assert caplog.text.count(f"colours: 2 trials with K failed: {reason}") == 2  # of two programs
    (row,) = pd.read_csv(tmp_path / "teachers.csv").to_dict("records")
    assert row["status"] == "diverged" and np.isnan(row["score"]) and row["learning_rate"] == 1e30
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="bertjax"):
        taught(tmp_path, run_study(asked, tmp_path, keep_models="none"), reason)
    assert "4 trials to train" in caplog.text and "started" not in caplog.text  # it would diverge again
    assert write_report(tmp_path).is_file()


@pytest.mark.slow
def test_a_teacher_that_breaks_is_tried_again_by_the_next_run_alone(
    study: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = short(study, seeds=(0, 1), max_trials_per_program=3)
    calls = []

    def broken(*_args: object) -> None:
        calls.append(1)
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(session_module, "_train_teacher", broken)
        results = run_study(asked, tmp_path, keep_models="none")
    taught(tmp_path, results, "the teacher of colours failed: RuntimeError: out of memory")
    assert len(calls) == 1 and not (tmp_path / "teachers.csv").exists()
    assert set(run_study(asked, tmp_path, keep_models="none")["status"]) == {"done"}


def test_the_labels_of_a_teacher_are_found_in_upper_case_and_in_another_order(
    study: StudyConfig, model_dir: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "tuned"
    shutil.copytree(model_dir, folder)
    config = json.loads((folder / "config.json").read_text())
    # Of the task's classes blue, green, red, in this order.
    config["id2label"] = {"0": "RED", "1": "Blue", "2": "green"}
    config["label2id"] = {name: int(number) for number, name in config["id2label"].items()}
    (folder / "config.json").write_text(json.dumps(config))
    tensors = load_file(folder / "model.safetensors")
    tensors["classifier.bias"] = np.array([30.0, 10.0, 20.0], np.float32)
    save_file(tensors, folder / "model.safetensors")
    trial = teacher_trial(short(study, teacher=TeacherConfig(str(folder), fine_tuned=True)), "colours")
    teacher = tuned_teacher(trial, task_inputs([trial]))
    assert teacher.label_names == ("blue", "green", "red")
    assert np.asarray(teacher.params["classifier"]["bias"]).tolist() == [10.0, 20.0, 30.0]
    data = load_task("colours", study.data)
    rows = data.dev["validation"]
    assert (load(folder).task_logits(data.task, rows).argmax(axis=1) == 2).all()
    np.testing.assert_array_equal(load(folder).task_logits(data.task, rows), teacher.task_logits(data.task, rows))


def test_what_is_new_in_a_checkpoint_is_said_once(
    study: StudyConfig, model_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "bare"
    shutil.copytree(model_dir, folder)
    tensors = {name: tensor for name, tensor in load_file(folder / "model.safetensors").items()
               if not name.startswith(("classifier", "bert.pooler"))}
    save_file(tensors, folder / "model.safetensors")
    with caplog.at_level(logging.INFO, logger="bertjax"):
        check_inputs(short(study, model=str(folder), layers=(1, 2), seeds=(0, 1), max_trials_per_program=1))
    said = [record.getMessage() for record in caplog.records if record.name == "bertjax.sweep.plan"]
    assert sorted(said) == sorted(f"{folder}: {note}" for note in (
        "pooler initialized: not in the checkpoint", "task head initialized: not in the checkpoint",
        "kept the first 1 of 2 layers"))
    caplog.clear()
    train = replace(study.train, reinit_pooler=True)
    with caplog.at_level(logging.INFO, logger="bertjax"):
        check_inputs(short(study, methods=("none",), train=train))
    assert f"{model_dir}: pooler initialized: as asked" in caplog.text
