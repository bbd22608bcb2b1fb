"""A study beside the numbers of arXiv:2208.09684."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from bertjax.config import SIZES
from bertjax.data.tasks import GLUE_TASKS
from bertjax.report.cube import most_copies, score_cube
from bertjax.report.factors import multiplicativity, table_one
from bertjax.report.learned import learned_block, unlearned
from bertjax.report.published import figure_one_results, published_table_one
from bertjax.report.shapley import shapley_table
from bertjax.report.tables import has_score

FACTOR, RATIO = "factor of size", "observed over product"
"""What `compare_means` gives besides Shapley values."""


@dataclass(frozen=True)
class Comparison:
    """A study of BERT's own sizes, cell by cell; by `score_movva`, which is accuracy wherever a task has it."""

    factors: pd.DataFrame
    """`name`, `methods`, `ours`, `printed` (Table 1) and `from_means`: recomputed from the published means."""
    products: pd.DataFrame
    """`name`, `methods`, and `observed`, `product` and `ratio`, ours and printed (`_printed`)."""
    scores: pd.DataFrame
    """`size`, `methods`, `sparsity`, and mean `score` and its `delta` to none, ours and published (`_published`)."""
    shapley: pd.DataFrame
    """`letters`, `measure`, `letter`, `value`, `at`, ours and published (`_published`)."""


def compare(results: pd.DataFrame, constants: Mapping[str, float] | None = None) -> Comparison | None:
    """A study beside arXiv:2208.09684; None unless a trial of one of BERT's six sizes by name has a score.

    Args:
        results: Rows of `tables.clean`.
        constants: By task, where it is known, the `score` of always giving the same answer.
    """
    ours = results[results["size"].isin(SIZES) & has_score(results) & np.isfinite(results["score_movva"])]
    ours = most_copies(ours)
    if ours.empty:
        return None
    lost = unlearned(ours, constants)
    theirs = figure_one_results()
    printed, mine = published_table_one(), table_one(ours, column="score_movva", unlearned=lost)
    keys = ["name", "methods"]
    factors = printed[[*keys, "factor"]].rename(columns={"factor": "printed"}).merge(
        mine[[*keys, "factor"]].rename(columns={"factor": "ours"}), on=keys, how="left").merge(
        table_one(theirs)[[*keys, "factor"]].rename(columns={"factor": "from_means"}), on=keys, how="left")
    products = multiplicativity(printed).merge(
        multiplicativity(mine), on=keys, how="left", suffixes=("_printed", ""))
    scores = _mean_scores(theirs).merge(
        _mean_scores(ours), on=["size", "methods", "sparsity"], how="left", suffixes=("_published", ""))
    shapley = _published_shapley(False).merge(
        shapley_table(score_cube(learned_block(ours, lost)[0], "score_movva")), on=["letters", "measure", "letter"],
        how="left", suffixes=("_published", ""))
    return Comparison(factors, products, scores, shapley)


def _mean_scores(results: pd.DataFrame) -> pd.DataFrame:
    """The mean over tasks of the best model of each size, subset and sparsity, and its difference to that of `none`."""
    cube = score_cube(results, "score_movva")
    groups = cube.models.assign(score=cube.task_means).groupby(["size", "methods", "sparsity"], sort=False)
    best = groups["score"].max().reset_index()
    none = best[best["methods"] == "none"].set_index("size")["score"]
    return best.assign(delta=best["score"] - best["size"].map(none))


def compare_means(results: pd.DataFrame, constants: Mapping[str, float] | None = None) -> pd.DataFrame | None:
    """A study of other sizes than BERT's beside the published means over sizes, which no cell of it equals.

    Of the paper's eight tasks and by `score_movva`; None where no compressed model of them has a score.

    Args:
        results: Rows of `tables.clean`.
        constants: By task, where it is known, the `score` of always giving the same answer.

    Returns:
        Rows of `what` (a title), `item` (a subset or a letter), `ours` and `published`: means over sizes, with
        `_low` and `_high`, the range over sizes, and `_sizes`, their number; of Shapley values, which are of all sizes
        at once, only the value. NaN where there is none.
    """
    ours = most_copies(results[results["task"].isin([task.name for task in GLUE_TASKS]) & has_score(results)
                               & np.isfinite(results["score_movva"]) & ~results["size"].isin(SIZES)])
    if (ours["methods"] == "none").all():
        return None
    lost = unlearned(ours, constants)
    printed, mine = published_table_one(), table_one(ours, column="score_movva", unlearned=lost)
    parts = [_over_sizes(FACTOR, mine, printed, "factor"),
             _over_sizes(RATIO, multiplicativity(mine), multiplicativity(printed), "ratio")]
    shapley = shapley_table(score_cube(learned_block(ours, lost)[0], "score_movva"))
    shapley = shapley[shapley["letters"] == "QKP"]  # values of other sets of letters have other meanings
    theirs = _published_shapley("score" in set(shapley["measure"]))
    both = theirs.merge(shapley, on=["measure", "letter"], how="left", suffixes=("_published", ""))
    parts.append(pd.DataFrame({"what": both["measure"], "item": both["letter"], "ours": both["value"],
                               "published": both["value_published"]}))
    return pd.concat(parts, ignore_index=True)


@cache
def _published_shapley(plain: bool) -> pd.DataFrame:
    return shapley_table(score_cube(figure_one_results()), plain=plain)


def _over_sizes(what: str, ours: pd.DataFrame, theirs: pd.DataFrame, column: str) -> pd.DataFrame:
    """Mean and range over sizes of what is known, of the published subsets."""
    sides = []
    for name, table in (("published", theirs), ("ours", ours)):
        groups = table.astype({column: float}).groupby("methods", sort=False)[column]
        sides.append(groups.agg(["mean", "min", "max", "count"]).set_axis(
            [name, f"{name}_low", f"{name}_high", f"{name}_sizes"], axis=1))
    return sides[0].join(sides[1]).rename_axis("item").reset_index().assign(what=what)
