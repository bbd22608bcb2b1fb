"""How a study was made: its settings, the command that repeats it, and the versions of what made the report."""

from __future__ import annotations

import json
import platform
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertjax.artifact import machine
from bertjax.config import to_json
from bertjax.study import StudyConfig

PACKAGES = ("bertjax", "jax", "flax", "optax", "aqtp", "transformers", "altair")
"""Whose versions the page names."""

COMMAND_FLAGS = (
    ("--model", "model"), ("--sizes", "sizes"), ("--layers", "layers"), ("--tasks", "tasks"), ("--methods", "methods"),
    ("--sparsities", "sparsities"), ("--seeds", "seeds"), ("--learning-rates", "learning_rates"),
    ("--epochs", "train.epochs"), ("--batch-size", "train.batch_size"), ("--data-dir", "data.data_dir"),
    ("--max-train-examples", "data.max_train_examples"), ("--train-file", "data.train_file"),
    ("--dev-file", "data.dev_file"),
)
"""The overrides of `bertjax sweep` that the command to repeat the study spells out."""

MORE_FLAGS = (
    ("--copies", "copies"), ("--budget", "budget"), ("--augment-rate", "augment.rate"),
    ("--augment-multiword", "augment.multiword"), ("--augment-seed", "augment.seed"), ("--select-on", "select_on"),
    ("--select-epoch", "select_epoch"), ("--distill-weights", "distill_weights"), ("--temperatures", "temperatures"),
    *((f"--{name.replace('_', '-')}", f"quantize.{name}") for name in ("weight_bits", "activation_bits",
                                                                      "embedding_bits")),
    *((f"--prune-{name}", f"prune.{name}") for name in ("schedule", "begin", "end")),
    ("--initial-sparsity", "prune.initial_sparsity"), ("--mask-every", "prune.mask_every"),
    *((f"--{name.replace('_', '-')}", f"train.{name}") for name in ("warmup_fraction", "weight_decay", "max_grad_norm",
                                                                   "reinit_pooler", "reinit_head", "dtype")),
    ("--text-columns", "data.text_columns"), ("--label-column", "data.label_column"),
    ("--max-length", "data.max_length"), ("--max-buckets", "data.max_buckets"), ("--teacher-model", "teacher.model"),
    ("--teacher-fine-tuned", "teacher.fine_tuned"), ("--teacher-layers", "teacher.num_hidden_layers"),
    ("--teacher-learning-rate", "teacher.learning_rate"), ("--teacher-epochs", "teacher.epochs"),
    ("--teacher-seed", "teacher.seed"),
)
"""Those that it spells out where they differ from the defaults."""


def study_rows(study: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """The study's settings, flat: ("train.epochs", "3")."""
    rows: list[tuple[str, str]] = []
    for name, value in study.items():
        if isinstance(value, Mapping):
            rows += study_rows(value, f"{prefix}{name}.")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            rows.append((f"{prefix}{name}", "none" if value is None else text or "–"))
    return rows


def command(study: Mapping[str, Any], run_dir: Path) -> str:
    """The `bertjax sweep` that repeats the study into the same run directory; blank settings stay at their defaults."""
    lines = [shlex.join(["bertjax", "sweep", str(study.get("name", "EXPERIMENT")), "--run-dir", run_dir.name])]
    defaults = json.loads(to_json(StudyConfig("defaults", model="none")))
    for flag, path in (*COMMAND_FLAGS, *MORE_FLAGS):
        value = setting(study, path)
        if (flag, path) in MORE_FLAGS:
            default = setting(defaults, path)
            value = default if value is None and default is None else "none" if value is None else value
            shown = path.split(".")[0] in study and value != default
        else:
            shown = value not in (None, [], "")
        if shown:
            lines.append(shlex.join([flag, *(map(str, value) if isinstance(value, list) else [str(value)])]))
    return " \\\n  ".join(lines)


def setting(study: Mapping[str, Any], path: str) -> Any:
    """A setting by its path, `train.epochs`; None where it is not there."""
    value: Any = study
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def versions() -> dict[str, str]:
    """Versions of Python and of `PACKAGES`, as installed where the report is made."""
    return {"python": platform.python_version(), **machine.versions(PACKAGES)}
