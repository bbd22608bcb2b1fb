"""Timing, by calls that take the time that they are told to take."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertjax.artifact.inference.latency import latency, take_turns


class Machine:
    """A clock that only calls move."""

    def __init__(self) -> None:
        self.now, self.log = 0.0, []

    def call(self, name: str, seconds: float):
        """Takes `seconds` times the batch, and in the first round 100 more."""
        def run(batch: float) -> None:
            slow = (name, batch) not in self.log
            self.log.append((name, batch))
            self.now += seconds * batch + 100 * slow

        return run

    def clock(self) -> float:
        return self.now


def test_calls_take_turns_round_by_round_and_the_first_round_does_not_count() -> None:
    machine, turns = Machine(), []
    calls = {"a": machine.call("a", 1.0), "b": machine.call("b", 2.0), "c": machine.call("c", 3.0)}
    seconds = take_turns(calls, [1.0, 10.0], 2, machine.clock, lambda: turns.append(len(machine.log)))
    assert machine.log == [(name, batch) for name in "abc" for batch in (1.0, 10.0)] * 3
    assert turns == [2 * turn for turn in range(1, 10)]
    for name, each in (("a", 1.0), ("b", 2.0), ("c", 3.0)):
        np.testing.assert_allclose(seconds[name], [[each, 10 * each]] * 2)


@given(st.lists(st.floats(1e-4, 10), min_size=1, max_size=40), st.integers(1, 4))
def test_percentiles_are_over_all_calls_in_milliseconds(taken: list[float], rounds: int) -> None:
    seconds = np.tile(taken, (rounds, 1))
    found, ordered = latency(seconds, [1] * len(taken)), np.sort(seconds, axis=None) * 1e3
    for share, bound in ((0.5, found.p50_ms), (0.95, found.p95_ms)):
        assert np.isclose(ordered, bound).any()
        assert np.sum(ordered <= bound * (1 + 1e-9)) >= share * ordered.size
        assert np.sum(ordered < bound * (1 - 1e-9)) < share * ordered.size


def test_throughput_counts_rows_and_forgets_a_round_that_was_disturbed() -> None:
    seconds = np.array([[0.5, 1.5], [0.5, 1.5], [50.0, 1.5]])
    assert latency(seconds, [8, 2]).rows_per_second == pytest.approx(10 / 2.0)
