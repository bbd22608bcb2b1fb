"""Paired differences and the learning rate's share, on tables whose answers are known."""

import numpy as np
import pandas as pd
import pytest

from bertjax.report.cube import most_copies
from bertjax.report.paired import learning_rate_sensitivity, paired_differences
from bertjax.report.tables import clean


def differences(rows: list[dict]) -> pd.DataFrame:
    return paired_differences(clean(pd.DataFrame(rows))).set_index(["methods", "against"])


def test_mean_and_interval_by_hand(row) -> None:
    # Tasks and seeds differ by tens of points; the differences are 1, 2, 3 and 6.
    rows = [row("none", task, seed, level) for (task, seed), level in zip(
        [("rte", 0), ("rte", 1), ("sst2", 0), ("sst2", 1)], (50, 60, 90, 80), strict=True)]
    rows += [row("Q", line["task"], line["seed"], line["score"] + gain)
             for line, gain in zip(rows, (1, 2, 3, 6), strict=True)]
    found = differences(rows).loc[("Q", "none")]
    half = 3.182446305 * np.std([1, 2, 3, 6], ddof=1) / 2  # t of 3 degrees of freedom at 97.5 %
    assert (found["difference"], found["pairs"], found["tasks"]) == (3, 4, 2)
    assert (found["low"], found["high"]) == (pytest.approx(3 - half), pytest.approx(3 + half))
    back = differences(rows).loc[("none", "Q")]
    assert (back["difference"], back["low"], back["high"]) == (-3, pytest.approx(-3 - half), pytest.approx(-3 + half))


def test_only_trials_with_all_else_equal_are_pairs(row) -> None:
    rows = [row("none", score=80), row("none", score=10, learning_rate=1e-3), row("none", seed=1, score=20),
            row("none", score=30, size="L6H384", num_hidden_layers=6), row("Q", score=81),
            row("Q", score=13, learning_rate=1e-3),
            row("P", score=70, sparsity=0.4), row("P", score=60, sparsity=0.6), row("QP", score=66, sparsity=0.6),
            row("K", score=85, temperature=2), row("QK", score=80, temperature=4)]
    found = differences(rows)
    # Two rates, 1 and 3 points apart, are one difference of one seed.
    assert found.loc[("Q", "none"), ["difference", "pairs"]].tolist() == [2, 1]
    assert np.isnan(found.loc[("Q", "none"), "low"])
    assert found.loc[("P", "none"), ["difference", "pairs"]].tolist() == [-15, 1]  # both sparsities, one seed of a task
    assert found.loc[("QP", "P"), "difference"] == 6
    assert found.loc[("K", "Q"), "difference"] == 4 and ("QK", "K") not in found.index


def test_arms_tell_what_distillation_and_what_augmentation_does(row) -> None:
    rows = [row("none", score=80), row("K", score=83, copies=0), row("K", score=85, copies=2),
            row("A", score=81, copies=2), row("QK", score=84, copies=2)]
    found = differences(rows)["difference"]
    assert found["K (0 copies)", "none"] == 3 and found["K (2 copies)", "none"] == 5 and found["A", "none"] == 1
    assert found["K (2 copies)", "K (0 copies)"] == 2 and found["K (2 copies)", "A"] == 4
    assert found["QK", "K (2 copies)"] == -1 and "K" not in found.index.get_level_values(0)
    with_fewer = [*rows, row("KP", score=70, copies=1)]
    assert ("KP", "QK") not in differences(with_fewer).index  # other copies, and no arms to tell them apart


def test_the_statistics_take_the_subsets_with_most_copies(row) -> None:
    rows = [row("none", score=80), row("K", score=99, copies=0), row("K", score=85, copies=2), row("Q", score=79)]
    kept = most_copies(clean(pd.DataFrame(rows)))
    assert list(zip(kept["methods"], kept["copies"], strict=True)) == [("none", 0), ("K", 2), ("Q", 0)]


def test_a_lost_trial_has_no_pair(row) -> None:
    found = differences([row("none", score=80), row("none", seed=1, score=70), row("Q", score=79),
                         row("Q", seed=1, score=None, status="diverged")])
    assert found.loc[("Q", "none"), ["difference", "pairs"]].tolist() == [-1, 1]


def test_range_over_learning_rates(row) -> None:
    rows = [row("Q", task, seed, score, learning_rate=rate)
            for task, scores in (("rte", {1e-4: (70, 72), 3e-4: (74, 76), 1e-3: (60, 66)}),
                                 ("sst2", {1e-4: (90, 90), 3e-4: (91, 93), 1e-3: (88, 88)}))
            for rate, pair in scores.items() for seed, score in enumerate(pair)]
    rows += [row("Q", "rte", 2, 99, learning_rate=1e-4), row("none")]
    (found,) = learning_rate_sensitivity(clean(pd.DataFrame(rows))).to_dict("records")
    # The third seed has one rate only and counts for none; rte 71, 75, 63 and sst2 90, 92, 88.
    assert found == {"methods": "Q", "rates": 3, "best_rate": 3e-4, "mean_range": 8, "largest_range": 12, "groups": 2,
                     "seeds": 2}


def test_one_learning_rate_has_no_range(grid) -> None:
    assert learning_rate_sensitivity(clean(grid())).empty
