"""A study as a grid of trials, groups and programs; the numbers of a group; the choice of a mesh."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bertjax.config import FLOAT, InputError, PruneConfig, TeacherConfig
from bertjax.study import METHODS, StudyConfig
from bertjax.sweep.experiments import load_study
from bertjax.train.mesh import choose_mesh, padded, parse_mesh
from bertjax.train.trial import (
    Order,
    Student,
    hparams,
    orders_of,
    prune_steps,
    split_groups,
    split_programs,
    student_trials,
    students,
    teacher_trial,
)

STUDY = StudyConfig("s", model="m", layers=(2, 1), sparsities=(0.4, 0.6), learning_rates=(1e-4, 2e-4), seeds=(3, 5))


def test_the_grid_has_each_setting_once() -> None:
    trials = student_trials(STUDY, "sst2", Student("m", 2))
    # Four subsets without P, four with P at two sparsities; two rates; two seeds.
    assert len(trials) == len({trial.trial_id for trial in trials}) == (4 + 4 * 2) * 2 * 2
    for trial in trials:
        assert (trial.sparsity > 0) == ("P" in trial.methods)
        assert (trial.quantize != FLOAT) == ("Q" in trial.methods)
        assert (trial.distill_weight > 0) == ("K" in trial.methods) == (trial.teacher is not None)
    teacher = teacher_trial(STUDY, "sst2")
    assert {trial.teacher for trial in trials} == {None, teacher.trial_id}
    assert teacher.methods == "none" and teacher.num_hidden_layers is None


def test_copies_are_read_by_trials_with_k_or_a_alone() -> None:
    study = replace(STUDY, methods=("none", "P", "K", "A", "QAP"), copies=(0, 2), sparsities=(0.6,), seeds=(3,),
                    learning_rates=(1e-4,))
    trials = student_trials(study, "sst2", Student("m", 2))
    assert [(trial.methods, trial.copies) for trial in trials] == [
        ("none", 0), ("P", 0), ("K", 0), ("K", 2), ("A", 2), ("QAP", 2)]
    # All leave room for the copies that some read, so that they read the same rows in every step.
    assert all((trial.augment, trial.room_for_copies) == (study.augment, 2) for trial in trials)
    assert all((trial.distill_weight > 0) == (trial.methods == "K") for trial in trials)
    assert orders_of(trials) == [Order(3, 0), Order(3, 2)]
    assert len({trial.trial_id for trial in trials}) == 6


def test_longer_epochs_are_programs_of_their_own() -> None:
    study = replace(STUDY, methods=("none", "K", "A"), copies=(1, 3), budget="augmented_epochs", learning_rates=(1e-4,))
    programs = split_programs(student_trials(study, "sst2", Student("m", 2)), 32)
    assert [{(trial.methods, trial.copies) for trial in program} for program in programs] == [
        {("none", 0)}, {("K", 1), ("A", 1)}, {("K", 3), ("A", 3)}]
    assert [program[0].texts_per_row for program in programs] == [1, 2, 4]
    assert {trial.room_for_copies for program in programs for trial in program} == {0}


@pytest.mark.parametrize(("changes", "message"), [
    ({"copies": (-1,)}, "copies must not be negative"),
    ({"copies": (4,)}, "copies must be at most the 3 epochs; got 4"),
    ({"methods": ("A",)}, "methods with A need augmented copies"),
    ({"methods": ("KA",)}, "unknown methods 'KA'"),
    ({"sizes": ("tiny",)}, "must hold {size}, got m"),
    ({"layers": (2, 2)}, "layers must not repeat a value"),
    ({"budget": "free"}, "budget must be equal_steps or augmented_epochs"),
])
def test_copies_that_cannot_work_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(STUDY, **changes)


def test_the_id_of_a_trial_stays_when_settings_are_added() -> None:
    """Results of former versions are found again: this is the id that version 0.1 gave."""
    trial = student_trials(load_study("glue_minilm"), "mrpc", Student("minilm", 3))[0]
    assert (trial.methods, trial.seed) == ("none", 0) and trial.trial_id == "1888e60c57f1"
    other_head = replace(trial, train=replace(trial.train, reinit_head=True))
    assert len({trial.trial_id, replace(trial, copies=1).trial_id, other_head.trial_id}) == 3


def test_students_are_depths_of_a_model_or_sizes() -> None:
    assert students(STUDY) == [Student("m", 2), Student("m", 1)]
    sizes = StudyConfig("s", sizes=("tiny", "base"))
    assert [s.model for s in students(sizes)] == ["google/bert_uncased_L-2_H-128_A-2", "google-bert/bert-base-uncased"]
    assert teacher_trial(sizes, "rte").model == "google-bert/bert-large-uncased"
    local = StudyConfig("s", model="folder/{size}", sizes=("tiny",), teacher=TeacherConfig(model="t", epochs=9))
    assert students(local) == [Student("folder/tiny", None)]
    assert teacher_trial(local, "rte").model == "t" and teacher_trial(local, "rte").train.epochs == 9


def test_groups_share_their_static_half_and_programs_their_seeds() -> None:
    trials = student_trials(STUDY, "sst2", Student("m", 2))
    groups = split_groups(trials)
    assert [len(group) for group in groups.values()] == [24, 24]
    programs = split_programs(trials, 24)
    assert [len(program) for program in programs] == [24, 24]
    assert [{trial.seed for trial in program} for program in programs] == [{3}, {5}]
    assert sum(map(len, split_programs(trials, 7))) == 48 and max(map(len, split_programs(trials, 7))) <= 7


@pytest.mark.parametrize("total", [1, 5, 8, 9, 100, 344])
def test_pruning_ends_on_a_mask_update_before_the_last_step(total: int) -> None:
    begin, end = prune_steps(PruneConfig(mask_every=8), total)
    assert 0 <= begin <= end < total and begin % 8 == end % 8 == 0
    if total >= 100:
        assert abs(begin - 0.1 * total) <= 8 and abs(end - 0.75 * total) <= 8


def test_the_numbers_of_a_group() -> None:
    trials = [t for t in student_trials(STUDY, "sst2", Student("m", 2)) if t.methods == "KP" and t.learning_rate < 2e-4]
    numbers = hparams(trials, [Order(3), Order(5)], 100)
    assert numbers.final_sparsity.tolist() == [round(10_000 * t.sparsity) for t in trials]
    assert set(numbers.final_sparsity.tolist()) == {4000, 6000}
    assert numbers.seed.tolist() == [t.seed for t in trials]
    assert numbers.order.tolist() == [[3, 5].index(t.seed) for t in trials]
    assert numbers.warmup_steps.tolist() == [10] * 4 and numbers.total_steps.tolist() == [100] * 4


@pytest.mark.parametrize(("devices", "groups", "batch", "shape"), [
    (1, [4, 4], 32, (1, 1)), (4, [4, 4], 32, (4, 1)), (8, [4, 4], 32, (4, 2)), (4, [1], 32, (1, 4)),
    (8, [3], 32, (1, 8)), (2, [3], 32, (1, 2)), (6, [3, 3], 32, (3, 2)),
])
def test_the_mesh_with_the_least_idle_work(devices: int, groups: list[int], batch: int, shape: tuple[int, int]) -> None:
    assert choose_mesh(devices, groups, batch) == shape


def test_a_mesh_must_fit_into_memory() -> None:
    assert choose_mesh(16, [10, 8], 32) == (2, 8)
    assert choose_mesh(16, [10, 8], 32, lambda shape: shape[0] >= 8) == (8, 2)
    assert choose_mesh(16, [10, 8], 32, lambda shape: False) == (16, 1)  # the least memory on a device


def test_meshes_are_read_and_refused() -> None:
    assert parse_mesh("trial=4,data=2", 8) == (4, 2) and parse_mesh("data=2", 8) == (1, 2)
    for text in ("trial=0", "rows=2", "4x2", "", "trial=1,trial=1", "data=2,trial=4,data=2"):
        with pytest.raises(InputError, match="trial=4,data=2"):
            parse_mesh(text, 8)
    with pytest.raises(InputError, match="needs 8 devices; there are 4"):
        parse_mesh("trial=4,data=2", 4)
    assert [padded(n, 4) for n in (1, 4, 5)] == [4, 4, 8]


def test_every_subset_is_in_the_default_grid() -> None:
    assert StudyConfig("s", model="m").methods == METHODS
