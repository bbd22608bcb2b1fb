"""Metrics of counted rows are those of the rows written out."""

import numpy as np
import pytest

from bertjax.data.tasks import Task, find_task
from bertjax.metrics import glue_score, movva_score, score_predictions
from bertjax.report.counted import counted_metric, counted_scores

THREE = Task("three", ("text",), ("a", "b", "c"), ("dev",), ("accuracy", "mcc"), "")


@pytest.mark.parametrize("task", [find_task("cola"), find_task("mrpc"), find_task("stsb"), THREE], ids=lambda t: t.name)
def test_counted_rows_are_repeated_rows(task: Task) -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 6, 40) / 2 if task.regression else rng.integers(0, task.num_labels, 40)
    outputs = rng.normal(size=(40, task.num_labels)).round(1)  # with ties
    if not task.regression:
        outputs[np.arange(40), labels] += 0.8
    else:
        outputs[:, 0] = (outputs[:, 0] + labels).round()
    counts = np.vstack([np.ones((1, 40), int), rng.multinomial(40, np.full(40, 1 / 40), size=20)])
    found = counted_scores(task, outputs, labels, counts)
    assert tuple(found) == task.metrics
    for i, drawn in enumerate(counts):
        rows = np.repeat(np.arange(40), drawn)
        expected = score_predictions(task, outputs[rows], labels[rows])
        assert {name: values[i] for name, values in found.items()} == pytest.approx(expected, abs=1e-9)
        for column, score in (("score", glue_score), ("score_movva", movva_score)):
            metric = counted_metric(task, column)(outputs, labels, counts[i:i + 1])
            assert metric.item() == pytest.approx(score(task, expected), abs=1e-9)


def test_constants_score_zero() -> None:
    counts = np.array([[1, 1, 1], [0, 2, 1]])
    stsb = counted_scores(find_task("stsb"), np.full((3, 1), 0.1), np.array([1.0, 2.0, 3.0]), counts)
    assert all((values == 0).all() for values in stsb.values())
    mrpc = counted_scores(find_task("mrpc"), np.array([[1.0, 0.0]] * 3), np.array([0, 0, 0]), counts)
    assert (mrpc["accuracy"].tolist(), mrpc["f1"].tolist()) == ([100, 100], [0, 0])
