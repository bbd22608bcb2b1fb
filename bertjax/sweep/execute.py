"""Runs one program: places its groups, trains them, scores every trial and brings its parameters home."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from bertjax.compress.prune import apply_masks
from bertjax.data.examples import SELECTION
from bertjax.params import Params
from bertjax.study import TrialConfig
from bertjax.sweep.inputs import TaskInputs
from bertjax.sweep.outcome import Outcome, outcome, split_score
from bertjax.sweep.program import Program
from bertjax.sweep.starts import with_word_embeddings
from bertjax.train.checkpoint import Checkpoints
from bertjax.train.loop import Fit
from bertjax.train.processes import from_first
from bertjax.train.program import CompiledChunks, one_trial
from bertjax.train.running import Evaluation, Listener
from bertjax.train.vocabulary import accumulated_decay


class Cost(NamedTuple):
    """What a program took."""

    seconds: float
    """Training and evaluating, compilation excluded."""
    compile_seconds: float
    compilations: int
    trial_examples: int


@dataclass(frozen=True)
class Executed:
    """A finished program."""

    outcomes: list[Outcome]
    params: Callable[[TrialConfig], Params]
    """A trial's whole parameters (numpy): dropped weights at zero, every row of the vocabulary."""
    cost: Cost
    chunks: CompiledChunks
    """What was compiled, to run again on the same task."""


def execute(
    trials: Sequence[TrialConfig], inputs: TaskInputs, mesh: Mesh, teacher_logits: np.ndarray | None = None,
    part_tokens: int | None = None, listener: Listener | None = None, steps_per_chunk: int | None = None,
    chunks: CompiledChunks | None = None, checkpoints: Checkpoints | None = None,
) -> Executed:
    """Trains the trials of one program.

    Args:
        trials: Of one task and student, with equal epochs and batch size.
        inputs: Their task.
        mesh: Where to run.
        teacher_logits: [text, labels], of the training rows and their copies; needed if a trial distills.
        part_tokens: See `ProgramSpec`.
        listener: Told of the progress.
        steps_per_chunk: See `fit`.
        chunks: What another program compiled; this one takes of it what fits, and adds to it.
        checkpoints: Those of these trials: where they go on from, and what they write.
    """
    program = Program(trials, inputs, mesh, teacher_logits, part_tokens)
    rows, total_steps = program.rows, len(program.rows.bucket)
    chunks = program.chunks(chunks)
    compiled, compile_seconds = len(chunks.compiled), chunks.seconds
    fitted = program.fit(
        chunks, eval_rows=inputs.rows.dev_rows, listener=listener, steps_per_chunk=steps_per_chunk,
        checkpoints=checkpoints,
        scorer=partial(_select_scores, inputs, trials[0].select_epoch) if trials[0].select_epoch else None,
    )
    places = {trial: (g, i) for g, group in enumerate(program.groups.values()) for i, trial in enumerate(group)}
    share = fitted.seconds / len(trials)
    outcomes = [_outcome(trial, inputs, fitted, *places[trial], share) for trial in trials]
    # One word for all processes: they bring the parameters of the same trials home.
    statuses = from_first(lambda: [made.row["status"] for made in outcomes])
    outcomes = [replace(made, row=made.row | {"status": status})
                for made, status in zip(outcomes, statuses, strict=True)]
    epochs = {made.trial: made.row["selected_epoch"] or trials[0].train.epochs for made in outcomes}
    examples = len(inputs.epoch_lengths) * trials[0].train.epochs * len(trials)

    def params(trial: TrialConfig) -> Params:
        group, index = places[trial]
        state = fitted.groups[group]
        trained, masks = one_trial((state.params, state.masks), index)
        trained = jax.tree.map(np.asarray, apply_masks(trained, masks))
        decay = accumulated_decay(trial, total_steps, epochs[trial] * rows.steps_per_epoch)
        table = program.starts.whole(trial)["bert"]["embeddings"]["word_embeddings"]["embedding"]
        return with_word_embeddings(trained, lambda used: inputs.rows.vocabulary.restore(table, used, decay))

    cost = Cost(fitted.seconds, chunks.seconds - compile_seconds, len(chunks.compiled) - compiled, examples)
    return Executed(outcomes, params, cost, chunks)


def _select_scores(inputs: TaskInputs, on: str, evaluation: Evaluation) -> list[np.ndarray]:
    """For each group the [trial] scores that epochs are selected by."""
    split = SELECTION if on == "train" else next(iter(inputs.rows.dev))
    return [np.array([split_score(inputs, split, logits) for logits in group]) for group in evaluation.logits]


def _outcome(trial: TrialConfig, inputs: TaskInputs, fitted: Fit, group: int, index: int, seconds: float) -> Outcome:
    metrics = jax.tree.map(lambda values: values[:, index], fitted.metrics[group])
    logits = [evaluation.logits[group][index] for evaluation in fitted.evaluations]
    return outcome(trial, inputs, metrics, logits, seconds)
