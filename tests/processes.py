"""Several processes on this machine that form one mesh over CPU collectives, as hosts do over a network."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

DEVICES = 4
"""Of the mesh, however many processes share it; as many as one process of the tests has."""
ONE_DEVICE = "trial=1,data=1"
"""The mesh of a machine with one device. Several devices share the cores here and wait for each other, which takes long
beside the threads that write checkpoints."""


def free_place() -> str:
    """`HOST:PORT` where nobody listens."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


def environment(count: int) -> dict[str, str]:
    """That of one of `count` processes, with its share of the devices."""
    flags = re.sub(r"device_count=\d+", f"device_count={DEVICES // count}", os.environ["XLA_FLAGS"])
    return os.environ | {"XLA_FLAGS": flags}


@contextmanager
def started(commands: Sequence[Sequence[object]]) -> Iterator[list[subprocess.Popen[str]]]:
    """One process for each list of arguments of Python; those that are left at the end are killed."""
    kept: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment(len(commands))}
    running = [subprocess.Popen([sys.executable, *map(str, command)], **kept) for command in commands]
    try:
        yield running
    finally:
        for process in running:
            process.kill()
            process.communicate()


def finished(commands: Sequence[Sequence[object]], code: int = 0) -> list[str]:
    """Runs the processes to their ends, which must be alike; what each wrote to standard error."""
    with started(commands) as running:
        logs = [process.communicate()[1] for process in running]
        codes = [process.returncode for process in running]
    assert codes == [code] * len(commands), f"{codes}\n" + "\n".join(logs)
    return logs
