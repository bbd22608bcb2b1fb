"""The table of latencies in a run directory."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from bertjax.artifact.inference.latency import JAX, ONNX, STATIC, Latency
from bertjax.config import InputError
from bertjax.sweep.latency_file import LATENCY_COLUMNS, read_latency, write_latency
from bertjax.sweep.results import RESULT_COLUMNS


def latency_row(trial_id: str, runtime: str, batch_size: int, p50: float) -> dict[str, Any]:
    return dict.fromkeys(LATENCY_COLUMNS, "") | {
        "trial_id": trial_id, "runtime": runtime, "batch_size": batch_size, "p50_ms": p50, "p95_ms": 2 * p50,
        "rows_per_second": 1e3 / p50, "other": "left out"}


def p50(run_dir: Path, runtime: str) -> dict[str, float]:
    return {trial_id: measured.p50_ms for trial_id, measured in read_latency(run_dir, runtime).items()}


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
    assert p50(tmp_path, "jax") == {"1": 5.0, "2": 6.0}
    for threads, cpu in ((2, "a"), (1, "b")):
        write_latency(tmp_path, [row("1", 3.0, threads, cpu)])  # stood first in the file
        assert p50(tmp_path, "jax") == {"1": 3.0}
        write_latency(tmp_path, [row("2", 4.0, threads, cpu)])
        assert p50(tmp_path, "jax") == {"1": 3.0, "2": 4.0}
    assert p50(tmp_path, "onnxruntime") == {"1": 9.0}


def test_another_file_in_its_place_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "latency.csv").write_text("mine\n1\n")
    with pytest.raises(InputError, match=r"latency.csv must have the columns trial_id, .*move it away"):
        write_latency(tmp_path, [])
    assert (tmp_path / "latency.csv").read_text() == "mine\n1\n"


def test_the_columns_of_results_are_those_of_the_exported_model_at_batch_1(tmp_path: Path) -> None:
    runtimes = JAX, ONNX, f"{ONNX} {STATIC}"
    write_latency(tmp_path, [latency_row("1", runtime, size, 4.0 * size) for runtime in runtimes for size in (8, 1)])
    assert read_latency(tmp_path) == {"1": Latency(p50_ms=4.0, p95_ms=8.0, rows_per_second=250.0)}
    assert set(Latency._fields) <= {*LATENCY_COLUMNS} & {*RESULT_COLUMNS}


@pytest.mark.parametrize("p50_text", ["fast", ""])
def test_no_number_where_one_must_be_is_one_line(tmp_path: Path, p50_text: str) -> None:
    write_latency(tmp_path, [latency_row("1", ONNX, 1, 4.0) | {"p50_ms": p50_text}])
    with pytest.raises(InputError, match=r"latency.csv must have numbers in p50_ms, .*move it away"):
        read_latency(tmp_path)
