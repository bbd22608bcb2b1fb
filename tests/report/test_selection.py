"""The learning rate that a report takes for each subset."""

from __future__ import annotations

import pandas as pd
import pytest

from bertjax.report.headline import panels
from bertjax.report.selection import select_rates
from bertjax.report.tables import clean


def made(row, *, select: bool) -> pd.DataFrame:
    """Two subsets at two rates and two seeds: held-out rows prefer 1e-4 for none and 3e-4 for K, dev the other way."""
    held = {("none", 1e-4): 80, ("none", 3e-4): 79, ("K", 1e-4): 81, ("K", 3e-4): 83}
    dev = {("none", 1e-4): 70, ("none", 3e-4): 75, ("K", 1e-4): 76, ("K", 3e-4): 72}
    return clean(pd.DataFrame([
        row(methods, seed=seed, score=float(dev[methods, rate] + seed), learning_rate=rate,
            select_score=float(held[methods, rate] - seed) if select else None)
        for methods, rate in held for seed in (0, 1)]))


def test_rates_are_picked_on_held_out_rows_by_the_mean_over_seeds(row) -> None:
    selection = select_rates(made(row, select=True), {"select_on": "train"})
    assert dict(zip(selection.picks["methods"], selection.picks["learning_rate"], strict=True)) == {
        "none": 1e-4, "K": 3e-4}
    assert selection.picks["rates"].tolist() == [2, 2] and selection.picks["select_score"].tolist() == [79.5, 82.5]
    assert selection.results.groupby("methods")["score"].mean().to_dict() == {"none": 70.5, "K": 72.5}
    assert "the dev rows had no part in it" in selection.notes[0]
    # Subsets of different picked rates are compared with each other.
    table = panels(selection.results)["mrpc"].set_index("methods")
    assert table.loc["K", "delta"] == pytest.approx(2.0) and table.loc["K", "label"] == "K"


def test_picking_on_dev_is_marked(row) -> None:
    selection = select_rates(made(row, select=False), {"select_on": "dev"})
    assert selection.results.groupby("methods")["score"].mean().to_dict() == {"none": 75.5, "K": 76.5}
    assert "the scores flatter" in selection.notes[0]


def test_without_rows_to_select_on_every_rate_stays(row) -> None:
    results = made(row, select=False)
    selection = select_rates(results, {})
    pd.testing.assert_frame_equal(selection.results, results)
    assert selection.picks.empty and selection.notes == ()


def test_a_single_rate_stays_as_it_is_and_a_diverged_rate_is_never_picked(row) -> None:
    one = made(row, select=True).query("learning_rate == 1e-4").reset_index(drop=True)
    pd.testing.assert_frame_equal(select_rates(one, {}).results, one)
    both = made(row, select=True)
    both.loc[(both["methods"] == "K") & (both["learning_rate"] == 3e-4), "status"] = "diverged"
    picks = select_rates(both, {}).picks.set_index("methods")["learning_rate"]
    assert picks["K"] == 1e-4


def test_a_rate_at_which_seeds_diverged_is_not_picked_for_the_lucky_one(row) -> None:
    results = made(row, select=True)
    lucky = (results["methods"] == "K") & (results["learning_rate"] == 3e-4) & (results["seed"] == 0)
    results.loc[lucky, "status"] = "diverged"
    picks = select_rates(results, {}).picks.set_index("methods")["learning_rate"]
    assert picks.to_dict() == {"none": 1e-4, "K": 1e-4}


def test_a_selected_epoch_is_said(row) -> None:
    results = clean(pd.DataFrame([row(selected_epoch=2)]))
    assert select_rates(results, {}).notes == ("Every trial is its best epoch, picked on held-out training rows.",)
    assert "flatter" in select_rates(results, {"select_on": "dev"}).notes[0]
