"""Trains a study on a Ray cluster: each teacher and each program is a task.

This process plans, holds the lock, shows what goes on, and does what is of several programs: it writes the tables and
keeps the best models. A task opens the same run directory and trains as the local executor does. One whose process or
node is gone is given to Ray once more, and goes on from its newest checkpoint.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import LocalRayletDiedError, NodeDiedError, RayError, RayTaskError, TaskCancelledError
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from bertjax.config import InputError, require
from bertjax.files import is_remote
from bertjax.study import StudyConfig, TrialConfig
from bertjax.sweep.ledger import Ledger
from bertjax.sweep.models import keep_best
from bertjax.sweep.plan import ProgramPlan, programs
from bertjax.sweep.ray_task import TaskSettings, run_task
from bertjax.sweep.resources import Resources, default_resources, fits, in_words, process_environment
from bertjax.sweep.session import Session, fail, has_teacher
from bertjax.train.trial import teacher_trial
from bertjax.words import number_of

log = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
"""How long a cluster may take to answer; Ray itself asks for minutes."""

STOP_SECONDS = 30.0
"""How long tasks may take to write a checkpoint once the study is to end."""

VISIBLE_SECONDS = 90.0
"""How long another machine's files may take to be seen here: NFS looks into a folder again after a minute."""

ROOM_SECONDS = 60.0
"""Between two lines that say that no node has room."""

MOST_CRASHES = 3
"""Of a task's process while its node lives on, without a step in between; then its trials are marked failed."""

GONE = (NodeDiedError, LocalRayletDiedError, TaskCancelledError)
"""What a task that was preempted ends with, as far as Ray knows; TaskCancelledError if its process got SIGTERM."""


@dataclass
class _Job:
    """A teacher or a program, and the task that trains it."""

    name: str
    program: ProgramPlan
    """A teacher is one too."""
    teacher: TrialConfig | None = None
    """If it is one."""
    waits_for: str | None = None
    """The id of the teacher in training that it needs."""
    title: str | None = None
    """In the view, while it is there."""
    step: int = 0
    crashes: int = 0
    """Since the last step."""


def _jobs(ledger: Ledger, study: StudyConfig, todo: Sequence[ProgramPlan]) -> list[_Job]:
    """The teachers that are needed and not there, then the programs."""
    teachers: dict[str, _Job] = {}
    made = []
    for number, program in enumerate(todo, start=1):
        job = _Job(f"program {number} of {len(todo)}", program)
        if any(trial.distill_weight > 0 for trial in program.trials):
            teacher = teacher_trial(study, program.task)
            if not has_teacher(ledger, teacher):
                plan = ProgramPlan(teacher.task, (teacher,))
                teachers.setdefault(teacher.trial_id, _Job(f"the teacher of {teacher.task}", plan, teacher))
                job.waits_for = teacher.trial_id
        made.append(job)
    return [*teachers.values(), *made]


@dataclass(frozen=True)
class RayExecutor:
    """What `connected` makes."""

    resources: Resources
    wait_seconds: float

    def __call__(self, session: Session, study: StudyConfig, todo: Sequence[ProgramPlan]) -> None:
        """See `bertjax.sweep.run.Executor`."""
        if todo:
            _Tasks(self, session, study, _jobs(session.ledger, study, todo)).run()

    def remote_function(self) -> Any:
        """`run_task` for Ray."""
        # A process of its own for each task, so that the next one finds accelerators and memory free. Whether a task
        # comes back is decided here: Ray would bring back for ever one that takes its process down each time.
        return ray.remote(
            num_cpus=self.resources.get("CPU", 0), num_gpus=self.resources.get("GPU", 0),
            resources={"TPU": self.resources["TPU"]} if "TPU" in self.resources else {},
            max_calls=1, max_retries=0, scheduling_strategy="SPREAD",
            runtime_env={"env_vars": process_environment(self.resources, os.environ)},
        )(run_task)


class _Tasks:
    """The tasks of a study, from the first to the last."""

    def __init__(self, executor: RayExecutor, session: Session, study: StudyConfig, jobs: list[_Job]) -> None:
        place = session.ledger.place
        run_dir = str(place.root) if is_remote(place.root) else os.path.abspath(place.local)
        self.executor, self.session, self.jobs = executor, session, jobs
        self.settings = TaskSettings(study, run_dir, os.getcwd(), session.keep_models, session.mesh,
                                     session.checkpoint_seconds, executor.resources)
        self.order = [trial.trial_id for program in programs(study) for trial in program.trials]
        self.waiting = list(range(len(jobs)))
        self.running: dict[Any, int] = {}
        self.broken: dict[str, str] = {}
        self.teaching = {job.teacher.trial_id for job in jobs if job.teacher is not None}
        self.room_at, self.said_at = time.monotonic(), 0.0
        self.had_room = False

    def run(self) -> None:
        """Returns once every trial has a result."""
        self._look_for_room()
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
        self.function = self.executor.remote_function()
        try:
            while self.waiting or self.running:
                self._start()
                ready, _ = ray.wait(list(self.running), timeout=1.0)
                self._show()
                for task in ready:
                    self._ended(self.running.pop(task), task)
                self._look_for_room()
        except BaseException:
            self._stop()
            raise
        finally:
            self.queue.shutdown(force=True)

    def _start(self) -> None:
        """Gives Ray every job that waits for no teacher."""
        for number in list(self.waiting):
            job = self.jobs[number]
            if job.waits_for not in self.teaching:
                self.waiting.remove(number)
                task = self.function.remote(self.settings, number, job.program, job.teacher, self.broken, self.queue)
                self.running[task] = number

    def _show(self) -> None:
        """Shows what the tasks have sent, see `bertjax.sweep.ray_task.TaskView`."""
        for number, content in self.queue.get_nowait_batch(self.queue.qsize()):
            job, view = self.jobs[number], self.session.view
            kind, values = pickle.loads(content)
            if kind == "started":
                title, work = values
                job.title = f"{title} · {job.name}" if job.teacher is None else title
                view.started(job.title, work)
            elif kind == "said":
                log.log(*values)
            elif job.title is not None:
                if kind == "step":
                    if values[0].step > job.step:
                        job.step, job.crashes = values[0].step, 0
                    view.step(job.title, *values)
                else:
                    getattr(view, kind)(job.title, *values)
                    job.title = None

    def _ended(self, number: int, task: Any) -> None:
        """Keeps what a task has left, or has it started again; raises what it raised."""
        job, again = self.jobs[number], False
        try:
            self.broken |= ray.get(task)
        except GONE as error:
            again = self._goes_on(job, error)
        except RayTaskError as error:
            raise error.cause from error
        except RayError as error:
            job.crashes += 1
            again = self._goes_on(job, error)
        if again:
            self.waiting.append(number)
        else:
            self._keep(job)

    def _goes_on(self, job: _Job, error: RayError) -> bool:
        """Whether a job whose task is gone is to be started again."""
        if job.title is not None:
            self.session.view.failed(job.title)
            job.title = None
        ledger, trials = self.session.ledger, job.program.trials
        ledger.place.refresh([ledger.folder(trial) for trial in trials])
        reason = _reason(error)
        if has_teacher(ledger, job.teacher) if job.teacher is not None else not ledger.missing(trials):
            return False  # it had kept everything
        if job.crashes < MOST_CRASHES:
            log.warning("%s is started again, and goes on from its newest checkpoint: %s", job.name, reason)
            return True
        log.error("%s failed: its process ended %d times without a step: %s", job.name, job.crashes, reason)
        if job.teacher is None:
            fail(self.session, trials, job.program, reason)
        else:
            self.broken[job.teacher.trial_id] = f"{job.name} failed: {reason}"
        return False

    def _keep(self, job: _Job) -> None:
        """Takes over what a task has left, and writes what is of several programs."""
        ledger = self.session.ledger
        until = time.monotonic() + VISIBLE_SECONDS
        awaited = [] if job.teacher is not None and job.teacher.trial_id in self.broken else job.program.trials
        ledger.place.refresh([ledger.folder(trial) for trial in job.program.trials])
        while missing := [trial for trial in awaited if ledger.row(trial) is None]:
            require(time.monotonic() < until,
                    f"{self.settings.run_dir} must be a folder that all nodes share: {ledger.folder(missing[0])} of a "
                    "task that has ended is not seen here")
            time.sleep(1)
            ledger.place.refresh([ledger.folder(trial) for trial in missing])
        if job.teacher is not None:
            self.teaching.discard(job.teacher.trial_id)
        elif self.session.keep_models == "best":
            keep_best(ledger, self.order)
        ledger.write_tables()
        ledger.place.push()

    def _look_for_room(self) -> None:
        """Says it if no node can run a task.

        Raises:
            InputError: None could from the start, for as long as may be waited.
        """
        nodes = _nodes()
        if any(fits(self.executor.resources, node) for node in nodes):
            self.room_at, self.had_room = time.monotonic(), True
            return
        has = "; ".join(sorted({in_words(node) for node in nodes}))
        problem = f"no node of the Ray cluster has {in_words(self.executor.resources)}; its nodes have {has}"
        require(self.had_room or time.monotonic() - self.room_at <= self.executor.wait_seconds,
                f"{problem}. Ask for less by --resources-per-task; where the cluster starts nodes for tasks that wait, "
                "give it time by --ray-wait")
        if time.monotonic() - self.said_at > ROOM_SECONDS:
            self.said_at = time.monotonic()
            log.warning("%s; waiting for one that has", problem)

    def _stop(self) -> None:
        """Ends the tasks, those in training with a checkpoint."""
        if self.running:
            log.info("%s: stopping, each in training leaves a checkpoint", number_of("task", len(self.running)))
        with suppress(Exception):  # what ends the study is raised, not this
            for task in self.running:
                ray.cancel(task, recursive=False)
            ray.wait(list(self.running), num_returns=len(self.running), timeout=STOP_SECONDS)
            self._show()


@contextmanager
def connected(
    address: str | None = None, resources: Resources | None = None, wait_minutes: float = 0.0
) -> Iterator[RayExecutor]:
    """An executor for `run_study` on a Ray cluster, which is left at the end.

    The process needs no accelerator, and must leave those of its machine to tasks: JAX_PLATFORMS=cpu.

    Args:
        address: `auto` or HOST:PORT; None is the cluster that runs on this machine, or else one of this machine alone,
            which ends with this.
        resources: What a task takes; None as `default_resources` says.
        wait_minutes: How long no node may have them at first, at least 0: a cluster that starts nodes for tasks that
            wait needs some.

    Raises:
        InputError: There is no such cluster, or nothing to compute on.
    """
    require(wait_minutes >= 0, f"--ray-wait must be at least 0, got {wait_minutes:g}")
    ours = not ray.is_initialized()
    try:
        if ours:
            _connect(address)
        yield RayExecutor(default_resources(_nodes()) if resources is None else resources, 60 * wait_minutes)
    finally:
        if ours:
            ray.shutdown()


def _connect(address: str | None) -> None:
    """`ray.init`, with one line of what is wrong, soon."""
    host, _, port = (address or "").rpartition(":")
    require(address in (None, "auto", "local") or (bool(host) and "//" not in host and port.isdigit()),
            f"--ray-address must be auto or HOST:PORT, of a cluster that this machine is part of; got {address!r}")
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if host:
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray has errors of many types
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"no Ray cluster answers at --ray-address {address or 'auto'}: {reason}") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray has put its own there


def _reason(error: RayError) -> str:
    """In a few words."""
    if isinstance(error, TaskCancelledError):
        return "its process was told to end"
    return f"{type(error).__name__}: {str(error).splitlines()[0].partition('. ')[0]}"


def _nodes() -> list[dict[str, float]]:
    """What each node has."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]
