"""Which rows form which batch: length buckets with chosen edges, shuffled epochs, no padding to the maximum.

Every bucket length compiles its own program, so there are few of them; inside a bucket a row is padded to its edge.
Rows that do not fill a bucket's last batch move up to the next longer bucket. The batches of the buckets up to an edge
therefore number `floor(rows not longer than the edge / batch_size)`, and only the last batch of an epoch is partial.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bertjax.data.draws import draw_order

RUN_STEPS = 8
"""Longest run of steps in one bucket: long enough to spare dispatches, short enough to mix lengths."""

_BUCKET_ORDER, _ROW_ORDER, _FIRST_TEXT = 1, 2, 3
"""First words of the entropy of the kinds of draws."""


@dataclass(frozen=True)
class Schedule:
    """The batches of a whole training run, for several seeds that share everything but the order of rows."""

    edges: tuple[int, ...]
    """Bucket lengths in tokens, increasing."""
    bucket: np.ndarray
    """[steps] int32: index into `edges`, the same for every seed."""
    row_index: np.ndarray
    """[orders, steps, batch] int32: for each seed asked for, in turn."""
    row_weight: np.ndarray
    """[steps, batch] float32: 1 for a row, 0 for the fillers at the end of an epoch's one partial batch."""
    steps_per_epoch: int

    def runs(self, max_steps: int = RUN_STEPS) -> list[tuple[int, int, int]]:
        """Consecutive steps of one bucket as (bucket, first_step, n_steps), at most `max_steps` and within an epoch."""
        runs: list[tuple[int, int, int]] = []
        for step, bucket in enumerate(self.bucket.tolist()):
            if runs and step % self.steps_per_epoch and runs[-1][0] == bucket and runs[-1][2] < max_steps:
                runs[-1] = (bucket, runs[-1][1], runs[-1][2] + 1)
            else:
                runs.append((bucket, step, 1))
        return runs


def choose_edges(lengths: np.ndarray, max_edges: int, batch_size: int, compile_tokens: float = 0.0) -> tuple[int, ...]:
    """The bucket lengths that make an epoch compute the fewest tokens, exactly, by dynamic programming.

    Args:
        lengths: tokens of every row that is to fit (the last edge is the longest).
        max_edges: most edges, at least 1.
        compile_tokens: what one more edge must save, in computed tokens, to be worth its compilation.

    Returns:
        Increasing integers; each has at least one batch of an epoch over these rows, or is the last.
    """
    values, counts = np.unique(np.asarray(lengths, np.int64), return_counts=True)
    batches = _batches_up_to(np.cumsum(counts), batch_size)
    # cost[i, j]: tokens of one bucket for the rows after values[i - 1] up to values[j]; infinite where i > j.
    before = np.concatenate([[0], batches[:-1]])
    cost = (batches[None, :] - before[:, None]) * values[None, :] * float(batch_size)
    cost[np.tril_indices(len(values), -1)] = np.inf
    total = cost[0]
    choices, totals = [], [total[-1]]
    for _ in range(1, min(max_edges, len(values))):
        extended = np.concatenate([[np.inf], total[:-1]])[:, None] + cost
        choices.append(extended.argmin(axis=0))
        total = extended.min(axis=0)
        totals.append(total[-1])
    extra = int(np.argmin(np.array(totals) + compile_tokens * np.arange(len(totals))))
    edges = [len(values) - 1]
    for choice in reversed(choices[:extra]):
        edges.append(int(choice[edges[-1]]) - 1)
    return tuple(int(values[edge]) for edge in reversed(edges))


def batches_per_bucket(lengths: np.ndarray, edges: Sequence[int], batch_size: int) -> np.ndarray:
    """[edges] int64: batches of each bucket in one epoch; their sum is `ceil(rows / batch_size)`.

    Raises:
        ValueError: a row is longer than the last edge.
    """
    ordered = np.sort(lengths)
    if len(ordered) and ordered[-1] > edges[-1]:
        raise ValueError(f"the last edge must be at least the longest row, {ordered[-1]} tokens; got {edges[-1]}")
    rows = np.searchsorted(ordered, np.asarray(edges), side="right")
    return np.diff(_batches_up_to(rows, batch_size), prepend=0)


def _batches_up_to(rows: np.ndarray, batch_size: int) -> np.ndarray:
    """Whole batches among the first rows by length; the last entry, all rows, counts its partial batch too."""
    batches = rows // batch_size
    batches[-1] = -(-rows[-1] // batch_size)
    return batches


def padding_fraction(lengths: np.ndarray, edges: Sequence[int], batch_size: int) -> float:
    """Share of the tokens an epoch computes that are padding, fillers and moved-up rows included; in [0, 1)."""
    computed = int(batches_per_bucket(lengths, edges, batch_size) @ np.asarray(edges)) * batch_size
    return 1 - int(np.sum(lengths, dtype=np.int64)) / computed


def train_schedule(
    lengths: np.ndarray, edges: Sequence[int], batch_size: int, epochs: int, seeds: Sequence[int],
    buckets: Sequence[int] | None = None,
) -> Schedule:
    """The order of every row in every epoch.

    Per epoch and seed each row has weight 1 exactly once, in a bucket that is long enough. The order of the buckets
    is a function of the epoch and the counts; the order of the rows is one of the seed, the epoch, the lengths and the
    buckets, so it depends neither on the other seeds nor on which lengths are compiled.

    Args:
        lengths: [rows] tokens that each needs room for.
        edges: The batch lengths that are compiled.
        batch_size: Rows of a step.
        epochs: Times that each row is read.
        seeds: One for each order of rows.
        buckets: Longest rows of each bucket, from which batches are drawn: `edges` and others; None: just `edges`.
    """
    buckets = edges if buckets is None else buckets
    counts = batches_per_bucket(lengths, buckets, batch_size)
    bucket = [_bucket_order(counts, epoch) for epoch in range(epochs)]
    members = np.searchsorted(np.asarray(buckets), lengths, side="left")
    rows = np.empty((len(seeds), epochs, int(counts.sum()), batch_size), np.int32)
    for index, seed in enumerate(seeds):
        if seed in seeds[:index]:
            rows[index] = rows[seeds.index(seed)]
            continue
        for epoch in range(epochs):
            in_bucket_order = _shuffled_batches(members, counts, batch_size, seed, epoch)
            # A stable sort by bucket lists the steps in bucket order: the inverse of what the shuffle did to them.
            rows[index, epoch, np.argsort(bucket[epoch], kind="stable")] = in_bucket_order
    weight = np.ones((epochs, int(counts.sum()), batch_size), np.float32)
    filler = int(counts.sum()) * batch_size - len(lengths)
    for epoch in range(epochs):
        partial = np.flatnonzero(bucket[epoch] == bucket[epoch].max())[-1]
        weight[epoch, partial, batch_size - filler:] = 0
    compiled = np.searchsorted(np.asarray(edges), np.asarray(buckets), side="left")
    return Schedule(tuple(int(edge) for edge in edges), compiled[np.concatenate(bucket)].astype(np.int32),
                    rows.reshape(len(seeds), -1, batch_size), weight.reshape(-1, batch_size), int(counts.sum()))


def with_copies(schedule: Schedule, rows: int, copies: Sequence[int], seeds: Sequence[int]) -> Schedule:
    """The schedule in which each epoch reads one of the `1 + copies` texts of a row.

    A row goes through its texts in turn, from one drawn by the seed, so that every epoch has all kinds and
    `1 + copies` epochs read each text once.

    Args:
        schedule: One of the rows, whichever of their texts is read.
        rows: training rows; text `c` of row `r` has the index `c * rows + r`.
        copies: [orders] augmented copies that each order of rows reads.
        seeds: [orders] their seeds.
    """
    epoch = np.arange(len(schedule.bucket)) // schedule.steps_per_epoch
    made = []
    for row_index, count, seed in zip(schedule.row_index, copies, seeds, strict=True):
        words = np.random.Philox(np.random.SeedSequence((_FIRST_TEXT, seed))).random_raw(rows)
        text = ((words % (1 + count))[row_index].astype(np.int64) + epoch[:, None]) % (1 + count)
        made.append(row_index + text * rows)
    return replace(schedule, row_index=np.array(made, np.int32))


def _bucket_order(counts: np.ndarray, epoch: int) -> np.ndarray:
    """[steps]: the bucket of each step of an epoch, in shuffled runs of at most `RUN_STEPS`."""
    runs = [(bucket, min(RUN_STEPS, count - start))
            for bucket, count in enumerate(counts.tolist()) for start in range(0, count, RUN_STEPS)]
    order = draw_order(len(runs), _BUCKET_ORDER, epoch)
    return np.concatenate([np.full(runs[run][1], runs[run][0]) for run in order])


def _shuffled_batches(members: np.ndarray, counts: np.ndarray, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """[steps, batch]: one epoch's rows in bucket order, fillers (row 0) last.

    Args:
        members: [rows] the shortest bucket that holds each row.
    """
    moved = np.empty(0, np.int64)
    batches = []
    for bucket, count in enumerate(counts.tolist()):
        pool = np.concatenate([moved, np.flatnonzero(members == bucket)])
        pool = pool[draw_order(len(pool), _ROW_ORDER, seed, epoch, bucket)]
        batches.append(pool[:count * batch_size])
        moved = pool[count * batch_size:]
    rows = np.concatenate(batches)
    filled = np.zeros(int(counts.sum()) * batch_size, np.int64)
    filled[:len(rows)] = rows
    return filled.reshape(-1, batch_size)


def eval_batches(lengths: np.ndarray, edges: Sequence[int],
                 batch_size: int) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Every row once, shortest first, as (edge, row_index [batch] int32, row_weight [batch] float32).

    Each batch has the shortest edge that holds its rows. The last one is filled up with one of its own rows, weight 0.

    Raises:
        ValueError: a row is longer than the last edge.
    """
    batches_per_bucket(lengths, edges, batch_size)  # raises if a row is too long
    order = np.argsort(lengths, kind="stable").astype(np.int32)
    batches = []
    for start in range(0, len(order), batch_size):
        rows = order[start:start + batch_size]
        edge = int(edges[int(np.searchsorted(np.asarray(edges), lengths[rows[-1]], side="left"))])
        filler = batch_size - len(rows)
        weight = np.concatenate([np.ones(len(rows), np.float32), np.zeros(filler, np.float32)])
        batches.append((edge, np.concatenate([rows, np.repeat(rows[:1], filler)]), weight))
    return batches
