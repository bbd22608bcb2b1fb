"""A study beside arXiv:2208.09684 as sections of the page."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from bertjax.report.comparison import FACTOR, RATIO, Comparison
from bertjax.report.factors import TOLERANCE
from bertjax.report.headline import panels, signed, times
from bertjax.report.plots import Figure, tradeoff_figures
from bertjax.report.published import PAPER, figure_one_results
from bertjax.report.sections import EMPTY, Cell, PageTable, Section, grid, shapley_text


def comparison_section(comparison: Comparison, ours: list[Figure]) -> Section:
    """The study, with its first figure, beside arXiv:2208.09684."""
    theirs = figure_one_results()
    figures = (*(replace(figure, panel=f"this study: {figure.panel}") for figure in ours),
               *(replace(figure, panel=f"{PAPER}, Figure 1: {figure.panel}")
                 for figure in tradeoff_figures(theirs, panels(theirs), {})))
    tables = [
        grid(comparison.factors, "name", "methods", _factor_pair, "model", caption=(
            f"How many times smaller within {TOLERANCE:g} points: this study; printed in the paper's Table 1; and "
            "recomputed from the paper's mean scores as if they were one task, which is not comparable cell by cell.")),
        grid(comparison.products, "name", "methods", _product_pair, "model", caption=(
            "Combination against the product of its single methods: this study; from the printed Table 1.")),
        grid(comparison.shapley.assign(row=comparison.shapley["measure"]), "row", "letter", _shapley_pair, "",
             caption="Shapley values: this study; from the paper's mean scores."),
        grid(comparison.scores[comparison.scores["methods"] != "none"].assign(
            setting=[_setting(row) for row in comparison.scores.to_dict("records") if row["methods"] != "none"]),
            "size", "setting", _score_pair, "model",
            caption="Mean score minus that of the uncompressed model, in points: this study; the paper's Figure 1."),
    ]
    return Section(
        "Beside the published study",
        f"Movva et al. 2022 ({PAPER}) over eight GLUE tasks, K with augmented data. In each cell this study stands "
        "first and the paper below. Scores in these tables are accuracy wherever a task has it. The paper's scores "
        "were read off its Figure 1 (error about 0.05 points).", tuple(tables), (), figures, "published")


def means_section(means: pd.DataFrame) -> Section:
    """The rows of `comparison.compare_means`."""
    captions = {
        FACTOR: f"How many times smaller within {TOLERANCE:g} points: mean over sizes of Table 1, and the range.",
        RATIO: "What a combination reaches over the product of what its methods reach alone: likewise."}
    tables = [_means_table(means[means["what"] == what], caption) for what, caption in captions.items()]
    shapley = means[~means["what"].isin(list(captions))]
    tables.append(grid(shapley, "what", "item", _shapley_means, "", caption=(
        "Shapley values: this study; below it those of the paper's mean scores.")))
    return Section(
        "Beside the published means",
        f"Movva et al. 2022 ({PAPER}) compressed BERT's six sizes on eight GLUE tasks, K with augmented data. Those "
        "are other models than these, so nothing here is comparable cell by cell; compare which methods matter most "
        "and where they multiply. Scores behind these tables are accuracy wherever a task has it.", tuple(tables))


def _means_table(part: pd.DataFrame, caption: str) -> PageTable:
    rows = [(Cell(title), *(_mean_of_sizes(row, side) for row in part.to_dict("records")))
            for side, title in (("ours", "this study"), ("published", "published"))]
    return PageTable(("", *part["item"]), tuple(rows), caption)


def _mean_of_sizes(row: dict[Any, Any], side: str) -> Cell:
    if not np.isfinite(row[side]):
        return EMPTY
    form = times if row["what"] == FACTOR else "{:.2f}".format
    count = int(row[f"{side}_sizes"])
    spread = f"{form(row[f'{side}_low'])} to {form(row[f'{side}_high'])}"
    return Cell(form(row[side]), (spread, f"{count} sizes") if count > 1 else ("1 size",))


def _shapley_means(row: dict[Any, Any]) -> Cell:
    return Cell(shapley_text(row["what"], row["ours"]) if np.isfinite(row["ours"]) else "–",
                (shapley_text(row["what"], row["published"]),))


def _factor_pair(row: dict[Any, Any]) -> Cell:
    return Cell(times(row["ours"]) if np.isfinite(row["ours"]) else "–",
                (f"printed {row['printed']:.1f}×", f"from means {row['from_means']:.1f}×"))


def _product_pair(row: dict[Any, Any]) -> Cell:
    ours = f"{row['ratio']:.2f}" if np.isfinite(row["ratio"]) else "–"
    return Cell(ours, (f"printed {row['ratio_printed']:.2f}",
                       f"{row['observed_printed']:.1f} against {row['product_printed']:.1f}"))


def _shapley_pair(row: dict[Any, Any]) -> Cell:
    ours = shapley_text(row["measure"], row["value"]) if np.isfinite(row["value"]) else "–"
    return Cell(ours, (shapley_text(row["measure"], row["value_published"]), row["at_published"]))


def _score_pair(row: dict[Any, Any]) -> Cell:
    ours = signed(row["delta"]) if np.isfinite(row["delta"]) else "–"
    return Cell(ours, (signed(row["delta_published"]),))


def _setting(row: dict[Any, Any]) -> str:
    return f"{row['methods']} {100 * row['sparsity']:.0f} %" if row["sparsity"] else row["methods"]
