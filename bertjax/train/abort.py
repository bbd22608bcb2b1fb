"""A word before JAX aborts this process, as it does when another process is gone.

JAX's C++ code calls `abort`, on a thread of its own and whatever the main thread does. Python's handlers run on the
main thread, which may wait for the other process forever, so the C library is given one that runs where `abort` does.
"""

from __future__ import annotations

import ctypes
import signal
import socket
from collections.abc import Callable
from typing import Any

_handler: Any = None
"""Kept for as long as the C library may call it."""

_last_words: list[Callable[[], None]] = []
"""The one to call, if any."""


def on_abort(last_words: Callable[[], None]) -> None:
    """Has `last_words` called, on the thread that aborts, in place of what was given before. If that returns, the
    process ends as it would have.
    """
    global _handler
    _last_words[:] = [last_words]
    if _handler is None:
        kind = ctypes.CFUNCTYPE(None, ctypes.c_int)
        _handler = kind(lambda _number: _last_words[0]())
        library = ctypes.CDLL(None)
        library.signal.argtypes, library.signal.restype = (ctypes.c_int, kind), ctypes.c_void_p
        library.signal(signal.SIGABRT, _handler)


def reachable(place: str, seconds: float = 2.0) -> bool:
    """Whether somebody listens at `HOST:PORT`."""
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), seconds).close()
    except (OSError, ValueError):
        return False
    return True
