"""How the seconds of a train step and the memory of a program grow: with trials, batch, length, layers, hidden size.

Claim: trials grow the seconds of a step no faster than in proportion, and memory in proportion.
Command: `python experiments/bench/growth.py` (on whatever device JAX finds)
From one small model with random weights on random ids, an axis at a time is doubled, for float trials and for quantized
ones. Each point is a program of its own, compiled as a sweep does it, with dropout. The points of an axis take turns;
of each the fastest round counts. Memory is what the compiler plans: arguments, results and temporaries.
The exponent of an axis is the slope of a line through the logarithms of its upper half, where fixed costs weigh least.
Writes the numbers as JSON and draws them as PNG.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import altair as alt
import jax
import jax.numpy as jnp
import numpy as np
import vl_convert

from bertjax.artifact.machine import cpu_count, cpu_name, versions
from bertjax.config import FLOAT, BertConfig, QuantizeConfig
from bertjax.files import write_bytes, write_text
from bertjax.heap import reserve, restart_with_tuned_heap
from bertjax.model.bert import init_params
from bertjax.report.plots import vega
from bertjax.study import StudyConfig
from bertjax.train.mesh import make_mesh
from bertjax.train.program import part_tokens, place_group, place_schedule, place_table
from bertjax.train.state import Table
from bertjax.train.step import MAX_CHUNK, ProgramSpec, train_chunk
from bertjax.train.trial import orders_of, teacher_trial

KINDS = {"float": FLOAT, "int8": QuantizeConfig()}
ROWS, VOCABULARY, STEPS = 2048, 1024, 300


@dataclass(frozen=True)
class Point:
    """A program: so many trials of one kind, and the shapes of its step."""

    kind: str = "float"
    trials: int = 4
    batch: int = 32
    length: int = 32
    layers: int = 2
    hidden: int = 128

    def spec(self) -> ProgramSpec:
        """Of a BERT with heads of 64 features, as the named sizes have."""
        model = BertConfig(vocab_size=VOCABULARY, hidden_size=self.hidden, num_hidden_layers=self.layers,
                           num_attention_heads=self.hidden // 64, intermediate_size=4 * self.hidden)
        part = part_tokens(model, jax.default_backend())
        return ProgramSpec(model, (KINDS[self.kind],), regression=False, part_tokens=part)


AXES = {
    "trials": (1, 2, 4, 8, 16, 32, 64),
    "batch": (8, 16, 32, 64, 128),
    "length": (16, 32, 64, 128, 256, 512),
    "layers": (1, 2, 4, 8, 16),
    "hidden": (64, 128, 256, 512),
}


def arguments(point: Point) -> tuple[Any, ...]:
    """Those of the train chunk: random weights and ids, rows of full length."""
    spec, mesh, draw = point.spec(), make_mesh((1, 1), jax.devices()[:1]), np.random.default_rng(0)
    trial = teacher_trial(StudyConfig(name="growth", model="any"), "any")
    trials, orders = [trial] * point.trials, orders_of([trial])
    group, numbers = place_group(trials, lambda _: init_params(spec.model), orders, STEPS, mesh)
    whole = np.full(ROWS, point.length, np.int32)
    table = place_table(Table(
        input_ids=draw.integers(1, VOCABULARY, (ROWS, point.length)).astype(np.uint16), second_start=whole,
        length=whole, labels=draw.integers(0, spec.model.num_labels, ROWS).astype(np.int32),
        teacher_logits=np.zeros((1, ROWS, spec.model.num_labels), np.float32)), mesh)
    rows = draw.integers(0, ROWS, (1, STEPS, point.batch)).astype(np.int32)
    schedule = place_schedule(rows, np.full(rows.shape[1:], 1 / point.batch, np.float32), mesh)
    return (group,), (numbers,), table, schedule


class Measured:
    """A compiled program that trains on."""

    def __init__(self, point: Point) -> None:
        mesh = make_mesh((1, 1), jax.devices()[:1])
        self.point, (self.groups, *self.rest) = point, arguments(point)
        lowered = train_chunk(point.spec(), mesh, point.length).lower(self.groups, *self.rest, jnp.int32(1))
        self.compiled = lowered.compile()
        memory = self.compiled.memory_analysis()
        self.bytes = (memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
                      - memory.alias_size_in_bytes)
        if jax.default_backend() == "cpu":
            reserve(memory.temp_size_in_bytes)
        self.steps(1)
        self.each = self.steps(1)

    def steps(self, count: int) -> float:
        """Seconds that each of `count` steps takes."""
        start = time.perf_counter()
        self.groups, metrics = self.compiled(self.groups, *self.rest, jnp.int32(count))
        jax.block_until_ready((self.groups, metrics))
        return (time.perf_counter() - start) / count

    def round(self) -> None:
        """A call of as many steps as take half a second, at most those of a chunk."""
        self.each = min(self.each, self.steps(max(1, min(MAX_CHUNK, int(0.5 / self.each)))))


def measure(points: Sequence[Point], rounds: int) -> list[dict[str, Any]]:
    """The points of an axis, in turns."""
    made = [Measured(point) for point in points]
    for number in range(rounds):
        for one in made[:: -1 if number % 2 else 1]:
            one.round()
    return [{**asdict(one.point), "step_seconds": one.each, "bytes": one.bytes,
             "trial_examples_per_s": one.point.trials * one.point.batch / one.each} for one in made]


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """b of the power law y = a·x^b that fits the upper half of the points best, by least squares of logarithms."""
    upper = sorted(zip(x, y, strict=True))[len(x) // 2 - (len(x) < 4):]
    logarithms = np.log(np.array(upper, dtype=float))
    return float(np.polyfit(logarithms[:, 0], logarithms[:, 1], 1)[0])


def exponents(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Of seconds and bytes over the axis of these rows."""
    axis = rows[0]["axis"]
    return {field: round(exponent([row[axis] for row in rows], [row[field] for row in rows]), 2)
            for field in ("step_seconds", "bytes")}


def picture(rows: Sequence[dict[str, Any]]) -> bytes:
    """A panel for each axis: seconds above, memory below."""
    data = [{**row, "x": row[row["axis"]], "megabytes": row["bytes"] / 1e6, "milliseconds": 1e3 * row["step_seconds"]}
            for row in rows]
    colour = alt.Color("kind:N", title=None, scale=alt.Scale(domain=list(KINDS), range=["#80868f", "#3a8ee6"]),
                       legend=alt.Legend(orient="top"))

    def panel(axis: str, field: str, title: str) -> alt.Chart:
        values = [row for row in data if row["axis"] == axis]
        return alt.Chart(alt.Data(values=values), width=170, height=150).mark_line(point=True).encode(
            x=alt.X("x:Q", title=axis, scale=alt.Scale(type="log", base=2), axis=alt.Axis(values=list(AXES[axis]))),
            y=alt.Y(f"{field}:Q", title=title, scale=alt.Scale(type="log", nice=False)), color=colour)

    measured = dict.fromkeys(row["axis"] for row in rows)
    drawn = alt.vconcat(*(alt.hconcat(*(panel(axis, field, title) for axis in measured))
                          for field, title in (("milliseconds", "ms per step"), ("megabytes", "MB"))))
    return vl_convert.vegalite_to_png(vega(drawn), scale=2)


def main() -> None:
    """Measures, prints a table in Markdown, writes JSON and PNG."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    base = Point()
    for name in AXES:
        parser.add_argument(f"--{name}", type=int, default=getattr(base, name),
                            help=f"of the program that every axis starts from (default {getattr(base, name)})")
    parser.add_argument("--axes", nargs="+", default=list(AXES), choices=list(AXES))
    parser.add_argument("--rounds", type=int, default=5)
    results = Path(__file__).parents[1] / "results"
    parser.add_argument("--out", type=Path, default=results / "growth.json", help="default: experiments/results/")
    args = parser.parse_args()
    restart_with_tuned_heap()
    base = replace(base, **{name: getattr(args, name) for name in AXES})
    load, rows, fits = os.getloadavg()[0], [], {}
    say("| axis | from, to | trials | exponent of seconds | of memory |\n|---|---|---|---|---|")
    for axis in args.axes:
        for kind in KINDS:
            points = [replace(base, kind=kind, **{axis: value}) for value in AXES[axis]]
            made = [{"axis": axis, **row} for row in measure(points, args.rounds)]
            rows += made
            fits[f"{axis}, {kind}"] = fit = exponents(made)
            say(f"| {axis} | {AXES[axis][0]}, {AXES[axis][-1]} | {kind} | {fit['step_seconds']} | {fit['bytes']} |")
    report = {"base": asdict(base), "device": jax.devices()[0].device_kind, "cpu": cpu_name(), "cpus": cpu_count(),
              "load_before": round(load, 2), "versions": versions(), "date": time.strftime("%Y-%m-%d"),
              "exponents": fits, "rows": [{k: v if isinstance(v, str | int) else float(f"{v:.4g}")
                                           for k, v in row.items()} for row in rows]}
    write_text(args.out, json.dumps(report, indent=1) + "\n")
    write_bytes(args.out.with_suffix(".png"), picture(rows))
    say(f"written to {args.out} and {args.out.with_suffix('.png')}")


def say(text: str) -> None:
    """A line for the person who waits."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
