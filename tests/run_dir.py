"""A run directory as a sweep leaves it, without training: rows, configs, and copies of one model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from bertjax.config import DataConfig
from bertjax.sweep.results import RESULT_COLUMNS


def make_run_dir(folder: Path, trials: Mapping[str, tuple[str, str]], model: Path | None, data: DataConfig) -> Path:
    """`trials` are id: (task, methods); each has a copy of `model`, or only a config file of one where that is None."""
    for number, (trial_id, (task, methods)) in enumerate(trials.items()):
        trial = folder / "trials" / trial_id
        if model is None:
            (trial / "model").mkdir(parents=True)
            (trial / "model" / "config.json").write_text("{}")
        else:
            shutil.copytree(model, trial / "model")
        row = dict.fromkeys(RESULT_COLUMNS) | {
            "trial_id": trial_id, "task": task, "methods": methods, "status": "done", "params": number, "model": "m",
            "num_hidden_layers": 2, "copies": 0, "sparsity": 0.0, "distill_weight": 0.0, "temperature": 1.0, "seed": 0}
        (trial / "result.json").write_text(json.dumps(row))
        (trial / "config.json").write_text(json.dumps({"data": asdict(data)}))
    (folder / "study.json").write_text("{}")
    return folder
