"""Several processes that run one program, each with devices of its own: the hosts of a TPU pod, or machines with GPUs.

JAX runs a program over all their devices if every process starts the same computations in the same order. So what a
process would decide by its own clock, files or signals, the first one decides for all (`from_first`), and only the
first one writes results. A question takes about a millisecond, and no device waits for it. A process that ends in an
error, or is gone, takes the others with it: see `bertjax.train.group`.

With one process nothing of this runs: `from_first` is a call.
"""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from glob import glob
from typing import Any

import jax

from bertjax import interrupts
from bertjax.config import InputError, require
from bertjax.train import group as groups
from bertjax.train.abort import on_abort

HEARTBEAT_SECONDS = 30
"""Without a sign of life for so long, a process counts as gone, and JAX ends the others."""

ALONE_SECONDS = 60.0
"""How long a process that failed waits whether the others failed too; longer than the heartbeat of one that is gone."""

SIGNAL_GRACE_SECONDS = 25.0
"""How long a process that gets SIGTERM may be in the compiler: clouds give a preempted machine 30 s."""

_group: groups.Group | None = None


class FirstFailed(RuntimeError):
    """What the first process was asked for failed there."""


class FailedAlone(RuntimeError):
    """This process failed where the others did not."""


def several() -> bool:
    """Whether there are other processes."""
    return _group is not None


def process_count() -> int:
    """How many there are."""
    return 1 if _group is None else _group.size


def is_first() -> bool:
    """Whether this process decides and writes: the only one, or the first."""
    return _group is None or _group.index == 0


def signal_grace() -> float | None:
    """How long SIGTERM waits, where there are others with whom a checkpoint is to be written."""
    return SIGNAL_GRACE_SECONDS if several() else None


def from_first(compute: Callable[[], Any]) -> Any:
    """What the first process computes, in all of them; every process must ask the same questions in the same order.

    Args:
        compute: Called in the first process alone; must ask nothing itself. Its result must be fit for JSON, and comes
            back as JSON has it where there are several processes.

    Raises:
        InputError: `compute` raised it.
        FirstFailed: In the others, if `compute` raised another exception, which the first process raises itself.
    """
    group = _group
    if group is None:
        return compute()
    key = group.next_key()
    if group.index == 0:
        try:
            answer = {"value": compute()}
        except Exception as error:
            group.say(key, {"input" if isinstance(error, InputError) else "error": str(error) or type(error).__name__})
            raise
        group.say(key, answer)
    answer = group.hear(key)
    if "input" in answer:
        raise InputError(answer["input"])
    if "error" in answer:
        raise FirstFailed(f"process 0 failed: {answer['error']}")
    return answer["value"]


def from_all(value: Any) -> list[Any]:
    """What every process gives, fit for JSON, in the order of the processes. Returns when all have given it."""
    group = _group
    if group is None:
        return [value]
    key = group.next_key()
    group.say(f"{key}/{group.index}", value)
    return [group.hear(f"{key}/{index}") for index in range(group.size)]


def ticket() -> int:
    """For `to_first`; every process must take as many as the others, in the same order."""
    if _group is None:
        return 0
    _group.tickets += 1
    return _group.tickets


def to_first(ticket: int, value: Any) -> list[Any] | None:
    """Gives the first process what every process gives for a ticket, fit for JSON; None in the others, which do not
    wait. It asks no question, and may be called in another thread than those who do.
    """
    group = _group
    if group is None:
        return [value]
    folder = f"tickets/{ticket}"
    group.say(f"{folder}/{group.index}", value)
    if group.index:
        return None
    values = [group.hear(f"{folder}/{index}") for index in range(group.size)]
    group.client.key_value_delete(f"bertjax/{folder}/")
    return values


@contextmanager
def in_turns() -> Iterator[None]:
    """Within, one process after the other; for what would harm two that do it in one folder at once."""
    for index in range(process_count()):
        if _group is None or index == _group.index:
            yield
        from_all(None)


def require_same(what: str, value: Any) -> None:
    """Raises `InputError` unless every process gives the same value, fit for JSON."""
    values = from_all(value)
    others = [index for index, other in enumerate(values) if other != values[0]]
    require(not others, f"{what} must be the same in all {len(values)} processes; in process "
                        f"{', '.join(map(str, others))} it is another than in process 0")


def turn(decide: Callable[[], Any]) -> tuple[Any, int | None]:
    """What the first process decides, and the number of a signal that any process got: the same in all of them."""
    number, group = interrupts.waiting(), _group
    if group is None:
        return decide(), number
    folder = f"signals/{group.stops}"
    if number is not None and group.index:
        group.say(f"{folder}/{group.index}", number, again=True)
    value, number = from_first(lambda: [decide(), number or next(iter(group.said(folder).values()), None)])
    if number is not None:
        group.stops += 1
        group.leaving = True  # all stop now: the first to be done must not break off the others
    return value, number


def all_failed(error: Exception) -> None:
    """Returns if every process failed here, as one process alone would: then they go on together.

    Raises:
        FailedAlone: The others did not within `ALONE_SECONDS`.
    """
    group = _group
    if group is None:
        return
    folder, group.failures = f"failed/{group.failures}", group.failures + 1
    group.say(f"{folder}/{group.index}", group.asked)
    until = time.monotonic() + ALONE_SECONDS
    while time.monotonic() < until:
        if len(asked := group.said(folder)) == group.size:
            group.asked = max(asked.values())  # some may have failed before a question that others had asked
            return
        time.sleep(0.2)
    raise FailedAlone(f"process {group.index} failed, and others did not: {error}") from error


def initialise(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Makes this process one of several, before JAX starts its devices: on the hosts of a Cloud TPU by itself,
    elsewhere if all three are given.

    Args:
        coordinator: `HOST:PORT` of process 0, where the others reach it.
        num_processes: How many there are, at least 1.
        process_id: Which one this is, from 0.

    Raises:
        InputError: Some are given and some are not, one is out of its range, or process 0 cannot open the port.
    """
    by_hand = _check_flags(coordinator, num_processes, process_id)
    if not by_hand and not on_cloud_tpu():
        return
    if coordinator is not None and process_id == 0:
        _require_free_port(coordinator)
    jax.config.update("jax_enable_preemption_service", False)  # it takes SIGTERM for itself
    on_abort(partial(groups.aborted, None))
    try:
        jax.distributed.initialize(
            coordinator, num_processes, process_id, cluster_detection_method="deactivate" if by_hand else None,
            initialization_timeout=groups.JOIN_SECONDS, heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=2 * HEARTBEAT_SECONDS)
    except ValueError:  # JAX sees no pod around these chips
        if by_hand:
            raise
    except RuntimeError as error:
        if not by_hand:
            raise
        raise InputError(f"process 0 must be able to listen at the port of --coordinator {coordinator}: "
                         f"{str(error).splitlines()[0]}; give a free one") from error
    on_abort(lambda: None)
    join()


def _check_flags(coordinator: str | None, num_processes: int | None, process_id: int | None) -> bool:
    """Whether they are given; raises `InputError` as `initialise` says."""
    given = [value is not None for value in (coordinator, num_processes, process_id)]
    require(all(given) or not any(given),
            "--coordinator, --num-processes and --process-id go together: give all three, or none")
    if coordinator is None or num_processes is None or process_id is None:
        return False
    found = re.fullmatch(r"\S+:(\d{1,5})", coordinator)
    require(found is not None and 0 < int(found[1]) < 2**16, f"--coordinator must read HOST:PORT, got {coordinator}")
    require(num_processes >= 1, f"--num-processes must be at least 1, got {num_processes}")
    require(0 <= process_id < num_processes, f"--process-id must be 0 to {num_processes - 1}, as --num-processes is "
                                             f"{num_processes}; got {process_id}")
    return True


def _require_free_port(coordinator: str) -> None:
    """Raises `InputError` where process 0 cannot listen: there JAX's service crashes without a word."""
    port, both = int(coordinator.rpartition(":")[2]), socket.has_dualstack_ipv6()
    try:
        with socket.socket(socket.AF_INET6 if both else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # an end of a moment ago keeps no port
            if both:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            probe.bind(("", port))
    except OSError as error:
        raise InputError(f"process 0 must be able to listen at port {port}, that of --coordinator {coordinator}: "
                         f"{error.strerror}; give a free one") from error


def on_cloud_tpu() -> bool:
    """Whether this machine has the device files of TPU chips, and JAX may use them: then it can be one of a pod."""
    driver = "TPU_LIBRARY_PATH" in os.environ or importlib.util.find_spec("libtpu") is not None
    allowed = "tpu" in (os.environ.get("JAX_PLATFORMS") or "tpu").split(",")
    return driver and allowed and bool(glob("/dev/accel*") or glob("/dev/vfio/[0-9]*"))


def join() -> None:
    """Takes note of the other processes; also for a program that called `jax.distributed.initialize` itself."""
    global _group
    _group = _group or groups.join()
    if _group is not None:
        _group.leaving = False


@contextmanager
def joined(
    coordinator: str | None, num_processes: int | None, process_id: int | None,
    report: Callable[[BaseException], int],
) -> Iterator[None]:
    """Within, this process is one of several if it is to be one (`initialise`); at the end all have one exit code.

    Args:
        coordinator: See `initialise`, as for the next two.
        num_processes: How many.
        process_id: Which.
        report: Says what ended this process, and returns its exit code. Called where there are others, who are told.

    Raises:
        SystemExit: With the exit code of the first process, if it is not 0.
    """
    initialise(coordinator, num_processes, process_id)
    group, code = _group, 0
    if group is None:
        yield
        return
    try:
        with interrupts.before_end(partial(group.ended_by, signal.SIGTERM)):  # the one that ends a process so
            yield
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException as error:
        if isinstance(error, FirstFailed):
            time.sleep(groups.LINGER_SECONDS)  # the first one says what it was, and takes this one with it
        group.leave_early(report(error))
    if code := group.leave(code):
        raise SystemExit(code)
