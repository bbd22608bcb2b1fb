"""Milliseconds per batch in ONNX Runtime: our float32 export, the forms of our int8 export, and what others make.

int8, uint8: training's arithmetic, the weights' codes stored as one or the other (uint8 is exact on every processor,
int8 with VNNI alone). static: activations with fixed scales, `bertjax export --static-activations`.
transformers: PyTorch's export of the model in transformers, in float32; only where PyTorch is installed.
quantize_dynamic, transformers_dynamic: what `onnxruntime.quantization.quantize_dynamic` makes of float32 and of
transformers, with a scale for each tensor.

Claims, on a quiet machine with VNNI: with training's arithmetic (a scale for each token) the int8 export is at least
1.5 times as fast as the float32 one, and at least as fast as transformers_dynamic.
Command: `python experiments/bench/onnx_speed.py --model MINILM --data-dir GLUE` (folders of the 6-layer MiniLM, and in
GLUE's original layout)
SST-2's dev rows in batches of 8 padded to their longest, either in the rows' order, as a server gets them, or in that
of their lengths, as `predict` takes them. In a round each takes all batches, one after the other, in one process with a
fixed number of threads; a batch counts with the fastest of its rounds. Sessions are made anew for every repeat, since
ratios differ from one set of sessions to the next. "float32_by" says how many times as fast as float32 each is, and
"int8_by" how many times as fast as each int8 is: the median, least, lower and upper quartile, and largest of the
repeats.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import QuantType, quantize_dynamic

from bertjax.artifact.exports.calibration import static_scales
from bertjax.artifact.exports.onnx_bert import INPUTS, OPSET, onnx_model
from bertjax.artifact.exports.to_hf import has_torch
from bertjax.artifact.exports.to_onnx import cpu_session, needs_unsigned, saturates
from bertjax.artifact.inference.latency import take_turns
from bertjax.artifact.load import Model
from bertjax.artifact.machine import cpu_name
from bertjax.config import FLOAT, DataConfig, QuantizeConfig
from bertjax.data.examples import Examples
from bertjax.data.sources import load_task
from bertjax.data.tokens import load_tokenizer, tokenize
from bertjax.model.hf import from_pretrained

Batch = dict[str, np.ndarray]


def main() -> None:
    """Prints a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of a BERT; its head does not matter")
    parser.add_argument("--data-dir", required=True, help="folder with SST-2/dev.tsv in GLUE's layout")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--order", choices=("rows", "lengths"), default="rows", help="of the rows, see above")
    parser.add_argument("--batches", type=int, default=40, help="so many, evenly spaced")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    model = load_model(args.model)
    batches = batches_of(model, args)
    with tempfile.TemporaryDirectory() as folder:
        files = export_all(model, load_task("sst2", DataConfig(data_dir=args.data_dir)).train, Path(folder))
        if has_torch():
            files |= export_transformers(args.model, Path(folder))
        megabytes = {name: round(file.stat().st_size / 1e6, 2) for name, file in files.items()}
        load = os.getloadavg()[0]
        if load > 0.5:
            print(f"the machine is not quiet: load {load:.1f}", file=sys.stderr)
        repeats = [milliseconds(files, batches, args) for _ in range(args.repeats)]
    print(json.dumps({
        "fastest_ms": {name: spread([taken[name] for taken in repeats]) for name in files},
        "float32_by": {name: spread([taken["float32"] / taken[name] for taken in repeats]) for name in files},
        "int8_by": {name: spread([taken[name] / taken["int8"] for taken in repeats]) for name in files},
        "exact": "uint8" if needs_unsigned(replace(model, quantize=QuantizeConfig())) else "int8, uint8",
        "cpu": cpu_name(), "megabytes": megabytes,
        "threads": args.threads, "batch_size": args.batch_size, "order": args.order, "batches": len(batches),
        "rounds": args.rounds, "repeats": args.repeats,
        "tokens_per_batch": round(float(np.mean([b["input_ids"].size for b in batches])), 1),
        "load": round(load, 2), "onnxruntime": onnxruntime.__version__,
    }))


def milliseconds(files: dict[str, Path], batches: list[Batch], args: argparse.Namespace) -> dict[str, float]:
    """Of each file in a session of its own: the mean over batches, each at the fastest of its rounds."""
    sessions = {name: cpu_session(file, args.threads) for name, file in files.items()}
    runs = {name: partial(session.run, None) for name, session in sessions.items()}
    seconds = take_turns(runs, batches, args.rounds)
    return {name: 1e3 * float(taken.min(axis=0).mean()) for name, taken in seconds.items()}


def spread(numbers: list[float]) -> list[float]:
    """Median, least, lower and upper quartile, and largest."""
    return [round(float(np.quantile(numbers, q)), 3) for q in (0.5, 0, 0.25, 0.75, 1)]


def load_model(folder: str) -> Model:
    """The model in float with a new head for two classes."""
    pretrained = from_pretrained(folder, num_labels=2, reinit_head=True)
    return Model(config=pretrained.config, params=jax.tree.map(jnp.asarray, pretrained.params), quantize=FLOAT,
                 regression=False, label_names=("negative", "positive"), tokenizer=load_tokenizer(folder),
                 max_length=128)


def batches_of(model: Model, args: argparse.Namespace) -> list[Batch]:
    """Of the dev rows, which are single texts."""
    tokens = tokenize(load_task("sst2", DataConfig(data_dir=args.data_dir)).dev["validation"], model.tokenizer,
                      model.max_length, None)
    padded, made = tokens.padded(model.max_length, model.config.pad_token_id), []
    order = np.argsort(tokens.lengths, kind="stable") if args.order == "lengths" else np.arange(len(tokens))
    whole = order[:len(order) // args.batch_size * args.batch_size].reshape(-1, args.batch_size)
    for i in np.unique(np.linspace(0, len(whole) - 1, min(args.batches, len(whole))).round().astype(int)):
        lengths = tokens.lengths[whole[i]]
        mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
        ids = padded[whole[i], :lengths.max()].astype(np.int64)
        made.append(dict(zip(INPUTS, (ids, mask, np.zeros_like(mask)), strict=True)))
    return made


def export_all(model: Model, train: Examples, folder: Path) -> dict[str, Path]:
    """A file of each form."""
    quantized = replace(model, quantize=QuantizeConfig())
    made = {"float32": onnx_model(model), "int8": onnx_model(quantized), "uint8": onnx_model(quantized, True),
            "static": onnx_model(quantized, needs_unsigned(quantized), static_scales(quantized, train))}
    files = {name: folder / f"{name}.onnx" for name in (*made, "quantize_dynamic")}
    for name, exported in made.items():
        onnx.save(exported, files[name])
    quantize(files["float32"], files["quantize_dynamic"])
    return files


def export_transformers(source: str, folder: Path) -> dict[str, Path]:
    """PyTorch's export, and quantized."""
    import torch
    from transformers import AutoModelForSequenceClassification

    # Its default attention, "sdpa", is exported as more operators, and slower.
    bert = AutoModelForSequenceClassification.from_pretrained(source, num_labels=2, dtype=torch.float32,
                                                              attn_implementation="eager").eval()
    files = {name: folder / f"{name}.onnx" for name in ("transformers", "transformers_dynamic")}
    example = torch.ones((2, 16), dtype=torch.long)
    with warnings.catch_warnings():  # PyTorch says that this exporter will go; its next needs one more package
        warnings.simplefilter("ignore")
        torch.onnx.export(
            bert, (example, example, torch.zeros_like(example)), str(files["transformers"]), opset_version=OPSET,
            input_names=list(INPUTS), output_names=["logits"],
            dynamic_axes={name: {0: "batch", 1: "seq"} for name in INPUTS}, dynamo=False)
    quantize(files["transformers"], files["transformers_dynamic"])
    return files


def quantize(source: Path, target: Path) -> None:
    """By ONNX Runtime's own tool, with weights in as many bits as this machine multiplies exactly."""
    quantize_dynamic(source, target, weight_type=QuantType.QInt8, reduce_range=saturates())


if __name__ == "__main__":
    main()
