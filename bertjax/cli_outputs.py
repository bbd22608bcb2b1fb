"""Places that a command will write to, checked before the minutes in which it computes what to write."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from bertjax.config import InputError


def check_writable(folder: Path, flag: str = "--run-dir") -> None:
    """Makes the folder that `flag` names and writes to it, before the minutes in which a model trains or predicts."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"{flag} must be a folder that can be written, got {folder}: {error.strerror}") from error


def check_file(path: Path) -> None:
    """Raises `InputError` where a file cannot be written, before minutes of measuring."""
    try:
        if path.is_dir():
            raise InputError(f"{path} must be a file, and is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InputError(f"{path} cannot be written: {os.strerror(error.errno or 0)}") from None
