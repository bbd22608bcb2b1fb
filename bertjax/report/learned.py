"""Which models learned a task at all: those that did not say nothing about what compression costs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from bertjax.report.cube import ARCHITECTURE, keys_of, score_cube

LEARNED = 3.0
"""Points above always giving the same answer from which on a task counts as learned."""


def unlearned(results: pd.DataFrame, constants: Mapping[str, float] | None) -> pd.DataFrame:
    """The uncompressed models that hardly learned a task: at their best setting less than `LEARNED` above a constant.

    Args:
        results: Rows of `tables.clean`.
        constants: By task, where it is known, the `score` of always giving the same answer.

    Returns:
        A row per task and architecture: `task`, `ARCHITECTURE`, `name`, its mean `score` and that of the `constant`.
        A task whose constant is not known, and an architecture without an uncompressed score there, have none.
    """
    columns = ["task", *ARCHITECTURE, "name", "score", "constant"]
    if not constants:
        return pd.DataFrame(columns=columns)
    cube, rows = score_cube(results), []
    for t, task in enumerate(cube.tasks):
        for a, architecture in enumerate(cube.architectures.to_dict("records")):
            scores = cube.seed_means[t, cube.rows("none", a)]
            scores = scores[np.isfinite(scores)]
            constant = constants.get(task, -np.inf)
            if len(scores) and scores.max() < constant + LEARNED:
                rows.append({"task": task, **architecture, "score": scores.max(), "constant": constant})
    return pd.DataFrame(rows, columns=columns)


def unlearned_notes(lost: pd.DataFrame, alone: bool) -> tuple[str, ...]:
    """A sentence per task that some model has not learned.

    Args:
        lost: Of `unlearned`.
        alone: Whether the study has a single architecture, which needs no name.
    """
    notes = []
    for task, part in lost.groupby("task", sort=False):
        scores = [f"{score:.1f}" if alone else f"{score:.1f} ({name})"
                  for name, score in zip(part["name"], part["score"], strict=True)]
        who, its = ("it has", "its") if len(part) == 1 else ("they have", "their")
        notes.append(
            f"On {task}, always giving the same answer scores {part['constant'].iloc[0]:.1f}, and the uncompressed "
            f"model{'' if len(part) == 1 else 's'} {', '.join(scores)}: {who} hardly learned the task, so {its} "
            "subsets cannot tell what compression costs. Size factors, their products and Shapley values leave that "
            "out.")
    return tuple(notes)


def unknown_note(tasks: tuple[str, ...], constants: Mapping[str, float] | None) -> str:
    """Says for which tasks it is not known what a constant answer scores; "" where it is for all."""
    unknown = [task for task in tasks if task not in (constants or {})]
    return "" if not unknown else (
        f"Whether models learned {', '.join(unknown)} at all is not known, as no predictions are at hand: nothing is "
        "left out there for being no better than a constant answer.")


def learned_block(results: pd.DataFrame, lost: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The results on tasks that all of the architectures left have learned, and a note of what was left out.

    Means over tasks compare models on the same tasks, so either a task goes or those that have not learned it: what
    keeps most pairs of task and architecture, of equal ones with more architectures. No rows where nothing was learned.
    """
    if lost.empty:
        return results, ""
    cube = score_cube(results, unlearned=lost)
    learned = [frozenset(np.flatnonzero(cube.learned[:, a])) for a in range(len(cube.architectures))]
    blocks = [([a for a, known in enumerate(learned) if known >= tasks], sorted(tasks))
              for tasks in {one & other for one in learned for other in learned}]
    architectures, tasks = max(blocks, key=lambda block: (len(block[0]) * len(block[1]), len(block[0]), block[1]))
    names, kept = [cube.tasks[t] for t in tasks], cube.architectures.iloc[architectures]
    if not names:
        return results.iloc[:0], "No model has learned its task well enough for Shapley values."
    inside = results["task"].isin(names) & pd.Series(keys_of(results, ARCHITECTURE), results.index).isin(
        keys_of(kept, ARCHITECTURE))
    return results[inside].reset_index(drop=True), (
        f"Shapley values are of {', '.join(names)} and {', '.join(kept['name'])} alone: what was learned throughout.")
