"""How programs lie on the devices: over which mesh, in which parts, and which trials have to wait for the memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from bertjax.config import Dtype
from bertjax.study import TrialConfig
from bertjax.sweep.devices import Devices
from bertjax.sweep.outline import Outline
from bertjax.train.memory import WORKSPACE, state_bytes, step_bytes
from bertjax.train.mesh import mesh_shape, padded
from bertjax.train.program import part_tokens
from bertjax.train.step import part_rows
from bertjax.train.trial import split_evenly, split_groups

MEMORY_SHARE = {"tpu": 0.95, "gpu": 0.9, "cpu": 0.4}
"""By platform: how much of the memory a program may take by the formula. On a CPU the heap falls to pieces and
keeps more than the buffers take, checkpoints are copied in it, and the system lives there too."""

WORTH = 0.9
"""A split into more programs, which compile anew, must leave this share of the work or less."""

LEAST_IDLE = 0.005
"""What a percent rounds to."""


@dataclass(frozen=True)
class Layout:
    """A program on its devices."""

    mesh: tuple[int, int]
    part_tokens: int | None
    """Tokens that a trial computes at once, see `ProgramSpec`."""
    rows_at_once: int
    """Rows of the longest batches that a trial computes at once on a device."""
    bytes_per_device: int
    """What it takes there by the formula."""
    fits: bool
    work: int
    """Rows of a step over all devices and trials, with those that only fill up the mesh."""
    idle: float
    """Share of the work that is done for copies of trials and for rows that fill up a batch."""

    def in_words(self, batch_size: int) -> str:
        """What a single device that computes whole batches has nothing of; "" for one.

        Args:
            batch_size: Rows of a step.
        """
        said = [] if self.mesh == (1, 1) else [f"mesh trial={self.mesh[0]},data={self.mesh[1]}"]
        if self.idle >= LEAST_IDLE:
            said.append(f"{100 * self.idle:.0f} % of the devices' work is idle")
        rows = padded(batch_size, self.mesh[1]) // self.mesh[1]
        if self.rows_at_once < rows:
            said.append(f"{self.rows_at_once} of {rows} rows of a batch at once")
        return ", ".join(said)


def layout(trials: Sequence[TrialConfig], outlined: Outline, devices: Devices, mesh: str | None = None) -> Layout:
    """The mesh with the least idle work of those on which the trials fit, or the one that `mesh` asks for.

    A single trial that fits nowhere is computed in smaller parts, as large as they can be.

    Args:
        trials: Of one program.
        outlined: Their task and student.
        devices: What they may run on.
        mesh: `trial=4,data=2`.

    Raises:
        InputError: A mesh that cannot be read, or needs more devices.
    """
    return _chosen(_sizes(trials), trials[0].train.dtype, outlined, devices, mesh)


def split_to_fit(
    trials: Sequence[TrialConfig], outlined: Outline, devices: Devices, mesh: str | None = None
) -> list[list[TrialConfig]]:
    """The trials of one program as programs that fit into the devices' memory, as even and as few as can be.

    Of numbers of programs that fit it is the one with the least idle work, if that is worth it. Where even single
    trials do not fit, they are programs of their own. Args as for `layout`.
    """
    dtype, best, least = trials[0].train.dtype, None, float("inf")

    @cache
    def chosen(groups: tuple[int, ...]) -> Layout:
        return _chosen(groups, dtype, outlined, devices, mesh)

    for count in range(1, len(trials) + 1):
        parts = split_evenly(trials, count)
        layouts = [chosen(_sizes(part)) for part in parts]
        work = sum(found.work for found in layouts)
        if all(found.fits for found in layouts) and work <= WORTH * least:
            best, least = parts, work
    return best or [[trial] for trial in trials]


def _sizes(trials: Sequence[TrialConfig]) -> tuple[int, ...]:
    return tuple(len(group) for group in split_groups(trials).values())


def _chosen(groups: tuple[int, ...], dtype: Dtype, outlined: Outline, devices: Devices, mesh: str | None) -> Layout:
    """See `layout`, of groups of so many trials."""
    usual = part_tokens(outlined.config, devices.platform)

    def lay(shape: tuple[int, int], part: int | None) -> Layout:
        return _lay(groups, dtype, outlined, devices, shape, part)

    def best(part: int | None) -> Layout:
        shape = mesh_shape(mesh, devices.count, groups, outlined.batch_size, lambda shape: lay(shape, part).fits)
        return lay(shape, part)

    found = best(usual)
    if found.fits or sum(groups) > 1:
        return found
    longest = max(outlined.edges)
    shape = best(longest).mesh  # row by row
    rows = lay(shape, usual).rows_at_once
    while rows > 1 and not found.fits:
        rows = 2 ** ((rows - 1).bit_length() - 1)  # the power of two below
        found = lay(shape, rows * longest)
    return found


def _lay(
    groups: tuple[int, ...], dtype: Dtype, outlined: Outline, devices: Devices, shape: tuple[int, int], part: int | None
) -> Layout:
    """One way to lay groups of trials on the devices."""
    length, config = max(outlined.edges), outlined.config
    rows = padded(outlined.batch_size, shape[1]) // shape[1]
    at_once = part_rows(part, rows, length)
    held = sum(padded(size, shape[0]) // shape[0] for size in groups)
    step = step_bytes(config, at_once, length, dtype, devices.platform, whole=at_once == rows)
    taken = held * (state_bytes(config) + step) + outlined.table_bytes + WORKSPACE
    room = None if devices.memory_bytes is None else devices.memory_bytes * MEMORY_SHARE[devices.platform]
    work = devices.count * held * rows
    return Layout(shape, part, at_once, taken, room is None or taken <= room, work,
                  1 - sum(groups) * outlined.batch_size / work)
