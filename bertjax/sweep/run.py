"""Runs a study: what its run directory lacks, planned, handed to an executor, and put into tables."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

import jax
import pandas as pd

from bertjax import interrupts
from bertjax.config import InputError, require
from bertjax.data.sources import rows_hash
from bertjax.study import StudyConfig
from bertjax.sweep.inputs import task_data
from bertjax.sweep.ledger import open_ledger
from bertjax.sweep.lock import Sign, locked
from bertjax.sweep.plan import ProgramPlan, check_inputs, programs
from bertjax.sweep.results import read_rows
from bertjax.sweep.run_dir import RunDir
from bertjax.sweep.scalars import require_tensorboard
from bertjax.sweep.session import Session, train, work_of
from bertjax.sweep.shared_ledger import require_one_study, require_seen, shared
from bertjax.sweep.status import keep_plan
from bertjax.sweep.view import View
from bertjax.train import processes
from bertjax.train.mesh import parse_mesh

log = logging.getLogger(__name__)

KEEP_MODELS = ("all", "best", "none")


class Executor(Protocol):
    """What trains the programs of a study."""

    def check_mesh(self, mesh: str) -> None:
        """Raises `InputError` if it is already known not to fit the devices of a program."""

    def __call__(self, session: Session, study: StudyConfig, todo: Sequence[ProgramPlan], /) -> None:
        """Trains programs with their teachers and keeps every trial, a failed one as such. Raises what ends a study."""


def run_study(
    study: StudyConfig, run_dir: str | Path | RunDir, *, keep_models: str = "best", mesh: str | None = None,
    known: str | Path | None = None, checkpoint_minutes: float = 10.0, tensorboard: bool = False,
    executor: Executor | None = None,
) -> pd.DataFrame:
    """Trains what the run directory still lacks and returns all its results, a row per trial.

    Args:
        study: The grid.
        run_dir: A folder, or a URL such as gs://bucket/name. Made if missing; see `bertjax.sweep.ledger`. Repeating a
            finished study changes nothing in it.
        keep_models: `all`, `none`, or `best`: of each task, student and subset the trial with the best score.
        mesh: `trial=4,data=2`; None takes the mesh with the least idle work for each program.
        known: The results.csv of another run; trials that are finished there are taken over, without their models.
        checkpoint_minutes: Between two checkpoints of a program in training, at least 0. One is also written when a
            signal ends the process; by 0 no others are.
        tensorboard: Also write TensorBoard's events, see `bertjax.sweep.scalars`.
        executor: What trains: None is this process, one program after another; `bertjax.sweep.ray.connected` makes
            another.

    Several processes that share a mesh (`bertjax.train.processes`) make the same call, and see the same run directory.

    Raises:
        InputError: Input that cannot work; as much as possible is found before anything trains.
        Interrupted: A signal came, see `bertjax.interrupts`; the same call goes on.
    """
    if tensorboard:
        require_tensorboard()
    require(checkpoint_minutes >= 0, f"checkpoint_minutes must be at least 0, got {checkpoint_minutes}")
    require(keep_models in KEEP_MODELS, f"keep_models must be one of {', '.join(KEEP_MODELS)}, got {keep_models!r}")
    home = RunDir.at(run_dir)
    jax.devices()  # libtpu takes signals for itself when it starts
    processes.join()
    require(executor is None or not processes.several(), "programs of several processes are trained by these alone, "
                                                         "and by no other executor")
    ledger = shared(open_ledger(home, study))
    with interrupts.handled(processes.signal_grace()), _owned(home) as sign, View(_live(), sign) as view, \
         interrupts.before_end(view.progress.stop):  # it has hidden the cursor
        require_one_study(study, mesh)
        require_seen(home.root)
        session = Session(ledger, view, keep_models, mesh, 60 * checkpoint_minutes or math.inf, tensorboard)
        return _run_locked(session, view, study, known, executor or Here())


@contextmanager
def _owned(home: RunDir) -> Iterator[Sign]:
    """The run directory, which of several processes the first one owns."""
    if not processes.is_first():
        yield Sign()
        return
    with locked(home.root) as sign:
        yield sign


def _live() -> bool | None:
    """Whether the view redraws itself: of several processes that of the first one, on a terminal."""
    return None if processes.is_first() else False


def _run_locked(
    session: Session, view: View, study: StudyConfig, known: str | Path | None, executor: Executor
) -> pd.DataFrame:
    """See `run_study`."""
    ledger = session.ledger
    rows = {} if known is None or not ledger.writes else read_rows(Path(known))
    todo = []
    for program in programs(study):
        if left := ledger.left(program.trials, rows):
            todo.append(ProgramPlan(program.task, left, planned=program.trials))
    if todo and session.mesh is not None:
        executor.check_mesh(session.mesh)
    hashes = _row_hashes(study, {program.task for program in todo})
    processes.require_same("the rows of the tasks", hashes)
    ledger.check_rows(hashes)
    if todo:
        check_inputs(study)
    ledger.keep_study(study)
    ledger.keep_rows(hashes)
    if ledger.writes:
        keep_plan(ledger.run_dir, programs(study))
    ledger.push()
    if known is not None:
        adopted = ledger.adopt((trial for program in programs(study) for trial in program.trials), rows)
        log.info("%d results taken over from %s", adopted, known)
    view.planned(len(todo), sum(len(program.trials) for program in todo), sum(map(work_of, todo)))
    executor(session, study, todo)
    ledger.write_tables()
    ledger.push()
    ledger.drop_finished_checkpoints()
    table = processes.from_first(partial((ledger.run_dir / "results.csv").read_text, encoding="utf-8"))
    return pd.read_csv(io.StringIO(table), dtype={"trial_id": str, "teacher": str})


class Here:
    """The executor that needs nothing: this process, one program after another."""

    def check_mesh(self, mesh: str) -> None:
        """See `Executor`."""
        parse_mesh(mesh, jax.device_count())

    def __call__(self, session: Session, study: StudyConfig, todo: Sequence[ProgramPlan], /) -> None:
        """See `Executor`."""
        train(session, study, todo, {})


def _row_hashes(study: StudyConfig, needed: Container[str]) -> dict[str, str]:
    """`rows_hash` of each task; one with nothing to train may lack its data, and then has none."""
    hashes = {}
    for task in study.tasks:
        try:
            hashes[task] = rows_hash(task_data(task, study.data, study.holds_out))
        except InputError as error:
            if task in needed:
                raise
            log.warning("whether the rows of %s are still those that its trials were trained on cannot be said: %s",
                        task, error)
    return hashes
