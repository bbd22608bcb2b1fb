"""A study as the programs that will run it, and what they will take, told before anything trains."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax

from bertjax.config import require
from bertjax.model.sizes import encoder_linear_count, param_count, size_name
from bertjax.study import StudyConfig, TrialConfig
from bertjax.sweep.devices import Device, parse_device
from bertjax.sweep.inputs import task_inputs
from bertjax.sweep.outline import Outline, outline
from bertjax.sweep.starts import load_start
from bertjax.sweep.teacher import tuned_teacher
from bertjax.train.mesh import choose_mesh, padded, parse_mesh
from bertjax.train.trial import orders_of, split_groups, split_programs, student_trials, students, teacher_trial
from bertjax.words import number_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProgramPlan:
    """The trials of one task and student that are stepped together."""

    task: str
    trials: tuple[TrialConfig, ...]
    planned: tuple[TrialConfig, ...] = ()
    """Those of the study, where only some of them are left to train."""

    @property
    def whole(self) -> tuple[TrialConfig, ...]:
        """The trials of the study: batch lengths and copies go by them, so that a trial reads the same rows whenever it
        is trained."""
        return self.planned or self.trials

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

    What a user should know about a checkpoint, such as that its task head is new, is said once.

    Raises:
        InputError: The first thing that cannot work.
    """
    seen: set[Any] = set()  # starts whose head has no names, for any task; others with their task; notes; pairs
    for trials in [(teacher,) for teacher in teachers(study)] + [program.trials for program in programs(study)]:
        inputs = task_inputs(trials)
        start = (trials[0].model, trials[0].num_hidden_layers, inputs.config.num_labels)
        if seen.isdisjoint({start, (*start, inputs.data.task.name)}):
            found = load_start(trials[0], inputs)
            for note in found.notes:
                if (start[0], note) not in seen:
                    log.info("%s: %s", start[0], note)
                    seen.add((start[0], note))
            seen.add(start if found.label_names is None else (*start, inputs.data.task.name))
    for program in programs(study):
        teacher, student = teacher_trial(study, program.task), program.trials[0]
        pair = teacher.trial_id, student.model
        if pair not in seen and any(trial.distill_weight for trial in program.trials):
            check_teacher(teacher, student)
            seen.add(pair)


def check_teacher(teacher: TrialConfig, student: TrialConfig) -> None:
    """Checks that a teacher reads the tokens that its students read, and that a tuned one has the task's labels.

    Raises:
        InputError: It does not, or has not.
    """
    ours, theirs = task_inputs([student]), task_inputs([teacher])
    same = ours.tokenizer.get_vocab() == theirs.tokenizer.get_vocab()
    require(same and ours.config.vocab_size == theirs.config.vocab_size,
            f"teacher and student must have one vocabulary; {teacher.model} has {theirs.config.vocab_size} tokens and "
            f"{student.model} {ours.config.vocab_size}" + (", but others" if not same else ""))
    if teacher.fine_tuned:
        tuned_teacher(teacher, theirs)


def mesh_shape(
    mesh: str | None, program: ProgramPlan, devices: int | None = None, memory_bytes: float | None = None
) -> tuple[int, int]:
    """The mesh that is asked for, or the one with the least idle work for the program that fits.

    Args:
        mesh: As `parse_mesh` reads it.
        program: What runs on it.
        devices: How many there are; None: those of this process.
        memory_bytes: Of each; None where it is not known.
    """
    devices = jax.device_count() if devices is None else devices
    if mesh is not None:
        return parse_mesh(mesh, devices)
    if memory_bytes is None:
        return choose_mesh(devices, program.group_sizes, program.trials[0].train.batch_size)
    outlined = outline(program.trials)
    return choose_mesh(devices, program.group_sizes, program.trials[0].train.batch_size,
                       lambda shape: device_bytes(program, outlined, shape) <= memory_bytes)


@dataclass(frozen=True)
class PlanRow:
    """Programs of one task, student and epoch, which are alike but for the number of trials."""

    role: str
    programs: tuple[ProgramPlan, ...]
    outline: Outline
    """Of the largest of them."""
    mesh: tuple[int, int]

    @property
    def trials(self) -> int:
        """Over all programs."""
        return sum(len(program.trials) for program in self.programs)

    @property
    def compilations(self) -> int:
        """A train chunk for each batch length and an eval chunk for each evaluation length; of programs with as many
        trials once."""
        shapes = {(tuple(program.group_sizes), len(orders_of(program.trials))) for program in self.programs}
        return len(shapes) * (len(self.outline.edges) + len(self.outline.eval_edges))

    @property
    def bytes_per_device(self) -> int:
        """What the largest program keeps on each device, activations not counted."""
        return max(device_bytes(program, self.outline, self.mesh) for program in self.programs)

    def flops(self, texts: int) -> float:
        """Operations of all trials; a teacher also computes its outputs for `texts` texts of each training row."""
        teaching = texts * self.outline.outputs_flops if self.role == "teacher" else 0.0
        training = 0.0 if self.programs[0].trials[0].fine_tuned else self.trials * self.outline.trial_flops
        return training + teaching

    def cells(self) -> tuple[str, ...]:
        """The row as text."""
        largest = max(self.programs, key=lambda program: len(program.trials))
        role = "teacher " if self.role == "teacher" else ""
        about = "≈" if self.outline.estimated else ""
        return (
            largest.task, role + size_name(self.outline.config), str(self.trials), str(len(self.programs)),
            "+".join(map(str, largest.group_sizes)), f"{about}{self.outline.steps:,}",
            " ".join(map(str, self.outline.edges)), f"{about}{100 * self.outline.padding:.1f} %",
            f"trial={self.mesh[0]},data={self.mesh[1]}", f"{self.bytes_per_device / 1e6:,.0f} MB",
        )


HEADER = ("task", "model", "trials", "programs", "groups", "steps", "lengths compiled", "padding", "mesh",
          "bytes/device")


def describe_plan(study: StudyConfig, mesh: str | None = None, device: str = "cpu") -> str:
    """A table of the programs (trials, groups, steps, padding, bytes per device), and FLOPs and hours on a device.

    Args:
        study: What to plan. GLUE from the hub and models of the six sizes are known from tables, without a download.
        mesh: `trial=4,data=2`; None takes the mesh with the least idle work.
        device: What the hours are estimated for; see `devices.parse_device`.

    Raises:
        InputError: A device that is not known, or input that must be read and cannot be.
    """
    kind, chips = parse_device(device)
    named = kind.memory_bytes is not None  # else it is this machine, with the devices that JAX has here
    rows = plan_rows(study, mesh, chips if named else None, kind.memory_bytes)
    cells = [HEADER, *(row.cells() for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(HEADER))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    students_ = [row for row in rows if row.role == "student"]
    summary = (f"{study.name}: {number_of('trial', sum(row.trials for row in students_))} in "
               f"{number_of('program', sum(len(row.programs) for row in students_))}, "
               f"{number_of('compilation', sum(row.compilations for row in students_))}, "
               f"{number_of('teacher', len(rows) - len(students_))}; "
               f"{f'{chips} × {kind.name}' if named else f'{jax.device_count()} {jax.devices()[0].device_kind}'} "
               "device(s)")
    notes = ["steps: of one trial; padding: share of the computed training tokens; bytes/device: parameters, "
             "gradients, optimizer state, masks and data, without activations"]
    if any(row.outline.estimated for row in rows):
        notes.append("≈: the lengths of the task's rows are estimated from its size in bytes")
    return "\n".join([summary, "", *lines, "", *notes, *_costs(study, rows, kind, chips)])


def plan_rows(
    study: StudyConfig, mesh: str | None, devices: int | None = None, memory_bytes: float | None = None
) -> list[PlanRow]:
    """The teachers, then the programs of each task, student and length of an epoch; see `mesh_shape`."""
    grouped: dict[tuple[Any, ...], list[ProgramPlan]] = {}
    for teacher in teachers(study):
        grouped["teacher", teacher.trial_id] = [ProgramPlan(teacher.task, (teacher,))]
    for program in programs(study):
        trial = program.trials[0]
        key = "student", program.task, trial.model, trial.num_hidden_layers, trial.texts_per_row
        grouped.setdefault(key, []).append(program)
    rows = []
    for key, members in grouped.items():
        largest = max(members, key=lambda program: len(program.trials))
        rows.append(PlanRow(key[0], tuple(members), outline(largest.trials),
                            mesh_shape(mesh, largest, devices, memory_bytes)))
    return rows


def _costs(study: StudyConfig, rows: list[PlanRow], kind: Device, chips: int) -> list[str]:
    """FLOPs, hours and what does not fit."""
    flops = sum(row.flops(1 + max(study.copies)) for row in rows)
    hours = flops / (kind.peak_flops * kind.share * chips) / 3600
    lines = [f"{flops:.3g} FLOPs; on {chips} × {kind.name} about {_hours(hours)}, at {100 * kind.share:.0f} % of the "
             f"peak of {kind.peak_flops / 1e12:g} TFLOP/s each (an assumption), compilation not counted"]
    largest = max(row.bytes_per_device for row in rows)
    if kind.memory_bytes is not None and largest > kind.memory_bytes:
        lines.append(f"the largest program needs {largest / 1e9:.0f} GB on each device without its activations, more "
                     f"than the {kind.memory_bytes / 1e9:.0f} GB of one {kind.name}: spread the trials over more "
                     "devices (--mesh trial=N), or lower max_trials_per_program in the experiment")
    return lines


def _hours(hours: float) -> str:
    return f"{60 * hours:.0f} minutes" if hours < 1 else f"{hours:,.1f} hours" if hours < 100 else f"{hours:,.0f} hours"


def device_bytes(program: ProgramPlan, outlined: Outline, shape: tuple[int, int]) -> int:
    """Bytes that a program keeps on each device, activations not counted."""
    config = outlined.config
    params = param_count(config, config.num_labels)
    # Parameters, gradients and Adam's two moments in float32, and a mask of one byte per prunable weight.
    per_trial = 4 * 4 * params + encoder_linear_count(config)
    trials = sum(padded(size, shape[0]) // shape[0] for size in program.group_sizes)
    return trials * per_trial + outlined.table_bytes
