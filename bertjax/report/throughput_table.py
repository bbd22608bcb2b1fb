"""A training benchmark on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from bertjax.words import number_of

LINES = (
    ("trial-examples/s", "trial_examples_per_s", 1.0, ",.1f"),
    ("tokens/s", "tokens_per_s", 1.0, ",.0f"),
    ("computed tokens/s", "computed_tokens_per_s", 1.0, ",.0f"),
    ("model GFLOP/s", "model_flops_per_s", 1e9, ",.1f"),
    ("host ms/chunk", "host_seconds_per_chunk", 1e-3, ",.2f"),
    ("host, % of the time", "host_share", 1e-2, ".2f"),
    ("seconds a pass", "seconds", 1.0, ",.2f"),
)
"""What is shown of each round: title, name in the result, unit, format."""


def throughput_table(result: Mapping[str, Any]) -> Group:
    """A line for each number, with its least, median and most over the rounds; below them what they were measured on.

    Args:
        result: What `bertjax.sweep.throughput.bench_training` returns.
    """
    rounds = number_of("round", len(result["rounds"]))
    title = Text(f"{result['task']}, {number_of('trial', result['trials'])}, {rounds}")  # Text: brackets are not markup
    table = Table("", title=title)
    for column in ("min", "median", "max"):
        table.add_column(column, justify="right")
    for line, name, unit, form in LINES:
        over = result["spread"][name]
        table.add_row(line, *(format(over[which] / unit, form) for which in ("min", "median", "max")))
    return Group(table, Text("\n".join(conditions(result))))


def conditions(result: Mapping[str, Any]) -> list[str]:
    """What the numbers mean and were measured on, a line each."""
    programs, teacher, profile = result["programs"], result["teacher"], result["profile"]
    meshes = dict.fromkeys(",".join(f"{axis}={size}" for axis, size in one["mesh"].items()) for one in programs)
    steps = sum(one["steps"] for one in programs)
    lines = [
        f"{result['model']}, {number_of('layer', result['layers'])}, {result['dtype']}, batch {result['batch_size']}; "
        f"{number_of('row', result['rows'])} a pass, in {number_of('step', steps)} of "
        f"{number_of('length', len(programs[0]['edges']))}; {100 * result['padding']:.1f} % of the computed tokens are "
        "padding",
        f"{result['devices']} × {result['device_kind']}, {number_of('program', len(programs))} on mesh "
        f"{', '.join(meshes)}; {result['cpu']}, {number_of('CPU', result['cpus'])}",
        f"{100 * result['share_of_peak']:.1f} % of the {result['peak_flops_per_s'] / 1e9:,.0f} GFLOP/s that a large "
        f"{result['dtype']} matrix product reaches here",
        "" if result["datasheet_flops_per_s"] is None else
        f"{100 * result['share_of_datasheet']:.1f} % of the {result['datasheet_flops_per_s'] / 1e9:,.0f} GFLOP/s of "
        "bfloat16 by the datasheet",
        f"{number_of('compilation', result['compilations'])} in {result['compile_seconds']:.1f} s"
        + (f", {result['compile_cache_hits']} of them read from JAX's cache on disk"
           if result["compile_cache_hits"] else ""),
        "" if teacher is None else f"the teacher, {number_of('layer', teacher['layers'])}, forward: "
                                   f"{teacher['rows_per_s']:,.0f} rows/s, not in the numbers above",
        "" if result["peak_memory_bytes"] is None else
        f"at most {result['peak_memory_bytes'] / 1e6:,.0f} MB of memory, of the {result['peak_memory_of']}",
        f"the machine was not quiet: its load was {result['load_before']:.1f} before the start"
        if (result["load_before"] or 0) > 0.5 else "",
        "" if profile is None else f"trace: {profile['perfetto']} (ui.perfetto.dev), or "
                                   f"tensorboard --logdir {profile['tensorboard']}",
    ]
    return [line for line in lines if line]
