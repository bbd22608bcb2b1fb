"""How many batch lengths a training takes."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from bertjax.config import BertConfig, DataConfig, TrainConfig
from bertjax.data.batches import choose_edges, padding_fraction
from bertjax.study import StudyConfig
from bertjax.sweep.inputs import MAX_PADDING, train_edges
from bertjax.train.trial import student_trials, students

CONFIG = BertConfig(vocab_size=100, hidden_size=384, num_hidden_layers=6, num_attention_heads=12,
                    intermediate_size=1536)


def edges_of(lengths: np.ndarray, epochs: int = 3, trials: int = 8, max_buckets: int = 16) -> tuple[int, ...]:
    study = StudyConfig("s", model="m", data=DataConfig(max_buckets=max_buckets), train=TrainConfig(epochs=epochs))
    return train_edges(student_trials(study, "sst2", students(study)[0])[0], CONFIG, lengths, trials)


@pytest.fixture
def lengths() -> np.ndarray:
    return np.random.default_rng(0).geometric(0.08, 4000).clip(4, 80) + 2


def test_a_longer_training_pays_for_more_lengths(lengths: np.ndarray) -> None:
    counts = [len(edges_of(lengths, epochs)) for epochs in (1, 3, 30, 300)]
    assert counts == sorted(counts) and counts[0] < counts[-1] == 16
    assert len(edges_of(lengths, 3, trials=1)) <= len(edges_of(lengths, 3, trials=64))


def test_padding_is_bounded_if_the_lengths_allow_it(lengths: np.ndarray) -> None:
    few = edges_of(lengths, epochs=1, trials=1)
    assert padding_fraction(lengths, few, 32) <= MAX_PADDING
    assert len(edges_of(lengths, epochs=1, trials=1, max_buckets=2)) == 2
    assert padding_fraction(lengths, choose_edges(lengths, len(few) - 1, 32), 32) > MAX_PADDING


def test_an_accelerator_compiles_fewer(lengths: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    here = edges_of(lengths, epochs=30)
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert len(edges_of(lengths, epochs=30)) < len(here)
