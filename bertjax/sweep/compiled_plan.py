"""What a TPU's or GPU's compiler says of a plan's programs: compiled ahead of time, without a device or data."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import jax

from bertjax.config import require
from bertjax.data.tasks import find_task
from bertjax.sweep.forecast import PlanRow
from bertjax.train.ahead import DataShape, device_cost, lower_train_chunk, topology_mesh
from bertjax.train.cards import CARDS
from bertjax.train.program import program_spec
from bertjax.train.tiles import tile_padding
from bertjax.train.trial import orders_of
from bertjax.words import number_of

log = logging.getLogger(__name__)

LEAST_EFFORT = {"exec_time_optimization_effort": -1.0}
"""Compiles several times faster, to a program that needs more memory: 3 layers of BERT-base 1.6 instead of 1.1 GB. What
fits so fits."""


def compile_largest(rows: Iterable[PlanRow], name: str) -> list[str]:
    """Compiles the program of every model that takes the most memory by the formula, for its longest batches.

    Args:
        rows: A plan for the slice.
        name: A TPU slice such as v5e:2x4, or GPUs such as h200:8.

    Returns:
        A line for each model: bytes of one device; of a TPU also FLOPs, and what fills up the tiles of its memory.

    Raises:
        InputError: Neither, or the compiler is not installed.
    """
    require(not name.startswith("cpu"), f"--compile needs a TPU slice or GPUs, such as --device v5e:2x4 or h200, got "
                                        f"{name!r}: a sweep compiles for the CPU itself")
    largest: dict[str, PlanRow] = {}
    for row in rows:
        if row.model not in largest or row.layout.bytes_per_device > largest[row.model].layout.bytes_per_device:
            largest[row.model] = row
    topology_mesh(name, (1, 1))  # says what is missing before the first minute
    with _without_cache():
        return [f"compiled for {name}, its longest batches, of each model the program with the most memory:",
                *(_line(row, name) for row in largest.values())]


@contextmanager
def _without_cache() -> Iterator[None]:
    """What is compiled for devices that are not here cannot be kept: each try would warn."""
    before = jax.config.values["jax_enable_compilation_cache"]
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)


def _line(row: PlanRow, name: str) -> str:
    start = time.perf_counter()
    program, length = row.heaviest, max(row.outline.edges)
    log.info("%s, %s: compiling a program of %s for %s", row.model, program.task,
             number_of("trial", len(program.trials)), name)
    compiled = compile_row(row, name)
    cost, formula = device_cost(compiled), row.layout.bytes_per_device
    what = f"  {row.model} on {program.task}, {number_of('trial', len(program.trials))}, {length} tokens"
    most = f"{cost.peak_bytes / 1e6:,.0f} MB of each {'GPU' if is_gpu(name) else 'chip'} at most"
    said = f"{what}: {most} (formula {formula / 1e6:,.0f} MB)"
    if cost.step_flops is not None:
        said += f", {cost.step_flops / 1e9:,.0f} GFLOPs a step and chip"
    said += f", compiled in {time.perf_counter() - start:.0f} s"
    if is_gpu(name):
        return said
    tiles = tile_padding(compiled.as_text())
    return (f"{said}; tiles add {100 * tiles.arguments:.1f} % to its arguments, {100 * tiles.results:.0f} % to what it "
            "writes")


def compile_row(row: PlanRow, name: str) -> Any:
    """Compiles the train chunk of a row's heaviest program for its longest batches."""
    program, known = row.heaviest, row.outline
    spec = program_spec(program.trials, known.config, find_task(program.task).regression, row.layout.part_tokens)
    data = DataShape(known.texts + len(known.dev_lengths), known.longest, known.batch_size, known.steps,
                     len(orders_of(program.trials)))
    mesh = topology_mesh(name, row.layout.mesh)
    lowered = lower_train_chunk(spec, mesh, program.group_sizes, data, max(known.edges))
    return lowered.compile({} if is_gpu(name) else LEAST_EFFORT)


def is_gpu(name: str) -> bool:
    """Whether `h200:8` and the like names GPUs."""
    return name.partition(":")[0] in CARDS
