"""The tasks of a study on a Ray cluster, seen by the process that plans: started, shown, kept, and started again."""

from __future__ import annotations

import logging
import math
import os
import pickle
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import LocalRayletDiedError, NodeDiedError, RayError, RayTaskError, TaskCancelledError
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from bertjax.config import require
from bertjax.files import is_remote
from bertjax.study import StudyConfig, TrialConfig
from bertjax.sweep.ledger import Ledger
from bertjax.sweep.models import keep_best
from bertjax.sweep.plan import ProgramPlan, programs
from bertjax.sweep.ray_task import TaskSettings
from bertjax.sweep.resources import Resources, fits, in_words
from bertjax.sweep.session import Session, fail
from bertjax.train.trial import teacher_trial
from bertjax.words import number_of

log = logging.getLogger(__name__)

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
class Job:
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


def jobs_of(ledger: Ledger, study: StudyConfig, todo: Sequence[ProgramPlan]) -> list[Job]:
    """The teachers that are needed and not there, then the programs."""
    teachers: dict[str, Job] = {}
    made = []
    for number, program in enumerate(todo, start=1):
        job = Job(f"program {number} of {len(todo)}", program)
        if any(trial.distill_weight > 0 for trial in program.trials):
            teacher = teacher_trial(study, program.task)
            if not ledger.has_teacher(teacher):
                plan = ProgramPlan(teacher.task, (teacher,))
                teachers.setdefault(teacher.trial_id, Job(f"the teacher of {teacher.task}", plan, teacher))
                job.waits_for = teacher.trial_id
        made.append(job)
    return [*teachers.values(), *made]


class Tasks:
    """The tasks of a study, from the first to the last.

    Args:
        function: `bertjax.sweep.ray_task.run_task`, for Ray.
        resources: What each takes.
        wait_seconds: How long no node may have that at first.
        session: The process's that plans; its ledger has the lock.
        study: What is trained.
        jobs: Its teachers, then its programs.
    """

    def __init__(
        self, function: Any, resources: Resources, wait_seconds: float, session: Session, study: StudyConfig,
        jobs: list[Job],
    ) -> None:
        place = session.ledger.place
        run_dir = str(place.root) if is_remote(place.root) else os.path.abspath(place.local)
        self.function, self.resources, self.wait_seconds = function, resources, wait_seconds
        self.session, self.jobs = session, jobs
        self.settings = TaskSettings(study, run_dir, os.getcwd(), session.keep_models, session.mesh,
                                     session.checkpoint_seconds, session.tensorboard, resources)
        self.order = [trial.trial_id for program in programs(study) for trial in program.trials]
        self.waiting = list(range(len(jobs)))
        self.running: dict[Any, int] = {}
        self.broken: dict[str, str] = {}
        self.teaching = {job.teacher.trial_id for job in jobs if job.teacher is not None}
        self.room_at, self.said_at = time.monotonic(), -math.inf
        self.had_room = False

    def run(self) -> None:
        """Returns once every trial has a result."""
        self._look_for_room()
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
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
                    if kind == "finished":
                        job.step, job.crashes = 0, 0  # what memory leaves no room for comes after it, from step 0 on

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

    def _goes_on(self, job: Job, error: RayError) -> bool:
        """Whether a job whose task is gone is to be started again."""
        if job.title is not None:
            self.session.view.failed(job.title)
            job.title = None
        ledger, trials = self.session.ledger, job.program.trials
        ledger.place.refresh([ledger.folder(trial) for trial in trials])
        reason = _reason(error)
        if ledger.has_teacher(job.teacher) if job.teacher is not None else not ledger.missing(trials):
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

    def _keep(self, job: Job) -> None:
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
        nodes = nodes_of_cluster()
        if any(fits(self.resources, node) for node in nodes):
            self.room_at, self.had_room = time.monotonic(), True
            return
        has = "; ".join(sorted({in_words(node) for node in nodes}))
        problem = f"no node of the Ray cluster has {in_words(self.resources)}; its nodes have {has}"
        require(self.had_room or time.monotonic() - self.room_at <= self.wait_seconds,
                f"{problem}. Ask for less by --resources-per-task; where the cluster starts nodes for tasks that wait, "
                "give it time by --ray-wait")
        if time.monotonic() - self.said_at > ROOM_SECONDS:
            self.said_at = time.monotonic()
            log.warning("%s; waiting for one that has", problem)

    def _stop(self) -> None:
        """Ends the tasks, those in training with a checkpoint."""
        if training := sum(job.title is not None for job in self.jobs):  # others may wait for room, or load
            log.info("%s: stopping, each in training leaves a checkpoint", number_of("task", training))
        with suppress(Exception):  # what ends the study is raised, not this
            for task in self.running:
                ray.cancel(task, recursive=False)
            ray.wait(list(self.running), num_returns=len(self.running), timeout=STOP_SECONDS)
            self._show()


def _reason(error: RayError) -> str:
    """In a few words."""
    if isinstance(error, TaskCancelledError):
        return "its process was told to end"
    return f"{type(error).__name__}: {str(error).splitlines()[0].partition('. ')[0]}"


def nodes_of_cluster() -> list[dict[str, float]]:
    """What each node has."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]
