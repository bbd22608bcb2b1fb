"""The study that a command's flags spell, and the run directory that it goes into."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertjax.cli_args import Plan, Sweep, Train
from bertjax.cli_outputs import check_writable
from bertjax.config import InputError, require
from bertjax.files import is_remote
from bertjax.study import StudyConfig
from bertjax.sweep.experiments import load_study, override
from bertjax.train.axes import axis_sizes

if TYPE_CHECKING:
    from bertjax.cli_options import DataOptions, GridOptions, StudyOptions


def study_of(command: Sweep | Plan) -> StudyConfig:
    """The experiment's study with the command's overrides."""
    return settled(override(load_study(command.experiment), **overrides(command.grid, command)))


def checked_study(command: Sweep | Train) -> tuple[StudyConfig, bool]:
    """The study to run, and whether its run directory is new, which is made. Bad flags are known without JAX, which
    takes long to import."""
    if command.mesh is not None:
        axis_sizes(command.mesh)
    require(command.checkpoint_minutes >= 0,
            f"--checkpoint-minutes must be at least 0, got {command.checkpoint_minutes:g}")
    study = study_of(command) if isinstance(command, Sweep) else train_study(command)
    if is_remote(command.run_dir):
        return study, False
    new = not os.path.exists(command.run_dir)
    check_writable(Path(command.run_dir))
    return study, new


def rehearsed(command: Sweep, study: StudyConfig) -> StudyConfig:
    """The study, or with `--smoke` its rehearsal, whose largest programs are lowered here."""
    if not command.smoke:
        return study
    from bertjax.sweep.inputs import cache_dir
    from bertjax.sweep.smoke import lower_largest, smoke_study
    folder = cache_dir() if is_remote(command.run_dir) else Path(command.run_dir)
    check_writable(folder)
    from bertjax.train.processes import in_turns
    with in_turns():  # into one folder, or into one of each machine
        made = smoke_study(study, folder / "smoke")
    lower_largest(study, command.mesh if command.executor == "local" else None)  # tasks have other devices
    return made


TRAIN_NEEDS = {"sparsity": "P", "distill_weight": "K", "temperature": "K", "copies": "KA"}
"""Flags of `train` that mean nothing without one of these compressions."""


def train_study(command: Train) -> StudyConfig:
    """A study of one trial."""
    for name, letters in TRAIN_NEEDS.items():
        require(getattr(command, name) is None or not set(letters).isdisjoint(command.methods),
                f"--{name.replace('_', '-')} is for methods with {' or '.join(letters)}; got --methods "
                f"{command.methods}")

    def one(value: Any) -> tuple[Any] | None:
        return None if value is None else (value,)

    study = StudyConfig("train", model=command.model, methods=(command.methods,))
    return settled(override(
        study, tasks=one(command.task), layers=one(command.layers), sparsities=one(command.sparsity),
        learning_rates=one(command.learning_rate), distill_weights=one(command.distill_weight),
        temperatures=one(command.temperature), seeds=one(command.seed), copies=one(command.copies),
        **overrides(None, command)))


def settled(study: StudyConfig) -> StudyConfig:
    """The study with names in their one spelling, so that `SST-2` and `sst2` are the same trial."""
    from bertjax.data.tasks import find_task
    if study.data.train_file is None:
        study = replace(study, tasks=tuple(find_task(task).name for task in study.tasks))
    else:
        require(len(study.tasks) == 1, f"own data is one task, got {', '.join(study.tasks)}")
    return study


def overrides(grid: GridOptions | None, options: StudyOptions) -> dict[str, Any]:
    """Flags as the arguments of `override`."""
    parts = {"data": data_values(options.data)}
    parts |= {name: asdict(getattr(options, name)) for name in ("train", "quantize", "prune", "augment", "teacher")}
    return (asdict(grid) if grid else {}) | parts | {
        name: getattr(options, name) for name in ("budget", "select_on", "select_epoch")}


def data_values(options: DataOptions) -> dict[str, Any]:
    """The data flags that are given; a switch that is off is not given."""
    return {name: value for name, value in asdict(options).items() if value is not None and value is not False}


@contextmanager
def taken_away(run_dir: str, new: bool) -> Iterator[None]:
    """Within, bad input takes a new run directory away again, as long as nothing is in it."""
    try:
        yield
    except InputError:
        if new:
            with suppress(OSError):  # something is in it
                os.rmdir(run_dir)
        raise
