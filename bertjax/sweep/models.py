"""The models of a study: what each trial's weighs as a file, which ones stay on disk, and in which formats."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bertjax.artifact.card import licence_of
from bertjax.artifact.packed.model import PackedModel, pack_model
from bertjax.artifact.packed.pack import size_bytes_entropy
from bertjax.artifact.packed_folder import write_packed_folder
from bertjax.config import InputError
from bertjax.data.tasks import METRICS
from bertjax.model.hf import save_pretrained
from bertjax.params import Params
from bertjax.study import TrialConfig
from bertjax.sweep.execute import Executed
from bertjax.sweep.experiments import MINILM, MINILM_PACKAGE
from bertjax.sweep.inputs import TaskInputs
from bertjax.sweep.ledger import Ledger
from bertjax.sweep.outcome import Outcome
from bertjax.sweep.results import Row
from bertjax.train.processes import from_first

log = logging.getLogger(__name__)


def keep_models(
    ledger: Ledger, made: Executed, inputs: TaskInputs, keep: str, alone: bool = True
) -> list[Outcome]:
    """Writes the models that are to stay, and removes those that a better trial has taken the place of.

    Args:
        ledger: Where they are kept.
        made: Trials that are not in it yet.
        inputs: Their task.
        keep: `all`, `none`, or `best`: of each task, student and subset the trial with the best score.
        alone: Whether the best is sought among the trials of other programs too; if not, `keep_best` is to follow.

    Returns:
        The trials' outcomes with the sizes of their files, whether kept or not.
    """
    new = [outcome.row for outcome in made.outcomes if outcome.row["status"] == "done"]
    best = keep == "best" and alone and ledger.writes
    others = [row for row in ledger.rows() if ledger.has_model(row["trial_id"])] if best else []
    chosen = set() if keep == "none" else best_ids([*others, *new]) if keep == "best" else {
        row["trial_id"] for row in new}
    outcomes = [_kept(ledger, made, outcome, inputs, chosen) for outcome in made.outcomes]
    for row in others:
        if row["trial_id"] not in chosen:
            ledger.drop_model(row["trial_id"])
    return outcomes


def keep_best(ledger: Ledger, trial_ids: Sequence[str]) -> None:
    """Removes the models that a better trial has taken the place of.

    Args:
        ledger: Where they are.
        trial_ids: In the order of their programs: of equal scores the first stays.
    """
    place = {name: number for number, name in enumerate(trial_ids)}
    rows = [row for row in ledger.rows() if ledger.has_model(row["trial_id"])]
    rows.sort(key=lambda row: place.get(row["trial_id"], len(place)))
    chosen = best_ids(rows)
    for row in rows:
        if row["trial_id"] not in chosen:
            ledger.drop_model(row["trial_id"])


def _kept(ledger: Ledger, made: Executed, outcome: Outcome, inputs: TaskInputs, chosen: set[str]) -> Outcome:
    trial = outcome.trial
    if outcome.row["status"] != "done":
        return outcome
    params, origin = made.params(trial), origin_of(trial, outcome.row, inputs)

    def keep() -> Row:
        packed = pack_trial(trial, params, inputs, origin)
        if trial.trial_id in chosen:
            save_model(ledger.model_folder(trial), trial, params, inputs, origin)
            if packed is not None:
                write_packed_folder(ledger.packed_folder(trial), packed, inputs.tokenizer)
        return outcome.row | size_columns(packed)

    return replace(outcome, row=from_first(keep))


def save_model(
    folder: Path, trial: TrialConfig, params: Params, inputs: TaskInputs, origin: Mapping[str, str]
) -> None:
    """Writes a trial's model with its tokenizer, its label names, how it is quantized and where it is from."""
    task = inputs.data.task
    extras: dict[str, Any] = {"max_length": trial.data.max_length, "origin": dict(origin)}
    if trial.quantize.weight_bits is not None:
        extras["quantize"] = asdict(trial.quantize)
    if trial.train.dtype != "float32":
        extras["dtype"] = trial.train.dtype
    save_pretrained(
        folder, inputs.config, params, label_names=task.label_names, tokenizer=inputs.tokenizer,
        problem_type="regression" if task.regression else "single_label_classification", bertjax=extras,
    )


def pack_trial(
    trial: TrialConfig, params: Params, inputs: TaskInputs, origin: Mapping[str, str]
) -> PackedModel | None:
    """A trial's model, packed without entropy coding; None, with a line in the log, if a parameter is not finite."""
    try:
        return pack_model(params, inputs.config, trial.quantize, label_names=inputs.data.task.label_names,
                          max_length=trial.data.max_length, origin=origin, dtype=trial.train.dtype)
    except InputError as error:  # one that no dev row reads, such as that of a late position
        log.warning("%s has no packed model: %s", trial.trial_id, error)
        return None


def size_columns(packed: PackedModel | None) -> dict[str, int | None]:
    """The columns of results.csv about a packed model's file; blank without one."""
    if packed is None:
        return {"size_bytes_disk": None, "size_bytes_entropy": None}
    return {"size_bytes_disk": packed.num_bytes, "size_bytes_entropy": size_bytes_entropy(packed.packed)}


def origin_of(trial: TrialConfig, row: Row, inputs: TaskInputs) -> dict[str, str]:
    """Where a trial's model is from and what it scores, as it is kept in the model's own files: wherever they are
    copied, their cards can say so."""
    # Of a folder its name: where it lies on this machine says nothing elsewhere.
    base = f"{MINILM} (package {MINILM_PACKAGE})" if trial.model == MINILM else \
        Path(trial.model).name if Path(trial.model).expanduser().is_dir() else trial.model
    origin = {"trial_id": trial.trial_id, "task": trial.task, "methods": trial.methods, "base_model": base}
    if licence := licence_of(trial.model):
        origin["licence"] = licence
    if row["status"] == "done":
        origin["scores"] = scores_in_words(trial, row, inputs)
    return origin


def scores_in_words(trial: TrialConfig, row: Row, inputs: TaskInputs) -> str:
    """What a trial scores and how that was measured, for its model's card."""
    split, examples = next(iter(inputs.data.dev.items()))
    named = [f"{name} {row[name]:.2f}" for name in (*METRICS, "accuracy_mismatched") if row[name] is not None]
    picked = ""
    if trial.select_epoch is not None:
        place = "held-out training rows" if trial.select_epoch == "train" else "these rows"
        picked = f", of which epoch {row['selected_epoch']} was picked on {place}"
    return (f"**{row['score']:.2f} points** ({', '.join(named).replace('_', ' ')}) on the {len(examples)} rows of the "
            f"dev split \"{split}\" of {trial.task}: one training run with seed {trial.seed}, {trial.train.epochs} "
            f"epochs at learning rate {trial.learning_rate:g}{picked}.")


def best_ids(rows: Sequence[Row]) -> set[str]:
    """The best trial of each task, student and subset, by the held-out training rows if there are any; else by dev.

    Of equal scores the first.
    """
    def score(row: Row) -> float:
        # Rows of a table have NaN where others have None, and NaN equals nothing.
        known = row.get("select_score") is not None and row["select_score"] == row["select_score"]
        return row["select_score"] if known else row["score"]

    best: dict[tuple, Row] = {}
    for row in rows:
        cell = row["task"], row["model"], row["num_hidden_layers"], row["methods"]
        if cell not in best or score(row) > score(best[cell]):
            best[cell] = row
    return {row["trial_id"] for row in best.values()}
