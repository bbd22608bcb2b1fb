"""Results as arrays: the score of every model, on every task, by every seed, for statistics in a few lines."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from bertjax.report.tables import SETTING, has_score, in_order

ARCHITECTURE = ("model", "size", "num_hidden_layers")
"""What makes an uncompressed model; all else in `SETTING` is how it was compressed and trained."""

LETTERS = "QKAP"
"""The order of letters in names of subsets; others follow by the alphabet."""


@dataclass(frozen=True)
class Cube:
    """The scores of a study. A *model* is one value of `tables.SETTING`: architecture, subset and hyperparameters."""

    tasks: tuple[str, ...]
    models: pd.DataFrame
    """A row per model with a score, in the order of the tables: `SETTING`, `size_bytes`, `size_bytes_fp32`, and
    `architecture`, the row of `architectures` that it is a copy of."""
    architectures: pd.DataFrame
    """`ARCHITECTURE`, `size_bytes_fp32` and `name`, the size's name where that tells them apart."""
    scores: np.ndarray
    """[task, model, seed] points; NaN where there is no score."""
    trials: pd.DataFrame
    """A row per trial: `trial_id`, `score`, and its place in `scores`, the columns task, model and seed."""
    learned: np.ndarray
    """[task, architecture] whether the uncompressed model is known to be better than a constant answer, or nothing is
    known about that; see `learned.unlearned`."""

    @cached_property
    def subsets(self) -> tuple[str, ...]:
        """The subsets that have a model, in the order of the tables."""
        return tuple(sorted(set(self.models["methods"]), key=subset_order))

    def rows(self, methods: str, architecture: int | None = None) -> np.ndarray:
        """Indices of a subset's models, those of one architecture or of all."""
        chosen = (self.models["methods"] == methods).to_numpy()
        if architecture is not None:
            chosen = chosen & (self.models["architecture"] == architecture).to_numpy()
        return np.flatnonzero(chosen)

    @cached_property
    def seed_means(self) -> np.ndarray:
        """[task, model]: the mean over the seeds that have a score; NaN without any."""
        return mean_known(self.scores, axis=-1)

    @cached_property
    def task_means(self) -> np.ndarray:
        """[model]: the mean of `seed_means` over all tasks; NaN where a task lacks it."""
        return self.seed_means.mean(axis=0)


def score_cube(results: pd.DataFrame, column: str = "score", unlearned: pd.DataFrame | None = None) -> Cube:
    """The scores of results.

    Args:
        results: Rows of `tables.clean`.
        column: `score` or `score_movva`. A setting that was trained twice with one seed counts by the mean.
        unlearned: Of `learned.unlearned`; None: all have learned.
    """
    scored = results[has_score(results) & np.isfinite(results[column])]
    keyed = scored.assign(**{name: scored[name].map(str) for name in SETTING})  # NaN never equals NaN
    first = keyed.drop_duplicates(list(SETTING)).index
    models = in_order(scored.loc[first].rename(columns={"size_bytes_paper": "size_bytes"}).assign(task=""))
    models = models[[*SETTING, "size_bytes", "size_bytes_fp32"]]
    architectures = _architectures(models)
    models["architecture"] = _places(models, architectures, ARCHITECTURE)
    tasks, seeds = tuple(scored["task"].unique()), np.unique(scored["seed"])
    trials = pd.DataFrame({
        "trial_id": scored["trial_id"], "score": scored[column],
        "task": scored["task"].map({name: i for i, name in enumerate(tasks)}),
        "model": _places(scored, models, SETTING), "seed": np.searchsorted(seeds, scored["seed"]),
    }).reset_index(drop=True)
    sums, counts = np.zeros((2, len(tasks), len(models), len(seeds)))
    at = tuple(trials[name].to_numpy(int) for name in ("task", "model", "seed"))
    np.add.at(sums, at, scored[column].to_numpy())
    np.add.at(counts, at, 1)
    scores = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    learned = np.ones((len(tasks), len(architectures)), bool)
    for row in [] if unlearned is None else unlearned.to_dict("records"):
        same = np.array([key == tuple(str(row[name]) for name in ARCHITECTURE)
                         for key in keys_of(architectures, ARCHITECTURE)], bool)
        learned[np.ix_([task == row["task"] for task in tasks], same)] = False
    return Cube(tasks, models, architectures, scores, trials, learned)


def mean_known(values: np.ndarray, axis: int, weights: np.ndarray | float = 1.0) -> np.ndarray:
    """The weighted mean along an axis over values that are not NaN; NaN where none has weight."""
    known = np.isfinite(values) * weights
    total = known.sum(axis)
    return np.where(total > 0, (np.nan_to_num(values) * known).sum(axis) / np.where(total > 0, total, 1), np.nan)


def subset_order(methods: str) -> tuple[int, list[tuple[int, str]], str]:
    """Sorts `none` first, then by the number of letters, in the order of `LETTERS`, and by what follows the letters."""
    letters, _, rest = methods.partition(" ")
    return (0, [], rest) if letters == "none" else (len(letters), [letter_order(letter) for letter in letters], rest)


def letter_order(letter: str) -> tuple[int, str]:
    """Sorts letters in the order of `LETTERS`."""
    return (f"{LETTERS}{letter}".index(letter), letter)


def subset_name(letters: str | frozenset[str]) -> str:
    """The name of a set of letters: `QK`, or `none` for the empty one."""
    return "".join(sorted(letters, key=letter_order)) or "none"


def letters_of(methods: str) -> frozenset[str]:
    """The letters of a subset, or of an arm such as `K (2 copies)`; `none` has none."""
    letters, _, _ = methods.partition(" ")
    return frozenset() if letters == "none" else frozenset(letters)


def arms(results: pd.DataFrame) -> pd.Series:
    """The subset of each trial, with the number of its augmented copies where a subset was trained with several."""
    several = results.groupby("methods")["copies"].transform("nunique") > 1
    counts = [f" ({copies:.0f} {'copy' if copies == 1 else 'copies'})" for copies in results["copies"]]
    return results["methods"].where(~several, results["methods"] + counts)


def most_copies(results: pd.DataFrame) -> pd.DataFrame:
    """The results without the trials whose subset was also trained with more augmented copies."""
    return results[results["copies"] == results.groupby("methods")["copies"].transform("max")].reset_index(drop=True)


def _architectures(models: pd.DataFrame) -> pd.DataFrame:
    table = models[[*ARCHITECTURE, "size_bytes_fp32"]].drop_duplicates(list(ARCHITECTURE)).reset_index(drop=True)
    twice = table["size"].duplicated(keep=False)
    return table.assign(name=table["size"].where(~twice, table["size"] + " " + table["model"]))


def _places(rows: pd.DataFrame, table: pd.DataFrame, columns: tuple[str, ...]) -> list[int]:
    """For each row, the row of `table` with the same columns, as text."""
    places = {key: i for i, key in enumerate(keys_of(table, columns))}
    return [places[key] for key in keys_of(rows, columns)]


def keys_of(table: pd.DataFrame, columns: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The columns of each row as text, as NaN never equals NaN."""
    return list(zip(*(table[name].map(str) for name in columns), strict=True))
