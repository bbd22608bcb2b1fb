"""Checkpoints of a running program, so that a killed one goes on where it was, bit by bit.

    FOLDER/program.json            the trials that it trains, written before its first step
    FOLDER/<step>/state/           Orbax: parameters, optimizer, masks and steps of every group; of several processes
                                   each has its part, see `bertjax.train.parts`
    FOLDER/<step>/history.npz      metrics and evaluations so far
    FOLDER/<step>/manifest.json    SHA-256 of every other file, written last

Keys and the order of the rows follow from the trials and the step, so they are not stored. A checkpoint counts only
with a manifest whose hashes its files have: TensorStore alone reads most flipped bits as numbers. FOLDER may be in an
object store: a checkpoint is written to this machine's disk, then copied, and copied back before it is read.

Of several processes, which all must see FOLDER, each writes its part of the state; the first one does everything else.
"""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath

from bertjax.files import is_remote, npz, put_text
from bertjax.train.manifest import MANIFEST, copy_file, damage_of, files_below, sha256_of
from bertjax.train.processes import from_all, from_first, is_first, several, ticket, to_first
from bertjax.train.stored_state import begin_writing, read_state

log = logging.getLogger(__name__)

KEPT = 2
"""Checkpoints that stay: the newest, and the one before in case it is damaged."""

SPARE_BYTES = 2**20
"""Of a disk, left when a checkpoint is written: for its small files, and for the results."""

HISTORY, PROGRAM = "history.npz", "program.json"


class Snapshot(NamedTuple):
    """A program between two steps."""

    step: int
    state: Any
    """A tree of arrays on the devices; each has trials on its first axis, or no axis."""
    history: Mapping[str, np.ndarray]
    """What the host knows of the steps before; fit for an .npz file."""


@dataclass
class Checkpoints:
    """The checkpoints of one program."""

    folder: epath.Path
    seconds: float
    """Between two of them."""
    clock: Callable[[], float] = time.monotonic
    last: float = field(init=False)
    """When the last one was begun."""
    writer: ThreadPoolExecutor = field(init=False)
    writing: Future[None] | None = field(default=None, init=False)
    failing: bool = field(default=False, init=False)
    """Whether the last one could not be written: that is said once, not of each."""
    lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        if not is_remote(self.folder):
            self.folder = self.folder.resolve()  # Orbax writes to a relative path, and finds nothing there
        self.last = self.clock()
        self.writer = ThreadPoolExecutor(1, thread_name_prefix="bertjax-checkpoint")

    def due(self, share: float = 1.0) -> bool:
        """Whether it is time for another one, or a share of that time has passed."""
        return self.clock() - self.last >= share * self.seconds

    def save(self, snapshot: Snapshot) -> None:
        """Writes a checkpoint behind the program's back; the arrays may be donated as soon as this returns.

        One that cannot be written is said, and the program goes on: the results may still find room.
        """
        with self.lock:
            self.wait()
            self.last = self.clock()
            target = self._desk(snapshot.step)
            try:
                num_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(snapshot.state))
                from_first(partial(_make_empty, self.folder / target.name if several() else target, num_bytes))
                write = begin_writing(target, snapshot.state)
            except Exception as error:  # TensorStore's errors are of many types
                self._not_written(target, error)
            else:
                self.writing = self.writer.submit(self._complete, target, write, dict(snapshot.history), ticket())

    def finish(self) -> None:
        """Returns once no process writes any more: the first one writes the manifest when all others are done."""
        self.wait()
        from_all(None)

    def wait(self) -> None:
        """Returns once this process writes nothing."""
        writing, self.writing = self.writing, None
        if writing is not None:
            writing.result()

    def _complete(
        self, target: epath.Path, write: Callable[[], list[str]], history: Mapping[str, Any], number: int
    ) -> None:
        """Writes the rest, in the writer's thread; of several processes the first one waits for all."""
        hashes, problem = {}, None
        try:
            hashes = self._write(target, write, history)
        except Exception as error:  # see `save`
            problem = error
        try:
            parts = to_first(number, [hashes, problem and _reason(problem)])
            if problem is not None:
                raise problem
            for index, (_, reason) in enumerate(parts or []):
                if reason is not None:
                    raise OSError(f"process {index}: {reason}")
            if parts is not None:
                self._seal(target.name, {name: made for part, _ in parts for name, made in part.items()})
        except Exception as error:
            self._not_written(target, error)

    def _write(self, target: epath.Path, write: Callable[[], list[str]], history: Mapping[str, Any]) -> dict[str, str]:
        """Writes what this process has to, and brings it to where it stays; the hashes of its files."""
        names = write()
        if is_first():
            (target / HISTORY).write_bytes(npz(False, **history))
            names.append(HISTORY)
        hashes = {name: sha256_of(target / name) for name in names}
        if target != (stored := self.folder / target.name):
            if not several() and stored.exists():
                stored.rmtree()
            for name in names:
                copy_file(target / name, stored / name)
            target.parent.rmtree()
        return hashes

    def _seal(self, step: str, hashes: Mapping[str, str]) -> None:
        """Writes the manifest; then only the newest checkpoints stay."""
        put_text(self.folder / step / MANIFEST, json.dumps(hashes, indent=1, sort_keys=True) + "\n")
        self.failing = False
        kept = {str(step) for step in self._steps()[-KEPT:]}
        for old in self.folder.iterdir():  # also what a killed process left half-written
            if old.name.isdigit() and old.name not in kept:
                old.rmtree()

    def _not_written(self, target: epath.Path, error: Exception) -> None:
        """Says so, if the one before was written, and makes room."""
        if not self.failing:
            log.warning("the checkpoint of step %s could not be written, and the training goes on: %s", target.name,
                        _reason(error))
        self.failing = True
        with suppress(Exception):
            if is_first() or target.parent != self.folder:
                target.rmtree()

    def restore(self, state: Any) -> Snapshot | None:
        """The newest checkpoint whose files are whole and readable; None without one.

        Args:
            state: The tree as it would be without a checkpoint: it says structure, types and places. Where the first
                axis is longer than what is stored, copies of the last trial fill it; where it is shorter, only such
                copies are left out.
        """
        for step in reversed(from_first(self._steps)):
            with self._at_hand(step) as target:
                # Of a folder on a disk that all share the first one tells; of a copy each process.
                checked = is_first() or is_remote(self.folder)
                if (problem := _first_problem(damage_of(target) if checked else None)) is not None:
                    log.warning("the checkpoint of step %d is damaged (%s): the one before is taken", step, problem)
                    continue
                found, problem = None, None
                try:
                    found = Snapshot(step, read_state(target, state), _read_history(target))
                except Exception as error:  # of another version, say; TensorStore's errors are of many types
                    problem = _reason(error)
                if (problem := _first_problem(problem)) is None:
                    return found
                log.warning("the checkpoint of step %d is whole but cannot be read (%s): the one before is taken", step,
                            problem)
        return None

    def _desk(self, step: int) -> epath.Path:
        """The folder in which a checkpoint is written: where it stays, or on this machine's disk."""
        if not is_remote(self.folder):
            return self.folder / str(step)
        return epath.Path(tempfile.mkdtemp(prefix="bertjax-")) / str(step)

    @contextmanager
    def _at_hand(self, step: int) -> Iterator[epath.Path]:
        """A checkpoint on a disk."""
        stored = self.folder / str(step)
        if not is_remote(stored):
            yield stored
            return
        with tempfile.TemporaryDirectory(prefix="bertjax-") as folder:
            for name, file in (files_below(stored) | {MANIFEST: stored / MANIFEST}).items():
                copy_file(file, epath.Path(folder) / name)
            yield epath.Path(folder)

    def begin(self, trial_ids: Sequence[str]) -> None:
        """Notes which trials the program trains, before its first step."""
        def note() -> None:
            self.folder.mkdir(parents=True, exist_ok=True)
            put_text(self.folder / PROGRAM, json.dumps(list(trial_ids)) + "\n")

        from_first(note)

    def drop(self) -> None:
        """Removes all checkpoints: the program's results are kept elsewhere."""
        self.wait()
        self.writer.shutdown()
        if is_first() and self.folder.exists():
            self.folder.rmtree()

    def _steps(self) -> list[int]:
        """Steps with a manifest, the newest last."""
        if not self.folder.exists():
            return []
        return sorted(int(child.name) for child in self.folder.iterdir()
                      if child.name.isdigit() and (child / MANIFEST).exists())


@contextmanager
def finished_writing(checkpoints: Checkpoints | None) -> Iterator[None]:
    """Ends only once nothing is being written, whatever ends it: a process that exits earlier breaks off the write."""
    try:
        yield
    finally:
        if checkpoints is not None:
            checkpoints.wait()


def begun_programs(folder: epath.Path) -> dict[epath.Path, tuple[str, ...]]:
    """The trials of every program whose checkpoints are below `folder`, by their own folder."""
    found = {}
    for child in sorted(folder.iterdir()) if folder.exists() else []:
        try:
            ids = json.loads((child / PROGRAM).read_text())
        except (OSError, ValueError):
            continue
        if isinstance(ids, list) and all(isinstance(name, str) for name in ids):
            found[child] = tuple(ids)
    return found


def _first_problem(problem: str | None) -> str | None:
    """What this process, or the first other one that has one, found wrong."""
    return next((found for found in from_all(problem) if found is not None), None)


def _make_empty(target: epath.Path, num_bytes: int) -> None:
    """Raises `OSError` where that many bytes have no room: better than to find it when half of them are written."""
    if target.exists():  # a damaged one, or one without a manifest
        target.rmtree()
    target.mkdir(parents=True)
    if not is_remote(target) and (free := shutil.disk_usage(target).free) < (wanted := num_bytes + SPARE_BYTES):
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: it takes {wanted / 1e6:.1f} MB, and "
                                    f"{target.parent} has {free / 1e6:.1f}")


def _read_history(target: epath.Path) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO((target / HISTORY).read_bytes()), allow_pickle=False) as stored:
        return dict(stored)


def _reason(error: Exception) -> str:
    text = (str(error) or type(error).__name__).splitlines()[0]
    found = re.search(r"os_error_code='(\d+)'", text)  # TensorStore's, after its own names of half a dozen layers
    return os.strerror(int(found[1])) if found else text
