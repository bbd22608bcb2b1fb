"""latency.csv of a run directory: what `bertjax bench inference` measured of its models."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bertjax.artifact.inference.latency import ONNX, Latency
from bertjax.config import InputError, require
from bertjax.files import write_text

LATENCY_FILE = "latency.csv"
LATENCY_COLUMNS = (
    "trial_id", "task", "methods", "runtime", "batch_size", "threads", "cpu", "p50_ms", "p95_ms", "rows_per_second",
    "speedup", "score", "num_bytes")
"""The columns of latency.csv."""


def write_latency(run_dir: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Puts rows at the end of the run directory's latency.csv, without those of the same trial, runtime and batch.

    Raises:
        InputError: The file that is there is not one of these, or cannot be replaced.
    """
    path = run_dir / LATENCY_FILE
    table: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    for row in [*latency_rows(run_dir), *rows]:
        table.pop(_key(row), None)  # what was measured last stands last
        table[_key(row)] = row
    text = io.StringIO()
    writer = csv.DictWriter(text, LATENCY_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(table.values())
    try:
        write_text(path, text.getvalue())
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None
    return path


def read_latency(run_dir: Path, runtime: str = ONNX, batch_size: int = 1) -> dict[str, Latency]:
    """What was measured of trained models, by trial_id; empty where nothing was.

    Only times of one machine can be compared: those with the processor and the threads of the last measurement.

    Args:
        run_dir: Of a sweep.
        runtime: As in latency.csv.
        batch_size: Rows of a batch.

    Raises:
        InputError: The latency.csv that is there is none.
    """
    rows = [row for row in latency_rows(run_dir) if row["runtime"] == runtime and row["batch_size"] == str(batch_size)]
    try:
        return {row["trial_id"]: Latency(*(float(row[name]) for name in Latency._fields)) for row in rows
                if all(row[name] == rows[-1][name] for name in ("threads", "cpu"))}
    except ValueError as error:
        raise InputError(f"{run_dir / LATENCY_FILE} must have numbers in {', '.join(Latency._fields)} ({error}); "
                         "move it away") from None


def _key(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["trial_id"], row["runtime"], str(row["batch_size"])


def latency_rows(run_dir: Path) -> list[dict[str, str]]:
    """The lines of a run directory's latency.csv; empty where there is none.

    Raises:
        InputError: The file cannot be read or lacks a column.
    """
    path = run_dir / LATENCY_FILE
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error}); move it away") from None
    require(set(LATENCY_COLUMNS) <= set(reader.fieldnames or ()),
            f"{path} must have the columns {', '.join(LATENCY_COLUMNS)}; move it away")
    return rows
