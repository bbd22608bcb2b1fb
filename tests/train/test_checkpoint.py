"""Checkpoints: a program that goes on from one ends with the same bits, and a damaged one is never read."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import optax
import pytest
from etils import epath
from jax.sharding import Mesh

from bertjax.study import TrialConfig
from bertjax.train import checkpoint
from bertjax.train.checkpoint import Checkpoints, Snapshot, begun_programs
from bertjax.train.loop import Fit
from bertjax.train.mesh import make_mesh
from bertjax.train.program import CompiledChunks, place_group
from bertjax.train.running import Evaluation, Progress, Scorer
from bertjax.train.state import TrainState
from bertjax.train.trial import Order, split_groups
from tests.train.toy import SEEDS, Toy, make_toy


class Killed(BaseException):
    """As if the process were gone."""


@dataclass
class KilledAt:
    """A listener that ends the program after a step."""

    step: int

    def __call__(self, progress: Progress) -> None:
        if progress.step >= self.step:
            raise Killed


@pytest.fixture(scope="module")
def toy() -> Toy:
    return make_toy()


@pytest.fixture(scope="module")
def trials(toy: Toy) -> list[TrialConfig]:
    """Of one group, which compiles soonest: what a checkpoint keeps of a group is the same with Q."""
    return [toy.trial("none"), toy.trial("KP", seed=7)]


def scores(evaluation: Evaluation) -> list[np.ndarray]:
    """The second epoch is better for some trials."""
    return [np.where(np.arange(len(group)) % 2 == 0, 1, -1) * evaluation.epoch for group in evaluation.logits]


@pytest.fixture(scope="module")
def whole(toy: Toy, trials: list[TrialConfig]) -> tuple[Fit, CompiledChunks]:
    """The program without a checkpoint."""
    return toy.fit(trials, evaluate=True, scorer=scores, steps_per_chunk=2)


def checkpoints(folder: Path, seconds: float = 0.0) -> Checkpoints:
    """A checkpoint after every chunk."""
    return Checkpoints(epath.Path(folder), seconds)


def killed(
    toy: Toy, trials: list[TrialConfig], chunks: CompiledChunks, folder: Path, step: int, scorer: Scorer | None = None
) -> None:
    """Trains until a step."""
    stored = checkpoints(folder)
    with pytest.raises(Killed):
        toy.fit(trials, evaluate=True, scorer=scorer, steps_per_chunk=2, chunks=chunks, checkpoints=stored,
                listener=KilledAt(step))
    stored.wait()


def assert_equal(ours: Fit, theirs: Fit) -> None:
    """To the last bit."""
    for a, b in zip(jax.tree.leaves(ours.groups), jax.tree.leaves(theirs.groups), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(jax.tree.leaves(ours.metrics), jax.tree.leaves(theirs.metrics), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [(made.epoch, made.step) for made in ours.evaluations] == [
        (made.epoch, made.step) for made in theirs.evaluations]
    for a, b in zip(ours.evaluations, theirs.evaluations, strict=True):
        for one, other in zip(a.logits, b.logits, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("step", [1, 6, 7, 12])
def test_a_killed_program_goes_on_to_the_same_bits(
    toy: Toy, trials: list[TrialConfig], whole: tuple[Fit, CompiledChunks], tmp_path: Path, step: int
) -> None:
    """After the first chunk, before and after the evaluation of the first epoch, and at the end."""
    fitted, chunks = whole
    killed(toy, trials, chunks, tmp_path, step, scores)
    seen: list[int] = []
    again, _ = toy.fit(trials, evaluate=True, scorer=scores, steps_per_chunk=3, chunks=chunks,
                       checkpoints=checkpoints(tmp_path), listener=lambda progress: seen.append(progress.step))
    assert_equal(again, fitted)
    assert len(list(tmp_path.iterdir())) <= 2
    assert step < 4 or min(seen, default=99) > step - 2  # what was done is not done again


def test_another_mesh_reads_the_same_bits_and_goes_on(
    toy: Toy, trials: list[TrialConfig], whole: tuple[Fit, CompiledChunks], tmp_path: Path
) -> None:
    """Of 4 devices that share the trials, where copies of the last trial of a group fill it."""
    fitted, chunks = whole
    killed(toy, trials, chunks, tmp_path, 8, scores)
    mesh = make_mesh((4, 1))
    orders = [Order(seed) for seed in SEEDS]
    blank = tuple(place_group(group, toy.initial, orders, 1, mesh)[0] for group in split_groups(trials).values())
    narrow = checkpoints(tmp_path).restore({"groups": fitted.groups, "best": best_of(fitted.groups)})
    wide = checkpoints(tmp_path).restore({"groups": blank, "best": best_of(blank)})
    assert narrow is not None and wide is not None and narrow.step == wide.step
    for a, b in zip(jax.tree.leaves(narrow.state), jax.tree.leaves(wide.state), strict=True):
        assert not b.ndim or len(b) == 4 and len(b.sharding.device_set) == 4
        np.testing.assert_array_equal(np.asarray(b)[:len(a)] if b.ndim else b, a)
        np.testing.assert_array_equal(np.asarray(b)[-1:] if b.ndim else b, a[-1:] if b.ndim else a)

    def next_gradients(groups: tuple[TrainState, ...], before: Any, mesh: Mesh | None) -> list[np.ndarray]:
        """Those of the step after the restored one, from Adam's first moment before and after it (b1 is 0.9)."""
        folder = tmp_path.with_name(f"{tmp_path.name}-{mesh is None}")
        shutil.copytree(tmp_path, folder)
        stored = checkpoints(folder)
        with pytest.raises(Killed):
            toy.fit(trials, mesh, evaluate=True, scorer=scores, steps_per_chunk=1, checkpoints=stored,
                    listener=KilledAt(narrow.step + 2))
        stored.wait()
        after = checkpoints(folder).restore({"groups": groups, "best": best_of(groups)})
        assert after is not None and after.step == narrow.step + 1
        (old,), (new,) = ([optax.tree.get(group.opt_state, "mu") for group in state["groups"]]
                          for state in (before, after.state))
        return [(np.asarray(b) - 0.9 * np.asarray(a))[: len(trials)] / 0.1
                for a, b in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True)]

    ours, theirs = next_gradients(fitted.groups, narrow.state, None), next_gradients(blank, wide.state, mesh)
    assert max(np.abs(gradient).max() for gradient in ours) > 0.01
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


def best_of(groups: tuple[TrainState, ...]) -> tuple:
    """The part of a checkpoint's state that has each trial's best epoch."""
    return tuple((group.params, group.masks) for group in groups)


@pytest.fixture(scope="module")
def written(
    toy: Toy, trials: list[TrialConfig], whole: tuple[Fit, CompiledChunks], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a program with two checkpoints."""
    folder = tmp_path_factory.mktemp("checkpoints") / "program"
    killed(toy, trials, whole[1], folder, 8)
    assert len(list(folder.iterdir())) == 2
    return folder


def restored_step(folder: Path, fitted: Fit) -> int | None:
    """The step that a program without a scorer goes on from, None without a checkpoint."""
    found = checkpoints(folder).restore({"groups": fitted.groups, "best": ()})
    return None if found is None else found.step


def test_damage_of_any_kind_falls_back_to_the_checkpoint_before(
    written: Path, toy: Toy, trials: list[TrialConfig], whole: tuple[Fit, CompiledChunks], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """50 flipped bits, truncated and lost files; TensorStore alone would read most of it."""
    said: list[str] = []
    monkeypatch.setattr(checkpoint.log, "warning", lambda text, *values: said.append(text % values))
    monkeypatch.setattr(checkpoint, "read_state", lambda folder, state: None)  # the files were checked by then
    older, newer = sorted(int(path.name) for path in written.iterdir())
    draw, tried = np.random.default_rng(3), 0
    names = sorted(str(path.relative_to(written)) for path in (written / str(newer)).rglob("*") if path.is_file())
    for number in range(50 + 2 * len(names)):
        folder = tmp_path / str(number)
        shutil.copytree(written, folder)
        file = folder / (names[number % len(names)] if number >= 50 else names[draw.integers(len(names))])
        content = bytearray(file.read_bytes())
        if number < 50 and content:
            content[draw.integers(len(content))] ^= 1 << draw.integers(8)
            file.write_bytes(content)
        elif number < 50 + len(names):
            file.write_bytes(content[:len(content) // 2])
        else:
            file.unlink()
        if file.exists() and file.read_bytes() == (written / file.relative_to(folder)).read_bytes():
            continue  # an empty file cannot be damaged so
        assert restored_step(folder, whole[0]) == older, f"{file.relative_to(folder)}, way {number}"
        tried += 1
        shutil.rmtree(folder)
    assert tried > 50 + len(names) and len(said) == tried - 1  # without its manifest it never was one
    assert all(line.startswith(f"the checkpoint of step {newer} is damaged (") for line in said)


def test_a_relative_folder_is_read_as_it_was_written(
    written: Path, toy: Toy, trials: list[TrialConfig], whole: tuple[Fit, CompiledChunks],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`--run-dir runs/mine`, say: Orbax alone writes there, and finds no metadata."""
    monkeypatch.chdir(written.parent)
    assert restored_step(Path(written.name), whole[0]) == max(int(path.name) for path in written.iterdir())


def test_a_whole_checkpoint_that_cannot_be_read_falls_back_to_the_one_before(
    written: Path, toy: Toy, trials: list[TrialConfig], whole: tuple[Fit, CompiledChunks],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One of another version of bertjax, say."""
    older, newer = sorted(int(path.name) for path in written.iterdir())
    real, said = checkpoint.read_state, []

    def of_another_version(folder: epath.Path, state: object) -> object:
        if folder.name == str(newer):
            raise KeyError("00031")
        return real(folder, state)

    monkeypatch.setattr(checkpoint, "read_state", of_another_version)
    monkeypatch.setattr(checkpoint.log, "warning", lambda text, *values: said.append(text % values))
    assert restored_step(written, whole[0]) == older
    assert said == [f"the checkpoint of step {newer} is whole but cannot be read ('00031'): the one before is taken"]


def test_without_a_whole_checkpoint_a_program_starts_anew(
    written: Path, toy: Toy, trials: list[TrialConfig], whole: tuple[Fit, CompiledChunks], tmp_path: Path
) -> None:
    assert restored_step(tmp_path / "nothing", whole[0]) is None
    shutil.copytree(written, tmp_path / "folder")
    for manifest in (tmp_path / "folder").glob("*/manifest.json"):
        manifest.unlink()
    assert restored_step(tmp_path / "folder", whole[0]) is None


@pytest.mark.parametrize("broken", ["checkpoint.npz", "stored_state.ocp.StandardCheckpointer.save"])
def test_a_checkpoint_that_cannot_be_written_harms_nothing(
    toy: Toy, trials: list[TrialConfig], whole: tuple[Fit, CompiledChunks], written: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, broken: str,
) -> None:
    """The program ends as without, and the checkpoints that were there stay."""
    def full(*_args: object, **_arrays: object) -> bytes:
        raise OSError(28, "No space left on device")

    fitted, chunks = whole
    folder, said = tmp_path / "program", []
    shutil.copytree(written, folder)
    monkeypatch.setattr(f"bertjax.train.{broken}", full)
    monkeypatch.setattr(checkpoint.log, "warning", lambda text, *values: said.append(text % values))
    made, _ = toy.fit(trials, evaluate=True, steps_per_chunk=2, chunks=chunks, checkpoints=checkpoints(folder))
    assert said and all("could not be written, and the training goes on: [Errno 28] No space" in line for line in said)
    np.testing.assert_array_equal(made.metrics[0].loss, fitted.metrics[0].loss)
    monkeypatch.undo()
    assert restored_step(folder, fitted) == max(int(path.name) for path in written.iterdir())
    assert {path.name for path in folder.iterdir()} == {path.name for path in written.iterdir()}


def test_a_checkpoint_without_room_is_not_begun_and_that_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, said = checkpoints(tmp_path / "program"), []
    monkeypatch.setattr(checkpoint.log, "warning", lambda text, *values: said.append(text % values))
    state = jax.numpy.zeros((2, 250_000))  # 2 MB, and one is left for the results
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.shutil, "disk_usage", lambda folder: SimpleNamespace(free=3_000_000))
        for step in (1, 2):
            made.save(Snapshot(step, state, {}))
            made.finish()
    assert said == ["the checkpoint of step 1 could not be written, and the training goes on: [Errno 28] No space left "
                    f"on device: it takes 3.0 MB, and {tmp_path / 'program'} has 3.0"]
    assert list((tmp_path / "program").iterdir()) == []
    made.save(Snapshot(3, state, {}))
    made.finish()
    assert [path.name for path in (tmp_path / "program").iterdir()] == ["3"] and not made.failing


ABANDONED = """
from orbax.checkpoint._src.handlers.base_pytree_checkpoint_handler import BasePyTreeCheckpointHandler
from bertjax.train.stored_state import _hush_failed_saves

async def of_another():
    pass

_hush_failed_saves()
of_another()
made = BasePyTreeCheckpointHandler._write_metadata_after_commits(
    None, [], param_infos={}, save_args={}, custom_metadata=None, use_ocdbt=False, use_zarr3=False)
del made
"""


def test_of_a_failed_save_no_coroutine_is_reported_that_orbax_abandoned() -> None:
    """On a busy machine a full disk is found before Orbax awaits the writing of its metadata."""
    done = subprocess.run([sys.executable, "-W", "always", "-c", ABANDONED], capture_output=True, text=True, check=True)
    assert done.stderr.count("was never awaited") == 1 and "coroutine 'of_another'" in done.stderr


def test_programs_that_were_begun_are_known_by_their_trials(tmp_path: Path) -> None:
    assert begun_programs(epath.Path(tmp_path / "none")) == {}
    checkpoints(tmp_path / "a").begin(["1", "2"])
    checkpoints(tmp_path / "b").begin(["3"])
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "program.json").write_text("{")
    assert list(begun_programs(epath.Path(tmp_path)).values()) == [("1", "2"), ("3",)]
    checkpoints(tmp_path / "a").drop()
    assert begun_programs(epath.Path(tmp_path)) == {tmp_path / "b": ("3",)} and not (tmp_path / "a").exists()
    assert json.loads((tmp_path / "b" / "program.json").read_text()) == ["3"]
