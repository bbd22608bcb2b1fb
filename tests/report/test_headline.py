"""The sentence must follow from the numbers, whatever is missing."""

import numpy as np
import pandas as pd
import pytest

from bertjax.report.headline import best_within, finding, headline, panels, signed, smallest_within
from bertjax.report.tables import MEAN_TASK, clean

SCORES = {"none": 80.0, "Q": 79.6, "K": 81.0, "P": 78.0, "QK": 80.2, "QP": 77.0, "KP": 79.8, "QKP": 79.2}


@pytest.fixture
def study(row):
    """Makes results of one seed from a score per subset."""
    return lambda scores, **changes: clean(pd.DataFrame([row(name, score=v, **changes) for name, v in scores.items()]))


def test_a_task_that_was_hardly_learned_is_said_to_be(study) -> None:
    first = headline(study(SCORES), constants={"mrpc": 77.1}).notes[0]
    assert first.startswith("On mrpc, always giving the same answer scores 77.1, and the uncompressed model 80.0: it "
                            "has hardly learned the task")
    assert headline(study(SCORES), constants={"mrpc": 77.0}).notes == headline(study(SCORES)).notes


def table_of(results: pd.DataFrame) -> pd.DataFrame:
    return next(iter(panels(results).values()))


def test_smallest_model_within_each_tolerance(study) -> None:
    table = table_of(study(SCORES))
    assert smallest_within(table, 0.5)["methods"] == "QK"  # as small as Q, and better
    assert smallest_within(table, 1.0)["methods"] == "QKP"
    assert best_within(table, table["size_bytes"].max() / 4)["methods"] == "QK"
    summary = headline(study(SCORES))
    assert summary.sentence == "QK is 4.0× smaller than the uncompressed model and within 0.5 points of its score."
    assert "17.4 MB instead of 69.5 MB by paper convention A, 80.2 against 80.0 points" in summary.support


def test_exactly_half_a_point_below_is_within(study) -> None:
    table = table_of(study({"none": 83.1, "Q": 82.6}))
    assert smallest_within(table, 0.5)["methods"] == "Q"
    assert smallest_within(table, 0.499) is None


def test_same_bytes_are_not_smaller(study) -> None:
    table = table_of(study({"none": 80.0, "K": 85.0}))
    assert smallest_within(table, 1.0) is None
    assert finding(table) == "no smaller model has a score; K scores best: 85.0 points"


def test_ties_are_decided_the_same_way_in_any_order(study) -> None:
    results = study({"none": 80.0, "Q": 79.8, "QK": 79.8, "K": 80.0})
    assert headline(results).sentence == headline(results[::-1].reset_index(drop=True)).sentence


def test_far_off_models_are_said_to_be_far_off(study) -> None:
    text = headline(study({"none": 80.0, "Q": 75.0, "QP": 70.0})).sentence
    assert text == "No smaller model stays within 1 point; Q comes closest, 5.0 points below uncompressed."


def test_models_that_learned_nothing_are_not_praised(study) -> None:
    summary = headline(study(dict.fromkeys(SCORES, 10.0)))
    assert summary.sentence == "Every model scores the same 10.0 points, as if none had learned."
    assert "another learning rate" in summary.notes[0] and summary.answers.empty and not summary.support
    assert "smaller" in headline(study(dict.fromkeys(SCORES, 10.0) | {"K": 11.0})).sentence


def test_without_a_baseline_it_says_so_and_goes_on(study) -> None:
    summary = headline(study({"Q": 79.6, "QKP": 79.2}))
    assert summary.sentence == "Q scores best: 79.6 points in 17.4 MB."
    assert summary.answers.empty and any("No uncompressed trial" in note for note in summary.notes)


def test_one_seed_has_no_known_spread(study, grid) -> None:
    assert "no spread is known" in headline(study(SCORES)).notes[0]
    assert "means over 3 seeds" in headline(clean(grid())).notes[0]


def test_each_task_has_its_own_spread(row) -> None:
    rows = [row(task=task, seed=seed, score=70 + seed * step) for task, step in (("mrpc", 1), ("stsb", 20))
            for seed in (0, 1)]
    assert "spread by ±0.7 on mrpc, ±14.1 on stsb" in headline(clean(pd.DataFrame(rows))).notes[0]


def test_nothing_finished(study) -> None:
    summary = headline(study({"none": np.nan, "Q": np.nan}, status="diverged"))
    assert summary.sentence == "No trial has a score yet (2 diverged)."


def test_several_tasks_are_averaged_and_an_incomplete_mean_is_not_invented(grid) -> None:
    results = clean(grid())
    assert list(panels(results)) == [MEAN_TASK, "mrpc", "gloss-pair"]
    assert "on average over 2 tasks" in headline(results).sentence
    halves = results[(results["task"] == "mrpc") == (results["methods"].isin(["none", "Q"]))]
    assert list(panels(halves)) == ["mrpc", "gloss-pair"]
    assert headline(halves).sentence.endswith(" on mrpc.")


def test_several_settings_and_lost_trials_are_confessed(study) -> None:
    results = pd.concat([study(SCORES), study({"Q": 79.0, "P": np.nan}, learning_rate=1e-3)], ignore_index=True)
    notes = " ".join(headline(results).notes)
    assert "at several settings (learning rate)" in notes and "flatters the pick" in notes and "1 of 10 trials" in notes


def test_a_grid_of_models_is_no_choice_among_settings(study) -> None:
    deep = study(SCORES, num_hidden_layers=6, size="L6H384", learning_rate=3e-4)  # its own rate, the only one
    results = pd.concat([study(SCORES), study({"P": 79.0, "QP": 78.5}, sparsity=0.4), deep], ignore_index=True)
    assert "flatters" not in " ".join(headline(results).notes)


def test_what_rounds_to_zero_has_no_sign() -> None:
    assert [signed(points) for points in (-0.004, 0.0, 0.004, -0.006, 1)] == ["0.00", "0.00", "0.00", "−0.01", "+1.00"]


def test_a_task_that_nothing_learned_is_in_no_sentence(grid) -> None:
    results = clean(grid())
    said = headline(results, constants={"mrpc": 81.0, "gloss-pair": 50.0})
    assert said.sentence == headline(results[results["task"] == "gloss-pair"]).sentence[:-1] + " on gloss-pair."
    assert said.answers["task"].tolist() == ["gloss-pair"]
    three = pd.concat([results, results[results["task"] == "mrpc"].assign(task="sst2")])
    assert headline(three, constants={"mrpc": 81.0}).answers["task"].tolist()[0] == "mean over tasks but mrpc"
    nothing = headline(results, constants={"mrpc": 81.0, "gloss-pair": 75.0})
    assert nothing.sentence.startswith("No uncompressed model has learned mrpc or gloss-pair, so nothing can be said")
    assert nothing.answers.empty and nothing.support == ""
