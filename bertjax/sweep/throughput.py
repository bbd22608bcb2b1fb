"""Throughput of a sweep's training: its own programs, timed for whole passes over the training rows.

What is timed is `bertjax.train.loop.fit`, with the batch lengths, the mesh and the parts that a sweep takes. Loading,
placing, compiling, evaluating and the teacher's outputs are outside of it; the last two are no part of a training
step, and the teacher's forward pass is timed apart.
"""

from __future__ import annotations

import logging
import os
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from bertjax.artifact.machine import cpu_count, cpu_name, versions
from bertjax.config import BertConfig, Dtype, require
from bertjax.model.flops import train_flops
from bertjax.study import StudyConfig
from bertjax.sweep.devices import datasheet, devices_here
from bertjax.sweep.inputs import task_inputs
from bertjax.sweep.layout import layout, split_to_fit
from bertjax.sweep.outline import pass_flops, read_outline
from bertjax.sweep.peaks import measured_peak, peak_memory
from bertjax.sweep.plan import check_teacher, programs
from bertjax.sweep.program import Program, one_step_per_length
from bertjax.sweep.starts import load_start
from bertjax.sweep.teacher import TeacherForward
from bertjax.train.loop import Fit
from bertjax.train.mesh import make_mesh
from bertjax.train.program import CompiledChunks
from bertjax.train.trial import students, teacher_trial
from bertjax.words import number_of

log = logging.getLogger(__name__)


class Work(NamedTuple):
    """What is done in one pass over the training rows."""

    trial_examples: int
    """Rows × trials."""
    tokens: int
    """Of the rows × trials."""
    computed_tokens: int
    """Of the batches × trials: with padding, and the rows that fill up the last batch."""
    flops: float
    """Operations of the matrix products, forward and backward (`train_flops`), for the computed tokens.

    What only fills up the trial axis or the data axis of a mesh is not counted in any of these, nor are the copies of
    rows that fill up a part of a batch.
    """

    @property
    def padding(self) -> float:
        """Share of the computed tokens that are padding."""
        return 1 - self.tokens / self.computed_tokens


def pass_work(config: BertConfig, lengths: np.ndarray, edges: Sequence[int], batch_size: int, trials: int) -> Work:
    """The work of one pass.

    Args:
        config: Of the model that is trained.
        lengths: [rows] tokens of each.
        edges: Batch lengths.
        batch_size: Rows of a step.
        trials: How many are trained.
    """
    computed = pass_flops(lambda _, length: length, config, lengths, edges, batch_size)
    flops = pass_flops(train_flops, config, lengths, edges, batch_size)
    return Work(trials * len(lengths), trials * int(lengths.sum()), trials * int(computed), trials * flops)


def work_of(program: Program) -> Work:
    """The work of one pass of a program without augmented copies."""
    inputs = program.inputs
    return pass_work(inputs.train_config, inputs.epoch_lengths, inputs.edges, program.trials[0].train.batch_size,
                     len(program.trials))


class Timed(NamedTuple):
    """What one pass took."""

    seconds: float
    """Wall time, compilation excluded."""
    chunks: int
    """Calls of the compiled function, of one to eight steps each."""
    host_seconds: float
    """Part of `seconds` in which the host did not wait for the device: it took the next steps, handed them over, and
    read the metrics of the steps before. On a CPU the device is idle meanwhile, elsewhere it has the chunk before to
    compute. Where both share the cores, handing over also takes what the device takes of them."""

    @classmethod
    def of(cls, fitted: Fit) -> Timed:
        """A program that was trained from its start."""
        return cls(fitted.seconds, fitted.chunks, fitted.seconds - fitted.waited_seconds)


T = TypeVar("T", Work, Timed)


def total(parts: Iterable[T]) -> T:
    """Of programs that are trained one after another."""
    made = list(parts)
    return type(made[0])(*map(sum, zip(*made, strict=True)))


def rates(work: Work, timed: Timed) -> dict[str, float]:
    """Work per second, and the host's share of a pass."""
    return {
        "trial_examples_per_s": work.trial_examples / timed.seconds,
        "tokens_per_s": work.tokens / timed.seconds,
        "computed_tokens_per_s": work.computed_tokens / timed.seconds,
        "model_flops_per_s": work.flops / timed.seconds,
        "host_seconds_per_chunk": timed.host_seconds / timed.chunks,
        "host_share": timed.host_seconds / timed.seconds,
    }


def spread(rounds: Sequence[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Least, median and most of every number over the rounds."""
    return {name: {"min": min(values), "median": statistics.median(values), "max": max(values)}
            for name in rounds[0] for values in [[one[name] for one in rounds]]}


def bench_training(
    study: StudyConfig, rounds: int = 3, mesh: str | None = None, profile: Path | None = None
) -> dict[str, Any]:
    """Measures the training of a study.

    Args:
        study: Of one task and one student, without augmented copies. Its number of epochs only says how many batch
            lengths pay for their compilation.
        rounds: Passes over the training rows that count. Before them, a step of each batch length compiles and warms
            up.
        mesh: `trial=4,data=2`; None takes what a sweep takes.
        profile: Folder for a trace of a step of each batch length.

    Returns:
        Fit for JSON. The fields of `Work` are those of a pass. Those of `Timed` and `rates` are medians over the
        rounds, which are in `rounds` and whose least and most are in `spread`. `padding` is a share of the computed
        tokens. `peak_flops_per_s` is that of a large matrix product on the same devices
        (`bertjax.sweep.peaks.measured_peak`), `datasheet_flops_per_s` that of bfloat16 by their datasheets, None if
        not known; `share_of_…` are `model_flops_per_s` over them. `compile_cache_hits` counts the compilations that
        JAX's cache on disk spared. `peak_memory_bytes` is the most up to the last round, loading and the teacher's
        forward pass included.

    Raises:
        InputError: The task or the model cannot be loaded, or the mesh does not fit the devices.
    """
    require(rounds >= 1, f"--rounds must be at least 1, got {rounds}")
    require(len(study.tasks) == len(students(study)) == 1 and study.copies == (0,),
            "the training of one task and one student without augmented copies is measured, got "
            f"{len(study.tasks)} tasks, {len(students(study))} students and copies {study.copies}")
    study = replace(study, train=replace(study.train, reinit_head=True))  # whatever task it was fine-tuned for
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    (task,) = study.tasks
    logits, teacher = _teacher(study, task, mesh)
    parts = _programs(study, logits, mesh)
    chunks, work, measured = _warm(parts), total(map(work_of, parts)), []
    for number in range(rounds):
        timed = total(Timed.of(part.fit(made)) for part, made in zip(parts, chunks, strict=True))
        measured.append(timed._asdict() | rates(work, timed))
        log.info("round %d of %d: %.1f trial-examples/s", number + 1, rounds, measured[-1]["trial_examples_per_s"])
    memory, holder = peak_memory(parts[0].mesh)
    compiled = {id(made): made for made in chunks}.values()
    over = spread(measured)
    medians = {name: values["median"] for name, values in over.items()}
    return {
        "task": task, "model": study.model, "layers": parts[0].inputs.config.num_hidden_layers,
        "methods": list(study.methods), "seeds": list(study.seeds), "trials": sum(len(part.trials) for part in parts),
        "rows": len(parts[0].inputs.epoch_lengths), "batch_size": study.train.batch_size, "dtype": study.train.dtype,
        "programs": [_description(part) for part in parts],
        **work._asdict(), "padding": work.padding,
        **medians, "spread": over, "rounds": measured, **_peaks(parts, study.train.dtype, medians["model_flops_per_s"]),
        "compile_seconds": sum(made.seconds for made in compiled),
        "compilations": sum(len(made.compiled) for made in compiled),
        "compile_cache_hits": sum(made.from_cache for made in compiled),
        "teacher": teacher, "peak_memory_bytes": memory, "peak_memory_of": holder, **_machine(load),
        "profile": None if profile is None else _profile(parts[0], chunks[0], profile),
    }


def _programs(study: StudyConfig, logits: np.ndarray | None, mesh: str | None) -> list[Program]:
    """The programs that a sweep makes of the study here, for one pass over the rows."""
    made = []
    for planned in programs(study):
        inputs, outlined = task_inputs(planned.whole), read_outline(planned.whole)
        for trials in split_to_fit(planned.whole, outlined, devices_here(), mesh):
            laid = layout(trials, outlined, devices_here(), mesh)
            made.append(Program(trials, inputs, make_mesh(laid.mesh), logits, laid.part_tokens, epochs=1))
    return made


def _teacher(study: StudyConfig, task: str, mesh: str | None) -> tuple[np.ndarray | None, dict[str, Any] | None]:
    """[row, labels] outputs of the teacher's start on the training rows, and what they took; None without K.

    Fine-tuning would change the outputs, but not the time.
    """
    if not any("K" in methods for methods in study.methods):
        return None, None
    teacher = teacher_trial(study, task)
    check_teacher(teacher, next(programs(study)).trials[0])
    inputs = task_inputs([teacher])
    laid = layout([teacher], read_outline([teacher]), devices_here(), mesh)
    forward = TeacherForward.of(teacher, load_start(teacher, inputs).params, inputs, make_mesh(laid.mesh))
    logits, seconds = timed_forward(forward, inputs.rows.texts)
    return logits, {"layers": inputs.config.num_hidden_layers, "rows_per_s": len(logits) / seconds,
                    "seconds": seconds, "compile_seconds": forward.chunks.seconds}


def timed_forward(forward: TeacherForward, rows: range) -> tuple[np.ndarray, float]:
    """A teacher's outputs for rows, and the seconds of a second pass over them: the first compiles and warms up."""
    forward(rows)
    start = time.perf_counter()
    logits = forward(rows)
    return logits, time.perf_counter() - start


def _warm(parts: Sequence[Program]) -> list[CompiledChunks]:
    """The compiled chunks of each program, of which each has run; like programs share them, as in a sweep."""
    made: list[CompiledChunks] = []
    for part in parts:
        chunks = part.chunks(made[-1] if made else None)
        log.info("%s: compiling and warming up", number_of("trial", len(part.trials)))
        part.fit(chunks, one_step_per_length(part.rows))
        made.append(chunks)
    return made


def _description(part: Program) -> dict[str, Any]:
    return {"trials": len(part.trials), "groups": [len(group) for group in part.groups.values()],
            "mesh": dict(part.mesh.shape), "part_tokens": part.part_tokens, "edges": list(part.rows.edges),
            "steps": len(part.rows.bucket)}


def _peaks(parts: Sequence[Program], dtype: Dtype, flops: float) -> dict[str, Any]:
    """The devices' peaks and the share of each that `flops` per second are."""
    mesh = max((part.mesh for part in parts), key=lambda mesh: mesh.size)
    measured, known = measured_peak(mesh, dtype), datasheet(mesh.devices.flat[0].device_kind)
    written = None if known is None else mesh.size * known.peak_flops
    return {"peak_flops_per_s": measured, "share_of_peak": flops / measured, "datasheet_flops_per_s": written,
            "share_of_datasheet": None if written is None else flops / written}


def _machine(load: float | None) -> dict[str, Any]:
    """What it ran on."""
    first = jax.devices()[0]
    return {"platform": first.platform, "device_kind": first.device_kind, "devices": jax.device_count(),
            "cpu": cpu_name(), "cpus": cpu_count(), "load_before": load, "versions": versions()}


def _profile(part: Program, chunks: CompiledChunks, folder: Path) -> dict[str, str]:
    """Traces a step of each batch length into `folder`; the files that Perfetto, and TensorBoard and XProf, open."""
    before = set(folder.rglob("*"))
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # every call of Python would be an event
    with jax.profiler.trace(folder, profiler_options=options):
        part.fit(chunks, one_step_per_length(part.rows))
    (trace,) = set(folder.rglob("*.trace.json.gz")) - before
    (xplane,) = set(folder.rglob("*.xplane.pb")) - before
    return {"perfetto": str(trace), "tensorboard": str(folder), "xplane": str(xplane)}
