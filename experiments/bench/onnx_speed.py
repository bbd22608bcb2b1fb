"""Milliseconds per batch in ONNX Runtime: our float32 export, the forms of our int8 export, and ONNX Runtime's own.

int8, uint8: training's arithmetic, the weights' codes stored as one or the other (uint8 is exact on every processor,
int8 with VNNI alone). static: activations with fixed scales, `bertjax export --static-activations`.
quantize_dynamic: of ONNX Runtime, a scale for each tensor.

Claim: with training's arithmetic (a scale for each token) the int8 export is at least 1.5 times as fast as the float32
one, and at least as fast as `onnxruntime.quantization.quantize_dynamic` makes that (a scale for each tensor).
Command: `python experiments/bench/onnx_speed.py --model MINILM --data-dir GLUE` (folders of the 6-layer MiniLM, and in
GLUE's original layout), on a quiet machine with VNNI
SST-2's dev rows in their order, batches of 8 padded to their longest. All take turns batch by batch, in one process
with a fixed number of threads; of each batch the fastest and the median of all rounds count. "float32_by_fastest" says
how many times as fast as float32 each is.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import QuantType, quantize_dynamic

from bertjax.artifact.exports.calibration import static_scales
from bertjax.artifact.exports.onnx_bert import onnx_model
from bertjax.artifact.exports.to_onnx import cpu_session, needs_unsigned, saturates
from bertjax.artifact.load import Model
from bertjax.artifact.machine import cpu_name
from bertjax.config import FLOAT, DataConfig, QuantizeConfig
from bertjax.data.examples import Examples
from bertjax.data.sources import load_task
from bertjax.data.tokens import load_tokenizer
from bertjax.model.hf import from_pretrained

Batch = dict[str, np.ndarray]


def main() -> None:
    """Prints a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of a BERT; its head does not matter")
    parser.add_argument("--data-dir", required=True, help="folder with SST-2/dev.tsv in GLUE's layout")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--batches", type=int, default=24, help="from the start of the dev rows")
    parser.add_argument("--rounds", type=int, default=8)
    args = parser.parse_args()
    model = load_model(args.model)
    batches = dev_batches(model, args.data_dir, args.batch_size)[: args.batches]
    with tempfile.TemporaryDirectory() as folder:
        files = export_all(model, load_task("sst2", DataConfig(data_dir=args.data_dir)).train, Path(folder))
        megabytes = {name: round(file.stat().st_size / 1e6, 2) for name, file in files.items()}
        sessions = {name: cpu_session(file, args.threads) for name, file in files.items()}
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"the machine is not quiet: load {load:.1f}", file=sys.stderr)
    seconds = take_turns(sessions, batches, args.rounds)
    fastest, median = ({name: 1e3 * over(taken, axis=0).mean() for name, taken in seconds.items()}
                       for over in (np.min, np.median))
    print(json.dumps({
        "fastest_ms": rounded(fastest), "median_ms": rounded(median),
        "float32_by_fastest": rounded({name: fastest["float32"] / taken for name, taken in fastest.items()}),
        "float32_by_median": rounded({name: median["float32"] / taken for name, taken in median.items()}),
        "exact": "uint8" if needs_unsigned(replace(model, quantize=QuantizeConfig())) else "int8, uint8",
        "cpu": cpu_name(), "megabytes": megabytes,
        "threads": args.threads, "batch_size": args.batch_size, "batches": len(batches),
        "rounds": args.rounds, "tokens_per_batch": round(float(np.mean([b["input_ids"].size for b in batches])), 1),
        "load": round(load, 2), "onnxruntime": onnxruntime.__version__,
    }))


def rounded(numbers: dict[str, float]) -> dict[str, float]:
    """To two digits."""
    return {name: round(float(number), 2) for name, number in numbers.items()}


def load_model(folder: str) -> Model:
    """The model in float with a new head for two classes."""
    pretrained = from_pretrained(folder, num_labels=2, reinit_head=True)
    return Model(config=pretrained.config, params=jax.tree.map(jnp.asarray, pretrained.params), quantize=FLOAT,
                 regression=False, label_names=("negative", "positive"), tokenizer=load_tokenizer(folder),
                 max_length=128)


def dev_batches(model: Model, data_dir: str, size: int) -> list[Batch]:
    """The dev rows in their order."""
    texts = list(load_task("sst2", DataConfig(data_dir=data_dir)).dev["validation"].first)
    made = []
    for start in range(0, len(texts), size):
        encoded = model.tokenizer(texts[start:start + size], padding=True, truncation=True, return_tensors="np",
                                  max_length=model.max_length, return_token_type_ids=True)
        made.append({name: array.astype(np.int64) for name, array in encoded.items()})
    return made


def export_all(model: Model, train: Examples, folder: Path) -> dict[str, Path]:
    """A file of each form."""
    quantized = replace(model, quantize=QuantizeConfig())
    made = {"float32": onnx_model(model), "int8": onnx_model(quantized), "uint8": onnx_model(quantized, True),
            "static": onnx_model(quantized, needs_unsigned(quantized), static_scales(quantized, train))}
    files = {name: folder / f"{name}.onnx" for name in (*made, "quantize_dynamic")}
    for name, exported in made.items():
        onnx.save(exported, files[name])
    quantize_dynamic(files["float32"], files["quantize_dynamic"], weight_type=QuantType.QInt8, reduce_range=saturates())
    return files


def take_turns(
    sessions: dict[str, onnxruntime.InferenceSession], batches: list[Batch], rounds: int
) -> dict[str, np.ndarray]:
    """Seconds [round, batch] of each; who begins changes from batch to batch, and a first round is not counted."""
    names = list(sessions)
    seconds = {name: np.zeros((rounds + 1, len(batches))) for name in names}
    for i in range(rounds + 1):
        for j, batch in enumerate(batches):
            turn = (i + j) % len(names)
            for name in names[turn:] + names[:turn]:
                seconds[name][i, j] = timed(lambda name=name, batch=batch: sessions[name].run(None, batch))
    return {name: taken[1:] for name, taken in seconds.items()}


def timed(call: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
