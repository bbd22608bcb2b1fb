"""Two processes never work in one run directory, and a dead one does not keep it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from etils import epath

from bertjax.config import InUseError
from bertjax.sweep import lock
from bertjax.sweep.lock import LOCK_FILE, locked, owner_of


def holder(folder: Path, **changes: object) -> None:
    """The lock of another process."""
    now = time.time()
    mine = {"host": socket.gethostname(), "pid": os.getppid(), "started": now - 600, "alive": now - 20}
    (folder / LOCK_FILE).write_text(json.dumps(mine | changes))


def dead_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


def test_a_lock_is_held_and_given_back(tmp_path: Path) -> None:
    with locked(epath.Path(tmp_path)):
        owner = owner_of(epath.Path(tmp_path))
        assert owner is not None and owner["pid"] == os.getpid()
        with pytest.raises(InUseError, match="is in use by process"), locked(epath.Path(tmp_path)):
            pass
        assert owner_of(epath.Path(tmp_path)) == owner
    assert list(tmp_path.iterdir()) == [] and owner_of(epath.Path(tmp_path)) is None


@pytest.mark.parametrize("host", [None, "elsewhere"])
def test_the_second_is_refused_with_who_and_since_when(tmp_path: Path, host: str | None) -> None:
    holder(tmp_path, **({"host": host} if host else {}))
    who = rf"process {os.getppid()} on {host or socket.gethostname()}"
    said = rf"{who}, since 10 minutes, last seen 2\d s ago"
    with pytest.raises(InUseError, match=said), locked(epath.Path(tmp_path)):
        pass


@pytest.mark.parametrize(("changes", "why"), [
    ({"pid": dead_pid()}, "is gone"),
    ({"alive": time.time() - 301}, "is gone"),  # its number is another process's by now
    ({"host": "elsewhere", "alive": time.time() - 301}, "on elsewhere is gone"),
    ({"pid": "?"}, "its file is damaged"),
])
def test_a_stale_lock_is_taken_over_and_that_is_said(
    tmp_path: Path, changes: dict, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(lock.log, "warning", lambda text, *values: said.append(text % values))
    holder(tmp_path, **changes)
    with locked(epath.Path(tmp_path)):
        assert (owner_of(epath.Path(tmp_path)) or {})["pid"] == os.getpid()
    (line,) = said
    assert line.startswith(f"the lock of {tmp_path} is taken over: ") and line.endswith(why)


def test_an_owner_that_slept_too_long_ends_and_leaves_the_lock_to_who_took_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.01)
    ended: list[int] = []

    def end_process(code: int) -> None:
        ended.append(code)
        raise RuntimeError("the process is gone")

    monkeypatch.setattr(lock.interrupts, "end_process", end_process)
    deadline = time.time() + 30
    with locked(epath.Path(tmp_path)):
        while not ended:
            assert time.time() < deadline
            holder(tmp_path, alive=time.time())
            time.sleep(0.02)
    assert set(ended) == {75}
    assert (owner_of(epath.Path(tmp_path)) or {})["pid"] == os.getppid()


def test_what_it_does_is_told_at_once(tmp_path: Path) -> None:
    """A beat is 30 s."""
    with locked(epath.Path(tmp_path)) as sign:
        sign.tell({"programs": []})
        deadline = time.time() + 20
        while (owner_of(epath.Path(tmp_path)) or {"doing": {}})["doing"] != {"programs": []}:
            assert time.time() < deadline
            time.sleep(0.01)


def test_it_says_that_it_is_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.01)
    with locked(epath.Path(tmp_path)):
        first = (owner_of(epath.Path(tmp_path)) or {})["alive"]
        deadline = time.time() + 30
        while (owner_of(epath.Path(tmp_path)) or {})["alive"] == first:
            assert time.time() < deadline
            time.sleep(0.01)
