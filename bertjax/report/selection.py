"""Which learning rate a study takes for each subset, and on what rows that was decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bertjax.report.tables import SETTING, has_score

UP_TO_RATE = ("task", *(name for name in SETTING if name != "learning_rate"))
"""What trials have in common among which a learning rate is picked."""


@dataclass(frozen=True)
class Selection:
    """The trials that a report is about."""

    results: pd.DataFrame
    """Rows of `tables.clean`; where rates were picked, `learning_rate` is NaN: the best of those tried."""
    picks: pd.DataFrame
    """`UP_TO_RATE`, the picked `learning_rate`, the number of `rates`, `select_score`; empty if none was picked."""
    notes: tuple[str, ...]
    """What was picked where, for the reader."""


def select_rates(results: pd.DataFrame, study: Mapping[str, Any]) -> Selection:
    """Of each setting's learning rates, the one with the highest mean over seeds on the rows that selection goes by.

    These are a held-out slice of the training rows (`select_score`), or with the study's `select_on` of "dev" the dev
    rows that are reported too. A study that has neither keeps all its rates. Rates at which fewer seeds have a score
    than at others are not picked; where no seed has one at any rate, all trials stay.

    Args:
        results: Rows of `tables.clean`.
        study: `study.json`; empty where it is not at hand.
    """
    on_dev = study.get("select_on") == "dev"
    notes = _epoch_notes(results, on_dev)
    column = "score" if on_dev else "select_score"
    known = has_score(results) & np.isfinite(results[column])
    if results["learning_rate"].nunique() < 2 or not known.any():
        return Selection(results, pd.DataFrame(), notes)
    keyed = results.assign(**{name: results[name].map(str) for name in UP_TO_RATE})  # NaN never equals NaN
    kept, picks = [], []
    for _, part in keyed.groupby(list(UP_TO_RATE), sort=False):
        scores = part[known[part.index]].groupby("learning_rate")[column].agg(["count", "mean"])
        if scores.empty:
            kept += list(part.index)
            continue
        # A rate at which seeds diverged is no better for the seed that was lucky.
        means = scores.loc[scores["count"] == scores["count"].max(), "mean"]
        rate = float(means.index[int(means.argmax())])
        kept += list(part.index[part["learning_rate"] == rate])
        picks.append({**results.loc[part.index[0], list(UP_TO_RATE)].to_dict(), "learning_rate": rate,
                      "rates": part["learning_rate"].nunique(), "select_score": means.max()})
    where = ("the dev rows that are reported here, as the papers do: the scores flatter, more so with more rates"
             if on_dev else "training rows that no trial of this study was trained on; the dev rows had no part in it")
    notes = (f"For each subset and task the best of {results['learning_rate'].nunique()} learning rates was picked on "
             f"{where}. The picks are in report/selected_rates.csv.", *notes)
    chosen = results.loc[sorted(kept)].assign(learning_rate=np.nan).reset_index(drop=True)
    return Selection(chosen, pd.DataFrame(picks), notes)


def _epoch_notes(results: pd.DataFrame, on_dev: bool) -> tuple[str, ...]:
    if not np.isfinite(results["selected_epoch"]).any():
        return ()
    where = "on the dev rows that are reported here: the scores flatter" if on_dev else "on held-out training rows"
    return (f"Every trial is its best epoch, picked {where}.",)
