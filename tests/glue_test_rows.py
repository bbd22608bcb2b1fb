"""GLUE's test rows in small: every file that a submission answers, in GLUE's layout, the hub's, and from the hub."""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass
from pathlib import Path

import pandas
import pytest

INDEX = (7, 3, 0)
"""The rows' numbers: no count from 0, so that only who reads them has them."""


@dataclass(frozen=True)
class GlueFile:
    """One file of a submission and its rows' places, as GLUE and the hub have them."""

    task: str
    name: str
    original: str
    header: str
    """Of GLUE's test file."""
    hub: str
    split: str
    columns: tuple[str, ...]
    """The hub's text columns."""

    @property
    def texts(self) -> list[tuple[str, ...]]:
        """Three rows of texts, with quotes; the last word is the row's number."""
        return [tuple(f'{self.name} "{column} big {row}' for column in self.columns) for row in range(3)]


PAIR = ("sentence1", "sentence2")
NLI = ("premise", "hypothesis")
PARSES = "sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse"
MNLI = f"index promptID pairID genre {PARSES} sentence1 sentence2"
FILES = (
    GlueFile("cola", "CoLA.tsv", "CoLA/test.tsv", "index sentence", "cola", "test", ("sentence",)),
    GlueFile("sst2", "SST-2.tsv", "SST-2/test.tsv", "index sentence", "sst2", "test", ("sentence",)),
    GlueFile("mrpc", "MRPC.tsv", "MRPC/test.tsv", "index|#1 ID|#2 ID|#1 String|#2 String", "mrpc", "test", PAIR),
    GlueFile("stsb", "STS-B.tsv", "STS-B/test.tsv",
             "index genre filename year old_index source1 source2 sentence1 sentence2", "stsb", "test", PAIR),
    GlueFile("qqp", "QQP.tsv", "QQP/test.tsv", "id question1 question2", "qqp", "test", ("question1", "question2")),
    GlueFile("mnli", "MNLI-m.tsv", "MNLI/test_matched.tsv", MNLI, "mnli", "test_matched", NLI),
    GlueFile("mnli", "MNLI-mm.tsv", "MNLI/test_mismatched.tsv", MNLI, "mnli", "test_mismatched", NLI),
    GlueFile("mnli", "AX.tsv", "diagnostic/diagnostic.tsv", "index sentence1 sentence2", "ax", "test", NLI),
    GlueFile("qnli", "QNLI.tsv", "QNLI/test.tsv", "index question sentence", "qnli", "test", ("question", "sentence")),
    GlueFile("rte", "RTE.tsv", "RTE/test.tsv", "index sentence1 sentence2", "rte", "test", PAIR),
)


def files_of(task: str) -> list[GlueFile]:
    """The files that a model of a task answers."""
    return [file for file in FILES if file.task == task]


def write_original(folder: Path, files: list[GlueFile]) -> None:
    """GLUE's own test files: the index first, the texts in the last columns, no label."""
    for file in files:
        names = file.header.split("|" if "|" in file.header else " ")
        lines = ["\t".join(names)]
        for number, texts in zip(INDEX, file.texts, strict=True):
            lines.append("\t".join([str(number), *["x"] * (len(names) - 1 - len(texts)), *texts]))
        (folder / file.original).parent.mkdir(parents=True, exist_ok=True)
        (folder / file.original).write_text("\n".join(lines) + "\n")


def frame(file: GlueFile) -> pandas.DataFrame:
    """The hub's rows of a test split, whose labels are all -1."""
    columns = [*file.columns, "label", "idx"]
    return pandas.DataFrame([(*texts, -1, number) for texts, number in zip(file.texts, INDEX, strict=True)],
                            columns=columns)


def write_parquet(folder: Path, files: list[GlueFile]) -> None:
    """The hub's Parquet files, in two shards."""
    for file in files:
        (folder / file.hub).mkdir(parents=True, exist_ok=True)
        for shard, rows in enumerate((frame(file)[:2], frame(file)[2:])):
            rows.to_parquet(folder / file.hub / f"{file.split}-0000{shard}-of-00002.parquet")


def pretend_hub(files: list[GlueFile], monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets.load_dataset` gives these files only; other configs cannot be reached."""

    class Split:
        def __init__(self, file: GlueFile) -> None:
            self.rows = frame(file)
            self.column_names, self.num_rows = list(self.rows), len(self.rows)

        def __getitem__(self, name: str) -> list:
            return self.rows[name].tolist()

    def load_dataset(name: str, config: str) -> dict[str, Split]:
        found = {file.split: Split(file) for file in files if file.hub == config}
        if not found:
            raise ConnectionError("Couldn't reach the hub\nsecond line")
        return found

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
