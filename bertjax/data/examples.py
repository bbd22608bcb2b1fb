"""Labelled texts in memory, and how a table of a file becomes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bertjax.config import InputError
from bertjax.data.draws import draw_order
from bertjax.data.tables import Table
from bertjax.data.tasks import Task

SELECTION = "selection"
"""The split that `hold_out` makes."""

SELECTION_SHARE, SELECTION_ROWS = 0.1, 2000
"""Share of the training rows that is held out to select on, and the most rows of it."""

SUBSET_SEED = 2208_09684
"""Draws the rows of `max_train_examples`: fixed, so that trials of different seeds see the same rows."""


@dataclass(frozen=True)
class Examples:
    """The rows of one split."""

    first: list[str]
    second: list[str] | None
    """The second text of each pair; None for tasks of single texts."""
    labels: np.ndarray
    """[rows]: int32 classes or float32 scores."""

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True)
class TaskData:
    """A task and its rows."""

    task: Task
    train: Examples
    dev: dict[str, Examples]
    """By split name; the first is the one that scores."""


def unlabelled(texts: Sequence[str] | Sequence[tuple[str, str]]) -> Examples:
    """Examples of texts, or of pairs of texts, whose labels are unknown: zeros stand in."""
    labels = np.zeros(len(texts), np.int32)
    first = [text if isinstance(text, str) else text[0] for text in texts]
    second = [text[1] for text in texts if not isinstance(text, str)]
    if second and len(second) < len(first):
        raise InputError(f"texts must be all single or all pairs; got {len(second)} pairs among {len(first)}")
    return Examples(first, second or None, labels)


def examples_from(table: Table, text_columns: Sequence[str], label_column: str, classes: Sequence[str]) -> Examples:
    """The rows of `table`, in order.

    Args:
        classes: spelling in the file of each class, by class index; empty means that the labels are numbers.

    Raises:
        InputError: no rows, a missing column, a text that is none, a label outside `classes` or not a number.
    """
    table.require_columns((*text_columns, label_column))
    if len(table) == 0:
        raise InputError(f"{table.name} has no rows; it must hold at least one")
    texts = [table.texts(column) for column in text_columns]
    labels = _class_labels(table, label_column, classes) if classes else _scores(table, label_column)
    return Examples(texts[0], texts[1] if len(texts) == 2 else None, labels)


def subset(examples: Examples, count: int | None) -> Examples:
    """`count` rows drawn without replacement by a fixed seed, in their original order; all of them if None or fewer."""
    if count is None or count >= len(examples):
        return examples
    return rows_of(examples, np.sort(draw_order(len(examples), SUBSET_SEED)[:count]))


def hold_out(data: TaskData) -> TaskData:
    """The task with a slice of its training rows as the dev split `SELECTION`, which is never trained on.

    It has `SELECTION_SHARE` of the rows, at most `SELECTION_ROWS`, of each class or tenth of the scores alike; drawn by
    a fixed seed, so that every trial holds out the same rows.

    Raises:
        InputError: There are too few rows to hold one out and train on others.
    """
    labels = data.train.labels
    rows = held_out_rows(len(labels))
    strata = labels
    if data.task.regression:
        strata = np.argsort(np.argsort(labels, kind="stable")) * 10 // len(labels)
    held = np.zeros(len(labels), bool)
    values, sizes = np.unique(strata, return_counts=True)
    counts, remainders = np.divmod(rows * sizes, max(len(labels), 1))
    counts[np.argsort(-remainders, kind="stable")[: rows - counts.sum()]] += 1  # largest remainders: `rows` in all
    for stratum, count in zip(values, counts, strict=True):
        members = np.flatnonzero(strata == stratum)
        held[members[draw_order(len(members), SUBSET_SEED, int(stratum) + 1)[:count]]] = True
    if not held.any():
        raise InputError(f"selecting on a slice of the training rows needs at least 6 of them, got {len(labels)}"
                         " (or take --select-on dev)")
    dev = {**data.dev, SELECTION: rows_of(data.train, np.flatnonzero(held))}
    return replace(data, train=rows_of(data.train, np.flatnonzero(~held)), dev=dev)


def held_out_rows(rows: int) -> int:
    """How many of the training rows `hold_out` takes."""
    return round(min(SELECTION_SHARE * rows, SELECTION_ROWS))


def rows_of(examples: Examples, rows: np.ndarray) -> Examples:
    """The given rows, in the order given."""
    return Examples([examples.first[row] for row in rows],
                    None if examples.second is None else [examples.second[row] for row in rows],
                    examples.labels[rows])


def _class_labels(table: Table, column: str, classes: Sequence[str]) -> np.ndarray:
    index = {name: label for label, name in enumerate(classes)}
    labels = np.empty(len(table), np.int32)
    for row, value in enumerate(table.columns[column]):
        label = index.get(str(value).strip())
        if label is None:
            raise InputError(f"{table.where(row)}: {column} must be one of {', '.join(classes)}; got {value!r}")
        labels[row] = label
    return labels


def _scores(table: Table, column: str) -> np.ndarray:
    scores = np.empty(len(table), np.float32)
    for row, value in enumerate(table.columns[column]):
        try:
            scores[row] = float(value)
        except (TypeError, ValueError):
            scores[row] = math.nan
        if not math.isfinite(scores[row]):
            raise InputError(f"{table.where(row)}: {column} must be a number, got {value!r}")
    return scores
