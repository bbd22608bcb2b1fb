"""A study of several processes, as a user starts them on several hosts: what comes out, what ends it, and what resumes.

The mesh has two devices on each axis, and a sum of two numbers is the same in any order. So all is compared to the last
bit with one process that has all devices.
"""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from etils import epath

from bertjax.study import StudyConfig
from bertjax.sweep.lock import owner_of
from tests.processes import finished, free_place, started
from tests.sweep.test_killed import IMPORTS, assert_same

pytestmark = pytest.mark.hosts
MESH = "trial=2,data=2"


def write(study: StudyConfig, file: Path) -> Path:
    """The file of an experiment."""
    file.write_text(f"{IMPORTS}{study!r}\n")
    return file


@pytest.fixture(scope="module")
def short(study: StudyConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Float and quantized trials, of which one has a teacher."""
    return write(replace(study, methods=("none", "K", "QP")), tmp_path_factory.mktemp("short") / "experiment.py")


@pytest.fixture(scope="module")
def long(study: StudyConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One program of enough steps to be killed in the middle."""
    study = replace(study, methods=("none", "P"), train=replace(study.train, epochs=120))
    return write(study, tmp_path_factory.mktemp("long") / "experiment.py")


def commands(
    count: int, experiment: Path, run_dir: Path, *flags: object, broken: Sequence[str] = ()
) -> list[list[object]]:
    """One for each process; `broken` are lines of Python that those with their numbers run first."""
    place, made = free_place(), []
    for index in range(count):
        several = ["--coordinator", place, "--num-processes", count, "--process-id", index] if count > 1 else []
        breaks = broken[index] if index < len(broken) else ""
        made.append(["-m", "tests.sweep.watched", f"{run_dir}.written{index}", run_dir, breaks, "sweep", experiment,
                     "--run-dir", run_dir, "--keep-models", "all", "--mesh", MESH, *several, *flags])
    return made


@pytest.fixture(scope="module")
def short_alone(short: Path) -> Path:
    """The run directory of one process."""
    finished(commands(1, short, short.parent / "whole"))
    return short.parent / "whole"


@pytest.fixture(scope="module")
def long_alone(long: Path) -> Path:
    """The run directory of one process."""
    finished(commands(1, long, long.parent / "whole"))
    return long.parent / "whole"


@pytest.mark.parametrize("count", [2, 4])
def test_the_results_are_those_of_one_process_and_the_first_one_writes_them(
    short: Path, short_alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setenv("BERTJAX_CACHE", str(tmp_path / "cache"))  # the teacher's outputs are computed again
    run_dir = tmp_path / "run"
    logs = finished(commands(count, short, run_dir, "--checkpoint-minutes", 0.01, "--tensorboard"))
    assert_same(run_dir, short_alone)
    assert {path.parent.name.rpartition(" ")[2] for path in run_dir.glob("tensorboard/**/events*")} >= {
        path.name for path in run_dir.glob("trials/*")}
    assert "teacher outputs of colours: 48 rows in" in logs[0]
    written = [Path(f"{run_dir}.written{index}").read_text().split() for index in range(count)]
    assert any(".result.json." in name for name in written[0])
    for index in range(1, count):
        assert all(name.startswith("checkpoints/") for name in written[index]), written[index]
        assert "colours ·" not in logs[index]  # progress is the first one's


def wait_for_checkpoint(running: list[subprocess.Popen[str]], run_dir: Path) -> None:
    """Until a checkpoint is whole."""
    while not list(run_dir.glob("checkpoints/*/*/manifest.json")):
        assert all(process.poll() is None for process in running), [process.communicate() for process in running]
        time.sleep(0.05)


@pytest.mark.parametrize(("victim", "resuming"), [(0, 2), (1, 1)])
def test_a_killed_process_ends_the_others_and_all_go_on_to_the_same_bits(
    long: Path, long_alone: Path, tmp_path: Path, victim: int, resuming: int
) -> None:
    """Also one process alone goes on from what two have stored."""
    run_dir = tmp_path / "run"
    with started(commands(2, long, run_dir, "--checkpoint-minutes", 0.02)) as running:
        wait_for_checkpoint(running, run_dir)
        owner = owner_of(epath.Path(run_dir))
        assert owner is not None and owner["pid"] == running[0].pid
        running[victim].kill()
        began = time.monotonic()
        _, log = running[1 - victim].communicate(timeout=60)
        took = time.monotonic() - began
    assert running[1 - victim].returncode == 75, log
    assert log.splitlines()[-1] == (
        f"bertjax: process {victim} on {socket.gethostname()} is gone; so this one, process {1 - victim} of 2, ends "
        "too: the same command on every host resumes")
    print(f"\nprocess {victim} was killed: the other one ended {took:.1f} s later")
    assert not list(run_dir.glob("trials/*/result.json"))
    logs = finished(commands(resuming, long, run_dir))
    assert "goes on after step" in logs[0]
    assert_same(run_dir, long_alone)


def test_a_signal_to_any_process_leaves_a_checkpoint_and_ends_all(long: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with started(commands(2, long, run_dir, "--epochs", 6000)) as running:  # longer than until the signal
        assert running[0].stderr is not None
        for line in running[0].stderr:
            if re.search(r"step \d+/", line):
                break
        began = time.monotonic()
        running[1].send_signal(signal.SIGTERM)
        logs = [process.communicate(timeout=60)[1] for process in running]
        took = time.monotonic() - began
    assert [process.returncode for process in running] == [143, 143], logs
    print(f"\na signal to one of two processes: both ended {took:.1f} s later")
    assert took < 15
    for log in logs:
        assert log.rstrip().endswith("bertjax: interrupted; finished trials stay, and the same command resumes")
    assert list(run_dir.glob("checkpoints/*/*/manifest.json")) and not (run_dir / "lock.json").exists()


@pytest.mark.parametrize(("other", "said"), [
    (["--seeds", "0", "1"], "the experiment, its flags and the version of bertjax must be the same in all 2 processes"),
    (["--run-dir", "elsewhere"], "all processes must see the same run directory"),
    (["--max-train-examples", "0"], None),
], ids=["another study", "another run directory", "input that is wrong in one"])
def test_what_differs_in_one_process_is_refused_by_all(
    short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: list[str], said: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    started_like = commands(2, short, tmp_path / "run")
    started_like[1] += other
    logs = finished(started_like, code=2)
    assert not list(tmp_path.glob("run/trials/*/result.json"))
    if said is not None:
        assert all(f"bertjax: {said}" in log for log in logs), logs
    else:
        assert f"bertjax: process 1 on {socket.gethostname()} ended with exit code 2, its log says why" in logs[0]


FAIL = ("from bertjax.sweep import session; "
        "session.execute = lambda *a, **b: (_ for _ in ()).throw(RuntimeError('broken'))")


def test_what_fails_in_all_processes_is_kept_as_of_one_and_the_study_goes_on(long: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    logs = finished(commands(2, long, run_dir, broken=[FAIL, FAIL]), code=1)
    assert "2 of 2 trials failed" in logs[0]
    rows = [json.loads(file.read_text()) for file in run_dir.glob("trials/*/result.json")]
    assert [(row["status"], row["reason"]) for row in rows] == [("failed", "RuntimeError: broken")] * 2


def test_what_fails_in_one_process_alone_marks_no_trial_as_failed(long: Path, tmp_path: Path) -> None:
    """Process 0 then waits in a collective, or for the other one to compile."""
    run_dir = tmp_path / "run"
    impatient = "from bertjax.train import processes; processes.ALONE_SECONDS = 3.0"
    logs = finished(commands(2, long, run_dir, broken=["", f"{impatient}; {FAIL}"]), code=1)
    assert "FailedAlone: process 1 failed, and others did not: broken" in logs[1]
    assert f"bertjax: process 1 on {socket.gethostname()} ended with exit code 1, its log says why" in logs[0]
    assert not list(run_dir.glob("trials/*/result.json"))


def test_a_process_that_finds_no_other_says_so(long: Path, tmp_path: Path) -> None:
    soon = "from bertjax.train import group; group.JOIN_SECONDS = 3"
    (log,) = finished(commands(2, long, tmp_path / "run", broken=["", soon])[1:], code=75)
    assert re.search(r"bertjax: the processes did not find each other at localhost:\d+ within 3 s: start all", log)
