"""The statistics of a study, from its results table alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bertjax.config import SIZES
from bertjax.report.bootstrap import Predictions, factor_intervals, resample
from bertjax.report.cube import most_copies, score_cube
from bertjax.report.factors import TOLERANCE, multiplicativity, table_one
from bertjax.report.paired import learning_rate_sensitivity, paired_differences
from bertjax.report.published import figure_one_results, published_table_one
from bertjax.report.shapley import missing_subsets, shapley_table, subset_curves
from bertjax.report.tables import has_score


@dataclass(frozen=True)
class Analysis:
    """The tables of a study and what limits them."""

    factors: pd.DataFrame
    """`factors.table_one` with intervals."""
    products: pd.DataFrame
    """`factors.multiplicativity` with intervals."""
    shapley: pd.DataFrame
    differences: pd.DataFrame
    rates: pd.DataFrame
    missing: tuple[str, ...]
    """The subsets that Shapley values of all letters would need besides: they lack a model scored on every task."""
    note: str
    """What the intervals cover."""


@dataclass(frozen=True)
class Comparison:
    """A study beside arXiv:2208.09684; everything by `score_movva`, which is accuracy wherever a task has it."""

    factors: pd.DataFrame
    """`name`, `methods`, `ours`, `printed` (Table 1) and `from_means`: recomputed from the published means."""
    products: pd.DataFrame
    """`name`, `methods`, and `observed`, `product` and `ratio`, ours and printed (`_printed`)."""
    scores: pd.DataFrame
    """`size`, `methods`, `sparsity`, and mean `score` and its `delta` to none, ours and published (`_published`)."""
    shapley: pd.DataFrame
    """`letters`, `measure`, `letter`, `value`, `at`, ours and published (`_published`)."""


def analyse(
    results: pd.DataFrame, predictions: Predictions | None = None, column: str = "score", tolerance: float = TOLERANCE,
    every_rate: pd.DataFrame | None = None,
) -> Analysis | None:
    """All statistics of a study; None when no trial has a score.

    Factors and Shapley values are of the subsets with the most augmented copies each has, so that K is the paper's; the
    paired differences tell subsets with more and fewer copies apart.

    Args:
        results: Rows of `tables.clean`.
        predictions: Of the dev rows, where they are at hand: the intervals then cover the chance of the dev set too.
        column: `score` or `score_movva`.
        tolerance: Points that `table_one` allows.
        every_rate: The results with all learning rates, where `results` has the picked ones alone.

    Raises:
        InputError: The predictions do not fit the results.
    """
    cube = score_cube(most_copies(results), column)
    if not cube.tasks:
        return None
    drawn = resample(cube, predictions)
    factors, products = factor_intervals(cube, drawn, tolerance)
    # A stands in K's place: no subset has both.
    missing = tuple(name for name in missing_subsets(subset_curves(cube), cube.subsets) if not {"K", "A"} <= {*name})
    return Analysis(factors, products, shapley_table(cube, drawn), paired_differences(results, column),
                    _rates(results if every_rate is None else every_rate, column), missing, drawn.note)


def _rates(results: pd.DataFrame, column: str) -> pd.DataFrame:
    """How much the learning rate matters, on the rows that it was picked by if there are any."""
    selected = has_score(results) & np.isfinite(results["select_score"])
    return learning_rate_sensitivity(results, "select_score" if selected.any() else column)


def analysis_tables(analysis: Analysis | None, comparison: Comparison | None) -> dict[str, pd.DataFrame]:
    """Every table by the name of its CSV file."""
    made = {} if analysis is None else {
        "table1": analysis.factors, "multiplicativity": analysis.products, "shapley": analysis.shapley,
        "paired": analysis.differences, "learning_rates": analysis.rates}
    return made if comparison is None else made | {
        "published_table1": comparison.factors, "published_multiplicativity": comparison.products,
        "published_scores": comparison.scores, "published_shapley": comparison.shapley}


def compare(results: pd.DataFrame) -> Comparison | None:
    """A study beside arXiv:2208.09684; None unless a trial of one of BERT's six sizes by name has a score."""
    ours = results[results["size"].isin(SIZES) & has_score(results) & np.isfinite(results["score_movva"])]
    ours = most_copies(ours)
    if ours.empty:
        return None
    theirs = figure_one_results()
    printed, mine = published_table_one(), table_one(ours, column="score_movva")
    keys = ["name", "methods"]
    factors = printed[[*keys, "factor"]].rename(columns={"factor": "printed"}).merge(
        mine[[*keys, "factor"]].rename(columns={"factor": "ours"}), on=keys, how="left").merge(
        table_one(theirs)[[*keys, "factor"]].rename(columns={"factor": "from_means"}), on=keys, how="left")
    products = multiplicativity(printed).merge(
        multiplicativity(mine), on=keys, how="left", suffixes=("_printed", ""))
    scores = _mean_scores(theirs).merge(
        _mean_scores(ours), on=["size", "methods", "sparsity"], how="left", suffixes=("_published", ""))
    shapley = shapley_table(score_cube(theirs)).merge(
        shapley_table(score_cube(ours, "score_movva")), on=["letters", "measure", "letter"], how="left",
        suffixes=("_published", ""))
    return Comparison(factors, products, scores, shapley)


def _mean_scores(results: pd.DataFrame) -> pd.DataFrame:
    """The mean over tasks of the best model of each size, subset and sparsity, and its difference to that of `none`."""
    cube = score_cube(results, "score_movva")
    groups = cube.models.assign(score=cube.task_means).groupby(["size", "methods", "sparsity"], sort=False)
    best = groups["score"].max().reset_index()
    none = best[best["methods"] == "none"].set_index("size")["score"]
    return best.assign(delta=best["score"] - best["size"].map(none))
