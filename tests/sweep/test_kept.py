"""Models that a run directory kept, and the table of their latencies."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from bertjax.config import DataConfig, InputError
from bertjax.sweep.kept import LATENCY_COLUMNS, is_run_dir, kept_models, read_latency, write_latency
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


def test_a_run_directory_without_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must hold trained models, got none"):
        kept_models(make_run_dir(tmp_path, {}, None, DATA))


def latency_row(trial_id: str, runtime: str, batch_size: int, p50: float) -> dict[str, Any]:
    return dict.fromkeys(LATENCY_COLUMNS, "") | {
        "trial_id": trial_id, "runtime": runtime, "batch_size": batch_size, "p50_ms": p50, "other": "left out"}


def rows_of(path: Path) -> list[tuple[str, str, str, str]]:
    with path.open(newline="") as file:
        return [(row["trial_id"], row["runtime"], row["batch_size"], row["p50_ms"]) for row in csv.DictReader(file)]


def test_a_new_measurement_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    write_latency(tmp_path, [latency_row("1", "jax", 1, 5.0), latency_row("1", "jax", 8, 6.0)])
    path = write_latency(tmp_path, [latency_row("1", "jax", 8, 7.0), latency_row("2", "jax", 1, 8.0)])
    assert rows_of(path) == [("1", "jax", "1", "5.0"), ("1", "jax", "8", "7.0"), ("2", "jax", "1", "8.0")]
    assert path.read_text().splitlines()[0] == ",".join(LATENCY_COLUMNS)
    assert [file.name for file in tmp_path.iterdir()] == ["latency.csv"]


def test_times_of_two_machines_are_not_mixed(tmp_path: Path) -> None:
    def row(trial_id: str, p50: float, threads: int, cpu: str, runtime: str = "jax") -> dict[str, Any]:
        return latency_row(trial_id, runtime, 1, p50) | {"threads": threads, "cpu": cpu}

    write_latency(tmp_path, [row("1", 5.0, 1, "a"), row("2", 6.0, 1, "a"), row("1", 9.0, 1, "a", "onnxruntime")])
    assert read_latency(tmp_path, "jax", 1) == {"1": 5.0, "2": 6.0}
    for threads, cpu in ((2, "a"), (1, "b")):
        write_latency(tmp_path, [row("1", 3.0, threads, cpu)])  # stood first in the file
        assert read_latency(tmp_path, "jax", 1) == {"1": 3.0}
        write_latency(tmp_path, [row("2", 4.0, threads, cpu)])
        assert read_latency(tmp_path, "jax", 1) == {"1": 3.0, "2": 4.0}
    assert read_latency(tmp_path, "onnxruntime", 1) == {"1": 9.0}


def test_another_file_in_its_place_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "latency.csv").write_text("mine\n1\n")
    with pytest.raises(InputError, match=r"latency.csv must have the columns trial_id, .*move it away"):
        write_latency(tmp_path, [])
    assert (tmp_path / "latency.csv").read_text() == "mine\n1\n"
