"""The run directory: what each trial left, written so that a kill at any moment loses no finished trial.

    DIR/study.json                     the study
    DIR/data.json                      a hash of the rows of each task that trials were trained on
    DIR/results.csv, teachers.csv      a row per trial, made from the trials' own rows
    DIR/trials/<trial_id>/             config.json, metrics.json (per epoch), predictions.npz (logits and labels of the
                                       dev rows), model/ and packed/ if its model was kept, and result.json, written
                                       last
    DIR/teachers/<trial_id>/           the same for teachers, without packed/
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bertjax.artifact.packed.model import PACKED_FILE
from bertjax.config import InputError, require, to_json
from bertjax.study import StudyConfig, TrialConfig

Row = Mapping[str, Any]
"""A trial's values of `RESULT_COLUMNS`; None where a column does not apply."""

RESULT_COLUMNS = (
    "trial_id", "task", "model", "size", "num_hidden_layers", "teacher", "methods", "sparsity", "weight_bits",
    "activation_bits", "distill_weight", "temperature", "seed", "learning_rate", "epochs", "steps", "status", "score",
    "score_movva", "accuracy", "f1", "mcc", "pearson", "spearman", "accuracy_mismatched", "params", "size_bytes_fp32",
    "size_bytes_paper", "size_bytes_disk", "size_bytes_entropy", "train_seconds", "copies", "select_score",
    "selected_epoch",
)
"""The columns of results.csv and teachers.csv.

`params`, `size_bytes_fp32` and `size_bytes_paper` are by the convention of arXiv:2208.09684, without the task head.
`size_bytes_disk` is what the trial's `packed/model.bertjax` has, without entropy coding, and `size_bytes_entropy` what
its codes and masks would take at their entropy, without a header; in both the task head counts, and both are blank
where a trial diverged. They do not depend on whether the model was kept.
"""

ADDED_COLUMNS: Row = {"size_bytes_disk": None, "size_bytes_entropy": None, "copies": 0, "select_score": None,
                      "selected_epoch": None}
"""Columns that came later, with their value in the results of former versions."""

TEXT_COLUMNS = ("trial_id", "task", "model", "size", "teacher", "methods", "status")
"""Columns that stay text: a `trial_id` such as 12e456789012 would read as a number."""

AXES = ("sizes", "layers", "tasks", "methods", "copies", "sparsities", "learning_rates", "distill_weights",
        "temperatures", "seeds")
"""Fields of a study that may grow between two runs in one directory; all others must stay."""

FINISHED = ("done", "diverged")

MOST_SAID = 5
"""Settings that an error names at most, where two studies differ."""


@dataclass(frozen=True)
class Ledger:
    """The trials of one run directory."""

    run_dir: Path

    def keep_study(self, study: StudyConfig) -> None:
        """Makes the run directory this study's."""
        write_text(self.run_dir / "study.json", to_json(study) + "\n")

    def check_rows(self, hashes: Mapping[str, str]) -> None:
        """Checks that tasks have the rows that their trials here were trained on: an id tells only where they are from.

        Args:
            hashes: By task, see `bertjax.data.sources.rows_hash`. A task that is not in the directory yet may have any.

        Raises:
            InputError: They have others, or what is kept of them is damaged.
        """
        kept = self._hashes()
        changed = [task for task, made in hashes.items() if kept.get(task, made) != made]
        require(not changed, f"the rows of {', '.join(changed)} changed since {self.run_dir} was begun; "
                             "use another --run-dir")

    def keep_rows(self, hashes: Mapping[str, str]) -> None:
        """Keeps the hashes of tasks; a directory of a former version, which has none, takes those of now."""
        kept = self._hashes()
        if (made := {**kept, **hashes}) != kept:
            write_text(self.run_dir / "data.json", json.dumps(made, sort_keys=True, indent=1) + "\n")

    def _hashes(self) -> dict[str, str]:
        path = self.run_dir / "data.json"
        return _read_object(path, "hashes of rows") if path.exists() else {}

    def folder(self, trial: TrialConfig) -> Path:
        """Where a trial keeps its files."""
        return self.run_dir / f"{'teachers' if trial.role == 'teacher' else 'trials'}" / trial.trial_id

    def model_folder(self, trial: TrialConfig) -> Path:
        """Where a trial keeps its model."""
        return self.folder(trial) / "model"

    def packed_folder(self, trial: TrialConfig) -> Path:
        """Where a trial keeps its model as small as it claims to be."""
        return self.folder(trial) / "packed"

    def row(self, trial: TrialConfig) -> Row | None:
        """The result of a trial, None if there is none or its file is damaged."""
        return _read_row(self.folder(trial) / "result.json")

    def missing(self, trials: Iterable[TrialConfig]) -> list[TrialConfig]:
        """The trials still to be trained: those without a result, and those that failed."""
        rows = [(trial, self.row(trial)) for trial in trials]
        return [trial for trial, row in rows if row is None or row["status"] not in FINISHED]

    def record(
        self, trial: TrialConfig, row: Row, metrics: Sequence[Row], predictions: Mapping[str, np.ndarray] | None = None
    ) -> None:
        """Keeps a trial's config, metrics per epoch, predictions (arrays by name) and, last of all, its row."""
        folder = self.folder(trial)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "config.json", to_json(trial) + "\n")
        write_text(folder / "metrics.json", json.dumps(list(metrics), indent=1) + "\n")
        if predictions is not None:
            arrays = io.BytesIO()
            np.savez_compressed(arrays, allow_pickle=False, **predictions)
            write_bytes(folder / "predictions.npz", arrays.getvalue())
        write_text(folder / "result.json", json.dumps(dict(row), indent=1) + "\n")

    def adopt(self, trials: Iterable[TrialConfig], rows: Mapping[str, Row]) -> int:
        """Takes over another run's results, by id, for those of `trials` that are missing; says how many."""
        found = [trial for trial in self.missing(trials) if trial.trial_id in rows]
        for trial in found:
            self.record(trial, rows[trial.trial_id], [])
        return len(found)

    def has_model(self, trial_id: str) -> bool:
        """Whether the model of a trial was kept, in either format."""
        folder = self.run_dir / "trials" / trial_id
        return (folder / "model" / "config.json").is_file() or (folder / "packed" / PACKED_FILE).is_file()

    def drop_model(self, trial_id: str) -> None:
        """Removes the model of a trial; its result stays."""
        for name in ("model", "packed"):
            shutil.rmtree(self.run_dir / "trials" / trial_id / name, ignore_errors=True)

    def rows(self, kind: str = "trials") -> list[Row]:
        """All results of `trials` or `teachers`, in the order of the table: by task, size, methods and setting."""
        found = [_read_row(path) for path in sorted((self.run_dir / kind).glob("*/result.json"))]
        return sorted((row for row in found if row is not None), key=_table_order)

    def write_tables(self) -> None:
        """Writes results.csv, and teachers.csv if there are teachers."""
        write_rows(self.run_dir / "results.csv", self.rows())
        if teachers := self.rows("teachers"):
            write_rows(self.run_dir / "teachers.csv", teachers)


def open_ledger(run_dir: Path, study: StudyConfig) -> Ledger:
    """The ledger of a new or continued run directory, which is `study`'s once that is kept (`Ledger.keep_study`).

    Raises:
        InputError: The directory cannot be written, or holds a study that differs in more than the grid's axes.
    """
    path = run_dir / "study.json"
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _check_same_study(path, study)
        tempfile.TemporaryFile(dir=run_dir).close()
    except OSError as error:
        raise InputError(f"the run directory must be a folder that can be written, got {run_dir}: {error}") from error
    return Ledger(run_dir)


def _check_same_study(path: Path, study: StudyConfig) -> None:
    stored = _read_object(path, "the study")
    ours, defaults = json.loads(to_json(study)), json.loads(to_json(StudyConfig("defaults", model="none")))
    # A former version has fewer settings.
    stored = {name: value | (stored.get(name) or {}) if isinstance(value, dict) else stored.get(name, value)
              for name, value in defaults.items()}
    for config in (stored, ours):
        _drop_places(config["data"])
        config |= _derived(config)
    there, now = ({name: value for name, value in _leaves(config).items()
                   if name not in (*AXES, "max_trials_per_program")} for config in (stored, ours))
    differing = sorted(name for name in {*there, *now} if there.get(name) != now.get(name))
    require(not differing, f"{path.parent} holds another study: " + "; ".join(
        f"{name} is {_brief(there.get(name))} there and {_brief(now.get(name))} now" for name in differing[:MOST_SAID]
    ) + (f"; and {len(differing) - MOST_SAID} more" if len(differing) > MOST_SAID else "") + "; use another --run-dir")


def _drop_places(data: dict[str, Any]) -> None:
    """The same data may lie elsewhere now: of files the names stay, as in `trial_id`."""
    del data["data_dir"]
    for name in ("train_file", "dev_file"):
        data[name] = data[name] and Path(data[name]).name


def _leaves(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The settings of a study by their path, such as `train.epochs`."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        found |= _leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def _read_object(path: Path, what: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} must hold {what} as JSON, got a damaged file ({error}); "
                         "use another run directory") from error
    require(isinstance(found, dict), f"{path} must hold {what} as a JSON object, got a {type(found).__name__}; "
                                     "use another run directory")
    return found


def _derived(study: dict[str, Any]) -> dict[str, Any]:
    """What follows from axes that may grow, and must stay all the same: every trial depends on it."""
    rates, distills = study["learning_rates"], any("K" in methods for methods in study["methods"])
    several = study["select_on"] == "train" and (len(rates) > 1 or study["select_epoch"])
    rate = study["teacher"]["learning_rate"] or (rates[0] if distills else None)
    room = max(study["copies"]) if study["budget"] == "equal_steps" else 0
    return {"holding out training rows (several learning rates)": several, "the teacher's learning rate": rate,
            "the most copies (all trials' batches leave room for them)": room}


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 300 else text[:300] + "…"


def _read_row(path: Path) -> Row | None:
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(row, dict):
        return None
    row = {**ADDED_COLUMNS, **row}
    return row if set(RESULT_COLUMNS) <= set(row) else None


def _table_order(row: Row) -> tuple:
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


def write_text(path: Path, text: str) -> None:
    """Writes a text file that is there whole or not at all."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file that is there whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
