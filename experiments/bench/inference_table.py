"""Score, sizes and latency of the eight subsets and of quantization without training, in one table.

Commands, for each task of a run whose models were kept:

    bertjax bench inference RUN_DIR --task TASK --layers 6 --seeds 0 --ptq --output TASK.json
    python experiments/bench/inference_table.py RUN_DIR TASK.json ...

Sizes are MB, each by its own convention (`bertjax inspect MODEL` says of a model what counts): float32 and "paper" are
the model without its task head; "packed" is the whole packed file, "entropy" the same at its empirical entropy, "as
run" the ONNX file, or the weights in memory. A model that was quantized without training is packed here where bertjax
has its scheme; the schemes of ONNX Runtime exist as ONNX files only.
Prints the lines of most interest in Markdown, and writes all of them to experiments/results/inference.csv.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from bertjax.artifact.inference.latency import JAX, ONNX, STATIC, TORCH
from bertjax.artifact.load import load
from bertjax.artifact.packed.pack import size_bytes_entropy
from bertjax.artifact.packed_folder import pack_loaded
from bertjax.artifact.size import BYTES_PER_MB, size_bytes_paper
from bertjax.config import QuantizeConfig
from bertjax.files import write_text
from bertjax.model.sizes import encoder_linear_count, param_count

PTQ_BITS = {"int8_dynamic": 8, "int8_static": 8, "int16_static": 16, "int8_bertjax": 8}
"""Of every parameter, by the scheme; the weight-only schemes have no such number."""

SIZES = ("float32", "paper", "packed", "entropy", "as run")
RESULTS = Path(__file__).parents[1] / "results" / "inference.csv"


def main() -> None:
    """Joins, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path, help="of the sweep")
    parser.add_argument("bench", type=Path, nargs="+", help="what `bertjax bench inference --output` wrote")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the CSV")
    args = parser.parse_args()
    results = pd.read_csv(args.run_dir / "results.csv", dtype={"trial_id": str}).set_index("trial_id")
    made = []
    for file in args.bench:
        bench = json.loads(file.read_text())
        batches = sorted({row["batch_size"] for row in bench["rows"]})
        lines = pd.DataFrame(table(bench, results, args.run_dir))
        say(f"\n{bench['task']}: {bench['cpu']}, {bench['threads']} thread(s), median milliseconds of a batch, and "
            "rows per second over those of the float model in ONNX Runtime\n")
        say(markdown(shown(lines, batches)))
        made.append(lines)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(args.out, pd.concat(made).to_csv(index=False))
    say(f"\nwritten: {args.out}")


def table(bench: dict[str, Any], results: pd.DataFrame, run_dir: Path) -> list[dict[str, Any]]:
    """A line for each model in each runtime, in the order of the benchmark."""
    made: dict[tuple[str, str], dict[str, Any]] = {}
    for row in bench["rows"]:
        methods, trial_id = row["artifact"].split()
        key = row["artifact"], row["runtime"]
        if key not in made:
            found = sizes(row, results.loc[trial_id], run_dir / "trials" / trial_id)
            made[key] = {"task": bench["task"], "model": methods, "runtime": row["runtime"],
                         "score": round(row["score"], 2), **found}
        batch = row["batch_size"]
        made[key] |= {f"p50_ms_{batch}": round(row["p50_ms"], 2), f"p95_ms_{batch}": round(row["p95_ms"], 2),
                      f"×_{batch}": round(row["speedup"], 2)}
    return list(made.values())


def sizes(row: dict[str, Any], result: pd.Series, trial: Path) -> dict[str, float | None]:
    """Megabytes by every convention; None where there is none."""
    as_run, scheme = row["num_bytes"], row["runtime"].removeprefix(ONNX).strip()
    if scheme in PTQ_BITS or "weight_only" in scheme or row["runtime"] == "torch int8_dynamic":
        found: list[float | None] = [result["size_bytes_fp32"], None, None, None, as_run]
        model = load(trial)
        if scheme in PTQ_BITS:
            found[1] = size_bytes_paper(param_count(model.config), encoder_linear_count(model.config), PTQ_BITS[scheme],
                                        float(result["sparsity"]))
        if scheme == "int8_bertjax":
            packed = pack_loaded(replace(model, quantize=QuantizeConfig()))
            found[2:4] = packed.num_bytes, size_bytes_entropy(packed.packed)
    else:
        found = [*(result[f"size_bytes_{name}"] for name in ("fp32", "paper", "disk", "entropy")), as_run]
    return {f"{name} MB": None if value is None else round(float(value) / BYTES_PER_MB, 2)
            for name, value in zip(SIZES, found, strict=True)}


def shown(lines: pd.DataFrame, batches: Sequence[int]) -> pd.DataFrame:
    """What tells one line from another: the subsets in ONNX Runtime and the plain model in every other way, the int8
    of bertjax after training of all float models, and static activations of the most compressed one.
    """
    runtime, plain = lines["runtime"], lines["model"] == "none"
    of_scheme = runtime.str.startswith(f"{ONNX} ")
    static = runtime == f"{ONNX} {STATIC}"
    picked = [runtime == ONNX, static & (lines["model"] == "QKP"), of_scheme & ~static & plain,
              runtime.eq(f"{ONNX} int8_bertjax") & ~plain, ~runtime.str.startswith(ONNX) & plain]
    made = pd.concat(lines[mask] for mask in picked)
    names = {ONNX: "ONNX", JAX: "JAX", TORCH: "PyTorch"}
    runtimes = made["runtime"].map(lambda name: " ".join(names.get(part, part) for part in name.split()))
    scores = made["score"].map("{:.2f}".format)
    columns: dict[str, Any] = {"model": made["model"], "runtime and scheme": runtimes, "score": scores}
    for name in SIZES:
        columns[name] = made[f"{name} MB"].map("{:.1f}".format, na_action="ignore")
    for size in batches:
        columns[f"batch {size}"] = [f"{p50:.1f} ({times:.2f}×)" for p50, times in zip(
            made[f"p50_ms_{size}"], made[f"×_{size}"], strict=True)]
    return pd.DataFrame(columns)


def markdown(lines: pd.DataFrame) -> str:
    """A table in Markdown."""
    rows = [list(lines.columns), *([("–" if pd.isna(value) else str(value)) for value in line]
                                   for line in lines.itertuples(index=False))]
    header, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([header, "|" + "---|" * len(lines.columns), *body])


def say(text: str) -> None:
    """A line on standard output."""
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
