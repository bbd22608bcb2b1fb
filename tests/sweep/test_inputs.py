"""Which rows form batches, and how many batch lengths a training takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from bertjax.config import BertConfig, DataConfig, TrainConfig
from bertjax.data.batches import choose_edges, padding_fraction
from bertjax.data.glue_lengths import glue_lengths
from bertjax.data.tasks import GLUE_TASKS, Task
from bertjax.study import StudyConfig, TrialConfig
from bertjax.sweep import inputs
from bertjax.sweep.inputs import MAX_PADDING, PADDING_LENGTHS, eval_edges, task_inputs, train_buckets, train_edges
from bertjax.sweep.program import Program
from bertjax.train.mesh import make_mesh
from bertjax.train.trial import student_trials, students

CONFIG = BertConfig(vocab_size=100, hidden_size=384, num_hidden_layers=6, num_attention_heads=12,
                    intermediate_size=1536)


def trial_of(epochs: int, max_buckets: int) -> TrialConfig:
    study = StudyConfig("s", model="m", data=DataConfig(max_buckets=max_buckets), train=TrainConfig(epochs=epochs))
    return student_trials(study, "sst2", students(study)[0])[0]


def edges_of(lengths: np.ndarray, epochs: int = 3, trials: int = 8, max_buckets: int = 16) -> tuple[int, ...]:
    trial = trial_of(epochs, max_buckets)
    return train_edges(trial, CONFIG, lengths, train_buckets(trial, CONFIG, lengths), trials)


@pytest.fixture
def lengths() -> np.ndarray:
    return np.random.default_rng(0).geometric(0.08, 4000).clip(4, 80) + 2


def test_a_longer_training_pays_for_more_lengths(lengths: np.ndarray) -> None:
    counts = [len(edges_of(lengths, epochs)) for epochs in (1, 3, 30, 300)]
    assert counts == sorted(counts) and counts[0] < counts[-1] == 16


def test_fewer_trials_compile_some_of_the_buckets(lengths: np.ndarray) -> None:
    buckets = train_buckets(trial_of(30, 16), CONFIG, lengths)
    assert edges_of(lengths, 30, trials=8) == edges_of(lengths, 30, trials=64) == buckets
    one = edges_of(lengths, 30, trials=1)
    assert len(one) < len(buckets) and set(one) < set(buckets) and one[-1] == buckets[-1]


def test_padding_is_bounded_if_the_lengths_allow_it(lengths: np.ndarray) -> None:
    few = edges_of(lengths, epochs=1, trials=1)
    assert padding_fraction(lengths, few, 32) <= MAX_PADDING
    assert len(edges_of(lengths, epochs=1, trials=1, max_buckets=2)) == 2
    assert padding_fraction(lengths, choose_edges(lengths, len(few) - 1, 32), 32) > MAX_PADDING


@pytest.mark.parametrize("task", GLUE_TASKS, ids=lambda task: task.name)
def test_eight_lengths_bound_the_padding_of_every_task_of_glue(task: Task) -> None:
    lengths = glue_lengths(task).train.clip(max=128)
    assert padding_fraction(lengths, choose_edges(lengths, PADDING_LENGTHS, 32), 32) <= MAX_PADDING


def test_padding_alone_compiles_no_more_than_eight(lengths: np.ndarray) -> None:
    """Of a few hundred rows no number of lengths has little padding, as each has a batch that is not full."""
    short = lengths[:400]
    assert padding_fraction(short, choose_edges(short, 16, 32), 32) > MAX_PADDING
    assert len(edges_of(short, epochs=1)) == PADDING_LENGTHS


def test_an_accelerator_compiles_fewer_and_draws_from_the_same_buckets(
    lengths: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, buckets = edges_of(lengths, epochs=30), train_buckets(trial_of(30, 16), CONFIG, lengths)
    of_evaluation = eval_edges(trial_of(30, 16), CONFIG, lengths, 400, 8)
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert edges_of(lengths, epochs=30) == here[-1:]
    assert train_buckets(trial_of(30, 16), CONFIG, lengths) == buckets
    assert eval_edges(trial_of(30, 16), CONFIG, lengths, 400, 8) == of_evaluation[-1:]


def test_more_devices_compile_fewer_lengths(lengths: np.ndarray) -> None:
    """They train in less time, while compiling takes as long."""
    trial = trial_of(3000, 16)
    buckets = train_buckets(trial, CONFIG, lengths)
    counts = [len(train_edges(trial, CONFIG, lengths, buckets, 8, "tpu", devices)) for devices in (1, 16, 256)]
    assert counts == sorted(counts, reverse=True) and counts[0] > counts[1] > counts[-1] == 1
    counts = [len(eval_edges(trial, CONFIG, lengths, 4000, 8, "tpu", devices)) for devices in (1, 256)]
    assert counts == [4, 1]


def test_devices_on_one_cpu_compile_as_many_as_one(lengths: np.ndarray) -> None:
    trial = trial_of(3, 16)
    buckets = train_buckets(trial, CONFIG, lengths)
    assert train_edges(trial, CONFIG, lengths, buckets, 8, "cpu", 8) == train_edges(
        trial, CONFIG, lengths, buckets, 8, "cpu", 1)


@pytest.mark.parametrize("copies", [(0,), (0, 2)])
def test_a_trial_reads_the_same_rows_whatever_is_trained_beside_it(
    study: StudyConfig, copies: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it takes fewer batch lengths alone."""
    flops = 6 * inputs.encoder_linear_count(task_inputs(grid(study, copies)).config) * 8 * study.train.epochs
    monkeypatch.setattr(inputs, "COMPILE_SECONDS", {"cpu": 1.0})
    monkeypatch.setattr(inputs, "TRAINING_FLOPS", {"cpu": flops * 16.0})  # 16 tokens for eight, 128 for one
    monkeypatch.setattr(inputs, "MAX_PADDING", 1.0)
    trials = grid(study, copies)
    together, alone = task_inputs(trials), task_inputs(trials[:1])
    assert together.buckets == alone.buckets and len(alone.edges) < len(together.edges)
    whole, own = (Program(part, made, make_mesh((1, 1))).rows
                  for made, part in ((together, trials), (alone, trials[:1])))
    np.testing.assert_array_equal(whole.row_index[0], own.row_index[0])
    np.testing.assert_array_equal(whole.row_weight, own.row_weight)


def grid(study: StudyConfig, copies: tuple[int, ...]) -> list[TrialConfig]:
    """The eight subsets, with several buckets."""
    several = replace(study, copies=copies, data=replace(study.data, max_buckets=4))
    return student_trials(several, study.tasks[0], students(several)[0])


def test_room_for_copies_is_part_of_a_trial(study: StudyConfig) -> None:
    plain, room = grid(study, (0,))[0], grid(study, (0, 2))[0]
    assert plain.methods == room.methods == "none" and plain.trial_id != room.trial_id
    assert room.table_copies == 2 and room.copies == 0 and room.augment is not None


def test_own_files_are_known_by_name(study: StudyConfig) -> None:
    trial = grid(study, (0,))[0]
    name = Path(str(trial.data.train_file)).name
    moved = replace(trial, data=replace(trial.data, train_file=f"elsewhere/{name}"))
    assert moved.trial_id == trial.trial_id
    assert replace(trial, data=replace(trial.data, train_file="other.jsonl")).trial_id != trial.trial_id
