"""Results as tables: one row per setting with its spread over seeds, its distance to `none` and its size.

Every function takes the rows of `results.csv` as a DataFrame and returns a new one. Scores are in points (0 to 100),
sizes in bytes by the convention of arXiv:2208.09684 (`bertjax.artifact.size.size_bytes_paper`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bertjax.config import SIZES, InputError
from bertjax.study import AUGMENTED, METHODS
from bertjax.sweep.results import ADDED_COLUMNS, RESULT_COLUMNS, TEXT_COLUMNS

SETTING = ("model", "size", "num_hidden_layers", "methods", "sparsity", "weight_bits", "activation_bits",
           "distill_weight", "temperature", "copies", "learning_rate", "epochs")
"""What is the same for all seeds and tasks of one compressed model."""

ORDER = (*METHODS, *AUGMENTED)
"""Subsets in the order of every table."""

BASELINE_MATCH = ("task", "model", "size", "num_hidden_layers", "learning_rate", "epochs")
"""A setting is compared with the `none` that has these in common with it."""

MEAN_TASK = "mean over tasks"
"""Name of the extra panel when a study has several tasks."""


def clean(results: pd.DataFrame) -> pd.DataFrame:
    """Checks the columns and gives them their types; blanks of numbers become NaN, those of text become "".

    Sparsity and distill_weight without P and K are 0, temperature without K is 1, however they were written.

    Raises:
        InputError: A column is missing, there is no row, `methods` holds an unknown word, or two rows that differ have
            the same trial_id (rows that are equal count once).
    """
    results = results.assign(**{name: value for name, value in ADDED_COLUMNS.items() if name not in results.columns})
    missing = [name for name in RESULT_COLUMNS if name not in results.columns]
    if missing:
        raise InputError(f"results must have the columns of a sweep's results.csv; missing: {', '.join(missing)}")
    if results.empty:
        raise InputError("results must have at least one trial, got none: run `bertjax sweep` first")
    table = results.reset_index(drop=True).copy()
    for name in RESULT_COLUMNS:
        if name in TEXT_COLUMNS:
            table[name] = table[name].astype(object).where(table[name].notna(), "").astype(str)
        else:
            table[name] = pd.to_numeric(table[name], errors="coerce").astype(float)
    unknown = sorted(set(table["methods"]) - set(ORDER))
    if unknown:
        raise InputError(f"methods must be one of {', '.join(ORDER)}; got {', '.join(map(repr, unknown))}")
    table = table.fillna({"sparsity": 0.0, "distill_weight": 0.0, "temperature": 1.0, "copies": 0.0})
    table = table.drop_duplicates(list(RESULT_COLUMNS)).reset_index(drop=True)
    twice = table.loc[table["trial_id"].duplicated(), "trial_id"].unique()
    if len(twice):
        raise InputError(f"every trial must have one result; {len(twice)} trial_id have rows that differ, the first is "
                         f"{twice[0]}: report the studies one by one, or remove the older rows")
    return table


def has_score(results: pd.DataFrame) -> pd.Series:
    """True for trials that ended with status `done` and a finite score; only these enter any mean."""
    return (results["status"] == "done") & np.isfinite(results["score"])


def pareto_front(table: pd.DataFrame, size: str = "size_bytes", score: str = "score_mean") -> pd.Series:
    """True for rows that no other row beats, that is, is no larger and scores no worse, and strictly so in one of them.

    Rows equal in both are all on the front; rows with NaN in either are never.
    """
    sizes, scores = table[size].to_numpy(float), table[score].to_numpy(float)
    known = np.isfinite(sizes) & np.isfinite(scores)
    front = known.copy()
    for i in np.flatnonzero(known):
        as_good = known & (sizes <= sizes[i]) & (scores >= scores[i])
        front[i] = not np.any(as_good & ((sizes < sizes[i]) | (scores > scores[i])))
    return pd.Series(front, index=table.index)


def mean_over_tasks(results: pd.DataFrame) -> pd.DataFrame:
    """One row per setting and seed: the mean score over all tasks; without one where a task has no score.

    The rows look like those of `clean`, so that `subset_table` takes them: the task is `MEAN_TASK`, `trial_id` lists
    the trials of the mean, and the status of a seed that lacks a task is `incomplete`.
    """
    tasks = results["task"].nunique()
    rows = []
    for _, group in results.groupby([*SETTING, "seed"], dropna=False, sort=False):
        scored = group[has_score(group)]
        mean = group[["size_bytes_fp32", "size_bytes_paper"]].mean().to_dict()
        if scored["task"].nunique() == tasks:
            mean |= scored.groupby("task")[["score", "score_movva"]].mean().mean().to_dict() | {"status": "done"}
        else:
            mean |= {"score": np.nan, "score_movva": np.nan, "status": "incomplete"}
        rows.append({**group.iloc[0].to_dict(), **mean, "task": MEAN_TASK, "trial_id": " ".join(scored["trial_id"])})
    return pd.DataFrame(rows, columns=list(results.columns))


def subset_table(results: pd.DataFrame) -> pd.DataFrame:
    """One row per task (in the order of the results) and setting (by model size, then in the order of `ORDER`).

    Columns: task, those of `SETTING`, `label`, and
      trials, unscored: how many trials entered the means, and how many have no score (diverged, failed, NaN);
      trial_ids: those that did, separated by spaces;
      score_mean, score_std: points; the sample standard deviation over seeds, NaN with a single seed;
      score_movva_mean: the same with accuracy wherever the task has it;
      delta: mean over the seeds both have of the difference to the matching `none`, points; NaN without one;
      size_bytes, size_ratio: by the papers' convention, and how many times smaller than the same model in fp32;
      on_front: whether the row is on the Pareto front of its task.
    """
    rows = []
    for key, group in results.groupby(["task", *SETTING], dropna=False, sort=False):
        scored = group[has_score(group)]
        seeds = scored.groupby("seed")["score"].mean()
        rows.append({
            **dict(zip(("task", *SETTING), key, strict=True)),
            "trials": len(scored), "unscored": len(group) - len(scored),
            "score_mean": seeds.mean(), "score_std": seeds.std(ddof=1),
            "score_movva_mean": scored["score_movva"].mean(), "seeds": seeds, "trial_ids": " ".join(scored["trial_id"]),
            "size_bytes": group["size_bytes_paper"].mean(),
            "size_ratio": group["size_bytes_fp32"].mean() / group["size_bytes_paper"].mean(),
            "size_bytes_fp32": group["size_bytes_fp32"].mean(),
        })
    columns = ["task", *SETTING, "trials", "unscored", "score_mean", "score_std", "score_movva_mean", "trial_ids",
               "seeds", "size_bytes", "size_ratio", "size_bytes_fp32"]
    table = in_order(pd.DataFrame(rows, columns=columns))
    table["delta"] = _differences(table)
    table["label"] = labels(table)
    table["on_front"] = False
    for _, part in table.groupby("task"):
        table.loc[part.index, "on_front"] = pareto_front(part)
    return table.drop(columns="seeds")


def _differences(table: pd.DataFrame) -> list[float]:
    """Per row, the mean over common seeds of its score minus that of the matching `none`."""
    none = table[table["methods"] == "none"]
    # NaN never equals NaN, so keys are compared as text.
    baselines = {_key(row): row["seeds"] for _, row in none.iterrows()}
    return [(row["seeds"] - baselines.get(_key(row), pd.Series(dtype=float))).mean() for _, row in table.iterrows()]


def _key(row: pd.Series) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in BASELINE_MATCH)


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Sorted by first appearance of the task, size of the uncompressed model, METHODS, then the rest; numbered anew."""
    order = table.assign(
        _task=table["task"].map({name: i for i, name in enumerate(table["task"].unique())}),
        _named=table["size"].map({name: i for i, name in enumerate(SIZES)}),
        _methods=table["methods"].map({name: i for i, name in enumerate(ORDER)}),
    ).sort_values(["_task", "_named", "size_bytes_fp32", "model", "_methods", "sparsity", "weight_bits",
                   "distill_weight", "temperature", "copies", "learning_rate"], kind="stable").index
    return table.loc[order].reset_index(drop=True)


def varying(table: pd.DataFrame) -> list[str]:
    """Columns of `SETTING` besides `methods` that have several values where they apply (sparsity: in rows with P)."""
    applies = {"sparsity": "P", "weight_bits": "Q", "activation_bits": "Q", "distill_weight": "K", "temperature": "K",
               "copies": "K|A"}
    found = []
    for name in SETTING:
        rows = table[table["methods"].str.contains(applies[name])] if name in applies else table
        if name != "methods" and rows[name].map(str).nunique() > 1:
            found.append(name)
    if "size" in found:
        found = [name for name in found if name != "num_hidden_layers"]
    if "model" in found and table[["model", "size"]].drop_duplicates().shape[0] == table["size"].nunique():
        found.remove("model")
    return found


def setting_text(name: str, row: Mapping[Any, Any]) -> str:
    """One setting in plain words ("60 % zeros"), or "" where it does not apply to the row's methods."""
    value, methods = row[name], row["methods"]
    if name == "sparsity":
        return f"{100 * value:.4g} % zeros" if "P" in methods else ""
    if name in ("weight_bits", "activation_bits"):
        return f"{value:.0f}-bit {name.split('_')[0]}s" if "Q" in methods and np.isfinite(value) else ""
    if name in ("distill_weight", "temperature"):
        return f"{name.replace('_', ' ')} {value:g}" if "K" in methods else ""
    if name == "copies":
        return f"{value:.0f} {'copy' if value == 1 else 'copies'}" if set(methods) & set("KA") else ""
    if name == "learning_rate":
        return f"lr {value:g}"
    if name in ("epochs", "num_hidden_layers"):
        return f"{value:.0f} {'epochs' if name == 'epochs' else 'layers'}" if np.isfinite(value) else ""
    return str(value)


def labels(table: pd.DataFrame) -> list[str]:
    """The methods of each row, followed by whatever else tells the rows apart: "QKP (60 % zeros)"."""
    names = varying(table)
    texts = []
    for row in table.to_dict("records"):
        rest = ", ".join(text for name in names if (text := setting_text(name, row)))
        texts.append(f"{row['methods']} ({rest})" if rest else row["methods"])
    return texts


def curve_table(results: pd.DataFrame, metrics: Mapping[str, Sequence[Mapping[str, Any]]]) -> pd.DataFrame:
    """Mean over seeds per epoch of each subset; of a subset with several settings, the one that scores best at the end.

    Args:
        results: Rows of `clean`.
        metrics: Per `trial_id` the records of its `metrics.json`. Trials without any are left out.

    Returns:
        Rows of task, methods, label, epoch, trials, train_loss, score (dev, points). A subset whose trials have no
        score at the end is drawn by its first setting.
    """
    table = subset_table(results)
    best = table.sort_values("score_mean", ascending=False, kind="stable", na_position="last")
    best = best.drop_duplicates(["task", "methods"]).sort_index()
    rows = []
    for setting in best.to_dict("records"):
        same = results["task"] == setting["task"]
        for name in SETTING:
            same &= results[name].map(str) == str(setting[name])
        for trial_id in results.loc[same, "trial_id"]:
            rows += [{"task": setting["task"], "methods": setting["methods"], "label": setting["label"],
                      "epoch": record.get("epoch"), "train_loss": record.get("train_loss"),
                      "score": record.get("score"), "trials": trial_id} for record in metrics.get(trial_id, ())]
    curves = pd.DataFrame(rows, columns=["task", "methods", "label", "epoch", "train_loss", "score", "trials"])
    for name in ("epoch", "train_loss", "score"):
        curves[name] = pd.to_numeric(curves[name], errors="coerce").astype(float)
    return curves.replace([np.inf, -np.inf], np.nan).groupby(
        ["task", "methods", "label", "epoch"], sort=False, as_index=False
    ).agg(trials=("trials", "nunique"), train_loss=("train_loss", "mean"), score=("score", "mean"))
