"""Training on the used rows of the word embedding equals training on all of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bertjax.params import paths
from bertjax.train import vocabulary
from bertjax.train.table import task_rows
from bertjax.train.vocabulary import UsedVocabulary, accumulated_decay, used_vocabulary
from tests.train.toy import VOCAB, Toy, of_trial, random_split

WORDS = "bert/embeddings/word_embeddings/embedding"


def test_used_ids_are_rounded_up_and_keep_the_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    used = used_vocabulary(np.array([5, 7, 5, 2000]), 0, 30522)
    assert len(used.ids) == 1024 and {0, 5, 7, 2000} <= set(used.ids.tolist()) and (np.diff(used.ids) > 0).all()
    monkeypatch.setattr(vocabulary, "ROUND_TO", 4)
    assert used_vocabulary(np.array([5, 7, 9]), 0, 12).ids.tolist() == [0, 5, 7, 9]
    assert used_vocabulary(np.array([5, 7, 9, 11]), 0, 12).ids.tolist() == [0, 1, 2, 3, 5, 7, 9, 11]
    assert used_vocabulary(np.arange(10), 0, 10).ids.tolist() == list(range(10))  # no more than there are


def test_compact_ids_point_to_the_same_rows() -> None:
    table = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    used = UsedVocabulary(np.array([0, 5, 7, 9], np.int32), 12)
    ids = np.array([[9, 5, 0], [7, 7, 0]])
    np.testing.assert_array_equal(used.take(table)[used.compact(ids)], table[ids])
    whole = used.restore(table, used.take(table) + 1, 0.5)
    np.testing.assert_array_equal(whole[used.ids], used.take(table) + 1)
    others = np.setdiff1d(np.arange(12), used.ids)
    np.testing.assert_array_equal(whole[others], table[others] * np.float32(0.5))


def test_equal_to_training_every_row(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "ROUND_TO", 1)
    splits = random_split(45, 1), {"dev": random_split(18, 2)}
    few = task_rows(*splits, 0, VOCAB + 30)
    used = few.vocabulary
    assert len(used.ids) <= VOCAB
    every = UsedVocabulary(np.arange(VOCAB + 30, dtype=np.int32), VOCAB + 30)
    many = replace(few, vocabulary=every, input_ids=used.ids[few.input_ids])
    trial = toy.trial("none", train=replace(toy.trial().train, weight_decay=0.5, warmup_fraction=0.0))
    config = replace(toy.config, vocab_size=VOCAB + 30)
    start = replace(toy, config=config).initial(trial)
    embedding = paths(start)[WORDS]

    def compact(_trial):
        words = {"word_embeddings": {"embedding": used.take(embedding)}}
        return start | {"bert": start["bert"] | {"embeddings": start["bert"]["embeddings"] | words}}

    one, _ = replace(toy, rows=few, config=replace(config, vocab_size=len(used.ids))).fit(
        [trial], initial=compact, only_step=0)
    all_, _ = replace(toy, rows=many, config=config).fit([trial], only_step=0)
    # The schedule has twelve steps; this took the first, at the peak rate.
    decay = 1 - trial.learning_rate * trial.train.weight_decay
    restored = used.restore(embedding, paths(of_trial(one.groups[0].params, 0))[WORDS], decay)
    np.testing.assert_allclose(restored, paths(of_trial(all_.groups[0].params, 0))[WORDS], atol=1e-5)
    unused = np.setdiff1d(np.arange(VOCAB + 30), used.ids)
    assert np.abs(restored[unused] - embedding[unused]).max() > 1e-3  # the decay is there to be seen


def test_decay_stops_with_the_steps_that_were_taken(toy: Toy) -> None:
    trial = toy.trial()
    first, whole = accumulated_decay(trial, 100, 40), accumulated_decay(trial, 100)
    assert whole < first < 1 == accumulated_decay(trial, 100, 0)
    assert accumulated_decay(trial, 100, 100) == whole


def test_accumulated_decay_is_the_product_over_the_schedule(toy: Toy) -> None:
    train = replace(toy.trial().train, weight_decay=0.5, warmup_fraction=0.2)
    trial = toy.trial("none", learning_rate=0.1, train=train)
    rates = [0.1 * (step / 2 if step < 2 else (10 - step) / 8) for step in range(10)]
    assert accumulated_decay(trial, 10) == pytest.approx(np.prod([1 - 0.5 * rate for rate in rates]), rel=1e-12)
