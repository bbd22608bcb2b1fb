"""A model that was kept computes what its trial's evaluation computed, in the type it was trained in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bertjax.artifact.exports.export import export
from bertjax.artifact.load import load
from bertjax.artifact.packed.model import PACKED_FILE
from bertjax.artifact.packed_folder import pack_folder
from bertjax.data.sources import load_task
from bertjax.study import StudyConfig
from bertjax.sweep.run import run_study


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float32", marks=pytest.mark.slow)])
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
            if dtype == "bfloat16":
                other = replace(model, dtype="float32").task_logits(data.task, data.dev["validation"])
                assert np.abs(other - predicted).max() > 1e-3
        pack_folder(trial, tmp_path / f"packed-{name}")
        assert (tmp_path / f"packed-{name}" / PACKED_FILE).read_bytes() == (trial / "packed" / PACKED_FILE).read_bytes()
        # In float32, which is within an export's tolerance of the model in float32 alone.
        assert export(trial, "hf", tmp_path / f"hf-{name}").parity.rows > 0
        extras = json.loads((trial / "model" / "config.json").read_text())["bertjax"]
        assert ("dtype" in extras) == (dtype == "bfloat16")  # as a former version wrote it
