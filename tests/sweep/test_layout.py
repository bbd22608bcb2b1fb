"""How programs lie on devices: the memory decides which trials run together, and how much of a batch at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bertjax.config import InputError
from bertjax.model.sizes import size_config
from bertjax.study import METHODS, StudyConfig, TrialConfig
from bertjax.sweep import devices as devices_module
from bertjax.sweep import session as session_module
from bertjax.sweep.devices import Devices, devices_here
from bertjax.sweep.layout import MEMORY_SHARE, Layout, layout, split_to_fit
from bertjax.sweep.ledger import open_ledger
from bertjax.sweep.outline import Outline, outline, read_outline
from bertjax.sweep.plan import programs
from bertjax.sweep.run import run_study
from bertjax.sweep.run_dir import RunDir
from bertjax.sweep.session import Session
from bertjax.train.memory import WORKSPACE, state_bytes, step_bytes
from bertjax.train.trial import student_trials, students


def base_study() -> tuple[list[TrialConfig], Outline]:
    """Eight subsets of BERT-base on MRPC, planned from tables."""
    trials = student_trials(StudyConfig("any", sizes=("base",), tasks=("mrpc",)), "mrpc",
                            students(StudyConfig("any", sizes=("base",)))[0])
    return trials, outline(trials, Devices(1, "cpu", None))


def memory_for(found: Layout, platform: str = "gpu") -> Devices:
    """One device that has just the memory for a layout."""
    return Devices(1, platform, found.bytes_per_device / MEMORY_SHARE[platform])


UNLIMITED = Devices(1, "gpu", None)


def test_with_room_for_all_a_program_stays_whole() -> None:
    trials, known = base_study()
    found = layout(trials, known, memory_for(layout(trials, known, UNLIMITED)))
    assert found.fits and found.mesh == (1, 1) and found.rows_at_once == 32 and found.part_tokens is None
    assert found.in_words(32) == ""
    assert found.idle == 0 and found.work == 8 * 32
    assert split_to_fit(trials, known, UNLIMITED) == [trials]


@pytest.mark.parametrize(("room_for", "programs"), [(7, 2), (4, 2), (3, 3), (2, 4), (1, 8)])
def test_a_program_that_does_not_fit_becomes_the_fewest_that_do(room_for: int, programs: int) -> None:
    trials, known = base_study()
    devices = memory_for(layout(trials[:room_for], known, UNLIMITED))
    parts = split_to_fit(trials, known, devices)
    assert len(parts) == programs and [trial for part in parts for trial in part] == trials
    assert all(layout(part, known, devices).fits for part in parts)
    assert all(layout(part, known, devices).part_tokens is None for part in parts)


def test_a_trial_that_does_not_fit_is_computed_in_the_largest_parts_that_do() -> None:
    trials, known = base_study()
    whole = layout(trials[:1], known, UNLIMITED)
    devices = Devices(1, "gpu", 0.8 * whole.bytes_per_device / MEMORY_SHARE["gpu"])
    found = layout(trials[:1], known, devices)
    assert found.fits and found.rows_at_once == 16 and found.part_tokens == 16 * max(known.edges)
    assert found.in_words(32) == "16 of 32 rows of a batch at once"
    assert split_to_fit(trials, known, devices) == [[trial] for trial in trials]
    none = layout(trials[:1], known, Devices(1, "gpu", 1e9))
    assert not none.fits and none.rows_at_once == 1
    assert not layout(trials, known, Devices(1, "gpu", 1e9)).fits


def test_over_many_devices_a_split_must_be_worth_it() -> None:
    """18 trials in groups of 10 and 8 idle for 44 % of 16 devices' work, where only one of each group fits."""
    trials, known = base_study()
    many = [replace(trial, seed=seed) for seed in range(3) for trial in trials][:18]
    devices = Devices(16, "tpu", 16e9)
    parts = split_to_fit(many, known, devices)
    idle = [layout(part, known, devices).idle for part in parts]
    assert 1 < len(parts) < 18 and max(idle) < 0.1
    wide = Devices(16, "tpu", None)
    assert split_to_fit(many, known, wide) == [many] and layout(many, known, wide).idle == 0  # as data=16
    asked = layout(many, known, wide, mesh="trial=16")
    assert asked.mesh == (16, 1) and asked.idle == pytest.approx(1 - 18 / 32)
    assert asked.in_words(32) == "mesh trial=16,data=1, 44 % of the devices' work is idle"
    assert layout(many, known, wide).in_words(32) == "mesh trial=1,data=16"
    with pytest.raises(InputError, match="--mesh trial=32 needs 32 devices; there are 16"):
        layout(many, known, wide, mesh="trial=32")


def test_the_formula_counts_state_gradients_and_activations() -> None:
    config = size_config("base")
    params = 110_000_000
    assert state_bytes(config) == pytest.approx(12 * params + 85e6, rel=0.01)
    one, two = (step_bytes(config, rows, 128, "float32", "tpu") for rows in (16, 32))
    gradients = one - (two - one)
    assert gradients == pytest.approx(4 * params, rel=0.01)
    assert step_bytes(config, 16, 128, "float32", "tpu", whole=False) - one == gradients
    half = step_bytes(config, 32, 128, "bfloat16", "tpu") - gradients
    assert half == pytest.approx((two - gradients) / 2, rel=1e-6)


def test_the_memory_of_this_machine_is_its_containers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = devices_here()
    assert whole.platform == "cpu" and whole.memory_bytes is not None and whole.memory_bytes > 1e8
    for number, text in enumerate(["max\n", f"{10**9}\n"]):
        (tmp_path / str(number)).write_text(text)
    limits = tmp_path / "0", tmp_path / "1", tmp_path / "missing"
    monkeypatch.setattr(devices_module, "CONTAINER_LIMITS", limits)
    assert devices_here().memory_bytes == 10**9 / whole.count


def test_processes_share_a_hosts_memory_and_plan_by_the_least(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = devices_here()
    assert alone.memory_bytes is not None

    def asked(others: Callable[[Any], list[Any]]) -> float | None:
        monkeypatch.setattr(devices_module, "from_all", lambda value: [value, *others(value)])
        return devices_here().memory_bytes

    assert asked(lambda value: [value]) == alone.memory_bytes / 2  # the same host
    assert asked(lambda value: ["elsewhere" if isinstance(value, str) else 1e9]) == 1e9
    assert asked(lambda value: ["elsewhere" if isinstance(value, str) else 1e15]) == alone.memory_bytes
    assert asked(lambda value: ["elsewhere" if isinstance(value, str) else None]) is None


def test_a_study_that_does_not_fit_trains_in_several_programs_and_in_parts(
    study: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """To the same losses: the memory of a machine decides on nothing else. The log says how they are trained."""
    asked = replace(study, methods=METHODS[:1] + ("P",), max_trials_per_program=2)
    caplog.set_level("INFO", logger="bertjax")
    whole = run_study(asked, tmp_path / "whole", keep_models="none", mesh="trial=4")
    assert "colours · L1H16 · 2 trials: mesh trial=4,data=1, 50 % of the devices' work is idle" in caplog.text
    seen: list[Layout] = []

    def watched(*arguments: object) -> Layout:
        seen.append(layout(*arguments))
        return seen[-1]

    memory = (WORKSPACE + 1) / MEMORY_SHARE["cpu"]  # nothing fits
    monkeypatch.setattr(session_module, "devices_here", lambda: Devices(1, "cpu", memory))
    monkeypatch.setattr(session_module, "layout", watched)
    parts = run_study(asked, tmp_path / "parts", keep_models="none")
    assert [(found.rows_at_once, found.fits) for found in seen] == [(1, False)] * 2
    assert caplog.text.count("colours: 1 of 2 trials, as all of them do not fit into the memory here") == 2
    assert "colours · L1H16 · 1 trial: 1 of 8 rows of a batch at once" in caplog.text
    assert parts["trial_id"].tolist() == whole["trial_id"].tolist() and set(parts["status"]) == {"done"}
    for trial_id in whole["trial_id"]:
        assert losses(tmp_path / "parts", trial_id) == pytest.approx(losses(tmp_path / "whole", trial_id), abs=1e-3)


def test_what_was_begun_goes_on_as_it_was_split_then(
    study: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (program,) = programs(replace(study, methods=("none", "P"), seeds=(0, 1)))
    outlined, trials = read_outline(program.trials), program.trials
    said: list[str] = []
    monkeypatch.setattr(session_module.log, "warning", lambda text, *values: said.append(text % values))

    def parts(name: str, begun: Sequence[Sequence[TrialConfig]], room_for: int) -> list[tuple[TrialConfig, ...]]:
        ledger = open_ledger(RunDir.at(tmp_path / name), study)
        for some in begun:
            ledger.checkpoints(some, 60).begin([trial.trial_id for trial in some])
        room = memory_for(layout(trials[:room_for], outlined, Devices(1, "cpu", None)), "cpu")
        monkeypatch.setattr(session_module, "devices_here", lambda: room)
        view: Any = None
        return [part.trials for part in Session(ledger, view, "none", None, 60.0).parts(program)]

    assert parts("new", [], 4) == [trials] and len(parts("little", [], 2)) == 2
    # On a machine with less memory, and with more than there was.
    assert parts("more", [trials[1:3]], 4) == [trials[1:3], (trials[0], trials[3])]
    assert parts("several", [trials[:1], trials[1:], trials[:2]], 4) == [trials[1:], trials[:1]]
    assert said == []
    assert parts("less", [trials], 2) == parts("little", [], 2)
    two = parts("some", [trials, trials[:1], trials[2:]], 2)
    assert two == [trials[2:], trials[:1], trials[1:2]]  # which were begun on this machine after the other one
    assert [line.partition(";")[0] for line in said] == [
        f"colours: what was begun of {which} no longer fits into the memory here" for which in ("4 trials", "1 trial")]


def losses(run_dir: Path, trial_id: str) -> list[float]:
    """Of each epoch."""
    return [epoch["train_loss"] for epoch in json.loads((run_dir / "trials" / trial_id / "metrics.json").read_text())]
