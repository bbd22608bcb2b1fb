"""The table of results: a row per trial, its columns and its file."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bertjax.config import InputError, require
from bertjax.files import write_text

Row = Mapping[str, Any]
"""A trial's values of `RESULT_COLUMNS`; None where a column does not apply."""

RESULT_COLUMNS = (
    "trial_id", "task", "model", "size", "num_hidden_layers", "teacher", "methods", "sparsity", "weight_bits",
    "activation_bits", "distill_weight", "temperature", "seed", "learning_rate", "epochs", "steps", "status", "score",
    "score_movva", "accuracy", "f1", "mcc", "pearson", "spearman", "accuracy_mismatched", "params", "size_bytes_fp32",
    "size_bytes_paper", "size_bytes_disk", "size_bytes_entropy", "train_seconds", "copies", "select_score",
    "selected_epoch", "p50_ms", "p95_ms", "rows_per_second",
)
"""The columns of results.csv and teachers.csv.

`params`, `size_bytes_fp32` and `size_bytes_paper` are by the convention of arXiv:2208.09684, without the task head.
`size_bytes_disk` is what the trial's `packed/model.bertjax` has, without entropy coding, and `size_bytes_entropy` what
its codes and masks would take at their entropy, without a header; in both the task head counts, and both are blank
where a trial diverged. They do not depend on whether the model was kept.
`p50_ms`, `p95_ms` and `rows_per_second` are what `bertjax bench inference` last measured of the trial's model in ONNX
Runtime at batch 1; latency.csv has the other runtimes and sizes, the processor and the threads.
"""

ADDED_COLUMNS: Row = {"size_bytes_disk": None, "size_bytes_entropy": None, "copies": 0, "select_score": None,
                      "selected_epoch": None, "p50_ms": None, "p95_ms": None, "rows_per_second": None}
"""Columns that came later, with their value in the results of former versions."""

TEXT_COLUMNS = ("trial_id", "task", "model", "size", "teacher", "methods", "status")
"""Columns that stay text: a `trial_id` such as 12e456789012 would read as a number."""

FINISHED = ("done", "diverged")
"""Status of trials that need no training."""


def table_order(row: Row) -> tuple:
    """By what the rows of a table are sorted: task, size, methods and setting."""
    methods = row["methods"]
    return (row["task"], row["params"], row["model"], row["num_hidden_layers"],
            0 if methods == "none" else len(methods), ["QKPA".find(letter) for letter in methods],
            row["copies"], row["sparsity"], row["learning_rate"] or 0.0, row["distill_weight"], row["temperature"],
            row["seed"], row["trial_id"])


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Writes rows as CSV with `RESULT_COLUMNS`; None becomes blank."""
    text = io.StringIO()
    writer = csv.DictWriter(text, RESULT_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_rows(path: Path) -> dict[str, Row]:
    """The finished trials of a results.csv by their ids, in the types that a ledger keeps.

    Raises:
        InputError: The file is missing, is no table, or lacks a column.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} must be the results.csv of a sweep; it cannot be read ({error})") from error
    lacking = [name for name in RESULT_COLUMNS if lines and name not in {*lines[0], *ADDED_COLUMNS}]
    require(not lacking, f"{path} must have the columns of a sweep's results.csv; missing: {', '.join(lacking)}")
    rows: list[Row] = []
    for number, line in enumerate(lines, start=2):
        try:
            values = {name: _parsed(name, line[name]) for name in RESULT_COLUMNS if name in line}
        except ValueError as error:
            raise InputError(f"{path} line {number} must be a trial of a sweep's results.csv: {error}") from error
        rows.append({**ADDED_COLUMNS, **values})
    return {str(row["trial_id"]): row for row in rows if row["status"] in FINISHED}


def _parsed(name: str, text: str | None) -> Any:
    if not text:
        return None
    if name in TEXT_COLUMNS:
        return text
    number = float(text)
    return int(number) if number.is_integer() and "." not in text and "e" not in text.lower() else number
