"""The models that a run directory kept, and the table of their latencies beside its results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertjax.config import DataConfig, InputError, require
from bertjax.sweep.ledger import Ledger
from bertjax.sweep.run_dir import RunDir


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
    ledger = Ledger(RunDir(run_dir))
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
