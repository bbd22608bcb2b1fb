"""Runs a study: what its run directory lacks, planned, handed to an executor, and put into tables."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Container, Sequence
from pathlib import Path

import jax
import pandas as pd

from bertjax import interrupts
from bertjax.config import InputError, require
from bertjax.data.sources import rows_hash
from bertjax.study import StudyConfig
from bertjax.sweep.inputs import task_data
from bertjax.sweep.ledger import open_ledger
from bertjax.sweep.lock import locked
from bertjax.sweep.plan import ProgramPlan, check_inputs, programs
from bertjax.sweep.results import read_rows
from bertjax.sweep.run_dir import RunDir
from bertjax.sweep.scalars import require_tensorboard
from bertjax.sweep.session import Session, train, work_of
from bertjax.sweep.status import keep_plan
from bertjax.sweep.view import View

log = logging.getLogger(__name__)

KEEP_MODELS = ("all", "best", "none")

Executor = Callable[[Session, StudyConfig, Sequence[ProgramPlan]], None]
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

    Raises:
        InputError: Input that cannot work; as much as possible is found before anything trains.
        Interrupted: A signal came, see `bertjax.interrupts`; the same call goes on.
    """
    if tensorboard:
        require_tensorboard()
    require(checkpoint_minutes >= 0, f"checkpoint_minutes must be at least 0, got {checkpoint_minutes}")
    require(keep_models in KEEP_MODELS, f"keep_models must be one of {', '.join(KEEP_MODELS)}, got {keep_models!r}")
    home = RunDir.at(run_dir)
    ledger = open_ledger(home, study)
    jax.devices()  # libtpu takes signals for itself when it starts
    with interrupts.handled(), locked(home.root) as sign, View(sign=sign) as view:
        session = Session(ledger, view, keep_models, mesh, 60 * checkpoint_minutes or math.inf, tensorboard)
        return _run_locked(session, view, study, known, executor or run_here)


def _run_locked(
    session: Session, view: View, study: StudyConfig, known: str | Path | None, executor: Executor
) -> pd.DataFrame:
    """See `run_study`."""
    ledger = session.ledger
    rows = {} if known is None else read_rows(Path(known))
    todo = []
    for program in programs(study):
        left = tuple(trial for trial in ledger.missing(program.trials) if trial.trial_id not in rows)
        if left:
            todo.append(ProgramPlan(program.task, left, planned=program.trials))
    hashes = _row_hashes(study, {program.task for program in todo})
    ledger.check_rows(hashes)
    if todo:
        check_inputs(study)
    ledger.keep_study(study)
    ledger.keep_rows(hashes)
    keep_plan(ledger.run_dir, programs(study))
    ledger.place.push()
    if known is not None:
        adopted = ledger.adopt((trial for program in programs(study) for trial in program.trials), rows)
        log.info("%d results taken over from %s", adopted, known)
    view.planned(len(todo), sum(len(program.trials) for program in todo), sum(map(work_of, todo)))
    executor(session, study, todo)
    ledger.write_tables()
    ledger.place.push()
    ledger.drop_finished_checkpoints()
    return pd.read_csv(ledger.run_dir / "results.csv", dtype={"trial_id": str, "teacher": str})


def run_here(session: Session, study: StudyConfig, todo: Sequence[ProgramPlan]) -> None:
    """The executor that needs nothing: this process, one program after another."""
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
