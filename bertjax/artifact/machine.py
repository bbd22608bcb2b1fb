"""What a measurement ran on: the processor, how many CPUs this process may use, and the versions of the runtimes."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path

PACKAGES = ("bertjax", "jax", "jaxlib", "onnx", "onnxruntime", "torch", "transformers", "numpy")


def cpu_name() -> str:
    """What the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("model name")]
    return names[0] if names else platform.machine()


def cpu_count() -> int:
    """CPUs that this process may use; Linux may have given it fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def limit_cpus(count: int) -> int:
    """Keeps this process to its first `count` CPUs where the system can, and says how many JAX will compute with.

    XLA's CPU has no setting for its threads: it makes one for each CPU that the process may use when it starts. So
    this comes before the first use of JAX; once JAX is imported nothing is changed.
    """
    if "jax" not in sys.modules and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
    return cpu_count()


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Of those packages that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
