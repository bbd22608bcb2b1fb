"""The slice of the training rows that learning rates and epochs are selected on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bertjax.config import InputError
from bertjax.data.examples import SELECTION, SELECTION_ROWS, Examples, TaskData, held_out_rows, hold_out
from bertjax.data.tasks import find_task


def made(task: str, labels: np.ndarray) -> TaskData:
    """Rows whose text is their number."""
    train = Examples([str(row) for row in range(len(labels))], None, labels)
    return TaskData(find_task(task), train, {"validation": Examples(["dev"], None, labels[:1])})


def test_each_row_is_trained_on_or_held_out_and_classes_keep_their_share() -> None:
    labels = np.random.default_rng(0).choice(3, 1000, p=[0.7, 0.2, 0.1]).astype(np.int32)
    data = made("mnli", labels)
    held = hold_out(data)
    assert list(held.dev) == ["validation", SELECTION]
    slice_, rest = held.dev[SELECTION], held.train
    assert sorted(map(int, slice_.first + rest.first)) == list(range(1000))
    assert len(slice_) == pytest.approx(100, abs=2)
    for part in (slice_, rest):
        assert part.labels.tolist() == [labels[int(text)] for text in part.first]
        np.testing.assert_allclose(np.bincount(part.labels) / len(part), np.bincount(labels) / 1000, atol=0.02)
    assert hold_out(data).dev[SELECTION].first == slice_.first


def test_tenths_of_scores_keep_their_share_and_a_large_task_its_rows() -> None:
    scores = np.random.default_rng(1).uniform(0, 5, 30_000).astype(np.float32)
    slice_ = hold_out(made("stsb", scores)).dev[SELECTION]
    assert len(slice_) == SELECTION_ROWS
    assert np.histogram(slice_.labels, np.quantile(scores, np.linspace(0, 1, 11)))[0].tolist() == [200] * 10


def test_the_rows_are_as_many_as_announced_however_the_classes_round() -> None:
    mnli = np.repeat(np.arange(3, dtype=np.int32), [130_899, 130_900, 130_903])
    even = np.repeat(np.arange(7, dtype=np.int32), 15)
    rare = np.repeat(np.arange(3, dtype=np.int32), [49_995, 2, 3])
    for labels in (mnli, even, rare):
        slice_ = hold_out(made("mnli", labels)).dev[SELECTION]
        assert len(slice_) == held_out_rows(len(labels)) <= SELECTION_ROWS
        share = np.bincount(labels) * len(slice_) / len(labels)
        assert np.abs(np.bincount(slice_.labels, minlength=len(share)) - share).max() < 1


def test_pairs_stay_together() -> None:
    data = made("rte", np.tile(np.int32([0, 1]), 50))
    data = replace(data, train=replace(data.train, second=[f"second {text}" for text in data.train.first]))
    for part in (hold_out(data).train, hold_out(data).dev[SELECTION]):
        assert part.second == [f"second {text}" for text in part.first]


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(InputError, match="got 4"):
        hold_out(made("sst2", np.int32([0, 1, 0, 1])))
