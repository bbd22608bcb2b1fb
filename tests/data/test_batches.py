"""Laws of buckets and schedules: every row once, nothing too long, the fewest tokens, seeds that do not touch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertjax.config import DataConfig
from bertjax.data.batches import (
    batches_per_bucket,
    choose_edges,
    eval_batches,
    padding_fraction,
    train_schedule,
    with_copies,
)
from bertjax.data.draws import draw_order
from bertjax.data.sources import load_task
from bertjax.data.tokens import load_tokenizer, tokenize

LENGTHS = st.lists(st.integers(3, 40), min_size=1, max_size=150).map(lambda values: np.array(values, np.int32))
BATCH = st.integers(1, 9)
SEEDS = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=3)


def computed_tokens(lengths, edges, batch_size):
    return int(batches_per_bucket(lengths, edges, batch_size) @ np.array(edges)) * batch_size


@given(LENGTHS, st.integers(1, 8), BATCH)
def test_edges_are_few_and_increasing_and_hold_every_row(lengths, max_edges, batch_size):
    edges = choose_edges(lengths, max_edges, batch_size)
    assert 1 <= len(edges) <= max_edges
    assert list(edges) == sorted(set(edges)) and edges[-1] == lengths.max()
    assert all(isinstance(edge, int) for edge in edges)
    assert (batches_per_bucket(lengths, edges, batch_size) > 0).all()  # none is compiled for nothing


@settings(max_examples=30)
@given(st.lists(st.integers(3, 10), min_size=1, max_size=40).map(np.array), st.integers(1, 4), st.integers(1, 5))
def test_no_other_edges_compute_fewer_tokens(lengths, max_edges, batch_size):
    chosen = computed_tokens(lengths, choose_edges(lengths, max_edges, batch_size), batch_size)
    others = [value for value in range(3, 11) if value < lengths.max()]
    for extra in range(max_edges):
        for edges in itertools.combinations(others, extra):
            assert chosen <= computed_tokens(lengths, (*edges, int(lengths.max())), batch_size)


@given(LENGTHS, BATCH)
def test_an_edge_must_save_what_its_compilation_costs(lengths, batch_size):
    free = choose_edges(lengths, 8, batch_size)
    assert choose_edges(lengths, 8, batch_size, compile_tokens=1e9) == (int(lengths.max()),)
    price = 50.0
    priced = choose_edges(lengths, 8, batch_size, compile_tokens=price)
    assert (computed_tokens(lengths, priced, batch_size) + price * len(priced)
            <= computed_tokens(lengths, free, batch_size) + price * len(free))


@given(LENGTHS, st.integers(1, 8), BATCH, st.integers(1, 3), SEEDS)
def test_every_row_once_per_epoch_and_seed_in_a_bucket_that_holds_it(lengths, max_edges, batch_size, epochs, seeds):
    edges = choose_edges(lengths, max_edges, batch_size)
    schedule = train_schedule(lengths, edges, batch_size, epochs, seeds)
    steps = schedule.steps_per_epoch
    assert steps == -(-len(lengths) // batch_size)
    assert schedule.edges == edges
    assert schedule.bucket.shape == (epochs * steps,) and schedule.bucket.dtype == np.int32
    assert schedule.row_index.shape == (len(seeds), epochs * steps, batch_size)
    assert schedule.row_weight.shape == (epochs * steps, batch_size)
    assert (schedule.row_index.dtype, schedule.row_weight.dtype) == (np.int32, np.float32)
    width = np.array(edges)[schedule.bucket]
    for index in range(len(seeds)):
        rows = schedule.row_index[index]
        assert (lengths[rows] <= width[:, None]).all()
        for epoch in range(epochs):
            part = slice(epoch * steps, (epoch + 1) * steps)
            real = rows[part][schedule.row_weight[part] == 1]
            np.testing.assert_array_equal(np.sort(real), np.arange(len(lengths)))
            assert (np.bincount(schedule.bucket[part], minlength=len(edges))
                    == batches_per_bucket(lengths, edges, batch_size)).all()


@given(LENGTHS, st.integers(1, 8), BATCH)
def test_only_one_batch_per_epoch_is_partial_and_its_fillers_are_last(lengths, max_edges, batch_size):
    schedule = train_schedule(lengths, choose_edges(lengths, max_edges, batch_size), batch_size, 2, [5])
    weight = schedule.row_weight
    assert set(np.unique(weight)) <= {0.0, 1.0}
    assert (np.diff(weight, axis=1) <= 0).all() and (weight[:, 0] == 1).all()
    for epoch in np.split(weight, 2):
        assert (epoch.min(axis=1) == 0).sum() == (len(lengths) % batch_size != 0)
        assert epoch.sum() == len(lengths)


def made_lengths(rows=2000):
    return (3 + draw_order(rows, 99) % 37).astype(np.int32)


def test_padding_fraction_is_that_of_the_schedule():
    lengths = made_lengths(1999)
    for max_edges, batch_size in ((1, 32), (5, 32), (8, 7)):
        edges = choose_edges(lengths, max_edges, batch_size)
        schedule = train_schedule(lengths, edges, batch_size, 3, [0])
        computed = np.array(edges)[schedule.bucket].sum() * batch_size
        expected = 1 - 3 * lengths.sum() / computed
        assert padding_fraction(lengths, edges, batch_size) == pytest.approx(expected, abs=1e-12)
    assert padding_fraction(np.full(64, 9), (9,), 32) == 0


def test_a_seed_has_its_own_order_that_no_other_seed_touches():
    lengths = made_lengths()
    edges = choose_edges(lengths, 6, 32)
    together = train_schedule(lengths, edges, 32, 2, [3, 1, 3, 7])
    alone = train_schedule(lengths, edges, 32, 2, [1])
    np.testing.assert_array_equal(together.row_index[1], alone.row_index[0])
    np.testing.assert_array_equal(together.row_index[0], together.row_index[2])
    np.testing.assert_array_equal(together.bucket, alone.bucket)
    np.testing.assert_array_equal(together.row_weight, alone.row_weight)
    # Two random orders of 2000 rows agree in about as many places as there are buckets, not in a tenth of all.
    assert (together.row_index[0] == together.row_index[1]).mean() < 0.1
    first, second = np.split(together.row_index[0], 2)
    assert (first == second).mean() < 0.1
    longer = train_schedule(lengths, edges, 32, 3, [1])
    np.testing.assert_array_equal(longer.row_index[0][:len(alone.bucket)], alone.row_index[0])


def test_an_epoch_reads_one_text_of_each_row_and_as_many_epochs_as_texts_read_all():
    lengths, copies, rows = made_lengths(), 2, 2000
    plain = train_schedule(lengths, choose_edges(lengths, 6, 32), 32, 3, [1, 1])
    made = with_copies(plain, rows, [copies, 0], [1, 1])
    np.testing.assert_array_equal(made.row_index[1], plain.row_index[1])
    np.testing.assert_array_equal(made.row_index % rows, plain.row_index)
    real = made.row_weight > 0
    texts = np.stack([np.sort(epoch[weight]) for epoch, weight in zip(
        np.split(made.row_index[0], 3), np.split(real, 3), strict=True)])
    assert np.array_equal(np.sort(texts.ravel()), np.arange(3 * rows))  # each text once in three epochs
    # Every epoch has all three kinds in about equal parts.
    kinds = np.stack([np.bincount(epoch // rows, minlength=3) for epoch in texts])
    assert kinds.min() > rows / 3 * 0.85


def test_texts_are_drawn_by_the_seed():
    lengths = made_lengths()
    plain = train_schedule(lengths, (int(lengths.max()),), 32, 1, [1, 2])
    together = with_copies(plain, 2000, [1, 1], [1, 2])
    alone = with_copies(train_schedule(lengths, plain.edges, 32, 1, [2]), 2000, [1], [2])
    np.testing.assert_array_equal(together.row_index[1], alone.row_index[0])
    first, second = (dict(zip((order % 2000).ravel(), (order // 2000).ravel(), strict=True))
                     for order in together.row_index)
    assert 0.4 < np.mean([first[row] == second[row] for row in range(2000)]) < 0.6


def test_which_rows_move_up_differs_between_seeds_and_epochs():
    lengths = np.repeat([5, 9], 50)
    schedule = train_schedule(lengths, (5, 9), 32, 2, [0, 1])
    moved = [frozenset(rows[rows < 50].tolist()) for seed in range(2)
             for epoch in np.split(np.arange(len(schedule.bucket)), 2)
             for rows in [schedule.row_index[seed, epoch][(schedule.bucket[epoch] == 1)]]]
    assert len(set(moved)) == 4
    assert all(len(rows - {0}) in (17, 18) for rows in moved)  # 50 - 32 rows move; row 0 is also the filler


def test_every_row_meets_every_place():
    """Over many seeds a row's place is uniform: the mean place of each row is the middle of its bucket's places."""
    lengths = np.full(64, 8)
    rows = train_schedule(lengths, (8,), 8, 1, range(400)).row_index.reshape(400, 64)
    places = np.argsort(rows, axis=1).mean(axis=0)
    assert np.abs(places - 31.5).max() < 5 * 18.5 / 20  # five standard errors


def test_buckets_are_shuffled_in_short_runs_that_cross_no_epoch():
    lengths = made_lengths(4000)
    schedule = train_schedule(lengths, choose_edges(lengths, 4, 32), 32, 2, [0])
    for max_steps in (8, 3):
        runs = schedule.runs(max_steps)
        covered = np.concatenate([np.arange(first, first + count) for _, first, count in runs])
        np.testing.assert_array_equal(covered, np.arange(len(schedule.bucket)))
        for bucket, first, count in runs:
            assert 1 <= count <= max_steps
            assert (schedule.bucket[first:first + count] == bucket).all()
            assert first // schedule.steps_per_epoch == (first + count - 1) // schedule.steps_per_epoch
    single = train_schedule(np.full(12, 9), (9,), 4, 3, [0])  # three steps per epoch, all of one bucket
    assert single.runs() == [(0, 0, 3), (0, 3, 3), (0, 6, 3)]
    one, two = np.split(schedule.bucket, 2)
    assert (one != two).any()
    assert (np.diff(one) < 0).any()  # not sorted by length
    assert len(schedule.runs()) <= 2 * (len(schedule.edges) + schedule.steps_per_epoch // 8)


@given(LENGTHS, st.integers(1, 8), BATCH)
def test_evaluation_covers_each_row_once_in_a_batch_that_holds_it(lengths, max_edges, batch_size):
    edges = choose_edges(lengths, max_edges, batch_size)
    seen = []
    for edge, rows, weight in eval_batches(lengths, edges, batch_size):
        assert edge in edges and rows.shape == weight.shape == (batch_size,)
        assert (rows.dtype, weight.dtype) == (np.int32, np.float32)
        assert (lengths[rows] <= edge).all()
        seen += rows[weight == 1].tolist()
    assert sorted(seen) == list(range(len(lengths)))


def test_a_row_longer_than_the_last_edge_is_refused():
    for call in (lambda: eval_batches(np.array([9]), (4, 8), 2), lambda: padding_fraction(np.array([9]), (8,), 2),
                 lambda: train_schedule(np.array([9]), (8,), 2, 1, [0])):
        with pytest.raises(ValueError, match="the last edge must be at least the longest row, 9 tokens; got 8"):
            call()


def test_draws_are_these_in_every_version():
    """Changing them would change every trained model."""
    assert draw_order(8, 2, 0, 0).tolist() == [6, 4, 7, 0, 5, 2, 1, 3]
    assert sorted(draw_order(1000, 4).tolist()) == list(range(1000))


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["sst2", "cola", "mrpc", "rte", "stsb"])
def test_at_most_15_percent_of_the_computed_tokens_are_padding(name, data_dir):
    tokenizer = load_tokenizer(str(data_dir / "models" / "minilm-l6-h384-uncased"))
    loaded = load_task(name, DataConfig(data_dir=str(data_dir / "glue")))
    train, dev = (tokenize(examples, tokenizer, 128, None) for examples in (loaded.train, loaded.dev["validation"]))
    edges = choose_edges(np.concatenate([train.lengths, dev.lengths]), 8, 32)
    schedule = train_schedule(train.lengths, edges, 32, 1, [0])
    assert 1 - train.lengths.sum() / (np.array(edges)[schedule.bucket].sum() * 32) <= 0.15


def test_which_lengths_are_compiled_changes_no_batch() -> None:
    lengths = np.random.default_rng(0).geometric(0.08, 700).clip(4, 80) + 2
    buckets = choose_edges(lengths, 6, 32)
    whole = train_schedule(lengths, buckets, 32, 2, [0, 1])
    for edges in (buckets[1::2] if len(buckets) % 2 == 0 else buckets[::2], buckets[-1:]):
        some = train_schedule(lengths, edges, 32, 2, [0, 1], buckets)
        np.testing.assert_array_equal(some.row_index, whole.row_index)
        np.testing.assert_array_equal(some.row_weight, whole.row_weight)
        assert some.edges == edges and some.steps_per_epoch == whole.steps_per_epoch
        needed, compiled = np.array(buckets)[whole.bucket], np.array(edges)[some.bucket]
        assert (compiled >= needed).all()
        assert all(not any(need <= edge < given for edge in edges)  # the shortest that holds it
                   for need, given in zip(needed, compiled, strict=True))
