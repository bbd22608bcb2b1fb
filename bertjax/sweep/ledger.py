"""The run directory: what each trial left, written so that a kill at any moment loses no finished trial.

    DIR/study.json                     the study
    DIR/data.json                      a hash of the rows of each task that trials were trained on
    DIR/results.csv, teachers.csv      a row per trial, made from the trials' own rows and latency.csv
    DIR/trials/<trial_id>/             config.json, metrics.json (per epoch), predictions.npz (logits and labels of the
                                       dev rows), model/ and packed/ if its model was kept, and result.json, written
                                       last
    DIR/teachers/<trial_id>/           the same for teachers, without packed/
    DIR/checkpoints/<program>/         of a program that was begun and is not finished, see `bertjax.train.checkpoint`
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bertjax.artifact.inference.latency import Latency
from bertjax.artifact.packed.model import PACKED_FILE
from bertjax.config import InputError, require, to_json
from bertjax.files import npz, write_bytes, write_text
from bertjax.study import StudyConfig, TrialConfig
from bertjax.sweep.latency_file import read_latency
from bertjax.sweep.results import ADDED_COLUMNS, FINISHED, RESULT_COLUMNS, Row, table_order, write_rows
from bertjax.sweep.run_dir import RunDir
from bertjax.train.checkpoint import Checkpoints, begun_programs
from bertjax.train.processes import is_first

AXES = ("sizes", "layers", "tasks", "methods", "copies", "sparsities", "learning_rates", "distill_weights",
        "temperatures", "seeds")
"""Fields of a study that may grow between two runs in one directory; all others must stay."""

MOST_SAID = 5
"""Settings that an error names at most, where two studies differ."""


@dataclass(frozen=True)
class Ledger:
    """The trials of one run directory."""

    place: RunDir
    """Where it is."""

    @property
    def run_dir(self) -> Path:
        """The folder, or the working copy of a place in an object store."""
        return self.place.local

    @property
    def writes(self) -> bool:
        """Whether what is kept is written by this process; of several it is the first."""
        return is_first()

    def push(self) -> None:
        """Brings what was written to where it stays."""
        self.place.push()

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

    def has_teacher(self, teacher: TrialConfig) -> bool:
        """Whether the directory has all of a teacher that it needs to teach."""
        return not self.missing([teacher]) and (
            teacher.fine_tuned or self.place.has(self.model_folder(teacher) / "config.json"))

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
            write_bytes(folder / "predictions.npz", npz(True, **predictions))
        write_text(folder / "result.json", json.dumps(dict(row), indent=1) + "\n")

    def adopt(self, trials: Iterable[TrialConfig], rows: Mapping[str, Row]) -> int:
        """Takes over another run's results, by id, for those of `trials` that are missing; says how many."""
        found = [trial for trial in self.missing(trials) if trial.trial_id in rows]
        for trial in found:
            self.record(trial, rows[trial.trial_id], [])
        return len(found)

    def checkpoints(self, trials: Sequence[TrialConfig], seconds: float) -> Checkpoints:
        """Those of the program that trains these trials.

        Args:
            seconds: Between two of them.
        """
        ids = " ".join(trial.trial_id for trial in trials)
        name = hashlib.sha256(ids.encode()).hexdigest()[:12]
        return Checkpoints(self.place.root / "checkpoints" / name, seconds)

    def begun(self, planned: Sequence[TrialConfig]) -> list[tuple[TrialConfig, ...]]:
        """The programs that were begun with some of the planned trials and no others, and are not finished: only as
        such they go on with the same bits. Those of most trials come first; begun on several machines they may have
        trials in common."""
        known = {trial.trial_id for trial in planned}
        return [tuple(trial for trial in planned if trial.trial_id in ids)
                for ids in sorted(begun_programs(self.place.root / "checkpoints").values(), key=len, reverse=True)
                if set(ids) <= known]

    def left(self, planned: Sequence[TrialConfig], known: Container[str]) -> tuple[TrialConfig, ...]:
        """The trials still to be trained of the `planned` ones.

        Args:
            planned: A program's trials in the study.
            known: Ids of those that another run has finished.
        """
        return tuple(trial for trial in self.missing(planned) if trial.trial_id not in known)

    def drop_finished_checkpoints(self) -> None:
        """Removes those of programs whose trials are all finished: a process that was killed once they were kept, and
        before it dropped them, left them."""
        finished = {row["trial_id"] for kind in ("trials", "teachers") for row in self.rows(kind)
                    if row["status"] in FINISHED}
        for folder, ids in begun_programs(self.place.root / "checkpoints").items():
            if finished.issuperset(ids):
                folder.rmtree()

    def has_model(self, trial_id: str) -> bool:
        """Whether the model of a trial was kept, in either format."""
        folder = self.run_dir / "trials" / trial_id
        return self.place.has(folder / "model" / "config.json") or self.place.has(folder / "packed" / PACKED_FILE)

    def drop_model(self, trial_id: str) -> None:
        """Removes the model of a trial; its result stays."""
        for name in ("model", "packed"):
            self.place.remove(self.run_dir / "trials" / trial_id / name)

    def rows(self, kind: str = "trials") -> list[Row]:
        """All results of `trials` or `teachers`, in the order of the table: by task, size, methods and setting."""
        found = [_read_row(path) for path in sorted((self.run_dir / kind).glob("*/result.json"))]
        return sorted((row for row in found if row is not None), key=table_order)

    def write_tables(self) -> None:
        """Writes results.csv, with what latency.csv has of its trials, and teachers.csv if there are teachers."""
        measured = read_latency(self.run_dir)
        nothing = dict.fromkeys(Latency._fields)
        write_rows(self.run_dir / "results.csv", [
            {**row, **(measured[row["trial_id"]]._asdict() if row["trial_id"] in measured else nothing)}
            for row in self.rows()])
        if teachers := self.rows("teachers"):
            write_rows(self.run_dir / "teachers.csv", teachers)


def open_ledger(home: RunDir, study: StudyConfig) -> Ledger:
    """The ledger of a new or continued run directory, which is `study`'s once that is kept (`Ledger.keep_study`).

    Raises:
        InputError: The directory cannot be written, or holds a study that differs in more than the grid's axes, or a
            latency.csv that is none.
    """
    run_dir = home.local
    path = run_dir / "study.json"
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _check_same_study(path, study)
        tempfile.TemporaryFile(dir=run_dir).close()
    except OSError as error:
        raise InputError(f"the run directory must be a folder that can be written, got {run_dir}: {error}") from error
    read_latency(run_dir)  # a damaged file is refused now, not once the results are to be written
    return Ledger(home)


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
