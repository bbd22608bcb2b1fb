"""A model that learned nothing keeps its score whatever is done to it, which must count for nothing."""

import numpy as np
import pandas as pd
import pytest

from bertjax.report.analysis import analyse
from bertjax.report.factors import multiplicativity, table_one
from bertjax.report.headline import headline
from bertjax.report.learned import LEARNED, learned_block, unlearned
from bertjax.report.sections import sections_of
from bertjax.report.tables import clean

GAIN = {"none": 0, "Q": -0.3, "K": 1.0, "P": -2.0, "QK": 0.8, "QP": -2.5, "KP": -0.4, "QKP": -0.6}
COLA = {6: 26.0, 3: 0.0, 1: 0.0}
CONSTANTS = {"cola": 0.0, "sst2": 50.9}


@pytest.fixture
def study(row):
    """Makes eight subsets of 6, 3 and 1 layers on SST-2, which all learn, and on CoLA, which 6 layers learn."""
    def make(cola=COLA, sst2=None) -> pd.DataFrame:
        sst2 = sst2 or {6: 88.0, 3: 84.0, 1: 80.0}
        return clean(pd.DataFrame([
            row(methods, task, score=level + (gain if level else 0), size=f"L{layers}H384", num_hidden_layers=layers,
                size_bytes_fp32=1e6 * (30 + 10 * layers),
                size_bytes_paper=1e6 * (30 + 10 * layers) / (4 if "Q" in methods else 1))
            for task, levels in (("cola", cola), ("sst2", sst2)) for layers, level in levels.items()
            for methods, gain in GAIN.items()]))
    return make


def test_each_architecture_is_judged_on_each_task(study) -> None:
    lost = unlearned(study(), CONSTANTS)
    assert list(zip(lost["task"], lost["name"], strict=True)) == [("cola", "L1H384"), ("cola", "L3H384")]
    at = {"cola": 26.0 - LEARNED}
    assert len(unlearned(study(), at)) == 2 and len(unlearned(study(), {"cola": at["cola"] + 1e-6})) == 3
    notes = headline(study(), constants=CONSTANTS).notes
    assert notes[0].startswith("On cola, always giving the same answer scores 0.0, and the uncompressed models "
                               "0.0 (L1H384), 0.0 (L3H384): they have hardly learned the task")


def test_the_best_uncompressed_setting_decides(row) -> None:
    results = clean(pd.DataFrame([row(score=score, learning_rate=rate) for rate, score in ((1e-4, 50), (1e-3, 60))]))
    assert unlearned(results, {"mrpc": 55.0}).empty and len(unlearned(results, {"mrpc": 58.0})) == 1


def test_factors_leave_out_what_was_not_learned_and_say_so(study) -> None:
    results = study()
    table = table_one(results, unlearned=unlearned(results, CONSTANTS)).set_index(["name", "methods"])
    alone = table_one(results[results["task"] == "sst2"]).set_index(["name", "methods"])
    for name in ("L1H384", "L3H384"):
        assert table.loc[name, "factor"].tolist() == alone.loc[name, "factor"].tolist()
        assert set(table.loc[name, "tasks"]) == {1}
        assert set(table.loc[name, "reason"]) == {
            "not learnable here: uncompressed less than 3 points above always giving the same answer on cola"}
    whole = table_one(results).set_index(["name", "methods"])
    assert table.loc["L6H384", "factor"].tolist() == whole.loc["L6H384", "factor"].tolist()
    # 3 layers at 0.0 "keep their score" in the smallest model of all.
    assert whole.loc[("L3H384", "Q"), "factor"] > table.loc[("L3H384", "Q"), "factor"]


def test_the_whole_analysis_leaves_it_out(study) -> None:
    results = study()
    analysis = analyse(results, constants=CONSTANTS, resamples=2)
    told = analyse(results[results["task"] == "sst2"], resamples=2)
    small = analysis.products[analysis.products["name"] != "L6H384"]["ratio"].tolist()
    assert small == multiplicativity(told.factors).query("name != 'L6H384'")["ratio"].tolist()
    assert analysis.shapley["value"].tolist() == pytest.approx(told.shapley["value"].tolist(), nan_ok=True)
    assert analysis.shapley_notes[-1] == (
        "Shapley values are of sst2 and L1H384, L3H384, L6H384 alone: what was learned throughout.")
    assert analysis.unknown == ""
    assert sections_of(analysis)[0].notes[1].startswith("Not of every task for L1H384, Q, K, P, QK, QP, KP, QKP: not ")


def test_the_largest_learned_block_stays(study) -> None:
    results = study(cola={6: 26.0, 3: 10.0, 1: 0.0})
    kept, _ = learned_block(results, unlearned(results, CONSTANTS))
    assert set(kept["task"]) == {"cola", "sst2"} and set(kept["size"]) == {"L6H384", "L3H384"}
    none = study(sst2={6: 51.0, 3: 51.0, 1: 51.0}, cola=dict.fromkeys(COLA, 0.0))
    analysis = analyse(none, constants=CONSTANTS, resamples=2)
    assert analysis.shapley.empty and np.isnan(analysis.factors["factor"]).all()
    assert "not learnable here" in sections_of(analysis)[0].notes[0]


def test_without_predictions_nothing_is_left_out_and_that_is_said(study) -> None:
    results = study()
    analysis = analyse(results, constants={"sst2": 50.9}, resamples=2)
    assert analysis.factors["factor"].tolist() == table_one(results)["factor"].tolist()
    assert analysis.unknown.startswith("Whether models learned cola at all is not known")
    assert analysis.unknown in sections_of(analysis)[0].notes
