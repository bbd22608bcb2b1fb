"""What TensorBoard is told: every loss of every trial at its step, and nothing twice after a restart."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from bertjax.config import InputError
from bertjax.sweep.scalars import Scalars, require_tensorboard
from bertjax.train.running import Progress
from bertjax.train.state import StepMetrics
from tests.events import shown
from tests.train.toy import Toy, make_toy


def chunk(step: int, losses: list[list[list[float]]]) -> Progress:
    """The progress after a step; losses by group, step and trial. The other metrics are tenfold and hundredfold."""
    metrics = tuple(StepMetrics(*(factor * np.array(group, np.float32) for factor in (1, 10, 100))) for group in losses)
    return Progress(step, 10, 0, 1.0, np.ones(1), metrics)


@pytest.fixture(scope="module")
def toy() -> Toy:
    return make_toy()


def test_each_trial_has_its_losses_at_their_steps(toy: Toy, tmp_path: Path) -> None:
    """Those of copies that fill up the mesh belong to nobody."""
    trials = [toy.trial("none"), toy.trial("Q"), toy.trial("P", num_hidden_layers=3)]
    scalars = Scalars(tmp_path, trials)
    scalars.step(chunk(2, [[[1, 2, 2], [3, 4, 4]], [[5, 5], [6, 6]]]))
    scalars.step(chunk(3, [[[7, 8, 8]], [[9, 9]]]))
    scalars.epochs(trials[1], [{"epoch": 1, "step": 3, "score": 80.5, "select_score": None}])
    scalars.close()
    folders = {trial.methods: next((tmp_path / "toy").glob(f"*/* {trial.trial_id}")) for trial in trials}
    assert folders["P"].parent.name == "toy 3 layers" and folders["none"].name.startswith("none seed 0 ")
    assert shown(folders["none"])["train/loss"] == {1: 1, 2: 3, 3: 7}
    assert shown(folders["P"])["train/task_loss"] == {1: 20, 2: 40, 3: 80}
    assert shown(folders["Q"]) == {"train/loss": {1: 5, 2: 6, 3: 9}, "train/task_loss": {1: 50, 2: 60, 3: 90},
                                   "train/grad_norm": {1: 500, 2: 600, 3: 900}, "dev/score": {3: 80.5}}


def test_a_program_that_goes_on_shows_no_step_twice(toy: Toy, tmp_path: Path) -> None:
    """One that was killed after step 4, whose checkpoint is of step 2."""
    trial = toy.trial("none")
    for step, losses in ((4, [1, 2, 3, 4]), (3, [30])):
        scalars = Scalars(tmp_path, [trial])
        scalars.step(chunk(step, [[[loss] for loss in losses]]))
        scalars.close()
    assert shown(next(tmp_path.glob("toy/*/*")))["train/loss"] == {1: 1, 2: 2, 3: 30}


def test_without_the_package_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    require_tensorboard()
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(InputError, match=r"bertjax\[tensorboard\]"):
        require_tensorboard()
