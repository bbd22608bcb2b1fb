"""Batches of one length each against packed rows, several examples in one: milliseconds of training per example.

Claim: packing gains nothing over lengths chosen from the task's own.
Command: `python experiments/bench/packing.py --model MINILM --data-dir GLUE` (folders of the 6-layer MiniLM, and in
GLUE's original layout), on a quiet machine
The real lengths of a task's training rows, random ids, float trials of the model's shape. Batches take 32 examples of a
length's bucket; packed rows all have one length, and are filled by first fit, the longest example first. Of packing
only what it cannot do without is measured: a packed row is computed as one example (one pooled token, no block mask, no
positions that start again), so the figures are the least it would take.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass

import jax
import numpy as np

from bertjax.config import BertConfig, DataConfig
from bertjax.data.batches import choose_edges, padding_fraction
from bertjax.data.sources import load_task
from bertjax.data.tokens import load_tokenizer, tokenize
from bertjax.heap import restart_with_tuned_heap
from bertjax.model.hf import load_config
from bertjax.train.program import part_tokens
from bertjax.train.step import ProgramSpec
from experiments.bench.growth import KINDS, VOCABULARY, Measured, Point

BATCH = 32


@dataclass(frozen=True)
class Shape(Point):
    """A step of trials of a given model."""

    model: BertConfig | None = None

    def spec(self) -> ProgramSpec:
        assert self.model is not None
        return ProgramSpec(self.model, (KINDS[self.kind],), regression=False,
                           part_tokens=part_tokens(self.model, jax.default_backend()))


def first_fit(lengths: np.ndarray, room: int) -> int:
    """Rows of `room` tokens that hold examples of these lengths, the longest placed first."""
    free: list[int] = []
    for length in sorted(lengths.tolist(), reverse=True):
        place = next((i for i, left in enumerate(free) if left >= length), None)
        if place is None:
            free.append(room - length)
        else:
            free[place] -= length
    return len(free)


def main() -> None:
    """Prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of a BERT")
    parser.add_argument("--data-dir", required=True, help="folder of tasks in GLUE's layout")
    parser.add_argument("--tasks", nargs="+", default=["sst2", "mrpc"])
    parser.add_argument("--rows", type=int, default=2048, help="of the training")
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    restart_with_tuned_heap()
    model = load_config(args.model)
    shape = Shape(trials=args.trials, model=BertConfig(
        vocab_size=VOCABULARY, hidden_size=model.hidden_size, num_hidden_layers=model.num_hidden_layers,
        num_attention_heads=model.num_attention_heads, intermediate_size=model.intermediate_size))
    load = os.getloadavg()[0]
    say(f"load {load:.2f}\n\n| task | | padding | ms per example and trial |\n|---|---|---|---|")
    for task in args.tasks:
        data = DataConfig(data_dir=args.data_dir, max_train_examples=args.rows)
        tokens = tokenize(load_task(task, data).train, load_tokenizer(args.model), data.max_length, None)
        compare(shape, task, np.diff(tokens.offsets), args.rounds)


def compare(shape: Shape, task: str, lengths: np.ndarray, rounds: int) -> None:
    """Lines of a task: batches of at most 8 and 16 lengths, and rows of two lengths that hold several examples."""
    edges = [choose_edges(lengths, count, BATCH) for count in (8, 16)]
    rooms = {room: first_fit(lengths, room) for room in (128, 256)}
    steps = {length: Measured(at(shape, BATCH, length)) for length in sorted({*edges[0], *edges[1]})}
    packed = {room: Measured(at(shape, max(1, round(BATCH * rows / len(lengths))), room))
              for room, rows in rooms.items()}
    for _ in range(rounds):
        for one in (*steps.values(), *packed.values()):
            one.round()
    for chosen in edges:
        bucket = np.array(chosen)[np.searchsorted(chosen, lengths)]
        each = np.mean([steps[int(length)].each for length in bucket]) / BATCH / shape.trials
        say(f"| {task} | batches of {len(chosen)} lengths | {100 * padding_fraction(lengths, chosen, BATCH):.1f} % "
            f"| {1e3 * each:.3f} |")
    for room, rows in rooms.items():
        each = packed[room].each / packed[room].point.batch * rows / len(lengths) / shape.trials
        say(f"| {task} | packed rows of {room} tokens | {100 * (1 - lengths.sum() / (rows * room)):.1f} % "
            f"| at least {1e3 * each:.3f} |")


def at(shape: Shape, batch: int, length: int) -> Shape:
    """A step of so many rows of a length."""
    return Shape(kind=shape.kind, trials=shape.trials, batch=batch, length=length, model=shape.model)


def say(text: str) -> None:
    """A line for the person who waits."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
