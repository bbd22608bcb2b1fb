"""What a study refuses before anything is read: numbers that are none, and pruning at the wrong time."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import pytest

from bertjax.config import (
    AugmentConfig,
    BertConfig,
    InputError,
    PruneConfig,
    TeacherConfig,
    TrainConfig,
)
from bertjax.study import StudyConfig


def study(**settings: Any) -> StudyConfig:
    return StudyConfig("s", model="m", **settings)


NUMBERS = [(study, "sparsities"), (study, "learning_rates"), (study, "distill_weights"), (study, "temperatures"),
           (TrainConfig, "warmup_fraction"), (TrainConfig, "weight_decay"), (TrainConfig, "max_grad_norm"),
           (PruneConfig, "initial_sparsity"), (PruneConfig, "begin"), (PruneConfig, "end"), (AugmentConfig, "rate"),
           (TeacherConfig, "learning_rate"), (BertConfig, "layer_norm_eps"), (BertConfig, "hidden_dropout_prob"),
           (BertConfig, "classifier_dropout"), (BertConfig, "initializer_range")]


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 1e39])
@pytest.mark.parametrize(("made", "name"), NUMBERS, ids=lambda value: value if isinstance(value, str) else "")
def test_every_number_must_be_finite_in_32_bits(made: Any, name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"^{name} must be a finite number of .*, got {re.escape(str(value))}$"):
        made(**{name: (0.5, value) if made is study else value})


@pytest.mark.parametrize(("settings", "message"), [
    ({"learning_rate": 0.0}, "learning_rate must be positive, got 0.0"),
    ({"epochs": 0}, "epochs must be at least 1, got 0"),
    ({"seed": -1}, r"seed must be in \[0, 2\^32\), got -1"),
])
def test_a_teacher_has_the_bounds_of_a_student(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"the teacher's {message}"):
        TeacherConfig(**settings)


def test_pruning_starts_after_the_warm_up_and_ends_before_the_training() -> None:
    early = {"prune": PruneConfig(begin=0.1), "train": TrainConfig(warmup_fraction=0.2)}
    with pytest.raises(InputError, match="at least warmup_fraction, got 0.1 and 0.2 .raise --prune-begin or"):
        study(**early)
    late = {"prune": PruneConfig(end=1.0)}
    with pytest.raises(InputError, match="below 1, got 1.0 .lower --prune-end.$"):
        study(**late)
    for settings in (early, late):
        assert study(methods=("none", "QK"), **settings)  # nothing is pruned
    made = study(prune=PruneConfig(begin=0.2, end=0.99), train=TrainConfig(warmup_fraction=0.2))
    with pytest.raises(InputError, match="after the warm-up"):
        replace(made, train=TrainConfig(warmup_fraction=0.3))
