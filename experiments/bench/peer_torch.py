"""The peer of `train_speed.py`: what a user would do instead, Hugging Face + PyTorch, one subset after the other.

Each of the eight subsets of {Q: int8 fake-quantized linear layers, K: distillation from a live teacher, P: pruning
masks} trains a BERT classifier for one pass over the rows of a TSV file (header; text, label): batches of 32 with
dynamic padding, or length-grouped (`--group`: the strongest peer), AdamW, warm-up and linear decay, gradient clipping,
float32, or products in bfloat16 (`--bfloat16`). Loading and three warm-up steps are not timed.

Command: `python experiments/bench/peer_torch.py --model FOLDER --tsv SST-2/train.tsv --rows 1024 [--group]`
Writes one JSON line: examples per second of each subset, trial-examples per second of all of them, and the mean loss
on the labels in the last quarter of each subset's steps.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from torch.nn.utils import prune
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, get_linear_schedule_with_warmup

SUBSETS = ("none", "Q", "K", "P", "QK", "QP", "KP", "QKP")
BATCH_SIZE, MAX_LENGTH, WARMUP_STEPS = 32, 128, 3
SPARSITY, DISTILL_WEIGHT, LEARNING_RATE, WARMUP_FRACTION, MAX_GRAD_NORM = 0.6, 0.5, 5e-5, 0.1, 1.0


@dataclass(frozen=True)
class Row:
    """One text."""

    input_ids: list[int]
    label: int


class QuantizedLinear(torch.nn.Linear):
    """Linear layer on 8-bit grids: weights per output channel, activations per tensor by their present maximum."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        weight_scale = self.weight.detach().abs().amax(1) / 127 + 1e-12
        zeros = torch.zeros(len(weight_scale), dtype=torch.int32)
        weight = torch.fake_quantize_per_channel_affine(self.weight, weight_scale, zeros, 0, -127, 127)
        scale = input.detach().abs().max() / 127 + 1e-12
        zero = torch.zeros((), dtype=torch.int32)
        return F.linear(torch.fake_quantize_per_tensor_affine(input, scale, zero, -127, 127), weight, self.bias)


def read_rows(path: Path, count: int, model: str) -> list[Row]:
    """The first `count` rows of a TSV file, tokenized."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        pairs = [line[:2] for line in itertools.islice(lines, 1, count + 1)]
    texts = [text for text, _ in pairs]
    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    encoded = tokenizer(texts, truncation=True, max_length=MAX_LENGTH)["input_ids"]
    return [Row(ids, int(label)) for ids, (_, label) in zip(encoded, pairs, strict=True)]


def make_batches(rows: list[Row], group: bool) -> list[list[Row]]:
    """Whole batches in random order; with `group` of rows of about equal length."""
    draw = random.Random(0)
    ordered = draw.sample(rows, len(rows))
    if group:
        ordered.sort(key=lambda row: len(row.input_ids))
    whole = len(ordered) // BATCH_SIZE * BATCH_SIZE
    batches = [ordered[start : start + BATCH_SIZE] for start in range(0, whole, BATCH_SIZE)]
    return draw.sample(batches, len(batches))


def collate(rows: list[Row]) -> dict[str, torch.Tensor]:
    """A batch padded to its longest row."""
    longest = max(len(row.input_ids) for row in rows)
    input_ids = torch.zeros(len(rows), longest, dtype=torch.long)
    attention_mask = torch.zeros_like(input_ids)
    for index, row in enumerate(rows):
        input_ids[index, : len(row.input_ids)] = torch.tensor(row.input_ids)
        attention_mask[index, : len(row.input_ids)] = 1
    return {"input_ids": input_ids, "attention_mask": attention_mask}


def build(model: str, layers: int | None) -> BertForSequenceClassification:
    """The pretrained model with its first layers and a new head for two classes, in float32 however it is stored."""
    config = BertConfig.from_pretrained(model, num_labels=2)
    made = BertForSequenceClassification.from_pretrained(model, config=config, dtype=torch.float32)
    if layers is not None:
        made.bert.encoder.layer = made.bert.encoder.layer[:layers]
        made.config.num_hidden_layers = layers
    return made


def compress(model: BertForSequenceClassification, methods: str) -> None:
    """Prepares the encoder's linear layers for Q and P."""
    for layer in [part for part in model.bert.encoder.modules() if isinstance(part, torch.nn.Linear)]:
        if "Q" in methods:
            layer.__class__ = QuantizedLinear
        if "P" in methods:
            prune.l1_unstructured(layer, "weight", SPARSITY)


class Trainer:
    """One subset in training."""

    def __init__(
        self, args: argparse.Namespace, methods: str, teacher: BertForSequenceClassification, steps: int
    ) -> None:
        self.model = build(args.model, args.layers).train()
        compress(self.model, methods)
        self.forward: Any = torch.compile(self.model, dynamic=True) if args.compile else self.model
        self.teacher = teacher if "K" in methods else None
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=LEARNING_RATE)
        self.schedule = get_linear_schedule_with_warmup(self.optimizer, round(WARMUP_FRACTION * steps), steps)
        self.autocast = torch.autocast("cpu", torch.bfloat16, enabled=args.bfloat16)

    def step(self, rows: list[Row]) -> torch.Tensor:
        """One update; returns the loss on the labels."""
        inputs = collate(rows)
        with self.autocast:
            logits = self.forward(**inputs).logits.float()
        loss = on_labels = F.cross_entropy(logits, torch.tensor([row.label for row in rows]))
        if self.teacher is not None:
            with torch.no_grad(), self.autocast:
                soft = self.teacher(**inputs).logits.float().softmax(-1)
            distill = F.kl_div(logits.log_softmax(-1), soft, reduction="batchmean")
            loss = (1 - DISTILL_WEIGHT) * loss + DISTILL_WEIGHT * distill
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRAD_NORM)
        self.optimizer.step()
        self.schedule.step()
        return on_labels.detach()

    def run(self, batches: Sequence[list[Row]]) -> tuple[float, float]:
        """Trains on all batches; returns the seconds that took, and the mean loss of the last quarter."""
        start = time.perf_counter()
        losses = [self.step(batch) for batch in batches]
        seconds = time.perf_counter() - start
        return seconds, float(torch.stack(losses[3 * len(losses) // 4 :]).mean())


def measure(args: argparse.Namespace, batches: list[list[Row]]) -> dict[str, Any]:
    """Trains every subset for one pass over the batches."""
    torch.manual_seed(0)
    teacher = build(args.model, None).eval()
    seconds, losses = {}, {}
    for methods in args.subsets.split(","):
        trainer = Trainer(args, methods, teacher, WARMUP_STEPS + len(batches))
        trainer.run(batches[:WARMUP_STEPS])
        seconds[methods], losses[methods] = trainer.run(batches)
    examples = len(batches) * BATCH_SIZE
    return {
        "trial_examples_per_s": round(examples * len(seconds) / sum(seconds.values()), 2),
        "seconds": round(sum(seconds.values()), 3),
        "examples_per_s": {methods: round(examples / taken, 2) for methods, taken in seconds.items()},
        "last_losses": {methods: round(loss, 4) for methods, loss in losses.items()},
        "group": args.group, "rows": examples, "torch": torch.__version__, "transformers": transformers.__version__,
    }


def main() -> None:
    """Measures once, or with `--serve` once for every line of standard input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="Hugging Face name or folder of a BERT")
    parser.add_argument("--tsv", type=Path, required=True, help="SST-2's train.tsv, or rows of it with its header")
    parser.add_argument("--rows", type=int, default=1024, help="rows to train on, from the start of the file")
    parser.add_argument("--layers", type=int, default=None, help="keep the first layers only; the teacher keeps all")
    parser.add_argument("--group", action="store_true", help="batches of rows of about equal length")
    parser.add_argument("--compile", action="store_true", help="torch.compile")
    parser.add_argument("--bfloat16", action="store_true", help="products in bfloat16, by torch.autocast")
    parser.add_argument("--subsets", default=",".join(SUBSETS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--serve", action="store_true", help="measure once for every line of standard input")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    batches = make_batches(read_rows(args.tsv, args.rows, args.model), args.group)
    for _ in sys.stdin if args.serve else [""]:
        sys.stdout.write(json.dumps(measure(args, batches)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
