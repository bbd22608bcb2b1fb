"""How many times smaller each subset makes a model at the same score, and whether such factors multiply.

Table 1 of arXiv:2208.09684 and the test that its title is about. A *factor* is uncompressed over compressed bytes.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from bertjax.report.cube import ARCHITECTURE, Cube, letters_of, mean_known, score_cube
from bertjax.report.headline import ROUNDING
from bertjax.report.learned import LEARNED

TOLERANCE = 0.5
"""Points below the uncompressed model that count as keeping its score (arXiv:2208.09684, Table 1)."""


def table_one(
    results: pd.DataFrame, tolerance: float = TOLERANCE, column: str = "score", unlearned: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The largest size reduction within `tolerance` points of the uncompressed model, per architecture and subset.

    Table 1 of arXiv:2208.09684. Scores are means over seeds. On each task the smallest model of the subset counts that
    keeps the score, whatever its architecture and sparsity: of a smaller one, and so K alone may reduce the size; or of
    a larger one, and then the factor is below 1. When none keeps it, the task counts 1, the uncompressed model itself.
    The factor is the arithmetic mean over tasks. Of several uncompressed settings (learning rates) the best one is the
    baseline, and every setting of a subset is a candidate, so each side has its best one.

    Args:
        results: Rows of `tables.clean`.
        tolerance: Points, at least 0.
        column: `score`, or `score_movva` for accuracy wherever a task has it.
        unlearned: Of `learned.unlearned`: tasks on which an architecture has no factor, as whatever is small enough
            keeps the score of a model that learned nothing.

    Returns:
        A row per architecture (small ones first) and subset: `ARCHITECTURE`, `name`, `size_bytes_fp32`, `methods`,
        `factor`, the number of `tasks` in it, and `reason`, why tasks are missing or the factor is NaN ("" if all are
        there).
    """
    cube = score_cube(results, column, unlearned)
    return factor_table(cube, task_factors(cube, cube.seed_means, tolerance))


def compressed_subsets(cube: Cube) -> tuple[str, ...]:
    """The subsets but for `none`."""
    return tuple(methods for methods in cube.subsets if methods != "none")


def task_factors(cube: Cube, scores: np.ndarray, tolerance: float) -> np.ndarray:
    """The factor of every task.

    Args:
        cube: The models.
        scores: [..., task, model] points.
        tolerance: Points.

    Returns:
        [..., architecture, subset, task] in the order of `compressed_subsets`; NaN where the architecture's baseline or
        every model of the subset lacks a score on that task, or the architecture has not learned it.
    """
    sizes = cube.models["size_bytes"].to_numpy(float)
    factors = []
    for a, size in enumerate(cube.architectures["size_bytes_fp32"]):
        base = best(scores[..., cube.rows("none", a)])
        for methods in compressed_subsets(cube):
            rows = cube.rows(methods)
            kept = scores[..., rows] >= base[..., None] - tolerance - ROUNDING
            smallest = np.where(kept, sizes[rows], np.inf).min(axis=-1)
            known = np.isfinite(base) & np.isfinite(scores[..., rows]).any(axis=-1) & cube.learned[:, a]
            factors.append(np.where(known, np.where(np.isinf(smallest), 1.0, size / smallest), np.nan))
    shape = (len(cube.architectures), len(compressed_subsets(cube)))
    if not factors:
        return np.zeros((*scores.shape[:-2], *shape, scores.shape[-2]))
    stacked = np.stack(factors, axis=-2)
    return stacked.reshape(*stacked.shape[:-2], *shape, stacked.shape[-1])


def best(scores: np.ndarray) -> np.ndarray:
    """The maximum over the last axis of what is known; NaN where nothing is."""
    top = np.where(np.isfinite(scores), scores, -np.inf).max(axis=-1, initial=-np.inf)
    return np.where(np.isfinite(top), top, np.nan)


def factor_table(cube: Cube, factors: np.ndarray) -> pd.DataFrame:
    """`table_one` of the factors of every task, [architecture, subset, task]."""
    means, counts = mean_known(factors, axis=-1), np.isfinite(factors).sum(axis=-1)
    rows = []
    for a, architecture in enumerate(cube.architectures.to_dict("records")):
        for m, methods in enumerate(compressed_subsets(cube)):
            rows.append({**architecture, "methods": methods, "factor": means[a, m], "tasks": counts[a, m],
                         "reason": _reason(cube, a, methods, np.isnan(factors[a, m]))})
    columns = [*ARCHITECTURE, "name", "size_bytes_fp32", "methods", "factor", "tasks", "reason"]
    return pd.DataFrame(rows, columns=columns).astype({"factor": float})


def _reason(cube: Cube, architecture: int, methods: str, lacking: np.ndarray) -> str:
    """Why tasks have no factor."""
    scored = np.isfinite(cube.seed_means)
    parts = []
    for words, missing in (
            ("no uncompressed score", ~scored[:, cube.rows("none", architecture)].any(axis=1)),
            (f"no score of {methods}", ~scored[:, cube.rows(methods)].any(axis=1)),
            (f"not learnable here: uncompressed less than {LEARNED:g} points above always giving the same answer",
             ~cube.learned[:, architecture])):
        tasks = [task for task, lost in zip(cube.tasks, missing & lacking, strict=True) if lost]
        if tasks:
            parts.append(f"{words} on {', '.join(tasks)}")
    return "; ".join(parts)


def multiplicativity(factors: pd.DataFrame) -> pd.DataFrame:
    """What each combination reaches, against the product of what its single methods reach.

    Args:
        factors: Rows of `table_one`; of a published table `name`, `methods` and `factor` are enough.

    Returns:
        A row per architecture and subset of two letters or more: `name`, `methods`, `observed`, `product`, and `ratio`,
        which is above 1 where the methods together reduce more than their product. NaN where a single one is missing.
        Factors are threshold statistics: a small gain that lifts several tasks over the tolerance looks like more than
        a product, so read the ratio with its interval (`bootstrap.multiplicativity_intervals`).
    """
    rows = []
    for name, part in factors.groupby("name", sort=False):
        single = dict(zip(part["methods"], part["factor"].astype(float), strict=True))
        for methods, observed in single.items():
            if len(letters_of(methods)) > 1:
                product = float(np.prod([single.get(letter, np.nan) for letter in letters_of(methods)]))
                rows.append({"name": name, "methods": methods, "observed": observed, "product": product,
                             "ratio": observed / product})
    table = pd.DataFrame(rows, columns=["name", "methods", "observed", "product", "ratio"])
    return table.astype({"observed": float, "product": float, "ratio": float})
