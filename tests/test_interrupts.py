"""SIGTERM and Ctrl-C: at once, after the chunk, or, in the middle of a long call, by another thread."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from bertjax import interrupts
from bertjax.interrupts import Interrupted


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.05)  # a handler runs before the next line of Python


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_where_nothing_is_to_be_saved_a_signal_ends_at_once(number: int, code: int) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as raised, interrupts.handled():
        send(number)
    assert raised.value.exit_code == code and isinstance(raised.value, KeyboardInterrupt)
    assert signal.getsignal(number) is before and signal.set_wakeup_fd(-1) == -1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_library_that_raises_its_own_interrupt_does_not_hide_which_signal_came(number: int, code: int) -> None:
    with pytest.raises(Interrupted) as raised, interrupts.handled():
        try:
            send(number)
        except KeyboardInterrupt:  # as Ray's core does in the middle of `ray.wait`
            raise KeyboardInterrupt from None
    assert raised.value.exit_code == code
    with pytest.raises(KeyboardInterrupt) as other, interrupts.handled():
        raise KeyboardInterrupt  # of no signal
    assert not isinstance(other.value, Interrupted)


def collect_garbage(number: int) -> None:
    """With a signal in the middle: JAX has a callback of its own there, and no exception leaves one."""
    called: list[str] = []

    def callback(phase: str, _info: dict[str, int]) -> None:
        gc.callbacks.remove(callback)
        called.append(phase)
        send(number)

    gc.callbacks.append(callback)
    gc.collect()
    assert called == ["start"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_in_the_middle_of_a_garbage_collection_is_not_lost(number: int, code: int) -> None:
    hook = sys.unraisablehook
    with pytest.raises(Interrupted) as raised, interrupts.handled():
        collect_garbage(number)
        time.sleep(30)
    assert raised.value.exit_code == code and sys.unraisablehook is hook


def test_a_press_that_comes_once_more_is_no_second_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training may have begun meanwhile, and then waits for the end of a chunk."""
    ended: list[int] = []
    monkeypatch.setattr(interrupts, "end_process", ended.append)
    monkeypatch.setattr(interrupts, "IMPATIENT_SECONDS", 0.1)
    with interrupts.handled():
        collect_garbage(signal.SIGINT)
        with interrupts.deferred():
            time.sleep(1)
            assert interrupts.received() and ended == []


def test_other_exceptions_that_nothing_catches_are_still_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __del__(self) -> None:
            raise ValueError("of another kind")

    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: told.append(dropped.exc_type))
    with interrupts.handled():
        Broken()
    assert told == [ValueError]


def test_in_training_it_waits_and_a_second_one_does_not() -> None:
    with interrupts.handled(), interrupts.deferred():
        interrupts.raise_if_received()
        send(signal.SIGINT)
        assert interrupts.received()
        with pytest.raises(Interrupted):
            interrupts.raise_if_received()
        with pytest.raises(Interrupted):
            send(signal.SIGINT)
    with interrupts.handled():
        assert not interrupts.received()


def test_threads_other_than_the_main_one_leave_signals_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []

    def body() -> None:
        with interrupts.handled():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert seen == [before]


LONG_CALL = """
import hashlib, logging
from bertjax import interrupts

def save():
    print("saved", interrupts.received(), flush=True)

logging.basicConfig(level="INFO", format="%(message)s")
interrupts.GRACE_SECONDS = interrupts.IMPATIENT_SECONDS = 1.0
with interrupts.handled(), interrupts.deferred():
    print("ready", flush=True)
    with interrupts.long_call(save):
        # Minutes in C, during which Python runs no handler but other threads run, as in a compiler.
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("saves", [True, False])
def test_a_long_call_is_ended_by_another_thread(saves: bool, number: signal.Signals, code: int) -> None:
    """With what it saves; after a while also where there is nothing to save, of Ctrl-C at the second one."""
    program = LONG_CALL if saves else LONG_CALL.replace("with interrupts.long_call(save)", "if True")
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        time.sleep(0.5)
        process.send_signal(number)
        if number == signal.SIGINT and not saves:
            time.sleep(1.5)
            assert process.poll() is None  # a first one may wait for long
            process.send_signal(number)
        out, log = process.communicate(timeout=60)
    assert process.returncode == code and out == ("saved True\n" if saves else "")
    how = "stops now, in the middle of a long call" if saves else "the process did not stop within 1 s and is ended"
    assert log.endswith(f"{number.name}: {how}\nbertjax: {interrupts.WHAT_STAYS}\n")


def test_a_signal_that_waits_is_not_taken_into_a_long_call() -> None:
    saved: list[bool] = []
    with interrupts.handled(), interrupts.deferred():
        send(signal.SIGTERM)
        with pytest.raises(Interrupted), interrupts.long_call(lambda: saved.append(interrupts.received())):
            raise AssertionError("the call was made")
    assert saved == [True]
