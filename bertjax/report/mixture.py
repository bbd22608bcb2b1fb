"""Whether the rows of a results table can come from one study: what makes comparisons unfair is said."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bertjax.report.tables import SETTING, has_score


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
    for (task, count, _), part in known.groupby(["task", "epochs", "methods"], sort=False):
        steps = sorted(part["steps"].unique())
        if len(steps) > 1:
            notes.append(f"On {task}, trials of {count:g} epochs took {_listed(steps)} steps: they differ in batch "
                         "size or number of rows, as in results of two studies, and are not compared like with like.")
            break
    keys = scored[["task", *SETTING, "seed"]].astype(str)
    repeated = int(keys.duplicated().sum())
    if repeated:
        notes.append(f"{repeated} of {len(scored)} trials repeat the setting and seed of another one in all columns of "
                     "results.csv, so an option without a column differs; their scores are averaged.")
    return tuple(notes)


def _listed(values: list[float]) -> str:
    *most, last = [f"{value:g}" for value in values]
    return f"{', '.join(most)} and {last}"
