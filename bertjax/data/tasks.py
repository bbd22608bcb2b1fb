"""The tasks bertjax knows by name: what their texts, labels, splits and metrics are called."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from bertjax.config import InputError

METRICS = ("accuracy", "f1", "mcc", "pearson", "spearman")
"""Every metric, in the order of the columns of results.csv."""


@dataclass(frozen=True)
class Task:
    """One sentence or sentence-pair task."""

    name: str
    """The hub's config name (`sst2`), a bundled sample (`gloss-class`), or any name for own data."""
    text_columns: tuple[str, ...]
    """The one or two text columns, in the hub's spelling."""
    label_names: tuple[str, ...]
    """Class names by class index; empty for regression."""
    dev_splits: tuple[str, ...]
    """Evaluation splits; the first is the one that scores."""
    metrics: tuple[str, ...]
    """A subset of `METRICS`."""
    folder: str
    """Folder of the task in GLUE's original layout; empty where there is none."""
    score_metrics: tuple[str, ...] = ()
    """Metrics whose mean is the task's score; empty means accuracy, or Pearson for regression."""

    @property
    def regression(self) -> bool:
        """The labels are numbers to predict, not classes."""
        return not self.label_names

    @property
    def num_labels(self) -> int:
        """Outputs of the task head: the number of classes, or 1 for regression."""
        return max(len(self.label_names), 1)

    def columns_of(self, outputs: Sequence[str]) -> list[int]:
        """For each of the task's labels the place of its name among the names of a head's outputs, in upper or lower
        case; outputs without names, which are called LABEL_0 and so on, are in the task's order.

        Raises:
            InputError: The names are not those of the labels.
        """
        if self.regression or unnamed(outputs):
            return list(range(self.num_labels))
        for spelled in (str, str.casefold):  # as they are first: names may differ in their case alone
            column = {spelled(name): number for number, name in enumerate(outputs)}
            wanted = [spelled(name) for name in self.label_names]
            if sorted(wanted) == sorted(column):
                return [column[name] for name in wanted]
        raise InputError(f"the model's labels must be those of {self.name} ({', '.join(self.label_names)}), "
                         f"got {', '.join(outputs)}")


def unnamed(outputs: Sequence[str]) -> bool:
    """Whether the outputs of a head have no names, but LABEL_0, LABEL_1 and so on."""
    return set(outputs) == {f"LABEL_{number}" for number in range(len(outputs))}


_DEV = ("validation",)
_PAIR = ("sentence1", "sentence2")
_ENTAILMENT = ("entailment", "not_entailment")

GLOSS_CLASSES = ("act", "animal", "artifact", "cognition", "communication", "food", "person", "plant", "state",
                 "substance")
"""WordNet's lexicographer classes in the bundled task `gloss-class`, by class index."""

GLUE_TASKS = (
    Task("cola", ("sentence",), ("unacceptable", "acceptable"), _DEV, ("accuracy", "mcc"), "CoLA", ("mcc",)),
    Task("sst2", ("sentence",), ("negative", "positive"), _DEV, ("accuracy",), "SST-2"),
    Task("mrpc", _PAIR, ("not_equivalent", "equivalent"), _DEV, ("accuracy", "f1"), "MRPC", ("accuracy", "f1")),
    Task("stsb", _PAIR, (), _DEV, ("pearson", "spearman"), "STS-B", ("pearson", "spearman")),
    Task("qqp", ("question1", "question2"), ("not_duplicate", "duplicate"), _DEV, ("accuracy", "f1"), "QQP",
         ("accuracy", "f1")),
    Task("mnli", ("premise", "hypothesis"), ("entailment", "neutral", "contradiction"),
         ("validation_matched", "validation_mismatched"), ("accuracy",), "MNLI"),
    Task("qnli", ("question", "sentence"), _ENTAILMENT, _DEV, ("accuracy",), "QNLI"),
    Task("rte", _PAIR, _ENTAILMENT, _DEV, ("accuracy",), "RTE"),
)
"""The eight tasks of GLUE without WNLI (arXiv:1804.07461), labels in the order of the hub's `nyu-mll/glue`."""

SAMPLE_TASKS = (
    Task("gloss-class", ("gloss",), GLOSS_CLASSES, _DEV, ("accuracy",), ""),
    Task("gloss-sense", ("gloss1", "gloss2"), ("unrelated", "close"), _DEV, ("accuracy",), ""),
    Task("gloss-similarity", ("gloss1", "gloss2"), (), _DEV, ("pearson", "spearman"), "", ("pearson", "spearman")),
)
"""The bundled tasks, made from WordNet glosses by `bertjax/data/samples/build.py`."""

TASKS: dict[str, Task] = {task.name: task for task in GLUE_TASKS + SAMPLE_TASKS}


def find_task(name: str) -> Task:
    """The task called `name`, in the hub's spelling or that of GLUE's folders, upper or lower case.

    Raises:
        InputError: no such task; the message lists the known ones and the closest.
    """
    spellings = {task.folder.lower(): task for task in TASKS.values() if task.folder} | TASKS
    found = spellings.get(name.lower())
    if found is not None:
        return found
    closest = difflib.get_close_matches(name.lower(), spellings, n=1)
    hint = f" (did you mean {spellings[closest[0]].name!r}?)" if closest else ""
    raise InputError(f"unknown task {name!r}{hint}; the tasks are {', '.join(TASKS)}")
