"""The statistics of a study, from its results table alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bertjax.report.bootstrap import RESAMPLES, Predictions, factor_intervals, resample
from bertjax.report.comparison import Comparison
from bertjax.report.cube import most_copies, score_cube
from bertjax.report.factors import TOLERANCE
from bertjax.report.learned import learned_block, unknown_note, unlearned
from bertjax.report.letters import letter_note, split_letters
from bertjax.report.paired import learning_rate_sensitivity, paired_differences
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
    unknown: str
    """Where it is not known whether models learned; "" if it is everywhere."""
    shapley_notes: tuple[str, ...]
    """What the letters stand for, and what was left out as not learned."""


def analyse(
    results: pd.DataFrame, predictions: Predictions | None = None, column: str = "score", tolerance: float = TOLERANCE,
    every_rate: pd.DataFrame | None = None, constants: Mapping[str, float] | None = None,
    resamples: int = RESAMPLES,
) -> Analysis | None:
    """All statistics of a study; None when no trial has a score.

    Factors are of the subsets with the most augmented copies each has, so that K is the paper's, and so are Shapley
    values unless A can have one of its own (`letters.split_letters`); the paired differences tell subsets with more and
    fewer copies apart. Factors and Shapley values leave out what was not learned (`learned.unlearned`).

    Args:
        results: Rows of `tables.clean`.
        predictions: Of the dev rows, where they are at hand: the intervals then cover the chance of the dev set too.
        column: `score` or `score_movva`.
        tolerance: Points that `table_one` allows.
        every_rate: The results with all learning rates, where `results` has the picked ones alone.
        constants: By task, where it is known, the `score` of always giving the same answer.
        resamples: Studies drawn again for the intervals.

    Raises:
        InputError: The predictions do not fit the results.
    """
    most, lost = most_copies(results), unlearned(results, constants)
    cube = score_cube(most, column, lost)
    if not cube.tasks:
        return None
    drawn = resample(cube, predictions, resamples)
    factors, products = factor_intervals(cube, drawn, tolerance)
    by_letter, split = split_letters(results)
    kept, left_out = learned_block(by_letter, lost)
    same = len(kept) == len(most) and not split
    inner = cube if same else score_cube(kept, column)
    shapley = shapley_table(inner, drawn if same or not inner.tasks else resample(inner, predictions, resamples))
    # Unless they are letters of their own, A stands in K's place: no subset has both.
    missing = tuple(name for name in missing_subsets(subset_curves(inner), inner.subsets)
                    if split or not {"K", "A"} <= {*name})
    notes = tuple(note for note in (letter_note(results, split), left_out) if note)
    return Analysis(factors, products, shapley, paired_differences(results, column),
                    _rates(results if every_rate is None else every_rate, column), missing, drawn.note,
                    unknown_note(cube.tasks, constants), notes)


def _rates(results: pd.DataFrame, column: str) -> pd.DataFrame:
    """How much the learning rate matters, on the rows that it was picked by if there are any."""
    selected = has_score(results) & np.isfinite(results["select_score"])
    return learning_rate_sensitivity(results, "select_score" if selected.any() else column)


def analysis_tables(
    analysis: Analysis | None, comparison: Comparison | None, means: pd.DataFrame | None = None
) -> dict[str, pd.DataFrame]:
    """Every table by the name of its CSV file."""
    made = {} if analysis is None else {
        "table1": analysis.factors, "multiplicativity": analysis.products, "shapley": analysis.shapley,
        "paired": analysis.differences, "learning_rates": analysis.rates}
    if means is not None:
        made["published_means"] = means
    return made if comparison is None else made | {
        "published_table1": comparison.factors, "published_multiplicativity": comparison.products,
        "published_scores": comparison.scores, "published_shapley": comparison.shapley}
