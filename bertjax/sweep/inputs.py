"""What a program needs before it can be placed: a task's rows for a model, and the batch lengths to compile."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bertjax.config import AugmentConfig, BertConfig, DataConfig, require
from bertjax.data.augment import augmented
from bertjax.data.batches import choose_edges, padding_fraction
from bertjax.data.examples import Examples, TaskData, hold_out
from bertjax.data.sources import load_task
from bertjax.data.tokens import load_tokenizer, tokenize
from bertjax.model.hf import load_config
from bertjax.model.sizes import encoder_linear_count
from bertjax.study import TrialConfig
from bertjax.sweep.experiments import model_source
from bertjax.train.table import TaskRows, task_rows

MAX_PADDING = 0.15
"""Share of padding among the computed tokens above which a CPU compiles up to `PADDING_LENGTHS`, whatever they cost."""

PADDING_LENGTHS = 8
"""Batch lengths that bring the padding below `MAX_PADDING` in every task of GLUE. A part of its rows may need more, as
each length has a batch that is not full, but it trains for less time than they take to compile."""

TYPICAL_TRIALS = 8
"""Trials of a program that buckets are chosen for: the eight subsets."""

EVAL_EDGES = 4
"""Batch lengths of an evaluation, at most; a CPU compiles them all."""

EVAL_BATCH_SIZE = 64

COMPILE_SECONDS, TRAINING_FLOPS = {"cpu": 4.0}, {"cpu": 1e11}
"""By platform: seconds to compile the training of one encoder layer, and FLOP/s forgone meanwhile; of 2 CPU cores."""

ACCELERATOR_COMPILE_SECONDS, ACCELERATOR_TRAINING_FLOPS = 10.0, 2e14
"""The same elsewhere, of one device. The TPU's compiler takes that on two cores, as `make tpu TEST_FLAGS=--durations=9`
shows of the two layers of tiny; 40 % of the peak in bfloat16 is 0.8e14 of a v5e chip and 4e14 of an H100."""

EVAL_COMPILE_SHARE = 0.2
"""Of what compiling a layer's training takes, what its evaluation's does (on a CPU)."""


@dataclass(frozen=True)
class TaskInputs:
    """A task as a model reads it."""

    data: TaskData
    config: BertConfig
    """With the layers kept and the task's labels."""
    tokenizer: Any
    rows: TaskRows
    epoch_lengths: np.ndarray
    """[rows of an epoch] the tokens that each needs room for: a training row's longest text, or every text."""
    buckets: tuple[int, ...]
    """Longest rows of the buckets that the training's batches are drawn from."""
    edges: tuple[int, ...]
    """Batch lengths of the training, some of the buckets."""
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
def task_data(task: str, data: DataConfig, held_out: bool) -> TaskData:
    """`load_task`, without the rows that are held out if any are; read once per process and setting."""
    loaded = load_task(task, data)
    return hold_out(loaded) if held_out else loaded


@functools.lru_cache(maxsize=16)
def _copy(task: str, data: DataConfig, held_out: bool, number: int, config: AugmentConfig) -> Examples:
    """An augmented copy of the training rows, made once per process."""
    return augmented(task_data(task, data, held_out).train, number, config)


def task_inputs(trials: Sequence[TrialConfig]) -> TaskInputs:
    """Reads and tokenizes what the trials of one program read, for their model.

    Args:
        trials: Of one task, model, data and training. The more there are, the sooner another batch length pays for
            its compilation.

    Raises:
        InputError: The task, the model or the tokenizer cannot be loaded, or they do not fit each other.
    """
    return _inputs(trials[0], len(trials), trials)


def teacher_inputs(teacher: TrialConfig, readers: Sequence[TrialConfig]) -> TaskInputs:
    """The task as a teacher reads it, with the augmented copies that the trials it teaches will read."""
    return _inputs(teacher, 1, readers)


def _inputs(trial: TrialConfig, num_trials: int, readers: Sequence[TrialConfig]) -> TaskInputs:
    data = task_data(trial.task, trial.data, trial.hold_out)
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
    most = max(readers, key=lambda reader: reader.table_copies)
    copies = [tokenize(_copy(trial.task, trial.data, trial.hold_out, number, most.augment), tokenizer,
                       trial.data.max_length, cache) for number in range(1, most.table_copies + 1) if most.augment]
    rows = task_rows(train, dev, config.pad_token_id, config.vocab_size, copies)
    lengths = rows.longest_text if trial.texts_per_row == 1 else rows.lengths[: len(rows.texts)]
    buckets = train_buckets(trial, config, lengths)
    edges = train_edges(trial, config, lengths, buckets, num_trials)
    return TaskInputs(
        data=data, config=config, tokenizer=tokenizer, rows=rows, epoch_lengths=lengths, buckets=buckets, edges=edges,
        eval_edges=eval_edges(trial, config, rows.lengths, len(rows.dev_rows), num_trials),
        padding=padding_fraction(lengths, edges, trial.train.batch_size),
    )


def eval_edges(
    trial: TrialConfig, config: BertConfig, lengths: np.ndarray, evaluated: int, num_trials: int,
    platform: str | None = None, num_devices: int | None = None,
) -> tuple[int, ...]:
    """Batch lengths of the evaluation, and of a teacher's outputs, for rows of these lengths.

    Args:
        evaluated: Rows after each epoch, which pay for the compilation on other devices than CPUs.
        platform: As the others, see `train_edges`.
    """
    platform, most = platform or jax.default_backend(), min(EVAL_EDGES, trial.data.max_buckets)
    if platform == "cpu":
        return choose_edges(lengths, most, EVAL_BATCH_SIZE)
    flops_per_token = 2 * encoder_linear_count(config) * num_trials * trial.train.epochs * evaluated / len(lengths)
    compile_flops = EVAL_COMPILE_SHARE * forgone_flops(platform, num_devices or jax.device_count())
    return choose_edges(lengths, most, EVAL_BATCH_SIZE, compile_flops * config.num_hidden_layers / flops_per_token)


def compile_seconds(platform: str) -> float:
    """Seconds to compile the training of one encoder layer: an assumption."""
    return COMPILE_SECONDS.get(platform, ACCELERATOR_COMPILE_SECONDS)


def forgone_flops(platform: str, num_devices: int) -> float:
    """What compiling the training of one encoder layer costs, in FLOPs."""
    return compile_seconds(platform) * TRAINING_FLOPS.get(platform, ACCELERATOR_TRAINING_FLOPS * num_devices)


def train_buckets(trial: TrialConfig, config: BertConfig, lengths: np.ndarray) -> tuple[int, ...]:
    """Longest rows of the buckets from which a trial's batches are drawn.

    They decide which rows meet in a batch, so they are the same whatever runs beside the trial, and wherever: as many
    as `TYPICAL_TRIALS` pay for on a CPU.
    """
    return _edges(trial, config, lengths, lengths, trial.data.max_buckets, TYPICAL_TRIALS, "cpu", 1)


def train_edges(
    trial: TrialConfig, config: BertConfig, lengths: np.ndarray, buckets: Sequence[int], num_trials: int,
    platform: str | None = None, num_devices: int | None = None,
) -> tuple[int, ...]:
    """The batch lengths to compile: as many of the buckets as pay for their compilation.

    The batches of the others are padded to the next longer one, which changes no result.

    Args:
        trial: What reads the rows.
        config: Its model's.
        lengths: [rows] tokens.
        buckets: See `train_buckets`.
        num_trials: Trained together.
        platform: `cpu`, `gpu` or `tpu`; None: the one here.
        num_devices: That train while nothing compiles; None: those here.
    """
    candidates = np.asarray(buckets)[np.searchsorted(np.asarray(buckets), lengths, side="left")]
    return _edges(trial, config, lengths, candidates, len(buckets), num_trials, platform or jax.default_backend(),
                  num_devices or jax.device_count())


def _edges(
    trial: TrialConfig, config: BertConfig, lengths: np.ndarray, candidates: np.ndarray, most: int, num_trials: int,
    platform: str, num_devices: int,
) -> tuple[int, ...]:
    """As many lengths as pay for their compilation; on a CPU up to `PADDING_LENGTHS`, if `MAX_PADDING` asks for more.

    Args:
        candidates: [rows] for each row the shortest length that is allowed for it.
        most: Lengths at most.
    """
    flops_per_token = 6 * encoder_linear_count(config) * num_trials * trial.train.epochs
    compile_flops = forgone_flops(platform, num_devices) * config.num_hidden_layers
    batch_size = trial.train.batch_size
    edges = choose_edges(candidates, most, batch_size, compile_flops / flops_per_token)
    for count in range(len(edges) + 1, min(most, PADDING_LENGTHS) + 1 if platform == "cpu" else 0):
        if padding_fraction(lengths, edges, batch_size) <= MAX_PADDING:
            break
        edges = choose_edges(candidates, count, batch_size)
    return edges
