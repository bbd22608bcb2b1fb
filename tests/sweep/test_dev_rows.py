"""No dev row takes part in training or selection: with other dev rows, the same models are trained and picked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import load_file

from bertjax.study import StudyConfig
from bertjax.sweep.run import run_study
from tests.small_model import WORDS


def test_other_dev_rows_change_no_model_and_no_choice(study: StudyConfig, tmp_path: Path) -> None:
    """With teacher, copies of the training rows, two learning rates and a choice of the epoch."""
    draw = np.random.default_rng(8)
    # As many rows of as many words, so that nothing is compiled anew.
    counts = [len(json.loads(line)["text"].split()) for line in Path(str(study.data.dev_file)).read_text().splitlines()]
    lines = [json.dumps({"text": " ".join(draw.choice(WORDS, count)), "label": WORDS[draw.integers(3)]})
             for count in counts]
    (tmp_path / "other.jsonl").write_text("\n".join(lines) + "\n")
    asked = replace(study, methods=("KP",), copies=(1,), learning_rates=(1e-2, 3e-3), select_epoch=True,
                    train=replace(study.train, epochs=2))
    elsewhere = replace(asked, data=replace(study.data, dev_file=str(tmp_path / "other.jsonl")))
    runs = [run_of(asked, tmp_path / "first"), run_of(elsewhere, tmp_path / "other")]
    (first, ours), (second, theirs) = runs
    assert first["score"].tolist() != second["score"].tolist()
    columns = ["methods", "learning_rate", "select_score", "selected_epoch"]
    pd.testing.assert_frame_equal(first[columns], second[columns])
    assert first["select_score"].notna().all() and ours.keys() == theirs.keys() and len(ours) == 3
    for name, params in ours.items():
        for path, leaf in params.items():
            np.testing.assert_array_equal(leaf, theirs[name][path], err_msg=f"{name} {path}")


def run_of(study: StudyConfig, folder: Path) -> tuple[pd.DataFrame, dict[str, dict[str, np.ndarray]]]:
    """The results, and the parameters of all trials and the teacher."""
    results = run_study(study, folder, keep_models="all")
    (teacher,) = folder.glob("teachers/*")
    folders = {f"{row.methods} {row.learning_rate}": folder / "trials" / row.trial_id for row in results.itertuples()}
    return results, {name: load_file(path / "model" / "model.safetensors")
                     for name, path in (folders | {"teacher": teacher}).items()}
