"""What a plan needs to know of a program: its shape and its rows, without a download where a table will do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bertjax.config import BertConfig
from bertjax.data.batches import batches_per_bucket, padding_fraction
from bertjax.data.examples import held_out_rows
from bertjax.data.glue_lengths import glue_lengths
from bertjax.data.tasks import GLUE_TASKS, TASKS
from bertjax.model.flops import forward_flops, train_flops
from bertjax.model.sizes import SIZES
from bertjax.study import TrialConfig
from bertjax.sweep.devices import Devices
from bertjax.sweep.inputs import EVAL_BATCH_SIZE, eval_edges, task_inputs, train_buckets, train_edges

TABLE_BYTES = 2
"""Bytes of a token id on the device, for a vocabulary below 65,536."""


@dataclass(frozen=True)
class Outline:
    """One program's shape and rows."""

    config: BertConfig
    """As trained: the rows of the word embedding that the task uses, or all where that is not known."""
    texts: int
    """Training rows and their copies."""
    epoch_lengths: np.ndarray
    """[row of an epoch] tokens."""
    dev_lengths: np.ndarray
    """[dev row] tokens; drawn from the training rows where they are not known."""
    edges: tuple[int, ...]
    eval_edges: tuple[int, ...]
    batch_size: int
    epochs: int
    estimated: bool
    """The lengths are an estimate."""

    @property
    def padding(self) -> float:
        """Share of the training's computed tokens that are padding."""
        return padding_fraction(self.epoch_lengths, self.edges, self.batch_size)

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        return int(batches_per_bucket(self.epoch_lengths, self.edges, self.batch_size).sum()) * self.epochs

    @property
    def longest(self) -> int:
        """Tokens of the longest row, training or dev."""
        return int(max(self.epoch_lengths.max(), self.dev_lengths.max()))

    @property
    def table_bytes(self) -> int:
        """Token ids on the device."""
        return TABLE_BYTES * self.longest * (self.texts + len(self.dev_lengths))

    @property
    def trial_flops(self) -> float:
        """Operations of one trial: its training, and its evaluation after every epoch."""
        return self.epochs * (
            pass_flops(train_flops, self.config, self.epoch_lengths, self.edges, self.batch_size)
            + pass_flops(forward_flops, self.config, self.dev_lengths, self.eval_edges, EVAL_BATCH_SIZE))

    @property
    def outputs_flops(self) -> float:
        """Operations of a forward pass over the training rows: a teacher's outputs, without the copies."""
        return pass_flops(forward_flops, self.config, self.epoch_lengths, self.eval_edges, EVAL_BATCH_SIZE)


def outline(trials: Sequence[TrialConfig], devices: Devices) -> Outline:
    """The outline of the trials of one program, as it would run on these devices.

    Tasks that would come from the hub and models of the six sizes are known from tables; all else is read.

    Raises:
        InputError: What must be read cannot be.
    """
    trial = trials[0]
    data, size = trial.data, next((size for size in SIZES.values() if size.hub_name == trial.model), None)
    task = TASKS.get(trial.task)
    if data.data_dir is not None or data.train_file is not None or task not in GLUE_TASKS or size is None:
        return read_outline(trials, devices)
    known = glue_lengths(task)
    config = replace(size.config, num_labels=task.num_labels, vocab_size=known.vocabulary or size.config.vocab_size)
    if trial.num_hidden_layers is not None:
        config = replace(config, num_hidden_layers=trial.num_hidden_layers)
    rows = min(data.max_train_examples or len(known.train), len(known.train))
    held_out = held_out_rows(rows) if trial.hold_out else 0
    train = np.minimum(_spread(known.train, rows - held_out), data.max_length)
    epoch, copies = np.tile(train, trial.texts_per_row), max(trial.table_copies for trial in trials)
    dev = _spread(train, known.dev_rows + held_out)
    there = len(trials), devices.platform, devices.count
    return Outline(config, len(train) * (1 + copies), epoch, dev,
                   train_edges(trial, config, epoch, train_buckets(trial, config, epoch), *there),
                   eval_edges(trial, config, np.concatenate([epoch, dev]), len(dev), *there), trial.train.batch_size,
                   trial.train.epochs, known.estimated)


def read_outline(trials: Sequence[TrialConfig], devices: Devices | None = None) -> Outline:
    """The outline of the trials of one program by what they read: as `outline`, but always exact; None: here."""
    trial, inputs = trials[0], task_inputs(trials)
    dev = inputs.rows.lengths[inputs.rows.dev_rows.start:]
    edges, of_evaluation = inputs.edges, inputs.eval_edges
    if devices is not None:
        there = len(trials), devices.platform, devices.count
        edges = train_edges(trial, inputs.config, inputs.epoch_lengths, inputs.buckets, *there)
        of_evaluation = eval_edges(trial, inputs.config, inputs.rows.lengths, len(dev), *there)
    return Outline(inputs.train_config, len(inputs.rows.texts), inputs.epoch_lengths, dev, edges,
                   of_evaluation, trial.train.batch_size, trial.train.epochs, estimated=False)


def _spread(lengths: np.ndarray, count: int) -> np.ndarray:
    """`count` of the sorted lengths, evenly spread."""
    return lengths[np.linspace(0, len(lengths) - 1, count).round().astype(int)]


def pass_flops(
    per_row: Callable[[BertConfig, int], int], config: BertConfig, lengths: np.ndarray, edges: Sequence[int],
    batch_size: int,
) -> float:
    """Operations of one pass over rows of these lengths in batches, with those for padding and for the rows that fill
    up the last batch."""
    batches = batches_per_bucket(lengths, edges, batch_size)
    return float(sum(int(count) * batch_size * per_row(config, edge)
                     for count, edge in zip(batches, edges, strict=True)))
