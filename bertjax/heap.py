"""The C library's heap, set up for programs that ask for gigabytes at every call, as XLA's on a CPU do.

By default glibc returns such memory to the system at once, and each call pays for new pages, 4 KiB at a time. The
settings below keep the memory and ask for huge pages. They are read only when a process starts, and other C libraries
ignore them.

Kept memory can be too small for what is asked for next, and lie idle. A program for a batch length takes one buffer of
gigabytes, another for each length: `reserve` makes room for the largest one before the others are asked for. What small
arrays that stay have split into rooms too small for it, `give_back` returns.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from contextlib import suppress

SLACK = 2**30
"""Bytes that `reserve` adds: what a process keeps of other things lies in the same room."""

TUNABLES = ":".join((
    "glibc.malloc.hugetlb=1",
    "glibc.malloc.arena_max=1",
    f"glibc.malloc.mmap_threshold={2**40}",
    f"glibc.malloc.trim_threshold={2**40}",
))
"""Value of GLIBC_TUNABLES."""


def restart_with_tuned_heap() -> None:
    """Starts this process's command once more with `TUNABLES`; returns if they, or the user's own, are set already."""
    if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
        os.environ["GLIBC_TUNABLES"] = TUNABLES
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def give_back() -> None:
    """Returns the memory of all idle rooms to the system, within the heap too; other C libraries than glibc keep it.

    What is asked for next pays for new pages, so this is for rare moments: between programs, and around evaluations.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def reserve(num_bytes: int) -> None:
    """Grows the heap so that a buffer of `num_bytes` fits into it, now and later; memory is taken when it is used.

    Without `TUNABLES` nothing comes of it.
    """
    import numpy as np

    with suppress(MemoryError):  # then the buffer itself will not fit either, and its owner says so
        np.empty(num_bytes + SLACK, np.uint8)
