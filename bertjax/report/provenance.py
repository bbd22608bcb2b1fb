"""How a study was made: its settings, the command that repeats it, and the versions of what made the report."""

from __future__ import annotations

import importlib.metadata
import platform
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PACKAGES = ("bertjax", "jax", "flax", "optax", "aqtp", "transformers", "altair")
"""Whose versions the page names."""

COMMAND_FLAGS = (
    ("--model", "model"), ("--sizes", "sizes"), ("--layers", "layers"), ("--tasks", "tasks"), ("--methods", "methods"),
    ("--copies", "copies"), ("--budget", "budget"), ("--augment-rate", "augment.rate"), ("--select-on", "select_on"),
    ("--sparsities", "sparsities"), ("--seeds", "seeds"), ("--learning-rates", "learning_rates"),
    ("--epochs", "train.epochs"), ("--batch-size", "train.batch_size"), ("--data-dir", "data.data_dir"),
    ("--max-train-examples", "data.max_train_examples"), ("--train-file", "data.train_file"),
    ("--dev-file", "data.dev_file"), ("--teacher-model", "teacher.model"),
)
"""The overrides of `bertjax sweep` that the command to repeat the study spells out."""


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
    for flag, path in COMMAND_FLAGS:
        value: Any = study
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        if value not in (None, [], ""):
            lines.append(shlex.join([flag, *(map(str, value) if isinstance(value, list) else [str(value)])]))
    return " \\\n  ".join(lines)


def versions() -> dict[str, str]:
    """Versions of Python and of `PACKAGES`, as installed where the report is made."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
