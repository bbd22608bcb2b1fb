"""What a program needs before it can be placed: a task's rows for a model, and the batch lengths to compile."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax

from bertjax.config import BertConfig, TrialConfig, require
from bertjax.data.batches import choose_edges, padding_fraction
from bertjax.data.sources import TaskData, load_task
from bertjax.data.tokens import load_tokenizer, tokenize
from bertjax.model.hf import load_config
from bertjax.model.sizes import encoder_linear_count
from bertjax.sweep.experiments import model_source
from bertjax.train.table import TaskRows, task_rows

MAX_PADDING = 0.15
"""Share of padding among the computed tokens above which more batch lengths are compiled, whatever they cost."""

EVAL_EDGES = 4
EVAL_BATCH_SIZE = 64

COMPILE_FLOPS_PER_LAYER = {"cpu": 4e11}
"""What compiling one encoder layer costs, in FLOPs of training forgone: 4 s at 100 GFLOP/s (2 CPU cores)."""

ACCELERATOR_COMPILE_FLOPS_PER_LAYER = 1e14
"""The same elsewhere: 1 s at 100 TFLOP/s."""


@dataclass(frozen=True)
class TaskInputs:
    """A task as a model reads it."""

    data: TaskData
    config: BertConfig
    """With the layers kept and the task's labels."""
    tokenizer: Any
    rows: TaskRows
    edges: tuple[int, ...]
    """Batch lengths of the training."""
    eval_edges: tuple[int, ...]
    padding: float
    """Share of the training's computed tokens that are padding."""

    @property
    def train_config(self) -> BertConfig:
        """The shape that is trained: the rows of the word embedding that the task uses."""
        return replace(self.config, vocab_size=len(self.rows.vocabulary.ids))


def cache_dir() -> Path:
    """Where token ids and teacher outputs are kept: `BERTJAX_CACHE`, or ~/.cache/bertjax."""
    return Path(os.environ.get("BERTJAX_CACHE", "~/.cache/bertjax")).expanduser()


@functools.lru_cache(maxsize=16)
def task_data(task: str, data: Any) -> TaskData:
    """`load_task`, read once per process and setting."""
    return load_task(task, data)


def task_inputs(trial: TrialConfig, num_trials: int) -> TaskInputs:
    """Reads and tokenizes the task of `trial` for its model.

    Args:
        trial: Its task, model, layers, data and training count; the rest does not.
        num_trials: Trials of the program: the more, the sooner another batch length pays for its compilation.

    Raises:
        InputError: The task, the model or the tokenizer cannot be loaded, or they do not fit each other.
    """
    data = task_data(trial.task, trial.data)
    source = model_source(trial.model)
    stored = load_config(source)
    layers = stored.num_hidden_layers if trial.num_hidden_layers is None else trial.num_hidden_layers
    require(1 <= layers <= stored.num_hidden_layers,
            f"layers must be 1 to {stored.num_hidden_layers}, the layers of {trial.model}; got {layers}")
    config = replace(stored, num_hidden_layers=layers, num_labels=data.task.num_labels)
    require(trial.data.max_length <= config.max_position_embeddings,
            f"max_length must be at most {config.max_position_embeddings}, the positions of {trial.model}; "
            f"got {trial.data.max_length}")
    tokenizer = load_tokenizer(source)
    cache = cache_dir() / "tokens"
    train = tokenize(data.train, tokenizer, trial.data.max_length, cache)
    dev = {name: tokenize(split, tokenizer, trial.data.max_length, cache) for name, split in data.dev.items()}
    rows = task_rows(train, dev, config.pad_token_id, config.vocab_size)
    edges = _train_edges(trial, config, train.lengths, num_trials)
    return TaskInputs(
        data=data, config=config, tokenizer=tokenizer, rows=rows, edges=edges,
        eval_edges=choose_edges(rows.lengths, min(EVAL_EDGES, trial.data.max_buckets), EVAL_BATCH_SIZE),
        padding=padding_fraction(train.lengths, edges, trial.train.batch_size),
    )


def _train_edges(trial: TrialConfig, config: BertConfig, lengths: Any, num_trials: int) -> tuple[int, ...]:
    """As many batch lengths as pay for their compilation, or as `MAX_PADDING` asks for."""
    flops_per_token = 6 * encoder_linear_count(config) * num_trials * trial.train.epochs
    compile_flops = COMPILE_FLOPS_PER_LAYER.get(jax.default_backend(), ACCELERATOR_COMPILE_FLOPS_PER_LAYER)
    most, batch_size = trial.data.max_buckets, trial.train.batch_size
    edges = choose_edges(lengths, most, batch_size, compile_flops * config.num_hidden_layers / flops_per_token)
    for count in range(len(edges) + 1, most + 1):
        if padding_fraction(lengths, edges, batch_size) <= MAX_PADDING:
            break
        edges = choose_edges(lengths, count, batch_size)
    return edges
