"""What the trial axis costs in the tiles of a TPU's memory, and how the compiler lays out arrays that have it.

Command: `python experiments/bench/tpu_tiles.py` (needs the extra `tpu`, no TPU)
Compiles the train step of one encoder layer for a v5e chip, float and quantized trials, 32 rows of 64 tokens: with one
trial of each kind, and with several. Small models have the most to lose: a hidden size of 128 is one tile wide.
Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import jax

from bertjax.config import FLOAT, BertConfig, QuantizeConfig
from bertjax.model.sizes import size_config
from bertjax.sweep.compiled_plan import LEAST_EFFORT
from bertjax.train.ahead import DataShape, lower_train_chunk, topology_mesh
from bertjax.train.step import ProgramSpec
from bertjax.train.tiles import Tiled, argument_arrays, tile_padding, written_arrays

DATA = DataShape(rows=4000, longest=128, batch_size=32, steps=300)
LENGTH = 64
CHIP = "v5e:2x4"
VOCABULARY = 1024
"""Rows of the word embedding: a layer's arrays are looked at, not its table."""


def main() -> None:
    """Compiles and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[1, 4], help="of each kind on the chip")
    models = {"tiny": size_config("tiny"), "mini": size_config("mini"), "medium": size_config("medium"),
              "MiniLM": replace(size_config("base"), hidden_size=384, intermediate_size=1536)}
    parser.add_argument("--models", nargs="+", default=list(models), choices=list(models))
    args = parser.parse_args()
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    say("| model | hidden | heads | trials | arguments | written | weights | biases | hidden states |")
    say("|---|---|---|---|---|---|---|---|---|")
    for name in args.models:
        config = replace(models[name], num_hidden_layers=1, vocab_size=VOCABULARY)
        for trials in args.trials:
            text = compiled(config, trials)
            padding = tile_padding(text)
            hidden, inner = config.hidden_size, config.intermediate_size
            weights = layout(argument_arrays(text), (trials, hidden, inner))
            biases = layout(argument_arrays(text), (trials, inner))
            states = layout(written_arrays(text), (trials, DATA.batch_size, LENGTH, hidden))
            say(f"| {name} | {hidden} | {config.num_attention_heads} × {hidden // config.num_attention_heads} "
                f"| {trials} + {trials} | {100 * padding.arguments:.2f} % | {100 * padding.results:.1f} % "
                f"| `{weights}` | `{biases}` | `{states}` |")


def compiled(config: BertConfig, trials: int) -> str:
    """The optimized HLO of a step, of so many float trials and as many quantized ones on one chip."""
    spec = ProgramSpec(config, (FLOAT, QuantizeConfig()), regression=False)
    mesh = topology_mesh(CHIP, (8, 1))
    with jax.default_matmul_precision("default"):  # as runs have it
        lowered = lower_train_chunk(spec, mesh, (8 * trials, 8 * trials), DATA, LENGTH)
        return lowered.compile(LEAST_EFFORT).as_text()


def layout(arrays: Iterable[Tiled], dims: tuple[int, ...]) -> str:
    """How most float arrays of these dimensions lie; the axes from the slowest to the fastest, then the tile."""
    found = Counter(array for array in arrays if array.dims == dims and array.dtype == "f32")
    if not found:
        return "none"
    array: Tiled = found.most_common(1)[0][0]
    return str(array)


def say(text: str) -> None:
    """A line for the person who waits."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
