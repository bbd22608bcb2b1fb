"""TensorBoard's view of a study: the losses of every trial, step by step, and its scores.

    RUN_DIR/tensorboard/<task>/<student>/<methods> … <trial_id>/    events of one trial

They are for watching: no result is read from them. What a program does again after a restart is shown once.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bertjax.config import require
from bertjax.study import TrialConfig
from bertjax.train.running import Progress
from bertjax.train.trial import split_groups

TENSORBOARD = "tensorboard"
"""The folder in a run directory."""

FLUSH_SECONDS = 5

NUMBERS = itertools.count()
"""Of this process's files."""


def require_tensorboard() -> None:
    """Checks that events can be written.

    Raises:
        InputError: The package that writes them is not installed.
    """
    require(importlib.util.find_spec("tensorboardX") is not None,
            "--tensorboard needs the package tensorboardX: pip install 'bertjax[tensorboard]'")


class Scalars:
    """Writes the events of the trials of one program; without a folder, nothing."""

    def __init__(self, folder: Path | None, trials: Sequence[TrialConfig]) -> None:
        self.folder = folder
        self.groups = list(split_groups(trials).values())
        self.writers: dict[TrialConfig, Any] = {}

    def step(self, progress: Progress) -> None:
        """The losses of the steps of a chunk, and the norm of their gradients."""
        if self.folder is None:
            return
        first = progress.step - len(progress.metrics[0].loss)
        for group, metrics in zip(self.groups, progress.metrics, strict=True):
            for i, trial in enumerate(group):  # behind them may be copies that fill up the mesh
                writer = self._writer(trial, first)
                for name, values in metrics._asdict().items():
                    for offset, value in enumerate(np.asarray(values)[:, i]):
                        writer.add_scalar(f"train/{name}", float(value), first + offset + 1)

    def epochs(self, trial: TrialConfig, metrics: Sequence[dict[str, Any]]) -> None:
        """The scores of a finished trial after each epoch, as metrics.json has them."""
        if self.folder is None:
            return
        writer = self._writer(trial, 0)
        for epoch in metrics:
            for name, value in epoch.items():
                if name not in ("epoch", "step") and value is not None:
                    writer.add_scalar(f"dev/{name}", value, epoch["step"])

    def close(self) -> None:
        """Ends the files; a later `step` begins others."""
        for writer in self.writers.values():
            writer.close()
        self.writers.clear()

    def _folder(self, trial: TrialConfig) -> Path:
        depth = "" if trial.num_hidden_layers is None else f" {trial.num_hidden_layers} layers"
        name = f"{trial.methods} seed {trial.seed} {trial.trial_id}"
        return Path(self.folder or "") / trial.task / (Path(trial.model).name + depth) / name

    def _writer(self, trial: TrialConfig, step: int) -> Any:
        if trial not in self.writers:
            from tensorboardX import SummaryWriter

            # What a process before this one wrote of later steps is done again, and not shown twice.
            self.writers[trial] = SummaryWriter(
                str(self._folder(trial)), purge_step=step + 1 if step else None, flush_secs=FLUSH_SECONDS,
                filename_suffix=f".{os.getpid()}.{next(NUMBERS)}")  # else one of the same second is written over
        return self.writers[trial]
