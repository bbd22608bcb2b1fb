"""A model's predictions of GLUE's test rows as the files that the benchmark's leaderboard takes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Float

from bertjax.config import InputError, require
from bertjax.data.examples import Examples
from bertjax.data.glue import TSV_LAYOUTS
from bertjax.data.leaderboard import LEADERBOARD_ROWS, SubmissionRows
from bertjax.data.tasks import Task

SCORE_RANGE = (0.0, 5.0)
"""Of STS-B's similarities; scores outside are moved to the nearer end."""


class Predictor(Protocol):
    """What a submission asks of a model: `bertjax.artifact.load.Model` gives it."""

    def task_logits(self, task: Task, examples: Examples) -> Float[np.ndarray, "row labels"]:
        """Logits in the order of the task's labels, or one column of scores."""


def predict_submission(model: Predictor, task: Task, rows: Sequence[SubmissionRows]) -> dict[str, str]:
    """The content of each file that `rows` asks for, by its name. Nothing is written.

    Raises:
        InputError: The task's labels are not the model's, or an output is not finite.
    """
    return {part.name: submission_text(task, part.index, model.task_logits(task, part.examples)) for part in rows}


def submission_text(task: Task, index: Sequence[int], outputs: Float[np.ndarray, "row labels"]) -> str:
    """One file: a line "index<tab>prediction", then a line for each row, in the order given.

    A prediction is what the task's original files call the class (0 and 1, or entailment and the like), or a score
    with six decimals, moved into `SCORE_RANGE`.

    Args:
        index: The benchmark's numbers of the rows.
        outputs: Logits in the order of the task's labels, or one column of scores.

    Raises:
        InputError: An output is not finite.
    """
    bad = len(outputs) - int(np.isfinite(outputs).all(axis=1).sum())
    require(bad == 0, f"the model's outputs must be finite, got {bad} of {len(outputs)} rows of {task.name} that are "
                      "not: it has diverged; train it again, or take another one")
    if task.regression:
        predictions = [f"{score:.6f}" for score in np.clip(outputs[:, 0], *SCORE_RANGE) + 0.0]  # + 0.0: no "-0.000000"
    else:
        digits = [str(label) for label in range(task.num_labels)]
        words = digits if TSV_LAYOUTS[task.name].digits else task.label_names
        predictions = [words[label] for label in outputs.argmax(axis=1)]
    lines = [f"{number}\t{prediction}" for number, prediction in zip(index, predictions, strict=True)]
    return "\n".join(["index\tprediction", *lines]) + "\n"


def write_submission(folder: Path, files: Mapping[str, str]) -> None:
    """Writes the files into an existing folder, none before all of them stand complete under another name.

    Raises:
        InputError: The folder cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".submission.") as made:
            for name, text in files.items():
                (Path(made) / name).write_text(text, encoding="utf-8", newline="\n")
            for name in files:
                os.replace(Path(made) / name, folder / name)
    except OSError as error:
        raise InputError(f"{folder}: the submission cannot be written ({error.strerror})") from None


def describe_submission(folder: Path, rows: Sequence[SubmissionRows], left_out: Sequence[str]) -> str:
    """What was written, what was left out, and what `folder` still lacks of a complete submission, a line for each.

    Args:
        folder: After writing.
        rows: What was asked of the model.
        left_out: A line for each file whose rows were not found.
    """
    lines = []
    for part in rows:
        count, asked = len(part.index), LEADERBOARD_ROWS[part.name]
        note = "" if count == asked else f", but the leaderboard asks for {asked:,}"
        lines.append(f"written: {folder / part.name} ({count:,} rows{note})")
    lines += [f"left out: {line}" for line in left_out]
    missing = [name for name in LEADERBOARD_ROWS if not (folder / name).is_file()]
    if missing:
        lines.append(f"a complete submission also needs: {', '.join(missing)}")
    if "WNLI.tsv" in missing:
        lines.append("WNLI is no task of bertjax: its file must come from elsewhere")
    return "\n".join(lines if missing else [*lines, f"complete: the {len(LEADERBOARD_ROWS)} files make the zip"])
