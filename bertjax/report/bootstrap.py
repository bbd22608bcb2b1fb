"""How sure the factors are: the study drawn again, many times, from its own tasks, seeds and dev rows.

Half a point on a dev set of some hundred rows is chance as often as not, and Table 1 of arXiv:2208.09684 hangs on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bertjax.config import require
from bertjax.report.counted import CountedMetric
from bertjax.report.cube import Cube, letters_of, mean_known
from bertjax.report.factors import TOLERANCE, compressed_subsets, factor_table, multiplicativity, task_factors

RESAMPLES = 1000
COVERAGE = (0.025, 0.975)
"""Ends of the percentile intervals."""

SAME_SCORE = 0.01
"""Points by which a score that is computed from predictions may differ from the one in the results."""

EQUAL = 1e-9
"""A ratio this close to 1 is 1: QK is exactly Q where K changes no size."""

COUNTS_AT_ONCE = 4_000_000
"""Elements of the [resample, row] array of drawn rows that are held at a time."""


@dataclass(frozen=True)
class Predictions:
    """What the models said about the dev rows."""

    outputs: Mapping[str, tuple[np.ndarray, np.ndarray]]
    """Per trial_id: logits or predictions [row, ...], and labels [row], the same for all trials of a task."""
    metrics: Mapping[str, CountedMetric]
    """Per task, what its score is on resampled rows (`counted.counted_metric`)."""


@dataclass(frozen=True)
class Resampled:
    """A study drawn again `resamples` times."""

    scores: np.ndarray
    """[resample, task, model] points, means over the seeds that were drawn."""
    task_counts: np.ndarray
    """[resample, task] how often the task was drawn."""
    anything: bool
    """Whether anything was drawn again: not with one task, one seed and no predictions."""
    note: str
    """One sentence: what was drawn again and what was not."""


def resample(
    cube: Cube, predictions: Predictions | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> Resampled:
    """Draws tasks, within a task its seeds, and dev rows, each with replacement; the same draw for all models.

    Models stay paired: those of one seed share the order of the data, and those of one task its rows. Rows are drawn
    for the tasks whose every trial has predictions. Of n seeds or tasks, draws spread by sqrt((n - 1) / n) too little.

    Raises:
        InputError: The predictions do not give the score of the results, or the labels of a task differ.
    """
    count = len(cube.tasks)
    task_rng, seed_rng = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
    task_counts = task_rng.multinomial(count, np.full(count, 1 / count), size=resamples)
    scores = np.empty((resamples, *cube.scores.shape[:2]))
    with_rows = []
    for t, task in enumerate(cube.tasks):
        drawn = _drawn_scores(cube, t, predictions, resamples, np.random.default_rng([seed, 2, t]))
        if drawn is not None:
            with_rows.append(task)
        seeds = np.flatnonzero(np.isfinite(cube.scores[t]).any(axis=0))
        counts = np.zeros((resamples, cube.scores.shape[-1]))
        counts[:, seeds] = seed_rng.multinomial(len(seeds), np.full(len(seeds), 1 / len(seeds)), size=resamples)
        scores[:, t] = mean_known(cube.scores[t] if drawn is None else drawn, axis=-1, weights=counts[:, None, :])
    what = _what_is_drawn(cube, with_rows)
    return Resampled(scores, task_counts, bool(what), _note(what, _rows_note(cube, predictions, with_rows), resamples))


def _drawn_scores(
    cube: Cube, task: int, predictions: Predictions | None, resamples: int, rng: np.random.Generator
) -> np.ndarray | None:
    """[resample, model, seed] scores on drawn rows; None where a trial of the task has no predictions."""
    trials, name = cube.trials[cube.trials["task"] == task], cube.tasks[task]
    if predictions is None or name not in predictions.metrics or not set(trials["trial_id"]) <= set(
            predictions.outputs):
        return None
    metric, outputs = predictions.metrics[name], predictions.outputs
    labels = outputs[trials["trial_id"].iloc[0]][1]
    sums, number = np.zeros((resamples, *cube.scores.shape[1:])), np.zeros(cube.scores.shape[1:])
    for row in trials.to_dict("records"):
        _check(name, row["trial_id"], row["score"], outputs[row["trial_id"]], labels, metric)
        number[row["model"], row["seed"]] += 1
    step = max(1, COUNTS_AT_ONCE // len(labels))
    for start in range(0, resamples, step):
        part = slice(start, min(start + step, resamples))
        counts = rng.multinomial(len(labels), np.full(len(labels), 1 / len(labels)), size=part.stop - start)
        for row in trials.to_dict("records"):
            sums[part, row["model"], row["seed"]] += metric(outputs[row["trial_id"]][0], labels, counts)
    return np.where(number > 0, sums / np.maximum(number, 1), np.nan)


def _check(
    task: str, trial_id: str, known: float, given: tuple[np.ndarray, np.ndarray], labels: np.ndarray,
    metric: CountedMetric,
) -> None:
    require(np.array_equal(given[1], labels), f"all trials of {task} must have the same dev labels; those of "
                                              f"{trial_id} differ")
    score = metric(*given, np.ones((1, len(labels)))).item()
    require(abs(score - known) <= SAME_SCORE, f"the predictions of trial {trial_id} must give its score of {known:.2f} "
                                              f"on {task}, but give {score:.2f}")


def _what_is_drawn(cube: Cube, with_rows: list[str]) -> list[str]:
    seeds = int(np.isfinite(cube.scores).any(axis=(0, 1)).sum())
    return ([f"{len(cube.tasks)} tasks"] if len(cube.tasks) > 1 else []) + (
        [f"{seeds} seeds"] if seeds > 1 else []) + (["dev rows"] if with_rows else [])


def _note(drawn: list[str], without_rows: str, resamples: int) -> str:
    if not drawn:
        return f"No intervals: there is one task and one seed, and {without_rows}, so there is nothing to draw again."
    text = f"Intervals hold 95 % of {resamples:,} studies drawn again from this one's {' and '.join(drawn)}"
    return f"{text}; {without_rows}, so intervals are too narrow." if without_rows else f"{text}."


def _rows_note(cube: Cube, predictions: Predictions | None, with_rows: list[str]) -> str:
    """Which tasks' dev rows are not drawn again, and why; "" if all are."""
    outputs = set() if predictions is None else set(predictions.outputs)
    without = [t for t, task in enumerate(cube.tasks) if task not in with_rows]
    trials = [cube.trials.loc[cube.trials["task"] == t, "trial_id"] for t in without]
    some = [f"{cube.tasks[t]} ({ids.isin(list(outputs)).sum()} of {len(ids)} trials have them)"
            for t, ids in zip(without, trials, strict=True) if ids.isin(list(outputs)).any()]
    none = [cube.tasks[t] for t, ids in zip(without, trials, strict=True) if not ids.isin(list(outputs)).any()]
    parts = []
    if none:
        rows = "dev rows" if not with_rows and not some else f"the dev rows of {', '.join(none)}"
        parts.append(f"{rows} are not drawn again, as their predictions are not at hand")
    if some:
        parts.append(f"the dev rows of {', '.join(some)} are not drawn again, as results without predictions, such as "
                     "those that --known takes over, cannot be")
    return ", and ".join(parts)


def factor_intervals(
    cube: Cube, resampled: Resampled, tolerance: float = TOLERANCE
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`factors.table_one` and `factors.multiplicativity`, both with 95 % percentile intervals `low` and `high`.

    The table of multiplicativity also has `share_above` and `share_below`: the shares of the resamples in which the
    ratio is above and below 1. All four are NaN where nothing was drawn again. A resample is noisier than the study,
    and factors are thresholds of it, so an interval need not lie evenly around its value.
    """
    factors = factor_table(cube, task_factors(cube, cube.seed_means, tolerance))
    products = multiplicativity(factors)
    drawn = mean_known(task_factors(cube, resampled.scores, tolerance), axis=-1,
                       weights=resampled.task_counts[:, None, None, :])
    values = {(name, methods): drawn[:, a, m] for a, name in enumerate(cube.architectures["name"])
              for m, methods in enumerate(compressed_subsets(cube))}
    unknown = np.full(len(drawn), np.nan)
    ratios = []
    for row in products.to_dict("records"):
        single = [values.get((row["name"], letter), unknown) for letter in letters_of(row["methods"])]
        ratios.append(values[row["name"], row["methods"]] / np.prod(single, axis=0))
    products = with_interval(products, ratios, resampled).assign(
        share_above=[_share(ratio > 1 + EQUAL, ratio, resampled) for ratio in ratios],
        share_below=[_share(ratio < 1 - EQUAL, ratio, resampled) for ratio in ratios])
    return with_interval(factors, list(values.values()), resampled), products


def with_interval(table: pd.DataFrame, values: list[np.ndarray], resampled: Resampled) -> pd.DataFrame:
    """The table with the columns `low` and `high`: 95 % percentile intervals of each row's values, [resample].

    NaN where nothing was drawn again, or where more than a tenth of the resamples have no value.
    """
    ends = []
    for drawn in values:
        known = drawn[np.isfinite(drawn)]
        enough = resampled.anything and len(known) >= 0.9 * len(drawn)
        ends.append(np.quantile(known, COVERAGE) if enough else np.full(2, np.nan))
    return table.assign(low=[float(low) for low, _ in ends], high=[float(high) for _, high in ends])


def _share(held: np.ndarray, values: np.ndarray, resampled: Resampled) -> float:
    known = np.isfinite(values)
    return float(held[known].mean()) if resampled.anything and known.any() else float("nan")
