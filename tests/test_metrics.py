"""Scores of known predictions, and the score that each task is judged by."""

from __future__ import annotations

import dataclasses
import math
import warnings

import numpy as np
import pytest

from bertjax.data.tasks import TASKS, find_task
from bertjax.metrics import constant_loss, constant_score, glue_score, movva_score, score_predictions

# 3 true positives, 1 false positive, 2 false negatives, 4 true negatives.
LABELS = np.array([1, 1, 1, 0, 1, 1, 0, 0, 0, 0], np.int32)
CHOICES = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
ALL = dataclasses.replace(find_task("mrpc"), metrics=("accuracy", "f1", "mcc"))


def logits(choices, classes=2):
    return np.eye(classes, dtype=np.float32)[choices] * 3 - 1


def test_classification_metrics_by_their_definitions():
    scores = score_predictions(ALL, logits(CHOICES), LABELS)
    assert scores["accuracy"] == pytest.approx(70)
    assert scores["f1"] == pytest.approx(100 * 2 * 3 / (2 * 3 + 1 + 2))
    assert scores["mcc"] == pytest.approx(100 * (3 * 4 - 1 * 2) / math.sqrt((3 + 1) * (3 + 2) * (4 + 1) * (4 + 2)))


def test_correlations_by_their_definitions():
    task = find_task("stsb")
    labels = np.array([0, 1, 2, 3], np.float32)
    outputs = np.array([[0], [1], [4], [2]], np.float32)
    scores = score_predictions(task, outputs, labels)
    centered = outputs[:, 0] - outputs.mean()
    expected = (centered @ (labels - 1.5)) / np.sqrt((centered @ centered) * 5)
    assert scores["pearson"] == pytest.approx(100 * expected)
    assert scores["spearman"] == pytest.approx(100 * (1 - 6 * 2 / (4 * 15)))
    assert score_predictions(task, -outputs, labels)["pearson"] == pytest.approx(-100 * expected)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_perfect_predictions_score_100_and_constant_ones_score_as_they_must_without_a_warning(task):
    labels = np.linspace(0, 5, 12).astype(np.float32) if task.regression else np.arange(12, dtype=np.int32) % (
        task.num_labels)
    perfect = labels[:, None] if task.regression else logits(labels, task.num_labels)
    for name, value in score_predictions(task, perfect, labels).items():
        assert value == pytest.approx(100), name
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        constant = score_predictions(task, np.zeros_like(perfect), labels)
    assert all(constant[name] == 0 for name in ("mcc", "f1", "pearson", "spearman") if name in constant)
    assert all(type(value) is float for value in constant.values())


def test_outputs_that_are_not_finite_score_nan():
    for bad in (np.nan, np.inf):
        outputs = logits(CHOICES)
        outputs[3, 1] = bad
        assert all(math.isnan(value) for value in score_predictions(ALL, outputs, LABELS).values())


def test_shapes_must_match():
    for outputs in (logits(CHOICES)[:9], logits(CHOICES, 3), CHOICES):
        with pytest.raises(ValueError, match=r"must have the shape \(10, 2\)"):
            score_predictions(ALL, outputs, LABELS)


def test_the_score_of_each_task():
    values = {"accuracy": 90.0, "f1": 70.0, "mcc": 40.0, "pearson": 80.0, "spearman": 60.0}
    expected = {"cola": (40, 90), "sst2": (90, 90), "mrpc": (80, 90), "stsb": (70, 70), "qqp": (80, 90),
                "mnli": (90, 90), "qnli": (90, 90), "rte": (90, 90), "gloss-class": (90, 90), "gloss-sense": (90, 90),
                "gloss-similarity": (70, 70)}
    for name, task in TASKS.items():
        metrics = {metric: values[metric] for metric in task.metrics}
        assert (glue_score(task, metrics), movva_score(task, metrics)) == expected[name], name
    own = dataclasses.replace(TASKS["stsb"], name="own", score_metrics=())
    assert glue_score(own, values) == movva_score(own, values) == 80
    own = dataclasses.replace(TASKS["sst2"], name="own", metrics=("accuracy", "mcc"))
    assert glue_score(own, values) == 90


def test_the_constant_loss_is_the_least_that_a_constant_reaches():
    labels = np.array([0, 0, 0, 1, 2, 2], np.int32)
    task = find_task("mnli")
    shares = np.array([3, 1, 2]) / 6
    best = constant_loss(task, labels)
    assert best == pytest.approx(-(np.log(shares)[labels]).mean())
    assert best < -(np.log([0.4, 0.3, 0.3])[labels]).mean()
    assert constant_loss(task, np.zeros(4, np.int32)) == 0
    scores = np.array([1, 2, 6], np.float32)
    grid = np.linspace(0, 6, 601)
    assert constant_loss(find_task("stsb"), scores) == pytest.approx(((scores[:, None] - grid) ** 2).mean(0).min())


@pytest.mark.parametrize(("task", "labels", "score"), [
    ("sst2", [0, 1, 1, 1], 75.0), ("mnli", [2, 0, 2, 1], 50.0), ("cola", [1, 1, 1, 0], 0.0),
    ("stsb", [1.0, 2.0, 5.0], 0.0), ("mrpc", [1, 1, 1, 0], (75 + 100 * 6 / 7) / 2)])  # all 1: precision 3/4, recall 1
def test_the_constant_score_is_that_of_the_best_constant_answer(task: str, labels: list, score: float):
    assert constant_score(find_task(task), np.array(labels)) == pytest.approx(score)
