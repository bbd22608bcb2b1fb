"""Runs a study on this machine: teachers, then every program, each finished trial kept at once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import pandas as pd
from jax.sharding import Mesh

from bertjax.artifact.load import load
from bertjax.config import InputError, require
from bertjax.study import StudyConfig, TrialConfig
from bertjax.sweep import models
from bertjax.sweep.execute import execute
from bertjax.sweep.inputs import TaskInputs, cache_dir, task_inputs, teacher_inputs
from bertjax.sweep.ledger import Ledger, open_ledger, read_rows
from bertjax.sweep.outcome import failed_row
from bertjax.sweep.plan import ProgramPlan, check_inputs, mesh_shape, programs
from bertjax.sweep.teacher import teacher_logits, tuned_row, tuned_teacher
from bertjax.sweep.view import View
from bertjax.train.mesh import make_mesh
from bertjax.train.program import CompiledChunks
from bertjax.train.trial import teacher_trial

log = logging.getLogger(__name__)

KEEP_MODELS = ("all", "best", "none")


def run_study(
    study: StudyConfig, run_dir: str | Path, *, keep_models: str = "best", mesh: str | None = None,
    known: str | Path | None = None,
) -> pd.DataFrame:
    """Trains what the run directory still lacks and returns all its results, a row per trial.

    Args:
        study: The grid.
        run_dir: Made if missing; see `bertjax.sweep.ledger`. Repeating a finished study changes nothing in it.
        keep_models: `all`, `none`, or `best`: of each task, student and subset the trial with the best score.
        mesh: `trial=4,data=2`; None takes the mesh with the least idle work for each program.
        known: The results.csv of another run; trials that are finished there are taken over, without their models.

    Raises:
        InputError: Input that cannot work; as much as possible is found before anything trains.
    """
    require(keep_models in KEEP_MODELS, f"keep_models must be one of {', '.join(KEEP_MODELS)}, got {keep_models!r}")
    ledger = open_ledger(Path(run_dir), study)
    rows = {} if known is None else read_rows(Path(known))
    todo = []
    for program in programs(study):
        left = tuple(trial for trial in ledger.missing(program.trials) if trial.trial_id not in rows)
        if left:
            todo.append(ProgramPlan(program.task, left, planned=program.trials))
    if todo:
        check_inputs(study)
    ledger.keep_study(study)
    if known is not None:
        adopted = ledger.adopt((trial for program in programs(study) for trial in program.trials), rows)
        log.info("%d results taken over from %s", adopted, known)
    with View() as view:
        view.planned(len(todo), sum(len(program.trials) for program in todo), sum(map(_work, todo)))
        for program in todo:
            _run_program(study, ledger, program, keep_models, mesh, view)
            ledger.write_tables()
    ledger.write_tables()
    return pd.read_csv(Path(run_dir) / "results.csv", dtype={"trial_id": str, "teacher": str})


def _work(program: ProgramPlan) -> float:
    """Size of a program in layers × rows × trials, for the progress bar."""
    inputs = task_inputs(program.whole)
    rows = len(inputs.epoch_lengths) * program.trials[0].train.epochs
    return float(inputs.config.num_hidden_layers * rows * len(program.trials))


def _run_program(
    study: StudyConfig, ledger: Ledger, program: ProgramPlan, keep_models: str, mesh: str | None, view: View
) -> None:
    """Trains one program and keeps its trials; one that raises marks them failed and the study goes on."""
    trials = program.trials
    inputs = task_inputs(program.whole)
    title = f"{program.task} · {len(trials)} trials"
    try:
        outputs = None
        if any(trial.distill_weight > 0 for trial in trials):
            outputs = _teacher_outputs(ledger, teacher_trial(study, program.task), program.whole, mesh, view)
        view.started(title, _work(program))
        made = execute(trials, inputs, make_mesh(mesh_shape(mesh, program)), outputs,
                       lambda progress: view.step(title, progress))
    except (KeyboardInterrupt, InputError):
        raise
    except Exception as error:  # whatever breaks one program must not lose the others
        log.exception("%s failed", title)
        for trial in trials:
            ledger.record(trial, failed_row(trial, inputs, f"{type(error).__name__}: {error}"), [])
        return
    for outcome in models.keep_models(ledger, made, inputs, keep_models):
        ledger.record(outcome.trial, outcome.row, outcome.metrics, outcome.predictions)
    view.finished(title, made.outcomes, made.cost)


def _teacher_outputs(
    ledger: Ledger, teacher: TrialConfig, readers: Sequence[TrialConfig], mesh: str | None, view: View
) -> np.ndarray:
    """The teacher's outputs on what `readers` read; it is fine-tuned first if the run directory lacks it."""
    inputs = task_inputs([teacher])
    devices = make_mesh(mesh_shape(mesh, ProgramPlan(teacher.task, (teacher,))))
    chunks = None
    if teacher.fine_tuned:
        model = tuned_teacher(teacher, inputs)
        if ledger.missing([teacher]):
            params = jax.tree.map(np.asarray, model.params)
            row = tuned_row(teacher, inputs, model) | models.size_columns(models.pack_trial(teacher, params, inputs))
            ledger.record(teacher, row, [])
    else:
        folder = ledger.model_folder(teacher)
        if ledger.missing([teacher]) or not (folder / "config.json").is_file():
            chunks = _train_teacher(ledger, teacher, inputs, devices, view)
        model = load(folder)
    if any(trial.copies for trial in readers):
        inputs, chunks = teacher_inputs(teacher, readers), None  # another table: what was compiled does not fit
    params = jax.tree.map(np.asarray, model.params)
    return teacher_logits(teacher, params, inputs, devices, cache_dir() / "teachers", chunks)


def _train_teacher(
    ledger: Ledger, teacher: TrialConfig, inputs: TaskInputs, mesh: Mesh, view: View
) -> CompiledChunks:
    """Fine-tunes a teacher and keeps it; what was compiled for it."""
    title = f"{teacher.task} · teacher"
    view.started(title, 0.0)
    made = execute([teacher], inputs, mesh, None, lambda progress: view.step(title, progress))
    (result,) = made.outcomes
    if result.row["status"] != "done":
        raise RuntimeError(f"the teacher of {teacher.task} {result.row['status']}; "
                           "try a lower --teacher-learning-rate")
    params = made.params(teacher)
    models.save_model(ledger.model_folder(teacher), teacher, params, inputs)
    row = result.row | models.size_columns(models.pack_trial(teacher, params, inputs))
    ledger.record(teacher, row, result.metrics, result.predictions)
    view.finished(title, made.outcomes, made.cost)
    return made.chunks
