"""Programs as tasks of a real Ray cluster, whose nodes are processes of this machine: nodes, tasks and drivers end."""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bertjax.config import InputError
from bertjax.heap import TUNABLES
from bertjax.study import StudyConfig
from bertjax.sweep.ledger import Ledger, open_ledger
from bertjax.sweep.plan import programs
from bertjax.sweep.run import run_study
from bertjax.sweep.run_dir import RunDir
from bertjax.sweep.session import Session
from bertjax.sweep.view import View
from bertjax.train.running import Progress
from tests.processes import ONE_DEVICE
from tests.sweep.test_killed import wait_for, write_experiment

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head, on which no task has room, and three nodes of one CPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_worker_niceness", "0")  # on a busy machine tasks would wait for everything else
        from ray.cluster_utils import Cluster
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        for _ in range(3):
            made.add_node(num_cpus=1)
        yield made
        made.shutdown()


@pytest.fixture
def twelve(study: StudyConfig, tmp_path: Path) -> Path:
    """The file of a study of twelve programs and a teacher; seeds of one subset are in several programs."""
    return write_experiment(replace(study, methods=("none", "K", "P", "KP"), seeds=tuple(range(6)),
                                    max_trials_per_program=2), tmp_path)


def start(experiment: Path, run_dir: Path, *flags: str) -> subprocess.Popen[str]:
    """The command of a user, with a relative run directory; without other flags only a signal leaves checkpoints."""
    command = [sys.executable, "-m", "bertjax", "sweep", str(experiment), "--run-dir", run_dir.name,
               "--checkpoint-minutes", "0", "--mesh", ONE_DEVICE, *flags]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=run_dir.parent)


def end_of(process: subprocess.Popen[str]) -> str:
    """The rest of its log; it ends well."""
    _, log = process.communicate()
    assert process.returncode == 0, log
    return log


def contents(run_dir: Path) -> dict[str, Any]:
    """Every file of a finished study by its path, without the report and the seconds."""
    found: dict[str, Any] = {}
    for path in run_dir.rglob("*"):
        name = str(path.relative_to(run_dir))
        if path.is_file() and not name.startswith("report"):
            found[name] = path.read_bytes()
    for name in found:
        if name.endswith("result.json"):
            found[name] = {key: value for key, value in json.loads(found[name]).items() if key != "train_seconds"}
        elif name in ("results.csv", "teachers.csv"):
            header, *rows = (line.split(",") for line in found[name].decode().splitlines())
            seconds = header.index("train_seconds")
            found[name] = [row[:seconds] + row[seconds + 1:] for row in (header, *rows)]
    return found


def checkpointed(experiment: Path, run_dir: Path, number: int) -> bool:
    """Whether a program of `twelve` has left a checkpoint."""
    values: dict[str, Any] = {}
    exec(experiment.read_text(), values)
    trials = list(programs(values["study"]))[number - 1].trials
    folder = Ledger(RunDir(run_dir)).checkpoints(trials, 1.0).folder
    return any(Path(folder).glob("*/manifest.json"))


def test_twelve_programs_on_three_nodes_of_which_one_is_killed_leave_what_one_process_leaves(
    cluster: Any, twelve: Path, tmp_path: Path
) -> None:
    with start(twelve, tmp_path / "whole") as process:
        end_of(process)
    began = time.monotonic()
    flags = "--executor", "ray", "--ray-address", cluster.address, "--checkpoint-minutes", "0.005"
    with start(twelve, tmp_path / "run", *flags) as process:
        log = wait_for(process, lambda line: "program 2 of 12: started" in line)
        found = re.search(r"/(\w{6}) · program 2 of 12: started", log[-1])
        assert found is not None, log
        (node,) = (node for node in cluster.worker_nodes if node.node_id.startswith(found[1]))
        while process.poll() is None and not checkpointed(twelve, tmp_path / "run", 2):
            time.sleep(0.01)
        cluster.remove_node(node, allow_graceful=False)
        said = "".join(log) + end_of(process)
    print(f"\n12 programs, a node killed: {time.monotonic() - began:.0f} s")
    assert "24 trials to train, in 12 programs" in said
    assert "program 2 of 12 is started again, and goes on from its newest checkpoint: NodeDiedError: " in said
    (again,) = re.findall(r"/(\w{6}): goes on after step \d+ of 144", said)
    assert not node.node_id.startswith(again)
    assert len(set(re.findall(r"/(\w{6}) · program \d+ of 12: started", said))) == 3
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")
    cluster.add_node(num_cpus=1)


def test_sigterm_leaves_checkpoints_and_the_same_command_goes_on_there_or_here(
    cluster: Any, study: StudyConfig, tmp_path: Path
) -> None:
    experiment = write_experiment(replace(study, methods=("none", "P"), max_trials_per_program=1), tmp_path)
    longer = "--epochs", "144"  # than it takes until the tasks are told to end
    with start(experiment, tmp_path / "whole", *longer) as process:
        end_of(process)
    flags = "--executor", "ray", "--ray-address", cluster.address
    for flags_after in (flags, ()):
        run_dir = tmp_path / f"run{len(flags_after)}"
        with start(experiment, run_dir, *longer, *flags) as process:
            wait_for(process, lambda line: "compiled the eval chunk" in line)
            process.send_signal(signal.SIGTERM)
            _, log = process.communicate()
        assert process.returncode == 143, log
        assert "each in training leaves a checkpoint" in log
        assert log.rstrip().endswith("bertjax: interrupted; finished trials stay, and the same command resumes")
        assert list(run_dir.glob("checkpoints/*/*/manifest.json")), log
        assert not (run_dir / "lock.json").exists()
        with start(experiment, run_dir, *longer, *flags_after) as process:
            assert "goes on after step" in end_of(process)
        assert contents(run_dir) == contents(tmp_path / "whole")


def test_one_machine_is_a_cluster_too(
    study: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_worker_niceness", "0")
    asked = replace(study, methods=("none", "P"), max_trials_per_program=1)
    experiment = write_experiment(asked, tmp_path)
    flags = "--executor", "ray", "--ray-address", "local", "--resources-per-task", "CPU=1"
    with start(experiment, tmp_path / "run", *flags, "--epochs", "6") as process:
        said = end_of(process)
    assert "program 2 of 2" in said and "(raylet)" not in said
    run_study(asked, tmp_path / "whole", mesh=ONE_DEVICE)
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


@pytest.fixture
def connection(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An executor of this process."""
    from bertjax.sweep.ray import connected
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    before = signal.getsignal(signal.SIGTERM)
    with connected(cluster.address) as made:
        assert made.resources == {"CPU": 1} and signal.getsignal(signal.SIGTERM) is before
        yield made


@pytest.mark.parametrize("broken", ["teacher", "program"])
def test_what_takes_its_process_down_each_time_is_given_up_and_the_others_are_not(
    broken: str, connection: Any, study: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from bertjax.sweep import ray as ray_module
    run_task = ray_module.run_task

    def crash(settings: Any, number: int, program: Any, teacher: Any, known: Any, queue: Any) -> Any:
        if (teacher is not None) == (broken == "teacher") and program.trials[0].distill_weight == 0:
            os._exit(1)
        return run_task(settings, number, program, teacher, known, queue)

    asked = replace(study, methods=("none", "K"), max_trials_per_program=1)
    monkeypatch.setattr(ray_module, "run_task", crash)
    caplog.set_level("INFO", logger="bertjax")
    results = run_study(asked, tmp_path, executor=connection).set_index("methods")
    lost, other = ("K", "none") if broken == "teacher" else ("none", "K")
    assert results.loc[lost, "status"] == "failed" and results.loc[other, "status"] == "done"
    assert caplog.text.count("is started again, and goes on from its newest checkpoint: WorkerCrashedError") == 2
    reason = json.loads((tmp_path / "trials" / results.loc[lost, "trial_id"] / "result.json").read_text())["reason"]
    assert "WorkerCrashedError" in reason and ("the teacher of colours failed" in reason) == (broken == "teacher")
    monkeypatch.undo()
    assert set(run_study(asked, tmp_path, executor=connection)["status"]) == {"done"}


def test_a_task_starts_with_the_settings_of_this_process_and_its_share_of_the_node(
    connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    from bertjax.sweep import ray as ray_module

    def tell() -> tuple[Any, int]:
        import jax
        jax.devices()
        tasks = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
        names = "GLIBC_TUNABLES", "JAX_PLATFORMS", "BERTJAX_CACHE", "JAX_COMPILATION_CACHE_DIR"
        return [os.environ.get(name) for name in names], sum("XLAEigen" in name for name in tasks)

    monkeypatch.setattr(ray_module, "run_task", tell)
    monkeypatch.setenv("JAX_PLATFORMS", "something")
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    settings, threads = ray.get(connection.remote_function().remote())
    cache = os.environ["BERTJAX_CACHE"]
    assert settings == [TUNABLES, "cpu", cache, os.environ["JAX_COMPILATION_CACHE_DIR"]] and threads == 1


def test_a_mesh_that_no_task_can_have_leaves_no_run_directory(
    connection: Any, study: StudyConfig, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"^--mesh trial=9 needs 9 devices; there are 4$"):
        run_study(replace(study, methods=("P",)), tmp_path, mesh="trial=9", executor=connection)
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"^--mesh data=2 needs 2 devices; there are 1$"):
        replace(connection, resources={"GPU": 1}).check_mesh("data=2")
    replace(connection, resources={"TPU": 1}).check_mesh("data=2")  # two on one chip, of some kinds


def test_what_a_task_raises_ends_the_study_and_says_where(
    connection: Any, study: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(connection), "check_mesh", lambda *_: None)  # as for a TPU, whose devices the task counts
    with pytest.raises(InputError, match=r"^on \S+/\w{6}: --mesh trial=99 needs 99 devices; there are 4$"):
        run_study(replace(study, methods=("P",)), tmp_path, mesh="trial=99", executor=connection)
    assert not (tmp_path / "lock.json").exists()


def test_what_no_node_has_is_said_at_once_and_waited_for_if_asked(
    cluster: Any, study: StudyConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bertjax.sweep.ray import connected
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    problem = "no node of the Ray cluster has GPU=1,CPU=2; its nodes have CPU=1; none"
    asked = replace(study, methods=("none",))
    for minutes, least, most in ((0.0, 0.0, 1.0), (0.05, 3.0, 8.0)):
        with connected(cluster.address, {"GPU": 1, "CPU": 2}, minutes) as executor:
            began = time.monotonic()
            with pytest.raises(InputError, match=problem):
                executor(session_of(asked, tmp_path), asked, list(programs(asked)))
            assert least <= time.monotonic() - began <= most
    assert f"{problem}; waiting for one that has" in caplog.text


@pytest.mark.parametrize(("address", "said"), [
    ("127.0.0.1:1", "no Ray cluster answers at --ray-address 127.0.0.1:1: .*refused"),
    ("ray://127.0.0.1:10001", "--ray-address must be local, auto or HOST:PORT of a cluster with this machine"),
    ("here", "--ray-address must be local, auto or HOST:PORT")])
def test_a_cluster_that_is_none_is_one_line_and_soon(address: str, said: str) -> None:
    from bertjax.sweep.ray import connected
    began = time.monotonic()
    with pytest.raises(InputError, match=said) as raised, connected(address):
        pass
    assert "\n" not in str(raised.value) and time.monotonic() - began < 5


def session_of(study: StudyConfig, run_dir: Path) -> Session:
    """Of a process that plans."""
    ledger = open_ledger(RunDir(run_dir), study)
    ledger.keep_study(study)
    return Session(ledger, View(live=False), "none", None, 600.0)


def tasks_of(study: StudyConfig, run_dir: Path, sent: Sequence[tuple[Any, ...]] = ()) -> Any:
    """Those of a study, without a cluster."""
    from bertjax.sweep.ray_driver import Tasks, jobs_of
    session = session_of(study, run_dir)
    made = Tasks(None, {"CPU": 1}, 0.0, session, study, jobs_of(session.ledger, study, list(programs(study))))
    tell(made, *sent)
    return made


def tell(tasks: Any, *sent: tuple[Any, ...]) -> None:
    """What its first task sends."""
    content = [(0, pickle.dumps((kind, values))) for kind, *values in sent]
    tasks.queue = SimpleNamespace(qsize=lambda: len(content), get_nowait_batch=lambda _: content)
    tasks._show()


def test_only_crashes_without_a_step_in_between_count(study: StudyConfig, tmp_path: Path) -> None:
    from ray.exceptions import NodeDiedError, WorkerCrashedError
    tasks = tasks_of(replace(study, methods=("none",)), tmp_path)
    (job,) = tasks.jobs

    def step(number: int) -> None:
        tell(tasks, ("started", "p", 1.0), ("step", Progress(number, 100, 640, 60.0, np.ones(1))))

    def goes_on(error: Exception, crashes: int) -> bool:
        job.crashes += crashes
        return tasks._goes_on(job, error)

    step(10)
    assert list(tasks.session.view.programs) == ["p · program 1 of 1"]
    for _ in range(9):
        assert goes_on(NodeDiedError("gone"), 0)
    assert tasks.session.view.programs == {}
    assert goes_on(WorkerCrashedError(), 1) and goes_on(WorkerCrashedError(), 1)
    step(10)  # again: no step more than before
    assert job.crashes == 2
    step(11)
    assert goes_on(WorkerCrashedError(), 1) and goes_on(WorkerCrashedError(), 1)
    assert not goes_on(WorkerCrashedError(), 1)
    assert tasks.session.ledger.row(job.program.trials[0])["status"] == "failed"


def test_only_tasks_in_training_are_said_to_leave_checkpoints(
    study: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("bertjax.sweep.ray_driver.ray", SimpleNamespace(
        cancel=lambda *_, **__: None, wait=lambda *_, **__: None))
    caplog.set_level("INFO", logger="bertjax")
    tasks = tasks_of(replace(study, methods=("none", "P"), max_trials_per_program=1), tmp_path)
    tasks.running = {object(): 0, object(): 1}  # given to Ray, which has no room for them
    tell(tasks)
    tasks._stop()
    assert "stopping" not in caplog.text
    tell(tasks, ("started", "p", 1.0))
    tell(tasks)
    tasks._stop()
    assert "1 task: stopping, each in training leaves a checkpoint" in caplog.text


def test_results_that_are_not_seen_are_no_shared_folder(
    study: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bertjax.sweep.ray_driver.VISIBLE_SECONDS", 1.5)
    tasks = tasks_of(replace(study, methods=("none",)), tmp_path)
    with pytest.raises(InputError, match="must be a folder that all nodes share: .*trials/.* is not seen here"):
        tasks._keep(tasks.jobs[0])


def test_a_task_wants_the_run_directory_the_version_and_the_rows_of_the_process_that_plans(
    study: StudyConfig, tmp_path: Path
) -> None:
    from bertjax.sweep import ray_task
    settings = replace(tasks_of(study, tmp_path / "run").settings, folder="")
    with pytest.raises(InputError, match="must be a folder that all nodes share, .*/run has no study.json"):
        ray_task._ledger(RunDir(tmp_path / "elsewhere"), settings, "colours")
    ledger = ray_task._ledger(RunDir(tmp_path / "run"), settings, "colours")
    ledger.keep_rows({"colours": "of other rows"})
    with pytest.raises(InputError, match="the rows of colours changed"):
        ray_task._ledger(RunDir(tmp_path / "run"), settings, "colours")
    with pytest.raises(InputError, match="all nodes must have bertjax 9, got "):
        ray_task._check_process(replace(settings, version="9"))
    with pytest.raises(InputError, match="with TPU=4 must compute on a tpu, and JAX finds a cpu: install jax.tpu. on"):
        ray_task._check_process(replace(settings, resources={"TPU": 4}))
