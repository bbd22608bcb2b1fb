"""An inference benchmark as people read it."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from bertjax.report.latency_table import conditions, latency_tables

ROW = {"artifact": "Q [1a]", "runtime": "jax", "batch_size": 1, "p50_ms": 1.234, "p95_ms": 5.678,
       "rows_per_second": 810.4, "speedup": 1.5, "score": 76.7, "num_bytes": 18_100_000}
RESULT: dict[str, Any] = {
    "task": "rte", "cpu": "A CPU", "threads": 1, "jax_cpus": 2, "jax_device": "cpu", "load_before": 0.1, "rounds": 3,
    "batches": 9, "left_out": [], "rows": [ROW, {**ROW, "runtime": "onnxruntime int4_weight_only"},
                                           {**ROW, "batch_size": 32, "p50_ms": 9.99}]}


def test_a_table_for_each_batch_size_has_a_line_for_each_candidate() -> None:
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(latency_tables(RESULT))
    text = console.export_text()
    first, second = text.split("batch 32")
    assert "batch 1" in first and "int4_weight_only" in first and "9.99" not in first
    line = next(line for line in first.splitlines() if "jax" in line)
    assert line.replace("│", " ").split() == ["Q", "[1a]", "jax", "1.23", "5.68", "810", "1.50", "76.70", "18.1"]
    assert "9.99" in second and "A CPU" in second and "MB as run: of the ONNX file; in JAX" in second


def test_what_the_numbers_were_measured_on_is_said() -> None:
    said = "\n".join(conditions({**RESULT, "load_before": 2.0, "left_out": ["PyTorch"]}))
    assert "A CPU" in said and "1 thread;" in said and "2 CPUs" in said and "3 rounds" in said
    assert "leave the embeddings in float" in said and "load was 2.0" in said and "left out: PyTorch" in said
    quiet = "\n".join(conditions({**RESULT, "load_before": None, "rows": [ROW]}))
    assert "load" not in quiet and "left out" not in quiet and "embeddings" not in quiet
