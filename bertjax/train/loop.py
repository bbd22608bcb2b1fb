"""Runs a program from its first step to its last: chunks of steps, an evaluation after every epoch, nothing per step.

The host chooses how many steps a chunk takes, so that one lasts about `CHUNK_SECONDS` and a signal waits no longer, and
reads the metrics of a chunk only after it has started the next.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from bertjax.data.batches import Schedule as RowSchedule
from bertjax.data.batches import eval_batches
from bertjax.train.mesh import padded
from bertjax.train.program import CompiledChunks, place
from bertjax.train.state import Hparams, Schedule, StepMetrics, Table, TrainState
from bertjax.train.step import MAX_CHUNK

CHUNK_SECONDS = 2.0


class Progress(NamedTuple):
    """What a running program tells after each chunk."""

    step: int
    total_steps: int
    trial_examples: int
    """Rows trained on so far, summed over trials."""
    seconds: float
    """Training and evaluating so far, compilation excluded."""
    loss: np.ndarray
    """[trial] training loss of the last step known, over all groups."""


Listener = Callable[[Progress], None]


@dataclass(frozen=True)
class Evaluation:
    """Outputs on the evaluated rows after an epoch."""

    epoch: int
    step: int
    logits: tuple[np.ndarray, ...]
    """For each group [trial, row, labels]."""


@dataclass
class Fit:
    """What a finished program leaves."""

    groups: tuple[TrainState, ...]
    metrics: tuple[StepMetrics[np.ndarray], ...]
    """For each group, [step, trial] arrays."""
    evaluations: list[Evaluation]
    seconds: float
    """Wall time of training and evaluating, compilation excluded."""


Scorer = Callable[[Evaluation], Sequence[np.ndarray]]
"""For each group the [trial] scores of an evaluation, higher is better, NaN is worst."""


@dataclass
class _Best:
    """The parameters and masks of each trial's best epoch so far, beside those in training."""

    scorer: Scorer
    highest: list[np.ndarray] = field(default_factory=list)
    kept: Any = None

    def seen(self, evaluation: Evaluation, groups: tuple[TrainState, ...]) -> None:
        """Keeps what is better than before; the first of equals stays."""
        scores = [np.nan_to_num(score, nan=-np.inf) for score in self.scorer(evaluation)]
        current = tuple((group.params, group.masks) for group in groups)
        if self.kept is None:
            self.highest, self.kept = scores, jax.tree.map(jnp.copy, current)  # a copy: the groups are donated
            return
        better = [score > highest for score, highest in zip(scores, self.highest, strict=True)]
        self.highest = [np.maximum(score, highest) for score, highest in zip(scores, self.highest, strict=True)]
        self.kept = tuple(_take_where(*arguments) for arguments in zip(better, current, self.kept, strict=True))

    def of(self, groups: tuple[TrainState, ...]) -> tuple[TrainState, ...]:
        """The groups with what was kept."""
        return tuple(group._replace(params=params, masks=masks)
                     for group, (params, masks) in zip(groups, self.kept, strict=True))


@partial(jax.jit, donate_argnums=2)
def _take_where(better: Array, new: Any, old: Any) -> Any:
    """[trial] `better` trials of `new`, the others of `old`."""
    return jax.tree.map(lambda a, b: jnp.where(better.reshape(-1, *[1] * (a.ndim - 1)), a, b), new, old)


@dataclass
class _Pace:
    """How many steps of each batch length fit into a chunk of `CHUNK_SECONDS`."""

    seconds_per_step: dict[int, float] = field(default_factory=dict)

    def steps(self, length: int, remaining: int) -> int:
        """Steps of the next chunk; one at first, to find out how long it takes."""
        pace = self.seconds_per_step.get(length)
        fitting = 1 if pace is None else int(CHUNK_SECONDS / max(pace, 1e-9))
        return max(1, min(remaining, fitting, MAX_CHUNK))


def fit(
    chunks: CompiledChunks,
    groups: tuple[TrainState, ...],
    hparams: tuple[Hparams, ...],
    table: Table,
    rows: RowSchedule,
    schedule: Schedule,
    *,
    eval_rows: range,
    lengths: np.ndarray,
    eval_edges: Sequence[int],
    eval_batch_size: int,
    listener: Listener | None = None,
    steps_per_chunk: int | None = None,
    scorer: Scorer | None = None,
) -> Fit:
    """Trains every trial of every group to the end of the schedule.

    Args:
        chunks: The program's compiled chunks.
        groups: Placed states; donated, do not use them afterwards.
        hparams: Placed numbers of each group.
        table: The placed table.
        rows: The schedule on the host: bucket of each step, steps per epoch.
        schedule: The same schedule, placed.
        eval_rows: Rows of the table to evaluate after each epoch; empty evaluates none.
        lengths: [row] tokens of every row of the table.
        eval_edges: Batch lengths of the evaluation.
        eval_batch_size: Rows per evaluation batch.
        listener: Told after each chunk.
        steps_per_chunk: Fixed steps per chunk instead of `CHUNK_SECONDS`; no result depends on it.
        scorer: If given, a trial ends with the parameters of its best epoch instead of its last.
    """
    start, compile_start = time.perf_counter(), chunks.seconds
    run = _Run(chunks, table, len(rows.bucket), len(rows.row_index[0, 0]), listener)
    pace, evaluations = _Pace(), []
    best = None if scorer is None else _Best(scorer)
    longest = max(rows.edges[bucket] for bucket in set(rows.bucket))
    chunks.compile_longest(longest, groups, hparams, table, schedule, np.int32(1))

    def elapsed() -> float:
        return time.perf_counter() - start - (chunks.seconds - compile_start)

    for bucket, first_step, count in rows.runs(MAX_CHUNK):
        length, done = rows.edges[bucket], 0
        while done < count:
            steps = pace.steps(length, count - done) if steps_per_chunk is None else min(steps_per_chunk, count - done)
            if chunks.on_cpu:  # a chunk in waiting has its buffers, gigabytes, and nothing runs the sooner for it
                run.finish(elapsed)
            began = elapsed()
            groups, metrics = chunks("train", length, groups, hparams, table, schedule, np.int32(steps))
            run.started(metrics, steps, elapsed)
            if length not in pace.seconds_per_step:  # wait once per length, to learn its pace
                jax.block_until_ready(metrics)
                pace.seconds_per_step[length] = (elapsed() - began) / steps
            done += steps
        if (first_step + count) % rows.steps_per_epoch == 0 and len(eval_rows):
            run.finish(elapsed)
            logits = predict_rows(chunks, groups, table, eval_rows, lengths, eval_edges, eval_batch_size)
            step = first_step + count
            evaluations.append(Evaluation(step // rows.steps_per_epoch, step, logits))
            if best is not None:
                best.seen(evaluations[-1], groups)
    run.finish(elapsed)
    return Fit(groups if best is None else best.of(groups), run.history(), evaluations, elapsed())


@dataclass
class _Run:
    """The metrics of a running program; the last chunk's are still on the device."""

    chunks: CompiledChunks
    table: Table
    total_steps: int
    batch_size: int
    listener: Listener | None
    pending: tuple[tuple[StepMetrics, ...], int] | None = None
    read: list[tuple[StepMetrics[np.ndarray], ...]] = field(default_factory=list)
    step: int = 0

    def started(self, metrics: tuple[StepMetrics, ...], steps: int, elapsed: Callable[[], float]) -> None:
        """Takes the metrics of a chunk that was just started and reads those of the one before."""
        self.finish(elapsed)
        self.pending = metrics, steps

    def finish(self, elapsed: Callable[[], float]) -> None:
        """Waits for the pending chunk and reads its metrics."""
        if self.pending is None:
            return
        metrics, steps = self.pending
        self.pending = None
        host = jax.tree.map(lambda values: np.asarray(values)[:steps], metrics)
        self.read.append(host)
        self.step += steps
        if self.listener:
            loss = np.concatenate([group.loss[-1] for group in host])
            seen = self.step * self.batch_size * len(loss)
            self.listener(Progress(self.step, self.total_steps, seen, elapsed(), loss))

    def history(self) -> tuple[StepMetrics[np.ndarray], ...]:
        """For each group, the metrics of every step."""
        return jax.tree.map(lambda *parts: np.concatenate(parts), *self.read)


def predict_rows(
    chunks: CompiledChunks, groups: tuple[TrainState, ...], table: Table, rows: range, lengths: np.ndarray,
    edges: Sequence[int], batch_size: int,
) -> tuple[np.ndarray, ...]:
    """Logits of every trial for `rows` of the table, for each group [trial, row, labels] in the order of `rows`."""
    mesh, made = chunks.mesh, None
    for length, indices, real in _eval_chunks(lengths[rows.start : rows.stop], edges, batch_size):
        fill = padded(batch_size, mesh.shape["data"]) - batch_size
        index = np.pad(indices + rows.start, ((0, MAX_CHUNK - len(indices)), (0, fill)), constant_values=rows.start)
        placed = place(index.astype(np.int32), P(None, "data"), mesh)
        logits = chunks("eval", length, groups, table, placed, np.int32(len(indices)))
        if made is None:
            made = tuple(np.zeros((part.shape[1], len(rows), part.shape[3]), np.float32) for part in logits)
        for whole, part in zip(made, logits, strict=True):
            values = np.asarray(part)[: len(indices), :, :batch_size]
            whole[:, indices[real]] = values.transpose(1, 0, 2, 3)[:, real]
    assert made is not None, "rows must not be empty"
    return made


def _eval_chunks(
    lengths: np.ndarray, edges: Sequence[int], batch_size: int
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Batches of equal length, at most `MAX_CHUNK` at once, as (length, row_index, which are real), [n, batch] each."""
    batches = eval_batches(lengths, edges, batch_size)
    for length in dict.fromkeys(length for length, _, _ in batches):
        same = [(index, weight > 0) for edge, index, weight in batches if edge == length]
        for start in range(0, len(same), MAX_CHUNK):
            part = same[start : start + MAX_CHUNK]
            yield length, np.stack([index for index, _ in part]), np.stack([real for _, real in part])
