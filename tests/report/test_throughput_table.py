"""A training benchmark as people read it."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from bertjax.report.throughput_table import LINES, conditions, throughput_table

SPREAD = {name: {"min": 1.0 * unit, "median": 2345.6 * unit, "max": 9876.5 * unit} for _, name, unit, _ in LINES}
RESULT: dict[str, Any] = {
    "task": "mrpc [x]", "model": "m [1]", "layers": 6, "dtype": "float32", "batch_size": 32, "rows": 512, "trials": 8,
    "programs": [{"mesh": {"trial": 4, "data": 2}, "steps": 16, "edges": [20, 40, 60]}], "padding": 0.125,
    "spread": SPREAD, "rounds": [{}, {}], "devices": 8, "device_kind": "TPU v5 lite", "cpu": "A CPU", "cpus": 2,
    "peak_flops_per_s": 150e12, "share_of_peak": 0.3, "datasheet_flops_per_s": 1576e12, "share_of_datasheet": 0.02855,
    "compilations": 3, "compile_seconds": 61.24, "compile_cache_hits": 2, "load_before": 0.1,
    "teacher": {"layers": 12, "rows_per_s": 363.2}, "peak_memory_bytes": 9_100_000_000, "peak_memory_of": "device",
    "profile": {"perfetto": "p/plugins/profile/1/h.trace.json.gz", "tensorboard": "p", "xplane": "x"}}


def test_every_number_has_its_least_median_and_most() -> None:
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(throughput_table(RESULT))
    text = console.export_text()
    assert "mrpc [x], 8 trials, 2 rounds" in text
    for title, _, _, form in LINES:
        (line,) = (line for line in text.splitlines() if line.replace("│", " ").strip().startswith(title))
        assert line.replace("│", " ").split()[-3:] == [format(value, form) for value in (1.0, 2345.6, 9876.5)]


def test_what_the_numbers_were_measured_on_is_said() -> None:
    said = "\n".join(conditions({**RESULT, "load_before": 3.0}))
    for part in ("m [1], 6 layers, float32, batch 32; 512 rows a pass, in 16 steps of 3 lengths; 12.5 % of",
                 "8 × TPU v5 lite, 1 program on mesh trial=4,data=2; A CPU, 2 CPUs", "30.0 % of the 150,000 GFLOP/s",
                 "2.9 % of the 1,576,000 GFLOP/s of bfloat16 by the datasheet", "3 compilations in 61.2 s, 2 of them",
                 "the teacher, 12 layers, forward: 363 rows/s", "at most 9,100 MB of memory, of the device",
                 "load was 3.0", "p/plugins/profile/1/h.trace.json.gz (ui.perfetto.dev)", "tensorboard --logdir p"):
        assert part in said
    bare = "\n".join(conditions({**RESULT, "datasheet_flops_per_s": None, "teacher": None, "peak_memory_bytes": None,
                                 "profile": None, "load_before": None, "compile_cache_hits": 0}))
    for part in ("datasheet", "teacher", "memory", "trace", "load", "cache"):
        assert part not in bare
