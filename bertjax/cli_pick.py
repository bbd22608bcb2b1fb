"""What `bertjax pick` does once its arguments are parsed."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bertjax.cli_args import Pick
from bertjax.config import InputError, require
from bertjax.words import number_of

if TYPE_CHECKING:
    import pandas as pd


def pick_model(command: Pick) -> None:
    """Prints the pick, or JSON where no one looks.

    Raises:
        InputError: There are no results, a limit cannot be, or nothing is within the limits.
    """
    from bertjax.report.pick import Limits, closest, excess, pick
    limits = Limits(command.max_mb, command.max_ms, command.max_drop)
    table = read_candidates(command)
    picked = pick(table, limits)
    if picked is None:
        near = closest(table, limits)
        raise InputError(f"no model of {near['task']} is within the limits; the closest is {near['label']}: "
                         f"{' and '.join(excess(near, limits))}")
    chosen, better = answer(picked.row, command), None if picked.next is None else answer(picked.next, command)
    if not sys.stdout.isatty():
        print(json.dumps(chosen | {"next": better, "why_not_next": picked.why_not or None}))
        return
    print("\n".join(f"{name:<9}{text}" for name, text in lines(chosen, command)))
    if better is not None:
        print(f"\nWhy not {better['label']} ({figures(better)})? {picked.why_not}.")


def read_candidates(command: Pick) -> pd.DataFrame:
    """The settings of the task to pick from, see `bertjax.report.pick.candidates`."""
    from bertjax.report.pick import candidates
    from bertjax.report.predictions import read_predictions
    from bertjax.report.reading import read_results, read_study
    from bertjax.report.selection import select_rates
    from bertjax.sweep.latency_file import read_latency
    results = read_results(command.run_dir / "results.csv")
    tasks = list(results["task"].unique())
    require(command.batch_size >= 1, f"--batch-size must be at least 1, got {command.batch_size}")
    require(command.task is not None or len(tasks) == 1,
            f"{command.run_dir} has results of {', '.join(tasks)}: choose one by --task")
    task = command.task or tasks[0]
    require(task in tasks, f"{command.run_dir} has results of {', '.join(tasks)}, none of {task}")
    chosen = select_rates(results[results["task"] == task], read_study(command.run_dir)).results
    require(command.max_mb is None and command.max_drop is None or bool(chosen["size_bytes_disk"].notna().any()),
            f"--max-mb and --max-drop compare the sizes of packed files, and {command.run_dir} has none in its "
            "results.csv, which is of a former version: sweep again")
    times = {trial_id: measured.p50_ms for trial_id, measured in
             read_latency(command.run_dir, command.runtime, command.batch_size).items()}
    require(command.max_ms is None or not times.keys().isdisjoint(chosen["trial_id"]),
            f"--max-ms needs the milliseconds of batches of {command.batch_size} in {command.runtime}: "
            f"run `bertjax bench inference {shlex.quote(str(command.run_dir))} --task {task} "
            f"--batch-sizes {command.batch_size}` first")
    return candidates(chosen, read_predictions(command.run_dir, chosen), times)


def answer(row: pd.Series, command: Pick) -> dict[str, Any]:
    """A candidate as it is printed; what is not known is None. `folder` is that of a seed whose model was kept, and
    `folder_score` what that one scores."""
    folder = kept_folder(command.run_dir, row["trial_ids"])
    numbers = {name: float(row[name]) if np.isfinite(row[name]) else None
               for name in ("score", "low", "high", "mb", "ms", "drop")}
    return {"task": row["task"], "label": row["label"], "methods": row["methods"], **numbers,
            "trial_ids": row["trial_ids"], "folder": None if folder is None else str(folder),
            "folder_score": None if folder is None else float(row["scores"][row["trial_ids"].index(folder.name)]),
            "export": None if folder is None else export_command(folder, row["task"])}


def kept_folder(run_dir: Path, trial_ids: Sequence[str]) -> Path | None:
    """The folder of the first trial whose model is on disk."""
    from bertjax.sweep.ledger import Ledger
    from bertjax.sweep.run_dir import RunDir
    ledger = Ledger(RunDir(run_dir))
    return next((run_dir / "trials" / trial_id for trial_id in trial_ids if ledger.has_model(trial_id)), None)


def export_command(folder: Path, task: str) -> str:
    """What writes the model of a trial for ONNX Runtime, compared on the dev rows that it was trained for."""
    return shlex.join(["bertjax", "export", str(folder), "--format", "onnx", "--output", f"{folder.name}-onnx",
                       *data_flags(folder, task)])


def data_flags(folder: Path, task: str) -> list[str]:
    """The flags that name a trial's dev rows; none where its config does not tell of files."""
    from bertjax.data.tasks import TASKS
    from bertjax.sweep.kept import trial_data
    data = trial_data(folder)
    if data.dev_file is None or data.train_file is None:
        return [] if task not in TASKS else ["--task", task, *(["--data-dir", data.data_dir] if data.data_dir else [])]
    return ["--train-file", data.train_file, "--dev-file", data.dev_file, "--text-columns", *data.text_columns,
            "--label-column", data.label_column, *(["--regression"] if data.regression else [])]


def lines(chosen: dict[str, Any], command: Pick) -> list[tuple[str, str]]:
    """The pick on a terminal: names and what they are."""
    runs = len(chosen["trial_ids"])
    spread = "" if chosen["low"] is None else f", 95 % {chosen['low']:.2f} to {chosen['high']:.2f}"
    lost = "not known: there is no uncompressed model" if chosen["drop"] is None else \
        f"{max(chosen['drop'], 0):.2f} of the {chosen['score'] + chosen['drop']:.2f} of the best uncompressed model"
    time = "not measured: bertjax bench inference does" if chosen["ms"] is None else \
        f"{chosen['ms']:.3g} ms for a batch of {command.batch_size} in {command.runtime} (median)"
    model = "not kept: sweep again with --keep-models all" if chosen["folder"] is None else \
        chosen["folder"] + ("" if runs == 1 else f" (one of these runs, which scores {chosen['folder_score']:.2f})")
    return [
        ("take", f"{chosen['label']} on {chosen['task']}"),
        ("score", f"{chosen['score']:.2f} (mean of {number_of('run', runs)}{spread})"),
        ("lost", lost),
        ("file", "not known" if chosen["mb"] is None else f"{chosen['mb']:.2f} MB packed"),
        ("time", time),
        ("model", model),
        *([("export", chosen["export"])] if chosen["export"] else []),
    ]


def figures(candidate: dict[str, Any]) -> str:
    """Score, size and time of a candidate, those that are known."""
    known = [("score", "{:.2f} points"), ("mb", "{:.2f} MB packed"), ("ms", "{:.3g} ms")]
    return ", ".join(form.format(candidate[name]) for name, form in known if candidate[name] is not None)
