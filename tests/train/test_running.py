"""What the host counts of a running program: its chunks, the time it waits for them, and what came from JAX's cache."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bertjax.train import running
from bertjax.train.program import cache_hits
from bertjax.train.running import Run
from bertjax.train.state import StepMetrics


def test_waiting_for_a_chunk_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk takes 3 s of the device; the second look at it finds it finished."""
    now, unfinished = [0.0], [1, 2]

    def wait(metrics: Any) -> None:
        number = int(metrics[0].loss[0, 0])
        if number in unfinished:
            unfinished.remove(number)
            now[0] += 3

    monkeypatch.setattr(running.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(running.jax, "block_until_ready", wait)
    chunks: Any = SimpleNamespace(seconds=0.0)
    run = Run(chunks, 4, 8, None, None, begun=0.0)
    for number in (1, 2):
        values = np.full((2, 1), float(number))
        metrics = (StepMetrics(values, values, values),)
        now[0] += 0.5  # the host takes the steps and hands them over
        run.started(metrics, 2)
        if number == 1:
            run.wait(metrics)
    run.finish()
    assert (run.started_chunks, run.step, run.waited, run.elapsed()) == (2, 4, 6.0, 7.0)
    np.testing.assert_array_equal(run.history()[0].loss[:, 0], [1, 1, 2, 2])


def test_a_program_from_jaxs_cache_is_known() -> None:
    """By an event of JAX, which may get another name."""
    before = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    try:
        found = []
        for _ in range(2):
            with cache_hits() as hits:
                jax.jit(lambda x: jnp.sin(x) * 0.123456).lower(jax.ShapeDtypeStruct((3,), jnp.float32)).compile()
            found.append(len(hits))
    finally:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", before)
    assert found == [0, 1]
    jax.monitoring.record_event("/jax/compilation_cache/cache_hits")
    assert len(hits) == 1  # no longer heard
