"""The model to take under a limit of megabytes, milliseconds or lost points, and why not the next one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bertjax.artifact.size import BYTES_PER_MB
from bertjax.config import require
from bertjax.report.bootstrap import Predictions, resample, with_interval
from bertjax.report.cube import score_cube
from bertjax.report.tables import SETTING, labels

UNITS = {"mb": "MB packed", "ms": "ms", "drop": "points lost"}


@dataclass(frozen=True)
class Limits:
    """What a model may cost; None is no limit."""

    mb: float | None = None
    """Decimal megabytes of the packed file."""
    ms: float | None = None
    """Milliseconds."""
    drop: float | None = None
    """Points below the uncompressed model."""

    def __post_init__(self) -> None:
        require(any(limit is not None for limit in (self.mb, self.ms, self.drop)),
                "a pick needs a limit; give --max-mb, --max-ms or --max-drop")
        for name in ("mb", "ms"):
            limit = getattr(self, name)
            require(limit is None or limit > 0, f"--max-{name} must be above 0, got {limit}")
        require(self.drop is None or self.drop >= 0, f"--max-drop must not be negative, got {self.drop}")


@dataclass(frozen=True)
class Pick:
    """A model, as a row of `candidates`, and the better one that comes closest to the limits."""

    row: pd.Series
    next: pd.Series | None
    """None where no model is better."""
    why_not: str
    """What keeps `next` out, e.g. "69.6 MB packed, above 12"."""


def candidates(
    results: pd.DataFrame, predictions: Predictions | None = None, milliseconds: Mapping[str, float] | None = None
) -> pd.DataFrame:
    """The settings of one task, one a row, with what limits are about.

    Columns: those of `tables.SETTING`, `label`, `score` (mean over seeds), `low` and `high` (95 %, see
    `bootstrap.resample`), `mb` (mean size of the packed files), `ms` (mean of the seeds that were measured), `drop`
    (points below the best uncompressed model), `trial_ids` (a list, the best selection score first where there is one,
    else the lowest seed) and `scores` (of each). What is not known is NaN.

    Args:
        results: Rows of `tables.clean` of one task, at least one with a score.
        predictions: Of its trials, for intervals that cover the chance of the dev rows.
        milliseconds: By trial_id.
    """
    require(results["task"].nunique() == 1, f"one task must be picked for, got {', '.join(results['task'].unique())}; "
                                            "give --task")
    cube = score_cube(results)
    require(len(cube.models) > 0, "there must be a trial with a score to pick, got none")
    known, known_times = results.set_index("trial_id"), milliseconds or {}
    rows = []
    for model in range(len(cube.models)):
        trials = known.loc[cube.trials.loc[cube.trials["model"] == model, "trial_id"]].sort_values(
            ["select_score", "seed"], ascending=[False, True])
        times = [known_times[trial_id] for trial_id in trials.index if trial_id in known_times]
        rows.append({"score": cube.seed_means[0, model], "mb": trials["size_bytes_disk"].mean() / BYTES_PER_MB,
                     "ms": float(np.mean(times)) if times else np.nan, "trial_ids": list(trials.index),
                     "scores": list(trials["score"])})
    table = pd.concat([cube.models[[*SETTING, "size_bytes_fp32"]], pd.DataFrame(rows)], axis=1)
    table = table.assign(task=results["task"].iloc[0])
    table["label"] = labels(table)
    whole = table.loc[table["methods"] == "none", "score"].max()  # NaN without any
    table["drop"] = whole - table["score"]
    drawn = resample(cube, predictions)
    return with_interval(table, [drawn.scores[:, 0, model] for model in range(len(table))], drawn)


def pick(table: pd.DataFrame, limits: Limits) -> Pick | None:
    """The best-scoring candidate under limits of megabytes or milliseconds; without these the smallest. None: no one.

    Of equal ones the smaller or the better. A candidate whose size, time or loss is not known is not within a limit
    of it.
    """
    by_score = limits.mb is not None or limits.ms is not None
    ranked = table.sort_values(["score", "mb"] if by_score else ["mb", "score"], ascending=[not by_score, by_score],
                               kind="stable", na_position="last")
    within = ranked[[not excess(row, limits) for _, row in ranked.iterrows()]]
    if within.empty:
        return None
    row = within.iloc[0]
    better = ranked.loc[:row.name].iloc[:-1]
    if better.empty:
        return Pick(row, None, "")
    near = closest(better, limits)
    return Pick(row, near, " and ".join(excess(near, limits)))


def closest(table: pd.DataFrame, limits: Limits) -> pd.Series:
    """The candidate that overruns the limits least."""
    return table.iloc[int(np.argmin([_overrun(row, limits) for _, row in table.iterrows()]))]


def excess(row: pd.Series, limits: Limits) -> list[str]:
    """The limits that a candidate breaks, each in words."""
    broken = []
    for name, unit in UNITS.items():
        limit, value = getattr(limits, name), row[name]
        if limit is None:
            continue
        if not np.isfinite(value):
            broken.append(f"an unknown number of {unit}")
        elif value > limit + 1e-9:
            broken.append(f"{value:.3g} {unit}, above {limit:g}")
    return broken


def _overrun(row: pd.Series, limits: Limits) -> float:
    """How many times a candidate takes what it may, of the limit that it breaks most."""
    ratios = [row[name] / max(limit, 1e-9) for name in UNITS if (limit := getattr(limits, name)) is not None]
    return float(np.nan_to_num(ratios, nan=np.inf).max())
