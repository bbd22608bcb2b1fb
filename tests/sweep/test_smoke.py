"""The rehearsal of the paper's whole study, through training, results and report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bertjax import cli
from bertjax.config import InputError
from bertjax.data.tasks import GLUE_TASKS, find_task
from bertjax.metrics import constant_loss
from bertjax.study import METHODS, StudyConfig
from bertjax.sweep import smoke
from bertjax.sweep.experiments import load_study
from bertjax.sweep.outcome import DIVERGED_FACTOR


def rehearse(folder: Path, *flags: str) -> pd.DataFrame:
    """The results of `bertjax sweep movva2022 --smoke`."""
    cli.run(cli.parse(["sweep", "movva2022", "--run-dir", str(folder), "--keep-models", "none", "--smoke", *flags]))
    return pd.read_csv(folder / "results.csv", dtype={"trial_id": str, "teacher": str})


def test_one_size_is_trained_and_the_largest_lowered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lowered, lower = [], smoke._lower
    monkeypatch.setattr(smoke, "_lower", lambda program, *rest: lowered.append(program) or lower(program, *rest))
    results = rehearse(tmp_path, "--tasks", "mnli", "--sizes", "tiny", "base", "--seeds", "0",
                       "--learning-rates", "1e-4", "--methods", "K", "KP")
    assert [(program.task, len(program.trials)) for program in lowered] == [("mnli", 3)]
    assert set(results["size"]) == {"tiny"} and results["methods"].tolist() == ["K", "KP", "KP"]
    assert set(results["status"]) == {"done"} and results["accuracy_mismatched"].notna().all()
    assert set(results["copies"]) == {1} and set(results["steps"]) == {12}  # both texts of 64 rows, three times
    page = (tmp_path / "report.html").read_text()
    assert "Beside the published study" in page


def test_a_model_that_stays_near_its_start_has_not_diverged_on_made_similarities() -> None:
    """So that there is a teacher for the trials with K."""
    labels = smoke.similarities()
    assert len(labels) == smoke.ROWS and labels.min() == 0 and labels.max() == 5
    at_start = float(np.square(labels).mean())  # of outputs of 0
    assert at_start < 0.75 * DIVERGED_FACTOR * constant_loss(find_task("stsb"), labels)


@pytest.mark.slow
def test_the_whole_study(tmp_path: Path) -> None:
    results = rehearse(tmp_path)
    assert set(results["methods"]) == set(METHODS)
    assert len(results) == 4 * 8 * 12 * 2 * 3 and set(results["status"]) <= {"done", "diverged"}
    assert set(results["task"]) == {task.name for task in GLUE_TASKS}
    assert set(results["size"]) == {"tiny", "mini", "small", "medium"}


@pytest.mark.parametrize(("change", "message"), [
    ({"sizes": ("large",)}, "must have sizes besides base and large, got large"),
    ({"tasks": ("gloss-class",)}, "got gloss-class"),
])
def test_what_cannot_be_rehearsed_is_refused(tmp_path: Path, change: dict, message: str) -> None:
    study: StudyConfig = replace(load_study("movva2022"), **change)
    with pytest.raises(InputError, match=message):
        smoke.smoke_study(study, tmp_path)
    assert not list(tmp_path.iterdir())
