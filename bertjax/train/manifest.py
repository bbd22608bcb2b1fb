"""The files of a checkpoint, on a disk or in an object store, and the manifest of their hashes."""

from __future__ import annotations

import hashlib
import json
import shutil

from etils import epath

MANIFEST = "manifest.json"


def copy_file(source: epath.Path, target: epath.Path) -> None:
    """Copies a file, between stores too, and makes the folder it goes to."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as read, target.open("wb") as written:
        shutil.copyfileobj(read, written, 2**24)


def files_below(folder: epath.Path) -> dict[str, epath.Path]:
    """Every file below `folder` by its path from there, but for the manifest."""
    found: dict[str, epath.Path] = {}
    for child in folder.iterdir():
        if child.is_dir():
            found |= {f"{child.name}/{name}": file for name, file in files_below(child).items()}
        elif child.name != MANIFEST:
            found[child.name] = child
    return found


def damage_of(target: epath.Path) -> str | None:
    """What is wrong with a checkpoint's files."""
    try:
        manifest = json.loads((target / MANIFEST).read_text())
        files = files_below(target)
        for name in sorted({*manifest, *files}):
            if name not in files:
                return f"{name} is missing"
            if manifest.get(name) != sha256_of(files[name]):
                return f"{name} has changed"
    except (OSError, ValueError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def sha256_of(file: epath.Path) -> str:
    """The hash of a file's content, as hexadecimal digits."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while part := stream.read(2**24):
            digest.update(part)
    return digest.hexdigest()
