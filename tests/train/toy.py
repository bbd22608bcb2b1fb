"""A toy study: random rows, a BERT of one layer of 16, trials of every kind. Small enough to compile in seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from bertjax.config import FLOAT, BertConfig, DataConfig, PruneConfig, QuantizeConfig, TrainConfig
from bertjax.data.batches import Schedule, train_schedule
from bertjax.data.tokens import TokenizedSplit
from bertjax.model.bert import init_params
from bertjax.params import Params
from bertjax.study import TrialConfig
from bertjax.train.checkpoint import Checkpoints
from bertjax.train.loop import Fit, fit
from bertjax.train.mesh import make_mesh
from bertjax.train.program import CompiledChunks, place_group, place_schedule, place_table
from bertjax.train.running import Listener, Scorer
from bertjax.train.step import ProgramSpec
from bertjax.train.table import TaskRows, task_rows
from bertjax.train.trial import Order, split_groups

VOCAB, LABELS, BATCH, EPOCHS = 50, 3, 8, 2
EDGES = (6, 10)
SEEDS = (0, 7)
"""Every program has the row orders of both, so that programs of equal groups are equal and compile once."""


def random_split(rows: int, seed: int) -> TokenizedSplit:
    """Rows of 3 to 10 random tokens; the label is a function of the second token, so that it can be learned."""
    draw = np.random.default_rng(seed)
    lengths = draw.integers(3, 11, rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = draw.integers(1, VOCAB, offsets[-1]).astype(np.int32)
    second = np.minimum(draw.integers(2, 11, rows), lengths).astype(np.int32)
    return TokenizedSplit(ids, offsets, second, (ids[offsets[:-1] + 1] % LABELS).astype(np.int32))


@dataclass(frozen=True)
class Toy:
    """The toy task and how to train on it."""

    rows: TaskRows
    config: BertConfig
    teacher_logits: np.ndarray

    def trial(self, methods: str = "none", **changes: Any) -> TrialConfig:
        """A trial with some of Q, K, P."""
        values: dict[str, Any] = {
            "task": "toy", "model": "toy", "num_hidden_layers": None, "methods": methods,
            "sparsity": 0.6 if "P" in methods else 0.0, "quantize": QuantizeConfig() if "Q" in methods else FLOAT,
            "distill_weight": 0.5 if "K" in methods else 0.0, "temperature": 2.0 if "K" in methods else 1.0,
            "teacher": None, "seed": 0, "learning_rate": 1e-2, "data": DataConfig(),
            "train": TrainConfig(epochs=EPOCHS, batch_size=BATCH), "prune": PruneConfig(mask_every=2),
        }
        return TrialConfig(**values | changes)

    def initial(self, trial: TrialConfig) -> Params:
        """The start of a trial: trials of equal seed start equal."""
        return jax.tree.map(np.asarray, init_params(self.config, trial.seed))

    def spec(self, trials: Sequence[TrialConfig]) -> ProgramSpec:
        """The static half of a program of these trials."""
        return ProgramSpec(self.config, tuple(split_groups(trials)), False, mask_every=trials[0].prune.mask_every)

    def schedule(self, edges: Sequence[int] = EDGES) -> Schedule:
        """All steps, in the order of either seed."""
        lengths = self.rows.lengths[: len(self.rows.train)]
        return train_schedule(lengths, edges, BATCH, EPOCHS, SEEDS, EDGES)

    def partial_step(self) -> int:
        """The step of the first epoch whose batch is partial."""
        return int(np.flatnonzero(self.schedule().row_weight[:, -1] == 0)[0])

    def fit(
        self, trials: Sequence[TrialConfig], mesh: Mesh | None = None, *, only_step: int | None = None,
        steps_per_chunk: int | None = 8, initial: Callable[[TrialConfig], Params] | None = None, evaluate: bool = False,
        teacher_logits: np.ndarray | None = None, scorer: Scorer | None = None, chunks: CompiledChunks | None = None,
        edges: Sequence[int] = EDGES, checkpoints: Checkpoints | None = None, listener: Listener | None = None,
    ) -> tuple[Fit, CompiledChunks]:
        """Trains the trials to the end, or for the one step whose rows are those of `only_step`.

        Args:
            chunks: Of a former call with as many trials of the same kinds, or without anything compiled.
            edges: Those of `EDGES` that are compiled.
        """
        mesh = mesh or (chunks.mesh if chunks else make_mesh((1, 1)))
        initial = initial or self.initial
        schedule = self.schedule(edges)
        total = len(schedule.bucket)
        if only_step is not None:
            schedule = replace(schedule, bucket=schedule.bucket[only_step : only_step + 1], steps_per_epoch=1,
                               row_index=np.roll(schedule.row_index, -only_step, axis=1),
                               row_weight=np.roll(schedule.row_weight, -only_step, axis=0))
        orders = [Order(seed) for seed in SEEDS]
        groups = [place_group(group, initial, orders, total, mesh) for group in split_groups(trials).values()]
        chunks = chunks or CompiledChunks(self.spec(trials), mesh)
        table = self.rows.table(LABELS, self.teacher_logits if teacher_logits is None else teacher_logits)
        states, numbers = zip(*groups, strict=True)
        fitted = fit(
            chunks, states, numbers, place_table(table, mesh), schedule,
            place_schedule(schedule.row_index, schedule.row_weight, mesh),
            eval_rows=self.rows.dev_rows if evaluate else range(0), lengths=self.rows.lengths, eval_edges=EDGES,
            eval_batch_size=8, steps_per_chunk=steps_per_chunk, scorer=scorer, checkpoints=checkpoints,
            listener=listener,
        )
        return fitted, chunks


def make_toy() -> Toy:
    """45 training rows (so the last batch of an epoch is partial) and 21 dev rows of which 3 move to a second split."""
    config = BertConfig(vocab_size=VOCAB, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=32, max_position_embeddings=12, num_labels=LABELS, initializer_range=0.2)
    dev = {"matched": random_split(18, 2), "mismatched": random_split(3, 3)}
    rows = task_rows(random_split(45, 1), dev, 0, VOCAB)
    config = replace(config, vocab_size=len(rows.vocabulary.ids))
    return Toy(rows, config, np.random.default_rng(4).normal(size=(45, LABELS)).astype(np.float32))


def of_trial(tree: Any, index: int) -> Any:
    """One trial's arrays, on the host."""
    return jax.tree.map(lambda leaf: np.asarray(leaf[index]), tree)


def assert_same_bits(one: Any, other: Any) -> None:
    """Equal trees to the last bit (NaN equals NaN)."""
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
