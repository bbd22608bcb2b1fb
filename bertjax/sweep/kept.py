"""The models that a run directory kept, and the table of their latencies beside its results."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertjax.config import DataConfig, InputError, require
from bertjax.sweep.ledger import Ledger, write_text

LATENCY_FILE = "latency.csv"
LATENCY_COLUMNS = (
    "trial_id", "task", "methods", "runtime", "batch_size", "threads", "cpu", "p50_ms", "p95_ms", "rows_per_second",
    "speedup", "score", "num_bytes")
"""The columns of latency.csv."""


@dataclass(frozen=True)
class KeptModel:
    """A trial whose model is on disk."""

    trial_id: str
    task: str
    methods: str
    folder: Path
    """The trial's."""
    data: DataConfig
    """What it was trained on."""

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.methods} {self.trial_id}"


def is_run_dir(path: Path) -> bool:
    """Whether a sweep made this folder."""
    return (path / "study.json").is_file()


def kept_models(run_dir: Path, task: str | None = None) -> list[KeptModel]:
    """The trials of a task whose models were kept, in the order of results.csv.

    Args:
        task: None takes the only one that there is.

    Raises:
        InputError: No model was kept, or several tasks were and none is named.
    """
    ledger = Ledger(run_dir)
    kept = [_kept(run_dir, row) for row in ledger.rows()
            if row["status"] == "done" and ledger.has_model(row["trial_id"])]
    tasks = list(dict.fromkeys(model.task for model in kept))
    require(bool(kept), f"{run_dir} must hold trained models, got none; sweep with --keep-models best or all")
    if task is None:
        require(len(tasks) == 1, f"{run_dir} holds models of {', '.join(tasks)}: choose one by --task")
        return kept
    require(task in tasks, f"{run_dir} holds models of {', '.join(tasks)}, none of {task}")
    return [model for model in kept if model.task == task]


def _kept(run_dir: Path, row: Mapping[str, Any]) -> KeptModel:
    folder = run_dir / "trials" / row["trial_id"]
    return KeptModel(row["trial_id"], row["task"], row["methods"], folder, trial_data(folder))


def trial_data(folder: Path) -> DataConfig:
    """What a trial was trained on. Raises `InputError` where its config.json is damaged."""
    try:
        data: Any = json.loads((folder / "config.json").read_text(encoding="utf-8"))["data"]
        return DataConfig(**(data | {"text_columns": tuple(data["text_columns"])}))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / 'config.json'} must be a trial's config, got a damaged file ({error})") from None


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


def read_latency(run_dir: Path, runtime: str, batch_size: int) -> dict[str, float]:
    """Milliseconds (median) that a trained model takes for a batch, by trial_id; empty where none was measured.

    Only times of one machine can be compared: those with the processor and the threads of the last measurement.

    Args:
        run_dir: Of a sweep.
        runtime: As in latency.csv.
        batch_size: Rows of a batch.

    Raises:
        InputError: The latency.csv that is there is none.
    """
    path = run_dir / LATENCY_FILE
    rows = [row for row in latency_rows(run_dir) if row["runtime"] == runtime and row["batch_size"] == str(batch_size)]
    try:
        return {row["trial_id"]: float(row["p50_ms"]) for row in rows
                if all(row[name] == rows[-1][name] for name in ("threads", "cpu"))}
    except ValueError as error:
        raise InputError(f"{path} must have milliseconds in p50_ms ({error}); move it away") from None


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
