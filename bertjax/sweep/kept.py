"""The models that a run directory kept, and the table of their latencies beside its results."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
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


def kept_models(
    run_dir: Path, task: str | None = None, layers: Collection[int] | None = None, seeds: Collection[int] | None = None
) -> list[KeptModel]:
    """The trials of a task whose models were kept, in the order of results.csv.

    Args:
        run_dir: Of a sweep.
        task: None takes the only one that there is.
        layers: Depths of the models; None: any.
        seeds: Of the trials; None: any.

    Raises:
        InputError: No model was kept, none of what is asked for, or several tasks were kept and none is named.
    """
    ledger = Ledger(RunDir(run_dir))
    rows = [row for row in ledger.rows() if row["status"] == "done" and ledger.has_model(row["trial_id"])]
    require(bool(rows), f"{run_dir} must hold trained models, got none; sweep with --keep-models best or all")
    tasks = _values(rows, "task")
    require(task is not None or len(tasks) == 1, f"{run_dir} holds models of {', '.join(tasks)}: choose one by --task")
    require(task is None or task in tasks, f"{run_dir} holds models of {', '.join(tasks)}, none of {task}")
    rows = [row for row in rows if task is None or row["task"] == task]
    for name, what, wanted in (("num_hidden_layers", "layers", layers), ("seed", "seed", seeds)):
        held = _values(rows, name)
        rows = [row for row in rows if wanted is None or row[name] in wanted]
        require(bool(rows), f"{run_dir} holds no model of {what} {_listed(wanted)}, but of {_listed(held)}")
    return [_kept(run_dir, row) for row in rows]


def _values(rows: Iterable[Mapping[str, Any]], name: str) -> list[Any]:
    return list(dict.fromkeys(row[name] for row in rows))


def _listed(values: Iterable[Any] | None) -> str:
    return ", ".join(map(str, values or ()))


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
