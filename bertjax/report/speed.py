"""What `bertjax bench inference` measured of a run's models, as a section of the page: score against milliseconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bertjax.artifact.inference.latency import ONNX, STATIC
from bertjax.artifact.size import BYTES_PER_MB
from bertjax.report.plots import Figure, latency_chart
from bertjax.report.sections import EMPTY, Cell, PageTable, Section
from bertjax.report.tables import labels, pareto_front
from bertjax.words import number_of

SETTINGS = ("task", "methods", "model", "num_hidden_layers", "sparsity", "weight_bits")
"""Of a model: what its bytes and its time can depend on."""

CONDITIONS = ("runtime", "batch_size", "threads", "cpu")
"""Of a measurement."""

SAME = 0.05
"""Of ratios of time and bytes: differences up to this count as none."""

NUMBERS = ("batch_size", "threads", "p50_ms", "p95_ms", "rows_per_second", "speedup", "score", "num_bytes")


def speed_section(rows: Sequence[Mapping[str, str]], results: pd.DataFrame) -> Section | None:
    """The section; None where no model of the results was measured.

    Args:
        rows: Of `bertjax.sweep.latency_file.latency_rows`.
        results: Rows of `tables.clean`.
    """
    table = measured(rows, results) if rows else results.iloc[:0]
    if table.empty:
        return None
    exported = table[table["runtime"].str.startswith(ONNX)]
    figures = [Figure(f"{task}, batch {size:g}", title(part), latency_chart(marks(part), results))
               for (task, size), part in exported.groupby(["task", "batch_size"], sort=False)]
    tables = [latency_table(part, str(task)) for task, part in table.groupby("task", sort=False)]
    conditions = "; ".join(dict.fromkeys(
        f"{row['cpu']}, {number_of('thread', int(row['threads']))}" for row in table.to_dict("records")))
    return Section(
        "Score against time",
        "Milliseconds that a batch of dev rows takes, as long as its longest row (in JAX up to the next of a few "
        "lengths); the plots are of ONNX Runtime "
        f"({conditions}). × is rows per second over those of the float model in ONNX Runtime. A scheme behind the "
        "runtime, such as int8_dynamic, is quantization of the finished model without training; static is a model with "
        "Q as `export --static-activations` writes it, unless that loses more than a point of score. MB as run are "
        "those of the ONNX file, in JAX and PyTorch of the weights in memory.",
        tuple(tables), tuple(in_words(table)), tuple(figures), "score_against_time")


def measured(rows: Sequence[Mapping[str, str]], results: pd.DataFrame) -> pd.DataFrame:
    """The measurements of the results' models with their settings; means over the seeds of a setting.

    Columns: those of latency.csv but trial_id, `label` and `file_mb` (of the packed file; NaN where not known).
    """
    known = results.assign(label=labels(results), file_mb=results["size_bytes_disk"] / BYTES_PER_MB)
    table = pd.DataFrame(rows)
    table[list(NUMBERS)] = table[list(NUMBERS)].apply(pd.to_numeric, errors="coerce")
    table = table.drop(columns=["task", "methods"], errors="ignore").merge(
        known[["trial_id", *SETTINGS, "label", "file_mb"]], on="trial_id")
    table = table[(table["p50_ms"] > 0) & table["score"].notna()]
    keys = [*SETTINGS, "label", *CONDITIONS]
    return table.drop(columns="trial_id").groupby(keys, sort=False, dropna=False, as_index=False).mean()


def marks(part: pd.DataFrame) -> pd.DataFrame:
    """What is drawn of one task and batch size, see `plots.latency_chart`."""
    schemes = part["runtime"].str.removeprefix(ONNX)
    return pd.DataFrame({
        "methods": part["methods"], "name": part["methods"] + schemes, "p50_ms": part["p50_ms"], "score": part["score"],
        "on_front": pareto_front(part, "p50_ms", "score"), "setting": part["label"] + schemes,
        "time": [f"{ms:.2f} ms" for ms in part["p50_ms"]], "points": [f"{score:.2f}" for score in part["score"]]})


def title(part: pd.DataFrame) -> str:
    """The fastest of one task and batch size, in words."""
    row = part.loc[part["p50_ms"].idxmin()]
    return (f"{row['label']}{row['runtime'].removeprefix(ONNX)} is the fastest: {row['p50_ms']:.3g} ms, "
            f"{row['score']:.1f} points")


def latency_table(part: pd.DataFrame, task: str) -> PageTable:
    """All models and runtimes of one task; a column for each batch size."""
    sizes = sorted(part["batch_size"].unique())
    lines = []
    for (label, runtime), group in part.groupby(["label", "runtime"], sort=False):
        by_size = {row["batch_size"]: row for row in group.to_dict("records")}
        first = group.iloc[0]
        lines.append((Cell(str(label), (str(runtime),)), *(_time(by_size.get(size)) for size in sizes),
                      Cell(f"{first['score']:.2f}"), Cell(f"{first['num_bytes'] / BYTES_PER_MB:.1f}"),
                      Cell(f"{first['file_mb']:.1f}" if np.isfinite(first["file_mb"]) else "–")))
    heads = ("model", *(f"batch {size:g}" for size in sizes), "score", "MB as run", "MB of the packed file")
    return PageTable(heads, tuple(lines), f"{task}: median milliseconds of a batch.")


def _time(row: Mapping[Any, Any] | None) -> Cell:
    return EMPTY if row is None else Cell(
        f"{row['p50_ms']:.2f}", (f"95 %: {row['p95_ms']:.2f}", f"{row['speedup']:.2f}×"))


def in_words(table: pd.DataFrame) -> list[str]:
    """What each letter does to bytes and to time, over the pairs of models that differ in that letter alone."""
    exported = table[table["runtime"] == ONNX]
    notes = []
    for letter in "QPK":
        own = {"Q": "weight_bits", "P": "sparsity"}.get(letter)
        keys = [name for name in (*SETTINGS, *CONDITIONS) if name != own]
        without = exported.assign(methods=[_with(name, letter) for name in exported["methods"]])
        pairs = exported[exported["methods"].str.contains(letter)].merge(
            without[[letter not in name for name in exported["methods"]]], on=keys,
            suffixes=("", "_without"))
        if len(pairs):
            faster = float((pairs["p50_ms_without"] / pairs["p50_ms"]).median())
            smaller = float((pairs["file_mb_without"] / pairs["file_mb"]).median())
            notes.append(_verdict(letter, faster, smaller, len(pairs)))
    pairs = table[table["runtime"] == f"{ONNX} {STATIC}"].merge(
        exported, on=[name for name in (*SETTINGS, *CONDITIONS) if name != "runtime"], suffixes=("", "_trained"))
    if len(pairs):
        faster = float((pairs["p50_ms_trained"] / pairs["p50_ms"]).median())
        points = float((pairs["score"] - pairs["score_trained"]).median())
        notes.append(f"Fixed scales for the activations of a model with Q (static) are {faster:.2f}× as fast as "
                     f"training's one for each token, at {points:+.2f} points (median over {len(pairs)} measurements).")
    return notes


def _with(methods: str, letter: str) -> str:
    """The subset with one letter more."""
    return "".join(name for name in "QKP" if name in methods or name == letter)


def _verdict(letter: str, faster: float, smaller: float, pairs: int) -> str:
    saves_bytes, saves_time = smaller > 1 + SAME, faster > 1 + SAME
    numbers = (f"{faster:.2f}× as fast, {smaller:.2f}× smaller as a packed file" if np.isfinite(smaller) else
               f"{faster:.2f}× as fast")
    what = ("saves bytes and time" if saves_bytes and saves_time else "saves bytes and not time" if saves_bytes else
            "saves time" if saves_time else "saves neither bytes nor time")
    why = ": the runtime multiplies by zeros as by other numbers" if letter == "P" and not saves_time else ""
    return (f"{letter} {what}{why} ({numbers}; median over {number_of('pair', pairs)} of models in ONNX Runtime "
            "that differ in nothing else).")
