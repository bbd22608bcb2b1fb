"""The metrics of many resamples of the dev rows at once: a resample is how often each row was drawn.

Equal to `bertjax.metrics` on the rows repeated that often, without repeating them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bertjax.data.tasks import Task
from bertjax.metrics import glue_score, movva_score

CountedMetric = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(outputs [row, ...], labels [row], counts [resample, row]) -> [resample] points."""


def counted_metric(task: Task, column: str = "score") -> CountedMetric:
    """What `score` or `score_movva` of a task is on resampled rows, of logits [row, labels]."""
    score = {"score": glue_score, "score_movva": movva_score}[column]

    def metric(outputs: np.ndarray, labels: np.ndarray, counts: np.ndarray) -> np.ndarray:
        scores: Any = counted_scores(task, outputs, labels, counts)  # arrays where `score` expects numbers
        return np.asarray(score(task, scores))

    return metric


def counted_scores(task: Task, outputs: np.ndarray, labels: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """The task's metrics in points, each [resample].

    Args:
        task: The task.
        outputs: [row, labels] logits, or [row, 1] scores.
        labels: [row] classes or scores.
        counts: [resample, row] how often each row was drawn; at least one row in every resample.
    """
    counts = counts.astype(np.float64)
    if task.regression:
        values, targets = outputs[:, 0].astype(np.float64), labels.astype(np.float64)
        shape = counts.shape
        made = {"pearson": _correlation(np.broadcast_to(values, shape), np.broadcast_to(targets, shape), counts),
                "spearman": _correlation(_ranks(values, counts), _ranks(targets, counts), counts)}
    else:
        table = _confusion(outputs.argmax(axis=1), labels.astype(int), task.num_labels, counts)
        made = {"accuracy": _ratio(np.trace(table, axis1=1, axis2=2), table.sum((1, 2))), "mcc": _mcc(table)}
        if "f1" in task.metrics:
            made["f1"] = _ratio(2 * table[:, 1, 1], table[:, 1].sum(1) + table[:, :, 1].sum(1))
    return {name: 100 * made[name] for name in task.metrics}


def _confusion(predictions: np.ndarray, labels: np.ndarray, classes: int, counts: np.ndarray) -> np.ndarray:
    """[resample, label, prediction] numbers of rows."""
    cells = np.zeros((len(labels), classes * classes))
    cells[np.arange(len(labels)), labels * classes + predictions] = 1
    return (counts @ cells).reshape(-1, classes, classes)


def _mcc(table: np.ndarray) -> np.ndarray:
    """Matthews correlation of any number of classes, as scikit-learn defines it."""
    true, predicted = table.sum(2), table.sum(1)
    rows = table.sum((1, 2))
    covariance = np.trace(table, axis1=1, axis2=2) * rows - (true * predicted).sum(1)
    spread = (rows**2 - (true**2).sum(1)) * (rows**2 - (predicted**2).sum(1))
    return _ratio(covariance, np.sqrt(spread))


def _ranks(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """[resample, row] ranks among the drawn rows, ties sharing their mean rank; plus one half, which shifts all."""
    distinct, place = np.unique(values, return_inverse=True)
    drawn = np.zeros((len(distinct), len(counts)))
    np.add.at(drawn, place, counts.T)
    below = np.cumsum(drawn, axis=0) - drawn
    return (below + drawn / 2)[place].T


def _correlation(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Pearson's, of [resample, row] values; 0 where one of them is constant."""
    rows = counts.sum(1, keepdims=True)
    x = x - (counts * x).sum(1, keepdims=True) / rows
    y = y - (counts * y).sum(1, keepdims=True) / rows
    spread = (counts * x * x).sum(1) * (counts * y * y).sum(1)
    return _ratio((counts * x * y).sum(1), np.sqrt(np.where(spread > 1e-20, spread, 0)))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """`above / below`, and 0 where there is nothing below."""
    return np.where(below > 0, above / np.where(below > 0, below, 1), 0.0)
