"""Where `bertjax sweep` trains."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple
from typing import TYPE_CHECKING

from bertjax.cli_args import Sweep
from bertjax.config import InputError, require
from bertjax.files import is_remote

if TYPE_CHECKING:
    from bertjax.sweep.run import Executor

RAY_NOISE = "Raylet is terminated|A worker died or was killed|has been marked dead"
"""What Ray would print, with pages of its logs, where a line of ours says that a task is started again."""


def prepare_executor(command: Sweep) -> None:
    """Checks the flags of the executor, and settings of the process that must stand before JAX and Ray are imported.

    Raises:
        InputError: Flags that do not go together, or mean nothing.
    """
    if command.executor == "local":
        for name in ("ray_address", "resources_per_task", "ray_wait"):
            require(getattr(command, name) is None, f"--{name.replace('_', '-')} is for --executor ray")
        return
    given = [value for value in astuple(command.processes) if value is not None]
    require(not given, "--coordinator, --num-processes and --process-id are for --executor local: tasks of Ray are "
                       "programs of their own")
    if command.resources_per_task is not None:
        from bertjax.sweep.resources import parse_resources
        parse_resources(command.resources_per_task)
    require((command.ray_wait or 0) >= 0, f"--ray-wait must be at least 0, got {command.ray_wait}")
    require(not (command.smoke and is_remote(command.run_dir)),
            "--smoke makes data and models in the run directory, which with --executor ray must be a folder that all "
            f"nodes share; got {command.run_dir}")
    os.environ["JAX_PLATFORMS"] = "cpu"  # this process plans; accelerators of its machine are the tasks'
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", RAY_NOISE)


@contextmanager
def executor_of(command: Sweep) -> Iterator[Executor | None]:
    """What `run_study` is to train with; None is this process.

    Raises:
        InputError: Ray is not installed, or there is no such cluster.
    """
    if command.executor == "local":
        yield None
        return
    from bertjax.sweep.resources import parse_resources
    try:
        from bertjax.sweep.ray import connected
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "ray":
            raise
        raise InputError("--executor ray needs Ray: pip install 'bertjax[ray]'") from error
    resources = None if command.resources_per_task is None else parse_resources(command.resources_per_task)
    with connected(command.ray_address, resources, command.ray_wait or 0.0) as executor:
        yield executor
