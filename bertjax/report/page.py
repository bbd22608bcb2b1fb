"""Reads a run directory and writes `report.html`, one file that opens offline, with its plots and tables beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
import vl_convert
from markupsafe import Markup

from bertjax.artifact.size import BYTES_PER_MB
from bertjax.files import write_bytes
from bertjax.report.analysis import analyse, analysis_tables
from bertjax.report.comparison import compare, compare_means
from bertjax.report.comparison_sections import comparison_section, means_section
from bertjax.report.curves import curve_figures
from bertjax.report.headline import TOLERANCES, Headline, headline, megabytes, panels, signed, times, unlearned_panels
from bertjax.report.image import png
from bertjax.report.mixture import study_notes
from bertjax.report.plots import MARKS, Figure, spec, tradeoff_figures
from bertjax.report.predictions import constant_scores, read_predictions
from bertjax.report.provenance import command, study_rows, versions
from bertjax.report.reading import read_json, read_results, read_study
from bertjax.report.sections import Section, sections_of
from bertjax.report.selection import select_rates
from bertjax.report.speed import speed_section
from bertjax.report.tables import (
    MEAN_TASK,
    SETTING,
    curve_table,
    has_score,
    setting_text,
    varying,
)
from bertjax.study import METHODS
from bertjax.sweep.latency_file import latency_rows
from bertjax.sweep.results import RESULT_COLUMNS, TEXT_COLUMNS

SVG_SHAPES = {
    "circle": '<circle cx="8" cy="8" r="5.2"/>', "square": '<rect x="3" y="3" width="10" height="10"/>',
    "triangle-up": '<path d="M8 2.6 14 13H2Z"/>', "triangle-down": '<path d="M8 13.4 2 3H14Z"/>',
    "cross": '<path d="M6 2h4v4h4v4h-4v4H6v-4H2V6h4Z"/>', "diamond": '<path d="M8 1.6 14.4 8 8 14.4 1.6 8Z"/>',
}
"""The shapes of the charts, for the legend and the tables of the page (16 by 16)."""

NEAR = 5.0
"""Points below the lowest model down to which always giving the same answer is drawn."""

SIZE_TITLES = {"size_bytes_fp32": "fp32 MB", "size_bytes_paper": "size MB (paper)", "size_bytes_disk": "file MB",
               "size_bytes_entropy": "entropy MB"}
"""The sizes of the table of trials, each by its convention; see `bertjax.sweep.results.RESULT_COLUMNS`."""

TITLES = {"score_against_size": "Score against size", "learning_curves": "Learning curves"}
"""The figures that every study has, by the name of their PNG."""


def write_report(run_dir: Path) -> Path:
    """Writes `report.html` in `run_dir`, and PNG (twice the page's resolution) and CSV files in `run_dir/report`.

    Needs `results.csv`; `teachers.csv`, `study.json`, `latency.csv` and the trials' `metrics.json` are used where there
    are any.

    Raises:
        InputError: There is no `results.csv`, or it has no trial, lacks a column or is not a table.
    """
    results = read_results(run_dir / "results.csv")
    teachers = read_results(run_dir / "teachers.csv") if (run_dir / "teachers.csv").exists() else results.iloc[:0]
    study = read_study(run_dir)
    metrics = {trial_id: read_json(path) for trial_id in results["trial_id"]
               if (path := run_dir / "trials" / trial_id / "metrics.json").exists()}
    selection = select_rates(results, study)
    chosen = selection.results
    tables = panels(chosen)
    predictions = read_predictions(run_dir, chosen)
    constants = constant_scores(predictions, chosen)
    summary = headline(chosen, tables, constants)
    folders = {path.name for path in (run_dir / "trials").glob("*")}
    summary = replace(summary, notes=(*selection.notes, *summary.notes, *study_notes(results, study, folders)))
    curves = curve_table(chosen, metrics)
    figures = {"score_against_size": tradeoff_figures(chosen, tables, references(teachers, constants, tables),
                                                      unlearned_panels(tables, constants)),
               "learning_curves": curve_figures(curves, chosen)}
    analysis = analyse(chosen, predictions, every_rate=results, constants=constants)
    comparison = compare(chosen, constants)
    means = compare_means(chosen, constants) if comparison is None else None
    sections = [] if analysis is None else sections_of(analysis)
    speed = speed_section(latency_rows(run_dir), chosen)
    if speed is not None:
        sections.insert(0, speed)
    if comparison is not None:
        sections.append(comparison_section(comparison, figures["score_against_size"][:1]))
    if means is not None:
        sections.append(means_section(means))
    csv = {"subsets": pd.concat(tables.values()).drop(columns="label"), "answers": summary.answers, "curves": curves,
           **analysis_tables(analysis, comparison, means)}
    if len(selection.picks):
        csv["selected_rates"] = selection.picks
    write_folder(run_dir / "report", figures, csv, sections, study.get("name", "study"), results)
    html = render(results, teachers, study, summary, tables, figures, sections, run_dir)
    write_bytes(run_dir / "report.html", html.encode())
    return run_dir / "report.html"


def write_folder(
    folder: Path, figures: Mapping[str, list[Figure]], csv: Mapping[str, pd.DataFrame], sections: list[Section],
    name: str, results: pd.DataFrame,
) -> None:
    """Writes the figures of the page as PNG and its tables as CSV."""
    folder.mkdir(exist_ok=True)
    own = set(results["methods"])
    images = [(file, TITLES[file], group, own) for file, group in figures.items()]
    images += [(section.file, section.title, list(section.figures), set(METHODS)) for section in sections]
    for file, title, group, methods in images:
        if group:
            write_bytes(folder / f"{file}.png", png(group, f"{name}: {title}", methods))
    for file, table in csv.items():
        write_bytes(folder / f"{file}.csv", table.to_csv(index=False).encode())


def references(
    teachers: pd.DataFrame, constants: Mapping[str, float], tables: Mapping[str, pd.DataFrame]
) -> dict[str, dict[str, float]]:
    """Scores per panel to compare with: the best teacher's, and that of always giving the same answer.

    The latter only where it is not far below all models. For the mean over tasks there is one when every task has one.
    """
    taught = teachers[has_score(teachers)].groupby("task")["score"].max().to_dict()
    tasks = [task for task in tables if task != MEAN_TASK]
    made = {}
    for name, scores in (("teacher", taught), ("always the same answer", constants)):
        scores = {task: scores[task] for task in tasks if task in scores}
        if MEAN_TASK in tables and len(scores) == len(tasks):
            scores[MEAN_TASK] = float(np.mean(list(scores.values())))
        made[name] = scores
    made["always the same answer"] = {
        panel: score for panel, score in made["always the same answer"].items()
        if score > tables[panel]["score_mean"].min() - NEAR}
    return made


def render(
    results: pd.DataFrame, teachers: pd.DataFrame, study: Mapping[str, Any], summary: Headline,
    tables: Mapping[str, pd.DataFrame], figures: Mapping[str, list[Figure]], sections: list[Section], run_dir: Path,
) -> str:
    """The page as HTML. Everything it shows is inside it."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True,
                                     trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    drawn = [*figures["score_against_size"], *(figure for section in sections for figure in section.figures),
             *figures["learning_curves"]]  # in the order of the page
    return environment.get_template("page.html.j2").render(
        name=study.get("name", "study"), facts=facts(results), summary=summary, figures=figures,
        sections=sections, specs=script_json([spec(figure) for figure in drawn]) if drawn else None,
        bundle=vega_bundle() if drawn else "", mean_task=MEAN_TASK,
        marks={name: mark_svg(name) for name in MARKS if name in set(results["methods"])}, every_mark={
            name: mark_svg(name) for name in MARKS},
        subsets=subset_matrix(tables), unscored=unscored(results), teachers=trial_rows(teachers),
        trials=trial_rows(results), study=study_rows(study), versions=versions(),
        command=command(study, run_dir) if study else None)


def facts(results: pd.DataFrame) -> str:
    """What the study holds, in one line."""
    counts = [(results["methods"].nunique(), "subset"), (results["task"].nunique(), "task"),
              (results["seed"].nunique(), "seed"), (len(results), "trial")]
    return " · ".join(f"{n} {word}{'' if n == 1 else 's'}" for n, word in counts)


def mark_svg(methods: str) -> Markup:
    """The sign of a subset as inline SVG."""
    mark = MARKS[methods]
    return Markup(
        f'<svg class="mark" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" stroke="{mark.colour}" '
        f'stroke-width="2" fill="{mark.colour if mark.filled else "#fff"}">{SVG_SHAPES[mark.shape]}</svg>')


def subset_matrix(tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """The table of the subsets for the page: a row per setting, its size, then a cell per panel.

    A cell holds mean, spread, difference to `none`, the scored and all trials, whether the row is on the panel's front,
    and `near`, the index of the tightest of `TOLERANCES` it keeps (None: neither, or no baseline).
    """
    tasks = pd.concat([table for task, table in tables.items() if task != MEAN_TASK])
    names = varying(tasks)
    keyed = {panel: {_key(row): row for row in table.to_dict("records")} for panel, table in tables.items()}
    rows = []
    for row in tasks.drop_duplicates(list(SETTING)).to_dict("records"):
        cells = [_cell(keyed[panel].get(_key(row))) for panel in tables]
        rows.append({"methods": row["methods"], "settings": [setting_text(name, row) for name in names],
                     "size": megabytes(row["size_bytes"]), "ratio": times(row["size_ratio"]), "cells": cells})
    return {"settings": [name.replace("_", " ") for name in names], "panels": list(tables), "rows": rows}


def _key(row: Mapping[Any, Any]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in SETTING)


def _cell(row: Mapping[Any, Any] | None) -> dict[str, Any] | None:
    if row is None or not np.isfinite(row["score_mean"]):
        return None
    known = np.isfinite(row["delta"])
    near = next((i for i, points in enumerate(TOLERANCES) if known and row["delta"] >= -points - 1e-9), None)
    return {"mean": f"{row['score_mean']:.2f}", "front": bool(row["on_front"]),
            "std": f"{row['score_std']:.2f}" if np.isfinite(row["score_std"]) else "",
            "delta": signed(row["delta"]) if known and row["methods"] != "none" else "",
            "near": near if row["methods"] != "none" else None,
            "seeds": f"{row['trials']} of {row['trials'] + row['unscored']} seeds" if row["unscored"] else ""}


def unscored(results: pd.DataFrame) -> list[dict[str, str]]:
    """The trials without a score, with the reason as far as it is known."""
    rows = results[~has_score(results)].to_dict("records")
    return [{"trial_id": row["trial_id"], "task": row["task"], "methods": row["methods"], "seed": f"{row['seed']:.0f}",
             "lr": f"{row['learning_rate']:g}",
             "status": row["status"] if row["status"] != "done" else "done, but without a score"} for row in rows]


def trial_rows(results: pd.DataFrame) -> dict[str, Any]:
    """Every trial as text, columns that are blank throughout left out, sizes in MB."""
    table = results.assign(**{name: results[name] / BYTES_PER_MB for name in SIZE_TITLES})
    names = [name for name in RESULT_COLUMNS if (table[name].map(str).replace("nan", "") != "").any()]
    renamed = {**SIZE_TITLES, "train_seconds": "train s"}
    rows = [[row[name] if name in TEXT_COLUMNS else _number(name, row[name]) for name in names]
            for row in table.to_dict("records")]
    return {"columns": [renamed.get(name, name.replace("_", " ")) for name in names],
            "numeric": [name not in TEXT_COLUMNS for name in names], "rows": rows}


def _number(name: str, value: float) -> str:
    if not np.isfinite(value):
        return ""
    points = ("score", "score_movva", "accuracy", "f1", "mcc", "pearson", "spearman", "accuracy_mismatched")
    return f"{value:.2f}" if name in (*points, *SIZE_TITLES) else f"{value:.10g}"


def script_json(value: Any) -> Markup:
    """JSON that cannot end the script element it stands in."""
    return Markup(json.dumps(value).replace("<", "\\u003c"))


@cache
def vega_bundle() -> Markup:
    """Vega, Vega-Lite and Vega-Embed as one script (0.9 MB), so that the page needs no network."""
    return Markup(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script"))
