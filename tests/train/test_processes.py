"""Several processes are one: the same results, decisions of the first one for all, and what is refused."""

from __future__ import annotations

import json
import re
import signal
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from etils import epath

from bertjax.config import InputError
from bertjax.train import mesh, processes
from bertjax.train.checkpoint import Checkpoints, Snapshot
from bertjax.train.mesh import make_mesh
from tests.processes import DEVICES, finished, free_place
from tests.train.member import STOPPED_AT, fit, made, state
from tests.train.toy import make_toy


@pytest.mark.parametrize(("given", "said"), [
    (("localhost:1234", 2, None), "go together: give all three, or none"),
    ((None, None, 0), "go together: give all three, or none"),
    (("localhost", 2, 0), "--coordinator must read HOST:PORT, got localhost"),
    (("localhost:70000", 2, 0), "--coordinator must read HOST:PORT, got localhost:70000"),
    (("localhost:1234", 0, 0), "--num-processes must be at least 1, got 0"),
    (("localhost:1234", 2, 2), "--process-id must be 0 to 1, as --num-processes is 2; got 2"),
    (("localhost:1234", 2, -1), "--process-id must be 0 to 1, as --num-processes is 2; got -1"),
])
def test_flags_that_cannot_work_are_refused(given: tuple[Any, ...], said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        processes.initialise(*given)


@pytest.mark.parametrize("place", ["localhost", "0.0.0.0"])
def test_a_port_in_use_is_refused_by_the_first_process(place: str) -> None:
    with socket.create_server((place, 0)) as server:
        port = server.getsockname()[1]
        said = f"process 0 must be able to listen at port {port}, that of --coordinator localhost:{port}: Address"
        with pytest.raises(InputError, match=said):
            processes.initialise(f"localhost:{port}", 2, 0)


@pytest.mark.parametrize(("chips", "platforms", "library", "expected"), [
    (["/dev/accel0"], None, "libtpu.so", True),
    (["/dev/vfio/0"], "tpu,cpu", "libtpu.so", True),
    ([], None, "libtpu.so", False),
    (["/dev/accel0"], "cpu", "libtpu.so", False),
    (["/dev/accel0"], None, None, False),
])
def test_only_a_machine_with_tpu_chips_looks_for_a_pod(
    monkeypatch: pytest.MonkeyPatch, chips: list[str], platforms: str | None, library: str | None, expected: bool
) -> None:
    monkeypatch.setattr(processes, "glob", lambda pattern: [chip for chip in chips if pattern[:8] == chip[:8]])
    monkeypatch.setattr(processes.importlib.util, "find_spec", lambda name: None)
    for name, value in (("JAX_PLATFORMS", platforms), ("TPU_LIBRARY_PATH", library)):
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
    assert processes.on_cloud_tpu() is expected


def test_one_process_asks_nobody() -> None:
    assert processes.is_first() and not processes.several() and processes.process_count() == 1
    answer = object()  # not fit for JSON
    assert processes.from_first(lambda: answer) is answer and processes.from_all(answer) == [answer]
    assert processes.turn(lambda: answer) == (answer, None)
    processes.require_same("anything", answer)
    processes.all_failed(RuntimeError())
    with pytest.raises(KeyError), processes.joined(None, None, None, report=lambda error: 1):
        raise KeyError


def test_a_mesh_takes_the_devices_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert mesh.parse_mesh("trial=2", 4) == (2, 1)
    monkeypatch.setattr(mesh, "several", lambda: True)
    assert mesh.parse_mesh("trial=2,data=2", 4) == (2, 2)
    with pytest.raises(InputError, match="--mesh trial=2 must take all 4 devices"):
        mesh.parse_mesh("trial=2", 4)


def test_two_processes_talk_and_lay_out_arrays(tmp_path: Path) -> None:
    """Without training, which takes a minute to compile: see the tests below."""
    turns: list[Any] = []
    store = Checkpoints(epath.Path(tmp_path / "alone"), 3600)
    store.save(Snapshot(5, state(make_mesh((1, 1)), 5), {"seconds": np.array(6)}))
    store.finish()
    members(2, tmp_path, "talk", "place")
    for index in range(2):
        told = json.loads((tmp_path / f"talk{index}.json").read_text())
        assert told["all"] == told["again"] == [0, 1]
        assert told["failures"] == [
            "InputError: wrong", "FirstFailed: process 0 failed: 'lost'" if index else "KeyError: 'lost'", "nothing",
            "InputError: the index must be the same in all 2 processes; in process 1 it is another than in process 0"]
        # What the first one decides; a signal to another one is known a turn later at most.
        assert told["turns"] in ([[0, signal.SIGTERM]], [[0, None], [0, signal.SIGTERM]])
        turns.append(told["turns"])
        laid = json.loads((tmp_path / f"place{index}.json").read_text())
        trial = np.arange(18.0, 24.0)
        assert laid == {"manifests": 2, "left": False, "steps": [
            [2, 2, (2 * trial).tolist()], [1, 1, trial.tolist()], [5, 6, (5 * trial).tolist()]]}
        np.testing.assert_array_equal(np.load(tmp_path / f"everywhere{index}.npy"), np.arange(32).reshape(4, 8))
        np.testing.assert_array_equal(np.load(tmp_path / f"trial{index}.npy"), trial)
    assert turns[0] == turns[1]


@pytest.mark.hosts
@pytest.mark.parametrize("count", [2, DEVICES])
def test_processes_train_as_one(tmp_path: Path, count: int) -> None:
    """To the last bit of this process, which has as many devices: of two devices a sum is the same in any order. Also
    after a signal to the last one."""
    members(count, tmp_path, "train")
    expected = made(fit(make_toy(), None)[0])
    for index in range(count):
        for name in ("whole", "resumed"):
            found = dict(np.load(tmp_path / f"{name}{index}.npz"))
            assert found.keys() == expected.keys()
            for key, values in found.items():
                np.testing.assert_array_equal(values, expected[key], err_msg=f"{key} of {name}{index}")
        assert (tmp_path / f"stopped{index}").read_text() == "143"
        # The signal is known after the chunk that is under way; what was done by then is not done again.
        assert STOPPED_AT < int((tmp_path / f"first{index}").read_text()) <= STOPPED_AT + 4


def members(count: int, folder: Path, *what: str) -> None:
    """Runs processes of `tests.train.member` to their ends."""
    place = free_place()
    finished([["-m", "tests.train.member", place, count, index, folder, *what] for index in range(count)])
