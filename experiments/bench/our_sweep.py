"""Our side of `train_speed.py`: a sweep's own program on SST-2, timed for one pass over its first rows.

A server: for every line of JSON on standard input, `{"methods": [...], "seeds": [...], "variant": null}`, it trains
these trials for one pass over the rows and writes one line of JSON. `"checkpoint_seconds": 30` has it write
checkpoints meanwhile. A program compiles and warms up at its first use; the first one and the last other one are kept.
Model, vocabulary, batch lengths and table are those of a sweep of the task.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from bertjax.config import DataConfig, TrainConfig
from bertjax.data.batches import choose_edges
from bertjax.study import StudyConfig, TrialConfig
from bertjax.sweep.inputs import TaskInputs, task_inputs
from bertjax.sweep.program import Program, one_step_per_length
from bertjax.sweep.starts import load_start
from bertjax.sweep.teacher import TeacherForward
from bertjax.sweep.throughput import Timed, rates, timed_forward, work_of
from bertjax.train.checkpoint import Checkpoints
from bertjax.train.loop import Fit
from bertjax.train.mesh import make_mesh
from bertjax.train.program import CompiledChunks, part_tokens
from bertjax.train.trial import student_trials, students
from experiments.bench.step_profile import profiled
from experiments.bench.variants import AS_IT_IS, VARIANTS

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
        self.programs: dict[Any, CompiledChunks] = {}

    @cached_property
    def inputs(self) -> TaskInputs:
        """The task, with the batch lengths that a sweep takes which is long enough to pay for their compilation."""
        trials = self.trials(self.study.methods, (0,))
        inputs = task_inputs(trials)
        lengths = inputs.rows.lengths[: len(inputs.rows.train)]
        edges = choose_edges(lengths, self.buckets, self.study.train.batch_size)
        return replace(inputs, epoch_lengths=lengths[: self.rows], buckets=edges, edges=edges)

    def trials(self, methods: Sequence[str], seeds: Sequence[int]) -> list[TrialConfig]:
        """Trials as a study makes them."""
        study = replace(self.study, methods=tuple(methods), seeds=tuple(seeds))
        return student_trials(study, "sst2", students(study)[0])

    @cached_property
    def teacher(self) -> tuple[np.ndarray, dict[str, float]]:
        """A teacher's outputs on the rows (zeros on the others), and what computing them took.

        Its weights do not matter for the time: it is the start of a trial with all layers.
        """
        trial = replace(self.trials(("none",), (0,))[0], num_hidden_layers=None)
        inputs = replace(task_inputs([trial]), eval_edges=self.inputs.eval_edges)
        forward = TeacherForward.of(trial, load_start(trial, inputs).params, inputs, self.mesh)
        logits, seconds = timed_forward(forward, range(self.rows))
        column = np.zeros((len(inputs.rows.train), inputs.config.num_labels), np.float32)
        column[: self.rows] = logits
        return column, {"teacher_seconds": round(seconds, SECONDS_DIGITS),
                        "teacher_rows_per_s": round(self.rows / seconds, 1)}

    def run(self, methods: Sequence[str], seeds: Sequence[int], variant: str | None = None, profile: bool = False,
            checkpoint_seconds: float | None = None) -> dict[str, Any]:
        """Trains the trials once over the rows, or a variant of `experiments.bench.variants`.

        With `checkpoint_seconds` it writes a checkpoint whenever so many have passed; the last one's is waited for.
        With `profile` it does so once more, to say how many seconds each part of the step takes.
        """
        trials = self.trials(methods, seeds)
        teacher_logits, teacher = self.teacher if any(t.distill_weight for t in trials) else (None, {})
        other = AS_IT_IS if variant is None else VARIANTS[variant]
        trials = [other.trial(trial) for trial in trials]
        inputs = other.inputs(replace(self.inputs, config=other.config(self.inputs.config)))
        part = part_tokens(inputs.train_config, "cpu") if other.parts else None
        program = Program(trials, inputs, self.mesh, teacher_logits, part, epochs=1)
        key = tuple((quantize, len(group)) for quantize, group in program.groups.items()), tuple(seeds), variant
        with other.code():
            if key not in self.programs:
                for dropped in list(self.programs)[1:]:
                    del self.programs[dropped]
                self.programs[key] = program.chunks()
                program.fit(self.programs[key], one_step_per_length(program.rows))
            chunks = self.programs[key]
            with tempfile.TemporaryDirectory() as folder:
                checkpoints = None if checkpoint_seconds is None else Counted(epath.Path(folder), checkpoint_seconds)
                fitted = program.fit(chunks, checkpoints=checkpoints)
                timed = Timed.of(fitted)
                stored = {} if checkpoints is None else {
                    "checkpoints": checkpoints.written, "checkpoint_bytes": newest_bytes(Path(folder))}
            parts = self.profile(program, chunks) if profile else {}
        work = work_of(program)
        return {
            "trial_examples_per_s": round(rates(work, timed)["trial_examples_per_s"], 2),
            "seconds": round(timed.seconds, SECONDS_DIGITS), "trials": len(trials), "steps": len(program.rows.bucket),
            "compile_seconds": round(chunks.seconds, SECONDS_DIGITS), "compilations": len(chunks.compiled),
            "edges": program.rows.edges, "padding": round(work.padding, 4), **teacher,
            "last_losses": last_losses(program, fitted), "rows": self.rows, "jax": version("jax"),
            "cores": len(os.sched_getaffinity(0)), **parts, **stored,
        }

    def profile(self, program: Program, chunks: CompiledChunks) -> dict[str, dict[str, float]]:
        """Seconds of each part of the step, threads added up; one trace per length, whose operations share names."""
        seconds: Counter[str] = Counter()
        for index, length in enumerate(program.rows.edges):
            bucket = program.rows.bucket[program.rows.bucket == index]
            if len(bucket):
                same = replace(program.rows, bucket=bucket, steps_per_epoch=len(bucket))
                (hlo,) = (chunk.as_text() for made, chunk in chunks.compiled.items()
                          if (made.kind, made.length) == ("train", length))
                seconds += profiled(partial(program.fit, chunks, same), hlo)
        return {"parts": {part: round(taken, SECONDS_DIGITS) for part, taken in seconds.most_common()}}


def last_losses(program: Program, fitted: Fit) -> dict[str, float]:
    """The mean loss on the labels in the last quarter of the steps, of each subset's trials."""
    of_trials: dict[str, list[float]] = {}
    for group, metrics in zip(program.groups.values(), fitted.metrics, strict=True):
        means = metrics.task_loss[3 * len(metrics.task_loss) // 4 :].mean(0)
        for trial, mean in zip(group, means[: len(group)].tolist(), strict=True):
            of_trials.setdefault(trial.methods, []).append(mean)
    return {methods: round(statistics.mean(means), 4) for methods, means in of_trials.items()}


def newest_bytes(folder: Path) -> int:
    """Of the newest checkpoint."""
    newest = max((place for place in folder.iterdir() if place.name.isdigit()), key=lambda place: int(place.name),
                 default=folder)
    return sum(file.stat().st_size for file in newest.rglob("*") if file.is_file())


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
