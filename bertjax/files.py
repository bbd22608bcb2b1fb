"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import io
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from etils import epath

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
"""What the system says where a file cannot grow; libraries written in Rust say it too, in the text of their errors."""


def says_no_room(text: str) -> bool:
    """Whether what an error says is that the disk is full, or the like."""
    return any(os.strerror(number) in text for number in NO_ROOM)


def write_text(path: Path, text: str) -> None:
    """Writes a text file under a temporary name, then renames it."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file under a temporary name, then renames it. Raises `OSError`, which names the file."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        os.unlink(temporary)
        if isinstance(error, OSError) and error.filename is None:  # as of a write to a full disk
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def is_remote(place: object) -> bool:
    """Whether a path or URL is in an object store."""
    return "://" in str(place)


def put_text(place: epath.Path, text: str) -> None:
    """`write_text` on a disk or in an object store, which shows an object whole or not at all."""
    if is_remote(place):
        place.write_text(text)
    else:
        write_text(Path(place), text)


def npz(compress: bool, **arrays: np.ndarray) -> bytes:
    """The content of an .npz file, which needs no pickle to be read."""
    import numpy as np  # not above: what answers --help reads this file

    file = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(file, allow_pickle=False, **arrays)
    return file.getvalue()
