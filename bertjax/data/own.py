"""The user's own data: training files with named columns, and texts to predict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bertjax.config import DataConfig, InputError, require
from bertjax.data.examples import TaskData, examples_from
from bertjax.data.tables import SUFFIXES, Table, read_table, read_text, split_lines
from bertjax.data.tasks import TASKS, Task


def load_own(name: str, data: DataConfig, classes: Sequence[str] = ()) -> TaskData:
    """The task that `data.train_file` and `data.dev_file` hold.

    Args:
        name: Of the task. A known task's name is not taken over: the task is then called `own-<train file>`.
        data: The files and their columns.
        classes: Those of a model, some of which may not occur in the files; none takes the sorted labels of the
            training file. They are compared as text, and given ones in upper or lower case if the files ask for it.

    Raises:
        InputError: a broken file, a missing column, a label that is no class, fewer than two classes.
    """
    train_path, dev_path = Path(data.train_file or ""), Path(data.dev_file or "")
    train_table, dev_table = read_table(train_path), read_table(dev_path)
    train_table.require_columns((*data.text_columns, data.label_column))
    if data.regression:
        classes = ()
    elif classes:
        dev_table.require_columns((data.label_column,))
        classes = _spelled(classes, (train_table, dev_table), data.label_column)
    else:
        classes = _classes(train_table, data.label_column)
    require(len(train_table) > 0, f"{train_path} has no rows; it must hold at least one")
    task = Task(
        name=f"own-{train_path.stem}" if name in TASKS else name,
        text_columns=data.text_columns,
        label_names=tuple(classes),
        dev_splits=("validation",),
        metrics=("pearson", "spearman") if data.regression else ("accuracy", "mcc"),
        folder="",
    )
    train, dev = (examples_from(table, data.text_columns, data.label_column, classes)
                  for table in (train_table, dev_table))
    return TaskData(task, train, {"validation": dev})


def _spelled(classes: Sequence[str], tables: Sequence[Table], column: str) -> tuple[str, ...]:
    """The classes in the spelling of the files: a model's POSITIVE may be their positive."""
    used = {str(value).strip() for table in tables for value in table.columns[column]}
    if used <= set(classes):
        return tuple(classes)
    spelling = {name.casefold(): name for name in used}
    return tuple(name if name in used else spelling.get(name.casefold(), name) for name in classes)


def _classes(table: Table, column: str) -> tuple[str, ...]:
    for row, value in enumerate(table.columns[column]):
        # A missing value is None in JSONL and Parquet, NaN (unequal to itself) in Parquet, nothing in CSV and TSV.
        require(value is not None and value == value and str(value).strip() != "",
                f"{table.where(row)}: {column} must be a class name; got {value!r}")
    names = tuple(sorted({str(value).strip() for value in table.columns[column]}))
    require(len(names) != 1, f"{table.name} must hold at least two classes in {column}; got only {', '.join(names)}")
    return names


def load_texts(path: Path, text_columns: Sequence[str]) -> list[str] | list[tuple[str, str]]:
    """Texts to predict: from a .csv, .tsv, .jsonl or .parquet file's columns, else one per line (`parse_texts`)."""
    if path.suffix not in SUFFIXES:
        return parse_texts(str(path), read_text(path), len(text_columns) == 2)
    table = read_table(path)
    table.require_columns(text_columns)
    texts = [table.texts(column) for column in text_columns]
    return texts[0] if len(texts) == 1 else list(zip(texts[0], texts[1], strict=True))


def parse_texts(name: str, content: str, pairs: bool) -> list[str] | list[tuple[str, str]]:
    """One text per line, or a pair of texts separated by a tab; `name` is the source, for messages."""
    lines = split_lines(content)
    if not pairs:
        return lines
    result = []
    for number, line in enumerate(lines, start=1):
        fields = line.split("\t")
        if len(fields) != 2:
            raise InputError(f"{name} line {number}: must be two texts separated by a tab; got {len(fields)}")
        result.append((fields[0], fields[1]))
    return result
