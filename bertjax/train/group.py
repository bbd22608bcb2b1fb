"""One process among several: what it says to the others and hears of them, and how it ends with them.

They talk through the key-value store of JAX's coordination service, which process 0 runs. JAX notices by its heartbeat
that a process is gone, and aborts the others; their own signs of life tell which one it was. A process that ends in an
error says so, and the others end within seconds.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import jax
from jax._src import distributed  # its client has no public name; Orbax takes it from here too

from bertjax import interrupts
from bertjax.config import TRY_AGAIN
from bertjax.train.abort import on_abort, reachable

JOIN_SECONDS = 300
"""How long the processes wait for each other at the start."""

LOOK_SECONDS = 1.0
"""Between two signs of life."""

_SILENT_SECONDS = 10.0
"""Without a sign of life: that process is gone, if JAX says that one is."""

LINGER_SECONDS = 10.0
"""How long a process that ends waits until the others have heard of it."""

_BLOCK = 256
"""Answers that are removed together, once all processes have read them."""


@dataclass
class Group:
    """This process among the others."""

    client: Any
    index: int
    size: int
    asked: int = 0
    """Questions so far; the same in all processes."""
    failures: int = 0
    """Times that all processes failed together."""
    stops: int = 0
    """Signals that all of them stopped for."""
    hosts: dict[int, str] = field(default_factory=dict)
    """Where each process is, of those that have said it."""
    seen: dict[int, tuple[int, float]] = field(default_factory=dict)
    """The last sign of life of each process, and when it was new here."""
    leaving: bool = False
    """What the others do ends this process no more."""
    code: int | None = None
    """The exit code with which this process ends early."""
    tickets: int = 0
    """Of what was given to the first process; the same in all processes."""
    removed: int = 0
    """Blocks of answers that were removed."""
    closed: threading.Event = field(default_factory=threading.Event)
    """Set when the processes part."""

    def say(self, key: str, value: Any, again: bool = False) -> None:
        """Tells all processes a value, fit for JSON; `again` and again, or once."""
        self.client.key_value_set(f"bertjax/{key}", json.dumps(value), allow_overwrite=again)

    def hear(self, key: str) -> Any:
        """Waits for what a process says; in short waits, for Python handles signals only between them."""
        while True:
            try:
                return json.loads(self.client.blocking_key_value_get(f"bertjax/{key}", 1000))
            except jax.errors.JaxRuntimeError as error:
                if "DEADLINE_EXCEEDED" not in str(error):
                    raise

    def said(self, folder: str) -> dict[int, Any]:
        """What each process has said in a folder of keys, by process."""
        found = self.client.key_value_dir_get(f"bertjax/{folder}/")
        return {int(key.rpartition("/")[2]): json.loads(value) for key, value in found}

    def next_key(self) -> str:
        """Of the next question. Every `_BLOCK` questions the answers to those that all have read are removed."""
        self.asked += 1
        block, place = divmod(self.asked, _BLOCK)
        if place == 0:
            self.say(f"read/{self.index}", block, again=True)
            if self.index == 0 and len(read := self.said("read")) == self.size:
                for old in range(self.removed, min(read.values())):
                    self.client.key_value_delete(f"bertjax/answers/{old}/")
                self.removed = min(read.values())
        return f"answers/{block}/{self.asked}"

    def look(self) -> None:
        """Gives a sign of life, notes those of the others, and ends this process if another one ended in an error."""
        self.say(f"alive/{self.index}", time.time_ns(), again=True)
        if len(self.hosts) < self.size:
            self.hosts = self.said("hosts")
        for index, sign in self.said("alive").items():
            if self.seen.get(index, (0, 0.0))[0] != sign:
                self.seen[index] = sign, time.monotonic()
        for index, code in self.said("ended").items():
            if not self.leaving:
                self.end(code, f"process {index}{self.host(index)} ended with exit code {code}, its log says why")

    def watch(self) -> None:
        """Looks at the others until they part."""
        while not self.closed.wait(LOOK_SECONDS):
            try:
                self.look()
            except jax.errors.JaxRuntimeError:  # the service is gone, or busy; in the first case JAX ends this process
                continue

    def host(self, index: int) -> str:
        """Where a process is, in words; nothing if that is not known yet."""
        return f" on {self.hosts[index]}" if index in self.hosts else ""

    def silent(self) -> list[int]:
        """The processes without a recent sign of life; the one that runs the service if that is gone."""
        now = time.monotonic()
        others = [(index, last) for index, (_, last) in self.seen.items() if index != self.index]
        found = [index for index, last in others if now - last > _SILENT_SECONDS]
        return found or ([] if reachable(coordinator()) else [0])

    def end(self, code: int, reason: str) -> None:
        """Ends this process at once: its main thread may wait for the other one forever."""
        self.leaving = True
        self.say_end(reason)
        self.leave_early(code)

    def say_end(self, reason: str) -> None:
        """Says to the user why this process ends."""
        say_last(f"{reason}; so this one, process {self.index} of {self.size}, ends too: the same command on every "
                 "host resumes")

    def leave_early(self, code: int) -> None:
        """Tells the others, and ends this process without JAX's farewell, which waits for all of them."""
        self.leaving, self.code = True, code
        with suppress(jax.errors.JaxRuntimeError):  # there may be nobody to tell
            self.say(f"ended/{self.index}", code, again=True)
            until = time.monotonic() + LINGER_SECONDS
            while runs_service() and len(self.said("ended")) < self.size and time.monotonic() < until:
                time.sleep(0.1)
        if runs_service():
            time.sleep(LOOK_SECONDS)  # the end of the service aborts those that are not gone yet
        interrupts.end_process(code)

    def ended_by(self, signal: int) -> None:
        """Tells the others, unless this process ends because of them."""
        if not self.leaving:
            self.say(f"ended/{self.index}", 128 + signal, again=True)

    def leave(self, code: int) -> int:
        """Waits until all processes are done; the exit code of the first one."""
        self.say(f"done/{self.index}", code)
        codes = [self.hear(f"done/{index}") for index in (range(self.size) if self.index == 0 else (0,))]
        self.leaving = True
        self.closed.set()
        jax.distributed.shutdown()
        on_abort(lambda: None)
        return codes[0]


def join() -> Group | None:
    """This process among the others, if JAX knows of others."""
    if not jax.distributed.is_initialized() or jax.process_count() == 1:
        return None
    group = Group(distributed.global_state.client, jax.process_index(), jax.process_count())
    group.say(f"hosts/{group.index}", socket.gethostname())
    on_abort(lambda: aborted(group))
    threading.Thread(target=group.watch, name="bertjax-processes", daemon=True).start()
    return group


def say_last(line: str) -> None:
    """Writes to standard error whatever locks other threads hold."""
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"bertjax: {line}\n".encode())


def runs_service() -> bool:
    """Whether the coordination service is in this process."""
    return distributed.global_state.service is not None


def coordinator() -> str:
    """`HOST:PORT` of JAX's coordination service."""
    return distributed.global_state.coordinator_address or ""


def aborted(group: Group | None) -> None:
    """JAX aborts this process: says why and ends it, if that is because of the others.

    Args:
        group: None while they are still to be found.
    """
    if group is None:
        say_last(f"the processes did not find each other at {coordinator()} within {JOIN_SECONDS} s: start all of "
                 "them, with the same --coordinator and --num-processes")
        interrupts.end_process(TRY_AGAIN)
    elif group.code is not None:  # it ends anyway, and somebody was quicker
        interrupts.end_process(group.code)
    elif gone := group.silent():
        group.leaving = True
        names = " and ".join(f"process {index}{group.host(index)}" for index in gone)
        group.say_end(f"{names} is gone")
        interrupts.end_process(TRY_AGAIN)
