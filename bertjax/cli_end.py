"""How a command ends: the line that says why, its exit code, and the other processes that end with it."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TypeVar

from bertjax.cli_options import ProcessOptions
from bertjax.config import InputError
from bertjax.files import NO_ROOM, says_no_room
from bertjax.interrupts import WHAT_STAYS

Read = TypeVar("Read")

MAKE_ROOM = "; what was written before stays: make room, and run the same command"


def say_why(error: BaseException, resumes: bool) -> int | None:
    """Says in a line what ended a command; its exit code. None of an error that has no such line.

    Args:
        error: What ended it.
        resumes: Whether the same command goes on from there.
    """
    match error:
        case InputError():
            print(f"bertjax: {error}{MAKE_ROOM if resumes and says_no_room(str(error)) else ''}", file=sys.stderr)
            return error.exit_code
        case KeyboardInterrupt():
            print(f"bertjax: {WHAT_STAYS if resumes else 'interrupted'}", file=sys.stderr)
            return getattr(error, "exit_code", 130)
        case OSError() if error.errno in NO_ROOM:
            print(f"bertjax: {error.filename or 'a file'} cannot be written ({error.strerror}){MAKE_ROOM}",
                  file=sys.stderr)
            return 2
    return None


@contextmanager
def one_of_several(options: ProcessOptions, read: Callable[[], Read]) -> Iterator[Read]:
    """Within, this process shares a mesh with others if it is to; of several the first one tells how far they are.

    Args:
        options: Which one it is.
        read: Reads what the command was given. What is wrong with it ends the others too, so they are found first;
            only a process that is told of none says it at once.

    Yields:
        What `read` returns.
    """
    made = read() if options == ProcessOptions() else None
    from bertjax.train import processes

    def report(error: BaseException) -> int:
        if (code := say_why(error, resumes=True)) is None:
            traceback.print_exception(error)
            return 1
        return code

    with processes.joined(**asdict(options), report=report):
        if not processes.is_first():
            logging.getLogger("bertjax").setLevel(logging.WARNING)
        yield read() if made is None else made
