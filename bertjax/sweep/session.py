"""What trains a teacher or a program and keeps what comes of it, wherever it runs."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import jax
import numpy as np

from bertjax.artifact.load import load
from bertjax.config import InputError
from bertjax.files import NO_ROOM
from bertjax.model.sizes import size_name
from bertjax.study import StudyConfig, TrialConfig
from bertjax.sweep import models
from bertjax.sweep.devices import devices_here
from bertjax.sweep.execute import Executed, execute
from bertjax.sweep.inputs import TaskInputs, cache_dir, task_inputs, teacher_inputs
from bertjax.sweep.layout import Layout, layout, split_to_fit
from bertjax.sweep.ledger import Ledger
from bertjax.sweep.outcome import failed_row
from bertjax.sweep.outline import read_outline
from bertjax.sweep.plan import ProgramPlan
from bertjax.sweep.results import Row
from bertjax.sweep.scalars import TENSORBOARD, Scalars
from bertjax.sweep.teacher import TeacherDiverged, require_converged, teacher_logits, tuned_row, tuned_teacher
from bertjax.sweep.view import ProgramView
from bertjax.train.checkpoint import Checkpoints
from bertjax.train.mesh import make_mesh
from bertjax.train.processes import all_failed, from_first
from bertjax.train.program import CompiledChunks
from bertjax.train.running import Progress
from bertjax.train.trial import teacher_trial
from bertjax.words import number_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Session:
    """What all programs of one run share."""

    ledger: Ledger
    view: ProgramView
    keep_models: str
    """See `bertjax.sweep.run.run_study`, as for `mesh`."""
    mesh: str | None
    checkpoint_seconds: float
    tensorboard: bool = False
    alone: bool = True
    """Whether no other process writes into the run directory. Where others do, only the one that holds its lock writes
    the tables and chooses the best models among several programs."""

    def layout(self, program: ProgramPlan) -> Layout:
        """How a program lies on this process's devices."""
        return layout(program.trials, read_outline(program.whole), devices_here(), self.mesh)

    def parts(self, program: ProgramPlan) -> Iterator[ProgramPlan]:
        """A program as those that fit into the devices' memory, each with what is left of it.

        First come those that were begun, of which checkpoints hold the state, however they were split then. The whole
        is split, whatever is left, so that an interrupted program is made of the same trials again.
        """
        outlined, left, taken, too_large = read_outline(program.whole), list(program.trials), set(), set()
        for begun in self.ledger.begun(program.whole):
            if taken.intersection(begun) or not any(trial in left for trial in begun):
                continue
            if len(begun) > 1 and not layout(begun, outlined, devices_here(), self.mesh).fits:
                too_large.update(begun)
                continue
            yield self._part(program, begun, "they were begun so")
            taken.update(begun)
            left = [trial for trial in left if trial not in begun]
        if anew := too_large.intersection(left):
            log.warning("%s: what was begun of %s no longer fits into the memory here; that starts anew, as programs "
                        "that do", program.task, number_of("trial", len(anew)))
        split = split_to_fit(program.whole, outlined, devices_here(), self.mesh)
        why = "the others were begun before" if len(split) == 1 else \
            "all of them do not fit into the memory here, or leave more work idle"
        for part in split:
            if rest := tuple(trial for trial in part if trial in left):
                yield self._part(program, rest, why)

    def _part(self, program: ProgramPlan, trials: tuple[TrialConfig, ...], why: str) -> ProgramPlan:
        """Some trials of a program, or all; of some it says why."""
        if len(trials) < len(program.trials):
            log.info("%s: %d of %d trials, as %s", program.task, len(trials), len(program.trials), why)
        return replace(program, trials=trials, planned=program.whole)

    def execute(
        self, title: str, work: float, trials: Sequence[TrialConfig], inputs: TaskInputs, laid: Layout,
        outputs: np.ndarray | None = None, chunks: CompiledChunks | None = None,
    ) -> tuple[Executed, Checkpoints]:
        """Trains the trials of one program from its newest checkpoint on; see `bertjax.sweep.execute.execute`.

        The view is to be told that it is finished, or failed, and the checkpoints are to be dropped, once its results
        are kept.

        Args:
            work: See `work_of`.
        """
        self.view.started(title, work)
        if how := laid.in_words(trials[0].train.batch_size):
            log.info("%s: %s", title, how)
        try:
            checkpoints = self.ledger.checkpoints(trials, self.checkpoint_seconds)
            checkpoints.begin([trial.trial_id for trial in trials])
            folder = self.ledger.run_dir / TENSORBOARD if self.tensorboard and self.ledger.writes else None
            with closing(Scalars(folder, trials)) as scalars:

                def listener(progress: Progress) -> None:
                    self.view.step(title, progress)
                    scalars.step(progress)

                made = execute(trials, inputs, make_mesh(laid.mesh), outputs, laid.part_tokens, listener, chunks=chunks,
                               checkpoints=checkpoints)
                for outcome in made.outcomes:
                    scalars.epochs(outcome.trial, outcome.metrics)
        except BaseException:
            self.view.failed(title)
            raise
        return made, checkpoints

    def write_tables(self) -> None:
        """Trials have got their results: puts them into the tables, and brings all to where it stays."""
        if self.alone:
            self.ledger.write_tables()
        self.ledger.push()

    def kept(self, checkpoints: Checkpoints) -> None:
        """The results of a program are written: brings them to where they stay, then drops its checkpoints."""
        self.write_tables()
        checkpoints.drop()


def work_of(program: ProgramPlan) -> float:
    """Size of a program in layers × rows × trials, for the progress bar."""
    inputs = task_inputs(program.whole)
    rows = len(inputs.epoch_lengths) * program.trials[0].train.epochs
    return float(inputs.config.num_hidden_layers * rows * len(program.trials))


def taught(
    session: Session, study: StudyConfig, program: ProgramPlan, broken: dict[str, str]
) -> tuple[ProgramPlan, np.ndarray | None]:
    """A program and its teacher's outputs, if it needs any. Without a teacher its trials with K are marked failed and
    left out.

    Args:
        broken: Why by the id of each teacher that there is none in this run; grows.
    """
    distilling = [trial for trial in program.trials if trial.distill_weight > 0]
    if not distilling:
        return program, None
    teacher = teacher_trial(study, program.task)
    outputs = teach(session, teacher, program.whole, broken)
    if outputs is not None:
        return program, outputs
    reason = broken[teacher.trial_id]
    log.error("%s: %s with K failed: %s", program.task, number_of("trial", len(distilling)), reason)
    fail(session, distilling, program, reason)
    others = tuple(trial for trial in program.trials if trial.distill_weight == 0)
    return replace(program, trials=others, planned=program.whole), None


def teach(
    session: Session, teacher: TrialConfig, readers: Sequence[TrialConfig], broken: dict[str, str]
) -> np.ndarray | None:
    """The teacher's outputs on what `readers` read, after its training if it has none yet; None if there are none.

    Args:
        broken: As in `taught`.
    """
    try:
        return None if teacher.trial_id in broken else _teacher_outputs(session, teacher, readers)
    except InputError:
        raise
    except TeacherDiverged as error:
        broken[teacher.trial_id] = str(error)
    except Exception as error:  # whatever breaks a teacher must not lose the trials without one
        _raise_without_room(error)
        all_failed(error)
        log.exception("the teacher of %s failed", teacher.task)
        broken[teacher.trial_id] = f"the teacher of {teacher.task} failed: {type(error).__name__}: {error}"
    return None


def train(session: Session, study: StudyConfig, todo: Sequence[ProgramPlan], broken: dict[str, str]) -> None:
    """Trains programs one after another, each with its teacher.

    Args:
        broken: As in `taught`.
    """
    chunks = None
    for program in itertools.chain.from_iterable(map(session.parts, todo)):
        program, outputs = taught(session, study, program, broken)
        if program.trials:
            chunks = run_program(session, program, outputs, chunks)


def fail(session: Session, trials: Sequence[TrialConfig], program: ProgramPlan, reason: str) -> None:
    """Marks those trials of a program failed that have no result; the same command tries them again.

    At once in the tables too, from which `bertjax status` counts, though other programs are still to be trained.
    """
    inputs = task_inputs(program.whole)
    for trial in session.ledger.missing(trials):
        session.ledger.record(trial, failed_row(trial, inputs, reason), [])
    session.write_tables()


def run_program(
    session: Session, program: ProgramPlan, outputs: np.ndarray | None, chunks: CompiledChunks | None
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
    title = f"{program.task} · {size_name(inputs.config)} · {number_of('trial', len(trials))}"
    try:
        made, checkpoints = session.execute(title, work_of(program), trials, inputs, session.layout(program), outputs,
                                            chunks)
    except (KeyboardInterrupt, InputError):
        raise
    except Exception as error:  # whatever breaks one program must not lose the others
        _raise_without_room(error)
        all_failed(error)
        log.exception("%s failed", title)
        fail(session, trials, program, f"{type(error).__name__}: {error}")
        return None
    missing = ledger.missing(trials)  # not those that a run which was killed while it wrote them has kept
    made = replace(made, outcomes=[outcome for outcome in made.outcomes if outcome.trial in missing])
    outcomes = models.keep_models(ledger, made, inputs, session.keep_models, session.alone)
    for outcome in outcomes:
        ledger.record(outcome.trial, outcome.row, outcome.metrics, outcome.predictions)
    session.kept(checkpoints)
    session.view.finished(title, outcomes, made.cost)
    return made.chunks


def _raise_without_room(error: Exception) -> None:
    """A full disk breaks the other programs too, and says nothing against this one."""
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        raise error


def _teacher_outputs(session: Session, teacher: TrialConfig, readers: Sequence[TrialConfig]) -> np.ndarray:
    """The teacher's outputs on what `readers` read; it is fine-tuned first if the run directory lacks it."""
    ledger = session.ledger
    require_converged(teacher, ledger.row(teacher))
    inputs = task_inputs([teacher])
    laid, chunks = session.layout(ProgramPlan(teacher.task, (teacher,))), None
    if teacher.fine_tuned:
        model = tuned_teacher(teacher, inputs)
        if not ledger.has_teacher(teacher):
            params = jax.tree.map(np.asarray, model.params)
            packed = models.pack_trial(teacher, params, inputs, model.origin)
            ledger.record(teacher, tuned_row(teacher, inputs, model) | models.size_columns(packed), [])
    else:
        folder = ledger.model_folder(teacher)
        if not ledger.has_teacher(teacher):
            chunks = _train_teacher(session, teacher, inputs, laid)
        model = load(ledger.place.fetch(folder))
    if any(trial.table_copies for trial in readers):
        inputs, chunks = teacher_inputs(teacher, readers), None  # another table: what was compiled does not fit
    params = jax.tree.map(np.asarray, model.params)
    return teacher_logits(teacher, params, inputs, make_mesh(laid.mesh), cache_dir() / "teachers", chunks)


def _train_teacher(session: Session, teacher: TrialConfig, inputs: TaskInputs, laid: Layout) -> CompiledChunks:
    """Fine-tunes a teacher and keeps it; what was compiled for it."""
    ledger, title = session.ledger, f"{teacher.task} · teacher"
    made, checkpoints = session.execute(title, 0.0, [teacher], inputs, laid)
    (result,) = made.outcomes
    if result.row["status"] != "done":
        session.view.failed(title)
        ledger.record(teacher, result.row, result.metrics, result.predictions)
        require_converged(teacher, result.row)
    params = made.params(teacher)

    def keep() -> Row:
        origin = models.origin_of(teacher, result.row, inputs)
        models.save_model(ledger.model_folder(teacher), teacher, params, inputs, origin)
        return result.row | models.size_columns(models.pack_trial(teacher, params, inputs, origin))

    row = from_first(keep)
    ledger.record(teacher, row, result.metrics, result.predictions)
    session.kept(checkpoints)
    session.view.finished(title, [replace(result, row=row)], made.cost)
    return made.chunks
