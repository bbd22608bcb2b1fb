"""Sections appear where they have something to say, and say what cannot be known."""

import numpy as np
import pandas as pd
import pytest

from bertjax.report.analysis import analyse
from bertjax.report.comparison import compare
from bertjax.report.comparison_sections import comparison_section
from bertjax.report.headline import panels
from bertjax.report.plots import tradeoff_figures
from bertjax.report.published import figure_one_results
from bertjax.report.sections import sections_of
from bertjax.report.tables import clean


def titles(results: pd.DataFrame) -> list[str]:
    analysis = analyse(results, resamples=10)
    return [] if analysis is None else [section.title for section in sections_of(analysis)]


def test_a_demo_stays_short(grid) -> None:
    results = clean(grid(seeds=1, tasks={"mrpc": 82.4}))
    assert titles(results) == ["How many times smaller, within 0.5 points", "Which method matters most"]
    factors = sections_of(analyse(results, resamples=10))[0]
    assert [len(table.rows) for table in factors.tables] == [1, 1] and "No intervals" in factors.notes[0]
    assert compare(results) is None


def test_seeds_and_rates_add_their_sections(grid) -> None:
    results = clean(grid())
    assert titles(results)[2:] == ["Differences between subsets"]
    faster = results.assign(learning_rate=1e-3, trial_id=results["trial_id"] + "x")
    assert titles(clean(pd.concat([results, faster])))[3:] == ["Sensitivity to the learning rate"]


def test_without_baseline_the_reason_is_given(grid) -> None:
    results = clean(grid(tasks={"mrpc": 82.4}))
    section, shapley, _ = sections_of(analyse(results[results["methods"] != "none"], resamples=10))
    assert section.tables == ()
    assert section.notes == ("Not computed for L3H384, Q, K, P, QK, QP, KP, QKP: no uncompressed score on mrpc.",)
    assert shapley.tables == () and shapley.notes[0].endswith("score on every task: none.")


def test_nothing_to_say_without_scores_or_compression(row) -> None:
    assert titles(clean(pd.DataFrame([row("Q", score=None, status="failed")]))) == []
    assert titles(clean(pd.DataFrame([row("none")]))) == []


def test_a_study_of_berts_sizes_stands_beside_the_published_one() -> None:
    theirs = figure_one_results()
    ours = theirs[theirs["size"].isin(["tiny", "mini"])].assign(task="mrpc", model="mine")
    comparison = compare(ours)
    cells = comparison.factors.set_index(["name", "methods"])
    assert cells.loc[("tiny", "Q"), ["ours", "printed", "from_means"]].tolist() == pytest.approx([4, 3.4, 4], abs=0.01)
    assert np.isnan(cells.loc[("large", "Q"), "ours"]) and cells.loc[("large", "QKP"), "printed"] == 18.1
    scores = comparison.scores.set_index(["size", "methods", "sparsity"])
    assert scores.loc[("mini", "KP", 0.6), ["delta", "delta_published"]].tolist() == pytest.approx([2.44, 2.44])
    section = comparison_section(comparison, tradeoff_figures(ours, panels(ours), {}))
    assert [figure.panel.split(":")[0] for figure in section.figures] == ["this study", "arXiv"]
    assert [len(table.rows) for table in section.tables] == [6, 6, 2, 6]
    assert "not comparable cell by cell" in section.tables[0].caption
