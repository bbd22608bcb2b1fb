"""One process at a time works in a run directory: it says who and where it is, and that it is alive."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from etils import epath

from bertjax import interrupts
from bertjax.config import TRY_AGAIN, InUseError
from bertjax.files import is_remote, put_text

log = logging.getLogger(__name__)

LOCK_FILE = "lock.json"

BEAT_SECONDS = 30.0
"""Between two signs of life."""

STALE_SECONDS = 5 * 60.0
"""Without one for so long, the owner on another machine counts as dead."""


@dataclass
class Sign:
    """What the owner of a lock says of itself with every sign of life."""

    doing: dict[str, Any] = field(default_factory=dict)
    """See `bertjax.sweep.view.View`; fit for JSON."""
    due: threading.Event = field(default_factory=threading.Event)
    """Set where the next sign must not wait."""

    def tell(self, doing: dict[str, Any]) -> None:
        """What it does now; the first time that is told at once."""
        first, self.doing = not self.doing, doing
        if first:
            self.due.set()


@contextmanager
def locked(run_dir: epath.Path) -> Iterator[Sign]:
    """Holds the lock of a run directory, in a folder or an object store.

    The lock of a process that is gone is taken over: on this machine at once, on another after `STALE_SECONDS`. In an
    object store two processes that start within the same second may both get it.

    Raises:
        InUseError: Another process holds it.
    """
    path = run_dir / LOCK_FILE
    mine = {"host": socket.gethostname(), "pid": os.getpid(), "started": time.time(), "alive": time.time()}
    _acquire(path, mine)
    sign = Sign()
    stop = threading.Event()

    def beat() -> None:
        while True:
            sign.due.wait(BEAT_SECONDS)
            sign.due.clear()
            if stop.is_set():
                return
            with suppress(Exception):  # the next beat tries again; every store has errors of its own
                if (other := _read(path)) is not None and not _same(other, mine):
                    log.error("bertjax: process %d on %s has taken over %s, as this one gave no sign of life (was it "
                              "suspended?); this one ends", other["pid"], other["host"], run_dir)
                    interrupts.end_process(TRY_AGAIN)
                put_text(path, _line(mine | {"alive": time.time(), "doing": sign.doing}))

    def release() -> None:
        stop.set()
        sign.due.set()
        if threading.current_thread() is not thread:
            thread.join(5)
        with suppress(Exception):
            if (holder := _read(path)) is None or _same(holder, mine):
                path.unlink()

    thread = threading.Thread(target=beat, name="bertjax-lock", daemon=True)
    thread.start()
    with interrupts.before_end(release):
        try:
            yield sign
        finally:
            release()


def owner_of(run_dir: epath.Path) -> dict[str, Any] | None:
    """`host`, `pid`, the times `started` and `alive` (seconds since 1970) and what it is `doing` of the process that
    works in a run directory; None if none does."""
    holder = _read(run_dir / LOCK_FILE)
    return None if holder is None or _gone(holder) else holder


def written_by(run_dir: epath.Path) -> list[Any]:
    """Host, process and start of whoever wrote the lock, alive or not, the same for as long as it is held; [] without a
    lock."""
    found = _read(run_dir / LOCK_FILE)
    return [] if found is None else [found["host"], found["pid"], found["started"]]


def _acquire(path: epath.Path, mine: dict[str, Any]) -> None:
    while True:
        try:
            return _create(path, mine)
        except FileExistsError:
            holder = _read(path)
            if holder is None:  # or not written yet
                time.sleep(1)
                holder = _read(path)
            if holder is not None and not _gone(holder):
                age, silent = time.time() - holder["started"], time.time() - holder["alive"]
                raise InUseError(
                    f"{path.parent} is in use by process {holder['pid']} on {holder['host']}, since {age / 60:.0f} "
                    f"minutes, last seen {silent:.0f} s ago; wait for it, stop it, or use another --run-dir") from None
            who = "its file is damaged" if holder is None else f"process {holder['pid']} on {holder['host']} is gone"
            log.warning("the lock of %s is taken over: %s", path.parent, who)
            with suppress(FileNotFoundError):
                if _read(path) == holder:  # and no other process was faster
                    path.unlink()


def _same(found: dict[str, Any], mine: dict[str, Any]) -> bool:
    """Whether a lock is this process's own."""
    return all(found[name] == mine[name] for name in ("host", "pid", "started"))


def _create(path: epath.Path, mine: dict[str, Any]) -> None:
    """Raises `FileExistsError` if it is there."""
    if not is_remote(path):
        with open(os.fspath(path), "x", encoding="utf-8") as file:  # only one of two gets it
            file.write(_line(mine))
    elif path.exists():
        raise FileExistsError
    else:
        put_text(path, _line(mine))


def _line(mine: dict[str, Any]) -> str:
    return json.dumps(mine) + "\n"


def _read(path: epath.Path) -> dict[str, Any] | None:
    """What a lock file says; None if there is none, or a damaged one."""
    try:
        found = json.loads(path.read_text())
        return {"host": str(found["host"]), "pid": int(found["pid"]), "started": float(found["started"]),
                "alive": float(found["alive"]), "doing": dict(found.get("doing") or {})}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _gone(holder: dict[str, Any]) -> bool:
    if holder["host"] != socket.gethostname():
        return time.time() - holder["alive"] > STALE_SECONDS
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # of another user, and alive
        pass
    # A process with this number may have come since: ours writes a sign of life every BEAT_SECONDS.
    return time.time() - holder["alive"] > STALE_SECONDS
