"""The laws of the sparsity schedule: its formula, its ends, its direction; and exact counts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bertjax.compress.schedule import dropped_count, sparsity_units
from bertjax.config import SPARSITY_STEPS

STEPS = np.arange(64)
LINEAR, CUBIC = 1.0, 3.0

SPARSITIES = st.integers(0, SPARSITY_STEPS - 1)
SCHEDULES = {"initial": SPARSITIES, "final": SPARSITIES, "begin": st.integers(0, 60), "span": st.integers(0, 40),
             "exponent": st.sampled_from([LINEAR, CUBIC])}


at_steps = jax.jit(jax.vmap(sparsity_units, in_axes=(0, None, None, None, None, None)))


def units_at_steps(initial: int, final: int, begin: int, end: int, exponent: float) -> np.ndarray:
    """The schedule at each of `STEPS`."""
    return np.asarray(at_steps(jnp.asarray(STEPS), initial, final, begin, end, jnp.float32(exponent)))


@given(**SCHEDULES)
@settings(max_examples=150)
@example(initial=0, final=6000, begin=8, span=0, exponent=CUBIC)
def test_units_are_the_rounded_formula(initial: int, final: int, begin: int, span: int, exponent: float) -> None:
    units = units_at_steps(initial, final, begin, begin + span, exponent)
    progress = np.clip((STEPS - begin) / max(span, 1), 0, 1)
    formula = final + (initial - final) * (1 - progress) ** exponent
    before, after = begin > STEPS, begin + span <= STEPS
    # Half a unit of rounding, and float32's error at 10,000 units.
    assert (np.abs(units - formula)[~before & ~after] <= 0.5 + 0.01).all()
    assert (units[before] == 0).all()
    assert (units[~before & after] == final).all()


@given(**SCHEDULES)
@settings(max_examples=50)
def test_a_schedule_that_rises_never_falls(initial: int, final: int, begin: int, span: int, exponent: float) -> None:
    low, high = sorted((initial, final))
    units = units_at_steps(low, high, begin, begin + span, exponent)
    assert (np.diff(units) >= 0).all()
    assert (units <= high).all()


def test_it_begins_at_the_initial_sparsity_and_cubic_rises_faster_than_linear() -> None:
    linear, cubic = (units_at_steps(1000, 9000, 10, 50, exponent) for exponent in (LINEAR, CUBIC))
    assert linear[10] == cubic[10] == 1000
    assert linear[30] == 5000 and cubic[30] == 8000
    assert (cubic[11:50] > linear[11:50]).all()


def test_trials_of_one_program_have_their_own_schedules() -> None:
    initial, final = jnp.array([0, 100, 0]), jnp.array([0, 6000, 9999])
    begin, end, exponent = jnp.array([0, 5, 20]), jnp.array([0, 30, 20]), jnp.array([LINEAR, CUBIC, LINEAR])
    together = jax.jit(jax.vmap(sparsity_units, in_axes=(None, 0, 0, 0, 0, 0)))
    for step in (0, 5, 19, 20, 29, 30):
        alone = [units_at_steps(*map(int, numbers[:4]), float(numbers[4]))[step]
                 for numbers in zip(initial, final, begin, end, exponent, strict=True)]
        np.testing.assert_array_equal(together(step, initial, final, begin, end, exponent), alone)


@given(st.one_of(st.integers(1, 2**24), st.integers(2**31 - 2**16, 2**31 - 1)), st.integers(0, SPARSITY_STEPS - 1))
@settings(max_examples=200)
@example(2**24, 9999)
@example(2**31 - 1, 9999)
def test_dropped_count_is_the_exact_floor(size: int, units: int) -> None:
    assert int(dropped_count(size, jnp.int32(units))) == units * size // SPARSITY_STEPS


@pytest.mark.parametrize("size", [1, 3, 9_999, 10_000, 384 * 1536, 2**24 - 1, 2**24])
def test_dropped_count_is_exact_at_every_sparsity(size: int) -> None:
    units = np.arange(SPARSITY_STEPS)
    np.testing.assert_array_equal(dropped_count(size, jnp.asarray(units, jnp.int32)), units * size // SPARSITY_STEPS)
