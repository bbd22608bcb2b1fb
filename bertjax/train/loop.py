"""Runs a program from its first step to its last: chunks of steps, an evaluation after every epoch, nothing per step.

The host chooses how many steps a chunk takes, so that one lasts about `CHUNK_SECONDS` and a signal waits no longer, and
reads the metrics of a chunk only after it has started the next.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from jax.sharding import PartitionSpec as P

from bertjax import interrupts
from bertjax.data.batches import Schedule as RowSchedule
from bertjax.data.batches import eval_batches
from bertjax.heap import give_back
from bertjax.train.checkpoint import Checkpoints, finished_writing
from bertjax.train.mesh import padded
from bertjax.train.processes import several, turn
from bertjax.train.program import CompiledChunks, everywhere, place
from bertjax.train.running import Best, Evaluation, Listener, Run, Scorer
from bertjax.train.state import Hparams, Schedule, StepMetrics, Table, TrainState
from bertjax.train.step import MAX_CHUNK

CHUNK_SECONDS = 2.0

FINAL_SHARE = 0.25
"""Of the time between two checkpoints: once it has passed, a program that ends leaves one more. Of 10 minutes so much
that writing it, 4 s for eight trials of the 6-layer MiniLM, is less than 3 % of what it saves."""


@dataclass
class Fit:
    """What a finished program leaves."""

    groups: tuple[TrainState, ...]
    metrics: tuple[StepMetrics[np.ndarray], ...]
    """For each group, [step, trial] arrays."""
    evaluations: list[Evaluation]
    seconds: float
    """Wall time of training and evaluating, compilation excluded."""
    chunks: int
    """Handed to the device in this process."""
    waited_seconds: float
    """Part of this process's `seconds` in which it waited for a chunk; evaluations are not counted."""


@dataclass
class _Pace:
    """How many steps of each batch length fit into a chunk of `CHUNK_SECONDS`."""

    seconds_per_step: dict[int, float] = field(default_factory=dict)

    def steps(self, length: int, remaining: int) -> int:
        """Steps of the next chunk; one at first, to find out how long it takes."""
        pace = self.seconds_per_step.get(length)
        fitting = 1 if pace is None else int(CHUNK_SECONDS / max(pace, 1e-9))
        return max(1, min(remaining, fitting, MAX_CHUNK))


@dataclass
class _Turns:
    """What is done between two chunks: the same in all processes that share the program."""

    run: Run
    checkpoints: Checkpoints | None
    steps_per_chunk: int | None
    pace: _Pace = field(default_factory=_Pace)
    saved: tuple[int, int] = field(init=False)
    """Steps and evaluations that the newest checkpoint has, or the start."""

    def __post_init__(self) -> None:
        self.saved = self._done()

    def _done(self) -> tuple[int, int]:
        return self.run.started_step, len(self.run.evaluations)

    def save(self, groups: tuple[TrainState, ...], wait: bool = True) -> None:
        """Writes a checkpoint, if the program has them and the newest one lacks something."""
        if self.checkpoints is None:
            return
        if self.saved != self._done():
            self.saved = self._done()
            self.checkpoints.save(self.run.snapshot(groups))
        if wait:
            self.checkpoints.finish()

    def in_long_call(self, groups: tuple[TrainState, ...]) -> Callable[[], None] | None:
        """What is saved if a signal comes while the main thread compiles: several processes only save together."""
        return None if several() else partial(self.save, groups)

    def next(self, groups: tuple[TrainState, ...], length: int = 0, left: int = 0, share: float = 1.0) -> int:
        """Saves if it is time to, and ends if a signal came.

        Args:
            groups: As they are now.
            length: Tokens of the next batches.
            left: Steps of them that are left.
            share: Of the time between two checkpoints, after which one is due.

        Returns:
            How many steps the next chunk takes.

        Raises:
            Interrupted: A signal came, to this process or another one.
        """
        (steps, due), number = turn(lambda: (
            self.pace.steps(length, left) if self.steps_per_chunk is None else min(self.steps_per_chunk, left),
            self.checkpoints is not None and self.checkpoints.due(share)))
        if due or number is not None:
            self.save(groups, wait=number is not None)
        if number is not None:
            raise interrupts.Interrupted(number)
        return steps


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
    checkpoints: Checkpoints | None = None,
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
        checkpoints: Where the program goes on from, and writes to when it is time, or when a signal ends it.

    Raises:
        Interrupted: A signal came; with `checkpoints` nothing is lost.
    """
    best = None if scorer is None else Best.of_start(scorer, groups)
    run = Run(chunks, len(rows.bucket), len(rows.row_index[0, 0]), listener, best)
    groups = run.resumed(checkpoints, groups)
    give_back()  # what the program before, and placing this one, took
    turns = _Turns(run, checkpoints, steps_per_chunk)
    pace = turns.pace.seconds_per_step
    longest = max(rows.edges[bucket] for bucket in set(rows.bucket))
    with interrupts.deferred(), finished_writing(checkpoints):
        with interrupts.long_call(turns.in_long_call(groups)):
            chunks.compile_longest(longest, groups, hparams, table, schedule, np.int32(1))
        for bucket, first_step, count in rows.runs(MAX_CHUNK):
            length, end = rows.edges[bucket], first_step + count
            while run.started_step < end:
                steps = turns.next(groups, length, int(end - run.started_step))
                if chunks.on_cpu:  # a chunk in waiting has its buffers, gigabytes, and nothing runs the sooner for it
                    run.finish()
                arguments = groups, hparams, table, schedule, np.int32(steps)
                with interrupts.long_call(turns.in_long_call(groups)):
                    chunk = chunks.compile("train", length, *arguments)
                began = run.elapsed()
                groups, metrics = chunk(*arguments)
                run.started(metrics, steps)
                if length not in pace:  # wait once per length, to learn its pace
                    run.wait(metrics)
                    pace[length] = (run.elapsed() - began) / steps
            if end % rows.steps_per_epoch == 0 and len(eval_rows) and run.lacks_evaluation(end // rows.steps_per_epoch):
                run.finish()
                turns.next(groups)
                give_back()  # arrays that stay lie in the room of the chunk's buffer, too little is left for another's
                with interrupts.long_call(turns.in_long_call(groups)):
                    logits = predict_rows(chunks, groups, table, eval_rows, lengths, eval_edges, eval_batch_size)
                run.evaluated(Evaluation(end // rows.steps_per_epoch, end, logits), groups)
                give_back()
        run.finish()
        # The last step too, if it took long to get there: scoring and packing the trials can be broken off as well.
        turns.next(groups, share=FINAL_SHARE)
    return Fit(groups if best is None else best.of(groups), run.history(), run.evaluations, run.elapsed(),
               run.started_chunks, run.waited)


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
        logits = everywhere(chunks("eval", length, groups, table, placed, np.int32(len(indices))))
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
