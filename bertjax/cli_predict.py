"""What `bertjax predict` does once its arguments are parsed: labels for texts, or files for GLUE's leaderboard."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from bertjax.cli_args import Predict
from bertjax.cli_outputs import check_writable
from bertjax.config import require


def predict(command: Predict) -> None:
    """Prints the label and probabilities, or the score, of every text; or writes a submission to GLUE."""
    if command.glue_submission is not None:
        submit(command, Path(command.glue_submission))
        return
    require(not (command.task or command.data_dir), "predict takes --task and --data-dir only with --glue-submission; "
                                                    "to score a model on a task's dev rows: bertjax evaluate")
    texts = texts_of(command)
    from bertjax.artifact.load import load
    results = load(command.model).predict(texts)
    named = [{"text": text} if isinstance(text, str) else {"text": text[0], "second": text[1]} for text in texts]
    rows = [name | result for name, result in zip(named, results, strict=True)]
    if sys.stdout.isatty():
        print_table(rows)
    else:
        for row in rows:
            print(json.dumps(row, ensure_ascii=False, default=float))


def submit(command: Predict, folder: Path) -> None:
    """Writes the files of GLUE's leaderboard that a model of the task answers, and says what is missing."""
    require(command.task is not None, "--glue-submission needs --task, the task of GLUE that the model was trained on")
    require(not (command.texts or command.second or command.file or command.text_columns != ("text",)),
            "--glue-submission predicts the test rows of --task; leave out texts, --second, --file and --text-columns")
    from bertjax.data.leaderboard import load_submission_rows
    from bertjax.data.tasks import find_task
    task = find_task(command.task or "")
    rows, left_out = load_submission_rows(task, None if command.data_dir is None else Path(command.data_dir))
    from bertjax.artifact.load import load
    from bertjax.artifact.submission import describe_submission, predict_submission, write_submission
    model = load(command.model)
    model.columns_of(task)  # refuses a model of another task before anything is made
    check_writable(folder, "--glue-submission")
    write_submission(folder, predict_submission(model, task, rows))
    print(describe_submission(folder, rows, left_out))


def texts_of(command: Predict) -> list[str] | list[tuple[str, str]]:
    """Texts or pairs, from the arguments, a file or standard input: lines are pairs when the first one holds a tab."""
    require(not (command.texts and command.file), "predict takes texts or --file, got both")
    if command.texts:
        require(command.text_columns == ("text",), "--text-columns are those of a --file, and texts were given")
        require(len(command.second) in (0, len(command.texts)),
                f"--second must hold one text for each of the {len(command.texts)} first ones, "
                f"got {len(command.second)}")
        return list(zip(command.texts, command.second, strict=True)) if command.second else list(command.texts)
    require(not command.second, "--second goes with texts given as arguments; in a file a tab parts the two of a pair")
    from bertjax.data.own import load_texts, parse_texts
    from bertjax.data.tables import SUFFIXES, decode, read_text
    path = None if command.file in (None, "-") else Path(command.file)
    if path is not None and path.suffix in SUFFIXES:
        return load_texts(path, command.text_columns)
    if path is None and sys.stdin.isatty():
        print("bertjax: reading one text per line; Ctrl-D ends", file=sys.stderr)
    require(command.text_columns == ("text",), f"--text-columns are those of a --file of {', '.join(SUFFIXES)}")
    name = "standard input" if path is None else str(path)
    content = decode(name, sys.stdin.buffer.read()) if path is None else read_text(path)
    return parse_texts(name, content, pairs="\t" in content.partition("\n")[0])


def print_table(rows: list[dict[str, Any]]) -> None:
    """Predictions for a reader: one line per text, the classes from the most to the least probable."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text
    pair, classes = "second" in rows[0], "label" in rows[0]
    table = Table(*(["text", "second"] if pair else ["text"]), *(["label", "probabilities"] if classes else ["score"]))
    for row in rows:
        texts = [Text(row["text"]), *([Text(row["second"])] if pair else [])]  # Text: brackets are not markup
        if classes:
            ranked = sorted(row["probabilities"].items(), key=lambda item: -item[1])
            shown = [Text(row["label"]), Text("  ".join(f"{label} {share:.3f}" for label, share in ranked[:3]))]
        else:
            shown = [Text(f"{row['score']:.3f}")]
        table.add_row(*texts, *shown)
    Console().print(table)
