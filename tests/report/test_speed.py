"""The section about time says what each letter does to bytes and milliseconds, and only of models in the results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bertjax.report.page import write_report
from bertjax.report.speed import in_words, measured, speed_section
from bertjax.report.tables import clean
from bertjax.sweep.latency_file import LATENCY_COLUMNS, write_latency
from tests.report.conftest import make_run

MS = {"none": 8.0, "Q": 4.0, "P": 8.1, "QP": 4.05}
MB = {"none": 40.0, "Q": 10.0, "P": 20.0, "QP": 5.0}


def lines(results: pd.DataFrame) -> list[dict[str, str]]:
    """What bench inference wrote: every trial in two runtimes at two batch sizes, float ones also quantized after."""
    made: list[dict[str, Any]] = []
    for row in results.to_dict("records"):
        ms = MS[row["methods"]]
        runtimes = {"jax": 2 * ms, "onnxruntime": ms} | (
            {"onnxruntime int8_dynamic": 4.2} if row["methods"] == "none" else {}) | (
            {"onnxruntime static": ms / 2} if "Q" in row["methods"] else {})
        made += [dict.fromkeys(LATENCY_COLUMNS, "") | {
            "trial_id": row["trial_id"], "task": row["task"], "methods": row["methods"], "runtime": runtime,
            "batch_size": size, "threads": 1, "cpu": "a CPU", "p50_ms": size * time, "p95_ms": size * time,
            "rows_per_second": 1000 / time, "speedup": 8.0 / time, "score": row["score"], "num_bytes": 5e7}
            for runtime, time in runtimes.items() for size in (1, 8)]
    return [{name: str(value) for name, value in line.items()} for line in made]


@pytest.fixture
def results(row) -> pd.DataFrame:
    return clean(pd.DataFrame([
        row(methods, score=80.0 + seed, seed=seed) | {"size_bytes_disk": 1e6 * MB[methods]}
        for methods in MS for seed in (0, 1)]))


def test_the_letters_in_words(results: pd.DataFrame) -> None:
    quantized, pruned, static = in_words(measured(lines(results), results))
    assert quantized == ("Q saves bytes and time (2.00× as fast, 4.00× smaller as a packed file; median over 4 pairs "
                         "of models in ONNX Runtime that differ in nothing else).")
    assert pruned.startswith("P saves bytes and not time: the runtime multiplies by zeros as by other numbers (0.99×")
    assert static == ("Fixed scales for the activations of a model with Q (static) are 2.00× as fast as training's one "
                      "for each token, at +0.00 points (median over 4 measurements).")


def test_models_are_paired_with_their_own_kind_alone(results: pd.DataFrame, row) -> None:
    other = results.assign(num_hidden_layers=1.0, trial_id=results["trial_id"] + "x")
    both = clean(pd.concat([results, other[other["methods"] == "Q"]]))
    assert "median over 4 pairs" in in_words(measured(lines(both), both))[0]


def test_the_section_has_a_plot_per_batch_and_a_line_per_runtime(results: pd.DataFrame) -> None:
    section = speed_section(lines(results), results)
    assert section is not None
    assert [figure.panel for figure in section.figures] == ["mrpc, batch 1", "mrpc, batch 8"]
    assert section.figures[0].title == "Q static is the fastest: 2 ms, 80.5 points"
    (table,) = section.tables
    assert table.columns == ("model", "batch 1", "batch 8", "score", "MB as run", "MB of the packed file")
    assert [(line[0].text, line[0].sub, line[1].text, line[2].text) for line in table.rows][1:3] == [
        ("none", ("onnxruntime",), "8.00", "64.00"), ("none", ("onnxruntime int8_dynamic",), "4.20", "33.60")]
    assert "a CPU, 1 thread)" in section.lead


def test_without_measurements_of_these_models_there_is_no_section(results: pd.DataFrame) -> None:
    assert speed_section([], results) is None
    assert speed_section(lines(results.assign(trial_id="other")), results) is None


def test_the_page_has_the_section(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", seeds=1)
    results = clean(pd.read_csv(run / "results.csv"))
    some = results[results["methods"].isin(list(MS)) & (results["status"] == "done")]
    write_latency(run, lines(some))
    page = write_report(run).read_text()
    assert "Score against time" in page and "P saves neither bytes nor time" in page
    assert (run / "report" / "score_against_time.png").stat().st_size > 10_000
