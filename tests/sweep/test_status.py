"""What `bertjax status` reads of a study that was begun, runs, or is complete."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from etils import epath

from bertjax import cli
from bertjax.cli_status import duration, running_in_words
from bertjax.config import InputError
from bertjax.study import StudyConfig
from bertjax.sweep.execute import Cost
from bertjax.sweep.lock import LOCK_FILE, Sign
from bertjax.sweep.plan import programs
from bertjax.sweep.status import keep_plan, read_status
from bertjax.sweep.view import View
from bertjax.train.running import Progress
from bertjax.train.state import StepMetrics


@pytest.fixture
def run_dir(study: StudyConfig, tmp_path: Path) -> Path:
    """Of eight trials, of which three have a result."""
    keep_plan(tmp_path, programs(study))
    ids = [trial.trial_id for program in programs(study) for trial in program.trials]
    lines = [f"{name},{status}" for name, status in zip(ids, ("done", "diverged", "failed"), strict=False)]
    (tmp_path / "results.csv").write_text("\n".join(["trial_id,status", *lines, "elsewhere,done"]) + "\n")
    return tmp_path


def test_trials_are_counted_by_what_became_of_them(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = read_status(str(run_dir))
    (part,) = status.parts
    assert (part.task, part.student) == ("colours", "small, 1 layer")
    assert (part.done, part.diverged, part.failed, part.left) == (1, 1, 1, 5) and status.running is None
    with pytest.raises(SystemExit) as raised:
        cli.main(["status", str(run_dir)])
    assert raised.value.code == 0 and json.loads(capsys.readouterr().out) == json.loads(status.as_json())
    (run_dir / "results.csv").unlink()
    assert read_status(str(run_dir)).total("left") == 8


def test_people_are_told_who_works_on_it_and_on_what(
    run_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    lock = {"host": socket.gethostname(), "pid": os.getpid(), "started": now - 3600, "alive": now - 7, "doing": {
        "programs": [{"title": "colours · 8 trials", "step": 20, "total_steps": 1000, "seconds_left": 600.0},
                     {"title": "colours · 4 trials"}], "seconds_left": 12_000.0}}
    (run_dir / LOCK_FILE).write_text(json.dumps(lock))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with pytest.raises(SystemExit):
        cli.main(["status", str(run_dir)])
    said = " ".join(capsys.readouterr().out.split())
    who = f"Process {os.getpid()} on {socket.gethostname()}"
    assert f"{who} has worked on it for 60 minutes, last seen 7 s ago." in said
    assert ("colours · 8 trials, step 20 of 1,000; about 10 minutes left. colours · 4 trials. About 3.3 hours left for "
            "the study.") in said


def test_where_no_one_works_it_says_what_is_left() -> None:
    assert running_in_words(None, 0) == ["The study is complete."]
    assert running_in_words(None, 1) == ["No process works on it. The command that began it goes on with 1 trial."]
    assert [duration(seconds) for seconds in (40, 600, 7200)] == ["40 s", "10 minutes", "2.0 hours"]


@pytest.mark.parametrize(("name", "content", "said"), [
    ("plan.json", None, "must be the run directory of a sweep, and has no plan.json"),
    ("plan.json", "{", "must have a plan.json and a results.csv as a sweep writes them"),
    ("plan.json", "[1]", "must have a plan.json and a results.csv as a sweep writes them"),
    ("results.csv", "a,b\n1,2\n", "must have a plan.json and a results.csv as a sweep writes them"),
])
def test_what_is_no_study_is_one_line(run_dir: Path, name: str, content: str | None, said: str) -> None:
    if content is None:
        (run_dir / name).unlink()
    else:
        (run_dir / name).write_text(content)
    with pytest.raises(InputError, match=said):
        read_status(str(run_dir))


@pytest.mark.parametrize(("place", "said"), [
    ("", "^the run directory must be a folder or gs://bucket/name, got ''$"),
    ("foo://bar/x", "^the run directory must be a folder or gs://bucket/name, got 'foo://bar/x'$"),
    ("s3://bar/x", r"^s3://bar/x needs a package that is not installed \(.*\); gs://bucket/name and local folders w"),
    (__file__, "test_status.py cannot be read .*Not a directory"),
])
def test_a_place_that_cannot_be_read_is_one_line(place: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)  # not installed
    with pytest.raises(InputError, match=said) as raised:
        read_status(place)
    assert "\n" not in str(raised.value)


def test_a_store_that_does_not_answer_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def refused(_path: object) -> str:
        logging.getLogger("gcsfs").error("a try of several")
        raise RuntimeError("no connection\nto the store")

    monkeypatch.setattr(type(epath.Path("gs://bucket/run")), "read_text", refused)
    with pytest.raises(SystemExit):
        cli.main(["status", "gs://bucket/run"])
    assert capsys.readouterr().err == "bertjax: gs://bucket/run cannot be read (no connection)\n"
    assert "a try of several" not in caplog.text


def test_a_view_tells_the_sign_how_far_its_programs_are() -> None:
    sign = Sign()
    with View(live=False, sign=sign) as view:
        view.planned(2, 16, work=10.0)
        view.started("p", 5.0)
        view.started("q", 5.0)
        assert sign.doing == {"programs": [{"title": "p"}, {"title": "q"}]}
        view.begun -= 30
        view.step("p", Progress(20, 100, 640, 60.0, np.ones(2)))
        first, second = sign.doing["programs"]
        assert first == {"title": "p", "step": 20, "total_steps": 100, "seconds_left": pytest.approx(240)}
        assert second == {"title": "q"} and sign.doing["seconds_left"] == pytest.approx(30 * 9, rel=0.1)
        view.step("q", Progress(80, 100, 640, 60.0, np.ones(2)))
        assert sign.doing["seconds_left"] == pytest.approx(30, rel=0.1)
        view.failed("q")  # what it had done is to be done again
        view.finished("p", [], Cost(2.0, 0.5, 1, 24))
        assert sign.doing == {"programs": [], "seconds_left": pytest.approx(30, rel=0.1)}


def test_what_was_done_before_a_program_goes_on_takes_no_time_of_the_study() -> None:
    """Of a program that goes on after 90 of 100 steps, nine hours in, and is at 92 a minute later."""
    two_steps = (StepMetrics(*np.ones((3, 2, 1))),)
    sign = Sign()
    with View(live=False, sign=sign) as view:
        view.planned(2, 16, work=20.0)
        view.started("p", 10.0)
        view.begun -= 60
        view.step("p", Progress(92, 100, 640, 9 * 3600 + 60, np.ones(1), two_steps))
        assert sign.doing["seconds_left"] == pytest.approx(30 * (8 + 100), rel=0.01)
        view.step("p", Progress(94, 100, 640, 9 * 3600 + 120, np.ones(1), two_steps))
        assert sign.doing["seconds_left"] == pytest.approx(15 * (6 + 100), rel=0.01)
        view.failed("p")  # its process is gone, and another one goes on from step 93
        view.started("p", 10.0)
        view.step("p", Progress(95, 100, 640, 9 * 3600 + 150, np.ones(1), two_steps))
        assert sign.doing["seconds_left"] == pytest.approx(30 * (5 + 100), rel=0.01)
        view.finished("p", [], Cost(2.0, 0.5, 1, 24))
        assert sign.doing["seconds_left"] == pytest.approx(60 * 100 / 7, rel=0.01)
        view.started("q", 10.0)
        view.finished("q", [], Cost(2.0, 0.5, 1, 24))  # its checkpoint was of its last step
        assert sign.doing["seconds_left"] == pytest.approx(0, abs=1e-6)
