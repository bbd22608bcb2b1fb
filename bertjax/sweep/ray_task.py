"""A task of `bertjax.sweep.ray`: what runs in a process of its own on some node of a cluster."""

from __future__ import annotations

import logging
import os
import pickle
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import jax
import ray
from ray.util.queue import Queue

import bertjax
from bertjax import interrupts
from bertjax.config import InputError, require
from bertjax.data.sources import rows_hash
from bertjax.study import StudyConfig, TrialConfig
from bertjax.sweep.execute import Cost
from bertjax.sweep.inputs import task_data
from bertjax.sweep.ledger import Ledger, open_ledger
from bertjax.sweep.outcome import Outcome
from bertjax.sweep.plan import ProgramPlan
from bertjax.sweep.resources import Resources, in_words, platform_of
from bertjax.sweep.run_dir import RunDir
from bertjax.sweep.session import Session, teach, train
from bertjax.train.running import Progress

STEP_SECONDS = 1.0
"""Between two steps that a task tells."""

SEND_SECONDS = 10.0
"""How long a task that has ended waits until what it tells is sent."""


@dataclass(frozen=True)
class TaskSettings:
    """What all tasks of a study share."""

    study: StudyConfig
    run_dir: str
    """An absolute path, or a URL."""
    folder: str
    """Where relative paths of the study begin."""
    keep_models: str
    mesh: str | None
    checkpoint_seconds: float
    tensorboard: bool
    resources: Resources
    version: str = bertjax.__version__


class TaskView(logging.Handler):
    """Sends what a task shows (see `bertjax.sweep.view.ProgramView`) and logs to the process that plans."""

    def __init__(self, queue: Queue, number: int) -> None:
        super().__init__(logging.INFO)
        self.queue, self.number, self.last_step, self.sent = queue, number, 0.0, None
        self.place = f"{socket.gethostname()}/{ray.get_runtime_context().get_node_id()[:6]}"

    def started(self, title: str, work: float) -> None:
        """A program begins."""
        self._send("started", f"{title} · {self.place}", work)

    def step(self, title: str, progress: Progress) -> None:
        """A chunk of it is done."""
        if time.monotonic() - self.last_step > STEP_SECONDS:
            self.last_step = time.monotonic()
            self._send("step", progress)

    def finished(self, title: str, outcomes: Sequence[Outcome], cost: Cost) -> None:
        """It is done: its scores."""
        self._send("finished", [replace(made, metrics=[], predictions={}) for made in outcomes], cost)

    def failed(self, title: str) -> None:
        """It ended without any."""
        self._send("failed")

    def emit(self, record: logging.LogRecord) -> None:
        """A line of the log."""
        self._send("said", record.levelno, f"{self.place}: {self.format(record)}")

    def _send(self, kind: str, *values: Any) -> None:
        # As bytes, so that the queue's own process imports nothing of ours. This does not wait: Ray gives the CPUs of a
        # task that waits for it to another one. No line is worth a training.
        with suppress(Exception):
            self.sent = self.queue.actor.put_nowait.remote((self.number, pickle.dumps((kind, values))))

    def wait(self) -> None:
        """Returns once all is sent."""
        with suppress(Exception):
            ray.get(self.sent, timeout=SEND_SECONDS)


def run_task(
    settings: TaskSettings, number: int, program: ProgramPlan, teacher: TrialConfig | None, broken: dict[str, str],
    queue: Queue,
) -> dict[str, str]:
    """Trains a program whose teacher is there, or a teacher.

    Args:
        settings: What all tasks share.
        number: The task's, for what it sends.
        program: The program, or the teacher as one.
        teacher: The teacher.
        broken: Why by the id of each teacher that there is none.
        queue: Where `TaskView` sends to.

    Returns:
        `broken`, with this teacher if that is so.

    Raises:
        InputError: Something is wrong with this node, or with the input as it finds it.
        Interrupted: A signal came, or Ray was asked to cancel the task; with a checkpoint nothing is lost.
    """
    view = TaskView(queue, number)
    logger = logging.getLogger("bertjax")
    logger.setLevel(logging.INFO)
    logger.addHandler(view)
    if os.path.isdir(settings.folder):
        os.chdir(settings.folder)
    try:
        _check_process(settings)
        with interrupts.handled():
            parts = ["study.json", "data.json", "teachers", *(f"trials/{trial.trial_id}" for trial in program.trials)]
            home = RunDir.at(settings.run_dir, parts)
            try:
                session = Session(_ledger(home, settings, program.task), view, settings.keep_models, settings.mesh,
                                  settings.checkpoint_seconds, settings.tensorboard, alone=False)
                if teacher is None:
                    train(session, settings.study, [program], broken)
                else:
                    teach(session, teacher, (), broken)
                home.push()
            finally:
                home.close()
    except InputError as error:
        raise InputError(f"on {view.place}: {error}") from error
    finally:
        view.wait()
    return broken


def _check_process(settings: TaskSettings) -> None:
    """Raises `InputError` if this process has another program, or would compute on something else."""
    require(settings.version == bertjax.__version__,
            f"all nodes must have bertjax {settings.version}, got {bertjax.__version__}")
    found = jax.devices()[0].platform  # before signals are handled: libtpu takes them when it starts
    wanted = platform_of(settings.resources)
    require(found == wanted, f"a task with {in_words(settings.resources)} must compute on a {wanted}, and JAX finds a "
                             f"{found}: install jax[{'cuda' if wanted == 'gpu' else wanted}] on every node")


def _ledger(home: RunDir, settings: TaskSettings, task: str) -> Ledger:
    """Of the run directory as the process that plans has made it.

    Raises:
        InputError: It is not there, or the task has other rows here.
    """
    require((home.local / "study.json").is_file(),
            f"the run directory must be a folder that all nodes share, or in an object store; {settings.run_dir} has "
            "no study.json")
    ledger = open_ledger(home, settings.study)
    ledger.check_rows({task: rows_hash(task_data(task, settings.study.data, settings.study.holds_out))})
    return ledger
