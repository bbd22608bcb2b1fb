"""Whether the rows of a results table can come from one study: what makes comparisons unfair is said."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from bertjax.report.provenance import setting
from bertjax.report.tables import SETTING, has_score

AXES = {
    "tasks": ("task", ""), "methods": ("methods", ""), "seeds": ("seed", ""), "sparsities": ("sparsity", "P"),
    "learning_rates": ("learning_rate", ""), "copies": ("copies", "[KA]"), "layers": ("num_hidden_layers", ""),
    "sizes": ("size", ""), "distill_weights": ("distill_weight", "K"), "temperatures": ("temperature", "K"),
    "train.epochs": ("epochs", ""),
}
"""The settings of a study that results have a column of, and the letters of the subsets it applies to."""


def mixture_notes(results: pd.DataFrame) -> tuple[str, ...]:
    """A sentence for each sign that trials of different budgets or options are compared with each other.

    Args:
        results: Rows of `tables.clean`.
    """
    scored = results[has_score(results)]
    notes = []
    epochs = sorted(scored["epochs"].dropna().unique())
    if len(epochs) > 1:
        notes.append(f"Trials of {_listed(epochs)} epochs stand side by side, each as a model of its own, so longer "
                     "training may be what wins.")
    known = scored[np.isfinite(scored["steps"])]
    # With the budget augmented_epochs more copies are more steps.
    for (task, count, *_), part in known.groupby(["task", "epochs", "methods", "copies"], sort=False):
        steps = sorted(part["steps"].unique())
        if len(steps) > 1:
            notes.append(f"On {task}, trials of {count:g} epochs took {_listed(steps)} steps: they differ in batch "
                         "size or number of rows, as in results of two studies, and are not compared like with like.")
            break
    taught = scored[scored["methods"].str.contains("K") & (scored["teacher"] != "")]
    teachers = taught.groupby(["task", "model"], sort=False)["teacher"].nunique().reset_index()
    several = teachers.loc[teachers["teacher"] > 1, "task"].unique()
    if len(several):
        notes.append(f"On {', '.join(several)}, trials with K of one model learned from several teachers, as in "
                     "results of two studies: the better teacher may be what wins.")
    keys = scored[["task", *SETTING, "seed"]].astype(str)
    repeated = int(keys.duplicated().sum())
    if repeated:
        notes.append(f"{repeated} of {len(scored)} trials repeat the setting and seed of another one in all columns of "
                     "results.csv, so an option without a column differs; their scores are averaged.")
    return tuple(notes)


def study_notes(
    results: pd.DataFrame, study: Mapping[str, Any], folders: Collection[str] | None = None
) -> tuple[str, ...]:
    """A sentence for the trials that the study at hand does not have, and one for those that it did not train.

    Args:
        results: Rows of `tables.clean`, with the learning rates they were trained at.
        study: `study.json`; empty where it is not at hand.
        folders: The trials whose folders the run directory has; None where it keeps none.
    """
    notes, outside, reasons = [], pd.Series(False, results.index), []
    for axis, (column, letters) in AXES.items():
        values = setting(study, axis)
        if values in (None, []):
            continue
        applies = results["methods"].str.contains(letters) & results[column].map(_known)
        allowed = {_text(value) for value in (values if isinstance(values, list) else [values])}
        wrong = applies & ~results[column].map(_text).isin(allowed)
        if wrong.any():
            outside |= wrong
            found = dict.fromkeys(results.loc[wrong, column].map(_text))
            reasons.append(f"{column.replace('_', ' ')} {', '.join(found)}")
    if reasons:
        notes.append(f"{outside.sum()} of {len(results)} trials are not of the study in study.json "
                     f"({'; '.join(reasons)}): they are of a former sweep into this directory, or of another study.")
    strange = 0 if not folders else int((~results["trial_id"].isin(list(folders))).sum())
    if strange:
        notes.append(f"{strange} of {len(results)} trials have no folder in trials/, as if their rows had been copied "
                     "from another study, whose data and options may differ.")
    return tuple(notes)


def _known(value: Any) -> bool:
    return value != "" and value == value  # NaN never equals itself


def _text(value: Any) -> str:
    """Numbers by value: 3 and 3.0 are one."""
    return value if isinstance(value, str) else f"{value:.12g}"


def _listed(values: list[float]) -> str:
    *most, last = [f"{value:g}" for value in values]
    return f"{', '.join(most)} and {last}"
