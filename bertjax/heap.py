"""The C library's heap, set up for programs that ask for gigabytes at every call, as XLA's on a CPU do.

By default glibc returns such memory to the system at once, and each call pays for new pages, 4 KiB at a time. The
settings below keep the memory and ask for huge pages. They are read only when a process starts, and other C libraries
ignore them.
"""

from __future__ import annotations

import os
import sys

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
