"""What a study will take, told before anything trains: its programs on the devices, memory, FLOPs and hours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax

from bertjax.model.sizes import size_name
from bertjax.study import StudyConfig
from bertjax.sweep.devices import Device, Devices, devices_here, parse_device
from bertjax.sweep.inputs import EVAL_COMPILE_SHARE, compile_seconds
from bertjax.sweep.layout import MEMORY_SHARE, Layout, layout, split_to_fit
from bertjax.sweep.outline import Outline, outline
from bertjax.sweep.plan import ProgramPlan, programs, teachers
from bertjax.train.trial import orders_of
from bertjax.words import number_of


@dataclass(frozen=True)
class PlanRow:
    """Programs of one task, student and epoch, which are alike but for the number of trials."""

    role: str
    programs: tuple[ProgramPlan, ...]
    outline: Outline
    """Of the one with the most trials."""
    heaviest: ProgramPlan
    """The one that takes the most memory."""
    layout: Layout
    """Of the heaviest."""

    @property
    def trials(self) -> int:
        """Over all programs."""
        return sum(len(program.trials) for program in self.programs)

    @property
    def model(self) -> str:
        """The student's size, or `teacher` and its size."""
        return ("teacher " if self.role == "teacher" else "") + size_name(self.outline.config)

    @property
    def compilations(self) -> int:
        """A train chunk for each batch length and an eval chunk for each evaluation length; of programs with as many
        trials once."""
        return self.shapes * (len(self.outline.edges) + len(self.outline.eval_edges))

    @property
    def shapes(self) -> int:
        """How many different programs there are to compile."""
        return len({(tuple(program.group_sizes), len(orders_of(program.trials))) for program in self.programs})

    def compile_seconds(self, platform: str) -> float:
        """What compiling takes, one chunk after the other."""
        lengths = len(self.outline.edges) + EVAL_COMPILE_SHARE * len(self.outline.eval_edges)
        return self.shapes * self.outline.config.num_hidden_layers * lengths * compile_seconds(platform)

    def flops(self, texts: int) -> float:
        """Operations of all trials; a teacher also computes its outputs for `texts` texts of each training row."""
        teaching = texts * self.outline.outputs_flops if self.role == "teacher" else 0.0
        training = 0.0 if self.programs[0].trials[0].fine_tuned else self.trials * self.outline.trial_flops
        return training + teaching

    def cells(self) -> tuple[str, ...]:
        """The row as text."""
        about = "≈" if self.outline.estimated else ""
        return (
            self.heaviest.task, self.model, str(self.trials), str(len(self.programs)),
            "+".join(map(str, self.heaviest.group_sizes)), f"{about}{self.outline.steps:,}",
            " ".join(map(str, self.outline.edges)), f"{about}{100 * self.outline.padding:.1f} %",
            f"trial={self.layout.mesh[0]},data={self.layout.mesh[1]}", f"{100 * self.layout.idle:.0f} %",
            str(self.layout.rows_at_once), f"{self.layout.bytes_per_device / 1e6:,.0f} MB",
        )


HEADER = ("task", "model", "trials", "programs", "groups", "steps", "lengths compiled", "padding", "mesh", "idle",
          "rows at once", "memory/device")
NOTES = """\
groups: trials of the heaviest program; steps: of one trial; padding: share of the computed training tokens
idle: share of the devices' work that is done for copies of trials, or rows, that only fill up the mesh
rows at once: of a trial's batch on a device; a batch of more is computed in parts, whose gradients are added
memory/device: of the heaviest program, by a formula: parameters, moments, gradients, masks, activations, data"""


def describe_plan(
    study: StudyConfig, mesh: str | None = None, device: str = "cpu",
    compiler: Callable[[list[PlanRow], str], list[str]] | None = None,
) -> str:
    """A table of the programs (trials, groups, steps, padding, mesh, memory), and FLOPs and hours on a device.

    Args:
        study: What to plan. GLUE from the hub and models of the six sizes are known from tables, without a download.
        mesh: `trial=4,data=2`; None takes the mesh with the least idle work.
        device: What the hours are estimated for; see `devices.parse_device`.
        compiler: What else is to be said of the rows for the device.

    Raises:
        InputError: A device that is not known, or input that must be read and cannot be.
    """
    kind, chips = parse_device(device)
    named = kind.platform != "cpu"  # else it is this machine, with the devices that JAX has here
    devices = Devices(chips, kind.platform, kind.memory_bytes) if named else devices_here()
    rows = plan_rows(study, mesh, devices)
    cells = [HEADER, *(row.cells() for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(HEADER))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    students_ = [row for row in rows if row.role == "student"]
    summary = (f"{study.name}: {number_of('trial', sum(row.trials for row in students_))} in "
               f"{number_of('program', sum(len(row.programs) for row in students_))}, "
               f"{number_of('compilation', sum(row.compilations for row in students_))}, "
               f"{number_of('teacher', len(rows) - len(students_))}; "
               f"{f'{chips} × {kind.name}' if named else f'{devices.count} {jax.devices()[0].device_kind}'} "
               "device(s)")
    notes = NOTES.splitlines()
    if any(row.outline.estimated for row in rows):
        notes.append("≈: the lengths of the task's rows are estimated from its size in bytes")
    compiled = [] if compiler is None else compiler(rows, device)
    return "\n".join([summary, "", *lines, "", *notes, *_costs(study, rows, kind, chips), *_memory(rows, devices),
                      *(compiled or _ask_the_compiler(kind))])


def plan_rows(study: StudyConfig, mesh: str | None, devices: Devices) -> list[PlanRow]:
    """The teachers, then the programs of each task, student and length of an epoch, as they fit on the devices."""
    grouped: dict[tuple[Any, ...], list[ProgramPlan]] = {}
    for teacher in teachers(study):
        grouped["teacher", teacher.trial_id] = [ProgramPlan(teacher.task, (teacher,))]
    for program in programs(study):
        trial = program.trials[0]
        key = "student", program.task, trial.model, trial.num_hidden_layers, trial.texts_per_row
        grouped.setdefault(key, []).append(program)
    rows = []
    for key, members in grouped.items():
        outlined = outline(max(members, key=lambda program: len(program.trials)).trials, devices)
        parts = [replace(program, trials=tuple(part)) for program in members
                 for part in split_to_fit(program.trials, outlined, devices, mesh)]
        layouts = [layout(part.trials, outlined, devices, mesh) for part in parts]
        heaviest = max(range(len(parts)), key=lambda i: layouts[i].bytes_per_device)
        rows.append(PlanRow(key[0], tuple(parts), outlined, parts[heaviest], layouts[heaviest]))
    return rows


def _costs(study: StudyConfig, rows: list[PlanRow], kind: Device, chips: int) -> list[str]:
    """FLOPs and hours."""
    flops = sum(row.flops(1 + max(study.copies)) for row in rows)
    idling = sum(row.flops(1 + max(study.copies)) / (1 - row.layout.idle) for row in rows)
    hours = idling / (kind.peak_flops * kind.share * chips) / 3600
    compiling = sum(row.compile_seconds(kind.platform) for row in rows) / 3600
    return [f"{flops:.3g} FLOPs; on {chips} × {kind.name} about {_hours(hours)}, at {100 * kind.share:.0f} % of the "
            f"peak of {kind.peak_flops / 1e12:g} TFLOP/s each (an assumption), idle work counted",
            f"compilation: about {_hours(compiling)} more, at {compile_seconds(kind.platform):g} s for each encoder "
            "layer and length (an assumption), of which the same study takes none again on the same machine"]


def _ask_the_compiler(kind: Device) -> list[str]:
    """How to know more than the formula."""
    said = {"tpu": "--compile: the bytes and FLOPs of the heaviest programs by the TPU's compiler, without a TPU",
            "gpu": "--compile: the bytes of the heaviest programs by the GPU's compiler, without a GPU"}
    return [said[kind.platform]] if kind.platform in said else []


def _memory(rows: list[PlanRow], devices: Devices) -> list[str]:
    """What does not fit, even a trial alone and row by row."""
    largest = max((row.layout for row in rows if not row.layout.fits), key=lambda found: found.bytes_per_device,
                  default=None)
    if largest is None or devices.memory_bytes is None:
        return []
    share = MEMORY_SHARE[devices.platform]
    return [f"the largest program needs {largest.bytes_per_device / 1e9:.1f} GB on each device, more than "
            f"{100 * share:.0f} % of its {devices.memory_bytes / 1e9:.1f} GB: take a smaller model, or devices with "
            "more memory"]


def _hours(hours: float) -> str:
    return f"{60 * hours:.0f} minutes" if hours < 1 else f"{hours:,.1f} hours" if hours < 100 else f"{hours:,.0f} hours"
