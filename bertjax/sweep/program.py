"""A program's trials and rows put together: what a sweep trains, and what a benchmark of it times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from bertjax.config import QuantizeConfig
from bertjax.data.batches import Schedule, train_schedule, with_copies
from bertjax.study import TrialConfig
from bertjax.sweep.inputs import EVAL_BATCH_SIZE, TaskInputs
from bertjax.sweep.starts import Starts
from bertjax.train.loop import Fit, fit
from bertjax.train.program import CompiledChunks, place_group, place_schedule, place_table, program_spec
from bertjax.train.trial import Order, orders_of, split_groups


@dataclass
class Program:
    """The trials of one task and student that are stepped together."""

    trials: Sequence[TrialConfig]
    """With equal epochs and batch size."""
    inputs: TaskInputs
    mesh: Mesh
    teacher_logits: np.ndarray | None = None
    """[text, labels], of the training rows and their copies; needed if a trial distills."""
    part_tokens: int | None = None
    """See `ProgramSpec`."""
    epochs: int | None = None
    """Passes over the training rows; None: those of the trials."""

    @cached_property
    def groups(self) -> dict[QuantizeConfig, list[TrialConfig]]:
        """The trials by their static half."""
        return split_groups(self.trials)

    @cached_property
    def orders(self) -> list[Order]:
        """Those in which the trials read the rows."""
        return orders_of(self.trials)

    @cached_property
    def rows(self) -> Schedule:
        """The rows of every step."""
        trial, inputs = self.trials[0], self.inputs
        seeds = [order.seed for order in self.orders]
        schedule = train_schedule(inputs.epoch_lengths, inputs.edges, trial.train.batch_size,
                                  self.epochs or trial.train.epochs, seeds, inputs.buckets)
        if trial.texts_per_row > 1:
            return schedule
        return with_copies(schedule, len(inputs.rows.train), [order.copies for order in self.orders], seeds)

    @cached_property
    def starts(self) -> Starts:
        """The parameters that the trials start from."""
        return Starts(self.inputs, {})

    def chunks(self, made: CompiledChunks | None = None) -> CompiledChunks:
        """`made`, if that is what another program compiled which is like this one; else new ones."""
        spec = program_spec(self.trials, self.inputs.train_config, self.inputs.data.task.regression, self.part_tokens)
        fits = made is not None and (made.spec, made.mesh) == (spec, self.mesh)
        return made if fits and made is not None else CompiledChunks(spec, self.mesh)

    def fit(
        self, chunks: CompiledChunks, steps: Schedule | None = None, *, eval_rows: range = range(0), **options: Any,
    ) -> Fit:
        """Trains from the start, or from a checkpoint, to the end.

        Args:
            chunks: See `chunks`; what is missing in them is compiled.
            steps: Some of the steps of `rows`, to run these alone.
            eval_rows: As for `bertjax.train.loop.fit`.
            options: Others of `bertjax.train.loop.fit`.
        """
        inputs, rows = self.inputs, self.rows
        placed = [place_group(group, self.starts.used, self.orders, len(rows.bucket), self.mesh)
                  for group in self.groups.values()]
        states, numbers = jax.block_until_ready(tuple(zip(*placed, strict=True)))
        return fit(
            chunks, states, numbers,
            place_table(inputs.rows.table(inputs.config.num_labels, self.teacher_logits), self.mesh),
            rows if steps is None else steps, place_schedule(rows.row_index, rows.row_weight, self.mesh),
            eval_rows=eval_rows, lengths=inputs.rows.lengths, eval_edges=inputs.eval_edges,
            eval_batch_size=EVAL_BATCH_SIZE, **options,
        )


def one_step_per_length(rows: Schedule) -> Schedule:
    """A step of each batch length; the arrays have the shapes of the whole schedule, so that it compiles the same."""
    bucket = np.unique(rows.bucket)
    return replace(rows, bucket=bucket, steps_per_epoch=len(bucket))
