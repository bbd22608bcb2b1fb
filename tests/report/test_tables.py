"""Laws of the result tables, on hand-made results."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertjax.config import InputError
from bertjax.report.tables import (
    MEAN_TASK,
    clean,
    curve_table,
    labels,
    mean_over_tasks,
    pareto_front,
    subset_table,
)
from bertjax.study import METHODS

POINTS = st.lists(st.tuples(st.integers(1, 6), st.one_of(st.just(float("nan")), st.integers(0, 6))), max_size=12)


@given(POINTS)
def test_front_holds_exactly_the_unbeaten(points: list[tuple[float, float]]) -> None:
    table = pd.DataFrame(points, columns=["size_bytes", "score_mean"]).astype(float)
    front = pareto_front(table)
    for i, (size, score) in enumerate(points):
        beaten = any(s <= size and v >= score and (s < size or v > score) for s, v in points)
        assert front[i] == (not beaten and not np.isnan(score))


def test_equal_points_are_both_on_the_front() -> None:
    table = pd.DataFrame({"size_bytes": [2.0, 2.0, 1.0, 3.0], "score_mean": [80.0, 80.0, 79.0, np.nan]}, list("abcd"))
    assert pareto_front(table).to_dict() == {"a": True, "b": True, "c": True, "d": False}


def test_eight_subsets_in_order_with_spread_and_size(grid) -> None:
    table = subset_table(clean(grid(tasks={"mrpc": 82.4})))
    assert list(table["methods"]) == list(METHODS) == list(table["label"])
    scores = grid(tasks={"mrpc": 82.4})
    for methods, row in table.set_index("methods").iterrows():
        own = scores.loc[scores["methods"] == methods, "score"].to_numpy()
        assert row["score_mean"] == pytest.approx(own.mean())
        assert row["score_std"] == pytest.approx(np.sqrt(((own - own.mean()) ** 2).sum() / 2))
    ratios = table.set_index("methods")["size_ratio"]
    assert ratios["none"] == ratios["K"] == 1 and ratios["Q"] == ratios["QK"] == 4 < ratios["QP"] == ratios["QKP"]
    assert table.loc[table["methods"] == "none", "delta"].item() == 0


def test_order_of_the_rows_does_not_matter(grid) -> None:
    results = clean(grid())
    shuffled = results.sample(frac=1, random_state=1).sort_values("task", kind="stable", ascending=False)
    pd.testing.assert_frame_equal(
        subset_table(results).drop(columns="trial_ids"), subset_table(shuffled).drop(columns="trial_ids"))


def test_one_seed_has_no_spread(grid) -> None:
    table = subset_table(clean(grid(seeds=1)))
    assert table["score_std"].isna().all() and table["score_mean"].notna().all()


def test_difference_is_paired_by_seed(row) -> None:
    # Seed 1 is 10 points harder for all. Q lost its seed 0: unpaired it would look 5.5 points worse.
    results = clean(pd.DataFrame([
        row("none", seed=0, score=90), row("none", seed=1, score=80), row("Q", seed=1, score=79.5),
        row("Q", seed=0, score=None, status="diverged")]))
    table = subset_table(results).set_index("methods")
    assert table.loc["Q", "delta"] == -0.5
    assert (table.loc["Q", "trials"], table.loc["Q", "unscored"]) == (1, 1)


def test_difference_is_to_none_of_the_same_rate_and_nan_without_one(row) -> None:
    results = clean(pd.DataFrame([row("none", score=80, learning_rate=1e-4), row("none", score=70, learning_rate=1e-3),
                                  row("Q", score=69, learning_rate=1e-3), row("P", score=60, learning_rate=5e-4)]))
    table = subset_table(results).set_index("label")
    assert table.loc["Q (lr 0.001)", "delta"] == -1
    assert np.isnan(table.loc["P (lr 0.0005)", "delta"])


@pytest.mark.parametrize("lost", [
    {"score": None}, {"score": float("inf")}, {"status": "diverged"}, {"status": "failed"}])
def test_a_trial_without_a_score_enters_no_mean(row, lost: dict) -> None:
    results = clean(pd.DataFrame([row("Q", seed=0, score=70), row("Q", **{"seed": 1, "score": 10, **lost})]))
    (line,) = subset_table(results).to_dict("records")
    assert (line["score_mean"], line["trials"], line["unscored"]) == (70, 1, 1) and np.isnan(line["score_std"])


def test_every_setting_gets_its_own_row_and_name(row) -> None:
    results = clean(pd.DataFrame([
        *(row("P", sparsity=s, learning_rate=rate) for s in (0.4, 0.6) for rate in (1e-4, 3e-4)), row("none"),
        row("K", temperature=1), row("K", temperature=4), row("none", size="L6H384", num_hidden_layers=6)]))
    table = subset_table(results)
    assert len(table) == len(results) == len(set(labels(table)))
    assert "P (L3H384, 40 % zeros, lr 0.0003)" in labels(table)


def test_mean_over_tasks_needs_every_task(row) -> None:
    results = clean(pd.DataFrame([row("Q", "mrpc", 0, 80), row("Q", "rte", 0, 60), row("Q", "mrpc", 1, 99),
                                  row("Q", "rte", 1, None, status="failed")]))
    whole, lacking = mean_over_tasks(results).to_dict("records")
    assert (whole["task"], whole["score"], whole["seed"]) == (MEAN_TASK, 70, 0)
    assert np.isnan(lacking["score"]) and lacking["status"] == "incomplete"
    (line,) = subset_table(mean_over_tasks(results)).to_dict("records")
    assert (line["score_mean"], line["trials"], line["unscored"]) == (70, 1, 1)
    assert subset_table(mean_over_tasks(results[:0])).empty


def test_clean_keeps_text_and_fills_what_does_not_apply(row) -> None:
    results = pd.DataFrame([{**row("none", trial_id="12e456789012"), "sparsity": None, "temperature": None,
                             "distill_weight": None}])
    (line,) = clean(results).to_dict("records")
    assert (line["trial_id"], line["teacher"]) == ("12e456789012", "")
    assert (line["sparsity"], line["temperature"], line["distill_weight"]) == (0, 1, 0)


@pytest.mark.parametrize("broken, what", [
    (lambda table: table[:0], "at least one trial"),
    (lambda table: table.drop(columns=["score", "seed"]), "seed, score"),
    (lambda table: table.assign(methods="PQ"), "'PQ'"),
    (lambda table: pd.concat([table, table.assign(score=1)]), "1 trial_id have rows that differ, the first is"),
])
def test_unusable_results_are_one_clear_line(row, broken, what: str) -> None:
    with pytest.raises(InputError, match=what) as caught:
        clean(broken(pd.DataFrame([row()])))
    assert "\n" not in str(caught.value)


def test_a_row_that_stands_there_twice_counts_once(row) -> None:
    assert len(clean(pd.DataFrame([row("none"), row("Q"), row("none")]))) == 2


def test_curves_are_means_over_seeds_of_the_best_setting(row) -> None:
    lines = [row("Q", seed=seed, score=80, learning_rate=1e-4) for seed in (0, 1)]
    lines.append(row("Q", seed=0, score=70, learning_rate=1e-3))
    ids = [line["trial_id"] for line in lines]
    metrics = {ids[0]: [{"epoch": 1, "train_loss": 1.0, "score": 60}, {"epoch": 2, "train_loss": None, "score": None}],
               ids[1]: [{"epoch": 1, "train_loss": 3.0, "score": 70}, {"epoch": 2, "train_loss": 0.5, "score": 80}],
               ids[2]: [{"epoch": 1, "train_loss": 99.0, "score": 1}]}
    curves = curve_table(clean(pd.DataFrame(lines)), metrics)
    assert curves[["epoch", "train_loss", "score", "trials"]].to_numpy().tolist() == [[1, 2, 65, 2], [2, 0.5, 80, 2]]
    assert curve_table(clean(pd.DataFrame(lines)), {}).empty
