"""Rows that cannot be of one study are said to be."""

import json

import pandas as pd

from bertjax.config import TrainConfig, to_json
from bertjax.report.headline import headline
from bertjax.report.mixture import mixture_notes, study_notes
from bertjax.report.tables import clean
from bertjax.study import StudyConfig


def test_signs_of_two_studies_in_one_table(row) -> None:
    one = [row("none"), row("Q")]
    assert mixture_notes(clean(pd.DataFrame(one))) == ()
    longer = mixture_notes(clean(pd.DataFrame([*one, row("K", epochs=5)])))
    assert len(longer) == 1 and longer[0].startswith("Trials of 3 and 5 epochs stand side by side")
    batch = mixture_notes(clean(pd.DataFrame([*one, row("Q", seed=1, steps=690)])))
    assert len(batch) == 1 and "On mrpc, trials of 3 epochs took 345 and 690 steps" in batch[0]
    assert batch[0] in headline(clean(pd.DataFrame([*one, row("Q", seed=1, steps=690)]))).notes
    twice = mixture_notes(clean(pd.DataFrame([*one, row("Q", trial_id="another")])))
    assert len(twice) == 1 and "1 of 3 trials repeat the setting and seed of another one" in twice[0]


def test_copies_take_their_own_steps(row) -> None:
    longer = [row("K", copies=copies, steps=steps) for copies, steps in ((0, 213), (1, 423))]  # augmented_epochs
    assert mixture_notes(clean(pd.DataFrame(longer))) == ()
    assert len(mixture_notes(clean(pd.DataFrame([*longer, row("K", seed=1, copies=1, steps=213)])))) == 1


def test_several_teachers_of_one_task(row) -> None:
    rows = [row("K", task, seed, teacher=f"{task} teacher") for task in ("mrpc", "rte") for seed in (0, 1)]
    assert mixture_notes(clean(pd.DataFrame([*rows, row("none")]))) == ()
    other = [row("QK", "rte", teacher="another"), row("K", "mrpc", model="other", teacher="another")]
    (note,) = mixture_notes(clean(pd.DataFrame([*rows, *other])))
    assert note.startswith("On rte, trials with K of one model learned from several teachers")


def test_trials_outside_the_study(row, grid) -> None:
    study = json.loads(to_json(StudyConfig(
        "grid", model="minilm", layers=(3,), tasks=("mrpc", "gloss-pair"), seeds=(0, 1, 2),
        train=TrainConfig(epochs=3))))
    results = clean(grid())
    assert study_notes(results, study, set(results["trial_id"])) == () == study_notes(results, {})
    strange = [row("P", seed=7, sparsity=0.4), row("A", "rte", copies=2), row("K", learning_rate=1e-3, temperature=4)]
    mixed = clean(pd.concat([results, pd.DataFrame(strange)]))
    outside, unknown = study_notes(mixed, study, set(results["trial_id"]))
    assert outside == (
        "3 of 51 trials are not of the study in study.json (task rte; methods A; seed 7; sparsity 0.4; learning rate "
        "0.001; copies 2; temperature 4): they are of a former sweep into this directory, or of another study.")
    assert unknown.startswith("3 of 51 trials have no folder in trials/")
