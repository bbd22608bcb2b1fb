"""Models that a run directory kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bertjax.config import DataConfig, InputError
from bertjax.sweep.kept import is_run_dir, kept_models
from tests.run_dir import make_run_dir

DATA = DataConfig(data_dir="d", text_columns=("a", "b"), max_length=16)


def test_the_kept_models_of_a_task_come_with_their_data(tmp_path: Path) -> None:
    assert not is_run_dir(tmp_path)
    run = make_run_dir(tmp_path, {"1a": ("rte", "none"), "2b": ("rte", "Q"), "3c": ("cola", "K"), "4d": ("rte", "P"),
                                  "5e": ("rte", "KP")}, None, DATA)
    shutil.rmtree(run / "trials" / "4d" / "model")  # not kept
    row = json.loads((run / "trials" / "5e" / "result.json").read_text())
    (run / "trials" / "5e" / "result.json").write_text(json.dumps({**row, "status": "diverged"}))
    assert is_run_dir(run)
    found = kept_models(run, "rte")
    assert [(model.name, model.folder) for model in found] == [
        ("none 1a", run / "trials" / "1a"), ("Q 2b", run / "trials" / "2b")]
    assert all(model.data == DATA for model in found)
    with pytest.raises(InputError, match="holds models of cola, rte: choose one by --task"):
        kept_models(run)
    with pytest.raises(InputError, match="holds models of cola, rte, none of sst2"):
        kept_models(run, "sst2")
    (run / "trials" / "1a" / "config.json").write_text("{")
    with pytest.raises(InputError, match="1a/config.json must be a trial's config"):
        kept_models(run, "rte")


def test_depths_and_seeds_choose_among_them(tmp_path: Path) -> None:
    trials = {"1a": ("rte", "none"), "2b": ("rte", "Q"), "3c": ("rte", "K")}
    run = make_run_dir(tmp_path, trials, None, DATA)
    for trial_id, layers, seed in (("1a", 6, 0), ("2b", 3, 0), ("3c", 6, 1)):
        file = run / "trials" / trial_id / "result.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "num_hidden_layers": layers, "seed": seed}))
    assert {model.trial_id for model in kept_models(run, layers=(6,))} == {"1a", "3c"}
    assert [model.trial_id for model in kept_models(run, layers=(6,), seeds=(0, 2))] == ["1a"]
    with pytest.raises(InputError, match="holds no model of layers 5, but of [36], [36]"):
        kept_models(run, layers=(5,))
    with pytest.raises(InputError, match="holds no model of seed 1, but of 0"):
        kept_models(run, layers=(3,), seeds=(1,))


def test_a_run_directory_without_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must hold trained models, got none"):
        kept_models(make_run_dir(tmp_path, {}, None, DATA))
