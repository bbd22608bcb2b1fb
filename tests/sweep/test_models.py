"""A model that was kept computes what its trial's evaluation computed, in the type it was trained in."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bertjax.artifact.exports.export import export
from bertjax.artifact.load import load
from bertjax.artifact.packed.model import PACKED_FILE
from bertjax.artifact.packed_folder import pack_folder
from bertjax.config import FLOAT
from bertjax.data.sources import load_task
from bertjax.study import StudyConfig
from bertjax.sweep.ledger import Ledger
from bertjax.sweep.models import keep_best
from bertjax.sweep.run import run_study
from bertjax.sweep.run_dir import RunDir
from tests.run_dir import make_run_dir


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float32", marks=pytest.mark.slow),
                                   pytest.param("bfloat16_products", marks=pytest.mark.slow)])
def test_loaded_logits_are_the_predictions_of_the_trial(study: StudyConfig, tmp_path: Path, dtype: str) -> None:
    asked = replace(study, methods=("none", "QP"), train=replace(study.train, epochs=2, dtype=dtype))
    results = run_study(asked, tmp_path, keep_models="all")
    data = load_task("colours", study.data)
    for name in results["trial_id"]:
        trial = tmp_path / "trials" / name
        with np.load(trial / "predictions.npz", allow_pickle=False) as stored:
            predicted = stored["logits"]
        for folder in (trial / "model", trial / "packed"):
            model = load(folder)
            assert model.dtype == dtype
            logits = model.task_logits(data.task, data.dev["validation"])
            np.testing.assert_allclose(logits, predicted, atol=1e-5)
            other = replace(model, dtype="float32").task_logits(data.task, data.dev["validation"])
            if dtype == "bfloat16":
                assert np.abs(other - predicted).max() > 1e-3
            elif dtype == "bfloat16_products" and model.quantize == FLOAT:  # Q's products are of integers
                assert np.abs(other - predicted).max() > 1e-4
            else:
                np.testing.assert_allclose(other, predicted, atol=1e-5)
        pack_folder(trial, tmp_path / f"packed-{name}")
        assert (tmp_path / f"packed-{name}" / PACKED_FILE).read_bytes() == (trial / "packed" / PACKED_FILE).read_bytes()
        # In float32, which is within an export's tolerance of the model in float32 alone.
        assert export(trial, "hf", tmp_path / f"hf-{name}").parity.rows > 0
        extras = json.loads((trial / "model" / "config.json").read_text())["bertjax"]
        assert ("dtype" in extras) == (dtype != "float32")  # as a former version wrote it


def test_the_best_of_several_programs_stays_and_of_equals_the_first_by_their_order(
    study: StudyConfig, tmp_path: Path
) -> None:
    scores = {"a": 50.0, "b": 70.0, "c": 70.0, "d": 60.0, "e": 90.0}
    trials = {name: ("colours", "K" if name == "d" else "P") for name in scores}
    folder = make_run_dir(tmp_path, trials, None, study.data)
    for name, score in scores.items():
        result = folder / "trials" / name / "result.json"
        result.write_text(json.dumps(json.loads(result.read_text()) | {"score": score}))
    shutil.rmtree(folder / "trials" / "e" / "model")  # the best, which was not kept
    keep_best(Ledger(RunDir(folder)), ["a", "c", "d", "b"])
    assert {path.parent.name for path in folder.glob("trials/*/model")} == {"c", "d"}
    assert len(list(folder.glob("trials/*/result.json"))) == 5
