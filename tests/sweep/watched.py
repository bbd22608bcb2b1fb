"""`bertjax` in a process that notes which files of a run directory it writes, and in which something may be broken.

    python -m tests.sweep.watched LOG ROOT BREAK ARGUMENT...

BREAK is a line of Python that runs before the command. What TensorStore writes, the state of checkpoints, is not noted.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def watch(log: Path, root: Path) -> None:
    """Notes every file below `root` that is opened to be written, renamed or removed."""
    noted = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in ("open", "os.rename", "os.remove") or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        path = Path(os.path.abspath(os.fsdecode(arguments[0])))
        if root in path.parents and (event != "open" or arguments[2] & WRITING):
            os.write(noted, f"{path.relative_to(root)}\n".encode())

    sys.addaudithook(note)


if __name__ == "__main__":
    watch(Path(sys.argv[1]), Path(sys.argv[2]).resolve())
    exec(sys.argv[3])
    from bertjax.cli import main
    main(sys.argv[4:])
