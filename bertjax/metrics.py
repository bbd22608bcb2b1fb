"""Predictions of a whole split to scores in points: accuracy, F1, Matthews, Pearson and Spearman correlations."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bertjax.data.tasks import Task


def score_predictions(task: Task, outputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The task's metrics, by scikit-learn and SciPy, in points: 100 is perfect, correlations go down to -100.

    A correlation with a constant is 0. Outputs that are not finite (a diverged model) make every metric NaN.

    Args:
        outputs: [rows, num_labels] logits, or [rows, 1] scores.
        labels: [rows] classes or scores.

    Raises:
        ValueError: the shapes do not match the task or each other.
    """
    if outputs.shape != (len(labels), task.num_labels) or len(labels) == 0:
        raise ValueError(f"outputs of {task.name} must have the shape ({len(labels)}, {task.num_labels}) with at least "
                         f"one row; got {outputs.shape}")
    if not np.isfinite(outputs).all():
        return dict.fromkeys(task.metrics, float("nan"))
    predictions = outputs[:, 0] if task.regression else outputs.argmax(axis=1)
    return {name: 100 * _METRICS[name](labels, predictions) for name in task.metrics}


def glue_score(task: Task, metrics: Mapping[str, float]) -> float:
    """The task's one score in points: the mean of its `score_metrics`, else accuracy, or Pearson for regression."""
    names = task.score_metrics or (("pearson",) if task.regression else ("accuracy",))
    return sum(metrics[name] for name in names) / len(names)


def movva_score(task: Task, metrics: Mapping[str, float]) -> float:
    """Accuracy wherever the task has it, else `glue_score`: the reading that fits arXiv:2208.09684, figure 1."""
    return metrics["accuracy"] if "accuracy" in task.metrics else glue_score(task, metrics)


def constant_loss(task: Task, labels: np.ndarray) -> float:
    """Mean training loss of the best constant prediction: entropy of the classes in nats, or variance of the scores."""
    if task.regression:
        return float(np.var(labels, dtype=np.float64))
    shares = np.bincount(labels, minlength=task.num_labels) / len(labels)
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum())


def constant_score(task: Task, labels: np.ndarray) -> float:
    """The `glue_score` on these labels of the best model that always gives the same answer: 0 where it is one of
    correlations."""
    if task.regression:
        return 0.0
    answers = (np.tile(np.eye(task.num_labels)[label], (len(labels), 1)) for label in range(task.num_labels))
    return max(glue_score(task, score_predictions(task, outputs, labels)) for outputs in answers)


def _accuracy(labels: np.ndarray, predictions: np.ndarray) -> float:
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(labels.tolist(), predictions.tolist()))


def _f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(labels.tolist(), predictions.tolist(), pos_label=1, zero_division=0))


def _mcc(labels: np.ndarray, predictions: np.ndarray) -> float:
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(labels.tolist(), predictions.tolist()))


def _pearson(labels: np.ndarray, predictions: np.ndarray) -> float:
    from scipy.stats import pearsonr

    return _correlation(pearsonr, labels, predictions)


def _spearman(labels: np.ndarray, predictions: np.ndarray) -> float:
    from scipy.stats import spearmanr

    return _correlation(spearmanr, labels, predictions)


def _correlation(correlate, labels: np.ndarray, predictions: np.ndarray) -> float:
    if np.ptp(labels) == 0 or np.ptp(predictions) == 0:
        return 0.0
    return float(correlate(labels.astype(np.float64), predictions.astype(np.float64)).statistic)


_METRICS = {"accuracy": _accuracy, "f1": _f1, "mcc": _mcc, "pearson": _pearson, "spearman": _spearman}
