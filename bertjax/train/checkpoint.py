"""Checkpoints of a running program, so that a killed one goes on where it was, bit by bit.

    FOLDER/program.json            the trials that it trains, written before its first step
    FOLDER/<step>/state/           Orbax: parameters, optimizer, masks and steps of every group
    FOLDER/<step>/history.npz      metrics and evaluations so far
    FOLDER/<step>/manifest.json    SHA-256 of every other file, written last

Keys and the order of the rows follow from the trials and the step, so they are not stored. A checkpoint counts only
with a manifest whose hashes its files have: TensorStore alone reads most flipped bits as numbers. FOLDER may be in an
object store: a checkpoint is written to this machine's disk, then copied, and copied back before it is read.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from bertjax.files import is_remote, npz, put_text

log = logging.getLogger(__name__)

KEPT = 2
"""Checkpoints that stay: the newest, and the one before in case it is damaged."""

MANIFEST, HISTORY, STATE, PROGRAM = "manifest.json", "history.npz", "state", "program.json"


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
    lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        if not is_remote(self.folder):
            self.folder = self.folder.resolve()  # Orbax writes to a relative path, and finds nothing there
        self.last = self.clock()
        self.writer = ThreadPoolExecutor(1, thread_name_prefix="bertjax-checkpoint")

    def due(self, share: float = 1.0) -> bool:
        """Whether it is time for another one, or a share of that time has passed."""
        return self.clock() - self.last >= share * self.seconds

    def save(self, snapshot: Snapshot, *, wait: bool = False) -> None:
        """Writes a checkpoint behind the program's back; the arrays may be donated as soon as this returns.

        One that cannot be written is said, and the program goes on: the results may still find room.

        Args:
            snapshot: The program now.
            wait: Return only once it is written.
        """
        with self.lock:
            self.wait()
            self.last = self.clock()
            # On a CPU the host's arrays are the device's own buffers, which the next step overwrites.
            state = _numbered(jax.tree.map(_copied, snapshot.state))
            target = self._desk(snapshot.step)
            checkpointer = ocp.StandardCheckpointer()
            try:
                if target.exists():  # a damaged one, or one without a manifest
                    target.rmtree()
                target.mkdir(parents=True)
                checkpointer.save(target / STATE, state)
            except Exception as error:  # TensorStore's errors are of many types
                _not_written(target, error)
                return
            self.writing = self.writer.submit(self._finish, checkpointer, target, dict(snapshot.history))
            if wait:
                self.wait()

    def wait(self) -> None:
        """Returns once nothing is being written."""
        writing, self.writing = self.writing, None
        if writing is not None:
            writing.result()

    def _finish(self, checkpointer: ocp.StandardCheckpointer, target: epath.Path, history: Mapping[str, Any]) -> None:
        """Waits for the state, and writes the rest."""
        try:
            checkpointer.wait_until_finished()
            checkpointer.close()
            self._complete(target, history)
        except Exception as error:  # see `save`
            _not_written(target, error)

    def _complete(self, target: epath.Path, history: Mapping[str, Any]) -> None:
        (target / HISTORY).write_bytes(npz(False, **history))
        files = _files(target)
        manifest = json.dumps({name: _sha256(file) for name, file in files.items()}, indent=1, sort_keys=True) + "\n"
        if is_remote(stored := self.folder / target.name):
            if stored.exists():
                stored.rmtree()
            for name, file in files.items():
                _copy(file, stored / name)
            target.parent.rmtree()
        put_text(stored / MANIFEST, manifest)
        kept = {str(step) for step in self._steps()[-KEPT:]}
        for old in self.folder.iterdir():  # also what a killed process left half-written
            if old.name.isdigit() and old.name not in kept:
                old.rmtree()

    def restore(self, state: Any) -> Snapshot | None:
        """The newest checkpoint whose files are whole and readable; None without one.

        Args:
            state: The tree as it would be without a checkpoint: it says structure, types and places. Where the first
                axis is longer than what is stored, copies of the last trial fill it; where it is shorter, only such
                copies are left out.
        """
        for step in reversed(self._steps()):
            with self._at_hand(step) as target:
                if (problem := _damage(target)) is not None:
                    log.warning("the checkpoint of step %d is damaged (%s): the one before is taken", step, problem)
                    continue
                try:
                    with np.load(io.BytesIO((target / HISTORY).read_bytes()), allow_pickle=False) as stored:
                        history = dict(stored)
                    return Snapshot(step, _restored(target / STATE, state), history)
                except Exception as error:  # of another version, say; TensorStore's errors are of many types
                    log.warning("the checkpoint of step %d is whole but cannot be read (%s): the one before is taken",
                                step, _reason(error))
        return None

    def _desk(self, step: int) -> epath.Path:
        """The folder on this machine's disk in which a checkpoint is written."""
        return epath.Path(tempfile.mkdtemp(prefix="bertjax-")) / str(step) if is_remote(self.folder) else (
            self.folder / str(step))

    @contextmanager
    def _at_hand(self, step: int) -> Iterator[epath.Path]:
        """A checkpoint on this machine's disk."""
        stored = self.folder / str(step)
        if not is_remote(stored):
            yield stored
            return
        with tempfile.TemporaryDirectory(prefix="bertjax-") as folder:
            for name, file in (_files(stored) | {MANIFEST: stored / MANIFEST}).items():
                _copy(file, epath.Path(folder) / name)
            yield epath.Path(folder)

    def begin(self, trial_ids: Sequence[str]) -> None:
        """Notes which trials the program trains, before its first step."""
        self.folder.mkdir(parents=True, exist_ok=True)
        put_text(self.folder / PROGRAM, json.dumps(list(trial_ids)) + "\n")

    def drop(self) -> None:
        """Removes all checkpoints: the program's results are kept elsewhere."""
        self.wait()
        self.writer.shutdown()
        if self.folder.exists():
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


def _not_written(target: epath.Path, error: Exception) -> None:
    """Says so, and makes room."""
    log.warning("the checkpoint of step %s could not be written, and the training goes on: %s", target.name,
                _reason(error))
    with suppress(Exception):
        target.rmtree()


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _copied(leaf: jax.Array) -> jax.Array:
    return jnp.copy(leaf) if next(iter(leaf.devices())).platform == "cpu" else leaf


def _numbered(state: Any) -> dict[str, Any]:
    """The leaves of a tree by their number: what is stored knows nothing of the tree."""
    return {f"{number:05d}": leaf for number, leaf in enumerate(jax.tree.leaves(state))}


def _restored(path: epath.Path, state: Any) -> Any:
    """The stored arrays on the devices of `state`, with as many trials as it has."""
    targets = _numbered(state)
    with ocp.StandardCheckpointer() as checkpointer:
        stored = checkpointer.metadata(path).item_metadata.tree
        shapes = {name: tuple(stored[name].shape) for name in targets}
        if shapes == {name: target.shape for name, target in targets.items()}:
            leaves = checkpointer.restore(path, jax.tree.map(ocp.utils.to_shape_dtype_struct, targets))
        else:
            host = {name: jax.ShapeDtypeStruct(shapes[name], target.dtype) for name, target in targets.items()}
            leaves = {name: jax.device_put(_fitting(np.asarray(leaf), targets[name].shape), targets[name].sharding)
                      for name, leaf in checkpointer.restore(path, host).items()}
    return jax.tree.unflatten(jax.tree.structure(state), [leaves[name] for name in targets])


def _fitting(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return filled(values, 0, shape[0]) if values.shape != shape else values


def filled(values: np.ndarray, axis: int, count: int) -> np.ndarray:
    """`values` with `count` entries on an axis: the first ones, or all and copies of the last."""
    return np.take(values, np.minimum(np.arange(count), values.shape[axis] - 1), axis)


def _copy(source: epath.Path, target: epath.Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as read, target.open("wb") as written:
        shutil.copyfileobj(read, written, 2**24)


def _files(folder: epath.Path) -> dict[str, epath.Path]:
    """Every file below `folder` by its path from there, but for the manifest."""
    found: dict[str, epath.Path] = {}
    for child in folder.iterdir():
        if child.is_dir():
            found |= {f"{child.name}/{name}": file for name, file in _files(child).items()}
        elif child.name != MANIFEST:
            found[child.name] = child
    return found


def _damage(target: epath.Path) -> str | None:
    """What is wrong with a checkpoint's files."""
    try:
        manifest = json.loads((target / MANIFEST).read_text())
        files = _files(target)
        for name in sorted({*manifest, *files}):
            if name not in files:
                return f"{name} is missing"
            if manifest.get(name) != _sha256(files[name]):
                return f"{name} has changed"
    except (OSError, ValueError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _sha256(file: epath.Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while part := stream.read(2**24):
            digest.update(part)
    return digest.hexdigest()
