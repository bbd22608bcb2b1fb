"""Writing a model's folder so that it appears whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path

from bertjax.config import InputError, require
from bertjax.files import NO_ROOM

MODEL_FILES = frozenset({
    "model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.txt", "chat_template.jinja"})
"""What a model's folder may hold. A folder that holds anything else is never replaced."""


@contextmanager
def new_folder(directory: str | os.PathLike[str], replaceable: Set[str] = MODEL_FILES) -> Iterator[Path]:
    """Gives a folder to fill; when the block ends without an error, it becomes `directory`.

    An empty folder, or one with nothing but files of the names in `replaceable`, is replaced. All files get the mode
    that new files have, also those that a library made private.

    Raises:
        InputError: `directory` is a file, holds other files, or cannot be written, also where the block finds that.
    """
    target = Path(directory).expanduser().absolute()
    _check_replaceable(target, replaceable)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror})") from None
    old = made.with_name(made.name + ".old")
    try:
        yield made
        mode = new_file_mode(made)
        made.chmod(mode | (mode & 0o444) >> 2)  # mkdtemp makes it private to this user; who reads it also enters it
        for file in made.rglob("*"):
            if file.is_file():
                file.chmod(mode)  # and safetensors its files
        if target.exists():
            os.replace(target, old)
            os.replace(made, target)
            shutil.rmtree(old)
        else:
            os.replace(made, target)
    except InputError as error:  # what was said of the folder to fill is true of the one that it would have become
        raise InputError(str(error).replace(str(made), str(target))) from None
    except Exception as error:
        reason = _write_error(error, (made, old, target))
        if reason is None:
            raise
        raise InputError(f"{target}: cannot be written ({reason})") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)


def new_file_mode(folder: Path) -> int:
    """The permissions that a new file in a folder has: those that the umask leaves, which only a file tells safely."""
    descriptor = os.open(folder / ".mode", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        return os.fstat(descriptor).st_mode & 0o777
    finally:
        os.close(descriptor)
        os.unlink(folder / ".mode")


def _write_error(error: Exception, places: tuple[Path, ...]) -> str | None:
    """What kept a file from being written below one of these places; None for an error that is about something else."""
    found = re.search(r"\(os error (\d+)\)", str(error))
    number = error.errno if isinstance(error, OSError) else int(found[1]) if found else None
    named = getattr(error, "filename", None)
    below = isinstance(named, str | os.PathLike) and any(
        place == Path(named) or place in Path(named).parents for place in places)
    return os.strerror(number) if number is not None and (number in NO_ROOM or below) else None


def require_new(target: Path) -> None:
    """Raises `InputError` unless `target` can be made: it is an empty folder, or nothing is there, and its place can be
    written."""
    place = next(path for path in (target.absolute(), *target.absolute().parents) if path.exists())
    there, new = place == target.absolute(), "the output must be a new or empty folder"
    require(not there or place.is_dir(), f"{new}, and {target} is a file; choose another name")
    try:
        held = sorted(path.name for path in place.iterdir()) if there else []
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({os.strerror(error.errno or 0)})") from None
    require(not held, f"{new}, and {target} holds {', '.join(held[:3])}; choose another one")


def _check_replaceable(target: Path, replaceable: Set[str]) -> None:
    if not target.exists():
        return
    require(target.is_dir(), f"{target}: a model is saved as a folder, and this is a file")
    other = sorted(path.name for path in target.iterdir() if path.name not in replaceable)
    require(not other, f"{target}: holds other files than a model ({', '.join(other[:3])}); choose another folder")
