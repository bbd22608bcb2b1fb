"""Trains a study on a Ray cluster: each teacher and each program is a task.

This process plans, holds the lock, shows what goes on, and does what is of several programs: it writes the tables and
keeps the best models. A task opens the same run directory and trains as the local executor does. One whose process or
node is gone is given to Ray once more, and goes on from its newest checkpoint.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import ray

from bertjax.config import InputError, require
from bertjax.study import StudyConfig
from bertjax.sweep.plan import ProgramPlan
from bertjax.sweep.ray_driver import Tasks, jobs_of, nodes_of_cluster
from bertjax.sweep.ray_task import run_task
from bertjax.sweep.resources import Resources, default_resources, platform_of, process_environment
from bertjax.sweep.session import Session
from bertjax.train.mesh import parse_mesh

CONNECT_SECONDS = 10.0
"""How long a cluster may take to answer; Ray itself asks for minutes."""


@dataclass(frozen=True)
class RayExecutor:
    """What `connected` makes."""

    resources: Resources
    wait_seconds: float

    def check_mesh(self, mesh: str) -> None:
        """See `bertjax.sweep.run.Executor`."""
        # A task on CPUs has this process's XLA_FLAGS, so as many of them; only a task knows how many devices a chip is.
        match platform_of(self.resources):
            case "cpu":
                parse_mesh(mesh, jax.device_count("cpu"))
            case "gpu":
                parse_mesh(mesh, self.resources["GPU"])

    def __call__(self, session: Session, study: StudyConfig, todo: Sequence[ProgramPlan], /) -> None:
        """See `bertjax.sweep.run.Executor`."""
        if todo:
            jobs = jobs_of(session.ledger, study, todo)
            Tasks(self.remote_function(), self.resources, self.wait_seconds, session, study, jobs).run()

    def remote_function(self) -> Any:
        """`run_task` for Ray."""
        # A process of its own for each task, so that the next one finds accelerators and memory free. Whether a task
        # comes back is decided here: Ray would bring back for ever one that takes its process down each time.
        return ray.remote(
            num_cpus=self.resources.get("CPU", 0), num_gpus=self.resources.get("GPU", 0),
            resources={"TPU": self.resources["TPU"]} if "TPU" in self.resources else {},
            max_calls=1, max_retries=0, scheduling_strategy="SPREAD",
            runtime_env={"env_vars": process_environment(self.resources, os.environ)},
        )(run_task)


@contextmanager
def connected(
    address: str | None = None, resources: Resources | None = None, wait_minutes: float = 0.0
) -> Iterator[RayExecutor]:
    """An executor for `run_study` on a Ray cluster, which is left at the end.

    The process needs no accelerator, and must leave those of its machine to tasks: JAX_PLATFORMS=cpu.

    Args:
        address: HOST:PORT; `auto` is the cluster that runs on this machine; `local` is a new one of this machine alone,
            which ends with this; None is `auto` where there is one, else `local`.
        resources: What a task takes; None as `default_resources` says.
        wait_minutes: How long no node may have them at first; some, where a cluster starts nodes for tasks that wait.

    Raises:
        InputError: There is no such cluster, or nothing to compute on.
    """
    ours = not ray.is_initialized()
    try:
        if ours:
            _connect(address)
        yield RayExecutor(default_resources(nodes_of_cluster()) if resources is None else resources, 60 * wait_minutes)
    finally:
        if ours:
            ray.shutdown()


def _connect(address: str | None) -> None:
    """`ray.init`, with one line of what is wrong, soon."""
    host, _, port = (address or "").rpartition(":")
    require(address in (None, "auto", "local") or (bool(host) and "//" not in host and port.isdigit()),
            f"--ray-address must be local, auto or HOST:PORT of a cluster with this machine, got {address!r}")
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if host:
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    except Exception as error:  # Ray has errors of many types
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"no Ray cluster answers at --ray-address {address or 'auto'}: {reason}") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray has put its own there
