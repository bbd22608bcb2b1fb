"""Runs a study on this machine: teachers, then every program, each finished trial kept at once."""

from __future__ import annotations

import logging
import math
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np
import pandas as pd

from bertjax import interrupts
from bertjax.artifact.load import load
from bertjax.config import InputError, require
from bertjax.data.sources import rows_hash
from bertjax.study import StudyConfig, TrialConfig
from bertjax.sweep import models
from bertjax.sweep.devices import devices_here
from bertjax.sweep.execute import Executed, execute
from bertjax.sweep.inputs import TaskInputs, cache_dir, task_data, task_inputs, teacher_inputs
from bertjax.sweep.layout import Layout, layout
from bertjax.sweep.ledger import Ledger, open_ledger
from bertjax.sweep.lock import locked
from bertjax.sweep.outcome import failed_row
from bertjax.sweep.outline import read_outline
from bertjax.sweep.plan import ProgramPlan, check_inputs, fitting, programs
from bertjax.sweep.results import read_rows
from bertjax.sweep.run_dir import RunDir
from bertjax.sweep.status import keep_plan
from bertjax.sweep.teacher import TeacherDiverged, require_converged, teacher_logits, tuned_row, tuned_teacher
from bertjax.sweep.view import View
from bertjax.train.checkpoint import Checkpoints
from bertjax.train.mesh import make_mesh
from bertjax.train.program import CompiledChunks
from bertjax.train.trial import teacher_trial
from bertjax.words import number_of

log = logging.getLogger(__name__)

KEEP_MODELS = ("all", "best", "none")


def run_study(
    study: StudyConfig, run_dir: str | Path | RunDir, *, keep_models: str = "best", mesh: str | None = None,
    known: str | Path | None = None, checkpoint_minutes: float = 10.0,
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

    Raises:
        InputError: Input that cannot work; as much as possible is found before anything trains.
        Interrupted: A signal came, see `bertjax.interrupts`; the same call goes on.
    """
    require(checkpoint_minutes >= 0, f"checkpoint_minutes must be at least 0, got {checkpoint_minutes}")
    require(keep_models in KEEP_MODELS, f"keep_models must be one of {', '.join(KEEP_MODELS)}, got {keep_models!r}")
    home = RunDir.at(run_dir)
    ledger = open_ledger(home, study)
    jax.devices()  # libtpu takes signals for itself when it starts
    with interrupts.handled(), locked(home.root) as sign, View(sign=sign) as view:
        session = _Session(ledger, view, keep_models, mesh, 60 * checkpoint_minutes or math.inf)
        return _run_locked(session, study, known)


def _run_locked(session: _Session, study: StudyConfig, known: str | Path | None) -> pd.DataFrame:
    """See `run_study`."""
    ledger = session.ledger
    rows = {} if known is None else read_rows(Path(known))
    todo = []
    for program in programs(study):
        left = tuple(trial for trial in ledger.missing(program.trials) if trial.trial_id not in rows)
        if left:
            todo.append(ProgramPlan(program.task, ledger.as_begun(left, program.trials), planned=program.trials))
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
    todo = [part for program in todo
            for part in fitting(program, read_outline(program.whole), devices_here(), session.mesh)]
    session.view.planned(len(todo), sum(len(program.trials) for program in todo), sum(map(_work, todo)))
    chunks, broken = None, {}
    for program in todo:
        program, outputs = _taught(session, study, program, broken)
        if program.trials:
            chunks = _run_program(session, program, outputs, chunks)
    ledger.write_tables()
    ledger.place.push()
    ledger.drop_finished_checkpoints()
    return pd.read_csv(ledger.run_dir / "results.csv", dtype={"trial_id": str, "teacher": str})


@dataclass(frozen=True)
class _Session:
    """What all programs of one run share."""

    ledger: Ledger
    view: View
    keep_models: str
    mesh: str | None
    checkpoint_seconds: float

    def layout(self, program: ProgramPlan) -> Layout:
        """How a program lies on this process's devices."""
        return layout(program.trials, read_outline(program.whole), devices_here(), self.mesh)

    def execute(
        self, title: str, trials: Sequence[TrialConfig], inputs: TaskInputs, laid: Layout,
        outputs: np.ndarray | None = None, chunks: CompiledChunks | None = None,
    ) -> tuple[Executed, Checkpoints]:
        """Trains the trials of one program from its newest checkpoint on; see `bertjax.sweep.execute.execute`.

        The checkpoints are to be dropped once its results are kept.
        """
        checkpoints = self.ledger.checkpoints(trials, self.checkpoint_seconds)
        checkpoints.begin([trial.trial_id for trial in trials])
        made = execute(trials, inputs, make_mesh(laid.mesh), outputs, laid.part_tokens,
                       lambda progress: self.view.step(title, progress), chunks=chunks, checkpoints=checkpoints)
        return made, checkpoints

    def kept(self, checkpoints: Checkpoints) -> None:
        """The results of a program are written: brings them to where they stay, then drops its checkpoints."""
        self.ledger.write_tables()
        self.ledger.place.push()
        checkpoints.drop()


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


def _work(program: ProgramPlan) -> float:
    """Size of a program in layers × rows × trials, for the progress bar."""
    inputs = task_inputs(program.whole)
    rows = len(inputs.epoch_lengths) * program.trials[0].train.epochs
    return float(inputs.config.num_hidden_layers * rows * len(program.trials))


def _taught(
    session: _Session, study: StudyConfig, program: ProgramPlan, broken: dict[str, str]
) -> tuple[ProgramPlan, np.ndarray | None]:
    """A program and its teacher's outputs, if it needs any. Without a teacher its trials with K are marked failed and
    left out.

    Args:
        broken: Why by the id of each teacher that there is none in this run; grows.
    """
    taught = [trial for trial in program.trials if trial.distill_weight > 0]
    if not taught:
        return program, None
    teacher = teacher_trial(study, program.task)
    try:
        if teacher.trial_id not in broken:
            return program, _teacher_outputs(session, teacher, program.whole)
    except InputError:
        raise
    except TeacherDiverged as error:
        broken[teacher.trial_id] = str(error)
    except Exception as error:  # whatever breaks a teacher must not lose the trials without one
        log.exception("the teacher of %s failed", program.task)
        broken[teacher.trial_id] = f"the teacher of {program.task} failed: {type(error).__name__}: {error}"
    reason = broken[teacher.trial_id]
    log.error("%s: %s with K failed: %s", program.task, number_of("trial", len(taught)), reason)
    inputs = task_inputs(program.whole)
    for trial in taught:
        session.ledger.record(trial, failed_row(trial, inputs, reason), [])
    others = tuple(trial for trial in program.trials if trial.distill_weight == 0)
    return replace(program, trials=others, planned=program.whole), None


def _run_program(
    session: _Session, program: ProgramPlan, outputs: np.ndarray | None, chunks: CompiledChunks | None
) -> CompiledChunks | None:
    """Trains one program and keeps its trials; one that raises marks them failed and the study goes on.

    Args:
        outputs: Of its teacher.
        chunks: What the program before compiled, to take what fits.

    Returns:
        What this one compiled.
    """
    ledger, trials = session.ledger, program.trials
    inputs = task_inputs(program.whole)
    title = f"{program.task} · {number_of('trial', len(trials))}"
    try:
        session.view.started(title, _work(program))
        made, checkpoints = session.execute(title, trials, inputs, session.layout(program), outputs, chunks)
    except (KeyboardInterrupt, InputError):
        raise
    except Exception as error:  # whatever breaks one program must not lose the others
        log.exception("%s failed", title)
        for trial in ledger.missing(trials):
            ledger.record(trial, failed_row(trial, inputs, f"{type(error).__name__}: {error}"), [])
        return None
    missing = ledger.missing(trials)  # not those that a run which was killed while it wrote them has kept
    made = replace(made, outcomes=[outcome for outcome in made.outcomes if outcome.trial in missing])
    outcomes = models.keep_models(ledger, made, inputs, session.keep_models)
    for outcome in outcomes:
        ledger.record(outcome.trial, outcome.row, outcome.metrics, outcome.predictions)
    session.kept(checkpoints)
    session.view.finished(title, outcomes, made.cost)
    return made.chunks


def _teacher_outputs(session: _Session, teacher: TrialConfig, readers: Sequence[TrialConfig]) -> np.ndarray:
    """The teacher's outputs on what `readers` read; it is fine-tuned first if the run directory lacks it."""
    ledger = session.ledger
    require_converged(teacher, ledger.row(teacher))
    inputs = task_inputs([teacher])
    laid, chunks = session.layout(ProgramPlan(teacher.task, (teacher,))), None
    if teacher.fine_tuned:
        model = tuned_teacher(teacher, inputs)
        if ledger.missing([teacher]):
            params = jax.tree.map(np.asarray, model.params)
            packed = models.pack_trial(teacher, params, inputs, model.origin)
            ledger.record(teacher, tuned_row(teacher, inputs, model) | models.size_columns(packed), [])
    else:
        folder = ledger.model_folder(teacher)
        if ledger.missing([teacher]) or not ledger.place.has(folder / "config.json"):
            chunks = _train_teacher(session, teacher, inputs, laid)
        model = load(ledger.place.fetch(folder))
    if any(trial.table_copies for trial in readers):
        inputs, chunks = teacher_inputs(teacher, readers), None  # another table: what was compiled does not fit
    params = jax.tree.map(np.asarray, model.params)
    return teacher_logits(teacher, params, inputs, make_mesh(laid.mesh), cache_dir() / "teachers", chunks)


def _train_teacher(session: _Session, teacher: TrialConfig, inputs: TaskInputs, laid: Layout) -> CompiledChunks:
    """Fine-tunes a teacher and keeps it; what was compiled for it."""
    ledger, title = session.ledger, f"{teacher.task} · teacher"
    session.view.started(title, 0.0)
    made, checkpoints = session.execute(title, [teacher], inputs, laid)
    (result,) = made.outcomes
    if result.row["status"] != "done":
        ledger.record(teacher, result.row, result.metrics, result.predictions)
        require_converged(teacher, result.row)
    params = made.params(teacher)
    origin = models.origin_of(teacher, result.row, inputs)
    models.save_model(ledger.model_folder(teacher), teacher, params, inputs, origin)
    row = result.row | models.size_columns(models.pack_trial(teacher, params, inputs, origin))
    ledger.record(teacher, row, result.metrics, result.predictions)
    session.kept(checkpoints)
    session.view.finished(title, [replace(result, row=row)], made.cost)
    return made.chunks
