"""Writing a model's folder so that it appears whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path

from bertjax.config import InputError, require

MODEL_FILES = frozenset({
    "model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.txt", "chat_template.jinja"})
"""What a model's folder may hold. A folder that holds anything else is never replaced."""


@contextmanager
def new_folder(directory: str | os.PathLike[str], replaceable: Set[str] = MODEL_FILES) -> Iterator[Path]:
    """Gives a folder to fill; when the block ends without an error, it becomes `directory`.

    An empty folder, or one with nothing but files of the names in `replaceable`, is replaced.

    Raises:
        InputError: `directory` is a file, holds other files, or cannot be written.
    """
    target = Path(directory).expanduser().absolute()
    _check_replaceable(target, replaceable)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror})") from None
    try:
        made.chmod(0o755)  # mkdtemp makes it private to this user
        yield made
        if target.exists():
            old = made.with_name(made.name + ".old")
            os.replace(target, old)
            os.replace(made, target)
            shutil.rmtree(old)
        else:
            os.replace(made, target)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def require_empty(target: Path) -> None:
    """Raises `InputError` unless `target` is an empty folder, or nothing is there."""
    if not target.exists():
        return
    require(target.is_dir(), f"the output must be a new or empty folder, and {target} is a file; choose another name")
    try:
        held = sorted(path.name for path in target.iterdir())
    except OSError as error:
        raise InputError(f"{target}: cannot be read ({error.strerror})") from None
    require(not held, f"the output must be a new or empty folder, and {target} holds {', '.join(held[:3])}; "
                      "choose another one")


def _check_replaceable(target: Path, replaceable: Set[str]) -> None:
    if not target.exists():
        return
    require(target.is_dir(), f"{target}: a model is saved as a folder, and this is a file")
    other = sorted(path.name for path in target.iterdir() if path.name not in replaceable)
    require(not other, f"{target}: holds other files than a model ({', '.join(other[:3])}); choose another folder")
