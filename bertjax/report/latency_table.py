"""An inference benchmark on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from bertjax.words import number_of


def latency_tables(result: Mapping[str, Any]) -> Group:
    """A table for each batch size, with a line per model and runtime; and below them what they were measured on.

    Args:
        result: What `bertjax.artifact.inference.bench.bench_inference` returns.
    """
    tables = []
    for size in dict.fromkeys(row["batch_size"] for row in result["rows"]):
        table = Table("model", "runtime", title=f"batch {size}")
        for title in ("p50 ms", "p95 ms", "rows/s", "×", "score", "MB as run"):
            table.add_column(title, justify="right")
        for row in result["rows"]:
            if row["batch_size"] == size:
                table.add_row(Text(row["artifact"]), Text(row["runtime"]),  # Text: brackets are not markup
                              f"{row['p50_ms']:.2f}", f"{row['p95_ms']:.2f}", f"{row['rows_per_second']:.0f}",
                              f"{row['speedup']:.2f}", f"{row['score']:.2f}", f"{row['num_bytes'] / 1e6:.1f}")
        tables.append(table)
    return Group(*tables, Text("\n".join(conditions(result))))


def conditions(result: Mapping[str, Any]) -> list[str]:
    """What the numbers mean and were measured on, a line each."""
    lines = [
        f"{result['task']}, {result['cpu']}. ONNX Runtime and PyTorch: {number_of('thread', result['threads'])}; "
        f"JAX: {result['jax_device']}, XLA takes the {number_of('CPU', result['jax_cpus'])} of the process",
        f"{number_of('round', result['rounds'])} in turns, on at most {result['batches']} batches of each size. "
        "×: rows/s over those of the float model of that shape in ONNX Runtime. MB as run: of the ONNX file; in JAX "
        "and PyTorch of the weights in memory",
        "int8_weight_only and int4_weight_only leave the embeddings in float" if any(
            "weight_only" in row["runtime"] for row in result["rows"]) else "",
        f"the machine was not quiet: its load was {result['load_before']:.1f} before the start"
        if (result["load_before"] or 0) > 0.5 else "",
        *(f"left out: {line}" for line in result["left_out"]),
    ]
    return [line for line in lines if line]
