"""A study as a grid of trials, and trials as groups that one program steps together."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from bertjax.config import FLOAT, SPARSITY_STEPS, PruneConfig, QuantizeConfig
from bertjax.model.sizes import hub_name
from bertjax.study import StudyConfig, TrialConfig
from bertjax.train.state import Hparams

SCHEDULE_EXPONENT = {"linear": 1.0, "cubic": 3.0}


@dataclass(frozen=True)
class Student:
    """A pretrained model that a study compresses."""

    model: str
    num_hidden_layers: int | None


def students(study: StudyConfig) -> list[Student]:
    """The study's sizes × depths, in the order given."""
    if study.sizes:
        models = [study.model.replace("{size}", size) if study.model else hub_name(size) for size in study.sizes]
    else:
        models = [str(study.model)]
    depths: Sequence[int | None] = study.layers or (None,)
    return [Student(model, depth) for model in models for depth in depths]


def teacher_trial(study: StudyConfig, task: str) -> TrialConfig:
    """The plain fine-tuning whose outputs the trials with K learn from, or the model that was tuned before."""
    teacher = study.teacher
    if teacher.model is not None:
        model = teacher.model.replace("{task}", task)
    elif study.sizes:
        model = study.model.replace("{size}", "large") if study.model else hub_name("large")
    else:
        model = str(study.model)
    epochs = study.train.epochs if teacher.epochs is None else teacher.epochs
    rate = study.learning_rates[0] if teacher.learning_rate is None else teacher.learning_rate
    return TrialConfig(
        task=task, model=model, num_hidden_layers=teacher.num_hidden_layers, methods="none", sparsity=0.0,
        quantize=FLOAT, distill_weight=0.0, temperature=1.0, teacher=None, seed=teacher.seed, learning_rate=rate,
        data=study.data, train=replace(study.train, epochs=epochs), prune=study.prune, role="teacher",
        hold_out=study.holds_out, fine_tuned=teacher.fine_tuned,
    )


def student_trials(study: StudyConfig, task: str, student: Student) -> list[TrialConfig]:
    """Every trial of one student on one task: methods × their own settings × learning rates × seeds."""
    teacher_id = teacher_trial(study, task).trial_id
    room = max(study.copies) if study.budget == "equal_steps" else 0
    trials = []
    for methods, rate, seed in itertools.product(study.methods, study.learning_rates, study.seeds):
        prunes, distills = "P" in methods, "K" in methods
        settings = itertools.product(
            _copies(study, methods),
            study.sparsities if prunes else (0.0,),
            study.distill_weights if distills else (0.0,),
            study.temperatures if distills else (1.0,),
        )
        for copies, sparsity, weight, temperature in settings:
            trials.append(TrialConfig(
                task=task, model=student.model, num_hidden_layers=student.num_hidden_layers, methods=methods,
                sparsity=sparsity, quantize=study.quantize if "Q" in methods else FLOAT, distill_weight=weight,
                temperature=temperature, teacher=teacher_id if distills else None, seed=seed, learning_rate=rate,
                data=study.data, train=study.train, prune=study.prune, copies=copies,
                augment=study.augment if copies or room else None, budget=study.budget if copies else "equal_steps",
                hold_out=study.holds_out, select_epoch=study.select_on if study.select_epoch else None,
                room_for_copies=room,
            ))
    return trials


def _copies(study: StudyConfig, methods: str) -> tuple[int, ...]:
    """The numbers of augmented copies that trials of these methods take: A is nothing without any."""
    if "A" in methods:
        return tuple(copies for copies in study.copies if copies)
    return study.copies if "K" in methods else (0,)


def split_groups(trials: Sequence[TrialConfig]) -> dict[QuantizeConfig, list[TrialConfig]]:
    """Trials by their static half; one program steps all groups."""
    groups: dict[QuantizeConfig, list[TrialConfig]] = {}
    for trial in trials:
        groups.setdefault(trial.quantize, []).append(trial)
    return groups


def split_programs(trials: Sequence[TrialConfig], most: int) -> list[list[TrialConfig]]:
    """Trials cut into programs of at most `most`, as even as can be, in the order of their seeds.

    Those whose epochs have more rows are programs of their own.
    """
    programs = []
    for texts in sorted({trial.texts_per_row for trial in trials}):
        same = [trial for trial in trials if trial.texts_per_row == texts]
        ordered = sorted(same, key=lambda trial: trial.seed)  # stable: the grid's order within a seed
        programs += split_evenly(ordered, -(-len(ordered) // most))
    return programs


def split_evenly(trials: Sequence[TrialConfig], count: int) -> list[list[TrialConfig]]:
    """Trials cut into `count` runs whose sizes differ by at most 1."""
    return [[trials[i] for i in part] for part in np.array_split(np.arange(len(trials)), count)]


class Order(NamedTuple):
    """What a trial's order of rows is drawn from: trials of equal order read the same rows in every step."""

    seed: int
    copies: int = 0


def orders_of(trials: Iterable[TrialConfig]) -> list[Order]:
    """The different orders of a program's trials."""
    return list(dict.fromkeys(Order(trial.seed, trial.copies) for trial in trials))


def hparams(trials: Sequence[TrialConfig], orders: Sequence[Order], total_steps: int) -> Hparams[np.ndarray]:
    """The traced numbers of a group.

    Args:
        trials: The group's trials.
        orders: Those of the schedule, to which `order` points.
        total_steps: Optimizer steps of every trial.
    """
    bounds = [prune_steps(trial.prune, total_steps) for trial in trials]

    def units(sparsity: float) -> int:
        return round(sparsity * SPARSITY_STEPS)

    return Hparams(
        learning_rate=np.array([t.learning_rate for t in trials], np.float32),
        weight_decay=np.array([t.train.weight_decay for t in trials], np.float32),
        max_grad_norm=np.array([t.train.max_grad_norm for t in trials], np.float32),
        warmup_steps=np.array([warmup_steps(t, total_steps) for t in trials], np.int32),
        total_steps=np.full(len(trials), total_steps, np.int32),
        initial_sparsity=np.array([units(t.prune.initial_sparsity) if t.sparsity else 0 for t in trials], np.int32),
        final_sparsity=np.array([units(t.sparsity) for t in trials], np.int32),
        begin_step=np.array([begin for begin, _ in bounds], np.int32),
        end_step=np.array([end for _, end in bounds], np.int32),
        exponent=np.array([SCHEDULE_EXPONENT[t.prune.schedule] for t in trials], np.float32),
        distill_weight=np.array([t.distill_weight for t in trials], np.float32),
        temperature=np.array([t.temperature for t in trials], np.float32),
        teacher=np.zeros(len(trials), np.int32),
        seed=np.array([t.seed for t in trials], np.uint32),
        order=np.array([list(orders).index(Order(t.seed, t.copies)) for t in trials], np.int32),
    )


def warmup_steps(trial: TrialConfig, total_steps: int) -> int:
    """Steps of the learning rate's rise, rounded up as Hugging Face's trainer does."""
    return int(np.ceil(trial.train.warmup_fraction * total_steps))


def prune_steps(prune: PruneConfig, total_steps: int) -> tuple[int, int]:
    """First and last step of the sparsity's rise, both multiples of `mask_every` below `total_steps`.

    A run shorter than `mask_every` prunes once, at its first step.
    """
    last = (total_steps - 1) // prune.mask_every
    begin, end = (min(int(np.ceil(x * total_steps / prune.mask_every)), last) for x in (prune.begin, prune.end))
    return begin * prune.mask_every, end * prune.mask_every

