"""How long calls take, several of them in turns; what they compute is nothing to this file."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float

B = TypeVar("B")
Call = Callable[[B], object]
"""Takes a batch, and returns when its result is there."""


JAX, ONNX, TORCH = "jax", "onnxruntime", "torch"
"""Runtimes; a scheme of quantization without training stands behind its runtime, as in "onnxruntime int8_dynamic"."""

STATIC = "static"
"""Stands behind the runtime of a model with Q whose activations were given fixed scales."""


class Latency(NamedTuple):
    """What the seconds of many calls come to; the fields are columns of latency.csv and results.csv."""

    p50_ms: float
    """Half of the calls took at most so long."""
    p95_ms: float
    """Of 20 calls 19 took at most so long."""
    rows_per_second: float
    """Of all batches, each at the median of its rounds."""


def take_turns(
    calls: Mapping[str, Call[B]], batches: Sequence[B], rounds: int, clock: Callable[[], float] = time.perf_counter,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Float[np.ndarray, "rounds batches"]]:
    """Seconds of every call on every batch.

    In a round each of the calls takes all batches, one call after the other (A B C, A B C, ...), so that what slows
    the machine for a while slows all of them. A first round is not counted: it compiles, and touches the memory.

    Args:
        rounds: Rounds that count, at least 1.
        clock: Seconds since any moment.
        progress: Called after each call's turn, `(rounds + 1) * len(calls)` times.
    """
    seconds = {name: np.zeros((rounds + 1, len(batches))) for name in calls}
    for i in range(rounds + 1):
        for name, call in calls.items():
            for j, batch in enumerate(batches):
                start = clock()
                call(batch)
                seconds[name][i, j] = clock() - start
            progress()
    return {name: taken[1:] for name, taken in seconds.items()}


def latency(seconds: Float[np.ndarray, "rounds batches"], rows: Sequence[int]) -> Latency:
    """The percentiles over all calls, and the throughput.

    Args:
        seconds: What `take_turns` gives for one call.
        rows: Of each batch.
    """
    p50, p95 = 1e3 * np.percentile(seconds, [50, 95], method="inverted_cdf")
    return Latency(float(p50), float(p95), float(sum(rows) / np.median(seconds, axis=0).sum()))
