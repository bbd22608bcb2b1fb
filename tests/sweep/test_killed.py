"""A study that is killed again and again ends as one that never was: the same scores and models, nothing twice."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bertjax.study import StudyConfig, TrialConfig
from bertjax.sweep.ledger import Ledger
from bertjax.sweep.run import run_study
from bertjax.sweep.view import View
from bertjax.train.checkpoint import Checkpoints
from bertjax.train.running import Progress

IMPORTS = """
from bertjax.config import AugmentConfig, DataConfig, PruneConfig, QuantizeConfig, TeacherConfig, TrainConfig
from bertjax.study import StudyConfig

study = """


def write_experiment(study: StudyConfig, folder: Path, epochs: int = 24) -> Path:
    """The file of a study that is long enough to be killed in every part of it."""
    file = folder / "experiment.py"
    file.write_text(f"{IMPORTS}{replace(study, train=replace(study.train, epochs=epochs))!r}\n")
    return file


@pytest.fixture
def experiment(study: StudyConfig, tmp_path: Path) -> Path:
    """One program, without a teacher."""
    return write_experiment(replace(study, methods=("none", "P")), tmp_path)


def start(experiment: Path, run_dir: Path, minutes: float = 0.005) -> subprocess.Popen[str]:
    """The command of a user, with a relative run directory and a checkpoint every 0.3 s."""
    command = [sys.executable, "-m", "bertjax", "sweep", experiment, "--run-dir", run_dir.name, "--keep-models", "all",
               "--checkpoint-minutes", minutes]
    return subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
                            text=True, cwd=run_dir.parent)


def finish(experiment: Path, run_dir: Path) -> str:
    """Runs the command to its end; its log."""
    with start(experiment, run_dir) as process:
        _, log = process.communicate()
    assert process.returncode == 0, log
    return log


def manifests(run_dir: Path) -> set[Path]:
    """Those of the checkpoints that are whole."""
    return set(run_dir.glob("checkpoints/*/*/manifest.json"))


def wait_for(process: subprocess.Popen[str], said: Callable[[str], bool]) -> list[str]:
    """The lines of the log up to one of a kind, or to its end."""
    lines = []
    assert process.stderr is not None
    for line in process.stderr:
        lines.append(line)
        if said(line):
            break
    return lines


def assert_same(run_dir: Path, whole: Path) -> None:
    """The results but for the seconds, and every model, to the last bit."""
    ours, theirs = (pd.read_csv(folder / "results.csv", dtype={"trial_id": str}).drop(columns="train_seconds")
                    for folder in (run_dir, whole))
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    models = sorted(path.relative_to(whole) for path in whole.glob("*/*/model/model.safetensors"))
    teachers = len(list(whole.glob("teachers/*")))
    packed = sorted(path.relative_to(whole) for path in whole.glob("trials/*/packed/model.bertjax"))
    assert len(models) == teachers + len(ours) and len(packed) == len(ours)
    for name in (*models, *packed, *(path.relative_to(whole) for path in whole.glob("*/*/predictions.npz"))):
        assert (run_dir / name).read_bytes() == (whole / name).read_bytes(), name
    assert not list((run_dir / "checkpoints").glob("*")) and not (run_dir / "lock.json").exists()


class Killed(BaseException):
    """As if the process were gone."""


def test_a_study_that_breaks_off_goes_on_to_the_same_bits(
    study: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In training, while its trials are being written, and once they are: the short form of the tests below."""
    asked = replace(study, methods=("none", "P"))
    run_study(asked, tmp_path / "whole", keep_models="all")
    real_step, real_record = View.step, Ledger.record

    def step(view: View, title: str, progress: Progress) -> None:
        real_step(view, title, progress)
        if progress.step > 20:
            raise Killed

    def record(ledger: Ledger, trial: TrialConfig, *values: Any) -> None:
        real_record(ledger, trial, *values)
        raise Killed

    for place, broken, way in ((View, "step", step), (Ledger, "record", record)):
        monkeypatch.setattr(place, broken, way)
        with pytest.raises(Killed):
            run_study(asked, tmp_path / "run", keep_models="all", checkpoint_minutes=1e-6)
        monkeypatch.undo()
        assert list((tmp_path / "run").glob("checkpoints/*/*/manifest.json"))
    assert len(list((tmp_path / "run").glob("trials/*/result.json"))) == 1
    said: list[int] = []
    monkeypatch.setattr(View, "step", lambda view, title, progress: said.append(progress.step))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Checkpoints, "drop", lambda checkpoints: (_ for _ in ()).throw(Killed))
        run_study(asked, tmp_path / "run", keep_models="all")
    assert said == []  # no step is done again to write the second trial
    run_study(asked, tmp_path / "run", keep_models="all")  # has nothing to train, and removes the checkpoints
    assert said == []
    assert_same(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
def test_sigterm_leaves_a_checkpoint_and_the_same_command_goes_on(experiment: Path, tmp_path: Path) -> None:
    finish(experiment, tmp_path / "whole")
    with start(experiment, tmp_path / "run") as process:
        while process.poll() is None and not manifests(tmp_path / "run"):
            time.sleep(0.002)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate()
    assert process.returncode == 143 and time.monotonic() - began < 15, log
    assert log.rstrip().endswith("bertjax: interrupted; finished trials stay, and the same command resumes")
    assert "goes on after step" in finish(experiment, tmp_path / "run")
    assert_same(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
def test_a_second_process_is_refused(experiment: Path, tmp_path: Path) -> None:
    with start(experiment, tmp_path / "run") as process:
        wait_for(process, lambda line: "started" in line)
        with start(experiment, tmp_path / "run") as second:
            _, log = second.communicate()
        assert second.returncode == 75 and f"is in use by process {process.pid} on " in log
        process.kill()


@pytest.mark.slow
def test_thirty_kills(study: StudyConfig, tmp_path: Path) -> None:
    """Of a study of eight trials in two programs, with a teacher; at random moments: from the first second on, after a
    program has started, and after a checkpoint, for one that is never written saves no work.
    """
    experiment = write_experiment(
        replace(study, methods=("none", "K", "P", "KP"), seeds=(0, 1), max_trials_per_program=4), tmp_path, epochs=96)
    finish(experiment, tmp_path / "whole")
    draw, kills, log = random.Random(11), 0, ""
    for number in itertools.count():
        before = manifests(tmp_path / "run")
        with start(experiment, tmp_path / "run") as process:
            if number % 3 == 1:
                wait_for(process, lambda line: "trials: started" in line or "goes on" in line)
            while number % 3 == 2 and process.poll() is None and manifests(tmp_path / "run") <= before:
                time.sleep(0.01)
            timer = time.monotonic() + draw.uniform(0, (12, 3, 1)[number % 3])
            while process.poll() is None and time.monotonic() < timer and kills < 30:
                time.sleep(0.01)
            if process.poll() is None and kills < 30:
                os.kill(process.pid, signal.SIGKILL)
                kills += 1
            _, said = process.communicate()
            log += said
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, said
    print(f"\n{kills} kills, {log.count('goes on after step')} times from a checkpoint")
    assert kills == 30 and "goes on after step" in log
    assert_same(tmp_path / "run", tmp_path / "whole")
