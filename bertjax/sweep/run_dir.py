"""Where a run directory is: a folder, or a place in an object store with a working copy on this machine's disk.

All of bertjax works on folders. Of `gs://bucket/name` the working copy has every file but models; what changed is
copied to the store after every program, and models leave the disk then. Checkpoints and the lock are written to the
store at once, by Orbax and `bertjax.sweep.lock`.
"""

from __future__ import annotations

import atexit
import hashlib
import logging
import os
import shutil
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from etils import epath

from bertjax.config import InputError
from bertjax.files import is_remote
from bertjax.sweep.inputs import cache_dir

log = logging.getLogger(__name__)

MODEL_FOLDERS = ("model", "packed")
"""Of a trial: what stays in the store alone."""

NOT_COPIED = ("checkpoints", "lock.json")
"""Of a run directory: what is written to the store without the working copy."""


@dataclass
class RunDir:
    """A folder with nothing behind it."""

    local: Path

    @staticmethod
    def at(place: str | Path | RunDir, parts: Sequence[str] | None = None) -> RunDir:
        """The run directory at a path or URL; fills the working copy of one in an object store.

        Args:
            place: Where it is.
            parts: The files and folders below it that the working copy needs, if not all.

        Raises:
            InputError: It cannot be reached, or lacks a package.
        """
        if isinstance(place, RunDir):
            return place
        return RemoteRunDir.opened(str(place), parts) if is_remote(place) else RunDir(Path(place))

    @property
    def root(self) -> epath.Path:
        """Where checkpoints and the lock are."""
        return epath.Path(self.local)

    def has(self, path: Path) -> bool:
        """Whether there is a file, given by its path in `local`."""
        return path.is_file()

    def fetch(self, folder: Path) -> Path:
        """A folder below `local`, with the files that are in the store alone."""
        return folder

    def remove(self, folder: Path) -> None:
        """Removes a folder below `local`."""
        shutil.rmtree(folder, ignore_errors=True)

    def push(self) -> None:
        """Copies what has changed to where it stays."""

    def refresh(self, folders: Sequence[Path]) -> None:
        """Takes over what other processes have written into folders below `local`."""

    def close(self) -> None:
        """Gives up the working copy; nothing that was pushed is lost."""


@dataclass
class RemoteRunDir(RunDir):
    """The working copy of one in an object store."""

    url: str
    store: Any
    """fsspec's file system."""
    place: str
    """The URL as `store` wants it."""
    stored: set[str] = field(default_factory=set)
    """Every file in the store by its path from there, but for `NOT_COPIED`."""
    known: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Size and time of the working copy's files when they were last equal to the store's."""

    @classmethod
    def opened(cls, url: str, parts: Sequence[str] | None = None) -> RemoteRunDir:
        """With its working copy, in `cache_dir`."""
        import fsspec

        local = _working_copy(url)
        try:
            store, place = fsspec.core.url_to_fs(url)
            made = cls(local, url.rstrip("/"), store, place.rstrip("/"))
            local.mkdir(parents=True)
            made._pull([""] if parts is None else parts)
        except ImportError as error:
            raise lacks_package(url, error) from error
        except Exception as error:  # every store has errors of its own
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise InputError(f"the run directory {url} cannot be read: {reason}") from error
        return made

    @property
    def root(self) -> epath.Path:
        return epath.Path(self.url)

    def has(self, path: Path) -> bool:
        return path.is_file() or str(path.relative_to(self.local)) in self.stored

    def fetch(self, folder: Path) -> Path:
        name = str(folder.relative_to(self.local))
        self._get(sorted(self._names(name)))  # asked now: another process of this run may have written it
        return folder

    def remove(self, folder: Path) -> None:
        super().remove(folder)
        prefix = f"{folder.relative_to(self.local)}/"
        self._delete([name for name in self.stored if name.startswith(prefix)])

    def push(self) -> None:
        found = {str(path.relative_to(self.local)): path for path in self.local.rglob("*") if path.is_file()}
        changed = {name: path for name, path in found.items()
                   if self.known.get(name) != _state(path) and Path(name).parts[0] not in NOT_COPIED}
        # A trial counts once its result.json is there, and so that goes last.
        for last in (False, True):
            part = [name for name in changed if (Path(name).name == "result.json") == last]
            if part:
                self.store.put([str(found[name]) for name in part], [f"{self.place}/{name}" for name in part])
        self.known |= {name: _state(path) for name, path in changed.items()}
        self.stored |= changed.keys()
        self._delete([name for name in self.known if name not in found and not _of_model(name)])
        for kind in MODEL_FOLDERS:
            for folder in self.local.glob(f"trials/*/{kind}"):
                shutil.rmtree(folder)
        log.info("%d files copied to %s", len(changed), self.url)

    def refresh(self, folders: Sequence[Path]) -> None:
        self._pull([str(folder.relative_to(self.local)) for folder in folders])

    def close(self) -> None:
        shutil.rmtree(self.local, ignore_errors=True)

    def _pull(self, parts: Sequence[str]) -> None:
        """Copies what is in the store below some paths from there; an empty one is everything."""
        for part in parts:
            names = {name for name in self._names(part) if Path(name).parts[0] not in NOT_COPIED}
            self.stored = {name for name in self.stored if not _is_below(name, part)} | names
            self._get(sorted(name for name in names if not _of_model(name)))

    def _names(self, folder: str = "") -> set[str]:
        """The files in the store, or in one of its folders, by their path from the store's root."""
        self.store.invalidate_cache()
        found: Iterable[str] = self.store.find(f"{self.place}/{folder}" if folder else self.place)
        return {name.removeprefix(self.place).strip("/") for name in found} - {""}

    def _get(self, names: list[str]) -> None:
        if names:
            for name in names:
                (self.local / name).parent.mkdir(parents=True, exist_ok=True)
            self.store.get([f"{self.place}/{name}" for name in names], [str(self.local / name) for name in names])
        self.known |= {name: _state(self.local / name) for name in names}
        self.stored |= set(names)

    def _delete(self, names: list[str]) -> None:
        gone = [name for name in names if name in self.stored]
        if gone:
            self.store.rm([f"{self.place}/{name}" for name in gone])
        self.stored -= set(gone)
        for name in names:
            self.known.pop(name, None)


def lacks_package(url: str, error: ImportError) -> InputError:
    """What to say where an object store's package is missing; an extra of ours installs that of gs:// alone."""
    advice = ": pip install 'bertjax[gcs]'" if url.startswith("gs://") else "; gs://bucket/name and local folders work"
    return InputError(f"{url} needs a package that is not installed ({error}){advice}")


def _working_copy(url: str) -> Path:
    """A folder of this process's own; those that processes left which were killed are removed."""
    name = f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{socket.gethostname()}"  # the cache may be shared
    folder = cache_dir() / "runs"
    for other in folder.glob(f"{name}-*"):
        try:
            os.kill(int(other.name.rpartition("-")[2]), 0)
        except ProcessLookupError:
            shutil.rmtree(other, ignore_errors=True)
        except (ValueError, PermissionError):
            pass
    made = folder / f"{name}-{os.getpid()}"
    shutil.rmtree(made, ignore_errors=True)
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def _is_below(name: str, part: str) -> bool:
    return not part or name == part or name.startswith(f"{part}/")


def _of_model(name: str) -> bool:
    parts = Path(name).parts
    return len(parts) > 3 and parts[2] in MODEL_FOLDERS


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
