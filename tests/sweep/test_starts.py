"""What trials start from where a checkpoint has a task head with names."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bertjax.config import InputError
from bertjax.model.hf import from_pretrained
from bertjax.study import StudyConfig
from bertjax.sweep.inputs import task_inputs
from bertjax.sweep.plan import check_inputs
from bertjax.sweep.starts import load_start
from bertjax.train.trial import student_trials, students


def test_a_head_with_the_names_of_other_classes_is_refused(study: StudyConfig, tmp_path: Path) -> None:
    """Before anything trains; a new head is for any classes."""
    asked = replace(study, model=str(named_model(tmp_path / "model", study, ("red", "green", "yellow"))))
    with pytest.raises(InputError, match=r"blue, green, red\), got red, green, yellow; .*--reinit-head True"):
        check_inputs(asked)
    check_inputs(replace(asked, train=replace(study.train, reinit_head=True)))


def test_a_head_with_names_starts_in_the_order_of_the_labels(study: StudyConfig, tmp_path: Path) -> None:
    asked = replace(study, model=str(named_model(tmp_path / "model", study, ("Red", "blue", "GREEN"))))
    (trial, *_) = student_trials(asked, "colours", students(asked)[0])
    started = load_start(trial, task_inputs([trial]))
    assert started.label_names == ("blue", "green", "red")
    stored = from_pretrained(asked.model or "", num_labels=3).params["classifier"]
    for name, leaf in started.params["classifier"].items():
        np.testing.assert_array_equal(leaf, stored[name][..., [1, 2, 0]])


def named_model(folder: Path, study: StudyConfig, names: tuple[str, ...]) -> Path:
    """The study's model, the outputs of its head with names."""
    shutil.copytree(str(study.model), folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder
