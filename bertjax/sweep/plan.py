"""A study as the programs that will run it, and what they will take, told before anything trains."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import jax

from bertjax.config import StudyConfig, TrialConfig
from bertjax.model.bert import init_params
from bertjax.model.hf import from_pretrained
from bertjax.model.sizes import size_name
from bertjax.params import ENCODER_KERNELS, count, num_bytes
from bertjax.sweep.experiments import model_source
from bertjax.sweep.inputs import TaskInputs, task_inputs
from bertjax.train.mesh import choose_mesh, padded, parse_mesh
from bertjax.train.trial import split_groups, split_programs, student_trials, students, teacher_trial


@dataclass(frozen=True)
class ProgramPlan:
    """The trials of one task and student that are stepped together."""

    task: str
    trials: tuple[TrialConfig, ...]

    @property
    def group_sizes(self) -> list[int]:
        """Trials of each group."""
        return [len(group) for group in split_groups(self.trials).values()]


def programs(study: StudyConfig) -> Iterator[ProgramPlan]:
    """Every program of the study's students, task by task."""
    for task in study.tasks:
        for student in students(study):
            for part in split_programs(student_trials(study, task, student), study.max_trials_per_program):
                yield ProgramPlan(task, tuple(part))


def teachers(study: StudyConfig) -> list[TrialConfig]:
    """The teacher of each task; none when no method has K."""
    return [teacher_trial(study, task) for task in study.tasks] if any("K" in m for m in study.methods) else []


def check_inputs(study: StudyConfig) -> None:
    """Loads every task, tokenizer and checkpoint of the study once, so that what is wrong with them shows now.

    Raises:
        InputError: The first thing that cannot work.
    """
    seen = set()
    for trials in [(teacher,) for teacher in teachers(study)] + [program.trials for program in programs(study)]:
        inputs = task_inputs(trials)
        start = (trials[0].model, trials[0].num_hidden_layers, inputs.config.num_labels)
        if start not in seen:
            from_pretrained(model_source(start[0]), num_hidden_layers=start[1], num_labels=start[2])
            seen.add(start)


def mesh_shape(mesh: str | None, program: ProgramPlan) -> tuple[int, int]:
    """The mesh that is asked for, or the one with the least idle work for the program."""
    devices = jax.device_count()
    if mesh is not None:
        return parse_mesh(mesh, devices)
    return choose_mesh(devices, program.group_sizes, program.trials[0].train.batch_size)


def describe_plan(study: StudyConfig, mesh: str | None = None) -> str:
    """A table of the programs: trials, groups, compilations, steps, padding and bytes per device."""
    header = ("task", "model", "trials", "groups", "steps", "lengths compiled", "padding", "mesh", "bytes/device")
    rows: list[tuple[str, ...]] = [header]
    for teacher in teachers(study):
        rows.append(_plan_row(ProgramPlan(teacher.task, (teacher,)), "teacher ", mesh))
    for program in programs(study):
        rows.append(_plan_row(program, "", mesh))
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    body = list(programs(study))
    trials = sum(len(program.trials) for program in body)
    compiled = sum(_compilations(task_inputs(p.trials)) for p in body)
    summary = (f"{study.name}: {trials} trials in {len(body)} programs, {compiled} compilations, "
               f"{len(teachers(study))} teachers; {jax.device_count()} {jax.devices()[0].device_kind} device(s)")
    note = ("padding: share of the computed training tokens; bytes/device: parameters, gradients, optimizer state, "
            "masks and data, without activations")
    return "\n".join([summary, "", *lines, "", note])


def _compilations(inputs: TaskInputs) -> int:
    """A train chunk for each batch length, an eval chunk for each evaluation length."""
    return len(inputs.edges) + len(inputs.eval_edges)


def _plan_row(program: ProgramPlan, label: str, mesh: str | None) -> tuple[str, ...]:
    trial = program.trials[0]
    inputs = task_inputs(program.trials)
    shape = mesh_shape(mesh, program)
    steps = math.ceil(len(inputs.epoch_lengths) / trial.train.batch_size) * trial.train.epochs
    return (
        program.task, label + size_name(inputs.config), str(len(program.trials)),
        "+".join(map(str, program.group_sizes)), str(steps),
        " ".join(map(str, inputs.edges)), f"{100 * inputs.padding:.1f} %", f"trial={shape[0]},data={shape[1]}",
        f"{device_bytes(program, inputs, shape) / 1e6:,.0f} MB",
    )


def device_bytes(program: ProgramPlan, inputs: TaskInputs, shape: tuple[int, int]) -> int:
    """Bytes that a program keeps on each device, activations not counted."""
    params = jax.eval_shape(lambda: init_params(inputs.train_config))
    # Parameters, gradients and Adam's two moments in float32, and a mask of one byte per prunable weight.
    per_trial = 4 * num_bytes(params) + count(params, ENCODER_KERNELS)
    trials = sum(padded(size, shape[0]) // shape[0] for size in program.group_sizes)
    table = inputs.rows.table(inputs.config.num_labels)
    return trials * per_trial + sum(array.nbytes for array in table)


