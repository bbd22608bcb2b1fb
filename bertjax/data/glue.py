"""GLUE from disk or the hub: the benchmark's original TSV files, and the hub's Parquet files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bertjax.config import InputError
from bertjax.data.examples import Examples, TaskData, examples_from
from bertjax.data.tables import Table, read_parquet, read_text, split_lines, table_of
from bertjax.data.tasks import Task

HUB_DATASET = "nyu-mll/glue"


@dataclass(frozen=True)
class TsvLayout:
    """How one task's original TSV files are laid out. Extra fields at the end of a row are ignored, as on the hub."""

    text_columns: tuple[str, ...]
    label_column: str
    digits: bool = True
    """Classes are written as 0 and 1; otherwise by name."""
    header: tuple[str, ...] | None = None
    """Column names of files without a header line."""
    dev_files: tuple[str, ...] = ("dev.tsv",)
    """One per dev split of the task."""
    max_broken_rows: int = 0
    """Rows with too few fields that are dropped, as the hub drops them."""


TSV_LAYOUTS: Mapping[str, TsvLayout] = {
    "cola": TsvLayout(("sentence",), "label", header=("source", "label", "mark", "sentence")),
    "sst2": TsvLayout(("sentence",), "label"),
    "mrpc": TsvLayout(("#1 String", "#2 String"), "Quality"),
    "stsb": TsvLayout(("sentence1", "sentence2"), "score"),
    # QQP's train.tsv splits a question that holds a line end over two lines, for example at line 97,931
    # (nyu-mll/GLUE-baselines issue 5); the hub's copy lacks those rows.
    "qqp": TsvLayout(("question1", "question2"), "is_duplicate", max_broken_rows=8),
    "mnli": TsvLayout(("sentence1", "sentence2"), "gold_label", digits=False,
                      dev_files=("dev_matched.tsv", "dev_mismatched.tsv")),
    "qnli": TsvLayout(("question", "sentence"), "label", digits=False),
    "rte": TsvLayout(("sentence1", "sentence2"), "label", digits=False),
}


def load_local(task: Task, data_dir: Path) -> TaskData:
    """A task from a local folder in either layout.

    Raises:
        InputError: the folder holds the task in neither layout, or a file is broken.
    """
    for folder in (data_dir / task.folder, data_dir / task.name):
        if (folder / "train.tsv").is_file():
            layout = TSV_LAYOUTS[task.name]
            dev = {split: _read_split(task, folder / name, layout)
                   for split, name in zip(task.dev_splits, layout.dev_files, strict=True)}
            return TaskData(task, _read_split(task, folder / "train.tsv", layout), dev)
    folder = data_dir / task.name
    if any(folder.glob("train-*.parquet")):
        dev = {split: hub_examples(task, read_shards(folder, split)) for split in task.dev_splits}
        return TaskData(task, hub_examples(task, read_shards(folder, "train")), dev)
    raise InputError(f"the data folder {data_dir} must hold {task.folder}/train.tsv (GLUE's layout) or "
                     f"{task.name}/train-*.parquet (the hub's); got neither")


def load_hub(task: Task) -> TaskData:
    """A task from the hub, through `datasets` and its cache.

    Raises:
        InputError: the hub cannot be reached and the task is not in the cache.
    """
    tables = hub_tables(task.name, ("train", *task.dev_splits),
                        ", or use the bundled gloss-class, gloss-sense or gloss-similarity")
    return TaskData(task, hub_examples(task, tables["train"]),
                    {split: hub_examples(task, tables[split]) for split in task.dev_splits})


def hub_tables(config: str, splits: Sequence[str], other_ways: str = "") -> dict[str, Table]:
    """Splits of one config of the hub's data set by name, through `datasets` and its cache.

    Raises:
        InputError: the hub cannot be reached and the config is not in the cache; `other_ways` ends the message.
    """
    import datasets

    try:
        loaded = datasets.load_dataset(HUB_DATASET, config)
    except Exception as error:  # whatever the hub, the network or the cache raises, the way out is the same
        reason = str(error).split("\n")[0]
        raise InputError(f"{config} could not be loaded from the hub's {HUB_DATASET} ({reason}); give --data-dir a "
                         f"folder of GLUE{other_ways}") from error
    tables = {}
    for name in splits:
        split = loaded[name]
        columns = {key: list(split[key]) for key in split.column_names}
        tables[name] = Table(f"{HUB_DATASET} {config} {name}", columns, range(1, split.num_rows + 1), unit="row")
    return tables


def hub_examples(task: Task, table: Table) -> Examples:
    """Rows in the hub's columns: labels are class indices, or scores."""
    return examples_from(table, task.text_columns, "label", _digits(task.label_names))


def read_original(path: Path, layout: TsvLayout) -> Table:
    """One of GLUE's original TSV files."""
    rows = [line.split("\t") for line in split_lines(read_text(path))]
    header, first = (layout.header, 1) if layout.header else (tuple(rows.pop(0)), 2)
    kept, lines = [], []
    broken = 0
    for line, fields in enumerate(rows, start=first):
        if len(fields) < len(header) and broken < layout.max_broken_rows:
            broken += 1
            continue
        kept.append(fields[:len(header)])
        lines.append(line)
    return table_of(str(path), header, kept, lines)


def read_shards(folder: Path, split: str) -> Table:
    """The Parquet files of one split in the hub's layout. Raises `InputError` where there is none."""
    paths = sorted(folder.glob(f"{split}-*.parquet"))
    if not paths:
        raise InputError(f"{folder} must hold {split}-*.parquet; got none")
    return read_parquet(paths)


def _read_split(task: Task, path: Path, layout: TsvLayout) -> Examples:
    classes = _digits(task.label_names) if layout.digits else task.label_names
    return examples_from(read_original(path, layout), layout.text_columns, layout.label_column, classes)


def _digits(names: Sequence[str]) -> list[str]:
    return [str(label) for label in range(len(names))]
