"""A run directory belongs to one study and to the rows that its trials were trained on."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bertjax.config import InputError, PruneConfig
from bertjax.data.examples import Examples, TaskData
from bertjax.data.sources import load_task, rows_hash
from bertjax.data.tasks import Task
from bertjax.study import StudyConfig
from bertjax.sweep.ledger import Ledger, open_ledger
from bertjax.sweep.run import run_study
from bertjax.sweep.run_dir import RunDir


def refusal(folder: Path, study: StudyConfig) -> str:
    with pytest.raises(InputError) as caught:
        open_ledger(RunDir(folder), study)
    return str(caught.value)


def test_another_study_is_said_setting_by_setting(study: StudyConfig, tmp_path: Path) -> None:
    open_ledger(RunDir(tmp_path), study).keep_study(study)
    fewer = replace(study, train=replace(study.train, epochs=3), data=replace(study.data, label_column="y"))
    assert refusal(tmp_path, fewer) == (
        f"{tmp_path} holds another study: data.label_column is \"label\" there and \"y\" now; "
        "train.epochs is 6 there and 3 now; use another --run-dir")
    other = replace(fewer, name="x", model="m", select_epoch=True, budget="augmented_epochs",
                    prune=PruneConfig("cubic"))
    message = refusal(tmp_path, other)
    assert message.count(" there and ") == 5 and message.endswith("; and 4 more; use another --run-dir")


def test_the_same_data_elsewhere_are_the_same_study(study: StudyConfig, tmp_path: Path) -> None:
    open_ledger(RunDir(tmp_path), study).keep_study(study)
    moved = replace(study.data, data_dir="elsewhere", train_file="elsewhere/train.jsonl", dev_file="x/dev.jsonl")
    open_ledger(RunDir(tmp_path), replace(study, data=moved))
    assert "data.dev_file is" in refusal(tmp_path, replace(study, data=replace(moved, dev_file="x/test.jsonl")))


@pytest.mark.parametrize("content", ["{", "[]", "\"text\""])
@pytest.mark.parametrize("name", ["study.json", "data.json"])
def test_a_damaged_file_is_refused_in_one_line(study: StudyConfig, tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=f"{name} must hold .* JSON.*; use another run directory") as caught:
        open_ledger(RunDir(tmp_path), study).check_rows({"colours": "1"})
    assert "\n" not in str(caught.value)


TASK = Task("t", ("a", "b"), ("no", "yes"), ("validation",), ("accuracy",), "")
ROWS = Examples(["one", "two"], ["x", "y"], np.array([0, 1], np.int32))


def hash_of(task: Task = TASK, train: Examples = ROWS, dev: Examples = ROWS) -> str:
    return rows_hash(TaskData(task, train, {"validation": dev}))


def test_the_hash_changes_with_any_row_and_with_nothing_else(study: StudyConfig, tmp_path: Path) -> None:
    assert hash_of() == hash_of(replace(TASK, name="other", folder="F"), replace(ROWS, labels=np.array([0, 1])))
    changed = [hash_of(**{split: replace(ROWS, **change)}) for split in ("train", "dev") for change in (
        {"first": ["one", "two "]}, {"second": ["x", "z"]}, {"second": None}, {"labels": np.array([1, 1])},
        {"first": ["onetwo", ""]})]
    changed.append(hash_of(replace(TASK, label_names=("yes", "no"))))
    assert len({hash_of(), *changed}) == 1 + len(changed)
    moved = tmp_path / "elsewhere.jsonl"
    moved.write_text(Path(str(study.data.train_file)).read_text())
    elsewhere = replace(study.data, train_file=str(moved))
    assert rows_hash(load_task("colours", study.data)) == rows_hash(load_task("colours", elsewhere))


def test_a_task_keeps_its_rows_and_others_may_come(tmp_path: Path) -> None:
    ledger = Ledger(RunDir(tmp_path))
    ledger.check_rows({"rte": "1"})
    assert list(tmp_path.iterdir()) == []  # a check keeps nothing
    ledger.keep_rows({"rte": "1"})
    ledger.check_rows({"rte": "1", "cola": "2"})
    ledger.keep_rows({"cola": "2"})
    assert json.loads((tmp_path / "data.json").read_text()) == {"cola": "2", "rte": "1"}
    with pytest.raises(InputError, match="the rows of cola, rte changed since .* was begun; use another --run-dir"):
        ledger.check_rows({"cola": "1", "rte": "2"})


def test_a_changed_row_is_refused_even_where_nothing_is_left_to_train(
    study: StudyConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = tmp_path / "train.jsonl"
    train.write_text(Path(str(study.data.train_file)).read_text())
    one = replace(study, methods=("none",), train=replace(study.train, epochs=1),
                  data=replace(study.data, train_file=str(train)))
    run_dir = tmp_path / "run"
    run_study(one, run_dir, keep_models="none")
    kept = (run_dir / "data.json").read_bytes()
    (run_dir / "data.json").unlink()
    run_study(one, run_dir, keep_models="none")  # a directory of a former version
    assert (run_dir / "data.json").read_bytes() == kept
    # Elsewhere, as a process of its own would read it: this one has read the file before.
    moved = tmp_path / "elsewhere" / "train.jsonl"
    moved.parent.mkdir()
    moved.write_text(train.read_text() + '{"text": "red", "label": "red"}\n')
    with pytest.raises(InputError, match="the rows of colours changed since"):
        run_study(replace(one, data=replace(one.data, train_file=str(moved))), run_dir, keep_models="none")
    assert (run_dir / "data.json").read_bytes() == kept
    gone = replace(one, data=replace(one.data, train_file=str(tmp_path / "gone" / "train.jsonl")))
    with caplog.at_level(logging.WARNING, logger="bertjax"):
        assert run_study(gone, run_dir, keep_models="none")["status"].tolist() == ["done"]
    assert "whether the rows of colours are still those" in caplog.text and "train.jsonl" in caplog.text
    with pytest.raises(InputError, match=r"train.jsonl does not exist"):
        run_study(replace(gone, seeds=(0, 1)), run_dir, keep_models="none")
