"""One of the processes of `test_processes`, which does something with the others and writes what came out.

    python -m tests.train.member COORDINATOR COUNT INDEX FOLDER talk|place|train
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from bertjax import interrupts
from bertjax.config import InputError
from bertjax.interrupts import Interrupted
from bertjax.train import processes
from bertjax.train.checkpoint import Checkpoints, Snapshot
from bertjax.train.loop import Fit
from bertjax.train.mesh import make_mesh
from bertjax.train.program import CompiledChunks, everywhere, one_trial, place
from bertjax.train.running import Evaluation, Progress
from bertjax.train.trial import TrialConfig
from tests.train.toy import EDGES, Toy, make_toy

SHAPE = (2, 2)
STOPPED_AT = 6


def raising(error: Exception) -> Callable[[], None]:
    """What fails when it is called."""
    def fail() -> None:
        raise error

    return fail


def raised_by(action: Callable[[], object]) -> str:
    """What an action raises, in words."""
    try:
        action()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def talk(folder: Path, index: int) -> None:
    """What processes say to each other: many questions too, so that old answers are removed; then a common failure."""
    for number in range(600):
        assert processes.from_first(lambda number=number: number if index == 0 else None) == number
    told: dict[str, Any] = {"all": processes.from_all(index), "failures": [
        raised_by(lambda: processes.from_first(raising(InputError("wrong")))),
        raised_by(lambda: processes.from_first(raising(KeyError("lost")))),
        raised_by(lambda: processes.require_same("a number", 1)),
        raised_by(lambda: processes.require_same("the index", index))]}
    if index:  # process 0 fails before a question that the others have asked
        assert processes._group is not None
        processes._group.next_key()
    processes.all_failed(KeyError("a collective"))
    told["again"], told["turns"] = processes.from_all(index), []
    with interrupts.handled(), interrupts.deferred():
        if index:
            os.kill(os.getpid(), signal.SIGTERM)
        while len(told["turns"]) < 3 and not any(number for _, number in told["turns"]):
            told["turns"].append(processes.turn(lambda: index))
            processes.from_all(None)  # as a chunk of training, in which no process is ahead of the others
    (folder / f"talk{index}.json").write_text(json.dumps(told))


def state(mesh: Mesh, factor: int = 1) -> dict[str, jax.Array]:
    """Arrays whose trials are on several processes, and one that all have."""
    made = {"trials": factor * np.arange(24.0, dtype=np.float32).reshape(4, 6), "step": np.int32(factor)}
    return place(made, {"trials": P("trial"), "step": P()}, mesh)


def lay(folder: Path, index: int) -> None:
    """Arrays on devices of several processes: placed, brought home, stored and read; a checkpoint that is damaged."""
    mesh = make_mesh((jax.device_count() // 2, 2))
    split = place(np.arange(32).reshape(4, 8), P("trial", "data"), mesh)
    np.save(folder / f"everywhere{index}.npy", everywhere(split))
    np.save(folder / f"trial{index}.npy", one_trial(state(mesh)["trials"], 3))
    stored = Checkpoints(epath.Path(folder / "program"), 3600)
    stored.begin(["a"])
    for step in (1, 2):
        stored.save(Snapshot(step, state(mesh, step), {"seconds": np.array(step)}))
        stored.finish()
    said: dict[str, Any] = {"manifests": len(list((folder / "program").glob("*/manifest.json")))}
    steps = []
    for _ in range(2):
        found = stored.restore(state(mesh, 0))
        assert found is not None
        steps.append([found.step, int(found.history["seconds"]), one_trial(found.state["trials"], 3).tolist()])
        processes.from_all(None)
        if index == 0:
            (folder / "program" / "2" / "history.npz").write_bytes(b"")
        processes.from_all(None)
    stored.drop()
    alone = Checkpoints(epath.Path(folder / "alone"), 3600).restore(state(mesh, 0))
    assert alone is not None
    steps.append([alone.step, int(alone.history["seconds"]), one_trial(alone.state["trials"], 3).tolist()])
    processes.from_all(None)
    said |= {"steps": steps, "left": (folder / "program").exists()}
    (folder / f"place{index}.json").write_text(json.dumps(said))


def study(toy: Toy) -> list[TrialConfig]:
    """Of one group: with Q they would take twice as long to compile, and nothing else would be different."""
    return [toy.trial("none"), toy.trial("KP", seed=7)]


def scores(evaluation: Evaluation) -> list[np.ndarray]:
    """The second epoch is better for some trials."""
    return [np.where(np.arange(len(group)) % 2 == 0, 1, -1) * evaluation.epoch for group in evaluation.logits]


def made(fitted: Fit) -> dict[str, np.ndarray]:
    """All that a program leaves, on the host."""
    (group,), (metrics,) = fitted.groups, fitted.metrics
    found = {f"metrics.{name}": values for name, values in metrics._asdict().items()}
    found |= {f"logits.{evaluation.epoch}": evaluation.logits[0] for evaluation in fitted.evaluations}
    for trial in range(2):
        for number, leaf in enumerate(jax.tree.leaves(one_trial((group.params, group.masks), trial))):
            found[f"trial.{trial}.{number:02}"] = leaf
    return found


def fit(toy: Toy, checkpoints: Checkpoints | None, chunks: CompiledChunks | None = None, listener: Any = None) -> Any:
    """The study on the mesh."""
    return toy.fit(study(toy), make_mesh(SHAPE), evaluate=True, steps_per_chunk=2, scorer=scores, chunks=chunks,
                   checkpoints=checkpoints, listener=listener, edges=EDGES[1:])


def train(folder: Path, index: int) -> None:
    """The study to its end; then until the last process gets a signal, and from there."""
    toy = make_toy()
    fitted, chunks = fit(toy, None)
    np.savez(folder / f"whole{index}.npz", **made(fitted))
    checkpoints = Checkpoints(epath.Path(folder / "checkpoints"), 3600)

    def kill(progress: Progress) -> None:
        if progress.step == STOPPED_AT and index == processes.process_count() - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        with interrupts.handled(processes.signal_grace()):
            fit(toy, checkpoints, chunks, kill)
    except Interrupted as error:
        (folder / f"stopped{index}").write_text(str(error.exit_code))
    seen: list[int] = []
    fitted, _ = fit(toy, checkpoints, chunks, lambda progress: seen.append(progress.step))
    (folder / f"first{index}").write_text(str(seen[0]))
    np.savez(folder / f"resumed{index}.npz", **made(fitted))


def report(error: BaseException) -> int:
    """Says what ended this process."""
    traceback.print_exception(error)
    return 1


if __name__ == "__main__":
    place_, count_, index_, folder_, *what = sys.argv[1:]
    with processes.joined(place_, int(count_), int(index_), report):
        for name in what:
            {"talk": talk, "place": lay, "train": train}[name](Path(folder_), int(index_))
