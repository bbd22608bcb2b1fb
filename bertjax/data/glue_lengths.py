"""How long GLUE's rows are, so that a study can be planned before anything is downloaded.

`python -m bertjax.data.glue_lengths --data-dir GLUE --tokenizer FOLDER` counts the tasks that the folder has (BERT's
uncased vocabulary) and writes `glue_lengths.json`. QQP, MNLI and QNLI are estimated where they are not there: the mean
from the bytes of their training split, which the data set's card states (`nyu-mll/glue`: bytes of text, and 20 for the
numbers of a pair), at the bytes per token of the counted tasks; the shape from a counted task of pairs.
"""

from __future__ import annotations

import argparse
import functools
import importlib.resources
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bertjax.config import DataConfig, InputError, require
from bertjax.data.sources import load_task
from bertjax.data.tasks import GLUE_TASKS, Task
from bertjax.data.tokens import load_tokenizer, tokenize

FILE = "glue_lengths.json"
LONGEST = 512
"""Rows are counted up to so many tokens."""

PAIR_TOKENS = 3
"""Special tokens of a pair."""

PAIR_BYTES = 20
"""Bytes of a row of pairs on the card that are not text; MRPC and RTE have exactly that."""


@dataclass(frozen=True)
class CardSplit:
    """What the data set's card says of a task, and whose shape its lengths borrow."""

    rows: int
    dev_rows: int
    num_bytes: int
    like: str


CARD = {
    "qqp": CardSplit(363_846, 40_430, 50_900_820, like="stsb"),
    "mnli": CardSplit(392_702, 9_815 + 9_832, 74_619_646, like="rte"),
    "qnli": CardSplit(104_743, 5_463, 25_612_443, like="rte"),
}
"""Tasks whose lengths are estimated."""


@dataclass(frozen=True)
class RowLengths:
    """The sizes of a task."""

    train: np.ndarray
    """[row] tokens of every training row, sorted, special tokens included."""
    dev_rows: int
    """Over all dev splits."""
    vocabulary: int | None
    """Different tokens that train and dev use; None where that is not known."""
    estimated: bool
    """The lengths were not counted."""


@functools.cache
def glue_lengths(task: Task) -> RowLengths:
    """The sizes of a GLUE task with BERT's uncased vocabulary, from the table that bertjax brings.

    Raises:
        InputError: not a task of GLUE.
    """
    table = json.loads((importlib.resources.files("bertjax.data") / FILE).read_text(encoding="utf-8"))
    require(task.name in table, f"the sizes of {task.name} are not known without its data; known: {', '.join(table)}")
    entry = table[task.name]
    lengths, counts = np.array(entry["lengths"]).T
    return RowLengths(np.repeat(lengths, counts), entry["dev_rows"], entry["vocabulary"], entry["estimated"])


def counted(task: Task, data_dir: Path, tokenizer: Any) -> tuple[dict[str, Any], float]:
    """The entry of a task that is at hand, and its bytes of text per token that is not special."""
    data = load_task(task.name, DataConfig(data_dir=str(data_dir)))
    train, *dev = (tokenize(split, tokenizer, LONGEST, None) for split in (data.train, *data.dev.values()))
    texts = [*data.train.first, *(data.train.second or ())]
    special = len(train) * (PAIR_TOKENS if data.train.second else PAIR_TOKENS - 1)
    used = np.unique(np.concatenate([train.input_ids, *(split.input_ids for split in dev)]))
    entry = _entry(train.lengths, sum(map(len, dev)), len(used), estimated=False)
    return entry, sum(len(text.encode()) for text in texts) / (len(train.input_ids) - special)


def estimated(card: CardSplit, like: Mapping[str, Any], bytes_per_token: float) -> dict[str, Any]:
    """The entry of a task of pairs whose text is not at hand."""
    mean = (card.num_bytes / card.rows - PAIR_BYTES) / bytes_per_token
    lengths, counts = np.array(like["lengths"]).T
    inner = lengths - PAIR_TOKENS
    scaled = np.rint(PAIR_TOKENS + inner * mean / np.average(inner, weights=counts)).clip(max=LONGEST).astype(int)
    # Every row of the likeness stands for as many rows as there are, up to one: shares by the running sum.
    ends = np.rint(np.cumsum(counts) / counts.sum() * card.rows).astype(int)
    return _entry(np.repeat(scaled, np.diff(ends, prepend=0)), card.dev_rows, None, estimated=True)


def _entry(lengths: np.ndarray, dev_rows: int, vocabulary: int | None, *, estimated: bool) -> dict[str, Any]:
    values, counts = np.unique(lengths, return_counts=True)
    pairs = [[int(value), int(count)] for value, count in zip(values, counts, strict=True)]
    return {"dev_rows": dev_rows, "vocabulary": vocabulary, "estimated": estimated, "lengths": pairs}


def build(data_dir: Path, tokenizer_name: str, out: Path) -> None:
    """Writes the table of all eight tasks."""
    tokenizer = load_tokenizer(tokenizer_name)
    table, ratios = {}, []
    for task in GLUE_TASKS:
        if (data_dir / task.folder).is_dir():
            table[task.name], ratio = counted(task, data_dir, tokenizer)
            ratios.append(ratio)
    for name, card in CARD.items():
        if name not in table:
            require(card.like in table, f"to estimate {name}, {data_dir} must hold {card.like}")
            table[name] = estimated(card, table[card.like], float(np.mean(ratios)))
    missing = [task.name for task in GLUE_TASKS if task.name not in table]
    if missing:
        raise InputError(f"the data folder {data_dir} must hold {', '.join(missing)} in GLUE's layout; got none of it")
    lines = [f"{json.dumps(task.name)}: {json.dumps(table[task.name])}" for task in GLUE_TASKS]
    temporary = out.with_suffix(".tmp")
    temporary.write_text("{" + ",\n".join(lines) + "}\n", encoding="utf-8")
    os.replace(temporary, out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name(FILE))
    arguments = parser.parse_args()
    build(arguments.data_dir, arguments.tokenizer, arguments.out)
