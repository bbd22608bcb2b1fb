"""What the trials of a run directory said about the dev rows, for intervals that cover the chance of the dev set."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from bertjax.data.tasks import TASKS, Task
from bertjax.metrics import constant_score
from bertjax.report.bootstrap import Predictions
from bertjax.report.counted import counted_metric


def read_predictions(run_dir: Path, results: pd.DataFrame, column: str = "score") -> Predictions | None:
    """The predictions that `trials/<trial_id>/predictions.npz` hold; None where there are none.

    Files that are missing or damaged are passed over: intervals then do without the rows of their task and say so.

    Args:
        run_dir: With a folder `trials`.
        results: Rows of `tables.clean`.
        column: `score` or `score_movva`: what the intervals are of.
    """
    outputs, tasks = {}, {}
    for trial_id, name in zip(results["trial_id"], results["task"], strict=True):
        arrays = _read(run_dir / "trials" / trial_id / "predictions.npz")
        if arrays is not None:
            outputs[trial_id] = arrays
            tasks[name] = TASKS.get(name) or own_task(name, *arrays)
    metrics = {name: counted_metric(task, column) for name, task in tasks.items()}
    return Predictions(outputs, metrics) if outputs else None


def constant_scores(predictions: Predictions | None, results: pd.DataFrame) -> dict[str, float]:
    """By task, the score of the best model that always gives the same answer; tasks without predictions are left out.

    Args:
        predictions: Of `read_predictions`.
        results: Rows of `tables.clean`.
    """
    outputs = {} if predictions is None else predictions.outputs
    first = results[results["trial_id"].isin(list(outputs))].drop_duplicates("task")
    return {name: constant_score(TASKS.get(name) or own_task(name, *outputs[trial_id]), outputs[trial_id][1])
            for name, trial_id in zip(first["task"], first["trial_id"], strict=True)}


def own_task(name: str, logits: np.ndarray, labels: np.ndarray) -> Task:
    """A task of the user's own data, as far as its score needs it: classes, or a number where labels are floats."""
    regression = np.issubdtype(labels.dtype, np.floating)
    classes = () if regression else tuple(map(str, range(logits.shape[1])))
    return Task(name, (), classes, (), ("pearson", "spearman") if regression else ("accuracy",), "")


def _read(path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return stored["logits"], stored["labels"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
