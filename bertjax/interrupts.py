"""Signals that end a study: SIGTERM, as preempted machines get it, and Ctrl-C.

Outside of training they end the process at once, as `KeyboardInterrupt` does. While a program trains (`deferred`) they
wait for the end of a chunk, about 2 s, so that a checkpoint can be written. Python runs no handler while the compiler
does, for minutes at times: for such calls a second thread writes the checkpoint and ends the process (`long_call`). It
also ends one whose main thread hangs elsewhere, some seconds after SIGTERM, or after Ctrl-C twice. Whatever must be
done before a process ends like that, such as to give back a lock, is said by `before_end`. Where no exception can
leave, as in what runs at a garbage collection, Python drops what the handler raises: then the signal comes once more.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import NoReturn

log = logging.getLogger(__name__)

GRACE_SECONDS = 8.0
"""How long SIGTERM waits by default until the main thread notices; then the process ends without it."""

IMPATIENT_SECONDS = 2.0
"""The same of a second Ctrl-C: who presses it wants an end now."""

AGAIN_SECONDS = 0.1
"""After how long a signal comes once more whose exception was dropped."""

WHAT_STAYS = "interrupted; finished trials stay, and the same command resumes"
"""What a user is told at the end."""


class Interrupted(KeyboardInterrupt):
    """A signal ended the study."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def exit_code(self) -> int:
        """130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.number


@dataclass
class _Signals:
    """The process has one set of signals, so there is one of these."""

    received: int | None = None
    raised: int | None = None
    """The last one that the handler raised."""
    deferring: int = 0
    long_call: Callable[[], None] | None = None
    """What saves the program whose main thread is in a long call."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Of two threads that would save, or end a call and save, only one does: the other one ends the process with it."""
    noticed: threading.Event = field(default_factory=threading.Event)
    """Set once the main thread acts on a signal, or needs to act on none any more."""
    presses: int = 0
    """Of Ctrl-C."""
    before_end: list[Callable[[], None]] = field(default_factory=list)


_signals = _Signals()


@contextmanager
def handled(grace_seconds: float | None = None) -> Iterator[None]:
    """Handles SIGTERM and SIGINT as this module says. Does nothing in another than the main thread, which gets none.

    Args:
        grace_seconds: Instead of `GRACE_SECONDS`.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _signals.received, _signals.raised, _signals.deferring, _signals.long_call = None, None, 0, None
    _signals.presses = 0
    _signals.noticed.clear()
    former_hook = sys.unraisablehook
    sys.unraisablehook = partial(_send_again, former_hook)
    before = {number: signal.signal(number, _handle) for number in (signal.SIGTERM, signal.SIGINT)}
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    former = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    arguments = read_end, grace_seconds or GRACE_SECONDS
    watcher = threading.Thread(target=_watch, args=arguments, name="bertjax-signals", daemon=True)
    watcher.start()
    try:
        yield
    except KeyboardInterrupt as error:
        # Libraries in C raise one of their own instead of what the handler raised; it would say Ctrl-C.
        if _signals.raised is None or isinstance(error, Interrupted):
            raise
        raise Interrupted(_signals.raised) from error
    finally:
        signal.set_wakeup_fd(former)
        sys.unraisablehook = former_hook
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: of a library in C
        _signals.noticed.set()
        os.close(write_end)  # ends the watcher
        watcher.join()
        os.close(read_end)
        _signals.received = None


@contextmanager
def before_end(callback: Callable[[], None]) -> Iterator[None]:
    """Within, `callback` is called before `end_process` ends the process; it may be called on any thread."""
    _signals.before_end.append(callback)
    try:
        yield
    finally:
        _signals.before_end.remove(callback)


def end_process(code: int) -> NoReturn:
    """Ends the process now, whatever its main thread does."""
    for callback in _signals.before_end:
        with suppress(Exception):
            callback()
    os._exit(code)


@contextmanager
def deferred() -> Iterator[None]:
    """Within, a signal waits for `raise_if_received`; a second one does not."""
    _signals.deferring += 1
    try:
        yield
    finally:
        _signals.deferring -= 1


def waiting() -> int | None:
    """The signal that waits; whoever is told of one must save what is to be saved and raise `Interrupted`."""
    if _signals.received is not None:
        _signals.noticed.set()
    return _signals.received


def received() -> bool:
    """Whether a signal waits; see `waiting`."""
    return waiting() is not None


def raise_if_received() -> None:
    """Raises `Interrupted` if a signal waits."""
    if received():
        raise Interrupted(_signals.received or 0)


@contextmanager
def long_call(save: Callable[[], None] | None) -> Iterator[None]:
    """Around a call during which Python runs no handler: at a signal `save` runs in another thread, then all ends.

    Nothing that `save` reads may change within. Raises `Interrupted`, after `save`, if a signal waits already. With
    None nothing can be saved in the middle, and a signal waits for the end of the call, or of the grace.
    """
    if save is None:
        yield
        return
    _signals.long_call = save
    try:
        with _signals.lock:
            if received():
                save()
                raise_if_received()
        yield
    finally:
        with _signals.lock:
            _signals.long_call = None


def _handle(number: int, _frame: object) -> None:
    if _signals.deferring == 0 or _signals.received is not None:
        _signals.noticed.set()
        _signals.raised = number
        raise Interrupted(number)
    _signals.received = number
    if _signals.long_call is None:  # else the other thread ends it
        log.info("%s: stops after this chunk of steps%s", signal.Signals(number).name,
                 "; again to stop at once" if number == signal.SIGINT else "")


def _send_again(
    other_hook: Callable[[sys.UnraisableHookArgs], object], dropped: sys.UnraisableHookArgs
) -> None:
    """Stands for `sys.unraisablehook`, which is told of an exception that Python drops; from here none can leave."""
    if not isinstance(dropped.exc_value, Interrupted):
        other_hook(dropped)
        return
    number = dropped.exc_value.number
    _signals.noticed.clear()
    if number == signal.SIGINT:
        _signals.presses -= 1  # it is pressed once, though it comes twice
    timer = threading.Timer(AGAIN_SECONDS, os.kill, (os.getpid(), number))
    timer.daemon = True
    timer.start()


def _watch(read_end: int, grace_seconds: float) -> None:
    """Waits for signals, which are written here even while the main thread cannot handle them."""
    while numbers := os.read(read_end, 16):
        if signal.SIGTERM in numbers:
            _end_long_call(signal.SIGTERM)
            _end_unless_noticed(signal.SIGTERM, grace_seconds)
        _signals.presses += numbers.count(signal.SIGINT)
        if _signals.presses:
            _end_long_call(signal.SIGINT)
        if _signals.presses > 1:
            _end_unless_noticed(signal.SIGINT, IMPATIENT_SECONDS)


def _end_long_call(number: signal.Signals) -> None:
    """Saves and ends the process if its main thread is in a long call."""
    with _signals.lock:
        save = _signals.long_call
        if save is None:
            return
        _signals.received = number  # its handler cannot run
        log.info("%s: stops now, in the middle of a long call", number.name)
        try:
            save()
        except BaseException:  # it must not keep the process alive
            log.exception("no checkpoint could be written")
        _end(number)


def _end_unless_noticed(number: signal.Signals, seconds: float) -> None:
    """Ends the process if its main thread hangs in something else, in which there is nothing to save."""
    if not _signals.noticed.wait(seconds):
        log.info("%s: the process did not stop within %g s and is ended", number.name, seconds)
        _end(number)


def _end(number: signal.Signals) -> NoReturn:
    log.info("bertjax: %s", WHAT_STAYS)
    end_process(Interrupted(number).exit_code)
