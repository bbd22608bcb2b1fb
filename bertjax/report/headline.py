"""What the results say, in plain words: the sentence a reader with a deadline needs, and how far to trust it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bertjax.artifact.size import BYTES_PER_MB
from bertjax.report.cube import ARCHITECTURE
from bertjax.report.learned import LEARNED, unlearned, unlearned_notes
from bertjax.report.mixture import mixture_notes
from bertjax.report.tables import MEAN_TASK, SETTING, has_score, mean_over_tasks, subset_table

TOLERANCES = (0.5, 1.0)
"""Points below the uncompressed model that count as keeping its score (arXiv:2208.09684, Table 1 uses 0.5)."""

BUDGET = 0.25
"""The byte budget that is asked about, as a fraction of the uncompressed model: what int8 alone reaches."""

TUNED = ("learning_rate", "distill_weight", "temperature", "epochs")
"""Settings that change no byte of a model: of several, a reader takes the best."""

ROUNDING = 1e-9
"""Points: differences below this are floating-point noise."""


@dataclass(frozen=True)
class Headline:
    """The summary of a run."""

    sentence: str
    """The one finding."""
    support: str
    """The numbers behind it and the best model in a quarter of the bytes; "" without a baseline."""
    answers: pd.DataFrame
    """Per panel: baseline and the chosen rows as text; none where no `none` finished or nothing was learned, and the
    mean is without such tasks."""
    notes: tuple[str, ...]
    """How far the numbers can be trusted: seeds, selection, what is missing."""


def panels(results: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """`subset_table` per task; with several tasks, that of their mean first, if any setting finished them all."""
    parts = subset_table(results).groupby("task", sort=False)
    tables = {str(task): part.reset_index(drop=True) for task, part in parts}
    mean = mean_over_tasks(results) if len(tables) > 1 else results.iloc[:0]
    return tables if not has_score(mean).any() else {MEAN_TASK: subset_table(mean), **tables}


def megabytes(size_bytes: float) -> str:
    """Decimal megabytes with three digits: 4.39, 28.8, 335."""
    value = size_bytes / BYTES_PER_MB
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} MB"


def times(ratio: float) -> str:
    """A ratio as text, "8.1×"; whole from 100 up."""
    return f"{ratio:.{1 if ratio < 100 else 0}f}×"


def signed(points: float) -> str:
    """A difference in points with its sign; what rounds to 0 has none."""
    text = f"{points:+.2f}".replace("-", "−")
    return "0.00" if text[1:] == "0.00" else text


def uncompressed(table: pd.DataFrame) -> pd.Series | None:
    """The best `none` row of a panel, or None when no `none` has a score."""
    rows = table[(table["methods"] == "none") & np.isfinite(table["score_mean"])]
    return None if rows.empty else rows.iloc[int(rows["score_mean"].argmax())]


def smallest_within(table: pd.DataFrame, tolerance: float) -> pd.Series | None:
    """The smallest row below the size of the best `none` that scores at most `tolerance` less; ties go to score."""
    base = uncompressed(table)
    if base is None:
        return None
    rows = table[(table["score_mean"] >= base["score_mean"] - tolerance - ROUNDING)
                 & (table["size_bytes"] < base["size_bytes"])]
    return None if rows.empty else rows.sort_values(["size_bytes", "score_mean"], ascending=[True, False]).iloc[0]


def best_within(table: pd.DataFrame, size_bytes: float) -> pd.Series | None:
    """The best-scoring row of at most `size_bytes`; ties go to the smaller one."""
    # One part in 1,000 of slack: int8 is a quarter up to the rounding of bytes.
    rows = table[np.isfinite(table["score_mean"]) & (table["size_bytes"] <= size_bytes * 1.001)]
    return None if rows.empty else rows.sort_values(["score_mean", "size_bytes"], ascending=[False, True]).iloc[0]


def nothing_learned(table: pd.DataFrame) -> bool:
    """Whether at least 4 settings all score the same: models that always answer the same do, trained ones do not."""
    scored = table[np.isfinite(table["score_mean"])]
    same = np.ptp(scored["score_mean"]) <= ROUNDING if len(scored) >= 4 else False
    return bool(same and not (scored["score_std"] > ROUNDING).any())


def unlearned_panels(tables: Mapping[str, pd.DataFrame], constants: Mapping[str, float] | None) -> list[str]:
    """The tasks that not even the best uncompressed model has learned."""
    best = {task: base["score_mean"] for task, table in tables.items() if (base := uncompressed(table)) is not None}
    return [task for task, constant in (constants or {}).items() if best.get(task, np.inf) < constant + LEARNED]


def finding(table: pd.DataFrame) -> str:
    """The result of one panel as a short title."""
    if nothing_learned(table):
        return f"every model scores the same {table['score_mean'].max():.1f} points, as if none had learned"
    base = uncompressed(table)
    best = best_within(table, np.inf)
    if best is None:
        return "no setting has a score"
    if base is None:
        return f"{best['label']} scores best: {best['score_mean']:.1f} points in {megabytes(best['size_bytes'])}"
    for tolerance in TOLERANCES:
        row = smallest_within(table, tolerance)
        if row is not None:
            shrink = times(base["size_bytes"] / row["size_bytes"])
            return f"{row['label']} is {shrink} smaller and {_against(row, base)}"
    smaller = best_within(table, base["size_bytes"] * 0.99)
    if smaller is None:
        return f"no smaller model has a score; {best['label']} scores best: {best['score_mean']:.1f} points"
    return f"no smaller model stays within 1 point; {smaller['label']} comes closest, {_against(smaller, base)}"


def _against(row: pd.Series, base: pd.Series) -> str:
    """How a row scores against the baseline: "0.3 points below uncompressed"."""
    gap = round(row["score_mean"] - base["score_mean"], 1)
    if gap == 0:
        return "scores as well as uncompressed"
    return f"{abs(gap):.1f} points {'above' if gap > 0 else 'below'} uncompressed"


def headline(
    results: pd.DataFrame, tables: Mapping[str, pd.DataFrame] | None = None,
    constants: Mapping[str, float] | None = None,
) -> Headline:
    """The summary of all results. Never raises on missing baselines or scores: it says so.

    Args:
        results: Rows of `tables.clean`.
        tables: `panels(results)`, where the caller has it at hand.
        constants: By task, where it is known, the score of always giving the same answer.
    """
    tables = panels(results) if tables is None else tables
    name, focus = next(iter(tables.items()))
    if not has_score(results).any():
        counts = ", ".join(f"{n} {status}" for status, n in results["status"].value_counts().items())
        return Headline(f"No trial has a score yet ({counts}).", "", pd.DataFrame(), ())
    lost = unlearned(results, constants)
    alone = len(results[list(ARCHITECTURE)].drop_duplicates()) == 1
    notes = (*unlearned_notes(lost, alone), *_notes(results, tables))
    without = unlearned_panels(tables, constants)
    if without and len(without) == len({*tables} - {MEAN_TASK}):
        text = (f"No uncompressed model has learned {' or '.join(without)}, so nothing can be said about what "
                "compression costs.")
        return Headline(text, "", pd.DataFrame(), notes)
    if without:
        tables = panels(results[~results["task"].isin(without)].reset_index(drop=True))
        name, focus = next(iter(tables.items()))
    several = len(tables) > 1 or bool(without)
    where = f" on {name}" if several else ""
    if name == MEAN_TASK:
        where = f" on average over {len(tables) - 1} tasks"
    answers = _answers(tables, f"{MEAN_TASK} but {', '.join(without)}" if without else MEAN_TASK)
    if nothing_learned(focus):
        return Headline(_as_sentence(finding(focus), where), "", answers, notes)
    return Headline(_sentence(focus, where), _support(focus), answers, notes)


def _sentence(table: pd.DataFrame, where: str) -> str:
    base = uncompressed(table)
    for tolerance in TOLERANCES:
        row = smallest_within(table, tolerance)
        if base is not None and row is not None:
            return (f"{row['label']} is {times(base['size_bytes'] / row['size_bytes'])} smaller than the uncompressed "
                    f"model and within {_points(tolerance)} of its score{where}.")
    return _as_sentence(finding(table), where)


def _as_sentence(text: str, where: str) -> str:
    return f"{text[0].upper()}{text[1:]}{where}."


def _points(tolerance: float) -> str:
    return f"{tolerance:g} {'point' if tolerance == 1 else 'points'}"


def _support(table: pd.DataFrame) -> str:
    """The numbers behind the sentence, and what a quarter of the bytes buys."""
    base = uncompressed(table)
    if base is None:
        return ""
    texts = []
    smallest = next((row for tolerance in TOLERANCES if (row := smallest_within(table, tolerance)) is not None), None)
    if smallest is not None:
        texts.append(f"It is the smallest such model: {megabytes(smallest['size_bytes'])} instead of "
                     f"{megabytes(base['size_bytes'])} by paper convention A, {smallest['score_mean']:.1f} against "
                     f"{base['score_mean']:.1f} points.")
    budget = base["size_bytes"] * BUDGET
    row = best_within(table, budget)
    if row is not None:
        texts.append(f"With a quarter of the bytes to spend ({megabytes(budget)} by paper convention A), "
                     f"{row['label']} scores best: {row['score_mean']:.1f} points in {megabytes(row['size_bytes'])}.")
    return " ".join(texts)


def _answers(tables: Mapping[str, pd.DataFrame], mean: str) -> pd.DataFrame:
    rows = []
    for task, table in tables.items():
        base = uncompressed(table)
        if base is None or nothing_learned(table):
            continue
        row = {"task": mean if task == MEAN_TASK else task, "uncompressed": _cell(base, base)}
        for tolerance in TOLERANCES:
            row[f"smallest within {_points(tolerance)}"] = _cell(smallest_within(table, tolerance), base)
        row["best in ¼ of the bytes"] = _cell(best_within(table, base["size_bytes"] * BUDGET), base)
        rows.append(row)
    return pd.DataFrame(rows)


def _cell(row: pd.Series | None, base: pd.Series) -> str:
    if row is None:
        return "none of the models"
    shrink = "" if row.equals(base) else f", {times(base['size_bytes'] / row['size_bytes'])} smaller"
    name = "" if row.equals(base) else f"{row['label']}: "
    return f"{name}{row['score_mean']:.1f} points, {megabytes(row['size_bytes'])}{shrink}"


def _notes(results: pd.DataFrame, tables: Mapping[str, pd.DataFrame]) -> tuple[str, ...]:
    notes = [_seed_note(tables), *mixture_notes(results)]
    untaught = [task for task, table in tables.items() if task != MEAN_TASK and nothing_learned(table)]
    if untaught:
        notes.insert(0, f"All models score the same on {', '.join(untaught)}, as models do that always give the same "
                        "answer. Train longer, or at another learning rate.")
    lacking = [task for task, table in tables.items() if uncompressed(table) is None]
    if lacking:
        notes.append(f"No uncompressed trial (none) has a score for {', '.join(lacking)}, so differences to it cannot "
                     "be given there.")
    chosen = _chosen_on_dev(tables)
    if chosen:
        notes.append(f"Some subsets were trained at several settings ({chosen}). Picking the best of them by the dev "
                     "score that is reported flatters the pick.")
    unscored = int((~has_score(results)).sum())
    if unscored:
        notes.append(f"Without a score, and so in no mean: {unscored} of {len(results)} trials, listed below.")
    return tuple(notes)


def _chosen_on_dev(tables: Mapping[str, pd.DataFrame]) -> str:
    """What tells models apart that are of one architecture and subset and equally large, so that the best is taken.

    A grid of sparsities, bits or depths is none of that: each is a model of its own, and all are shown.
    """
    tasks = pd.concat([table[np.isfinite(table["score_mean"])] for task, table in tables.items() if task != MEAN_TASK])
    groups = tasks.groupby(["task", *(name for name in SETTING if name not in TUNED)], dropna=False)
    return ", ".join(name.replace("_", " ") for name in TUNED if (groups[name].nunique() > 1).any())


def _seed_note(tables: Mapping[str, pd.DataFrame]) -> str:
    tasks = pd.concat([table for task, table in tables.items() if task != MEAN_TASK])
    counts = tasks.loc[tasks["trials"] > 0, "trials"]
    if counts.max() == 1:
        return ("One seed per setting: no spread is known, and differences of a point or so may be chance. "
                "Run more seeds before deciding on them.")
    low, high = int(counts.min()), int(counts.max())
    seeds = f"{low} seeds" if low == high else f"{low} to {high} seeds"
    spreads = tasks.groupby("task", sort=False)["score_std"].median().dropna()
    where = ", ".join(f"±{spread:.1f} on {task}" for task, spread in spreads.items())
    return (f"Scores are means over {seeds}. The seeds of a setting spread by {where} (points, median standard "
            "deviation); differences smaller than that are not settled.")
