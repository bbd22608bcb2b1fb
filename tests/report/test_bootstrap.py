"""The bootstrap: paired, repeatable, and as wide as the noise that it is told of."""

import itertools
import time

import numpy as np
import pandas as pd
import pytest

from bertjax.config import SIZES, InputError
from bertjax.data.tasks import find_task
from bertjax.metrics import glue_score, score_predictions
from bertjax.report.bootstrap import Predictions, Resampled, factor_intervals, resample
from bertjax.report.counted import counted_metric
from bertjax.report.cube import score_cube
from bertjax.report.factors import table_one
from bertjax.report.tables import clean
from bertjax.study import METHODS


def test_the_same_draws_for_all_models_and_every_time(row) -> None:
    # Q is always 1 point above none, however hard a seed or task is: so it is in every resample.
    rows = [row(name, task, seed, 10 * seed + level + (name == "Q")) for name in ("none", "Q")
            for task, level in (("rte", 40), ("sst2", 60)) for seed in range(3)]
    cube = score_cube(clean(pd.DataFrame(rows)))
    drawn = resample(cube, resamples=50)
    assert np.ptp(drawn.scores[:, 0, 0]) > 0 and drawn.scores[:, :, 1] - drawn.scores[:, :, 0] == pytest.approx(1)
    assert set(drawn.task_counts.sum(axis=1)) == {2} and len(np.unique(drawn.task_counts, axis=0)) == 3
    assert (drawn.scores == resample(cube, resamples=50).scores).all()
    assert (drawn.scores != resample(cube, resamples=50, seed=1).scores).any()
    assert "2 tasks and 3 seeds; dev rows are not drawn again" in drawn.note


def test_seeds_spread_as_their_standard_error(row) -> None:
    scores = np.random.default_rng(0).normal(80, 2, 40)
    cube = score_cube(clean(pd.DataFrame([row("none", seed=i, score=score) for i, score in enumerate(scores)])))
    drawn = resample(cube, resamples=4000).scores[:, 0, 0]
    assert drawn.mean() == pytest.approx(scores.mean(), abs=0.05)
    assert drawn.std() == pytest.approx(scores.std() / np.sqrt(40), rel=0.05)


@pytest.fixture
def predicted(row):
    """Two trials of rte on 400 rows that agree on nine tenths of them, and their predictions."""
    rng, task = np.random.default_rng(2), find_task("rte")
    labels = rng.integers(0, 2, 400)
    answers = np.where(rng.random(400) < 0.7, labels, 1 - labels)
    other = np.where(rng.random(400) < 0.9, answers, 1 - answers)
    outputs = {name: np.eye(2)[guess] for name, guess in (("a", answers), ("b", other))}
    scores = {name: glue_score(task, score_predictions(task, out, labels)) for name, out in outputs.items()}
    results = clean(pd.DataFrame([row("none", "rte", score=scores["a"], trial_id="a"),
                                  row("Q", "rte", score=scores["b"], trial_id="b")]))
    return results, Predictions({name: (out, labels) for name, out in outputs.items()}, {"rte": counted_metric(task)})


def test_dev_rows_spread_as_their_standard_error_and_stay_paired(predicted) -> None:
    results, predictions = predicted
    drawn = resample(score_cube(results), predictions, resamples=4000)
    none, q = drawn.scores[:, 0].T
    assert none.mean() == pytest.approx(results["score"][0], abs=0.2)
    share = results["score"][0] / 100
    assert none.std() == pytest.approx(100 * np.sqrt(share * (1 - share) / 400), rel=0.05)
    assert np.corrcoef(none, q)[0, 1] > 0.5
    assert drawn.note == "Intervals hold 95 % of 4,000 studies drawn again from this one's dev rows."


def test_trials_of_one_setting_and_seed_are_averaged(predicted) -> None:
    results, predictions = predicted
    cube = score_cube(results.assign(methods="Q", weight_bits=8.0, activation_bits=8.0))
    apart = resample(score_cube(results), predictions, resamples=20).scores
    assert len(cube.models) == 1
    assert resample(cube, predictions, resamples=20).scores[..., 0] == pytest.approx(apart.mean(axis=-1))


def test_predictions_of_another_study_are_refused(predicted) -> None:
    results, predictions = predicted
    labels = predictions.outputs["a"][1]
    swapped = {"a": predictions.outputs["b"], "b": predictions.outputs["a"]}
    with pytest.raises(InputError, match="the predictions of trial a must give its score"):
        resample(score_cube(results), Predictions(swapped, predictions.metrics))
    turned = {**predictions.outputs, "b": (predictions.outputs["b"][0], labels[::-1])}
    with pytest.raises(InputError, match="those of b differ"):
        resample(score_cube(results), Predictions(turned, predictions.metrics))


def test_without_all_predictions_rows_are_not_drawn(predicted) -> None:
    results, predictions = predicted
    some = Predictions({"a": predictions.outputs["a"]}, predictions.metrics)
    drawn = resample(score_cube(results), some, resamples=20)
    assert not drawn.anything and np.ptp(drawn.scores, axis=0).max() == 0 and "No intervals" in drawn.note
    assert "the dev rows of rte (1 of 2 trials have them) are not drawn again" in drawn.note
    factors, products = factor_intervals(score_cube(results), drawn)
    assert factors["low"].isna().all() and products.empty


def test_tasks_without_all_predictions_are_named(predicted, row) -> None:
    results, predictions = predicted
    others = [row(name, task, score=70, trial_id=f"{task} {name}")
              for task in ("cola", "sst2") for name in ("none", "Q")]
    cube = score_cube(clean(pd.concat([results, pd.DataFrame(others)])))
    mixed = {**predictions.outputs, "sst2 Q": predictions.outputs["b"]}
    note = resample(cube, Predictions(mixed, predictions.metrics), resamples=20).note
    assert "3 tasks and dev rows; the dev rows of cola are not drawn again, as their predictions are not" in note
    assert "and the dev rows of sst2 (1 of 2 trials have them) are not drawn again" in note and "--known" in note


def test_intervals_lie_around_the_table(grid) -> None:
    results = clean(grid())
    cube = score_cube(results)
    factors, products = factor_intervals(cube, resample(cube))
    pd.testing.assert_frame_equal(factors.drop(columns=["low", "high"]), table_one(results))
    assert (factors["low"] <= factors["factor"]).all() and (factors["factor"] <= factors["high"]).all()
    assert (factors["low"] < factors["high"]).any()
    assert list(products["methods"]) == ["QK", "QP", "KP", "QKP"]
    assert (products["share_above"] + products["share_below"] <= 1).all()


def test_a_draw_of_what_was_measured_gives_what_was_measured(grid) -> None:
    cube = score_cube(clean(grid()))
    same = Resampled(cube.seed_means[None], np.ones((1, len(cube.tasks))), True, "")
    for table, column in zip(factor_intervals(cube, same), ("factor", "ratio"), strict=True):
        assert table["low"].tolist() == table["high"].tolist() == pytest.approx(table[column].tolist())


def test_a_task_counts_as_often_as_it_is_drawn(grid) -> None:
    results = clean(grid())
    cube = score_cube(results)
    first = factor_intervals(cube, Resampled(cube.seed_means[None], np.array([[2, 0]]), True, ""))[0]
    alone = table_one(results[results["task"] == cube.tasks[0]])
    assert first["low"].tolist() == pytest.approx(alone["factor"].tolist())
    assert first["low"].tolist() != pytest.approx(table_one(results)["factor"].tolist())


def test_a_whole_study_takes_seconds(row) -> None:
    rng = np.random.default_rng(0)
    settings = [(name, sparsity) for name in METHODS for sparsity in ((0.4, 0.6) if "P" in name else (0.0,))]
    rows = [row(name, f"task{task}", seed, 80 + rng.normal(), sparsity=sparsity, size=size, trial_id=f"{i}")
            for i, ((name, sparsity), task, seed, size) in enumerate(
                itertools.product(settings, range(8), range(3), SIZES))]
    cube = score_cube(clean(pd.DataFrame(rows)))
    start = time.process_time()
    factors, _ = factor_intervals(cube, resample(cube, resamples=1000))
    assert time.process_time() - start < 10 and len(factors) == 42
