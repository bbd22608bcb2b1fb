"""A study's rehearsal: its config on made tasks and random weights, to find what breaks before the hours are paid for.

The tasks lie in the hub's Parquet layout, 64 rows each; the models have the sizes' true shapes and a small vocabulary.
All texts, and their copies with synonyms, have one length, so that tasks with as many labels compile the same programs.
All sizes are trained but the two largest, whose programs are lowered: that is all of the work before a compiler's.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pandas as pd
from safetensors.numpy import load_file, save_file

from bertjax.config import BertConfig, require
from bertjax.data.augment import wordnet
from bertjax.data.draws import draw_order
from bertjax.data.sources import load_sample
from bertjax.data.tasks import GLUE_TASKS, Task, find_task
from bertjax.data.tokens import load_tokenizer
from bertjax.model.bert import init_params
from bertjax.model.hf import SAFETENSORS, save_pretrained
from bertjax.model.sizes import size_config
from bertjax.study import StudyConfig
from bertjax.sweep.plan import ProgramPlan, programs
from bertjax.train.ahead import DataShape, lower_train_chunk
from bertjax.train.mesh import make_mesh, mesh_shape
from bertjax.train.program import program_spec
from bertjax.train.trial import orders_of

log = logging.getLogger(__name__)

ROWS = 64
"""Of every split."""

WORDS = 3
"""Of every text."""

LOWERED_ONLY = ("base", "large")
"""Sizes that are not trained: a laptop has neither the memory nor the hour."""

TEACHER = "tiny"
"""What stands for the teacher."""

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def smoke_study(study: StudyConfig, folder: Path) -> StudyConfig:
    """Makes the data and the models in `folder`; the study on them, without the sizes of `LOWERED_ONLY`.

    Raises:
        InputError: The study has no sizes to make, or a task that is not of GLUE.
    """
    trained = tuple(size for size in study.sizes if size not in LOWERED_ONLY)
    require(bool(trained), f"--smoke makes models of BERT's sizes: the study must have sizes besides "
                           f"{' and '.join(LOWERED_ONLY)}, got {', '.join(study.sizes) or 'none'}")
    known = [task.name for task in GLUE_TASKS]
    other = [task for task in study.tasks if task not in known]
    require(not other, f"--smoke makes GLUE's tasks, {', '.join(known)}; got {', '.join(other)}")
    words = made_words()
    for number, name in enumerate(study.tasks):
        make_task(find_task(name), words, folder / "data", number)
    for size in dict.fromkeys((*trained, TEACHER)):
        make_model(size, words, folder / "models" / size)
    return replace(
        study, sizes=trained, model=str(folder / "models" / "{size}"),
        data=replace(study.data, data_dir=str(folder / "data"), train_file=None, dev_file=None),
        teacher=replace(study.teacher, model=str(folder / "models" / TEACHER), num_hidden_layers=None,
                        fine_tuned=False))


def made_words() -> list[str]:
    """English words of the bundled samples, each a token, as are their synonyms."""
    glosses, synonyms = load_sample(find_task("gloss-class")).dev["validation"].first, wordnet().synonyms
    words = {word for gloss in glosses for word in re.findall("[a-z]{3,}", gloss)}
    return sorted(word for word in words if all(synonym.isalpha() for synonym in synonyms(word)))


def make_task(task: Task, words: Sequence[str], data_dir: Path, number: int) -> None:
    """Writes a task of random texts and labels in the hub's layout."""
    folder = data_dir / task.name
    folder.mkdir(parents=True, exist_ok=True)
    for place, split in enumerate(("train", *task.dev_splits)):
        order = draw_order(ROWS * WORDS * len(task.text_columns), number, place) % len(words)
        texts = [" ".join(words[i] for i in row) for row in order.reshape(-1, WORDS)]
        labels = np.arange(ROWS) % task.num_labels if task.label_names else similarities()
        columns = {name: texts[i::len(task.text_columns)] for i, name in enumerate(task.text_columns)}
        pd.DataFrame({**columns, "label": labels, "idx": np.arange(ROWS)}).to_parquet(
            folder / f"{split}-00000-of-00001.parquet")


def similarities() -> np.ndarray:
    """[row] from 0 to 5, most near 0: outputs do not get far in a few steps, and those of a start are to be better than
    what counts as diverged."""
    return 5 * np.linspace(0, 1, ROWS, dtype=np.float32) ** 6


def make_model(size: str, words: Sequence[str], folder: Path) -> None:
    """Writes a model of the size's layers with random weights and a vocabulary of `words`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *words]) + "\n", encoding="utf-8")
    config = made_config(size, words)
    params = jax.tree.map(np.asarray, init_params(config))
    save_pretrained(folder, config, params, tokenizer=load_tokenizer(str(folder)),
                    problem_type="single_label_classification")
    # A pretrained checkpoint has no task head; with one it would fit tasks of as many labels alone.
    tensors = load_file(folder / SAFETENSORS)
    save_file({name: tensor for name, tensor in tensors.items() if not name.startswith("classifier")},
              folder / SAFETENSORS, metadata={"format": "pt"})


def made_config(size: str, words: Sequence[str]) -> BertConfig:
    """The size's shape with the made vocabulary."""
    return replace(size_config(size), vocab_size=len(SPECIAL) + len(words))


def lower_largest(study: StudyConfig, mesh: str | None) -> int:
    """Lowers a program of every kind of task for the sizes of `LOWERED_ONLY`; how many."""
    sizes = tuple(size for size in study.sizes if size in LOWERED_ONLY)
    lowered, words = set(), made_words()
    for size in sizes:
        for program in programs(replace(study, sizes=(size,), model="{size}")):
            task, trials = find_task(program.task), program.trials
            kind = size, task.num_labels, task.regression, tuple(program.group_sizes)
            if kind not in lowered:
                log.info("%s, %s: lowering a program of %d trials", size, program.task, len(trials))
                _lower(program, replace(made_config(size, words), num_labels=task.num_labels), mesh)
                lowered.add(kind)
    return len(lowered)


def _lower(program: ProgramPlan, config: BertConfig, mesh: str | None) -> None:
    trials = program.trials
    first, spec = trials[0], program_spec(trials, config, find_task(program.task).regression)
    rows = ROWS * (2 + max(trial.table_copies for trial in trials))
    data = DataShape(rows, longest=2 * WORDS + 3, batch_size=first.train.batch_size,
                     steps=first.train.epochs * -(-ROWS // first.train.batch_size), orders=len(orders_of(trials)))
    shape = mesh_shape(mesh, jax.device_count(), program.group_sizes, data.batch_size)
    lower_train_chunk(spec, make_mesh(shape), program.group_sizes, data, data.longest)
