"""Differences between trials that have everything else in common, and what the learning rate does."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from bertjax.report.cube import ARCHITECTURE, arms, letters_of, subset_order
from bertjax.report.tables import has_score

SAME = ("task", "seed", *ARCHITECTURE, "learning_rate", "epochs")
"""What two trials of a pair have in common. Equal seeds share the head's start, and the order of the rows and dropout
if they also share the length of an epoch. Where a report picked learning rates, each trial has its own best one."""

SAME_WITH = {"Q": ("weight_bits", "activation_bits"), "K": ("distill_weight", "temperature", "teacher", "copies"),
             "P": ("sparsity",), "A": ("copies",)}
"""What they have in common besides when both have the letter."""

CONFIDENCE = 0.95


def paired_differences(results: pd.DataFrame, column: str = "score") -> pd.DataFrame:
    """The mean difference between any two subsets over trials that differ in nothing else, with its 95 % interval.

    The trials of a pair have `SAME` in common, and `SAME_WITH` for the letters both have. Several pairs of one task and
    seed (architectures, rates, sparsities) are averaged first, so that a seed of a task is one difference. The interval
    is Student's t of these differences: what to expect on average over tasks like these, if their differences were
    independent. Tasks differ more than seeds, so with few tasks and many seeds it is too narrow for a new task.

    Args:
        results: Rows of `tables.clean`.
        column: `score` or `score_movva`.

    Returns:
        A row per two subsets, or arms where copies differ (`cube.arms`): `methods`, `against`, `difference` (points,
        positive when `methods` scores better), `low` and `high` (NaN with a single pair), `pairs`: the number of
        (task, seed) differences, and `tasks`. Every pair stands there in both directions; those without a pair of
        trials are left out.
    """
    scored = results[has_score(results) & np.isfinite(results[column])]
    scored = scored.assign(methods=arms(scored))
    subsets = sorted(scored["methods"].unique(), key=subset_order)
    rows = []
    for against, methods in combinations(subsets, 2):
        differences = _differences(scored, methods, against, column)
        if len(differences):
            mean, (low, high) = differences.mean(), t_interval(differences.to_numpy())
            count = {"pairs": len(differences), "tasks": differences.index.get_level_values("task").nunique()}
            rows += [{"methods": methods, "against": against, "difference": mean, "low": low, "high": high, **count},
                     {"methods": against, "against": methods, "difference": -mean, "low": -high, "high": -low, **count}]
    return pd.DataFrame(rows, columns=["methods", "against", "difference", "low", "high", "pairs", "tasks"])


def _differences(scored: pd.DataFrame, methods: str, against: str, column: str) -> pd.Series:
    """The mean difference of each (task, seed) that has a pair."""
    both = letters_of(methods) & letters_of(against)
    shared = [name for letter in both for name in SAME_WITH.get(letter, ())]
    if " " in methods + against:  # arms: their copies are what is compared
        shared = [name for name in shared if name != "copies"]
    names = list(dict.fromkeys([*SAME, *shared]))
    keyed = scored.assign(**{name: scored[name].map(str) for name in names})  # NaN never equals NaN
    left, right = (keyed[keyed["methods"] == subset].groupby(names)[column].mean().rename(subset).reset_index()
                   for subset in (methods, against))
    pairs = left.merge(right, on=names)
    return (pairs[methods] - pairs[against]).groupby([pairs["task"], pairs["seed"]]).mean()


def t_interval(values: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the mean of independent values by Student's t; NaN with fewer than two."""
    if len(values) < 2:
        return float("nan"), float("nan")
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def learning_rate_sensitivity(results: pd.DataFrame, column: str = "score") -> pd.DataFrame:
    """How far each subset's score moves with the learning rate.

    A group is one subset on one task with all settings but the rate equal. Its range is the highest minus the lowest of
    its means over the seeds that all its rates have; chance alone makes it positive.

    Args:
        results: Rows of `tables.clean`.
        column: `score`, `score_movva`, or `select_score` of the rows that the rate is picked on.

    Returns:
        A row per subset that has a group with two rates or more: `methods`, `rates` (how many, at most), `best_rate`
        (of the highest mean over groups; NaN when they share no rate), `mean_range` and `largest_range` over groups in
        points, `groups`, `seeds` (the fewest in a group).
    """
    scored = results[has_score(results) & np.isfinite(results[column])]
    fixed = ["methods", "task", *ARCHITECTURE, "epochs", "sparsity", "weight_bits", "activation_bits", "distill_weight",
             "temperature", "copies"]
    rows = []
    for methods in sorted(scored["methods"].unique(), key=subset_order):
        part = scored[scored["methods"] == methods]
        groups = [_by_rate(group, column) for _, group in part.groupby(fixed, dropna=False)
                  if group["learning_rate"].nunique() > 1]
        groups = [table for table in groups if table.size]
        if groups:
            ranges = [np.ptp(table.mean(axis=1)) for table in groups]
            means = pd.concat([table.mean(axis=1) for table in groups], axis=1).dropna().mean(axis=1)
            best_rate = float(means.index[int(means.argmax())]) if len(means) else np.nan
            rows.append({"methods": methods, "rates": max(map(len, groups)), "best_rate": best_rate,
                         "mean_range": float(np.mean(ranges)),
                         "largest_range": float(np.max(ranges)), "groups": len(groups),
                         "seeds": min(table.shape[1] for table in groups)})
    return pd.DataFrame(rows, columns=["methods", "rates", "best_rate", "mean_range", "largest_range", "groups",
                                       "seeds"])


def _by_rate(group: pd.DataFrame, column: str) -> pd.DataFrame:
    """[learning rate, seed] scores, of the seeds that every rate has."""
    return group.pivot_table(index="learning_rate", columns="seed", values=column, aggfunc="mean").dropna(axis=1)
