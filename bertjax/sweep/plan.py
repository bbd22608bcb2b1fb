"""A study as the programs that will run it, and what they will take, told before anything trains."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bertjax.config import require
from bertjax.study import StudyConfig, TrialConfig
from bertjax.sweep.inputs import task_inputs
from bertjax.sweep.starts import load_start
from bertjax.sweep.teacher import tuned_teacher
from bertjax.train.trial import split_groups, split_programs, student_trials, students, teacher_trial

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProgramPlan:
    """The trials of one task and student that are stepped together."""

    task: str
    trials: tuple[TrialConfig, ...]
    planned: tuple[TrialConfig, ...] = ()
    """Those of the study, where only some of them are left to train."""

    @property
    def whole(self) -> tuple[TrialConfig, ...]:
        """The trials of the study: batch lengths and copies go by them, so that a trial reads the same rows whenever it
        is trained."""
        return self.planned or self.trials

    @property
    def group_sizes(self) -> list[int]:
        """Trials of each group."""
        return [len(group) for group in split_groups(self.trials).values()]


def programs(study: StudyConfig) -> Iterator[ProgramPlan]:
    """Every program of the study's students, task by task."""
    for task in study.tasks:
        for student in students(study):
            for part in split_programs(student_trials(study, task, student), study.max_trials_per_program):
                yield ProgramPlan(task, tuple(part))


def teachers(study: StudyConfig) -> list[TrialConfig]:
    """The teacher of each task; none when no method has K."""
    return [teacher_trial(study, task) for task in study.tasks] if any("K" in m for m in study.methods) else []


def check_inputs(study: StudyConfig) -> None:
    """Loads every task, tokenizer and checkpoint of the study once, so that what is wrong with them shows now.

    What a user should know about a checkpoint, such as that its task head is new, is said once.

    Raises:
        InputError: The first thing that cannot work.
    """
    seen: set[Any] = set()  # starts whose head has no names, for any task; others with their task; notes; pairs
    for trials in [(teacher,) for teacher in teachers(study)] + [program.trials for program in programs(study)]:
        inputs = task_inputs(trials)
        start = (trials[0].model, trials[0].num_hidden_layers, inputs.config.num_labels)
        if seen.isdisjoint({start, (*start, inputs.data.task.name)}):
            found = load_start(trials[0], inputs)
            for note in found.notes:
                if (start[0], note) not in seen:
                    log.info("%s: %s", start[0], note)
                    seen.add((start[0], note))
            seen.add(start if found.label_names is None else (*start, inputs.data.task.name))
    for program in programs(study):
        teacher, student = teacher_trial(study, program.task), program.trials[0]
        pair = teacher.trial_id, student.model
        if pair not in seen and any(trial.distill_weight for trial in program.trials):
            check_teacher(teacher, student)
            seen.add(pair)


def check_teacher(teacher: TrialConfig, student: TrialConfig) -> None:
    """Checks that a teacher reads the tokens that its students read, and that a tuned one has the task's labels.

    Raises:
        InputError: It does not, or has not.
    """
    ours, theirs = task_inputs([student]), task_inputs([teacher])
    same = ours.tokenizer.get_vocab() == theirs.tokenizer.get_vocab()
    require(same and ours.config.vocab_size == theirs.config.vocab_size,
            f"teacher and student must have one vocabulary; {teacher.model} has {theirs.config.vocab_size} tokens and "
            f"{student.model} {ours.config.vocab_size}" + (", but others" if not same else ""))
    if teacher.fine_tuned:
        tuned_teacher(teacher, theirs)
