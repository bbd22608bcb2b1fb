"""A made-up run directory: eight subsets, three seeds, two tasks, a 3-layer student of hidden size 384."""

import hashlib
import json
import math
import random
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from bertjax.artifact.size import size_bytes_fp32, size_bytes_paper
from bertjax.config import to_json
from bertjax.study import METHODS, StudyConfig
from bertjax.sweep.results import RESULT_COLUMNS

PARAMS, LINEAR = 17_386_368, 5_308_416
TASKS = {"mrpc": 82.4, "gloss-pair": 76.3}
GAIN = {"none": 0, "Q": -0.4, "K": 1.1, "P": -1.6, "QK": 0.8, "QP": -2.3, "KP": -0.1, "QKP": -0.4}


def make_row(methods: str = "none", task: str = "mrpc", seed: int = 0, score: float | None = 80.0, **changes) -> dict:
    """One line of results.csv; blank where a column does not apply."""
    sparsity, bits = changes.pop("sparsity", 0.6 if "P" in methods else 0), 8 if "Q" in methods else None
    line = dict.fromkeys(RESULT_COLUMNS)
    line.update(
        trial_id=hashlib.sha256(repr((methods, task, seed, sparsity, changes)).encode()).hexdigest()[:12], task=task,
        model="minilm", size="L3H384", num_hidden_layers=3, methods=methods, sparsity=sparsity, weight_bits=bits,
        activation_bits=bits, distill_weight=0.5 if "K" in methods else 0, temperature=2 if "K" in methods else 1,
        seed=seed, learning_rate=1e-4, epochs=3, steps=345, status="done", score=score, score_movva=score,
        accuracy=score, f1=score, params=PARAMS, size_bytes_fp32=size_bytes_fp32(PARAMS),
        size_bytes_paper=size_bytes_paper(PARAMS, LINEAR, bits, sparsity), train_seconds=21.5)
    return {**line, **changes}


def make_grid(seeds: int = 3, tasks: dict[str, float] = TASKS) -> pd.DataFrame:
    """Scores with a plausible effect per subset and a spread of about half a point over seeds."""
    noise = random.Random(7)
    return pd.DataFrame([
        make_row(methods, task, seed, round(level + GAIN[methods] + noise.gauss(0, 0.45), 2),
                 teacher="teacher" if "K" in methods else None)
        for task, level in tasks.items() for methods in METHODS for seed in range(seeds)])


def make_run(folder: Path, seeds: int = 3) -> Path:
    """Writes what a sweep leaves for the report: one diverged trial among finished ones, 3 epochs each."""
    results = make_grid(seeds)
    bad = (results["methods"] == "QP") & (results["seed"] == seeds - 1) & (results["task"] == "mrpc")
    results["score"] = results["score"].astype(float)
    results.loc[bad, ["status", "score", "score_movva", "accuracy", "f1"]] = ["diverged", None, None, None, None]
    folder.mkdir(parents=True, exist_ok=True)
    results.to_csv(folder / "results.csv", index=False)
    pd.DataFrame([make_row("none", task, 0, level + 2.1, num_hidden_layers=6) for task, level in TASKS.items()]).to_csv(
        folder / "teachers.csv", index=False)
    study = StudyConfig("eight-subsets", model="minilm", layers=(3,), tasks=tuple(TASKS), seeds=tuple(range(seeds)))
    (folder / "study.json").write_text(to_json(study))
    noise = random.Random(3)
    for line in results.to_dict("records"):
        records, lost = [], line["status"] != "done"
        for epoch in range(1, 4):
            early = 0 if epoch == 3 else 9 * math.exp(-1.3 * epoch) + noise.gauss(0, 0.2)
            score = None if lost else line["score"] - early
            loss = float("nan") if lost else 0.22 + 0.5 * math.exp(-0.8 * epoch) - 0.02 * GAIN[line["methods"]]
            records.append({"epoch": epoch, "step": 115 * epoch, "train_loss": loss, "score": score, "accuracy": score})
        trial = folder / "trials" / line["trial_id"]
        trial.mkdir(parents=True, exist_ok=True)
        (trial / "metrics.json").write_text(json.dumps(records))
    return folder


@pytest.fixture(scope="session")
def row() -> Callable[..., dict]:
    """Makes one line of results.csv."""
    return make_row


@pytest.fixture(scope="session")
def grid() -> Callable[..., pd.DataFrame]:
    """Makes the results of the made-up study."""
    return make_grid


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "eight-subsets")
