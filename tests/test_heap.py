"""The process starts once more with a tuned heap, with its arguments, once, and not over the user's own settings."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from bertjax.heap import SLACK, TUNABLES, reserve

PROGRAM = """
import os, sys
from bertjax.heap import restart_with_tuned_heap
print("start", flush=True)
restart_with_tuned_heap()
print(os.environ.get("GLIBC_TUNABLES"), sys.argv[1:])
"""


@pytest.mark.parametrize("own", [None, "glibc.malloc.tcache_count=0"])
def test_a_command_restarts_once_with_its_arguments_on_linux(own: str | None) -> None:
    env = {key: value for key, value in os.environ.items() if key != "GLIBC_TUNABLES"}
    if own:
        env["GLIBC_TUNABLES"] = own
    done = subprocess.run([sys.executable, "-c", PROGRAM, "a b", "--c"], env=env, capture_output=True, text=True,
                          timeout=30, check=True)
    *starts, last = done.stdout.splitlines()
    restarts = sys.platform == "linux" and own is None
    assert starts == ["start"] * (1 + restarts)
    assert last == f"{TUNABLES if restarts else own} ['a b', '--c']"


GROWING = """
import ctypes
import sys
import numpy as np
from bertjax.heap import reserve
libc = ctypes.CDLL(None)
libc.sbrk.restype = ctypes.c_void_p
if sys.argv[1] == "reserved":
    reserve(256 * 2**20)
end, kept = libc.sbrk(0), []
for size in (64, 128, 192, 256):
    buffer = np.ones(size * 2**20, np.uint8)
    kept.append(np.ones(2**20, np.uint8))  # lies behind it, so that its room cannot grow
    del buffer
print((libc.sbrk(0) - end) // 2**20)
"""
"""Prints the MiB by which the heap grew for buffers of growing size, as those of batch lengths are."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
def test_buffers_of_growing_size_share_the_room_that_is_reserved() -> None:
    def grown(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", GROWING, how], env={**os.environ, "GLIBC_TUNABLES": TUNABLES},
                              capture_output=True, text=True, timeout=60, check=True)
        return int(done.stdout)

    assert grown("reserved") == 0
    assert grown("as it comes") > 256  # what the room is reserved against


IDLE = """
import numpy as np
from bertjax.heap import give_back
def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmRSS"))
begin, kept = resident(), []
buffers = []
for _ in range(4):
    buffers.append(np.ones(64 * 2**20, np.uint8))
    kept.append(np.ones(2**20, np.uint8))  # lies behind it
del buffers
idle = resident() - begin
give_back()
print(idle, resident() - begin)
"""
"""Prints the MiB that the process holds for buffers it has no more, and what is left once they are given back."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
def test_idle_rooms_between_arrays_that_stay_are_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", IDLE], env={**os.environ, "GLIBC_TUNABLES": TUNABLES},
                          capture_output=True, text=True, timeout=60, check=True)
    idle, left = map(int, done.stdout.split())
    assert idle >= 256 and left < 64, done.stdout


def test_what_cannot_be_reserved_is_left() -> None:
    reserve(2**62 - SLACK)
