"""Teacher outputs on the training rows and their augmented copies: computed once, kept on disk by content."""

from __future__ import annotations

import hashlib
import logging
import time
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from bertjax.artifact.load import Model, load
from bertjax.config import FLOAT, require
from bertjax.data.tasks import METRICS
from bertjax.files import npz, write_bytes
from bertjax.metrics import movva_score
from bertjax.params import Params, paths
from bertjax.study import TrialConfig
from bertjax.sweep.experiments import model_source
from bertjax.sweep.inputs import EVAL_BATCH_SIZE, TaskInputs
from bertjax.sweep.outcome import base_row
from bertjax.sweep.starts import with_word_embeddings
from bertjax.train.loop import predict_rows
from bertjax.train.processes import from_all
from bertjax.train.program import CompiledChunks, place_group, place_table, program_spec
from bertjax.train.state import Table, TrainState
from bertjax.train.trial import orders_of

log = logging.getLogger(__name__)


class TeacherDiverged(RuntimeError):
    """A teacher whose training diverged has nothing to teach."""


def require_converged(teacher: TrialConfig, row: Mapping[str, Any] | None) -> None:
    """Raises `TeacherDiverged` if that is what a teacher's row says; None is one that was not trained yet."""
    if row is not None and row["status"] == "diverged":
        raise TeacherDiverged(f"the teacher of {teacher.task} diverged at learning rate {teacher.learning_rate:g}; "
                              "give a lower --teacher-learning-rate, and another --run-dir")


def tuned_teacher(trial: TrialConfig, inputs: TaskInputs) -> Model:
    """A teacher that was fine-tuned elsewhere, its head's outputs in the order of the task's labels.

    Raises:
        InputError: It has no task head, other labels than the task, or is quantized.
    """
    model = load(model_source(trial.model))
    require(model.quantize == FLOAT, f"a teacher must be a float model; {trial.model} is quantized")
    columns = model.columns_of(inputs.data.task)
    head = {name: np.asarray(leaf)[..., columns] for name, leaf in model.params["classifier"].items()}
    return replace(model, params={**model.params, "classifier": head}, label_names=inputs.data.task.label_names)


def tuned_row(trial: TrialConfig, inputs: TaskInputs, model: Model) -> dict[str, Any]:
    """The row of a teacher that was not trained here."""
    scores = model.evaluate(inputs.data)
    named = {name: scores.get(name) for name in METRICS}
    return base_row(trial, inputs) | named | {
        "steps": 0, "epochs": 0, "learning_rate": None, "status": "done", "train_seconds": 0.0,
        "score": scores["score"], "score_movva": movva_score(inputs.data.task, scores),
        "accuracy_mismatched": scores.get("accuracy_mismatched")}


def teacher_logits(
    trial: TrialConfig, params: Params, inputs: TaskInputs, mesh: Mesh, cache: Path,
    chunks: CompiledChunks | None = None,
) -> Float[np.ndarray, "texts labels"]:
    """The teacher's outputs on the training rows, from `cache` if the same parameters and tokens were there before.

    Args:
        trial: The teacher.
        params: Its whole parameters.
        inputs: The task as it reads it, with the copies that are asked for.
        mesh: Where to run.
        cache: Folder of the cached outputs.
        chunks: The teacher's own program, if it was just trained on the same table: its forward pass is compiled.
    """
    path = cache / f"teacher-{_content_hash(trial, params, inputs)}.npz"
    shape = (len(inputs.rows.texts), inputs.config.num_labels)
    cached = _read(path, shape)
    found = from_all([path.name, None if cached is None else hashlib.sha256(cached.tobytes()).hexdigest()])
    if cached is not None and all(other == found[0] for other in found):  # several processes need the same ones
        log.info("teacher outputs of %s: read from the cache", trial.task)
        return cached
    start = time.perf_counter()
    forward = TeacherForward.of(trial, params, inputs, mesh, chunks)
    compiled_before = forward.chunks.seconds
    logits = forward(inputs.rows.texts)
    log.info("teacher outputs of %s: %d rows in %.1f s, of which %.1f s compiling",
             trial.task, shape[0], time.perf_counter() - start, forward.chunks.seconds - compiled_before)
    _write(path, logits)
    return logits


@dataclass(frozen=True)
class TeacherForward:
    """A teacher's forward pass over rows of its task."""

    inputs: TaskInputs
    chunks: CompiledChunks
    state: TrainState
    table: Table

    @classmethod
    def of(
        cls, trial: TrialConfig, params: Params, inputs: TaskInputs, mesh: Mesh, chunks: CompiledChunks | None = None
    ) -> TeacherForward:
        """The placed teacher; arguments as those of `teacher_logits`."""
        used = with_word_embeddings(params, inputs.rows.vocabulary.take)
        state, _ = place_group([trial], lambda _: used, orders_of([trial]), 1, mesh)
        spec = program_spec([trial], inputs.train_config, inputs.data.task.regression)
        table = place_table(inputs.rows.table(inputs.config.num_labels), mesh)
        return cls(inputs, chunks or CompiledChunks(spec, mesh), state, table)

    def __call__(self, rows: range) -> Float[np.ndarray, "rows labels"]:
        """The outputs for rows of the table."""
        (logits,) = predict_rows(self.chunks, (self.state,), self.table, rows, self.inputs.rows.lengths,
                                 self.inputs.eval_edges, EVAL_BATCH_SIZE)
        return logits[0]


def _content_hash(trial: TrialConfig, params: Params, inputs: TaskInputs) -> str:
    digest = hashlib.sha256(repr((inputs.config, trial.train.dtype, inputs.eval_edges)).encode())
    for name, leaf in paths(params).items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    rows = inputs.rows
    for array in (rows.vocabulary.ids, rows.input_ids, rows.second_start, rows.lengths):
        hashed = array if array is rows.vocabulary.ids else array[: len(rows.texts)]
        digest.update(np.ascontiguousarray(hashed).tobytes())
    return digest.hexdigest()[:32]


def _read(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    try:
        with np.load(path, allow_pickle=False) as stored:
            logits = stored["logits"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    return logits if logits.shape == shape and logits.dtype == np.float32 else None


def _write(path: Path, logits: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, npz(False, logits=logits))
