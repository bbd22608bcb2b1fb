"""From what a program leaves to what a trial is: its row of results, its metrics per epoch, its parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertjax.artifact.size import size_bytes_fp32, size_bytes_paper
from bertjax.data.examples import SELECTION
from bertjax.data.tasks import METRICS
from bertjax.metrics import constant_loss, glue_score, movva_score, score_predictions
from bertjax.model.sizes import encoder_linear_count, param_count, size_name
from bertjax.study import TrialConfig
from bertjax.sweep.inputs import TaskInputs
from bertjax.sweep.results import RESULT_COLUMNS
from bertjax.train.state import StepMetrics

DIVERGED_FACTOR = 2.0
"""A trial whose last epoch's mean task loss is above this many times the best constant prediction's has diverged."""


@dataclass(frozen=True)
class Outcome:
    """A trained trial."""

    trial: TrialConfig
    row: dict[str, Any]
    """Its values of `RESULT_COLUMNS`."""
    metrics: list[dict[str, Any]]
    """For each epoch: epoch, step, train_loss, task_loss, score and the task's metrics in points, and `select_score`
    on the held-out slice of the training rows, where there is one."""
    predictions: dict[str, np.ndarray]
    """What the row's score was computed from: `logits` [row, labels] and `labels` [row] of the scoring split."""


def outcome(
    trial: TrialConfig, inputs: TaskInputs, metrics: StepMetrics[np.ndarray], logits: Sequence[np.ndarray],
    seconds: float,
) -> Outcome:
    """Scores a trial.

    Args:
        trial: What was trained.
        inputs: Its task.
        metrics: [step] arrays of this trial.
        logits: After each epoch, [dev row, labels] over all dev splits.
        seconds: Its share of the program's time.
    """
    per_epoch = [_epoch(trial, inputs, metrics, epoch, outputs) for epoch, outputs in enumerate(logits, start=1)]
    constant = constant_loss(inputs.data.task, inputs.data.train.labels)
    diverged = has_diverged(metrics, per_epoch[-1]["task_loss"], constant)
    diverged = diverged or not np.isfinite(logits[-1]).all()
    epoch = selected_epoch(trial, per_epoch)
    scores = {} if diverged else per_epoch[epoch - 1]
    row = base_row(trial, inputs) | {
        "steps": len(metrics.loss), "status": "diverged" if diverged else "done", "train_seconds": round(seconds, 3),
        **{name: scores.get(name) for name in ("score", "score_movva", *METRICS, "accuracy_mismatched",
                                               "select_score")},
        "selected_epoch": None if trial.select_epoch is None else epoch,
    }
    return Outcome(trial, row, per_epoch, _predictions(inputs, logits[epoch - 1]))


def _predictions(inputs: TaskInputs, logits: np.ndarray) -> dict[str, np.ndarray]:
    split, rows = next(iter(inputs.rows.dev.items()))
    first = inputs.rows.dev_rows.start
    return {"logits": logits[rows.start - first : rows.stop - first], "labels": inputs.data.dev[split].labels}


def selected_epoch(trial: TrialConfig, per_epoch: Sequence[Mapping[str, Any]]) -> int:
    """The epoch, from 1, whose model is the trial's: the last, or the first of the best."""
    if trial.select_epoch is None:
        return len(per_epoch)
    name = "select_score" if trial.select_epoch == "train" else "score"
    scores = np.array([metrics[name] for metrics in per_epoch], float)  # None becomes NaN
    return 1 + int(np.argmax(np.nan_to_num(scores, nan=-np.inf)))


def failed_row(trial: TrialConfig, inputs: TaskInputs, reason: str) -> dict[str, Any]:
    """The row of a trial whose program raised; `reason` goes beside the columns."""
    return base_row(trial, inputs) | {"status": "failed", "reason": reason}


def has_diverged(metrics: StepMetrics[np.ndarray], last_task_loss: float | None, constant: float) -> bool:
    """Whether a loss or gradient was not finite, or the end was worse than `DIVERGED_FACTOR` times a constant model."""
    finite = bool(np.isfinite(metrics.loss).all() and np.isfinite(metrics.grad_norm).all())
    return not finite or last_task_loss is None or last_task_loss > DIVERGED_FACTOR * constant


def base_row(trial: TrialConfig, inputs: TaskInputs) -> dict[str, Any]:
    """The columns that are known before training; all others None."""
    total, linear = param_count(inputs.config), encoder_linear_count(inputs.config)
    bits = trial.quantize.weight_bits
    return dict.fromkeys(RESULT_COLUMNS) | {
        "trial_id": trial.trial_id, "task": trial.task, "model": trial.model, "size": size_name(inputs.config),
        "num_hidden_layers": inputs.config.num_hidden_layers, "teacher": trial.teacher, "methods": trial.methods,
        "sparsity": trial.sparsity, "weight_bits": bits, "activation_bits": trial.quantize.activation_bits,
        "distill_weight": trial.distill_weight, "temperature": trial.temperature, "seed": trial.seed,
        "learning_rate": trial.learning_rate, "epochs": trial.train.epochs, "params": total,
        "size_bytes_fp32": size_bytes_fp32(total),
        "size_bytes_paper": size_bytes_paper(total, linear, bits, trial.sparsity), "copies": trial.copies,
    }


def _epoch(
    trial: TrialConfig, inputs: TaskInputs, metrics: StepMetrics[np.ndarray], epoch: int, logits: np.ndarray
) -> dict[str, Any]:
    task, steps = inputs.data.task, len(metrics.loss) // trial.train.epochs
    part = slice((epoch - 1) * steps, epoch * steps)
    made: dict[str, Any] = {
        "epoch": epoch, "step": epoch * steps,
        "train_loss": _finite(metrics.loss[part].mean()), "task_loss": _finite(metrics.task_loss[part].mean()),
    }
    for number, split in enumerate(inputs.rows.dev):
        if split == SELECTION:
            made["select_score"] = _finite(split_score(inputs, split, logits))
            continue
        scores = split_scores(inputs, split, logits)
        if number == 0:
            made |= {"score": _finite(glue_score(task, scores)), "score_movva": _finite(movva_score(task, scores))}
            made |= {name: _finite(value) for name, value in scores.items()}
        else:
            made["accuracy_mismatched"] = _finite(scores["accuracy"])
    return made


def split_scores(inputs: TaskInputs, split: str, logits: np.ndarray) -> dict[str, float]:
    """A task's metrics on one dev split, of [dev row, labels] logits over all of them."""
    first, rows = inputs.rows.dev_rows.start, inputs.rows.dev[split]
    outputs = logits[rows.start - first : rows.stop - first]
    return score_predictions(inputs.data.task, outputs, inputs.data.dev[split].labels)


def split_score(inputs: TaskInputs, split: str, logits: np.ndarray) -> float:
    """The task's score on one dev split, in points; NaN if it has none."""
    return glue_score(inputs.data.task, split_scores(inputs, split, logits))


def _finite(value: float) -> float | None:
    """JSON has no NaN."""
    return float(value) if math.isfinite(value) else None
