"""What the host knows of a running program: how far it is, metrics, evaluations, and each trial's best epoch."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from bertjax.train.checkpoint import Checkpoints, Snapshot
from bertjax.train.processes import from_first
from bertjax.train.program import CompiledChunks, everywhere
from bertjax.train.state import StepMetrics, TrainState
from bertjax.train.stored_state import filled

log = logging.getLogger(__name__)


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
    metrics: tuple[StepMetrics[np.ndarray], ...] = ()
    """For each group, [step, trial] of the chunk's steps."""


Listener = Callable[[Progress], None]


@dataclass(frozen=True)
class Evaluation:
    """Outputs on the evaluated rows after an epoch."""

    epoch: int
    step: int
    logits: tuple[np.ndarray, ...]
    """For each group [trial, row, labels]."""


Scorer = Callable[[Evaluation], Sequence[np.ndarray]]
"""For each group the [trial] scores of an evaluation, higher is better, NaN is worst."""


@dataclass
class Best:
    """The parameters and masks of each trial's best epoch so far, beside those in training."""

    scorer: Scorer
    kept: Any
    highest: list[np.ndarray] = field(default_factory=list)
    """For each group the [trial] scores of what is kept; empty before the first evaluation."""

    @classmethod
    def of_start(cls, scorer: Scorer, groups: tuple[TrainState, ...]) -> Best:
        """Before the first evaluation."""
        # A copy: the groups are donated.
        return cls(scorer, jax.tree.map(jnp.copy, tuple((group.params, group.masks) for group in groups)))

    def seen(self, evaluation: Evaluation, groups: tuple[TrainState, ...]) -> None:
        """Keeps what is better than before; the first of equals stays."""
        made = from_first(lambda: [np.asarray(score).tolist() for score in self.scorer(evaluation)])
        scores = [np.nan_to_num(np.array(score, float), nan=-np.inf) for score in made]
        better = [score > highest for score, highest in zip(scores, self.highest, strict=True)] if self.highest else [
            np.ones(score.shape, bool) for score in scores]
        self.highest = [np.where(*choice) for choice in zip(better, scores, self.highest or scores, strict=True)]
        current = ((group.params, group.masks) for group in groups)
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
class Run:
    """What the host knows of a running program; the metrics of the last chunk are still on the device."""

    chunks: CompiledChunks
    total_steps: int
    batch_size: int
    listener: Listener | None
    best: Best | None
    pending: tuple[tuple[StepMetrics, ...], int] | None = None
    read: list[tuple[StepMetrics[np.ndarray], ...]] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    step: int = 0
    """Steps whose metrics were read."""
    seconds_before: float = 0.0
    """Of training, in processes before this one."""
    begun: float = field(default_factory=time.perf_counter)
    compiled_before: float = field(init=False)
    started_chunks: int = 0
    """Handed to the device in this process."""
    waited: float = 0.0
    """Seconds in which this process had nothing to do until the device had finished a chunk."""

    def __post_init__(self) -> None:
        self.compiled_before = self.chunks.seconds

    def elapsed(self) -> float:
        """Seconds of training and evaluating, compilation excluded."""
        return self.seconds_before + time.perf_counter() - self.begun - (self.chunks.seconds - self.compiled_before)

    @property
    def started_step(self) -> int:
        """Steps that were started, those of the pending chunk too."""
        return self.step + (self.pending[1] if self.pending else 0)

    def started(self, metrics: tuple[StepMetrics, ...], steps: int) -> None:
        """Takes the metrics of a chunk that was just started and reads those of the one before."""
        metrics = everywhere(metrics)  # now: after the chunk that follows it would wait for that one
        self.finish()
        self.pending = metrics, steps
        self.started_chunks += 1

    def wait(self, metrics: tuple[StepMetrics, ...]) -> None:
        """Waits until a chunk is finished."""
        began = time.perf_counter()
        jax.block_until_ready(metrics)
        self.waited += time.perf_counter() - began

    def finish(self) -> None:
        """Waits for the pending chunk and reads its metrics."""
        if self.pending is None:
            return
        metrics, steps = self.pending
        self.pending = None
        self.wait(metrics)
        host = jax.tree.map(lambda values: np.asarray(values)[:steps], metrics)
        self.read.append(host)
        self.step += steps
        if self.listener:
            loss = np.concatenate([group.loss[-1] for group in host])
            seen = self.step * self.batch_size * len(loss)
            self.listener(Progress(self.step, self.total_steps, seen, self.elapsed(), loss, host))

    def lacks_evaluation(self, epoch: int) -> bool:
        """Whether an epoch's evaluation is still to be done."""
        return all(evaluation.epoch != epoch for evaluation in self.evaluations)

    def evaluated(self, evaluation: Evaluation, groups: tuple[TrainState, ...]) -> None:
        """Takes the evaluation of an epoch that has just ended."""
        self.evaluations.append(evaluation)
        if self.best is not None:
            self.best.seen(evaluation, groups)

    def history(self) -> tuple[StepMetrics[np.ndarray], ...]:
        """For each group, the metrics of every step."""
        return jax.tree.map(lambda *parts: np.concatenate(parts), *self.read)

    def snapshot(self, groups: tuple[TrainState, ...]) -> Snapshot:
        """All that is needed to go on from here."""
        self.finish()
        known: dict[str, np.ndarray] = {"seconds": np.array(self.elapsed())}
        for g, metrics in enumerate(self.history()) if self.read else ():
            known |= {f"metrics.{g}.{name}": values for name, values in metrics._asdict().items()}
        for evaluation in self.evaluations:
            known |= {f"logits.{evaluation.epoch}.{evaluation.step}.{g}": values
                      for g, values in enumerate(evaluation.logits)}
        if self.best is not None:
            known |= {f"highest.{g}": values for g, values in enumerate(self.best.highest)}
        return Snapshot(self.step, self._state(groups), known)

    def resumed(self, checkpoints: Checkpoints | None, groups: tuple[TrainState, ...]) -> tuple[TrainState, ...]:
        """The groups as the newest checkpoint has them, or as they are where there is none."""
        snapshot = None if checkpoints is None else checkpoints.restore(self._state(groups))
        if snapshot is None:
            return groups
        counts = [len(jax.tree.leaves(group.params)[0]) for group in groups]
        known, self.step = snapshot.history, snapshot.step
        self.seconds_before = float(known["seconds"])
        if self.step:
            self.read = [tuple(StepMetrics(*(filled(known[f"metrics.{g}.{name}"], 1, count)
                                             for name in StepMetrics._fields)) for g, count in enumerate(counts))]
        for name in known:
            kind, *numbers = name.split(".")
            if kind == "logits" and numbers[-1] == "0":
                epoch, step = int(numbers[0]), int(numbers[1])
                logits = (filled(known[f"logits.{epoch}.{step}.{g}"], 0, count) for g, count in enumerate(counts))
                self.evaluations.append(Evaluation(epoch, step, tuple(logits)))
        if self.best is not None:
            self.best.kept = snapshot.state["best"]
            self.best.highest = [filled(known[f"highest.{g}"], 0, count) for g, count in enumerate(counts)
                                 if f"highest.{g}" in known]
        log.info("goes on after step %d of %d", self.step, self.total_steps)
        return snapshot.state["groups"]

    def _state(self, groups: tuple[TrainState, ...]) -> Any:
        """What a checkpoint has of the devices."""
        return {"groups": groups, "best": () if self.best is None else self.best.kept}
