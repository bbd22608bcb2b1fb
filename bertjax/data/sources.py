"""Where a task's rows come from: own files, a local GLUE folder, the bundled samples, or the hub."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import importlib.resources
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bertjax.config import DataConfig
from bertjax.data.examples import Examples, TaskData, examples_from, subset, unlabelled
from bertjax.data.glue import load_hub, load_local
from bertjax.data.own import load_own, load_texts, parse_texts
from bertjax.data.tables import decode, parse_tsv
from bertjax.data.tasks import SAMPLE_TASKS, Task, find_task

__all__ = ["Examples", "TaskData", "load_rows", "load_sample", "load_task", "load_texts", "parse_texts", "rows_hash",
           "unlabelled"]


def load_rows(task: str | None, values: Mapping[str, Any], classes: Sequence[str] = ()) -> TaskData:
    """The rows of a task, or of own files if `values` name them; then the task needs no name.

    Args:
        values: Fields of `DataConfig`. A dev file without a train file also says which classes there are.
        classes: Those of own files, see `load_own`.

    Raises:
        InputError: As `load_task`; or a setting that is out of range.
    """
    dev_file = values.get("dev_file")
    data = DataConfig(**({"train_file": dev_file} | dict(values) if dev_file else values))
    return load_task(task or f"own-{Path(dev_file or '').stem}", data, classes)


def load_task(name: str, data: DataConfig, classes: Sequence[str] = ()) -> TaskData:
    """The rows of a task; at most `data.max_train_examples` of them for training.

    Own files come first, whatever the name. A bundled task is read from the package, even where `data.data_dir` is
    set. Other tasks come from `data.data_dir`, or from the hub. `classes` are those of own files, see `load_own`.

    Raises:
        InputError: an unknown task, data that cannot be found, or a broken file.
    """
    loaded = _load(name, data, classes)
    return dataclasses.replace(loaded, train=subset(loaded.train, data.max_train_examples))


def rows_hash(data: TaskData) -> str:
    """The SHA-256 of a task's classes and of the texts and labels of its rows, wherever they were read from."""
    digest = hashlib.sha256(json.dumps(data.task.label_names).encode())
    for name, rows in {"train": data.train, **data.dev}.items():
        digest.update(json.dumps([name, rows.first, rows.second, rows.labels.tolist()]).encode())
    return digest.hexdigest()


def _load(name: str, data: DataConfig, classes: Sequence[str]) -> TaskData:
    if data.train_file is not None:
        return load_own(name, data, classes)
    task = find_task(name)
    if task in SAMPLE_TASKS:
        return load_sample(task)
    return load_hub(task) if data.data_dir is None else load_local(task, Path(data.data_dir))


def load_sample(task: Task) -> TaskData:
    """A bundled task. Its files are gzipped TSV with a header: the text columns, then `label` (a name or a score)."""
    folder = importlib.resources.files("bertjax.data") / "samples"
    splits = {}
    for split in ("train", *task.dev_splits):
        name = f"{task.name}.{split}.tsv"
        text = decode(name, gzip.decompress((folder / f"{name}.gz").read_bytes()))
        splits[split] = examples_from(parse_tsv(name, text), task.text_columns, "label", task.label_names)
    return TaskData(task, splits.pop("train"), splits)
