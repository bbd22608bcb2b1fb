"""Our side of `train_speed.py`: a sweep's own program on SST-2, timed for one pass over its first rows.

A server: for every line of JSON on standard input, `{"methods": [...], "seeds": [...], "ablate": null}`, it trains
these trials for one pass over the rows and writes one line of JSON. `"checkpoint_seconds": 30` has it write
checkpoints meanwhile. A program compiles and warms up at its first use
and is kept. Model, vocabulary, batch lengths and table are those of a sweep of the task.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import jax
import numpy as np
from etils import epath

from bertjax.config import FLOAT, BertConfig, DataConfig, TrainConfig
from bertjax.data.batches import Schedule, choose_edges, padding_fraction, train_schedule
from bertjax.model import bert
from bertjax.params import EMBEDDINGS, Params, select
from bertjax.study import StudyConfig, TrialConfig
from bertjax.sweep.inputs import EVAL_BATCH_SIZE, TaskInputs, task_inputs
from bertjax.sweep.starts import Starts
from bertjax.train import step
from bertjax.train.checkpoint import Checkpoints
from bertjax.train.loop import Fit, fit, predict_rows
from bertjax.train.mesh import make_mesh
from bertjax.train.program import (
    CompiledChunks,
    part_tokens,
    place_group,
    place_schedule,
    place_table,
    program_spec,
)
from bertjax.train.state import Hparams, Losses, StepMetrics
from bertjax.train.trial import orders_of, split_groups, student_trials, students
from experiments.bench.step_profile import profiled

SECONDS_DIGITS = 3


@dataclass
class Counted(Checkpoints):
    """Checkpoints that are counted."""

    written: int = 0

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.written += 1
        super().save(*args, **kwargs)


class Side:
    """The task, the teacher's outputs and the compiled programs."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.rows, self.layers, self.buckets = args.rows, args.layers, args.buckets
        self.mesh = make_mesh((1, 1))
        self.study = StudyConfig(
            name="speed", model=str(args.model), layers=() if args.layers is None else (args.layers,), tasks=("sst2",),
            learning_rates=(5e-5,), data=DataConfig(data_dir=str(args.data_dir)),
            train=TrainConfig(reinit_pooler=True),
        )
        self.starts = Starts(self.inputs, {})
        self.programs: dict[Any, CompiledChunks] = {}

    @cached_property
    def inputs(self) -> TaskInputs:
        """The task, with the batch lengths that a sweep takes which is long enough to pay for their compilation."""
        trials = self.trials(self.study.methods, (0,))
        inputs = task_inputs(trials)
        lengths = inputs.rows.lengths[: len(inputs.rows.train)]
        return replace(inputs, edges=choose_edges(lengths, self.buckets, self.study.train.batch_size))

    def trials(self, methods: Sequence[str], seeds: Sequence[int]) -> list[TrialConfig]:
        """Trials as a study makes them."""
        study = replace(self.study, methods=tuple(methods), seeds=tuple(seeds))
        return student_trials(study, "sst2", students(study)[0])

    def schedule(self, seeds: Sequence[int]) -> Schedule:
        """One pass over the rows."""
        lengths = self.inputs.rows.lengths[: self.rows]
        return train_schedule(lengths, self.inputs.edges, self.study.train.batch_size, 1, seeds)

    @cached_property
    def teacher(self) -> tuple[np.ndarray, dict[str, float]]:
        """A teacher's outputs on the rows (zeros on the others), and what computing them took.

        Its weights do not matter for the time: it is the start of a trial with all layers.
        """
        trial = replace(self.trials(("none",), (0,))[0], num_hidden_layers=None)
        inputs = replace(task_inputs([trial]), eval_edges=self.inputs.eval_edges)
        state, _ = place_group([trial], Starts(inputs, {}).used, orders_of([trial]), 1, self.mesh)
        chunks = CompiledChunks(program_spec([trial], inputs.train_config, regression=False), self.mesh)
        table = place_table(inputs.rows.table(inputs.config.num_labels), self.mesh)
        taken = []
        for _ in range(2):  # the first compiles and warms up
            start, compiling = time.perf_counter(), chunks.seconds
            (logits,) = predict_rows(chunks, (state,), table, range(self.rows), inputs.rows.lengths, inputs.eval_edges,
                                     EVAL_BATCH_SIZE)
            taken.append(time.perf_counter() - start - (chunks.seconds - compiling))
        column = np.zeros((len(inputs.rows.train), inputs.config.num_labels), np.float32)
        column[: self.rows] = logits[0]
        return column, {"teacher_seconds": round(taken[-1], SECONDS_DIGITS),
                        "teacher_rows_per_s": round(self.rows / taken[-1], 1)}

    def run(self, methods: Sequence[str], seeds: Sequence[int], ablate: str | None = None, profile: bool = False,
            checkpoint_seconds: float | None = None) -> dict[str, Any]:
        """Trains the trials once over the rows, with a part of the step left out if `ablate` names one.

        With `checkpoint_seconds` it writes a checkpoint whenever so many have passed; the last one's is waited for.
        With `profile` it does so once more, to say how many seconds each part of the step takes.
        """
        trials = self.trials(methods, seeds)
        teacher_logits, teacher = self.teacher if any(t.distill_weight for t in trials) else (None, {})
        if ablate in TRIALS:
            trials = [TRIALS[ablate](trial) for trial in trials]
        groups, schedule = split_groups(trials), self.schedule(seeds)
        key = tuple((quantize, len(group)) for quantize, group in groups.items()), tuple(seeds), ablate
        with PATCHES.get(ablate, nullcontext)():
            if key not in self.programs:
                inputs = replace(self.inputs, config=CONFIGS.get(ablate, lambda config: config)(self.inputs.config))
                part = None if ablate == "parts" else part_tokens(inputs.train_config, "cpu")
                spec = program_spec(trials, inputs.train_config, regression=False, part_tokens=part)
                self.programs[key] = CompiledChunks(spec, self.mesh)
                self.fit(key, trials, seeds, one_step_per_length(schedule), teacher_logits)
            with tempfile.TemporaryDirectory() as folder:
                checkpoints = None if checkpoint_seconds is None else Counted(epath.Path(folder), checkpoint_seconds)
                fitted = self.fit(key, trials, seeds, schedule, teacher_logits, checkpoints)
                stored = {} if checkpoints is None else {
                    "checkpoints": checkpoints.written, "checkpoint_bytes": newest_bytes(Path(folder))}
            parts = self.profile(key, trials, seeds, schedule, teacher_logits) if profile else {}
        chunks, examples = self.programs[key], self.rows * len(trials)
        return {
            "trial_examples_per_s": round(examples / fitted.seconds, 2),
            "seconds": round(fitted.seconds, SECONDS_DIGITS), "trials": len(trials), "steps": len(schedule.bucket),
            "compile_seconds": round(chunks.seconds, SECONDS_DIGITS), "compilations": len(chunks.compiled),
            "edges": schedule.edges, "padding": round(self.padding(), 4), **teacher,
            "rows": self.rows, "jax": version("jax"), "cores": len(os.sched_getaffinity(0)), **parts, **stored,
        }

    def fit(self, key: Any, trials: Sequence[TrialConfig], seeds: Sequence[int], steps: Schedule,
            teacher_logits: np.ndarray | None, checkpoints: Checkpoints | None = None) -> Fit:
        """Trains from the start; `steps` may be some of the schedule's, whose arrays have the shapes compiled for."""
        whole = self.schedule(seeds)
        placed = [place_group(group, self.starts.used, orders_of(trials), len(whole.bucket), self.mesh)
                  for group in split_groups(trials).values()]
        states, numbers = jax.block_until_ready(tuple(zip(*placed, strict=True)))
        return fit(
            self.programs[key], states, numbers,
            place_table(self.inputs.rows.table(self.inputs.config.num_labels, teacher_logits), self.mesh),
            steps, place_schedule(whole.row_index, whole.row_weight, self.mesh), eval_rows=range(0),
            lengths=self.inputs.rows.lengths, eval_edges=self.inputs.eval_edges, eval_batch_size=EVAL_BATCH_SIZE,
            checkpoints=checkpoints,
        )

    def profile(self, key: Any, trials: Sequence[TrialConfig], seeds: Sequence[int], schedule: Schedule,
                teacher_logits: np.ndarray | None) -> dict[str, dict[str, float]]:
        """Seconds of each part of the step, threads added up; one trace per length, whose operations share names."""
        seconds: Counter[str] = Counter()
        for index, length in enumerate(schedule.edges):
            bucket = schedule.bucket[schedule.bucket == index]
            if len(bucket):
                same = replace(schedule, bucket=bucket, steps_per_epoch=len(bucket))
                (hlo,) = (chunk.as_text() for made, chunk in self.programs[key].compiled.items()
                          if (made.kind, made.length) == ("train", length))
                seconds += profiled(partial(self.fit, key, trials, seeds, same, teacher_logits), hlo)
        return {"parts": {part: round(taken, SECONDS_DIGITS) for part, taken in seconds.most_common()}}

    def padding(self) -> float:
        """Share of the tokens computed on these rows; a pass over the whole task has less."""
        return padding_fraction(self.inputs.rows.lengths[: self.rows], self.inputs.edges, self.study.train.batch_size)


def newest_bytes(folder: Path) -> int:
    """Of the newest checkpoint."""
    newest = max((place for place in folder.iterdir() if place.name.isdigit()), key=lambda place: int(place.name),
                 default=folder)
    return sum(file.stat().st_size for file in newest.rglob("*") if file.is_file())


def one_step_per_length(schedule: Schedule) -> Schedule:
    """A step of each batch length: compiles and runs them all."""
    bucket = np.unique(schedule.bucket)
    return replace(schedule, bucket=bucket, steps_per_epoch=len(bucket))


def descend(params: Params, opt_state: Any, hparams: Hparams, grads: Params, losses: Losses, *, step: Any) -> Any:
    """Stands for `update_trial`: plain gradient descent, so that no gradient is optimized away."""
    params = jax.tree.map(lambda p, g: p - 1e-6 * g, params, grads)
    return params, opt_state, StepMetrics(losses.loss, losses.task_loss, losses.loss)


def forward_only(loss: Callable[..., Any], has_aux: bool) -> Callable[..., Any]:
    """Stands for `jax.grad`: the parameters themselves, scaled, as gradients."""

    def gradients(params: Params, *rest: Any) -> Any:
        value, losses = loss(params, *rest)
        return jax.tree.map(lambda p: p * value, params), losses

    return gradients


def without_embedding_gradients(*args: Any, **kwargs: Any) -> Params:
    """Stands for `effective_params`."""
    params = _EFFECTIVE_PARAMS(*args, **kwargs)
    return jax.tree.map(lambda p, table: jax.lax.stop_gradient(p) if table else p, params, select(params, EMBEDDINGS))


_EFFECTIVE_PARAMS = step.effective_params

PATCHES: dict[str | None, Callable[[], AbstractContextManager[Any]]] = {
    "optimizer": lambda: patch.object(step, "update_trial", descend),
    "backward": lambda: patch.object(jax, "grad", forward_only),
    "embedding gradients": lambda: patch.object(step, "effective_params", without_embedding_gradients),
    "mask application": lambda: patch.object(step, "apply_masks", lambda params, masks: params),
    "exact gelu": lambda: patch.object(bert, "gelu", partial(jax.nn.gelu, approximate=True)),
}
"""What is left out of the step by putting something cheaper in its place."""

CONFIGS: dict[str | None, Callable[[BertConfig], BertConfig]] = {
    "dropout": lambda config: replace(config, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0),
    "attention dropout": lambda config: replace(config, attention_probs_dropout_prob=0.0),
}
"""What is left out by another config."""

TRIALS: dict[str | None, Callable[[TrialConfig], TrialConfig]] = {
    "mask updates": lambda trial: replace(trial, sparsity=0.0),
    "quantization": lambda trial: replace(trial, quantize=FLOAT),
}
"""What is left out by other trials."""


def main() -> None:
    """Serves until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of a BERT")
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with SST-2/train.tsv in GLUE's layout")
    parser.add_argument("--rows", type=int, required=True, help="rows to train on, from the start of the task")
    parser.add_argument("--layers", type=int, default=None, help="keep the first layers only; the teacher keeps all")
    parser.add_argument("--buckets", type=int, default=16, help="most batch lengths")
    side = Side(parser.parse_args())
    for line in sys.stdin:
        made = side.run(**json.loads(line))
        sys.stdout.write(json.dumps(made) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
