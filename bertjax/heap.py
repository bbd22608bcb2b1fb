"""The C library's heap, set up for programs that ask for gigabytes at every call, as XLA's on a CPU do.

By default glibc returns such memory to the system at once, and each call pays for new pages, 4 KiB at a time. The
settings below keep the memory and ask for huge pages. They are read only when a process starts, and other C libraries
ignore them.

Buffers of more than `LARGEST_KEPT` are returned all the same: a step that needs them lasts seconds. Kept, they leave a
hole in the heap with every batch length that the next one does not fit: after three lengths of `glue_minilm` on MRPC
the process held 8.3 GB instead of 4.3, after ten 17 GB (experiments/BENCHMARKS.md).
"""

from __future__ import annotations

import os
import sys

LARGEST_KEPT = 2**30
"""Bytes."""

TUNABLES = ":".join((
    "glibc.malloc.hugetlb=1",
    "glibc.malloc.arena_max=1",
    f"glibc.malloc.mmap_threshold={LARGEST_KEPT}",
    f"glibc.malloc.trim_threshold={2**40}",
))
"""Value of GLIBC_TUNABLES."""


def restart_with_tuned_heap() -> None:
    """Starts this process's command once more with `TUNABLES`; returns if they, or the user's own, are set already."""
    if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
        os.environ["GLIBC_TUNABLES"] = TUNABLES
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
