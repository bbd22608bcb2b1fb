"""Shapley values: their laws, and curves whose values are known."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertjax.report.bootstrap import resample
from bertjax.report.cube import score_cube
from bertjax.report.published import figure_one_results
from bertjax.report.shapley import (
    complete_letters,
    first_reach,
    missing_subsets,
    shapley_table,
    shapley_values,
)
from bertjax.report.tables import clean
from bertjax.study import METHODS


@given(st.lists(st.floats(-50, 50), min_size=8, max_size=8))
def test_values_sum_to_the_whole_and_are_the_mean_over_orders(values: list[float]) -> None:
    worth = dict(zip(METHODS, values, strict=True))
    found = shapley_values(worth)
    assert sum(found.values()) == pytest.approx(worth["QKP"] - worth["none"], abs=1e-9)
    by_hand = (2 * (worth["Q"] - worth["none"]) + (worth["QK"] - worth["K"]) + (worth["QP"] - worth["P"])
               + 2 * (worth["QKP"] - worth["KP"])) / 6
    assert found["Q"] == pytest.approx(by_hand, abs=1e-9)


def test_what_adds_up_is_found_for_any_letters() -> None:
    parts = {"Q": 1.0, "K": 2.0, "A": -4.0, "P": 0.0}
    names = ["none", "Q", "K", "P", "A", "QK", "QP", "QA", "KP", "KA", "AP", "QKP", "QKA", "QAP", "KAP", "QKAP"]
    worth = {name: sum(parts[letter] for letter in name if name != "none") for name in names}
    assert shapley_values(worth) == pytest.approx(parts)


def test_missing_subsets_are_named() -> None:
    assert missing_subsets(METHODS) == [] == missing_subsets(["none"])
    assert missing_subsets(["none", "Q", "QKP"]) == ["K", "P", "QK", "QP", "KP"]
    with pytest.raises(ValueError, match="Shapley values of QK need every subset; missing: none, K"):
        shapley_values({"Q": 1, "QK": 2})
    both_arms = [*METHODS, "A", "QA", "AP", "QAP"]
    assert complete_letters(both_arms) == ["QKP", "QAP"]
    assert complete_letters(["none", "Q", "P", "QKP"]) == ["Q", "P"] and complete_letters(["Q", "K", "QK"]) == []


def test_the_first_size_that_reaches_a_score() -> None:
    sizes, scores = np.array([0.0, 1.0, 2.0, 3.0]), np.array([10.0, 30.0, 20.0, 40.0])
    found = first_reach(sizes, scores, np.array([10, 20, 30, 35, 40]))
    assert found == pytest.approx([0, 0.5, 1, 2.75, 3])


@pytest.fixture
def lines(row):
    """Makes results whose curves are straight: K adds 3 points, Q divides the bytes by 4 and takes 1 point."""
    def make(sizes, methods=("none", "Q", "K", "QK"), tasks=("sst2",)) -> pd.DataFrame:
        rows = []
        for task in tasks:
            for layers, size in enumerate(sizes, start=1):
                for name in methods:
                    score = 60 + 5 * math.log2(size) + 3 * ("K" in name) - ("Q" in name)
                    size_mb = size / 4 if "Q" in name else size
                    rows.append(row(name, task, score=score, model="m", size=f"L{layers}H8", num_hidden_layers=layers,
                                    size_bytes_fp32=1e6 * size, size_bytes_paper=1e6 * size_mb))
        return clean(pd.DataFrame(rows))
    return make


def values(results: pd.DataFrame) -> dict[tuple[str, str], float]:
    table = shapley_table(score_cube(results))
    return dict(zip(zip(table["measure"], table["letter"], strict=True), table["value"], strict=True))


def test_straight_curves_have_known_values(lines) -> None:
    found = values(lines([1, 4, 16, 64]))
    # At equal size Q is the model of four times the bytes: 2 doublings of 5 points, less 1.
    assert found["score at equal size", "Q"] == pytest.approx(9)
    assert found["score at equal size", "K"] == pytest.approx(3)
    # At equal score K saves 3/5 of a doubling, and Q a factor of 4 less 1/5 of one.
    assert found["size at equal score", "K"] == pytest.approx(2 ** 0.6)
    assert found["size at equal score", "Q"] == pytest.approx(4 * 2 ** -0.2)
    assert len(found) == 4


def test_curves_that_part_are_averaged_over_what_they_share(row) -> None:
    points = [("none", 1, 1, 60), ("none", 2, 4, 70), ("Q", 1, 0.5, 60), ("Q", 2, 4, 70)]
    found = values(clean(pd.DataFrame([
        row(name, score=score, size=f"L{layers}H8", num_hidden_layers=layers, size_bytes_paper=1e6 * size)
        for name, layers, size, score in points])))
    assert found["size at equal score", "Q"] == pytest.approx(2 ** 0.5)  # from 2 down to 1, from 60 to 70 points
    assert found["score at equal size", "Q"] == pytest.approx(5 / 3)  # from 10/3 down to 0, from 1 to 4 MB


def test_one_architecture_has_plain_values(lines) -> None:
    found = values(lines([8]))
    assert found == {("score", "Q"): pytest.approx(-1), ("score", "K"): pytest.approx(3),
                     ("size", "Q"): pytest.approx(4), ("size", "K"): pytest.approx(1)}


def test_curves_without_a_common_range_say_so(lines) -> None:
    table = shapley_table(score_cube(lines([8, 9])))
    curves = table[table["measure"].str.contains("equal")]
    assert curves["value"].isna().all() and len(curves) == 4
    assert set(curves["reason"]) == {"the subsets have no range of sizes in common",
                                     "the subsets have no range of scores in common"}
    assert table[table["measure"] == "score"]["value"].tolist() == pytest.approx([-1, 3])


def test_plain_values_are_of_architectures_that_all_subsets_have(lines) -> None:
    results = lines([8, 9])
    lost = (results["size"] == "L2H8") & (results["methods"] == "none")
    found = values(results[~lost])
    assert (found["score", "K"], found["size", "Q"]) == (pytest.approx(3), pytest.approx(4))


def test_models_without_a_score_on_every_task_are_left_out(lines) -> None:
    results = lines([1, 4, 16, 64], tasks=("sst2", "rte"))
    lost = (results["task"] == "rte") & (results["methods"] == "K")
    table = shapley_table(score_cube(results[~lost]))
    assert set(table["letters"]) == {"Q"}


def test_intervals_hold_what_is_measured(lines) -> None:
    results = lines([1, 4, 16, 64], tasks=("sst2", "rte", "cola"))
    results["score"] += np.random.default_rng(0).normal(0, 0.3, len(results))
    cube = score_cube(results)
    table = shapley_table(cube, resample(cube, resamples=200))
    assert ((table["low"] < table["value"]) & (table["value"] < table["high"])).all()


def test_published_priority_is_quantization_then_distillation_then_pruning() -> None:
    found = values(figure_one_results())
    for measure in ("score at equal size", "size at equal score"):
        assert found[measure, "Q"] > found[measure, "K"] > found[measure, "P"]
